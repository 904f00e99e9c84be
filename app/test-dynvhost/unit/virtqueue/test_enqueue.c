/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Packets to the guest: header and bytes in every buffer the guest may offer, merged or not, with not
 * one byte written beside them; what is dropped, and what waits for more buffers.
 */

#include <string.h>

#include "bed.h"
#include "packet.h"

#define MAX_FRAME DYNVHOST_VQ_MAX_FRAME

static struct bed *
open_bed(uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = BED_ENQUEUE,
		.features = features | BED_INDIRECT,
		.mem.granule = GUEST_RAM_PAGE,
	});
}

static struct bed *
open_small_ring(uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = BED_ENQUEUE,
		.features = features | BED_INDIRECT,
		.size = 4,
	});
}

/* A packet of any length, in mbufs of the small pool. */
static struct rte_mbuf *
packet(uint32_t len, uint32_t seed)
{
	return bed_packet(bed_small_pool(), len, BED_SMALL_ROOM, seed);
}

/* Send one packet, which must fill exactly these buffers. */
static void
expect_one(struct bed *bed, uint32_t len, const uint16_t *head, uint16_t n)
{
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, packet(len, ++bed->seed)), 1);
	bed_expect_delivered(bed, len, bed->seed, head, n);
	bed_expect_memory(bed);
}

/* Send one packet, which must be thrown away without a trace in guest memory. */
static void
expect_dropped(struct bed *bed, uint32_t len)
{
	uint64_t dropped = bed->vq.stats.dropped;
	uint16_t pending = dynvhost_vq_pending(&bed->vq);

	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, packet(len, 1)), 1);
	bed_expect_memory(bed);
	assert_int_equal(bed->vq.stats.dropped, dropped + 1);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), pending);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

/* Send one packet, which must be left to the caller, without a trace in guest memory. */
static void
expect_refused(struct bed *bed, uint32_t len)
{
	const struct dynvhost_vq_stats stats = bed->vq.stats;

	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, packet(len, 1)), 0);
	bed_expect_memory(bed);
	bed_expect_stats(bed, stats);
}

/* Offer a buffer cut in this way, in every shape, and expect a packet of @p len bytes in it. */
static void
expect_cut(struct bed *bed, const uint32_t *cut, uint16_t n, uint32_t len)
{
	int shape;

	for (shape = 0; shape < BED_SHAPES; shape++) {
		uint16_t head = bed_offer(bed, (enum bed_shape)shape, cut, n);

		expect_one(bed, len, &head, 1);
	}
}

static void
one_buffer_with_each_header(void **state)
{
	static const uint64_t features[] = {0, BED_V1, BED_MRG, BED_V1 | BED_MRG};
	unsigned int i;

	for (i = 0; i < RTE_DIM(features); i++) {
		struct bed *bed = open_bed(features[i]);
		uint32_t hdr_len = bed->vq.hdr_len;

		assert_int_equal(hdr_len, i == 0 ? bed_format.bare_hdr_len : BED_HDR_LEN);
		expect_cut(bed, (uint32_t[]){2048}, 1, 60);
		expect_cut(bed, (uint32_t[]){2048}, 1, 2048 - hdr_len - 1);
		expect_cut(bed, (uint32_t[]){2048}, 1, 2048 - hdr_len);
		expect_cut(bed, (uint32_t[]){hdr_len, 1514}, 2, 60);
		expect_cut(bed, (uint32_t[]){hdr_len, 1514}, 2, 1514);
		bed_teardown(NULL);
	}
}

static void
header_bytes_are_what_they_should_be(void **state)
{
	static const uint8_t single[BED_HDR_LEN] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};
	static const uint8_t merged[BED_HDR_LEN] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0};
	struct bed *bed = open_bed(BED_V1 | BED_MRG);
	uint16_t head = bed_offer_plain(bed, 100);
	uint16_t second = bed_offer_plain(bed, 100);
	uint8_t hdr[BED_HDR_LEN];

	bed_offer_plain(bed, 100);
	assert_int_equal(bed_enqueue(bed, packet(60, 1)), 1);
	guest_ram_read(&bed->ram, bed->buffer[head].piece[0].gpa, hdr, sizeof(hdr));
	assert_memory_equal(hdr, single, sizeof(hdr));
	assert_int_equal(bed_enqueue(bed, packet(120, 1)), 1);
	guest_ram_read(&bed->ram, bed->buffer[second].piece[0].gpa, hdr, sizeof(hdr));
	assert_memory_equal(hdr, merged, sizeof(hdr));
}

static void
header_over_any_number_of_descriptors(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint32_t cut[13];
	uint16_t n, i;

	for (n = 1; n <= BED_HDR_LEN; n++) {
		for (i = 0; i < n; i++)
			cut[i] = 1;
		cut[n] = 400;
		expect_cut(bed, cut, (uint16_t)(n + 1), 60);
	}
}

static void
empty_pieces_are_skipped(void **state)
{
	struct bed *bed = open_bed(BED_V1);

	expect_cut(bed, (uint32_t[]){0, 12, 60}, 3, 60);
	expect_cut(bed, (uint32_t[]){0, 5, 0, 7, 0, 30, 0, 30, 0}, 9, 60);
}

static void
mbufs_and_descriptors_are_cut_independently(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint32_t seg_len;

	for (seg_len = 1; seg_len <= BED_SMALL_ROOM; seg_len += 3) {
		uint32_t cut[] = {5, 12, seg_len, 64, 1, 128, 200};
		uint16_t head = bed_offer(bed, BED_SHAPE_DIRECT, cut, RTE_DIM(cut));

		bed_freeze(bed);
		assert_int_equal(
			bed_enqueue(bed, bed_packet(bed_small_pool(), 333, seg_len, seg_len)), 1);
		bed_expect_delivered(bed, 333, seg_len, &head, 1);
	}
}

static void
buffers_are_filled_before_the_next_is_begun(void **state)
{
	struct bed *bed = open_bed(BED_V1 | BED_MRG);
	uint16_t head[5];
	uint16_t i;

	/* 12 + 488 bytes are five buffers exactly, one byte less too, one more than four are five. */
	static const uint32_t lens[] = {488, 487, 389};

	for (i = 0; i < RTE_DIM(lens); i++) {
		uint16_t k;

		for (k = 0; k < RTE_DIM(head); k++)
			head[k] = bed_offer_plain(bed, 100);
		expect_one(bed, lens[i], head, RTE_DIM(head));
	}
	/* Four exactly: the fifth stays. */
	for (i = 0; i < RTE_DIM(head); i++)
		head[i] = bed_offer_plain(bed, 100);
	expect_one(bed, 388, head, 4);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 1);
	expect_one(bed, 88, head + 4, 1);
}

static void
merged_buffers_of_all_shapes_and_lengths(void **state)
{
	struct bed *bed = open_bed(BED_V1 | BED_MRG);
	uint16_t head[6];

	head[0] = bed_offer(bed, BED_SHAPE_TABLE, (uint32_t[]){6, 6}, 2);
	head[1] = bed_offer_plain(bed, 1);
	head[2] = bed_offer(bed, BED_SHAPE_MIXED, (uint32_t[]){100, 0, 50, 7}, 4);
	head[3] = bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){30, 3, 20}, 3);
	head[4] = bed_offer_plain(bed, 0);
	head[5] = bed_offer_plain(bed, 4096);
	expect_one(bed, 1 + 157 + 53 + 2000, head, 6);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 2211});
}

static void
longest_frame_in_one_and_in_many_buffers(void **state)
{
	struct bed *bed = open_bed(BED_V1 | BED_MRG);
	uint16_t head[65];
	uint16_t i;

	head[0] = bed_offer_plain(bed, BED_HDR_LEN + MAX_FRAME);
	expect_one(bed, MAX_FRAME, head, 1);
	for (i = 0; i < RTE_DIM(head); i++)
		head[i] = bed_offer_plain(bed, 1024);
	expect_one(bed, MAX_FRAME, head, RTE_DIM(head));
	bed_offer_plain(bed, 2 * MAX_FRAME);
	expect_dropped(bed, MAX_FRAME + 1);
}

static void
buffer_longer_than_4_gib_is_used_from_its_front(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	struct ring_piece piece[3];
	uint16_t head;

	bed_place(bed, (uint32_t[]){12, 200}, 2, true, piece);
	piece[1].len = UINT32_MAX;
	piece[2] = (struct ring_piece){.gpa = 1, .len = UINT32_MAX, .writable = true};
	head = bed_add(bed, BED_SHAPE_DIRECT, piece, 3);
	expect_one(bed, 200, &head, 1);
}

static void
bytes_that_no_packet_uses_may_lie_nowhere(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	struct ring_piece piece[2];
	uint16_t head;

	bed_place(bed, (uint32_t[]){72}, 1, true, piece);
	piece[1] = (struct ring_piece){.gpa = BED_RAM + 4096, .len = 1000, .writable = true};
	head = bed_add(bed, BED_SHAPE_DIRECT, piece, 2);
	expect_one(bed, 60, &head, 1);
}

static void
buffer_too_small_drops_the_packet_when_not_merged(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint16_t head = bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){12, 60}, 2);

	bed_offer_plain(bed, 2048);
	expect_dropped(bed, 61);
	expect_one(bed, 60, &head, 1);
}

static void
first_buffer_must_hold_the_header(void **state)
{
	struct bed *bed = open_bed(BED_V1 | BED_MRG);

	bed_offer_plain(bed, BED_HDR_LEN - 1);
	bed_offer_plain(bed, 2048);
	expect_dropped(bed, 60);
}

static void
packet_larger_than_the_whole_ring_is_dropped(void **state)
{
	struct bed *bed = open_small_ring(BED_V1 | BED_MRG);
	uint16_t head[4];
	uint16_t i;

	for (i = 0; i < 4; i++)
		head[i] = bed_offer_plain(bed, 100);
	expect_dropped(bed, 400 - BED_HDR_LEN + 1);
	expect_one(bed, 400 - BED_HDR_LEN, head, 4);
}

static void
packet_waits_while_buffers_are_missing(void **state)
{
	struct bed *bed = open_small_ring(BED_V1 | BED_MRG);
	uint16_t head[4];
	uint16_t i;

	expect_refused(bed, 60);
	for (i = 0; i < 3; i++)
		head[i] = bed_offer_plain(bed, 100);
	expect_refused(bed, 300);
	head[3] = bed_offer_plain(bed, 100);
	expect_one(bed, 300, head, 4);
}

static void
burst_returns_short_at_the_first_packet_without_buffers(void **state)
{
	struct bed *bed = open_small_ring(BED_V1 | BED_MRG);
	struct rte_mbuf *pkts[3];
	uint16_t head[4];
	uint16_t i;

	for (i = 0; i < 4; i++)
		head[i] = bed_offer_plain(bed, 100);
	pkts[0] = packet(150, 1);
	pkts[1] = packet(250, 2);
	pkts[2] = packet(60, 3);
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, 3), 1);
	bed_expect_delivered(bed, 150, 1, head, 2);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 150});
	rte_pktmbuf_free_bulk(&pkts[1], 2);
}

static void
dropped_packets_do_not_disturb_their_neighbours(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	struct rte_mbuf *pkts[4];
	uint16_t head[2];

	head[0] = bed_offer_plain(bed, 200);
	head[1] = bed_offer_plain(bed, 200);
	pkts[0] = packet(189, 1);
	pkts[1] = packet(188, 2);
	pkts[2] = packet(MAX_FRAME + 1, 3);
	pkts[3] = packet(60, 4);
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, 4), 4);
	bed_expect_delivered(bed, 188, 2, &head[0], 1);
	bed_expect_delivered(bed, 60, 4, &head[1], 1);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 2, .bytes = 248, .dropped = 2});
}

static void
too_many_pieces_drop_the_packet(void **state)
{
	struct bed *bed = open_bed(BED_V1 | BED_MRG);
	static uint32_t ones[DYNVHOST_VQ_MAX_SEGS];
	uint16_t head[2];
	unsigned int i;

	for (i = 0; i < RTE_DIM(ones); i++)
		ones[i] = 1;
	head[0] = bed_offer(bed, BED_SHAPE_TABLE, ones, 600);
	head[1] = bed_offer(bed, BED_SHAPE_TABLE, ones, 424);
	bed_offer(bed, BED_SHAPE_TABLE, ones, 600);
	expect_dropped(bed, 1013);
	expect_one(bed, 1012, head, 2);
}

static void
buffers_lie_across_page_and_region_borders(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_ENQUEUE, .features = BED_V1, .lay_out = bed_lay_out_neighbours});
	const uint64_t borders[] = {(1 << 20) - 4 * GUEST_RAM_PAGE, 1 << 20};
	unsigned int i;
	uint32_t before;

	for (i = 0; i < RTE_DIM(borders); i++) {
		for (before = 1; before < 212; before += 3) {
			struct ring_piece piece = {
				.gpa = borders[i] - before, .len = 212, .writable = true};
			uint16_t head = bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);

			expect_one(bed, 200, &head, 1);
		}
	}
}

static void
region_borders_add_pieces(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_ENQUEUE,
		.features = BED_V1 | BED_INDIRECT,
		.lay_out = bed_lay_out_neighbours,
	});
	static struct ring_piece piece[DYNVHOST_VQ_MAX_SEGS];
	unsigned int i;

	/* As many pieces as fit, but one of them is two in host memory. */
	for (i = 0; i < RTE_DIM(piece); i++)
		piece[i] = (struct ring_piece){
			.gpa = (1 << 20) - 4096 + 4 * i, .len = 2, .writable = true};
	piece[1000].gpa = (1 << 20) - 1;
	bed_add(bed, BED_SHAPE_TABLE, piece, RTE_DIM(piece));
	expect_dropped(bed, 2 * DYNVHOST_VQ_MAX_SEGS - BED_HDR_LEN);
}

static void
positions_wrap_in_rings_of_all_sizes(void **state)
{
	static const uint16_t starts[] = {65530, 32760};
	unsigned int i;
	uint16_t k;

	for (i = 0; i < 2 * RTE_DIM(bed_format.sizes) && bed_format.sizes[i / 2] != 0; i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_ENQUEUE,
			.features = BED_V1 | BED_MRG,
			.size = bed_format.sizes[i / 2],
			.start = starts[i % 2],
		});

		for (k = 0; k < 20; k++) {
			uint16_t head = bed_offer_plain(bed, 2048);

			expect_one(bed, 60u + k, &head, 1);
		}
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, starts[i % 2] + 20u));
		bed_teardown(NULL);
	}
}

static void
merged_packets_across_the_wrap(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_ENQUEUE, .features = BED_V1 | BED_MRG, .size = 8, .start = 65530});
	unsigned int i;
	uint16_t head[7];
	uint16_t k;

	for (i = 0; i < 5; i++) {
		for (k = 0; k < RTE_DIM(head); k++)
			head[k] = bed_offer_plain(bed, 50);
		expect_one(bed, 330, head, RTE_DIM(head));
	}
}

static void
only_pages_that_are_written_are_opened_to_write(void **state)
{
	struct bed *bed = open_bed(BED_V1 | BED_MRG);
	uint64_t page = guest_ram_alloc(&bed->ram, 0, 8 * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	/* The packet takes the first two pages and part of the fifth; nothing of the seventh. */
	struct ring_piece piece[] = {
		{.gpa = page, .len = 2 * GUEST_RAM_PAGE, .writable = true},
		{.gpa = page + 4 * GUEST_RAM_PAGE, .len = 3 * GUEST_RAM_PAGE, .writable = true},
	};
	struct dynvhost_mem_stats before = bed_mem_stats(bed);
	struct dynvhost_mem_stats after;
	uint16_t head = bed_add(bed, BED_SHAPE_DIRECT, piece, 2);

	expect_one(bed, 2 * GUEST_RAM_PAGE, &head, 1);
	after = bed_mem_stats(bed);
	assert_int_equal(after.opens - before.opens, 3);
	assert_int_equal(after.storable_bytes - before.storable_bytes, 3 * GUEST_RAM_PAGE);
	assert_int_equal(after.loadable_bytes - before.loadable_bytes, 3 * GUEST_RAM_PAGE);
}

static void
tables_are_opened_to_read_only(void **state)
{
	struct bed *bed = open_bed(BED_V1);
	uint64_t page = guest_ram_alloc(&bed->ram, 0, 2 * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	struct ring_piece piece = {.gpa = page, .len = 100, .writable = true};
	struct dynvhost_mem_stats before = bed_mem_stats(bed);
	struct dynvhost_mem_stats after;

	bed_add_table(bed, &piece, 1, page + GUEST_RAM_PAGE);
	assert_int_equal(bed_enqueue(bed, packet(60, 1)), 1);
	after = bed_mem_stats(bed);
	assert_int_equal(after.storable_bytes - before.storable_bytes, GUEST_RAM_PAGE);
	assert_int_equal(after.loadable_bytes - before.loadable_bytes, 2 * GUEST_RAM_PAGE);
}

/* Send a packet of @p held bytes that says it has @p said; @p copied bytes must arrive. */
static void
expect_misfit(uint32_t held, uint32_t said, uint32_t copied)
{
	struct bed *bed = open_bed(BED_V1);
	uint16_t head = bed_offer_plain(bed, 2048);
	struct rte_mbuf *pkt = bed_packet(bed_small_pool(), held, 50, 1);
	uint8_t bytes[BED_HDR_LEN + 256] = {[10] = 1};

	assert_in_range(held, copied, 256);
	pkt->pkt_len = said;
	packet_fill(bytes + BED_HDR_LEN, held, 1);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, pkt), 1);
	bed_expect_written(bed, head, 0, bytes, BED_HDR_LEN + copied);
	bed_expect_used(bed, head, BED_HDR_LEN + said);
}

static void
mbuf_chain_longer_than_it_says_is_cut(void **state)
{
	expect_misfit(200, 120, 120);
}

static void
mbuf_chain_shorter_than_it_says_leaves_the_rest_unwritten(void **state)
{
	expect_misfit(60, 500, 60);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(one_buffer_with_each_header),
		BED_TEST(header_bytes_are_what_they_should_be),
		BED_TEST(header_over_any_number_of_descriptors),
		BED_TEST(empty_pieces_are_skipped),
		BED_TEST(mbufs_and_descriptors_are_cut_independently),
		BED_TEST(buffers_are_filled_before_the_next_is_begun),
		BED_TEST(merged_buffers_of_all_shapes_and_lengths),
		BED_TEST(longest_frame_in_one_and_in_many_buffers),
		BED_TEST(buffer_longer_than_4_gib_is_used_from_its_front),
		BED_TEST(bytes_that_no_packet_uses_may_lie_nowhere),
		BED_TEST(buffer_too_small_drops_the_packet_when_not_merged),
		BED_TEST(first_buffer_must_hold_the_header),
		BED_TEST(packet_larger_than_the_whole_ring_is_dropped),
		BED_TEST(packet_waits_while_buffers_are_missing),
		BED_TEST(burst_returns_short_at_the_first_packet_without_buffers),
		BED_TEST(dropped_packets_do_not_disturb_their_neighbours),
		BED_TEST(too_many_pieces_drop_the_packet),
		BED_TEST(buffers_lie_across_page_and_region_borders),
		BED_TEST(region_borders_add_pieces),
		BED_TEST(positions_wrap_in_rings_of_all_sizes),
		BED_TEST(merged_packets_across_the_wrap),
		BED_TEST(only_pages_that_are_written_are_opened_to_write),
		BED_TEST(tables_are_opened_to_read_only),
		BED_TEST(mbuf_chain_longer_than_it_says_is_cut),
		BED_TEST(mbuf_chain_shorter_than_it_says_leaves_the_rest_unwritten),
	};

	return bed_run(tests);
}
