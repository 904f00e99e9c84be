/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The slow parts of defer.h. */

#include "defer.h"
#include "format.h"

/** Ticks without anything published after which a queue is no longer watched. */
#define DEFER_IDLE_TICKS 100u

void __attribute__((noinline)) dynvhost_vq_defer_settle(struct dynvhost_vq *vq)
{
	/* As in a burst that fences: the publication before the look. */
	atomic_thread_fence(memory_order_seq_cst);
	vq->defer.settled = atomic_load_explicit(&vq->defer.unfenced, memory_order_relaxed);
	if (vq->format->wants_call(vq))
		dynvhost_vq_call(vq);
}

enum dynvhost_defer_look
dynvhost_vq_defer_look(struct dynvhost_vq *vq)
{
	struct dynvhost_vq_defer *defer = &vq->defer;
	uint32_t n = atomic_load_explicit(&defer->unfenced, memory_order_acquire);

	if (!dynvhost_vq_is_started(vq) || vq->event_idx || vq->call_fd < 0) {
		atomic_store_explicit(&defer->watched, false, memory_order_relaxed);
		return DYNVHOST_DEFER_NOTHING;
	}
	if (!atomic_load_explicit(&defer->watched, memory_order_relaxed)) {
		if (__atomic_load_n(&defer->quiet, __ATOMIC_RELAXED) < DEFER_QUIET)
			return DYNVHOST_DEFER_NOTHING;
		atomic_store_explicit(&defer->watched, true, memory_order_relaxed);
		defer->idle_ticks = 0;
	}
	if (n != defer->seen) {
		defer->seen = n;
		defer->idle_ticks = 0;
		return DYNVHOST_DEFER_WATCH;
	}
	if (n != defer->checked)
		return DYNVHOST_DEFER_STANDS;
	if (++defer->idle_ticks < DEFER_IDLE_TICKS)
		return DYNVHOST_DEFER_WATCH;
	/* It has to show anew that it is polled, or it would be watched again at once, at rest. */
	__atomic_store_n(&defer->quiet, 0, __ATOMIC_RELAXED);
	atomic_store_explicit(&defer->watched, false, memory_order_relaxed);
	return DYNVHOST_DEFER_NOTHING;
}

bool
dynvhost_vq_defer_check(struct dynvhost_vq *vq)
{
	vq->defer.checked = vq->defer.seen;
	return vq->format->wants_call(vq);
}

bool
dynvhost_vq_defer_owes(const struct dynvhost_vq *vq)
{
	const uint32_t n = atomic_load_explicit(&vq->defer.unfenced, memory_order_acquire);

	return dynvhost_vq_is_started(vq) && n != vq->defer.settled && n != vq->defer.checked &&
	       vq->format->wants_call(vq);
}
