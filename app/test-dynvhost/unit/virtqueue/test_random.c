/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Random guests. Well-behaved ones, whose every packet must arrive byte by byte, in order, over a
 * used ring that keeps the law; and hostile ones, which write rubbish into rings and tables, or
 * write while the device reads, and must be survived.
 *
 * DYNVHOST_TEST_SEED and DYNVHOST_TEST_ROUNDS in the environment choose other runs than the usual,
 * DYNVHOST_TEST_LONG a longer one.
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bed.h"
#include "mock.h"
#include "packet.h"

#define REGION_SIZE   (64u << 10)
#define N_REGIONS     16u
#define RAM_SIZE      (N_REGIONS * REGION_SIZE)
#define STEPS         60
#define RANDOM_ROUNDS 24
#define MAX_FRAME     DYNVHOST_VQ_MAX_FRAME

/** A buffer the guest has made available, and what was in it. */
struct pending {
	uint16_t head;
	uint16_t slots; /* descriptors of the ring that it takes */
	uint32_t seed;
	uint64_t len;
};

/** What the guest has made available and not got back, in order. */
struct queue {
	struct pending item[256];
	unsigned int n;
};

static uint64_t random_state;
static unsigned int random_rounds = RANDOM_ROUNDS;

static uint32_t
below(uint32_t n)
{
	return mock_random(&random_state, n);
}

static bool
one_in(uint32_t n)
{
	return below(n) == 0;
}

/* Many regions side by side in guest memory, of two files in turn; all pages present. */
static void
lay_out_patchwork(struct guest_ram *ram)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		guest_ram_add_file(ram, RAM_SIZE / 2, GUEST_RAM_PAGE);
		memset(ram->file[i].base, 0, RAM_SIZE / 2);
	}
	for (i = 0; i < N_REGIONS; i++)
		guest_ram_add_region(ram, i % 2, (uint64_t)(i / 2) * REGION_SIZE,
			(uint64_t)i * REGION_SIZE, REGION_SIZE, 0);
}

static struct bed *
open_random_bed(uint16_t index)
{
	uint64_t features = BED_INDIRECT;

	features |= one_in(2) ? BED_V1 : 0;
	features |= one_in(2) ? BED_MRG : 0;
	features |= one_in(2) ? BED_EVENT : 0;
	features |= one_in(2) ? BED_IN_ORDER : 0;
	return bed_open(&(struct bed_config){
		.index = index,
		.features = features,
		.size = bed_format.small_sizes[below(RTE_DIM(bed_format.small_sizes))],
		.start = (uint16_t)(one_in(2) ? 65536 - below(64) : below(65536)),
		.log = one_in(2),
		.lay_out = lay_out_patchwork,
		.buffers_from = REGION_SIZE,
		.buffers_to = RAM_SIZE,
		/* Few and large, so that no burst runs into the limit of what it may open. */
		.mem.granule = REGION_SIZE,
	});
}

static uint32_t
random_piece_len(void)
{
	switch (below(8)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
	case 3:
		return below(20);
	case 4:
	case 5:
		return below(300);
	case 6:
		return below(2000);
	default:
		return one_in(8) ? below(30000) : below(5000);
	}
}

/* A random shape and cut that the ring and the guest's memory have room for; 0 pieces: none. */
static uint16_t
random_cut(const struct bed *bed, enum bed_shape *shape, uint32_t *cut)
{
	uint64_t room = bed->config.buffers_to - bed->next_gpa;
	uint16_t n_free = bed_room(bed);
	uint16_t n = 0;
	uint16_t i;

	*shape = (enum bed_shape)below(BED_SHAPES);
	if (*shape == BED_SHAPE_DIRECT && n_free >= 1)
		n = (uint16_t)(1 + below(RTE_MIN(n_free, 8u)));
	else if (*shape == BED_SHAPE_TABLE && n_free >= 1)
		n = (uint16_t)(1 + below(one_in(4) ? 60 : 6));
	else if (*shape == BED_SHAPE_MIXED && n_free >= 2)
		n = (uint16_t)(2 + below(6));
	for (i = 0; i < n; i++) {
		cut[i] = random_piece_len();
		if (cut[i] + 100 > room)
			return 0;
		room -= cut[i] + 100;
	}
	return n;
}

static void
push(struct queue *queue, struct pending item)
{
	assert_true(queue->n < RTE_DIM(queue->item));
	queue->item[queue->n++] = item;
}

static void
pop(struct queue *queue, unsigned int n)
{
	assert_true(n <= queue->n);
	queue->n -= n;
	memmove(queue->item, queue->item + n, queue->n * sizeof(queue->item[0]));
}

/* Make up to @p n buffers available: with frames in them, or to receive. */
static void
guest_adds(struct bed *bed, struct queue *queue, unsigned int n)
{
	uint32_t cut[64];

	while (n-- > 0) {
		enum bed_shape shape;
		uint16_t n_cuts = random_cut(bed, &shape, cut);
		uint16_t room = bed_room(bed);
		struct pending item = {.len = 0};
		uint16_t i;

		for (i = 0; i < n_cuts; i++)
			item.len += cut[i];
		if (n_cuts == 0 || item.len > PACKET_MAX)
			continue;
		item.seed = ++bed->seed;
		if (bed->config.index == BED_DEQUEUE)
			item.head = bed_send(bed, shape, cut, n_cuts, item.seed);
		else
			item.head = bed_offer(bed, shape, cut, n_cuts);
		item.slots = (uint16_t)(room - bed_room(bed));
		push(queue, item);
	}
}

/* One burst of @p n, and everything it must have done. */
static void
host_dequeues(struct bed *bed, struct queue *queue, uint16_t n)
{
	unsigned int taken = RTE_MIN(n, queue->n);
	uint64_t len = 0;
	uint16_t moved = 0;
	uint16_t got;
	unsigned int i;
	bool small;

	for (i = 0; i < taken; i++)
		len += queue->item[i].len;
	/* The small mbufs are not enough for everything. */
	small = len < 2048 * BED_SMALL_ROOM && one_in(2);
	bed_freeze(bed);
	got = bed_dequeue(bed, small ? bed_small_pool() : bed_pool(), n);
	for (i = 0; i < taken; i++) {
		const struct pending *item = &queue->item[i];
		uint64_t hdr_len = bed->vq.hdr_len;

		bed_expect_used(bed, item->head, 0);
		if (item->len < hdr_len + DYNVHOST_VQ_MIN_FRAME || item->len > hdr_len + MAX_FRAME)
			continue;
		bed_expect_packet(bed->pkts[moved++], (uint32_t)(item->len - hdr_len), item->seed,
			small ? BED_SMALL_ROOM : BED_ROOM);
	}
	assert_int_equal(got, moved);
	bed_expect_memory(bed);
	pop(queue, taken);
}

/*
 * How many of the first buffers a packet must take, by the rules. @return 0: it is dropped; -1: it
 * waits.
 */
static int
buffers_needed(const struct bed *bed, const struct queue *queue, unsigned int first, uint32_t len)
{
	uint64_t need = (uint64_t)len + bed->vq.hdr_len;
	unsigned int entries = 0;
	uint64_t sum = 0;
	unsigned int i;

	if (first == queue->n)
		return -1;
	if (len > MAX_FRAME || queue->item[first].len < bed->vq.hdr_len)
		return 0;
	if (!(bed->config.features & BED_MRG))
		return queue->item[first].len >= need;
	for (i = first; i < queue->n; i++) {
		sum += queue->item[i].len;
		if (sum >= need)
			return (int)(i - first + 1);
		entries += bed_format.packed ? queue->item[i].slots : 1;
	}
	return entries == bed->config.size ? 0 : -1;
}

static uint32_t
random_frame_len(void)
{
	if (one_in(10))
		return below(MAX_FRAME + 200);
	return 14 + below(one_in(3) ? 9000 : 1500);
}

static struct rte_mbuf *
random_packet(uint32_t len, uint32_t seed)
{
	if (len <= BED_ROOM && one_in(2))
		return bed_packet(bed_pool(), len, 0, seed);
	if (one_in(2))
		return bed_packet(bed_pool(), len, 400 + below(BED_ROOM - 400), seed);
	return bed_packet(bed_small_pool(), len, 40 + below(BED_SMALL_ROOM - 40), seed);
}

/* One burst of @p n packets, and everything it must have done. */
static void
host_enqueues(struct bed *bed, struct queue *queue, uint16_t n)
{
	struct rte_mbuf *pkts[4];
	uint32_t len[4];
	unsigned int taken = 0;
	uint16_t consumed;
	uint16_t i;

	for (i = 0; i < n; i++) {
		len[i] = random_frame_len();
		pkts[i] = random_packet(len[i], bed->seed + i);
	}
	bed_freeze(bed);
	consumed = bed->vq.enqueue(&bed->vq, pkts, n);
	for (i = 0; i < consumed; i++) {
		int k, n_bufs = buffers_needed(bed, queue, taken, len[i]);
		uint16_t head[256];

		assert_true(n_bufs >= 0);
		for (k = 0; k < n_bufs; k++)
			head[k] = queue->item[taken + (unsigned int)k].head;
		if (n_bufs > 0)
			bed_expect_delivered(bed, len[i], bed->seed + i, head, (uint16_t)n_bufs);
		taken += (unsigned int)n_bufs;
	}
	if (consumed < n) {
		assert_int_equal(buffers_needed(bed, queue, taken, len[consumed]), -1);
		rte_pktmbuf_free_bulk(&pkts[consumed], n - consumed);
	}
	bed_expect_memory(bed);
	pop(queue, taken);
	bed->seed += n;
}

/* Begin the guest's memory anew when nothing of it is in use, or when it is short. */
static void
recycle(struct bed *bed, struct queue *queue)
{
	if (queue->n > 0 && bed->next_gpa < RAM_SIZE / 2)
		return;
	while (queue->n > 0 && bed->config.index == BED_DEQUEUE)
		host_dequeues(bed, queue, 32);
	if (queue->n > 0) {
		dynvhost_vq_stop(&bed->vq);
		bed_reset(bed, bed->config.start);
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		queue->n = 0;
	}
	bed->next_gpa = bed->config.buffers_from;
}

static void
every_frame_of_random_chains_arrives(void **state)
{
	unsigned int round, step;

	for (round = 0; round < random_rounds; round++) {
		struct bed *bed = open_random_bed(BED_DEQUEUE);
		struct queue queue = {.n = 0};

		for (step = 0; step < STEPS; step++) {
			guest_adds(bed, &queue, below(10));
			host_dequeues(bed, &queue, (uint16_t)below(12));
			recycle(bed, &queue);
		}
		assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
		bed_teardown(NULL);
	}
}

static void
every_packet_arrives_in_random_buffers(void **state)
{
	unsigned int round, step;

	for (round = 0; round < random_rounds; round++) {
		struct bed *bed = open_random_bed(BED_ENQUEUE);
		struct queue queue = {.n = 0};

		for (step = 0; step < STEPS; step++) {
			guest_adds(bed, &queue, below(10));
			host_enqueues(bed, &queue, (uint16_t)below(5));
			recycle(bed, &queue);
		}
		assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
		bed_teardown(NULL);
	}
}

/* A descriptor that is nearly right. */
static struct vring_desc
random_desc(const struct bed *bed)
{
	static const uint16_t flags[] = {0, VRING_DESC_F_NEXT, VRING_DESC_F_NEXT,
		VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT};
	struct vring_desc desc = {
		.addr = below(RAM_SIZE),
		.len = random_piece_len(),
		.flags = flags[below(RTE_DIM(flags))],
		.next = (uint16_t)below(bed->config.size),
	};

	if (one_in(50))
		desc.addr = ((uint64_t)below(UINT32_MAX) << 32) | below(UINT32_MAX);
	if (one_in(50))
		desc.len = below(UINT32_MAX);
	if (one_in(50))
		desc.next = (uint16_t)below(65536);
	if (one_in(50))
		desc.flags = (uint16_t)below(65536);
	if (desc.flags & VRING_DESC_F_INDIRECT)
		desc.len = 16 * below(one_in(10) ? 2000 : 20);
	if ((bed->config.index == BED_ENQUEUE) != one_in(50))
		desc.flags |= VRING_DESC_F_WRITE;
	return desc;
}

/* Rubbish in the ring, and in what may be tables. */
static void
guest_writes_rubbish(struct bed *bed)
{
	uint16_t i;

	for (i = 0; i < bed->config.size; i++) {
		struct vring_desc desc = random_desc(bed);

		bed_rewrite(bed, i, &desc,
			(uint16_t)(one_in(100) ? below(65536) : below(bed->config.size)));
	}
	for (i = 0; i < 200; i++) {
		struct vring_desc desc = random_desc(bed);
		uint64_t gpa = below(RAM_SIZE - 16);

		/* Not over the rings, which have had theirs. */
		if (gpa >= REGION_SIZE)
			bed_write_entry(bed, gpa, &desc);
	}
	bed_force_available(
		bed, one_in(100) ? bed->config.size + 1u : below(bed->config.size + 1u));
}

/* One burst in the ring's direction; all mbufs are freed. */
static void
host_moves(struct bed *bed)
{
	struct rte_mbuf *pkts[8];
	uint16_t n;
	uint16_t i;

	if (bed->config.index == BED_DEQUEUE) {
		n = bed_dequeue(bed, one_in(2) ? bed_small_pool() : bed_pool(), 32);
		rte_pktmbuf_free_bulk(bed->pkts, n);
		return;
	}
	for (i = 0; i < RTE_DIM(pkts); i++)
		pkts[i] = random_packet(random_frame_len() / 4, i);
	n = bed->vq.enqueue(&bed->vq, pkts, RTE_DIM(pkts));
	assert_true(n <= RTE_DIM(pkts));
	rte_pktmbuf_free_bulk(&pkts[n], RTE_DIM(pkts) - n);
}

static void
rubbish_in_the_rings_is_survived(void **state)
{
	unsigned int faults[DYNVHOST_VQ_FAULTS] = {0};
	unsigned int round, step, i;

	for (round = 0; round < random_rounds; round++) {
		struct bed *bed = open_random_bed((uint16_t)(round % 2));

		for (step = 0; step < STEPS; step++) {
			uint64_t bad_chains = bed->vq.stats.bad_chains;

			guest_writes_rubbish(bed);
			for (i = 0; i < 4; i++)
				host_moves(bed);
			assert_true(bed->vq.fault < DYNVHOST_VQ_FAULTS);
			assert_int_equal(bed->vq.stats.bad_chains - bad_chains,
				bed->vq.fault != DYNVHOST_VQ_OK);
			bed_expect_position(bed);
			faults[bed->vq.fault]++;
			bed_restart(bed);
		}
		bed_teardown(NULL);
	}
	/* The rubbish was good enough to end in every way there is. */
	for (i = 0; i < DYNVHOST_VQ_FAULTS; i++)
		assert_int_equal(faults[i] != 0, (bed_format.faults >> i) & 1);
}

/** A guest's processor that rewrites what the device reads. */
struct racer {
	struct bed *bed;
	_Atomic bool stop;
};

static void *
race(void *arg)
{
	struct racer *racer = arg;
	struct bed *bed = racer->bed;
	uint32_t x = 1;

	while (!atomic_load(&racer->stop)) {
		struct vring_desc desc;

		x = x * 1664525 + 1013904223;
		desc.len = (x & 3) != 0 ? x >> 20 : x;
		desc.addr = (x & 12) != 0 ? x >> 12 : x;
		/* With the two bits that make a packed descriptor available, or not. */
		desc.flags = (uint16_t)(x >> 16 & 0x8087);
		desc.next = (uint16_t)(x >> 10);
		bed_rewrite(
			bed, (uint16_t)((x >> 8) % bed->config.size), &desc, (uint16_t)(x >> 24));
	}
	return NULL;
}

static void
rings_rewritten_while_they_are_read_are_survived(void **state)
{
	uint16_t index;

	for (index = BED_ENQUEUE; index <= BED_DEQUEUE; index++) {
		struct bed *bed = open_random_bed(index);
		struct racer racer = {.bed = bed};
		uint64_t deadline = mock_now_ms() + 5 * random_rounds;
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
		while (mock_now_ms() < deadline) {
			bed_force_available(bed, bed->config.size);
			host_moves(bed);
			bed_expect_position(bed);
			if (bed->vq.fault == DYNVHOST_VQ_OK)
				continue;
			bed_unmark(bed);
			bed_restart(bed);
		}
		atomic_store(&racer.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		bed_teardown(NULL);
	}
}

/* The seed of the run, or what the environment says. */
static int
seed_test(void **state)
{
	const char *seed = getenv("DYNVHOST_TEST_SEED");
	const char *rounds = getenv("DYNVHOST_TEST_ROUNDS");

	random_state = seed != NULL ? strtoull(seed, NULL, 0) : 20260101;
	if (random_state == 0)
		random_state = 1;
	if (getenv("DYNVHOST_TEST_LONG") != NULL)
		random_rounds = 10 * RANDOM_ROUNDS;
	if (rounds != NULL)
		random_rounds = (unsigned int)strtoul(rounds, NULL, 0);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			every_frame_of_random_chains_arrives, seed_test, bed_teardown),
		cmocka_unit_test_setup_teardown(
			every_packet_arrives_in_random_buffers, seed_test, bed_teardown),
		cmocka_unit_test_setup_teardown(
			rubbish_in_the_rings_is_survived, seed_test, bed_teardown),
		cmocka_unit_test_setup_teardown(
			rings_rewritten_while_they_are_read_are_survived, seed_test, bed_teardown),
	};

	return bed_run(tests);
}
