/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_FAST_H
#define DYNVHOST_FAST_H

/**
 * @file
 * The short way for ordinary packets, of both ring formats.
 *
 * Theory of operation
 * -------------------
 * Nearly every packet of a fast guest is one direct descriptor that lies in open memory, and one
 * mbuf. A burst first tries to take as many of these in a row as there are. The first that is
 * anything else is left to the ring's own loop, which takes one chain, and then the short way is
 * tried again. Packets are taken in two passes over up to FAST_BATCH of them, so that the cache
 * misses of one overlap with the work on the others:
 *
 *	decode  judge each descriptor, find its host memory, prefetch
 *	move    write headers or mbufs, copy (fast_kernel.h, compiled for several kinds of CPU)
 *
 * Security model
 * --------------
 * This is not a second judge of what a guest may write, but a filter that lets through what it has
 * itself proved harmless, and has no opinion on the rest: whatever it does not take is judged from
 * the beginning by chain.h, and its header by net_hdr.h. A descriptor is loaded once, as a whole, into a local. It passes if its
 * flags say that it is all of the buffer and has the right direction, and if all of its bytes lie in
 * one region (which also excludes that they wrap), and if every page that the packet's own bytes
 * touch is a hit. Nothing is opened here.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_ring.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dynvhost_mem.h"
#include "net_hdr.h"
#include "virtqueue.h"

/** Packets of one pass. */
#define FAST_BATCH 64u
/** Shorter frames take the long way: the copy loops need not know them. */
#define FAST_MIN_FRAME 16u

/** One packet, between the passes. */
struct fast_job {
	uint8_t *guest; /**< dequeue: the frame; enqueue: the header, with the frame behind it */
	uint32_t len;   /**< of the frame */
	uint16_t id;    /**< by which the buffer is given back */
};

/** What the first pass has found out about packets for the guest. */
struct fast_sum {
	uint64_t bytes;
	bool same_pool; /**< whether all mbufs are of the first one's */
};

/** What received mbufs have in common. */
struct fast_mbufs {
	uint64_t rearm;   /**< value of rearm_data */
	uint32_t data_at; /**< from the mbuf's own address to its data */
	uint32_t max_len; /**< of a frame in one mbuf */
};

/** The functions of one kind of CPU. */
struct dynvhost_fast {
	/** Write the frames of jobs into fresh mbufs. */
	void (*dequeue)(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
		const struct fast_mbufs *mbufs);
	/** Write headers of @p hdr_len bytes and mbufs into the guest's buffers. */
	void (*enqueue)(
		const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n, uint8_t hdr_len);
	unsigned int bits; /**< of the widest registers it uses */
};

extern const struct dynvhost_fast dynvhost_fast_sse;
extern const struct dynvhost_fast dynvhost_fast_avx2;
extern const struct dynvhost_fast dynvhost_fast_avx512;

/**
 * The functions for this CPU that use registers of @p max_bits at most (see
 * rte_vect_get_max_simd_bitwidth()). @return NULL: there are none.
 */
const struct dynvhost_fast *dynvhost_fast_choose(unsigned int max_bits);

/**
 * Fetch a line that will be written: one that another core holds comes for good at once, instead of
 * being shared first. CPUs that do not know the instruction pass over it.
 */
static __rte_always_inline void
fast_prefetch_write(const void *line)
{
#ifdef RTE_ARCH_X86_64
	__asm__ volatile("prefetchw %0" : : "m"(*(const uint8_t *)line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/** A region, in locals of the decoding loop. */
struct fast_place {
	uint64_t gpa;
	uint64_t size;
	uint8_t *base;
	const _Atomic uint8_t *state;
	uint64_t phase;
	uint32_t page_shift;
};

static inline void
fast_place_set(struct fast_place *place, const struct dynvhost_mem_region *region,
	enum dynvhost_mem_right right)
{
	place->gpa = region->gpa;
	place->size = region->size;
	place->base = region->window[right].base;
	place->state = region->window[right].state;
	place->phase = region->phase;
	place->page_shift = region->page_shift;
}

/** Begin where the queue was last. */
static inline void
fast_place_init(
	struct fast_place *place, const struct dynvhost_vq *vq, enum dynvhost_mem_right right)
{
	*place = (struct fast_place){.size = 0};
	if (likely(vq->cursor.hint < vq->view->n_regions))
		fast_place_set(place, vq->view->region[vq->cursor.hint], right);
}

/** The region of @p gpa, in which the queue begins from now on; NULL: there is none. */
const struct dynvhost_mem_region *dynvhost_fast_region(struct dynvhost_vq *vq, uint64_t gpa);

/**
 * Whether @p len > 0 bytes at @p gpa lie in the place's region, and the @p use > 0 of them that
 * begin after @p skip are open. @return their host address, or NULL.
 */
static inline uint8_t *
fast_place_find(
	const struct fast_place *place, uint64_t gpa, uint32_t len, uint32_t skip, uint32_t use)
{
	uint64_t offset = gpa - place->gpa;
	uint64_t first, last;
	uint8_t state;

	if (unlikely(offset >= place->size || len > place->size - offset))
		return NULL;
	first = (offset + skip + place->phase) >> place->page_shift;
	last = (offset + skip + place->phase + use - 1) >> place->page_shift;
	state = atomic_load_explicit(&place->state[first], memory_order_acquire) &
		atomic_load_explicit(&place->state[last], memory_order_acquire);
	if (unlikely((state & DYNVHOST_MEM_HIT) != DYNVHOST_MEM_HIT || last - first > 1))
		return NULL;
	return place->base + offset + skip;
}

/** As fast_place_find(), in any region. */
static inline uint8_t *
fast_find(struct fast_place *place, struct dynvhost_vq *vq, uint64_t gpa, uint32_t len,
	uint32_t skip, uint32_t use, enum dynvhost_mem_right right)
{
	const struct dynvhost_mem_region *region;
	uint8_t *hva = fast_place_find(place, gpa, len, skip, use);

	if (likely(hva != NULL) || gpa - place->gpa < place->size)
		return hva;
	region = dynvhost_fast_region(vq, gpa);
	if (unlikely(region == NULL))
		return NULL;
	fast_place_set(place, region, right);
	return fast_place_find(place, gpa, len, skip, use);
}

/**
 * How many of the @p n packets, from the first on, have headers that ask for nothing; all where no
 * offload was negotiated and headers mean nothing. They have been prefetched.
 */
static inline uint16_t
fast_plain_headers(const struct dynvhost_vq *vq, const struct fast_job *job, uint16_t n)
{
	uint16_t i;

	if (!net_hdr_is_read(vq->offloads))
		return n;
	for (i = 0; i < n; i++) {
		struct virtio_net_hdr hdr;

		memcpy(&hdr, job[i].guest - vq->hdr_len, sizeof(hdr));
		if (unlikely(net_hdr_asks(&hdr)))
			break;
	}
	return i;
}

/** What mbufs of a pool are like. @return false: they are not for us. */
static inline bool
fast_mbufs_init(struct fast_mbufs *mbufs, struct rte_mempool *pool, uint16_t port_id)
{
	const struct rte_pktmbuf_pool_private *private = rte_mempool_get_priv(pool);

	/* Data outside the mbuf: its address would have to be read. */
	if (unlikely(private->flags & RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF))
		return false;
	mbufs->data_at = (uint32_t)sizeof(struct rte_mbuf) + private->mbuf_priv_size +
			 RTE_PKTMBUF_HEADROOM;
	mbufs->max_len = RTE_MIN(DYNVHOST_VQ_MAX_FRAME,
		(uint32_t) private->mbuf_data_room_size - RTE_PKTMBUF_HEADROOM);
	/* data_off, refcnt, nb_segs, port */
	mbufs->rearm = RTE_PKTMBUF_HEADROOM | UINT64_C(1) << 16 | UINT64_C(1) << 32 |
		       (uint64_t)port_id << 48;
	return true;
}

/** Fields of an mbuf that say whether it is ordinary: refcnt and nb_segs, in rearm_data. */
#define FAST_REARM_MASK UINT64_C(0x0000ffffffff0000)
#define FAST_REARM_ONE  UINT64_C(0x0000000100010000)
/** Flags that no ordinary mbuf has. */
#define FAST_OL_FLAGS (RTE_MBUF_F_TX_OFFLOAD_MASK | RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL)

/** Whether a packet to be sent is one direct mbuf that is ours alone, with nothing left to do. */
static inline bool
fast_is_ordinary(const struct rte_mbuf *pkt)
{
	uint64_t rearm;

	memcpy(&rearm, RTE_PTR_ADD(pkt, offsetof(struct rte_mbuf, rearm_data)), sizeof(rearm));
	return (rearm & FAST_REARM_MASK) == FAST_REARM_ONE &&
	       (pkt->ol_flags & FAST_OL_FLAGS) == 0 && pkt->data_len >= FAST_MIN_FRAME &&
	       pkt->pkt_len == pkt->data_len;
}

/** The frames' bytes. */
static inline uint64_t
fast_bytes(const struct fast_job *job, uint16_t n)
{
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < n; i++)
		bytes += job[i].len;
	return bytes;
}

/** Free packets that were all ordinary. @param same_pool  whether they are all of the first's. */
static inline void
fast_free(struct rte_mbuf **pkts, uint16_t n, bool same_pool)
{
	/* An mbuf of one segment has no next, as the pool wants it. */
	if (likely(same_pool))
		rte_mempool_put_bulk(pkts[0]->pool, (void **)pkts, n);
	else
		rte_pktmbuf_free_bulk(pkts, n);
}

#endif /* DYNVHOST_FAST_H */
