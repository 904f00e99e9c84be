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

#include <stdint.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_mbuf.h>

#include "chain.h"

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

/**
 * Copy the @p len > 0 bytes of a resolved chain into fresh mbufs, as many as their data rooms make
 * necessary. @return the packet, or NULL when the mempool ran empty; then no mbuf is kept.
 */
static inline struct rte_mbuf *
copy_to_mbufs(const struct dynvhost_chain *chain, uint32_t len, struct rte_mempool *pool,
	uint16_t port_id)
{
	struct copy_pos pos = {.seg = chain->seg};
	struct rte_mbuf *pkt = rte_pktmbuf_alloc(pool);
	struct rte_mbuf *m = pkt;

	if (unlikely(pkt == NULL))
		return NULL;
	pkt->port = port_id;
	pkt->pkt_len = len;
	for (;;) {
		m->data_len = RTE_MIN(len, rte_pktmbuf_tailroom(m));
		copy_gather(&pos, rte_pktmbuf_mtod(m, void *), m->data_len);
		len -= m->data_len;
		if (likely(len == 0))
			return pkt;
		m->next = rte_pktmbuf_alloc(pool);
		if (unlikely(m->next == NULL))
			break;
		m = m->next;
		pkt->nb_segs++;
	}
	rte_pktmbuf_free(pkt);
	return NULL;
}

/**
 * Copy a header and a packet into a resolved chain, which must have been resolved for @p hdr_len
 * and the packet's pkt_len. An mbuf chain that holds more than its pkt_len is cut there.
 */
static inline void
copy_from_mbufs(const struct dynvhost_chain *chain, const void *hdr, uint32_t hdr_len,
	const struct rte_mbuf *pkt)
{
	struct copy_pos pos = {.seg = chain->seg};
	uint32_t left = pkt->pkt_len;
	const struct rte_mbuf *m;
	uint32_t part;

	copy_scatter(&pos, hdr, hdr_len);
	for (m = pkt; m != NULL; m = m->next) {
		part = RTE_MIN(left, m->data_len);
		copy_scatter(&pos, rte_pktmbuf_mtod(m, const void *), part);
		left -= part;
	}
}

#endif /* DYNVHOST_COPY_H */
