/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Frames with virtio-net headers, both of which may be anything: what a guest asks for is done to a
 * frame that is cut into segments anywhere, and what an application asks for, with flags and lengths
 * as they come, is put into a header for a guest.
 */

#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fuzz.h"
#include "net_hdr.h"
#include "virtqueue.h"

#define BIT(n) (UINT64_C(1) << (n))

#define NET_ROOM      2048u
#define NET_MAX_FRAME 3000u

enum net_outcome {
	NET_COMPLETED,
	NET_LEFT,
	NET_LRO,
	NET_LEGACY,
	NET_REFUSED,
	NET_MISMATCH,
	NET_UNASKED,
	NET_TO_GUEST,
	NET_TO_GUEST_FILLED,
	NET_TO_GUEST_GSO,
	NET_TO_GUEST_TAG,
	NET_TO_GUEST_REFUSED,
};

const char *const fuzz_outcomes[] = {
	[NET_COMPLETED] = "a checksum is completed",
	[NET_LEFT] = "a checksum is left to the application",
	[NET_LRO] = "segments are left to the application",
	[NET_LEGACY] = "what is left is said by TX flags",
	[NET_REFUSED] = "a header is refused",
	[NET_MISMATCH] = "a frame is not what its header says",
	[NET_UNASKED] = "a header asks for nothing",
	[NET_TO_GUEST] = "a checksum is left to the guest",
	[NET_TO_GUEST_FILLED] = "a checksum is completed for the guest",
	[NET_TO_GUEST_GSO] = "segments are left to the guest",
	[NET_TO_GUEST_TAG] = "a tag is put in for the guest",
	[NET_TO_GUEST_REFUSED] = "a packet for the guest is refused",
	NULL,
};

/** A frame, and how it is cut into mbufs. */
struct net_frame {
	uint8_t bytes[NET_MAX_FRAME];
	uint32_t len;
	uint32_t first; /**< bytes of the first segment */
	uint32_t each;  /**< and of those behind it */
};

static const uint64_t net_features[] = {BIT(VIRTIO_NET_F_CSUM), BIT(VIRTIO_NET_F_HOST_TSO4),
	BIT(VIRTIO_NET_F_HOST_TSO6), BIT(VIRTIO_NET_F_HOST_ECN), BIT(VIRTIO_NET_F_HOST_UFO),
	BIT(VIRTIO_NET_F_GSO), BIT(VIRTIO_NET_F_GUEST_CSUM), BIT(VIRTIO_NET_F_GUEST_TSO4),
	BIT(VIRTIO_NET_F_GUEST_TSO6), BIT(VIRTIO_NET_F_GUEST_ECN), BIT(VIRTIO_NET_F_GUEST_UFO)};

static struct rte_mempool *net_pool;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_eal_init();
	net_pool = fuzz_pool("net", 4095, NET_ROOM);
	return 0;
}

static struct rte_mbuf *
net_packet(const struct net_frame *frame)
{
	struct rte_mbuf *pkt = NULL, *last = NULL;
	uint32_t done = 0;

	do {
		struct rte_mbuf *m = rte_pktmbuf_alloc(net_pool);
		uint32_t part = RTE_MIN(pkt == NULL ? frame->first : frame->each, NET_ROOM);

		part = RTE_MIN(part, frame->len - done);
		fuzz_check(m != NULL);
		/* At the end of its room, where a sanitizer sees what is read beyond it. */
		m->data_off = (uint16_t)(m->buf_len - part);
		m->data_len = (uint16_t)part;
		m->pkt_len = part;
		memcpy(rte_pktmbuf_mtod(m, void *), frame->bytes + done, part);
		done += part;
		if (pkt == NULL) {
			pkt = m;
		} else {
			last->next = m;
			pkt->nb_segs++;
			pkt->pkt_len += part;
		}
		last = m;
	} while (done < frame->len);
	return pkt;
}

/* How many bytes of a packet are not those of the frame any more. */
static uint32_t
net_changed(const struct rte_mbuf *pkt, const struct net_frame *frame)
{
	uint32_t changed = 0, at = 0, i;

	for (; pkt != NULL; pkt = pkt->next) {
		const uint8_t *bytes = rte_pktmbuf_mtod(pkt, const uint8_t *);

		for (i = 0; i < pkt->data_len; i++, at++)
			changed += bytes[i] != frame->bytes[at];
	}
	fuzz_check(at == frame->len);
	return changed;
}

static void
net_judge_received(const struct dynvhost_vq *vq, const struct virtio_net_hdr *hdr,
	const struct rte_mbuf *pkt, uint32_t changed)
{
	const uint64_t segments = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG;

	fuzz_check(changed <= sizeof(uint16_t));
	fuzz_seen[NET_COMPLETED] += changed != 0;
	fuzz_seen[NET_LEFT] += (pkt->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_NONE) != 0;
	fuzz_seen[NET_LRO] += (pkt->ol_flags & RTE_MBUF_F_RX_LRO) != 0;
	fuzz_seen[NET_LEGACY] += (pkt->ol_flags & RTE_MBUF_F_TX_L4_MASK) != 0;
	/* Segments are never forgotten, nor made up. */
	fuzz_check(((pkt->ol_flags & segments) != 0) == (hdr->gso_type != 0));
	if (pkt->ol_flags & segments)
		fuzz_check(
			pkt->tso_segsz == hdr->gso_size && pkt->tso_segsz >= NET_HDR_MIN_GSO_SIZE);
	if (vq->app.legacy_ol_flags)
		fuzz_check((uint32_t)pkt->l2_len + pkt->l3_len + pkt->l4_len <= pkt->pkt_len);
	else
		fuzz_check((pkt->ol_flags & (RTE_MBUF_F_TX_L4_MASK | segments)) ==
			   (pkt->ol_flags & RTE_MBUF_F_RX_LRO));
}

static void
net_receive(const struct dynvhost_vq *vq, const struct virtio_net_hdr *hdr,
	const struct net_frame *frame)
{
	struct rte_mbuf *pkt;

	if (!net_hdr_asks(hdr->flags, hdr->gso_type)) {
		fuzz_see(NET_UNASKED);
		return;
	}
	if (frame->len < DYNVHOST_VQ_MIN_FRAME ||
		net_hdr_judge(vq->offloads, hdr, frame->len) != 0) {
		fuzz_see(NET_REFUSED);
		return;
	}
	pkt = net_packet(frame);
	if (net_hdr_apply(vq, hdr, pkt) == 0)
		net_judge_received(vq, hdr, pkt, net_changed(pkt, frame));
	else
		fuzz_see(NET_MISMATCH);
	fuzz_check_packet(pkt);
	rte_pktmbuf_free(pkt);
}

/* Of the lengths and flags that an application sets, any. */
static void
net_ask(struct fuzz_in *in, struct rte_mbuf *pkt)
{
	static const uint64_t flags[] = {RTE_MBUF_F_TX_IP_CKSUM, RTE_MBUF_F_TX_IPV4,
		RTE_MBUF_F_TX_IPV6, RTE_MBUF_F_TX_TCP_SEG, RTE_MBUF_F_TX_UDP_SEG,
		RTE_MBUF_F_TX_VLAN};
	static const uint64_t l4[] = {RTE_MBUF_F_TX_L4_NO_CKSUM, RTE_MBUF_F_TX_TCP_CKSUM,
		RTE_MBUF_F_TX_SCTP_CKSUM, RTE_MBUF_F_TX_UDP_CKSUM};
	const uint8_t how = fuzz_u8(in);
	unsigned int i;

	for (i = 0; i < RTE_DIM(flags); i++)
		pkt->ol_flags |= how >> i & 1 ? flags[i] : 0;
	pkt->ol_flags |= l4[how >> 6];
	pkt->l2_len = fuzz_u8(in) & 0x7f;
	pkt->l3_len = fuzz_u16(in) & 0x1ff;
	pkt->l4_len = fuzz_u8(in);
	pkt->tso_segsz = fuzz_u16(in);
	pkt->vlan_tci = 0x1234;
}

static void
net_judge_made(uint64_t offloads, const struct rte_mbuf *pkt, const struct net_hdr_out *out)
{
	const uint32_t tag = pkt->ol_flags & RTE_MBUF_F_TX_VLAN ? RTE_VLAN_HLEN : 0;
	const uint32_t len = pkt->pkt_len - out->skip + out->head_len;

	fuzz_check(out->skip <= pkt->pkt_len && out->head_len <= NET_HDR_MAX_HEAD);
	fuzz_check(out->head_len == out->skip + tag && len == net_hdr_packet_len(pkt));
	if (out->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		fuzz_check(offloads & BIT(VIRTIO_NET_F_GUEST_CSUM));
		fuzz_check((uint32_t)out->hdr.csum_start + out->hdr.csum_offset + 2 <= len);
		fuzz_see(NET_TO_GUEST);
	} else if (pkt->ol_flags & RTE_MBUF_F_TX_L4_MASK) {
		fuzz_see(NET_TO_GUEST_FILLED);
	}
	if (out->hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		fuzz_check(pkt->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG));
		fuzz_check(out->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
		fuzz_check(out->hdr.gso_size != 0 && out->hdr.hdr_len <= len);
		fuzz_see(NET_TO_GUEST_GSO);
	}
	fuzz_seen[NET_TO_GUEST_TAG] += tag != 0;
}

static void
net_send(struct fuzz_in *in, uint64_t offloads, const struct net_frame *frame)
{
	struct net_hdr_out *out = malloc(sizeof(*out));
	struct rte_mbuf *pkt = net_packet(frame);

	fuzz_check(out != NULL);
	net_ask(in, pkt);
	if (net_hdr_make(offloads, pkt, out) == 0)
		net_judge_made(offloads, pkt, out);
	else
		fuzz_see(NET_TO_GUEST_REFUSED);
	/* It may be shared. */
	fuzz_check(net_changed(pkt, frame) == 0);
	fuzz_check_packet(pkt);
	rte_pktmbuf_free(pkt);
	free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct net_frame frame;
	struct fuzz_in in = {.at = data, .left = size};
	const unsigned int full = rte_mempool_avail_count(net_pool);
	const uint16_t features = fuzz_u16(&in);
	const uint8_t app = fuzz_u8(&in);
	struct dynvhost_vq vq = {
		.app =
			{
				.legacy_ol_flags = app & 1,
				.complete_tcp = app & 2,
				.complete_udp = app & 4,
			},
	};
	struct virtio_net_hdr hdr = {.flags = 0};
	struct fuzz_in ask;
	unsigned int i;

	for (i = 0; i < RTE_DIM(net_features); i++)
		vq.offloads |= features >> i & 1 ? net_features[i] : 0;
	vq.offloads = net_hdr_offloads(vq.offloads);
	frame.first = fuzz_u8(&in) + 1u;
	frame.each = fuzz_u8(&in) + 1u;
	/* The same bytes say what is asked for on the way back. */
	ask = in;
	fuzz_bytes(&in, &hdr, sizeof(hdr));
	memset(frame.bytes, 0, sizeof(frame.bytes));
	frame.len = (uint32_t)fuzz_bytes(&in, frame.bytes, sizeof(frame.bytes));
	/* Payload of no interest behind what the input has. */
	frame.len = RTE_MIN(frame.len + (app >> 4) * 100u, NET_MAX_FRAME);

	net_receive(&vq, &hdr, &frame);
	net_send(&ask, vq.offloads, &frame);
	fuzz_check(rte_mempool_avail_count(net_pool) == full);
	return 0;
}
