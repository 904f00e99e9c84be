/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_FUZZ_RING_MODEL_H
#define DYNVHOST_TEST_FUZZ_RING_MODEL_H

/**
 * @file
 * What a burst that receives must make of a ring: a second reading of it, from a copy of guest memory
 * and from the specification (virtio 1.2 §2.7, §2.8), chain by chain and slowly.
 */

#include <stdint.h>

#include "bed.h"
#include "ring_guard.h"

/**
 * Check a burst: its packets, byte by byte, whether it stopped the ring, and where it left it. For
 * rings without offloads, all of whose memory opens, and with mbufs enough. Goes as far as a chain whose
 * table lies over what the burst itself writes.
 *
 * @param guard     knows memory as it was; must be exact.
 * @param position  of the ring before the burst.
 * @param n         chains that the burst was to take at most.
 * @param pkts      what it has received, @p got packets.
 */
void ring_model_judge(const struct ring_guard *guard, const struct bed *bed, uint32_t position,
	uint16_t n, struct rte_mbuf *const *pkts, uint16_t got);

/**
 * Check what a burst in either direction has put into the used ring, split: every chain that was
 * available, in order, and nothing else. @p position  of the ring before the burst.
 */
void
ring_model_judge_used(const struct ring_guard *guard, const struct bed *bed, uint32_t position);

#endif /* DYNVHOST_TEST_FUZZ_RING_MODEL_H */
