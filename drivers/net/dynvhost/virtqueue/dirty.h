/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_DIRTY_H
#define DYNVHOST_DIRTY_H

/**
 * @file
 * What a virtqueue writes, told to the front-end's dirty log (vhost-user.rst, "Migration"). Used by
 * the burst functions that are chosen while there is a log, and by no other.
 *
 * Order: bytes are written, then logged, then published. What publishes them is itself logged
 * twice: before, so that whoever sees it finds its bit; and after, should the bit have been taken
 * between the two.
 */

#include <stdint.h>

#include <rte_common.h>

#include "chain.h"
#include "dynvhost_mem_iotlb.h"
#include "dynvhost_mem_log.h"
#include "virtqueue.h"

/** Log that the first @p len bytes of a packet's buffers have been written. */
static inline void
dirty_chain(const struct dynvhost_vq *vq, const struct dynvhost_chain *chain, uint32_t len)
{
	const struct dynvhost_piece *piece;
	uint32_t part;

	for (piece = chain->piece; len > 0; piece++) {
		part = RTE_MIN(len, piece->len);
		dynvhost_mem_iotlb_log(vq->log.log, vq->view, piece->gpa, part);
		len -= part;
	}
}

/** Log that @p len bytes at @p offset of the `used` area have been written, if rings are logged. */
static inline void
dirty_used(const struct dynvhost_vq *vq, uint64_t offset, uint64_t len)
{
	/* What an IOMMU's front-end says is an IOVA. */
	const uint64_t gpa = vq->view->iotlb == NULL ? vq->log.used_gpa
						     : dynvhost_mem_pin_gpa(&vq->pins->used);

	if (vq->log.ring)
		dynvhost_mem_log_mark(vq->log.log, gpa + offset, len);
}

/** Log that @p len bytes at @p offset of the descriptor area have been written, as dirty_used(). */
static inline void
dirty_desc(const struct dynvhost_vq *vq, uint64_t offset, uint64_t len)
{
	if (vq->log.ring)
		dynvhost_mem_log_mark(
			vq->log.log, dynvhost_mem_pin_gpa(&vq->pins->desc) + offset, len);
}

#endif /* DYNVHOST_DIRTY_H */
