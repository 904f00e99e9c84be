/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BENCH_BURST_LINE_H
#define DYNVHOST_BENCH_BURST_LINE_H

/**
 * @file
 * A cache line between two threads: each comes to its CPU, and the line's round trip says how far
 * apart the two CPUs are now.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include <rte_common.h>

/** Round trips below and above this, nanoseconds, belong to CPUs that are near and far. */
#define BURST_FAR_NS 220.0

struct burst_line {
	int cpu; /**< of the guest */
	_Atomic uint32_t ping __rte_cache_aligned;
	_Atomic bool ready __rte_cache_aligned; /**< the guest is where it belongs */
};

/** Let nobody in between on a machine at work, for the length of a sample; if we may. */
void burst_hurry(bool on);

/** The guest's thread: go to its CPU, hurry, answer all pings. */
void burst_line_answer(struct burst_line *line);

/** The host's thread: wait for the guest's, hurry. @return nanoseconds of a round trip. */
double burst_line_ask(struct burst_line *line);

#endif /* DYNVHOST_BENCH_BURST_LINE_H */
