/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "fuzz.h"
#include "ring_guard.h"

/* What a byte of guest memory is to the ring. */
#define GUARD_OWN   0x01u /* the device's own */
#define GUARD_BUF   0x02u /* in a buffer that it may write */
#define GUARD_RING  0x04u /* read by it as ring */
#define GUARD_TABLE 0x08u /* read by it as an indirect table */

/** Bytes that are worth marking in one burst. */
#define GUARD_MAX_WORK (8u << 20)

/** A descriptor of either format. */
struct guard_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
};

void
ring_guard_lay_out(struct guest_ram *ram)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		guest_ram_add_file(ram, GUARD_RAM / 2, GUEST_RAM_PAGE);
		memset(ram->file[i].base, 0, GUARD_RAM / 2);
	}
	for (i = 0; i < GUARD_RAM / GUARD_REGION; i++)
		guest_ram_add_region(ram, i % 2, (uint64_t)(i / 2) * GUARD_REGION,
			(uint64_t)i * GUARD_REGION, GUARD_REGION, 0);
}

FUZZ_UNWATCHED static void
guard_mark(struct ring_guard *guard, uint64_t gpa, uint64_t len, uint8_t bit)
{
	uint64_t i;

	if (gpa >= GUARD_RAM || guard->work > GUARD_MAX_WORK)
		return;
	len = RTE_MIN(len, GUARD_RAM - gpa);
	guard->work += len;
	for (i = 0; i < len; i++)
		guard->rights[gpa + i] |= bit;
}

/* @return false: it does not lie in guest memory as a whole. */
static bool
guard_load(const struct ring_guard *guard, uint64_t gpa, struct guard_desc *desc)
{
	const size_t flags_at = bed_format.packed ? offsetof(struct vring_packed_desc, flags)
						  : offsetof(struct vring_desc, flags);

	if (gpa > GUARD_RAM - sizeof(struct vring_desc))
		return false;
	memcpy(&desc->gpa, guard->before + gpa, sizeof(desc->gpa));
	memcpy(&desc->len, guard->before + gpa + offsetof(struct vring_desc, len),
		sizeof(desc->len));
	memcpy(&desc->flags, guard->before + gpa + flags_at, sizeof(desc->flags));
	return true;
}

/* No more entries than the virtqueue looks at. */
static void
guard_mark_table(struct ring_guard *guard, const struct guard_desc *table)
{
	const uint32_t entry = sizeof(struct vring_desc);
	const uint32_t n = RTE_MIN(table->len / entry, DYNVHOST_VQ_MAX_SEGS);
	struct guard_desc desc;
	uint32_t i;

	guard_mark(guard, table->gpa, (uint64_t)n * entry, GUARD_TABLE);
	for (i = 0; i < n && guard_load(guard, table->gpa + (uint64_t)i * entry, &desc); i++) {
		if (desc.flags & VRING_DESC_F_WRITE)
			guard_mark(guard, desc.gpa, desc.len, GUARD_BUF);
	}
}

static void
guard_mark_buffers(struct ring_guard *guard, const struct bed *bed)
{
	const uint64_t ring_gpa = bed->setup.desc_gpa;
	struct guard_desc desc;
	uint32_t i;

	for (i = 0; i < bed->setup.size; i++) {
		if (!guard_load(guard, ring_gpa + i * sizeof(struct vring_desc), &desc))
			break;
		if (desc.flags & VRING_DESC_F_INDIRECT)
			guard_mark_table(guard, &desc);
		else if (desc.flags & VRING_DESC_F_WRITE)
			guard_mark(guard, desc.gpa, desc.len, GUARD_BUF);
	}
}

static void
guard_mark_areas(struct ring_guard *guard, const struct bed *bed)
{
	const struct dynvhost_vq_setup *setup = &bed->setup;
	const uint16_t size = (uint16_t)setup->size;

	if (bed_format.packed) {
		guard_mark(guard, setup->desc_gpa, packed_ring_desc_bytes(size),
			GUARD_OWN | GUARD_RING);
		guard_mark(guard, setup->used_gpa, PACKED_RING_EVENT_BYTES, GUARD_OWN);
		return;
	}
	guard_mark(guard, setup->desc_gpa, split_ring_desc_bytes(size), GUARD_RING);
	guard_mark(guard, setup->avail_gpa, split_ring_avail_bytes(size), GUARD_RING);
	guard_mark(guard, setup->used_gpa, split_ring_used_bytes(size), GUARD_OWN);
}

/* Whether nothing that is read is written, save a packed ring by what is given back. */
FUZZ_UNWATCHED static bool
guard_is_exact(const struct ring_guard *guard)
{
	uint8_t with_own = bed_format.packed ? GUARD_TABLE : GUARD_TABLE | GUARD_RING;
	uint8_t both = 0;
	uint32_t i;

	/* Without branches: each burst takes all of memory through this. */
	for (i = 0; i < GUARD_RAM; i++) {
		const uint8_t rights = guard->rights[i];

		both |= (uint8_t)(-(rights & GUARD_OWN) & rights & with_own);
		both |= (uint8_t)(-(rights & GUARD_BUF) & rights & (GUARD_RING | GUARD_TABLE));
	}
	return both == 0 && guard->work <= GUARD_MAX_WORK;
}

void
ring_guard_begin(struct ring_guard *guard, struct bed *bed)
{
	guest_ram_read(&bed->ram, 0, guard->before, sizeof(guard->before));
	memset(guard->rights, 0, sizeof(guard->rights));
	guard->work = 0;
	if (dynvhost_vq_is_started(&bed->vq)) {
		guard_mark_areas(guard, bed);
		if (bed->config.index == BED_ENQUEUE)
			guard_mark_buffers(guard, bed);
	}
	guard->exact = guard_is_exact(guard);
	bed_clear_log(bed);
}

/* What some of the bytes are. */
FUZZ_UNWATCHED static uint8_t
guard_rights(const struct ring_guard *guard, uint64_t gpa, uint64_t len)
{
	uint8_t rights = 0;
	uint64_t i;

	for (i = 0; i < len; i++)
		rights |= guard->rights[gpa + i];
	return rights;
}

bool
ring_guard_may_change(const struct ring_guard *guard, uint64_t gpa, uint64_t len)
{
	return (guard_rights(guard, gpa, len) & (GUARD_OWN | GUARD_BUF)) != 0;
}

bool
ring_guard_is_buffer(const struct ring_guard *guard, uint64_t gpa, uint64_t len)
{
	return (guard_rights(guard, gpa, len) & GUARD_BUF) != 0;
}

static bool
guard_is_logged(const struct bed *bed, uint64_t gpa)
{
	const uint64_t page = gpa / 4096;

	return (bed->log.bits[page / 64] >> (page % 64) & 1) != 0;
}

/* A byte has been written: it may have been, and the log knows. */
static void
guard_judge(const struct ring_guard *guard, const struct bed *bed, uint64_t gpa)
{
	const uint8_t rights = guard->rights[gpa];
	bool logged;

	fuzz_check(rights & (GUARD_OWN | GUARD_BUF));
	if (bed->log.fd < 0)
		return;
	logged = guard_is_logged(bed, gpa);
	/* The front-end may want the used area logged elsewhere. */
	if (rights & GUARD_OWN)
		logged = logged || guard_is_logged(bed, gpa - bed->setup.used_gpa + BED_LOG_USED);
	fuzz_check(logged);
}

FUZZ_UNWATCHED void
ring_guard_end(const struct ring_guard *guard, const struct bed *bed)
{
	static uint8_t after[GUARD_RAM];
	uint32_t i;

	if (!guard->exact)
		return;
	guest_ram_read(&bed->ram, 0, after, sizeof(after));
	if (memcmp(after, guard->before, sizeof(after)) == 0)
		return;
	for (i = 0; i < GUARD_RAM; i++) {
		if (after[i] != guard->before[i])
			guard_judge(guard, bed, i);
	}
}
