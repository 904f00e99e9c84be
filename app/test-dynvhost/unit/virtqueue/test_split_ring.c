/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What only a split ring has: its sizes and areas, indices that run free, an available ring whose
 * entries can be anything, a used ring the guest can write to, and event indices.
 */

#include <errno.h>

#include "bed.h"

#define SIZE      256
#define FRAME_LEN 100u

static uint64_t
pinned_bytes(const struct bed *bed)
{
	struct dynvhost_mem_stats stats;

	dynvhost_mem_stats_get(bed->mem, &stats);
	return stats.pinned_bytes;
}

static struct bed *
open_bed(uint16_t index, uint16_t start)
{
	return bed_open(&(struct bed_config){
		.index = index, .features = BED_V1, .size = SIZE, .start = start});
}

static void
start_refuses_sizes_that_no_split_ring_has(void **state)
{
	static const uint32_t sizes[] = {0, 3, 255, 257, 32767, 32769, 65535, 65536, 1u << 31};
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .stopped = true});
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		bed->setup.size = sizes[i];
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EINVAL);
		assert_false(dynvhost_vq_is_started(&bed->vq));
	}
	assert_int_equal(pinned_bytes(bed), 0);
}

static void
start_refuses_areas_that_end_outside_memory(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .stopped = true});
	const uint64_t used_bytes = 4 + 256 * 8;
	const struct dynvhost_vq_setup good = bed->setup;

	bed->setup.desc_gpa = BED_RAM - 256 * 16 + 16;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);
	bed->setup = good;
	bed->setup.avail_gpa = BED_RAM - (4 + 256 * 2) + 2;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);
	bed->setup = good;
	bed->setup.used_gpa = UINT64_MAX - 3;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);

	/* The event field counts when it exists. */
	bed->setup.used_gpa = BED_RAM - used_bytes;
	bed->setup.features = BED_EVENT;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);
	assert_false(dynvhost_vq_is_started(&bed->vq));
	assert_int_equal(pinned_bytes(bed), 0);
	bed->setup.features = 0;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
}

static void
start_takes_the_position_from_the_used_ring(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .stopped = true});

	/* Three buffers were returned by an earlier back-end, two more wait. */
	bed->split.used->idx = 65534;
	bed->split.avail->idx = 0;
	bed->setup.base = 0;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 2);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), 65534);
}

static void
start_with_event_index_asks_for_no_kick(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = BED_EVENT,
		.start = 65530,
		.stopped = true,
	});
	uint16_t event;
	uint16_t n;

	bed->split.used->flags = VRING_USED_F_NO_NOTIFY;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed->split.used->flags, 0);
	event = split_ring_avail_event(&bed->split);
	for (n = 1; n <= 256; n++)
		assert_false(vring_need_event(event, (uint16_t)(65530 + n), 65530));
}

static void
start_writes_nothing_but_its_wish_for_kicks(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .stopped = true});

	bed_freeze(bed);
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed->split.used->flags, VRING_USED_F_NO_NOTIFY);
	bed->split.used->flags = 0;
	bed_expect_memory(bed);
}

/* One burst in the ring's direction that moves nothing and ends in a fault. */
static void
expect_stops(struct bed *bed, enum dynvhost_vq_fault fault, uint16_t position)
{
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), FRAME_LEN, 0, 1)), 0);
	bed_expect_broken(bed, fault);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.bad_chains = 1});
	bed_expect_memory(bed);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), position);
}

/* The guest sets the ring up anew, and one packet moves. */
static void
expect_revives(struct bed *bed)
{
	uint16_t head;

	bed_reset(bed, 0);
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	if (bed->config.index == BED_DEQUEUE) {
		head = bed_send_plain(bed, FRAME_LEN, 2);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
		bed_expect_packet(bed->pkts[0], FRAME_LEN, 2, BED_ROOM);
		bed_expect_used(bed, head, 0);
	} else {
		head = bed_offer_plain(bed, 2048);
		bed_freeze(bed);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), FRAME_LEN, 0, 2)), 1);
		bed_expect_delivered(bed, FRAME_LEN, 2, &head, 1);
	}
}

static void
available_index_ran_ahead(void **state)
{
	/* One more than the ring holds; as far as it goes; one step back. */
	static const uint16_t distances[] = {SIZE + 1, 32768, 65535};
	unsigned int i;
	uint16_t index;

	for (index = BED_ENQUEUE; index <= BED_DEQUEUE; index++) {
		for (i = 0; i < RTE_DIM(distances); i++) {
			struct bed *bed = open_bed(index, 65535);

			split_ring_force_avail_idx(&bed->split, (uint16_t)(65535 + distances[i]));
			expect_stops(bed, DYNVHOST_VQ_BAD_AVAIL, 65535);
			expect_revives(bed);
			bed_teardown(NULL);
		}
	}
}

static void
pending_is_never_more_than_the_ring_holds(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);

	split_ring_force_avail_idx(&bed->split, 30000);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), SIZE);
}

static void
heads_beyond_the_table_stop_the_queue(void **state)
{
	static const uint16_t heads[] = {SIZE, 65535};
	unsigned int i;
	uint16_t index;

	for (index = BED_ENQUEUE; index <= BED_DEQUEUE; index++) {
		for (i = 0; i < RTE_DIM(heads); i++) {
			struct bed *bed = open_bed(index, 65535);

			split_ring_offer(&bed->split, heads[i]);
			split_ring_publish(&bed->split);
			expect_stops(bed, DYNVHOST_VQ_BAD_HEAD, 65535);
			expect_revives(bed);
			bed_teardown(NULL);
		}
	}
}

static void
head_beyond_the_table_stops_the_queue_behind_good_chains(void **state)
{
	static const bool enabled[] = {true, false};
	unsigned int i;

	for (i = 0; i < RTE_DIM(enabled); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, 0);
		uint16_t head = bed_send_plain(bed, FRAME_LEN, 1);

		split_ring_offer(&bed->split, SIZE);
		split_ring_publish(&bed->split);
		dynvhost_vq_set_enabled(&bed->vq, enabled[i]);
		bed_freeze(bed);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), enabled[i]);
		if (enabled[i])
			bed_expect_packet(bed->pkts[0], FRAME_LEN, 1, BED_ROOM);
		bed_expect_used(bed, head, 0);
		bed_expect_broken(bed, DYNVHOST_VQ_BAD_HEAD);
		bed_expect_stats(bed, (struct dynvhost_vq_stats){
					      .packets = enabled[i],
					      .bytes = enabled[i] ? FRAME_LEN : 0,
					      .discarded = !enabled[i],
					      .bad_chains = 1,
				      });
		bed_teardown(NULL);
	}
}

static void
same_chain_offered_twice_is_two_packets(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t head = bed_send_plain(bed, 60, 1);

	split_ring_offer(&bed->split, head);
	split_ring_publish(&bed->split);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 2);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_packet(bed->pkts[1], 60, 1, BED_ROOM);
	bed_expect_used(bed, head, 0);
	bed_expect_used(bed, head, 0);
}

static void
what_the_guest_writes_into_the_used_ring_means_nothing(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);

	bed_send_plain(bed, 60, 1);
	bed_send_plain(bed, 61, 2);
	bed->split.used->idx = 4711;
	bed->split.used->flags = 0xffff;
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	assert_int_equal(bed->split.used->idx, 1);
	bed->split.used->idx = 0;
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 61, 2, BED_ROOM);
	assert_int_equal(bed->split.used->idx, 2);
	bed_expect_used(bed, 0, 0);
	bed_expect_used(bed, 1, 0);
}

static void
flag_means_nothing_with_event_index(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1 | BED_EVENT, .calls = true});

	split_ring_suppress_calls(&bed->split, true);
	bed_pass(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
	split_ring_set_used_event(&bed->split, 1);
	bed_pass(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
}

static void
event_half_the_number_range_away_is_not_passed(void **state)
{
	static const uint16_t starts[] = {0, 32767};
	unsigned int i;

	for (i = 0; i < RTE_DIM(starts); i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_DEQUEUE,
			.features = BED_V1 | BED_EVENT,
			.start = starts[i],
			.calls = true,
		});

		bed_pass(bed, 1);
		assert_int_equal(bed_calls(bed), 1);
		split_ring_set_used_event(&bed->split, (uint16_t)(starts[i] + 1 + 32768));
		bed_pass(bed, 32);
		assert_int_equal(bed_calls(bed), 0);
		split_ring_set_used_event(&bed->split, (uint16_t)(starts[i] - 1));
		bed_pass(bed, 32);
		assert_int_equal(bed_calls(bed), 0);
		bed_teardown(NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(start_refuses_sizes_that_no_split_ring_has),
		BED_TEST(start_refuses_areas_that_end_outside_memory),
		BED_TEST(start_takes_the_position_from_the_used_ring),
		BED_TEST(start_with_event_index_asks_for_no_kick),
		BED_TEST(start_writes_nothing_but_its_wish_for_kicks),
		BED_TEST(available_index_ran_ahead),
		BED_TEST(pending_is_never_more_than_the_ring_holds),
		BED_TEST(heads_beyond_the_table_stop_the_queue),
		BED_TEST(head_beyond_the_table_stops_the_queue_behind_good_chains),
		BED_TEST(same_chain_offered_twice_is_two_packets),
		BED_TEST(what_the_guest_writes_into_the_used_ring_means_nothing),
		BED_TEST(flag_means_nothing_with_event_index),
		BED_TEST(event_half_the_number_range_away_is_not_passed),
	};

	return bed_run(tests);
}
