/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file What callers may ask: which pages are open, what a cap must hold, where the memory is. */

#include <errno.h>
#include <numaif.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES 64
#define SIZE  (PAGES * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE

struct query_setup {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd;
};

/** Two regions of half the file each; the one with the higher gpa is older. */
static struct query_setup
query_setup(void)
{
	struct query_setup s = {.mem = mt_create(NULL), .fd = mt_memfd(SIZE)};
	struct dynvhost_mem_slot slot[2] = {
		mt_slot(MT_GPA + SIZE, SIZE / 2, 0, s.fd),
		mt_slot(MT_GPA, SIZE / 2, SIZE / 2, s.fd),
	};

	assert_int_equal(dynvhost_mem_view_build(s.mem, NULL, slot, 2, &s.view), 0);
	return s;
}

static void
query_teardown(struct query_setup *s)
{
	dynvhost_mem_view_release(s->view);
	dynvhost_mem_destroy(s->mem);
	close(s->fd);
}

static void
query_expect(const struct dynvhost_mem_run *run, uint64_t gpa, uint64_t pages,
	enum dynvhost_mem_right right, bool used, bool pinned)
{
	const struct dynvhost_mem_run want = {gpa, pages * MT_PAGE, right, used, pinned};

	assert_int_equal(run->gpa, want.gpa);
	assert_int_equal(run->bytes, want.bytes);
	assert_int_equal(run->right, want.right);
	assert_int_equal(run->used, want.used);
	assert_int_equal(run->pinned, want.pinned);
}

static void
open_pages_are_listed_in_runs(void **state)
{
	struct query_setup s = query_setup();
	struct dynvhost_mem_run_cursor cursor = {0};
	struct dynvhost_mem_run run[10];
	struct dynvhost_mem_pin pin;

	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, run, 10), 0);
	mt_hva(s.view, MT_GPA + SIZE + 2 * MT_PAGE, 3 * MT_PAGE, READ);
	dynvhost_mem_idle_pass(s.mem);
	mt_hva(s.view, MT_GPA + SIZE + 4 * MT_PAGE, 2 * MT_PAGE, READ);
	mt_hva(s.view, MT_GPA + 31 * MT_PAGE, MT_PAGE, WRITE);
	mt_hva(s.view, MT_GPA, MT_PAGE, WRITE);
	mt_hva(s.view, MT_GPA + 9 * MT_PAGE, 1, READ);
	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + MT_PAGE, MT_PAGE, WRITE, &pin), 0);
	cursor = (struct dynvhost_mem_run_cursor){0};
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, run, 10), 6);
	query_expect(&run[0], MT_GPA + 9 * MT_PAGE, 1, READ, true, false);
	query_expect(&run[1], MT_GPA, 1, WRITE, true, false);
	query_expect(&run[2], MT_GPA + MT_PAGE, 1, WRITE, true, true);
	query_expect(&run[3], MT_GPA + 31 * MT_PAGE, 1, WRITE, true, false);
	query_expect(&run[4], MT_GPA + SIZE + 2 * MT_PAGE, 2, READ, false, false);
	query_expect(&run[5], MT_GPA + SIZE + 4 * MT_PAGE, 2, READ, true, false);
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, run, 10), 0);
	dynvhost_mem_unpin(&pin);
	query_teardown(&s);
}

/** Sum up a listing that is fetched @p max runs at a time. */
static uint64_t
query_sum(struct query_setup *s, uint32_t max, uint32_t *n_runs)
{
	struct dynvhost_mem_run_cursor cursor = {0};
	struct dynvhost_mem_run run[8];
	uint64_t bytes = 0;
	uint32_t n, i;

	*n_runs = 0;
	while ((n = dynvhost_mem_runs(s->mem, &cursor, run, max)) != 0) {
		assert_true(n <= max);
		*n_runs += n;
		for (i = 0; i < n; i++)
			bytes += run[i].bytes;
	}
	return bytes;
}

static void
a_listing_goes_on_where_it_stopped(void **state)
{
	struct query_setup s = query_setup();
	uint32_t max, n, page;

	for (page = 0; page < PAGES / 2; page += 2) {
		mt_hva(s.view, MT_GPA + page * MT_PAGE, 1, READ);
		mt_hva(s.view, MT_GPA + SIZE + page * MT_PAGE, 1, page % 4 ? READ : WRITE);
	}
	for (max = 1; max <= 8; max++) {
		assert_int_equal(query_sum(&s, max, &n), PAGES / 2 * MT_PAGE);
		assert_int_equal(n, PAGES / 2);
	}
	query_teardown(&s);
}

static void
a_listing_survives_changes_of_the_table(void **state)
{
	struct query_setup s = query_setup();
	struct dynvhost_mem_run_cursor cursor = {0};
	struct dynvhost_mem_slot low = {
		.gpa = MT_GPA, .size = SIZE / 2, .uva = MT_UVA + MT_GPA, .fd = -1};
	struct dynvhost_mem_view *next;
	struct dynvhost_mem_run run;

	mt_hva(s.view, MT_GPA + 3 * MT_PAGE, 1, READ);
	mt_hva(s.view, MT_GPA + 5 * MT_PAGE, 1, READ);
	mt_hva(s.view, MT_GPA + SIZE, 1, WRITE);
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, &run, 1), 1);
	query_expect(&run, MT_GPA + 3 * MT_PAGE, 1, READ, true, false);
	assert_int_equal(dynvhost_mem_view_remove(s.mem, s.view, &low, &next), 0);
	dynvhost_mem_view_release(s.view);
	s.view = next;
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, &run, 1), 1);
	query_expect(&run, MT_GPA + SIZE, 1, WRITE, true, false);
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, &run, 1), 0);
	query_teardown(&s);
}

static void
a_page_that_is_being_changed_is_not_listed(void **state)
{
	struct query_setup s = query_setup();
	struct mem_pages *pages = &mem_region_of(s.view->region[0])->window[READ].pages;
	struct dynvhost_mem_run_cursor cursor = {0};
	struct dynvhost_mem_run run[4];

	mt_hva(s.view, MT_GPA + MT_PAGE, 3 * MT_PAGE, READ);
	atomic_store(&pages->state[0], DYNVHOST_MEM_BUSY);
	mem_pages_mark(pages, 0);
	atomic_store(&pages->state[2], DYNVHOST_MEM_BUSY);
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, run, 4), 2);
	query_expect(&run[0], MT_GPA + MT_PAGE, 1, READ, true, false);
	query_expect(&run[1], MT_GPA + 3 * MT_PAGE, 1, READ, true, false);
	assert_int_equal(dynvhost_mem_runs(s.mem, &cursor, run, 4), 0);
	atomic_store(&pages->state[0], 0);
	atomic_store(&pages->state[2], DYNVHOST_MEM_HIT);
	query_teardown(&s);
}

static void
runs_are_clipped_to_the_region(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA + 0x100, 2 * MT_PAGE, MT_PAGE + 0x100, fd);
	struct dynvhost_mem_run_cursor cursor = {0};
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_run run;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, &slot, 1, &view), 0);
	mt_hva(view, MT_GPA + 0x100, 2 * MT_PAGE, READ);
	assert_int_equal(dynvhost_mem_runs(mem, &cursor, &run, 1), 1);
	query_expect(&run, MT_GPA + 0x100, 2, READ, true, false);
	assert_int_equal(mt_stats(mem).loadable_bytes, 3 * MT_PAGE);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** The most pages that pieces of @p size bytes of page can touch, found by trying. */
static uint64_t
query_worst(uint64_t page, uint64_t len, uint32_t pieces)
{
	uint64_t most = 0, first, begin;

	if (pieces == 1) {
		for (begin = 0; begin < page; begin++) {
			uint64_t touched = (begin + len - 1) / page + 1;

			most = touched > most ? touched : most;
		}
		return most;
	}
	for (first = 1; first <= len - (pieces - 1); first++) {
		uint64_t touched = query_worst(page, first, 1) +
				   query_worst(page, len - first, pieces - 1);

		most = touched > most ? touched : most;
	}
	return most;
}

static void
the_need_of_a_chain_is_never_too_small(void **state)
{
	struct query_setup s = query_setup();
	struct dynvhost_mem_view *empty;
	uint64_t len, worst, need;
	uint32_t pieces;

	assert_int_equal(dynvhost_mem_need(s.view, 1, 1), MT_PAGE);
	assert_int_equal(dynvhost_mem_need(s.view, 2, 1), 2 * MT_PAGE);
	assert_int_equal(dynvhost_mem_need(s.view, MT_PAGE + 1, 1), 2 * MT_PAGE);
	assert_int_equal(dynvhost_mem_need(s.view, MT_PAGE + 2, 1), 3 * MT_PAGE);
	assert_int_equal(dynvhost_mem_need(s.view, 0, 0), 0);
	/* The same arithmetic with pages of 8 bytes, against all ways to cut and place. */
	for (pieces = 1; pieces <= 3; pieces++)
		for (len = pieces; len < 40; len++) {
			worst = query_worst(8, len, pieces);
			need = len <= 2 * pieces ? len : 2 * pieces + (len - 2 * pieces) / 8;
			assert_int_equal(need, worst);
		}
	assert_int_equal(dynvhost_mem_view_build(s.mem, NULL, NULL, 0, &empty), 0);
	assert_int_equal(dynvhost_mem_need(empty, 100, 1), 0);
	dynvhost_mem_view_release(empty);
	/* A guest cannot have more open than it has. */
	assert_int_equal(dynvhost_mem_need(s.view, SIZE, 1), SIZE);
	assert_int_equal(dynvhost_mem_need(s.view, 1 << 20, 1 << 20), SIZE);
	assert_int_equal(dynvhost_mem_need(s.view, UINT64_MAX, 1), SIZE);
	query_teardown(&s);
}

static void
an_area_needs_the_pages_it_lies_in(void **state)
{
	struct query_setup s = query_setup();

	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA, 1), MT_PAGE);
	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA + 1, MT_PAGE), 2 * MT_PAGE);
	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA + SIZE, SIZE / 2), SIZE / 2);
	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA + SIZE, SIZE / 2 + 1), 0);
	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA - 1, 2), 0);
	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA, 0), 0);
	assert_int_equal(dynvhost_mem_area_need(s.view, MT_GPA + 1, UINT64_MAX), 0);
	query_teardown(&s);
}

/** A machine of four nodes: what files are bound to, and where their pages are. */
static int query_mode;
static unsigned long query_nodes;
static int query_page_node;
static unsigned int query_asked;

static int
query_max_numa_node(void)
{
	return 3;
}

static long
query_get_mempolicy(
	int *mode, unsigned long *nodes, unsigned long max_node, void *addr, unsigned int flags)
{
	query_asked++;
	assert_int_equal(flags, MPOL_F_ADDR);
	/* The real kernel must like the question. */
	assert_int_equal(
		dynvhost_mem_sys_real.get_mempolicy(mode, nodes, max_node, addr, flags), 0);
	*mode = query_mode;
	*nodes = query_nodes;
	return 0;
}

static long
query_move_pages(int pid, unsigned long n, void **pages, const int *nodes, int *status, int flags)
{
	unsigned long i;

	assert_null(nodes);
	assert_int_equal(dynvhost_mem_sys_real.move_pages(pid, n, pages, nodes, status, flags), 0);
	for (i = 0; i < n; i++) {
		assert_true(status[i] >= 0);
		status[i] = query_page_node;
	}
	return 0;
}

static void
the_node_is_where_the_file_is_bound(void **state)
{
	struct query_setup s = query_setup();
	struct mem_sys_ops numa = dynvhost_mem_sys_real;

	numa.max_numa_node = query_max_numa_node;
	numa.get_mempolicy = query_get_mempolicy;
	numa.move_pages = query_move_pages;
	dynvhost_mem_sys = &numa;
	query_asked = 0;
	query_mode = MPOL_BIND | 0x8000; /* static nodes */
	query_nodes = 1ul << 2;
	assert_int_equal(dynvhost_mem_numa_node(s.view), 2);
	assert_int_equal(query_asked, 2);
	query_mode = MPOL_PREFERRED;
	query_nodes = 1ul << 3;
	assert_int_equal(dynvhost_mem_numa_node(s.view), 3);
	/* Bound to two, or spread, or not at all: nothing is known. Nor is anything opened. */
	query_nodes |= 1ul << 1;
	assert_int_equal(dynvhost_mem_numa_node(s.view), -1);
	query_mode = MPOL_INTERLEAVE;
	query_nodes = 1;
	assert_int_equal(dynvhost_mem_numa_node(s.view), -1);
	query_mode = MPOL_DEFAULT;
	query_nodes = 0;
	assert_int_equal(dynvhost_mem_numa_node(s.view), -1);
	assert_int_equal(mt_file_bytes(s.fd), 0);
	assert_int_equal(mt_reach(s.fd).loadable, 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	query_teardown(&s);
}

static void
a_binding_by_the_front_end_is_seen(void **state)
{
	struct query_setup s = query_setup();
	struct mem_sys_ops numa = dynvhost_mem_sys_real;
	const unsigned long node_0 = 1;
	void *front_end = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);

	assert_ptr_not_equal(front_end, MAP_FAILED);
	numa.max_numa_node = query_max_numa_node;
	dynvhost_mem_sys = &numa;
	assert_int_equal(dynvhost_mem_numa_node(s.view), -1);
	if (mbind(front_end, SIZE, MPOL_BIND, &node_0, 8 * sizeof(node_0), 0) != 0)
		mt_skip("mbind: %s", strerror(errno));
	assert_int_equal(dynvhost_mem_numa_node(s.view), 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	munmap(front_end, SIZE);
	query_teardown(&s);
}

static void
else_the_node_is_where_open_pages_are(void **state)
{
	struct query_setup s = query_setup();
	struct mem_sys_ops numa = dynvhost_mem_sys_real;

	numa.max_numa_node = query_max_numa_node;
	numa.get_mempolicy = query_get_mempolicy;
	numa.move_pages = query_move_pages;
	dynvhost_mem_sys = &numa;
	query_mode = MPOL_DEFAULT;
	query_nodes = 0;
	query_page_node = 1;
	*mt_hva(s.view, MT_GPA + SIZE, 1, WRITE) = 1;
	assert_int_equal(dynvhost_mem_numa_node(s.view), 1);
	assert_int_equal(mt_stats(s.mem).opens, 1);
	query_page_node = -ENOENT;
	numa.move_pages = dynvhost_mem_sys_real.move_pages;
	assert_int_equal(dynvhost_mem_numa_node(s.view), 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	query_teardown(&s);
}

static int
query_no_numa(void)
{
	return -1;
}

static void
a_machine_without_nodes_has_no_node(void **state)
{
	struct query_setup s = query_setup();
	struct mem_sys_ops numa = dynvhost_mem_sys_real;
	struct dynvhost_mem_view *empty;
	int real = dynvhost_mem_numa_node(s.view);

	print_message("this machine: node %d\n", real);
	assert_int_equal(dynvhost_mem_view_build(s.mem, NULL, NULL, 0, &empty), 0);
	assert_int_equal(dynvhost_mem_numa_node(empty), -1);
	dynvhost_mem_view_release(empty);
	numa.max_numa_node = query_no_numa;
	dynvhost_mem_sys = &numa;
	assert_int_equal(dynvhost_mem_numa_node(s.view), -1);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	query_teardown(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_pages_are_listed_in_runs),
		cmocka_unit_test(a_listing_goes_on_where_it_stopped),
		cmocka_unit_test(a_listing_survives_changes_of_the_table),
		cmocka_unit_test(a_page_that_is_being_changed_is_not_listed),
		cmocka_unit_test(runs_are_clipped_to_the_region),
		cmocka_unit_test(the_need_of_a_chain_is_never_too_small),
		cmocka_unit_test(an_area_needs_the_pages_it_lies_in),
		cmocka_unit_test(the_node_is_where_the_file_is_bound),
		cmocka_unit_test(else_the_node_is_where_open_pages_are),
		cmocka_unit_test(a_machine_without_nodes_has_no_node),
	};

	/* hugetlbfs keeps no binding for others to see. */
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(a_binding_by_the_front_end_is_seen),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_small_pages, 1, MT_SMALL);
}
