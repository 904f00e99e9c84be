/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_DEFER_H
#define DYNVHOST_DEFER_H

/**
 * @file
 * Publishing to a guest that polls, without a fence.
 *
 * Theory of operation
 * -------------------
 * After it has published used buffers, a device looks whether the driver wants to be notified. Between
 * the two belongs a full fence; without it, it may see that the driver is polling, as it did a moment
 * ago, while the driver has asked for notifications and has not seen what was published. The fence
 * waits until all of a burst's stores have reached lines that the guest's processor has just had:
 * no small part of a burst's time.
 *
 * So where the driver has not wanted a notification for DEFER_QUIET bursts in a row, and while
 * control is watching, the burst leaves the fence out and counts what it published so
 * (`unfenced`). Whoever comes next makes up for it: the next burst that finds nothing to do, with a
 * fence of its own, or control's tick, which puts a fence into every running thread (gate.h) once a
 * queue has stood still from one tick to the next, or before its ring stops or moves. A notification
 * can be late by two ticks (session_watch.c), and is never lost. With event indices drivers ask for a
 * notification at any time: the fence stays.
 *
 *	burst:    used index = …;  (no fence)  wanted? no: unfenced++
 *	control:  unfenced stands still: membarrier; wanted? yes: notify
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>

#include "virtqueue.h"

/** Bursts without a wish for notification after which a driver counts as one that polls. */
#define DEFER_QUIET 64u

/** Order the publication before the look at the driver's wish, or note that it was not. Datapath. */
static inline void
defer_fence(struct dynvhost_vq *vq)
{
	const uint32_t n = atomic_load_explicit(&vq->defer.unfenced, memory_order_relaxed);

	if (likely(vq->defer.quiet >= DEFER_QUIET &&
		    atomic_load_explicit(&vq->defer.watched, memory_order_relaxed))) {
		atomic_store_explicit(&vq->defer.unfenced, n + 1, memory_order_release);
		return;
	}
	atomic_thread_fence(memory_order_seq_cst);
	vq->defer.settled = n;
}

/** The driver's wish, as it was seen. Datapath. */
static inline void
defer_note(struct dynvhost_vq *vq, bool wants_call)
{
	const uint32_t quiet = vq->defer.quiet;

	if (unlikely(wants_call))
		__atomic_store_n(&vq->defer.quiet, 0, __ATOMIC_RELAXED);
	else if (unlikely(quiet < DEFER_QUIET))
		__atomic_store_n(&vq->defer.quiet, quiet + 1, __ATOMIC_RELAXED);
}

/** Whether the queue, which has nothing to do, has published something without a fence. Datapath. */
static inline bool
defer_is_open(const struct dynvhost_vq *vq)
{
	return vq->defer.settled != atomic_load_explicit(&vq->defer.unfenced, memory_order_relaxed);
}

/** Make up for the fences left out: notify the driver if it wants that now. Datapath. */
void dynvhost_vq_defer_settle(struct dynvhost_vq *vq);

/** What control knows after a look at a queue. */
enum dynvhost_defer_look {
	DYNVHOST_DEFER_NOTHING, /**< the queue fences */
	DYNVHOST_DEFER_WATCH,   /**< look again soon */
	DYNVHOST_DEFER_STANDS,  /**< as before, and dynvhost_vq_defer_check() is due */
};

/** Look at a started queue; begins and ends watching it. Control, at every tick. */
enum dynvhost_defer_look dynvhost_vq_defer_look(struct dynvhost_vq *vq);

/**
 * Make up for the fences that a queue left out which stands still. To be called after
 * dynvhost_gate_sync(). Control. @return whether the driver is to be notified.
 */
bool dynvhost_vq_defer_check(struct dynvhost_vq *vq);

/**
 * Whether the driver is to be notified of what a queue has published without a fence and nobody has
 * made up for. To be asked before a ring is stopped or moved, which forgets about it. The queue must
 * be outside, by dynvhost_gate_sync(), whose barrier is the missing fence. Control.
 */
bool dynvhost_vq_defer_owes(const struct dynvhost_vq *vq);

#endif /* DYNVHOST_DEFER_H */
