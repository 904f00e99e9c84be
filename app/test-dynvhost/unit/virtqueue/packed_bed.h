/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_PACKED_BED_H
#define DYNVHOST_TEST_PACKED_BED_H

/** @file What the tests share that only a packed ring has. */

#include "bed.h"

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define AVAIL    PACKED_RING_AVAIL
#define USED     PACKED_RING_USED

static inline struct bed *
open_bed(uint16_t index, uint64_t features, uint16_t size, uint16_t start)
{
	return bed_open(&(struct bed_config){
		.index = index,
		.features = BED_INDIRECT | features,
		.size = size,
		.start = start,
		.calls = true,
	});
}

#endif /* DYNVHOST_TEST_PACKED_BED_H */
