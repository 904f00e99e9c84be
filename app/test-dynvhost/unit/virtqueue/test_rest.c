/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The rest between looks at the ring of a silent guest: it comes after many empty bursts, leaves out
 * a few, and nothing but a late packet is to be noticed of it.
 */

#include "bed.h"
#include "rest.h"

/* Of the queue that the application polls. */
static _Atomic uint32_t rest_left;

static struct bed *
open_bed(void)
{
	atomic_store(&rest_left, 0);
	return bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});
}

static uint16_t
poll_once(struct bed *bed)
{
	uint16_t got;

	if (rest_is_on(&rest_left))
		return 0;
	got = bed_dequeue(bed, bed_pool(), 32);
	if (got == 0)
		rest_begin(&rest_left, &bed->vq);
	return got;
}

static void
poll_nothing(struct bed *bed, unsigned int n)
{
	while (n-- > 0)
		assert_int_equal(poll_once(bed), 0);
}

/* The rest after the last look leaves @p n polls out. */
static void
set_rest(struct bed *bed, uint32_t n)
{
	bed->vq.rest.skips = bed->vq.rest.skip = n;
	rest_begin(&rest_left, &bed->vq);
}

/* Bursts until the packet that waits comes. */
static unsigned int
polls_until_packet(struct bed *bed)
{
	unsigned int n = 1;

	while (poll_once(bed) == 0)
		assert_true(++n < 1000);
	rte_pktmbuf_free(bed->pkts[0]);
	return n;
}

static void
first_bursts_without_packets_all_look(void **state)
{
	struct bed *bed = open_bed();

	poll_nothing(bed, REST_AFTER - 1);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(polls_until_packet(bed), 1);
	/* And so it begins anew. */
	poll_nothing(bed, REST_AFTER - 1);
	bed_send_plain(bed, 60, 2);
	assert_int_equal(polls_until_packet(bed), 1);
}

static void
silence_is_left_alone_for_a_few_bursts(void **state)
{
	struct bed *bed = open_bed();

	poll_nothing(bed, 10000);
	assert_true(bed->vq.rest.looks >= REST_AFTER);
	assert_in_range(bed->vq.rest.skips, 0, REST_POLLS);
	set_rest(bed, 5);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(polls_until_packet(bed), 6);
	bed_send_plain(bed, 60, 2);
	assert_int_equal(polls_until_packet(bed), 1);
}

static void
slow_application_looks_each_time(void **state)
{
	struct bed *bed = open_bed();
	unsigned int i;

	for (i = 0; i < 4 * REST_AFTER; i++) {
		poll_nothing(bed, 1);
		rte_delay_us_block(2);
	}
	assert_int_equal(bed->vq.rest.skips, 0);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(polls_until_packet(bed), 1);
}

/* The pace of before says nothing of what is to come: however quick it was, little is left out. */
static void
application_that_slows_down_looks_again_soon(void **state)
{
	struct bed *bed = open_bed();
	struct dynvhost_vq_rest *rest = &bed->vq.rest;

	poll_nothing(bed, 1000);
	do {
		rest->skips = 0;
		rest->since = rte_rdtsc();
		rest_measure(rest);
	} while (rest->skips == 0);
	assert_in_range(rest->skips, 1, REST_POLLS);
	set_rest(bed, rest->skips);
	bed_send_plain(bed, 60, 1);
	assert_in_range(polls_until_packet(bed), 2, REST_POLLS + 1);
}

static void
no_rest_while_kicks_are_wanted(void **state)
{
	struct bed *bed = open_bed();

	poll_nothing(bed, 1000);
	set_rest(bed, 5);
	dynvhost_vq_set_kicks(&bed->vq, true);
	assert_int_equal(bed->vq.rest.skip, 0);
	rest_begin(&rest_left, &bed->vq);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(polls_until_packet(bed), 1);
	poll_nothing(bed, 1000);
	assert_int_equal(bed->vq.rest.skips, 0);
	dynvhost_vq_set_kicks(&bed->vq, false);
	bed_send_plain(bed, 60, 2);
	assert_int_equal(polls_until_packet(bed), 1);
}

static void
ring_that_starts_asks_for_no_rest(void **state)
{
	struct bed *bed = open_bed();

	poll_nothing(bed, 1000);
	set_rest(bed, 5);
	bed_restart(bed);
	assert_int_equal(bed->vq.rest.skip, 0);
	assert_int_equal(bed->vq.rest.skips, 0);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(polls_until_packet(bed), 6);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(first_bursts_without_packets_all_look),
		BED_TEST(silence_is_left_alone_for_a_few_bursts),
		BED_TEST(slow_application_looks_each_time),
		BED_TEST(application_that_slows_down_looks_again_soon),
		BED_TEST(no_rest_while_kicks_are_wanted),
		BED_TEST(ring_that_starts_asks_for_no_rest),
	};

	return bed_run(tests);
}
