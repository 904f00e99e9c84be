/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The composition root: probe puts guest memory, virtqueues and the control plane together into an
 * ethdev port, remove takes them apart. Between the two, the application may stop, configure and
 * start the port as it likes: connection, rings and open pages stay.
 */

#include <errno.h>
#include <pthread.h>

#include <bus_vdev_driver.h>
#include <ethdev_vdev.h>
#include <rte_bus_vdev.h>
#include <rte_ether.h>

#include "dynvhost_compat.h"
#include "dynvhost_ethdev.h"
#include "dynvhost_log.h"

/** Frame length beyond the MTU: Ethernet header and one VLAN tag. */
#define ETHDEV_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN)
#define ETHDEV_MAX_MTU  65535
/** Data room of receive mbufs that the virtqueues ask for (virtqueue.h). */
#define ETHDEV_MIN_RX_ROOM 64
static_assert(ETHDEV_MAX_MTU + ETHDEV_OVERHEAD <= DYNVHOST_VQ_MAX_FRAME, "every MTU can be moved");

static TAILQ_HEAD(, dynvhost_dev) ethdev_list = TAILQ_HEAD_INITIALIZER(ethdev_list);
static pthread_mutex_t ethdev_list_lock = PTHREAD_MUTEX_INITIALIZER;

int
dynvhost_dev_visit(
	uint16_t port_id, void (*visit)(struct dynvhost_dev *dev, void *opaque), void *opaque)
{
	struct dynvhost_dev *dev;

	pthread_mutex_lock(&ethdev_list_lock);
	TAILQ_FOREACH (dev, &ethdev_list, next) {
		if (dev->eth_dev->data->port_id == port_id) {
			visit(dev, opaque);
			break;
		}
	}
	pthread_mutex_unlock(&ethdev_list_lock);
	return dev == NULL ? -ENODEV : 0;
}

void
dynvhost_dev_foreach(void (*visit)(struct dynvhost_dev *dev, void *opaque), void *opaque)
{
	struct dynvhost_dev *dev;

	pthread_mutex_lock(&ethdev_list_lock);
	TAILQ_FOREACH (dev, &ethdev_list, next)
		visit(dev, opaque);
	pthread_mutex_unlock(&ethdev_list_lock);
}

static int
ethdev_configure(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;
	uint16_t mtu = atomic_load(&dev->mtu);

	/* ethdev has just put its default in; the application's own wish comes by mtu_set. */
	atomic_store(&dev->own_mtu, dev->args.mtu != 0 ? dev->args.mtu : eth_dev->data->mtu);
	if (mtu != 0)
		eth_dev->data->mtu = mtu;
	dynvhost_queues_configure(eth_dev);
	return dynvhost_intr_configure(eth_dev);
}

static int
ethdev_start(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	dynvhost_offload_start(eth_dev);
	dynvhost_queues_start(eth_dev);
	/* ethdev says "started" only after this returns; the link may be up from now on. */
	eth_dev->data->dev_started = 1;
	atomic_store(&dev->started, true);
	dynvhost_link_set(dev, false);
	return 0;
}

static int
ethdev_stop(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	eth_dev->data->dev_started = 0;
	atomic_store(&dev->started, false);
	dynvhost_queues_stop(eth_dev);
	dynvhost_monitor_stop(dev);
	dynvhost_link_set(dev, false);
	return 0;
}

static int
ethdev_infos_get(struct rte_eth_dev *eth_dev, struct rte_eth_dev_info *info)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;

	info->max_mac_addrs = 1;
	info->max_rx_queues = dev->n_pairs;
	info->max_tx_queues = dev->n_pairs;
	info->min_rx_bufsize = ETHDEV_MIN_RX_ROOM;
	info->min_mtu = RTE_ETHER_MIN_MTU;
	info->max_mtu = dev->max_mtu;
	info->max_rx_pktlen = dev->max_mtu + ETHDEV_OVERHEAD;
	dynvhost_offload_info(dev, info);
	info->speed_capa = RTE_ETH_LINK_SPEED_10G;
	return 0;
}

static int
ethdev_rx_queue_setup(struct rte_eth_dev *eth_dev, uint16_t q, uint16_t n_desc, unsigned int socket,
	const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	RTE_SET_USED(socket);
	dev->rxq[q].pool = pool;
	dev->rxq[q].deferred = conf->rx_deferred_start != 0;
	dev->rxq[q].n_desc = n_desc;
	eth_dev->data->rx_queues[q] = &dev->rxq[q];
	return 0;
}

static int
ethdev_tx_queue_setup(struct rte_eth_dev *eth_dev, uint16_t q, uint16_t n_desc, unsigned int socket,
	const struct rte_eth_txconf *conf)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	RTE_SET_USED(socket);
	dev->txq[q].deferred = conf->tx_deferred_start != 0;
	dev->txq[q].n_desc = n_desc;
	eth_dev->data->tx_queues[q] = &dev->txq[q];
	return 0;
}

static void
ethdev_rxq_info_get(struct rte_eth_dev *eth_dev, uint16_t q, struct rte_eth_rxq_info *info)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;

	info->mp = dev->rxq[q].pool;
	info->nb_desc = dev->rxq[q].n_desc;
}

static void
ethdev_txq_info_get(struct rte_eth_dev *eth_dev, uint16_t q, struct rte_eth_txq_info *info)
{
	const struct dynvhost_dev *dev = eth_dev->data->dev_private;

	info->nb_desc = dev->txq[q].n_desc;
}

/** A guest's port delivers every frame that the guest sends: these modes are always on. */
static int
ethdev_accept_mode(struct rte_eth_dev *eth_dev)
{
	RTE_SET_USED(eth_dev);
	return 0;
}

static int
ethdev_mac_addr_set(struct rte_eth_dev *eth_dev, struct rte_ether_addr *mac)
{
	/* Frames are not filtered by address, so there is nothing to program; ethdev keeps it. */
	RTE_SET_USED(eth_dev);
	RTE_SET_USED(mac);
	return 0;
}

static int
ethdev_mtu_set(struct rte_eth_dev *eth_dev, uint16_t mtu)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	/* Frames are not measured by it: ethdev keeps it. It outlives front-ends. */
	atomic_store(&dev->own_mtu, mtu);
	return 0;
}

static int
ethdev_close(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return 0;
	pthread_mutex_lock(&ethdev_list_lock);
	TAILQ_REMOVE(&ethdev_list, dev, next);
	pthread_mutex_unlock(&ethdev_list_lock);
	dynvhost_dismantle(dev);
	/* The address is part of the private data, which ethdev frees by itself. */
	eth_dev->data->mac_addrs = NULL;
	DYNVHOST_LOG(driver, INFO, dev->name, "port closed, %s %s", dev->args.iface,
		dev->args.client ? "left" : "removed");
	return 0;
}

static const struct eth_dev_ops ethdev_ops = {
	.dev_configure = ethdev_configure,
	.dev_start = ethdev_start,
	.dev_stop = ethdev_stop,
	.dev_close = ethdev_close,
	.dev_infos_get = ethdev_infos_get,
	.dev_set_link_up = dynvhost_set_link_up,
	.dev_set_link_down = dynvhost_set_link_down,
	.rx_queue_setup = ethdev_rx_queue_setup,
	.tx_queue_setup = ethdev_tx_queue_setup,
	.rx_queue_start = dynvhost_rx_queue_start,
	.rx_queue_stop = dynvhost_rx_queue_stop,
	.tx_queue_start = dynvhost_tx_queue_start,
	.tx_queue_stop = dynvhost_tx_queue_stop,
	.tx_done_cleanup = dynvhost_tx_done_cleanup,
	.rx_queue_intr_enable = dynvhost_rx_queue_intr_enable,
	.rx_queue_intr_disable = dynvhost_rx_queue_intr_disable,
	.get_monitor_addr = dynvhost_get_monitor_addr,
	.rxq_info_get = ethdev_rxq_info_get,
	.txq_info_get = ethdev_txq_info_get,
	.link_update = dynvhost_link_update,
	.promiscuous_enable = ethdev_accept_mode,
	.promiscuous_disable = ethdev_accept_mode,
	.allmulticast_enable = ethdev_accept_mode,
	.allmulticast_disable = ethdev_accept_mode,
	.mac_addr_set = ethdev_mac_addr_set,
	.mtu_set = ethdev_mtu_set,
	.vlan_offload_set = dynvhost_vlan_offload_set,
	.dev_supported_ptypes_get = dynvhost_supported_ptypes_get,
	.dev_ptypes_set = dynvhost_ptypes_set,
	.stats_get = dynvhost_stats_get,
	.stats_reset = dynvhost_stats_reset,
	.xstats_get = dynvhost_xstats_get,
	.xstats_get_names = dynvhost_xstats_get_names,
	.xstats_reset = dynvhost_stats_reset,
};

/** In a secondary process: what only looks. All else belongs to the process that has probed. */
static const struct eth_dev_ops ethdev_secondary_ops = {
	.dev_close = ethdev_close,
	.dev_infos_get = ethdev_infos_get,
	.rxq_info_get = ethdev_rxq_info_get,
	.txq_info_get = ethdev_txq_info_get,
	.link_update = dynvhost_link_update,
	.stats_get = dynvhost_stats_get,
	.stats_reset = dynvhost_stats_reset,
	.xstats_get = dynvhost_xstats_get,
	.xstats_get_names = dynvhost_xstats_get_names,
	.xstats_reset = dynvhost_stats_reset,
};

/** Locally administered, with the driver's initials and the port number. */
static void
ethdev_fill_mac(struct rte_ether_addr *mac, uint16_t port_id)
{
	*mac = (struct rte_ether_addr){
		.addr_bytes = {0x56, 0x44, 0x59, 0x4e, port_id >> 8, port_id & 0xff},
	};
}

static int
ethdev_create(struct rte_vdev_device *vdev, const struct dynvhost_devargs *args)
{
	struct rte_eth_dev *eth_dev;
	struct dynvhost_dev *dev;
	int socket = vdev->device.numa_node;
	int rc;

	eth_dev = rte_eth_vdev_allocate(vdev, sizeof(*dev));
	if (eth_dev == NULL) {
		DYNVHOST_LOG(driver, ERR, rte_vdev_device_name(vdev), "no ethdev port is free");
		return -ENOMEM;
	}
	dev = eth_dev->data->dev_private;
	snprintf(dev->name, sizeof(dev->name), "%s", rte_vdev_device_name(vdev));
	dev->args = *args;
	dev->n_pairs = args->queues;
	dev->max_mtu = args->mtu != 0 ? args->mtu : ETHDEV_MAX_MTU;
	dev->eth_dev = eth_dev;
	atomic_init(&dev->mtu, args->mtu);
	atomic_init(&dev->own_mtu, args->mtu != 0 ? args->mtu : RTE_ETHER_MTU);
	if (args->mtu != 0)
		eth_dev->data->mtu = args->mtu;
	atomic_init(&dev->started, false);
	atomic_init(&dev->link_ready, false);
	atomic_init(&dev->link_admin, true);
	ethdev_fill_mac(&dev->mac, eth_dev->data->port_id);
	eth_dev->data->mac_addrs = &dev->mac;
	eth_dev->data->dev_flags |= RTE_ETH_DEV_INTR_LSC | RTE_ETH_DEV_AUTOFILL_QUEUE_XSTATS;
	eth_dev->data->promiscuous = 1;
	eth_dev->data->all_multicast = 1;
	eth_dev->dev_ops = &ethdev_ops;
	eth_dev->rx_pkt_burst = dynvhost_rx_burst;
	eth_dev->tx_pkt_burst = args->tx_retries == 0 ? dynvhost_tx_burst
						      : dynvhost_tx_burst_patient;
	eth_dev->rx_queue_count = dynvhost_rx_queue_count;
	eth_dev->rx_descriptor_status = dynvhost_rx_descriptor_status;
	eth_dev->tx_descriptor_status = dynvhost_tx_descriptor_status;
	dynvhost_link_set(dev, false);

	rc = dynvhost_build(dev, socket < 0 ? SOCKET_ID_ANY : socket);
	if (rc < 0) {
		eth_dev->data->mac_addrs = NULL;
		rte_eth_dev_release_port(eth_dev);
		return rc;
	}
	pthread_mutex_lock(&ethdev_list_lock);
	TAILQ_INSERT_TAIL(&ethdev_list, dev, next);
	pthread_mutex_unlock(&ethdev_list_lock);
	rte_eth_dev_probing_finish(eth_dev);
	DYNVHOST_LOG(driver, INFO, dev->name, "%s %s, %u queue pairs, map-mode %s (%s)",
		args->client ? "connecting to" : "listening at", dev->args.iface, dev->n_pairs,
		dynvhost_mem_engine_name(dev->mem), dynvhost_mem_engine_reason(dev->mem));
	return 0;
}

/** A secondary process sees the port and its statistics, and moves no packets. */
static int
ethdev_attach_secondary(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth_dev = rte_eth_dev_attach_secondary(rte_vdev_device_name(vdev));

	if (eth_dev == NULL) {
		DYNVHOST_LOG(driver, ERR, rte_vdev_device_name(vdev),
			"the primary process has no such port");
		return -ENODEV;
	}
	eth_dev->device = &vdev->device;
	eth_dev->dev_ops = &ethdev_secondary_ops;
	eth_dev->rx_pkt_burst = dynvhost_no_burst;
	eth_dev->tx_pkt_burst = dynvhost_no_burst;
	rte_eth_dev_probing_finish(eth_dev);
	return 0;
}

/** Driver structures change inside a DPDK ABI version: only the release built against will do. */
static bool
ethdev_runs_under_its_dpdk(const char *name)
{
	if (rte_version_year() == RTE_VER_YEAR && rte_version_month() == RTE_VER_MONTH)
		return true;
	DYNVHOST_LOG(driver, ERR, name,
		"this driver was built for DPDK %d.%02d and runs under %s; rebuild it",
		RTE_VER_YEAR, RTE_VER_MONTH, rte_version());
	return false;
}

static int
ethdev_probe(struct rte_vdev_device *vdev)
{
	const char *name = rte_vdev_device_name(vdev);
	struct dynvhost_devargs args;
	int rc;

	if (!ethdev_runs_under_its_dpdk(name))
		return -ENOTSUP;
	if (rte_eal_process_type() == RTE_PROC_SECONDARY)
		return ethdev_attach_secondary(vdev);
	rc = dynvhost_devargs_parse(name, rte_vdev_device_args(vdev), &args);
	if (rc < 0)
		return rc;
	return ethdev_create(vdev, &args);
}

static int
ethdev_remove(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth_dev = rte_eth_dev_allocated(rte_vdev_device_name(vdev));
	int rc = 0;

	/* Closed and released by the application already. */
	if (eth_dev == NULL)
		return 0;
	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return rte_eth_dev_release_port(eth_dev);
	/* At the latest when EAL goes down, and its memory with it, a port goes however it was left. */
	if (eth_dev->data->dev_started)
		rc = rte_eth_dev_stop(eth_dev->data->port_id);
	return rc < 0 ? rc : rte_eth_dev_close(eth_dev->data->port_id);
}

static struct rte_vdev_driver ethdev_driver = {
	.probe = ethdev_probe,
	.remove = ethdev_remove,
};

RTE_PMD_REGISTER_VDEV(net_dynvhost, ethdev_driver);
RTE_PMD_REGISTER_PARAM_STRING(net_dynvhost, DYNVHOST_PARAM_STRING);

/** What dpdk-pmdinfo.py looks for in the file. */
extern const char dynvhost_pmd_info[];
__rte_used const char dynvhost_pmd_info[] =
	"PMD_INFO_STRING= {\"name\" : \"net_dynvhost\", \"params\" : \"" DYNVHOST_PARAM_STRING
	"\", \"pci_ids\" : []}";
