/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_REST_H
#define DYNVHOST_REST_H

/**
 * @file
 * Not polling faster than a guest can write.
 *
 * Each look at a ring takes the line that the guest's core is about to write to. A burst that finds
 * nothing takes a few nanoseconds, a line's way between two cores ten times as long: polled without a
 * pause, the guest waits for its own line more than it writes. So after REST_AFTER bursts in a row
 * that found nothing, the ring is looked at only once in about REST_CYCLES; the first packet ends
 * that. An application that takes longer than this from one poll to the next looks each time. What
 * comes out of a silence waits REST_CYCLES at most, or, when the application has just begun to take
 * longer, REST_POLLS polls: to ask for the time at each of them would cost more than a look.
 *
 * An application that sleeps until the guest kicks must see what came before it asked for kicks:
 * while it does, there is no rest.
 *
 * A virtqueue says how many polls are to leave it alone; they are counted down with the queue that the
 * application polls. So such a poll touches nothing that control may be changing and enters no gate, and
 * of a silent port it takes one cache line.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "virtqueue.h"

#define REST_AFTER  16u
#define REST_CYCLES 128u
/** Of these no more are left out between two looks, however quick they are. */
#define REST_POLLS 8u
/** The time from one poll to the next is taken over so many looks: the clock is not for nothing. */
#define REST_LOOKS 8u

/** Whether this poll is one of the @p left that leave the ring alone. Polling thread, in no gate. */
static inline bool
rest_is_on(_Atomic uint32_t *left)
{
	const uint32_t n = atomic_load_explicit(left, memory_order_relaxed);

	if (likely(n == 0))
		return false;
	atomic_store_explicit(left, n - 1, memory_order_relaxed);
	return true;
}

/** A burst has moved nothing: set the polls that are to be left out now. Polling thread. */
static inline void
rest_begin(_Atomic uint32_t *left, const struct dynvhost_vq *vq)
{
	atomic_store_explicit(left, vq->rest.skip, memory_order_relaxed);
}

/** Find out how many polls are REST_CYCLES. */
static inline void
rest_measure(struct dynvhost_vq_rest *rest)
{
	const uint64_t now = rte_rdtsc();
	const uint64_t polls = REST_LOOKS * (1 + rest->skips);
	const uint64_t each = RTE_MAX((now - rest->since) / polls, UINT64_C(1));

	if (rest->looks >= REST_AFTER)
		rest->skips = (uint32_t)RTE_MIN(REST_CYCLES / each, (uint64_t)REST_POLLS);
	rest->since = now;
}

/** The burst has looked and found nothing. Polling thread. */
static inline void
rest_note_nothing(struct dynvhost_vq *vq)
{
	struct dynvhost_vq_rest *rest = &vq->rest;

	if (unlikely(vq->kicks))
		return;
	if (++rest->looks % REST_LOOKS == 0)
		rest_measure(rest);
	rest->skip = rest->skips;
}

/** The burst has found something, or the next one is to look. Polling thread. */
static inline void
rest_end(struct dynvhost_vq *vq)
{
	vq->rest.was_on = vq->rest.looks != 0;
	vq->rest.looks = 0;
	vq->rest.skips = 0;
	vq->rest.skip = 0;
}

#endif /* DYNVHOST_REST_H */
