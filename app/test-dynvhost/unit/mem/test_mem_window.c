/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Windows: translation, rights, what opens, what it costs, what is refused. */

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES 64
#define SIZE  (PAGES * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE

/** A port with one region over the whole of a file, the usual beginning. */
struct window_setup {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd;
};

static struct window_setup
window_setup(const struct dynvhost_mem_config *config)
{
	struct window_setup s = {.fd = mt_memfd(SIZE)};

	s.mem = mt_create(config);
	s.view = mt_view(s.mem, s.fd, SIZE);
	return s;
}

static void
window_teardown(struct window_setup *s)
{
	dynvhost_mem_view_release(s->view);
	assert_int_equal(mt_stats(s->mem).loadable_bytes, 0);
	assert_int_equal(mt_stats(s->mem).storable_bytes, 0);
	assert_int_equal(mt_reach(s->fd).mappings, 0);
	dynvhost_mem_destroy(s->mem);
	close(s->fd);
}

/** Counters and kernel agree, and say this. */
static void
window_expect(const struct window_setup *s, uint64_t loadable, uint64_t storable)
{
	struct dynvhost_mem_stats stats = mt_stats(s->mem);
	struct mt_reach reach = mt_reach(s->fd);

	assert_int_equal(stats.loadable_bytes, loadable);
	assert_int_equal(stats.storable_bytes, storable);
	assert_int_equal(reach.loadable, loadable);
	assert_int_equal(reach.storable, storable);
}

/** Let a page of the only region look idle, as an ageing pass does. */
static void
window_age(const struct window_setup *s, enum dynvhost_mem_right right, uint64_t page)
{
	atomic_fetch_and(
		&s->view->region[0]->window[right].state[page], (uint8_t)~DYNVHOST_MEM_REF);
}

static void
a_table_alone_opens_nothing(void **state)
{
	struct window_setup s = window_setup(NULL);
	uint64_t page;

	window_expect(&s, 0, 0);
	for (page = 0; page < PAGES; page++) {
		assert_int_equal(
			mt_load(s.view->region[0]->window[READ].base + page * MT_PAGE), -1);
		assert_int_equal(
			mt_load(s.view->region[0]->window[WRITE].base + page * MT_PAGE), -1);
	}
	assert_int_equal(mt_stats(s.mem).guest_bytes, SIZE);
	assert_int_equal(mt_file_bytes(s.fd), 0);
	window_teardown(&s);
}

static void
the_window_is_the_right(void **state)
{
	struct window_setup s = window_setup(NULL);
	uint8_t *loads, *stores;
	char byte;

	mt_put(s.fd, MT_PAGE, "guest", 5);
	loads = mt_hva(s.view, MT_GPA + MT_PAGE, 5, READ);
	assert_memory_equal(loads, "guest", 5);
	assert_int_equal(mt_store(loads, 'x'), -1);
	window_expect(&s, MT_PAGE, 0);
	stores = mt_hva(s.view, MT_GPA + MT_PAGE, 5, WRITE);
	assert_int_equal(mt_store(stores, 'G'), 'G');
	mt_get(s.fd, MT_PAGE, &byte, 1);
	assert_int_equal(byte, 'G');
	assert_int_equal(*loads, 'G');
	/* Still no store through the read window. */
	assert_int_equal(mt_store(loads, 'x'), -1);
	window_expect(&s, 2 * MT_PAGE, MT_PAGE);
	window_teardown(&s);
}

static void
only_touched_pages_open(void **state)
{
	struct window_setup s = window_setup(NULL);
	uint8_t *hva = mt_hva(s.view, MT_GPA + 3 * MT_PAGE - 1, 2, WRITE);

	window_expect(&s, 2 * MT_PAGE, 2 * MT_PAGE);
	assert_true(mt_is_present(hva));
	assert_true(mt_is_present(hva + 1));
	assert_int_equal(mt_load(hva - MT_PAGE), -1);
	assert_int_equal(mt_load(hva + 1 + MT_PAGE), -1);
	assert_int_equal(mt_file_bytes(s.fd), 2 * MT_PAGE);
	assert_int_equal(mt_stats(s.mem).allocations, 2);
	assert_int_equal(mt_stats(s.mem).opens, 2);
	window_teardown(&s);
}

static void
windows_have_guards(void **state)
{
	struct window_setup s = window_setup(NULL);
	int right;

	for (right = READ; right <= WRITE; right++) {
		uint8_t *base = mt_hva(s.view, MT_GPA, SIZE, right);

		assert_true(mt_load(base) >= 0);
		assert_true(mt_load(base + SIZE - 1) >= 0);
		assert_int_equal(mt_load(base - 1), -1);
		assert_int_equal(mt_load(base - MT_4K), -1);
		assert_int_equal(mt_load(base + SIZE), -1);
		assert_int_equal(mt_load(base + SIZE + MT_4K), -1);
	}
	window_teardown(&s);
}

static void
a_buffer_over_pages_is_contiguous(void **state)
{
	struct window_setup s = window_setup(NULL);
	size_t length = 3 * MT_PAGE, i;
	uint8_t *packet = malloc(length), *hva;

	assert_non_null(packet);
	for (i = 0; i < length; i++)
		packet[i] = (uint8_t)(i * 7 + i / MT_PAGE);
	mt_put(s.fd, 1000, packet, length);
	hva = mt_hva(s.view, MT_GPA + 1000, length, READ);
	assert_memory_equal(hva, packet, length);
	free(packet);
	window_expect(&s, 4 * MT_PAGE, 0);
	window_teardown(&s);
}

/** Two regions of different files that adjoin, a gap, and a third. */
static void
translation_stops_at_region_borders(void **state)
{
	int fd[2] = {mt_memfd(SIZE), mt_memfd(SIZE)};
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_slot slot[3] = {
		mt_slot(MT_GPA, SIZE, 0, fd[0]),
		mt_slot(MT_GPA + SIZE, MT_PAGE, MT_PAGE, fd[1]),
		mt_slot(MT_GPA + 2 * SIZE, MT_PAGE + 5, 0, fd[1]),
	};
	struct dynvhost_mem_cursor cursor = {.budget = 100};
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_span span;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, 3, &view), 0);
	mt_put(fd[0], SIZE - 2, "ab", 2);
	mt_put(fd[1], MT_PAGE, "cd", 2);
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, MT_GPA + SIZE - 2, 4, READ, &span), 0);
	assert_int_equal(span.len, 2);
	assert_memory_equal(span.hva, "ab", 2);
	assert_int_equal(dynvhost_mem_translate(view, &cursor, MT_GPA + SIZE, 2, READ, &span), 0);
	assert_int_equal(span.len, 2);
	assert_memory_equal(span.hva, "cd", 2);
	assert_int_equal(cursor.hint, 1);
	/* Odd sizes end at their last byte. */
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, MT_GPA + 2 * SIZE + MT_PAGE, 6, READ, &span),
		0);
	assert_int_equal(span.len, 5);

	assert_int_equal(dynvhost_mem_translate(
				 view, &cursor, MT_GPA + 2 * SIZE + MT_PAGE + 5, 1, READ, &span),
		-EFAULT);
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, MT_GPA + SIZE + MT_PAGE, 1, READ, &span),
		-EFAULT);
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, MT_GPA - 1, 2, READ, &span), -EFAULT);
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, UINT64_MAX, 2, READ, &span), -EFAULT);
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, 0, UINT64_MAX, READ, &span), -EFAULT);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd[0]);
	close(fd[1]);
}

/** Whoever goes back and forth between two regions finds both without a search. */
static void
a_cursor_knows_two_regions(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_cursor cursor = {0};
	struct dynvhost_mem_slot slot[8];
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_span span;
	uint32_t i, k;

	for (i = 0; i < 8; i++)
		slot[i] = mt_slot(MT_GPA + i * 2 * MT_PAGE, MT_PAGE, i * MT_PAGE, fd);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, 8, &view), 0);
	for (k = 0; k < 4; k++)
		for (i = 2; i <= 7; i += 5) {
			cursor.budget = 1;
			assert_int_equal(
				dynvhost_mem_translate(view, &cursor, slot[i].gpa, 1, READ, &span),
				0);
			assert_ptr_equal(span.hva, view->region[i]->window[READ].base);
			assert_int_equal(cursor.hint, i);
			assert_int_equal(cursor.other, k == 0 && i == 2 ? 0 : 9 - i);
		}
	/* One that is not there changes nothing, a smaller table is no trap. */
	assert_int_equal(
		dynvhost_mem_translate(view, &cursor, slot[0].gpa + MT_PAGE, 1, READ, &span),
		-EFAULT);
	assert_int_equal(cursor.hint, 7);
	cursor = (struct dynvhost_mem_cursor){.hint = 99, .other = 98, .budget = 1};
	assert_int_equal(dynvhost_mem_translate(view, &cursor, slot[3].gpa, 1, READ, &span), 0);
	assert_int_equal(cursor.hint, 3);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

#define WINDOW_LOOKUPS 20000

/** The region that packet @p i lies in: all in one, or 32 in each, one region after the other. */
static uint32_t
window_region_of(bool sequential, uint32_t i, uint32_t n_regions)
{
	return sequential ? i / 32 % n_regions : n_regions / 2;
}

/** Nanoseconds that translating open memory takes at best. */
static uint64_t
window_time_lookups(const struct dynvhost_mem_view *view, bool sequential)
{
	struct dynvhost_mem_cursor cursor = {.budget = UINT32_MAX};
	struct dynvhost_mem_span span;
	uint64_t start_ns = dynvhost_mem_sys->now_ns();
	uint32_t i;

	for (i = 0; i < WINDOW_LOOKUPS; i++) {
		uint32_t n = window_region_of(sequential, i, view->n_regions);

		if (dynvhost_mem_translate(
			    view, &cursor, view->region[n]->gpa, 1500, READ, &span) != 0)
			return UINT64_MAX;
	}
	return dynvhost_mem_sys->now_ns() - start_ns;
}

/** A port of @p n regions of a page each, all of them open. */
static struct dynvhost_mem_view *
window_many_regions(struct dynvhost_mem *mem, int fd, uint32_t n)
{
	struct dynvhost_mem_slot slot[DYNVHOST_MEM_MAX_REGIONS];
	struct dynvhost_mem_view *view;
	uint32_t i;

	for (i = 0; i < n; i++)
		slot[i] = mt_slot(MT_GPA + 2 * i * MT_PAGE, MT_PAGE, i % PAGES * MT_PAGE, fd);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, n, &view), 0);
	for (i = 0; i < n; i++)
		mt_hva(view, slot[i].gpa, 1500, READ);
	return view;
}

static void
looking_up_costs_the_same_with_all_slots(void **state)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem *mem[2] = {mt_create(NULL), mt_create(NULL)};
	struct dynvhost_mem_view *view[2] = {
		window_many_regions(mem[0], fd, 2),
		window_many_regions(mem[1], fd, DYNVHOST_MEM_MAX_REGIONS),
	};
	uint64_t best[2][2] = {{UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
	unsigned int round, i;

	/* In turns, so that both meet the same machine; the best of each is what it costs. */
	for (round = 0; round < 100; round++)
		for (i = 0; i < 4; i++) {
			uint64_t took = window_time_lookups(view[i / 2], i % 2 != 0);

			best[i / 2][i % 2] = took < best[i / 2][i % 2] ? took : best[i / 2][i % 2];
		}
	for (i = 0; i < 2; i++) {
		print_message("%s: %.2f times the time of 2 regions with %u\n",
			i == 0 ? "local" : "sequential", (double)best[1][i] / (double)best[0][i],
			DYNVHOST_MEM_MAX_REGIONS);
		assert_true(best[1][i] * 2 <= best[0][i] * 3);
		dynvhost_mem_view_release(view[i]);
		dynvhost_mem_destroy(mem[i]);
	}
	close(fd);
}

static void
a_region_may_begin_anywhere_in_the_file(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA + 0x123, 2 * MT_PAGE, MT_PAGE + 0x123, fd);
	struct dynvhost_mem_view *view;
	uint8_t *hva;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, &slot, 1, &view), 0);
	mt_put(fd, MT_PAGE + 0x123, "first", 5);
	hva = mt_hva(view, MT_GPA + 0x123, 5, READ);
	assert_memory_equal(hva, "first", 5);
	assert_int_equal((uintptr_t)hva % MT_PAGE, 0x123);
	/* 2 pages of bytes lie in 3 pages of the file. */
	mt_hva(view, MT_GPA + 0x123, 2 * MT_PAGE, READ);
	assert_int_equal(mt_reach(fd).loadable, 3 * MT_PAGE);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
an_empty_view_translates_nothing(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_span span;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, NULL, 0, &view), 0);
	assert_int_equal(mt_translate(view, 0, 1, READ, &span), -EFAULT);
	assert_int_equal(mt_translate(view, MT_GPA, 1, READ, &span), -EFAULT);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
}

static void
a_burst_opens_at_most_its_budget(void **state)
{
	struct window_setup s = window_setup(NULL);
	struct dynvhost_mem_cursor cursor = {.budget = 3};
	struct dynvhost_mem_span span;

	assert_int_equal(
		dynvhost_mem_translate(s.view, &cursor, MT_GPA, 5 * MT_PAGE, READ, &span), -EAGAIN);
	assert_int_equal(cursor.budget, 0);
	assert_int_equal(mt_stats(s.mem).denials, 1);
	window_expect(&s, 3 * MT_PAGE, 0);
	/* What is open costs nothing. */
	assert_int_equal(
		dynvhost_mem_translate(s.view, &cursor, MT_GPA, 3 * MT_PAGE, READ, &span), 0);
	assert_int_equal(dynvhost_mem_translate(s.view, &cursor, MT_GPA, 1, WRITE, &span), -EAGAIN);
	cursor.budget = 3;
	assert_int_equal(
		dynvhost_mem_translate(s.view, &cursor, MT_GPA, 5 * MT_PAGE, READ, &span), 0);
	assert_int_equal(cursor.budget, 1);
	window_teardown(&s);
}

static void
the_cap_counts_both_windows(void **state)
{
	struct dynvhost_mem_config config = {.max_bytes = 3 * MT_PAGE};
	struct window_setup s = window_setup(&config);
	struct dynvhost_mem_span span;
	struct dynvhost_mem_pin pin;

	mt_hva(s.view, MT_GPA, 2 * MT_PAGE, READ);
	mt_hva(s.view, MT_GPA, 1, WRITE);
	assert_int_equal(mt_translate(s.view, MT_GPA + MT_PAGE, 1, WRITE, &span), -EAGAIN);
	/* One page of the pin is open, the other cannot be. */
	assert_int_equal(
		dynvhost_mem_pin(s.view, MT_GPA + 2 * MT_PAGE - 1, 2, READ, &pin), -EAGAIN);
	assert_null(pin.region);
	assert_int_equal(mt_stats(s.mem).pinned_bytes, 0);
	assert_int_equal(mt_stats(s.mem).denials, 2);
	window_expect(&s, 3 * MT_PAGE, MT_PAGE);
	window_age(&s, READ, 1);
	assert_int_equal(mt_close(mem_region_of(s.view->region[0]), READ, 0, PAGES), 1);
	mt_hva(s.view, MT_GPA + MT_PAGE, 1, WRITE);
	window_expect(&s, 3 * MT_PAGE, 2 * MT_PAGE);
	assert_int_equal(mt_stats(s.mem).loadable_peak, 3 * MT_PAGE);
	window_teardown(&s);
}

static void
filling_holes_has_an_allowance(void **state)
{
	const uint64_t size = UINT64_C(2) << 30;
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(size);
	struct dynvhost_mem_view *view = mt_view(mem, fd, size);
	struct dynvhost_mem_span span;
	uint64_t gpa;

	atomic_store(&mem->fills.until_ns, dynvhost_mem_sys->now_ns() + 10 * MEM_FILL_BURST_NS);
	assert_int_equal(mt_translate(view, MT_GPA, 1, WRITE, &span), -EAGAIN);
	assert_int_equal(mt_file_bytes(fd), 0);
	/* Memory that is there does not need it. */
	mt_fill(fd, MT_PAGE, MT_PAGE);
	assert_int_equal(mt_translate(view, MT_GPA + MT_PAGE, 1, WRITE, &span), 0);
	atomic_store(&mem->fills.until_ns, 0);
	for (gpa = MT_GPA; gpa < MT_GPA + 4 * MT_2M; gpa += MT_2M)
		assert_int_equal(mt_translate(view, gpa, MT_2M, WRITE, &span), 0);
	assert_in_range(atomic_load(&mem->fills.until_ns), dynvhost_mem_sys->now_ns() - 1000000000,
		dynvhost_mem_sys->now_ns() + 4 * MT_2M);
	assert_int_equal(mt_stats(mem).allocations, 4 * MT_2M / MT_PAGE - 1);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
a_granule_takes_along_what_is_there(void **state)
{
	struct dynvhost_mem_config config = {.granule = 8 * MT_PAGE};
	struct window_setup s = window_setup(&config);
	const uint64_t base = MT_GPA + 8 * MT_PAGE;

	mt_fill(s.fd, 8 * MT_PAGE, 2 * MT_PAGE);
	mt_fill(s.fd, 14 * MT_PAGE, 4 * MT_PAGE);
	/* Page 12 is wanted; 8, 9, 14 and 15 are there; 16 and 17 lie in the next granule. */
	mt_hva(s.view, base + 4 * MT_PAGE, 1, READ);
	window_expect(&s, 5 * MT_PAGE, 0);
	assert_int_equal(mt_stats(s.mem).allocations, 1);
	assert_int_equal(mt_file_bytes(s.fd), 7 * MT_PAGE);
	assert_true(mt_is_present(mt_hva(s.view, base, 1, READ)));
	assert_int_equal(mt_load(s.view->region[0]->window[READ].base + 10 * MT_PAGE), -1);
	window_expect(&s, 5 * MT_PAGE, 0);
	/* The rest of the granule, when it is wanted. */
	mt_hva(s.view, base + 2 * MT_PAGE, 1, READ);
	window_expect(&s, 6 * MT_PAGE, 0);
	window_teardown(&s);
}

/** The kernel does not tell which huge pages a file holds, and a mapping would allocate them. */
static void
a_granule_of_huge_mappings_takes_only_what_is_wanted(void **state)
{
	struct dynvhost_mem_config config = {.granule = 8 * MT_PAGE};
	struct window_setup s = window_setup(&config);

	mt_fill(s.fd, 0, MT_PAGE);
	mt_hva(s.view, MT_GPA + MT_PAGE, 1, READ);
	window_expect(&s, MT_PAGE, 0);
	assert_int_equal(mt_file_bytes(s.fd), 2 * MT_PAGE);
	window_teardown(&s);
}

static void
granules_are_clipped_to_the_region(void **state)
{
	struct dynvhost_mem_config config = {.granule = 8 * MT_PAGE};
	struct dynvhost_mem *mem = mt_create(&config);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA, 10 * MT_PAGE, 5 * MT_PAGE, fd);
	struct dynvhost_mem_view *view;

	/* Pages 5 to 14 of the file; granules end at 8 and 16. */
	mt_fill(fd, 0, SIZE);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, &slot, 1, &view), 0);
	mt_hva(view, MT_GPA, 1, READ);
	assert_int_equal(mt_reach(fd).loadable, 3 * MT_PAGE);
	mt_hva(view, MT_GPA + 9 * MT_PAGE, 1, WRITE);
	assert_int_equal(mt_reach(fd).storable, 7 * MT_PAGE);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
neighbours_do_not_break_the_cap(void **state)
{
	struct dynvhost_mem_config config = {.granule = 8 * MT_PAGE, .max_bytes = 10 * MT_PAGE};
	struct window_setup s = window_setup(&config);

	mt_fill(s.fd, 0, SIZE);
	mt_hva(s.view, MT_GPA, 1, READ);
	window_expect(&s, 8 * MT_PAGE, 0);
	mt_hva(s.view, MT_GPA + 8 * MT_PAGE, 1, READ);
	window_expect(&s, 9 * MT_PAGE, 0);
	window_teardown(&s);
}

static void
pins_are_counted(void **state)
{
	struct window_setup s = window_setup(NULL);
	struct mem_region *region = mem_region_of(s.view->region[0]);
	struct dynvhost_mem_pin pin[3];

	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 100, 2 * MT_PAGE, READ, &pin[0]), 0);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 2 * MT_PAGE, 1, READ, &pin[1]), 0);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 2 * MT_PAGE, 1, WRITE, &pin[2]), 0);
	assert_ptr_equal(pin[0].hva, s.view->region[0]->window[READ].base + 100);
	assert_int_equal(mt_stats(s.mem).pinned_bytes, 4 * MT_PAGE);
	window_age(&s, READ, 2);
	assert_int_equal(mt_close(region, READ, 0, PAGES), 0);
	dynvhost_mem_unpin(&pin[0]);
	assert_int_equal(mt_stats(s.mem).pinned_bytes, 2 * MT_PAGE);
	window_age(&s, READ, 0);
	window_age(&s, READ, 1);
	/* Page 2 is held by the second pin. */
	assert_int_equal(mt_close(region, READ, 0, PAGES), 2);
	dynvhost_mem_unpin(&pin[1]);
	dynvhost_mem_unpin(&pin[2]);
	dynvhost_mem_unpin(&pin[2]);
	assert_int_equal(mt_stats(s.mem).pinned_bytes, 0);
	window_expect(&s, 2 * MT_PAGE, MT_PAGE);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + SIZE - 1, 2, READ, &pin[0]), -EFAULT);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA - 1, 2, READ, &pin[0]), -EFAULT);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA, 0, READ, &pin[0]), -EFAULT);
	window_teardown(&s);
}

static void
closing_takes_only_idle_pages(void **state)
{
	struct window_setup s = window_setup(NULL);
	struct mem_region *region = mem_region_of(s.view->region[0]);
	uint8_t *hva = mt_hva(s.view, MT_GPA, 8 * MT_PAGE, WRITE);
	uint64_t page;

	memset(hva, 0x5a, 8 * MT_PAGE);
	assert_int_equal(mt_close(region, WRITE, 0, PAGES), 0);
	for (page = 2; page < 7; page++)
		window_age(&s, WRITE, page);
	assert_int_equal(mt_close(region, WRITE, 0, 4), 2);
	assert_int_equal(mt_close(region, WRITE, 0, PAGES), 3);
	window_expect(&s, 3 * MT_PAGE, 3 * MT_PAGE);
	assert_int_equal(mt_load(hva + 2 * MT_PAGE), -1);
	assert_int_equal(mt_load(hva + 7 * MT_PAGE), 0x5a);
	assert_int_equal(mt_stats(s.mem).closes, 5);
	/* The data stays in the file. */
	assert_int_equal(*mt_hva(s.view, MT_GPA + 3 * MT_PAGE, 1, READ), 0x5a);
	/* A page in use again is not idle. */
	window_age(&s, WRITE, 0);
	mt_hva(s.view, MT_GPA, 1, WRITE);
	assert_int_equal(mt_close(region, WRITE, 0, PAGES), 0);
	window_teardown(&s);
}

static void
a_page_that_somebody_changes_is_put_off_and_counted(void **state)
{
	struct window_setup s = window_setup(NULL);
	_Atomic uint8_t *page = &s.view->region[0]->window[READ].state[3];
	struct dynvhost_mem_span span;

	atomic_store(page, DYNVHOST_MEM_BUSY);
	assert_int_equal(mt_translate(s.view, MT_GPA + 3 * MT_PAGE, 1, READ, &span), -EAGAIN);
	assert_int_equal(mt_stats(s.mem).denials, 1);
	atomic_store(page, 0);
	mt_hva(s.view, MT_GPA + 3 * MT_PAGE, 1, READ);
	assert_int_equal(mt_stats(s.mem).denials, 1);
	window_teardown(&s);
}

static void
a_file_cut_short_gives_errors_not_signals(void **state)
{
	struct window_setup s = {.mem = mt_create(NULL)};
	struct dynvhost_mem_span span;

	s.fd = mt_memfd_unsealable(SIZE);
	s.view = mt_view(s.mem, s.fd, SIZE);
	assert_int_equal(ftruncate(s.fd, (off_t)(2 * MT_PAGE)), 0);
	assert_int_equal(mt_translate(s.view, MT_GPA + 2 * MT_PAGE, 1, WRITE, &span), -EAGAIN);
	assert_int_equal(
		mt_translate(s.view, MT_GPA + MT_PAGE, 2 * MT_PAGE, WRITE, &span), -EAGAIN);
	assert_int_equal(mt_translate(s.view, MT_GPA + MT_PAGE, MT_PAGE, WRITE, &span), 0);
	window_expect(&s, MT_PAGE, MT_PAGE);
	/* Nor is memory spent on what is behind the end. */
	assert_int_equal(mt_file_bytes(s.fd), MT_PAGE);
	assert_int_equal(ftruncate(s.fd, (off_t)SIZE), 0);
	assert_int_equal(mt_translate(s.view, MT_GPA + 2 * MT_PAGE, 1, WRITE, &span), 0);
	window_teardown(&s);
}

static void
eager_opens_everything_at_once(void **state)
{
	struct dynvhost_mem_config config = {.mode = DYNVHOST_MEM_MODE_EAGER};
	struct window_setup s = window_setup(&config);

	assert_string_equal(dynvhost_mem_engine_name(s.mem), "eager");
	window_expect(&s, 2 * SIZE, SIZE);
	assert_int_equal(mt_file_bytes(s.fd), 0);
	*mt_hva(s.view, MT_GPA + SIZE - 1, 1, WRITE) = 9;
	assert_int_equal(*mt_hva(s.view, MT_GPA + SIZE - 1, 1, READ), 9);
	window_expect(&s, 2 * SIZE, SIZE);
	assert_int_equal(mt_close(mem_region_of(s.view->region[0]), READ, 0, PAGES), 0);
	window_teardown(&s);
}

/** Repairs and opens may meet; whoever is late finds the page there. */
static void
a_page_that_is_there_already_is_no_obstacle(void **state)
{
	struct window_setup s = window_setup(NULL);
	struct uffdio_continue early = {.range.len = MT_PAGE};
	uint64_t first;

	mt_fill(s.fd, 0, SIZE);
	for (first = 2; first <= 4; first++) {
		early.range.start = (uintptr_t)s.view->region[0]->window[READ].base +
				    4 * first * MT_PAGE + (first - 2) * MT_PAGE;
		assert_int_equal(ioctl(s.mem->fence.fd, UFFDIO_CONTINUE, &early), 0);
		mt_hva(s.view, MT_GPA + 4 * first * MT_PAGE, 3 * MT_PAGE, READ);
	}
	window_expect(&s, 9 * MT_PAGE, 0);
	assert_int_equal(mt_stats(s.mem).opens, 9);
	window_teardown(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_alone_opens_nothing),
		cmocka_unit_test(the_window_is_the_right),
		cmocka_unit_test(only_touched_pages_open),
		cmocka_unit_test(windows_have_guards),
		cmocka_unit_test(a_buffer_over_pages_is_contiguous),
		cmocka_unit_test(translation_stops_at_region_borders),
		cmocka_unit_test(a_cursor_knows_two_regions),
		cmocka_unit_test(a_region_may_begin_anywhere_in_the_file),
		cmocka_unit_test(an_empty_view_translates_nothing),
		cmocka_unit_test(a_burst_opens_at_most_its_budget),
		cmocka_unit_test(the_cap_counts_both_windows),
		cmocka_unit_test(granules_are_clipped_to_the_region),
		cmocka_unit_test(neighbours_do_not_break_the_cap),
		cmocka_unit_test(pins_are_counted),
		cmocka_unit_test(closing_takes_only_idle_pages),
		cmocka_unit_test(a_page_that_somebody_changes_is_put_off_and_counted),
		cmocka_unit_test(a_file_cut_short_gives_errors_not_signals),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(looking_up_costs_the_same_with_all_slots),
		cmocka_unit_test(filling_holes_has_an_allowance),
	};
	const struct CMUnitTest of_mappings[] = {
		cmocka_unit_test(eager_opens_everything_at_once),
	};
	const struct CMUnitTest of_known_pages[] = {
		cmocka_unit_test(a_granule_takes_along_what_is_there),
	};
	const struct CMUnitTest of_unknown_pages[] = {
		cmocka_unit_test(a_granule_of_huge_mappings_takes_only_what_is_wanted),
	};

	const struct CMUnitTest of_userfaultfd[] = {
		cmocka_unit_test(a_page_that_is_there_already_is_no_obstacle),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_userfaultfd, 1, MT_UFFD) + mt_run(of_small_pages, 2, MT_SMALL) +
	       mt_run(of_mappings, 1, MT_MMAP) +
	       mt_run(of_known_pages, 1, MT_LIST(&mt_uffd, &mt_mmap, &mt_uffd_huge)) +
	       mt_run(of_unknown_pages, 1, MT_LIST(&mt_mmap_huge));
}
