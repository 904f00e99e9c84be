/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_VQ_BED_RING_H
#define DYNVHOST_TEST_VQ_BED_RING_H

/**
 * @file
 * The guest's side of the ring under test, in whatever format. Every test program is linked with
 * one of bed_split.c and bed_packed.c, which do the same to rings of either format.
 *
 * Places in a ring are counted: the ring's first entry is 0, and counting goes on where the ring
 * begins anew. An entry is a slot of the available ring (split) or a descriptor (packed).
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "ring.h"

struct bed;

/** How a buffer's pieces are laid into descriptors. */
enum bed_shape {
	BED_SHAPE_DIRECT,
	BED_SHAPE_TABLE, /**< all of them in an indirect table */
	BED_SHAPE_MIXED, /**< the first one direct, the others in a table */
	BED_SHAPES
};

/** Where bed_offer_raw() writes in a split ring. */
#define BED_RAW 100

/** What tests must know of a format. */
struct bed_format {
	bool packed;
	uint64_t features;       /**< negotiated with every ring */
	uint8_t bare_hdr_len;    /**< header with no other feature */
	uint16_t event_align;    /**< of the avail area */
	uint16_t sizes[6];       /**< of rings, from the smallest to the largest; 0: end */
	uint16_t small_sizes[6]; /**< of rings for random tests */
	uint32_t faults;         /**< bits of the faults that a guest can cause */
};
extern const struct bed_format bed_format;

/** Bytes of the pages that a ring of @p size pins through each window. */
uint64_t bed_ring_loadable(uint16_t size);
uint64_t bed_ring_storable(uint16_t size);

/** Take the ring's memory from region 0, and say in bed->setup where it is. */
void bed_ring_init(struct bed *bed);
void bed_ring_fini(struct bed *bed);

/** Forget all buffers and start again at @p count, which bed->setup says too. */
void bed_reset(struct bed *bed, uint16_t count);

/** What dynvhost_vq_stop() returns when @p count entries have been used since the ring was new. */
uint32_t bed_base(const struct bed *bed, uint32_t count);

/** Forget that the device has worked on this ring before: the next start asks only bed->setup. */
void bed_unmark(struct bed *bed);

/** Fails the test if the virtqueue's own position can not be. */
void bed_expect_position(const struct bed *bed);

/** Descriptors that are free. */
uint16_t bed_room(const struct bed *bed);

/** Make a buffer available; a table, if it takes one, is written at @p table. @return its head. */
int bed_ring_add(struct bed *bed, enum bed_shape shape, const struct ring_piece *piece, uint16_t n,
	uint64_t table);

/** Set flags in the descriptor of an available buffer that has no other. */
void bed_add_flags(struct bed *bed, uint16_t head, uint16_t flags);

/** Take back one buffer. @return false: the device has returned none. */
bool bed_collect(struct bed *bed, struct ring_used *used);
bool bed_has_used(const struct bed *bed);

/** Write what the device writes to return @p head into the frozen copy of the ring. */
void bed_ring_freeze_used(struct bed *bed, uint16_t head, uint32_t len);

/** Ask the device not to signal, or to signal. */
void bed_suppress_calls(struct bed *bed, bool suppress);

/** Ask for a signal when the device uses entry @p count, with BED_EVENT. */
void bed_call_at(struct bed *bed, uint16_t count);

/** Whether the device asks not to be kicked, without BED_EVENT. */
bool bed_kicks_suppressed(const struct bed *bed);

/* --- hostile guests --- */

/**
 * Make a chain available as it is written, beginning at descriptor BED_RAW. A packed ring has it in
 * its next slots, as far as NEXT goes; what `next` says means nothing there.
 */
void bed_offer_raw(struct bed *bed, const struct vring_desc *desc, uint16_t n);

/** Write an entry of an indirect table. */
void bed_write_entry(struct bed *bed, uint64_t gpa, const struct vring_desc *desc);

/**
 * Overwrite descriptor @p i as a guest's other processor does. @p number goes into the same place
 * of the available ring (split) or is the descriptor's id (packed).
 */
void bed_rewrite(struct bed *bed, uint16_t i, const struct vring_desc *desc, uint16_t number);

/** Let the next @p n entries look available, and in a packed ring no other. */
void bed_force_available(struct bed *bed, uint32_t n);

#endif /* DYNVHOST_TEST_VQ_BED_RING_H */
