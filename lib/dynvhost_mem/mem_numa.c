/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Where guest memory is.
 *
 * A front-end that cares binds the file to a node (mbind of a shared mapping), and every mapping of
 * the file shows that binding. Where there is none, pages that are open lie somewhere; asking about
 * one that is not would have it brought in, and is not done.
 */

#include <numaif.h>

#include "mem_priv.h"

/** Nodes that the kernel may have (CONFIG_NODES_SHIFT is 10 at most). */
#define NUMA_NODES 1024

/** Open pages that are looked at. */
#define NUMA_SAMPLES 64

/** Policies that may name one node; libnuma's headers may lack the last one, of Linux 5.15. */
#define NUMA_PREFERRED_MANY 5
#define NUMA_POLICY         0xff /* the rest are flags */

/** Bytes found on each node. */
struct numa_votes {
	uint64_t bytes[NUMA_NODES];
};

/** The only node of a set, or -1. */
static int
numa_only_node(const unsigned long *nodes)
{
	const unsigned int bits = 8 * sizeof(*nodes);
	int found = -1;
	unsigned int i;

	for (i = 0; i < NUMA_NODES; i++) {
		if ((nodes[i / bits] >> (i % bits) & 1) == 0)
			continue;
		if (found >= 0)
			return -1;
		found = (int)i;
	}
	return found;
}

/** The node a region's file is bound to, or -1. */
static int
numa_bound_node(const struct mem_region *region)
{
	unsigned long nodes[NUMA_NODES / (8 * sizeof(unsigned long))] = {0};
	const uint8_t *addr = region->probe;
	int mode = 0;

	/* Any address where the file is mapped. */
	if (addr == NULL)
		addr = region->window[DYNVHOST_MEM_READ].engine.start;
	if (dynvhost_mem_sys->get_mempolicy(
		    &mode, nodes, NUMA_NODES + 1, (void *)(uintptr_t)addr, MPOL_F_ADDR) != 0)
		return -1;
	mode &= NUMA_POLICY;
	if (mode != MPOL_BIND && mode != MPOL_PREFERRED && mode != NUMA_PREFERRED_MANY)
		return -1;
	return numa_only_node(nodes);
}

/** Collect addresses of open pages of a window. @return how many there are now. */
static unsigned int
numa_sample(struct mem_region *region, enum dynvhost_mem_right right, void **sample, unsigned int n)
{
	struct mem_window *window = &region->window[right];
	uint64_t page = mem_pages_next(&window->pages, 0);

	for (; page < region->n_pages && n < NUMA_SAMPLES;
		page = mem_pages_next(&window->pages, page + 1))
		if ((atomic_load(&window->pages.state[page]) & DYNVHOST_MEM_OPEN) != 0)
			sample[n++] = window->engine.start + (page << region->pub.page_shift);
	return n;
}

/** Count open pages by the nodes they are on. */
static void
numa_count_pages(const struct dynvhost_mem_view *view, struct numa_votes *votes)
{
	void *sample[NUMA_SAMPLES];
	int status[NUMA_SAMPLES];
	unsigned int n = 0, i;

	for (i = 0; i < view->n_regions && n < NUMA_SAMPLES; i++) {
		struct mem_region *region = mem_region_of(view->region[i]);

		n = numa_sample(region, DYNVHOST_MEM_READ, sample, n);
		n = numa_sample(region, DYNVHOST_MEM_WRITE, sample, n);
	}
	/* Without a wish for nodes this asks only, and does not bring pages in. */
	if (n == 0 || dynvhost_mem_sys->move_pages(0, n, sample, NULL, status, 0) != 0)
		return;
	for (i = 0; i < n; i++)
		if (status[i] >= 0 && status[i] < NUMA_NODES)
			votes->bytes[status[i]]++;
}

/** The node with the most bytes, or -1. */
static int
numa_winner(const struct numa_votes *votes)
{
	int winner = -1, i;

	for (i = 0; i < NUMA_NODES; i++)
		if (votes->bytes[i] > (winner < 0 ? 0 : votes->bytes[winner]))
			winner = i;
	return winner;
}

int
dynvhost_mem_numa_node(const struct dynvhost_mem_view *view)
{
	struct numa_votes votes = {0};
	int max_node = dynvhost_mem_sys->max_numa_node();
	uint32_t i;

	if (view->n_regions == 0 || max_node <= 0)
		return view->n_regions == 0 ? -1 : max_node;
	for (i = 0; i < view->n_regions; i++) {
		int node = numa_bound_node(mem_region_of(view->region[i]));

		if (node >= 0)
			votes.bytes[node] += view->region[i]->size;
	}
	if (numa_winner(&votes) < 0)
		numa_count_pages(view, &votes);
	return numa_winner(&votes);
}
