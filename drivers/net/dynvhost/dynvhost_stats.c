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

/** Counters of a receive queue's ring. */
static const struct stats_item stats_rxq_items[] = {
	{"discarded_packets", offsetof(struct dynvhost_vq_stats, discarded)},
	{"invalid_dropped", offsetof(struct dynvhost_vq_stats, dropped)},
	{"stalled_dropped", offsetof(struct dynvhost_vq_stats, stalled)},
	{"bad_chain_errors", offsetof(struct dynvhost_vq_stats, bad_chains)},
	{"guest_notifications", offsetof(struct dynvhost_vq_stats, calls)},
	{"guest_notifications_suppressed", offsetof(struct dynvhost_vq_stats, calls_suppressed)},
};

/** Counters of a transmit queue's ring. */
static const struct stats_item stats_txq_items[] = {
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
	/* Guest memory belongs to the process that serves the port. */
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		dynvhost_mem_stats_get(dev->mem, &dev->mem_base);
	return 0;
}

static unsigned int
stats_n_items(const struct dynvhost_dev *dev)
{
	return RTE_DIM(stats_mem_gauges) + RTE_DIM(stats_mem_counters) +
	       dev->n_pairs * (RTE_DIM(stats_rxq_items) + RTE_DIM(stats_txq_items));
}

int
dynvhost_xstats_get_names(
	struct rte_eth_dev *eth_dev, struct rte_eth_xstat_name *names, unsigned int n)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;
	unsigned int count = 0;

	if (names == NULL || n < stats_n_items(dev))
		return (int)stats_n_items(dev);
	for (unsigned int i = 0; i < RTE_DIM(stats_mem_gauges); i++)
		snprintf(names[count++].name, RTE_ETH_XSTATS_NAME_SIZE, "%s",
			stats_mem_gauges[i].name);
	for (unsigned int i = 0; i < RTE_DIM(stats_mem_counters); i++)
		snprintf(names[count++].name, RTE_ETH_XSTATS_NAME_SIZE, "%s",
			stats_mem_counters[i].name);
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		for (unsigned int i = 0; i < RTE_DIM(stats_rxq_items); i++)
			snprintf(names[count++].name, RTE_ETH_XSTATS_NAME_SIZE, "rx_q%u_%s", q,
				stats_rxq_items[i].name);
		for (unsigned int i = 0; i < RTE_DIM(stats_txq_items); i++)
			snprintf(names[count++].name, RTE_ETH_XSTATS_NAME_SIZE, "tx_q%u_%s", q,
				stats_txq_items[i].name);
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
		for (unsigned int i = 0; i < RTE_DIM(stats_txq_items); i++)
			xstats[count++].value = stats_ring(
				dev, DYNVHOST_RING_OF_TXQ(q), stats_txq_items[i].offset);
	}
	for (unsigned int i = 0; i < count; i++)
		xstats[i].id = i;
	return (int)count;
}
