/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The ways to give lines back, and the trial that chooses one (give_back.h).
 *
 * A trial is a row of turns, one for each way and round. A turn first lets GIVE_BACK_SETTLE packets go by,
 * so that all lines are as this way leaves them, and what the way before it has left in the ring is gone;
 * then it takes the time of GIVE_BACK_PROBE packets.
 */

#include <assert.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "give_back.h"

/** Cycles of a packet are compared in parts of so many. */
#define GIVE_BACK_FRACTION 16u

static_assert(RTE_DIM(((struct dynvhost_vq_give_back *)0)->cost) == GIVE_BACK_WAYS,
	"a cost for each way");

unsigned int
dynvhost_give_back_ways(void)
{
	unsigned int ways = 1u << GIVE_BACK_NOT;
#ifdef __x86_64__
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
		return ways;
	if (ebx & bit_CLWB)
		ways |= 1u << GIVE_BACK_CLEAN_FIRST | 1u << GIVE_BACK_CLEAN;
	if (ebx & bit_CLFLUSHOPT)
		ways |= 1u << GIVE_BACK_FLUSH_FIRST | 1u << GIVE_BACK_FLUSH;
#endif
	return ways;
}

void
dynvhost_give_back_init(struct dynvhost_vq *vq)
{
	vq->give_back = (struct dynvhost_vq_give_back){
		.ways = (uint8_t)dynvhost_give_back_ways(),
		.left = GIVE_BACK_PATIENCE,
	};
}

/** Begin the turn of way @p way, or of the first one behind it that the CPU has. @return false: none. */
static bool
give_back_begin_turn(struct dynvhost_vq_give_back *back, unsigned int way)
{
	while (way < GIVE_BACK_WAYS && (back->ways & 1u << way) == 0)
		way++;
	if (way == GIVE_BACK_WAYS)
		return false;
	back->way = (uint8_t)way;
	return true;
}

static void
give_back_begin_trial(struct dynvhost_vq_give_back *back, uint64_t now)
{
	for (unsigned int way = 0; way < GIVE_BACK_WAYS; way++)
		back->cost[way] = UINT64_MAX;
	back->before = back->way;
	back->rounds = GIVE_BACK_ROUNDS;
	back->settled = false;
	back->packets = 0;
	back->since = back->last = now;
	give_back_begin_turn(back, 0);
}

/** End a trial with @p way. The longer a choice has held, the longer it is left alone. */
static void
give_back_end_trial(struct dynvhost_vq_give_back *back, unsigned int way, uint64_t now)
{
	const uint64_t least = rte_get_tsc_hz() / GIVE_BACK_MOST_TRIALS;

	back->pause = way == back->before ? RTE_MAX(2 * back->pause, least) : least;
	back->pause = RTE_MIN(back->pause, rte_get_tsc_hz() / GIVE_BACK_TRIALS);
	back->way = (uint8_t)way;
	back->rounds = 0;
	back->left = GIVE_BACK_PATIENCE;
	back->next = now + back->pause;
}

/** The way that was best, if it was so much better than none. */
static unsigned int
give_back_best(const struct dynvhost_vq_give_back *back)
{
	const uint64_t none = back->cost[GIVE_BACK_NOT];
	unsigned int best = GIVE_BACK_NOT;

	for (unsigned int way = 0; way < GIVE_BACK_WAYS; way++)
		if (back->cost[way] < back->cost[best])
			best = way;
	return back->cost[best] < none - none / GIVE_BACK_GAIN ? best : GIVE_BACK_NOT;
}

/** A turn is over. */
static void
give_back_end_turn(struct dynvhost_vq_give_back *back, uint64_t now)
{
	const uint64_t cost = (now - back->since) * GIVE_BACK_FRACTION / back->packets;

	back->cost[back->way] = RTE_MIN(back->cost[back->way], cost);
	if (give_back_begin_turn(back, back->way + 1u))
		return;
	if (--back->rounds > 0)
		give_back_begin_turn(back, 0);
	else
		give_back_end_trial(back, give_back_best(back), now);
}

/** A burst of a trial has taken @p n packets. */
static void
give_back_go_on(struct dynvhost_vq_give_back *back, uint16_t n, uint64_t now)
{
	if (now - back->last > rte_get_tsc_hz() / GIVE_BACK_PAUSES) {
		give_back_end_trial(back, back->before, now);
		return;
	}
	back->last = now;
	back->packets += n;
	if (back->packets < (back->settled ? GIVE_BACK_PROBE : GIVE_BACK_SETTLE) &&
		now - back->since < rte_get_tsc_hz() / GIVE_BACK_TURNS)
		return;
	if (back->settled)
		give_back_end_turn(back, now);
	back->settled = !back->settled;
	back->packets = 0;
	back->since = now;
}

void
dynvhost_give_back_note(struct dynvhost_vq *vq, uint16_t n, uint64_t now)
{
	struct dynvhost_vq_give_back *back = &vq->give_back;

	if (back->rounds > 0) {
		give_back_go_on(back, n, now);
		return;
	}
	back->left = GIVE_BACK_PATIENCE;
	/* Where the host has had no time to wait for the guest, no way makes the guest faster. */
	if (now < back->next || back->ways == 1u << GIVE_BACK_NOT ||
		(back->way == GIVE_BACK_NOT && !vq->rest.was_on))
		return;
	back->left = 0;
	give_back_begin_trial(back, now);
}
