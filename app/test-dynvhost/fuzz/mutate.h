/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_FUZZ_MUTATE_H
#define DYNVHOST_TEST_FUZZ_MUTATE_H

/**
 * @file
 * Variations of inputs, drawn by lot: the same ones from the same seed. Blind, where libFuzzer sees
 * what an input reaches; that is what the corpus is for.
 */

#include <stddef.h>
#include <stdint.h>

struct mutate {
	uint64_t random; /**< the seed to begin with */
};

/** A number below @p n > 0. */
uint32_t mutate_below(struct mutate *mutate, uint32_t n);

/**
 * Vary an input in a few places.
 *
 * @param room   bytes that there is room for at @p bytes.
 * @param other  another input, pieces of which may be taken over.
 * @return its size now.
 */
size_t mutate_input(struct mutate *mutate, uint8_t *bytes, size_t size, size_t room,
	const uint8_t *other, size_t other_size);

#endif /* DYNVHOST_TEST_FUZZ_MUTATE_H */
