/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Bursts of a stream wait until there are as many packets as the burst before had, but not for long,
 * and nothing else waits.
 */

#include "bed.h"
#include "packed_ripe.h"

#define STREAM 16u

static struct bed *
open_bed(void)
{
	return bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1 | BED_PACKED, .size = 64});
}

static void
send(struct bed *bed, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		bed_send_plain(bed, 60, i);
}

/* One look for up to 32 packets, whatever rest there is. bed_dequeue() knows no waiting. */
static uint16_t
look(struct bed *bed)
{
	uint16_t got;

	bed->vq.rest.skip = 0;
	got = bed->vq.dequeue(&bed->vq, bed_pool(), bed->pkts, 32);
	for (uint16_t i = 0; i < got; i++) {
		struct ring_used used;

		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
		assert_true(bed_collect(bed, &used));
	}
	return got;
}

/* A burst of a stream has been taken. */
static struct bed *
open_stream(void)
{
	struct bed *bed = open_bed();

	send(bed, STREAM);
	assert_int_equal(look(bed), STREAM);
	return bed;
}

/* Make time go by for the wait. */
static void
let_time_pass(struct bed *bed)
{
	bed->vq.packed.ripe.since -= RIPE_CYCLES + 1;
}

/* A guest that has fewer packets than before is waited for, and then they are taken. */
static void
wait_in_vain(struct bed *bed, uint16_t n)
{
	send(bed, n);
	assert_int_equal(look(bed), 0);
	let_time_pass(bed);
	assert_int_equal(look(bed), n);
}

static void
burst_of_a_stream_comes_as_a_whole(void **state)
{
	struct bed *bed = open_stream();

	send(bed, STREAM - 1);
	assert_int_equal(look(bed), 0);
	assert_in_range(bed->vq.rest.skip, 1, RIPE_POLLS);
	bed->vq.packed.ripe.since = rte_rdtsc();
	assert_int_equal(look(bed), 0);
	send(bed, 1);
	/* The last one bears another number. */
	bed->vq.rest.skip = 0;
	assert_int_equal(bed->vq.dequeue(&bed->vq, bed_pool(), bed->pkts, 32), STREAM);
	rte_pktmbuf_free_bulk(bed->pkts, STREAM);
}

/* Looks are some time apart, however quick or slow the application polls. */
static void
line_is_left_to_the_guest_between_looks(void **state)
{
	struct bed *bed = open_stream();
	uint64_t start;

	assert_int_equal(packed_ripe_polls(0, 0), RIPE_POLLS);
	assert_int_equal(packed_ripe_polls(9 * 15, 8), RIPE_PAUSE / 16);
	assert_int_equal(packed_ripe_polls(33 * 15, 32), RIPE_PAUSE / 16);
	assert_int_equal(packed_ripe_polls(9 * RIPE_PAUSE, 8), 0);

	send(bed, STREAM - 1);
	start = rte_rdtsc();
	assert_int_equal(look(bed), 0);
	assert_int_equal(bed->vq.rest.skip, REST_POLLS);
	assert_true(bed->vq.packed.ripe.looked >= start);
	/* The look after it comes as if as many polls had taken so long. */
	bed->vq.packed.ripe.since = rte_rdtsc();
	bed->vq.packed.ripe.looked = rte_rdtsc() - (REST_POLLS + 1) * RIPE_PAUSE;
	assert_int_equal(look(bed), 0);
	assert_int_equal(bed->vq.rest.skip, 0);
}

static void
more_than_is_expected_is_taken_at_once(void **state)
{
	struct bed *bed = open_stream();

	send(bed, STREAM + 4);
	assert_int_equal(look(bed), STREAM + 4);
}

static void
guest_with_nothing_more_is_not_waited_for_long(void **state)
{
	wait_in_vain(open_stream(), 1);
}

/* A stream that has become slower is taken in shorter bursts, and these come as a whole. */
static void
slower_stream_is_waited_for_as_it_is(void **state)
{
	struct bed *bed = open_stream();

	wait_in_vain(bed, STREAM - 1);
	send(bed, STREAM - 1);
	assert_int_equal(look(bed), STREAM - 1);
	wait_in_vain(bed, RIPE_LEAST);
	send(bed, RIPE_LEAST - 1);
	assert_int_equal(look(bed), 0);
}

static void
stream_that_has_ended_is_not_waited_for_soon(void **state)
{
	struct bed *bed = open_stream();

	wait_in_vain(bed, RIPE_LEAST - 1);
	for (unsigned int i = 0; i < RIPE_HASTE; i++) {
		send(bed, i % 2 == 0 ? STREAM : RIPE_LEAST);
		assert_int_equal(look(bed), i % 2 == 0 ? STREAM : RIPE_LEAST);
	}
	/* And then it is. */
	send(bed, RIPE_LEAST - 1);
	assert_int_equal(look(bed), 0);
}

static void
silence_after_a_stream_ends_the_wait(void **state)
{
	struct bed *bed = open_stream();

	assert_int_equal(look(bed), 0);
	let_time_pass(bed);
	assert_int_equal(look(bed), 0);
	send(bed, 1);
	assert_int_equal(look(bed), 1);
}

static void
few_packets_at_a_time_are_no_stream(void **state)
{
	struct bed *bed = open_bed();

	send(bed, RIPE_LEAST - 1);
	assert_int_equal(look(bed), RIPE_LEAST - 1);
	send(bed, 1);
	assert_int_equal(look(bed), 1);
}

static void
application_that_asks_for_few_gets_them(void **state)
{
	struct bed *bed = open_stream();

	send(bed, STREAM - 1);
	assert_int_equal(
		bed->vq.dequeue(&bed->vq, bed_pool(), bed->pkts, RIPE_LEAST - 1), RIPE_LEAST - 1);
	rte_pktmbuf_free_bulk(bed->pkts, RIPE_LEAST - 1);
}

static void
no_wait_while_kicks_are_wanted(void **state)
{
	struct bed *bed = open_stream();

	dynvhost_vq_set_kicks(&bed->vq, true);
	send(bed, 1);
	assert_int_equal(look(bed), 1);
}

/* The last of as many would lie beyond the ring's end. */
static void
no_wait_around_the_end_of_the_ring(void **state)
{
	struct bed *bed = open_bed();

	send(bed, 28);
	assert_int_equal(look(bed), 28);
	send(bed, 28);
	assert_int_equal(look(bed), 28);
	send(bed, 1);
	assert_int_equal(look(bed), 1);
}

static void
ring_that_starts_expects_nothing(void **state)
{
	struct bed *bed = open_stream();

	bed_restart(bed);
	send(bed, 1);
	assert_int_equal(look(bed), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(burst_of_a_stream_comes_as_a_whole),
		BED_TEST(line_is_left_to_the_guest_between_looks),
		BED_TEST(more_than_is_expected_is_taken_at_once),
		BED_TEST(guest_with_nothing_more_is_not_waited_for_long),
		BED_TEST(slower_stream_is_waited_for_as_it_is),
		BED_TEST(stream_that_has_ended_is_not_waited_for_soon),
		BED_TEST(silence_after_a_stream_ends_the_wait),
		BED_TEST(few_packets_at_a_time_are_no_stream),
		BED_TEST(application_that_asks_for_few_gets_them),
		BED_TEST(no_wait_while_kicks_are_wanted),
		BED_TEST(no_wait_around_the_end_of_the_ring),
		BED_TEST(ring_that_starts_expects_nothing),
	};

	return bed_run(tests);
}
