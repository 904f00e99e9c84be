/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_SPLIT_RING_H
#define DYNVHOST_MOCK_SPLIT_RING_H

/**
 * @file
 * The driver's side of a split virtqueue (virtio 1.2 §2.7), as a guest kernel has it.
 *
 * Three areas of guest memory, each at an address of the test's choice, aligned to 16, 2 and 4
 * bytes. The driver writes the first two, the device the third:
 *
 *	desc   num x { addr u64, len u32, flags u16, next u16 }
 *	avail  flags u16, idx u16, ring u16[num], used_event u16
 *	used   flags u16, idx u16, { id u32, len u32 }[num], avail_event u16
 *
 * Life of a buffer: split_ring_add() writes a chain into free descriptors and its head into the
 * next slot of avail.ring; split_ring_publish() makes everything added visible by one store to
 * avail.idx; split_ring_collect() takes back what the device has put into the used ring and frees
 * the descriptors. Both indices run free modulo 2^16 and may start anywhere.
 *
 * Hostile tests write the areas through desc, avail and used directly, and place heads that were
 * never built with split_ring_offer().
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "guest_ram.h"
#include "ring.h"

struct split_ring {
	const struct guest_ram *ram;
	uint16_t num;
	uint64_t desc_gpa;
	uint64_t avail_gpa;
	uint64_t used_gpa;

	/** The guest's pointers to the three areas. */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;

	uint16_t avail_idx; /**< where the next buffer goes; ahead of avail->idx until published */
	uint16_t used_idx;  /**< used elements up to here were collected */

	/** Descriptors nobody uses, as a stack; how many each head took; what follows each. */
	uint16_t *free_desc;
	uint16_t n_free;
	uint16_t *chain_len;
	uint16_t *chain_next;
};

/** Bytes of each area of a ring of @p num entries, event fields included. */
uint64_t split_ring_desc_bytes(uint16_t num);
uint64_t split_ring_avail_bytes(uint16_t num);
uint64_t split_ring_used_bytes(uint16_t num);

/**
 * Make an empty ring in three given places, and clear them.
 * @param start  value that both indices start from.
 */
void split_ring_init(struct split_ring *ring, const struct guest_ram *ram, uint16_t num,
	uint64_t desc_gpa, uint64_t avail_gpa, uint64_t used_gpa, uint16_t start);

/** Make an empty ring in memory taken from @p region, each area on pages of its own. */
void split_ring_init_alloc(struct split_ring *ring, struct guest_ram *ram, unsigned int region,
	uint16_t num, uint16_t start);

/** Forget all buffers, clear the areas and start again at @p start, as a driver's reset does. */
void split_ring_reset(struct split_ring *ring, uint16_t start);

/** Free what the ring took from this process. Repeatable; also good for all zero bytes. */
void split_ring_fini(struct split_ring *ring);

/** The descriptor that piece @p k of the next chain will take; UINT16_MAX: none is free. */
uint16_t split_ring_peek(const struct split_ring *ring, uint16_t k);

/** Add a chain of direct descriptors. @return its head, or -1 when descriptors are short. */
int split_ring_add(struct split_ring *ring, const struct ring_piece *piece, uint16_t n);

/** Add a buffer by one descriptor that refers to a table at @p table_gpa, which is written here. */
int split_ring_add_indirect(
	struct split_ring *ring, const struct ring_piece *piece, uint16_t n, uint64_t table_gpa);

/** Add a buffer whose first @p n_direct pieces are direct and whose rest is an indirect table. */
int split_ring_add_mixed(struct split_ring *ring, const struct ring_piece *piece, uint16_t n_direct,
	uint16_t n, uint64_t table_gpa);

/** Write an indirect table of chained descriptors. */
void split_ring_write_table(const struct guest_ram *ram, uint64_t table_gpa,
	const struct ring_piece *piece, uint16_t n);

/** Put any number into the next slot of avail.ring. No descriptor is touched or taken. */
void split_ring_offer(struct split_ring *ring, uint16_t head);

/** Write descriptor @p i as given. */
void split_ring_set_desc(struct split_ring *ring, uint16_t i, uint64_t gpa, uint32_t len,
	uint16_t flags, uint16_t next);

/** Make all buffers added so far visible to the device. */
void split_ring_publish(struct split_ring *ring);

/** Store any value to avail.idx. */
void split_ring_force_avail_idx(struct split_ring *ring, uint16_t idx);

/** What the device has published in used.idx. */
uint16_t split_ring_device_idx(const struct split_ring *ring);

/** Take back one buffer. @return false: the device has returned none. */
bool split_ring_collect(struct split_ring *ring, struct ring_used *used);

/** avail.flags: ask the device not to signal (without EVENT_IDX). */
void split_ring_suppress_calls(struct split_ring *ring, bool suppress);

/** used_event: ask for a signal when the device's used index passes @p idx (with EVENT_IDX). */
void split_ring_set_used_event(struct split_ring *ring, uint16_t idx);

/** used.flags: whether the device asks not to be kicked (without EVENT_IDX). */
bool split_ring_kicks_suppressed(const struct split_ring *ring);

/** avail_event: the index at which the device wants a kick (with EVENT_IDX). */
uint16_t split_ring_avail_event(const struct split_ring *ring);

#endif /* DYNVHOST_MOCK_SPLIT_RING_H */
