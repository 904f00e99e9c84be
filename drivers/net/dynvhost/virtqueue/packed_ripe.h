/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_PACKED_RIPE_H
#define DYNVHOST_PACKED_RIPE_H

/**
 * @file
 * Letting a burst ripen.
 *
 * In a packed ring each descriptor is there by itself, four of them in a line. A host that takes the
 * first as soon as it sees it reads on into lines that the guest is about to write, line after line
 * behind it: each of them goes to and fro between the two cores, and both do little else. So the one
 * that is looked at is the last of as many as the burst before had. Once it is there, so are all before
 * it, and the guest is at work elsewhere.
 *
 * To look takes the line away from a guest that may be about to write the rest of it: there is time
 * enough between two looks for all of a line's descriptors.
 *
 * A guest that sends one packet at a time is not waited for. Nor is one for long: who has nothing more
 * to send would be kept waiting for what it has sent. When RIPE_CYCLES have passed, the burst takes what
 * is there, and for the next RIPE_HASTE bursts there is no waiting. An application that sleeps until the
 * guest kicks does not wait either: it would sleep instead.
 */

#include <stdbool.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "packed_steps.h"
#include "rest.h"
#include "virtqueue.h"

/** Shorter bursts are no stream. */
#define RIPE_LEAST  8u
#define RIPE_CYCLES 4096u
#define RIPE_HASTE  16u
/** Cycles from look to look, but no more polls than these. */
#define RIPE_PAUSE UINT64_C(512)
#define RIPE_POLLS 64u

/** How many polls leave the ring alone, when the last look was @p cycles ago and left out @p polls. */
static inline uint32_t
packed_ripe_polls(uint64_t cycles, uint32_t polls)
{
	const uint64_t each = cycles / (polls + 1) + 1;

	return (uint32_t)RTE_MIN(RIPE_PAUSE / each, (uint64_t)RIPE_POLLS);
}

/** The last one is not there yet. @return whether to take what is there all the same. */
static __rte_noinline bool
packed_ripe_is_late(struct dynvhost_vq *vq)
{
	struct dynvhost_vq_ripe *ripe = &vq->packed.ripe;
	const uint64_t now = rte_rdtsc();

	if (!ripe->waits) {
		ripe->waits = true;
		ripe->since = now;
		ripe->polls = REST_POLLS;
	} else if (now - ripe->since > RIPE_CYCLES) {
		ripe->late = true;
		return true;
	} else {
		ripe->polls = packed_ripe_polls(now - ripe->looked, ripe->polls);
	}
	ripe->looked = now;
	vq->rest.looks++;
	vq->rest.skip = ripe->polls;
	return false;
}

/** Whether a burst of up to @p n packets is to take what there may be. Polling thread. */
static __rte_always_inline bool
packed_is_ripe(struct dynvhost_vq *vq, uint16_t n)
{
	const struct dynvhost_vq_ripe *ripe = &vq->packed.ripe;
	const uint32_t expected = RTE_MIN(n, ripe->expected);
	struct dynvhost_vq_packed_pos last = vq->packed.pos;

	if (expected < RIPE_LEAST || ripe->haste > 0 || vq->kicks)
		return true;
	/* Around the ring's end there is always a burst that can be seen as a whole. */
	if (last.slot + expected > vq->size)
		return true;
	last.slot = (uint16_t)(last.slot + expected - 1);
	return likely(packed_is_available(vq, last)) || packed_ripe_is_late(vq);
}

/** A burst has taken @p n packets. Polling thread. */
static inline void
packed_ripe_note(struct dynvhost_vq *vq, uint32_t n)
{
	struct dynvhost_vq_ripe *ripe = &vq->packed.ripe;

	ripe->expected = (uint16_t)n;
	ripe->waits = false;
	if (unlikely(ripe->haste > 0))
		ripe->haste--;
	if (unlikely(ripe->late) && n < RIPE_LEAST)
		ripe->haste = RIPE_HASTE;
	ripe->late = false;
}

#endif /* DYNVHOST_PACKED_RIPE_H */
