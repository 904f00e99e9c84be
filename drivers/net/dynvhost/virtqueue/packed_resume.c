/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Security model: every bit that is looked at belongs to the guest, which may be lying or writing at
 * this moment. What comes out is a slot of the ring, whatever the guest does; a wrong one harms the
 * guest alone. Each loop goes around the ring once at most.
 */

#include <errno.h>
#include <stdbool.h>

#include "packed_resume.h"

#define RESUME_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define RESUME_USED  (1u << VRING_PACKED_DESC_F_USED)

/** What the descriptors say. */
struct resume_scan {
	struct dynvhost_vq_packed_pos driver; /**< where the driver writes next */
	uint32_t open;   /**< slots before it that are not used: the driver waits for them */
	uint32_t strays; /**< slots before those that are not used either */
	uint32_t stray;  /**< the last such slot */
	bool writable;   /**< one of them is for the device to write */
};

static bool
resume_avail_bit(const struct vring_packed_desc *desc, uint32_t slot)
{
	return (__atomic_load_n(&desc[slot].flags, __ATOMIC_ACQUIRE) & RESUME_AVAIL) != 0;
}

static bool
resume_is_used(const struct vring_packed_desc *desc, uint32_t slot)
{
	uint16_t flags = __atomic_load_n(&desc[slot].flags, __ATOMIC_ACQUIRE);

	return ((flags & RESUME_AVAIL) != 0) == ((flags & RESUME_USED) != 0);
}

/** The position @p n <= size slots before @p pos. */
static struct dynvhost_vq_packed_pos
resume_back(uint32_t size, struct dynvhost_vq_packed_pos pos, uint32_t n)
{
	if (n > pos.slot)
		return (struct dynvhost_vq_packed_pos){
			.slot = (uint16_t)(pos.slot + size - n), .wrap = !pos.wrap};
	return (struct dynvhost_vq_packed_pos){.slot = (uint16_t)(pos.slot - n), .wrap = pos.wrap};
}

/** Find where the driver writes next. @return false: the slots are not of two rounds. */
static bool
resume_find_driver(
	const struct vring_packed_desc *desc, uint32_t size, struct dynvhost_vq_packed_pos *driver)
{
	const bool first = resume_avail_bit(desc, 0);
	uint32_t slot = 1;

	while (slot < size && resume_avail_bit(desc, slot) == first)
		slot++;
	/* All of one round: the next one begins at slot 0. */
	driver->slot = slot == size ? 0 : (uint16_t)slot;
	driver->wrap = slot == size ? !first : first;
	for (; slot < size; slot++) {
		if (resume_avail_bit(desc, slot) == first)
			return false;
	}
	return true;
}

static bool
resume_scan(const struct vring_packed_desc *desc, uint32_t size, struct resume_scan *scan)
{
	uint32_t slot;
	uint32_t n;

	*scan = (struct resume_scan){0};
	if (!resume_find_driver(desc, size, &scan->driver))
		return false;
	for (n = 1; n <= size; n++) {
		slot = resume_back(size, scan->driver, n).slot;
		if (resume_is_used(desc, slot))
			continue;
		if (scan->open == n - 1) {
			scan->open++;
		} else {
			scan->strays++;
			scan->stray = slot;
			scan->writable |= (desc[slot].flags & VRING_DESC_F_WRITE) != 0;
		}
	}
	return true;
}

/**
 * Whether the slots from our position up to @p pos are the rest of a chain that was given back by a
 * back-end which marks first slots alone: the chain's last slot bears the id of its used descriptor.
 */
static bool
resume_is_behind_chain(const struct vring_packed_desc *desc, uint32_t size,
	const struct resume_scan *scan, struct dynvhost_vq_packed_pos pos)
{
	uint32_t n;

	for (n = 0; n < scan->open; n++) {
		struct dynvhost_vq_packed_pos at = resume_back(size, scan->driver, n);

		if (at.slot == pos.slot && at.wrap == pos.wrap)
			break;
	}
	if (n == scan->open || scan->open == size)
		return false;
	return desc[resume_back(size, pos, 1).slot].id ==
	       desc[resume_back(size, scan->driver, scan->open + 1).slot].id;
}

/** Publish a burst towards the guest: its first descriptor has id and length, and lacks its flags. */
static void
resume_publish(struct vring_packed_desc *desc)
{
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_RELAXED);
	uint32_t len = __atomic_load_n(&desc->len, __ATOMIC_RELAXED);

	flags = flags & RESUME_AVAIL ? RESUME_AVAIL | RESUME_USED : 0;
	if (len > 0)
		flags |= VRING_DESC_F_WRITE;
	__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
}

/**
 * Give back, with nothing written, what lies unused before our position, the last ones first: the
 * driver waits at the first one. A chain has its id in its last slot, and in its first one once a
 * back-end has begun to give it back.
 */
static void
resume_give_back(struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan)
{
	bool behind = false; /* the slot behind this one is one of these */
	uint16_t id = 0;
	uint32_t n;

	for (n = scan->open + 1; n <= size; n++) {
		struct vring_packed_desc *at = &desc[resume_back(size, scan->driver, n).slot];
		uint16_t flags = __atomic_load_n(&at->flags, __ATOMIC_RELAXED);

		if (((flags & RESUME_AVAIL) != 0) == ((flags & RESUME_USED) != 0)) {
			behind = false;
			continue;
		}
		if (!behind || !(flags & VRING_DESC_F_NEXT))
			id = at->id;
		behind = true;
		at->id = id;
		at->len = 0;
		flags = flags & RESUME_AVAIL ? RESUME_AVAIL | RESUME_USED : 0;
		__atomic_store_n(&at->flags, flags, __ATOMIC_RELEASE);
	}
}

int
packed_resume(struct vring_packed_desc *desc, uint32_t size, struct dynvhost_vq_packed_pos *pos)
{
	struct dynvhost_vq_packed_pos found;
	struct resume_scan scan;
	bool agreed;

	if (!resume_scan(desc, size, &scan))
		return -ENOTRECOVERABLE;
	found = resume_back(size, scan.driver, scan.open);
	if (resume_is_behind_chain(desc, size, &scan, *pos))
		found = *pos;
	agreed = found.slot == pos->slot && found.wrap == pos->wrap;
	/* A burst leaves one slot for the end: the one that publishes all others. A front-end that
	 * drops what the guest sends meanwhile leaves more, and says where it stopped.
	 */
	if (scan.strays > 1 && (!agreed || scan.writable))
		return -ENOTRECOVERABLE;
	*pos = found;
	if (scan.strays == 0)
		return 0;
	if (scan.writable)
		resume_publish(&desc[scan.stray]);
	else
		resume_give_back(desc, size, &scan);
	return 1;
}
