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
	uint32_t cut;    /**< of the strays, slots of a chain that was being given back; 0: none */
	uint32_t cut_at; /**< the last such slot is so many before the driver's */
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

/**
 * Find the chain, if there is one, that was being given back: its slots are marked from the last one
 * on, so that those which are not yet all have NEXT, and a used one behind them.
 */
static void
resume_find_cut(const struct vring_packed_desc *desc, uint32_t size, struct resume_scan *scan)
{
	uint32_t n = scan->open + 1;

	if (scan->strays == 0)
		return;
	while (n < size && resume_is_used(desc, resume_back(size, scan->driver, n).slot))
		n++;
	scan->cut_at = n;
	for (; n <= size && scan->cut < scan->strays; n++) {
		uint32_t slot = resume_back(size, scan->driver, n).slot;

		if (resume_is_used(desc, slot) || !(desc[slot].flags & VRING_DESC_F_NEXT))
			break;
		scan->cut++;
	}
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
	resume_find_cut(desc, size, scan);
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

/** Mark an unused slot as used. */
static void
resume_mark(struct vring_packed_desc *desc, bool written)
{
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_RELAXED);

	flags = flags & RESUME_AVAIL ? RESUME_AVAIL | RESUME_USED : 0;
	if (written)
		flags |= VRING_DESC_F_WRITE;
	__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
}

/** Publish what has id and length in its first descriptor, and lacks its flags. */
static void
resume_publish(struct vring_packed_desc *desc)
{
	resume_mark(desc, __atomic_load_n(&desc->len, __ATOMIC_RELAXED) > 0);
}

/**
 * Give back the chain that was being given back. Its first slot has its id already, but its length only
 * once all others are marked; before that, and where nothing is written, none counts.
 */
static void
resume_end_cut(struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan)
{
	const uint32_t end = scan->cut_at + scan->cut - 1;
	struct vring_packed_desc *first = &desc[resume_back(size, scan->driver, end).slot];
	uint32_t n;

	if (scan->cut > 1 || !scan->writable)
		__atomic_store_n(&first->len, 0, __ATOMIC_RELAXED);
	for (n = scan->cut_at; n < end; n++)
		resume_mark(&desc[resume_back(size, scan->driver, n).slot], false);
	resume_publish(first);
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
		resume_mark(at, false);
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
	if (scan.strays - scan.cut > 1 && (!agreed || scan.writable))
		return -ENOTRECOVERABLE;
	*pos = found;
	if (scan.strays == 0)
		return 0;
	if (scan.cut > 0)
		resume_end_cut(desc, size, &scan);
	if (!scan.writable)
		resume_give_back(desc, size, &scan);
	else if (scan.strays > scan.cut)
		resume_publish(&desc[scan.stray]);
	return 1;
}
