/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_PACKED_RING_H
#define DYNVHOST_MOCK_PACKED_RING_H

/**
 * @file
 * The driver's side of a packed virtqueue (virtio 1.2 §2.8), as a guest kernel has it.
 *
 * Three areas of guest memory, each at an address of the test's choice, aligned to 16, 4 and 4
 * bytes. Driver and device write the first one, the driver the second, the device the third:
 *
 *	desc    num x { addr u64, len u32, id u16, flags u16 }
 *	driver  off_wrap u16, flags u16
 *	device  off_wrap u16, flags u16
 *
 * A position is a slot of the ring and a wrap counter, in 16 bits as on the wire: the slot below,
 * the counter in bit 15. A fresh ring stands at 0x8000.
 *
 * Life of a buffer: packed_ring_add() writes a chain into the next slots, all but the flags of the
 * first descriptor since the last packed_ring_publish(), which stores these and thereby makes all
 * that was added visible. packed_ring_collect() takes back what the device has returned: a used
 * descriptor at the driver's position, which names the buffer by its id and stands for all of its
 * slots. In a ring that is used in order it may name a later buffer instead; then it stands for all
 * from the driver's position up to that one (virtio 1.2 §2.8.8), which come back one by one here.
 *
 * Hostile tests write the areas through desc, driver and device directly, and place descriptors
 * that belong to no buffer with packed_ring_offer().
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "guest_ram.h"
#include "ring.h"

/** Where a fresh ring stands. */
#define PACKED_RING_START 0x8000u

/** Bits of a descriptor's flags: 1 << 7 and 1 << 15. */
#define PACKED_RING_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_RING_USED  (1u << VRING_PACKED_DESC_F_USED)

struct packed_ring {
	const struct guest_ram *ram;
	uint16_t num;
	uint64_t desc_gpa;
	uint64_t driver_gpa;
	uint64_t device_gpa;

	/** The guest's pointers to the three areas. */
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver;
	struct vring_packed_desc_event *device;

	uint16_t avail_pos; /**< where the next buffer goes */
	uint16_t used_pos;  /**< where the next used descriptor is expected */
	uint16_t n_free;    /**< slots nobody uses */

	/** The device uses buffers in order: set before the first one is added. */
	bool in_order;

	/** The slot whose flags wait for packed_ring_publish(), and these; -1: none waits. */
	int32_t held_slot;
	uint16_t held_flags;

	/** Ids nobody uses, as a stack; slots that each id took, 0: it is not in use. */
	uint16_t *free_id;
	uint16_t n_free_ids;
	uint16_t *id_slots;

	/** In order: ids of buffers in the order of the ring, around the array's end. */
	uint16_t *id_queue;
	uint16_t queue_first;
	uint16_t queue_len;
	/** The id of the last buffer of a batch that is being taken back, and its length; -1: none is. */
	int32_t batch_id;
	uint32_t batch_len;
};

/** Bytes of the descriptor area of a ring of @p num slots, and of each event area. */
uint64_t packed_ring_desc_bytes(uint16_t num);
#define PACKED_RING_EVENT_BYTES sizeof(struct vring_packed_desc_event)

/** The position @p n slots behind @p pos in a ring of @p num slots. */
uint16_t packed_ring_step(uint16_t num, uint16_t pos, uint32_t n);

/**
 * Make an empty ring in three given places, and clear them.
 * @param start  position that driver and device start from.
 */
void packed_ring_init(struct packed_ring *ring, const struct guest_ram *ram, uint16_t num,
	uint64_t desc_gpa, uint64_t driver_gpa, uint64_t device_gpa, uint16_t start);

/** Make an empty ring in memory taken from @p region, each area on pages of its own. */
void packed_ring_init_alloc(struct packed_ring *ring, struct guest_ram *ram, unsigned int region,
	uint16_t num, uint16_t start);

/** Forget all buffers, clear the areas and start again at @p start, as a driver's reset does. */
void packed_ring_reset(struct packed_ring *ring, uint16_t start);

/** Free what the ring took from this process. Repeatable; also good for all zero bytes. */
void packed_ring_fini(struct packed_ring *ring);

/** Add a chain of direct descriptors. @return its id, or -1 when slots are short. */
int packed_ring_add(struct packed_ring *ring, const struct ring_piece *piece, uint16_t n);

/** Add a buffer by one descriptor that refers to a table at @p table_gpa, which is written here. */
int packed_ring_add_indirect(
	struct packed_ring *ring, const struct ring_piece *piece, uint16_t n, uint64_t table_gpa);

/**
 * Add a buffer whose first @p n_direct pieces are direct and whose rest is an indirect table. Guest
 * kernels do not (virtio 1.2 §2.8.5).
 */
int packed_ring_add_mixed(struct packed_ring *ring, const struct ring_piece *piece,
	uint16_t n_direct, uint16_t n, uint64_t table_gpa);

/** Write an indirect table. */
void packed_ring_write_table(const struct guest_ram *ram, uint64_t table_gpa,
	const struct ring_piece *piece, uint16_t n);

/**
 * Put any descriptor into the next slot, as one that is available; bits AVAIL and USED of its flags
 * mean nothing here. No id is taken.
 */
void packed_ring_offer(struct packed_ring *ring, const struct vring_packed_desc *desc);

/** Make all buffers added so far visible to the device. */
void packed_ring_publish(struct packed_ring *ring);

/** Whether the device has returned something. */
bool packed_ring_has_used(const struct packed_ring *ring);

/** Up to where the device has returned buffers, which the driver may not have collected. */
uint16_t packed_ring_device_pos(const struct packed_ring *ring);

/**
 * Take back one buffer, whose length counts only if the device says that it has written. Ids that
 * own no slots were offered by hand, one slot each. Buffers of a batch have no length but the last.
 * @return false: the device has returned none.
 */
bool packed_ring_collect(struct packed_ring *ring, struct ring_used *used);

/** Driver event: ask the device to signal never, or always. */
void packed_ring_suppress_calls(struct packed_ring *ring, bool suppress);

/** Driver event: ask for a signal when the device uses the descriptor at @p pos (EVENT_IDX). */
void packed_ring_set_used_event(struct packed_ring *ring, uint16_t pos);

/** Device event: whether the device asks not to be kicked. */
bool packed_ring_kicks_suppressed(const struct packed_ring *ring);

#endif /* DYNVHOST_MOCK_PACKED_RING_H */
