/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Translations of an IOMMU: what they make reachable, and what is left when they go. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dynvhost_mem_iotlb.h"
#include "mem_test.h"

#define PAGES 64
/** Far from all others. */
#define BIT_FAR (UINT64_C(1) << 50)
#define IOVA    UINT64_C(0xffff000000000000)
#define R       DYNVHOST_MEM_IOTLB_READ
#define W       DYNVHOST_MEM_IOTLB_WRITE
#define RW      (R | W)

/* Guest memory of one region at MT_GPA, and a table over it. */
struct bench {
	int fd;
	int wake_fd;
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *memory;
	struct dynvhost_mem_iotlb *iotlb;
	const struct dynvhost_mem_view *view;
	struct dynvhost_mem_cursor cursor;
	uint64_t uva;
};

static struct bench *
bench_open(void)
{
	static struct bench bench;

	memset(&bench, 0, sizeof(bench));
	bench.fd = mt_memfd(PAGES * MT_PAGE);
	mt_fill(bench.fd, 0, PAGES * MT_PAGE);
	bench.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	bench.mem = mt_create(NULL);
	bench.memory = mt_view(bench.mem, bench.fd, PAGES * MT_PAGE);
	bench.uva = bench.memory->region[0]->uva;
	bench.iotlb = dynvhost_mem_iotlb_create(bench.mem, bench.wake_fd);
	assert_non_null(bench.iotlb);
	dynvhost_mem_iotlb_set_memory(bench.iotlb, bench.memory);
	bench.view = dynvhost_mem_iotlb_view(bench.iotlb);
	return &bench;
}

static void
bench_close(struct bench *bench)
{
	dynvhost_mem_iotlb_destroy(bench->iotlb);
	dynvhost_mem_view_release(bench->memory);
	dynvhost_mem_destroy(bench->mem);
	close(bench->wake_fd);
	close(bench->fd);
}

/* Close what has to be closed, as fast as the rate of closing lets us. */
static void
settle(struct bench *bench)
{
	unsigned int tries = 0;

	while (!dynvhost_mem_iotlb_settle(bench->iotlb)) {
		assert_true(tries++ < 50000);
		usleep(200);
	}
}

/* Enter a range by pages of the region. */
static void
enter(struct bench *bench, uint64_t iova, uint64_t page, uint64_t n, uint8_t perm)
{
	assert_int_equal(dynvhost_mem_iotlb_update(bench->iotlb, iova, n * MT_PAGE,
				 bench->uva + page * MT_PAGE, perm),
		0);
	settle(bench);
}

static void
leave(struct bench *bench, uint64_t iova, uint64_t size)
{
	assert_int_equal(dynvhost_mem_iotlb_invalidate(bench->iotlb, iova, size), 0);
	settle(bench);
}

static int
reach(struct bench *bench, uint64_t iova, uint64_t len, enum dynvhost_mem_right right,
	struct dynvhost_mem_span *span)
{
	bench->cursor.budget = 1000;
	return dynvhost_mem_translate(bench->view, &bench->cursor, iova, len, right, span);
}

/* The byte at iova must be that of the region's page, at the same place in it. */
static void
expect_page(struct bench *bench, uint64_t iova, uint64_t page, enum dynvhost_mem_right right)
{
	struct dynvhost_mem_span span;
	const uint8_t *base = bench->memory->region[0]->window[right].base;

	assert_int_equal(reach(bench, iova, 1, right, &span), 0);
	assert_ptr_equal(span.hva, base + page * MT_PAGE + iova % MT_PAGE);
	assert_int_equal(span.len, 1);
}

static void
expect_miss(struct bench *bench, uint64_t iova, enum dynvhost_mem_right right)
{
	struct dynvhost_mem_span span;
	struct dynvhost_mem_miss miss;

	assert_int_equal(reach(bench, iova, 1, right, &span), -EAGAIN);
	assert_true(dynvhost_mem_miss_take(&bench->cursor, &miss));
	assert_int_equal(miss.iova, iova & ~UINT64_C(4095));
	assert_int_equal(miss.perm, right == DYNVHOST_MEM_WRITE ? W : R);
	assert_false(dynvhost_mem_miss_take(&bench->cursor, &miss));
	dynvhost_mem_miss_forget(&bench->cursor);
}

static void
only_what_was_entered_can_be_reached(void **state)
{
	struct bench *bench = bench_open();

	expect_miss(bench, IOVA, DYNVHOST_MEM_READ);
	enter(bench, IOVA, 3, 2, R);
	expect_page(bench, IOVA + 5, 3, DYNVHOST_MEM_READ);
	expect_page(bench, IOVA + 2 * MT_PAGE - 1, 4, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA - 1, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA + 2 * MT_PAGE, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA, DYNVHOST_MEM_WRITE);
	/* Guest physical addresses are none here. */
	expect_miss(bench, MT_GPA, DYNVHOST_MEM_READ);
	assert_int_equal(mt_reach(bench->fd).loadable, 2 * MT_PAGE);
	assert_int_equal(mt_reach(bench->fd).storable, 0);
	bench_close(bench);
}

static void
rights_are_those_of_the_range(void **state)
{
	struct bench *bench = bench_open();

	enter(bench, IOVA, 0, 1, R);
	enter(bench, IOVA + MT_PAGE, 1, 1, W);
	enter(bench, IOVA + 2 * MT_PAGE, 2, 1, RW);
	expect_page(bench, IOVA, 0, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA, DYNVHOST_MEM_WRITE);
	expect_miss(bench, IOVA + MT_PAGE, DYNVHOST_MEM_READ);
	expect_page(bench, IOVA + MT_PAGE, 1, DYNVHOST_MEM_WRITE);
	expect_page(bench, IOVA + 2 * MT_PAGE, 2, DYNVHOST_MEM_READ);
	expect_page(bench, IOVA + 2 * MT_PAGE, 2, DYNVHOST_MEM_WRITE);
	/* Rights that are taken away take the page along. */
	enter(bench, IOVA + 2 * MT_PAGE, 2, 1, R);
	expect_miss(bench, IOVA + 2 * MT_PAGE, DYNVHOST_MEM_WRITE);
	assert_int_equal(mt_reach(bench->fd).storable, MT_PAGE);
	bench_close(bench);
}

static void
a_span_goes_as_far_as_memory_does(void **state)
{
	struct bench *bench = bench_open();
	struct dynvhost_mem_span span;

	enter(bench, IOVA, 0, 1, R);
	enter(bench, IOVA + MT_PAGE, 1, 1, R);
	enter(bench, IOVA + 2 * MT_PAGE, 9, 1, R);
	enter(bench, IOVA + 3 * MT_PAGE, 10, 1, W);
	assert_int_equal(reach(bench, IOVA + 10, 3 * MT_PAGE, DYNVHOST_MEM_READ, &span), 0);
	assert_int_equal(span.len, 2 * MT_PAGE - 10);
	assert_int_equal(
		reach(bench, IOVA + 2 * MT_PAGE, 9 * MT_PAGE, DYNVHOST_MEM_READ, &span), 0);
	assert_int_equal(span.len, MT_PAGE);
	assert_int_equal(reach(bench, IOVA, 0, DYNVHOST_MEM_READ, &span), -EFAULT);
	bench_close(bench);
}

static void
what_goes_is_closed(void **state)
{
	struct bench *bench = bench_open();
	uint64_t i;

	enter(bench, IOVA, 0, 16, RW);
	for (i = 0; i < 16; i++) {
		expect_page(bench, IOVA + i * MT_PAGE, i, DYNVHOST_MEM_READ);
		expect_page(bench, IOVA + i * MT_PAGE, i, DYNVHOST_MEM_WRITE);
	}
	assert_int_equal(mt_reach(bench->fd).storable, 16 * MT_PAGE);
	leave(bench, IOVA + 4 * MT_PAGE, 2 * MT_PAGE);
	assert_int_equal(dynvhost_mem_iotlb_count(bench->iotlb), 2);
	assert_int_equal(mt_reach(bench->fd).storable, 14 * MT_PAGE);
	expect_miss(bench, IOVA + 4 * MT_PAGE, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA + 6 * MT_PAGE - 1, DYNVHOST_MEM_WRITE);
	expect_page(bench, IOVA + 4 * MT_PAGE - 1, 3, DYNVHOST_MEM_READ);
	expect_page(bench, IOVA + 6 * MT_PAGE, 6, DYNVHOST_MEM_READ);
	/* All addresses there are. */
	leave(bench, 0, 0);
	assert_int_equal(dynvhost_mem_iotlb_count(bench->iotlb), 0);
	assert_int_equal(mt_reach(bench->fd).loadable, 0);
	bench_close(bench);
}

static void
rings_stay_open_until_they_are_unpinned(void **state)
{
	struct bench *bench = bench_open();
	struct dynvhost_mem_pin pin = {0}, other = {0};

	assert_int_equal(dynvhost_mem_pin(bench->view, IOVA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE, &pin),
		-EAGAIN);
	enter(bench, IOVA, 2, 1, RW);
	assert_int_equal(dynvhost_mem_pin(bench->view, IOVA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE, &pin),
		-EAGAIN);
	enter(bench, IOVA + MT_PAGE, 9, 1, RW);
	/* Not contiguous. */
	assert_int_equal(
		dynvhost_mem_pin(bench->view, IOVA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE, &pin), -EXDEV);
	enter(bench, IOVA + MT_PAGE, 3, 1, RW);
	assert_int_equal(
		dynvhost_mem_pin(bench->view, IOVA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE, &pin), 0);
	assert_int_equal(dynvhost_mem_pin_gpa(&pin), MT_GPA + 2 * MT_PAGE);
	enter(bench, IOVA + MT_PAGE, 3, 1, W);
	assert_int_equal(
		dynvhost_mem_pin(bench->view, IOVA + MT_PAGE, 8, DYNVHOST_MEM_WRITE, &other),
		-EAGAIN);
	leave(bench, 0, 0);
	assert_int_equal(mt_reach(bench->fd).storable, 2 * MT_PAGE);
	dynvhost_mem_unpin(&pin);
	bench_close(bench);
}

static void
ranges_that_are_none_are_refused(void **state)
{
	struct bench *bench = bench_open();
	static const struct {
		uint64_t iova, size, uva;
		uint8_t perm;
		int error;
	} cases[] = {
		{IOVA, 0, 0, RW, -EINVAL},
		{IOVA, MT_4K, 0, 0, -EINVAL},
		{IOVA, MT_4K, 0, 4, -EINVAL},
		{IOVA, MT_4K, 0, 0xff, -EINVAL},
		{UINT64_MAX, 2, 0, RW, -EINVAL},
		{UINT64_MAX - 4094, 4096, 0, RW, -EINVAL},
		{1, UINT64_MAX, UINT64_MAX, RW, -EINVAL},
		{IOVA, MT_4K, UINT64_C(1) << 60, RW, -EFAULT},
		{IOVA, UINT64_MAX, 0, RW, -EINVAL},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(dynvhost_mem_iotlb_update(bench->iotlb, cases[i].iova,
					 cases[i].size, bench->uva + cases[i].uva, cases[i].perm),
			cases[i].error);
	assert_int_equal(dynvhost_mem_iotlb_invalidate(bench->iotlb, 1, 0), -EINVAL);
	assert_int_equal(dynvhost_mem_iotlb_invalidate(bench->iotlb, 2, UINT64_MAX), -EINVAL);
	assert_int_equal(dynvhost_mem_iotlb_count(bench->iotlb), 0);
	/* The last page of all. */
	enter(bench, UINT64_MAX - MT_PAGE + 1, 7, 1, RW);
	expect_page(bench, UINT64_MAX, 7, DYNVHOST_MEM_READ);
	leave(bench, UINT64_MAX, 1);
	expect_miss(bench, UINT64_MAX, DYNVHOST_MEM_READ);
	expect_page(bench, UINT64_MAX - 1, 7, DYNVHOST_MEM_READ);
	bench_close(bench);
}

static void
a_range_ends_where_its_region_does(void **state)
{
	struct bench *bench = bench_open();

	assert_int_equal(dynvhost_mem_iotlb_update(bench->iotlb, IOVA, 1000 * MT_PAGE,
				 bench->uva + (PAGES - 1) * MT_PAGE, RW),
		0);
	expect_page(bench, IOVA + MT_PAGE - 1, PAGES - 1, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA + MT_PAGE, DYNVHOST_MEM_READ);
	bench_close(bench);
}

static void
the_table_is_bounded(void **state)
{
	struct bench *bench = bench_open();
	uint64_t i;

	for (i = 0; i < 3 * DYNVHOST_MEM_IOTLB_MAX; i++) {
		enter(bench, i * 2 * MT_PAGE, i % PAGES, 1, RW);
		expect_page(bench, i * 2 * MT_PAGE, i % PAGES, DYNVHOST_MEM_READ);
	}
	assert_int_equal(dynvhost_mem_iotlb_count(bench->iotlb), DYNVHOST_MEM_IOTLB_MAX);
	/* Holes make more of few. */
	leave(bench, 0, 0);
	enter(bench, 0, 0, PAGES, RW);
	for (i = 0; i < 2 * DYNVHOST_MEM_IOTLB_MAX; i++)
		leave(bench, i * 2, 1);
	assert_true(dynvhost_mem_iotlb_count(bench->iotlb) <= DYNVHOST_MEM_IOTLB_MAX + 1);
	bench_close(bench);
}

static void
misses_are_asked_for_once(void **state)
{
	struct bench *bench = bench_open();
	struct dynvhost_mem_span span;
	struct dynvhost_mem_miss miss;
	uint64_t wakes;

	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	assert_int_equal(reach(bench, IOVA + MT_4K, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	assert_int_equal(read(bench->wake_fd, &wakes, sizeof(wakes)), sizeof(wakes));
	assert_int_equal(wakes, 1);
	assert_true(dynvhost_mem_miss_take(&bench->cursor, &miss));
	assert_int_equal(miss.iova, IOVA);
	/* It is under way; nobody is woken for another. */
	assert_int_equal(reach(bench, IOVA + MT_4K, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	assert_int_equal(read(bench->wake_fd, &wakes, sizeof(wakes)), -1);
	assert_false(dynvhost_mem_miss_take(&bench->cursor, &miss));
	dynvhost_mem_miss_repost(&bench->cursor);
	assert_true(dynvhost_mem_miss_take(&bench->cursor, &miss));
	assert_int_equal(miss.iova, IOVA);
	/* What is denied is as bad as no memory at all. */
	dynvhost_mem_miss_answer(&bench->cursor, IOVA + MT_4K, MT_4K, false);
	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	dynvhost_mem_miss_answer(&bench->cursor, IOVA, MT_4K, false);
	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EFAULT);
	/* Until it is entered after all. */
	enter(bench, IOVA, 0, 1, R);
	expect_page(bench, IOVA, 0, DYNVHOST_MEM_READ);
	expect_miss(bench, IOVA + MT_PAGE, DYNVHOST_MEM_READ);
	bench_close(bench);
}

static void
expect_want(struct bench *bench, uint64_t iova, uint8_t perm)
{
	struct dynvhost_mem_miss miss;

	assert_true(dynvhost_mem_iotlb_take_want(bench->iotlb, &miss));
	assert_int_equal(miss.iova, iova);
	assert_int_equal(miss.perm, perm);
}

static void
what_control_lacks_is_wanted_page_by_page(void **state)
{
	struct bench *bench = bench_open();
	struct dynvhost_mem_pin pin = {0};
	struct dynvhost_mem_miss miss;
	unsigned int n;

	assert_int_equal(
		dynvhost_mem_pin(bench->view, IOVA, 2 * MT_4K, DYNVHOST_MEM_WRITE, &pin), -EAGAIN);
	assert_int_equal(
		dynvhost_mem_pin(bench->view, IOVA, 2 * MT_4K, DYNVHOST_MEM_WRITE, &pin), -EAGAIN);
	expect_want(bench, IOVA, RW);
	expect_want(bench, IOVA + MT_4K, RW);
	assert_false(dynvhost_mem_iotlb_take_want(bench->iotlb, &miss));
	/* What is there is not. */
	enter(bench, IOVA, 0, 1, R);
	assert_true(dynvhost_mem_iotlb_want(bench->iotlb, IOVA, MT_PAGE, R));
	assert_false(dynvhost_mem_iotlb_want(bench->iotlb, IOVA + MT_PAGE - 1, 2, R));
	expect_want(bench, IOVA + MT_PAGE, R);
	assert_false(dynvhost_mem_iotlb_want(bench->iotlb, IOVA, 1, W));
	expect_want(bench, IOVA, W);
	/* Nor what is no range, and no more than there is room for. */
	assert_false(dynvhost_mem_iotlb_want(bench->iotlb, UINT64_MAX, 2, R));
	assert_true(dynvhost_mem_iotlb_want(bench->iotlb, UINT64_MAX, 0, R));
	assert_false(dynvhost_mem_iotlb_take_want(bench->iotlb, &miss));
	assert_false(dynvhost_mem_iotlb_want(bench->iotlb, BIT_FAR, UINT64_MAX / 4, R));
	for (n = 0; dynvhost_mem_iotlb_take_want(bench->iotlb, &miss); n++)
		assert_int_equal(miss.iova, BIT_FAR + n * MT_4K);
	assert_int_equal(n, DYNVHOST_MEM_IOTLB_WANTS);
	bench_close(bench);
}

static void
what_an_area_needs_is_known_without_translations(void **state)
{
	struct bench *bench = bench_open();

	assert_int_equal(
		dynvhost_mem_need(bench->view, 5000, 3), dynvhost_mem_need(bench->memory, 5000, 3));
	assert_true(dynvhost_mem_need(bench->view, 5000, 3) > 0);
	/* It may begin and end in the middle of a page. */
	assert_int_equal(dynvhost_mem_area_need(bench->view, IOVA, MT_PAGE), 2 * MT_PAGE);
	assert_int_equal(dynvhost_mem_area_need(bench->view, IOVA, 1), MT_PAGE);
	bench_close(bench);
}

static void
a_refusal_concerns_just_what_was_asked(void **state)
{
	struct bench *bench = bench_open();
	struct dynvhost_mem_span span;
	struct dynvhost_mem_miss miss;

	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	/* It was not asked yet. */
	dynvhost_mem_miss_refuse(
		&bench->cursor, &(struct dynvhost_mem_miss){.iova = IOVA, .perm = R});
	assert_true(dynvhost_mem_miss_take(&bench->cursor, &miss));
	dynvhost_mem_miss_refuse(
		&bench->cursor, &(struct dynvhost_mem_miss){.iova = IOVA, .perm = W});
	dynvhost_mem_miss_refuse(
		&bench->cursor, &(struct dynvhost_mem_miss){.iova = IOVA + MT_4K, .perm = R});
	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EAGAIN);
	dynvhost_mem_miss_refuse(&bench->cursor, &miss);
	assert_int_equal(reach(bench, IOVA, 8, DYNVHOST_MEM_READ, &span), -EFAULT);
	bench_close(bench);
}

static void
another_memory_table_keeps_what_it_still_has(void **state)
{
	struct bench *bench = bench_open();
	int fd = mt_memfd(8 * MT_PAGE);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA + (UINT64_C(1) << 32), 8 * MT_PAGE, 0, fd);
	struct dynvhost_mem_view *next;

	enter(bench, IOVA, 0, 2, R);
	slot.uva = bench->uva + (UINT64_C(1) << 40);
	assert_int_equal(dynvhost_mem_view_add(bench->mem, bench->memory, &slot, &next), 0);
	dynvhost_mem_iotlb_set_memory(bench->iotlb, next);
	expect_page(bench, IOVA, 0, DYNVHOST_MEM_READ);
	assert_int_equal(dynvhost_mem_iotlb_update(bench->iotlb, IOVA, MT_PAGE, slot.uva, R), 0);
	assert_true(dynvhost_mem_iotlb_settle(bench->iotlb));
	dynvhost_mem_iotlb_set_memory(bench->iotlb, bench->memory);
	dynvhost_mem_view_release(next);
	expect_miss(bench, IOVA, DYNVHOST_MEM_READ);
	expect_page(bench, IOVA + MT_PAGE, 1, DYNVHOST_MEM_READ);
	dynvhost_mem_iotlb_set_memory(bench->iotlb, NULL);
	assert_int_equal(dynvhost_mem_iotlb_count(bench->iotlb), 0);
	expect_miss(bench, IOVA + MT_PAGE, DYNVHOST_MEM_READ);
	close(fd);
	bench_close(bench);
}

/* A table of single pages as a model. */
#define MODEL_PAGES 256

static void
closing_has_a_rate(void **state)
{
	struct bench *bench = bench_open();
	unsigned int round;
	uint64_t i;

	for (round = 0; round < 2000; round++) {
		enter(bench, IOVA, 0, PAGES, RW);
		for (i = 0; i < PAGES; i += 2)
			expect_page(bench, IOVA + i * MT_PAGE, i, DYNVHOST_MEM_READ);
		assert_int_equal(dynvhost_mem_iotlb_invalidate(bench->iotlb, 0, 0), 0);
		if (!dynvhost_mem_iotlb_settle(bench->iotlb))
			break;
		assert_int_equal(mt_reach(bench->fd).loadable, 0);
	}
	assert_in_range(round, 10, 1999);
	/* It goes on where it stopped. */
	settle(bench);
	assert_int_equal(mt_reach(bench->fd).loadable, 0);
	bench_close(bench);
}

static void
random_ranges_behave_as_single_pages(void **state)
{
	static struct {
		uint64_t page;
		uint8_t perm;
	} model[MODEL_PAGES];
	struct bench *bench = bench_open();
	struct dynvhost_mem_span span;
	unsigned int round;
	uint64_t i;

	memset(model, 0, sizeof(model));
	srand(3);
	for (round = 0; round < (mt_is_long() ? 5000u : 500u); round++) {
		uint64_t first = (uint64_t)rand() % MODEL_PAGES;
		uint64_t n = 1 + (uint64_t)rand() % 20;
		uint64_t page = (uint64_t)rand() % (PAGES - 20);
		uint8_t perm = (uint8_t)(rand() % 4);

		if (first + n > MODEL_PAGES)
			n = MODEL_PAGES - first;
		if (perm == 0)
			leave(bench, IOVA + first * MT_PAGE, n * MT_PAGE);
		else
			enter(bench, IOVA + first * MT_PAGE, page, n, perm);
		for (i = 0; i < n; i++) {
			model[first + i].page = page + i;
			model[first + i].perm = perm;
		}
		for (i = 0; i < MODEL_PAGES; i += 1 + (uint64_t)rand() % 16) {
			enum dynvhost_mem_right right = (enum dynvhost_mem_right)(rand() % 2);
			bool may = (model[i].perm & (right == DYNVHOST_MEM_WRITE ? W : R)) != 0;

			dynvhost_mem_miss_forget(&bench->cursor);
			if (may)
				expect_page(bench, IOVA + i * MT_PAGE + 1, model[i].page, right);
			else
				assert_int_equal(
					reach(bench, IOVA + i * MT_PAGE, 1, right, &span), -EAGAIN);
		}
	}
	/* Whatever is open now, a range leads there. */
	leave(bench, 0, 0);
	assert_int_equal(mt_reach(bench->fd).loadable, 0);
	bench_close(bench);
}

static void
writing_is_logged_where_it_lies_in_guest_memory(void **state)
{
	struct bench *bench = bench_open();
	struct dynvhost_mem_log *log;
	uint8_t bits[2];
	int fd = mt_memfd(MT_GPA / MT_4K / 8 + MT_4K);

	assert_int_equal(dynvhost_mem_log_map(bench->mem, fd, MT_GPA / MT_4K / 8, 8, &log), 0);
	dynvhost_mem_log_unmap(log);
	assert_int_equal(dynvhost_mem_log_map(bench->mem, fd, 0, MT_GPA / MT_4K / 8 + 8, &log), 0);
	enter(bench, IOVA, 1, 1, RW);
	enter(bench, IOVA + MT_PAGE, 9, 1, W);
	dynvhost_mem_iotlb_log(log, bench->view, IOVA + MT_PAGE - 1, 2);
	dynvhost_mem_iotlb_log(log, bench->view, IOVA + 5 * MT_PAGE, 2);
	mt_get(fd, MT_GPA / MT_4K / 8, bits, sizeof(bits));
	assert_int_equal(bits[0], 1u << 1);
	assert_int_equal(bits[1], 1u << 1);
	dynvhost_mem_log_unmap(log);
	close(fd);
	bench_close(bench);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_was_entered_can_be_reached),
		cmocka_unit_test(rights_are_those_of_the_range),
		cmocka_unit_test(a_span_goes_as_far_as_memory_does),
		cmocka_unit_test(what_goes_is_closed),
		cmocka_unit_test(rings_stay_open_until_they_are_unpinned),
		cmocka_unit_test(ranges_that_are_none_are_refused),
		cmocka_unit_test(a_range_ends_where_its_region_does),
		cmocka_unit_test(misses_are_asked_for_once),
		cmocka_unit_test(what_control_lacks_is_wanted_page_by_page),
		cmocka_unit_test(what_an_area_needs_is_known_without_translations),
		cmocka_unit_test(a_refusal_concerns_just_what_was_asked),
		cmocka_unit_test(another_memory_table_keeps_what_it_still_has),
		cmocka_unit_test(random_ranges_behave_as_single_pages),
	};
	static const struct CMUnitTest of_userfaultfd[] = {
		cmocka_unit_test(the_table_is_bounded),
		cmocka_unit_test(closing_has_a_rate),
		cmocka_unit_test(writing_is_logged_where_it_lies_in_guest_memory),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_SMALL) +
	       mt_run(of_userfaultfd, sizeof(of_userfaultfd) / sizeof(of_userfaultfd[0]),
		       MT_LIST(&mt_uffd));
}
