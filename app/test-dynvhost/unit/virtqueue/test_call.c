/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * When the guest is notified: the flag, the event index with its wrap-around, one notification per
 * burst at most, and call fds that are full, missing, new or blocking.
 */

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bed.h"
#include "mock.h"

/* Send @p n packets and take them in one burst. */
static void
move(struct bed *bed, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		bed_send_plain(bed, 60, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), n), n);
	for (i = 0; i < n; i++) {
		struct ring_used used;

		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
		assert_true(bed_collect(bed, &used));
		assert_int_equal(used.len, 0);
	}
	bed_expect_no_used(bed);
}

static void
one_call_per_burst_that_returned_something(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .calls = true});

	move(bed, 32);
	assert_int_equal(bed_calls(bed), 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(bed_calls(bed), 0);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
	bed_expect_stats(
		bed, (struct dynvhost_vq_stats){.packets = 33, .bytes = 33 * 60, .calls = 2});
}

static void
flag_suppresses_calls(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .calls = true});

	bed_suppress_calls(bed, true);
	move(bed, 2);
	assert_int_equal(bed_calls(bed), 0);
	bed_suppress_calls(bed, false);
	move(bed, 2);
	assert_int_equal(bed_calls(bed), 1);
	bed_expect_stats(
		bed, (struct dynvhost_vq_stats){
			     .packets = 4, .bytes = 240, .calls = 1, .calls_suppressed = 1});
}

static void
event_index_decides(void **state)
{
	/* After one packet from `start` the driver asks for `event`; then a burst of `n`. */
	static const struct {
		uint16_t start;
		uint16_t event;
		uint16_t n;
		bool call;
	} rows[] = {
		/* The index passes the event when it steps from it to the next. */
		{0, 1, 1, true},
		{0, 2, 1, false},
		{0, 0, 1, false},
		{0, 0, 32, false},
		{0, 1, 32, true},
		{0, 16, 32, true},
		{0, 32, 32, true},
		{0, 33, 32, false},
		{0, 65535, 32, false},
		/* Event and index on both sides of the wrap. */
		{65533, 65534, 1, true},
		{65533, 65535, 1, false},
		{65533, 65535, 2, true},
		{65533, 65533, 32, false},
		{65533, 0, 2, false},
		{65533, 0, 3, true},
		{65533, 29, 32, true},
		{65533, 30, 32, false},
		{65534, 65535, 1, true},
		{65534, 0, 1, false},
		{65534, 0, 2, true},
		{65535, 0, 1, true},
		{65535, 65535, 32, false},
		{32767, 32768, 1, true},
	};
	unsigned int i;

	for (i = 0; i < RTE_DIM(rows); i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_DEQUEUE,
			.features = BED_V1 | BED_EVENT,
			.start = rows[i].start,
			.calls = true,
		});

		move(bed, 1);
		assert_int_equal(bed_calls(bed), 1);
		bed_call_at(bed, rows[i].event);
		move(bed, rows[i].n);
		if (bed_calls(bed) != rows[i].call)
			fail_msg("row %u", i);
		assert_int_equal(bed->vq.stats.calls, 1 + rows[i].call);
		assert_int_equal(bed->vq.stats.calls_suppressed, !rows[i].call);
		bed_teardown(NULL);
	}
}

static void
event_passed_in_silence_is_not_called_twice(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1 | BED_EVENT, .calls = true});

	move(bed, 1);
	bed_call_at(bed, 3);
	move(bed, 2);
	move(bed, 2);
	move(bed, 2);
	assert_int_equal(bed_calls(bed), 2);
	bed_expect_stats(
		bed, (struct dynvhost_vq_stats){
			     .packets = 7, .bytes = 420, .calls = 2, .calls_suppressed = 2});
}

static void
first_call_after_a_start_ignores_the_event(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1 | BED_EVENT, .calls = true});

	bed_call_at(bed, 200);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 0);
	bed_restart(bed);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
}

static void
enqueue_calls_once_for_a_burst(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_ENQUEUE, .features = BED_V1, .calls = true});
	struct rte_mbuf *pkts[4];
	uint16_t i;

	for (i = 0; i < 4; i++) {
		bed_offer_plain(bed, 2048);
		pkts[i] = bed_packet(bed_pool(), 60, 0, i);
	}
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, 4), 4);
	assert_int_equal(bed_calls(bed), 1);
	for (i = 0; i < 4; i++)
		bed_expect_delivered(bed, 60, i, &i, 1);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 0)), 0);
	assert_int_equal(bed_calls(bed), 0);
}

static void
without_call_fd_nobody_is_called(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	move(bed, 3);
	bed_suppress_calls(bed, true);
	move(bed, 3);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 6, .bytes = 360});
}

static void
new_call_fd_hears_of_the_next_burst(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1 | BED_EVENT, .calls = true});

	bed_call_at(bed, 200);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
	dynvhost_vq_set_call(&bed->vq, -1);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 0);
	dynvhost_vq_set_call(&bed->vq, bed->setup.call_fd);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
}

static void
stopped_queue_calls_nobody(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .calls = true});

	dynvhost_vq_stop(&bed->vq);
	dynvhost_vq_call(&bed->vq);
	assert_int_equal(bed_calls(bed), 0);
	assert_int_equal(bed->vq.stats.calls, 0);
}

static void
full_call_fd_is_left_alone(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .calls = true});

	assert_int_equal(eventfd_write(bed->setup.call_fd, UINT64_MAX - 1), 0);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), UINT64_MAX - 1);
	assert_int_equal(bed->vq.stats.calls, 1);
}

static void *
move_one(void *bed)
{
	bed_dequeue(bed, bed_pool(), 1);
	return NULL;
}

static void
blocked_call_is_set_free(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .calls = true});
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;
	pthread_t thread;

	assert_false(dynvhost_vq_unblock_call(&bed->vq));

	/* The peer makes the fd it shares with us blocking, and full. */
	assert_int_equal(fcntl(bed->setup.call_fd, F_SETFL, 0), 0);
	assert_int_equal(eventfd_write(bed->setup.call_fd, UINT64_MAX - 1), 0);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(pthread_create(&thread, NULL, move_one, bed), 0);
	while (!dynvhost_vq_unblock_call(&bed->vq)) {
		assert_true(mock_now_ms() < deadline);
		mock_relax(&looks);
	}
	while (atomic_load(&bed->vq.calling)) {
		assert_true(mock_now_ms() < deadline);
		mock_relax(&looks);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_not_equal(fcntl(bed->setup.call_fd, F_GETFL) & O_NONBLOCK, 0);
	assert_false(dynvhost_vq_unblock_call(&bed->vq));
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, 0, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(one_call_per_burst_that_returned_something),
		BED_TEST(flag_suppresses_calls),
		BED_TEST(event_index_decides),
		BED_TEST(event_passed_in_silence_is_not_called_twice),
		BED_TEST(first_call_after_a_start_ignores_the_event),
		BED_TEST(enqueue_calls_once_for_a_burst),
		BED_TEST(without_call_fd_nobody_is_called),
		BED_TEST(new_call_fd_hears_of_the_next_burst),
		BED_TEST(stopped_queue_calls_nobody),
		BED_TEST(full_call_fd_is_left_alone),
		BED_TEST(blocked_call_is_set_free),
	};

	return bed_run(tests);
}
