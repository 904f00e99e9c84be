/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file The index of pages that are not closed. */

#include <stdlib.h>
#include <string.h>

#include "mem_test.h"

static void
pages_set(struct mem_pages *pages, uint64_t page, uint8_t state)
{
	atomic_store(&pages->state[page], state);
	if (state != 0)
		mem_pages_mark(pages, page);
}

static void
a_new_index_is_empty(void **state)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 4096, 4097, UINT64_C(1) << 28};
	struct mem_pages pages = {0};
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(mem_pages_init(&pages, sizes[i]), 0);
		assert_int_equal(mem_pages_next(&pages, 0), sizes[i]);
		assert_int_equal(mem_pages_next(&pages, sizes[i] + 7), sizes[i]);
		pages_set(&pages, sizes[i] - 1, 1);
		assert_int_equal(mem_pages_next(&pages, 0), sizes[i] - 1);
		assert_int_equal(mem_pages_next(&pages, sizes[i] - 1), sizes[i] - 1);
		mem_pages_fini(&pages);
	}
	mem_pages_fini(&pages);
}

static void
every_page_is_found_in_order(void **state)
{
	static const uint64_t at[] = {0, 1, 63, 64, 4095, 4096, 8191, 262143, 262144, 999999};
	const size_t n = sizeof(at) / sizeof(at[0]);
	struct mem_pages pages = {0};
	uint64_t page = 0;
	size_t i;

	assert_int_equal(mem_pages_init(&pages, 1000000), 0);
	for (i = 0; i < n; i++)
		pages_set(&pages, at[n - 1 - i], DYNVHOST_MEM_BUSY);
	for (i = 0; i < n; i++, page++) {
		page = mem_pages_next(&pages, page);
		assert_int_equal(page, at[i]);
	}
	assert_int_equal(mem_pages_next(&pages, page), 1000000);
	mem_pages_fini(&pages);
}

static void
closed_lines_leave_the_index(void **state)
{
	struct mem_pages pages = {0};

	assert_int_equal(mem_pages_init(&pages, 1 << 20), 0);
	pages_set(&pages, 4096 + 70, 1);
	pages_set(&pages, 4096 + 71, 1);
	pages_set(&pages, 4096 + 70, 0);
	assert_int_equal(mem_pages_next(&pages, 0), 4096 + 71);
	pages_set(&pages, 4096 + 71, 0);
	assert_int_equal(mem_pages_next(&pages, 0), 1 << 20);
	assert_int_equal(atomic_load(&pages.line[1]), 0);
	assert_int_equal(atomic_load(&pages.block[0]), 0);
	pages_set(&pages, 4096 + 71, 1);
	assert_int_equal(mem_pages_next(&pages, 0), 4096 + 71);
	mem_pages_fini(&pages);
}

static void
random_pages_match_a_plain_array(void **state)
{
	enum { N = 20000, STEPS = 3000 };
	struct mem_pages pages = {0};
	static uint8_t shadow[N];
	unsigned int step, seed = 4711;
	uint64_t page, next;

	assert_int_equal(mem_pages_init(&pages, N), 0);
	for (step = 0; step < STEPS; step++) {
		page = (uint64_t)rand_r(&seed) % N;
		shadow[page] = rand_r(&seed) % 2;
		pages_set(&pages, page, shadow[page]);
		page = (uint64_t)rand_r(&seed) % N;
		next = (uint8_t *)memchr(shadow + page, 1, N - page) - shadow;
		if (memchr(shadow + page, 1, N - page) == NULL)
			next = N;
		assert_int_equal(mem_pages_next(&pages, page), next);
	}
	mem_pages_fini(&pages);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_index_is_empty),
		cmocka_unit_test(every_page_is_found_in_order),
		cmocka_unit_test(closed_lines_leave_the_index),
		cmocka_unit_test(random_pages_match_a_plain_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
