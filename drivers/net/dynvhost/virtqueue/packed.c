/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The packed ring (virtio 1.2 §2.8), from the device's side. Function by function beside split.c:
 * what differs between the two files is what differs between the formats.
 *
 * Theory of operation
 * -------------------
 * Every burst has the same shape. For each chain it looks whether the descriptor at its position is
 * available, walks the descriptors, resolves the bytes that the packet uses to host memory, copies,
 * and writes a used descriptor over the chain's first one. Only then does it step on; a burst that
 * ends half-way leaves the chain where it was, to be looked at again. At its end the burst
 * publishes its used descriptors at once, and calls the guest once, if the guest wants it.
 *
 * A descriptor is available while its AVAIL bit equals the wrap counter and its USED bit does not;
 * used are those whose two bits equal it. The driver makes chains available in the order of the
 * ring, and looks for used descriptors in that order too: therefore all used descriptors of a burst
 * are written as it goes, but the flags of the first one last, and these publish the burst.
 *
 * Where the driver negotiates IN_ORDER, one used descriptor could stand for all buffers of a burst
 * (virtio 1.2 §2.8.9). Each buffer gets its own: received packets need their lengths, and only so do
 * the descriptors tell where we are. The same holds for split rings.
 *
 * The other slots of a chain are marked as used too, for the sake of whoever comes after us.
 *
 * A position is a slot, 0 to size - 1, and the wrap counter, which flips at the ring's end; the
 * size need not be a power of two. Every chain that is taken is given back at once, in order, so
 * the position of what is available and that of what is used are one.
 *
 * Ordinary packets go a shorter way, many at a time (fast.h); this file's own loops take what is left
 * over, one by one, and everything if there is no such way.
 *
 * Security model
 * --------------
 * All three areas belong to the guest, which may write anything to them at any moment. The flags of
 * a head are loaded once to see whether it is available, which decides nothing else; then each
 * descriptor is loaded once into a local, judged there and used from there (chain.h judges
 * descriptors). Our own position is kept in private memory: what the guest writes over used
 * descriptors is never read back. A buffer's id is the guest's own business and only echoed. Loops
 * are bounded by the burst's length, the ring's size and DYNVHOST_VQ_MAX_SEGS.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_mbuf.h>

#include "chain.h"
#include "copy.h"
#include "defer.h"
#include "dirty.h"
#include "format.h"
#include "net_hdr.h"
#include "packed_fast.h"
#include "packed_resume.h"
#include "rest.h"
#include "virtqueue.h"

#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  (1u << VRING_PACKED_DESC_F_USED)

/** A position in 16 bits, as events (virtio 1.2 §2.8.14) and ring bases have it. */
#define PACKED_WRAP_SHIFT VRING_PACKED_EVENT_F_WRAP_CTR
#define PACKED_SLOT_MASK  ((1u << PACKED_WRAP_SHIFT) - 1)

/** The bits of an event's flags that are not reserved. */
#define PACKED_EVENT_MASK 3u

/** What one burst has done; published and counted at its end. */
struct packed_burst {
	struct dynvhost_vq_packed_pos first; /**< position at the beginning */
	uint16_t first_flags;                /**< flags to be stored there at the end */
	uint16_t slots;                      /**< of the ring, and not yet given back */
	uint32_t packets;
	uint32_t ordinary; /**< of these, how many went the short way */
	uint32_t dropped;
	uint64_t bytes;
};

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

/** Mark the slots of a chain behind its first one as used too; the driver skips them. */
static void
packed_mark_rest(struct dynvhost_vq *vq, uint16_t slots)
{
	struct dynvhost_vq_packed_pos pos = vq->packed.pos;

	while (--slots > 0) {
		packed_advance(vq, &pos, 1);
		vq->packed.desc[pos.slot].flags = packed_used_bits(pos);
	}
}

/** Take the buffer at our position and give it back, @p len bytes written. Not yet published. */
static inline void
packed_push_used(struct dynvhost_vq *vq, struct packed_burst *burst, const struct dynvhost_buf *buf,
	uint32_t len)
{
	struct dynvhost_vq_packed_pos *pos = &vq->packed.pos;
	struct vring_packed_desc *desc = &vq->packed.desc[pos->slot];
	uint16_t flags = packed_used_bits(*pos);

	if (len > 0)
		flags |= VRING_DESC_F_WRITE;
	desc->id = buf->id;
	desc->len = len;
	if (unlikely(buf->slots > 1))
		packed_mark_rest(vq, buf->slots);
	if (burst->slots == vq->size)
		burst->first_flags = flags;
	else
		__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
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

/** Begin a burst. @return false: there is nothing to do. */
static inline bool
packed_burst_begin(struct dynvhost_vq *vq, struct packed_burst *burst)
{
	if (!packed_is_available(vq, vq->packed.pos)) {
		if (unlikely(defer_is_open(vq)))
			dynvhost_vq_defer_settle(vq);
		return false;
	}
	vq->cursor.budget = DYNVHOST_VQ_OPEN_BUDGET;
	*burst = (struct packed_burst){.first = vq->packed.pos, .slots = vq->size};
	return true;
}

/** Whether there is a buffer for the burst, which goes around the ring once at most. */
static inline bool
packed_burst_has_next(const struct dynvhost_vq *vq, const struct packed_burst *burst)
{
	return burst->slots > 0 && packed_is_available(vq, vq->packed.pos);
}

/** Log @p n > 0 descriptors from @p slot on, around the ring's end. */
static void
packed_log_used(const struct dynvhost_vq *vq, uint16_t slot, uint32_t n)
{
	const uint32_t part = RTE_MIN(n, (uint32_t)vq->size - slot);
	const uint64_t desc = sizeof(struct vring_packed_desc);

	dirty_desc(vq, slot * desc, part * desc);
	dirty_desc(vq, 0, (n - part) * desc);
}

/** End a burst: publish what was given back, call the guest if it wants it, and count. */
static inline void
packed_burst_end(struct dynvhost_vq *vq, const struct packed_burst *burst, const bool log)
{
	if (burst->slots != vq->size) {
		if (log)
			packed_log_used(vq, burst->first.slot, vq->size - burst->slots);
		/* Pairs with the driver's read barrier after loading these flags: used descriptors,
		 * and the packets behind them, are visible before them.
		 */
		__atomic_store_n(&vq->packed.desc[burst->first.slot].flags, burst->first_flags,
			__ATOMIC_RELEASE);
		if (log)
			packed_log_used(vq, burst->first.slot, 1);
		if (vq->call_fd >= 0) {
			if (packed_wants_call(vq, burst->first.slot))
				dynvhost_vq_call(vq);
			else
				dynvhost_vq_count(&vq->stats.calls_suppressed, 1);
		}
	}
	dynvhost_vq_count(&vq->stats.packets, burst->packets);
	dynvhost_vq_count(&vq->stats.bytes, burst->bytes);
	dynvhost_vq_count(&vq->stats.dropped, burst->dropped);
	dynvhost_vq_count(&vq->ordinary, burst->ordinary);
}

/**
 * Copy the packet of the chain at our position, which may have @p slots. Nothing is opened before
 * the chain's length is known to be that of a header and a frame, and no mbuf is taken before all
 * of the frame is open.
 *
 * @return 0; a verdict, -EMSGSIZE also for what is too short or too long, or breaks a rule of
 *         offloads; -ENOMEM: no mbufs.
 */
static inline int
packed_dequeue_one(
	struct dynvhost_vq *vq, struct rte_mempool *pool, uint16_t slots, struct rte_mbuf **pkt)
{
	struct dynvhost_chain *chain = vq->chain;
	uint32_t frame;
	int ret;

	chain_reset(chain, DYNVHOST_MEM_READ);
	ret = packed_walk(vq, chain, vq->packed.pos.slot, slots);
	if (unlikely(ret != 0))
		return ret;
	if (unlikely(chain->len < vq->hdr_len + DYNVHOST_VQ_MIN_FRAME ||
		     chain->len > vq->hdr_len + DYNVHOST_VQ_MAX_FRAME))
		return -EMSGSIZE;
	frame = (uint32_t)chain->len - vq->hdr_len;
	ret = chain_resolve(vq, chain, vq->hdr_len + frame);
	if (unlikely(ret != 0))
		return ret;
	return copy_from_guest(vq, frame, pool, pkt);
}

/** @p n <= burst->slots buffers of one descriptor each have been given back the short way. */
static inline void
packed_step(struct dynvhost_vq *vq, struct packed_burst *burst, uint16_t n, uint16_t used_flags)
{
	if (burst->slots == vq->size)
		burst->first_flags = used_flags;
	packed_advance(vq, &vq->packed.pos, n);
	burst->slots -= n;
	burst->packets += n;
	burst->ordinary += n;
}

/** Take ordinary packets the short way, up to @p n. @return how many. */
static inline uint16_t
packed_dequeue_ordinary(struct dynvhost_vq *vq, struct packed_burst *burst,
	struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t all = 0;

	if (unlikely(vq->fast == NULL))
		return 0;
	while (all < n && burst->slots > 0) {
		uint16_t flags = packed_fast_used_flags(vq->packed.pos.wrap);
		uint16_t taken = packed_fast_dequeue(vq, pool, &pkts[all],
			RTE_MIN(n - all, burst->slots), burst->slots == vq->size, flags,
			&burst->bytes);

		if (taken == 0)
			break;
		packed_step(vq, burst, taken, flags);
		all += taken;
	}
	return all;
}

/** Move packets from the guest to the host. */
static inline uint16_t
packed_dequeue_burst(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, const bool log)
{
	struct packed_burst burst;
	uint16_t left;

	if (rest_is_on(vq))
		return 0;
	if (!packed_burst_begin(vq, &burst)) {
		rest_note_nothing(vq);
		return 0;
	}
	rest_end(vq);
	for (left = n; left > 0; left--) {
		struct rte_mbuf **pkt = &pkts[burst.packets];
		int ret;

		left -= packed_dequeue_ordinary(vq, &burst, pool, pkt, left);
		if (left == 0 || !packed_burst_has_next(vq, &burst))
			break;
		pkt = &pkts[burst.packets];
		ret = packed_dequeue_one(vq, pool, burst.slots, pkt);
		if (likely(ret == 0)) {
			burst.packets++;
			burst.bytes += (*pkt)->pkt_len;
		} else if (ret == -EMSGSIZE) {
			burst.dropped++;
		} else if (ret == -EAGAIN) {
			if (!dynvhost_vq_is_stalled(vq))
				break;
			dynvhost_vq_count(&vq->stats.stalled, 1);
		} else if (ret == -ENOMEM) {
			dynvhost_vq_count(&vq->stats.no_mbuf, 1);
			break;
		} else {
			dynvhost_vq_mark_broken(vq, (enum dynvhost_vq_fault)ret);
			break;
		}
		packed_push_used(vq, &burst, &vq->chain->buf[0], 0);
	}
	packed_burst_end(vq, &burst, log);
	return (uint16_t)burst.packets;
}

static uint16_t
packed_dequeue_plain(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_dequeue_burst(vq, pool, pkts, n, false);
}

static uint16_t
packed_dequeue_logged(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_dequeue_burst(vq, pool, pkts, n, true);
}

/** Give back what the guest sends on a disabled ring, up to @p n chains. No packet is looked at. */
static inline uint16_t
packed_discard_burst(struct dynvhost_vq *vq, uint16_t n, const bool log)
{
	struct packed_burst burst;
	uint16_t left;

	if (!packed_burst_begin(vq, &burst))
		return 0;
	for (left = n; left > 0 && packed_burst_has_next(vq, &burst); left--) {
		struct dynvhost_buf buf;
		int ret = packed_measure(vq, vq->packed.pos.slot, burst.slots, &buf);

		if (unlikely(ret != 0)) {
			dynvhost_vq_mark_broken(vq, (enum dynvhost_vq_fault)ret);
			break;
		}
		packed_push_used(vq, &burst, &buf, 0);
	}
	dynvhost_vq_count(&vq->stats.discarded, (uint16_t)(n - left));
	packed_burst_end(vq, &burst, log);
	return 0;
}

static uint16_t
packed_discard_plain(struct dynvhost_vq *vq, __rte_unused struct rte_mempool *pool,
	__rte_unused struct rte_mbuf **pkts, uint16_t n)
{
	return packed_discard_burst(vq, n, false);
}

static uint16_t
packed_discard_logged(struct dynvhost_vq *vq, __rte_unused struct rte_mempool *pool,
	__rte_unused struct rte_mbuf **pkts, uint16_t n)
{
	return packed_discard_burst(vq, n, true);
}

/**
 * Gather the buffers that @p need bytes of header and packet go into: one, or as many as it takes
 * where buffers are merged.
 *
 * @return 0; a verdict, -EMSGSIZE also for a packet that these buffers can never take; -ENOBUFS:
 *         the driver may add what is missing.
 */
static inline int
packed_gather(struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint16_t slots, uint32_t need,
	const bool mergeable)
{
	struct dynvhost_vq_packed_pos pos = vq->packed.pos;
	const struct dynvhost_buf *buf = chain->buf;
	uint32_t left = slots;
	int ret;

	chain_reset(chain, DYNVHOST_MEM_WRITE);
	do {
		if (unlikely(left == 0))
			return slots == vq->size ? -EMSGSIZE : -ENOBUFS;
		if (unlikely(!packed_is_available(vq, pos)))
			return -ENOBUFS;
		ret = packed_walk(vq, chain, pos.slot, left);
		if (unlikely(ret != 0))
			return ret;
		/* The header is not spread over buffers (virtio 1.2 §5.1.6.3.1). */
		if (unlikely(chain->n_bufs == 1 && chain->len < vq->hdr_len))
			return -EMSGSIZE;
		packed_advance(vq, &pos, buf->slots);
		left -= buf->slots;
		buf++;
	} while (mergeable && chain->len < need);
	return likely(chain->len >= need) ? 0 : -EMSGSIZE;
}

/** Give back all buffers of the packet in work, @p len bytes written: each full but the last. */
static inline void
packed_push_bufs(struct dynvhost_vq *vq, struct packed_burst *burst, uint32_t len)
{
	const struct dynvhost_chain *chain = vq->chain;
	uint32_t part;
	uint32_t i;

	for (i = 0; i < chain->n_bufs; i++) {
		part = (uint32_t)RTE_MIN(len, chain->buf[i].len);
		packed_push_used(vq, burst, &chain->buf[i], part);
		len -= part;
	}
}

/**
 * Copy one packet into the next buffers. Nothing is written before all of it is open.
 *
 * @return 0, or as packed_gather(); on anything but 0 no buffer has been taken.
 */
static inline int
packed_enqueue_one(struct dynvhost_vq *vq, struct packed_burst *burst, const struct rte_mbuf *pkt,
	const bool mergeable, const bool log)
{
	struct dynvhost_chain *chain = vq->chain;
	uint32_t need;
	int ret;

	if (unlikely(pkt->pkt_len > DYNVHOST_VQ_MAX_FRAME))
		return -EMSGSIZE;
	need = vq->hdr_len + net_hdr_packet_len(pkt);
	ret = packed_gather(vq, chain, burst->slots, need, mergeable);
	if (unlikely(ret != 0))
		return ret;
	ret = chain_resolve(vq, chain, need);
	if (unlikely(ret != 0))
		return ret;
	ret = copy_to_guest(vq, pkt);
	if (unlikely(ret != 0))
		return ret;
	if (log)
		dirty_chain(vq, chain, need);
	packed_push_bufs(vq, burst, need);
	return 0;
}

/** Send ordinary packets the short way, up to @p n. @return how many. */
static inline uint16_t
packed_enqueue_ordinary(
	struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t all = 0;

	if (unlikely(vq->fast == NULL))
		return 0;
	while (all < n && burst->slots > 0) {
		uint16_t flags = packed_fast_used_flags(vq->packed.pos.wrap) | VRING_DESC_F_WRITE;
		uint16_t taken = packed_fast_enqueue(vq, &pkts[all], RTE_MIN(n - all, burst->slots),
			burst->slots == vq->size, flags, &burst->bytes);

		if (taken == 0)
			break;
		packed_step(vq, burst, taken, flags);
		all += taken;
	}
	return all;
}

/** Move packets from the host to the guest. */
static inline uint16_t
packed_enqueue_burst(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n,
	const bool mergeable, const bool log)
{
	struct packed_burst burst;
	uint16_t i = 0;

	if (!packed_burst_begin(vq, &burst))
		return 0;
	for (;;) {
		int ret;

		i += packed_enqueue_ordinary(vq, &burst, &pkts[i], n - i);
		if (i == n || !packed_burst_has_next(vq, &burst))
			break;
		ret = packed_enqueue_one(vq, &burst, pkts[i], mergeable, log);
		if (likely(ret == 0)) {
			burst.packets++;
			burst.bytes += pkts[i]->pkt_len;
		} else if (ret == -EMSGSIZE) {
			burst.dropped++;
		} else if (ret == -ENOBUFS) {
			break;
		} else if (ret == -EAGAIN) {
			if (!dynvhost_vq_is_stalled(vq))
				break;
			/* The packet waits for the buffers behind these. */
			dynvhost_vq_count(&vq->stats.stalled, vq->chain->n_bufs);
			packed_push_bufs(vq, &burst, 0);
			continue;
		} else {
			dynvhost_vq_mark_broken(vq, (enum dynvhost_vq_fault)ret);
			break;
		}
		rte_pktmbuf_free(pkts[i++]);
	}
	packed_burst_end(vq, &burst, log);
	return i;
}

static uint16_t
packed_enqueue_mergeable(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_enqueue_burst(vq, pkts, n, true, false);
}

static uint16_t
packed_enqueue_single(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_enqueue_burst(vq, pkts, n, false, false);
}

static uint16_t
packed_enqueue_mergeable_logged(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_enqueue_burst(vq, pkts, n, true, true);
}

static uint16_t
packed_enqueue_single_logged(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_enqueue_burst(vq, pkts, n, false, true);
}

static int
packed_layout(uint32_t size, __rte_unused uint64_t features, struct dynvhost_vq_layout *layout)
{
	if (size == 0 || size > DYNVHOST_VQ_MAX_SIZE)
		return -EINVAL;

	layout->desc.len = (uint64_t)size * sizeof(struct vring_packed_desc);
	layout->desc.align = VRING_DESC_ALIGN_SIZE;
	layout->desc.right = DYNVHOST_MEM_WRITE;
	layout->avail.len = sizeof(struct vring_packed_desc_event);
	layout->avail.align = sizeof(struct vring_packed_desc_event);
	layout->avail.right = DYNVHOST_MEM_READ;
	layout->used.len = sizeof(struct vring_packed_desc_event);
	layout->used.align = sizeof(struct vring_packed_desc_event);
	layout->used.right = DYNVHOST_MEM_WRITE;
	return 0;
}

static void
packed_attach(struct dynvhost_vq *vq, const struct dynvhost_vq_pins *pins)
{
	vq->packed.desc = pins->desc.hva;
	vq->packed.driver_event = pins->avail.hva;
	vq->packed.device_event = pins->used.hva;
}

/* All kicks or none: where there are event positions, too, ours is not used as one. */
static void
packed_set_kicks(struct dynvhost_vq *vq, bool kicks)
{
	__atomic_store_n(&vq->packed.device_event->flags,
		kicks ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE,
		__ATOMIC_RELEASE);
	if (vq->log.log != NULL)
		dirty_used(vq, 0, sizeof(*vq->packed.device_event));
}

/*
 * A base is two positions: what was taken in its lower half, what was given back in its upper half.
 * Front-ends of 16 bits leave the upper half 0: theirs is one position. Where the halves differ, a
 * back-end went away with buffers in its hands, and we begin with what was given back: there the
 * driver looks for the next used descriptor, and nowhere else. In a ring used in order, as network
 * devices use theirs, the descriptors from there on are as the driver wrote them, so these buffers
 * are taken once more: a packet may be sent twice, none is lost.
 *
 * In a ring that bears our mark the descriptors know better (packed_resume.h).
 */
static int
packed_begin(struct dynvhost_vq *vq, uint32_t base)
{
	struct dynvhost_vq_packed *packed = &vq->packed;
	uint16_t taken = (uint16_t)base;
	uint16_t given = (uint16_t)(base >> 16);
	int ret;

	if (given == 0)
		given = taken;
	if ((taken & PACKED_SLOT_MASK) >= vq->size || (given & PACKED_SLOT_MASK) >= vq->size)
		return -EINVAL;
	packed->pos.slot = given & PACKED_SLOT_MASK;
	packed->pos.wrap = (given >> PACKED_WRAP_SHIFT) != 0;
	if (__atomic_load_n(&packed->device_event->off_wrap, __ATOMIC_RELAXED) ==
		PACKED_RESUME_MARK) {
		ret = packed_resume(packed->desc, vq->size, &packed->pos);
		if (ret < 0)
			return ret;
		if (ret > 0 && vq->log.log != NULL)
			packed_log_used(vq, 0, vq->size);
	}

	__atomic_store_n(&packed->device_event->off_wrap, PACKED_RESUME_MARK, __ATOMIC_RELAXED);
	packed_set_kicks(vq, vq->kicks);
	return 0;
}

static uint32_t
packed_position(const struct dynvhost_vq *vq)
{
	const struct dynvhost_vq_packed_pos pos = vq->packed.pos;
	uint32_t half = pos.slot | (uint32_t)pos.wrap << PACKED_WRAP_SHIFT;

	return half << 16 | half;
}

/* Counts chain by chain: the driver's own position can not be seen in the ring. */
static uint16_t
packed_pending(const struct dynvhost_vq *vq)
{
	struct dynvhost_vq_packed_pos pos = vq->packed.pos;
	uint32_t left = vq->size;
	uint16_t n = 0;

	while (left > 0 && packed_is_available(vq, pos)) {
		struct dynvhost_buf buf;

		n++;
		if (packed_measure(vq, pos.slot, left, &buf) != 0)
			break;
		packed_advance(vq, &pos, buf.slots);
		left -= buf.slots;
	}
	return n;
}

static dynvhost_vq_dequeue_t
packed_choose_dequeue(const struct dynvhost_vq *vq)
{
	if (vq->log.log != NULL)
		return vq->enabled ? packed_dequeue_logged : packed_discard_logged;
	return vq->enabled ? packed_dequeue_plain : packed_discard_plain;
}

static dynvhost_vq_enqueue_t
packed_choose_enqueue(const struct dynvhost_vq *vq)
{
	if (vq->log.log != NULL)
		return vq->mergeable ? packed_enqueue_mergeable_logged
				     : packed_enqueue_single_logged;
	return vq->mergeable ? packed_enqueue_mergeable : packed_enqueue_single;
}

const struct dynvhost_vq_format dynvhost_packed_format = {
	.feature = 1ULL << VIRTIO_F_RING_PACKED,
	.layout = packed_layout,
	.attach = packed_attach,
	.begin = packed_begin,
	.set_kicks = packed_set_kicks,
	.position = packed_position,
	.pending = packed_pending,
	.wants_call = packed_flags_want_call,
	.choose_dequeue = packed_choose_dequeue,
	.choose_enqueue = packed_choose_enqueue,
};
