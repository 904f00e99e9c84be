/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Bursts: through the queue's gate into the virtqueue that the queue serves.
 */

#include <rte_cycles.h>

#include "dynvhost_ethdev.h"

/** A wait for guest buffers; a guest's driver that is awake offers some within as much. */
#define TX_RETRY_US 1

uint16_t
dynvhost_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	struct dynvhost_queue *queue = rxq;
	uint16_t moved;

	if (unlikely(!dynvhost_gate_enter(&queue->gate)))
		return 0;
	moved = queue->vq->dequeue(queue->vq, queue->pool, pkts, n);
	dynvhost_gate_leave(&queue->gate);
	return moved;
}

uint16_t
dynvhost_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct dynvhost_queue *queue = txq;
	uint16_t moved;

	if (unlikely(!dynvhost_gate_enter(&queue->gate)))
		return 0;
	moved = queue->vq->enqueue(queue->vq, pkts, n);
	dynvhost_gate_leave(&queue->gate);
	return moved;
}

uint16_t
dynvhost_tx_burst_patient(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct dynvhost_queue *queue = txq;
	uint16_t moved = dynvhost_tx_burst(queue, pkts, n);
	uint8_t tries;

	/* Each try is a burst of its own: control gets in between. */
	for (tries = queue->retries; moved < n && tries > 0; tries--) {
		rte_delay_us_block(TX_RETRY_US);
		moved += dynvhost_tx_burst(queue, pkts + moved, (uint16_t)(n - moved));
	}
	return moved;
}

/** Secondary processes hold no guest memory: their bursts move nothing. */
uint16_t
dynvhost_no_burst(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	RTE_SET_USED(queue);
	RTE_SET_USED(pkts);
	RTE_SET_USED(n);
	return 0;
}
