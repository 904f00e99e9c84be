/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Security model: every bit that is looked at belongs to the guest, which may be lying or writing at
 * this moment. What comes out is a slot of the ring, whatever the guest does; a wrong one harms the
 * guest alone. Each loop goes around the ring once at most, and that is done RESUME_LOOKS times at most.
 */

#include <errno.h>
#include <stdbool.h>

#include <rte_cycles.h>

#include "packed_resume.h"

#define RESUME_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define RESUME_USED  (1u << VRING_PACKED_DESC_F_USED)

/**
 * Drivers write the rest of a chain, or of a burst, before its head, and meanwhile the rounds of slots
 * alternate: the ring is looked at so often, with pauses.
 */
#define RESUME_LOOKS    32u
#define RESUME_PAUSE_US 1u

/** What the descriptors say. Slots are told by how many before the driver's they are. */
struct resume_scan {
	struct dynvhost_vq_packed_pos driver; /**< where the driver writes next */
	uint32_t open;   /**< slots before it that are not used: the driver waits for them */
	uint32_t strays; /**< slots before those that are not used either */
	uint32_t stray;  /**< the farthest of them */
	uint32_t cut;    /**< of the strays, slots of a chain that was being given back; 0: none */
	uint32_t cut_at; /**< the nearest of them */
};

static bool
resume_avail_bit(const struct vring_packed_desc *desc, uint32_t slot)
{
	return (__atomic_load_n(&desc[slot].flags, __ATOMIC_ACQUIRE) & RESUME_AVAIL) != 0;
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

/** Whether @p flags are those of an unused slot of a round of the ring. */
static bool
resume_is_unused(uint16_t flags, bool wrap)
{
	return ((flags & RESUME_AVAIL) != 0) == wrap && ((flags & RESUME_USED) != 0) != wrap;
}

/**
 * The flags of the slot @p n before the driver's, if it is unused; else 0, which unused slots never have.
 * A slot that the driver has written since we found its place is of another round, and none of these.
 */
static uint16_t
resume_unused(const struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan,
	uint32_t n)
{
	const struct dynvhost_vq_packed_pos pos = resume_back(size, scan->driver, n);
	const uint16_t flags = __atomic_load_n(&desc[pos.slot].flags, __ATOMIC_ACQUIRE);

	return resume_is_unused(flags, pos.wrap) ? flags : 0;
}

/** Find where the driver writes next. @return false: the rounds of the slots do not say it. */
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
	/* The driver may have come around meanwhile. */
	return resume_avail_bit(desc, 0) == first;
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
	while (n < size && resume_unused(desc, size, scan, n) == 0)
		n++;
	scan->cut_at = n;
	for (; n <= size && scan->cut < scan->strays; n++) {
		if (!(resume_unused(desc, size, scan, n) & VRING_DESC_F_NEXT))
			break;
		scan->cut++;
	}
}

static bool
resume_scan(const struct vring_packed_desc *desc, uint32_t size, struct resume_scan *scan)
{
	uint32_t n;

	*scan = (struct resume_scan){0};
	if (!resume_find_driver(desc, size, &scan->driver))
		return false;
	for (n = 1; n <= size; n++) {
		if (resume_unused(desc, size, scan, n) == 0)
			continue;
		if (scan->open == n - 1) {
			scan->open++;
		} else {
			scan->strays++;
			scan->stray = n;
		}
	}
	resume_find_cut(desc, size, scan);
	return true;
}

/** As resume_scan(), of a guest that may be at work. @return false: it is not that. */
static bool
resume_look(const struct vring_packed_desc *desc, uint32_t size, struct resume_scan *scan)
{
	unsigned int looks;

	for (looks = 0; looks < RESUME_LOOKS; looks++) {
		if (resume_scan(desc, size, scan))
			return true;
		rte_delay_us_block(RESUME_PAUSE_US);
	}
	return false;
}

/** Whether the slots @p last to @p first before the driver's are linked by NEXT, and end there. */
static bool
resume_is_chain(const struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan,
	uint32_t first, uint32_t last)
{
	uint32_t n = first;

	while (n > last && (resume_unused(desc, size, scan, n) & VRING_DESC_F_NEXT))
		n--;
	return n == last && !(resume_unused(desc, size, scan, n) & VRING_DESC_F_NEXT);
}

/**
 * Whether the slots from our position up to @p pos are the rest of a chain that was given back by a
 * back-end which marks first slots alone: the chain's last slot bears the id of its used descriptor.
 * @return how many open slots there are then.
 */
static uint32_t
resume_open_behind_chain(const struct vring_packed_desc *desc, uint32_t size,
	const struct resume_scan *scan, struct dynvhost_vq_packed_pos pos)
{
	uint32_t n;

	for (n = 0; n < scan->open; n++) {
		struct dynvhost_vq_packed_pos at = resume_back(size, scan->driver, n);

		if (at.slot == pos.slot && at.wrap == pos.wrap)
			break;
	}
	if (n == scan->open || scan->open == size ||
		!resume_is_chain(desc, size, scan, scan->open, n + 1) ||
		desc[resume_back(size, pos, 1).slot].id !=
			desc[resume_back(size, scan->driver, scan->open + 1).slot].id)
		return scan->open;
	return n;
}

/**
 * Mark the slots @p from to @p to before the driver's as used, the nearest one first; but not such as the
 * driver has back and has written anew.
 */
static void
resume_mark(struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan,
	uint32_t from, uint32_t to)
{
	for (uint32_t n = from; n <= to; n++) {
		const struct dynvhost_vq_packed_pos pos = resume_back(size, scan->driver, n);
		const uint16_t used = pos.wrap ? RESUME_AVAIL | RESUME_USED : 0;
		uint16_t flags = resume_unused(desc, size, scan, n);

		if (flags != 0)
			__atomic_compare_exchange_n(&desc[pos.slot].flags, &flags, used, false,
				__ATOMIC_RELEASE, __ATOMIC_RELAXED);
	}
}

/**
 * Let what a burst has given back to the guest, and has not published, say that nothing has been
 * written: it may end in the middle of a packet that several buffers share.
 */
static void
resume_forget(struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan)
{
	for (uint32_t n = scan->open + 1; n <= scan->stray; n++)
		__atomic_store_n(
			&desc[resume_back(size, scan->driver, n).slot].len, 0, __ATOMIC_RELAXED);
}

/** The first slot of the chain whose last unused one is @p n. */
static uint32_t
resume_head(const struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan,
	uint32_t n)
{
	while (n < size && (resume_unused(desc, size, scan, n + 1) & VRING_DESC_F_NEXT))
		n++;
	return n;
}

/** Give back the chain whose last unused slot is @p n. @return its first slot. */
static uint32_t
resume_give_back_chain(
	struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan, uint32_t n)
{
	const struct vring_packed_desc *last = &desc[resume_back(size, scan->driver, n).slot];
	const uint32_t head = resume_head(desc, size, scan, n);
	struct vring_packed_desc *first = &desc[resume_back(size, scan->driver, head).slot];

	/* A chain has its id in its last slot. Where that has been marked, the first one has it: it
	 * gets it before anything is marked, so that we too can be cut off.
	 */
	if (!(last->flags & VRING_DESC_F_NEXT) && first->id != last->id)
		first->id = last->id;
	resume_mark(desc, size, scan, n, head);
	return head;
}

/**
 * Give back, with nothing written, what lies unused before our position, the last ones first: the
 * driver waits at the first one.
 */
static void
resume_give_back(struct vring_packed_desc *desc, uint32_t size, const struct resume_scan *scan)
{
	uint32_t n;

	for (n = scan->open + 1; n <= size; n++) {
		if (resume_unused(desc, size, scan, n) != 0)
			n = resume_give_back_chain(desc, size, scan, n);
	}
}

int
packed_resume(struct vring_packed_desc *desc, uint32_t size, bool writes,
	struct dynvhost_vq_packed_pos *pos)
{
	struct dynvhost_vq_packed_pos found;
	struct resume_scan scan;
	uint32_t open;
	bool agreed;

	if (!resume_look(desc, size, &scan))
		return -ENOTRECOVERABLE;
	open = resume_open_behind_chain(desc, size, &scan, *pos);
	found = resume_back(size, scan.driver, open);
	agreed = found.slot == pos->slot && found.wrap == pos->wrap;
	/* A burst leaves one slot for the end: the one that publishes all others. A front-end that
	 * drops what the guest sends meanwhile leaves more, and says where it stopped.
	 */
	if (scan.strays - scan.cut > 1 && (!agreed || writes))
		return -ENOTRECOVERABLE;
	*pos = found;
	resume_mark(desc, size, &scan, open + 1, scan.open);
	if (scan.strays == 0)
		return 0;
	if (writes)
		resume_forget(desc, size, &scan);
	resume_give_back(desc, size, &scan);
	return 0;
}
