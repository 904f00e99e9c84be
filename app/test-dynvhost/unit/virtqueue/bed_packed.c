/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include "bed.h"

#define FORMAT_FLAGS (PACKED_RING_AVAIL | PACKED_RING_USED)

const struct bed_format bed_format = {
	.packed = true,
	.features = BED_PACKED,
	.bare_hdr_len = 12,
	.event_align = 4,
	.sizes = {1, 3, 7, 256, 32768},
	.small_sizes = {1, 3, 7, 16, 61, 256},
	.faults = ((1u << DYNVHOST_VQ_FAULTS) - 1) & ~(1u << DYNVHOST_VQ_BAD_AVAIL) &
		  ~(1u << DYNVHOST_VQ_BAD_HEAD),
};

uint64_t
bed_ring_loadable(uint16_t size)
{
	return GUEST_RAM_PAGE;
}

uint64_t
bed_ring_storable(uint16_t size)
{
	return RTE_ALIGN_CEIL(packed_ring_desc_bytes(size), GUEST_RAM_PAGE) + GUEST_RAM_PAGE;
}

static uint16_t
packed_place(const struct bed *bed, uint32_t count)
{
	return packed_ring_step(bed->config.size, PACKED_RING_START, count);
}

void
bed_ring_init(struct bed *bed)
{
	packed_ring_init_alloc(
		&bed->packed, &bed->ram, 0, bed->config.size, packed_place(bed, bed->config.start));
	bed->packed.in_order = (bed->config.features & BED_IN_ORDER) != 0;
	bed->setup.desc_gpa = bed->packed.desc_gpa;
	bed->setup.avail_gpa = bed->packed.driver_gpa;
	bed->setup.used_gpa = bed->packed.device_gpa;
	bed->setup.base = bed_base(bed, bed->config.start);
}

void
bed_ring_fini(struct bed *bed)
{
	packed_ring_fini(&bed->packed);
}

void
bed_reset(struct bed *bed, uint16_t count)
{
	packed_ring_reset(&bed->packed, packed_place(bed, count));
	bed->setup.base = bed_base(bed, count);
}

uint32_t
bed_base(const struct bed *bed, uint32_t count)
{
	const uint32_t place = packed_place(bed, count);

	return place << 16 | place;
}

void
bed_unmark(struct bed *bed)
{
	bed->packed.device->off_wrap = 0;
}

void
bed_expect_position(const struct bed *bed)
{
	assert_in_range(bed->vq.packed.pos.slot, 0, bed->config.size - 1);
}

uint16_t
bed_room(const struct bed *bed)
{
	return bed->packed.n_free;
}

int
bed_ring_add(struct bed *bed, enum bed_shape shape, const struct ring_piece *piece, uint16_t n,
	uint64_t table)
{
	int id;

	if (shape == BED_SHAPE_DIRECT)
		id = packed_ring_add(&bed->packed, piece, n);
	else if (shape == BED_SHAPE_TABLE)
		id = packed_ring_add_indirect(&bed->packed, piece, n, table);
	else
		id = packed_ring_add_mixed(&bed->packed, piece, 1, n, table);
	packed_ring_publish(&bed->packed);
	return id;
}

void
bed_add_flags(struct bed *bed, uint16_t head, uint16_t flags)
{
	uint16_t i = bed->packed.used_pos & 0x7fff;

	while (bed->packed.desc[i].id != head)
		i = (uint16_t)((i + 1) % bed->config.size);
	bed->packed.desc[i].flags |= flags;
}

bool
bed_collect(struct bed *bed, struct ring_used *used)
{
	return packed_ring_collect(&bed->packed, used);
}

bool
bed_has_used(const struct bed *bed)
{
	return packed_ring_has_used(&bed->packed);
}

/* The slots of a chain behind its first one are marked, and no more. */
static void
packed_freeze_rest(struct bed *bed, uint16_t head)
{
	uint16_t i;

	for (i = 1; head < bed->config.size && i < bed->packed.id_slots[head]; i++) {
		uint16_t pos = packed_ring_step(bed->config.size, bed->packed.used_pos, i);
		uint64_t gpa = bed->packed.desc_gpa +
			       (pos & 0x7fff) * sizeof(struct vring_packed_desc) +
			       offsetof(struct vring_packed_desc, flags);
		uint16_t flags = pos & 0x8000 ? FORMAT_FLAGS : 0;

		bed_write_frozen(bed, gpa, &flags, sizeof(flags));
	}
}

/*
 * The id that the used descriptor of @p head bears. In order, that of the first one of a burst from the
 * guest may be a later one's: as the mock driver takes buffers back by it, it is the right one if
 * these come in their order.
 */
static uint16_t
packed_used_id(const struct bed *bed, uint16_t head)
{
	if (!bed->packed.in_order || bed->config.index == BED_ENQUEUE || bed->packed.batch_id >= 0)
		return head;
	return bed->packed.desc[bed->packed.used_pos & 0x7fff].id;
}

void
bed_ring_freeze_used(struct bed *bed, uint16_t head, uint32_t len)
{
	const uint16_t slot = bed->packed.used_pos & 0x7fff;
	const size_t from = offsetof(struct vring_packed_desc, len);
	struct vring_packed_desc desc = {.len = len, .id = packed_used_id(bed, head)};

	if (bed->packed.used_pos & 0x8000)
		desc.flags |= FORMAT_FLAGS;
	if (len > 0)
		desc.flags |= VRING_DESC_F_WRITE;
	bed_write_frozen(bed, bed->packed.desc_gpa + slot * sizeof(desc) + from, &desc.len,
		sizeof(desc) - from);
	packed_freeze_rest(bed, head);
}

void
bed_suppress_calls(struct bed *bed, bool suppress)
{
	packed_ring_suppress_calls(&bed->packed, suppress);
}

void
bed_call_at(struct bed *bed, uint16_t count)
{
	packed_ring_set_used_event(&bed->packed, packed_place(bed, count));
}

bool
bed_kicks_suppressed(const struct bed *bed)
{
	return packed_ring_kicks_suppressed(&bed->packed);
}

/* The same in the other layout; the id is one that no buffer has. */
static struct vring_packed_desc
packed_desc(const struct bed *bed, const struct vring_desc *desc)
{
	return (struct vring_packed_desc){
		.addr = desc->addr,
		.len = desc->len,
		.flags = desc->flags,
		.id = bed->config.size,
	};
}

void
bed_offer_raw(struct bed *bed, const struct vring_desc *desc, uint16_t n)
{
	uint16_t i = 0;

	do {
		const struct vring_packed_desc packed = packed_desc(bed, &desc[i]);

		packed_ring_offer(&bed->packed, &packed);
	} while ((desc[i].flags & VRING_DESC_F_NEXT) && ++i < n);
	packed_ring_publish(&bed->packed);
}

void
bed_write_entry(struct bed *bed, uint64_t gpa, const struct vring_desc *desc)
{
	const struct vring_packed_desc packed = packed_desc(bed, desc);

	guest_ram_write(&bed->ram, gpa, &packed, sizeof(packed));
}

void
bed_rewrite(struct bed *bed, uint16_t i, const struct vring_desc *desc, uint16_t number)
{
	struct vring_packed_desc *to = &bed->packed.desc[i];

	__atomic_store_n(&to->len, desc->len, __ATOMIC_RELAXED);
	__atomic_store_n(&to->addr, desc->addr, __ATOMIC_RELAXED);
	__atomic_store_n(&to->flags, desc->flags, __ATOMIC_RELAXED);
	__atomic_store_n(&to->id, number, __ATOMIC_RELAXED);
}

/* Bit by bit, for a racing thread may be at them too. */
void
bed_force_available(struct bed *bed, uint32_t n)
{
	const struct dynvhost_vq_packed_pos pos = bed->vq.packed.pos;
	uint32_t i;

	for (i = 0; i < bed->config.size; i++) {
		uint32_t slot = (pos.slot + i) % bed->config.size;
		uint16_t *flags = &bed->packed.desc[slot].flags;
		bool wrap = slot >= pos.slot ? pos.wrap : !pos.wrap;
		bool avail = i < n ? wrap : !wrap;

		__atomic_and_fetch(flags, (uint16_t)~FORMAT_FLAGS, __ATOMIC_RELAXED);
		if (avail)
			__atomic_or_fetch(flags, PACKED_RING_AVAIL, __ATOMIC_RELAXED);
		if (!wrap)
			__atomic_or_fetch(flags, PACKED_RING_USED, __ATOMIC_RELAXED);
	}
}
