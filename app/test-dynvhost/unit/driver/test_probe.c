/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Ports come and go: a port that has gone, or never came to be, leaves no fd, thread, mapping, socket
 * file or port number, and takes nothing away that is not its own.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_thread.h>
#include <rte_version.h>

#include "drv_test.h"

static struct footprint base;

static bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/** A path that no port will be given by the mock. */
static const char *
path_of_our_own(void)
{
	static char path[128];

	if (path[0] == '\0') {
		snprintf(path, sizeof(path), "/tmp/dynvhost-drv-%d", (int)getpid());
		mock_check(mkdir(path, 0700) == 0);
		strcat(path, "/s");
	}
	unlink(path);
	return path;
}

static void
remove_path_of_our_own(void)
{
	char folder[128];

	snprintf(folder, sizeof(folder), "%s", path_of_our_own());
	*strrchr(folder, '/') = '\0';
	rmdir(folder);
}

static int
probe(const char *name, const char *format, ...)
{
	char devargs[512];
	va_list args;

	va_start(args, format);
	vsnprintf(devargs, sizeof(devargs), format, args);
	va_end(args);
	return rte_eal_hotplug_add("vdev", name, devargs);
}

/** Somebody else's socket. @return its fd. */
static int
listen_at(const char *path, bool accept_nobody)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	mock_check(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
	if (!accept_nobody)
		mock_check(listen(fd, 4) == 0);
	return fd;
}

/* --- system calls and allocations of this thread that fail on demand --- */

static __thread int fail_at = -1; /**< calls until one fails; -1: none does */
static __thread bool has_failed;

static bool
fails_here(void)
{
	if (fail_at < 0 || fail_at-- > 0)
		return false;
	has_failed = true;
	return true;
}

#define WRAP(type, name, parameters, arguments, error, failure) \
	type __wrap_##name parameters;                          \
	type __real_##name parameters;                          \
	type __wrap_##name parameters                           \
	{                                                       \
		if (fails_here()) {                             \
			errno = error;                          \
			return failure;                         \
		}                                               \
		return __real_##name arguments;                 \
	}

WRAP(int, epoll_create1, (int flags), (flags), EMFILE, -1)
WRAP(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event), (epfd, op, fd, event),
	ENOSPC, -1)
WRAP(int, eventfd, (unsigned int count, int flags), (count, flags), EMFILE, -1)
WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE, -1)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), EADDRINUSE, -1)
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
WRAP(int, rte_thread_create_control,
	(rte_thread_t * thread, const char *name, rte_thread_func run, void *arg),
	(thread, name, run, arg), 0, -EAGAIN)
#else
WRAP(int, rte_ctrl_thread_create,
	(pthread_t * thread, const char *name, const pthread_attr_t *attr, void *(*run)(void *),
		void *arg),
	(thread, name, attr, run, arg), 0, -EAGAIN)
#endif
WRAP(void *, calloc, (size_t n, size_t size), (n, size), ENOMEM, NULL)
WRAP(char *, strdup, (const char *text), (text), ENOMEM, NULL)
WRAP(void *, rte_zmalloc, (const char *type, size_t size, unsigned int align), (type, size, align),
	ENOMEM, NULL)
WRAP(void *, rte_zmalloc_socket, (const char *type, size_t size, unsigned int align, int socket),
	(type, size, align, socket), ENOMEM, NULL)

static int
setup(void **state)
{
	base = footprint_read();
	return rig_setup(state);
}

static int
teardown(void **state)
{
	fail_at = -1;
	footprint_expect(&base);
	return rig_teardown(state);
}

/* --- tests --- */

static void
test_probe_and_remove_leave_nothing(void **state)
{
	struct port_config config = {.n_queues = 3};
	struct test_port port;
	uint16_t id;
	int i;

	for (i = 0; i < 5; i++) {
		assert_int_equal(port_try_open(&port, &config), 0);
		assert_true(exists(port.path));
		assert_int_equal(rte_eth_dev_count_avail(), base.ports + 1);
		assert_int_equal(rte_eal_hotplug_remove("vdev", port.name), 0);
		assert_false(exists(port.path));
		assert_int_equal(rte_eth_dev_get_port_by_name(port.name, &id), -ENODEV);
		footprint_expect(&base);
	}
}

static void
test_close_gives_everything_back_and_remove_the_device(void **state)
{
	struct port_config config = {0};
	struct test_port port;

	assert_int_equal(port_try_open(&port, &config), 0);
	assert_int_equal(rte_eth_dev_close(port.id), 0);
	assert_false(exists(port.path));
	footprint_expect(&base);
	assert_int_equal(rte_eal_hotplug_remove("vdev", port.name), 0);
	/* The name is free again. */
	assert_int_equal(probe(port.name, "iface=%s", path_of_our_own()), 0);
	assert_int_equal(rte_eal_hotplug_remove("vdev", port.name), 0);
}

/** EAL itself does this when it goes down, and takes the port's memory away after it. */
static void
test_started_port_can_be_removed(void **state)
{
	struct port_config config = {0};
	struct test_port port;

	port_open(&port, &config);
	assert_int_equal(rte_eal_hotplug_remove("vdev", port.name), 0);
	rte_mempool_free(port.pool);
	assert_false(exists(port.path));
}

static void
test_two_ports_share_one_control_thread(void **state)
{
	struct port_config config = {0};
	struct test_port one, two;
	struct footprint with_one;

	assert_int_equal(port_try_open(&one, &config), 0);
	with_one = footprint_read();
	assert_int_equal(with_one.threads, base.threads + 1);
	assert_int_equal(port_try_open(&two, &config), 0);
	assert_int_equal(footprint_read().threads, base.threads + 1);
	assert_int_equal(footprint_read().fds, with_one.fds + 1);
	/* The first to come is not the last to go. */
	assert_int_equal(rte_eal_hotplug_remove("vdev", one.name), 0);
	assert_true(exists(two.path));
	assert_int_equal(rte_eal_hotplug_remove("vdev", two.name), 0);
}

static void
test_socket_file_has_the_rights_asked_for(void **state)
{
	struct port_config config = {.devargs = "sock-mode=0664,sock-group=tty"};
	struct test_port port;
	struct stat st;

	assert_int_equal(port_try_open(&port, &config), 0);
	assert_int_equal(lstat(port.path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0664);
	assert_int_equal(st.st_gid, 5);
	port_close(&port);

	config.devargs = NULL;
	assert_int_equal(port_try_open(&port, &config), 0);
	assert_int_equal(lstat(port.path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	port_close(&port);
}

static void
test_bad_arguments_leave_nothing(void **state)
{
	const char *path = path_of_our_own();

	assert_int_equal(probe("net_dynvhost_bad", "iface=%s,queues=0", path), -EINVAL);
	assert_int_equal(probe("net_dynvhost_bad", "iface=%s,nonsense=1", path), -EINVAL);
	assert_int_equal(probe("net_dynvhost_bad", "queues=1"), -EINVAL);
	assert_false(exists(path));
}

static void
test_path_that_cannot_be_leaves_nothing(void **state)
{
	const char *path = path_of_our_own();

	assert_int_equal(probe("net_dynvhost_bad", "iface=/no/such/folder/s"), -ENOENT);
	assert_int_equal(probe("net_dynvhost_bad", "iface=/dev/null/s"), -ENOTDIR);
	assert_int_equal(probe("net_dynvhost_bad", "iface=/proc/s") < 0, true);
	assert_false(exists(path));
}

static void
test_path_of_another_port_is_refused(void **state)
{
	struct port_config config = {0};
	struct test_port port;

	assert_int_equal(port_try_open(&port, &config), 0);
	assert_int_equal(probe("net_dynvhost_bad", "iface=%s", port.path), -EADDRINUSE);
	assert_true(exists(port.path));
	port_close(&port);
}

static void
test_path_may_hold_equals_signs(void **state)
{
	char path[128];
	struct port_config config = {.path = path};
	struct test_port port;

	snprintf(path, sizeof(path), "%s=1=", path_of_our_own());
	assert_int_equal(port_try_open(&port, &config), 0);
	assert_true(exists(path));
	port_close(&port);
}

static void
test_path_of_another_process_is_refused(void **state)
{
	const char *path = path_of_our_own();
	int fd = listen_at(path, false);

	assert_int_equal(probe("net_dynvhost_bad", "iface=%s", path), -EADDRINUSE);
	assert_true(exists(path));
	close(fd);
	unlink(path);
}

static void
test_file_that_is_no_socket_is_left_alone(void **state)
{
	const char *path = path_of_our_own();
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	struct stat st;

	assert_int_equal(write(fd, "data", 4), 4);
	close(fd);
	assert_int_equal(probe("net_dynvhost_bad", "iface=%s", path), -EADDRINUSE);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_size, 4);
	unlink(path);
}

static void
test_socket_of_a_dead_process_is_replaced(void **state)
{
	const char *path = path_of_our_own();

	close(listen_at(path, false));
	assert_true(exists(path));
	assert_int_equal(probe("net_dynvhost_ok", "iface=%s", path), 0);
	assert_int_equal(rte_eal_hotplug_remove("vdev", "net_dynvhost_ok"), 0);
	assert_false(exists(path));
}

/** An operator has removed the file, and another process listens at the path by now. */
static void
test_socket_file_of_somebody_else_survives_the_port(void **state)
{
	const char *path = path_of_our_own();
	struct stat before, after;
	int fd;

	assert_int_equal(probe("net_dynvhost_ok", "iface=%s", path), 0);
	assert_int_equal(unlink(path), 0);
	fd = listen_at(path, false);
	assert_int_equal(lstat(path, &before), 0);
	assert_int_equal(rte_eal_hotplug_remove("vdev", "net_dynvhost_ok"), 0);
	assert_int_equal(lstat(path, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	close(fd);
	unlink(path);
}

static void
test_socket_file_that_is_gone_already_is_no_trouble(void **state)
{
	const char *path = path_of_our_own();

	assert_int_equal(probe("net_dynvhost_ok", "iface=%s", path), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rte_eal_hotplug_remove("vdev", "net_dynvhost_ok"), 0);
}

static void
test_name_that_is_taken_leaves_the_first_port_alone(void **state)
{
	struct port_config config = {0};
	struct test_port port;

	assert_int_equal(port_try_open(&port, &config), 0);
	/* Whether this is an error is up to EAL. */
	(void)probe(port.name, "iface=%s", path_of_our_own());
	assert_int_equal(rte_eth_dev_count_avail(), base.ports + 1);
	assert_true(exists(port.path));
	port_close(&port);
	assert_false(exists(path_of_our_own()));
}

static void
test_port_beyond_the_last_is_refused(void **state)
{
	struct port_config config = {0};
	struct test_port port[RTE_MAX_ETHPORTS];
	unsigned int n, i;
	int rc;

	for (n = 0; n < RTE_MAX_ETHPORTS; n++) {
		rc = port_try_open(&port[n], &config);
		if (rc != 0)
			break;
	}
	assert_int_equal(n, RTE_MAX_ETHPORTS);
	assert_int_equal(probe("net_dynvhost_bad", "iface=%s", path_of_our_own()), -ENOMEM);
	assert_false(exists(path_of_our_own()));
	for (i = 0; i < n; i++)
		port_close(&port[i]);
}

/** Whatever fails of what a probe asks for, it fails as a whole and leaves nothing. */
static void
test_probe_that_fails_half_way_leaves_nothing(void **state)
{
	const char *path = path_of_our_own();
	unsigned int failures = 0;
	int rc, i;

	for (i = 0; i < 100; i++) {
		has_failed = false;
		fail_at = i;
		rc = probe("net_dynvhost_frail", "iface=%s,queues=2", path);
		fail_at = -1;
		if (rc == 0) {
			assert_int_equal(rte_eal_hotplug_remove("vdev", "net_dynvhost_frail"), 0);
			if (!has_failed)
				break;
			fail_msg("call %d fails, and the probe succeeds", i);
		}
		failures++;
		assert_true(has_failed);
		assert_false(exists(path));
		footprint_expect(&base);
	}
	print_message("# %u calls have failed one after the other\n", failures);
	assert_in_range(failures, 10, 99);
}

int
main(void)
{
#define PROBE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		PROBE_TEST(test_probe_and_remove_leave_nothing),
		PROBE_TEST(test_close_gives_everything_back_and_remove_the_device),
		PROBE_TEST(test_started_port_can_be_removed),
		PROBE_TEST(test_two_ports_share_one_control_thread),
		PROBE_TEST(test_socket_file_has_the_rights_asked_for),
		PROBE_TEST(test_bad_arguments_leave_nothing),
		PROBE_TEST(test_path_that_cannot_be_leaves_nothing),
		PROBE_TEST(test_path_of_another_port_is_refused),
		PROBE_TEST(test_path_may_hold_equals_signs),
		PROBE_TEST(test_path_of_another_process_is_refused),
		PROBE_TEST(test_file_that_is_no_socket_is_left_alone),
		PROBE_TEST(test_socket_of_a_dead_process_is_replaced),
		PROBE_TEST(test_socket_file_of_somebody_else_survives_the_port),
		PROBE_TEST(test_socket_file_that_is_gone_already_is_no_trouble),
		PROBE_TEST(test_name_that_is_taken_leaves_the_first_port_alone),
		PROBE_TEST(test_port_beyond_the_last_is_refused),
		PROBE_TEST(test_probe_that_fails_half_way_leaves_nothing),
	};

	rig_program("unit_drv_probe", 60);
	rig_group_extra_teardown = remove_path_of_our_own;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_probe", tests, rig_group_setup, rig_group_teardown);
}
