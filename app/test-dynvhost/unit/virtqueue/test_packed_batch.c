/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Used descriptors that stand for a whole burst, where the driver has negotiated IN_ORDER (virtio 1.2
 * §2.8.8): the first one bears the id of the last buffer. All buffers in between are marked as used
 * too (test_packed_cut.c says why).
 */

#include "packed_bed.h"

#define SIZE    16u
#define PACKETS 8u

/** Numbers of rings' first slots, the second one with the ring's end in the middle of the burst. */
static const uint16_t starts[] = {0, 11};

static struct vring_packed_desc *
slot_of(const struct bed *bed, uint32_t count)
{
	return &bed->packed.desc[count % SIZE];
}

/* Send packets, one of them in a chain of three slots and one in a table. */
static void
send_mixed(struct bed *bed, uint16_t *head)
{
	unsigned int i;

	for (i = 0; i < PACKETS; i++) {
		if (i == 4)
			head[i] = bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){32, 20, 20}, 3, i);
		else if (i == 6)
			head[i] = bed_send(bed, BED_SHAPE_TABLE, (uint32_t[]){32, 40}, 2, i);
		else
			head[i] = bed_send_plain(bed, 60, i);
	}
}

static void
expect_packets(struct bed *bed, uint16_t n)
{
	unsigned int i;

	assert_int_equal(n, PACKETS);
	for (i = 0; i < n; i++)
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
}

static void
first_used_descriptor_bears_the_last_id(void **state)
{
	unsigned int s, i;

	for (s = 0; s < RTE_DIM(starts); s++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_IN_ORDER, SIZE, starts[s]);
		uint16_t head[PACKETS];

		for (i = 0; i < PACKETS; i++)
			head[i] = bed_send_plain(bed, 60, i);
		bed_freeze(bed);
		expect_packets(bed, bed_dequeue(bed, bed_pool(), 32));
		assert_int_equal(slot_of(bed, starts[s])->id, head[PACKETS - 1]);
		for (i = 1; i < PACKETS; i++)
			assert_int_equal(slot_of(bed, starts[s] + i)->id, head[i]);
		for (i = 0; i < PACKETS; i++)
			bed_expect_used(bed, head[i], 0);
		bed_expect_memory(bed);
		assert_int_equal(bed_calls(bed), 1);
		bed_teardown(NULL);
	}
}

static void
burst_of_one_bears_its_own(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_IN_ORDER, SIZE, 0);
	uint16_t head[2];

	head[0] = bed_send_plain(bed, 60, 0);
	head[1] = bed_send_plain(bed, 60, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 0, BED_ROOM);
	assert_int_equal(slot_of(bed, 0)->id, head[0]);
	bed_expect_used(bed, head[0], 0);
	bed_expect_no_used(bed);
}

static void
buffers_of_all_kinds_are_given_back_as_one(void **state)
{
	unsigned int s, i;

	for (s = 0; s < RTE_DIM(starts); s++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_IN_ORDER, SIZE, starts[s]);
		uint16_t head[PACKETS];

		send_mixed(bed, head);
		bed_freeze(bed);
		expect_packets(bed, bed_dequeue(bed, bed_pool(), 32));
		assert_int_equal(slot_of(bed, starts[s])->id, head[PACKETS - 1]);
		for (i = 0; i < PACKETS; i++)
			bed_expect_used(bed, head[i], 0);
		bed_expect_memory(bed);
		bed_teardown(NULL);
	}
}

/* What is no packet is used all the same; a disabled ring drains. */
static void
buffers_without_packets_are_given_back_as_one(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_IN_ORDER, SIZE, 0);
	const uint32_t too_short = BED_HDR_LEN;
	uint16_t head[PACKETS];
	unsigned int i;

	head[0] = bed_send_plain(bed, 60, 0);
	head[1] = bed_offer(bed, BED_SHAPE_DIRECT, &too_short, 1);
	slot_of(bed, 1)->flags &= (uint16_t)~WRITE;
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 0, BED_ROOM);
	assert_int_equal(slot_of(bed, 0)->id, head[1]);
	bed_expect_used(bed, head[0], 0);
	bed_expect_used(bed, head[1], 0);

	dynvhost_vq_set_enabled(&bed->vq, false);
	send_mixed(bed, head);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(slot_of(bed, 2)->id, head[PACKETS - 1]);
	for (i = 0; i < PACKETS; i++)
		bed_expect_used(bed, head[i], 0);
	bed_expect_no_used(bed);
}

static void
fault_ends_the_batch_before_it(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_IN_ORDER, SIZE, 0);
	uint16_t head[3];
	unsigned int i;

	for (i = 0; i < 3; i++)
		head[i] = bed_send_plain(bed, 60, i);
	bed_add_flags(bed, head[2], WRITE);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 2);
	for (i = 0; i < 2; i++)
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
	assert_int_equal(slot_of(bed, 0)->id, head[1]);
	bed_expect_used(bed, head[0], 0);
	bed_expect_used(bed, head[1], 0);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_RIGHT);
}

static void
without_the_feature_each_has_its_own(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, SIZE, 0);
	uint16_t head[PACKETS];
	unsigned int i;

	for (i = 0; i < PACKETS; i++)
		head[i] = bed_send_plain(bed, 60, i);
	expect_packets(bed, bed_dequeue(bed, bed_pool(), 32));
	for (i = 0; i < PACKETS; i++) {
		assert_int_equal(slot_of(bed, i)->id, head[i]);
		bed_expect_used(bed, head[i], 0);
	}
}

/* Each has a length that the driver must know. */
static void
buffers_that_are_written_have_their_own(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, BED_V1 | BED_IN_ORDER, SIZE, 0);
	struct rte_mbuf *pkts[PACKETS];
	uint16_t head[PACKETS];
	unsigned int i;

	for (i = 0; i < PACKETS; i++) {
		head[i] = bed_offer_plain(bed, 2048);
		pkts[i] = bed_packet(bed_pool(), 60 + i, 0, i);
	}
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, PACKETS), PACKETS);
	for (i = 0; i < PACKETS; i++) {
		assert_int_equal(slot_of(bed, i)->id, head[i]);
		bed_expect_used(bed, head[i], BED_HDR_LEN + 60 + i);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(first_used_descriptor_bears_the_last_id),
		BED_TEST(burst_of_one_bears_its_own),
		BED_TEST(buffers_of_all_kinds_are_given_back_as_one),
		BED_TEST(buffers_without_packets_are_given_back_as_one),
		BED_TEST(fault_ends_the_batch_before_it),
		BED_TEST(without_the_feature_each_has_its_own),
		BED_TEST(buffers_that_are_written_have_their_own),
	};

	return bed_run(tests);
}
