/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <stdlib.h>
#include <string.h>

#include "mock.h"
#include "split_ring.h"

uint64_t
split_ring_desc_bytes(uint16_t num)
{
	return (uint64_t)num * sizeof(struct vring_desc);
}

uint64_t
split_ring_avail_bytes(uint16_t num)
{
	return 4 + (uint64_t)num * sizeof(uint16_t) + sizeof(uint16_t);
}

uint64_t
split_ring_used_bytes(uint16_t num)
{
	return 4 + (uint64_t)num * sizeof(struct vring_used_elem) + sizeof(uint16_t);
}

/* The event fields lie behind the ring arrays. */
static uint16_t *
split_ring_used_event_field(const struct split_ring *ring)
{
	return &ring->avail->ring[ring->num];
}

static uint16_t *
split_ring_avail_event_field(const struct split_ring *ring)
{
	return (uint16_t *)&ring->used->ring[ring->num];
}

void
split_ring_reset(struct split_ring *ring, uint16_t start)
{
	uint16_t i;

	memset(ring->desc, 0, split_ring_desc_bytes(ring->num));
	memset(ring->avail, 0, split_ring_avail_bytes(ring->num));
	memset(ring->used, 0, split_ring_used_bytes(ring->num));
	ring->avail->idx = start;
	ring->used->idx = start;
	ring->avail_idx = start;
	ring->used_idx = start;
	*split_ring_used_event_field(ring) = start;
	*split_ring_avail_event_field(ring) = start;

	ring->n_free = ring->num;
	for (i = 0; i < ring->num; i++)
		ring->free_desc[i] = (uint16_t)(ring->num - 1 - i);
	memset(ring->chain_len, 0, ring->num * sizeof(*ring->chain_len));
}

void
split_ring_init(struct split_ring *ring, const struct guest_ram *ram, uint16_t num,
	uint64_t desc_gpa, uint64_t avail_gpa, uint64_t used_gpa, uint16_t start)
{
	*ring = (struct split_ring){
		.ram = ram,
		.num = num,
		.desc_gpa = desc_gpa,
		.avail_gpa = avail_gpa,
		.used_gpa = used_gpa,
		.desc = guest_ram_at(ram, desc_gpa, split_ring_desc_bytes(num)),
		.avail = guest_ram_at(ram, avail_gpa, split_ring_avail_bytes(num)),
		.used = guest_ram_at(ram, used_gpa, split_ring_used_bytes(num)),
		.free_desc = calloc(num, sizeof(uint16_t)),
		.chain_len = calloc(num, sizeof(uint16_t)),
		.chain_next = calloc(num, sizeof(uint16_t)),
	};
	mock_check(ring->free_desc != NULL && ring->chain_len != NULL && ring->chain_next != NULL);
	split_ring_reset(ring, start);
}

void
split_ring_init_alloc(struct split_ring *ring, struct guest_ram *ram, unsigned int region,
	uint16_t num, uint16_t start)
{
	uint64_t page = GUEST_RAM_PAGE;
	uint64_t desc_gpa = guest_ram_alloc(ram, region, split_ring_desc_bytes(num), page);
	uint64_t avail_gpa = guest_ram_alloc(ram, region, split_ring_avail_bytes(num), page);
	uint64_t used_gpa = guest_ram_alloc(ram, region, split_ring_used_bytes(num), page);

	split_ring_init(ring, ram, num, desc_gpa, avail_gpa, used_gpa, start);
}

void
split_ring_fini(struct split_ring *ring)
{
	free(ring->free_desc);
	free(ring->chain_len);
	free(ring->chain_next);
	memset(ring, 0, sizeof(*ring));
}

uint16_t
split_ring_peek(const struct split_ring *ring, uint16_t k)
{
	return k < ring->n_free ? ring->free_desc[ring->n_free - 1 - k] : UINT16_MAX;
}

void
split_ring_set_desc(struct split_ring *ring, uint16_t i, uint64_t gpa, uint32_t len, uint16_t flags,
	uint16_t next)
{
	mock_check(i < ring->num);
	ring->desc[i] = (struct vring_desc){.addr = gpa, .len = len, .flags = flags, .next = next};
}

void
split_ring_offer(struct split_ring *ring, uint16_t head)
{
	ring->avail->ring[ring->avail_idx % ring->num] = head;
	ring->avail_idx++;
}

/*
 * Write one direct chain; the last piece may refer to an indirect table instead. @return the head,
 * -1 when descriptors are short.
 */
static int
split_ring_add_chain(
	struct split_ring *ring, const struct ring_piece *piece, uint16_t n, bool last_is_table)
{
	uint16_t head = split_ring_peek(ring, 0);
	uint16_t i;

	if (n == 0 || n > ring->n_free)
		return -1;
	for (i = 0; i < n; i++) {
		uint16_t at = ring->free_desc[--ring->n_free];
		bool last = i + 1 == n;
		uint16_t next = last ? 0 : split_ring_peek(ring, 0);
		uint16_t flags = 0;

		if (piece[i].writable)
			flags |= VRING_DESC_F_WRITE;
		if (last && last_is_table)
			flags |= VRING_DESC_F_INDIRECT;
		if (!last)
			flags |= VRING_DESC_F_NEXT;
		split_ring_set_desc(ring, at, piece[i].gpa, piece[i].len, flags, next);
		ring->chain_next[at] = next;
	}
	ring->chain_len[head] = n;
	split_ring_offer(ring, head);
	return head;
}

int
split_ring_add(struct split_ring *ring, const struct ring_piece *piece, uint16_t n)
{
	return split_ring_add_chain(ring, piece, n, false);
}

void
split_ring_write_table(
	const struct guest_ram *ram, uint64_t table_gpa, const struct ring_piece *piece, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n; i++) {
		struct vring_desc desc = {.addr = piece[i].gpa, .len = piece[i].len};

		if (piece[i].writable)
			desc.flags |= VRING_DESC_F_WRITE;
		if (i + 1 < n) {
			desc.flags |= VRING_DESC_F_NEXT;
			desc.next = (uint16_t)(i + 1);
		}
		guest_ram_write(ram, table_gpa + i * sizeof(desc), &desc, sizeof(desc));
	}
}

int
split_ring_add_mixed(struct split_ring *ring, const struct ring_piece *piece, uint16_t n_direct,
	uint16_t n, uint64_t table_gpa)
{
	struct ring_piece direct[16];
	uint16_t n_table = (uint16_t)(n - n_direct);

	mock_check(n_direct < 16 && n > n_direct);
	memcpy(direct, piece, n_direct * sizeof(*piece));
	direct[n_direct] = (struct ring_piece){
		.gpa = table_gpa, .len = n_table * (uint32_t)sizeof(struct vring_desc)};
	split_ring_write_table(ring->ram, table_gpa, piece + n_direct, n_table);
	return split_ring_add_chain(ring, direct, (uint16_t)(n_direct + 1), true);
}

int
split_ring_add_indirect(
	struct split_ring *ring, const struct ring_piece *piece, uint16_t n, uint64_t table_gpa)
{
	return split_ring_add_mixed(ring, piece, 0, n, table_gpa);
}

void
split_ring_publish(struct split_ring *ring)
{
	__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
	/* The store must be visible before suppression is looked at (virtio 1.2 §2.7.13.3). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
split_ring_force_avail_idx(struct split_ring *ring, uint16_t idx)
{
	__atomic_store_n(&ring->avail->idx, idx, __ATOMIC_SEQ_CST);
}

uint16_t
split_ring_device_idx(const struct split_ring *ring)
{
	return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
}

/* Give a chain's descriptors back, last first, so that the next chain begins where this one did. */
static void
split_ring_free_chain(struct split_ring *ring, uint16_t head)
{
	uint16_t n = ring->chain_len[head];
	uint16_t at = head;
	uint16_t i;

	mock_check(n > 0 && n <= ring->num - ring->n_free);
	for (i = 0; i < n; i++) {
		ring->free_desc[ring->n_free + n - 1 - i] = at;
		at = ring->chain_next[at];
	}
	ring->n_free = (uint16_t)(ring->n_free + n);
	ring->chain_len[head] = 0;
}

bool
split_ring_collect(struct split_ring *ring, struct ring_used *used)
{
	const struct vring_used_elem *element;

	if (split_ring_device_idx(ring) == ring->used_idx)
		return false;
	element = &ring->used->ring[ring->used_idx % ring->num];
	used->id = element->id;
	used->len = element->len;
	ring->used_idx++;
	if (used->id >= ring->num)
		mock_fail("device returned head %u of a ring of %u", used->id, ring->num);
	/* Heads that a hostile test offered by hand own no descriptors. */
	if (ring->chain_len[used->id] > 0)
		split_ring_free_chain(ring, (uint16_t)used->id);
	return true;
}

void
split_ring_suppress_calls(struct split_ring *ring, bool suppress)
{
	__atomic_store_n(
		&ring->avail->flags, suppress ? VRING_AVAIL_F_NO_INTERRUPT : 0, __ATOMIC_SEQ_CST);
}

void
split_ring_set_used_event(struct split_ring *ring, uint16_t idx)
{
	__atomic_store_n(split_ring_used_event_field(ring), idx, __ATOMIC_SEQ_CST);
}

bool
split_ring_kicks_suppressed(const struct split_ring *ring)
{
	return __atomic_load_n(&ring->used->flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY;
}

uint16_t
split_ring_avail_event(const struct split_ring *ring)
{
	return __atomic_load_n(split_ring_avail_event_field(ring), __ATOMIC_ACQUIRE);
}
