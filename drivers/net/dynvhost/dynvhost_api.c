/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The public functions of rte_eth_dynvhost.h.
 */

#include <errno.h>

#include "dynvhost_ethdev.h"

/* All else in the driver is compiled hidden. */
#pragma GCC visibility push(default)
#include "rte_eth_dynvhost.h"
#pragma GCC visibility pop

struct api_event_search {
	struct rte_eth_dynvhost_queue_event *event;
	bool found;
};

/** Find a ring whose state differs from what was reported last. Visits exclude each other. */
static void
api_find_event(struct dynvhost_dev *dev, void *opaque)
{
	struct api_event_search *search = opaque;

	for (uint16_t ring = 0; ring < 2 * dev->n_pairs && !search->found; ring++) {
		bool enabled = atomic_load(&dev->ring_state[ring].enabled);

		if (enabled == dev->ring_state[ring].reported)
			continue;
		dev->ring_state[ring].reported = enabled;
		search->event->queue_id = ring / 2;
		search->event->rx = ring == DYNVHOST_RING_OF_RXQ(ring / 2);
		search->event->enable = enabled;
		search->found = true;
	}
}

int
rte_eth_dynvhost_get_queue_event(uint16_t port_id, struct rte_eth_dynvhost_queue_event *event)
{
	struct api_event_search search = {.event = event};
	int rc;

	if (event == NULL)
		return -EINVAL;
	rc = dynvhost_dev_visit(port_id, api_find_event, &search);
	if (rc < 0)
		return rc;
	return search.found ? 0 : -ENOENT;
}

static void
api_fill_exposure(struct dynvhost_dev *dev, void *opaque)
{
	struct rte_eth_dynvhost_exposure *exposure = opaque;
	struct dynvhost_mem_stats stats;

	dynvhost_mem_stats_get(dev->mem, &stats);
	*exposure = (struct rte_eth_dynvhost_exposure){
		.guest_bytes = stats.guest_bytes,
		.loadable_bytes = stats.loadable_bytes,
		.loadable_peak = stats.loadable_peak,
		.storable_bytes = stats.storable_bytes,
		.storable_peak = stats.storable_peak,
		.pinned_bytes = stats.pinned_bytes,
		.opens = stats.opens,
		.closes = stats.closes,
		.repairs = stats.repairs,
		.denials = stats.denials,
		.lost = stats.lost,
	};
}

int
rte_eth_dynvhost_get_exposure(uint16_t port_id, struct rte_eth_dynvhost_exposure *exposure)
{
	if (exposure == NULL)
		return -EINVAL;
	return dynvhost_dev_visit(port_id, api_fill_exposure, exposure);
}
