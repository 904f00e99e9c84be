/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Packets from the guest: every byte, every mbuf, every used element, for whatever the guest cuts
 * header and frame into; what is dropped; and that nothing is opened but what is read.
 */

#include <string.h>

#include "bed.h"
#include "packet.h"

#define MIN_FRAME DYNVHOST_VQ_MIN_FRAME
#define MAX_FRAME DYNVHOST_VQ_MAX_FRAME

static struct bed *
open_bed(uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = features | BED_INDIRECT,
		.mem.granule = GUEST_RAM_PAGE,
	});
}

/* One burst that must move exactly the packet of @p head. */
static void
expect_one(struct bed *bed, struct rte_mempool *pool, uint16_t head, uint32_t len, uint32_t seed)
{
	const uint32_t room = pool == bed_pool() ? BED_ROOM : BED_SMALL_ROOM;

	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, pool, 32), 1);
	bed_expect_packet(bed->pkts[0], len, seed, room);
	bed_expect_used(bed, head, 0);
	bed_expect_memory(bed);
}

/* Send a frame cut in this way, in every shape, and expect it. */
static void
expect_cut(struct bed *bed, const uint32_t *cut, uint16_t n)
{
	uint32_t frame_len = 0;
	int shape;
	uint16_t i;

	for (i = 0; i < n; i++)
		frame_len += cut[i];
	frame_len -= bed->vq.hdr_len;
	for (shape = 0; shape < BED_SHAPES; shape++) {
		uint16_t head = bed_send(bed, (enum bed_shape)shape, cut, n, ++bed->seed);

		expect_one(bed, bed_pool(), head, frame_len, bed->seed);
	}
}

static void
header_and_frame_in_one_descriptor(void **state)
{
	struct bed *bed = open_bed(BED_V1);

	expect_one(bed, bed_pool(), bed_send_plain(bed, 60, 1), 60, 1);
	expect_one(bed, bed_pool(), bed_send_plain(bed, 1514, 2), 1514, 2);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 2, .bytes = 1574});
}

static void
header_without_any_feature(void **state)
{
	const uint32_t hdr_len = bed_format.bare_hdr_len;
	struct bed *bed = open_bed(0);

	assert_int_equal(bed->vq.hdr_len, hdr_len);
	expect_one(bed, bed_pool(), bed_send_plain(bed, 60, 1), 60, 1);
	expect_cut(bed, (uint32_t[]){hdr_len, 60}, 2);
	expect_cut(bed, (uint32_t[]){hdr_len - 1, 61}, 2);
	expect_cut(bed, (uint32_t[]){hdr_len + 2, 58}, 2);
}

static void
header_in_a_descriptor_of_its_own(void **state)
{
	expect_cut(open_bed(BED_V1), (uint32_t[]){12, 100}, 2);
}

static void
header_over_any_number_of_descriptors(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint32_t cut[13];
	uint16_t n;

	for (n = 1; n <= BED_HDR_LEN; n++) {
		uint16_t i;

		/* n - 1 single bytes, the rest of the header with the frame's beginning, the frame. */
		for (i = 0; i < n; i++)
			cut[i] = 1;
		cut[n - 1] = (uint32_t)(BED_HDR_LEN - (n - 1)) + 20;
		cut[n] = 77;
		expect_cut(bed, cut, (uint16_t)(n + 1));
	}
	for (n = 0; n < BED_HDR_LEN; n++)
		cut[n] = 1;
	cut[BED_HDR_LEN] = 300;
	expect_cut(bed, cut, BED_HDR_LEN + 1);
}

static void
frame_cut_into_many_descriptors(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint32_t cut[200];
	uint16_t i;

	for (i = 0; i < RTE_DIM(cut); i++)
		cut[i] = 1 + i % 17;
	expect_cut(bed, cut, RTE_DIM(cut));
}

static void
empty_pieces_are_skipped(void **state)
{
	struct bed *bed = open_bed(BED_V1);

	expect_cut(bed, (uint32_t[]){0, 12, 60}, 3);
	expect_cut(bed, (uint32_t[]){12, 0, 0, 60}, 4);
	expect_cut(bed, (uint32_t[]){72, 0}, 2);
	expect_cut(bed, (uint32_t[]){0, 5, 0, 7, 0, 30, 0, 30, 0}, 9);
}

static void
empty_piece_may_lie_anywhere(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	struct ring_piece piece[3];
	uint8_t frame[60];
	uint16_t head;

	bed_place(bed, (uint32_t[]){12, 60}, 2, false, piece);
	packet_fill(frame, 60, 9);
	guest_ram_write(&bed->ram, piece[1].gpa, frame, 60);
	piece[2] = piece[1];
	piece[1] = (struct ring_piece){.gpa = UINT64_MAX};
	head = bed_add(bed, BED_SHAPE_DIRECT, piece, 3);
	expect_one(bed, bed_pool(), head, 60, 9);
}

static void
long_frames_become_mbuf_chains(void **state)
{
	static const uint32_t lens[] = {BED_ROOM - 1, BED_ROOM, BED_ROOM + 1, 2 * BED_ROOM,
		2 * BED_ROOM + 1, 9000, MAX_FRAME};
	struct bed *bed = open_bed(BED_V1);
	unsigned int i;

	for (i = 0; i < RTE_DIM(lens); i++)
		expect_one(bed, bed_pool(), bed_send_plain(bed, lens[i], i), lens[i], i);
}

static void
small_data_rooms_take_every_length(void **state)
{
	static const uint32_t lens[] = {MIN_FRAME, BED_SMALL_ROOM - 1, BED_SMALL_ROOM,
		BED_SMALL_ROOM + 1, 1514, 65535, MAX_FRAME};
	struct bed *bed = open_bed(BED_V1);
	unsigned int i;

	for (i = 0; i < RTE_DIM(lens); i++)
		expect_one(bed, bed_small_pool(), bed_send_plain(bed, lens[i], i), lens[i], i);
}

static void
mbufs_and_descriptors_are_cut_independently(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint32_t len;

	for (len = 1; len < 150; len += 7) {
		uint32_t cut[] = {12 + len, 150 - len, len, 1, 64};
		uint32_t frame_len = 150 + len + 65;
		uint16_t head = bed_send(bed, BED_SHAPE_DIRECT, cut, RTE_DIM(cut), len);

		expect_one(bed, bed_small_pool(), head, frame_len, len);
	}
}

static void
buffers_lie_across_page_borders(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint64_t border = guest_ram_alloc(&bed->ram, 0, 3 * GUEST_RAM_PAGE, GUEST_RAM_PAGE) +
			  GUEST_RAM_PAGE;
	uint8_t frame[200];
	uint32_t before;

	packet_fill(frame, sizeof(frame), 3);
	for (before = 1; before < 212; before += 10) {
		struct ring_piece piece = {.gpa = border - before, .len = 212};
		uint16_t head;

		guest_ram_write(&bed->ram, piece.gpa + 12, frame, sizeof(frame));
		head = bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
		expect_one(bed, bed_pool(), head, 200, 3);
	}
}

static void
buffers_lie_across_region_borders(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1, .lay_out = bed_lay_out_neighbours});
	const uint64_t border = 1 << 20;
	uint8_t frame[200];
	uint32_t before;

	packet_fill(frame, sizeof(frame), 4);
	for (before = 1; before < 212; before++) {
		struct ring_piece piece = {.gpa = border - before, .len = 212};
		uint16_t head;

		guest_ram_write(&bed->ram, piece.gpa + 12, frame, sizeof(frame));
		head = bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
		expect_one(bed, bed_pool(), head, 200, 4);
	}
}

static void
indirect_tables_lie_across_page_and_region_borders(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = BED_V1 | BED_INDIRECT,
		.lay_out = bed_lay_out_neighbours,
	});
	const uint64_t borders[] = {(1 << 20) - 4 * GUEST_RAM_PAGE, 1 << 20};
	struct ring_piece piece[5];
	unsigned int i, before;
	uint8_t frame[60];

	bed_place(bed, (uint32_t[]){12, 10, 20, 0, 30}, 5, false, piece);
	packet_fill(frame, sizeof(frame), 5);
	guest_ram_write(&bed->ram, piece[1].gpa, frame, 10);
	guest_ram_write(&bed->ram, piece[2].gpa, frame + 10, 20);
	guest_ram_write(&bed->ram, piece[4].gpa, frame + 30, 30);
	for (i = 0; i < RTE_DIM(borders); i++) {
		for (before = 1; before < sizeof(struct vring_desc) * 5; before++) {
			uint16_t head = bed_add_table(bed, piece, 5, borders[i] - before);

			expect_one(bed, bed_pool(), head, 60, 5);
		}
	}
}

static void
indirect_tables_may_be_longer_than_the_ring(void **state)
{
	static const uint16_t sizes[] = {256, 257, 515, DYNVHOST_VQ_MAX_SEGS};
	struct bed *bed = open_bed(BED_V1);
	static uint32_t cut[DYNVHOST_VQ_MAX_SEGS];
	unsigned int i;
	uint16_t head;

	for (i = 0; i < RTE_DIM(cut); i++)
		cut[i] = 12;
	for (i = 0; i < RTE_DIM(sizes); i++) {
		head = bed_send(bed, BED_SHAPE_TABLE, cut, sizes[i], i);
		expect_one(bed, bed_pool(), head, 12u * (sizes[i] - 1u), i);
	}
	head = bed_send(bed, BED_SHAPE_MIXED, cut, DYNVHOST_VQ_MAX_SEGS, 9);
	expect_one(bed, bed_pool(), head, 12u * (DYNVHOST_VQ_MAX_SEGS - 1u), 9);
}

static void
write_flag_of_a_table_s_descriptor_is_ignored(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint16_t head = bed_send(bed, BED_SHAPE_TABLE, (uint32_t[]){12, 60}, 2, 6);

	bed_add_flags(bed, head, VRING_DESC_F_WRITE);
	expect_one(bed, bed_pool(), head, 60, 6);
}

static void
short_and_long_chains_are_dropped_unopened(void **state)
{
	static const uint32_t lens[] = {
		0, 1, 11, 12, 13, 12 + MIN_FRAME - 1, 12 + MAX_FRAME + 1, 100000, UINT32_MAX};
	struct bed *bed = open_bed(BED_V1);
	uint64_t gpa = guest_ram_alloc(&bed->ram, 0, 1 << 20, GUEST_RAM_PAGE);
	uint64_t opens = bed_mem_stats(bed).opens;
	uint16_t head[RTE_DIM(lens)];
	unsigned int i;

	for (i = 0; i < RTE_DIM(lens); i++) {
		struct ring_piece piece[] = {{.gpa = gpa, .len = lens[i]}, {.gpa = gpa, .len = 0}};

		head[i] = bed_add(bed, BED_SHAPE_DIRECT, piece, 2);
	}
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	for (i = 0; i < RTE_DIM(lens); i++)
		bed_expect_used(bed, head[i], 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.dropped = RTE_DIM(lens)});
	assert_int_equal(bed_mem_stats(bed).opens, opens);
}

static void
lengths_that_wrap_in_32_bits_are_dropped(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint64_t gpa = guest_ram_alloc(&bed->ram, 0, GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	/* 2^32 + 72 bytes. */
	struct ring_piece piece[] = {{.gpa = gpa, .len = UINT32_MAX}, {.gpa = gpa, .len = 73}};
	uint16_t head = bed_add(bed, BED_SHAPE_DIRECT, piece, 2);

	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.dropped = 1});
}

static void
shortest_and_longest_frame_pass(void **state)
{
	struct bed *bed = open_bed(BED_V1);

	expect_one(bed, bed_pool(), bed_send_plain(bed, MIN_FRAME, 1), MIN_FRAME, 1);
	expect_one(bed, bed_pool(), bed_send_plain(bed, MAX_FRAME, 2), MAX_FRAME, 2);
}

static void
dropped_chains_do_not_disturb_their_neighbours(void **state)
{
	struct bed *bed = open_bed(BED_V1);

	bed_send_plain(bed, 60, 1);
	bed_send_plain(bed, 5, 2);
	bed_send_plain(bed, 61, 3);
	bed_send_plain(bed, MAX_FRAME + 1, 4);
	bed_send_plain(bed, 62, 5);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 3);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_packet(bed->pkts[1], 61, 3, BED_ROOM);
	bed_expect_packet(bed->pkts[2], 62, 5, BED_ROOM);
	assert_null(bed->pkts[3]);
	bed_expect_used(bed, 0, 0);
	bed_expect_used(bed, 1, 0);
	bed_expect_used(bed, 2, 0);
	bed_expect_used(bed, 3, 0);
	bed_expect_used(bed, 4, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 3, .bytes = 183, .dropped = 2});
}

static void
a_burst_takes_no_more_chains_than_asked_for(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint16_t i;

	for (i = 0; i < 10; i++)
		bed_send_plain(bed, i < 3 ? 1 : 60, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 0), 0);
	bed_expect_no_used(bed);
	/* Three short ones and one good one. */
	assert_int_equal(bed_dequeue(bed, bed_pool(), 4), 1);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 6);
	bed_expect_packet(bed->pkts[0], 60, 3, BED_ROOM);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 6);
	for (i = 0; i < 6; i++)
		bed_expect_packet(bed->pkts[i], 60, 4u + i, BED_ROOM);
}

static void
positions_wrap_in_rings_of_all_sizes(void **state)
{
	static const uint16_t starts[] = {65530, 32760};
	unsigned int i, k;

	for (i = 0; i < 2 * RTE_DIM(bed_format.sizes) && bed_format.sizes[i / 2] != 0; i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_DEQUEUE,
			.features = BED_V1,
			.size = bed_format.sizes[i / 2],
			.start = starts[i % 2],
		});

		for (k = 0; k < 20; k++)
			expect_one(bed, bed_pool(), bed_send_plain(bed, 60 + k, k), 60 + k, k);
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, starts[i % 2] + 20u));
		bed_teardown(NULL);
	}
}

static void
full_burst_across_the_wrap(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = BED_V1 | BED_IN_ORDER,
		.size = 64,
		.start = 65500,
	});
	uint16_t i;

	for (i = 0; i < 64; i++)
		bed_send_plain(bed, 60u + i, i);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 128), 64);
	for (i = 0; i < 64; i++) {
		bed_expect_packet(bed->pkts[i], 60u + i, i, BED_ROOM);
		bed_expect_used(bed, i, 0);
	}
}

static void
empty_mempool_ends_the_burst(void **state)
{
	static struct rte_mbuf *taken[8192];
	struct bed *bed = open_bed(BED_V1);
	uint16_t first = bed_send_plain(bed, 60, 1);
	uint16_t second = bed_send_plain(bed, 3 * BED_SMALL_ROOM, 2);
	unsigned int n = 0;

	while ((taken[n] = rte_pktmbuf_alloc(bed_small_pool())) != NULL)
		n++;
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_small_pool(), 32), 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.no_mbuf = 1});
	bed_expect_no_used(bed);

	/* One for the first packet, one too few for the second. */
	rte_pktmbuf_free_bulk(&taken[n - 3], 3);
	assert_int_equal(bed_dequeue(bed, bed_small_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_SMALL_ROOM);
	bed_expect_used(bed, first, 0);
	rte_pktmbuf_free_bulk(taken, n - 3);

	assert_int_equal(bed_dequeue(bed, bed_small_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 3 * BED_SMALL_ROOM, 2, BED_SMALL_ROOM);
	bed_expect_used(bed, second, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 2, .bytes = 252, .no_mbuf = 2});
}

static void
only_pages_with_packets_and_tables_are_opened_to_read(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint64_t page = guest_ram_alloc(&bed->ram, 0, 8 * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	/* Header alone on the first page, frame on the third and fourth, table on the sixth. */
	struct ring_piece piece[] = {
		{.gpa = page + 100, .len = 12},
		{.gpa = page + 3 * GUEST_RAM_PAGE - 30, .len = 60},
	};
	struct dynvhost_mem_stats before = bed_mem_stats(bed);
	struct dynvhost_mem_stats after;
	uint8_t frame[60];
	uint16_t head;

	packet_fill(frame, sizeof(frame), 1);
	guest_ram_write(&bed->ram, piece[1].gpa, frame, sizeof(frame));
	head = bed_add_table(bed, piece, 2, page + 5 * GUEST_RAM_PAGE);
	expect_one(bed, bed_pool(), head, 60, 1);

	after = bed_mem_stats(bed);
	assert_int_equal(after.opens - before.opens, 4);
	assert_int_equal(after.loadable_bytes - before.loadable_bytes, 4 * GUEST_RAM_PAGE);
	assert_int_equal(after.storable_bytes, before.storable_bytes);
	assert_int_equal(after.storable_peak, before.storable_peak);
	assert_int_equal(before.storable_bytes, bed_ring_storable(256));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(header_and_frame_in_one_descriptor),
		BED_TEST(header_without_any_feature),
		BED_TEST(header_in_a_descriptor_of_its_own),
		BED_TEST(header_over_any_number_of_descriptors),
		BED_TEST(frame_cut_into_many_descriptors),
		BED_TEST(empty_pieces_are_skipped),
		BED_TEST(empty_piece_may_lie_anywhere),
		BED_TEST(long_frames_become_mbuf_chains),
		BED_TEST(small_data_rooms_take_every_length),
		BED_TEST(mbufs_and_descriptors_are_cut_independently),
		BED_TEST(buffers_lie_across_page_borders),
		BED_TEST(buffers_lie_across_region_borders),
		BED_TEST(indirect_tables_lie_across_page_and_region_borders),
		BED_TEST(indirect_tables_may_be_longer_than_the_ring),
		BED_TEST(write_flag_of_a_table_s_descriptor_is_ignored),
		BED_TEST(short_and_long_chains_are_dropped_unopened),
		BED_TEST(lengths_that_wrap_in_32_bits_are_dropped),
		BED_TEST(shortest_and_longest_frame_pass),
		BED_TEST(dropped_chains_do_not_disturb_their_neighbours),
		BED_TEST(a_burst_takes_no_more_chains_than_asked_for),
		BED_TEST(positions_wrap_in_rings_of_all_sizes),
		BED_TEST(full_burst_across_the_wrap),
		BED_TEST(empty_mempool_ends_the_burst),
		BED_TEST(only_pages_with_packets_and_tables_are_opened_to_read),
	};

	return bed_run(tests);
}
