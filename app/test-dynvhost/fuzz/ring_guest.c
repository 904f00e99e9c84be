/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include "fuzz.h"
#include "ring_guard.h"
#include "ring_run.h"

#define RING_MAX_PIECES 12

static uint64_t
ring_gpa(struct ring_run *run)
{
	return fuzz_u16(&run->in) % GUARD_RAM;
}

static void
ring_write(struct ring_run *run, uint64_t gpa, const void *bytes, uint64_t len)
{
	guest_ram_write(&run->bed->ram, gpa, bytes, RTE_MIN(len, GUARD_RAM - gpa));
}

/* Four bytes: a place, and a length in one of two scales. */
static struct ring_piece
ring_piece(struct ring_run *run)
{
	struct ring_piece piece = {.gpa = ring_gpa(run)};
	uint16_t len = fuzz_u16(&run->in);

	piece.len = len & 0x8000 ? (uint32_t)(len & 0x7fff) * 4 : len;
	return piece;
}

/* A flags byte has the bits of the format, those of packed descriptors among them. */
static struct vring_desc
ring_desc(struct ring_run *run)
{
	const struct ring_piece piece = ring_piece(run);
	const uint8_t flags = fuzz_u8(&run->in);

	return (struct vring_desc){
		.addr = piece.gpa,
		.len = piece.len,
		.flags = (uint16_t)((flags & 0x7) | (flags & 0x08) << 4 | (flags & 0x10) << 11),
		.next = fuzz_u8(&run->in),
	};
}

static struct vring_desc
ring_wild_desc(struct ring_run *run)
{
	return (struct vring_desc){
		.addr = fuzz_u64(&run->in),
		.len = fuzz_u32(&run->in),
		.flags = fuzz_u16(&run->in),
		.next = fuzz_u16(&run->in),
	};
}

static void
ring_rewrite(struct ring_run *run, bool wild)
{
	const uint16_t i = (uint16_t)(fuzz_u8(&run->in) % run->bed->config.size);
	const uint16_t number = fuzz_u8(&run->in);
	const struct vring_desc desc = wild ? ring_wild_desc(run) : ring_desc(run);

	bed_rewrite(run->bed, i, &desc, number);
}

void
ring_write_desc(struct ring_run *run)
{
	ring_rewrite(run, false);
}

void
ring_write_wild(struct ring_run *run)
{
	ring_rewrite(run, true);
}

void
ring_write_entry(struct ring_run *run)
{
	const uint64_t gpa = ring_gpa(run);
	const struct vring_desc desc = ring_desc(run);

	if (gpa <= GUARD_RAM - sizeof(desc))
		bed_write_entry(run->bed, gpa, &desc);
}

/* Descriptor after descriptor, each some bytes behind the last one. */
static struct vring_desc
ring_desc_of_many(struct vring_desc desc, uint8_t stride, uint16_t i)
{
	desc.addr += (uint64_t)stride * i;
	desc.next = (uint16_t)(i + 1);
	return desc;
}

void
ring_fill(struct ring_run *run)
{
	const uint8_t stride = fuzz_u8(&run->in);
	const struct vring_desc desc = ring_desc(run);
	uint16_t i;

	for (i = 0; i < run->bed->config.size; i++) {
		const struct vring_desc each = ring_desc_of_many(desc, stride, i);

		bed_rewrite(run->bed, i, &each, i);
	}
}

void
ring_write_table(struct ring_run *run)
{
	const uint64_t gpa = ring_gpa(run);
	const uint16_t n = (uint16_t)(fuzz_u8(&run->in) * 8u);
	const uint8_t stride = fuzz_u8(&run->in);
	const struct vring_desc desc = ring_desc(run);
	uint16_t i;

	for (i = 0; i < n && gpa + (i + 1u) * sizeof(desc) <= GUARD_RAM; i++) {
		const struct vring_desc each = ring_desc_of_many(desc, stride, i);

		bed_write_entry(run->bed, gpa + i * sizeof(desc), &each);
	}
}

void
ring_write_bytes(struct ring_run *run)
{
	const uint64_t gpa = ring_gpa(run);
	uint8_t bytes[255];
	size_t n = fuzz_u8(&run->in);

	n = fuzz_bytes(&run->in, bytes, n);
	ring_write(run, gpa, bytes, n);
}

/* A buffer as a good driver makes it available, if there is room. */
void
ring_add_buffer(struct ring_run *run)
{
	struct ring_piece piece[RING_MAX_PIECES];
	const uint8_t how = fuzz_u8(&run->in);
	enum bed_shape shape = (enum bed_shape)(how % BED_SHAPES);
	const uint16_t n = (uint16_t)(1 + how / BED_SHAPES % RING_MAX_PIECES);
	uint64_t table = 0;
	uint16_t i;

	if (shape != BED_SHAPE_DIRECT)
		table = ring_gpa(run) % (GUARD_RAM - RING_MAX_PIECES * sizeof(struct vring_desc));
	if (shape == BED_SHAPE_MIXED && n < 2)
		shape = BED_SHAPE_TABLE;
	for (i = 0; i < n; i++) {
		piece[i] = ring_piece(run);
		piece[i].writable = run->bed->config.index == BED_ENQUEUE;
	}
	if (bed_room(run->bed) >= (shape == BED_SHAPE_DIRECT ? n : 2))
		bed_ring_add(run->bed, shape, piece, n, table);
}

/* Fields of the ring that are no descriptors. */
void
ring_write_field(struct ring_run *run)
{
	struct bed *bed = run->bed;
	const uint8_t field = fuzz_u8(&run->in);
	const uint16_t value = fuzz_u16(&run->in);

	if (bed_format.packed) {
		if (field & 1)
			bed->packed.driver->flags = value;
		else
			bed->packed.driver->off_wrap = value;
		return;
	}
	if (field < 4)
		bed->split.avail->flags = value;
	else if (field < 8)
		bed->split.avail->idx = value;
	else if (field < 16)
		split_ring_set_used_event(&bed->split, value);
	else
		bed->split.avail->ring[field % bed->config.size] = value;
}
