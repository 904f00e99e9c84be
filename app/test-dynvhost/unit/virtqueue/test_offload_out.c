/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What the application asks for by an mbuf's flags is left to the guest by the header where the
 * guest takes it, and done where it does not. The application's mbuf is never written.
 */

#include <string.h>

#include "bed.h"
#include "frame.h"
#include "packet.h"

#define ALL_GUEST (BED_GUEST_CSUM | BED_GUEST_TSO | BED_GUEST_ECN | BED_GUEST_UFO)

#define TCPV4 VIRTIO_NET_HDR_GSO_TCPV4
#define TCPV6 VIRTIO_NET_HDR_GSO_TCPV6
#define UDP   VIRTIO_NET_HDR_GSO_UDP
#define ECN   VIRTIO_NET_HDR_GSO_ECN

static uint8_t sent[PACKET_MAX];
static uint8_t expected[BED_HDR_LEN + PACKET_MAX];
static uint8_t *const expected_frame = expected + BED_HDR_LEN;

static struct bed *
open_bed(uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = BED_ENQUEUE,
		.features = features | BED_V1,
	});
}

/* An mbuf chain of bytes, in segments of @p seg_len; 0: as long as they can be. */
static struct rte_mbuf *
to_mbuf(struct rte_mempool *pool, const uint8_t *bytes, uint32_t len, uint32_t seg_len)
{
	uint32_t room = rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM;
	uint32_t part = seg_len != 0 ? seg_len : RTE_MIN(room, len);
	struct rte_mbuf *pkt = bed_packet(pool, len, part, 0);
	struct rte_mbuf *m;

	for (m = pkt; m != NULL; m = m->next) {
		memcpy(rte_pktmbuf_mtod(m, void *), bytes, m->data_len);
		bytes += m->data_len;
	}
	return pkt;
}

/* A frame with rubbish for the checksums that are asked for. */
static struct rte_mbuf *
asking(struct rte_mempool *pool, uint32_t seg_len, const struct frame *frame, uint64_t flags)
{
	struct rte_mbuf *pkt;

	if (flags & RTE_MBUF_F_TX_IP_CKSUM)
		memset(sent + frame->l2_len + 10, 0x5a, 2);
	if (frame->csum_offset != 0 &&
		(flags & (RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)))
		memset(sent + frame->l4_at + frame->csum_offset, 0xa5, 2);
	pkt = to_mbuf(pool, sent, frame->len, seg_len);
	pkt->ol_flags = flags;
	pkt->l2_len = frame->l2_len;
	pkt->l3_len = frame->l3_len;
	pkt->l4_len = frame->l4_len;
	return pkt;
}

static uint64_t
l3_flag(const struct frame_spec *spec)
{
	return spec->ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
}

static uint64_t
l4_flag(const struct frame_spec *spec)
{
	return spec->proto == FRAME_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
}

/* The first tag of expected_frame[], which grows by it. */
static void
expect_tag(uint32_t len, uint16_t tci)
{
	memmove(expected_frame + 16, expected_frame + 12, len - 12);
	expected_frame[12] = 0x81;
	expected_frame[13] = 0;
	expected_frame[14] = (uint8_t)(tci >> 8);
	expected_frame[15] = (uint8_t)tci;
}

/* Send, and expect this header and what is in expected_frame[]; and that the mbuf is as it was. */
static void
deliver(struct bed *bed, struct rte_mbuf *pkt, const struct virtio_net_hdr *hdr, uint32_t len)
{
	static uint8_t before[PACKET_MAX];
	uint16_t head = bed_offer_plain(bed, BED_HDR_LEN + len + 10);
	const uint64_t flags = pkt->ol_flags;
	const uint32_t pkt_len = pkt->pkt_len;
	const uint16_t one = 1;
	struct rte_mbuf *m;
	uint32_t at = 0;

	for (m = pkt; m != NULL; m = m->next) {
		memcpy(before + at, rte_pktmbuf_mtod(m, void *), m->data_len);
		at += m->data_len;
		rte_mbuf_refcnt_update(m, 1);
	}
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, pkt), 1);
	memset(expected, 0, BED_HDR_LEN);
	memcpy(expected, hdr, sizeof(*hdr));
	memcpy(expected + sizeof(*hdr), &one, sizeof(one));
	bed_expect_written(bed, head, 0, expected, BED_HDR_LEN + len);
	bed_expect_used(bed, head, BED_HDR_LEN + len);
	bed_expect_memory(bed);

	assert_int_equal(pkt->ol_flags, flags);
	assert_int_equal(pkt->pkt_len, pkt_len);
	for (at = 0, m = pkt; m != NULL; m = m->next) {
		assert_memory_equal(rte_pktmbuf_mtod(m, void *), before + at, m->data_len);
		at += m->data_len;
	}
	rte_pktmbuf_free(pkt);
}

/* Send; it must be consumed and not arrive, and what follows must. */
static void
expect_dropped(struct bed *bed, struct rte_mbuf *pkt)
{
	uint64_t dropped = bed->vq.stats.dropped;
	uint16_t head;

	head = bed_offer_plain(bed, BED_HDR_LEN + pkt->pkt_len + 4);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, pkt), 1);
	assert_int_equal(bed->vq.stats.dropped, dropped + 1);
	bed_expect_memory(bed);
	assert_int_equal(bed_enqueue(bed, to_mbuf(bed_pool(), sent, 60, 0)), 1);
	bed_expect_used(bed, head, BED_HDR_LEN + 60);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

static void
checksums_are_left_to_the_guest(void **state)
{
	struct bed *bed = open_bed(BED_GUEST_CSUM);
	unsigned int i;

	for (i = 0; i < FRAME_KINDS; i++) {
		const struct frame_spec spec = frame_kind(i);
		struct rte_mempool *pool = i % 3 == 0 ? bed_small_pool() : bed_pool();
		struct frame frame = frame_build(expected_frame, &spec);
		const struct virtio_net_hdr hdr = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.csum_start = frame.l4_at,
			.csum_offset = frame.csum_offset,
		};

		frame_make_partial(expected_frame, &frame);
		frame_build(sent, &spec);
		deliver(bed, asking(pool, 0, &frame, l3_flag(&spec) | l4_flag(&spec)), &hdr,
			frame.len);
	}
}

static void
checksums_are_completed_where_the_guest_takes_no_partial_ones(void **state)
{
	static const uint32_t seg_len[] = {0, 64, 63, 33, 1};
	/* Segments mean nothing where partial checksums do not. */
	struct bed *bed = open_bed(BED_GUEST_TSO | BED_GUEST_UFO);
	unsigned int i, k;

	for (i = 0; i < FRAME_KINDS; i++) {
		const struct frame_spec spec = frame_kind(i);
		for (k = 0; k < RTE_DIM(seg_len); k++) {
			struct frame frame = frame_build(expected_frame, &spec);

			frame_build(sent, &spec);
			deliver(bed,
				asking(k == 0 ? bed_pool() : bed_small_pool(), seg_len[k], &frame,
					l3_flag(&spec) | l4_flag(&spec)),
				&(struct virtio_net_hdr){0}, frame.len);
			assert_true(frame_is_complete(expected_frame, &frame));
		}
	}
}

/* Padding behind what the layer 3 header speaks of is none of its business. */
static void
checksum_ends_where_the_packet_does(void **state)
{
	struct bed *bed = open_bed(0);
	unsigned int i;

	for (i = 0; i < FRAME_KINDS; i++) {
		struct frame_spec spec = frame_kind(i);
		struct frame frame;

		spec.payload = i;
		frame = frame_build(expected_frame, &spec);
		memset(expected_frame + frame.len, 0xb7, 11);
		frame = frame_build(sent, &spec);
		memset(sent + frame.len, 0xb7, 11);
		frame.len += 11;
		deliver(bed, asking(bed_pool(), 0, &frame, l3_flag(&spec) | l4_flag(&spec)),
			&(struct virtio_net_hdr){0}, frame.len);
	}
}

static void
checksum_of_udp_is_never_zero(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_UDP, .payload = 2};
	struct bed *bed = open_bed(0);
	struct frame frame = frame_build(expected_frame, &spec);
	uint16_t sum;

	frame_make_partial(expected_frame, &frame);
	memset(expected_frame + frame.len - 2, 0, 2);
	sum = (uint16_t)~frame_sum(expected_frame + frame.l4_at, frame.len - frame.l4_at);
	expected_frame[frame.len - 2] = (uint8_t)(sum >> 8);
	expected_frame[frame.len - 1] = (uint8_t)sum;
	memcpy(sent, expected_frame, frame.len);
	memset(expected_frame + frame.l4_at + 6, 0xff, 2);
	deliver(bed, asking(bed_pool(), 0, &frame, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM),
		&(struct virtio_net_hdr){0}, frame.len);
}

static void
checksum_of_ipv4_is_always_completed(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .ip_options = 40, .payload = 100};
	unsigned int i;

	for (i = 0; i < 2; i++) {
		struct bed *bed = open_bed(i == 0 ? 0 : ALL_GUEST);
		struct frame frame = frame_build(expected_frame, &spec);

		frame_build(sent, &spec);
		deliver(bed, asking(bed_pool(), 0, &frame, RTE_MBUF_F_TX_IP_CKSUM),
			&(struct virtio_net_hdr){0}, frame.len);
		/* Both, from mbufs that cut the headers. */
		frame_build(sent, &spec);
		if (i == 1)
			frame_make_partial(expected_frame, &frame);
		deliver(bed,
			asking(bed_small_pool(), 15, &frame,
				RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4 |
					RTE_MBUF_F_TX_TCP_CKSUM),
			&(struct virtio_net_hdr){
				.flags = i == 1 ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
				.csum_start = i == 1 ? frame.l4_at : 0,
				.csum_offset = i == 1 ? 16 : 0,
			},
			frame.len);
		bed_teardown(NULL);
	}
}

/* A segment type, the frame it is in, and the features it takes. */
static const struct {
	uint8_t type;
	struct frame_spec spec;
	uint64_t features;
} gso_cases[] = {
	{TCPV4, {.proto = FRAME_TCP, .l4_options = 12}, 1ULL << VIRTIO_NET_F_GUEST_TSO4},
	{TCPV6, {.proto = FRAME_TCP, .ipv6 = true, .tagged = true},
		1ULL << VIRTIO_NET_F_GUEST_TSO6},
	/* Without GUEST_ECN the bit is not set; the flag in the packet stays. */
	{TCPV4, {.proto = FRAME_TCP, .tcp_flags = FRAME_TCP_ACK | FRAME_TCP_CWR},
		1ULL << VIRTIO_NET_F_GUEST_TSO4},
	{TCPV4 | ECN, {.proto = FRAME_TCP, .tcp_flags = FRAME_TCP_ACK | FRAME_TCP_CWR},
		1ULL << VIRTIO_NET_F_GUEST_TSO4 | BED_GUEST_ECN},
	{TCPV6 | ECN, {.proto = FRAME_TCP, .ipv6 = true, .tcp_flags = FRAME_TCP_CWR},
		1ULL << VIRTIO_NET_F_GUEST_TSO6 | BED_GUEST_ECN},
	{TCPV4, {.proto = FRAME_TCP}, 1ULL << VIRTIO_NET_F_GUEST_TSO4 | BED_GUEST_ECN},
	{UDP, {.proto = FRAME_UDP}, BED_GUEST_UFO},
	{UDP, {.proto = FRAME_UDP, .ipv6 = true}, BED_GUEST_UFO},
};

/* The mbuf of a case, from sent[]; what the guest is to get in expected_frame[]. */
static struct rte_mbuf *
asking_gso(unsigned int i, uint32_t payload, struct frame *frame, struct virtio_net_hdr *hdr)
{
	struct frame_spec spec = gso_cases[i].spec;
	bool tcp = spec.proto == FRAME_TCP;
	struct rte_mbuf *pkt;

	spec.payload = payload;
	*frame = frame_build(expected_frame, &spec);
	/* With the length of all of it, so that it can be segmented again. */
	frame_make_partial(expected_frame, frame);
	frame_build(sent, &spec);
	pkt = asking(bed_pool(), 0, frame,
		l3_flag(&spec) | (tcp ? RTE_MBUF_F_TX_TCP_SEG : RTE_MBUF_F_TX_UDP_SEG));
	pkt->tso_segsz = 1448;
	*hdr = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = gso_cases[i].type,
		.gso_size = 1448,
		.hdr_len = (uint16_t)(frame->l4_at + frame->l4_len),
		.csum_start = frame->l4_at,
		.csum_offset = frame->csum_offset,
	};
	return pkt;
}

static void
segments_are_left_to_the_guest(void **state)
{
	static const uint32_t payload[] = {3000, 65000};
	unsigned int i, k;

	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		struct bed *bed = open_bed(BED_GUEST_CSUM | gso_cases[i].features);

		for (k = 0; k < RTE_DIM(payload); k++) {
			struct virtio_net_hdr hdr;
			struct frame frame;
			struct rte_mbuf *pkt = asking_gso(i, payload[k], &frame, &hdr);

			deliver(bed, pkt, &hdr, frame.len);
		}
		bed_teardown(NULL);
	}
}

static void
segments_the_guest_does_not_take_are_dropped(void **state)
{
	struct virtio_net_hdr hdr;
	struct frame frame;
	unsigned int i;

	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		struct bed *bed = open_bed((ALL_GUEST | BED_GUEST_ECN) & ~gso_cases[i].features);

		expect_dropped(bed, asking_gso(i, 5000, &frame, &hdr));
		bed_teardown(NULL);
	}
}

static void
tags_are_inserted(void **state)
{
	struct bed *bed = open_bed(ALL_GUEST);
	struct virtio_net_hdr hdr = {0};
	struct rte_mbuf *pkt;
	struct frame frame;
	unsigned int i;

	for (i = 14; i < 80; i++) {
		packet_fill(sent, i, i);
		memcpy(expected_frame, sent, i);
		expect_tag(i, 0xe123);
		pkt = to_mbuf(bed_small_pool(), sent, i, i % 3 == 0 ? 5 : 0);
		pkt->ol_flags = RTE_MBUF_F_TX_VLAN;
		pkt->vlan_tci = 0xe123;
		deliver(bed, pkt, &hdr, i + 4);
	}
	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		pkt = asking_gso(i, 9000, &frame, &hdr);
		if (gso_cases[i].spec.tcp_flags != 0)
			hdr.gso_type |= ECN;
		pkt->ol_flags |= RTE_MBUF_F_TX_VLAN;
		pkt->vlan_tci = 5;
		expect_tag(frame.len, 5);
		hdr.csum_start += 4;
		hdr.hdr_len += 4;
		deliver(bed, pkt, &hdr, frame.len + 4);
	}
}

static void
tags_and_complete_checksums_together(void **state)
{
	struct bed *bed = open_bed(0);
	unsigned int i;

	for (i = 0; i < FRAME_KINDS; i++) {
		const struct frame_spec spec = frame_kind(i);
		struct frame frame = frame_build(expected_frame, &spec);
		struct rte_mbuf *pkt;

		frame_build(sent, &spec);
		pkt = asking(bed_small_pool(), 31, &frame,
			l3_flag(&spec) | l4_flag(&spec) | RTE_MBUF_F_TX_VLAN);
		pkt->vlan_tci = (uint16_t)i;
		expect_tag(frame.len, (uint16_t)i);
		deliver(bed, pkt, &(struct virtio_net_hdr){0}, frame.len + 4);
	}
}

/* A tag may be what makes a packet too long for a buffer. */
static void
room_is_made_for_tags(void **state)
{
	struct bed *bed = open_bed(0);
	struct rte_mbuf *pkt;
	uint16_t head;

	packet_fill(sent, 100, 1);
	memcpy(expected_frame, sent, 100);
	expect_tag(100, 9);
	memset(expected, 0, BED_HDR_LEN);
	expected[10] = 1;
	pkt = to_mbuf(bed_pool(), sent, 100, 0);
	pkt->ol_flags = RTE_MBUF_F_TX_VLAN;
	pkt->vlan_tci = 9;
	rte_mbuf_refcnt_update(pkt, 1);

	head = bed_offer_plain(bed, BED_HDR_LEN + 103);
	assert_int_equal(bed_enqueue(bed, pkt), 1);
	bed_expect_no_used(bed);
	assert_int_equal(bed->vq.stats.dropped, 1);
	assert_int_equal(bed_enqueue(bed, to_mbuf(bed_pool(), sent, 60, 0)), 1);
	bed_expect_used(bed, head, BED_HDR_LEN + 60);

	head = bed_offer_plain(bed, BED_HDR_LEN + 104);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, pkt), 1);
	bed_expect_written(bed, head, 0, expected, BED_HDR_LEN + 104);
	bed_expect_used(bed, head, BED_HDR_LEN + 104);
}

static void
changed_packets_go_into_merged_buffers(void **state)
{
	struct bed *bed = open_bed(BED_MRG | ALL_GUEST);
	uint16_t head[40], n;
	struct virtio_net_hdr hdr;
	struct frame frame;
	struct rte_mbuf *pkt = asking_gso(1, 2000, &frame, &hdr);
	uint32_t done = 0, len = BED_HDR_LEN + frame.len + 4;
	unsigned int i;

	pkt->ol_flags |= RTE_MBUF_F_TX_VLAN;
	pkt->vlan_tci = 77;
	expect_tag(frame.len, 77);
	hdr.csum_start += 4;
	hdr.hdr_len += 4;
	n = (uint16_t)((len + 59) / 60);
	assert_in_range(n, 2, RTE_DIM(head));
	memset(expected, 0, BED_HDR_LEN);
	memcpy(expected, &hdr, sizeof(hdr));
	memcpy(expected + sizeof(hdr), &n, sizeof(n));
	for (i = 0; i < n; i++)
		head[i] = bed_offer_plain(bed, 60);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, pkt), 1);
	for (i = 0; i < n; i++, done += 60) {
		bed_expect_written(bed, head[i], 0, expected + done, RTE_MIN(len - done, 60u));
		bed_expect_used(bed, head[i], RTE_MIN(len - done, 60u));
	}
}

static void
flags_of_receivers_ask_for_nothing(void **state)
{
	struct bed *bed = open_bed(ALL_GUEST);
	struct rte_mbuf *pkt;

	packet_fill(sent, 200, 1);
	memcpy(expected_frame, sent, 200);
	pkt = to_mbuf(bed_pool(), sent, 200, 0);
	pkt->ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_VLAN |
			RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_TX_IPV4;
	pkt->tso_segsz = 100;
	deliver(bed, pkt, &(struct virtio_net_hdr){0}, 200);
}

static void
checksum_of_sctp_is_left_to_a_guest_that_takes_it(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_SCTP, .payload = 100};
	const uint64_t flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_SCTP_CKSUM;
	struct bed *bed = open_bed(ALL_GUEST);
	struct frame frame = frame_build(expected_frame, &spec);

	frame_build(sent, &spec);
	deliver(bed, asking(bed_pool(), 0, &frame, flags),
		&(struct virtio_net_hdr){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.csum_start = frame.l4_at,
			.csum_offset = 8,
		},
		frame.len);
	bed_teardown(NULL);

	bed = open_bed(0);
	expect_dropped(bed, asking(bed_pool(), 0, &frame, flags));
}

static void
packets_that_lack_their_headers_are_dropped(void **state)
{
	static const struct {
		uint8_t l2, l4;
		uint16_t l3;
		uint64_t flags;
	} bad[] = {
		{0, 20, 20, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{13, 20, 20, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{14, 20, 0, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{14, 20, 19, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM},
		{14, 20, 39, RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM},
		{14, 20, 19, RTE_MBUF_F_TX_IP_CKSUM},
		{14, 20, 167, RTE_MBUF_F_TX_IP_CKSUM},
		{14, 20, 149, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM},
		{14, 20, 159, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM},
		{127, 20, 40, RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_CKSUM},
		{14, 19, 20, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_SEG},
		{14, 147, 20, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_SEG},
		{14, 7, 20, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_SEG},
		{127, 255, 511, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_SEG},
	};
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 180 - 54};
	unsigned int i, k;

	for (k = 0; k < 2; k++) {
		struct bed *bed = open_bed(k == 0 ? ALL_GUEST : 0);
		struct frame frame = frame_build(sent, &spec);

		for (i = 0; i < RTE_DIM(bad); i++) {
			struct rte_mbuf *pkt = asking(bed_small_pool(), 50, &frame, bad[i].flags);

			pkt->l2_len = bad[i].l2;
			pkt->l3_len = bad[i].l3;
			pkt->l4_len = bad[i].l4;
			pkt->tso_segsz = 100;
			expect_dropped(bed, pkt);
		}
		bed_teardown(NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(checksums_are_left_to_the_guest),
		BED_TEST(checksums_are_completed_where_the_guest_takes_no_partial_ones),
		BED_TEST(checksum_ends_where_the_packet_does),
		BED_TEST(checksum_of_udp_is_never_zero),
		BED_TEST(checksum_of_ipv4_is_always_completed),
		BED_TEST(segments_are_left_to_the_guest),
		BED_TEST(segments_the_guest_does_not_take_are_dropped),
		BED_TEST(tags_are_inserted),
		BED_TEST(tags_and_complete_checksums_together),
		BED_TEST(room_is_made_for_tags),
		BED_TEST(changed_packets_go_into_merged_buffers),
		BED_TEST(flags_of_receivers_ask_for_nothing),
		BED_TEST(checksum_of_sctp_is_left_to_a_guest_that_takes_it),
		BED_TEST(packets_that_lack_their_headers_are_dropped),
	};

	return bed_run(tests);
}
