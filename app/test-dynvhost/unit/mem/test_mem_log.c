/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file The dirty log: which bits are set, and what a front-end can do to it meanwhile. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_test.h"

#define LOG_FILE  (16 * MT_4K)
#define LOG_PAGES (LOG_FILE * 8)

static struct dynvhost_mem_log *
log_map(struct dynvhost_mem *mem, int fd, uint64_t offset, uint64_t size)
{
	struct dynvhost_mem_log *log = NULL;

	assert_int_equal(dynvhost_mem_log_map(mem, fd, offset, size, &log), 0);
	assert_non_null(log);
	assert_int_equal(log->n_pages, size * 8);
	return log;
}

/* Set the bits of the pages that a range touches, as far as they lie below n_pages. */
static void
log_model(uint8_t *model, uint64_t n_pages, uint64_t gpa, uint64_t len)
{
	uint64_t i;

	for (i = 0; i < len; i++) {
		uint64_t page = (gpa + i) / MT_4K;

		if (page < n_pages)
			model[page / 8] |= (uint8_t)(1u << (page % 8));
		/* The next page's first byte will do. */
		i += MT_4K - 1 - (gpa + i) % MT_4K;
	}
}

static void
log_expect_file(int fd, const uint8_t *expected)
{
	static uint8_t seen[LOG_FILE];

	mt_get(fd, 0, seen, sizeof(seen));
	assert_memory_equal(seen, expected, sizeof(seen));
}

static void
bits_are_those_of_the_pages_written(void **state)
{
	static const uint64_t offsets[] = {0, 8, 100, MT_4K, MT_4K + 4095, 5 * MT_4K + 1};
	static uint8_t model[LOG_FILE];
	struct dynvhost_mem *mem = mt_create(NULL);
	unsigned int i, n;

	srand(7);
	for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		const uint64_t size = LOG_FILE - offsets[i] - 2 * MT_4K;
		int fd = mt_memfd(LOG_FILE);
		struct dynvhost_mem_log *log = log_map(mem, fd, offsets[i], size);

		memset(model, 0, sizeof(model));
		for (n = 0; n < 300; n++) {
			uint64_t gpa = (uint64_t)rand() % (LOG_PAGES * MT_4K);
			uint64_t len = (uint64_t)rand() % (n % 3 == 0 ? 70000 : 3) + n % 2;

			dynvhost_mem_log_mark(log, gpa, len);
			log_model(model + offsets[i], size * 8, gpa, len);
		}
		/* Also that nothing is set before and behind the log. */
		log_expect_file(fd, model);
		assert_false(dynvhost_mem_log_is_lost(log));
		dynvhost_mem_log_unmap(log);
		close(fd);
	}
	dynvhost_mem_destroy(mem);
}

static void
what_lies_beyond_the_log_is_counted(void **state)
{
	static const struct {
		uint64_t gpa, len, unlogged;
	} cases[] = {
		{8 * MT_4K, 1, 1},
		{8 * MT_4K - 1, 2, 1},
		{7 * MT_4K, MT_4K, 0},
		{8 * MT_4K, 3 * MT_4K + 1, 4},
		{0, 0, 0},
		{UINT64_MAX, 1, 1},
		{UINT64_MAX, 2, 1},
		{UINT64_MAX, UINT64_MAX, 1},
		{UINT64_MAX - MT_4K, MT_4K + 1, 2},
		{0, UINT64_MAX, (UINT64_C(1) << 52) - 8},
	};
	static uint8_t expected[LOG_FILE];
	struct dynvhost_mem *mem = mt_create(NULL);
	unsigned int i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = mt_memfd(LOG_FILE);
		struct dynvhost_mem_log *log = log_map(mem, fd, MT_4K + 1, 1);

		memset(expected, 0, sizeof(expected));
		log_model(expected + MT_4K + 1, 8, cases[i].gpa % (UINT64_C(1) << 62),
			cases[i].len % (64 * MT_4K));
		dynvhost_mem_log_mark(log, cases[i].gpa, cases[i].len);
		log_expect_file(fd, expected);
		assert_int_equal(log->unlogged, cases[i].unlogged);
		dynvhost_mem_log_unmap(log);
		close(fd);
	}
	dynvhost_mem_destroy(mem);
}

static void
a_log_that_does_not_cover_guest_memory_is_known(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(16 * MT_4K);
	int log_fd = mt_memfd(LOG_FILE);
	struct dynvhost_mem_slot slot[2] = {
		mt_slot(0, 8 * MT_4K, 0, fd),
		mt_slot(16 * MT_4K, 8 * MT_4K, 8 * MT_4K, fd),
	};
	struct dynvhost_mem_view *view;
	static const struct {
		uint64_t size, missed;
	} cases[] = {{3, 0}, {2, 8 * MT_4K}, {1, 8 * MT_4K}};
	unsigned int i;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, 2, &view), 0);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dynvhost_mem_log *log = log_map(mem, log_fd, 0, cases[i].size);

		assert_int_equal(dynvhost_mem_log_misses(log, view), cases[i].missed);
		dynvhost_mem_log_unmap(log);
	}
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(log_fd);
	close(fd);
}

static void
log_refused(struct dynvhost_mem *mem, int fd, uint64_t offset, uint64_t size, int error)
{
	struct dynvhost_mem_log *log = NULL;

	assert_int_equal(dynvhost_mem_log_map(mem, fd, offset, size, &log), error);
	assert_null(log);
	assert_int_not_equal(dynvhost_mem_why(mem)[0], '\0');
}

static void
ranges_that_the_file_has_not_are_refused(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(LOG_FILE);
	unsigned int maps = mt_count_maps();

	log_refused(mem, fd, 0, 0, -EINVAL);
	log_refused(mem, fd, 0, LOG_FILE + 1, -EINVAL);
	log_refused(mem, fd, 1, LOG_FILE, -EINVAL);
	log_refused(mem, fd, LOG_FILE, 1, -EINVAL);
	log_refused(mem, fd, UINT64_MAX, 1, -EINVAL);
	log_refused(mem, fd, UINT64_MAX - 7, 8, -EINVAL);
	log_refused(mem, fd, UINT64_MAX - 4094, 8192, -EINVAL);
	log_refused(mem, fd, UINT64_C(1) << 63, 8, -EINVAL);
	log_refused(mem, fd, 0, DYNVHOST_MEM_LOG_MAX + 1, -E2BIG);
	log_refused(mem, fd, 0, UINT64_MAX, -E2BIG);
	log_refused(mem, -1, 0, 8, -EINVAL);
	assert_int_equal(mt_count_maps(), maps);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
files_that_are_no_memory_are_refused(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	char path[] = "/var/tmp/dynvhost-log-XXXXXX";
	int fd = mt_memfd(LOG_FILE);
	char self[32];
	int other, pipes[2];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	other = open(self, O_RDONLY | O_CLOEXEC);
	log_refused(mem, other, 0, 8, -EINVAL);
	close(other);
	other = open("/dev/zero", O_RDWR | O_CLOEXEC);
	log_refused(mem, other, 0, 8, -EINVAL);
	close(other);
	assert_int_equal(pipe(pipes), 0);
	log_refused(mem, pipes[0], 0, 8, -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	other = mkstemp(path);
	if (other >= 0) {
		unlink(path);
		assert_int_equal(ftruncate(other, LOG_FILE), 0);
		log_refused(mem, other, 0, 8, -EPERM);
		close(other);
	}
	/* Sealed against writing: can be had, and cannot be mapped for it. */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	log_refused(mem, fd, 0, 8, -EACCES);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
huge_pages_are_refused(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(MT_PAGE);

	log_refused(mem, fd, 0, 8, -EPERM);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
a_log_takes_memory_only_where_bits_are_set(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(DYNVHOST_MEM_LOG_MAX);
	struct dynvhost_mem_log *log = log_map(mem, fd, 0, DYNVHOST_MEM_LOG_MAX);

	assert_int_equal(mt_file_bytes(fd), 0);
	dynvhost_mem_log_mark(log, (log->n_pages - 1) * MT_4K, 1);
	assert_int_equal(mt_file_bytes(fd), MT_4K);
	dynvhost_mem_log_unmap(log);
	assert_int_equal(mt_reach(fd).mappings, 0);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
a_file_that_can_be_sealed_cannot_be_cut(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(LOG_FILE);
	struct dynvhost_mem_log *log = log_map(mem, fd, 0, LOG_FILE);

	assert_int_equal(ftruncate(fd, 0), -1);
	dynvhost_mem_log_mark(log, 0, LOG_PAGES * MT_4K);
	assert_false(dynvhost_mem_log_is_lost(log));
	dynvhost_mem_log_unmap(log);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
a_log_cut_short_is_lost_and_can_be_marked(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd_unsealable(LOG_FILE);
	int other_fd = mt_memfd(LOG_FILE);
	struct dynvhost_mem_log *log = log_map(mem, fd, 100, LOG_FILE - 100);
	struct dynvhost_mem_log *other = log_map(mem, other_fd, 0, LOG_FILE);
	uint8_t first = 0;

	dynvhost_mem_log_mark(log, 0, MT_4K);
	assert_int_equal(ftruncate(fd, (off_t)(2 * MT_4K)), 0);
	assert_false(dynvhost_mem_log_is_lost(log));
	/* What is left of it is still good. */
	dynvhost_mem_log_mark(log, MT_4K, MT_4K);
	assert_false(dynvhost_mem_log_is_lost(log));
	dynvhost_mem_log_mark(log, 0, log->n_pages * MT_4K);
	assert_true(dynvhost_mem_log_is_lost(log));
	dynvhost_mem_log_mark(log, 0, log->n_pages * MT_4K);
	mt_get(fd, 100, &first, 1);
	assert_int_equal(first, 0xff);

	dynvhost_mem_log_mark(other, 0, MT_4K);
	assert_false(dynvhost_mem_log_is_lost(other));
	dynvhost_mem_log_unmap(other);
	dynvhost_mem_log_unmap(log);
	close(other_fd);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
a_punched_log_goes_on(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(LOG_FILE);
	struct dynvhost_mem_log *log = log_map(mem, fd, 0, LOG_FILE);
	uint8_t byte = 0;

	dynvhost_mem_log_mark(log, 0, MT_4K);
	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)LOG_FILE), 0);
	dynvhost_mem_log_mark(log, 3 * MT_4K, 1);
	mt_get(fd, 0, &byte, 1);
	assert_int_equal(byte, 8);
	assert_false(dynvhost_mem_log_is_lost(log));
	dynvhost_mem_log_unmap(log);
	close(fd);
	dynvhost_mem_destroy(mem);
}

/* Many threads set bits while one takes them, words at a time. */
#define RACE_THREADS 3
#define RACE_PAGES   4096u

struct race {
	struct dynvhost_mem_log *log;
	_Atomic uint32_t written[RACE_PAGES]; /* how often */
	_Atomic unsigned int running;
};

static void *
race_write(void *arg)
{
	struct race *race = arg;
	uint32_t i, page = 1;

	for (i = 0; i < 20000; i++) {
		page = (page * 1103515245u + 12345u) % RACE_PAGES;
		atomic_fetch_add_explicit(&race->written[page], 1, memory_order_relaxed);
		dynvhost_mem_log_mark(race->log, (uint64_t)page * MT_4K, 1);
	}
	atomic_fetch_sub(&race->running, 1);
	return NULL;
}

static void
who_takes_a_bit_sees_what_was_written(void **state)
{
	static struct race race;
	static uint32_t seen[RACE_PAGES];
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(LOG_FILE);
	_Atomic uint64_t *words;
	pthread_t thread[RACE_THREADS];
	bool last = false;
	unsigned int i, bit;

	race.log = log_map(mem, fd, 0, LOG_FILE);
	race.running = RACE_THREADS;
	words = mmap(NULL, LOG_FILE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(words != MAP_FAILED);
	for (i = 0; i < RACE_THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, race_write, &race), 0);
	while (!last) {
		last = atomic_load(&race.running) == 0;
		for (i = 0; i < RACE_PAGES / 64; i++) {
			uint64_t word = atomic_exchange(&words[i], 0);

			for (bit = 0; bit < 64; bit++)
				if ((word >> bit & 1) != 0)
					seen[i * 64 + bit] = atomic_load_explicit(
						&race.written[i * 64 + bit], memory_order_relaxed);
		}
	}
	for (i = 0; i < RACE_THREADS; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < RACE_PAGES; i++)
		assert_int_equal(seen[i], race.written[i]);
	munmap((void *)words, LOG_FILE);
	dynvhost_mem_log_unmap(race.log);
	close(fd);
	dynvhost_mem_destroy(mem);
}

static void
a_kernel_that_refuses_leaves_nothing_behind(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(LOG_FILE);
	unsigned int at, calls;

	mt_fail_start(MT_FAIL_NONE, 0);
	dynvhost_mem_log_unmap(log_map(mem, fd, 0, LOG_FILE));
	calls = mt_fail_stop();
	assert_true(calls > 5);
	for (at = 1; at <= calls; at++) {
		struct dynvhost_mem_log *log = NULL;
		unsigned int fds = mt_count_fds();
		int rc;

		mt_fail_start(MT_FAIL_ONE, at);
		rc = dynvhost_mem_log_map(mem, fd, 0, LOG_FILE, &log);
		mt_fail_stop();
		assert_true((rc == 0) == (log != NULL));
		/* Sealing is a favour, and unmapping has not been asked for yet. */
		if (rc != 0)
			assert_int_equal(mt_reach(fd).mappings, 0);
		dynvhost_mem_log_unmap(log);
		assert_int_equal(mt_reach(fd).mappings, 0);
		assert_int_equal(mt_count_fds(), fds);
	}
	close(fd);
	dynvhost_mem_destroy(mem);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(bits_are_those_of_the_pages_written),
		cmocka_unit_test(what_lies_beyond_the_log_is_counted),
		cmocka_unit_test(a_log_that_does_not_cover_guest_memory_is_known),
		cmocka_unit_test(ranges_that_the_file_has_not_are_refused),
		cmocka_unit_test(files_that_are_no_memory_are_refused),
		cmocka_unit_test(a_log_takes_memory_only_where_bits_are_set),
		cmocka_unit_test(a_file_that_can_be_sealed_cannot_be_cut),
		cmocka_unit_test(a_log_cut_short_is_lost_and_can_be_marked),
		cmocka_unit_test(a_punched_log_goes_on),
		cmocka_unit_test(who_takes_a_bit_sees_what_was_written),
		cmocka_unit_test(a_kernel_that_refuses_leaves_nothing_behind),
	};
	static const struct CMUnitTest huge_tests[] = {
		cmocka_unit_test(huge_pages_are_refused),
	};
	int failed = mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_LIST(&mt_uffd));

	return failed + mt_run(huge_tests, 1, MT_LIST(&mt_uffd_huge));
}
