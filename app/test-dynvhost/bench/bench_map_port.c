/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Ports to measure on, times, and their medians. */

#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench_map.h"

uint64_t
bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int
bench_port_open(struct bench_port *port, const struct bench_kind *kind, uint64_t size)
{
	struct dynvhost_mem_config config = {
		.name = "bench", .mode = kind->mode, .granule = kind->granule};
	struct dynvhost_mem_slot slot = {.gpa = BENCH_GPA, .size = size};

	*port = (struct bench_port){.size = size};
	port->fd = memfd_create(
		"bench", MFD_CLOEXEC | (kind->page == BENCH_2M ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (port->fd < 0)
		return -1;
	slot.fd = dup(port->fd);
	if (slot.fd >= 0 && ftruncate(port->fd, (off_t)size) == 0 &&
		dynvhost_mem_create(&config, &port->mem) == 0 &&
		dynvhost_mem_view_build(port->mem, NULL, &slot, 1, &port->view) == 0) {
		port->region = mem_region_of(port->view->region[0]);
		return 0;
	}
	dynvhost_mem_destroy(port->mem);
	close(slot.fd);
	close(port->fd);
	return -1;
}

void
bench_port_close(struct bench_port *port)
{
	dynvhost_mem_view_release(port->view);
	dynvhost_mem_destroy(port->mem);
	close(port->fd);
}

int
bench_port_fill(const struct bench_port *port)
{
	uint64_t page = port->region->file->page_size, at;
	uint8_t *map;

	if (fallocate(port->fd, 0, 0, (off_t)port->size) != 0)
		return -1;
	/* Also store to it, so that the kernel calls it present. */
	map = mmap(NULL, port->size, PROT_READ | PROT_WRITE, MAP_SHARED, port->fd, 0);
	if (map == MAP_FAILED)
		return -1;
	for (at = 0; at < port->size; at += page)
		map[at] = 1;
	munmap(map, port->size);
	return 0;
}

uint8_t *
bench_translate(
	const struct bench_port *port, uint64_t offset, uint64_t len, enum dynvhost_mem_right right)
{
	struct dynvhost_mem_cursor cursor = {.budget = UINT32_MAX};
	struct dynvhost_mem_span span;

	if (dynvhost_mem_translate(port->view, &cursor, BENCH_GPA + offset, len, right, &span) !=
		0) {
		fprintf(stderr, "bench_map: offset 0x%jx does not open\n", (uintmax_t)offset);
		exit(1);
	}
	return span.hva;
}

void
bench_close(
	const struct bench_port *port, enum dynvhost_mem_right right, uint64_t first, uint64_t n)
{
	_Atomic uint8_t *state = port->region->window[right].pages.state;
	uint64_t page;

	for (page = first; page < first + n; page++) {
		atomic_fetch_and(&state[page], (uint8_t)~DYNVHOST_MEM_REF);
		mem_window_claim_idle(port->region, right, page);
	}
	mem_window_close_run(port->region, right, first, first + n);
}

static int
bench_compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

uint64_t
bench_percentile(uint64_t *times, uint32_t n, uint32_t percent)
{
	qsort(times, n, sizeof(*times), bench_compare);
	return times[(uint64_t)(n - 1) * percent / 100];
}

const char *
bench_size(uint64_t bytes)
{
	static const char units[] = "BKMGT";
	static char names[8][16];
	static unsigned int next;
	char *name = names[next++ % 8];
	unsigned int unit = 0;

	for (; bytes >= 1024 && bytes % 1024 == 0; bytes /= 1024)
		unit++;
	snprintf(name, sizeof(names[0]), "%ju%c", (uintmax_t)bytes, units[unit]);
	return name;
}

const char *
bench_mode(enum dynvhost_mem_mode mode)
{
	switch (mode) {
	case DYNVHOST_MEM_MODE_UFFD:
		return "uffd";
	case DYNVHOST_MEM_MODE_MMAP:
		return "mmap";
	case DYNVHOST_MEM_MODE_EAGER:
		return "eager";
	default:
		return "auto";
	}
}
