/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BENCH_BURST_PROFILE_H
#define DYNVHOST_BENCH_BURST_PROFILE_H

/**
 * @file
 * Where a burst spends its time: a timer interrupts this thread some ten thousand times a second and
 * notes the instruction, if that is of a burst call. Needs no counters of the CPU, which virtual
 * machines seldom have.
 */

#include <stdbool.h>
#include <stdio.h>

/** Whether this thread is in the call that counts. */
extern volatile bool burst_profile_inside;

/** Begin; what was noted before is forgotten. */
void burst_profile_start(void);
void burst_profile_stop(void);

/** One line for each instruction: "SHAPE;PORT;OBJECT;OFFSET;SAMPLES". */
void burst_profile_write(FILE *out, const char *shape, const char *port);

#endif /* DYNVHOST_BENCH_BURST_PROFILE_H */
