/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Memory that cannot be opened now: bursts wait without a trace, go on when it can be opened, and
 * give a chain back empty when that takes too long.
 */

#include <string.h>

#include "bed.h"
#include "mock.h"

static struct bed *
open_bed(uint16_t index, uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = index,
		.features = BED_V1 | BED_INDIRECT | features,
		.start = 65535,
		.mem.granule = GUEST_RAM_PAGE,
	});
}

/* A buffer of @p n pieces of @p len bytes, each on a page of its own. */
static uint16_t
add_scattered(struct bed *bed, enum bed_shape shape, uint16_t n, uint32_t len)
{
	static struct ring_piece piece[DYNVHOST_VQ_MAX_SEGS];
	uint64_t gpa = guest_ram_alloc(&bed->ram, 0, n * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	uint16_t i;

	for (i = 0; i < n; i++)
		piece[i] = (struct ring_piece){
			.gpa = gpa + i * GUEST_RAM_PAGE,
			.len = len,
			.writable = bed->config.index == BED_ENQUEUE,
		};
	return bed_add(bed, shape, piece, n);
}

/* Send a frame on pages of its own. */
static uint16_t
send_apart(struct bed *bed, uint32_t frame_len, uint32_t seed)
{
	guest_ram_alloc(&bed->ram, 0, 0, GUEST_RAM_PAGE);
	return bed_send_plain(bed, frame_len, seed);
}

static uint16_t
offer_apart(struct bed *bed, uint32_t len)
{
	guest_ram_alloc(&bed->ram, 0, 0, GUEST_RAM_PAGE);
	return bed_offer_plain(bed, len);
}

/* Block or unblock the pages of a buffer's first piece. */
static void
block(struct bed *bed, uint16_t head)
{
	const struct ring_piece *piece = &bed->buffer[head].piece[0];

	bed_block(bed, piece->gpa, piece->len,
		piece->writable ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ);
}

static void
unblock(struct bed *bed, uint16_t head)
{
	const struct ring_piece *piece = &bed->buffer[head].piece[0];

	bed_unblock(bed, piece->gpa, piece->len,
		piece->writable ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ);
}

static void
dequeue_waits_and_goes_on(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t first = send_apart(bed, 60, 1);
	uint16_t second = send_apart(bed, 61, 2);
	uint16_t third = send_apart(bed, 62, 3);

	block(bed, second);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, first, 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_no_used(bed);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 2);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 60});

	unblock(bed, second);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 2);
	bed_expect_packet(bed->pkts[0], 61, 2, BED_ROOM);
	bed_expect_packet(bed->pkts[1], 62, 3, BED_ROOM);
	bed_expect_used(bed, second, 0);
	bed_expect_used(bed, third, 0);
	assert_int_equal(bed->vq.stall_since, 0);
}

static void
dequeue_gives_a_stalled_chain_back(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t first = send_apart(bed, 60, 1);
	uint16_t second = send_apart(bed, 61, 2);

	block(bed, first);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_age_stall(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 61, 2, BED_ROOM);
	bed_expect_used(bed, first, 0);
	bed_expect_used(bed, second, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 61, .stalled = 1});
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
	unblock(bed, first);
}

static void
dequeue_gives_a_chain_with_a_stalled_table_back(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint64_t table = guest_ram_alloc(&bed->ram, 0, GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	struct ring_piece piece = {.gpa = table + 512, .len = 72};
	uint16_t head = bed_add_table(bed, &piece, 1, table);

	bed_block(bed, table, 16, DYNVHOST_MEM_READ);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_no_used(bed);
	bed_age_stall(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.stalled = 1});
	bed_unblock(bed, table, 16, DYNVHOST_MEM_READ);
}

static void
stall_lasts_as_long_as_it_should(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t head = send_apart(bed, 60, 1);
	uint64_t begin = mock_now_ms();
	unsigned int looks = 0;
	uint64_t lasted;

	block(bed, head);
	while (bed->vq.stats.stalled == 0 && mock_now_ms() < begin + MOCK_DEADLINE_MS) {
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
		mock_relax(&looks);
	}
	lasted = mock_now_ms() - begin;
	assert_int_equal(bed->vq.stats.stalled, 1);
	assert_in_range(lasted, DYNVHOST_VQ_STALL_MS - 1, MOCK_DEADLINE_MS);
	bed_expect_used(bed, head, 0);
	unblock(bed, head);
}

static void
every_chain_has_a_stall_of_its_own(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t first = send_apart(bed, 60, 1);
	uint16_t second = send_apart(bed, 61, 2);

	block(bed, first);
	block(bed, second);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_age_stall(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, first, 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_no_used(bed);
	bed_age_stall(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, second, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.stalled = 2});
	unblock(bed, first);
	unblock(bed, second);
}

static void
start_forgets_the_stall(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 0);
	uint16_t head = send_apart(bed, 60, 1);

	block(bed, head);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_age_stall(bed);
	bed_restart(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_no_used(bed);
	unblock(bed, head);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, head, 0);
}

static void
enqueue_waits_and_goes_on(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, 0);
	struct rte_mbuf *pkts[2];
	uint16_t head[2];

	head[0] = offer_apart(bed, 200);
	head[1] = offer_apart(bed, 200);
	pkts[0] = bed_packet(bed_pool(), 60, 0, 1);
	pkts[1] = bed_packet(bed_pool(), 61, 0, 2);
	block(bed, head[1]);
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, 2), 1);
	bed_expect_delivered(bed, 60, 1, &head[0], 1);
	assert_int_equal(bed->vq.enqueue(&bed->vq, &pkts[1], 1), 0);
	bed_expect_no_used(bed);

	unblock(bed, head[1]);
	assert_int_equal(bed->vq.enqueue(&bed->vq, &pkts[1], 1), 1);
	bed_expect_delivered(bed, 61, 2, &head[1], 1);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 2, .bytes = 121});
}

static void
packet_stays_when_its_buffer_has_stalled(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, 0);
	struct rte_mbuf *pkt = bed_packet(bed_pool(), 60, 0, 1);
	uint16_t head[2];

	head[0] = offer_apart(bed, 200);
	head[1] = offer_apart(bed, 200);
	block(bed, head[0]);
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, &pkt, 1), 0);
	bed_age_stall(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, &pkt, 1), 1);
	bed_expect_used(bed, head[0], 0);
	bed_expect_delivered(bed, 60, 1, &head[1], 1);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 60, .stalled = 1});
	unblock(bed, head[0]);
}

static void
stalled_last_buffer_is_given_back_without_a_packet(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, 0);
	uint16_t head = offer_apart(bed, 200);

	block(bed, head);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 1)), 0);
	bed_age_stall(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 1)), 0);
	bed_expect_used(bed, head, 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.stalled = 1});
	unblock(bed, head);
}

static void
merged_packet_writes_nothing_before_its_last_buffer_opens(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, BED_MRG);
	struct rte_mbuf *pkt = bed_packet(bed_pool(), 500, 0, 1);
	uint16_t head[6];
	unsigned int i;

	for (i = 0; i < RTE_DIM(head); i++)
		head[i] = offer_apart(bed, 200);
	block(bed, head[2]);
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, &pkt, 1), 0);
	bed_expect_no_used(bed);

	/* The buffers the packet was to take are given back, the packet takes the next ones. */
	bed_age_stall(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, &pkt, 1), 1);
	for (i = 0; i < 3; i++)
		bed_expect_used(bed, head[i], 0);
	bed_expect_delivered(bed, 500, 1, &head[3], 3);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 500, .stalled = 3});
	unblock(bed, head[2]);
}

static void
one_burst_opens_so_many_pages_and_the_next_one_the_rest(void **state)
{
	const uint16_t n = DYNVHOST_VQ_OPEN_BUDGET * 2 + 10;
	uint16_t index;

	for (index = BED_ENQUEUE; index <= BED_DEQUEUE; index++) {
		struct bed *bed = open_bed(index, 0);
		struct rte_mbuf *pkt = bed_packet(bed_pool(), n * 12u - 12, 0, 1);
		struct dynvhost_mem_stats stats;
		uint64_t opens = 0;
		unsigned int bursts;
		uint16_t moved = 0;
		uint16_t head = add_scattered(bed, BED_SHAPE_DIRECT, n, 12);

		for (bursts = 0; moved == 0 && bursts < 10; bursts++) {
			dynvhost_mem_stats_get(bed->mem, &stats);
			opens = stats.opens;
			if (index == BED_DEQUEUE)
				moved = bed_dequeue(bed, bed_pool(), 32);
			else
				moved = bed->vq.enqueue(&bed->vq, &pkt, 1);
			dynvhost_mem_stats_get(bed->mem, &stats);
			assert_in_range(stats.opens - opens, 1, DYNVHOST_VQ_OPEN_BUDGET);
		}
		assert_int_equal(moved, 1);
		assert_int_equal(bursts, 3);
		bed_expect_used(bed, head, index == BED_DEQUEUE ? 0 : n * 12u);
		rte_pktmbuf_free(index == BED_DEQUEUE ? bed->pkts[0] : NULL);
		if (index == BED_DEQUEUE)
			rte_pktmbuf_free(pkt);
		bed_teardown(NULL);
	}
}

static void
cap_of_open_bytes_stalls_the_queue(void **state)
{
	/* Three pages of rings and one more. */
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = BED_V1,
		.mem = {.granule = GUEST_RAM_PAGE, .max_bytes = 4 * GUEST_RAM_PAGE},
		.size = 64,
	});
	uint16_t head[3];

	head[0] = send_apart(bed, 60, 1);
	head[1] = send_apart(bed, 2 * GUEST_RAM_PAGE, 2);
	head[2] = bed_send_plain(bed, 61, 3);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, head[0], 0);
	bed_age_stall(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head[1], 0);
	bed_age_stall(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head[2], 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = 60, .stalled = 2});
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(dequeue_waits_and_goes_on),
		BED_TEST(dequeue_gives_a_stalled_chain_back),
		BED_TEST(dequeue_gives_a_chain_with_a_stalled_table_back),
		BED_TEST(stall_lasts_as_long_as_it_should),
		BED_TEST(every_chain_has_a_stall_of_its_own),
		BED_TEST(start_forgets_the_stall),
		BED_TEST(enqueue_waits_and_goes_on),
		BED_TEST(packet_stays_when_its_buffer_has_stalled),
		BED_TEST(stalled_last_buffer_is_given_back_without_a_packet),
		BED_TEST(merged_packet_writes_nothing_before_its_last_buffer_opens),
		BED_TEST(one_burst_opens_so_many_pages_and_the_next_one_the_rest),
		BED_TEST(cap_of_open_bytes_stalls_the_queue),
	};

	return bed_run(tests);
}
