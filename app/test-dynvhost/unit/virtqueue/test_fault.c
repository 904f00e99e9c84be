/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What stops a queue. Each case is one malformed chain behind a good one, in both directions: the
 * good one must still be returned, the bad one not, nothing else in guest memory may change, no mbuf
 * may be kept, and a new start revives the queue.
 */

#include <stdio.h>
#include <string.h>

#include "bed.h"

/* Guest addresses of the cases: a buffer, a table, another one that begins in the last 16 bytes. */
#define BUF       0x200000ull
#define TABLE     0x300000ull
#define EDGE      (BED_RAM - 16)
#define SIZE      256
#define BAD_DESC  BED_RAW /* desc[] of the case goes here in a split ring */
#define GOOD_LEN  2048u
#define FRAME_LEN 100u

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
/** Not a flag of the ring: the descriptor has the right that is wrong for its direction. */
#define FLIP 0x8000u

struct fault_case {
	const char *name;
	enum dynvhost_vq_fault fault;
	bool no_indirect; /* the feature is not negotiated */
	bool split_only;  /* `next` decides, which packed rings have not */
	bool read_well;   /* in a packed ring it is none when the guest sends */
	struct vring_desc desc[3];
	struct vring_desc table[3];
	uint64_t table_gpa; /* 0: TABLE */
};

static const struct fault_case cases[] = {
	{
		.name = "next is the ring's size",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_HEAD,
		.desc = {{BUF, 20, NEXT, SIZE}},
	},
	{
		.name = "next is 65535",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_HEAD,
		.desc = {{BUF, 20, NEXT, 65535}},
	},
	{
		.name = "descriptor follows itself",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{BUF, 20, NEXT, BAD_DESC}},
	},
	{
		.name = "empty descriptor follows itself",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{BUF, 0, NEXT, BAD_DESC}},
	},
	{
		.name = "two descriptors follow each other",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{BUF, 20, NEXT, BAD_DESC + 1}, {BUF, 20, NEXT, BAD_DESC}},
	},
	{
		.name = "address behind memory",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BED_RAM, 1000, 0, 0}},
	},
	{
		.name = "last byte behind memory",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BED_RAM - 111, 112, 0, 0}},
	},
	{
		.name = "frame behind memory, header inside",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BUF, 12, NEXT, BAD_DESC + 1}, {1ull << 40, 100, 0, 0}},
	},
	{
		.name = "header behind memory, frame inside",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BED_RAM, 12, NEXT, BAD_DESC + 1}, {BUF, 100, 0, 0}},
	},
	{
		.name = "last byte of the header behind memory",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BED_RAM - 11, 12, NEXT, BAD_DESC + 1}, {BUF, 100, 0, 0}},
	},
	{
		.name = "address runs over the end of the address space",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{UINT64_MAX - 110, 112, 0, 0}},
	},
	{
		.name = "one byte too many at the end of the address space",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BUF, 112, NEXT, BAD_DESC + 1}, {UINT64_MAX, 2, 0, 0}},
	},
	{
		.name = "wrong right",
		.fault = DYNVHOST_VQ_BAD_RIGHT,
		.desc = {{BUF, 112, FLIP, 0}},
	},
	{
		.name = "wrong right behind the right one",
		.fault = DYNVHOST_VQ_BAD_RIGHT,
		.desc = {{BUF, 112, NEXT, BAD_DESC + 1}, {BUF, 112, FLIP, 0}},
	},
	{
		.name = "wrong right of an empty descriptor",
		.fault = DYNVHOST_VQ_BAD_RIGHT,
		.desc = {{BUF, 112, NEXT, BAD_DESC + 1}, {BUF, 0, FLIP, 0}},
	},
	{
		.name = "table though not negotiated",
		.fault = DYNVHOST_VQ_BAD_INDIRECT,
		.no_indirect = true,
		.desc = {{TABLE, 16, INDIRECT, 0}},
		.table = {{BUF, 112, 0, 0}},
	},
	{
		.name = "empty table",
		.fault = DYNVHOST_VQ_BAD_INDIRECT,
		.desc = {{TABLE, 0, INDIRECT, 0}},
	},
	{
		.name = "table of less than an entry",
		.fault = DYNVHOST_VQ_BAD_INDIRECT,
		.desc = {{TABLE, 15, INDIRECT, 0}},
	},
	{
		.name = "table of an entry and a byte",
		.fault = DYNVHOST_VQ_BAD_INDIRECT,
		.desc = {{TABLE, 17, INDIRECT, 0}},
		.table = {{BUF, 112, 0, 0}},
	},
	{
		.name = "table and next",
		.fault = DYNVHOST_VQ_BAD_INDIRECT,
		.desc = {{TABLE, 16, INDIRECT | NEXT, BAD_DESC + 1}, {BUF, 112, 0, 0}},
		.table = {{BUF, 112, 0, 0}},
	},
	{
		.name = "table in a table",
		.fault = DYNVHOST_VQ_BAD_INDIRECT,
		.desc = {{TABLE, 32, INDIRECT, 0}},
		.table = {{BUF, 112, NEXT, 1}, {TABLE, 16, INDIRECT, 0}},
	},
	{
		.name = "table longer than any chain",
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{TABLE, 16 * (DYNVHOST_VQ_MAX_SEGS + 1), INDIRECT, 0}},
		.table = {{BUF, 112, 0, 0}},
	},
	{
		.name = "table of the greatest length",
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{TABLE, UINT32_MAX & ~15u, INDIRECT, 0}},
		.table = {{BUF, 112, 0, 0}},
	},
	{
		.name = "table behind memory",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{BED_RAM, 16, INDIRECT, 0}},
	},
	{
		.name = "second entry of a table behind memory",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{EDGE, 32, INDIRECT, 0}},
		.table_gpa = EDGE,
		.table = {{BUF, 112, NEXT, 1}},
	},
	{
		.name = "table runs over the end of the address space",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{UINT64_MAX - 15, 32, INDIRECT, 0}},
	},
	{
		.name = "next in a table is its length",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_HEAD,
		.desc = {{TABLE, 32, INDIRECT, 0}},
		.table = {{BUF, 112, NEXT, 2}},
	},
	{
		.name = "entry of a table follows itself",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{TABLE, 32, INDIRECT, 0}},
		.table = {{BUF, 112, NEXT, 0}},
	},
	{
		.name = "empty entries of a table follow each other",
		.split_only = true,
		.fault = DYNVHOST_VQ_BAD_LOOP,
		.desc = {{TABLE, 48, INDIRECT, 0}},
		.table = {{BUF, 0, NEXT, 1}, {BUF, 0, NEXT, 0}},
	},
	{
		.name = "wrong right in a table",
		.read_well = true,
		.fault = DYNVHOST_VQ_BAD_RIGHT,
		.desc = {{BUF, 20, NEXT, BAD_DESC + 1}, {TABLE, 16, INDIRECT, 0}},
		.table = {{BUF, 112, FLIP, 0}},
	},
	{
		.name = "address behind memory in a table",
		.fault = DYNVHOST_VQ_BAD_ADDRESS,
		.desc = {{TABLE, 32, INDIRECT, 0}},
		.table = {{BUF, 12, NEXT, 1}, {BED_RAM, 100, 0, 0}},
	},
};

/* Whether rings of the format and direction can have the case. */
static bool
exists(const struct fault_case *fault, uint16_t index)
{
	if (!bed_format.packed)
		return true;
	return !fault->split_only && !(fault->read_well && index == BED_DEQUEUE);
}

/* One case in one direction. */
struct fault_run {
	const struct fault_case *fault;
	uint16_t index;
	char name[96];
};

/* The descriptor as the guest writes it: with the right of the direction, or the other one. */
static struct vring_desc
directed(const struct fault_run *run, struct vring_desc desc)
{
	bool writable = (run->index == BED_ENQUEUE) != ((desc.flags & FLIP) != 0);

	desc.flags &= (uint16_t)~FLIP;
	if (writable && !(desc.flags & INDIRECT))
		desc.flags |= WRITE;
	return desc;
}

static void
make_bad_chain(struct bed *bed, const struct fault_run *run)
{
	const struct fault_case *fault = run->fault;
	uint64_t table_gpa = fault->table_gpa != 0 ? fault->table_gpa : TABLE;
	struct vring_desc chain[RTE_DIM(fault->desc)];
	unsigned int i;

	for (i = 0; i < RTE_DIM(fault->desc); i++)
		chain[i] = directed(run, fault->desc[i]);
	for (i = 0; i < RTE_DIM(fault->table); i++) {
		struct vring_desc desc = directed(run, fault->table[i]);

		if (table_gpa + (i + 1) * sizeof(desc) <= BED_RAM)
			bed_write_entry(bed, table_gpa + i * sizeof(desc), &desc);
	}
	bed_offer_raw(bed, chain, RTE_DIM(chain));
}

/* A burst that moves the good chain's packet and stops at the bad one. */
static void
expect_dequeue_stops(struct bed *bed, uint16_t good)
{
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], FRAME_LEN, 1, BED_ROOM);
	assert_null(bed->pkts[1]);
	bed_expect_used(bed, good, 0);
}

static void
expect_enqueue_stops(struct bed *bed, uint16_t good)
{
	struct rte_mbuf *pkts[3];
	uint16_t i;

	for (i = 0; i < RTE_DIM(pkts); i++)
		pkts[i] = bed_packet(bed_pool(), FRAME_LEN, 0, 1);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, RTE_DIM(pkts)), 1);
	rte_pktmbuf_free_bulk(&pkts[1], RTE_DIM(pkts) - 1);
	bed_expect_delivered(bed, FRAME_LEN, 1, &good, 1);
}

/* One packet, moved by a good queue. */
static void
expect_moves(struct bed *bed)
{
	uint16_t head;

	if (bed->config.index == BED_DEQUEUE) {
		head = bed_send_plain(bed, FRAME_LEN, 2);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
		bed_expect_packet(bed->pkts[0], FRAME_LEN, 2, BED_ROOM);
		bed_expect_used(bed, head, 0);
	} else {
		head = bed_offer_plain(bed, GOOD_LEN);
		bed_freeze(bed);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), FRAME_LEN, 0, 2)), 1);
		bed_expect_delivered(bed, FRAME_LEN, 2, &head, 1);
	}
}

static void
restart(struct bed *bed)
{
	dynvhost_vq_stop(&bed->vq);
	bed_reset(bed, 0);
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

static struct bed *
open_bed(uint16_t index, uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = index,
		.features = BED_V1 | features,
		.size = SIZE,
		.start = 65535,
	});
}

static void
bad_chain_stops_the_queue(void **state)
{
	const struct fault_run *run = *state;
	struct bed *bed = open_bed(run->index, run->fault->no_indirect ? 0 : BED_INDIRECT);
	uint16_t good;

	if (run->index == BED_DEQUEUE)
		good = bed_send_plain(bed, FRAME_LEN, 1);
	else
		good = bed_offer_plain(bed, GOOD_LEN);
	make_bad_chain(bed, run);
	bed_freeze(bed);
	if (run->index == BED_DEQUEUE)
		expect_dequeue_stops(bed, good);
	else
		expect_enqueue_stops(bed, good);
	bed_expect_broken(bed, run->fault->fault);
	bed_expect_memory(bed);
	bed_expect_stats(
		bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = FRAME_LEN, .bad_chains = 1});
	/* The bad chain was not taken. */
	assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 65536));

	restart(bed);
	expect_moves(bed);
}

static void
longest_direct_chain_is_no_loop(void **state)
{
	static uint32_t cut[SIZE];
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t head;
	unsigned int i;

	for (i = 0; i < RTE_DIM(cut); i++)
		cut[i] = 1;
	head = bed_send(bed, BED_SHAPE_DIRECT, cut, SIZE, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], SIZE - BED_HDR_LEN, 1, BED_ROOM);
	bed_expect_used(bed, head, 0);
}

static void
direct_chains_have_the_limit_of_all_chains(void **state)
{
	static uint32_t cut[DYNVHOST_VQ_MAX_SEGS + 1];
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .size = 4096});
	unsigned int i;
	uint16_t head;

	for (i = 0; i < RTE_DIM(cut); i++)
		cut[i] = 1;
	head = bed_send(bed, BED_SHAPE_DIRECT, cut, DYNVHOST_VQ_MAX_SEGS, 1);
	bed_send(bed, BED_SHAPE_DIRECT, cut, DYNVHOST_VQ_MAX_SEGS + 1, 2);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], DYNVHOST_VQ_MAX_SEGS - BED_HDR_LEN, 1, BED_ROOM);
	bed_expect_used(bed, head, 0);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_LOOP);
}

/* The second buffer of a packet is bad: the first one is not touched either. */
static void
bad_buffer_behind_a_good_one_leaves_both(void **state)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(cases); i++) {
		const struct fault_run run = {.fault = &cases[i], .index = BED_ENQUEUE};
		uint64_t features = BED_MRG | (cases[i].no_indirect ? 0 : BED_INDIRECT);
		struct bed *bed;

		if (!exists(&cases[i], BED_ENQUEUE))
			continue;
		bed = open_bed(BED_ENQUEUE, features);
		bed_offer_plain(bed, 100);
		make_bad_chain(bed, &run);
		bed_freeze(bed);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 200, 0, 1)), 0);
		bed_expect_broken(bed, cases[i].fault);
		bed_expect_stats(bed, (struct dynvhost_vq_stats){.bad_chains = 1});
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 65535));
		bed_teardown(NULL);
	}
}

static void
hole_between_regions(struct guest_ram *ram)
{
	guest_ram_add_file(ram, 2 << 20, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, 1 << 20, 0);
	guest_ram_add_region(ram, 0, 1 << 20, (1 << 20) + GUEST_RAM_PAGE, 1 << 20, 0);
}

static void
buffer_over_a_hole_stops_the_queue(void **state)
{
	uint16_t index;

	for (index = BED_ENQUEUE; index <= BED_DEQUEUE; index++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = index, .features = BED_V1, .lay_out = hole_between_regions});
		struct ring_piece piece = {
			.gpa = (1 << 20) - 100,
			.len = GUEST_RAM_PAGE + 200,
			.writable = index == BED_ENQUEUE,
		};

		bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
		bed_freeze(bed);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 1000, 0, 1)), 0);
		bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
		bed_teardown(NULL);
	}
}

static void
memory_up_to_the_top(struct guest_ram *ram)
{
	guest_ram_add_file(ram, 2 << 20, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, 1 << 20, 0);
	guest_ram_add_region(ram, 0, 1 << 20, 0 - 2 * GUEST_RAM_PAGE, GUEST_RAM_PAGE, 1ull << 46);
}

static void
table_that_wraps_into_good_memory_stops_the_queue(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = BED_V1 | BED_INDIRECT,
		.lay_out = memory_up_to_the_top,
	});
	const uint64_t table = 0 - 2 * GUEST_RAM_PAGE;
	/* In a split ring its first entry leads to the one that would lie at gpa 64. */
	struct vring_desc entry = {.flags = NEXT, .next = (2 * GUEST_RAM_PAGE + 64) / 16};
	struct vring_desc ref = {table, 16 * DYNVHOST_VQ_MAX_SEGS, INDIRECT, 0};

	bed_write_entry(bed, table, &entry);
	bed_offer_raw(bed, &ref, 1);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
}

static void
fault_outlives_enabling_and_moving(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);

	bed_offer_raw(bed, &(struct vring_desc){BED_RAM, 1000, 0, 0}, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	dynvhost_vq_set_enabled(&bed->vq, false);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
	dynvhost_vq_set_enabled(&bed->vq, true);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
	assert_int_equal(dynvhost_vq_move(&bed->vq, &bed->setup), 0);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
	assert_int_equal(bed->vq.stats.bad_chains, 1);
}

static const struct CMUnitTest single_tests[] = {
	BED_TEST(longest_direct_chain_is_no_loop),
	BED_TEST(direct_chains_have_the_limit_of_all_chains),
	BED_TEST(bad_buffer_behind_a_good_one_leaves_both),
	BED_TEST(buffer_over_a_hole_stops_the_queue),
	BED_TEST(table_that_wraps_into_good_memory_stops_the_queue),
	BED_TEST(fault_outlives_enabling_and_moving),
};

int
main(void)
{
	static struct fault_run runs[2 * RTE_DIM(cases)];
	static struct CMUnitTest tests[RTE_DIM(single_tests) + RTE_DIM(runs)];
	unsigned int n = RTE_DIM(single_tests);
	unsigned int i;

	memcpy(tests, single_tests, sizeof(single_tests));
	for (i = 0; i < RTE_DIM(runs); i++) {
		struct fault_run *run = &runs[i];

		run->fault = &cases[i / 2];
		run->index = i % 2 == 0 ? BED_DEQUEUE : BED_ENQUEUE;
		if (!exists(run->fault, run->index))
			continue;
		snprintf(run->name, sizeof(run->name), "%s: %s",
			run->index == BED_DEQUEUE ? "dequeue" : "enqueue", run->fault->name);
		tests[n++] = (struct CMUnitTest){
			.name = run->name,
			.test_func = bad_chain_stops_the_queue,
			.teardown_func = bed_teardown,
			.initial_state = run,
		};
	}
	return bed_run(tests);
}
