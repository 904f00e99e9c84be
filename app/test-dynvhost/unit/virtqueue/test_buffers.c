/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * In what mbufs applications get packets that do not fit one: chains, one external buffer
 * (ext-buffer), or none at all (linear-buffer).
 */

#include <string.h>

#include <rte_malloc.h>

#include "bed.h"
#include "packet.h"

/** What an external buffer holds beside the packet: headroom and the count of its users. */
#define MAX_EXTERNAL (UINT16_MAX - RTE_PKTMBUF_HEADROOM - 64)

static uint8_t bytes[PACKET_MAX];

static struct bed *
open_bed(bool linear, bool external)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1 | BED_INDIRECT});

	bed->vq.app.linear_buffer = linear;
	bed->vq.app.ext_buffer = external;
	return bed;
}

static void
receive(struct bed *bed, uint32_t len, uint32_t seed, uint16_t n)
{
	uint16_t head = bed_send_plain(bed, len, seed);

	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), n);
	bed_expect_used(bed, head, 0);
	bed_expect_memory(bed);
}

/* One mbuf, in which the whole packet lies outside. */
static void
expect_external(struct bed *bed, uint32_t len, uint32_t seed)
{
	struct rte_mbuf *pkt;

	receive(bed, len, seed, 1);
	pkt = bed->pkts[0];
	assert_true(RTE_MBUF_HAS_EXTBUF(pkt));
	assert_int_equal(pkt->nb_segs, 1);
	assert_null(pkt->next);
	assert_int_equal(pkt->pkt_len, len);
	assert_int_equal(pkt->data_len, len);
	assert_int_equal(rte_pktmbuf_headroom(pkt), RTE_PKTMBUF_HEADROOM);
	assert_int_equal(pkt->ol_flags, RTE_MBUF_F_EXTERNAL);
	memcpy(bytes, rte_pktmbuf_mtod(pkt, void *), len);
	assert_true(packet_matches(bytes, len, seed));
	rte_pktmbuf_free(pkt);
}

static void
what_fits_an_mbuf_lies_in_it(void **state)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		struct bed *bed = open_bed(i & 1, i & 2);

		receive(bed, 60, 1, 1);
		bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
		receive(bed, BED_ROOM, 2, 1);
		bed_expect_packet(bed->pkts[0], BED_ROOM, 2, BED_ROOM);
		bed_teardown(NULL);
	}
}

static void
long_packets_come_in_one_external_buffer(void **state)
{
	static const uint32_t lens[] = {BED_ROOM + 1, 9000, 40000, MAX_EXTERNAL};
	struct rte_malloc_socket_stats before, after;
	unsigned int i, k;

	assert_int_equal(rte_malloc_get_socket_stats(0, &before), 0);
	for (k = 0; k < 2; k++) {
		struct bed *bed = open_bed(k == 1, true);

		for (i = 0; i < RTE_DIM(lens); i++)
			expect_external(bed, lens[i], i);
		bed_teardown(NULL);
	}
	assert_int_equal(rte_malloc_get_socket_stats(0, &after), 0);
	assert_int_equal(before.alloc_count, after.alloc_count);
}

static void
what_no_external_buffer_holds_comes_in_a_chain(void **state)
{
	struct bed *bed = open_bed(false, true);

	receive(bed, 65535, 3, 1);
	bed_expect_packet(bed->pkts[0], 65535, 3, BED_ROOM);
}

static void
long_packets_are_dropped_where_only_one_mbuf_will_do(void **state)
{
	struct bed *bed = open_bed(true, false);

	receive(bed, BED_ROOM + 1, 1, 0);
	receive(bed, 65535, 2, 0);
	receive(bed, BED_ROOM, 3, 1);
	bed_expect_packet(bed->pkts[0], BED_ROOM, 3, BED_ROOM);
	bed_expect_stats(
		bed, (struct dynvhost_vq_stats){.packets = 1, .bytes = BED_ROOM, .dropped = 2});
	bed_teardown(NULL);

	bed = open_bed(true, true);
	receive(bed, 65535, 2, 0);
	assert_int_equal(bed->vq.stats.dropped, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(what_fits_an_mbuf_lies_in_it),
		BED_TEST(long_packets_come_in_one_external_buffer),
		BED_TEST(what_no_external_buffer_holds_comes_in_a_chain),
		BED_TEST(long_packets_are_dropped_where_only_one_mbuf_will_do),
	};

	return bed_run(tests);
}
