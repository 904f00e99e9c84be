/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The dirty log: exactly the pages that a virtqueue writes, of packets and of its ring, from the
 * moment it is asked to until it is told to stop, and each before the guest can know.
 */

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_pause.h>

#include "bed.h"
#include "mock.h"

#define FRAME 100u

/* Deliver packets of @p len bytes, one by one, each into a buffer of its own. */
static void
deliver(struct bed *bed, unsigned int n, uint32_t len)
{
	while (n-- > 0) {
		const uint32_t seed = ++bed->seed;
		uint16_t head = bed_offer_plain(bed, BED_HDR_LEN + len);

		bed_freeze(bed);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), len, 0, seed)), 1);
		bed_expect_delivered(bed, len, seed, &head, 1);
		bed_expect_memory(bed);
	}
}

/* Have the guest send frames and receive them in one burst. */
static void
collect(struct bed *bed, uint16_t n)
{
	uint16_t head[BED_MAX_BURST];
	uint16_t i;

	for (i = 0; i < n; i++)
		head[i] = bed_send_plain(bed, FRAME, i);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), n), n);
	for (i = 0; i < n; i++) {
		bed_expect_used(bed, head[i], 0);
		rte_pktmbuf_free(bed->pkts[i]);
	}
	bed_expect_memory(bed);
}

static bool
log_is_empty(const struct bed *bed)
{
	unsigned int i;

	for (i = 0; i < BED_LOG_SIZE / sizeof(uint64_t); i++)
		if (bed->log.bits[i] != 0)
			return false;
	return true;
}

static void
a_start_logs_the_event_areas(void **state)
{
	static const uint64_t features[] = {BED_V1, BED_V1 | BED_EVENT};
	const uint16_t size = 1024;
	unsigned int i;

	for (i = 0; i < RTE_DIM(features); i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.features = features[i], .size = size, .stopped = true, .log = true});

		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		bed_expect_logged(bed, BED_LOG_USED, bed_format.packed ? 4 : 2);
		if (!bed_format.packed && (features[i] & BED_EVENT))
			bed_expect_logged(bed, BED_LOG_USED + 4 + 8ull * size, 2);
		bed_expect_log(bed);
		bed_teardown(NULL);
	}
}

static void
a_start_that_fails_logs_nothing(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.stopped = true, .log = true});

	bed->setup.used_gpa = BED_RAM;
	assert_true(dynvhost_vq_start(&bed->vq, &bed->setup) < 0);
	assert_true(log_is_empty(bed));
}

static void
packets_and_ring_are_logged(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_ENQUEUE, .features = BED_V1 | BED_MRG, .log = true});

	deliver(bed, 50, FRAME);
	deliver(bed, 20, 2000);
	assert_false(log_is_empty(bed));
}

static void
used_ring_is_logged_where_it_wraps(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1, .size = 1024, .start = 900, .log = true});
	unsigned int i;

	for (i = 0; i < 12; i++)
		collect(bed, 200);
}

static void
ring_is_logged_only_if_asked(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.features = BED_V1});

	bed_start_log(bed, false);
	deliver(bed, 10, FRAME);
	assert_false(log_is_empty(bed));
	bed_stop_log(bed);
	bed_teardown(NULL);

	bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});
	bed_start_log(bed, false);
	collect(bed, 10);
	assert_true(log_is_empty(bed));
	bed_stop_log(bed);
}

static void
log_begins_ends_and_changes_while_packets_move(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.features = BED_V1});
	unsigned int i;

	for (i = 0; i < 5; i++) {
		deliver(bed, 5, FRAME);
		bed_start_log(bed, i % 2 == 0);
		deliver(bed, 5, FRAME);
		/* Another log in the place of this one. */
		bed_start_log(bed, true);
		deliver(bed, 5, FRAME);
		bed_stop_log(bed);
	}
}

static void
disabled_ring_is_logged(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .log = true});
	uint16_t head[10];
	unsigned int i;

	dynvhost_vq_set_enabled(&bed->vq, false);
	for (i = 0; i < RTE_DIM(head); i++)
		head[i] = bed_send_plain(bed, FRAME, i);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	for (i = 0; i < RTE_DIM(head); i++)
		bed_expect_used(bed, head[i], 0);
	bed_expect_memory(bed);
}

static void
stalled_buffer_is_logged_as_returned(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.features = BED_V1, .log = true});
	const struct ring_piece piece = {
		.gpa = bed_take(bed, 4096, 4096), .len = BED_HDR_LEN + FRAME, .writable = true};
	uint16_t head = bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);

	bed_block(bed, piece.gpa, piece.len, DYNVHOST_MEM_WRITE);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), FRAME, 0, 1)), 0);
	assert_true(log_is_empty(bed));
	bed_age_stall(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), FRAME, 0, 1)), 0);
	bed_expect_used(bed, head, 0);
	bed_expect_memory(bed);
	bed_unblock(bed, piece.gpa, piece.len, DYNVHOST_MEM_WRITE);
}

static void
log_too_small_is_no_harm(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.features = BED_V1});
	struct dynvhost_vq_log log = {.ring = true, .used_gpa = UINT64_MAX - 5};
	uint8_t byte = 0xff;
	int fd = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 4096), 0);
	/* Bits for eight pages, in the middle of the file. */
	assert_int_equal(dynvhost_mem_log_map(bed->mem, fd, 2000, 1, &log.log), 0);
	dynvhost_vq_set_log(&bed->vq, &log);
	deliver(bed, 20, 2000);
	assert_true(log.log->unlogged >= 10);
	bed->setup.log = (struct dynvhost_vq_log){.log = NULL};
	dynvhost_vq_set_log(&bed->vq, &bed->setup.log);
	dynvhost_mem_log_unmap(log.log);
	assert_int_equal(pread(fd, &byte, 1, 1999), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(pread(fd, &byte, 1, 2001), 1);
	assert_int_equal(byte, 0);
	close(fd);
}

/* --- who sees a buffer come back finds its page in the log --- */

#define WATCH_ROUNDS 300
#define WATCH_BURST  32

struct watch {
	struct bed *bed;
	uint64_t gpa[WATCH_BURST];
	_Atomic uint32_t
		round;         /* of the buffers above; UINT32_MAX: none yet, 0: the watcher ends */
	_Atomic uint32_t seen; /* rounds that the watcher has seen the end of */
	_Atomic bool missing;
};

static bool
watch_is_logged(const struct watch *watch, uint64_t gpa)
{
	return (watch->bed->log.bits[gpa / 4096 / 64] >> (gpa / 4096 % 64) & 1) != 0;
}

static void *
watch_run(void *arg)
{
	struct watch *watch = arg;
	uint32_t round = 1;
	unsigned int i;

	for (;; round++) {
		while (atomic_load(&watch->round) != round)
			if (atomic_load(&watch->round) == 0)
				return NULL;
		/* All of a burst is published at once. */
		while (!bed_has_used(watch->bed))
			;
		atomic_thread_fence(memory_order_acquire);
		if (!watch_is_logged(
			    watch, bed_format.packed ? watch->bed->setup.desc_gpa : BED_LOG_USED))
			atomic_store(&watch->missing, true);
		for (i = 0; i < WATCH_BURST; i++)
			if (!watch_is_logged(watch, watch->gpa[i]))
				atomic_store(&watch->missing, true);
		atomic_store(&watch->seen, round);
	}
}

static void
who_sees_a_buffer_come_back_finds_it_logged(void **state)
{
	static struct watch watch;
	struct bed *bed = bed_open(
		&(struct bed_config){.features = BED_V1, .size = WATCH_BURST, .log = true});
	struct rte_mbuf *pkts[WATCH_BURST];
	struct ring_piece piece[WATCH_BURST];
	struct ring_used used;
	pthread_t thread;
	uint32_t round;
	unsigned int i;

	memset(&watch, 0, sizeof(watch));
	watch.bed = bed;
	atomic_init(&watch.round, UINT32_MAX);
	for (i = 0; i < WATCH_BURST; i++) {
		piece[i] = (struct ring_piece){
			.gpa = bed_take(bed, 4096, 4096), .len = 2048, .writable = true};
		watch.gpa[i] = piece[i].gpa;
	}
	assert_int_equal(pthread_create(&thread, NULL, watch_run, &watch), 0);
	for (round = 1; round <= WATCH_ROUNDS; round++) {
		/* Setting the first bits takes a while. */
		assert_int_equal(fallocate(bed->log.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 0, BED_LOG_SIZE),
			0);
		for (i = 0; i < WATCH_BURST; i++) {
			bed_add(bed, BED_SHAPE_DIRECT, &piece[i], 1);
			pkts[i] = bed_packet(bed_pool(), FRAME, 0, i);
		}
		atomic_store(&watch.round, round);
		assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, WATCH_BURST), WATCH_BURST);
		while (atomic_load(&watch.seen) != round)
			rte_pause();
		for (i = 0; i < WATCH_BURST; i++)
			assert_true(bed_collect(bed, &used));
	}
	atomic_store(&watch.round, 0);
	pthread_join(thread, NULL);
	assert_false(watch.missing);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		BED_TEST(a_start_logs_the_event_areas),
		BED_TEST(a_start_that_fails_logs_nothing),
		BED_TEST(packets_and_ring_are_logged),
		BED_TEST(used_ring_is_logged_where_it_wraps),
		BED_TEST(ring_is_logged_only_if_asked),
		BED_TEST(log_begins_ends_and_changes_while_packets_move),
		BED_TEST(disabled_ring_is_logged),
		BED_TEST(stalled_buffer_is_logged_as_returned),
		BED_TEST(log_too_small_is_no_harm),
		BED_TEST(who_sees_a_buffer_come_back_finds_it_logged),
	};

	return bed_run(tests);
}
