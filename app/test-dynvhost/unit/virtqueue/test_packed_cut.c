/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A back-end that dies in the middle of a burst, after whichever of its instructions: the next one
 * finds in the ring alone where to go on. Every buffer comes back to the driver, once and in order,
 * nothing is written outside of buffers, and what was not taken before is taken now, whole.
 */

#include <string.h>

#include "bed_step.h"
#include "packed_bed.h"

#define SIZE    32u
#define PACKETS 8u
#define FRAME   60u

#define RING_BYTES (SIZE * sizeof(struct vring_packed_desc))

/** The ring as it was at each moment of a burst, one behind the other. */
static struct moments {
	const struct vring_packed_desc *desc;
	struct vring_packed_desc ring[200][SIZE];
	unsigned int n;
	bool full;
} moments;

static void
look(void)
{
	struct moments *m = &moments;

	if (memcmp(m->ring[m->n - 1], m->desc, RING_BYTES) == 0)
		return;
	m->full |= m->n == RTE_DIM(m->ring);
	if (!m->full)
		memcpy(m->ring[m->n++], m->desc, RING_BYTES);
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
	{.name = "tables",
		.shape = {BED_SHAPE_TABLE, [3] = BED_SHAPE_TABLE, [5] = BED_SHAPE_MIXED},
		.slots = {3, 1, 1, 2, 1, 2, 1, 3}},
};

/** Where rings begin; from the second one on, their end lies in the burst. */
static const uint16_t starts[] = {0, 28, 21};

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
	uint16_t index, uint64_t features, uint16_t start, const struct cuts *cuts, uint16_t *head)
{
	struct bed *bed = open_bed(index, features, SIZE, start);
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
note_moments(uint16_t index, uint64_t features, uint16_t start, const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(index, features, start, cuts, head);
	unsigned int i;

	if (index == BED_ENQUEUE)
		make_packets();
	moments.desc = bed->packed.desc;
	moments.n = 1;
	memcpy(moments.ring[0], bed->packed.desc, RING_BYTES);
	bed_step(bed, burst, look);
	assert_int_equal(moved, PACKETS);
	for (i = 0; i < PACKETS && index == BED_DEQUEUE; i++)
		bed_expect_packet(bed->pkts[i], FRAME, i, BED_ROOM);
	/* Each packet's descriptor changes, and at last the first one's flags. */
	assert_false(moments.full);
	assert_true(moments.n > PACKETS);
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

/* @return how many have another length than they should have. */
static unsigned int
expect_all_back(struct bed *bed, const uint16_t *head)
{
	const uint32_t len = bed->config.index == BED_ENQUEUE ? BED_HDR_LEN + FRAME : 0;
	unsigned int odd = 0;
	struct ring_used used;
	unsigned int i;

	for (i = 0; i < PACKETS; i++) {
		assert_true(bed_collect(bed, &used));
		assert_int_equal(used.id, head[i]);
		odd += used.len != 0 && used.len != len;
	}
	assert_false(bed_has_used(bed));
	assert_int_equal(bed_room(bed), SIZE);
	return odd;
}

static void
receive_from(const struct vring_packed_desc *ring, uint64_t features, uint16_t start,
	const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(BED_DEQUEUE, features, start, cuts, head);
	uint16_t n, i;

	start_from(bed, ring);
	n = bed_dequeue(bed, bed_pool(), 32);
	assert_in_range(n, 0, PACKETS);
	for (i = 0; i < n; i++)
		bed_expect_packet(bed->pkts[i], FRAME, PACKETS - n + i, BED_ROOM);
	assert_int_equal(expect_all_back(bed, head), 0);
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

/* @return as expect_all_back(). */
static unsigned int
send_from(const struct vring_packed_desc *ring, uint64_t features, uint16_t start,
	const struct cuts *cuts)
{
	uint16_t head[PACKETS];
	struct bed *bed = open_and_add(BED_ENQUEUE, features, start, cuts, head);
	unsigned int odd;
	uint16_t n;

	start_from(bed, ring);
	make_packets();
	bed_freeze(bed);
	n = bed->vq.enqueue(&bed->vq, pkts, PACKETS);
	rte_pktmbuf_free_bulk(pkts + n, (unsigned int)(PACKETS - n));
	expect_written_in_buffers(bed, head);
	odd = expect_all_back(bed, head);
	bed_teardown(NULL);
	return odd;
}

static void
cut_everywhere(uint16_t index, uint64_t features, const struct cuts *cuts, uint16_t start)
{
	unsigned int odd = 0;
	unsigned int i;

	print_message("# %s, from slot %u on\n", cuts->name, start);
	note_moments(index, features, start, cuts);
	for (i = 0; i < moments.n; i++) {
		if (index == BED_DEQUEUE)
			receive_from(moments.ring[i], features, start, cuts);
		else
			odd += send_from(moments.ring[i], features, start, cuts);
	}
	/* There is one moment at which a length is not known: the first buffer's, when there is another
	 * one behind it, and a chain's, when all of its slots but the first have been marked.
	 */
	for (i = 0; i < PACKETS && odd > 0; i++)
		odd -= i == 0 || cuts->slots[i] > 1;
	assert_int_equal(odd, 0);
}

static void
cut_all(uint16_t index, uint64_t features)
{
	unsigned int c, s;

	for (c = 0; c < RTE_DIM(all_cuts); c++)
		for (s = 0; s < RTE_DIM(starts); s++)
			cut_everywhere(index, features, &all_cuts[c], starts[s]);
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
