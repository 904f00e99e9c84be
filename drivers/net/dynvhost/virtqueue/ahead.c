/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Security model: rings are the guest's, and it may write them meanwhile. Every value is loaded once
 * and bounded before it is used as an index; nothing is concluded from any but that a translation
 * may be asked for. The number of descriptors looked at is bounded, whatever they say.
 */

#include <stdbool.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <rte_common.h>

#include "ahead.h"
#include "dynvhost_mem_iotlb.h"
#include "virtqueue.h"

/** Descriptors of one chain, and entries of one table, that are looked at. */
#define AHEAD_HOPS 20u
/** Bytes of a descriptor that a frame may need; what is longer is asked for later. */
#define AHEAD_BYTES 65536u

/** What split and packed descriptors have in common. */
struct ahead_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /**< split */
};

static bool
ahead_is_packed(const struct dynvhost_vq *vq)
{
	return (vq->features & (1ULL << VIRTIO_F_RING_PACKED)) != 0;
}

/** Both formats have address and length in the same places; flags and the rest change theirs. */
static struct ahead_desc
ahead_load(const void *from, bool packed)
{
	struct vring_packed_desc pd;
	struct vring_desc sd;

	if (packed) {
		memcpy(&pd, from, sizeof(pd));
		return (struct ahead_desc){.addr = pd.addr, .len = pd.len, .flags = pd.flags};
	}
	memcpy(&sd, from, sizeof(sd));
	return (struct ahead_desc){
		.addr = sd.addr, .len = sd.len, .flags = sd.flags, .next = sd.next};
}

static bool
ahead_want(struct dynvhost_vq *vq, const struct ahead_desc *desc, uint8_t perm)
{
	return dynvhost_mem_iotlb_want(
		vq->view->iotlb, desc->addr, RTE_MIN(desc->len, AHEAD_BYTES), perm);
}

/** The entries of an indirect table, once it is translated itself. */
static void
ahead_look_at_table(struct dynvhost_vq *vq, const struct ahead_desc *table, uint8_t perm)
{
	struct dynvhost_mem_cursor cursor = {.budget = 1};
	struct dynvhost_mem_span span;
	struct ahead_desc desc;
	uint32_t n = RTE_MIN(table->len / (uint32_t)sizeof(struct vring_desc), AHEAD_HOPS);

	if (!ahead_want(vq, table, DYNVHOST_MEM_IOTLB_READ))
		return;
	for (uint32_t i = 0; i < n; i++) {
		if (dynvhost_mem_translate(vq->view, &cursor,
			    table->addr + i * sizeof(struct vring_desc), sizeof(struct vring_desc),
			    DYNVHOST_MEM_READ, &span) != 0 ||
			span.len < sizeof(struct vring_desc))
			return;
		desc = ahead_load(span.hva, ahead_is_packed(vq));
		ahead_want(vq, &desc, perm);
	}
}

static void
ahead_look_at(struct dynvhost_vq *vq, const struct ahead_desc *desc)
{
	const uint8_t perm = (vq->index & 1) != 0 ? DYNVHOST_MEM_IOTLB_READ
						  : DYNVHOST_MEM_IOTLB_WRITE;

	if (desc->flags & VRING_DESC_F_INDIRECT)
		ahead_look_at_table(vq, desc, perm);
	else
		ahead_want(vq, desc, perm);
}

static void
ahead_look_split(struct dynvhost_vq *vq, uint16_t n)
{
	const struct dynvhost_vq_split *split = &vq->split;
	const uint16_t mask = (uint16_t)(vq->size - 1);
	struct ahead_desc desc;

	n = RTE_MIN(n, dynvhost_vq_pending(vq));
	for (uint16_t i = 0; i < n; i++) {
		uint16_t slot = (uint16_t)(split->last_avail + i) & mask;

		desc.next = __atomic_load_n(&split->avail->ring[slot], __ATOMIC_RELAXED);
		for (uint32_t hops = 0; hops < AHEAD_HOPS && desc.next < vq->size; hops++) {
			desc = ahead_load(&split->desc[desc.next], false);
			ahead_look_at(vq, &desc);
			if (!(desc.flags & VRING_DESC_F_NEXT))
				break;
		}
	}
}

/** Chains lie one behind the other, and the flags of each head tell whether it is available. */
static void
ahead_look_packed(struct dynvhost_vq *vq, uint16_t n)
{
	struct dynvhost_vq_packed_pos pos = vq->packed.pos;
	struct ahead_desc desc = {.flags = 0};

	n = RTE_MIN(n, vq->size);
	for (uint16_t i = 0; i < n; i++) {
		const bool inside = (desc.flags & VRING_DESC_F_NEXT) != 0;

		desc = ahead_load(&vq->packed.desc[pos.slot], true);
		if (!inside && (((desc.flags >> VRING_PACKED_DESC_F_AVAIL) & 1) != pos.wrap ||
				       ((desc.flags >> VRING_PACKED_DESC_F_USED) & 1) == pos.wrap))
			break;
		ahead_look_at(vq, &desc);
		if (++pos.slot == vq->size) {
			pos.slot = 0;
			pos.wrap = !pos.wrap;
		}
	}
}

void
dynvhost_vq_look_ahead(struct dynvhost_vq *vq, uint16_t n)
{
	if (vq->view == NULL || vq->view->iotlb == NULL || vq->fault != DYNVHOST_VQ_OK)
		return;
	if (ahead_is_packed(vq))
		ahead_look_packed(vq, n);
	else
		ahead_look_split(vq, n);
}
