/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Queues: which ring each of them serves, and whether it is polled at all.
 *
 * A receive queue serves the ring of its number, always. A transmit queue does so while the guest has
 * that ring enabled; otherwise it shares a ring that is, so that what an application sends on queues
 * that the guest does not use reaches it all the same. A ring that several queues serve takes their
 * bursts one by one (dynvhost_vq_set_shared()).
 *
 * Bindings change in the control thread when rings do, or under its lock when the application
 * configures the port, and with all queues of the port outside their bursts in either case.
 */

#include <time.h>

#include "dynvhost_ethdev.h"

/** Hold a queue as the application's, and wait until it is outside its burst. Not control's thread. */
static void
queue_hold(struct dynvhost_queue *queue)
{
	const struct timespec moment = {.tv_nsec = 20000};
	struct dynvhost_gate_snapshot snapshot;

	dynvhost_gate_hold(&queue->gate, DYNVHOST_GATE_ETHDEV);
	dynvhost_gate_sync();
	snapshot = dynvhost_gate_look(&queue->gate);
	while (!dynvhost_gate_was_outside(&queue->gate, snapshot))
		nanosleep(&moment, NULL);
}

static void
queue_release(struct dynvhost_queue *queue)
{
	dynvhost_gate_release(&queue->gate, DYNVHOST_GATE_ETHDEV);
}

/** Whether transmit queue @p q's own ring takes packets. */
static bool
queue_ring_serves(const struct dynvhost_dev *dev, uint16_t q)
{
	const struct dynvhost_vq *vq = &dev->vq[DYNVHOST_RING_OF_TXQ(q)];

	return dynvhost_vq_is_started(vq) && vq->enabled;
}

void
dynvhost_queues_bind(void *opaque)
{
	struct dynvhost_dev *dev = opaque;
	uint16_t serving[DYNVHOST_MAX_QUEUE_PAIRS];
	uint16_t users[DYNVHOST_MAX_QUEUE_PAIRS] = {0};
	uint16_t n_serving = 0, n_others = 0;
	uint16_t pair;

	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		if (queue_ring_serves(dev, q))
			serving[n_serving++] = q;
	}
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		pair = q;
		if (n_serving != 0 && !queue_ring_serves(dev, q))
			pair = serving[n_others++ % n_serving];
		dev->txq[q].vq = &dev->vq[DYNVHOST_RING_OF_TXQ(pair)];
		if (q < dev->n_txq)
			users[pair]++;
	}
	for (uint16_t q = 0; q < dev->n_pairs; q++)
		dynvhost_vq_set_shared(&dev->vq[DYNVHOST_RING_OF_TXQ(q)], users[q] > 1);
}

/** Work for the control thread's lock: the application has configured its transmit queues. */
static void
queues_reconfigure(void *opaque)
{
	struct dynvhost_dev *dev = opaque;

	dev->n_txq = dev->eth_dev->data->nb_tx_queues;
	dynvhost_queues_bind(dev);
}

void
dynvhost_queues_configure(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	for (uint16_t q = 0; q < dev->n_pairs; q++)
		queue_hold(&dev->txq[q]);
	dynvhost_backend_call(dev->backend, queues_reconfigure, dev);
	for (uint16_t q = 0; q < dev->n_pairs; q++)
		queue_release(&dev->txq[q]);
}

static int
queue_set_state(struct dynvhost_queue *queue, uint8_t *state, bool run)
{
	if (run)
		queue_release(queue);
	else
		queue_hold(queue);
	*state = run ? RTE_ETH_QUEUE_STATE_STARTED : RTE_ETH_QUEUE_STATE_STOPPED;
	return 0;
}

void
dynvhost_queues_start(struct rte_eth_dev *eth_dev)
{
	struct rte_eth_dev_data *data = eth_dev->data;
	struct dynvhost_dev *dev = data->dev_private;

	for (uint16_t q = 0; q < data->nb_rx_queues; q++)
		queue_set_state(&dev->rxq[q], &data->rx_queue_state[q], !dev->rxq[q].deferred);
	for (uint16_t q = 0; q < data->nb_tx_queues; q++)
		queue_set_state(&dev->txq[q], &data->tx_queue_state[q], !dev->txq[q].deferred);
}

void
dynvhost_queues_stop(struct rte_eth_dev *eth_dev)
{
	struct rte_eth_dev_data *data = eth_dev->data;

	for (uint16_t q = 0; q < data->nb_rx_queues; q++)
		data->rx_queue_state[q] = RTE_ETH_QUEUE_STATE_STOPPED;
	for (uint16_t q = 0; q < data->nb_tx_queues; q++)
		data->tx_queue_state[q] = RTE_ETH_QUEUE_STATE_STOPPED;
}

int
dynvhost_rx_queue_start(struct rte_eth_dev *eth_dev, uint16_t q)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	return queue_set_state(&dev->rxq[q], &eth_dev->data->rx_queue_state[q], true);
}

int
dynvhost_rx_queue_stop(struct rte_eth_dev *eth_dev, uint16_t q)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	return queue_set_state(&dev->rxq[q], &eth_dev->data->rx_queue_state[q], false);
}

int
dynvhost_tx_queue_start(struct rte_eth_dev *eth_dev, uint16_t q)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	return queue_set_state(&dev->txq[q], &eth_dev->data->tx_queue_state[q], true);
}

int
dynvhost_tx_queue_stop(struct rte_eth_dev *eth_dev, uint16_t q)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;

	return queue_set_state(&dev->txq[q], &eth_dev->data->tx_queue_state[q], false);
}

/** Chains that a queue's ring has to offer, and the ring's size. @return false: not to be asked now. */
static bool
queue_look(struct dynvhost_queue *queue, uint16_t *pending, uint16_t *size)
{
	if (unlikely(!dynvhost_gate_enter(&queue->gate)))
		return false;
	*pending = dynvhost_vq_pending(queue->vq);
	*size = queue->vq->size;
	dynvhost_gate_leave(&queue->gate);
	return true;
}

uint32_t
dynvhost_rx_queue_count(void *rxq)
{
	uint16_t pending, size;

	return queue_look(rxq, &pending, &size) ? pending : 0;
}

int
dynvhost_rx_descriptor_status(void *rxq, uint16_t offset)
{
	uint16_t pending, size;

	if (!queue_look(rxq, &pending, &size) || offset >= size)
		return RTE_ETH_RX_DESC_UNAVAIL;
	return offset < pending ? RTE_ETH_RX_DESC_DONE : RTE_ETH_RX_DESC_AVAIL;
}

int
dynvhost_tx_descriptor_status(void *txq, uint16_t offset)
{
	uint16_t pending, size;

	if (!queue_look(txq, &pending, &size) || offset >= size)
		return RTE_ETH_TX_DESC_UNAVAIL;
	/* A descriptor can be filled when the guest has offered a buffer with it. */
	return offset < pending ? RTE_ETH_TX_DESC_DONE : RTE_ETH_TX_DESC_FULL;
}

int
dynvhost_tx_done_cleanup(void *txq, uint32_t n)
{
	/* Packets are copied and freed before a burst ends. */
	RTE_SET_USED(txq);
	RTE_SET_USED(n);
	return 0;
}
