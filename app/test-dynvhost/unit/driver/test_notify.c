/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Signals to eventfds that a hostile peer holds too: they arrive, and nothing that the peer does to
 * the eventfd makes them wait. Both ways are tested: by asynchronous I/O, and by a plain write where
 * the kernel has none.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../../drivers/net/dynvhost/vhost_user/notify.c"

/** A call that blocks ends the program. */
#define SECONDS 20

static bool io_setup_fails;
static bool open_fails;

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
int __wrap_open64(const char *path, int flags);
int __real_open64(const char *path, int flags);

long
__wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_io_setup && io_setup_fails) {
		errno = EAGAIN;
		return -1;
	}
	return __real_syscall(number, a, b, c, d, e, f);
}

int
__wrap_open64(const char *path, int flags)
{
	if (open_fails) {
		errno = EMFILE;
		return -1;
	}
	return __real_open64(path, flags);
}

/** An fd number that nothing has been opened under, and none will be soon. */
#define CLOSED_FD 900

static int
set_up_aio(void **state)
{
	alarm(SECONDS);
	dynvhost_notify_setup();
	/* Linux has had it for ever, and every distribution's kernel is built with it. */
	return notify_context != 0 ? 0 : -1;
}

static int
set_up_without_aio(void **state)
{
	alarm(SECONDS);
	io_setup_fails = true;
	dynvhost_notify_setup();
	io_setup_fails = false;
	return notify_context == 0 ? 0 : -1;
}

static int
tear_down(void **state)
{
	dynvhost_notify_teardown();
	alarm(0);
	return notify_context == 0 && notify_zero_fd == -1 ? 0 : -1;
}

static uint64_t
read_count(int fd)
{
	eventfd_t value = 0;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	return eventfd_read(fd, &value) == 0 ? value : 0;
}

static void
test_every_signal_is_counted(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	int other = eventfd(0, EFD_CLOEXEC);
	int i;

	dynvhost_notify(fd);
	assert_int_equal(read_count(fd), 1);
	assert_int_equal(read_count(fd), 0);
	for (i = 0; i < 1000; i++) {
		dynvhost_notify(fd);
		if (i % 4 == 0)
			dynvhost_notify(other);
	}
	assert_int_equal(read_count(fd), 1000);
	assert_int_equal(read_count(other), 250);
	close(fd);
	close(other);
}

static void
test_semaphore_is_signalled_like_any_other(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);

	dynvhost_notify(fd);
	dynvhost_notify(fd);
	assert_int_equal(read_count(fd), 1);
	assert_int_equal(read_count(fd), 1);
	assert_int_equal(read_count(fd), 0);
	close(fd);
}

/** A write of 1 to this one waits until somebody reads. */
static void
test_full_and_blocking_eventfd_does_not_block(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	int i;

	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	for (i = 0; i < 10; i++) {
		fcntl(fd, F_SETFL, 0);
		dynvhost_notify(fd);
	}
	assert_true(read_count(fd) >= UINT64_MAX - 1);

	/* It is good for signals again. */
	dynvhost_notify(fd);
	assert_int_equal(read_count(fd), 1);
	close(fd);
}

static void
test_negative_and_closed_numbers_are_left_alone(void **state)
{
	dynvhost_notify(-1);
	dynvhost_notify(INT32_MIN);
	dynvhost_notify(CLOSED_FD);
}

/** A write to a pipe without reader is SIGPIPE, which ends this program. */
static void
test_pipe_without_reader_raises_no_signal(void **state)
{
	int pipe_fd[2];

	assert_int_equal(pipe(pipe_fd), 0);
	close(pipe_fd[0]);
	dynvhost_notify(pipe_fd[1]);
	close(pipe_fd[1]);
}

static void
test_nothing_is_written_to_what_is_no_eventfd(void **state)
{
	int file = memfd_create("not an eventfd", MFD_CLOEXEC);
	int pipe_fd[2], pair[2];
	struct stat st;
	char byte;

	assert_int_equal(pipe2(pipe_fd, O_NONBLOCK), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	dynvhost_notify(file);
	dynvhost_notify(pipe_fd[1]);
	dynvhost_notify(pair[0]);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(read(pipe_fd[0], &byte, 1), -1);
	assert_int_equal(read(pair[1], &byte, 1), -1);
	assert_int_equal(fcntl(file, F_GETFL) & O_NONBLOCK, 0);
	close(file);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(pair[0]);
	close(pair[1]);
}

static void
test_only_an_eventfd_is_an_eventfd(void **state)
{
	int no[7];
	int yes = eventfd(0, EFD_CLOEXEC);
	size_t i;

	assert_int_equal(pipe(no), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, no + 2), 0);
	no[4] = memfd_create("anon_inode:[eventfd]", MFD_CLOEXEC);
	no[5] = epoll_create1(EPOLL_CLOEXEC);
	no[6] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	assert_true(dynvhost_is_eventfd(yes));
	for (i = 0; i < 7; i++) {
		assert_false(dynvhost_is_eventfd(no[i]));
		close(no[i]);
	}
	close(yes);
	assert_false(dynvhost_is_eventfd(-1));
	assert_false(dynvhost_is_eventfd(CLOSED_FD));
}

static void
test_setup_that_fails_half_way_leaves_nothing(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	open_fails = true;
	dynvhost_notify_setup();
	open_fails = false;
	assert_int_equal(notify_context, 0);
	assert_int_equal(notify_zero_fd, -1);
	dynvhost_notify(fd);
	assert_int_equal(read_count(fd), 1);
	close(fd);
}

static void
test_setup_and_teardown_can_be_repeated(void **state)
{
	int next, i;

	next = dup(STDERR_FILENO);
	close(next);
	for (i = 0; i < 5; i++) {
		dynvhost_notify_setup();
		assert_int_not_equal(notify_context, 0);
		dynvhost_notify_teardown();
		dynvhost_notify_teardown();
	}
	i = dup(STDERR_FILENO);
	close(i);
	assert_int_equal(i, next);
}

#define WITH_AIO(test)                                              \
	{                                                           \
#test ": by AIO", test, set_up_aio, tear_down, NULL \
	}
#define WITHOUT_AIO(test)                                                     \
	{                                                                     \
#test ": by write", test, set_up_without_aio, tear_down, NULL \
	}
#define BOTH(test) WITH_AIO(test), WITHOUT_AIO(test)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_every_signal_is_counted),
		BOTH(test_semaphore_is_signalled_like_any_other),
		BOTH(test_full_and_blocking_eventfd_does_not_block),
		BOTH(test_negative_and_closed_numbers_are_left_alone),
		BOTH(test_pipe_without_reader_raises_no_signal),
		BOTH(test_nothing_is_written_to_what_is_no_eventfd),
		cmocka_unit_test(test_only_an_eventfd_is_an_eventfd),
		cmocka_unit_test(test_setup_that_fails_half_way_leaves_nothing),
		cmocka_unit_test(test_setup_and_teardown_can_be_repeated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("unit_drv_notify", tests, NULL, NULL);
}
