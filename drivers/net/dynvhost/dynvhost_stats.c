/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Statistics: what virtqueues and guest memory count, since the last reset, and what of the guest's
 * memory is open. Names and number of extended statistics are fixed from probe on, guest or none.
 *
 * Open vSwitch shows extended statistics whose name contains "_management_" or ends in "_errors" or
 * "_dropped"; the names below are chosen for that.
 */

#include <errno.h>
#include <stddef.h>

#include <rte_common.h>

#include "dynvhost_ethdev.h"

struct stats_item {
	const char *name;
	size_t offset;
};

/** Packets of a queue by kind; counted from when they are asked for the first time. */
static const struct stats_item stats_kind_items[] = {
	{"multicast_packets", offsetof(struct dynvhost_queue_kinds, multicast)},
	{"broadcast_packets", offsetof(struct dynvhost_queue_kinds, broadcast)},
	{"undersize_packets", offsetof(struct dynvhost_queue_kinds, undersize)},
	{"size_64_packets", offsetof(struct dynvhost_queue_kinds, size_64)},
	{"size_65_127_packets", offsetof(struct dynvhost_queue_kinds, size_65_127)},
	{"size_128_255_packets", offsetof(struct dynvhost_queue_kinds, size_128_255)},
	{"size_256_511_packets", offsetof(struct dynvhost_queue_kinds, size_256_511)},
	{"size_512_1023_packets", offsetof(struct dynvhost_queue_kinds, size_512_1023)},
	{"size_1024_1518_packets", offsetof(struct dynvhost_queue_kinds, size_1024_1518)},
	{"size_1519_max_packets", offsetof(struct dynvhost_queue_kinds, size_1519_max)},
};

/** Counters of a receive queue's ring. */
static const struct stats_item stats_rxq_items[] = {
	{"good_packets", offsetof(struct dynvhost_vq_stats, packets)},
	{"good_bytes", offsetof(struct dynvhost_vq_stats, bytes)},
	{"discarded_packets", offsetof(struct dynvhost_vq_stats, discarded)},
	{"invalid_dropped", offsetof(struct dynvhost_vq_stats, dropped)},
	{"stalled_dropped", offsetof(struct dynvhost_vq_stats, stalled)},
	{"bad_chain_errors", offsetof(struct dynvhost_vq_stats, bad_chains)},
	{"guest_notifications", offsetof(struct dynvhost_vq_stats, calls)},
	{"guest_notifications_suppressed", offsetof(struct dynvhost_vq_stats, calls_suppressed)},
};

/** Counters of a transmit queue's ring. */
static const struct stats_item stats_txq_items[] = {
	{"good_packets", offsetof(struct dynvhost_vq_stats, packets)},
	{"good_bytes", offsetof(struct dynvhost_vq_stats, bytes)},
	{"no_room_dropped", offsetof(struct dynvhost_vq_stats, dropped)},
	{"stalled_errors", offsetof(struct dynvhost_vq_stats, stalled)},
	{"bad_chain_errors", offsetof(struct dynvhost_vq_stats, bad_chains)},
	{"guest_notifications", offsetof(struct dynvhost_vq_stats, calls)},
	{"guest_notifications_suppressed", offsetof(struct dynvhost_vq_stats, calls_suppressed)},
};

/** Guest memory of the whole port, as it is. */
static const struct stats_item stats_mem_gauges[] = {
	{"map_management_guest_bytes", offsetof(struct dynvhost_mem_stats, guest_bytes)},
	{"map_management_loadable_bytes", offsetof(struct dynvhost_mem_stats, loadable_bytes)},
	{"map_management_loadable_peak_bytes", offsetof(struct dynvhost_mem_stats, loadable_peak)},
	{"map_management_storable_bytes", offsetof(struct dynvhost_mem_stats, storable_bytes)},
	{"map_management_storable_peak_bytes", offsetof(struct dynvhost_mem_stats, storable_peak)},
	{"map_management_pinned_bytes", offsetof(struct dynvhost_mem_stats, pinned_bytes)},
};

/** What has happened to it. */
static const struct stats_item stats_mem_counters[] = {
	{"map_management_opens", offsetof(struct dynvhost_mem_stats, opens)},
	{"map_management_closes", offsetof(struct dynvhost_mem_stats, closes)},
	{"map_management_repairs", offsetof(struct dynvhost_mem_stats, repairs)},
	{"map_management_allocations", offsetof(struct dynvhost_mem_stats, allocations)},
	{"map_refused_errors", offsetof(struct dynvhost_mem_stats, denials)},
	{"map_lost_errors", offsetof(struct dynvhost_mem_stats, lost)},
};

static uint64_t
stats_field(const void *base, size_t offset)
{
	return __atomic_load_n((const uint64_t *)((const char *)base + offset), __ATOMIC_RELAXED);
}

/** One counter of a ring since the last reset. */
static uint64_t
stats_ring(const struct dynvhost_dev *dev, uint16_t ring, size_t offset)
{
	return stats_field(&dev->vq[ring].stats, offset) -
	       stats_field(&dev->stats_base[ring], offset);
}

#define STATS_RING(dev, ring, field) \
	stats_ring(dev, ring, offsetof(struct dynvhost_vq_stats, field))

int
dynvhost_stats_get(struct rte_eth_dev *eth_dev, struct rte_eth_stats *stats)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;

	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		uint16_t rx = DYNVHOST_RING_OF_RXQ(q), tx = DYNVHOST_RING_OF_TXQ(q);
		uint64_t rx_errors = STATS_RING(dev, rx, dropped) + STATS_RING(dev, rx, stalled) +
				     STATS_RING(dev, rx, bad_chains);
		uint64_t tx_errors = STATS_RING(dev, tx, dropped) + STATS_RING(dev, tx, bad_chains);

		stats->ipackets += STATS_RING(dev, rx, packets);
		stats->ibytes += STATS_RING(dev, rx, bytes);
		stats->ierrors += rx_errors;
		stats->rx_nombuf += STATS_RING(dev, rx, no_mbuf);
		stats->opackets += STATS_RING(dev, tx, packets);
		stats->obytes += STATS_RING(dev, tx, bytes);
		stats->oerrors += tx_errors;
		if (q >= RTE_ETHDEV_QUEUE_STAT_CNTRS)
			continue;
		stats->q_ipackets[q] = STATS_RING(dev, rx, packets);
		stats->q_ibytes[q] = STATS_RING(dev, rx, bytes);
		stats->q_errors[q] = rx_errors;
		stats->q_opackets[q] = STATS_RING(dev, tx, packets);
		stats->q_obytes[q] = STATS_RING(dev, tx, bytes);
	}
	return 0;
}

static void
stats_take_base(struct dynvhost_queue *queue)
{
	for (unsigned int i = 0; i < RTE_DIM(stats_kind_items); i++) {
		size_t offset = stats_kind_items[i].offset;

		*(uint64_t *)((char *)&queue->kinds_base + offset) = stats_field(
			&queue->kinds, offset);
	}
}

int
dynvhost_stats_reset(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	for (uint16_t ring = 0; ring < 2 * dev->n_pairs; ring++) {
		const uint64_t *now = (const uint64_t *)&dev->vq[ring].stats;
		uint64_t *base = (uint64_t *)&dev->stats_base[ring];

		for (size_t i = 0; i < sizeof(struct dynvhost_vq_stats) / sizeof(*now); i++)
			base[i] = __atomic_load_n(&now[i], __ATOMIC_RELAXED);
	}
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		stats_take_base(&dev->rxq[q]);
		stats_take_base(&dev->txq[q]);
	}
	/* Guest memory belongs to the process that serves the port. */
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		dynvhost_mem_stats_get(dev->mem, &dev->mem_base);
	return 0;
}

static unsigned int
stats_n_items(const struct dynvhost_dev *dev)
{
	return RTE_DIM(stats_mem_gauges) + RTE_DIM(stats_mem_counters) +
	       dev->n_pairs * (RTE_DIM(stats_rxq_items) + RTE_DIM(stats_txq_items) +
				      2 * RTE_DIM(stats_kind_items));
}

/** Write names that begin with @p prefix. @return how many. */
static unsigned int
stats_put_names(struct rte_eth_xstat_name *names, const char *prefix,
	const struct stats_item *items, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		snprintf(names[i].name, RTE_ETH_XSTATS_NAME_SIZE, "%s%s", prefix, items[i].name);
	return n;
}

/** Write how many packets of each kind a queue has moved since the last reset. @return how many kinds. */
static unsigned int
stats_put_kinds(struct rte_eth_xstat *xstats, struct dynvhost_queue *queue)
{
	/* It takes time per packet: nobody pays who does not ask. */
	atomic_store_explicit(&queue->counts_kinds, true, memory_order_relaxed);
	for (unsigned int i = 0; i < RTE_DIM(stats_kind_items); i++)
		xstats[i].value = stats_field(&queue->kinds, stats_kind_items[i].offset) -
				  stats_field(&queue->kinds_base, stats_kind_items[i].offset);
	return RTE_DIM(stats_kind_items);
}

int
dynvhost_xstats_get_names(
	struct rte_eth_dev *eth_dev, struct rte_eth_xstat_name *names, unsigned int n)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;
	unsigned int count = 0;
	char prefix[16];

	if (names == NULL || n < stats_n_items(dev))
		return (int)stats_n_items(dev);
	count += stats_put_names(&names[count], "", stats_mem_gauges, RTE_DIM(stats_mem_gauges));
	count += stats_put_names(
		&names[count], "", stats_mem_counters, RTE_DIM(stats_mem_counters));
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		snprintf(prefix, sizeof(prefix), "rx_q%u_", q);
		count += stats_put_names(
			&names[count], prefix, stats_rxq_items, RTE_DIM(stats_rxq_items));
		count += stats_put_names(
			&names[count], prefix, stats_kind_items, RTE_DIM(stats_kind_items));
		snprintf(prefix, sizeof(prefix), "tx_q%u_", q);
		count += stats_put_names(
			&names[count], prefix, stats_txq_items, RTE_DIM(stats_txq_items));
		count += stats_put_names(
			&names[count], prefix, stats_kind_items, RTE_DIM(stats_kind_items));
	}
	return (int)count;
}

int
dynvhost_xstats_get(struct rte_eth_dev *eth_dev, struct rte_eth_xstat *xstats, unsigned int n)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;
	struct dynvhost_mem_stats mem = {0}, base = {0};
	unsigned int count = 0;

	if (xstats == NULL || n < stats_n_items(dev))
		return (int)stats_n_items(dev);
	if (rte_eal_process_type() == RTE_PROC_PRIMARY) {
		dynvhost_mem_stats_get(dev->mem, &mem);
		base = dev->mem_base;
	}
	for (unsigned int i = 0; i < RTE_DIM(stats_mem_gauges); i++)
		xstats[count++].value = stats_field(&mem, stats_mem_gauges[i].offset);
	for (unsigned int i = 0; i < RTE_DIM(stats_mem_counters); i++)
		xstats[count++].value = stats_field(&mem, stats_mem_counters[i].offset) -
					stats_field(&base, stats_mem_counters[i].offset);
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		for (unsigned int i = 0; i < RTE_DIM(stats_rxq_items); i++)
			xstats[count++].value = stats_ring(
				dev, DYNVHOST_RING_OF_RXQ(q), stats_rxq_items[i].offset);
		count += stats_put_kinds(&xstats[count], &dev->rxq[q]);
		for (unsigned int i = 0; i < RTE_DIM(stats_txq_items); i++)
			xstats[count++].value = stats_ring(
				dev, DYNVHOST_RING_OF_TXQ(q), stats_txq_items[i].offset);
		count += stats_put_kinds(&xstats[count], &dev->txq[q]);
	}
	for (unsigned int i = 0; i < count; i++)
		xstats[i].id = i;
	return (int)count;
}
