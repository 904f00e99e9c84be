/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_ETHDEV_H
#define DYNVHOST_ETHDEV_H

/**
 * @file
 * One port, as the files of this folder share it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <ethdev_driver.h>

#include "control.h"
#include "dynvhost_compat.h"
#include "dynvhost_devargs.h"
#include "gate.h"
#include "virtqueue.h"

/** Packets of a queue by size and kind; of those that its bursts have moved. */
struct dynvhost_queue_kinds {
	uint64_t undersize; /**< less than 64 bytes */
	uint64_t size_64;
	uint64_t size_65_127;
	uint64_t size_128_255;
	uint64_t size_256_511;
	uint64_t size_512_1023;
	uint64_t size_1024_1518;
	uint64_t size_1519_max;
	uint64_t multicast;
	uint64_t broadcast;
};

struct dynvhost_dev;

/** An ethdev queue: a gate, and for now the ring it serves and the mempool it fills from. */
struct dynvhost_queue {
	struct dynvhost_gate gate;
	struct dynvhost_vq *vq;
	struct rte_mempool *pool; /**< receive queues only */
	_Atomic uint32_t rest;    /**< receive queues: polls that are still left out (rest.h) */
	atomic_bool counts_kinds; /**< somebody has asked how many packets there are of each kind */
	uint8_t retries;          /**< transmit queues only: of bursts that come out short */
	bool deferred;            /**< not to be started with the port */
	_Atomic uint64_t finish;  /**< what received packets are put through (dynvhost_offload.c) */
	uint16_t n_desc;          /**< as asked for; the guest decides the ring's real size */
	struct dynvhost_dev *dev; /**< whose it is */
	atomic_bool monitored;    /**< somebody sleeps on the ring (dynvhost_monitor.c) */
	int intr_fd; /**< receive queues: what applications wait for (dynvhost_intr.c); -1: none */
	int wake_fd; /**< signalled by us; -1: none */
	int kick_fd; /**< signalled by the guest; the session's; -1: none */
	struct dynvhost_queue_kinds kinds;      /**< written by the queue's thread */
	struct dynvhost_queue_kinds kinds_base; /**< at the last reset */
};

/** Whether a ring serves: as it is, and as the application was told by the public API. */
struct dynvhost_ring_state {
	atomic_bool enabled;
	bool reported; /**< under the list lock */
};

/** A port. Lives from probe to close; in shared memory, so that secondary processes see statistics. */
struct dynvhost_dev {
	char name[RTE_ETH_NAME_MAX_LEN];
	struct dynvhost_devargs args;
	uint16_t n_pairs;
	uint16_t n_txq;             /**< transmit queues that the application has configured */
	struct dynvhost_queue *rxq; /**< n_pairs */
	struct dynvhost_queue *txq; /**< n_pairs */
	struct dynvhost_vq *vq;     /**< 2 * n_pairs, numbered as the guest does */
	struct dynvhost_vq_stats *stats_base; /**< 2 * n_pairs: counters at the last reset */
	struct dynvhost_mem_stats mem_base;   /**< likewise, of guest memory */
	struct rte_ether_addr mac;
	bool ptypes_chosen; /**< by rte_eth_dev_set_ptypes() */
	uint16_t max_mtu;   /**< largest that guest or application may set */

	/* Meaningful in the process that has probed the port. */
	struct rte_eth_dev *eth_dev;
	struct dynvhost_mem *mem;
	struct dynvhost_backend *backend;
	struct dynvhost_gate **gate;            /**< all of rxq and txq */
	struct dynvhost_ring_state *ring_state; /**< 2 * n_pairs */
	_Atomic uint16_t mtu;                   /**< the front-end's, or as probed; 0: nobody's */
	_Atomic uint16_t own_mtu;               /**< without a front-end's */
	atomic_bool link_ready;                 /**< a guest is there */
	atomic_bool link_admin;                 /**< the application wants the link up */
	atomic_bool started; /**< as dev_started of ethdev, which no other thread may look at */
	TAILQ_ENTRY(dynvhost_dev) next;
};

/** The ring on which queue @p q's guest transmits (our receive), and the one on which it receives. */
#define DYNVHOST_RING_OF_RXQ(q) (2 * (q) + 1)
#define DYNVHOST_RING_OF_TXQ(q) (2 * (q))

/**
 * Visit the port of this driver that has a DPDK port id; it stays while the visit lasts.
 * @return 0, or -ENODEV: no such port in this process.
 */
int dynvhost_dev_visit(
	uint16_t port_id, void (*visit)(struct dynvhost_dev *dev, void *opaque), void *opaque);

/** Visit every port of this driver in this process. */
void dynvhost_dev_foreach(void (*visit)(struct dynvhost_dev *dev, void *opaque), void *opaque);

/**
 * Make everything a port consists of; its args, n_pairs, max_mtu and eth_dev are set.
 * @return 0 or -errno, and then nothing is left behind.
 */
int dynvhost_build(struct dynvhost_dev *dev, int socket);

/** Free what dynvhost_build() has made, in reverse; parts that were not made are NULL. */
void dynvhost_dismantle(struct dynvhost_dev *dev);

/** What the control thread tells ethdev. */
extern const struct dynvhost_session_hooks dynvhost_link_hooks;
extern const struct dynvhost_backend_ops dynvhost_link_ops;

/** Set the link as guest, application and port state together say. Any thread. */
void dynvhost_link_set(struct dynvhost_dev *dev, bool tell);

/** Link operations. */
int dynvhost_link_update(struct rte_eth_dev *eth_dev, int wait_to_complete);
int dynvhost_set_link_up(struct rte_eth_dev *eth_dev);
int dynvhost_set_link_down(struct rte_eth_dev *eth_dev);

/** Burst functions. */
uint16_t dynvhost_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n);
uint16_t dynvhost_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n);
uint16_t dynvhost_no_burst(void *queue, struct rte_mbuf **pkts, uint16_t n);
/** As dynvhost_tx_burst(), with short waits for buffers of the guest (devarg tx-retries). */
uint16_t dynvhost_tx_burst_patient(void *txq, struct rte_mbuf **pkts, uint16_t n);

/**
 * Give every transmit queue the ring that it serves, by what the guest has enabled. All queues
 * outside, under the control thread's lock. @param opaque  a struct dynvhost_dev
 */
void dynvhost_queues_bind(void *opaque);

/** Queue operations. */
void dynvhost_queues_configure(struct rte_eth_dev *eth_dev);
void dynvhost_queues_start(struct rte_eth_dev *eth_dev);
void dynvhost_queues_stop(struct rte_eth_dev *eth_dev);
int dynvhost_rx_queue_start(struct rte_eth_dev *eth_dev, uint16_t q);
int dynvhost_rx_queue_stop(struct rte_eth_dev *eth_dev, uint16_t q);
int dynvhost_tx_queue_start(struct rte_eth_dev *eth_dev, uint16_t q);
int dynvhost_tx_queue_stop(struct rte_eth_dev *eth_dev, uint16_t q);
uint32_t dynvhost_rx_queue_count(void *rxq);
int dynvhost_rx_descriptor_status(void *rxq, uint16_t offset);
int dynvhost_tx_descriptor_status(void *txq, uint16_t offset);
int dynvhost_tx_done_cleanup(void *txq, uint32_t n);

/** Interrupt operations. */
void dynvhost_intr_init(struct dynvhost_dev *dev);
int dynvhost_intr_configure(struct rte_eth_dev *eth_dev);
void dynvhost_intr_release(struct dynvhost_dev *dev);
int dynvhost_rx_queue_intr_enable(struct rte_eth_dev *eth_dev, uint16_t q);
int dynvhost_rx_queue_intr_disable(struct rte_eth_dev *eth_dev, uint16_t q);

/** Sleeping on a ring's memory (dynvhost_monitor.c). */
int dynvhost_get_monitor_addr(void *rxq, struct rte_power_monitor_cond *cond);

/** Addresses that were given are not used any more. The port is stopped. */
void dynvhost_monitor_stop(struct dynvhost_dev *dev);

/** The same for a port that has no back-end any more. */
void dynvhost_monitor_release(void *opaque);

/** What has become of rings and kick fds, as the session's hooks say it. */
void dynvhost_intr_kick_changed(struct dynvhost_dev *dev, uint16_t ring, int fd);
void dynvhost_intr_rings_changed(struct dynvhost_dev *dev);

/** Offload features of virtio-net that are offered to the guest. */
uint64_t dynvhost_offload_features(const struct dynvhost_devargs *args);

/** Put the port's offloads into @p info. */
void dynvhost_offload_info(const struct dynvhost_dev *dev, struct rte_eth_dev_info *info);

/** Do from now on what the application has configured. The port is stopped. */
void dynvhost_offload_start(struct rte_eth_dev *eth_dev);

/**
 * Put @p n received packets through what a queue's `finish` says, in place.
 * @return how many are left; the others were malformed and are freed.
 */
uint16_t dynvhost_rx_finish(struct dynvhost_queue *rxq, struct rte_mbuf **pkts, uint16_t n);

/** Offload operations. */
int dynvhost_vlan_offload_set(struct rte_eth_dev *eth_dev, int mask);
const uint32_t *dynvhost_supported_ptypes_get(DYNVHOST_PTYPES_PARAMS);
int dynvhost_ptypes_set(struct rte_eth_dev *eth_dev, uint32_t mask);

/** Statistics operations. */
int dynvhost_stats_get(struct rte_eth_dev *eth_dev, struct rte_eth_stats *stats);
int dynvhost_stats_reset(struct rte_eth_dev *eth_dev);
int dynvhost_xstats_get(struct rte_eth_dev *eth_dev, struct rte_eth_xstat *xstats, unsigned int n);
int dynvhost_xstats_get_names(
	struct rte_eth_dev *eth_dev, struct rte_eth_xstat_name *names, unsigned int n);

#endif /* DYNVHOST_ETHDEV_H */
