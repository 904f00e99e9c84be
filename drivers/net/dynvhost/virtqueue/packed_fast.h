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

#define PACKED_FAST_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_FAST_USED  (1u << VRING_PACKED_DESC_F_USED)

/** Descriptors of a cache line. */
#define PACKED_FAST_DESCS (RTE_CACHE_LINE_SIZE / sizeof(struct vring_packed_desc))

/** The second word of a descriptor. */
union packed_fast_word {
	struct {
		uint32_t len;
		uint16_t id;
		uint16_t flags;
	};
	uint64_t all;
};

/** The word of a descriptor in guest memory. */
static __rte_always_inline uint64_t *
packed_fast_word_of(struct vring_packed_desc *desc)
{
	return (uint64_t *)desc + 1;
}

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
	struct vring_packed_desc *desc, uint16_t flags, union packed_fast_word *word, uint64_t *gpa)
{
	/* Pairs with the driver's write barrier between filling a descriptor and its flags. */
	word->all = __atomic_load_n(packed_fast_word_of(desc), __ATOMIC_ACQUIRE);
	if (word->flags != flags)
		return false;
	*gpa = __atomic_load_n(&desc->addr, __ATOMIC_RELAXED);
	return true;
}

/** The flags of an available buffer of one descriptor, besides WRITE. */
static __rte_always_inline uint16_t
packed_fast_avail_flags(bool wrap)
{
	return wrap ? PACKED_FAST_AVAIL : PACKED_FAST_USED;
}

/** The flags of a used one, besides WRITE. */
static __rte_always_inline uint16_t
packed_fast_used_flags(bool wrap)
{
	return wrap ? PACKED_FAST_AVAIL | PACKED_FAST_USED : 0;
}

/**
 * Give @p n buffers back from our position on, which does not go beyond the end of the ring.
 *
 * @param used_flags   of each; WRITE says that it holds a header of @p hdr_len bytes and a frame.
 * @param hide_first   leave the flags of the first one as they are, which publishes it later.
 */
static __rte_always_inline void
packed_fast_push(struct dynvhost_vq *vq, const struct fast_job *job, uint16_t n,
	uint16_t used_flags, uint32_t hdr_len, bool hide_first)
{
	const bool written = (used_flags & VRING_DESC_F_WRITE) != 0;
	union packed_fast_word word = {.flags = used_flags};
	struct vring_packed_desc *desc = &vq->packed.desc[vq->packed.pos.slot];
	uint16_t i = 0;

	if (hide_first) {
		desc->len = written ? job[0].len + hdr_len : 0;
		desc->id = job[0].id;
		i = 1;
	}
	for (; i < n; i++) {
		word.len = written ? job[i].len + hdr_len : 0;
		word.id = job[i].id;
		__atomic_store_n(packed_fast_word_of(&desc[i]), word.all, __ATOMIC_RELEASE);
	}
	vq->stall_since = 0;
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
	union packed_fast_word word;
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
	union packed_fast_word word;
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

/** How many of @p n buffers lie before the end of the ring, and in one pass. */
static __rte_always_inline uint16_t
packed_fast_limit(const struct dynvhost_vq *vq, uint32_t n)
{
	n = RTE_MIN(n, (uint32_t)vq->size - vq->packed.pos.slot);
	return (uint16_t)RTE_MIN(n, FAST_BATCH);
}

/**
 * Take up to @p n ordinary packets from the guest and give their buffers back; our position stays.
 * @return how many; their bytes in @p bytes.
 */
static inline uint16_t
packed_fast_dequeue(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, bool hide_first, uint16_t used_flags, uint64_t *bytes)
{
	struct fast_job job[FAST_BATCH] __rte_cache_aligned;
	struct fast_mbufs mbufs;
	uint16_t taken;

	if (unlikely(!fast_mbufs_init(&mbufs, pool, vq->port_id)))
		return 0;
	if (fast_keeps_pages(vq))
		taken = packed_fast_decode_rx(
			vq, job, packed_fast_limit(vq, n), mbufs.max_len, true);
	else
		taken = packed_fast_decode_rx(
			vq, job, packed_fast_limit(vq, n), mbufs.max_len, false);
	taken = fast_plain_headers(vq, job, taken);
	/* Too few mbufs for all may be enough for some. */
	if (unlikely(taken == 0 || rte_mempool_get_bulk(pool, (void **)pkts, taken) != 0))
		return 0;
	fast_dequeue(vq, job, pkts, taken, &mbufs);
	packed_fast_push(vq, job, taken, used_flags, 0, hide_first);
	*bytes += fast_bytes(job, taken);
	return taken;
}

/** As packed_fast_dequeue(), of packets for the guest, which are freed. */
static inline uint16_t
packed_fast_enqueue(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n, bool hide_first,
	uint16_t used_flags, uint64_t *bytes)
{
	struct fast_job job[FAST_BATCH] __rte_cache_aligned;
	uint16_t taken;
	uint64_t sum;

	if (fast_keeps_pages(vq))
		taken = packed_fast_decode_tx(vq, pkts, job, packed_fast_limit(vq, n), true);
	else
		taken = packed_fast_decode_tx(vq, pkts, job, packed_fast_limit(vq, n), false);
	if (unlikely(taken == 0))
		return 0;
	sum = fast_bytes(job, taken);
	vq->fast->enqueue(job, pkts, taken, vq->hdr_len, sum);
	packed_fast_push(vq, job, taken, used_flags, vq->hdr_len, hide_first);
	*bytes += sum;
	fast_free(pkts, taken);
	return taken;
}

#endif /* DYNVHOST_PACKED_FAST_H */
