/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * When the lines of what a guest sends are given back, and that nothing but their place in caches
 * changes: every byte arrives, of these packets and of those that follow in the same buffers.
 */

#include "bed.h"
#include "give_back.h"

static struct bed *
open_bed(void)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	bed->vq.gives_back = true;
	return bed;
}

/* Of frames that fit into one mbuf, shorter ones and longer ones than are given back. */
static uint32_t
test_len(uint32_t seed)
{
	return 60 + seed * 37 % 1459;
}

static void
is_due_when_there_is_time_and_a_stream(void **state)
{
	struct bed *bed = open_bed();

	bed->vq.rest.was_on = true;
	assert_true(give_back_is_due(&bed->vq, GIVE_BACK_LEAST));
	assert_false(give_back_is_due(&bed->vq, GIVE_BACK_LEAST - 1));
	bed->vq.rest.was_on = false;
	assert_false(give_back_is_due(&bed->vq, 32));
	bed->vq.rest.was_on = true;
	bed->vq.gives_back = false;
	assert_false(give_back_is_due(&bed->vq, 32));
}

static void
time_is_what_a_look_in_vain_shows(void **state)
{
	struct bed *bed = open_bed();

	bed_pass(bed, 1);
	assert_false(bed->vq.rest.was_on);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_pass(bed, 1);
	assert_true(bed->vq.rest.was_on);
	bed_pass(bed, 1);
	assert_false(bed->vq.rest.was_on);
}

static void
only_cpus_that_have_the_instruction_do_it(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	assert_int_equal(bed->vq.gives_back, dynvhost_give_back_pays());
	if (!dynvhost_give_back_is_possible())
		assert_false(dynvhost_give_back_pays());
}

static void
packets_arrive_whose_lines_are_given_back(void **state)
{
	struct bed *bed = open_bed();
	uint32_t seed = 0;

	bed->vq.gives_back = dynvhost_give_back_is_possible();
	for (unsigned int round = 0; round < 100; round++) {
		const uint16_t n = (uint16_t)(GIVE_BACK_LEAST + round % 20);

		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
		for (uint16_t i = 0; i < n; i++)
			bed_send_plain(bed, test_len(seed + i), seed + i);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), n);
		for (uint16_t i = 0; i < n; i++, seed++) {
			struct ring_used used;

			bed_expect_packet(bed->pkts[i], test_len(seed), seed, BED_ROOM);
			assert_true(bed_collect(bed, &used));
		}
	}
	/* The first of each page goes the long way, which opens it. */
	assert_true(bed->vq.ordinary > seed / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(is_due_when_there_is_time_and_a_stream),
		BED_TEST(time_is_what_a_look_in_vain_shows),
		BED_TEST(only_cpus_that_have_the_instruction_do_it),
		BED_TEST(packets_arrive_whose_lines_are_given_back),
	};

	return bed_run(tests);
}
