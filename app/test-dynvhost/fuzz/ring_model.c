/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "format.h"
#include "fuzz.h"
#include "ring_model.h"

/** What must become of a chain. */
enum model_verdict {
	MODEL_PACKET,
	MODEL_DROPPED,
	MODEL_FAULT,
};

/** A descriptor of either format. */
struct model_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /**< split */
};

/** A chain, as far as it has been read. */
struct model {
	const struct ring_guard *guard;
	const struct dynvhost_vq_setup *setup;
	uint32_t slots; /**< of the ring that it takes; packed */
	uint32_t hops;
	uint32_t n_pieces;
	uint64_t len;
	bool changes; /**< while it is read, for it lies over what is written */
	bool unsure;  /**< a table does, and what becomes of the chain is not known */
	struct model_desc piece[DYNVHOST_VQ_MAX_SEGS];
	uint8_t bytes[BED_HDR_LEN + DYNVHOST_VQ_MAX_FRAME];
};

static uint16_t
model_u16(const struct model *model, uint64_t gpa)
{
	uint16_t value;

	memcpy(&value, model->guard->before + gpa, sizeof(value));
	return value;
}

static bool
model_load(const struct model *model, uint64_t gpa, struct model_desc *desc)
{
	if (gpa > GUARD_RAM - sizeof(struct vring_desc))
		return false;
	memcpy(&desc->gpa, model->guard->before + gpa, sizeof(desc->gpa));
	memcpy(&desc->len, model->guard->before + gpa + 8, sizeof(desc->len));
	desc->flags = model_u16(model, gpa + (bed_format.packed ? 14 : 12));
	desc->next = model_u16(model, gpa + 14);
	return true;
}

static bool
model_wraps(const struct model_desc *desc)
{
	return desc->len > 0 && desc->gpa + (desc->len - 1) < desc->gpa;
}

/* @return whether the descriptor may be part of what a guest sends. */
static bool
model_add(struct model *model, const struct model_desc *desc)
{
	if ((desc->flags & (VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE)) || model_wraps(desc))
		return false;
	if (model->hops++ == DYNVHOST_VQ_MAX_SEGS)
		return false;
	if (desc->len > 0)
		model->piece[model->n_pieces++] = *desc;
	model->len += desc->len;
	return true;
}

/* Entries of a split table are a chain, those of a packed one follow each other. */
static bool
model_add_table(struct model *model, const struct model_desc *table)
{
	const uint32_t n = table->len / sizeof(struct vring_desc);
	struct model_desc desc;
	uint32_t i = 0, hops;

	if (!(model->setup->features & BED_INDIRECT) || (table->flags & VRING_DESC_F_NEXT) ||
		table->len == 0 || table->len % sizeof(struct vring_desc) != 0 ||
		n > DYNVHOST_VQ_MAX_SEGS || model_wraps(table))
		return false;
	for (hops = 0; hops < n; hops++) {
		const uint64_t gpa = table->gpa + i * sizeof(struct vring_desc);

		if (i >= n || !model_load(model, gpa, &desc))
			return false;
		model->unsure |= ring_guard_may_change(
			model->guard, gpa, sizeof(struct vring_desc));
		/* Of what is only read, drivers exist that say it may be written. */
		if (bed_format.packed)
			desc.flags &= (uint16_t)~VRING_DESC_F_WRITE;
		if (!model_add(model, &desc))
			return false;
		if (!bed_format.packed && !(desc.flags & VRING_DESC_F_NEXT))
			return true;
		i = bed_format.packed ? i + 1 : desc.next;
	}
	return bed_format.packed;
}

/* @param limit  descriptors of the ring that the chain may have. */
static bool
model_walk(struct model *model, uint32_t first, uint32_t limit)
{
	const uint32_t size = model->setup->size;
	struct model_desc desc;
	uint32_t i = first;

	model->hops = 0;
	model->n_pieces = 0;
	model->len = 0;
	model->unsure = false;
	for (model->slots = 1; model->slots <= limit; model->slots++) {
		if (i >= size ||
			!model_load(model, model->setup->desc_gpa + i * sizeof(struct vring_desc),
				&desc))
			return false;
		if (desc.flags & VRING_DESC_F_INDIRECT)
			return model_add_table(model, &desc);
		if (!model_add(model, &desc))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
		i = bed_format.packed ? (i + 1) % size : desc.next;
	}
	return false;
}

/* Bring the bytes together; a piece that lies over a border of regions is several. */
static enum model_verdict
model_gather(struct model *model)
{
	uint32_t segs = 0, i;
	uint64_t done = 0;

	model->changes = false;
	for (i = 0; i < model->n_pieces; i++) {
		uint64_t gpa = model->piece[i].gpa;
		uint64_t left = model->piece[i].len;

		while (left > 0) {
			uint64_t part = RTE_MIN(left, GUARD_REGION - gpa % GUARD_REGION);

			if (segs++ == DYNVHOST_VQ_MAX_SEGS)
				return MODEL_DROPPED;
			if (gpa >= GUARD_RAM)
				return MODEL_FAULT;
			model->changes |= ring_guard_may_change(model->guard, gpa, part);
			memcpy(model->bytes + done, model->guard->before + gpa, part);
			done += part;
			gpa += part;
			left -= part;
		}
	}
	return MODEL_PACKET;
}

static enum model_verdict
model_judge_chain(struct model *model, uint32_t first, uint32_t limit)
{
	const uint32_t hdr_len = dynvhost_vq_hdr_len(model->setup->features);

	if (!model_walk(model, first, limit))
		return MODEL_FAULT;
	if (model->len < hdr_len + DYNVHOST_VQ_MIN_FRAME ||
		model->len > hdr_len + DYNVHOST_VQ_MAX_FRAME)
		return MODEL_DROPPED;
	return model_gather(model);
}

static void
model_compare(const struct model *model, const struct rte_mbuf *pkt)
{
	const uint32_t hdr_len = dynvhost_vq_hdr_len(model->setup->features);
	const uint8_t *bytes = model->bytes + hdr_len;

	fuzz_check(pkt->pkt_len == model->len - hdr_len);
	for (; pkt != NULL && !model->changes; pkt = pkt->next) {
		fuzz_check(memcmp(rte_pktmbuf_mtod(pkt, void *), bytes, pkt->data_len) == 0);
		bytes += pkt->data_len;
	}
}

/** Where a burst stands in the ring, in entries since it began. */
struct model_place {
	uint32_t slot;
	bool wrap;
	uint32_t left; /**< entries that the burst can still come to */
};

/* Whether there is another chain, and where it begins. */
static bool
model_next(const struct model *model, const struct model_place *place, uint32_t *first)
{
	const struct dynvhost_vq_setup *setup = model->setup;
	const uint64_t avail = setup->avail_gpa;
	uint16_t flags;

	if (place->left == 0)
		return false;
	if (!bed_format.packed) {
		*first = model_u16(model, avail + offsetof(struct vring_avail, ring) +
						  place->slot % setup->size * sizeof(uint16_t));
		return true;
	}
	*first = place->slot;
	flags = model_u16(model, setup->desc_gpa + place->slot * sizeof(struct vring_packed_desc) +
					 offsetof(struct vring_packed_desc, flags));
	return ((flags & PACKED_RING_AVAIL) != 0) == place->wrap &&
	       ((flags & PACKED_RING_USED) != 0) != place->wrap;
}

static void
model_step(const struct model *model, struct model_place *place)
{
	const uint32_t n = bed_format.packed ? model->slots : 1;

	place->left -= n;
	place->slot += n;
	if (!bed_format.packed)
		return;
	if (place->slot >= model->setup->size) {
		place->slot -= model->setup->size;
		place->wrap = !place->wrap;
	}
}

static uint32_t
model_position(const struct model_place *place)
{
	uint32_t half;

	if (!bed_format.packed)
		return (uint16_t)place->slot;
	half = place->slot | (place->wrap ? 0x8000 : 0);
	return half << 16 | half;
}

void
ring_model_judge(const struct ring_guard *guard, const struct bed *bed, uint32_t position,
	uint16_t n, struct rte_mbuf *const *pkts, uint16_t got)
{
	static struct model model;
	enum model_verdict verdict = MODEL_PACKET;
	struct model_place place = {.slot = position, .left = bed->setup.size};
	uint32_t first;
	uint16_t i = 0;

	model.guard = guard;
	model.setup = &bed->setup;
	if (bed_format.packed) {
		place.slot = position & 0x7fff;
		place.wrap = (position & 0x8000) != 0;
	} else {
		place.left = (uint16_t)(model_u16(&model, bed->setup.avail_gpa + 2) - position);
		if (place.left > bed->setup.size)
			verdict = MODEL_FAULT;
	}
	for (; verdict != MODEL_FAULT && n > 0 && model_next(&model, &place, &first); n--) {
		verdict = model_judge_chain(
			&model, first, bed_format.packed ? place.left : bed->setup.size);
		if (model.unsure)
			return;
		if (verdict == MODEL_FAULT)
			break;
		if (verdict == MODEL_PACKET) {
			fuzz_check(i < got);
			model_compare(&model, pkts[i++]);
		}
		model_step(&model, &place);
	}
	fuzz_check(i == got);
	fuzz_check((bed->vq.fault != DYNVHOST_VQ_OK) == (verdict == MODEL_FAULT));
	fuzz_check(bed->vq.format->position(&bed->vq) == model_position(&place));
}

void
ring_model_judge_used(const struct ring_guard *guard, const struct bed *bed, uint32_t position)
{
	const struct dynvhost_vq_setup *setup = &bed->setup;
	static struct model model;
	const uint16_t end = (uint16_t)bed->vq.format->position(&bed->vq);
	struct vring_used_elem elem;
	uint16_t at;

	model.guard = guard;
	if (bed_format.packed || end == (uint16_t)position ||
		ring_guard_is_buffer(guard, setup->used_gpa, split_ring_used_bytes(setup->size)))
		return;
	for (at = (uint16_t)position; at != end; at++) {
		const uint32_t slot = at % setup->size;

		guest_ram_read(&bed->ram, setup->used_gpa + offsetof(struct vring_used, ring[slot]),
			&elem, sizeof(elem));
		fuzz_check(elem.id ==
			   model_u16(&model,
				   setup->avail_gpa + offsetof(struct vring_avail, ring[slot])));
		if (bed->config.index == BED_DEQUEUE)
			fuzz_check(elem.len == 0);
	}
	guest_ram_read(
		&bed->ram, setup->used_gpa + offsetof(struct vring_used, idx), &at, sizeof(at));
	fuzz_check(at == end);
}
