/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The closer: everything that is left with it gets closed, once, whoever has to wait for it; and it
 * is only the closer's own thread that waits. test_linger.c has the fds that need it.
 */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../vhost_user/open_fds.h"
#include "closer.h"

/** Deadline for what happens at once. */
#define DEADLINE_MS 5000

/** The fd whose close takes its time, and what it waits for. */
static int slow_fd = -1;
static sem_t slow_entered, slow_may_close;
static bool thread_fails;
static bool malloc_fails;

int __wrap_close(int fd);
int __real_close(int fd);
void *__wrap_malloc(size_t size);
void *__real_malloc(size_t size);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

int
__wrap_close(int fd)
{
	if (fd == slow_fd) {
		slow_fd = -1;
		sem_post(&slow_entered);
		sem_wait(&slow_may_close);
	}
	return __real_close(fd);
}

void *
__wrap_malloc(size_t size)
{
	return malloc_fails ? NULL : __real_malloc(size);
}

int
__wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	return thread_fails ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct dynvhost_closer *
new_closer(void)
{
	struct dynvhost_closer *closer = calloc(1, sizeof(*closer));

	assert_non_null(closer);
	return closer;
}

static void
add_fds(struct dynvhost_closer *closer, unsigned int n)
{
	while (n-- > 0)
		dynvhost_closer_add(closer, eventfd(0, EFD_CLOEXEC));
}

static void
wait_until_idle(struct dynvhost_closer *closer)
{
	uint64_t deadline = now_ms() + DEADLINE_MS;

	while (!dynvhost_closer_is_idle(closer))
		assert_true(now_ms() < deadline);
}

static void
wait_for_fds(int n)
{
	uint64_t deadline = now_ms() + DEADLINE_MS;

	while (open_fds() != n)
		assert_true(now_ms() < deadline);
}

static void
finish(struct dynvhost_closer *closer)
{
	dynvhost_closer_fini(closer, true);
	free(closer);
}

static int
setup(void **state)
{
	sem_init(&slow_entered, 0, 0);
	sem_init(&slow_may_close, 0, 0);
	slow_fd = -1;
	return count_fds_before(state);
}

static void
test_closer_with_nothing_to_do_is_idle(void **state)
{
	struct dynvhost_closer *closer = new_closer();

	assert_true(dynvhost_closer_is_idle(closer));
	dynvhost_closer_add(closer, -1);
	assert_true(dynvhost_closer_is_idle(closer));
	finish(closer);
}

static void
test_all_that_is_left_is_closed(void **state)
{
	static const unsigned int counts[] = {1, 2, 17, 253, 400};
	struct dynvhost_closer *closer = new_closer();
	int before = open_fds();
	size_t i;

	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		add_fds(closer, counts[i]);
		assert_int_equal(open_fds(), before + (int)counts[i]);
		wait_until_idle(closer);
		assert_int_equal(open_fds(), before);
	}
	finish(closer);
}

static void
test_fds_of_a_message_are_taken_out_of_it(void **state)
{
	struct dynvhost_closer *closer = new_closer();
	struct dynvhost_msg msg = {.n_fds = 4};
	int kept, i;

	for (i = 0; i < 4; i++)
		msg.fd[i] = eventfd(0, EFD_CLOEXEC);
	kept = dynvhost_msg_take_fd(&msg, 2);
	dynvhost_closer_add_msg(closer, &msg);
	assert_int_equal(msg.n_fds, 0);
	wait_until_idle(closer);
	assert_true(is_close_on_exec(kept));
	close(kept);
	finish(closer);
}

static void
test_what_comes_later_waits_for_what_takes_its_time(void **state)
{
	struct dynvhost_closer *closer = new_closer();
	int before = open_fds();

	slow_fd = eventfd(0, EFD_CLOEXEC);
	dynvhost_closer_add(closer, slow_fd);
	assert_false(dynvhost_closer_is_idle(closer));
	sem_wait(&slow_entered);
	add_fds(closer, 3);
	assert_false(dynvhost_closer_is_idle(closer));
	assert_int_equal(open_fds(), before + 4);
	sem_post(&slow_may_close);
	wait_until_idle(closer);
	assert_int_equal(open_fds(), before);
	finish(closer);
}

static void
check_end_while_something_takes_its_time(bool patient, uint64_t most_ms)
{
	struct dynvhost_closer *closer = new_closer();
	int before = open_fds();
	uint64_t begin;

	slow_fd = eventfd(0, EFD_CLOEXEC);
	dynvhost_closer_add(closer, slow_fd);
	assert_false(dynvhost_closer_is_idle(closer));
	sem_wait(&slow_entered);
	add_fds(closer, 3);
	begin = now_ms();
	dynvhost_closer_fini(closer, patient);
	assert_in_range(now_ms() - begin, 0, most_ms);
	free(closer);
	/* What has waited behind it is closed, and so is it in the end, without the closer. */
	wait_for_fds(before + 1);
	sem_post(&slow_may_close);
	wait_for_fds(before);
}

static void
test_end_does_not_wait_for_what_takes_its_time(void **state)
{
	check_end_while_something_takes_its_time(false, 1000);
	check_end_while_something_takes_its_time(true, 2000);
}

static void
test_patient_end_leaves_nothing(void **state)
{
	struct dynvhost_closer *closer = new_closer();
	int before = open_fds();

	add_fds(closer, 100);
	dynvhost_closer_fini(closer, true);
	assert_int_equal(open_fds(), before);
	free(closer);
}

static void
test_without_threads_or_memory_fds_are_closed_at_once(void **state)
{
	struct dynvhost_closer *closer = new_closer();
	int before = open_fds();

	add_fds(closer, 5);
	thread_fails = true;
	assert_true(dynvhost_closer_is_idle(closer));
	thread_fails = false;
	assert_int_equal(open_fds(), before);

	add_fds(closer, 5);
	malloc_fails = true;
	assert_true(dynvhost_closer_is_idle(closer));
	malloc_fails = false;
	assert_int_equal(open_fds(), before);
	finish(closer);
}

static void
test_fd_beyond_the_last_is_closed_at_once(void **state)
{
	struct dynvhost_closer *closer = new_closer();
	int before = open_fds();

	add_fds(closer, DYNVHOST_CLOSER_MAX + 2);
	assert_int_equal(open_fds(), before + DYNVHOST_CLOSER_MAX);
	wait_until_idle(closer);
	assert_int_equal(open_fds(), before);
	finish(closer);
}

int
main(void)
{
#define CLOSER_TEST(test) cmocka_unit_test_setup_teardown(test, setup, count_fds_after)
	const struct CMUnitTest tests[] = {
		CLOSER_TEST(test_closer_with_nothing_to_do_is_idle),
		CLOSER_TEST(test_all_that_is_left_is_closed),
		CLOSER_TEST(test_fds_of_a_message_are_taken_out_of_it),
		CLOSER_TEST(test_what_comes_later_waits_for_what_takes_its_time),
		CLOSER_TEST(test_end_does_not_wait_for_what_takes_its_time),
		CLOSER_TEST(test_patient_end_leaves_nothing),
		CLOSER_TEST(test_without_threads_or_memory_fds_are_closed_at_once),
		CLOSER_TEST(test_fd_beyond_the_last_is_closed_at_once),
	};

	alarm(60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("unit_drv_closer", tests, NULL, NULL);
}
