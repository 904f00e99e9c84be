/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Bursts: through the queue's gate into the virtqueue that the queue serves.
 */

#include <rte_cycles.h>
#include <rte_ether.h>

#include "dynvhost_ethdev.h"
#include "rest.h"

/** A wait for guest buffers; a guest's driver that is awake offers some within as much. */
#define TX_RETRY_US 1

/** Packets looked at before they are sent: they are gone afterwards. */
#define RXTX_KINDS_CHUNK 64

/** What is counted of a packet. */
struct rxtx_kind {
	uint32_t len;
	bool multicast;
	bool broadcast;
};

static inline bool
rxtx_counts_kinds(struct dynvhost_queue *queue)
{
	return atomic_load_explicit(&queue->counts_kinds, memory_order_relaxed);
}

static struct rxtx_kind
rxtx_kind_of(const struct rte_mbuf *pkt)
{
	const struct rte_ether_addr *to = rte_pktmbuf_mtod(pkt, const struct rte_ether_addr *);
	bool has_address = pkt->data_len >= sizeof(*to);

	return (struct rxtx_kind){
		.len = pkt->pkt_len,
		.multicast = has_address && rte_is_multicast_ether_addr(to),
		.broadcast = has_address && rte_is_broadcast_ether_addr(to),
	};
}

static uint64_t *
rxtx_size_counter(struct dynvhost_queue_kinds *kinds, uint32_t len)
{
	if (len < 64)
		return &kinds->undersize;
	if (len == 64)
		return &kinds->size_64;
	if (len < 128)
		return &kinds->size_65_127;
	if (len < 256)
		return &kinds->size_128_255;
	if (len < 512)
		return &kinds->size_256_511;
	if (len < 1024)
		return &kinds->size_512_1023;
	return len < 1519 ? &kinds->size_1024_1518 : &kinds->size_1519_max;
}

static void
rxtx_count_kind(struct dynvhost_queue *queue, struct rxtx_kind kind)
{
	struct dynvhost_queue_kinds *kinds = &queue->kinds;

	dynvhost_vq_count(rxtx_size_counter(kinds, kind.len), 1);
	if (kind.broadcast)
		dynvhost_vq_count(&kinds->broadcast, 1);
	else if (kind.multicast)
		dynvhost_vq_count(&kinds->multicast, 1);
}

static __rte_noinline void
rxtx_count_received(struct dynvhost_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		rxtx_count_kind(queue, rxtx_kind_of(pkts[i]));
}

static __rte_noinline uint16_t
rxtx_enqueue_and_count(struct dynvhost_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct rxtx_kind kind[RXTX_KINDS_CHUNK];
	uint16_t done = 0, chunk, moved, i;

	do {
		chunk = RTE_MIN(n - done, RXTX_KINDS_CHUNK);
		for (i = 0; i < chunk; i++)
			kind[i] = rxtx_kind_of(pkts[done + i]);
		moved = queue->vq->enqueue(queue->vq, pkts + done, chunk);
		for (i = 0; i < moved; i++)
			rxtx_count_kind(queue, kind[i]);
		done += moved;
	} while (moved == chunk && done < n);
	return done;
}

/* Apart from the poll that leaves the ring alone, which needs no registers saved. */
static __rte_noinline uint16_t
rxtx_receive(struct dynvhost_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	const uint32_t burst = dynvhost_gate_enter(&queue->gate);
	uint16_t moved;

	if (unlikely(burst == 0))
		return 0;
	moved = queue->vq->dequeue(queue->vq, queue->pool, pkts, n);
	if (moved == 0)
		rest_begin(&queue->rest, queue->vq);
	dynvhost_gate_leave_burst(&queue->gate, burst);
	if (unlikely(atomic_load_explicit(&queue->finish, memory_order_relaxed) != 0))
		moved = dynvhost_rx_finish(queue, pkts, moved);
	if (unlikely(rxtx_counts_kinds(queue)))
		rxtx_count_received(queue, pkts, moved);
	return moved;
}

uint16_t
dynvhost_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	struct dynvhost_queue *queue = rxq;

	if (rest_is_on(&queue->rest))
		return 0;
	return rxtx_receive(queue, pkts, n);
}

uint16_t
dynvhost_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct dynvhost_queue *queue = txq;
	const uint32_t burst = dynvhost_gate_enter(&queue->gate);
	uint16_t moved;

	if (unlikely(burst == 0))
		return 0;
	if (unlikely(rxtx_counts_kinds(queue)))
		moved = rxtx_enqueue_and_count(queue, pkts, n);
	else
		moved = queue->vq->enqueue(queue->vq, pkts, n);
	dynvhost_gate_leave_burst(&queue->gate, burst);
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
