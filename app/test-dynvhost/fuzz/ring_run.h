/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_FUZZ_RING_RUN_H
#define DYNVHOST_TEST_FUZZ_RING_RUN_H

/**
 * @file
 * What one input of the ring targets has going on, and what its guest does: each function takes from
 * the input what it needs to know.
 */

#include "bed.h"
#include "fuzz.h"

/** What one input has going on. */
struct ring_run {
	struct fuzz_in in;
	struct bed *bed;
	uint32_t blocked[DYNVHOST_MEM_WINDOWS]; /**< pages that cannot be opened */
};

/** A buffer as a good driver makes it available, if there is room. */
void ring_add_buffer(struct ring_run *run);

/** A descriptor of the ring that is nearly right, or has any numbers. */
void ring_write_desc(struct ring_run *run);
void ring_write_wild(struct ring_run *run);

/** An entry of a table, anywhere in memory. */
void ring_write_entry(struct ring_run *run);

/** All descriptors of the ring, and many entries of a table: alike, each leading to the next one. */
void ring_fill(struct ring_run *run);
void ring_write_table(struct ring_run *run);

/** Bytes, anywhere in memory. */
void ring_write_bytes(struct ring_run *run);

/** A field of the ring that is no descriptor. */
void ring_write_field(struct ring_run *run);

#endif /* DYNVHOST_TEST_FUZZ_RING_RUN_H */
