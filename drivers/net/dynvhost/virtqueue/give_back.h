/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_GIVE_BACK_H
#define DYNVHOST_GIVE_BACK_H

/**
 * @file
 * Letting go of lines that a guest will write next.
 *
 * A guest that sends writes a buffer each time it uses it. We have read that buffer, so that both cores
 * hold its lines, and each of the guest's next stores to them waits until our copy is gone. That bounds
 * a guest that has a CPU for nothing but sending. It bounds it more beside us than beside who maps guest
 * memory for writing: what is loaded through a mapping that may be written, some CPUs hand over for good,
 * so that there is no copy to be taken away; what is loaded through a read-only one they share. So lines
 * that have been read are given back, in one of these ways:
 *
 *	GIVE_BACK_NOT          not at all: both keep them
 *	GIVE_BACK_CLEAN_FIRST  the first line of a frame is written back to memory (CLWB), and is ready
 *			       to be written again
 *	GIVE_BACK_CLEAN        all lines are
 *	GIVE_BACK_FLUSH_FIRST  the first line is nobody's any more (CLFLUSHOPT)
 *	GIVE_BACK_FLUSH        all lines are
 *
 * The first line alone, because a guest that passes on what it got from others writes no more than the
 * headers in front of it.
 *
 * Which of them is worth its price depends on how far apart the two cores are, on the CPU and on what the
 * guest does, and virtual machines move. So nothing is assumed: while a guest sends many packets at a
 * time, and we have to wait for them, all ways are tried now and then, each over some thousand packets,
 * and the queue keeps the one by which most packets came in the same time. To do nothing is what the
 * others have to beat by GIVE_BACK_GAIN.
 *
 * Lines are given back by the copy itself, one packet after the other, while they are still near. Who
 * sends few packets at a time is left alone: nobody who waits for an answer to one of them shall wait
 * longer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "virtqueue.h"

enum give_back_way {
	GIVE_BACK_NOT,
	GIVE_BACK_CLEAN_FIRST,
	GIVE_BACK_CLEAN,
	GIVE_BACK_FLUSH_FIRST,
	GIVE_BACK_FLUSH,
	GIVE_BACK_WAYS
};

/** Packets of a burst by which a guest is known to be sending as fast as it can. */
#define GIVE_BACK_LEAST 4u
/** Packets between two looks at whether a trial is due. */
#define GIVE_BACK_PATIENCE 4096
/** Packets that go by before a way is judged, and those by which it is. */
#define GIVE_BACK_SETTLE 1024u
#define GIVE_BACK_PROBE  4096u
/** Of a slow guest it is fewer: a second has at least so many of either. */
#define GIVE_BACK_TURNS 4000u
/** How often each way is tried; its best counts, since all that may happen meanwhile makes it slower. */
#define GIVE_BACK_ROUNDS 2u
/** Trials in a second: while the choice stays the same, and when it has changed. */
#define GIVE_BACK_TRIALS      4u
#define GIVE_BACK_MOST_TRIALS 32u
/** A second has so many of the pauses that end a trial: whose guest pauses does not send all it can. */
#define GIVE_BACK_PAUSES 10000u
/** What a way must save, as a part of the time of a packet. */
#define GIVE_BACK_GAIN 16u

/** The ways that this CPU has, a bit for each. Any thread. */
unsigned int dynvhost_give_back_ways(void);

/** Begin with a ring that starts: nothing is given back until a trial shows that it pays. Control. */
void dynvhost_give_back_init(struct dynvhost_vq *vq);

/** Whether the burst that takes @p n packets is to give their lines back. Polling thread. */
static __rte_always_inline bool
give_back_is_due(const struct dynvhost_vq *vq, uint16_t n)
{
	return unlikely(vq->give_back.way != GIVE_BACK_NOT) && n >= GIVE_BACK_LEAST;
}

/** Give back a line in a way that is one. Polling thread. */
static __rte_always_inline void
give_back_line(enum give_back_way way, const uint8_t *line)
{
#ifdef RTE_ARCH_X86_64
	if (way <= GIVE_BACK_CLEAN)
		__asm__ volatile("clwb %0" : : "m"(*line));
	else
		__asm__ volatile("clflushopt %0" : : "m"(*line));
#else
	RTE_SET_USED(way);
	RTE_SET_USED(line);
#endif
}

/** Give back what of a frame of @p len > 0 bytes the way wants given back. Polling thread. */
static __rte_always_inline void
give_back_frame(enum give_back_way way, const uint8_t *frame, size_t len)
{
	const uint8_t *line = RTE_PTR_ALIGN_FLOOR(frame, RTE_CACHE_LINE_SIZE);
	const bool first = way == GIVE_BACK_CLEAN_FIRST || way == GIVE_BACK_FLUSH_FIRST;
	const uint8_t *end = first ? frame + 1 : frame + len;

	for (; line < end; line += RTE_CACHE_LINE_SIZE)
		give_back_line(way, line);
}

/** Go on with what give_back_note() has begun; it is @p now, in TSC cycles. */
void dynvhost_give_back_note(struct dynvhost_vq *vq, uint16_t n, uint64_t now);

/** A burst has taken @p n packets. Polling thread. */
static __rte_always_inline void
give_back_note(struct dynvhost_vq *vq, uint32_t n)
{
	if (n < GIVE_BACK_LEAST)
		return;
	vq->give_back.left -= (int32_t)n;
	if (unlikely(vq->give_back.left <= 0))
		dynvhost_give_back_note(vq, (uint16_t)n, rte_rdtsc());
}

#endif /* DYNVHOST_GIVE_BACK_H */
