/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Closing what is idle, and the rates of opening and closing (H99 to H101). */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES 64
#define SIZE  (PAGES * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE

struct idle_setup {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd;
};

static struct idle_setup
idle_setup_of(const struct dynvhost_mem_config *config, uint64_t size)
{
	struct idle_setup s = {.mem = mt_create(config), .fd = mt_memfd(size)};

	s.view = mt_view(s.mem, s.fd, size);
	return s;
}

static struct idle_setup
idle_setup(const struct dynvhost_mem_config *config)
{
	return idle_setup_of(config, SIZE);
}

static void
idle_teardown(struct idle_setup *s)
{
	dynvhost_mem_view_release(s->view);
	assert_int_equal(mt_stats(s->mem).loadable_bytes, 0);
	assert_int_equal(mt_reach(s->fd).mappings, 0);
	assert_false(dynvhost_mem_idle_pending(s->mem));
	dynvhost_mem_destroy(s->mem);
	close(s->fd);
}

/** A whole pass. @return pages closed. */
static uint64_t
idle_pass(const struct idle_setup *s)
{
	uint64_t closed = dynvhost_mem_idle_pass(s->mem);

	while (dynvhost_mem_idle_pending(s->mem))
		closed += dynvhost_mem_idle_pass(s->mem);
	return closed;
}

static void
idle_use(const struct idle_setup *s, uint64_t page, uint64_t n, enum dynvhost_mem_right right)
{
	mt_hva(s->view, MT_GPA + page * MT_PAGE, n * MT_PAGE, right);
}

/** Counters and kernel agree that this many pages are open. */
static void
idle_expect(const struct idle_setup *s, uint64_t loadable, uint64_t storable)
{
	struct dynvhost_mem_stats stats = mt_stats(s->mem);
	struct mt_reach reach = mt_reach(s->fd);

	assert_int_equal(stats.loadable_bytes, loadable * MT_PAGE);
	assert_int_equal(stats.storable_bytes, storable * MT_PAGE);
	assert_int_equal(reach.loadable, loadable * MT_PAGE);
	assert_int_equal(reach.storable, storable * MT_PAGE);
}

static void
a_page_closes_in_the_second_pass_after_its_last_use(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	uint8_t *hva;

	idle_use(&s, 3, 2, READ);
	idle_use(&s, 9, 1, WRITE);
	hva = mt_hva(s.view, MT_GPA + 9 * MT_PAGE, 1, WRITE);
	*hva = 0x77;
	assert_int_equal(idle_pass(&s), 0);
	idle_expect(&s, 3, 1);
	assert_int_equal(idle_pass(&s), 3);
	idle_expect(&s, 0, 0);
	assert_int_equal(mt_load(hva), -1);
	assert_int_equal(mt_stats(s.mem).closes, 3);
	assert_int_equal(idle_pass(&s), 0);
	/* Nothing is lost by it. */
	assert_int_equal(*mt_hva(s.view, MT_GPA + 9 * MT_PAGE, 1, READ), 0x77);
	idle_teardown(&s);
}

static void
a_page_in_use_stays_open(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	int i;

	idle_use(&s, 1, 1, READ);
	idle_use(&s, 1, 1, WRITE);
	for (i = 0; i < 5; i++) {
		assert_int_equal(idle_pass(&s), i == 1 ? 1 : 0);
		idle_use(&s, 1, 1, READ);
		idle_expect(&s, i < 1 ? 2 : 1, i < 1 ? 1 : 0);
	}
	assert_int_equal(mt_stats(s.mem).opens, 2);
	idle_teardown(&s);
}

static void
rings_stay_open(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	struct dynvhost_mem_pin pin;
	int i;

	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + MT_PAGE, 2 * MT_PAGE, READ, &pin), 0);
	idle_use(&s, 0, 5, READ);
	for (i = 0; i < 4; i++)
		assert_int_equal(idle_pass(&s), i == 1 ? 3 : 0);
	idle_expect(&s, 2, 0);
	assert_int_equal(mt_stats(s.mem).pinned_bytes, 2 * MT_PAGE);
	/* For the hot path they are hits all the time. */
	assert_true(dynvhost_mem_is_hit(s.view->region[0], MT_PAGE, 2 * MT_PAGE, READ));
	dynvhost_mem_unpin(&pin);
	assert_int_equal(idle_pass(&s), 0);
	assert_int_equal(idle_pass(&s), 2);
	idle_teardown(&s);
}

/** How often an engine was asked to close something. */
static unsigned int idle_close_calls;

static void *
idle_counting_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	idle_close_calls += (flags & MAP_FIXED) != 0 && fd < 0;
	return mmap(addr, length, prot, flags, fd, offset);
}

static int
idle_counting_madvise(void *addr, size_t length, int advice)
{
	idle_close_calls += advice == MADV_DONTNEED_LOCKED;
	return madvise(addr, length, advice);
}

static void
neighbours_close_in_one_call(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	struct mem_sys_ops counting = dynvhost_mem_sys_real;

	idle_use(&s, 0, 10, READ);
	idle_use(&s, 20, 30, READ);
	idle_use(&s, 20, 44, WRITE);
	assert_int_equal(idle_pass(&s), 0);
	idle_use(&s, 25, 1, READ);
	idle_close_calls = 0;
	counting.mmap = idle_counting_mmap;
	counting.madvise = idle_counting_madvise;
	dynvhost_mem_sys = &counting;
	assert_int_equal(idle_pass(&s), 10 + 29 + 44);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(idle_close_calls, 4);
	idle_expect(&s, 1, 0);
	idle_teardown(&s);
}

static void
a_long_run_closes_in_pieces_that_nobody_waits_for(void **state)
{
	struct idle_setup s = idle_setup_of(NULL, 1000 * MT_PAGE);
	struct mem_sys_ops counting = dynvhost_mem_sys_real;

	idle_use(&s, 5, 500, WRITE);
	idle_close_calls = 0;
	counting.mmap = idle_counting_mmap;
	counting.madvise = idle_counting_madvise;
	dynvhost_mem_sys = &counting;
	assert_int_equal(idle_pass(&s), 0);
	assert_int_equal(idle_pass(&s), 500);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(idle_close_calls, 8);
	idle_teardown(&s);
}

static void
a_granule_closes_when_none_of_its_pages_is_used(void **state)
{
	struct dynvhost_mem_config config = {.granule = 8 * MT_PAGE};
	struct idle_setup s = idle_setup(&config);
	struct dynvhost_mem_pin pin, used;
	int i;

	mt_fill(s.fd, 0, 32 * MT_PAGE);
	if (mt_kind == &mt_mmap_huge) /* which takes nothing along by itself */
		idle_use(&s, 0, 24, READ);
	idle_use(&s, 2, 1, READ);
	idle_use(&s, 12, 1, READ);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 18 * MT_PAGE, 1, READ, &pin), 0);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 3 * MT_PAGE, 1, READ, &used), 0);
	idle_expect(&s, 24, 0);
	for (i = 0; i < 4; i++) {
		/* A ring in it does not keep a granule open. */
		assert_int_equal(idle_pass(&s), i == 1 ? 8 + 7 : 0);
		/* Nor is it ever aged itself. */
		assert_true(dynvhost_mem_is_hit(s.view->region[0], 3 * MT_PAGE, MT_PAGE, READ));
		idle_use(&s, 2, 1, READ);
	}
	idle_expect(&s, 8 + 1, 0);
	dynvhost_mem_unpin(&used);
	dynvhost_mem_unpin(&pin);
	idle_teardown(&s);
}

static void
who_comes_back_in_time_keeps_its_page(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	const _Atomic uint8_t *byte = &s.view->region[0]->window[READ].state[7];

	idle_use(&s, 7, 1, READ);
	assert_int_equal(idle_pass(&s), 0);
	assert_int_equal(*byte & ~MEM_PAGE_HEAD, DYNVHOST_MEM_OPEN);
	assert_false(dynvhost_mem_is_hit(s.view->region[0], 7 * MT_PAGE, 1, READ));
	idle_use(&s, 7, 1, READ);
	assert_int_equal(*byte & ~MEM_PAGE_HEAD, DYNVHOST_MEM_HIT);
	assert_int_equal(mt_stats(s.mem).opens, 1);
	assert_int_equal(idle_pass(&s), 0);
	idle_teardown(&s);
}

static void
a_step_is_bounded_and_the_next_goes_on(void **state)
{
	const uint64_t n = 200;
	struct idle_setup s = idle_setup_of(NULL, 2 * n * MT_PAGE);
	uint64_t page, closed, sum = 0;
	unsigned int steps = 0;

	assert_false(dynvhost_mem_idle_pending(s.mem));
	for (page = 0; page < 2 * n; page += 2)
		idle_use(&s, page, 1, WRITE);
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 0);
	assert_false(dynvhost_mem_idle_pending(s.mem));
	do {
		closed = dynvhost_mem_idle_pass(s.mem);
		assert_true(closed <= 64 + 1);
		sum += closed;
		steps++;
	} while (dynvhost_mem_idle_pending(s.mem));
	assert_int_equal(sum, n);
	assert_in_range(steps, 4, 5);
	idle_expect(&s, 0, 0);
	idle_teardown(&s);
}

static void
a_region_that_goes_takes_its_pass_along(void **state)
{
	const uint64_t n = 200;
	struct idle_setup s = idle_setup_of(NULL, 2 * n * MT_PAGE);
	struct dynvhost_mem_view *empty;
	uint64_t page;

	for (page = 0; page < 2 * n; page += 2)
		idle_use(&s, page, 1, WRITE);
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 0);
	assert_true(dynvhost_mem_idle_pass(s.mem) > 0);
	assert_true(dynvhost_mem_idle_pending(s.mem));
	assert_int_equal(dynvhost_mem_view_build(s.mem, s.view, NULL, 0, &empty), 0);
	dynvhost_mem_view_release(s.view);
	assert_false(dynvhost_mem_idle_pending(s.mem));
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 0);
	s.view = empty;
	idle_teardown(&s);
}

/** A clock that stands. */
static uint64_t idle_clock_ns;

static uint64_t
idle_now_ns(void)
{
	return idle_clock_ns;
}

static void
closing_has_a_rate(void **state)
{
	/* 50 ms at 12.2 us each, and what goes beyond before it is seen. */
	const uint64_t at_once = 4098, n = at_once + 500;
	struct idle_setup s = idle_setup_of(NULL, 2 * n * MT_PAGE);
	struct mem_sys_ops slow = dynvhost_mem_sys_real;
	uint64_t page, closed;

	for (page = 0; page < 2 * n; page += 2)
		idle_use(&s, page, 1, READ);
	idle_clock_ns = UINT64_C(1) << 40;
	slow.now_ns = idle_now_ns;
	dynvhost_mem_sys = &slow;
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 0);
	while (dynvhost_mem_idle_pass(s.mem) != 0)
		;
	closed = mt_stats(s.mem).closes;
	assert_in_range(closed, at_once, at_once + 2);
	assert_true(dynvhost_mem_idle_pending(s.mem));
	/* A twentieth of the time: 100 ms pay for 409 calls and then some. */
	idle_clock_ns += 100000000;
	while (dynvhost_mem_idle_pass(s.mem) != 0)
		;
	assert_in_range(mt_stats(s.mem).closes - closed, 408, 411);
	idle_clock_ns += 2000000000;
	while (dynvhost_mem_idle_pending(s.mem))
		dynvhost_mem_idle_pass(s.mem);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	idle_expect(&s, 0, 0);
	idle_teardown(&s);
}

static void
opening_has_a_rate(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	const struct mem_engine *engine = mem_region_of(s.view->region[0])->engine;
	const uint64_t cost_ns = (engine->open_call_ns + engine->open_page_ns) * MEM_OPEN_PAYBACK;
	struct mem_sys_ops slow = dynvhost_mem_sys_real;
	struct dynvhost_mem_span span;
	struct dynvhost_mem_pin pin;

	idle_clock_ns = UINT64_C(1) << 40;
	slow.now_ns = idle_now_ns;
	dynvhost_mem_sys = &slow;
	mt_fill(s.fd, 0, SIZE);
	atomic_store(&s.mem->opens.until_ns, idle_clock_ns + MEM_OPEN_MOST_NS - cost_ns);
	idle_use(&s, 0, 1, READ);
	idle_use(&s, 1, 1, READ);
	assert_int_equal(mt_translate(s.view, MT_GPA + 2 * MT_PAGE, 1, READ, &span), -EAGAIN);
	assert_int_equal(mt_stats(s.mem).denials, 1);
	/* What is open stays open, and rings are not refused. */
	idle_use(&s, 0, 2, READ);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 3 * MT_PAGE, 1, READ, &pin), 0);
	dynvhost_mem_unpin(&pin);
	idle_clock_ns += 2 * cost_ns;
	idle_use(&s, 2, 1, READ);
	assert_int_equal(mt_translate(s.view, MT_GPA + 4 * MT_PAGE, 1, READ, &span), -EAGAIN);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	idle_teardown(&s);
}

/** A guest that comes to life: thousands of pages, none of them refused. */
static void
a_beginning_is_not_slowed(void **state)
{
	const uint64_t n = 8000;
	struct idle_setup s = idle_setup_of(NULL, n * MT_PAGE);
	uint64_t page;

	mt_fill(s.fd, 0, n * MT_PAGE);
	for (page = 0; page < n; page++)
		idle_use(&s, page * 7 % n, 1, page % 2 ? READ : WRITE);
	assert_int_equal(mt_stats(s.mem).denials, 0);
	idle_teardown(&s);
}

static void
a_full_cap_asks_for_room_and_gets_it(void **state)
{
	struct dynvhost_mem_config config = {.max_bytes = 4 * MT_PAGE};
	struct idle_setup s = idle_setup(&config);
	struct dynvhost_mem_span span;

	idle_use(&s, 0, 4, READ);
	assert_false(dynvhost_mem_wants_room(s.mem));
	assert_int_equal(mt_translate(s.view, MT_GPA + 8 * MT_PAGE, 1, READ, &span), -EAGAIN);
	assert_true(dynvhost_mem_wants_room(s.mem));
	assert_int_equal(idle_pass(&s), 0);
	assert_false(dynvhost_mem_wants_room(s.mem));
	idle_use(&s, 0, 1, READ);
	assert_int_equal(mt_translate(s.view, MT_GPA + 8 * MT_PAGE, 1, READ, &span), -EAGAIN);
	assert_true(dynvhost_mem_wants_room(s.mem));
	assert_int_equal(idle_pass(&s), 3);
	idle_use(&s, 8, 3, READ);
	idle_expect(&s, 4, 0);
	idle_teardown(&s);
}

static int
idle_failing_madvise(void *addr, size_t length, int advice)
{
	if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED) {
		errno = ENOMEM;
		return -1;
	}
	return madvise(addr, length, advice);
}

static void *
idle_failing_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	errno = ENOMEM;
	return MAP_FAILED;
}

static void
what_cannot_be_closed_stays_open_and_counted(void **state)
{
	struct idle_setup s = idle_setup(NULL);
	struct mem_sys_ops failing = dynvhost_mem_sys_real;

	idle_use(&s, 3, 5, WRITE);
	assert_int_equal(idle_pass(&s), 0);
	failing.mmap = idle_failing_mmap;
	failing.madvise = idle_failing_madvise;
	dynvhost_mem_sys = &failing;
	assert_int_equal(idle_pass(&s), 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	idle_expect(&s, 5, 5);
	/* It is a candidate as before, and somebody may still take it back. */
	idle_use(&s, 4, 1, WRITE);
	assert_int_equal(idle_pass(&s), 4);
	idle_expect(&s, 1, 1);
	idle_teardown(&s);
}

static void
the_eager_engine_never_closes(void **state)
{
	struct dynvhost_mem_config config = {.mode = DYNVHOST_MEM_MODE_EAGER};
	struct idle_setup s = idle_setup(&config);

	idle_use(&s, 3, 5, WRITE);
	assert_int_equal(idle_pass(&s), 0);
	assert_int_equal(idle_pass(&s), 0);
	assert_int_equal(mt_stats(s.mem).loadable_bytes, 2 * SIZE);
	idle_teardown(&s);
}

static void
a_pass_over_a_terabyte_is_quick(void **state)
{
	const uint64_t tib = UINT64_C(1) << 40;
	struct idle_setup s = idle_setup_of(NULL, tib);
	uint64_t start_ns, closed, page;

	for (page = 0; page < 10; page++)
		idle_use(&s, page * (tib / 10 / MT_PAGE), 1, READ);
	start_ns = dynvhost_mem_sys->now_ns();
	closed = idle_pass(&s);
	closed += idle_pass(&s);
	print_message("%ju us\n", (uintmax_t)(dynvhost_mem_sys->now_ns() - start_ns) / 1000);
	assert_int_equal(closed, 10);
	assert_true(dynvhost_mem_sys->now_ns() - start_ns < 50000000);
	idle_teardown(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_closes_in_the_second_pass_after_its_last_use),
		cmocka_unit_test(a_page_in_use_stays_open),
		cmocka_unit_test(rings_stay_open),
		cmocka_unit_test(neighbours_close_in_one_call),
		cmocka_unit_test(a_granule_closes_when_none_of_its_pages_is_used),
		cmocka_unit_test(who_comes_back_in_time_keeps_its_page),
		cmocka_unit_test(opening_has_a_rate),
		cmocka_unit_test(a_full_cap_asks_for_room_and_gets_it),
		cmocka_unit_test(what_cannot_be_closed_stays_open_and_counted),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(a_long_run_closes_in_pieces_that_nobody_waits_for),
		cmocka_unit_test(a_step_is_bounded_and_the_next_goes_on),
		cmocka_unit_test(a_region_that_goes_takes_its_pass_along),
		cmocka_unit_test(closing_has_a_rate),
		cmocka_unit_test(a_beginning_is_not_slowed),
		cmocka_unit_test(a_pass_over_a_terabyte_is_quick),
	};
	const struct CMUnitTest of_eager[] = {
		cmocka_unit_test(the_eager_engine_never_closes),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_small_pages, sizeof(of_small_pages) / sizeof(of_small_pages[0]),
		       MT_SMALL) +
	       mt_run(of_eager, 1, MT_LIST(&mt_mmap));
}
