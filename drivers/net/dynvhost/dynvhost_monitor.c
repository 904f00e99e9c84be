/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Sleeping on a ring's memory: an lcore that has nothing to do lets its CPU watch the line that the
 * guest stores to when it sends (rte_power_monitor()).
 *
 * Addresses that were given can be loaded until the port is stopped, whatever the front-end does; what
 * that takes is there from the first time that somebody asks for one.
 */

#include <errno.h>

#include <rte_power_intrinsics.h>

#include "dynvhost_ethdev.h"

/** What of a condition the decision is made of. */
enum monitor_opaque { MONITOR_MASK, MONITOR_VALUE, MONITOR_EQUAL, MONITOR_OPAQUES };
static_assert(MONITOR_OPAQUES <= RTE_POWER_MONITOR_OPAQUE_SZ, "a condition has room for it");

/** Whether to sleep on what was loaded. @return 0: yes; -1: there is more to receive. */
static int
monitor_decide(const uint64_t value, const uint64_t opaque[RTE_POWER_MONITOR_OPAQUE_SZ])
{
	const bool equal = (value & opaque[MONITOR_MASK]) == opaque[MONITOR_VALUE];

	return equal == (opaque[MONITOR_EQUAL] != 0) ? -1 : 0;
}

/** Work for the control thread's lock. */
struct monitor_begin {
	struct dynvhost_queue *queue;
	int rc;
};

static void
monitor_begin(void *opaque)
{
	struct monitor_begin *begin = opaque;

	begin->rc = dynvhost_vq_watch(begin->queue->vq, begin->queue->dev->mem);
}

static void
monitor_fill(const struct dynvhost_vq_monitor *monitor, struct rte_power_monitor_cond *cond)
{
	cond->addr = (volatile void *)(uintptr_t)monitor->addr;
	cond->size = monitor->size;
	cond->fn = monitor_decide;
	cond->opaque[MONITOR_MASK] = monitor->mask;
	cond->opaque[MONITOR_VALUE] = monitor->value;
	cond->opaque[MONITOR_EQUAL] = monitor->equal;
}

int
dynvhost_get_monitor_addr(void *rxq, struct rte_power_monitor_cond *cond)
{
	struct monitor_begin begin = {.queue = rxq};
	struct dynvhost_queue *queue = rxq;
	struct dynvhost_vq_monitor monitor;
	int rc = -EAGAIN;

	if (unlikely(!atomic_load(&queue->monitored))) {
		dynvhost_backend_call(queue->dev->backend, monitor_begin, &begin);
		if (begin.rc < 0)
			return begin.rc;
		atomic_store(&queue->monitored, true);
	}
	if (unlikely(!dynvhost_gate_enter(&queue->gate)))
		return rc;
	rc = dynvhost_vq_monitor(queue->vq, &monitor);
	dynvhost_gate_leave(&queue->gate);
	if (rc == 0)
		monitor_fill(&monitor, cond);
	return rc;
}

void
dynvhost_monitor_release(void *opaque)
{
	struct dynvhost_dev *dev = opaque;

	for (uint16_t q = 0; dev->rxq != NULL && dev->vq != NULL && q < dev->n_pairs; q++) {
		atomic_store(&dev->rxq[q].monitored, false);
		dynvhost_vq_unwatch(&dev->vq[DYNVHOST_RING_OF_RXQ(q)]);
	}
}

void
dynvhost_monitor_stop(struct dynvhost_dev *dev)
{
	dynvhost_backend_call(dev->backend, dynvhost_monitor_release, dev);
}
