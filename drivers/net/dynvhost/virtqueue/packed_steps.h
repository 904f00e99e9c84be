/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_PACKED_STEPS_H
#define DYNVHOST_PACKED_STEPS_H

/**
 * @file
 * The steps of a burst (packed.c) at a packed ring: positions, a buffer's descriptors, used descriptors,
 * and whether the driver wants to be called. Security model: that of packed.c.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_ring.h>
#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "burst.h"
#include "chain.h"
#include "defer.h"
#include "virtqueue.h"

#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  (1u << VRING_PACKED_DESC_F_USED)

/** A position in 16 bits, as events (virtio 1.2 §2.8.14) and ring bases have it. */
#define PACKED_WRAP_SHIFT VRING_PACKED_EVENT_F_WRAP_CTR
#define PACKED_SLOT_MASK  ((1u << PACKED_WRAP_SHIFT) - 1)

/** The bits of an event's flags that are not reserved. */
#define PACKED_EVENT_MASK 3u

/** The second word of a descriptor, with all that the device says when it gives a buffer back. */
union packed_word {
	struct {
		uint32_t len;
		uint16_t id;
		uint16_t flags;
	};
	uint64_t all;
};

/** What one burst has done; published and counted at its end. */
struct packed_burst {
	struct dynvhost_vq_packed_pos first; /**< position at the beginning */
	union packed_word first_word;        /**< to be stored there at the end */
	uint16_t slots;                      /**< of the ring, and not yet given back */
	uint16_t last_id;                    /**< of the buffers given back */
	struct burst_sum sum;
};

/** The word of a descriptor in guest memory. */
static __rte_always_inline uint64_t *
packed_word_of(struct vring_packed_desc *desc)
{
	return (uint64_t *)desc + 1;
}

/** The slot behind @p slot. */
static inline uint16_t
packed_next(const struct dynvhost_vq *vq, uint16_t slot)
{
	return slot + 1u == vq->size ? 0 : (uint16_t)(slot + 1);
}

/** Step over @p n <= size slots. */
static inline void
packed_advance(const struct dynvhost_vq *vq, struct dynvhost_vq_packed_pos *pos, uint32_t n)
{
	uint32_t slot = pos->slot + n;

	if (slot >= vq->size) {
		slot -= vq->size;
		pos->wrap = !pos->wrap;
	}
	pos->slot = (uint16_t)slot;
}

/** Whether the driver has made the descriptor at @p pos available in this round of the ring. */
static inline bool
packed_is_available(const struct dynvhost_vq *vq, struct dynvhost_vq_packed_pos pos)
{
	/* Pairs with the driver's write barrier between filling a chain and storing the flags of
	 * its head: nothing of the chain is loaded before these.
	 */
	uint16_t flags = __atomic_load_n(&vq->packed.desc[pos.slot].flags, __ATOMIC_ACQUIRE);
	bool avail = (flags & PACKED_AVAIL) != 0;
	bool used = (flags & PACKED_USED) != 0;

	return avail == pos.wrap && used != pos.wrap;
}

/** Make a private copy of a descriptor of the ring. */
static inline void
packed_load_desc(const struct dynvhost_vq *vq, uint16_t i, struct vring_packed_desc *desc)
{
	memcpy(desc, &vq->packed.desc[i], sizeof(*desc));
	/* Whatever is decided from here on is decided on the copy. */
	rte_compiler_barrier();
}

/**
 * Walk the indirect table that @p ref refers to. Its entries follow each other, and NEXT means
 * nothing in them (virtio 1.2 §2.8.7). @return a verdict.
 */
static int
packed_walk_table(
	struct dynvhost_vq *vq, struct dynvhost_chain *chain, const struct vring_packed_desc *ref)
{
	struct vring_packed_desc desc;
	uint32_t n;
	uint32_t i;
	int ret;

	ret = chain_judge_table(vq, ref->addr, ref->len, ref->flags, &n);
	if (ret != 0)
		return ret;
	for (i = 0; i < n; i++) {
		ret = chain_load_entry(vq, ref->addr + i * sizeof(desc), &desc, sizeof(desc));
		if (unlikely(ret != 0))
			return ret;
		/* DPDK's virtio driver leaves WRITE in entries of what it sends. To read what we
		 * might have written does no harm.
		 */
		if (chain->right == DYNVHOST_MEM_READ)
			desc.flags &= (uint16_t)~VRING_DESC_F_WRITE;
		ret = chain_add_desc(chain, desc.addr, desc.len, desc.flags);
		if (unlikely(ret != 0))
			return ret;
	}
	return 0;
}

/**
 * Walk the descriptors of the buffer at @p slot, direct ones first, then perhaps those of one
 * indirect table, and append it to the packet. No driver mixes the two in one buffer (virtio 1.2
 * §2.8.5); it costs nothing to take it as in a split ring.
 *
 * @param limit  descriptors of the ring that the buffer may have.
 * @return a verdict. Unless it is a fault, the walk has come to the buffer's last descriptor in the
 *         ring, or the packet is dropped and its buffers stay.
 */
static inline int
packed_walk(struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint16_t slot, uint32_t limit)
{
	struct vring_packed_desc desc;
	struct dynvhost_buf *buf;
	uint32_t hops;
	int ret;

	ret = chain_add_buf(chain, 0);
	if (unlikely(ret != 0))
		return ret;
	buf = &chain->buf[chain->n_bufs - 1];
	for (hops = 1; hops <= limit; hops++, slot = packed_next(vq, slot)) {
		packed_load_desc(vq, slot, &desc);
		/* The id that counts is that of the last descriptor (virtio 1.2 §2.8.6). */
		buf->id = desc.id;
		buf->slots = (uint16_t)hops;
		if (desc.flags & VRING_DESC_F_INDIRECT)
			return packed_walk_table(vq, chain, &desc);
		ret = chain_add_desc(chain, desc.addr, desc.len, desc.flags);
		if (unlikely(ret != 0))
			return ret;
		if (likely(!(desc.flags & VRING_DESC_F_NEXT)))
			return 0;
	}
	return DYNVHOST_VQ_BAD_LOOP;
}

/**
 * Find id and slots of the buffer at @p slot, which may have @p limit of them, and look at nothing
 * else of it. In a split ring the head says as much. @return a verdict.
 */
static inline int
packed_measure(
	const struct dynvhost_vq *vq, uint16_t slot, uint32_t limit, struct dynvhost_buf *buf)
{
	struct vring_packed_desc desc;
	uint32_t hops;

	limit = RTE_MIN(limit, DYNVHOST_VQ_MAX_SEGS);
	for (hops = 1; hops <= limit; hops++, slot = packed_next(vq, slot)) {
		packed_load_desc(vq, slot, &desc);
		buf->id = desc.id;
		buf->slots = (uint16_t)hops;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
	}
	return DYNVHOST_VQ_BAD_LOOP;
}

/** The two bits of a used descriptor at @p pos. */
static inline uint16_t
packed_used_bits(struct dynvhost_vq_packed_pos pos)
{
	return pos.wrap ? PACKED_AVAIL | PACKED_USED : 0;
}

/**
 * Mark the slots of a chain behind its first one as used too; the driver skips them. The last ones
 * first: whoever finds a chain that is marked in part finds nothing unused behind it.
 */
static void
packed_mark_rest(struct dynvhost_vq *vq, uint16_t slots)
{
	while (--slots > 0) {
		struct dynvhost_vq_packed_pos pos = vq->packed.pos;

		packed_advance(vq, &pos, slots);
		__atomic_store_n(
			&vq->packed.desc[pos.slot].flags, packed_used_bits(pos), __ATOMIC_RELEASE);
	}
}

/**
 * Take the buffer at our position and give it back, @p len bytes written. Not yet published. Until
 * something of it is marked as used, its descriptors stay as the driver has written them, but for an id
 * that only means something when it is: who comes after us may have to work on it once more.
 */
static inline void
packed_push_used(struct dynvhost_vq *vq, struct packed_burst *burst, const struct dynvhost_buf *buf,
	uint32_t len)
{
	struct dynvhost_vq_packed_pos *pos = &vq->packed.pos;
	struct vring_packed_desc *desc = &vq->packed.desc[pos->slot];
	union packed_word word = {.len = len, .id = buf->id, .flags = packed_used_bits(*pos)};

	if (len > 0)
		word.flags |= VRING_DESC_F_WRITE;
	if (unlikely(buf->slots > 1)) {
		desc->id = buf->id;
		packed_mark_rest(vq, buf->slots);
	}
	if (burst->slots == vq->size)
		burst->first_word = word;
	else
		__atomic_store_n(packed_word_of(desc), word.all, __ATOMIC_RELEASE);
	burst->last_id = buf->id;
	packed_advance(vq, pos, buf->slots);
	vq->stall_since = 0;
	burst->slots -= buf->slots;
}

/** The slot of an event as vring_need_event() compares it: negative in another round than ours. */
static inline uint16_t
packed_event_slot(const struct dynvhost_vq *vq, uint16_t event)
{
	uint16_t slot = event & PACKED_SLOT_MASK;
	bool wrap = (event >> PACKED_WRAP_SHIFT) != 0;

	return wrap == vq->packed.pos.wrap ? slot : (uint16_t)(slot - vq->size);
}

/** What the driver says where events of single buffers are not in use. */
static bool
packed_flags_want_call(const struct dynvhost_vq *vq)
{
	uint16_t flags = __atomic_load_n(&vq->packed.driver_event->flags, __ATOMIC_RELAXED);

	return (flags & PACKED_EVENT_MASK) != VRING_PACKED_EVENT_FLAG_DISABLE;
}

/**
 * Whether the driver wants to be told of what was just published, from @p first on (virtio 1.2
 * §2.8.10). With descriptor events the answer is yes until the first call after a start: what
 * the driver was told before is not known.
 */
static inline bool
packed_wants_call(struct dynvhost_vq *vq, uint16_t first)
{
	const struct dynvhost_vq_packed *packed = &vq->packed;
	uint16_t flags, event;
	bool wanted;

	/* Both fences pair with the driver's full barrier between asking for notifications and
	 * looking at the ring: without it, we could load the old wish and it the old descriptor.
	 */
	if (!vq->event_idx) {
		defer_fence(vq);
		wanted = packed_flags_want_call(vq);
		defer_note(vq, wanted);
		return wanted;
	}
	atomic_thread_fence(memory_order_seq_cst);
	/* Pairs with the driver's write barrier between storing an event's position and flags. */
	flags = __atomic_load_n(&packed->driver_event->flags, __ATOMIC_ACQUIRE) & PACKED_EVENT_MASK;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;

	if (unlikely(vq->call_anyway))
		return true;
	event = __atomic_load_n(&packed->driver_event->off_wrap, __ATOMIC_RELAXED);
	/* A burst that ends where it began has gone all around. */
	if (packed->pos.slot <= first)
		first -= vq->size;
	return vring_need_event(packed_event_slot(vq, event), packed->pos.slot, first);
}

#endif /* DYNVHOST_PACKED_STEPS_H */
