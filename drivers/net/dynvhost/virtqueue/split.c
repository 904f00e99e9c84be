/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The split ring (virtio 1.2 §2.7), from the device's side.
 *
 * Theory of operation
 * -------------------
 * Every burst has the same shape. It looks once how many chains are available. For each chain it
 * peeks at the head, walks the descriptors, resolves the bytes that the packet uses to host memory,
 * copies, and puts the chain into the used ring. Only then does it step on; a burst that ends
 * half-way leaves the chain where it was, to be peeked at again. At its end the burst publishes the
 * used index once, and calls the guest once, if the guest wants it.
 *
 * Ordinary packets go a shorter way, many at a time (fast.h); this file's own loops take what is left
 * over, one by one, and everything if there is no such way.
 *
 * Both indices run free modulo 2^16; the ring's size is a power of two that divides this. Every
 * chain that is taken is given back at once, in order, so the two positions move together.
 *
 * Security model
 * --------------
 * All three areas belong to the guest, which may write anything to them at any moment. The available
 * index, a head and a descriptor are each loaded once into a local, judged there and used from
 * there (chain.h judges descriptors). Our own positions are kept in private memory: what the guest
 * writes into the used ring is never read back, save once when the ring starts. Loops are bounded by
 * the burst's length, the ring's size and DYNVHOST_VQ_MAX_SEGS.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_ring.h>
#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "burst.h"
#include "chain.h"
#include "copy.h"
#include "defer.h"
#include "dirty.h"
#include "format.h"
#include "net_hdr.h"
#include "rest.h"
#include "split_fast.h"
#include "split_steps.h"
#include "virtqueue.h"

/** Begin a burst. @return how many chains are available; 0: there is nothing to do. */
static __rte_always_inline uint16_t
split_burst_begin(struct dynvhost_vq *vq)
{
	const uint16_t distance = split_distance(vq);

	if (distance == 0) {
		if (unlikely(defer_is_open(vq)))
			dynvhost_vq_defer_settle(vq);
		return 0;
	}
	if (unlikely(distance > vq->size)) {
		dynvhost_vq_mark_broken(vq, DYNVHOST_VQ_BAD_AVAIL);
		return 0;
	}
	vq->cursor.budget = DYNVHOST_VQ_OPEN_BUDGET;
	return distance;
}

/** Log the used elements from @p first on that have been written, and the index behind them. */
static void
split_log_used(const struct dynvhost_vq *vq, uint16_t first)
{
	const uint32_t slot = first & (vq->size - 1u);
	const uint32_t n = (uint16_t)(vq->split.last_used - first);
	const uint32_t part = RTE_MIN(n, vq->size - slot);
	const uint64_t elem = sizeof(struct vring_used_elem);

	dirty_used(vq, offsetof(struct vring_used, ring) + slot * elem, part * elem);
	dirty_used(vq, offsetof(struct vring_used, ring), (n - part) * elem);
	dirty_used(vq, offsetof(struct vring_used, idx), sizeof(uint16_t));
}

/** Publish what was given back from @p first on, and call the guest if it wants it. */
static __rte_always_inline void
split_publish(struct dynvhost_vq *vq, uint16_t first, const bool log)
{
	if (log)
		split_log_used(vq, first);
	/* Pairs with the driver's read barrier after loading the index: used elements, and the
	 * packets behind them, are visible before it.
	 */
	__atomic_store_n(&vq->split.used->idx, vq->split.last_used, __ATOMIC_RELEASE);
	if (log)
		dirty_used(vq, offsetof(struct vring_used, idx), sizeof(uint16_t));
	if (vq->call_fd < 0)
		return;
	if (split_wants_call(vq, first))
		dynvhost_vq_call(vq);
	else
		dynvhost_vq_count(&vq->stats.calls_suppressed, 1);
}

/** End a burst of ordinary packets alone. */
static __rte_always_inline void
split_burst_end(struct dynvhost_vq *vq, uint16_t packets, uint64_t bytes, const bool log)
{
	split_publish(vq, (uint16_t)(vq->split.last_used - packets), log);
	dynvhost_vq_count(&vq->stats.packets, packets);
	dynvhost_vq_count(&vq->stats.bytes, bytes);
	dynvhost_vq_count(&vq->ordinary, packets);
}

/** End any other burst. */
static void
split_burst_end_rest(struct dynvhost_vq *vq, const struct split_burst *burst, bool log)
{
	if (vq->split.last_used != burst->first)
		split_publish(vq, burst->first, log);
	burst_count(vq, &burst->sum);
}

/**
 * Copy the packet of one chain. Nothing is opened before the chain's length is known to be that of a
 * header and a frame, and no mbuf is taken before all of the frame is open.
 *
 * @return 0; a verdict, -EMSGSIZE also for what is too short or too long, or breaks a rule of
 *         offloads; -ENOMEM: no mbufs.
 */
static inline int
split_dequeue_one(
	struct dynvhost_vq *vq, struct rte_mempool *pool, uint16_t head, struct rte_mbuf **pkt)
{
	struct dynvhost_chain *chain = vq->chain;
	uint32_t frame;
	int ret;

	chain_reset(chain, DYNVHOST_MEM_READ);
	ret = split_walk(vq, chain, head);
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

/** Take ordinary packets the short way, up to @p n. @return how many; their bytes in @p bytes. */
static __rte_always_inline uint16_t
split_dequeue_ordinary(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, uint64_t *bytes)
{
	uint16_t all = 0, taken;

	if (unlikely(vq->fast == NULL))
		return 0;
	if (n == 1)
		return split_fast_dequeue_one(vq, pool, pkts, bytes);
	do {
		taken = split_fast_dequeue(vq, pool, &pkts[all], n - all, bytes);
		all += taken;
	} while (unlikely(taken == FAST_BATCH && all < n));
	return all;
}

/** Take the next chain, which is no ordinary packet. @return false: the burst is over. */
static bool
split_dequeue_next(struct dynvhost_vq *vq, struct split_burst *burst, struct rte_mempool *pool,
	struct rte_mbuf **pkt)
{
	const uint16_t head = split_peek(vq, 0);
	int ret = split_dequeue_one(vq, pool, head, pkt);

	if (!burst_took(vq, &burst->sum, ret, pkt))
		return false;
	split_push_used(vq, burst, head, 0);
	return true;
}

/**
 * Go on with a burst whose next chain is no ordinary packet, until @p left more have been taken, and
 * end it. @return how many packets it has in all.
 */
static __rte_noinline uint16_t
split_dequeue_rest(struct dynvhost_vq *vq, struct split_burst burst, struct rte_mempool *pool,
	struct rte_mbuf **pkts, uint16_t left, bool log)
{
	uint16_t taken;

	while (split_dequeue_next(vq, &burst, pool, &pkts[burst.sum.packets]) && --left > 0) {
		taken = split_dequeue_ordinary(
			vq, pool, &pkts[burst.sum.packets], left, &burst.sum.bytes);
		burst.sum.packets += taken;
		burst.sum.ordinary += taken;
		left -= taken;
		if (left == 0)
			break;
	}
	split_burst_end_rest(vq, &burst, log);
	return (uint16_t)burst.sum.packets;
}

/**
 * The burst has found @p available > 0 chains. Apart from the look that finds nothing, which is what
 * most looks at most ports are, and which needs no registers saved.
 */
static __rte_noinline uint16_t
split_dequeue_found(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, uint16_t available, bool log)
{
	uint64_t bytes = 0;
	uint16_t taken;

	/* Most drivers take descriptors in turn: it need not wait for the available ring's entry. */
	rte_prefetch0(&vq->split.desc[vq->split.next_head & (vq->size - 1u)]);
	rest_end(vq);
	n = RTE_MIN(n, available);
	if (unlikely(n == 0))
		return 0;
	taken = split_dequeue_ordinary(vq, pool, pkts, n, &bytes);
	if (unlikely(taken < n))
		taken = split_dequeue_rest(vq, split_burst_of(vq, available, taken, bytes), pool,
			pkts, n - taken, log);
	else
		split_burst_end(vq, taken, bytes, log);
	give_back_note(vq, taken);
	return taken;
}

/** Move packets from the guest to the host. */
static __rte_always_inline uint16_t
split_dequeue_burst(struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts,
	uint16_t n, const bool log)
{
	uint16_t available;

	available = split_burst_begin(vq);
	if (available != 0)
		return split_dequeue_found(vq, pool, pkts, n, available, log);
	rest_note_nothing(vq);
	return 0;
}

static uint16_t
split_dequeue_plain(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	return split_dequeue_burst(vq, pool, pkts, n, false);
}

static uint16_t
split_dequeue_logged(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	return split_dequeue_burst(vq, pool, pkts, n, true);
}

/** Give back what the guest sends on a disabled ring, up to @p n chains. No packet is looked at. */
static inline uint16_t
split_discard_burst(struct dynvhost_vq *vq, uint16_t n, const bool log)
{
	struct split_burst burst = split_burst_of(vq, split_burst_begin(vq), 0, 0);
	uint16_t left;

	for (left = RTE_MIN(n, burst.available); left > 0; left--) {
		uint16_t head = split_peek(vq, 0);

		if (unlikely(head >= vq->size)) {
			dynvhost_vq_mark_broken(vq, DYNVHOST_VQ_BAD_HEAD);
			break;
		}
		split_push_used(vq, &burst, head, 0);
	}
	dynvhost_vq_count(&vq->stats.discarded, (uint16_t)(vq->split.last_used - burst.first));
	split_burst_end_rest(vq, &burst, log);
	return 0;
}

static uint16_t
split_discard_plain(struct dynvhost_vq *vq, __rte_unused struct rte_mempool *pool,
	__rte_unused struct rte_mbuf **pkts, uint16_t n)
{
	return split_discard_burst(vq, n, false);
}

static uint16_t
split_discard_logged(struct dynvhost_vq *vq, __rte_unused struct rte_mempool *pool,
	__rte_unused struct rte_mbuf **pkts, uint16_t n)
{
	return split_discard_burst(vq, n, true);
}

/**
 * Gather the buffers that @p need bytes of header and packet go into: one, or as many as it takes
 * where buffers are merged.
 *
 * @return 0; a verdict, -EMSGSIZE also for a packet that these buffers can never take; -ENOBUFS:
 *         the driver may add what is missing.
 */
static inline int
split_gather(
	struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint16_t available, uint32_t need)
{
	int ret;

	chain_reset(chain, DYNVHOST_MEM_WRITE);
	do {
		if (unlikely(chain->n_bufs == available))
			return available == vq->size ? -EMSGSIZE : -ENOBUFS;
		ret = split_walk(vq, chain, split_peek(vq, chain->n_bufs));
		if (unlikely(ret != 0))
			return ret;
		/* The header is not spread over buffers (virtio 1.2 §5.1.6.3.1). */
		if (unlikely(chain->n_bufs == 1 && chain->len < vq->hdr_len))
			return -EMSGSIZE;
	} while (vq->mergeable && chain->len < need);
	return likely(chain->len >= need) ? 0 : -EMSGSIZE;
}

/** Give back all buffers of the packet in work, @p len bytes written: each full but the last. */
static inline void
split_push_bufs(struct dynvhost_vq *vq, struct split_burst *burst, uint32_t len)
{
	const struct dynvhost_chain *chain = vq->chain;
	uint32_t part;
	uint32_t i;

	for (i = 0; i < chain->n_bufs; i++) {
		part = (uint32_t)RTE_MIN(len, chain->buf[i].len);
		split_push_used(vq, burst, chain->buf[i].id, part);
		len -= part;
	}
}

/**
 * Copy one packet into the next buffers. Nothing is written before all of it is open.
 *
 * @return 0, or as split_gather(); on anything but 0 no buffer has been taken.
 */
static inline int
split_enqueue_one(
	struct dynvhost_vq *vq, struct split_burst *burst, const struct rte_mbuf *pkt, bool log)
{
	struct dynvhost_chain *chain = vq->chain;
	uint32_t need;
	int ret;

	if (unlikely(pkt->pkt_len > DYNVHOST_VQ_MAX_FRAME))
		return -EMSGSIZE;
	need = vq->hdr_len + net_hdr_packet_len(pkt);
	ret = split_gather(vq, chain, burst->available, need);
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
	split_push_bufs(vq, burst, need);
	return 0;
}

/** Send ordinary packets the short way, up to @p n. @return how many; their bytes in @p bytes. */
static __rte_always_inline uint16_t
split_enqueue_ordinary(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n, uint64_t *bytes)
{
	uint16_t all = 0, taken;

	if (unlikely(vq->fast == NULL))
		return 0;
	do {
		taken = split_fast_enqueue(vq, &pkts[all], n - all, bytes);
		all += taken;
	} while (unlikely(taken == FAST_BATCH && all < n));
	return all;
}

/** Send a packet that is not ordinary, or into such buffers. @return false: the burst is over. */
static bool
split_enqueue_next(
	struct dynvhost_vq *vq, struct split_burst *burst, struct rte_mbuf *pkt, bool log)
{
	int ret;

	do {
		ret = split_enqueue_one(vq, burst, pkt, log);
		if (ret != -EAGAIN)
			break;
		if (!dynvhost_vq_is_stalled(vq))
			return false;
		/* The packet waits for the buffers behind these. */
		dynvhost_vq_count(&vq->stats.stalled, vq->chain->n_bufs);
		split_push_bufs(vq, burst, 0);
	} while (burst->available > 0);
	return burst_sent(vq, &burst->sum, ret, pkt);
}

/**
 * Go on with a burst from its @p i th packet, which is not ordinary or has no such buffer, and end
 * it. @return how many of its @p n packets are gone.
 */
static __rte_noinline uint16_t
split_enqueue_rest(struct dynvhost_vq *vq, struct split_burst burst, struct rte_mbuf **pkts,
	uint16_t i, uint16_t n, bool log)
{
	uint16_t taken;

	while (i < n && burst.available > 0 && split_enqueue_next(vq, &burst, pkts[i], log)) {
		i++;
		taken = split_enqueue_ordinary(
			vq, &pkts[i], RTE_MIN(n - i, burst.available), &burst.sum.bytes);
		burst.sum.packets += taken;
		burst.sum.ordinary += taken;
		burst.available -= taken;
		i += taken;
	}
	split_burst_end_rest(vq, &burst, log);
	return i;
}

/** Move packets from the host to the guest. */
static __rte_always_inline uint16_t
split_enqueue_burst(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n, const bool log)
{
	const uint16_t available = split_burst_begin(vq);
	const uint16_t most = RTE_MIN(n, available);
	uint64_t bytes = 0;
	uint16_t taken;

	if (most == 0)
		return 0;
	taken = split_enqueue_ordinary(vq, pkts, most, &bytes);
	if (unlikely(taken < most))
		return split_enqueue_rest(
			vq, split_burst_of(vq, available, taken, bytes), pkts, taken, n, log);
	split_burst_end(vq, taken, bytes, log);
	return taken;
}

static uint16_t
split_enqueue_plain(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return split_enqueue_burst(vq, pkts, n, false);
}

static uint16_t
split_enqueue_logged(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return split_enqueue_burst(vq, pkts, n, true);
}

static int
split_layout(uint32_t size, uint64_t features, struct dynvhost_vq_layout *layout)
{
	uint64_t event_len = 0;

	if (!rte_is_power_of_2(size) || size > DYNVHOST_VQ_MAX_SIZE)
		return -EINVAL;
	if (features & (1ULL << VIRTIO_RING_F_EVENT_IDX))
		event_len = sizeof(uint16_t);

	layout->desc.len = (uint64_t)size * sizeof(struct vring_desc);
	layout->desc.align = VRING_DESC_ALIGN_SIZE;
	layout->desc.right = DYNVHOST_MEM_READ;
	layout->avail.len = sizeof(struct vring_avail) + (uint64_t)size * sizeof(uint16_t) +
			    event_len;
	layout->avail.align = VRING_AVAIL_ALIGN_SIZE;
	layout->avail.right = DYNVHOST_MEM_READ;
	layout->used.len = sizeof(struct vring_used) +
			   (uint64_t)size * sizeof(struct vring_used_elem) + event_len;
	layout->used.align = VRING_USED_ALIGN_SIZE;
	layout->used.right = DYNVHOST_MEM_WRITE;
	return 0;
}

static void
split_attach(struct dynvhost_vq *vq, const struct dynvhost_vq_pins *pins)
{
	vq->split.desc = pins->desc.hva;
	vq->split.avail = pins->avail.hva;
	vq->split.used = pins->used.hva;
}

/* Tell the driver which kicks are wanted; the event furthest away makes it kick once in 2^16 chains. */
static void
split_write_events(struct dynvhost_vq *vq, bool kicks)
{
	struct dynvhost_vq_split *split = &vq->split;
	uint16_t event = kicks ? split->last_avail : (uint16_t)(split->last_avail - 1);

	if (!vq->event_idx) {
		__atomic_store_n(
			&split->used->flags, kicks ? 0 : VRING_USED_F_NO_NOTIFY, __ATOMIC_RELEASE);
		return;
	}
	__atomic_store_n(split_avail_event(vq), event, __ATOMIC_RELAXED);
	__atomic_store_n(&split->used->flags, 0, __ATOMIC_RELEASE);
}

static void
split_set_kicks(struct dynvhost_vq *vq, bool kicks)
{
	split_write_events(vq, kicks);
	if (vq->log.log == NULL)
		return;
	dirty_used(vq, offsetof(struct vring_used, flags), sizeof(uint16_t));
	if (vq->event_idx)
		dirty_used(vq, offsetof(struct vring_used, ring[vq->size]), sizeof(uint16_t));
}

/*
 * What has been given back, the used ring itself shows; front-ends say less current things, or the
 * driver's index.
 */
static int
split_begin(struct dynvhost_vq *vq, __rte_unused uint32_t base)
{
	struct dynvhost_vq_split *split = &vq->split;

	split->last_used = __atomic_load_n(&split->used->idx, __ATOMIC_ACQUIRE);
	split->last_avail = split->last_used;

	split_set_kicks(vq, vq->kicks);
	return 0;
}

static uint32_t
split_position(const struct dynvhost_vq *vq)
{
	return vq->split.last_avail;
}

static uint16_t
split_pending(const struct dynvhost_vq *vq)
{
	uint16_t distance = split_distance(vq);

	return RTE_MIN(distance, vq->size);
}

static const struct dynvhost_mem_pin *
split_watched(const struct dynvhost_vq_pins *pins)
{
	return &pins->avail;
}

static void
split_monitor(const struct dynvhost_vq *vq, struct dynvhost_vq_monitor *monitor)
{
	*monitor = (struct dynvhost_vq_monitor){
		.addr = &vq->split.avail->idx,
		.size = sizeof(vq->split.avail->idx),
		.mask = UINT16_MAX,
		.value = vq->split.last_avail,
	};
}

static dynvhost_vq_dequeue_t
split_choose_dequeue(const struct dynvhost_vq *vq)
{
	if (vq->log.log != NULL)
		return vq->enabled ? split_dequeue_logged : split_discard_logged;
	return vq->enabled ? split_dequeue_plain : split_discard_plain;
}

static dynvhost_vq_enqueue_t
split_choose_enqueue(const struct dynvhost_vq *vq)
{
	return vq->log.log != NULL ? split_enqueue_logged : split_enqueue_plain;
}

const struct dynvhost_vq_format dynvhost_split_format = {
	.feature = 0,
	.layout = split_layout,
	.attach = split_attach,
	.begin = split_begin,
	.set_kicks = split_set_kicks,
	.position = split_position,
	.pending = split_pending,
	.watched = split_watched,
	.monitor = split_monitor,
	.wants_call = split_flags_want_call,
	.choose_dequeue = split_choose_dequeue,
	.choose_enqueue = split_choose_enqueue,
};
