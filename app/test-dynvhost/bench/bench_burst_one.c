/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * One core: this thread posts buffers and takes them back, and the time of the burst call alone
 * counts, in TSC cycles. A sample is the mean of the middle half of its bursts' times: interrupts
 * and other threads of the machine spoil some. Where what happens now and then is what is asked for,
 * it is the mean of all.
 */

#include <stdlib.h>

#include <rte_ethdev.h>

#include "bench_burst_line.h"
#include "bench_burst_profile.h"
#include "bench_burst_ring.h"
#include "mock.h"

#define ONE_WARM_UP   16u /**< bursts of each port */
#define ONE_POLLS     32u /**< empty polls are timed by so many */
#define ONE_OVERHEADS 64u

static int
one_compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

/** Mean of the middle half. */
static double
one_middle(uint64_t *time, unsigned int n)
{
	uint64_t sum = 0;
	unsigned int i;

	qsort(time, n, sizeof(*time), one_compare);
	for (i = n / 4; i < n - n / 4; i++)
		sum += time[i];
	return (double)sum / (n - 2 * (n / 4));
}

static double
one_mean(const uint64_t *time, unsigned int n)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < n; i++)
		sum += time[i];
	return (double)sum / n;
}

/** What taking the time costs by itself. */
static double
one_overhead(void)
{
	uint64_t time[ONE_OVERHEADS];

	for (unsigned int i = 0; i < ONE_OVERHEADS; i++) {
		uint64_t start = burst_start();

		time[i] = burst_now() - start;
	}
	return one_middle(time, ONE_OVERHEADS);
}

static uint64_t
one_rx(struct burst_port *port, const struct burst_shape *shape, uint32_t first)
{
	struct burst_ring *ring = &port->ring[1];
	struct rte_mbuf *pkts[BURST_MAX];
	uint64_t start, end;
	uint16_t got;

	burst_post(ring, shape->burst, first);
	burst_profile_inside = true;
	start = burst_start();
	got = rte_eth_rx_burst(port->id, 0, pkts, shape->burst);
	/* A burst may be short while something opens; that is time too. */
	while (got < shape->burst)
		got += rte_eth_rx_burst(port->id, 0, &pkts[got], shape->burst - got);
	end = burst_now();
	burst_profile_inside = false;
	rte_pktmbuf_free_bulk(pkts, got);
	if (burst_reap(ring) != shape->burst)
		mock_fail("%s has not returned all buffers", port->spec);
	return end - start;
}

static uint64_t
one_tx(struct burst_port *port, const struct burst_shape *shape, uint32_t first)
{
	struct burst_ring *ring = &port->ring[0];
	struct rte_mbuf *pkts[BURST_MAX];
	uint64_t start, end;
	uint16_t sent;

	mock_check(rte_pktmbuf_alloc_bulk(port->pool, pkts, shape->burst) == 0);
	for (uint16_t i = 0; i < shape->burst; i++)
		rte_pktmbuf_append(pkts[i], (uint16_t)burst_len(shape, first + i));
	burst_post(ring, shape->burst, first);
	burst_profile_inside = true;
	start = burst_start();
	sent = rte_eth_tx_burst(port->id, 0, pkts, shape->burst);
	while (sent < shape->burst)
		sent += rte_eth_tx_burst(port->id, 0, &pkts[sent], shape->burst - sent);
	end = burst_now();
	burst_profile_inside = false;
	if (burst_reap(ring) != shape->burst)
		mock_fail("%s has not returned all buffers", port->spec);
	return end - start;
}

static uint64_t
one_empty(const struct burst_port *port, const struct burst_shape *shape, uint32_t first)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t id[ONE_POLLS];
	unsigned int got = 0;
	uint64_t start, end;

	for (unsigned int i = 0; i < ONE_POLLS; i++)
		id[i] = port[(first + i) % shape->ports].id;
	start = burst_start();
	for (unsigned int i = 0; i < ONE_POLLS; i++)
		got += rte_eth_rx_burst(id[i], 0, pkts, 32);
	end = burst_now();
	mock_check(got == 0);
	return end - start;
}

/** Burst @p i, on the port whose turn it is. */
static uint64_t
one_burst(struct burst_port *port, const struct burst_shape *shape, uint32_t i)
{
	struct burst_port *own = &port[i % shape->ports];

	if (shape->dir == BURST_EMPTY)
		return one_empty(port, shape, i * ONE_POLLS);
	return shape->dir == BURST_RX ? one_rx(own, shape, i * shape->burst)
				      : one_tx(own, shape, i * shape->burst);
}

struct burst_sample
burst_one(struct burst_port *port, const struct burst_shape *shape, const struct burst_plan *plan)
{
	const unsigned int per_burst = shape->dir == BURST_EMPTY ? ONE_POLLS : shape->burst;
	const unsigned int n = RTE_MAX(plan->packets / per_burst, 8u);
	const double overhead = one_overhead();
	uint64_t *time = calloc(n, sizeof(*time));
	struct burst_sample sample = {.valid = true};

	mock_check(time != NULL);
	burst_hurry(true);
	for (unsigned int i = 0; i < ONE_WARM_UP * shape->ports; i++)
		one_burst(port, shape, i);
	for (unsigned int i = 0; i < n; i++)
		time[i] = one_burst(port, shape, i);
	burst_hurry(false);
	sample.value = plan->mean ? one_mean(time, n) : one_middle(time, n);
	sample.value = (sample.value - overhead) / per_burst;
	free(time);
	return sample;
}
