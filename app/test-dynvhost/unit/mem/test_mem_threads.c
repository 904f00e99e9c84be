/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Several threads on one region (meant for -fsanitize=thread as well): queues that open the same
 * pages, and a control thread that closes idle ones, changes the table and reads counters.
 */

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES  (MT_PAGE == MT_4K ? 256u : 64u)
#define SIZE   (PAGES * MT_PAGE)
#define ROUNDS 40

/** One polling thread. */
struct threads_queue {
	pthread_t thread;
	struct dynvhost_mem_view *view;
	enum dynvhost_mem_right right;
	uint8_t mark;
	uint64_t stride;
	uint64_t again; /* answers of -EAGAIN */
	uint64_t wrong; /* other answers, or a byte that is not what was stored */
	pthread_barrier_t *barrier;
};

/** Touch each page once: load the page's mark, or store our own into our own byte of it. */
static void
threads_touch_all(struct threads_queue *q)
{
	struct dynvhost_mem_cursor cursor = {0};
	struct dynvhost_mem_span span;
	uint64_t i;

	for (i = 0; i < PAGES; i++) {
		uint64_t page = i * q->stride % PAGES;
		volatile uint8_t *byte;
		int rc;

		cursor.budget = 8;
		rc = dynvhost_mem_translate(
			q->view, &cursor, MT_GPA + page * MT_PAGE, MT_PAGE, q->right, &span);
		if (rc == -EAGAIN) {
			q->again++;
			i--;
			continue;
		}
		byte = span.hva;
		if (rc != 0 || span.len != MT_PAGE || byte[0] != (uint8_t)page)
			q->wrong++;
		else if (q->right == DYNVHOST_MEM_WRITE)
			byte[q->mark] = q->mark;
	}
}

static void *
threads_queue_main(void *arg)
{
	struct threads_queue *q = arg;
	unsigned int round;

	for (round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(q->barrier);
		threads_touch_all(q);
		pthread_barrier_wait(q->barrier);
	}
	return NULL;
}

/** Close everything, as if it had been idle for long. Queues are outside their bursts. */
static void
threads_close_all(struct dynvhost_mem_view *view)
{
	struct mem_region *region = mem_region_of(view->region[0]);
	int right;
	uint64_t page;

	for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++) {
		for (page = 0; page < PAGES; page++)
			atomic_fetch_and(&region->window[right].pages.state[page],
				(uint8_t)~DYNVHOST_MEM_REF);
		mt_close(region, right, 0, PAGES);
	}
}

/** Run @p n queues for ROUNDS rounds, closing all pages between the rounds. */
static void
threads_run(struct threads_queue *queue, unsigned int n, const struct dynvhost_mem_config *config)
{
	struct dynvhost_mem *mem = mt_create(config);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	struct dynvhost_mem_stats stats;
	pthread_barrier_t barrier;
	unsigned int i, round;
	uint64_t again = 0;
	uint8_t byte;

	for (i = 0; i < PAGES; i++) {
		byte = (uint8_t)i;
		mt_put(fd, i * MT_PAGE, &byte, 1);
	}
	pthread_barrier_init(&barrier, NULL, n + 1);
	for (i = 0; i < n; i++) {
		queue[i].view = view;
		queue[i].barrier = &barrier;
		assert_int_equal(
			pthread_create(&queue[i].thread, NULL, threads_queue_main, &queue[i]), 0);
	}
	for (round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		stats = mt_stats(mem);
		assert_int_equal(stats.loadable_bytes, mt_reach(fd).loadable);
		assert_int_equal(stats.storable_bytes, mt_reach(fd).storable);
		threads_close_all(view);
		assert_int_equal(mt_stats(mem).loadable_bytes, 0);
		assert_int_equal(mt_reach(fd).loadable, 0);
	}
	for (i = 0; i < n; i++) {
		pthread_join(queue[i].thread, NULL);
		assert_int_equal(queue[i].wrong, 0);
		print_message("queue %u: %ju times busy\n", i, (uintmax_t)queue[i].again);
		again += queue[i].again;
	}
	pthread_barrier_destroy(&barrier);
	stats = mt_stats(mem);
	assert_int_equal(stats.opens, stats.closes);
	assert_int_equal(stats.denials, again);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
two_queues_open_the_same_pages_with_different_rights(void **state)
{
	struct threads_queue queue[2] = {
		{.right = DYNVHOST_MEM_READ, .stride = 1},
		{.right = DYNVHOST_MEM_WRITE, .stride = 1, .mark = 100},
	};

	threads_run(queue, 2, NULL);
}

static void
two_queues_open_the_same_pages_with_the_same_right(void **state)
{
	struct threads_queue queue[2] = {
		{.right = DYNVHOST_MEM_WRITE, .stride = 3, .mark = 100},
		{.right = DYNVHOST_MEM_WRITE, .stride = 3, .mark = 101},
	};

	threads_run(queue, 2, NULL);
}

static void
granules_meet_from_both_sides(void **state)
{
	struct dynvhost_mem_config config = {.granule = 16 * MT_PAGE};
	struct threads_queue queue[3] = {
		{.right = DYNVHOST_MEM_WRITE, .stride = 1, .mark = 100},
		{.right = DYNVHOST_MEM_WRITE, .stride = PAGES - 1, .mark = 101},
		{.right = DYNVHOST_MEM_READ, .stride = 37},
	};

	threads_run(queue, 3, &config);
}

/** A queue on one view while control builds, pins and throws away others that share its region. */
static void
the_table_changes_beside_a_queue(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE), other = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE), *next;
	struct threads_queue queue = {.view = view, .right = DYNVHOST_MEM_READ, .stride = 5};
	struct dynvhost_mem_pin pin;
	pthread_barrier_t barrier;
	unsigned int round, i;
	uint8_t byte;

	for (i = 0; i < PAGES; i++) {
		byte = (uint8_t)i;
		mt_put(fd, i * MT_PAGE, &byte, 1);
	}
	pthread_barrier_init(&barrier, NULL, 2);
	queue.barrier = &barrier;
	assert_int_equal(pthread_create(&queue.thread, NULL, threads_queue_main, &queue), 0);
	for (round = 0; round < ROUNDS; round++) {
		struct dynvhost_mem_slot slot[2] = {
			mt_slot(MT_GPA, SIZE, 0, fd),
			mt_slot(MT_GPA + SIZE, SIZE, 0, other),
		};

		pthread_barrier_wait(&barrier);
		assert_int_equal(dynvhost_mem_view_build(mem, view, slot, 2, &next), 0);
		if (dynvhost_mem_pin(next, MT_GPA + SIZE - 5 * MT_PAGE, 5 * MT_PAGE,
			    DYNVHOST_MEM_READ, &pin) == 0)
			dynvhost_mem_unpin(&pin);
		dynvhost_mem_view_release(next);
		pthread_barrier_wait(&barrier);
		threads_close_all(view);
	}
	pthread_join(queue.thread, NULL);
	assert_int_equal(queue.wrong, 0);
	assert_int_equal(mt_stats(mem).pinned_bytes, 0);
	pthread_barrier_destroy(&barrier);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
	close(other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_queues_open_the_same_pages_with_different_rights),
		cmocka_unit_test(two_queues_open_the_same_pages_with_the_same_right),
		cmocka_unit_test(granules_meet_from_both_sides),
		cmocka_unit_test(the_table_changes_beside_a_queue),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL);
}
