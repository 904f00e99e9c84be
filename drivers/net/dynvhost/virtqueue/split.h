/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_SPLIT_H
#define DYNVHOST_SPLIT_H

/**
 * @file
 * What virtqueue.c asks of a ring format; split.c is the split one (virtio 1.2 §2.7).
 */

#include <stdint.h>

#include "dynvhost_mem.h"
#include "virtqueue.h"

/** What a ring needs of one of its areas. */
struct dynvhost_vq_area {
	uint64_t len;
	uint64_t align; /**< of its gpa; a power of two */
	enum dynvhost_mem_right right;
};

/** What a ring needs of its three areas. */
struct dynvhost_vq_layout {
	struct dynvhost_vq_area desc;
	struct dynvhost_vq_area avail;
	struct dynvhost_vq_area used;
};

/** The areas of a ring of @p size descriptors. @return 0, or -EINVAL: no ring has that size. */
int dynvhost_split_layout(uint32_t size, uint64_t features, struct dynvhost_vq_layout *layout);

/** Use the areas that are pinned now. Position and event state stay as they are. */
void dynvhost_split_attach(struct dynvhost_vq *vq);

/** Take the position over from the used ring, and tell the driver that kicks are not needed. */
void dynvhost_split_begin(struct dynvhost_vq *vq);

/** As dynvhost_vq_pending(), for a started virtqueue. */
uint16_t dynvhost_split_pending(const struct dynvhost_vq *vq);

/** The dequeue burst for the ring's state; on a disabled ring it gives chains back unread. */
dynvhost_vq_dequeue_t dynvhost_split_choose_dequeue(const struct dynvhost_vq *vq);

/** The enqueue burst for the ring's features. */
dynvhost_vq_enqueue_t dynvhost_split_choose_enqueue(const struct dynvhost_vq *vq);

#endif /* DYNVHOST_SPLIT_H */
