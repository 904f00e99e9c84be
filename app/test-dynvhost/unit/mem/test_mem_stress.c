/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Queues, the closing of idle pages, and a front-end that moves its memory about, all at once and
 * on few pages (H54, H91, H92). A queue holds on to every address that it was given in a burst and
 * touches it until the burst ends: one page closed too early, and the process dies of it.
 *
 * The clock runs fast, so that rates do not keep the threads apart. Long form: a minute each.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES  12                              /* that are fought for */
#define EXTENT (MT_PAGE == MT_4K ? 512u : 16u) /* of the file */
#define SIZE   (EXTENT * MT_PAGE)
#define QUEUES 2
#define HELD   16

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/** Where in a page things are: the front-end's mark, and a word of each queue. */
#define STRESS_MARK     0
#define STRESS_WORD(id) (64 * (1 + (id)))

/** An address that a queue holds. */
struct stress_held {
	volatile uint8_t *hva;
	uint64_t page;
};

/** One polling thread, with what the gate of a queue is for. */
struct stress_queue {
	pthread_t thread;
	const struct dynvhost_mem_view *view;
	enum dynvhost_mem_right right;
	unsigned int id;
	unsigned int seed;
	bool zeroes;          /* pages may read as zero at any time */
	_Atomic uint32_t seq; /* odd inside a burst */
	_Atomic bool stop;
	uint64_t bursts, again, wrong;
	uint64_t word[PAGES];    /* last stored to each page */
	struct stress_held ring; /* held from burst to burst; NULL: the queue has none */
};

static bool
stress_is_right(const struct stress_queue *q, uint64_t is, uint64_t should_be)
{
	return is == should_be || (q->zeroes && is == 0);
}

/** Load, and where it is allowed store, through an address that is held. */
static void
stress_touch(struct stress_queue *q, const struct stress_held *held)
{
	volatile uint64_t *word = (volatile uint64_t *)(held->hva + STRESS_WORD(q->id));

	if (!stress_is_right(q, held->hva[STRESS_MARK], held->page + 1))
		q->wrong++;
	if (q->right != DYNVHOST_MEM_WRITE)
		return;
	if (!stress_is_right(q, *word, q->word[held->page]))
		q->wrong++;
	*word = ++q->word[held->page];
}

static void
stress_burst(struct stress_queue *q)
{
	struct dynvhost_mem_cursor cursor = {.budget = HELD};
	struct stress_held held[HELD];
	struct dynvhost_mem_span span;
	unsigned int n = 0, i;

	if (q->ring.hva != NULL)
		stress_touch(q, &q->ring);
	for (i = 0; i < HELD; i++) {
		uint64_t page = (uint64_t)rand_r(&q->seed) % PAGES;
		int rc = dynvhost_mem_translate(
			q->view, &cursor, MT_GPA + page * MT_PAGE, MT_PAGE, q->right, &span);

		if (rc == 0) {
			held[n++] = (struct stress_held){span.hva, page};
			stress_touch(q, &held[n - 1]);
			stress_touch(q, &held[(unsigned int)rand_r(&q->seed) % n]);
		} else {
			q->again += rc == -EAGAIN;
			q->wrong += rc != -EAGAIN;
		}
	}
	for (i = 0; i < n; i++)
		stress_touch(q, &held[i]);
}

static void *
stress_queue_main(void *arg)
{
	struct stress_queue *q = arg;

	while (!atomic_load(&q->stop)) {
		atomic_fetch_add(&q->seq, 1);
		stress_burst(q);
		atomic_fetch_add(&q->seq, 1);
		q->bursts++;
		/* Some pause, so that pages fall idle at all. */
		if (rand_r(&q->seed) % 4 == 0)
			usleep((useconds_t)rand_r(&q->seed) % 200);
	}
	return NULL;
}

/** Whether every queue has been outside of a burst since the snapshot. */
static bool
stress_all_outside(struct stress_queue *queue, const uint32_t *snapshot)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++)
		if (snapshot[i] % 2 != 0 && atomic_load(&queue[i].seq) == snapshot[i])
			return false;
	return true;
}

/** Close idle pages by the rule until time is up. @return pages closed. */
static uint64_t
stress_close(struct dynvhost_mem *mem, struct stress_queue *queue, uint64_t until_ns)
{
	uint32_t snapshot[QUEUES] = {0};
	uint64_t closed = 0;
	unsigned int i;

	while (dynvhost_mem_sys_real.now_ns() < until_ns) {
		if (!stress_all_outside(queue, snapshot)) {
			usleep(10);
			continue;
		}
		do {
			closed += dynvhost_mem_idle_pass(mem);
		} while (dynvhost_mem_idle_pending(mem));
		for (i = 0; i < QUEUES; i++)
			snapshot[i] = atomic_load(&queue[i].seq);
	}
	return closed;
}

/** Page table, states and counters tell the same story. */
static void
stress_check(const struct dynvhost_mem_view *view, int fd, bool taken)
{
	const struct dynvhost_mem_region *region = view->region[0];
	struct dynvhost_mem_stats stats = mt_stats(view->mem);
	struct mt_reach reach = mt_reach(fd);
	uint64_t open[DYNVHOST_MEM_WINDOWS] = {0}, page;
	int right;

	for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++)
		for (page = 0; page < EXTENT; page++) {
			uint8_t s = atomic_load(&region->window[right].state[page]);
			bool present = mt_is_present(region->window[right].base + page * MT_PAGE);

			assert_int_equal(s & DYNVHOST_MEM_BUSY, 0);
			open[right] += (s & DYNVHOST_MEM_OPEN) != 0;
			/* A page that the kernel has taken is put back when it is touched. */
			if (!taken || present)
				assert_int_equal(present, (s & DYNVHOST_MEM_OPEN) != 0);
		}
	assert_int_equal(stats.loadable_bytes, (open[0] + open[1]) * MT_PAGE);
	assert_int_equal(stats.storable_bytes, open[1] * MT_PAGE);
	if (!taken) {
		assert_int_equal(reach.loadable, stats.loadable_bytes);
		assert_int_equal(reach.storable, stats.storable_bytes);
	}
}

/** What the front-end does to its memory, in a process of its own. */
typedef void stress_front_end(int fd);

/** Punch holes into pages in use, and write them anew. */
static void
stress_punch(int fd)
{
	unsigned int seed = 7;

	for (;;) {
		uint64_t page = (uint64_t)rand_r(&seed) % PAGES;
		uint8_t mark = (uint8_t)(page + 1);

		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    (off_t)(page * MT_PAGE), (off_t)MT_PAGE) != 0)
			_exit(1);
		if (seed % 3 != 0)
			mt_put(fd, page * MT_PAGE + STRESS_MARK, &mark, 1);
		usleep(seed % 20);
	}
}

/** Have the kernel gather the file's pages into one huge page, and break it up again. */
static void
stress_collapse(int fd)
{
	uint8_t *map = mmap(NULL, 2 * MT_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint8_t *aligned = (uint8_t *)(((uintptr_t)map + MT_2M - 1) & ~(uintptr_t)(MT_2M - 1));

	aligned = mmap(aligned, MT_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	for (;;) {
		if (madvise(aligned, MT_2M, MADV_COLLAPSE) != 0 && errno != EAGAIN &&
			errno != EBUSY && errno != ENOMEM)
			_exit(1);
		usleep(500);
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    (off_t)((EXTENT - 1) * MT_PAGE), (off_t)MT_PAGE) != 0)
			_exit(2);
		usleep(200);
	}
}

static uint64_t
stress_fast_clock(void)
{
	return dynvhost_mem_sys_real.now_ns() * 1000;
}

static void
stress_start(struct stress_queue *queue, const struct dynvhost_mem_view *view,
	const struct dynvhost_mem_pin *ring, bool zeroes)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		queue[i] = (struct stress_queue){
			.ring = {ring[i].hva, i},
			.view = view,
			.right = i % 2 == 0 ? DYNVHOST_MEM_READ : DYNVHOST_MEM_WRITE,
			.id = i,
			.seed = i + 1,
			.zeroes = zeroes,
		};
		assert_int_equal(
			pthread_create(&queue[i].thread, NULL, stress_queue_main, &queue[i]), 0);
	}
}

static void
stress_stop(struct stress_queue *queue)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		atomic_store(&queue[i].stop, true);
		pthread_join(queue[i].thread, NULL);
		print_message("queue %u: %ju bursts, %ju times busy\n", i,
			(uintmax_t)queue[i].bursts, (uintmax_t)queue[i].again);
		assert_true(queue[i].bursts > 100);
		assert_int_equal(queue[i].wrong, 0);
	}
}

/** Fork the front-end, which has no window, as it is none of our threads. */
static pid_t
stress_fork(stress_front_end *front_end, int fd)
{
	pid_t child;

	if (front_end == NULL)
		return 0;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(600);
		front_end(fd);
	}
	return child;
}

/** End it. It must have been at work until now. */
static void
stress_reap(pid_t child)
{
	int status;

	if (child == 0)
		return;
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void
stress_run(const struct dynvhost_mem_config *config, stress_front_end *front_end, bool zeroes)
{
	const uint64_t length_ns = UINT64_C(1000000000) * (mt_is_long() ? 60 : 1);
	struct mem_sys_ops fast = dynvhost_mem_sys_real;
	struct stress_queue queue[QUEUES];
	struct dynvhost_mem_view *view;
	struct dynvhost_mem *mem;
	struct dynvhost_mem_pin ring[QUEUES];
	struct dynvhost_mem_stats stats;
	uint64_t page, closed;
	int fd = mt_memfd_unsealable(SIZE);
	unsigned int i;
	pid_t child;

	for (page = 0; page < EXTENT; page++)
		mt_put(fd, page * MT_PAGE, &(uint8_t){(uint8_t)(page + 1)}, 1);
	child = stress_fork(front_end, fd);
	mem = mt_create(config);
	view = mt_view(mem, fd, SIZE);
	fast.now_ns = stress_fast_clock;
	dynvhost_mem_sys = &fast;
	/* Rings, in pages that are fought for as well. */
	for (i = 0; i < QUEUES; i++)
		assert_int_equal(
			dynvhost_mem_pin(view, MT_GPA + i * MT_PAGE, MT_PAGE,
				i % 2 == 0 ? DYNVHOST_MEM_READ : DYNVHOST_MEM_WRITE, &ring[i]),
			0);
	stress_start(queue, view, ring, zeroes);
	closed = stress_close(mem, queue, dynvhost_mem_sys_real.now_ns() + length_ns);
	stress_stop(queue);
	stress_reap(child);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	stats = mt_stats(mem);
	print_message("%ju opened, %ju closed, %ju repaired\n", (uintmax_t)stats.opens,
		(uintmax_t)closed, (uintmax_t)stats.repairs);
	stress_check(view, fd, front_end != NULL);
	assert_int_equal(stats.pinned_bytes, QUEUES * MT_PAGE);
	for (i = 0; i < QUEUES; i++)
		dynvhost_mem_unpin(&ring[i]);
	assert_int_equal(stats.closes, closed);
	assert_true(closed > 100);
	assert_int_equal(stats.lost, 0);
	assert_false(dynvhost_mem_is_lost(mem));
	if (front_end != NULL && mt_kind->mode == DYNVHOST_MEM_MODE_UFFD)
		assert_true(stats.repairs > 0);
	else
		assert_int_equal(stats.repairs, 0);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
no_page_closes_under_a_burst(void **state)
{
	stress_run(NULL, NULL, false);
}

static void
no_granule_closes_under_a_burst(void **state)
{
	struct dynvhost_mem_config config = {.granule = 4 * MT_PAGE};

	stress_run(&config, NULL, false);
}

static void
holes_punched_under_bursts_are_mended(void **state)
{
	stress_run(NULL, stress_punch, true);
}

static void
collapses_under_bursts_lose_no_byte(void **state)
{
	stress_run(NULL, stress_collapse, false);
}

/** Cut the file and let it grow again, at any time. */
static void
stress_cut(int fd)
{
	unsigned int seed = 3;

	for (;;) {
		if (ftruncate(fd, (off_t)((uint64_t)rand_r(&seed) % PAGES * MT_PAGE)) != 0)
			_exit(1);
		usleep(seed % 50);
		if (ftruncate(fd, (off_t)SIZE) != 0)
			_exit(1);
		usleep(seed % 500);
	}
}

/** One life of a port, which ends when its memory is lost. @return whether it was. */
static bool
stress_live(struct dynvhost_mem *mem, int fd)
{
	struct stress_queue q = {.right = DYNVHOST_MEM_WRITE, .seed = 5, .zeroes = true};
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA, SIZE, 0, fd);
	struct dynvhost_mem_view *view;
	bool lost;
	int i;

	/* A file that is too short just then is refused. */
	if (dynvhost_mem_view_build(mem, NULL, &slot, 1, &view) != 0) {
		close(slot.fd);
		return false;
	}
	q.view = view;
	for (i = 0; i < 200 && !dynvhost_mem_is_lost(mem); i++)
		stress_burst(&q);
	lost = dynvhost_mem_is_lost(mem);
	dynvhost_mem_view_release(view);
	assert_false(dynvhost_mem_is_lost(mem));
	assert_int_equal(mt_stats(mem).loadable_bytes, 0);
	return lost;
}

static void
a_file_that_shrinks_and_grows_kills_ports_only(void **state)
{
	const uint64_t length_ns = UINT64_C(1000000000) * (mt_is_long() ? 60 : 1);
	uint64_t until_ns = dynvhost_mem_sys->now_ns() + length_ns;
	int fd = mt_memfd_unsealable(SIZE);
	pid_t child = stress_fork(stress_cut, fd);
	struct dynvhost_mem *mem = mt_create(NULL);
	unsigned int lives = 0, losses = 0;

	for (; dynvhost_mem_sys->now_ns() < until_ns; lives++)
		losses += stress_live(mem, fd);
	stress_reap(child);
	print_message("%u lives, %u ended by a loss\n", lives, losses);
	assert_true(losses > 0);
	assert_true(mt_stats(mem).lost >= losses);
	assert_int_equal(mt_reach(fd).mappings, 0);
	dynvhost_mem_destroy(mem);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_page_closes_under_a_burst),
		cmocka_unit_test(no_granule_closes_under_a_burst),
		cmocka_unit_test(holes_punched_under_bursts_are_mended),
		cmocka_unit_test(a_file_that_shrinks_and_grows_kills_ports_only),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(collapses_under_bursts_lose_no_byte),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_small_pages, 1, MT_SMALL);
}
