/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The link, and what else the control thread has to tell ethdev: queue states and the MTU. The link
 * is up while a guest is there, the application wants it up and has started the port.
 */

#include <pthread.h>

#include "dynvhost_ethdev.h"

/** Makes working out a link and setting it one step; never held in a callback. */
static pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;

void
dynvhost_link_set(struct dynvhost_dev *dev, bool tell)
{
	struct rte_eth_dev *eth_dev = dev->eth_dev;
	struct rte_eth_link link = {
		.link_speed = RTE_ETH_SPEED_NUM_10G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_FIXED,
	};
	bool changed;

	pthread_mutex_lock(&link_lock);
	if (atomic_load(&dev->started) && atomic_load(&dev->link_ready) &&
		atomic_load(&dev->link_admin))
		link.link_status = RTE_ETH_LINK_UP;
	changed = rte_eth_linkstatus_set(eth_dev, &link) == 0;
	pthread_mutex_unlock(&link_lock);
	if (changed && tell)
		rte_eth_dev_callback_process(eth_dev, RTE_ETH_EVENT_INTR_LSC, NULL);
}

/** News from the control thread, no lock held. */
static void
link_guest_changed(void *opaque, bool up, int numa_node)
{
	struct dynvhost_dev *dev = opaque;

	/* Applications take mempools and lcores from there when they configure the port next. */
	if (numa_node >= 0)
		dev->eth_dev->data->numa_node = numa_node;
	atomic_store(&dev->link_ready, up);
	dynvhost_link_set(dev, true);
}

static void
link_ring_changed(void *opaque, uint16_t ring, bool enabled)
{
	struct dynvhost_dev *dev = opaque;

	atomic_store(&dev->ring_state[ring].enabled, enabled);
	if (atomic_load(&dev->started))
		rte_eth_dev_callback_process(dev->eth_dev, RTE_ETH_EVENT_QUEUE_STATE, NULL);
}

static void
link_mtu_changed(void *opaque, uint16_t mtu)
{
	struct dynvhost_dev *dev = opaque;

	/* Without a front-end the port has the MTU that it had before, or was given since. */
	atomic_store(&dev->mtu, mtu != 0 ? mtu : dev->args.mtu);
	dev->eth_dev->data->mtu = mtu != 0 ? mtu : atomic_load(&dev->own_mtu);
}

static void
link_rings_changed(void *opaque)
{
	dynvhost_queues_bind(opaque);
	dynvhost_intr_rings_changed(opaque);
}

static void
link_kick_changed(void *opaque, uint16_t ring, int fd)
{
	dynvhost_intr_kick_changed(opaque, ring, fd);
}

const struct dynvhost_session_hooks dynvhost_link_hooks = {
	.rings_changed = link_rings_changed,
	.kick_changed = link_kick_changed,
};

const struct dynvhost_backend_ops dynvhost_link_ops = {
	.link_changed = link_guest_changed,
	.ring_changed = link_ring_changed,
	.mtu_changed = link_mtu_changed,
};

int
dynvhost_link_update(struct rte_eth_dev *eth_dev, int wait_to_complete)
{
	/* The control thread keeps the link up to date. */
	RTE_SET_USED(eth_dev);
	RTE_SET_USED(wait_to_complete);
	return 0;
}

static int
link_set_admin(struct rte_eth_dev *eth_dev, bool up)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	atomic_store(&dev->link_admin, up);
	dynvhost_link_set(dev, false);
	return 0;
}

int
dynvhost_set_link_up(struct rte_eth_dev *eth_dev)
{
	return link_set_admin(eth_dev, true);
}

int
dynvhost_set_link_down(struct rte_eth_dev *eth_dev)
{
	return link_set_admin(eth_dev, false);
}
