/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_SPLIT_FAST_H
#define DYNVHOST_SPLIT_FAST_H

/**
 * @file
 * The short way (fast.h) of split rings. Security model: that of fast.h; heads too are loaded once.
 */

#include <string.h>

#include "fast.h"
#include "give_back.h"

/** What the loops read of a virtqueue, in locals: the guest's stores do not reach them. */
struct split_fast_ring {
	const struct vring_desc *desc;
	const uint16_t *avail;
	uint32_t size;
	uint32_t next; /**< available entry */
};

static __rte_always_inline struct split_fast_ring
split_fast_ring_of(const struct dynvhost_vq *vq)
{
	return (struct split_fast_ring){
		.desc = vq->split.desc,
		.avail = vq->split.avail->ring,
		.size = vq->size,
		.next = vq->split.last_avail,
	};
}

/** The second half of a descriptor. */
union split_fast_word {
	struct {
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	};
	uint64_t all;
};

/** Make private copies of the next head and its descriptor. @return false: no such descriptor. */
static __rte_always_inline bool
split_fast_load(
	struct split_fast_ring *ring, uint16_t *head, union split_fast_word *word, uint64_t *gpa)
{
	const uint32_t slot = ring->next++ & (ring->size - 1);
	const uint16_t i = __atomic_load_n(&ring->avail[slot], __ATOMIC_RELAXED);
	const uint64_t *half;

	if (unlikely(i >= ring->size))
		return false;
	half = (const uint64_t *)&ring->desc[i];
	*gpa = __atomic_load_n(&half[0], __ATOMIC_RELAXED);
	word->all = __atomic_load_n(&half[1], __ATOMIC_RELAXED);
	*head = i;
	return true;
}

/** Give @p n buffers back, each with @p extra bytes written beyond those of its job's frame. */
static __rte_always_inline void
split_fast_push(struct dynvhost_vq *vq, const struct fast_job *job, uint16_t n, bool written,
	uint32_t extra)
{
	struct vring_used_elem *ring = vq->split.used->ring;
	const uint32_t first = vq->split.last_used;
	const uint32_t size = vq->size;

	for (uint16_t i = 0; i < n; i++) {
		const struct vring_used_elem elem = {
			.id = job[i].id, .len = written ? job[i].len + extra : 0};

		memcpy(&ring[(first + i) & (size - 1)], &elem, sizeof(elem));
	}
	vq->split.last_used += n;
	vq->split.last_avail += n;
	vq->split.next_head = job[n - 1].id + 1u;
	vq->stall_since = 0;
}

/** Elements of a cache line. */
#define SPLIT_FAST_DESCS (RTE_CACHE_LINE_SIZE / sizeof(struct vring_desc))
#define SPLIT_FAST_ELEMS (RTE_CACHE_LINE_SIZE / sizeof(struct vring_used_elem))

/**
 * Fetch what of the ring @p n <= FAST_BATCH packets for the guest will need. Most drivers take
 * descriptors in the order of the table, so that these need not wait for the available ring's line.
 * With packets from the guest it does not pay: there the guest is still at work on these lines.
 */
static __rte_always_inline void
split_fast_prefetch(const struct dynvhost_vq *vq, const struct split_fast_ring *ring, uint16_t n)
{
	const struct vring_used_elem *used = vq->split.used->ring;
	const uint32_t first = vq->split.next_head;

	for (uint32_t i = 0; i < n; i += SPLIT_FAST_DESCS)
		rte_prefetch0(&ring->desc[(first + i) & (ring->size - 1)]);
	for (uint32_t i = 0; i < n; i += SPLIT_FAST_ELEMS)
		fast_prefetch_write(&used[(vq->split.last_used + i) & (ring->size - 1)]);
	fast_prefetch_write(&vq->split.used->idx);
}

/** First pass of up to @p n <= FAST_BATCH packets from the guest. @return how many are ordinary. */
static __rte_always_inline uint16_t
split_fast_decode_rx(
	struct dynvhost_vq *vq, struct fast_job *job, uint16_t n, uint32_t max_len, const bool keep)
{
	const uint32_t hdr_len = vq->hdr_len;
	struct split_fast_ring ring = split_fast_ring_of(vq);
	union split_fast_word desc;
	struct fast_place place;
	uint64_t gpa;
	uint16_t i;

	fast_place_init(&place, vq, DYNVHOST_MEM_READ);
	for (i = 0; i < n; i++) {
		uint32_t len;

		if (unlikely(!split_fast_load(&ring, &job[i].id, &desc, &gpa)))
			break;
		len = desc.len - hdr_len;
		if (unlikely(desc.flags != 0 || desc.len < hdr_len + FAST_MIN_FRAME ||
			     len > max_len))
			break;
		job[i].guest = fast_find(
			&place, vq, gpa, desc.len, desc.len, DYNVHOST_MEM_READ, keep);
		if (unlikely(job[i].guest == NULL))
			break;
		job[i].guest += hdr_len;
		job[i].len = len;
	}
	return i;
}

/** Give back the lines of descriptors that have been taken to their ends (give_back.h). */
static __rte_noinline void
split_fast_give_back(const struct dynvhost_vq *vq, const struct fast_job *job, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (job[i].id % SPLIT_FAST_DESCS == SPLIT_FAST_DESCS - 1)
			give_back_line(
				vq->give_back.way, (const uint8_t *)&vq->split.desc[job[i].id]);
}

/** Second pass of @p n packets from the guest. @return how many were taken; their bytes in @p bytes. */
static __rte_always_inline uint16_t
split_fast_move_rx(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	const struct fast_job *job, uint16_t n, const struct fast_mbufs *mbufs, uint64_t *bytes)
{
	/* Too few mbufs for all may be enough for some. */
	if (unlikely(rte_mempool_get_bulk(pool, (void **)pkts, n) != 0))
		return 0;
	fast_dequeue(vq, job, pkts, n, mbufs);
	if (give_back_is_due(vq, n))
		split_fast_give_back(vq, job, n);
	split_fast_push(vq, job, n, false, 0);
	*bytes += fast_bytes(job, n);
	return n;
}

/** Take up to @p n ordinary packets from the guest. @return how many; their bytes in @p bytes. */
static inline uint16_t
split_fast_dequeue(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, uint64_t *bytes)
{
	struct fast_job job[FAST_BATCH] __rte_cache_aligned;
	struct fast_mbufs mbufs;
	uint16_t taken;

	if (unlikely(!fast_mbufs_init(&mbufs, pool, vq->port_id)))
		return 0;
	if (fast_keeps_pages(vq))
		taken = split_fast_decode_rx(vq, job, RTE_MIN(n, FAST_BATCH), mbufs.max_len, true);
	else
		taken = split_fast_decode_rx(vq, job, RTE_MIN(n, FAST_BATCH), mbufs.max_len, false);
	taken = fast_plain_headers(vq, job, taken);
	if (unlikely(taken == 0))
		return 0;
	return split_fast_move_rx(vq, pool, pkts, job, taken, &mbufs, bytes);
}

/**
 * As split_fast_dequeue(), of one packet: the same steps without their loops, of which each costs a
 * single packet as much as it saves many.
 */
static inline uint16_t
split_fast_dequeue_one(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint64_t *bytes)
{
	struct fast_mbufs mbufs;
	struct fast_job job;

	if (unlikely(!fast_mbufs_init(&mbufs, pool, vq->port_id)))
		return 0;
	if (unlikely(split_fast_decode_rx(vq, &job, 1, mbufs.max_len, false) == 0 ||
		     fast_plain_headers(vq, &job, 1) == 0))
		return 0;
	return split_fast_move_rx(vq, pool, pkts, &job, 1, &mbufs, bytes);
}

/** First pass of up to @p n <= FAST_BATCH packets for the guest. @return how many are ordinary. */
static __rte_always_inline uint16_t
split_fast_decode_tx(struct dynvhost_vq *vq, struct rte_mbuf **pkts, struct fast_job *job,
	uint16_t n, const bool keep)
{
	const uint32_t hdr_len = vq->hdr_len;
	struct split_fast_ring ring = split_fast_ring_of(vq);
	union split_fast_word desc;
	struct fast_place place;
	uint64_t gpa;
	uint16_t i;

	split_fast_prefetch(vq, &ring, n);
	n = fast_take_packets(pkts, job, n);
	fast_place_init(&place, vq, DYNVHOST_MEM_WRITE);
	for (i = 0; i < n; i++) {
		const uint32_t need = hdr_len + job[i].len;

		if (unlikely(!split_fast_load(&ring, &job[i].id, &desc, &gpa)))
			break;
		if (unlikely(desc.flags != VRING_DESC_F_WRITE || desc.len < need))
			break;
		job[i].guest = fast_find(&place, vq, gpa, desc.len, need, DYNVHOST_MEM_WRITE, keep);
		if (unlikely(job[i].guest == NULL))
			break;
		rte_prefetch0(job[i].guest);
		fast_prefetch_write(job[i].guest + hdr_len);
	}
	return i;
}

/** Give up to @p n ordinary packets to the guest. @return how many; their bytes in @p bytes. */
static inline uint16_t
split_fast_enqueue(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n, uint64_t *bytes)
{
	struct fast_job job[FAST_BATCH] __rte_cache_aligned;
	uint16_t taken;
	uint64_t sum;

	if (fast_keeps_pages(vq))
		taken = split_fast_decode_tx(vq, pkts, job, RTE_MIN(n, FAST_BATCH), true);
	else
		taken = split_fast_decode_tx(vq, pkts, job, RTE_MIN(n, FAST_BATCH), false);
	if (unlikely(taken == 0))
		return 0;
	sum = fast_bytes(job, taken);
	vq->fast->enqueue(job, pkts, taken, vq->hdr_len, sum);
	split_fast_push(vq, job, taken, true, vq->hdr_len);
	*bytes += sum;
	fast_free(pkts, taken);
	return taken;
}

#endif /* DYNVHOST_SPLIT_FAST_H */
