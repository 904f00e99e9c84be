/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Whether what is measured is right: bytes, headers, lengths and mbufs of all sizes. */

#include <stdlib.h>
#include <string.h>

#include <linux/virtio_net.h>
#include <rte_ethdev.h>

#include "bench_burst_ring.h"
#include "mock.h"
#include "packet.h"

/** Frames checked in each direction: all lengths of a step that is prime to the largest. */
#define CHECK_FRAMES 400u
#define CHECK_STEP   7u

static uint32_t
check_len(uint32_t i)
{
	return 60 + i * CHECK_STEP % (BURST_MAX_LEN - 60 + 1);
}

/** Poll until something comes; queues may be slow at the beginning. */
static struct rte_mbuf *
check_receive(const struct burst_port *port)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	struct rte_mbuf *pkt;

	while (rte_eth_rx_burst(port->id, 0, &pkt, 1) == 0)
		if (mock_now_ms() > deadline)
			mock_fail("%s receives nothing", port->spec);
	return pkt;
}

static void
check_to_host(struct burst_port *port, uint32_t i)
{
	struct burst_ring *ring = &port->ring[1];
	struct burst_shape one = *ring->shape;
	const struct burst_shape *shape = ring->shape;
	uint8_t want[BURST_MAX_LEN];
	struct rte_mbuf *pkt;

	one.len = check_len(i);
	one.touch = BURST_TOUCH_NONE;
	packet_fill(want, one.len, i);
	memcpy(ring->buf_hva[ring->next_buf] + one.data_at, want, one.len);
	ring->shape = &one;
	burst_post(ring, 1, 0);
	ring->shape = shape;
	pkt = check_receive(port);
	mock_check(pkt->pkt_len == one.len && pkt->data_len == one.len && pkt->nb_segs == 1);
	mock_check(pkt->next == NULL && pkt->port == port->id && rte_mbuf_refcnt_read(pkt) == 1);
	mock_check((pkt->ol_flags & ~RTE_MBUF_F_RX_L4_CKSUM_MASK) == 0);
	mock_check(pkt->data_off == RTE_PKTMBUF_HEADROOM && pkt->pool == port->pool);
	mock_check(memcmp(rte_pktmbuf_mtod(pkt, void *), want, one.len) == 0);
	rte_pktmbuf_free(pkt);
	mock_check(burst_reap(ring) == 1);
}

static void
check_send(struct burst_port *port, struct rte_mbuf *pkt)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;

	while (rte_eth_tx_burst(port->id, 0, &pkt, 1) == 0)
		if (mock_now_ms() > deadline)
			mock_fail("%s sends nothing", port->spec);
}

static void
check_to_guest(struct burst_port *port, uint32_t i)
{
	const struct virtio_net_hdr_v1 want_hdr = {.num_buffers = 1};
	struct burst_ring *ring = &port->ring[0];
	const uint32_t len = check_len(i);
	struct rte_mbuf *pkt = rte_pktmbuf_alloc(port->pool);
	uint8_t want[BURST_MAX_LEN + 1];
	uint8_t *frame;

	mock_check(pkt != NULL);
	packet_fill(want, len, i);
	memcpy(rte_pktmbuf_append(pkt, (uint16_t)len), want, len);
	frame = ring->buf_hva[ring->next_buf] + ring->shape->data_at;
	memset(frame, 0, len);
	want[len] = frame[len] = (uint8_t)~i;
	burst_post(ring, 1, 0);
	check_send(port, pkt);
	mock_check(burst_reap(ring) == 1);
	mock_check(ring->last_len == BURST_HDR_LEN + len);
	mock_check(memcmp(frame, want, len + 1) == 0);
	/* Not every driver says 1 where nothing is merged. */
	mock_check(memcmp(frame - BURST_HDR_LEN, &want_hdr,
			   ring->shape->mergeable ? sizeof(want_hdr)
						  : sizeof(struct virtio_net_hdr)) == 0);
}

void
burst_check(struct burst_port *port, const struct burst_shape *shape)
{
	const uint32_t n = RTE_MAX(CHECK_FRAMES, shape->buffers);

	for (uint32_t i = 0; i < n; i++) {
		check_to_host(port, i);
		check_to_guest(port, i);
	}
}
