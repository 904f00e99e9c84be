/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Checksum, segmentation and VLAN offloads, on mbufs and private copies alone.
 *
 * Security model: every field of the header and every byte of the packet are chosen by the guest.
 * Both are private copies here, so what has been judged stays as it was. Positions in a packet are
 * compared with its length before they are used; its own headers are read by rte_net, which copies
 * what lies across mbufs and reads nothing behind them. Lengths in mbufs come from the application,
 * which may have them from the guest's packet: they are judged in the same way.
 */

#include <errno.h>
#include <stddef.h>

#include <linux/virtio_config.h>
#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_ip.h>
#include <rte_mbuf_ptype.h>
#include <rte_net.h>
#include <rte_sctp.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "net_hdr.h"
#include "virtqueue.h"

#define NET_BIT(n) (UINT64_C(1) << (n))

#define NET_HOST_TSO                                                         \
	(NET_BIT(VIRTIO_NET_F_HOST_TSO4) | NET_BIT(VIRTIO_NET_F_HOST_TSO6) | \
		NET_BIT(VIRTIO_NET_F_HOST_ECN))
#define NET_FROM_GUEST (NET_HOST_TSO | NET_BIT(VIRTIO_NET_F_HOST_UFO) | NET_BIT(VIRTIO_NET_F_CSUM))
#define NET_TO_GUEST                                                                 \
	(NET_BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_BIT(VIRTIO_NET_F_GUEST_TSO4) |       \
		NET_BIT(VIRTIO_NET_F_GUEST_TSO6) | NET_BIT(VIRTIO_NET_F_GUEST_ECN) | \
		NET_BIT(VIRTIO_NET_F_GUEST_UFO))

/** Protocols by their numbers. */
#define NET_PROTO_TCP 6
#define NET_PROTO_UDP 17

/** Where a tag goes: between the addresses and the type. */
#define NET_TAG_AT (2 * RTE_ETHER_ADDR_LEN)

/** The longest headers that an mbuf can name. */
#define NET_MAX_L2 ((1u << RTE_MBUF_L2_LEN_BITS) - 1)
#define NET_MAX_L3 ((1u << RTE_MBUF_L3_LEN_BITS) - 1)

/** What a packet's own headers say. */
struct net_headers {
	uint32_t l3;    /**< RTE_PTYPE_L3_… */
	uint32_t l4;    /**< RTE_PTYPE_L4_…, 0: unknown, or inside a tunnel */
	uint32_t l4_at; /**< bytes before the layer 4 header */
	uint16_t l2_len;
	uint16_t l3_len;
	uint16_t l4_len;
};

uint64_t
net_hdr_offloads(uint64_t features)
{
	uint64_t offloads = 0;

	/* Segments are no use without partial checksums (virtio 1.2 §5.1.3.1). */
	if (features & NET_BIT(VIRTIO_NET_F_CSUM))
		offloads |= features & NET_FROM_GUEST;
	if ((features & NET_BIT(VIRTIO_NET_F_CSUM)) && (features & NET_BIT(VIRTIO_NET_F_GSO)))
		offloads |= NET_HOST_TSO;
	if (features & NET_BIT(VIRTIO_NET_F_GUEST_CSUM))
		offloads |= features & NET_TO_GUEST;
	return offloads;
}

/** The features that let a guest send segments of a type; 0: there are none. */
static uint64_t
net_gso_feature(uint8_t type)
{
	switch (type) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return NET_BIT(VIRTIO_NET_F_HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return NET_BIT(VIRTIO_NET_F_HOST_TSO6);
	case VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN:
		return NET_BIT(VIRTIO_NET_F_HOST_TSO4) | NET_BIT(VIRTIO_NET_F_HOST_ECN);
	case VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN:
		return NET_BIT(VIRTIO_NET_F_HOST_TSO6) | NET_BIT(VIRTIO_NET_F_HOST_ECN);
	case VIRTIO_NET_HDR_GSO_UDP:
		return NET_BIT(VIRTIO_NET_F_HOST_UFO);
	default:
		return 0;
	}
}

int
net_hdr_judge(uint64_t offloads, const struct virtio_net_hdr *hdr, uint32_t len)
{
	uint64_t feature;

	if ((hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
		(uint32_t)hdr->csum_start + hdr->csum_offset + sizeof(uint16_t) > len)
		return -EMSGSIZE;
	if (hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return 0;
	feature = net_gso_feature(hdr->gso_type);
	if (feature == 0 || (offloads & feature) != feature)
		return -EMSGSIZE;
	return hdr->gso_size < NET_HDR_MIN_GSO_SIZE || hdr->gso_size > len ? -EMSGSIZE : 0;
}

/** Where the checksum is in a layer 4 header; SIZE_MAX: nowhere we know. */
static size_t
net_csum_offset(uint32_t l4)
{
	switch (l4) {
	case RTE_PTYPE_L4_TCP:
		return offsetof(struct rte_tcp_hdr, cksum);
	case RTE_PTYPE_L4_UDP:
		return offsetof(struct rte_udp_hdr, dgram_cksum);
	case RTE_PTYPE_L4_SCTP:
		return offsetof(struct rte_sctp_hdr, cksum);
	default:
		return SIZE_MAX;
	}
}

/** Bytes that a layer 4 header has at least. */
static uint32_t
net_l4_min(uint32_t l4)
{
	return l4 == RTE_PTYPE_L4_TCP ? sizeof(struct rte_tcp_hdr) : sizeof(struct rte_udp_hdr);
}

/** Read the headers of a packet; those that are cut off or malformed are unknown. */
static uint32_t
net_read_headers(const struct rte_mbuf *pkt, struct net_headers *headers)
{
	struct rte_net_hdr_lens lens = {0};
	uint32_t ptype = rte_net_get_ptype(pkt, &lens, RTE_PTYPE_ALL_MASK);

	*headers = (struct net_headers){
		.l3 = ptype & RTE_PTYPE_L3_MASK,
		.l4 = ptype & RTE_PTYPE_L4_MASK,
		.l4_at = (uint32_t)lens.l2_len + lens.l3_len,
		.l2_len = lens.l2_len,
		.l3_len = lens.l3_len,
		.l4_len = lens.l4_len,
	};
	if (net_csum_offset(headers->l4) == SIZE_MAX || lens.l3_len < sizeof(struct rte_ipv4_hdr) ||
		lens.l4_len < net_l4_min(headers->l4) ||
		headers->l4_at + lens.l4_len > pkt->pkt_len)
		headers->l4 = 0;
	return ptype;
}

/**
 * Sum of @p len bytes of a packet from @p at on, which it must have. rte_raw_cksum_mbuf() loses
 * carries of segments that begin at an odd byte.
 */
static uint16_t
net_sum(const struct rte_mbuf *pkt, uint32_t at, uint32_t len)
{
	uint32_t sum = 0;
	uint32_t done = 0;

	while (at >= pkt->data_len && len > 0) {
		at -= pkt->data_len;
		pkt = pkt->next;
	}
	while (done < len) {
		uint32_t part = RTE_MIN(len - done, pkt->data_len - at);
		uint16_t part_sum = rte_raw_cksum(rte_pktmbuf_mtod_offset(pkt, void *, at), part);

		sum += (done & 1) ? rte_bswap16(part_sum) : part_sum;
		done += part;
		at = 0;
		pkt = pkt->next;
	}
	return __rte_raw_cksum_reduce(sum);
}

/** Store two bytes at @p at of a packet, which has them. They may lie in two mbufs. */
static void
net_store(struct rte_mbuf *pkt, uint32_t at, uint16_t value)
{
	const uint8_t *bytes = (const uint8_t *)&value;
	size_t i;

	for (i = 0; i < sizeof(value); at++) {
		while (at >= pkt->data_len) {
			at -= pkt->data_len;
			pkt = pkt->next;
		}
		*rte_pktmbuf_mtod_offset(pkt, uint8_t *, at) = bytes[i++];
	}
}

/** What is stored for a sum. In TCP alone does a checksum of 0 not say that there is none. */
static uint16_t
net_csum_of(uint16_t sum, uint32_t l4)
{
	uint16_t csum = (uint16_t)~sum;

	return csum == 0 && l4 != RTE_PTYPE_L4_TCP ? UINT16_MAX : csum;
}

/** Complete the checksum over all bytes from @p start on, stored at @p field. */
static void
net_complete(struct rte_mbuf *pkt, uint32_t start, uint32_t field, uint32_t l4)
{
	net_store(pkt, field, net_csum_of(net_sum(pkt, start, pkt->pkt_len - start), l4));
}

static bool
net_is_ipv4(uint32_t l3)
{
	return RTE_ETH_IS_IPV4_HDR(l3);
}

/** Whether a packet's headers are those of the segments that its header speaks of. */
static bool
net_gso_fits(uint8_t gso_type, const struct net_headers *headers, uint32_t len)
{
	if (headers->l4_at + headers->l4_len >= len)
		return false;
	switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return headers->l4 == RTE_PTYPE_L4_TCP && net_is_ipv4(headers->l3);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return headers->l4 == RTE_PTYPE_L4_TCP && RTE_ETH_IS_IPV6_HDR(headers->l3);
	default:
		return headers->l4 == RTE_PTYPE_L4_UDP;
	}
}

static uint64_t
net_tx_csum_flag(uint32_t l4)
{
	switch (l4) {
	case RTE_PTYPE_L4_TCP:
		return RTE_MBUF_F_TX_TCP_CKSUM;
	case RTE_PTYPE_L4_UDP:
		return RTE_MBUF_F_TX_UDP_CKSUM;
	default:
		return RTE_MBUF_F_TX_SCTP_CKSUM;
	}
}

/** Say by TX flags what a sender asks for; with legacy-ol-flags. */
static int
net_apply_legacy(const struct virtio_net_hdr *hdr, const struct net_headers *headers, bool csum,
	bool gso, struct rte_mbuf *pkt)
{
	/* IPv6 has extensions that no mbuf can name. */
	if (headers->l2_len > NET_MAX_L2 || headers->l3_len > NET_MAX_L3) {
		if (gso)
			return -EMSGSIZE;
		net_complete(pkt, headers->l4_at, headers->l4_at + hdr->csum_offset, headers->l4);
		return 0;
	}
	pkt->l2_len = headers->l2_len;
	pkt->l3_len = headers->l3_len;
	pkt->ol_flags |= net_is_ipv4(headers->l3) ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	if (csum)
		pkt->ol_flags |= net_tx_csum_flag(headers->l4);
	if (!gso)
		return 0;
	pkt->ol_flags |= headers->l4 == RTE_PTYPE_L4_TCP ? RTE_MBUF_F_TX_TCP_SEG
							 : RTE_MBUF_F_TX_UDP_SEG;
	pkt->l4_len = headers->l4_len;
	pkt->tso_segsz = hdr->gso_size;
	return 0;
}

/** Say by RX flags what is left to a receiver, after what the application does not want left. */
static void
net_apply_modern(const struct dynvhost_vq *vq, const struct virtio_net_hdr *hdr,
	const struct net_headers *headers, bool gso, struct rte_mbuf *pkt)
{
	bool complete = (headers->l4 == RTE_PTYPE_L4_TCP && vq->app.complete_tcp) ||
			(headers->l4 == RTE_PTYPE_L4_UDP && vq->app.complete_udp);

	if (complete) {
		net_complete(pkt, headers->l4_at, headers->l4_at + net_csum_offset(headers->l4),
			headers->l4);
		pkt->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	} else {
		pkt->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
	}
	if (gso) {
		pkt->ol_flags |= RTE_MBUF_F_RX_LRO;
		pkt->tso_segsz = hdr->gso_size;
	}
}

int
net_hdr_apply(const struct dynvhost_vq *vq, const struct virtio_net_hdr *hdr, struct rte_mbuf *pkt)
{
	const bool csum = (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0;
	const bool gso = hdr->gso_type != VIRTIO_NET_HDR_GSO_NONE;
	struct net_headers headers;
	uint32_t ptype = net_read_headers(pkt, &headers);
	bool known = headers.l4 != 0;

	/* Segments without NEEDS_CSUM have a partial checksum all the same. */
	if (csum)
		known = known && hdr->csum_start == headers.l4_at &&
			hdr->csum_offset == net_csum_offset(headers.l4);
	if (gso && (!known || !net_gso_fits(hdr->gso_type, &headers, pkt->pkt_len)))
		return -EMSGSIZE;
	if (!vq->app.legacy_ol_flags)
		pkt->packet_type = ptype;
	if (!known)
		/* In a tunnel, or of a protocol that no flag names. */
		net_complete(pkt, hdr->csum_start, (uint32_t)hdr->csum_start + hdr->csum_offset,
			headers.l4);
	else if (vq->app.legacy_ol_flags)
		return net_apply_legacy(hdr, &headers, csum, gso, pkt);
	else
		net_apply_modern(vq, hdr, &headers, gso, pkt);
	return 0;
}

/** What an mbuf's flags ask for. */
struct net_ask {
	uint32_t l4;    /**< RTE_PTYPE_L4_… whose checksum is missing; 0: none */
	uint8_t gso;    /**< VIRTIO_NET_HDR_GSO_…, without ECN */
	bool is_ipv4;   /**< of the layer 3 header, where one is named */
	uint32_t l4_at; /**< bytes before the layer 4 header */
	uint32_t copy;  /**< bytes of the packet that must be copied for all of it */
};

static uint32_t
net_asked_l4(uint64_t flags)
{
	if (flags & RTE_MBUF_F_TX_TCP_SEG)
		return RTE_PTYPE_L4_TCP;
	if (flags & RTE_MBUF_F_TX_UDP_SEG)
		return RTE_PTYPE_L4_UDP;
	switch (flags & RTE_MBUF_F_TX_L4_MASK) {
	case RTE_MBUF_F_TX_TCP_CKSUM:
		return RTE_PTYPE_L4_TCP;
	case RTE_MBUF_F_TX_UDP_CKSUM:
		return RTE_PTYPE_L4_UDP;
	case RTE_MBUF_F_TX_SCTP_CKSUM:
		return RTE_PTYPE_L4_SCTP;
	default:
		return 0;
	}
}

/** Work out what a packet asks for. @return 0 or -EMSGSIZE: it is shorter than its headers. */
static int
net_read_ask(const struct rte_mbuf *pkt, struct net_ask *ask)
{
	const uint64_t gso = pkt->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG);
	const uint64_t l3 = pkt->ol_flags & (RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4);

	*ask = (struct net_ask){
		.l4 = net_asked_l4(pkt->ol_flags),
		.is_ipv4 = l3 != 0,
		.l4_at = (uint32_t)pkt->l2_len + pkt->l3_len,
		.copy = (pkt->ol_flags & RTE_MBUF_F_TX_VLAN) ? NET_TAG_AT : 0,
	};
	if (ask->l4 != 0 || (pkt->ol_flags & RTE_MBUF_F_TX_IP_CKSUM)) {
		if (pkt->l2_len < RTE_ETHER_HDR_LEN ||
			pkt->l3_len < (ask->is_ipv4 ? sizeof(struct rte_ipv4_hdr)
						    : sizeof(struct rte_ipv6_hdr)))
			return -EMSGSIZE;
		ask->copy = ask->l4_at;
	}
	if (ask->l4 != 0)
		ask->copy += net_csum_offset(ask->l4) + sizeof(uint16_t);
	if (gso != 0) {
		if (pkt->l4_len < net_l4_min(ask->l4) || pkt->tso_segsz == 0)
			return -EMSGSIZE;
		ask->copy = ask->l4_at + pkt->l4_len;
		ask->gso = ask->l4 == RTE_PTYPE_L4_UDP ? VIRTIO_NET_HDR_GSO_UDP
			   : ask->is_ipv4              ? VIRTIO_NET_HDR_GSO_TCPV4
						       : VIRTIO_NET_HDR_GSO_TCPV6;
	}
	return ask->copy > pkt->pkt_len ? -EMSGSIZE : 0;
}

/** Bytes from the layer 4 header on, as the layer 3 header says: frames may be padded. */
static uint16_t
net_l4_bytes(const struct net_ask *ask, const struct rte_mbuf *pkt, const uint8_t *l3)
{
	const struct rte_ipv4_hdr *ipv4 = (const void *)l3;
	const struct rte_ipv6_hdr *ipv6 = (const void *)l3;

	if (ask->is_ipv4)
		return (uint16_t)(rte_be_to_cpu_16(ipv4->total_length) - pkt->l3_len);
	return (uint16_t)(rte_be_to_cpu_16(ipv6->payload_len) + sizeof(*ipv6) - pkt->l3_len);
}

/**
 * Sum of the pseudo-header, with the length of all of a packet that is to be segmented. Unlike that
 * of rte_ip.h it is right for IPv6 with extension headers.
 */
static uint16_t
net_pseudo_sum(const struct net_ask *ask, const uint8_t *l3, uint16_t l4_bytes)
{
	const struct rte_ipv4_hdr *ipv4 = (const void *)l3;
	const struct rte_ipv6_hdr *ipv6 = (const void *)l3;
	const uint16_t proto = ask->l4 == RTE_PTYPE_L4_TCP ? NET_PROTO_TCP : NET_PROTO_UDP;
	uint32_t sum = (uint32_t)rte_cpu_to_be_16(proto) + rte_cpu_to_be_16(l4_bytes);

	if (ask->is_ipv4)
		sum += rte_raw_cksum(&ipv4->src_addr, 2 * sizeof(ipv4->src_addr));
	else
		sum += rte_raw_cksum(&ipv6->src_addr, 2 * sizeof(ipv6->src_addr));
	return __rte_raw_cksum_reduce(sum);
}

/** Store the whole checksum of a packet in the copy of its beginning, where its pseudo sum is. */
static void
net_fill_csum(const struct rte_mbuf *pkt, const struct net_ask *ask, uint8_t *head, uint32_t field,
	uint16_t l4_bytes)
{
	const uint32_t copied = ask->copy - ask->l4_at;
	uint32_t rest = pkt->pkt_len - ask->copy;
	uint32_t sum = rte_raw_cksum(head + ask->l4_at, copied);
	uint16_t csum;

	if (l4_bytes >= copied && l4_bytes - copied < rest)
		rest = l4_bytes - copied;
	/* Headers up to their checksum have an even length. */
	sum += net_sum(pkt, ask->copy, rest);
	csum = net_csum_of(__rte_raw_cksum_reduce(sum), ask->l4);
	memcpy(head + field, &csum, sizeof(csum));
}

/** Leave segments to the guest. @return 0 or -EMSGSIZE: it does not take them. */
static int
net_make_gso(uint64_t offloads, const struct rte_mbuf *pkt, const struct net_ask *ask,
	struct net_hdr_out *out)
{
	const uint64_t ecn = NET_BIT(VIRTIO_NET_F_GUEST_ECN);
	const uint64_t feature = ask->gso == VIRTIO_NET_HDR_GSO_UDP
					 ? NET_BIT(VIRTIO_NET_F_GUEST_UFO)
				 : ask->is_ipv4 ? NET_BIT(VIRTIO_NET_F_GUEST_TSO4)
						: NET_BIT(VIRTIO_NET_F_GUEST_TSO6);

	if (!(offloads & feature))
		return -EMSGSIZE;
	out->hdr.gso_type = ask->gso;
	out->hdr.gso_size = pkt->tso_segsz;
	out->hdr.hdr_len = (uint16_t)ask->copy;
	if (ask->l4 == RTE_PTYPE_L4_TCP && (offloads & ecn)) {
		const struct rte_tcp_hdr *tcp = (const void *)(out->head + ask->l4_at);

		if (tcp->tcp_flags & RTE_TCP_CWR_FLAG)
			out->hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	}
	return 0;
}

/** Leave a checksum to the guest, or complete it. */
static int
net_make_csum(uint64_t offloads, const struct rte_mbuf *pkt, const struct net_ask *ask,
	struct net_hdr_out *out)
{
	const uint32_t offset = (uint32_t)net_csum_offset(ask->l4);
	const bool partial = (offloads & NET_BIT(VIRTIO_NET_F_GUEST_CSUM)) != 0;
	uint16_t l4_bytes, pseudo;

	if (ask->l4 == RTE_PTYPE_L4_SCTP) {
		/* Its checksum is no sum. */
		if (!partial)
			return -EMSGSIZE;
	} else {
		l4_bytes = net_l4_bytes(ask, pkt, out->head + pkt->l2_len);
		pseudo = net_pseudo_sum(ask, out->head + pkt->l2_len, l4_bytes);
		memcpy(out->head + ask->l4_at + offset, &pseudo, sizeof(pseudo));
		if (!partial) {
			net_fill_csum(pkt, ask, out->head, ask->l4_at + offset, l4_bytes);
			return 0;
		}
	}
	out->hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	out->hdr.csum_start = (uint16_t)ask->l4_at;
	out->hdr.csum_offset = (uint16_t)offset;
	return 0;
}

/** Put the tag into the copy of the packet's beginning. */
static void
net_make_tag(const struct rte_mbuf *pkt, struct net_hdr_out *out)
{
	const uint16_t tag[2] = {
		RTE_BE16(RTE_ETHER_TYPE_VLAN),
		rte_cpu_to_be_16(pkt->vlan_tci),
	};

	memmove(out->head + NET_TAG_AT + sizeof(tag), out->head + NET_TAG_AT,
		out->head_len - NET_TAG_AT);
	memcpy(out->head + NET_TAG_AT, tag, sizeof(tag));
	out->head_len += sizeof(tag);
	if (out->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		out->hdr.csum_start += sizeof(tag);
	if (out->hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		out->hdr.hdr_len += sizeof(tag);
}

int
net_hdr_make_asked(uint64_t offloads, const struct rte_mbuf *pkt, struct net_hdr_out *out)
{
	struct net_ask ask;
	const uint8_t *bytes;
	int ret;

	ret = net_read_ask(pkt, &ask);
	if (ret != 0)
		return ret;
	bytes = rte_pktmbuf_read(pkt, 0, ask.copy, out->head);
	if (bytes == NULL)
		return -EMSGSIZE;
	if (bytes != out->head)
		memcpy(out->head, bytes, ask.copy);
	out->skip = ask.copy;
	out->head_len = ask.copy;

	if (pkt->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(out->head + pkt->l2_len);

		ip->hdr_checksum = 0;
		ip->hdr_checksum = (uint16_t)~rte_raw_cksum(ip, pkt->l3_len);
	}
	if (ask.gso != VIRTIO_NET_HDR_GSO_NONE) {
		ret = net_make_gso(offloads, pkt, &ask, out);
		if (ret != 0)
			return ret;
	}
	if (ask.l4 != 0) {
		ret = net_make_csum(offloads, pkt, &ask, out);
		if (ret != 0)
			return ret;
	}
	if (pkt->ol_flags & RTE_MBUF_F_TX_VLAN)
		net_make_tag(pkt, out);
	return 0;
}
