/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Two cores: a thread on another CPU is the guest and drives its ring as fast as it can, while this
 * one moves packets. Before each sample the round trip of a cache line between the two is taken:
 * virtual CPUs move, near to each other or far, and what is measured moves with them.
 */

#include <pthread.h>
#include <stdatomic.h>

#include <rte_ethdev.h>

#include "bench_burst_line.h"
#include "bench_burst_ring.h"
#include "mock.h"

#define TWO_POST 32u

/** What the two threads share. */
struct two {
	struct burst_ring *ring;
	uint64_t turns; /**< of the guest, and those that found nothing to do */
	uint64_t stalls;
	struct burst_line line;
	_Atomic bool stop __rte_cache_aligned;
};

/** What the host's side counts. */
struct two_host {
	uint64_t packets;
	uint64_t polls;
	uint64_t empty;
	uint64_t cycles; /**< in bursts that were not empty */
};

static void *
two_guest(void *arg)
{
	struct two *two = arg;
	struct burst_ring *ring = two->ring;
	uint32_t first = 0;

	burst_line_answer(&two->line);
	while (!atomic_load_explicit(&two->stop, memory_order_relaxed)) {
		uint32_t done = burst_reap(ring);
		uint32_t room = RTE_MIN(ring->size - ring->out, TWO_POST);

		if (room > 0)
			burst_post(ring, room, first);
		first = (first + room) % 12;
		two->turns++;
		two->stalls += done == 0 && room == 0;
	}
	return NULL;
}

static void
two_rx(const struct burst_port *port, uint16_t burst, struct two_host *host)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint64_t start = rte_rdtsc();
	uint16_t got = rte_eth_rx_burst(port->id, 0, pkts, burst);

	host->polls++;
	if (got == 0) {
		host->empty++;
		return;
	}
	host->cycles += rte_rdtsc() - start;
	host->packets += got;
	rte_pktmbuf_free_bulk(pkts, got);
}

/** @param pkts  packets to send, of which @p n are left from the last time. @return as many. */
static uint16_t
two_tx(const struct burst_port *port, const struct burst_shape *shape, struct rte_mbuf **pkts,
	uint16_t n, struct two_host *host)
{
	uint64_t start;
	uint16_t sent;

	if (n < shape->burst) {
		mock_check(rte_pktmbuf_alloc_bulk(port->pool, &pkts[n], shape->burst - n) == 0);
		for (; n < shape->burst; n++)
			rte_pktmbuf_append(
				pkts[n], (uint16_t)burst_len(shape, (uint32_t)host->packets + n));
	}
	start = rte_rdtsc();
	sent = rte_eth_tx_burst(port->id, 0, pkts, n);
	host->polls++;
	if (sent == 0) {
		host->empty++;
		return n;
	}
	host->cycles += rte_rdtsc() - start;
	host->packets += sent;
	memmove(pkts, &pkts[sent], (size_t)(n - sent) * sizeof(pkts[0]));
	return n - sent;
}

/** @return seconds it took. */
static double
two_host(struct burst_port *port, const struct burst_shape *shape, unsigned int ms,
	struct two_host *host)
{
	const uint64_t start = rte_rdtsc();
	const uint64_t length = rte_get_tsc_hz() / 1000 * ms;
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t left = 0;

	do {
		if (shape->dir == BURST_RX)
			two_rx(port, shape->burst, host);
		else
			left = two_tx(port, shape, pkts, left, host);
	} while (rte_rdtsc() - start < length);
	rte_pktmbuf_free_bulk(pkts, left);
	return (double)(rte_rdtsc() - start) / (double)rte_get_tsc_hz();
}

struct burst_sample
burst_two(struct burst_port *port, const struct burst_shape *shape, const struct burst_plan *plan)
{
	struct two two = {
		.ring = &port->ring[shape->dir == BURST_RX ? 1 : 0],
		.line = {.cpu = plan->guest_cpu},
	};
	struct burst_sample sample = {.valid = true};
	struct two_host host = {0};
	pthread_t thread;
	double seconds;

	mock_check(pthread_create(&thread, NULL, two_guest, &two) == 0);
	sample.round_trip = burst_line_ask(&two.line);
	seconds = two_host(port, shape, plan->ms, &host);
	burst_hurry(false);
	atomic_store(&two.stop, true);
	pthread_join(thread, NULL);
	sample.value = (double)host.packets / seconds / 1e6;
	sample.cycles = (double)host.cycles / (double)RTE_MAX(host.packets, UINT64_C(1));
	sample.burst = (double)host.packets / (double)RTE_MAX(host.polls - host.empty, UINT64_C(1));
	sample.empty = (double)host.empty / (double)host.polls;
	sample.stalls = (double)two.stalls / (double)RTE_MAX(two.turns, UINT64_C(1));
	return sample;
}
