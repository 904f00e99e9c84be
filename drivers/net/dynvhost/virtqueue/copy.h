/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_COPY_H
#define DYNVHOST_COPY_H

/**
 * @file
 * Copying between mbufs and the segments of a resolved chain. Segments and mbufs are cut at
 * different places on either side; both are sequences of bytes here.
 *
 * Nothing here is chosen by the guest but the bytes themselves: lengths come from the chain as it
 * was judged.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_mbuf.h>

#include "chain.h"
#include "net_hdr.h"
#include "virtqueue.h"

/** A place in a list of segments. */
struct copy_pos {
	const struct dynvhost_seg *seg;
	uint32_t done; /**< bytes of the segment behind us */
};

/** Go @p len bytes on, which must lie in the segment. */
static inline void
copy_advance(struct copy_pos *pos, uint32_t len)
{
	pos->done += len;
	if (pos->done == pos->seg->len) {
		pos->seg++;
		pos->done = 0;
	}
}

/** Copy the next @p len bytes out of the segments, which must hold as many. */
static inline void
copy_gather(struct copy_pos *pos, void *to, uint32_t len)
{
	uint8_t *bytes = to;
	uint32_t part;

	while (len > 0) {
		part = RTE_MIN(len, pos->seg->len - pos->done);
		memcpy(bytes, RTE_PTR_ADD(pos->seg->hva, pos->done), part);
		copy_advance(pos, part);
		bytes += part;
		len -= part;
	}
}

/** Copy @p len bytes into the segments, which must have room for as many. */
static inline void
copy_scatter(struct copy_pos *pos, const void *from, uint32_t len)
{
	const uint8_t *bytes = from;
	uint32_t part;

	while (len > 0) {
		part = RTE_MIN(len, pos->seg->len - pos->done);
		memcpy(RTE_PTR_ADD(pos->seg->hva, pos->done), bytes, part);
		copy_advance(pos, part);
		bytes += part;
		len -= part;
	}
}

/** Step over the next @p len bytes, which must not be all that is left. */
static inline void
copy_skip(struct copy_pos *pos, uint32_t len)
{
	uint32_t part;

	while (len > 0) {
		part = RTE_MIN(len, pos->seg->len - pos->done);
		copy_advance(pos, part);
		len -= part;
	}
}

/**
 * Let @p pkt, a fresh mbuf that has no room for @p len bytes, take them in one piece if the
 * application wants that. @return 0; -EMSGSIZE: it wants that, and it can not be.
 */
int copy_make_room(const struct dynvhost_vq *vq, struct rte_mbuf *pkt, uint32_t len);

/**
 * Copy the next @p len > 0 bytes into fresh mbufs, as many as their data rooms make necessary.
 * @return 0 and the packet; or -ENOMEM: the mempool ran empty, -EMSGSIZE: the application does not
 *         take the packet in pieces. Then no mbuf is kept.
 */
static inline int
copy_to_mbufs(const struct dynvhost_vq *vq, struct copy_pos *pos, uint32_t len,
	struct rte_mempool *pool, struct rte_mbuf **out)
{
	struct rte_mbuf *pkt = rte_pktmbuf_alloc(pool);
	struct rte_mbuf *m = pkt;

	if (unlikely(pkt == NULL))
		return -ENOMEM;
	if (unlikely(len > rte_pktmbuf_tailroom(pkt)) && copy_make_room(vq, pkt, len) != 0) {
		rte_pktmbuf_free(pkt);
		return -EMSGSIZE;
	}
	pkt->port = vq->port_id;
	pkt->pkt_len = len;
	for (;;) {
		m->data_len = RTE_MIN(len, rte_pktmbuf_tailroom(m));
		copy_gather(pos, rte_pktmbuf_mtod(m, void *), m->data_len);
		len -= m->data_len;
		if (likely(len == 0))
			break;
		m->next = rte_pktmbuf_alloc(pool);
		if (unlikely(m->next == NULL)) {
			rte_pktmbuf_free(pkt);
			return -ENOMEM;
		}
		m = m->next;
		pkt->nb_segs++;
	}
	*out = pkt;
	return 0;
}

/**
 * Copy the packet of a chain, which must have been resolved for a header and @p len > 0 bytes, and
 * do what its header asks for.
 *
 * @return 0, or as copy_to_mbufs(); -EMSGSIZE also for a packet that breaks a rule of offloads.
 */
static inline int
copy_from_guest(
	const struct dynvhost_vq *vq, uint32_t len, struct rte_mempool *pool, struct rte_mbuf **pkt)
{
	struct copy_pos pos = {.seg = vq->chain->seg};
	struct virtio_net_hdr hdr;
	bool asks = false;
	int ret;

	if (net_hdr_is_read(vq->offloads)) {
		copy_gather(&pos, &hdr, sizeof(hdr));
		/* Whatever is decided from here on is decided on the copy. */
		rte_compiler_barrier();
		asks = net_hdr_asks(hdr.flags, hdr.gso_type);
		if (unlikely(asks) && net_hdr_judge(vq->offloads, &hdr, len) != 0)
			return -EMSGSIZE;
		copy_skip(&pos, vq->hdr_len - (uint32_t)sizeof(hdr));
	} else {
		copy_skip(&pos, vq->hdr_len);
	}
	ret = copy_to_mbufs(vq, &pos, len, pool, pkt);
	if (ret == 0 && unlikely(asks)) {
		ret = net_hdr_apply(vq, &hdr, *pkt);
		if (ret != 0)
			rte_pktmbuf_free(*pkt);
	}
	return ret;
}

/**
 * Copy a header and a packet into the chain, which must have been resolved for them.
 * @return 0 or -EMSGSIZE: a rule of offloads is broken, and nothing has been written.
 */
static inline int
copy_to_guest(const struct dynvhost_vq *vq, const struct rte_mbuf *pkt)
{
	struct copy_pos pos = {.seg = vq->chain->seg};
	uint32_t left = pkt->pkt_len;
	struct net_hdr_out out;
	const struct rte_mbuf *m;
	uint32_t skip, part;
	int ret;

	ret = net_hdr_make(vq->offloads, pkt, &out);
	if (unlikely(ret != 0))
		return ret;
	/* Beyond the end of a header of 10 bytes; 1 where buffers are not merged (virtio 1.2
	 * §5.1.6.4).
	 */
	out.hdr.num_buffers = (uint16_t)vq->chain->n_bufs;
	copy_scatter(&pos, &out.hdr, vq->hdr_len);
	copy_scatter(&pos, out.head, out.head_len);
	/* A chain of mbufs that holds more than its pkt_len is cut there. */
	for (m = pkt, skip = out.skip; m != NULL; m = m->next) {
		part = RTE_MIN(left, m->data_len);
		left -= part;
		if (skip < part)
			copy_scatter(&pos, rte_pktmbuf_mtod_offset(m, void *, skip), part - skip);
		skip -= RTE_MIN(skip, part);
	}
	return 0;
}

#endif /* DYNVHOST_COPY_H */
