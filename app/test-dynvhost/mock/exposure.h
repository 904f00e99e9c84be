/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_EXPOSURE_H
#define DYNVHOST_MOCK_EXPOSURE_H

/**
 * @file
 * What of a guest's memory this process could reach by a stray pointer, read from the kernel's
 * tables and not from anybody's counters. The guest's own mapping of its memory does not count.
 *
 * Reachable is: in a mapping that userfaultfd watches, the pages that have a page-table entry; in
 * any other mapping that may be read, every byte, because a touch would bring the page in.
 */

#include <stdint.h>

#include "guest_ram.h"

struct exposure {
	uint64_t mapped;   /**< bytes of address space that show the guest's files */
	uint64_t loadable; /**< bytes that a stray load would reach */
	uint64_t storable; /**< bytes that a stray store would reach */
};

/** Look at all files of @p ram, whether or not they are still in a memory table. */
void exposure_read(const struct guest_ram *ram, struct exposure *exposure);

#endif /* DYNVHOST_MOCK_EXPOSURE_H */
