/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BENCH_BURST_RING_H
#define DYNVHOST_BENCH_BURST_RING_H

/**
 * @file
 * The driver's side of a ring with nothing in it that costs: one descriptor for each buffer, no
 * notifications, buffers in turn.
 */

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "bench_burst.h"

#define BURST_LINE 64u

/** The time in TSC cycles, when all before is done and before anything after begins. */
static inline uint64_t
burst_now(void)
{
	uint64_t now;

	__asm__ volatile("lfence" ::: "memory");
	now = rte_rdtsc();
	__asm__ volatile("lfence" ::: "memory");
	return now;
}

/** The guest's part of a packet's bytes: it stores to what it sends, and loads what it receives. */
static inline void
burst_touch_frame(struct burst_ring *ring, uint8_t *frame, uint32_t len)
{
	uint32_t end = ring->shape->touch >= BURST_TOUCH_ALL ? len : RTE_MIN(len, 1u);

	if (ring->shape->touch == BURST_TOUCH_NONE)
		return;
	for (uint32_t i = 0; i < end; i += BURST_LINE) {
		if (ring->writable)
			ring->sink += *(volatile uint64_t *)(frame + i);
		else
			*(volatile uint64_t *)(frame + i) = i;
	}
}

/** Gpa, length and frame of the next buffer, for @p frame_len bytes if the guest sends. */
static inline uint32_t
burst_next_buf(struct burst_ring *ring, uint32_t slot, uint32_t frame_len, uint64_t *gpa)
{
	const uint32_t at = ring->shape->data_at - BURST_HDR_LEN;
	uint32_t buf = ring->next_buf;

	ring->next_buf = buf + 1 == ring->n_bufs ? 0 : buf + 1;
	ring->slot_buf[slot] = buf;
	*gpa = ring->buf_gpa[buf] + at;
	if (ring->writable)
		return BURST_STRIDE - BURST_LINE - at;
	burst_touch_frame(ring, ring->buf_hva[buf] + at + BURST_HDR_LEN, frame_len);
	return BURST_HDR_LEN + frame_len;
}

static inline void
burst_post_split(struct burst_ring *ring, uint32_t n, uint32_t first)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = ring->avail_idx & (ring->size - 1u);
		struct vring_desc *desc = &ring->desc[slot];
		uint64_t gpa;

		desc->len = burst_next_buf(ring, slot, burst_len(ring->shape, first + i), &gpa);
		desc->addr = gpa;
		desc->flags = ring->writable ? VRING_DESC_F_WRITE : 0;
		desc->next = 0;
		ring->avail->ring[slot] = (uint16_t)slot;
		ring->avail_idx++;
	}
	__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
}

static inline void
burst_post_packed(struct burst_ring *ring, uint32_t n, uint32_t first)
{
	for (uint32_t i = 0; i < n; i++) {
		struct vring_packed_desc *desc = &ring->packed[ring->slot];
		uint16_t flags = ring->wrap ? 1u << VRING_PACKED_DESC_F_AVAIL
					    : 1u << VRING_PACKED_DESC_F_USED;
		uint64_t gpa;

		if (ring->writable)
			flags |= VRING_DESC_F_WRITE;
		desc->len = burst_next_buf(
			ring, ring->slot, burst_len(ring->shape, first + i), &gpa);
		desc->addr = gpa;
		desc->id = ring->slot;
		__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
		if (++ring->slot == ring->size) {
			ring->slot = 0;
			ring->wrap = !ring->wrap;
		}
	}
}

/**
 * Ask for the lines that the guest is about to write, of the next @p n frames, all at once. The device has
 * read them a ring ago: a guest that writes one after the other waits for one after the other, and is
 * what is measured instead of the device.
 */
static inline void
burst_fetch_frames(const struct burst_ring *ring, uint32_t n, uint32_t first)
{
	const uint32_t at = ring->shape->data_at;
	uint32_t buf = ring->next_buf;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *frame = ring->buf_hva[buf] + at;
		uint32_t len = burst_len(ring->shape, first + i);

		for (uint32_t line = 0; line < len; line += BURST_LINE)
			__asm__ volatile("prefetchw %0" : : "m"(frame[line]));
		buf = buf + 1 == ring->n_bufs ? 0 : buf + 1;
	}
}

/** Make @p n buffers available; @p first numbers the first frame, for its length. */
static inline void
burst_post(struct burst_ring *ring, uint32_t n, uint32_t first)
{
	ring->out += n;
	if (ring->shape->touch == BURST_TOUCH_FETCH && !ring->writable)
		burst_fetch_frames(ring, n, first);
	if (ring->shape->packed)
		burst_post_packed(ring, n, first);
	else
		burst_post_split(ring, n, first);
}

/** The buffer in @p slot is back with @p len bytes. */
static inline void
burst_take(struct burst_ring *ring, uint32_t slot, uint32_t len)
{
	ring->slot_len[slot] = len;
	if (ring->writable)
		burst_touch_frame(ring, ring->buf_hva[ring->slot_buf[slot]] + ring->shape->data_at,
			len - BURST_HDR_LEN);
}

static inline uint32_t
burst_reap_split(struct burst_ring *ring)
{
	uint16_t idx = __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
	uint32_t n = (uint16_t)(idx - ring->used_idx);

	for (uint32_t i = 0; i < n; i++, ring->used_idx++) {
		struct vring_used_elem *elem = &ring->used->ring[ring->used_idx & (ring->size - 1)];

		burst_take(ring, elem->id & (ring->size - 1), elem->len);
	}
	return n;
}

static inline bool
burst_is_used(const struct burst_ring *ring)
{
	uint16_t flags = __atomic_load_n(&ring->packed[ring->used_slot].flags, __ATOMIC_ACQUIRE);
	bool avail = (flags >> VRING_PACKED_DESC_F_AVAIL) & 1;
	bool used = (flags >> VRING_PACKED_DESC_F_USED) & 1;

	return avail == used && used == ring->used_wrap;
}

static inline uint32_t
burst_reap_packed(struct burst_ring *ring)
{
	uint32_t n = 0;

	/* Behind those that are out, old used descriptors may look alike. */
	while (n < ring->out && burst_is_used(ring)) {
		uint16_t id = ring->packed[ring->used_slot].id;
		uint32_t len = ring->packed[ring->used_slot].len;
		bool last;

		/* In order, one used descriptor speaks for all up to its own. */
		do {
			last = !ring->shape->in_order || ring->used_slot == id;
			burst_take(ring, ring->used_slot, len);
			n++;
			if (++ring->used_slot == ring->size) {
				ring->used_slot = 0;
				ring->used_wrap = !ring->used_wrap;
			}
		} while (!last);
	}
	return n;
}

/** Take back what the device has used. @return how many buffers. */
static inline uint32_t
burst_reap(struct burst_ring *ring)
{
	uint32_t n = ring->shape->packed ? burst_reap_packed(ring) : burst_reap_split(ring);

	ring->out -= n;
	return n;
}

#endif /* DYNVHOST_BENCH_BURST_RING_H */
