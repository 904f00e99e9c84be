/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <stdlib.h>
#include <string.h>

#include "mock.h"
#include "packed_ring.h"

#define WRAP 0x8000u

static uint16_t
packed_ring_slot(uint16_t pos)
{
	return pos & (uint16_t)~WRAP;
}

uint64_t
packed_ring_desc_bytes(uint16_t num)
{
	return (uint64_t)num * sizeof(struct vring_packed_desc);
}

uint16_t
packed_ring_step(uint16_t num, uint16_t pos, uint32_t n)
{
	uint32_t slot = packed_ring_slot(pos) + n;
	uint32_t wrap = (pos & WRAP) ^ (slot / num % 2 != 0 ? WRAP : 0);

	return (uint16_t)(slot % num | wrap);
}

/* The two bits of a descriptor that is available (virtio 1.2 §2.8.1). */
static uint16_t
packed_ring_avail_bits(uint16_t pos)
{
	return pos & WRAP ? PACKED_RING_AVAIL : PACKED_RING_USED;
}

/* The two bits of one that is used. */
static uint16_t
packed_ring_used_bits(uint16_t pos)
{
	return pos & WRAP ? PACKED_RING_AVAIL | PACKED_RING_USED : 0;
}

void
packed_ring_reset(struct packed_ring *ring, uint16_t start)
{
	uint16_t i;

	memset(ring->desc, 0, packed_ring_desc_bytes(ring->num));
	memset(ring->driver, 0, PACKED_RING_EVENT_BYTES);
	memset(ring->device, 0, PACKED_RING_EVENT_BYTES);
	/* As the round before left them, or this one as far as it has come. */
	for (i = 0; i < ring->num; i++)
		ring->desc[i].flags = packed_ring_used_bits(
			i < packed_ring_slot(start) ? start : (uint16_t)(start ^ WRAP));
	ring->avail_pos = start;
	ring->used_pos = start;
	ring->n_free = ring->num;
	ring->held_slot = -1;

	ring->n_free_ids = ring->num;
	for (i = 0; i < ring->num; i++)
		ring->free_id[i] = (uint16_t)(ring->num - 1 - i);
	memset(ring->id_slots, 0, ring->num * sizeof(*ring->id_slots));
	ring->queue_first = 0;
	ring->queue_len = 0;
	ring->batch_id = -1;
}

void
packed_ring_init(struct packed_ring *ring, const struct guest_ram *ram, uint16_t num,
	uint64_t desc_gpa, uint64_t driver_gpa, uint64_t device_gpa, uint16_t start)
{
	*ring = (struct packed_ring){
		.ram = ram,
		.num = num,
		.desc_gpa = desc_gpa,
		.driver_gpa = driver_gpa,
		.device_gpa = device_gpa,
		.desc = guest_ram_at(ram, desc_gpa, packed_ring_desc_bytes(num)),
		.driver = guest_ram_at(ram, driver_gpa, PACKED_RING_EVENT_BYTES),
		.device = guest_ram_at(ram, device_gpa, PACKED_RING_EVENT_BYTES),
		.free_id = calloc(num, sizeof(uint16_t)),
		.id_slots = calloc(num, sizeof(uint16_t)),
		.id_queue = calloc(num, sizeof(uint16_t)),
	};
	mock_check(ring->free_id != NULL && ring->id_slots != NULL && ring->id_queue != NULL);
	packed_ring_reset(ring, start);
}

void
packed_ring_init_alloc(struct packed_ring *ring, struct guest_ram *ram, unsigned int region,
	uint16_t num, uint16_t start)
{
	uint64_t page = GUEST_RAM_PAGE;
	uint64_t desc_gpa = guest_ram_alloc(ram, region, packed_ring_desc_bytes(num), page);
	uint64_t driver_gpa = guest_ram_alloc(ram, region, PACKED_RING_EVENT_BYTES, page);
	uint64_t device_gpa = guest_ram_alloc(ram, region, PACKED_RING_EVENT_BYTES, page);

	packed_ring_init(ring, ram, num, desc_gpa, driver_gpa, device_gpa, start);
}

void
packed_ring_fini(struct packed_ring *ring)
{
	free(ring->free_id);
	free(ring->id_slots);
	free(ring->id_queue);
	memset(ring, 0, sizeof(*ring));
}

void
packed_ring_offer(struct packed_ring *ring, const struct vring_packed_desc *desc)
{
	uint16_t slot = packed_ring_slot(ring->avail_pos);
	uint16_t flags = desc->flags & (uint16_t) ~(PACKED_RING_AVAIL | PACKED_RING_USED);
	struct vring_packed_desc *to = &ring->desc[slot];

	mock_check(ring->n_free > 0);
	flags |= packed_ring_avail_bits(ring->avail_pos);
	to->addr = desc->addr;
	to->len = desc->len;
	to->id = desc->id;
	if (ring->held_slot < 0) {
		ring->held_slot = slot;
		ring->held_flags = flags;
	} else {
		to->flags = flags;
	}
	ring->avail_pos = packed_ring_step(ring->num, ring->avail_pos, 1);
	ring->n_free--;
}

/* The id of the @p i th buffer, in order, that has not come back. */
static uint16_t
packed_ring_queued(const struct packed_ring *ring, uint32_t i)
{
	mock_check(i < ring->queue_len);
	return ring->id_queue[(ring->queue_first + i) % ring->num];
}

/*
 * Write one direct chain; the last piece may refer to an indirect table instead. @return the id, -1
 * when slots are short.
 */
static int
packed_ring_add_chain(
	struct packed_ring *ring, const struct ring_piece *piece, uint16_t n, bool last_is_table)
{
	uint16_t id;
	uint16_t i;

	if (n == 0 || n > ring->n_free)
		return -1;
	id = ring->free_id[--ring->n_free_ids];
	for (i = 0; i < n; i++) {
		struct vring_packed_desc desc = {.addr = piece[i].gpa, .len = piece[i].len};
		bool last = i + 1 == n;

		if (piece[i].writable)
			desc.flags |= VRING_DESC_F_WRITE;
		if (last && last_is_table)
			desc.flags |= VRING_DESC_F_INDIRECT;
		if (!last)
			desc.flags |= VRING_DESC_F_NEXT;
		/* Those before the last need none: let it be one that shows when it is used. */
		desc.id = last ? id : (uint16_t)~id;
		packed_ring_offer(ring, &desc);
	}
	ring->id_slots[id] = n;
	ring->id_queue[(ring->queue_first + ring->queue_len++) % ring->num] = id;
	return id;
}

int
packed_ring_add(struct packed_ring *ring, const struct ring_piece *piece, uint16_t n)
{
	return packed_ring_add_chain(ring, piece, n, false);
}

void
packed_ring_write_table(
	const struct guest_ram *ram, uint64_t table_gpa, const struct ring_piece *piece, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n; i++) {
		struct vring_packed_desc desc = {
			.addr = piece[i].gpa,
			.len = piece[i].len,
			.flags = piece[i].writable ? VRING_DESC_F_WRITE : 0,
		};

		guest_ram_write(ram, table_gpa + i * sizeof(desc), &desc, sizeof(desc));
	}
}

int
packed_ring_add_mixed(struct packed_ring *ring, const struct ring_piece *piece, uint16_t n_direct,
	uint16_t n, uint64_t table_gpa)
{
	struct ring_piece direct[16];
	uint16_t n_table = (uint16_t)(n - n_direct);

	mock_check(n_direct < 16 && n > n_direct);
	memcpy(direct, piece, n_direct * sizeof(*piece));
	direct[n_direct] = (struct ring_piece){
		.gpa = table_gpa, .len = n_table * (uint32_t)sizeof(struct vring_packed_desc)};
	packed_ring_write_table(ring->ram, table_gpa, piece + n_direct, n_table);
	return packed_ring_add_chain(ring, direct, (uint16_t)(n_direct + 1), true);
}

int
packed_ring_add_indirect(
	struct packed_ring *ring, const struct ring_piece *piece, uint16_t n, uint64_t table_gpa)
{
	return packed_ring_add_mixed(ring, piece, 0, n, table_gpa);
}

void
packed_ring_publish(struct packed_ring *ring)
{
	if (ring->held_slot >= 0)
		__atomic_store_n(
			&ring->desc[ring->held_slot].flags, ring->held_flags, __ATOMIC_RELEASE);
	ring->held_slot = -1;
	/* The store must be visible before suppression is looked at (virtio 1.2 §2.8.21.3.1). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Load the flags of a used descriptor at @p pos. @return whether it is one. */
static bool
packed_ring_load_used(const struct packed_ring *ring, uint16_t pos, uint16_t *flags)
{
	const uint16_t bits = PACKED_RING_AVAIL | PACKED_RING_USED;
	uint16_t slot = packed_ring_slot(pos);

	*flags = __atomic_load_n(&ring->desc[slot].flags, __ATOMIC_ACQUIRE);
	return (*flags & bits) == packed_ring_used_bits(pos);
}

/* Whether @p id is that of a buffer which the device has. */
static bool
packed_ring_is_out(const struct packed_ring *ring, uint32_t id)
{
	return id < ring->num && ring->id_slots[id] > 0;
}

/* The buffer that the used descriptor at @p pos names, if it is one of a batch; else -1. */
static int32_t
packed_ring_used_batch(const struct packed_ring *ring, uint16_t pos)
{
	const uint16_t id = ring->desc[packed_ring_slot(pos)].id;

	return ring->in_order && packed_ring_is_out(ring, id) ? id : -1;
}

uint16_t
packed_ring_device_pos(const struct packed_ring *ring)
{
	uint32_t rest = ring->num - ring->n_free;
	uint16_t pos = ring->used_pos;
	int32_t batch = ring->batch_id;
	uint32_t i = 0;
	uint16_t flags;
	uint16_t id;
	uint16_t n;

	while (rest > 0 && (batch >= 0 || packed_ring_load_used(ring, pos, &flags))) {
		id = ring->desc[packed_ring_slot(pos)].id;
		if (batch < 0)
			batch = packed_ring_used_batch(ring, pos);
		if (batch >= 0)
			id = packed_ring_queued(ring, i++);
		if (id == batch)
			batch = -1;
		n = packed_ring_is_out(ring, id) ? ring->id_slots[id] : 1;
		mock_check(n <= rest);
		rest -= n;
		pos = packed_ring_step(ring->num, pos, n);
	}
	return pos;
}

bool
packed_ring_has_used(const struct packed_ring *ring)
{
	uint16_t flags;

	return ring->batch_id >= 0 || packed_ring_load_used(ring, ring->used_pos, &flags);
}

/* Look at the next used descriptor. @return false: there is none. */
static bool
packed_ring_look(struct packed_ring *ring, struct ring_used *used)
{
	const struct vring_packed_desc *desc = &ring->desc[packed_ring_slot(ring->used_pos)];
	uint16_t flags;

	if (!packed_ring_load_used(ring, ring->used_pos, &flags))
		return false;
	used->id = desc->id;
	used->len = flags & VRING_DESC_F_WRITE ? desc->len : 0;
	ring->batch_id = packed_ring_used_batch(ring, ring->used_pos);
	ring->batch_len = used->len;
	return true;
}

/* The next buffer of the batch. */
static void
packed_ring_next_of_batch(struct packed_ring *ring, struct ring_used *used)
{
	used->id = packed_ring_queued(ring, 0);
	used->len = 0;
	if ((int32_t)used->id == ring->batch_id) {
		used->len = ring->batch_len;
		ring->batch_id = -1;
	}
}

bool
packed_ring_collect(struct packed_ring *ring, struct ring_used *used)
{
	uint16_t n = 1;

	if (ring->batch_id < 0 && !packed_ring_look(ring, used))
		return false;
	if (ring->batch_id >= 0)
		packed_ring_next_of_batch(ring, used);
	if (packed_ring_is_out(ring, used->id)) {
		n = ring->id_slots[used->id];
		ring->id_slots[used->id] = 0;
		ring->free_id[ring->n_free_ids++] = (uint16_t)used->id;
		ring->queue_first = (uint16_t)((ring->queue_first + 1) % ring->num);
		ring->queue_len--;
	}
	mock_check(n <= ring->num - ring->n_free);
	ring->n_free = (uint16_t)(ring->n_free + n);
	ring->used_pos = packed_ring_step(ring->num, ring->used_pos, n);
	return true;
}

/* The position is written before the flags that say it counts. */
static void
packed_ring_set_event(struct packed_ring *ring, uint16_t pos, uint16_t flags)
{
	__atomic_store_n(&ring->driver->off_wrap, pos, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->driver->flags, flags, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
packed_ring_suppress_calls(struct packed_ring *ring, bool suppress)
{
	packed_ring_set_event(ring, 0,
		suppress ? VRING_PACKED_EVENT_FLAG_DISABLE : VRING_PACKED_EVENT_FLAG_ENABLE);
}

void
packed_ring_set_used_event(struct packed_ring *ring, uint16_t pos)
{
	packed_ring_set_event(ring, pos, VRING_PACKED_EVENT_FLAG_DESC);
}

bool
packed_ring_kicks_suppressed(const struct packed_ring *ring)
{
	return __atomic_load_n(&ring->device->flags, __ATOMIC_ACQUIRE) ==
	       VRING_PACKED_EVENT_FLAG_DISABLE;
}
