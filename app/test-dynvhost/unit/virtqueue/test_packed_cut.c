/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A back-end that dies in the middle of a burst, after whichever of its instructions: the next one
 * finds in the ring alone where to go on, and if it dies while it looks, the one after that. Every
 * buffer comes back to the driver, once and in order, nothing is written outside of buffers, and what
 * was not taken before is taken now, whole.
 */

#include <string.h>

#include "bed_step.h"
#include "packed_bed.h"

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
static struct moments of_burst, of_start, *noted;

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

/** Where rings begin; from the second one on, their end lies in the burst. */
static const uint16_t firsts[] = {0, 28, 21};

static uint16_t
add(struct bed *bed, const struct cuts *cuts, unsigned int i)
{
	/* Packets for the guest leave room in their buffers. */
	static const uint32_t cut[2][5][4] = {
		[BED_ENQUEUE] = {{0}, {100}, {12, 88}, {12, 20, 68}, {12, 20, 20, 48}},
		[BED_DEQUEUE] = {{0}, {72}, {12, 60}, {12, 20, 40}, {12, 20, 20, 20}},
	};
	const uint16_t n = cuts->slots[i];

	if (bed->config.index == BED_DEQUEUE)
		return bed_send(bed, cuts->shape[i], cut[BED_DEQUEUE][n], n, i);
	return bed_offer(bed, cuts->shape[i], cut[BED_ENQUEUE][n], n);
}

static struct bed *
open_and_add(
	uint16_t index, uint64_t features, uint16_t first, const struct cuts *cuts, uint16_t *head)
{
	struct bed *bed = open_bed(index, features, SIZE, first);
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
	moved = bed->config.index == BED_DEQUEUE ? bed_dequeue(bed, bed_pool(), 32)
						 : bed->vq.enqueue(&bed->vq, pkts, PACKETS);
}

static void
make_packets(void)
{
	unsigned int i;

	for (i = 0; i < PACKETS; i++)
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
		make_packets();
	note(bed, &of_burst, burst);
	assert_int_equal(moved, PACKETS);
	for (i = 0; i < PACKETS && index == BED_DEQUEUE; i++)
		bed_expect_packet(bed->pkts[i], FRAME, i, BED_ROOM);
	/* Each packet's descriptor changes, and at last the first one's flags. */
	assert_true(of_burst.n > PACKETS);
	bed_teardown(NULL);
}

static int started;

static void
start(struct bed *bed)
{
	started = dynvhost_vq_start(&bed->vq, &bed->setup);
}

/* The next back-end finds the ring as it was at one of those moments. */
static void
start_from(struct bed *bed, const struct vring_packed_desc *ring)
{
	dynvhost_vq_stop(&bed->vq);
	memcpy(bed->packed.desc, ring, RING_BYTES);
	start(bed);
	assert_int_equal(started, 0);
}

static void
expect_all_back(struct bed *bed, const uint16_t *head)
{
	const uint32_t len = bed->config.index == BED_ENQUEUE ? BED_HDR_LEN + FRAME : 0;
	struct ring_used used;
	unsigned int i;

	for (i = 0; i < PACKETS; i++) {
		assert_true(bed_collect(bed, &used));
		assert_int_equal(used.id, head[i]);
		assert_true(used.len == 0 || used.len == len);
	}
	assert_false(bed_has_used(bed));
	assert_int_equal(bed_room(bed), SIZE);
}

static void
receive_from(const struct vring_packed_desc *ring, uint64_t features, uint16_t first,
	const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(BED_DEQUEUE, features, first, cuts, head);
	uint16_t n, i;

	start_from(bed, ring);
	n = bed_dequeue(bed, bed_pool(), 32);
	assert_in_range(n, 0, PACKETS);
	for (i = 0; i < n; i++)
		bed_expect_packet(bed->pkts[i], FRAME, PACKETS - n + i, BED_ROOM);
	expect_all_back(bed, head);
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
	uint16_t n;

	start_from(bed, ring);
	make_packets();
	bed_freeze(bed);
	n = bed->vq.enqueue(&bed->vq, pkts, PACKETS);
	rte_pktmbuf_free_bulk(pkts + n, (unsigned int)(PACKETS - n));
	expect_written_in_buffers(bed, head);
	expect_all_back(bed, head);
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
	note(bed, &of_start, start);
	assert_int_equal(started, 0);
	bed_teardown(NULL);
	for (i = 1; i < of_start.n; i++)
		go_on_from(of_start.ring[i], index, features, first, cuts);
}

static void
cut_everywhere(uint16_t index, uint64_t features, const struct cuts *cuts, uint16_t first)
{
	unsigned int i;

	print_message("# %s, from slot %u on\n", cuts->name, first);
	note_moments(index, features, first, cuts);
	for (i = 0; i < of_burst.n; i++) {
		go_on_from(of_burst.ring[i], index, features, first, cuts);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(packets_from_the_guest),
		BED_TEST(packets_from_the_guest_in_order),
		BED_TEST(packets_for_the_guest),
	};

	return bed_run(tests);
}
