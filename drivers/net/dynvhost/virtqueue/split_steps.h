/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_SPLIT_STEPS_H
#define DYNVHOST_SPLIT_STEPS_H

/**
 * @file
 * The steps of a burst (split.c) at a split ring: indices, a chain's descriptors, used elements, and
 * whether the driver wants to be called. Security model: that of split.c.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_ring.h>
#include <rte_atomic.h>
#include <rte_branch_prediction.h>

#include "burst.h"
#include "chain.h"
#include "defer.h"
#include "virtqueue.h"

/** What a burst has done that is not of ordinary packets alone; published and counted at its end. */
struct split_burst {
	uint16_t available; /**< chains seen at the beginning and not yet taken */
	uint16_t first;     /**< used index at the beginning */
	struct burst_sum sum;
};

/** A burst that began with @p available chains, and has taken @p taken ordinary packets so far. */
static inline struct split_burst
split_burst_of(const struct dynvhost_vq *vq, uint16_t available, uint16_t taken, uint64_t bytes)
{
	return (struct split_burst){
		.available = (uint16_t)(available - taken),
		.first = (uint16_t)(vq->split.last_used - taken),
		.sum = {.packets = taken, .ordinary = taken, .bytes = bytes},
	};
}

/** Where the driver says which used index it waits for (VIRTIO_F_EVENT_IDX). */
static inline const uint16_t *
split_used_event(const struct dynvhost_vq *vq)
{
	return &vq->split.avail->ring[vq->size];
}

/** Where the device says which available index it waits for (VIRTIO_F_EVENT_IDX). */
static inline uint16_t *
split_avail_event(const struct dynvhost_vq *vq)
{
	return (uint16_t *)&vq->split.used->ring[vq->size];
}

/** Entries between our position and the driver's; more than the ring's size from a broken driver. */
static inline uint16_t
split_distance(const struct dynvhost_vq *vq)
{
	/* Pairs with the driver's write barrier between filling an entry and storing the index:
	 * neither the ring entry nor its descriptors are loaded before the index.
	 */
	uint16_t idx = __atomic_load_n(&vq->split.avail->idx, __ATOMIC_ACQUIRE);

	return (uint16_t)(idx - vq->split.last_avail);
}

/** The head of the chain that is @p ahead entries beyond our position, as the guest wrote it. */
static inline uint16_t
split_peek(const struct dynvhost_vq *vq, uint32_t ahead)
{
	uint32_t slot = (vq->split.last_avail + ahead) & (vq->size - 1u);

	return __atomic_load_n(&vq->split.avail->ring[slot], __ATOMIC_RELAXED);
}

/** Make a private copy of a descriptor of the ring. */
static inline void
split_load_desc(const struct dynvhost_vq *vq, uint16_t i, struct vring_desc *desc)
{
	memcpy(desc, &vq->split.desc[i], sizeof(*desc));
	/* Whatever is decided from here on is decided on the copy. */
	rte_compiler_barrier();
}

/** Walk the indirect table that @p ref refers to. @return a verdict. */
static int
split_walk_table(struct dynvhost_vq *vq, struct dynvhost_chain *chain, const struct vring_desc *ref)
{
	struct vring_desc desc;
	uint32_t hops;
	uint32_t n;
	uint32_t i;
	int ret;

	ret = chain_judge_table(vq, ref->addr, ref->len, ref->flags, &n);
	if (ret != 0)
		return ret;
	for (hops = 0, i = 0; hops < n; hops++, i = desc.next) {
		if (unlikely(i >= n))
			return DYNVHOST_VQ_BAD_HEAD;
		ret = chain_load_entry(vq, ref->addr + i * sizeof(desc), &desc, sizeof(desc));
		if (unlikely(ret != 0))
			return ret;
		ret = chain_add_desc(chain, desc.addr, desc.len, desc.flags);
		if (unlikely(ret != 0))
			return ret;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
	}
	return DYNVHOST_VQ_BAD_LOOP;
}

/**
 * Walk a buffer's descriptors, direct ones first, then perhaps those of one indirect table, and
 * append it to the packet. @return a verdict.
 */
static inline int
split_walk(struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint16_t head)
{
	struct vring_desc desc;
	uint16_t i = head;
	uint32_t hops;
	int ret;

	ret = chain_add_buf(chain, head);
	if (unlikely(ret != 0))
		return ret;
	for (hops = 0; hops < vq->size; hops++, i = desc.next) {
		if (unlikely(i >= vq->size))
			return DYNVHOST_VQ_BAD_HEAD;
		split_load_desc(vq, i, &desc);
		if (desc.flags & VRING_DESC_F_INDIRECT)
			return split_walk_table(vq, chain, &desc);
		ret = chain_add_desc(chain, desc.addr, desc.len, desc.flags);
		if (unlikely(ret != 0))
			return ret;
		if (likely(!(desc.flags & VRING_DESC_F_NEXT)))
			return 0;
	}
	return DYNVHOST_VQ_BAD_LOOP;
}

/** Take the chain at our position and give it back with @p len bytes written. Not yet published. */
static inline void
split_push_used(struct dynvhost_vq *vq, struct split_burst *burst, uint16_t head, uint32_t len)
{
	struct vring_used_elem *elem;

	elem = &vq->split.used->ring[vq->split.last_used & (vq->size - 1u)];
	elem->id = head;
	elem->len = len;
	vq->split.last_used++;
	vq->split.last_avail++;
	vq->stall_since = 0;
	burst->available--;
}

/** What the driver says where events of single buffers are not in use. */
static bool
split_flags_want_call(const struct dynvhost_vq *vq)
{
	return !(__atomic_load_n(&vq->split.avail->flags, __ATOMIC_RELAXED) &
		 VRING_AVAIL_F_NO_INTERRUPT);
}

/**
 * Whether the driver wants to be told of what was just published, from @p first on (virtio 1.2
 * §2.7.7, §2.7.10). With event indices the answer is yes until the first call after a start: what
 * the driver was told before is not known.
 */
static inline bool
split_wants_call(struct dynvhost_vq *vq, uint16_t first)
{
	uint16_t event;
	bool wanted;

	/* Both fences pair with the driver's full barrier between asking for notifications and
	 * looking at the used index: without it, we could load the old wish and it the old index.
	 */
	if (!vq->event_idx) {
		defer_fence(vq);
		wanted = split_flags_want_call(vq);
		defer_note(vq, wanted);
		return wanted;
	}
	atomic_thread_fence(memory_order_seq_cst);
	if (unlikely(vq->call_anyway))
		return true;
	event = __atomic_load_n(split_used_event(vq), __ATOMIC_RELAXED);
	return vring_need_event(event, vq->split.last_used, first);
}

#endif /* DYNVHOST_SPLIT_STEPS_H */
