/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_NET_HDR_H
#define DYNVHOST_NET_HDR_H

/**
 * @file
 * The virtio-net header before each packet (virtio 1.2 §5.1.6): what it says about a packet of the
 * guest becomes flags of an mbuf, and what the application asks for by flags of an mbuf is done, or
 * left to the guest by the header.
 *
 * From the guest, in this order:
 *
 *	net_hdr_judge()  every field, on a private copy of the header, before an mbuf is taken
 *	net_hdr_apply()  once the packet is copied: its own headers against the virtio-net header
 *
 * To the guest, net_hdr_make() writes the header and, where something of the packet has to be
 * changed, a changed copy of the packet's beginning. The application's mbuf is never written: it
 * may be shared, and it may be offered again.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_net.h>
#include <rte_branch_prediction.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

struct dynvhost_vq;

/** Least bytes of payload per segment: what IPv4's smallest MTU, 68, leaves after its headers. */
#define NET_HDR_MIN_GSO_SIZE 8u

/** Flags of an mbuf that ask for something; all others are no concern of the guest's. */
#define NET_HDR_TX_FLAGS                                                          \
	(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_SEG | \
		RTE_MBUF_F_TX_UDP_SEG | RTE_MBUF_F_TX_VLAN)

/** Longest beginning of a packet that has to be copied: the longest headers an mbuf can name. */
#define NET_HDR_MAX_HEAD (127u + 511u + 255u + RTE_VLAN_HLEN)

/** A packet as the guest is to get it: the header, `head`, the packet without its first bytes. */
struct net_hdr_out {
	struct virtio_net_hdr_v1 hdr;
	uint32_t skip;     /**< bytes of the packet that `head` stands for */
	uint32_t head_len; /**< skip, or a tag more */
	uint8_t head[NET_HDR_MAX_HEAD];
};

/**
 * The features of @p features that net_hdr functions look at; 0: the guest's headers mean nothing.
 * Legacy VIRTIO_NET_F_GSO stands for all kinds of TCP segments (virtio 1.2 §5.1.3.2).
 */
uint64_t net_hdr_offloads(uint64_t features);

/** Whether headers of packets from the guest mean something (virtio 1.2 §5.1.6.2). */
static inline bool
net_hdr_is_read(uint64_t offloads)
{
	return (offloads & (UINT64_C(1) << VIRTIO_NET_F_CSUM)) != 0;
}

/** Whether the header of a packet from the guest asks for anything; most do not. NONE is 0. */
static inline bool
net_hdr_asks(uint8_t flags, uint8_t gso_type)
{
	return ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) | gso_type) != 0;
}

/**
 * Judge the header of a packet from the guest. hdr_len is a hint (virtio 1.2 §5.1.6.2.2) and not
 * looked at; nor are flags other than NEEDS_CSUM.
 *
 * @param offloads  net_hdr_offloads() of what was negotiated.
 * @param len       bytes of the packet.
 * @return 0 or -EMSGSIZE: the packet is to be dropped.
 */
int net_hdr_judge(uint64_t offloads, const struct virtio_net_hdr *hdr, uint32_t len);

/**
 * Do for a received packet what its header asks for, and say the rest by its flags: for the
 * application as a receiver (RX flags), or, where the port has legacy-ol-flags, as one that passes
 * the packet on (TX flags). A checksum that the application does not want to see partial, or that
 * no flag can describe, is completed here.
 *
 * @param hdr  judged well for the packet's length.
 * @param pkt  a packet that nobody else has seen.
 * @return 0 or -EMSGSIZE: the packet is not what its header says, and to be dropped.
 */
int
net_hdr_apply(const struct dynvhost_vq *vq, const struct virtio_net_hdr *hdr, struct rte_mbuf *pkt);

/** Bytes of a packet as the guest gets it. */
static inline uint32_t
net_hdr_packet_len(const struct rte_mbuf *pkt)
{
	return pkt->pkt_len + ((pkt->ol_flags & RTE_MBUF_F_TX_VLAN) ? RTE_VLAN_HLEN : 0);
}

/** net_hdr_make() for a packet that asks for something. */
int net_hdr_make_asked(uint64_t offloads, const struct rte_mbuf *pkt, struct net_hdr_out *out);

/**
 * Make the header of a packet for the guest, all but num_buffers, and the beginning of the packet
 * where it changes. What the guest has not agreed to do is done here, or the packet is refused.
 *
 * @return 0 or -EMSGSIZE: the packet does not hold the headers that its mbuf names, or asks for
 *         segmentation that the guest does not take.
 */
static inline int
net_hdr_make(uint64_t offloads, const struct rte_mbuf *pkt, struct net_hdr_out *out)
{
	memset(&out->hdr, 0, sizeof(out->hdr));
	out->skip = 0;
	out->head_len = 0;
	if (likely((pkt->ol_flags & NET_HDR_TX_FLAGS) == 0))
		return 0;
	return net_hdr_make_asked(offloads, pkt, out);
}

#endif /* DYNVHOST_NET_HDR_H */
