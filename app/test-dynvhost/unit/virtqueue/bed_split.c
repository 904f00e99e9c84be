/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "bed.h"

const struct bed_format bed_format = {
	.packed = false,
	.features = 0,
	.bare_hdr_len = 10,
	.event_align = 2,
	.sizes = {1, 2, 256, 32768},
	.small_sizes = {1, 2, 4, 16, 64, 256},
	.faults = (1u << DYNVHOST_VQ_FAULTS) - 1,
};

static uint64_t
split_pages(uint64_t bytes)
{
	return RTE_ALIGN_CEIL(bytes, GUEST_RAM_PAGE);
}

uint64_t
bed_ring_loadable(uint16_t size)
{
	return split_pages(split_ring_desc_bytes(size)) + split_pages(split_ring_avail_bytes(size));
}

uint64_t
bed_ring_storable(uint16_t size)
{
	return split_pages(split_ring_used_bytes(size));
}

void
bed_ring_init(struct bed *bed)
{
	split_ring_init_alloc(&bed->split, &bed->ram, 0, bed->config.size, bed->config.start);
	bed->setup.desc_gpa = bed->split.desc_gpa;
	bed->setup.avail_gpa = bed->split.avail_gpa;
	bed->setup.used_gpa = bed->split.used_gpa;
	/* Not looked at. */
	bed->setup.base = 0xdeadbeef;
}

void
bed_ring_fini(struct bed *bed)
{
	split_ring_fini(&bed->split);
}

void
bed_reset(struct bed *bed, uint16_t count)
{
	split_ring_reset(&bed->split, count);
}

uint32_t
bed_base(const struct bed *bed, uint32_t count)
{
	return (uint16_t)count;
}

void
bed_unmark(struct bed *bed)
{
}

void
bed_expect_position(const struct bed *bed)
{
	assert_int_equal(bed->vq.split.last_avail, bed->vq.split.last_used);
}

uint16_t
bed_room(const struct bed *bed)
{
	return bed->split.n_free;
}

int
bed_ring_add(struct bed *bed, enum bed_shape shape, const struct ring_piece *piece, uint16_t n,
	uint64_t table)
{
	int head;

	if (shape == BED_SHAPE_DIRECT)
		head = split_ring_add(&bed->split, piece, n);
	else if (shape == BED_SHAPE_TABLE)
		head = split_ring_add_indirect(&bed->split, piece, n, table);
	else
		head = split_ring_add_mixed(&bed->split, piece, 1, n, table);
	split_ring_publish(&bed->split);
	return head;
}

void
bed_add_flags(struct bed *bed, uint16_t head, uint16_t flags)
{
	bed->split.desc[head].flags |= flags;
}

bool
bed_collect(struct bed *bed, struct ring_used *used)
{
	return split_ring_collect(&bed->split, used);
}

bool
bed_has_used(const struct bed *bed)
{
	return split_ring_device_idx(&bed->split) != bed->split.used_idx;
}

void
bed_ring_freeze_used(struct bed *bed, uint16_t head, uint32_t len)
{
	const struct vring_used_elem elem = {.id = head, .len = len};
	const uint16_t slot = bed->split.used_idx % bed->config.size;
	const uint16_t idx = (uint16_t)(bed->split.used_idx + 1);

	bed_write_frozen(bed, bed->split.used_gpa + offsetof(struct vring_used, ring[slot]), &elem,
		sizeof(elem));
	bed_write_frozen(
		bed, bed->split.used_gpa + offsetof(struct vring_used, idx), &idx, sizeof(idx));
}

void
bed_suppress_calls(struct bed *bed, bool suppress)
{
	split_ring_suppress_calls(&bed->split, suppress);
}

void
bed_call_at(struct bed *bed, uint16_t count)
{
	split_ring_set_used_event(&bed->split, count);
}

bool
bed_kicks_suppressed(const struct bed *bed)
{
	return split_ring_kicks_suppressed(&bed->split);
}

void
bed_offer_raw(struct bed *bed, const struct vring_desc *desc, uint16_t n)
{
	memcpy(&bed->split.desc[BED_RAW], desc, n * sizeof(*desc));
	split_ring_offer(&bed->split, BED_RAW);
	split_ring_publish(&bed->split);
}

void
bed_write_entry(struct bed *bed, uint64_t gpa, const struct vring_desc *desc)
{
	guest_ram_write(&bed->ram, gpa, desc, sizeof(*desc));
}

void
bed_rewrite(struct bed *bed, uint16_t i, const struct vring_desc *desc, uint16_t number)
{
	struct vring_desc *to = &bed->split.desc[i];

	__atomic_store_n(&to->len, desc->len, __ATOMIC_RELAXED);
	__atomic_store_n(&to->addr, desc->addr, __ATOMIC_RELAXED);
	__atomic_store_n(&to->flags, desc->flags, __ATOMIC_RELAXED);
	__atomic_store_n(&to->next, desc->next, __ATOMIC_RELAXED);
	__atomic_store_n(&bed->split.avail->ring[i], number, __ATOMIC_RELAXED);
}

void
bed_force_available(struct bed *bed, uint32_t n)
{
	split_ring_force_avail_idx(&bed->split, (uint16_t)(bed->vq.split.last_avail + n));
}
