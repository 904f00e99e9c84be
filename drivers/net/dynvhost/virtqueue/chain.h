/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_CHAIN_H
#define DYNVHOST_CHAIN_H

/**
 * @file
 * Descriptor chains: the only place where a guest's descriptor is judged and becomes host memory.
 *
 * Security model
 * --------------
 * Every byte of a descriptor is chosen by the guest, and another of its processors may change it
 * at any moment. Therefore a ring's walker copies each descriptor once into a local variable and
 * hands the copy's fields to this file; nothing is ever read from the guest twice. A packet goes
 * through three steps, and none of them begins before the one before it has ended well:
 *
 *	judge    chain_add_desc() for every descriptor: right, hops, wrap-around; lengths are summed
 *	         in 64 bits. No guest memory is opened, apart from indirect tables.
 *	resolve  chain_resolve() for the bytes that the packet uses, after the caller has judged the
 *	         sum: guest memory is opened, through the window of the chain's right.
 *	copy     copy.h, on the segments that resolve made.
 *
 * Work is bounded by DYNVHOST_VQ_MAX_SEGS, whatever the guest writes.
 *
 * Verdicts
 * --------
 * Functions here and the walkers return 0 when all is well, a negative errno for what can pass, and
 * a positive enum dynvhost_vq_fault for what stops the queue:
 *
 *	-EAGAIN    memory cannot be opened now
 *	-EMSGSIZE  well-formed, but no packet of ours: too many pieces, wrong length or offloads
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <linux/virtio_ring.h>
#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "dynvhost_mem.h"
#include "virtqueue.h"

/** What one descriptor names: judged, not yet opened. Never empty. */
struct dynvhost_piece {
	uint64_t gpa;
	uint32_t len;
};

/** One descriptor chain, which is one buffer to the driver. */
struct dynvhost_buf {
	uint64_t len;   /**< bytes of all its descriptors */
	uint16_t id;    /**< by which it is given back; split: its head */
	uint16_t slots; /**< packed: descriptors of the ring that it takes */
};

/** A piece of a packet in host memory. Good until the burst ends. */
struct dynvhost_seg {
	void *hva;
	uint32_t len;
};

/**
 * The buffers of one packet: one descriptor chain, or several in a row where buffers are merged.
 * Their pieces form one sequence of bytes.
 */
struct dynvhost_chain {
	enum dynvhost_mem_right right; /**< what we may do with all of it */
	uint32_t hops;                 /**< descriptors judged */
	uint32_t n_bufs;
	uint32_t n_pieces;
	uint32_t n_segs;
	uint64_t len; /**< bytes of all pieces */
	struct dynvhost_buf buf[DYNVHOST_VQ_MAX_SEGS];
	struct dynvhost_piece piece[DYNVHOST_VQ_MAX_SEGS];
	struct dynvhost_seg seg[DYNVHOST_VQ_MAX_SEGS];
};

/** Forget the last packet. The next one is read from the guest or written to it, by @p right. */
static inline void
chain_reset(struct dynvhost_chain *chain, enum dynvhost_mem_right right)
{
	chain->right = right;
	chain->hops = 0;
	chain->n_bufs = 0;
	chain->n_pieces = 0;
	chain->n_segs = 0;
	chain->len = 0;
}

/** Begin the packet's next buffer. @return 0 or -EMSGSIZE. */
static inline int
chain_add_buf(struct dynvhost_chain *chain, uint16_t id)
{
	if (unlikely(chain->n_bufs == DYNVHOST_VQ_MAX_SEGS))
		return -EMSGSIZE;
	chain->buf[chain->n_bufs].id = id;
	chain->buf[chain->n_bufs].len = 0;
	chain->n_bufs++;
	return 0;
}

/** Whether @p len > 0 bytes at @p gpa run over the end of the address space. */
static inline bool
chain_wraps(uint64_t gpa, uint32_t len)
{
	return len - 1 > UINT64_MAX - gpa;
}

/**
 * Judge one descriptor of the buffer that was begun last, and append its bytes to the packet.
 * Empty ones are counted as hops and left out.
 *
 * An INDIRECT descriptor in a ring is not given here but to chain_judge_table(); one that comes
 * here sits inside a table, where virtio 1.2 §2.7.5.3.1 and §2.8.19 forbid it.
 *
 * @return a verdict.
 */
static inline int
chain_add_desc(struct dynvhost_chain *chain, uint64_t gpa, uint32_t len, uint16_t flags)
{
	const bool writable = (flags & VRING_DESC_F_WRITE) != 0;
	struct dynvhost_piece *piece;

	if (unlikely(flags & VRING_DESC_F_INDIRECT))
		return DYNVHOST_VQ_BAD_INDIRECT;
	if (unlikely(writable != (chain->right == DYNVHOST_MEM_WRITE)))
		return DYNVHOST_VQ_BAD_RIGHT;
	/* One buffer alone can not be that long; several may add up to it by no fault of theirs. */
	if (unlikely(chain->hops == DYNVHOST_VQ_MAX_SEGS))
		return chain->n_bufs > 1 ? -EMSGSIZE : DYNVHOST_VQ_BAD_LOOP;
	chain->hops++;
	if (unlikely(len == 0))
		return 0;
	if (unlikely(chain_wraps(gpa, len)))
		return DYNVHOST_VQ_BAD_ADDRESS;

	piece = &chain->piece[chain->n_pieces++];
	piece->gpa = gpa;
	piece->len = len;
	chain->buf[chain->n_bufs - 1].len += len;
	chain->len += len;
	return 0;
}

/**
 * Judge a descriptor that refers to an indirect table. Its WRITE flag means nothing (virtio 1.2
 * §2.7.5.3.2, §2.8.7). Drivers exist whose tables are longer than their queue.
 *
 * @param n  receives the table's entries, 1 to DYNVHOST_VQ_MAX_SEGS.
 * @return a verdict.
 */
static inline int
chain_judge_table(
	const struct dynvhost_vq *vq, uint64_t gpa, uint32_t len, uint16_t flags, uint32_t *n)
{
	if (unlikely(!vq->indirect || (flags & VRING_DESC_F_NEXT)))
		return DYNVHOST_VQ_BAD_INDIRECT;
	if (unlikely(len == 0 || len % sizeof(struct vring_desc) != 0))
		return DYNVHOST_VQ_BAD_INDIRECT;
	if (unlikely(len / sizeof(struct vring_desc) > DYNVHOST_VQ_MAX_SEGS))
		return DYNVHOST_VQ_BAD_LOOP;
	if (unlikely(chain_wraps(gpa, len)))
		return DYNVHOST_VQ_BAD_ADDRESS;
	*n = len / sizeof(struct vring_desc);
	return 0;
}

/** As dynvhost_mem_translate() in the queue's view, with a verdict. */
static inline int
chain_translate(struct dynvhost_vq *vq, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right,
	struct dynvhost_mem_span *span)
{
	int ret = dynvhost_mem_translate(vq->view, &vq->cursor, gpa, len, right, span);

	if (likely(ret == 0))
		return 0;
	return ret == -EFAULT ? DYNVHOST_VQ_BAD_ADDRESS : -EAGAIN;
}

/**
 * Make a private copy of an entry of an indirect table. The entry may lie across the border of two
 * regions. @return a verdict.
 */
static inline int
chain_load_entry(struct dynvhost_vq *vq, uint64_t gpa, void *entry, uint32_t len)
{
	struct dynvhost_mem_span span;
	uint8_t *to = entry;
	int ret;

	while (len > 0) {
		ret = chain_translate(vq, gpa, len, DYNVHOST_MEM_READ, &span);
		if (unlikely(ret != 0))
			return ret;
		memcpy(to, span.hva, span.len);
		to += span.len;
		gpa += span.len;
		len -= (uint32_t)span.len;
	}
	/* Whatever is decided from here on is decided on the copy. */
	rte_compiler_barrier();
	return 0;
}

/** Append the segments of @p len > 0 bytes at @p gpa. @return a verdict. */
static inline int
chain_resolve_piece(
	struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint64_t gpa, uint32_t len)
{
	struct dynvhost_mem_span span;
	struct dynvhost_seg *seg;
	int ret;

	while (len > 0) {
		if (unlikely(chain->n_segs == DYNVHOST_VQ_MAX_SEGS))
			return -EMSGSIZE;
		ret = chain_translate(vq, gpa, len, chain->right, &span);
		if (unlikely(ret != 0))
			return ret;
		seg = &chain->seg[chain->n_segs++];
		seg->hva = span.hva;
		seg->len = (uint32_t)span.len;
		gpa += span.len;
		len -= (uint32_t)span.len;
	}
	return 0;
}

/**
 * Open the bytes that a packet uses, which are the first @p len <= chain->len ones, and make the
 * list of their segments.
 *
 * @return a verdict. -EAGAIN leaves open what could be opened, so that the next try gets further.
 */
static inline int
chain_resolve(struct dynvhost_vq *vq, struct dynvhost_chain *chain, uint32_t len)
{
	const struct dynvhost_piece *piece;
	uint32_t part;
	int ret;

	for (piece = chain->piece; len > 0; piece++) {
		part = RTE_MIN(len, piece->len);
		ret = chain_resolve_piece(vq, chain, piece->gpa, part);
		if (unlikely(ret != 0))
			return ret;
		len -= part;
	}
	return 0;
}

#endif /* DYNVHOST_CHAIN_H */
