/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Buffers in huge pages, of which the short way remembers the last one it found open (fast.h): what
 * is remembered of a page must end where the region does, on either side, and with the burst.
 *
 * Two regions of one file. The first begins inside a page and ends inside the next; there, without a
 * byte between them in the file, begins the second, which ends in the same page.
 */

#include <pthread.h>
#include <string.h>

#include "bed.h"
#include "fast.h"
#include "mock.h"
#include "packet.h"

#define HUGE      GUEST_RAM_HUGEPAGE
#define FILE_SIZE (4 * HUGE)

#define FIRST       (1ULL << 30)
#define FIRST_PHASE 0x30000ULL
#define FIRST_SIZE  (HUGE - FIRST_PHASE + 0x50000ULL)
#define FIRST_END   (FIRST + FIRST_SIZE)
/** Where the second page begins. */
#define BORDER (FIRST + HUGE - FIRST_PHASE)

#define SECOND      (2ULL << 30)
#define SECOND_SIZE 0x10007ULL /* of no round number of anything */
#define SECOND_END  (SECOND + SECOND_SIZE)

#define FRAME 300u
#define LEN   (BED_HDR_LEN + FRAME)
#define MAX   16

/** Indices of the regions in a view. */
enum { IN_RINGS, IN_FIRST, IN_SECOND };

static void
lay_out(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, BED_RAM, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, BED_RAM, 0);
	guest_ram_add_file(ram, FILE_SIZE, HUGE);
	guest_ram_add_region(ram, 1, HUGE + FIRST_PHASE, FIRST, FIRST_SIZE, 0);
	guest_ram_add_region(ram, 1, HUGE + FIRST_PHASE + FIRST_SIZE, SECOND, SECOND_SIZE, 0);
}

static struct bed *
open_bed(uint16_t index)
{
	if (!guest_ram_has_hugepages(FILE_SIZE)) {
		print_message("# skipped: no free pages of 2 MiB on this machine\n");
		skip();
	}
	return bed_open(&(struct bed_config){
		.index = index,
		.features = BED_V1,
		.lay_out = lay_out,
	});
}

static bool
receives(const struct bed *bed)
{
	return bed->config.index == BED_DEQUEUE;
}

static enum dynvhost_mem_right
right_of(const struct bed *bed)
{
	return receives(bed) ? DYNVHOST_MEM_READ : DYNVHOST_MEM_WRITE;
}

static bool
is_open(const struct bed *bed, uint32_t region, enum dynvhost_mem_right right, uint64_t page)
{
	return (bed->view->region[region]->window[right].state[page] & DYNVHOST_MEM_OPEN) != 0;
}

/* A buffer of LEN bytes at a place of the test's choice. @return its head. */
static uint16_t
put(struct bed *bed, uint64_t gpa, uint32_t seed)
{
	const struct ring_piece piece = {.gpa = gpa, .len = LEN, .writable = !receives(bed)};
	uint8_t bytes[LEN];

	memset(bytes, 0xff, BED_HDR_LEN);
	packet_fill(bytes + BED_HDR_LEN, FRAME, seed);
	if (!receives(bed))
		memset(bytes, 0xa5, sizeof(bytes));
	guest_ram_write(&bed->ram, gpa, bytes, LEN);
	return bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
}

/* One burst of up to @p n packets, of which @p done move: those of seeds 0, 1, …, in these buffers. */
static void
burst(struct bed *bed, const uint16_t *head, uint16_t n, uint16_t done)
{
	struct rte_mbuf *pkts[MAX];
	uint16_t i;

	bed_freeze(bed);
	if (receives(bed)) {
		assert_int_equal(bed_dequeue(bed, bed_pool(), n), done);
	} else {
		for (i = 0; i < n; i++)
			pkts[i] = bed_packet(bed_pool(), FRAME, 0, i);
		assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, n), done);
		for (i = done; i < n; i++)
			rte_pktmbuf_free(pkts[i]);
	}
	for (i = 0; i < done; i++) {
		if (receives(bed)) {
			bed_expect_packet(bed->pkts[i], FRAME, i, BED_ROOM);
			bed_expect_used(bed, head[i], 0);
		} else {
			bed_expect_delivered(bed, FRAME, i, &head[i], 1);
		}
	}
	bed_expect_memory(bed);
}

/* A burst of buffers at these places, all of which move. @return how many went the short way. */
static uint64_t
move(struct bed *bed, const uint64_t *gpa, uint16_t n)
{
	const uint64_t before = bed->vq.ordinary;
	uint16_t head[MAX], i;

	for (i = 0; i < n; i++)
		head[i] = put(bed, gpa[i], i);
	burst(bed, head, n, n);
	return bed->vq.ordinary - before;
}

/* Open the pages of the first region, in which the queue begins from now on. */
static void
open_first(struct bed *bed)
{
	move(bed, (const uint64_t[]){BORDER - LEN, BORDER}, 2);
	assert_true(fast_keeps_pages(&bed->vq));
}

static void
all_bytes_of_a_region_serve(uint16_t index)
{
	static const uint64_t places[] = {FIRST_END - LEN, FIRST, BORDER - 1 - LEN, BORDER - 1,
		FIRST + LEN, BORDER - 1 + LEN, FIRST_END - 2 * LEN, FIRST_END - 3 * LEN - 1};
	struct bed *bed = open_bed(index);

	open_first(bed);
	assert_int_equal(move(bed, (const uint64_t[]){BORDER - LEN, BORDER}, 2), 2);
	assert_int_equal(move(bed, places, RTE_DIM(places)), RTE_DIM(places));
	/* One place alone, too: nothing is remembered yet. */
	for (size_t i = 0; i < RTE_DIM(places); i++)
		assert_int_equal(move(bed, &places[i], 1), 1);
}

static void
received_from_all_bytes_of_a_region(void **state)
{
	all_bytes_of_a_region_serve(BED_DEQUEUE);
}

static void
sent_to_all_bytes_of_a_region(void **state)
{
	all_bytes_of_a_region_serve(BED_ENQUEUE);
}

/* What is open ends with the page, on either side of the border between them. */
static void
expect_page_alone(uint16_t index)
{
	static const uint64_t beyond[] = {BORDER - 1, BORDER - LEN + 1, BORDER, FIRST_END - LEN};
	static const uint64_t before[] = {BORDER - 1, BORDER - LEN + 1, BORDER - LEN, FIRST};

	for (size_t i = 0; i < RTE_DIM(beyond); i++) {
		struct bed *bed = open_bed(index);

		move(bed, (const uint64_t[]){FIRST + LEN}, 1);
		assert_false(is_open(bed, IN_FIRST, right_of(bed), 1));
		assert_int_equal(move(bed, (const uint64_t[]){FIRST + LEN, beyond[i]}, 2), 1);
		assert_true(is_open(bed, IN_FIRST, right_of(bed), 1));
		bed_teardown(NULL);

		bed = open_bed(index);
		move(bed, (const uint64_t[]){BORDER + LEN}, 1);
		assert_false(is_open(bed, IN_FIRST, right_of(bed), 0));
		assert_int_equal(move(bed, (const uint64_t[]){BORDER + LEN, before[i]}, 2), 1);
		assert_true(is_open(bed, IN_FIRST, right_of(bed), 0));
		bed_teardown(NULL);
	}
}

static void
open_page_does_not_speak_for_its_neighbour_to_receive_from(void **state)
{
	expect_page_alone(BED_DEQUEUE);
}

static void
open_page_does_not_speak_for_its_neighbour_to_send_to(void **state)
{
	expect_page_alone(BED_ENQUEUE);
}

/*
 * A burst of buffers at these places, the last of which is no buffer that could be used: all others
 * move, and the queue stops.
 */
static void
expect_refused(uint16_t index, const uint64_t *gpa, uint16_t n)
{
	struct bed *bed = open_bed(index);
	uint16_t head[MAX], i;
	uint64_t before;

	open_first(bed);
	before = bed->vq.ordinary;
	for (i = 0; i < n - 1; i++)
		head[i] = put(bed, gpa[i], i);
	bed_offer_raw(bed,
		&(struct vring_desc){.addr = gpa[n - 1],
			.len = LEN,
			.flags = receives(bed) ? 0 : VRING_DESC_F_WRITE},
		1);
	burst(bed, head, n, n - 1);
	assert_int_equal(bed->vq.ordinary - before, n - 1);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
	assert_false(is_open(bed, IN_SECOND, right_of(bed), 0));
	bed_teardown(NULL);
}

/* By itself, and right behind buffers in either page. */
static void
expect_never_taken(uint16_t index, uint64_t gpa)
{
	expect_refused(index, &gpa, 1);
	expect_refused(index, (const uint64_t[]){FIRST, gpa}, 2);
	expect_refused(index, (const uint64_t[]){FIRST_END - LEN, gpa}, 2);
	expect_refused(index, (const uint64_t[]){BORDER - 1, gpa}, 2);
	expect_refused(index, (const uint64_t[]){FIRST, FIRST_END - LEN, FIRST + LEN, gpa}, 4);
}

static void
expect_ends_where_the_region_does(uint16_t index)
{
	expect_never_taken(index, FIRST_END - LEN + 1);
	expect_never_taken(index, FIRST_END - 1);
	expect_never_taken(index, FIRST_END);
	expect_never_taken(index, FIRST_END + LEN);
}

static void
nothing_is_received_from_beyond_the_end_of_a_region(void **state)
{
	expect_ends_where_the_region_does(BED_DEQUEUE);
}

static void
nothing_is_sent_beyond_the_end_of_a_region(void **state)
{
	expect_ends_where_the_region_does(BED_ENQUEUE);
}

static void
expect_begins_where_the_region_does(uint16_t index)
{
	expect_never_taken(index, FIRST - 1);
	expect_never_taken(index, FIRST - LEN + 1);
	expect_never_taken(index, FIRST - LEN);
	/* Where the page begins. */
	expect_never_taken(index, FIRST - FIRST_PHASE);
	/* Where a region of the same page would, if it began at guest address 0. */
	expect_never_taken(index, UINT64_MAX - LEN);
}

static void
nothing_is_received_from_before_the_start_of_a_region(void **state)
{
	expect_begins_where_the_region_does(BED_DEQUEUE);
}

static void
nothing_is_sent_before_the_start_of_a_region(void **state)
{
	expect_begins_where_the_region_does(BED_ENQUEUE);
}

/* Bytes of a buffer that no packet needs are not looked for; the long way takes it. */
static void
packet_in_a_buffer_that_reaches_too_far_goes_the_long_way(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE);
	const struct ring_piece piece = {.gpa = FIRST_END - LEN, .len = LEN + 1, .writable = true};
	uint16_t head[2];
	uint64_t before;

	open_first(bed);
	before = bed->vq.ordinary;
	head[0] = put(bed, BORDER, 0);
	head[1] = bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
	burst(bed, head, 2, 2);
	assert_int_equal(bed->vq.ordinary - before, 1);
}

static void
expect_second_region_apart(uint16_t index)
{
	static const uint64_t turns[] = {FIRST_END - LEN, SECOND, FIRST_END - 2 * LEN,
		SECOND_END - LEN, SECOND + LEN, FIRST, BORDER - 1, SECOND + 2 * LEN};
	struct bed *bed = open_bed(index);
	const enum dynvhost_mem_right right = right_of(bed);

	open_first(bed);
	assert_true(is_open(bed, IN_FIRST, right, 1));
	assert_false(is_open(bed, IN_SECOND, right, 0));
	/* The page is open, but not there. */
	assert_int_equal(move(bed, (const uint64_t[]){FIRST_END - LEN, SECOND}, 2), 1);
	assert_true(is_open(bed, IN_SECOND, right, 0));
	assert_int_equal(move(bed, turns, RTE_DIM(turns)), RTE_DIM(turns));
	assert_false(is_open(bed, IN_FIRST, !right, 1));
	assert_false(is_open(bed, IN_SECOND, !right, 0));
}

static void
received_from_two_regions_of_one_page(void **state)
{
	expect_second_region_apart(BED_DEQUEUE);
}

static void
sent_to_two_regions_of_one_page(void **state)
{
	expect_second_region_apart(BED_ENQUEUE);
}

/* Open a page of the second region through one window. */
static void
open_second(struct bed *bed, enum dynvhost_mem_right right)
{
	struct dynvhost_mem_cursor cursor = {.budget = 1};
	struct dynvhost_mem_span span;

	assert_int_equal(dynvhost_mem_translate(bed->view, &cursor, SECOND, LEN, right, &span), 0);
	assert_true(is_open(bed, IN_SECOND, right, 0));
}

static void
expect_own_window(uint16_t index)
{
	struct bed *bed = open_bed(index);
	const enum dynvhost_mem_right right = right_of(bed);

	open_first(bed);
	open_second(bed, right == DYNVHOST_MEM_READ ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ);
	assert_int_equal(
		move(bed, (const uint64_t[]){FIRST_END - LEN, SECOND, SECOND + LEN}, 3), 2);
	assert_true(is_open(bed, IN_SECOND, right, 0));
}

static void
page_that_is_open_for_writing_is_not_received_from(void **state)
{
	expect_own_window(BED_DEQUEUE);
}

static void
page_that_is_open_for_reading_is_not_sent_to(void **state)
{
	expect_own_window(BED_ENQUEUE);
}

/* Whole passes of idle closing, until a page that nobody uses must have gone. */
static void
close_idle(struct bed *bed)
{
	for (int pass = 0; pass < 2; pass++) {
		do {
			dynvhost_mem_idle_pass(bed->mem);
		} while (dynvhost_mem_idle_pending(bed->mem));
	}
}

static void
expect_opened_again(uint16_t index)
{
	static const uint64_t places[] = {
		BORDER, FIRST_END - LEN, FIRST_END - 2 * LEN, BORDER + LEN};
	struct bed *bed = open_bed(index);

	open_first(bed);
	for (int turn = 0; turn < 3; turn++) {
		close_idle(bed);
		assert_false(is_open(bed, IN_FIRST, right_of(bed), 0));
		assert_false(is_open(bed, IN_FIRST, right_of(bed), 1));
		/* The first one opens it. */
		assert_int_equal(move(bed, places, RTE_DIM(places)), RTE_DIM(places) - 1);
		assert_false(is_open(bed, IN_FIRST, right_of(bed), 0));
		assert_int_equal(move(bed, places, RTE_DIM(places)), RTE_DIM(places));
	}
}

static void
idle_page_is_opened_again_to_receive_from(void **state)
{
	expect_opened_again(BED_DEQUEUE);
}

static void
idle_page_is_opened_again_to_send_to(void **state)
{
	expect_opened_again(BED_ENQUEUE);
}

/* Bytes of the file by whose they are. */
enum { OF_NOBODY = 0xee, OF_FIRST = 0x11, OF_SECOND = 0x33 };

static void
mark_regions(const struct bed *bed)
{
	memset(bed->ram.file[1].base, OF_NOBODY, FILE_SIZE);
	memset(guest_ram_at(&bed->ram, FIRST, FIRST_SIZE), OF_FIRST, FIRST_SIZE);
	memset(guest_ram_at(&bed->ram, SECOND, SECOND_SIZE), OF_SECOND, SECOND_SIZE);
}

static void
expect_nobody_s_untouched(const struct bed *bed)
{
	const uint8_t *base = bed->ram.file[1].base;
	const uint64_t begin = HUGE + FIRST_PHASE;
	const uint64_t end = begin + FIRST_SIZE + SECOND_SIZE;

	for (uint64_t i = 0; i < FILE_SIZE; i++)
		if (i < begin || i >= end)
			assert_int_equal(base[i], OF_NOBODY);
}

/* All bytes of a received packet are of one region; free it. */
static void
expect_of_one_region(struct rte_mbuf *pkt)
{
	const uint8_t *data = rte_pktmbuf_mtod(pkt, uint8_t *);

	assert_true(data[0] == OF_FIRST || data[0] == OF_SECOND);
	assert_int_equal(pkt->nb_segs, 1);
	for (uint16_t i = 0; i < pkt->data_len; i++)
		assert_int_equal(data[i], data[0]);
	rte_pktmbuf_free(pkt);
}

struct racer {
	struct bed *bed;
	_Atomic bool stop;
};

/*
 * Write a descriptor that ends with a region, so that its length and any other address, or its address
 * and any greater length, reach beyond; or, now and then, one around some border.
 */
static void
scribble(struct bed *bed, uint16_t i, uint64_t *x)
{
	static const uint64_t borders[] = {FIRST, BORDER, FIRST_END, SECOND, SECOND_END};
	struct vring_desc desc = {.len = BED_HDR_LEN + 20 + (uint32_t)(*x >> 33) % 400};

	*x = *x * 6364136223846793005ULL + 1442695040888963407ULL;
	desc.addr = (i % 2 != 0 ? FIRST_END : SECOND_END) - desc.len;
	if ((*x >> 16 & 63) == 0)
		desc.addr = borders[(*x >> 8) % RTE_DIM(borders)] + (*x >> 40) % 1000 - 500;
	desc.flags = receives(bed) ? 0 : VRING_DESC_F_WRITE;
	/* With the two bits that make a packed descriptor available, or not. */
	if (bed_format.packed)
		desc.flags |= (uint16_t)(*x >> 50 & 0x8080);
	bed_rewrite(bed, i, &desc, i);
}

/* A guest's other processor. */
static void *
race(void *arg)
{
	struct racer *racer = arg;
	uint64_t x = 1;

	while (!atomic_load(&racer->stop))
		scribble(racer->bed, (uint16_t)((x >> 20) % racer->bed->config.size), &x);
	return NULL;
}

static void
move_while_it_races(struct bed *bed, uint64_t *x)
{
	struct rte_mbuf *pkts[MAX];
	uint16_t i, done;

	for (i = 0; i < bed->config.size; i++)
		scribble(bed, i, x);
	bed_force_available(bed, bed->config.size);
	if (receives(bed)) {
		done = bed_dequeue(bed, bed_pool(), MAX);
		for (i = 0; i < done; i++)
			expect_of_one_region(bed->pkts[i]);
	} else {
		for (i = 0; i < MAX; i++)
			pkts[i] = bed_packet(bed_pool(), 60 + 10 * i, 0, i);
		done = bed->vq.enqueue(&bed->vq, pkts, MAX);
		rte_pktmbuf_free_bulk(&pkts[done], MAX - done);
	}
	if (bed->vq.fault == DYNVHOST_VQ_OK)
		return;
	bed_unmark(bed);
	bed_restart(bed);
}

static void
expect_borders_hold(uint16_t index)
{
	struct bed *bed = open_bed(index);
	struct racer racer = {.bed = bed};
	uint64_t deadline = mock_now_ms() + 500;
	uint64_t x = 2;
	pthread_t thread;

	mark_regions(bed);
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	while (mock_now_ms() < deadline)
		move_while_it_races(bed, &x);
	atomic_store(&racer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	expect_nobody_s_untouched(bed);
	assert_true(bed->vq.ordinary > 1000);
}

static void
changing_descriptors_give_away_nothing_from_beyond_a_region(void **state)
{
	expect_borders_hold(BED_DEQUEUE);
}

static void
changing_descriptors_write_nothing_beyond_a_region(void **state)
{
	expect_borders_hold(BED_ENQUEUE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(received_from_all_bytes_of_a_region),
		BED_TEST(sent_to_all_bytes_of_a_region),
		BED_TEST(open_page_does_not_speak_for_its_neighbour_to_receive_from),
		BED_TEST(open_page_does_not_speak_for_its_neighbour_to_send_to),
		BED_TEST(nothing_is_received_from_beyond_the_end_of_a_region),
		BED_TEST(nothing_is_sent_beyond_the_end_of_a_region),
		BED_TEST(nothing_is_received_from_before_the_start_of_a_region),
		BED_TEST(nothing_is_sent_before_the_start_of_a_region),
		BED_TEST(packet_in_a_buffer_that_reaches_too_far_goes_the_long_way),
		BED_TEST(received_from_two_regions_of_one_page),
		BED_TEST(sent_to_two_regions_of_one_page),
		BED_TEST(page_that_is_open_for_writing_is_not_received_from),
		BED_TEST(page_that_is_open_for_reading_is_not_sent_to),
		BED_TEST(idle_page_is_opened_again_to_receive_from),
		BED_TEST(idle_page_is_opened_again_to_send_to),
		BED_TEST(changing_descriptors_give_away_nothing_from_beyond_a_region),
		BED_TEST(changing_descriptors_write_nothing_beyond_a_region),
	};

	return bed_run(tests);
}
