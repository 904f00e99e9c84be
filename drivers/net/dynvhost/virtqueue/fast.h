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
 *	decode  judge each descriptor, find its host memory, prefetch what will be written
 *	move    write headers or mbufs, copy (fast_kernel.h, compiled for several kinds of CPU)
 *
 * What a guest sends is not prefetched here. The guest has only just written it and is at work on the
 * next: lines that are fetched before their turn, or in vain, are lines it waits for when it comes to
 * write them again. The loads of one copy do not wait for those before.
 *
 * Security model
 * --------------
 * This is not a second judge of what a guest may write, but a filter that lets through what it has
 * itself proved harmless, and has no opinion on the rest: whatever it does not take is judged from
 * the beginning by chain.h, and its header by net_hdr.h. A descriptor is loaded once, as a whole, into
 * a local. It passes if its flags say that it is all of the buffer and has the right direction, and if
 * all of its bytes lie in one region (which also excludes that they wrap), and if every page that the
 * packet's own bytes touch is a hit. Nothing is opened here. A page that was a hit stays open until the
 * burst ends: who closes pages waits until queues are outside (gate.h).
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
#include "give_back.h"
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
	/** As dequeue(), and give each frame back when it has been read (give_back.h). */
	void (*dequeue_giving)(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
		const struct fast_mbufs *mbufs, enum give_back_way way);
	/** Write headers of @p hdr_len bytes and mbufs, of @p bytes in all, into the guest's buffers. */
	void (*enqueue)(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
		uint8_t hdr_len, uint64_t bytes);
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

/** A region, and the page of it that the packet before lay in, in locals of the decoding loop. */
struct fast_place {
	uint64_t gpa;
	uint64_t size;
	uint8_t *base;
	const _Atomic uint8_t *state;
	uint64_t phase;
	uint32_t page_shift;
	/* Was found open in this burst, and so stays it until the burst ends. */
	uint64_t page_gpa; /**< where the page begins in the region, which may begin inside it */
	uint64_t page_len; /**< bytes from there to the end of either; 0: no page yet */
};

static __rte_always_inline void
fast_place_set(struct fast_place *place, const struct dynvhost_mem_region *region,
	enum dynvhost_mem_right right)
{
	*place = (struct fast_place){
		.gpa = region->gpa,
		.size = region->size,
		.base = region->window[right].base,
		.state = region->window[right].state,
		.phase = region->phase,
		.page_shift = region->page_shift,
	};
}

/** Pages of this size and above hold so many buffers that a page is worth remembering. */
#define FAST_KEEP_SHIFT 16u

/** Whether the decoding loop is to be the one that remembers pages. */
static __rte_always_inline bool
fast_keeps_pages(const struct dynvhost_vq *vq)
{
	return vq->cursor.hint < vq->view->n_regions &&
	       vq->view->region[vq->cursor.hint]->page_shift >= FAST_KEEP_SHIFT;
}

/** Begin where the queue was last. */
static __rte_always_inline void
fast_place_init(
	struct fast_place *place, const struct dynvhost_vq *vq, enum dynvhost_mem_right right)
{
	*place = (struct fast_place){.size = 0};
	if (likely(vq->cursor.hint < vq->view->n_regions))
		fast_place_set(place, vq->view->region[vq->cursor.hint], right);
}

/** The region of @p gpa, in which the queue begins from now on; NULL: there is none. */
const struct dynvhost_mem_region *dynvhost_fast_region(struct dynvhost_vq *vq, uint64_t gpa);

/** Remember the open page @p number of the place's region. */
static inline void
fast_place_keep(struct fast_place *place, uint64_t number)
{
	const uint64_t begin = number << place->page_shift;
	const uint64_t end = begin + (UINT64_C(1) << place->page_shift) - place->phase;
	const uint64_t offset = begin > place->phase ? begin - place->phase : 0;

	place->page_gpa = place->gpa + offset;
	place->page_len = RTE_MIN(end, place->size) - offset;
}

/**
 * Whether @p len > 0 bytes at @p gpa lie in the place's region, and the first @p use > 0 of them are
 * open. @return their host address, or NULL.
 */
static __rte_always_inline uint8_t *
fast_place_look(struct fast_place *place, uint64_t gpa, uint32_t len, uint32_t use, const bool keep)
{
	const uint64_t offset = gpa - place->gpa;
	uint64_t first, last;
	uint8_t state;

	if (unlikely(offset >= place->size || len > place->size - offset))
		return NULL;
	first = (offset + place->phase) >> place->page_shift;
	last = (offset + place->phase + use - 1) >> place->page_shift;
	state = atomic_load_explicit(&place->state[first], memory_order_acquire) &
		atomic_load_explicit(&place->state[last], memory_order_acquire);
	if (unlikely((state & DYNVHOST_MEM_HIT) != DYNVHOST_MEM_HIT || last - first > 1))
		return NULL;
	if (keep)
		fast_place_keep(place, last);
	return place->base + offset;
}

/** As fast_place_look(), in any region. @param keep  remember the page, and look there first. */
static __rte_always_inline uint8_t *
fast_find(struct fast_place *place, struct dynvhost_vq *vq, uint64_t gpa, uint32_t len,
	uint32_t use, enum dynvhost_mem_right right, const bool keep)
{
	const struct dynvhost_mem_region *region;
	const uint64_t in_page = gpa - place->page_gpa;
	uint8_t *hva;

	if (keep && likely(in_page < place->page_len && len <= place->page_len - in_page))
		return place->base + (gpa - place->gpa);
	hva = fast_place_look(place, gpa, len, use, keep);
	if (likely(hva != NULL) || gpa - place->gpa < place->size)
		return hva;
	region = dynvhost_fast_region(vq, gpa);
	if (unlikely(region == NULL))
		return NULL;
	fast_place_set(place, region, right);
	return fast_place_look(place, gpa, len, use, keep);
}

/**
 * How many of the @p n packets, from the first on, have headers that ask for nothing; all where no
 * offload was negotiated and headers mean nothing. They have been prefetched.
 */
static __rte_always_inline uint16_t
fast_plain_headers(const struct dynvhost_vq *vq, const struct fast_job *job, uint16_t n)
{
	const uint32_t hdr_len = vq->hdr_len;
	uint16_t i;

	if (!net_hdr_is_read(vq->offloads))
		return n;
	for (i = 0; i < n; i++) {
		/* Headers may lie at odd addresses. */
		const uint8_t *hdr = job[i].guest - hdr_len;
		const uint8_t *flags = hdr + offsetof(struct virtio_net_hdr, flags);
		const uint8_t *gso_type = hdr + offsetof(struct virtio_net_hdr, gso_type);

		if (unlikely(net_hdr_asks(__atomic_load_n(flags, __ATOMIC_RELAXED),
			    __atomic_load_n(gso_type, __ATOMIC_RELAXED))))
			break;
	}
	return i;
}

/** What mbufs of a pool are like. @return false: they are not for us. */
static __rte_always_inline bool
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

/** Second pass of @p n packets from the guest. */
static __rte_always_inline void
fast_dequeue(const struct dynvhost_vq *vq, const struct fast_job *job, struct rte_mbuf **pkts,
	uint16_t n, const struct fast_mbufs *mbufs)
{
	if (give_back_is_due(vq, n))
		vq->fast->dequeue_giving(job, pkts, n, mbufs, vq->give_back.way);
	else
		vq->fast->dequeue(job, pkts, n, mbufs);
}

/** Fields of an mbuf that say whether it is ordinary: refcnt and nb_segs, in rearm_data. */
#define FAST_REARM_MASK UINT64_C(0x0000ffffffff0000)
#define FAST_REARM_ONE  UINT64_C(0x0000000100010000)
/** Flags that no ordinary mbuf has. */
#define FAST_OL_FLAGS (RTE_MBUF_F_TX_OFFLOAD_MASK | RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL)

/** Whether a packet to be sent is one direct mbuf that is ours alone, with nothing left to do. */
static __rte_always_inline bool
fast_is_ordinary(const struct rte_mbuf *pkt)
{
	uint64_t rearm;

	memcpy(&rearm, RTE_PTR_ADD(pkt, offsetof(struct rte_mbuf, rearm_data)), sizeof(rearm));
	return (rearm & FAST_REARM_MASK) == FAST_REARM_ONE &&
	       (pkt->ol_flags & FAST_OL_FLAGS) == 0 && pkt->data_len >= FAST_MIN_FRAME &&
	       pkt->pkt_len == pkt->data_len;
}

/** Judge up to @p n packets to be sent; jobs get their lengths. @return how many are ordinary. */
static __rte_always_inline uint16_t
fast_take_packets(struct rte_mbuf *const *pkts, struct fast_job *job, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n && likely(fast_is_ordinary(pkts[i])); i++)
		job[i].len = pkts[i]->data_len;
	return i;
}

/** Whether packets are all of one pool. */
static __rte_always_inline bool
fast_same_pool(struct rte_mbuf *const *pkts, uint16_t n)
{
	const struct rte_mempool *pool = pkts[0]->pool;
	uint16_t i;

	for (i = 1; i < n && likely(pkts[i]->pool == pool); i++)
		;
	return i == n;
}

/** The frames' bytes. */
static __rte_always_inline uint64_t
fast_bytes(const struct fast_job *job, uint16_t n)
{
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < n; i++)
		bytes += job[i].len;
	return bytes;
}

/** Free packets that were all ordinary. */
static __rte_always_inline void
fast_free(struct rte_mbuf **pkts, uint16_t n)
{
	/* An mbuf of one segment has no next, as the pool wants it. */
	if (likely(fast_same_pool(pkts, n)))
		rte_mempool_put_bulk(pkts[0]->pool, (void **)pkts, n);
	else
		rte_pktmbuf_free_bulk(pkts, n);
}

#endif /* DYNVHOST_FAST_H */
