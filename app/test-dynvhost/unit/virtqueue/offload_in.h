/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_OFFLOAD_IN_H
#define DYNVHOST_TEST_OFFLOAD_IN_H

/** @file Frames from the guest with a header each, and what the mbufs must say that come of them. */

#include <string.h>

#include <rte_mbuf_ptype.h>

#include "bed.h"
#include "frame.h"
#include "packet.h"

#define ALL_HOST    (BED_CSUM | BED_HOST_TSO | BED_HOST_ECN | BED_HOST_UFO)
#define GSO_FEATURE (1ULL << VIRTIO_NET_F_GSO)

#define NEEDS_CSUM VIRTIO_NET_HDR_F_NEEDS_CSUM
#define TCPV4      VIRTIO_NET_HDR_GSO_TCPV4
#define TCPV6      VIRTIO_NET_HDR_GSO_TCPV6
#define UDP        VIRTIO_NET_HDR_GSO_UDP
#define ECN        VIRTIO_NET_HDR_GSO_ECN

/* Header and frame as the guest sends them. */
static uint8_t sent[BED_HDR_LEN + PACKET_MAX];
static uint8_t *const sent_frame = sent + BED_HDR_LEN;
static uint8_t received[PACKET_MAX];

/* What an mbuf must say; all else is 0. */
struct saying {
	uint64_t ol_flags;
	uint32_t packet_type;
	uint16_t l2_len, l3_len, l4_len, tso_segsz;
};

static inline struct bed *
open_bed(uint64_t features)
{
	return bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = features | BED_V1 | BED_INDIRECT,
		.mem.granule = GUEST_RAM_PAGE,
	});
}

/* Send what is in sent[], the frame of @p len bytes, behind @p hdr. */
static inline uint16_t
send_frame(struct bed *bed, const struct virtio_net_hdr *hdr, uint32_t len)
{
	uint32_t cut = bed->vq.hdr_len + len;
	uint8_t *from = sent_frame - bed->vq.hdr_len;

	memset(from, 0xff, bed->vq.hdr_len);
	memcpy(from, hdr, sizeof(*hdr));
	return bed_send_bytes(bed, BED_SHAPE_DIRECT, &cut, 1, from);
}

static inline void
expect_saying(const struct rte_mbuf *pkt, const struct saying *saying)
{
	assert_int_equal(pkt->ol_flags, saying->ol_flags);
	assert_int_equal(pkt->packet_type, saying->packet_type);
	assert_int_equal(pkt->l2_len, saying->l2_len);
	assert_int_equal(pkt->l3_len, saying->l3_len);
	assert_int_equal(pkt->l4_len, saying->l4_len);
	assert_int_equal(pkt->tso_segsz, saying->tso_segsz);
}

/* Send, and expect in received[] a frame of the same length that says what it must. */
static inline void
deliver_to(struct bed *bed, struct rte_mempool *pool, const struct virtio_net_hdr *hdr,
	uint32_t len, const struct saying *saying)
{
	uint16_t head = send_frame(bed, hdr, len);
	const void *data;

	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, pool, 32), 1);
	bed_expect_used(bed, head, 0);
	bed_expect_memory(bed);
	assert_int_equal(bed->pkts[0]->pkt_len, len);
	expect_saying(bed->pkts[0], saying);
	data = rte_pktmbuf_read(bed->pkts[0], 0, len, received);
	if (data != received)
		memcpy(received, data, len);
	rte_pktmbuf_free(bed->pkts[0]);
}

static inline void
deliver(struct bed *bed, const struct virtio_net_hdr *hdr, uint32_t len,
	const struct saying *saying)
{
	deliver_to(bed, bed_pool(), hdr, len, saying);
}

static inline void
expect_unchanged(uint32_t len)
{
	assert_memory_equal(received, sent_frame, len);
}

/* Send; it must be returned and not arrive, and what follows must. */
static inline void
expect_dropped(struct bed *bed, const struct virtio_net_hdr *hdr, uint32_t len)
{
	uint64_t dropped = bed->vq.stats.dropped;
	uint16_t head = send_frame(bed, hdr, len);

	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head, 0);
	bed_expect_memory(bed);
	assert_int_equal(bed->vq.stats.dropped, dropped + 1);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

static inline struct virtio_net_hdr
csum_hdr(const struct frame *frame)
{
	return (struct virtio_net_hdr){
		.flags = NEEDS_CSUM,
		.hdr_len = 7,
		.csum_start = frame->l4_at,
		.csum_offset = frame->csum_offset,
	};
}

static inline uint32_t
packet_type(const struct frame_spec *spec)
{
	uint32_t type = spec->tagged ? RTE_PTYPE_L2_ETHER_VLAN : RTE_PTYPE_L2_ETHER;

	if (spec->ipv6)
		type |= spec->ip_options ? RTE_PTYPE_L3_IPV6_EXT : RTE_PTYPE_L3_IPV6;
	else
		type |= spec->ip_options ? RTE_PTYPE_L3_IPV4_EXT : RTE_PTYPE_L3_IPV4;
	if (spec->fragment)
		return type | RTE_PTYPE_L4_FRAG;
	switch (spec->proto) {
	case FRAME_TCP:
		return type | RTE_PTYPE_L4_TCP;
	case FRAME_UDP:
		return type | RTE_PTYPE_L4_UDP;
	case FRAME_SCTP:
		return type | RTE_PTYPE_L4_SCTP;
	default:
		return type;
	}
}

/* A segment type, and what it must be in. */
struct gso_case {
	uint8_t type;
	struct frame_spec spec;
	uint64_t features;
};

static const struct gso_case gso_cases[] = {
	{TCPV4, {.proto = FRAME_TCP}, 1ULL << VIRTIO_NET_F_HOST_TSO4},
	{TCPV6, {.proto = FRAME_TCP, .ipv6 = true}, 1ULL << VIRTIO_NET_F_HOST_TSO6},
	{TCPV4 | ECN, {.proto = FRAME_TCP, .tagged = true},
		1ULL << VIRTIO_NET_F_HOST_TSO4 | BED_HOST_ECN},
	{TCPV6 | ECN, {.proto = FRAME_TCP, .ipv6 = true, .ip_options = 16},
		1ULL << VIRTIO_NET_F_HOST_TSO6 | BED_HOST_ECN},
	{UDP, {.proto = FRAME_UDP}, BED_HOST_UFO},
	{UDP, {.proto = FRAME_UDP, .ipv6 = true, .tagged = true}, BED_HOST_UFO},
};

/* The frame of a case in sent[], with its header. */
static inline struct frame
build_gso(const struct gso_case *c, uint32_t payload, struct virtio_net_hdr *hdr)
{
	struct frame_spec spec = c->spec;
	struct frame frame;

	spec.payload = payload;
	frame = frame_build(sent_frame, &spec);
	frame_make_partial(sent_frame, &frame);
	*hdr = csum_hdr(&frame);
	hdr->gso_type = c->type;
	hdr->gso_size = 1000;
	return frame;
}

#endif /* DYNVHOST_TEST_OFFLOAD_IN_H */
