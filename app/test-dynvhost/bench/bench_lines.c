/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * bench_lines: how many packets a guest can write into lines that a host has read, by how the host maps
 * the guest's memory and how it lets go of the lines (give_back.h).
 *
 *	bench_lines [MS]
 *
 * Nothing but two threads, loads and stores: one on the last CPU stores a word to each line of its
 * buffers, one after the other, and the one on the first CPU copies them. There are no descriptors and no
 * driver. Prints millions of packets per second, the median of several samples of MS milliseconds each,
 * apart for CPUs that are near to each other and far:
 *
 *	bytes of a packet;near|far;way;rate
 */

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pthread.h>
#include <rte_cycles.h>
#include <rte_memcpy.h>

#include "bench_burst.h"
#include "bench_burst_line.h"
#include "give_back.h"
#include "mock.h"

#define LINES_BUFFERS 256u
#define LINES_STRIDE  2304u
#define LINES_BURST   32u
#define LINES_BYTES   (2u << 20)
#define LINES_SAMPLES 9u

/** One column of the table. */
struct lines_way {
	const char *name;
	bool writable; /**< the host maps the buffers so */
	enum give_back_way way;
};

static const struct lines_way lines_ways[] = {
	{"writable mapping", true, GIVE_BACK_NOT},
	{"read-only", false, GIVE_BACK_NOT},
	{"read-only, CLWB", false, GIVE_BACK_CLEAN},
	{"read-only, CLFLUSHOPT", false, GIVE_BACK_FLUSH},
};

/** Frames of one line, four and 24. */
static const uint32_t lines_sizes[] = {64, 256, 1518};

/** What the two threads share. */
struct lines {
	uint8_t *guest;      /**< the buffers, as the guest maps them */
	const uint8_t *host; /**< and as the host does */
	uint8_t *copies;
	uint32_t len; /**< of a frame */
	enum give_back_way way;
	struct burst_line line;
	_Atomic uint64_t written __rte_cache_aligned;
	_Atomic uint64_t taken __rte_cache_aligned;
	_Atomic bool stop __rte_cache_aligned;
};

static size_t
lines_offset(uint64_t i)
{
	return i % LINES_BUFFERS * LINES_STRIDE;
}

static void *
lines_guest(void *arg)
{
	struct lines *lines = arg;
	const uint32_t len = lines->len;
	uint64_t written = 0;

	burst_line_answer(&lines->line);
	while (!atomic_load_explicit(&lines->stop, memory_order_relaxed)) {
		if (written - atomic_load_explicit(&lines->taken, memory_order_acquire) >
			LINES_BUFFERS - LINES_BURST)
			continue;
		for (uint32_t i = 0; i < LINES_BURST; i++, written++) {
			uint8_t *frame = lines->guest + lines_offset(written);

			for (uint32_t at = 0; at < len; at += RTE_CACHE_LINE_SIZE)
				*(volatile uint64_t *)(frame + at) = written;
		}
		atomic_store_explicit(&lines->written, written, memory_order_release);
	}
	return NULL;
}

/** Copy a burst, and ask for each frame while the one before it is copied. */
static void
lines_take(const struct lines *lines, uint64_t first)
{
	for (uint32_t i = 0; i < LINES_BURST; i++) {
		const uint8_t *frame = lines->host + lines_offset(first + i);
		const uint8_t *next = lines->host + lines_offset(first + i + 1);

		for (uint32_t at = 0; at < lines->len && i + 1 < LINES_BURST;
			at += RTE_CACHE_LINE_SIZE)
			rte_prefetch0(next + at);
		rte_memcpy(lines->copies + lines_offset(first + i), frame, lines->len);
		if (lines->way != GIVE_BACK_NOT)
			give_back_frame(lines->way, frame, lines->len);
	}
}

/** @return millions of packets per second. */
static double
lines_host(struct lines *lines, unsigned int ms)
{
	const uint64_t start = rte_rdtsc();
	const uint64_t length = rte_get_tsc_hz() / 1000 * ms;
	uint64_t taken = 0, now;

	while ((now = rte_rdtsc()) - start < length) {
		if (atomic_load_explicit(&lines->written, memory_order_acquire) == taken) {
			rte_pause();
			continue;
		}
		lines_take(lines, taken);
		taken += LINES_BURST;
		atomic_store_explicit(&lines->taken, taken, memory_order_release);
	}
	return (double)taken * (double)rte_get_tsc_hz() / (double)(now - start) / 1e6;
}

/** One sample. @param round_trip  of a line, nanoseconds. */
static double
lines_sample(struct lines *lines, unsigned int ms, double *round_trip)
{
	pthread_t thread;
	double rate;

	lines->written = lines->taken = 0;
	lines->stop = false;
	lines->line.ping = 0;
	lines->line.ready = false;
	mock_check(pthread_create(&thread, NULL, lines_guest, lines) == 0);
	*round_trip = burst_line_ask(&lines->line);
	rate = lines_host(lines, ms);
	burst_hurry(false);
	atomic_store(&lines->stop, true);
	pthread_join(thread, NULL);
	return rate;
}

/** The buffers as a thread of either side maps them, in one file. */
static void *
lines_map(int fd, int prot)
{
	void *at = mmap(NULL, LINES_BYTES, prot, MAP_SHARED | MAP_POPULATE, fd, 0);

	mock_check(at != MAP_FAILED);
	return at;
}

static int
lines_file(void)
{
	int fd = memfd_create("lines", MFD_CLOEXEC | MFD_HUGETLB);

	if (fd < 0 || !guest_ram_has_hugepages(LINES_BYTES)) {
		if (fd >= 0)
			close(fd);
		fd = memfd_create("lines", MFD_CLOEXEC);
	}
	mock_check(fd >= 0 && ftruncate(fd, LINES_BYTES) == 0);
	return fd;
}

/** All ways in turn, with frames of one length. */
static void
lines_row(struct lines *lines, const void *const *host, unsigned int ms)
{
	double rate[RTE_DIM(lines_ways)][2][LINES_SAMPLES];
	unsigned int n[RTE_DIM(lines_ways)][2] = {0};

	for (unsigned int sample = 0; sample < LINES_SAMPLES; sample++) {
		for (unsigned int i = 0; i < RTE_DIM(lines_ways); i++) {
			double round_trip, found;
			bool far;

			if ((dynvhost_give_back_ways() & 1u << lines_ways[i].way) == 0)
				continue;
			lines->way = lines_ways[i].way;
			lines->host = host[lines_ways[i].writable];
			found = lines_sample(lines, ms, &round_trip);
			far = round_trip > BURST_FAR_NS;
			rate[i][far][n[i][far]++] = found;
		}
	}
	for (unsigned int far = 0; far < 2; far++)
		for (unsigned int i = 0; i < RTE_DIM(lines_ways); i++)
			if (n[i][far] > 0)
				printf("%u;%s;%s;%.2f\n", lines->len, far ? "far" : "near",
					lines_ways[i].name, burst_median(rate[i][far], n[i][far]));
}

int
main(int argc, char **argv)
{
	const unsigned int ms = argc > 1 ? (unsigned int)atoi(argv[1]) : 30;
	struct lines *lines = aligned_alloc(
		RTE_CACHE_LINE_SIZE, RTE_ALIGN(sizeof(*lines), RTE_CACHE_LINE_SIZE));
	const void *host[2];
	int fd;

	mock_check(lines != NULL && ms > 0);
	memset(lines, 0, sizeof(*lines));
	lines->line.cpu = burst_eal_init(0);
	if (lines->line.cpu < 0)
		mock_fail("there is only one CPU");
	fd = lines_file();
	lines->guest = lines_map(fd, PROT_READ | PROT_WRITE);
	host[false] = lines_map(fd, PROT_READ);
	host[true] = lines_map(fd, PROT_READ | PROT_WRITE);
	lines->copies = aligned_alloc(RTE_CACHE_LINE_SIZE, LINES_BYTES);
	mock_check(lines->copies != NULL);
	memset(lines->copies, 0, LINES_BYTES);

	for (unsigned int i = 0; i < RTE_DIM(lines_sizes); i++) {
		lines->len = lines_sizes[i];
		lines_row(lines, host, ms);
	}
	free(lines->copies);
	free(lines);
	close(fd);
	burst_eal_fini();
	return 0;
}
