/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BENCH_BURST_RING_H
#define DYNVHOST_BENCH_BURST_RING_H

/**
 * @file
 * The driver's side of a ring with nothing in it that costs: one descriptor for each buffer, no
 * notifications, buffers in turn, which come back so. As an application and its driver do, it writes the
 * frames of a burst first and then their descriptors, so that either loop keeps what it needs in
 * registers: stores to lines that the device has had wait in a row for them, and the longer the row of
 * all others is, the fewer of these are on their way at a time. Then the guest is what is measured.
 */

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "bench_burst.h"
#include "mock.h"

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

/**
 * As burst_now(), when what has been stored has also reached the cache. The burst loads what the guest
 * has just stored, through addresses of its own, so that it is not handed from the one to the other:
 * what is left of the guest's stores would be the burst's time.
 */
static inline uint64_t
burst_start(void)
{
	__asm__ volatile("mfence" ::: "memory");
	return burst_now();
}

/** The guest's part of a packet's bytes: it stores to what it sends, and loads what it receives. */
static inline void
burst_touch_frame(const struct burst_ring *ring, uint8_t *frame, uint32_t len)
{
	uint32_t end = ring->shape->touch == BURST_TOUCH_ALL ? len : RTE_MIN(len, 1u);

	if (ring->shape->touch == BURST_TOUCH_NONE)
		return;
	for (uint32_t i = 0; i < end; i += BURST_LINE) {
		if (ring->writable)
			(void)*(volatile uint64_t *)(frame + i);
		else
			*(volatile uint64_t *)(frame + i) = i;
	}
}

/** What a descriptor says. */
struct burst_desc {
	uint64_t gpa;
	uint32_t len;
};

/** The descriptor of buffer @p buf, for @p frame_len bytes if the guest sends. */
static inline struct burst_desc
burst_fill(const struct burst_ring *ring, uint32_t buf, uint32_t frame_len)
{
	const uint32_t at = ring->shape->data_at - BURST_HDR_LEN;

	return (struct burst_desc){
		.gpa = ring->buf_gpa[buf] + at,
		.len = ring->writable ? BURST_STRIDE - BURST_LINE - at : BURST_HDR_LEN + frame_len,
	};
}

static inline uint32_t
burst_buf_after(const struct burst_ring *ring, uint32_t buf)
{
	return buf + 1 == ring->n_bufs ? 0 : buf + 1;
}

/** Write the frames of the next @p n buffers, if the guest sends; @p first numbers the first. */
static inline void
burst_write_frames(const struct burst_ring *ring, uint32_t n, uint32_t first)
{
	uint32_t buf = ring->next_buf;

	if (ring->writable || ring->shape->touch == BURST_TOUCH_NONE)
		return;
	for (uint32_t i = 0; i < n; i++, buf = burst_buf_after(ring, buf))
		burst_touch_frame(ring, ring->buf_hva[buf] + ring->shape->data_at,
			burst_len(ring->shape, first + i));
}

static inline void
burst_post_split(struct burst_ring *ring, uint32_t n, uint32_t first)
{
	const uint64_t flags = ring->writable ? VRING_DESC_F_WRITE : 0;
	const struct burst_ring was = *ring;
	uint16_t avail_idx = was.avail_idx;
	uint32_t buf = was.next_buf;

	for (uint32_t i = 0; i < n; i++, avail_idx++, buf = burst_buf_after(&was, buf)) {
		uint32_t slot = avail_idx & (was.size - 1u);
		struct burst_desc desc = burst_fill(&was, buf, burst_len(was.shape, first + i));
		uint64_t *words = (uint64_t *)&was.desc[slot];

		words[0] = desc.gpa;
		words[1] = desc.len | flags << 32;
		/* Has been so since the first round. */
		if (was.avail->ring[slot] != slot)
			was.avail->ring[slot] = (uint16_t)slot;
	}
	__atomic_store_n(&was.avail->idx, avail_idx, __ATOMIC_RELEASE);
	ring->avail_idx = avail_idx;
	ring->next_buf = buf;
}

static inline void
burst_post_packed(struct burst_ring *ring, uint32_t n, uint32_t first)
{
	const uint64_t write = ring->writable ? VRING_DESC_F_WRITE : 0;
	const struct burst_ring was = *ring;
	uint16_t slot = was.slot;
	bool wrap = was.wrap;
	uint32_t buf = was.next_buf;

	for (uint32_t i = 0; i < n; i++, buf = burst_buf_after(&was, buf)) {
		uint64_t flags = write | (wrap ? 1u << VRING_PACKED_DESC_F_AVAIL
					       : 1u << VRING_PACKED_DESC_F_USED);
		struct burst_desc desc = burst_fill(&was, buf, burst_len(was.shape, first + i));
		uint64_t *words = (uint64_t *)&was.packed[slot];

		words[0] = desc.gpa;
		__atomic_store_n(
			&words[1], desc.len | (uint64_t)slot << 32 | flags << 48, __ATOMIC_RELEASE);
		if (++slot == was.size) {
			slot = 0;
			wrap = !wrap;
		}
	}
	ring->slot = slot;
	ring->wrap = wrap;
	ring->next_buf = buf;
}

/** Make @p n buffers available; @p first numbers the first frame, for its length. */
static inline void
burst_post(struct burst_ring *ring, uint32_t n, uint32_t first)
{
	ring->out += n;
	burst_write_frames(ring, n, first);
	if (ring->shape->packed)
		burst_post_packed(ring, n, first);
	else
		burst_post_split(ring, n, first);
}

/** Buffer @p buf is back with @p len bytes. @return the one that comes back after it. */
static inline uint32_t
burst_take(const struct burst_ring *ring, uint32_t buf, uint32_t len)
{
	if (ring->writable)
		burst_touch_frame(
			ring, ring->buf_hva[buf] + ring->shape->data_at, len - BURST_HDR_LEN);
	return burst_buf_after(ring, buf);
}

static inline uint32_t
burst_reap_split(struct burst_ring *ring)
{
	const struct burst_ring was = *ring;
	uint16_t idx = __atomic_load_n(&was.used->idx, __ATOMIC_ACQUIRE);
	uint32_t disorder = 0, len = was.last_len, buf = was.back_buf;

	for (uint16_t i = was.used_idx; i != idx; i++) {
		struct vring_used_elem *elem = &was.used->ring[i & (was.size - 1u)];

		disorder |= elem->id ^ (i & (was.size - 1u));
		len = elem->len;
		buf = burst_take(&was, buf, len);
	}
	mock_check(disorder == 0);
	ring->used_idx = idx;
	ring->back_buf = buf;
	ring->last_len = len;
	return (uint16_t)(idx - was.used_idx);
}

static inline bool
burst_is_used(const struct vring_packed_desc *desc, bool wrap)
{
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);
	bool avail = (flags >> VRING_PACKED_DESC_F_AVAIL) & 1;
	bool used = (flags >> VRING_PACKED_DESC_F_USED) & 1;

	return avail == used && used == wrap;
}

static inline uint32_t
burst_reap_packed(struct burst_ring *ring)
{
	const struct burst_ring was = *ring;
	uint32_t n = 0, len = was.last_len, buf = was.back_buf;
	uint16_t slot = was.used_slot;
	bool wrap = was.used_wrap;

	/* Behind those that are out, old used descriptors may look alike. */
	while (n < was.out && burst_is_used(&was.packed[slot], wrap)) {
		uint16_t id = was.packed[slot].id;
		bool last;

		len = was.packed[slot].len;
		/* In order, one used descriptor speaks for all up to its own. */
		do {
			last = !was.shape->in_order || slot == id;
			mock_check(n < was.out && (was.shape->in_order || slot == id));
			buf = burst_take(&was, buf, len);
			n++;
			if (++slot == was.size) {
				slot = 0;
				wrap = !wrap;
			}
		} while (!last);
	}
	ring->used_slot = slot;
	ring->used_wrap = wrap;
	ring->back_buf = buf;
	ring->last_len = len;
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
