/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_PACKED_FAST_H
#define DYNVHOST_PACKED_FAST_H

/**
 * @file
 * The short way (fast.h) of packed rings. Security model: that of fast.h.
 *
 * A descriptor is two words. The second one, of length, id and flags, is loaded first and at once:
 * it says whether the first one, the address, is there yet.
 */

#include <linux/virtio_ring.h>

#include "fast.h"
#include "packed_steps.h"

/** Descriptors of a cache line. */
#define PACKED_FAST_DESCS (RTE_CACHE_LINE_SIZE / sizeof(struct vring_packed_desc))

/**
 * Fetch the lines of as many descriptors as the burst before this one had, and to write: they are given
 * back in place. More may be what the guest is at work on.
 */
static __rte_always_inline void
packed_fast_prefetch(const struct dynvhost_vq *vq, const struct vring_packed_desc *desc, uint16_t n)
{
	n = RTE_MIN(n, vq->packed.ripe.expected);
	for (uint16_t i = 0; i < n; i += PACKED_FAST_DESCS)
		fast_prefetch_write(&desc[i]);
}

/** Make a private copy of the descriptor at @p slot if its flags are @p flags and no others. */
static __rte_always_inline bool
packed_fast_load(
	struct vring_packed_desc *desc, uint16_t flags, union packed_word *word, uint64_t *gpa)
{
	/* Pairs with the driver's write barrier between filling a descriptor and its flags. */
	word->all = __atomic_load_n(packed_word_of(desc), __ATOMIC_ACQUIRE);
	if (word->flags != flags)
		return false;
	*gpa = __atomic_load_n(&desc->addr, __ATOMIC_RELAXED);
	return true;
}

/** The flags of an available buffer of one descriptor, besides WRITE. */
static __rte_always_inline uint16_t
packed_fast_avail_flags(bool wrap)
{
	return wrap ? PACKED_AVAIL : PACKED_USED;
}

/** What gives the buffer of @p job back. WRITE: it holds a header of @p hdr_len bytes and a frame. */
static __rte_always_inline union packed_word
packed_fast_used(const struct fast_job *job, uint16_t used_flags, uint32_t hdr_len)
{
	return (union packed_word){
		.len = used_flags & VRING_DESC_F_WRITE ? job->len + hdr_len : 0,
		.id = job->id,
		.flags = used_flags,
	};
}

/**
 * Give @p n > 0 buffers back from our position on, which does not go beyond the end of the ring. As
 * packed_push_used(), of buffers of one descriptor.
 *
 * @param written  each holds a header and a frame.
 */
static __rte_always_inline void
packed_fast_push(struct dynvhost_vq *vq, struct packed_burst *burst, const struct fast_job *job,
	uint16_t n, const bool written)
{
	const uint16_t flags = packed_used_bits(vq->packed.pos) |
			       (written ? VRING_DESC_F_WRITE : 0);
	struct vring_packed_desc *desc = &vq->packed.desc[vq->packed.pos.slot];
	const uint32_t hdr_len = vq->hdr_len;
	uint16_t i = 0;

	if (burst->slots == vq->size)
		burst->first_word = packed_fast_used(&job[i++], flags, hdr_len);
	for (; i < n; i++) {
		const union packed_word word = packed_fast_used(&job[i], flags, hdr_len);

		__atomic_store_n(packed_word_of(&desc[i]), word.all, __ATOMIC_RELEASE);
	}
	burst->last_id = job[n - 1].id;
	vq->stall_since = 0;
}

/** Step over @p n ordinary packets of @p bytes, whose buffers have been given back. */
static __rte_always_inline void
packed_fast_step(struct dynvhost_vq *vq, struct packed_burst *burst, uint16_t n, uint64_t bytes)
{
	packed_advance(vq, &vq->packed.pos, n);
	burst->slots -= n;
	burst->sum.packets += n;
	burst->sum.ordinary += n;
	burst->sum.bytes += bytes;
}

/**
 * First pass of up to @p n <= FAST_BATCH packets from the guest, not beyond the end of the ring.
 * @return how many are there and ordinary.
 */
static __rte_always_inline uint16_t
packed_fast_decode_rx(
	struct dynvhost_vq *vq, struct fast_job *job, uint16_t n, uint32_t max_len, const bool keep)
{
	const uint16_t flags = packed_fast_avail_flags(vq->packed.pos.wrap);
	struct vring_packed_desc *desc = &vq->packed.desc[vq->packed.pos.slot];
	const uint32_t hdr_len = vq->hdr_len;
	union packed_word word;
	struct fast_place place;
	uint64_t gpa;
	uint16_t i;

	packed_fast_prefetch(vq, desc, n);
	fast_place_init(&place, vq, DYNVHOST_MEM_READ);
	for (i = 0; i < n && packed_fast_load(&desc[i], flags, &word, &gpa); i++) {
		const uint32_t len = word.len - hdr_len;

		if (unlikely(word.len < hdr_len + FAST_MIN_FRAME || len > max_len))
			break;
		job[i].guest = fast_find(
			&place, vq, gpa, word.len, word.len, DYNVHOST_MEM_READ, keep);
		if (unlikely(job[i].guest == NULL))
			break;
		job[i].guest += hdr_len;
		job[i].len = len;
		job[i].id = word.id;
	}
	return i;
}

/** As packed_fast_decode_rx(), of packets for the guest. */
static __rte_always_inline uint16_t
packed_fast_decode_tx(struct dynvhost_vq *vq, struct rte_mbuf **pkts, struct fast_job *job,
	uint16_t n, const bool keep)
{
	const uint16_t flags = packed_fast_avail_flags(vq->packed.pos.wrap) | VRING_DESC_F_WRITE;
	struct vring_packed_desc *desc = &vq->packed.desc[vq->packed.pos.slot];
	const uint32_t hdr_len = vq->hdr_len;
	union packed_word word;
	struct fast_place place;
	uint64_t gpa;
	uint16_t i;

	n = fast_take_packets(pkts, job, n);
	fast_place_init(&place, vq, DYNVHOST_MEM_WRITE);
	for (i = 0; i < n && packed_fast_load(&desc[i], flags, &word, &gpa); i++) {
		const uint32_t need = hdr_len + job[i].len;

		if (unlikely(word.len < need))
			break;
		job[i].guest = fast_find(&place, vq, gpa, word.len, need, DYNVHOST_MEM_WRITE, keep);
		if (unlikely(job[i].guest == NULL))
			break;
		rte_prefetch0(job[i].guest);
		fast_prefetch_write(job[i].guest + hdr_len);
		job[i].id = word.id;
	}
	return i;
}

/** How many of @p n buffers lie before the end of the ring, and in one pass of the burst. */
static __rte_always_inline uint16_t
packed_fast_limit(const struct dynvhost_vq *vq, const struct packed_burst *burst, uint32_t n)
{
	n = RTE_MIN(n, burst->slots);
	n = RTE_MIN(n, (uint32_t)vq->size - vq->packed.pos.slot);
	return (uint16_t)RTE_MIN(n, FAST_BATCH);
}

/**
 * Take up to @p n ordinary packets from the guest and give their buffers back. @return how many.
 */
static inline uint16_t
packed_fast_dequeue(struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mempool *pool,
	struct rte_mbuf **pkts, uint16_t n)
{
	struct fast_job job[FAST_BATCH] __rte_cache_aligned;
	struct fast_mbufs mbufs;
	uint16_t taken;

	if (unlikely(!fast_mbufs_init(&mbufs, pool, vq->port_id)))
		return 0;
	n = packed_fast_limit(vq, burst, n);
	if (fast_keeps_pages(vq))
		taken = packed_fast_decode_rx(vq, job, n, mbufs.max_len, true);
	else
		taken = packed_fast_decode_rx(vq, job, n, mbufs.max_len, false);
	taken = fast_plain_headers(vq, job, taken);
	/* Too few mbufs for all may be enough for some. */
	if (unlikely(taken == 0 || rte_mempool_get_bulk(pool, (void **)pkts, taken) != 0))
		return 0;
	fast_dequeue(vq, job, pkts, taken, &mbufs);
	packed_fast_push(vq, burst, job, taken, false);
	packed_fast_step(vq, burst, taken, fast_bytes(job, taken));
	return taken;
}

/** As packed_fast_dequeue(), of packets for the guest, which are freed. */
static inline uint16_t
packed_fast_enqueue(
	struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mbuf **pkts, uint16_t n)
{
	struct fast_job job[FAST_BATCH] __rte_cache_aligned;
	uint16_t taken;
	uint64_t sum;

	n = packed_fast_limit(vq, burst, n);
	if (fast_keeps_pages(vq))
		taken = packed_fast_decode_tx(vq, pkts, job, n, true);
	else
		taken = packed_fast_decode_tx(vq, pkts, job, n, false);
	if (unlikely(taken == 0))
		return 0;
	sum = fast_bytes(job, taken);
	vq->fast->enqueue(job, pkts, taken, vq->hdr_len, sum);
	packed_fast_push(vq, burst, job, taken, true);
	packed_fast_step(vq, burst, taken, sum);
	fast_free(pkts, taken);
	return taken;
}

#endif /* DYNVHOST_PACKED_FAST_H */
