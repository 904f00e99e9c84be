/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Every call to the system fails once, in turn, and from the n-th on for good (H97): nothing leaks,
 * nothing is reachable that the counters do not know, and the port works when the system does
 * again.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "mem_test.h"
#include "mem_trial.h"

#define SIZE (32 * MT_PAGE)

/** One session; how far it came depends on what failed. */
struct fail_session {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_pin pin;
};

/** Build with an fd of our own; on failure the fd is still ours, and is closed here. */
static void
fail_build(struct fail_session *s, int fd)
{
	struct dynvhost_mem_slot slot[2] = {
		mt_slot(MT_GPA, SIZE / 2, 0, fd),
		mt_slot(MT_GPA + SIZE, SIZE / 2, SIZE / 2, fd),
	};
	struct dynvhost_mem_view *next = NULL;
	int i;

	if (dynvhost_mem_view_build(s->mem, s->view, slot, 2, &next) == 0) {
		dynvhost_mem_view_release(s->view);
		s->view = next;
		return;
	}
	for (i = 0; i < 2; i++)
		assert_int_equal(close(slot[i].fd), 0);
	assert_true(strlen(dynvhost_mem_why(s->mem)) > 0);
}

static void
fail_change_regions(struct fail_session *s, int fd)
{
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA + 2 * SIZE, MT_PAGE, 0, fd);
	struct dynvhost_mem_view *next = NULL;
	struct dynvhost_mem_span span;

	if (dynvhost_mem_view_add(s->mem, s->view, &slot, &next) != 0) {
		assert_int_equal(close(slot.fd), 0);
		return;
	}
	dynvhost_mem_view_release(s->view);
	s->view = next;
	mt_translate(s->view, slot.gpa, 1, DYNVHOST_MEM_WRITE, &span);
	if (dynvhost_mem_view_remove(s->mem, s->view, &slot, &next) == 0) {
		dynvhost_mem_view_release(s->view);
		s->view = next;
	}
}

/** What is translated is there; what is not gives -EAGAIN. */
static void
fail_translate(
	const struct fail_session *s, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right)
{
	struct dynvhost_mem_span span;
	int rc = mt_translate(s->view, gpa, len, right, &span);

	if (rc == 0)
		assert_true(mt_load(span.hva) >= 0);
	else
		assert_int_equal(rc, -EAGAIN);
}

static void
fail_idle(struct fail_session *s)
{
	struct mem_region *region = mem_region_of(s->view->region[0]);
	uint64_t page;

	for (page = 0; page < region->n_pages; page++)
		atomic_fetch_and(&region->window[DYNVHOST_MEM_READ].pages.state[page],
			(uint8_t)~DYNVHOST_MEM_REF);
	mt_close(region, DYNVHOST_MEM_READ, 0, region->n_pages);
}

static void
fail_run(struct fail_session *s, const struct dynvhost_mem_config *config, int fd)
{
	if (dynvhost_mem_create(config, &s->mem) != 0)
		return;
	fail_build(s, fd);
	if (s->view == NULL)
		return;
	fail_translate(s, MT_GPA, 1, DYNVHOST_MEM_READ);
	fail_translate(s, MT_GPA + MT_PAGE, 3 * MT_PAGE, DYNVHOST_MEM_READ);
	fail_translate(s, MT_GPA + SIZE, 2 * MT_PAGE, DYNVHOST_MEM_WRITE);
	dynvhost_mem_pin(s->view, MT_GPA + 2 * MT_PAGE, 2 * MT_PAGE, DYNVHOST_MEM_READ, &s->pin);
	fail_idle(s);
	fail_change_regions(s, fd);
	fail_build(s, fd);
	fail_translate(s, MT_GPA + 5, MT_PAGE, DYNVHOST_MEM_WRITE);
}

/** Counters and kernel agree: to the byte, or the counters know of more. */
static void
fail_check(const struct fail_session *s, int fd, bool exact)
{
	struct dynvhost_mem_stats stats = mt_stats(s->mem);
	struct mt_reach reach = mt_reach(fd);

	if (exact) {
		assert_int_equal(reach.loadable, stats.loadable_bytes);
		assert_int_equal(reach.storable, stats.storable_bytes);
	}
	assert_true(reach.loadable <= stats.loadable_bytes);
	assert_true(reach.storable <= stats.storable_bytes);
}

static void
fail_end(struct fail_session *s, int fd)
{
	dynvhost_mem_unpin(&s->pin);
	if (s->mem != NULL) {
		assert_int_equal(mt_stats(s->mem).pinned_bytes, 0);
		dynvhost_mem_view_release(s->view);
		assert_int_equal(mt_stats(s->mem).loadable_bytes, 0);
		assert_int_equal(mt_stats(s->mem).storable_bytes, 0);
		assert_int_equal(mt_stats(s->mem).guest_bytes, 0);
	}
	assert_int_equal(mt_reach(fd).loadable, 0);
	dynvhost_mem_destroy(s->mem);
}

/** Let call @p at fail, and go on. @return whether there was such a call. */
static bool
fail_at(const struct dynvhost_mem_config *config, enum mt_fail_kind kind, unsigned int at)
{
	struct fail_session s = {0};
	unsigned int fds = mt_count_fds();
	int fd = mt_memfd(SIZE);
	unsigned int calls;

	mt_fail_start(kind, at);
	fail_run(&s, config, fd);
	/* A system that recovers, or the last call of the session still to fail. */
	if (kind == MT_FAIL_FROM)
		mt_fail_stop();
	if (s.view != NULL) {
		fail_check(&s, fd, kind == MT_FAIL_ONE);
		fail_translate(&s, MT_GPA + 9 * MT_PAGE, 2 * MT_PAGE, DYNVHOST_MEM_WRITE);
	}
	fail_end(&s, fd);
	calls = mt_fail_stop();
	close(fd);
	assert_int_equal(mt_count_fds(), fds);
	return at <= calls;
}

static void
fail_everywhere(const struct dynvhost_mem_config *config, enum mt_fail_kind kind)
{
	unsigned int at = 1;

	while (fail_at(config, kind, at))
		at++;
	print_message("%u calls\n", at - 1);
	/* The session is long enough to mean something. */
	assert_true(at > 30);
}

static void
fail_everywhere_with_all(enum mt_fail_kind kind)
{
	const struct dynvhost_mem_config plain = {.name = "plain", .mode = mt_kind->mode};
	const struct dynvhost_mem_config granules = {.name = "granules",
		.mode = mt_kind->mode,
		.granule = 4 * MT_PAGE,
		.max_bytes = SIZE};

	fail_everywhere(&plain, kind);
	fail_everywhere(&granules, kind);
}

static void
one_failure_anywhere(void **state)
{
	fail_everywhere_with_all(MT_FAIL_ONE);
}

static void
failure_for_good_from_anywhere(void **state)
{
	fail_everywhere_with_all(MT_FAIL_FROM);
}

static void
failure_of_the_eager_engine(void **state)
{
	const struct dynvhost_mem_config eager = {.name = "eager", .mode = DYNVHOST_MEM_MODE_EAGER};

	fail_everywhere(&eager, MT_FAIL_ONE);
	fail_everywhere(&eager, MT_FAIL_FROM);
}

/** A trial that fails half-way says so, and leaves nothing behind. */
static void
failure_anywhere_in_a_trial(void **state)
{
	const struct mem_engine *engine = &dynvhost_mem_engine_uffd;
	char reason[MEM_REASON_SIZE];
	unsigned int fds = mt_count_fds(), maps = mt_count_maps();
	unsigned int at = 0, calls, refused = 0;
	int rc;

	do {
		reason[0] = '\0';
		mt_fail_start(MT_FAIL_ONE, ++at);
		rc = engine->probe(reason);
		calls = mt_fail_stop();
		refused += rc != 0;
		assert_true(strlen(reason) > 10);
		assert_int_equal(mt_count_fds(), fds);
		/* Where munmap() fails, an address range stays reserved. */
		assert_true(mt_count_maps() <= maps + 1);
		maps = mt_count_maps();
	} while (at <= calls);
	print_message("%u calls, %u matter\n", calls, refused);
	assert_int_equal(rc, 0);
	assert_true(refused > 20);
}

/** A gap that cannot be filled kills the window, and the gap is never unmapped. */
static void *fail_gap;
static bool fail_gap_on;

static void *
fail_gap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (!fail_gap_on || (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == 0)
		return mmap(addr, length, prot, flags, fd, offset);
	if ((flags & MAP_FIXED) != 0 && fail_gap == NULL) {
		fail_gap = addr;
		munmap(addr, length);
	}
	errno = ENOMEM;
	return MAP_FAILED;
}

static void
a_gap_kills_the_window_and_stays(void **state)
{
	struct mem_sys_ops gap_ops = dynvhost_mem_sys_real;
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	struct dynvhost_mem_span span;
	uint8_t *stranger;

	mt_hva(view, MT_GPA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE);
	fail_gap = NULL;
	gap_ops.mmap = fail_gap_mmap;
	dynvhost_mem_sys = &gap_ops;
	fail_gap_on = true;
	assert_int_equal(
		mt_translate(view, MT_GPA + 5 * MT_PAGE, 1, DYNVHOST_MEM_WRITE, &span), -EAGAIN);
	fail_gap_on = false;
	assert_ptr_equal(fail_gap, view->region[0]->window[DYNVHOST_MEM_WRITE].base + 5 * MT_PAGE);
	/* Somebody else's mapping comes to live in the gap. */
	stranger = mmap(fail_gap, MT_PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(stranger, fail_gap);
	*stranger = 'S';
	/* There are mappings again. */
	dynvhost_mem_idle_pass(mem);
	/* No page of the window opens any more; those that are open still serve. */
	assert_int_equal(
		mt_translate(view, MT_GPA + 5 * MT_PAGE, 1, DYNVHOST_MEM_WRITE, &span), -EAGAIN);
	assert_int_equal(
		mt_translate(view, MT_GPA + 7 * MT_PAGE, 1, DYNVHOST_MEM_WRITE, &span), -EAGAIN);
	mt_hva(view, MT_GPA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE);
	mt_hva(view, MT_GPA + 7 * MT_PAGE, 1, DYNVHOST_MEM_READ);
	dynvhost_mem_view_release(view);
	assert_int_equal(mt_reach(fd).mappings, 0);
	assert_int_equal(mt_stats(mem).loadable_bytes, 0);
	assert_int_equal(mt_load(stranger), 'S');
	munmap(stranger, MT_PAGE);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** The process has few mappings left: opens are refused long before the limit. */
static long
fail_few_mappings(void)
{
	return 40;
}

static void
open_pages_leave_mappings_to_others(void **state)
{
	struct mem_sys_ops few = dynvhost_mem_sys_real;
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_span span;
	struct mem_region *region;
	struct dynvhost_mem *mem;
	uint64_t page, opened = 0;

	few.max_map_count = fail_few_mappings;
	dynvhost_mem_sys = &few;
	mem = mt_create(NULL);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	view = mt_view(mem, fd, SIZE);
	region = mem_region_of(view->region[0]);
	for (page = 0; page < 32; page += 2)
		opened += mt_translate(
				  view, MT_GPA + page * MT_PAGE, 1, DYNVHOST_MEM_READ, &span) == 0;
	/* Half of twenty mappings, two for each page that stands alone. */
	assert_int_equal(opened, 5);
	assert_int_equal(mt_stats(mem).denials, 11);
	for (page = 0; page < 32; page++)
		atomic_fetch_and(&region->window[DYNVHOST_MEM_READ].pages.state[page],
			(uint8_t)~DYNVHOST_MEM_REF);
	assert_int_equal(mt_close(region, DYNVHOST_MEM_READ, 2, 2), 1);
	mt_hva(view, MT_GPA + 10 * MT_PAGE, 4 * MT_PAGE, DYNVHOST_MEM_READ);
	assert_int_equal(
		mt_translate(view, MT_GPA + 20 * MT_PAGE, 1, DYNVHOST_MEM_READ, &span), -EAGAIN);
	/* Closing within what one call opened makes two of it: nothing becomes free. */
	atomic_fetch_and(
		&region->window[DYNVHOST_MEM_READ].pages.state[11], (uint8_t)~DYNVHOST_MEM_REF);
	assert_int_equal(mt_close(region, DYNVHOST_MEM_READ, 11, 1), 1);
	assert_int_equal(
		mt_translate(view, MT_GPA + 20 * MT_PAGE, 1, DYNVHOST_MEM_READ, &span), -EAGAIN);
	dynvhost_mem_view_release(view);
	view = mt_view(mem, fd, SIZE);
	for (page = 0; page < 10; page += 2)
		mt_hva(view, MT_GPA + page * MT_PAGE, 1, DYNVHOST_MEM_READ);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
a_greedy_port_leaves_mappings_to_the_next(void **state)
{
	struct mem_sys_ops few = dynvhost_mem_sys_real;
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem *mem[3];
	struct dynvhost_mem_view *view[3];
	struct dynvhost_mem_span span;
	uint64_t page, opened;
	int i;

	few.max_map_count = fail_few_mappings;
	dynvhost_mem_sys = &few;
	for (i = 0; i < 3; i++)
		mem[i] = mt_create(NULL);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	for (i = 0; i < 3; i++) {
		static const uint64_t got[] = {5, 2, 1};

		view[i] = mt_view(mem[i], fd, SIZE);
		for (opened = 0, page = 0; page < 32; page += 2)
			opened += mt_translate(view[i], MT_GPA + page * MT_PAGE, 1,
					  DYNVHOST_MEM_READ, &span) == 0;
		assert_int_equal(opened, got[i]);
	}
	for (i = 0; i < 3; i++) {
		dynvhost_mem_view_release(view[i]);
		dynvhost_mem_destroy(mem[i]);
	}
	close(fd);
}

static int
fail_old_madvise(void *addr, size_t length, int advice)
{
	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) {
		errno = EINVAL;
		return -1;
	}
	return madvise(addr, length, advice);
}

static int
fail_forbidden_userfaultfd(int flags)
{
	errno = EPERM;
	return -1;
}

/** Runs before any engine has been found to work: see main(). */
static void
engines_are_chosen_by_what_works(void **state)
{
	struct dynvhost_mem_config config = {.name = "choice"};
	struct mem_sys_ops old = dynvhost_mem_sys_real;
	struct dynvhost_mem *mem = NULL;

	old.madvise = fail_old_madvise;
	old.userfaultfd = fail_forbidden_userfaultfd;
	dynvhost_mem_sys = &old;
	assert_int_equal(dynvhost_mem_create(&config, &mem), -ENOTSUP);
	assert_non_null(strstr(dynvhost_mem_why(NULL), "no engine works here: "));
	config.mode = DYNVHOST_MEM_MODE_MMAP;
	assert_int_equal(dynvhost_mem_create(&config, &mem), -ENOTSUP);
	assert_non_null(strstr(dynvhost_mem_why(NULL), "engine mmap does not work here: "));
	assert_non_null(strstr(dynvhost_mem_why(NULL), "Linux 5.14"));
	config.mode = DYNVHOST_MEM_MODE_UFFD;
	assert_int_equal(dynvhost_mem_create(&config, &mem), -ENOTSUP);
	assert_non_null(strstr(dynvhost_mem_why(NULL), "engine uffd does not work here: "));
	assert_non_null(strstr(dynvhost_mem_why(NULL), "Operation not permitted"));

	old.madvise = madvise;
	config.mode = DYNVHOST_MEM_MODE_AUTO;
	assert_int_equal(dynvhost_mem_create(&config, &mem), 0);
	assert_string_equal(dynvhost_mem_engine_name(mem), "mmap");
	assert_non_null(strstr(dynvhost_mem_engine_reason(mem), "Operation not permitted"));
	dynvhost_mem_destroy(mem);

	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(dynvhost_mem_create(&config, &mem), 0);
	assert_string_equal(dynvhost_mem_engine_name(mem), "uffd");
	assert_non_null(strstr(dynvhost_mem_engine_reason(mem), "tried here on"));
	print_message("%s\n", dynvhost_mem_engine_reason(mem));
	dynvhost_mem_destroy(mem);
	config.mode = DYNVHOST_MEM_MODE_UFFD;
	assert_int_equal(dynvhost_mem_create(&config, &mem), 0);
	assert_string_equal(dynvhost_mem_engine_reason(mem), "as configured");
	dynvhost_mem_destroy(mem);
}

static int
fail_open_anything(
	struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *opened)
{
	*opened = length;
	return 0;
}

static int
fail_open_nothing(
	struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *opened)
{
	*opened = 0;
	return -ENODATA;
}

static int
fail_open_neighbour(
	struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *opened)
{
	if (offset == 0)
		return fail_open_nothing(window, offset, length, opened);
	assert_int_equal(fallocate(window->fd, 0, 0, (off_t)length), 0);
	return dynvhost_mem_engine_uffd.open(window, 0, 2 * length, opened);
}

static int
fail_close_nothing(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	return 0;
}

static void
fail_expect_flaw(const struct mem_engine *engine, const char *flaw)
{
	unsigned int fds = mt_count_fds(), maps = mt_count_maps();
	char reason[MEM_REASON_SIZE] = "";

	assert_int_equal(mem_trial(engine, reason), -EPROTO);
	assert_string_equal(reason, flaw);
	assert_int_equal(mt_count_fds(), fds);
	assert_int_equal(mt_count_maps(), maps);
}

static void
an_engine_that_does_not_keep_its_word_is_found_out(void **state)
{
	struct mem_engine liar = dynvhost_mem_engine_uffd;

	fail_expect_flaw(&dynvhost_mem_engine_eager,
		"4 KiB pages: pages that nobody has opened can be loaded");
	liar.open = fail_open_anything;
	fail_expect_flaw(&liar, "4 KiB pages: a hole can be opened");
	liar.open = fail_open_nothing;
	fail_expect_flaw(&liar, "4 KiB pages: a page cannot be opened");
	liar.open = fail_open_neighbour;
	fail_expect_flaw(&liar, "4 KiB pages: the neighbour of an open page can be loaded");
	liar = dynvhost_mem_engine_uffd;
	liar.close = fail_close_nothing;
	/* A window is tried as well when it is made, by the engine's own close. */
	fail_expect_flaw(&liar, "4 KiB pages: a page cannot be closed");
}

/** Closing a page of this file fails as it does for huge pages before Linux 5.18. */
static int
fail_close_madvise(void *addr, size_t length, int advice)
{
	if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED) {
		errno = EINVAL;
		return -1;
	}
	return madvise(addr, length, advice);
}

static void
a_file_that_the_engine_cannot_serve_gets_the_other(void **state)
{
	struct dynvhost_mem_config config = {.name = "fallback"};
	struct mem_sys_ops old = dynvhost_mem_sys_real;
	unsigned int fds = mt_count_fds(), maps = mt_count_maps();
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot;
	struct dynvhost_mem_view *view = NULL;
	struct dynvhost_mem *mem;

	assert_int_equal(dynvhost_mem_create(&config, &mem), 0);
	old.madvise = fail_close_madvise;
	dynvhost_mem_sys = &old;
	view = mt_view(mem, fd, SIZE);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_ptr_equal(mem_region_of(view->region[0])->engine, &dynvhost_mem_engine_mmap);
	mt_hva(view, MT_GPA, 2 * MT_PAGE, DYNVHOST_MEM_WRITE)[1] = 'x';
	assert_int_equal(mt_load(view->region[0]->window[0].base), -1);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);

	config.mode = DYNVHOST_MEM_MODE_UFFD;
	assert_int_equal(dynvhost_mem_create(&config, &mem), 0);
	slot = mt_slot(MT_GPA, SIZE, 0, fd);
	dynvhost_mem_sys = &old;
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, &slot, 1, &view), -ENOTSUP);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_non_null(strstr(dynvhost_mem_why(mem), "engine uffd cannot serve its file"));
	close(slot.fd);
	dynvhost_mem_destroy(mem);
	close(fd);
	assert_int_equal(mt_count_fds(), fds);
	assert_int_equal(mt_count_maps(), maps);
}

int
main(void)
{
	const struct CMUnitTest choice[] = {
		cmocka_unit_test(engines_are_chosen_by_what_works),
		cmocka_unit_test(a_file_that_the_engine_cannot_serve_gets_the_other),
		cmocka_unit_test(an_engine_that_does_not_keep_its_word_is_found_out),
		cmocka_unit_test(failure_anywhere_in_a_trial),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_failure_anywhere),
		cmocka_unit_test(failure_for_good_from_anywhere),
	};
	const struct CMUnitTest of_mappings[] = {
		cmocka_unit_test(failure_of_the_eager_engine),
		cmocka_unit_test(a_gap_kills_the_window_and_stays),
		cmocka_unit_test(open_pages_leave_mappings_to_others),
		cmocka_unit_test(a_greedy_port_leaves_mappings_to_the_next),
	};

	return cmocka_run_group_tests(choice, NULL, NULL) +
	       mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_mappings, sizeof(of_mappings) / sizeof(of_mappings[0]), MT_MMAP);
}
