/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Offloads between application and port: what is offered and announced, what the application has
 * configured, and what is done for it to packets that have left the ring (VLAN tags, packet types).
 * Checksums and segments are the business of virtqueue/net_hdr.h.
 *
 * Security model: packets are in mbufs, behind the guest's reach, but their bytes are the guest's.
 */

#include <linux/virtio_net.h>

#include <rte_ether.h>
#include <rte_mbuf_ptype.h>
#include <rte_net.h>

#include "dynvhost_ethdev.h"

#define OFFLOAD_BIT(n) (UINT64_C(1) << (n))

/** Of a queue's `finish`: take VLAN tags off. Its lower half is a mask of packet types to find. */
#define OFFLOAD_STRIP OFFLOAD_BIT(32)

/** All that rte_net_get_ptype() finds. */
static const uint32_t offload_ptypes[] = {
	RTE_PTYPE_L2_ETHER,
	RTE_PTYPE_L2_ETHER_VLAN,
	RTE_PTYPE_L2_ETHER_QINQ,
	RTE_PTYPE_L3_IPV4,
	RTE_PTYPE_L3_IPV4_EXT,
	RTE_PTYPE_L3_IPV6,
	RTE_PTYPE_L3_IPV6_EXT,
	RTE_PTYPE_L4_FRAG,
	RTE_PTYPE_L4_UDP,
	RTE_PTYPE_L4_TCP,
	RTE_PTYPE_L4_SCTP,
	RTE_PTYPE_TUNNEL_IP,
	RTE_PTYPE_TUNNEL_GRE,
	RTE_PTYPE_TUNNEL_NVGRE,
	RTE_PTYPE_INNER_L2_ETHER,
	RTE_PTYPE_INNER_L2_ETHER_VLAN,
	RTE_PTYPE_INNER_L2_ETHER_QINQ,
	RTE_PTYPE_INNER_L3_IPV4,
	RTE_PTYPE_INNER_L3_IPV4_EXT,
	RTE_PTYPE_INNER_L3_IPV6,
	RTE_PTYPE_INNER_L3_IPV6_EXT,
	RTE_PTYPE_INNER_L4_FRAG,
	RTE_PTYPE_INNER_L4_UDP,
	RTE_PTYPE_INNER_L4_TCP,
	RTE_PTYPE_INNER_L4_SCTP,
	RTE_PTYPE_UNKNOWN,
};

uint64_t
dynvhost_offload_features(const struct dynvhost_devargs *args)
{
	const bool takes_large = !args->linear_buffer || args->ext_buffer;
	uint64_t features = 0;

	if (args->csum)
		features |= OFFLOAD_BIT(VIRTIO_NET_F_CSUM) | OFFLOAD_BIT(VIRTIO_NET_F_GUEST_CSUM) |
			    OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO4) |
			    OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO6) |
			    OFFLOAD_BIT(VIRTIO_NET_F_GUEST_ECN) |
			    OFFLOAD_BIT(VIRTIO_NET_F_GUEST_UFO);
	/* What would be dropped for its length is not asked for. */
	if (args->csum && takes_large)
		features |= OFFLOAD_BIT(VIRTIO_NET_F_HOST_UFO);
	if (args->tso && takes_large)
		features |= OFFLOAD_BIT(VIRTIO_NET_F_HOST_TSO4) |
			    OFFLOAD_BIT(VIRTIO_NET_F_HOST_TSO6) |
			    OFFLOAD_BIT(VIRTIO_NET_F_HOST_ECN) | OFFLOAD_BIT(VIRTIO_NET_F_GSO);
	return features;
}

void
dynvhost_offload_info(const struct dynvhost_dev *dev, struct rte_eth_dev_info *info)
{
	info->rx_offload_capa = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	if (dev->args.legacy_ol_flags)
		return;
	/* Not that of IPv4: packets come with their header checksums unchecked. */
	info->rx_offload_capa |= RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
	info->tx_offload_capa |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
				 RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
}

/** Change a part of what all receive queues put their packets through. */
static void
offload_set_finish(struct dynvhost_dev *dev, uint64_t part, uint64_t value)
{
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		uint64_t finish = atomic_load_explicit(&dev->rxq[q].finish, memory_order_relaxed);

		atomic_store_explicit(
			&dev->rxq[q].finish, (finish & ~part) | value, memory_order_relaxed);
	}
}

int
dynvhost_vlan_offload_set(struct rte_eth_dev *eth_dev, int mask)
{
	const uint64_t offloads = eth_dev->data->dev_conf.rxmode.offloads;

	/* Of all VLAN offloads, ethdev lets only this one through. */
	RTE_SET_USED(mask);
	offload_set_finish(eth_dev->data->dev_private, OFFLOAD_STRIP,
		(offloads & RTE_ETH_RX_OFFLOAD_VLAN_STRIP) ? OFFLOAD_STRIP : 0);
	return 0;
}

void
dynvhost_offload_start(struct rte_eth_dev *eth_dev)
{
	const uint64_t offloads = eth_dev->data->dev_conf.rxmode.offloads;
	struct dynvhost_dev *dev = eth_dev->data->dev_private;
	const struct dynvhost_vq_app app = {
		.legacy_ol_flags = dev->args.legacy_ol_flags,
		.linear_buffer = dev->args.linear_buffer,
		.ext_buffer = dev->args.ext_buffer,
		.complete_tcp = !(offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM),
		.complete_udp = !(offloads & RTE_ETH_RX_OFFLOAD_UDP_CKSUM),
	};

	for (uint16_t q = 0; q < dev->n_pairs; q++)
		dev->vq[DYNVHOST_RING_OF_RXQ(q)].app = app;
	dynvhost_vlan_offload_set(eth_dev, 0);
}

/*
 * Finding packet types costs time on every packet; who never asks which there are has no use for
 * them.
 */
const uint32_t *
dynvhost_supported_ptypes_get(DYNVHOST_PTYPES_PARAMS)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	if (!dev->ptypes_chosen)
		offload_set_finish(dev, RTE_PTYPE_ALL_MASK, RTE_PTYPE_ALL_MASK);
	DYNVHOST_PTYPES_SAY(RTE_DIM(offload_ptypes) - 1);
	return offload_ptypes;
}

int
dynvhost_ptypes_set(struct rte_eth_dev *eth_dev, uint32_t mask)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	dev->ptypes_chosen = true;
	offload_set_finish(dev, RTE_PTYPE_ALL_MASK, mask & RTE_PTYPE_ALL_MASK);
	return 0;
}

/** Take the tag off a packet that has one. @return false: the packet ends in its tag. */
static bool
offload_strip(struct rte_mbuf *pkt)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(pkt, const struct rte_ether_hdr *);

	if (eth->ether_type != RTE_BE16(RTE_ETHER_TYPE_VLAN))
		return true;
	if (pkt->data_len < sizeof(*eth) + RTE_VLAN_HLEN)
		return false;
	if (rte_vlan_strip(pkt) == 0 && (pkt->ol_flags & (RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6)))
		pkt->l2_len -= RTE_VLAN_HLEN;
	return true;
}

uint16_t
dynvhost_rx_finish(struct dynvhost_queue *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	const uint64_t finish = atomic_load_explicit(&rxq->finish, memory_order_relaxed);
	const uint32_t ptypes = (uint32_t)finish;
	uint16_t left = 0;

	for (uint16_t i = 0; i < n; i++) {
		if ((finish & OFFLOAD_STRIP) && unlikely(!offload_strip(pkts[i]))) {
			dynvhost_vq_count(&rxq->vq->stats.dropped, 1);
			rte_pktmbuf_free(pkts[i]);
			continue;
		}
		if (ptypes != 0)
			pkts[i]->packet_type =
				rte_net_get_ptype(pkts[i], NULL, RTE_PTYPE_ALL_MASK) & ptypes;
		pkts[left++] = pkts[i];
	}
	return left;
}
