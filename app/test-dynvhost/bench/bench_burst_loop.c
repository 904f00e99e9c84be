/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Latency: the guest sends one packet, the host receives it and sends it back, and the time counts
 * from making the one buffer available to finding the other one used. With two cores the host polls
 * all the time, as a switch does; the guest may rest before each packet, so that it comes to a port
 * that has been silent.
 */

#include <pthread.h>
#include <stdlib.h>

#include <rte_ethdev.h>
#include <rte_pause.h>

#include "bench_burst_line.h"
#include "bench_burst_ring.h"
#include "mock.h"

#define LOOP_WARM_UP 64u
#define LOOP_PACKETS 4000u /**< of a sample */

/** What the two threads share. */
struct loop {
	struct burst_port *port;
	const struct burst_shape *shape;
	double *time; /**< of each packet, nanoseconds */
	struct burst_line line;
	_Atomic bool stop __rte_cache_aligned;
};

/** Take what the guest has sent and send it back. */
static void
loop_host_turn(const struct burst_port *port)
{
	struct rte_mbuf *pkts[32];
	uint16_t got = rte_eth_rx_burst(port->id, 0, pkts, RTE_DIM(pkts));
	uint16_t sent = 0;

	while (sent < got)
		sent += rte_eth_tx_burst(port->id, 0, &pkts[sent], got - sent);
}

/** The guest keeps half a ring of buffers to receive into. */
static void
loop_fill(struct burst_ring *receive)
{
	const uint32_t n = RTE_MIN(receive->size, receive->n_bufs) / 2;

	if (receive->out < n)
		burst_post(receive, n - receive->out, 0);
}

static void
loop_rest(uint32_t gap_ns)
{
	const uint64_t start = rte_rdtsc();

	if (gap_ns == 0)
		return;
	while (rte_rdtsc() - start < gap_ns * rte_get_tsc_hz() / 1000000000)
		rte_pause();
}

/** One packet. @param host  do the host's part too. @return TSC cycles. */
static uint64_t
loop_packet(struct loop *loop, bool host, uint32_t i)
{
	struct burst_ring *receive = &loop->port->ring[0], *send = &loop->port->ring[1];
	const uint64_t deadline = rte_rdtsc() + rte_get_tsc_hz() / 1000 * MOCK_DEADLINE_MS;
	uint64_t start, end;

	loop_rest(loop->shape->gap_ns);
	start = burst_now();
	burst_post(send, 1, i);
	do {
		if (host)
			loop_host_turn(loop->port);
		if (rte_rdtsc() > deadline)
			mock_fail("%s does not send back", loop->port->spec);
	} while (burst_reap(receive) == 0);
	end = burst_now();
	burst_reap(send);
	loop_fill(receive);
	return end - start;
}

static void
loop_packets(struct loop *loop, bool host)
{
	const double ns = 1e9 / (double)rte_get_tsc_hz();

	loop_fill(&loop->port->ring[0]);
	for (uint32_t i = 0; i < LOOP_WARM_UP; i++)
		loop_packet(loop, host, i);
	for (uint32_t i = 0; i < LOOP_PACKETS; i++)
		loop->time[i] = (double)loop_packet(loop, host, i) * ns;
}

static void *
loop_guest(void *arg)
{
	struct loop *loop = arg;

	burst_line_answer(&loop->line);
	loop_packets(loop, false);
	atomic_store(&loop->stop, true);
	return NULL;
}

/** @return nanoseconds of a cache line's round trip. */
static double
loop_two(struct loop *loop)
{
	double round_trip;
	pthread_t thread;

	mock_check(pthread_create(&thread, NULL, loop_guest, loop) == 0);
	round_trip = burst_line_ask(&loop->line);
	while (!atomic_load_explicit(&loop->stop, memory_order_relaxed))
		loop_host_turn(loop->port);
	burst_hurry(false);
	pthread_join(thread, NULL);
	return round_trip;
}

struct burst_sample
burst_loop(struct burst_port *port, const struct burst_shape *shape, const struct burst_plan *plan,
	bool two)
{
	static double time[LOOP_PACKETS];
	struct loop loop = {
		.port = port, .shape = shape, .time = time, .line = {.cpu = plan->guest_cpu}};
	struct burst_sample sample = {.valid = true};

	if (two) {
		sample.round_trip = loop_two(&loop);
	} else {
		burst_hurry(true);
		loop_packets(&loop, true);
		burst_hurry(false);
	}
	sample.value = burst_median(time, LOOP_PACKETS);
	sample.tail = time[LOOP_PACKETS * 99 / 100];
	return sample;
}
