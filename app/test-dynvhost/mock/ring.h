/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_RING_H
#define DYNVHOST_MOCK_RING_H

/**
 * @file
 * What a driver puts into a ring and gets back, whatever the ring's format.
 */

#include <stdbool.h>
#include <stdint.h>

/** One piece of a buffer. */
struct ring_piece {
	uint64_t gpa;
	uint32_t len;
	bool writable; /**< the device writes it */
};

/** A buffer that came back: its head (split) or id (packed), and how much was written. */
struct ring_used {
	uint32_t id;
	uint32_t len;
};

#endif /* DYNVHOST_MOCK_RING_H */
