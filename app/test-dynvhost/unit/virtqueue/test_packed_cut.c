/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A back-end that dies in the middle of a burst, after whichever of its instructions: the next one
 * finds in the ring alone where to go on, and if it dies while it looks, the one after that. Every
 * buffer comes back to the driver, once and in order. Those that were not published say that nothing was
 * written. The next burst begins with the first buffer of which nothing was marked, finds it whole, and
 * writes nothing outside of buffers.
 */

#include <string.h>

#include "bed_step.h"
#include "packed_bed.h"
#include "packed_resume.h"

#define SIZE    32u
#define PACKETS 8u
#define FRAME   60u

#define RING_BYTES (SIZE * sizeof(struct vring_packed_desc))

/** The ring as it was at each moment of something, one behind the other. */
struct moments {
	const struct vring_packed_desc *desc;
	struct vring_packed_desc ring[200][SIZE];
	unsigned int n;
	bool full;
};
static struct moments of_burst, of_resume, *noted;

static void
look(void)
{
	struct moments *m = noted;

	if (memcmp(m->ring[m->n - 1], m->desc, RING_BYTES) == 0)
		return;
	m->full |= m->n == RTE_DIM(m->ring);
	if (!m->full)
		memcpy(m->ring[m->n++], m->desc, RING_BYTES);
}

/* Have what @p move does to the ring noted. */
static void
note(struct bed *bed, struct moments *m, void (*move)(struct bed *bed))
{
	m->desc = bed->packed.desc;
	memcpy(m->ring[0], m->desc, RING_BYTES);
	m->n = 1;
	m->full = false;
	noted = m;
	bed_step(bed, move, look);
	assert_false(m->full);
}

/** A way to cut @p n buffers that each hold a packet into descriptors. */
struct cuts {
	const char *name;
	enum bed_shape shape[PACKETS];
	uint16_t slots[PACKETS]; /**< of direct chains, 1 to 4 */
};

static const struct cuts all_cuts[] = {
	{.name = "ordinary", .slots = {1, 1, 1, 1, 1, 1, 1, 1}},
	{.name = "long chain first", .slots = {4, 1, 1, 1, 1, 1, 1, 1}},
	{.name = "long chain second", .slots = {1, 4, 1, 1, 2, 1, 1, 1}},
	{.name = "long chain last", .slots = {1, 1, 1, 1, 1, 1, 1, 3}},
	{.name = "nothing but chains", .slots = {3, 2, 4, 3, 4, 2, 3, 3}},
	{.name = "whole ring", .slots = {4, 4, 4, 4, 4, 4, 4, 4}},
	{.name = "tables",
		.shape = {BED_SHAPE_TABLE, [3] = BED_SHAPE_TABLE, [5] = BED_SHAPE_MIXED},
		.slots = {3, 1, 1, 2, 1, 2, 1, 3}},
};

/** Where bursts begin; from the second place on, they go around the end of the ring. */
static const uint16_t firsts[] = {0, 27};

/* Buffers that a packet takes. */
static unsigned int
per_packet(const struct bed *bed)
{
	return bed->config.features & BED_MRG ? 2 : 1;
}

static uint16_t
add(struct bed *bed, const struct cuts *cuts, unsigned int i)
{
	/* Packets for the guest leave room in their buffers, or take two of them. */
	static const uint32_t cut[3][5][4] = {
		{{0}, {72}, {12, 60}, {12, 20, 40}, {12, 20, 20, 20}},
		{{0}, {100}, {12, 88}, {12, 20, 68}, {12, 20, 20, 48}},
		{{0}, {40}, {12, 28}, {12, 10, 18}, {12, 8, 10, 10}},
	};
	const uint16_t n = cuts->slots[i];

	if (bed->config.index == BED_DEQUEUE)
		return bed_send(bed, cuts->shape[i], cut[0][n], n, i);
	return bed_offer(bed, cuts->shape[i], cut[per_packet(bed)][n], n);
}

/* Little memory: there are thousands of guests. */
static void
lay_out(struct guest_ram *ram)
{
	guest_ram_init_plain(ram, 16 * GUEST_RAM_PAGE);
}

static struct bed *
open_and_add(
	uint16_t index, uint64_t features, uint16_t first, const struct cuts *cuts, uint16_t *head)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = index,
		.features = BED_INDIRECT | features,
		.size = SIZE,
		.start = first,
		.lay_out = lay_out,
	});
	unsigned int i;

	for (i = 0; i < PACKETS; i++)
		head[i] = add(bed, cuts, i);
	return bed;
}

static struct rte_mbuf *pkts[PACKETS];
static uint16_t moved;

static void
burst(struct bed *bed)
{
	if (bed->config.index == BED_DEQUEUE)
		moved = bed_dequeue(bed, bed_pool(), 32);
	else
		moved = bed->vq.enqueue(&bed->vq, pkts, (uint16_t)(PACKETS / per_packet(bed)));
}

static void
make_packets(const struct bed *bed)
{
	unsigned int i;

	for (i = 0; i < PACKETS / per_packet(bed); i++)
		pkts[i] = bed_packet(bed_pool(), FRAME, 0, i);
}

/* The burst as it should be. */
static void
note_moments(uint16_t index, uint64_t features, uint16_t first, const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(index, features, first, cuts, head);
	unsigned int i;

	if (index == BED_ENQUEUE)
		make_packets(bed);
	note(bed, &of_burst, burst);
	assert_int_equal(moved, PACKETS / per_packet(bed));
	for (i = 0; i < PACKETS && index == BED_DEQUEUE; i++)
		bed_expect_packet(bed->pkts[i], FRAME, i, BED_ROOM);
	/* Each packet's descriptor changes, and at last the first one's flags. */
	assert_true(of_burst.n > PACKETS);
	bed_teardown(NULL);
}

/* The next back-end finds the ring as it was at one of those moments. */
static void
start_from(struct bed *bed, const struct vring_packed_desc *ring)
{
	dynvhost_vq_stop(&bed->vq);
	memcpy(bed->packed.desc, ring, RING_BYTES);
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
}

/* Whether one of the slots of a buffer that was added is used. */
static bool
is_marked(const struct vring_packed_desc *ring, uint32_t slot, uint16_t slots)
{
	bool marked = false;

	for (; slots > 0; slots--, slot++) {
		uint16_t bits = ring[slot % SIZE].flags & (AVAIL | USED);

		marked |= bits == 0 || bits == (AVAIL | USED);
	}
	return marked;
}

/** The buffers of a ring that was found as a dead back-end has left it. */
struct left {
	unsigned int gone; /**< up to the last one of which something is marked */
	unsigned int n;    /**< packets for which there are others */
	bool published;    /**< those were, with all that they say */
};

static struct left
judge(const struct bed *bed, const struct vring_packed_desc *ring, uint16_t first,
	const uint16_t *head)
{
	const struct vring_packed_desc *end = of_burst.ring[of_burst.n - 1];
	struct left left = {.published = memcmp(ring, end, RING_BYTES) == 0};
	uint32_t slot = first;
	unsigned int i;

	for (i = 0; i < PACKETS; i++) {
		const uint16_t slots = bed->packed.id_slots[head[i]];

		if (is_marked(ring, slot, slots))
			left.gone = i + 1;
		slot += slots;
	}
	left.n = (PACKETS - left.gone) / per_packet(bed);
	return left;
}

/* What the @p i th buffer says that was written: header and frame, or the share of two buffers. */
static uint32_t
written(const struct bed *bed, const struct left *left, unsigned int i)
{
	const bool old = i < left->gone;
	const bool second = (old ? i : i - left->gone) % 2 == 1;

	if (bed->config.index == BED_DEQUEUE || (old && !left->published))
		return 0;
	if (per_packet(bed) == 1)
		return BED_HDR_LEN + FRAME;
	return second ? BED_HDR_LEN + FRAME - 40 : 40;
}

static void
expect_back(struct bed *bed, const struct left *left, const uint16_t *head)
{
	struct ring_used used;
	unsigned int i;

	for (i = 0; i < left->gone + left->n * per_packet(bed); i++) {
		assert_true(bed_collect(bed, &used));
		assert_int_equal(used.id, head[i]);
		assert_int_equal(used.len, written(bed, left, i));
	}
	assert_false(bed_has_used(bed));
}

static void
receive_from(const struct vring_packed_desc *ring, uint64_t features, uint16_t first,
	const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(BED_DEQUEUE, features, first, cuts, head);
	const struct left left = judge(bed, ring, first, head);
	unsigned int i;

	start_from(bed, ring);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), left.n);
	for (i = 0; i < left.n; i++)
		bed_expect_packet(bed->pkts[i], FRAME, left.gone + i, BED_ROOM);
	expect_back(bed, &left, head);
	bed_teardown(NULL);
}

/* Whatever has been written lies in buffers or in the ring. */
static void
expect_written_in_buffers(struct bed *bed, const uint16_t *head)
{
	uint8_t *frozen = bed->frozen[0];
	const uint8_t *now = bed->ram.file[0].base;
	unsigned int i;
	uint16_t k;

	for (i = 0; i < PACKETS; i++) {
		const struct bed_buffer *buffer = &bed->buffer[head[i]];

		for (k = 0; k < buffer->n; k++)
			memcpy(frozen + buffer->piece[k].gpa, now + buffer->piece[k].gpa,
				buffer->piece[k].len);
	}
	memcpy(frozen + bed->packed.desc_gpa, now + bed->packed.desc_gpa, RING_BYTES);
	assert_true(bed_memory_matches(bed));
	bed_thaw(bed);
}

static void
send_from(const struct vring_packed_desc *ring, uint64_t features, uint16_t first,
	const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(BED_ENQUEUE, features, first, cuts, head);
	const struct left left = judge(bed, ring, first, head);

	start_from(bed, ring);
	make_packets(bed);
	bed_freeze(bed);
	burst(bed);
	rte_pktmbuf_free_bulk(pkts + moved, PACKETS / per_packet(bed) - moved);
	assert_int_equal(moved, left.n);
	expect_written_in_buffers(bed, head);
	expect_back(bed, &left, head);
	bed_teardown(NULL);
}

static void
go_on_from(const struct vring_packed_desc *ring, uint16_t index, uint64_t features, uint16_t first,
	const struct cuts *cuts)
{
	if (index == BED_DEQUEUE)
		receive_from(ring, features, first, cuts);
	else
		send_from(ring, features, first, cuts);
}

static void
resume(struct bed *bed)
{
	struct dynvhost_vq_packed_pos pos = {
		.slot = bed->setup.base & 0x7fff, .wrap = (bed->setup.base & 0x8000) != 0};

	(void)packed_resume(bed->packed.desc, SIZE, bed->config.index == BED_ENQUEUE, &pos);
}

/* The next back-end dies too, while it looks for its position. */
static void
die_again_from(const struct vring_packed_desc *ring, uint16_t index, uint64_t features,
	uint16_t first, const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(index, features, first, cuts, head);
	unsigned int i;

	dynvhost_vq_stop(&bed->vq);
	memcpy(bed->packed.desc, ring, RING_BYTES);
	note(bed, &of_resume, resume);
	bed_teardown(NULL);
	for (i = 1; i < of_resume.n; i++)
		go_on_from(of_resume.ring[i], index, features, first, cuts);
}

static void
cut_everywhere(uint16_t index, uint64_t features, const struct cuts *cuts, uint16_t first)
{
	unsigned int i;

	print_message("# %s, from slot %u on\n", cuts->name, first);
	note_moments(index, features, first, cuts);
	for (i = 0; i < of_burst.n; i++) {
		go_on_from(of_burst.ring[i], index, features, first, cuts);
		if (first != 0)
			die_again_from(of_burst.ring[i], index, features, first, cuts);
	}
}

static void
cut_all(uint16_t index, uint64_t features)
{
	unsigned int c, s;

	for (c = 0; c < RTE_DIM(all_cuts); c++)
		for (s = 0; s < RTE_DIM(firsts); s++)
			cut_everywhere(index, features, &all_cuts[c], firsts[s]);
}

static void
packets_from_the_guest(void **state)
{
	cut_all(BED_DEQUEUE, BED_V1);
}

static void
packets_from_the_guest_in_order(void **state)
{
	cut_all(BED_DEQUEUE, BED_V1 | BED_IN_ORDER);
}

static void
packets_for_the_guest(void **state)
{
	cut_all(BED_ENQUEUE, BED_V1);
}

static void
merged_packets_for_the_guest(void **state)
{
	cut_all(BED_ENQUEUE, BED_V1 | BED_MRG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(packets_from_the_guest),
		BED_TEST(packets_from_the_guest_in_order),
		BED_TEST(packets_for_the_guest),
		BED_TEST(merged_packets_for_the_guest),
	};

	return bed_run(tests);
}
