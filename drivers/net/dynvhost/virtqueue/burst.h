/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BURST_H
#define DYNVHOST_BURST_H

/**
 * @file
 * What both ring formats have in common of a burst: what is counted, and what becomes of a chain or a
 * packet after an attempt to move it.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_mbuf.h>

#include "virtqueue.h"

/** What a burst has done; counted at its end. */
struct burst_sum {
	uint32_t packets;
	uint32_t ordinary; /**< of these, how many went the short way */
	uint32_t dropped;
	uint64_t bytes;
};

static inline void
burst_count(struct dynvhost_vq *vq, const struct burst_sum *sum)
{
	dynvhost_vq_count(&vq->stats.packets, sum->packets);
	dynvhost_vq_count(&vq->stats.bytes, sum->bytes);
	dynvhost_vq_count(&vq->stats.dropped, sum->dropped);
	dynvhost_vq_count(&vq->ordinary, sum->ordinary);
}

/**
 * A chain was to be taken from the guest.
 *
 * @param ret  0: as @p pkt; -EMSGSIZE: it is to be dropped; -EAGAIN: its memory cannot be opened now;
 *             -ENOMEM: no mbufs; a verdict: the guest has broken the ring.
 * @return whether the chain is to be given back and the burst goes on; else it is over.
 */
static inline bool
burst_took(struct dynvhost_vq *vq, struct burst_sum *sum, int ret, struct rte_mbuf *const *pkt)
{
	if (likely(ret == 0)) {
		sum->packets++;
		sum->bytes += (*pkt)->pkt_len;
	} else if (ret == -EMSGSIZE) {
		sum->dropped++;
	} else if (ret == -EAGAIN) {
		if (!dynvhost_vq_is_stalled(vq))
			return false;
		dynvhost_vq_count(&vq->stats.stalled, 1);
	} else if (ret == -ENOMEM) {
		dynvhost_vq_count(&vq->stats.no_mbuf, 1);
		return false;
	} else {
		dynvhost_vq_mark_broken(vq, (enum dynvhost_vq_fault)ret);
		return false;
	}
	return true;
}

/**
 * A packet was to be sent to the guest; it is freed if it has gone.
 *
 * @param ret  0: it was; -EMSGSIZE: it is to be dropped; -EAGAIN, -ENOBUFS: not now; a verdict, as in
 *             burst_took().
 * @return whether it has gone and the burst goes on; else that is over.
 */
static inline bool
burst_sent(struct dynvhost_vq *vq, struct burst_sum *sum, int ret, struct rte_mbuf *pkt)
{
	if (likely(ret == 0)) {
		sum->packets++;
		sum->bytes += pkt->pkt_len;
	} else if (ret == -EMSGSIZE) {
		sum->dropped++;
	} else {
		if (ret != -ENOBUFS && ret != -EAGAIN)
			dynvhost_vq_mark_broken(vq, (enum dynvhost_vq_fault)ret);
		return false;
	}
	rte_pktmbuf_free(pkt);
	return true;
}

#endif /* DYNVHOST_BURST_H */
