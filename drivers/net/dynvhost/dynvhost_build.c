/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The parts of a port: queues, virtqueues, guest memory, and the back-end that serves front-ends.
 */

#include <errno.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include <rte_malloc.h>

#include "dynvhost_ethdev.h"
#include "dynvhost_log.h"

#define BUILD_BIT(n) (UINT64_C(1) << (n))

/**
 * What front-ends may use beyond the baseline of vhost-user. GPA_ADDRESSES takes nothing from us: a
 * front-end that has it names guest addresses as its own in the memory table, which is where ring
 * addresses are looked up.
 */
#define BUILD_PROTOCOL_FEATURES                                                        \
	(BUILD_BIT(VU_PF_MQ) | BUILD_BIT(VU_PF_LOG_SHMFD) | BUILD_BIT(VU_PF_RARP) |    \
		BUILD_BIT(VU_PF_REPLY_ACK) | BUILD_BIT(VU_PF_NET_MTU) |                \
		BUILD_BIT(VU_PF_RESET_DEVICE) | BUILD_BIT(VU_PF_CONFIGURE_MEM_SLOTS) | \
		BUILD_BIT(VU_PF_STATUS) | BUILD_BIT(VU_PF_GPA_ADDRESSES))

void
dynvhost_dismantle(struct dynvhost_dev *dev)
{
	if (dev->backend != NULL)
		dynvhost_backend_destroy(dev->backend);
	dynvhost_intr_release(dev);
	dynvhost_monitor_release(dev);
	dynvhost_mem_destroy(dev->mem);
	for (uint16_t ring = 0; dev->vq != NULL && ring < 2 * dev->n_pairs; ring++)
		dynvhost_vq_fini(&dev->vq[ring]);
	rte_free(dev->gate);
	rte_free(dev->ring_state);
	rte_free(dev->stats_base);
	rte_free(dev->vq);
	rte_free(dev->txq);
	rte_free(dev->rxq);
	dev->backend = NULL;
	dev->mem = NULL;
	dev->gate = NULL;
	dev->ring_state = NULL;
	dev->stats_base = NULL;
	dev->vq = NULL;
	dev->txq = NULL;
	dev->rxq = NULL;
}

static uint64_t
build_features(const struct dynvhost_devargs *args)
{
	uint64_t features = BUILD_BIT(VIRTIO_NET_F_CTRL_VQ) | BUILD_BIT(VIRTIO_NET_F_CTRL_RX) |
			    BUILD_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BUILD_BIT(VIRTIO_NET_F_MQ) |
			    BUILD_BIT(VIRTIO_NET_F_MTU) | BUILD_BIT(VIRTIO_F_ANY_LAYOUT) |
			    BUILD_BIT(VIRTIO_F_VERSION_1) | BUILD_BIT(VU_F_LOG_ALL) |
			    BUILD_BIT(VU_F_PROTOCOL_FEATURES) | dynvhost_offload_features(args);

	if (args->mrg_rxbuf)
		features |= BUILD_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (args->packed)
		features |= BUILD_BIT(VIRTIO_F_RING_PACKED);
	if (args->in_order)
		features |= BUILD_BIT(VIRTIO_F_IN_ORDER);
	if (args->event_idx)
		features |= BUILD_BIT(VIRTIO_RING_F_EVENT_IDX);
	if (args->iommu_support)
		features |= BUILD_BIT(VIRTIO_F_ACCESS_PLATFORM);
	if (args->indirect)
		features |= BUILD_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	return features;
}

static uint64_t
build_protocol_features(const struct dynvhost_devargs *args)
{
	/* An IOMMU's front-end is asked for translations. */
	return BUILD_PROTOCOL_FEATURES | (args->iommu_support ? BUILD_BIT(VU_PF_BACKEND_REQ) : 0);
}

static int
build_queues(struct dynvhost_dev *dev, int socket)
{
	uint16_t n = dev->n_pairs;
	int rc;

	dev->rxq = rte_zmalloc_socket(NULL, n * sizeof(*dev->rxq), RTE_CACHE_LINE_SIZE, socket);
	dynvhost_intr_init(dev);
	dev->txq = rte_zmalloc_socket(NULL, n * sizeof(*dev->txq), RTE_CACHE_LINE_SIZE, socket);
	dev->vq = rte_zmalloc_socket(NULL, 2 * n * sizeof(*dev->vq), RTE_CACHE_LINE_SIZE, socket);
	dev->stats_base = rte_zmalloc(NULL, 2 * n * sizeof(*dev->stats_base), 0);
	dev->ring_state = rte_zmalloc(NULL, 2 * n * sizeof(*dev->ring_state), 0);
	dev->gate = rte_zmalloc(NULL, 2 * n * sizeof(struct dynvhost_gate *), 0);
	if (dev->rxq == NULL || dev->txq == NULL || dev->vq == NULL || dev->stats_base == NULL ||
		dev->ring_state == NULL || dev->gate == NULL)
		return -ENOMEM;
	for (uint16_t ring = 0; ring < 2 * n; ring++) {
		rc = dynvhost_vq_init(&dev->vq[ring], ring, socket);
		if (rc < 0)
			return rc;
		dev->vq[ring].port_id = dev->eth_dev->data->port_id;
	}
	for (uint16_t q = 0; q < n; q++) {
		dev->rxq[q].dev = dev;
		dev->txq[q].dev = dev;
		dev->rxq[q].vq = &dev->vq[DYNVHOST_RING_OF_RXQ(q)];
		dev->txq[q].vq = &dev->vq[DYNVHOST_RING_OF_TXQ(q)];
		dev->txq[q].retries = dev->args.tx_retries;
		dynvhost_gate_init(&dev->rxq[q].gate);
		dynvhost_gate_init(&dev->txq[q].gate);
		dev->gate[2 * q] = &dev->rxq[q].gate;
		dev->gate[2 * q + 1] = &dev->txq[q].gate;
	}
	return 0;
}

static int
build_memory(struct dynvhost_dev *dev)
{
	const struct dynvhost_mem_config config = {
		.name = dev->name,
		.mode = dev->args.map_mode,
		.granule = dev->args.map_granule,
		.max_bytes = dev->args.map_max,
		.dump = dev->args.map_dump,
		.require_seal = dev->args.map_require_seal,
	};
	int rc = dynvhost_mem_create(&config, &dev->mem);

	if (rc < 0)
		DYNVHOST_LOG(driver, ERR, dev->name, "guest memory cannot be served like this: %s",
			dynvhost_mem_why(NULL));
	return rc;
}

static int
build_backend(struct dynvhost_dev *dev)
{
	const struct dynvhost_backend_config config = {
		.path = dev->args.iface,
		.client = dev->args.client,
		.reconnect_ms = dev->args.reconnect_ms,
		.mode = dev->args.sock_mode,
		.group = dev->args.sock_group,
		.session =
			{
				.name = dev->name,
				.features = build_features(&dev->args),
				.protocol_features = build_protocol_features(&dev->args),
				.max_mtu = dev->max_mtu,
				.n_rings = 2 * dev->n_pairs,
				.vq = dev->vq,
				.n_gates = 2 * dev->n_pairs,
				.gate = dev->gate,
				.mem = dev->mem,
				.idle_ms = dev->args.map_idle_ms,
				.hooks = &dynvhost_link_hooks,
				.opaque = dev,
			},
		.ops = &dynvhost_link_ops,
		.opaque = dev,
	};
	int rc = dynvhost_backend_create(&config, &dev->backend);

	if (rc < 0)
		DYNVHOST_LOG(driver, ERR, dev->name, "cannot %s %s: %s",
			dev->args.client ? "connect to" : "listen at", dev->args.iface,
			rc == -EADDRINUSE ? "another process listens there, or it is no socket"
			: rc == -EDEADLK  ? "a port cannot be added within an event callback"
					  : strerror(-rc));
	return rc;
}

int
dynvhost_build(struct dynvhost_dev *dev, int socket)
{
	int rc;

	dynvhost_gate_setup();
	rc = build_queues(dev, socket);
	if (rc == 0)
		rc = build_memory(dev);
	if (rc == 0)
		rc = build_backend(dev);
	if (rc < 0)
		dynvhost_dismantle(dev);
	return rc;
}
