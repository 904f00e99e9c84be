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
 * are written as it goes, but the first one last, and that publishes the burst.
 *
 * Where the driver negotiates IN_ORDER, the first used descriptor of a burst stands for all of what
 * the guest sent: it bears the id of the last buffer (virtio 1.2 §2.8.8), and the driver goes on
 * behind that one without fetching the lines between. The other buffers get theirs all the same, for
 * only so do the descriptors tell where we are, should we not live to say it (packed_resume.h). What
 * the guest receives is given back one by one: packets need their lengths.
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
 * a head are loaded to see whether it is available, which decides nothing else (nor does whether one
 * further on is there, packed_ripe.h); then each descriptor is loaded once into a local, judged there
 * and used from there (chain.h judges descriptors). Our own position is kept in private memory: what the guest writes over used
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

#include "burst.h"
#include "chain.h"
#include "copy.h"
#include "defer.h"
#include "dirty.h"
#include "format.h"
#include "net_hdr.h"
#include "packed_fast.h"
#include "packed_resume.h"
#include "packed_ripe.h"
#include "packed_steps.h"
#include "rest.h"
#include "virtqueue.h"

/** Begin a burst. @return false: there is nothing to do. */
static __rte_always_inline bool
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
static __rte_always_inline bool
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
static __rte_always_inline void
packed_burst_end(struct dynvhost_vq *vq, struct packed_burst *burst, const bool log)
{
	if (burst->slots != vq->size) {
		if (log)
			packed_log_used(vq, burst->first.slot, vq->size - burst->slots);
		if (vq->packed.batches)
			burst->first_word.id = burst->last_id;
		/* Pairs with the driver's read barrier after loading these flags: used descriptors,
		 * and the packets behind them, are visible before them.
		 */
		__atomic_store_n(packed_word_of(&vq->packed.desc[burst->first.slot]),
			burst->first_word.all, __ATOMIC_RELEASE);
		if (log)
			packed_log_used(vq, burst->first.slot, 1);
		if (vq->call_fd >= 0) {
			if (packed_wants_call(vq, burst->first.slot))
				dynvhost_vq_call(vq);
			else
				dynvhost_vq_count(&vq->stats.calls_suppressed, 1);
		}
	}
	burst_count(vq, &burst->sum);
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

/** Take ordinary packets the short way, up to @p n. @return how many. */
static __rte_always_inline uint16_t
packed_dequeue_ordinary(struct dynvhost_vq *vq, struct packed_burst *burst,
	struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t all = 0;

	if (unlikely(vq->fast == NULL))
		return 0;
	while (all < n && burst->slots > 0) {
		uint16_t taken = packed_fast_dequeue(vq, burst, pool, &pkts[all], n - all);

		if (taken == 0)
			break;
		all += taken;
	}
	return all;
}

/** Take the next chain, which is no ordinary packet. @return false: the burst is over. */
static bool
packed_dequeue_next(struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mempool *pool,
	struct rte_mbuf **pkt)
{
	int ret = packed_dequeue_one(vq, pool, burst->slots, pkt);

	if (!burst_took(vq, &burst->sum, ret, pkt))
		return false;
	packed_push_used(vq, burst, &vq->chain->buf[0], 0);
	return true;
}

/** Go on with a burst whose next chain is no ordinary packet, until @p left more have been taken. */
static __rte_noinline void
packed_dequeue_rest(struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mempool *pool,
	struct rte_mbuf **pkts, uint16_t left)
{
	while (packed_dequeue_next(vq, burst, pool, &pkts[burst->sum.packets]) && --left > 0) {
		left -= packed_dequeue_ordinary(vq, burst, pool, &pkts[burst->sum.packets], left);
		if (left == 0 || !packed_burst_has_next(vq, burst))
			break;
	}
}

/** Move packets from the guest to the host. */
static __rte_always_inline uint16_t
packed_dequeue_burst(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, const bool log)
{
	struct packed_burst burst;
	uint16_t taken;

	if (!packed_is_ripe(vq, n))
		return 0;
	if (!packed_burst_begin(vq, &burst)) {
		rest_note_nothing(vq);
		return 0;
	}
	rest_end(vq);
	taken = packed_dequeue_ordinary(vq, &burst, pool, pkts, n);
	if (taken < n && packed_burst_has_next(vq, &burst))
		packed_dequeue_rest(vq, &burst, pool, pkts, n - taken);
	packed_ripe_note(vq, burst.sum.packets);
	give_back_note(vq, burst.sum.packets);
	packed_burst_end(vq, &burst, log);
	return (uint16_t)burst.sum.packets;
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
packed_gather(struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint16_t slots, uint32_t need)
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
	} while (vq->mergeable && chain->len < need);
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
packed_enqueue_one(
	struct dynvhost_vq *vq, struct packed_burst *burst, const struct rte_mbuf *pkt, bool log)
{
	struct dynvhost_chain *chain = vq->chain;
	uint32_t need;
	int ret;

	if (unlikely(pkt->pkt_len > DYNVHOST_VQ_MAX_FRAME))
		return -EMSGSIZE;
	need = vq->hdr_len + net_hdr_packet_len(pkt);
	ret = packed_gather(vq, chain, burst->slots, need);
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
static __rte_always_inline uint16_t
packed_enqueue_ordinary(
	struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t all = 0;

	if (unlikely(vq->fast == NULL))
		return 0;
	while (all < n && burst->slots > 0) {
		uint16_t taken = packed_fast_enqueue(vq, burst, &pkts[all], n - all);

		if (taken == 0)
			break;
		all += taken;
	}
	return all;
}

/** Send a packet that is not ordinary, or into such buffers. @return false: the burst is over. */
static bool
packed_enqueue_next(
	struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mbuf *pkt, bool log)
{
	int ret;

	do {
		ret = packed_enqueue_one(vq, burst, pkt, log);
		if (ret != -EAGAIN)
			break;
		if (!dynvhost_vq_is_stalled(vq))
			return false;
		/* The packet waits for the buffers behind these. */
		dynvhost_vq_count(&vq->stats.stalled, vq->chain->n_bufs);
		packed_push_bufs(vq, burst, 0);
	} while (packed_burst_has_next(vq, burst));
	return burst_sent(vq, &burst->sum, ret, pkt);
}

/**
 * Go on with a burst from its @p i th packet, which is not ordinary or has no such buffer. @return how
 * many of its @p n packets are gone.
 */
static __rte_noinline uint16_t
packed_enqueue_rest(struct dynvhost_vq *vq, struct packed_burst *burst, struct rte_mbuf **pkts,
	uint16_t i, uint16_t n, bool log)
{
	while (i < n && packed_burst_has_next(vq, burst) &&
		packed_enqueue_next(vq, burst, pkts[i], log)) {
		i++;
		i += packed_enqueue_ordinary(vq, burst, &pkts[i], n - i);
	}
	return i;
}

/** Move packets from the host to the guest. */
static __rte_always_inline uint16_t
packed_enqueue_burst(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n, const bool log)
{
	struct packed_burst burst;
	uint16_t done;

	if (!packed_burst_begin(vq, &burst))
		return 0;
	done = packed_enqueue_ordinary(vq, &burst, pkts, n);
	if (unlikely(done < n))
		done = packed_enqueue_rest(vq, &burst, pkts, done, n, log);
	packed_burst_end(vq, &burst, log);
	return done;
}

static uint16_t
packed_enqueue_plain(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_enqueue_burst(vq, pkts, n, false);
}

static uint16_t
packed_enqueue_logged(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return packed_enqueue_burst(vq, pkts, n, true);
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
	vq->packed.ripe = (struct dynvhost_vq_ripe){.expected = 0};
	vq->packed.batches = (vq->features & (1ULL << VIRTIO_F_IN_ORDER)) && (vq->index & 1);
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
		ret = packed_resume(packed->desc, vq->size, !(vq->index & 1), &packed->pos);
		if (ret != 0)
			return ret;
		/* Not only what was written now: who has died may have logged nothing of his. */
		if (vq->log.log != NULL)
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

static const struct dynvhost_mem_pin *
packed_watched(const struct dynvhost_vq_pins *pins)
{
	return &pins->desc;
}

/* As packed_is_available() sees it. */
static void
packed_monitor(const struct dynvhost_vq *vq, struct dynvhost_vq_monitor *monitor)
{
	const struct dynvhost_vq_packed_pos pos = vq->packed.pos;

	*monitor = (struct dynvhost_vq_monitor){
		.addr = &vq->packed.desc[pos.slot].flags,
		.size = sizeof(vq->packed.desc[pos.slot].flags),
		.equal = true,
		.mask = PACKED_AVAIL | PACKED_USED,
		.value = pos.wrap ? PACKED_AVAIL : PACKED_USED,
	};
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
	return vq->log.log != NULL ? packed_enqueue_logged : packed_enqueue_plain;
}

const struct dynvhost_vq_format dynvhost_packed_format = {
	.feature = 1ULL << VIRTIO_F_RING_PACKED,
	.layout = packed_layout,
	.attach = packed_attach,
	.begin = packed_begin,
	.set_kicks = packed_set_kicks,
	.position = packed_position,
	.pending = packed_pending,
	.watched = packed_watched,
	.monitor = packed_monitor,
	.wants_call = packed_flags_want_call,
	.choose_dequeue = packed_choose_dequeue,
	.choose_enqueue = packed_choose_enqueue,
};
