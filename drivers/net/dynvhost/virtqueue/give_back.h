/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_GIVE_BACK_H
#define DYNVHOST_GIVE_BACK_H

/**
 * @file
 * Letting go of lines that a guest will write next.
 *
 * A guest that sends writes the first line of a frame, its headers, each time it uses the buffer; the
 * rest of the buffer it often leaves to others. We have read that line, so that both cores hold it,
 * and the guest's next store waits until our copy is gone, one line after the other. Where the two
 * cores are far apart that is what bounds a guest that has a CPU for nothing but sending. On CPUs
 * where it costs less to fetch a line that nobody holds, we give it back when we have read it.
 *
 * It is the host's time, and whoever reads the line next waits for memory. So it is done only when there
 * is time, which means that a look before this burst found nothing, and only for a guest that sends many
 * packets at a time: who waits for an answer to one of them shall not wait longer.
 */

#include <stdbool.h>
#include <stdint.h>

#include "fast.h"

/** Packets of a burst by which a guest is known to be sending as fast as it can. */
#define GIVE_BACK_LEAST 8u
/** Of longer frames the first line is too little of what the guest writes. */
#define GIVE_BACK_LONGEST 512u

/** Whether this CPU has the instruction. Any thread. */
bool dynvhost_give_back_is_possible(void);

/** Whether it also is one of those where that was found to pay. Any thread. */
bool dynvhost_give_back_pays(void);

/** Whether the burst that takes @p n packets is to give their lines back. */
static inline bool
give_back_is_due(const struct dynvhost_vq *vq, uint16_t n)
{
	return vq->rest.was_on && n >= GIVE_BACK_LEAST && vq->gives_back;
}

static inline void
give_back_line(const void *line)
{
#ifdef RTE_ARCH_X86_64
	__asm__ volatile("clflushopt %0" : : "m"(*(const uint8_t *)line));
#else
	RTE_SET_USED(line);
#endif
}

/** Give back the first lines of @p n frames that have been copied. Polling thread. */
void dynvhost_give_back_frames(const struct fast_job *job, uint16_t n);

#endif /* DYNVHOST_GIVE_BACK_H */
