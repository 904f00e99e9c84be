/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_FORMAT_H
#define DYNVHOST_FORMAT_H

/**
 * @file
 * What virtqueue.c asks of a ring format. A new format is one file that ends with its row, and the
 * row's name in the table of virtqueue.c.
 */

#include <stdbool.h>
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

/** A ring format. All functions are control's, with the queue outside, unless they say otherwise. */
struct dynvhost_vq_format {
	/** Mask of the negotiated feature that chooses this format; 0: chosen if no other is. */
	uint64_t feature;

	/** The areas of a ring of @p size descriptors. @return 0, or -EINVAL: no such size. */
	int (*layout)(uint32_t size, uint64_t features, struct dynvhost_vq_layout *layout);

	/** Use these areas from now on. Position and event state stay as they are. */
	void (*attach)(struct dynvhost_vq *vq, const struct dynvhost_vq_pins *pins);

	/**
	 * Find the position to start at, and tell the driver whether kicks are needed (vq->kicks).
	 * @param base  what the front-end says of the position.
	 * @return 0, or -EINVAL: there is no such position; -ENOTRECOVERABLE: it cannot be found.
	 *         Then nothing has been written.
	 */
	int (*begin)(struct dynvhost_vq *vq, uint32_t base);

	/** Tell the driver whether kicks are needed. Inside the gate or with the queue outside. */
	void (*set_kicks)(struct dynvhost_vq *vq, bool kicks);

	/** What dynvhost_vq_stop() returns. */
	uint32_t (*position)(const struct dynvhost_vq *vq);

	/** As dynvhost_vq_pending(), for a started virtqueue. */
	uint16_t (*pending)(const struct dynvhost_vq *vq);

	/** The area in which the driver says that there is more. */
	const struct dynvhost_mem_pin *(*watched)(const struct dynvhost_vq_pins *pins);

	/** As dynvhost_vq_monitor(), with the address in the ring itself. Inside the gate. */
	void (*monitor)(const struct dynvhost_vq *vq, struct dynvhost_vq_monitor *monitor);

	/** Whether the driver wants to be notified, events of single buffers aside. Any thread. */
	bool (*wants_call)(const struct dynvhost_vq *vq);

	/** The dequeue burst for the ring's state; disabled, it gives chains back unread. */
	dynvhost_vq_dequeue_t (*choose_dequeue)(const struct dynvhost_vq *vq);

	/** The enqueue burst for the ring's features. */
	dynvhost_vq_enqueue_t (*choose_enqueue)(const struct dynvhost_vq *vq);
};

extern const struct dynvhost_vq_format dynvhost_packed_format; /**< packed.c, virtio 1.2 §2.8 */
extern const struct dynvhost_vq_format dynvhost_split_format;  /**< split.c, virtio 1.2 §2.7 */

#endif /* DYNVHOST_FORMAT_H */
