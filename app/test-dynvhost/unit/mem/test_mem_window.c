/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Windows: rights, what opens, what it costs, what is refused. */

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
	       mt_run(of_userfaultfd, 1, MT_UFFD) + mt_run(of_small_pages, 1, MT_SMALL) +
	       mt_run(of_mappings, 1, MT_MMAP) +
	       mt_run(of_known_pages, 1, MT_LIST(&mt_uffd, &mt_mmap, &mt_uffd_huge)) +
	       mt_run(of_unknown_pages, 1, MT_LIST(&mt_mmap_huge));
}
