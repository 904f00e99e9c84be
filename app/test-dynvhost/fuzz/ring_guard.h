/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_FUZZ_RING_GUARD_H
#define DYNVHOST_TEST_FUZZ_RING_GUARD_H

/**
 * @file
 * What a virtqueue may write to guest memory, whatever the guest has put into its ring: the areas
 * that are the device's, and where it receives, the bytes that some writable descriptor names, in
 * the ring or in a table that the ring refers to. Any other byte must stay as it is, and what is
 * written must have been logged.
 *
 * A ring whose buffers lie over its own descriptors or tables changes while it is read; then nothing
 * can be said.
 */

#include <stdbool.h>
#include <stdint.h>

#include "bed.h"

/** Guest memory of the target: regions side by side from gpa 0 on, of two files in turn. */
#define GUARD_REGION (16u << 10)
#define GUARD_RAM    (4 * GUARD_REGION)

struct ring_guard {
	uint8_t before[GUARD_RAM];
	uint8_t rights[GUARD_RAM];
	uint32_t work; /**< bytes marked so far */
	bool exact;    /**< something can be said */
};

/** Lay out guest memory; for bed_config.lay_out. */
void ring_guard_lay_out(struct guest_ram *ram);

/** Before a burst: work out what it may write. */
void ring_guard_begin(struct ring_guard *guard, struct bed *bed);

/** Whether the burst may have written to some of these bytes, which lie in guest memory. */
bool ring_guard_may_change(const struct ring_guard *guard, uint64_t gpa, uint64_t len);

/** Whether some of them may be those of a packet. */
bool ring_guard_is_buffer(const struct ring_guard *guard, uint64_t gpa, uint64_t len);

/** After it: compare. */
void ring_guard_end(const struct ring_guard *guard, const struct bed *bed);

#endif /* DYNVHOST_TEST_FUZZ_RING_GUARD_H */
