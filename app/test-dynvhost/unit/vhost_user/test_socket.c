/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Listening, accepting and connecting: what appears in the file system, with which rights and when,
 * what is replaced and what is left alone. The calls that make the file are wrapped by the linker,
 * so that its state between them is seen without a race.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "open_fds.h"
#include "socket.h"

#define KEEP_GROUP ((gid_t)-1)
#define NEW_GROUP  4242

static char folder[64];
static char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

/** What the wrapped calls saw of the file, and what they are to do. */
static struct {
	struct stat after_bind;
	struct stat before_listen;
	int connect_before_listen; /**< errno of an attempt to connect */
	int lchown_error;          /**< to fail with; 0: go through */
	char name[sizeof(
		((struct sockaddr_un *)NULL)->sun_path)]; /**< that the socket was made under */
	bool file_vanishes; /**< removed just after it was found at the path */
	bool no_noreplace;  /**< the file system has no RENAME_NOREPLACE */
	bool file_replaced; /**< by a regular file, when lchown() fails */
} seen;

int __real_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __real_listen(int fd, int backlog);
int __real_lchown(const char *file, uid_t owner, gid_t group);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_listen(int fd, int backlog);
int __wrap_lchown(const char *file, uid_t owner, gid_t group);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags);

static struct sockaddr_un
address(const char *file)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	strcpy(addr.sun_path, file);
	return addr;
}

static int
try_connect(const char *file)
{
	struct sockaddr_un addr = address(file);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int err = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : errno;

	close(fd);
	return err;
}

static void
make_file(const char *file)
{
	int fd = open(file, O_CREAT | O_EXCL | O_WRONLY, 0640);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "keep", 4), 4);
	close(fd);
}

int
__wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	const char *file = ((const struct sockaddr_un *)addr)->sun_path;
	int ret = __real_bind(fd, addr, len);

	if (ret == 0) {
		lstat(file, &seen.after_bind);
		snprintf(seen.name, sizeof(seen.name), "%s", file);
	}
	return ret;
}

int
__wrap_listen(int fd, int backlog)
{
	lstat(seen.name, &seen.before_listen);
	seen.connect_before_listen = try_connect(seen.name);
	return __real_listen(fd, backlog);
}

int
__wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
	int ret, err;

	if (seen.no_noreplace) {
		errno = EINVAL;
		return -1;
	}
	ret = __real_renameat2(from_fd, from, to_fd, to, flags);
	err = errno;
	if (ret < 0 && seen.file_vanishes)
		unlink(to);
	errno = err;
	return ret;
}

int
__wrap_lchown(const char *file, uid_t owner, gid_t group)
{
	if (seen.lchown_error == 0)
		return __real_lchown(file, owner, group);
	if (seen.file_replaced) {
		unlink(file);
		make_file(file);
	}
	errno = seen.lchown_error;
	return -1;
}

static int
set_up(void **state)
{
	memset(&seen, 0, sizeof(seen));
	snprintf(folder, sizeof(folder), "/tmp/dynvhost-test.XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/port.sock", folder);
	return count_fds_before(state);
}

static int
tear_down(void **state)
{
	int ret = count_fds_after(state);

	unlink(path);
	if (rmdir(folder) == 0)
		return ret;
	print_error("%s: %s\n", folder, strerror(errno));
	return -1;
}

static struct stat
status(const char *file)
{
	struct stat st;

	assert_int_equal(lstat(file, &st), 0);
	return st;
}

static bool
exists(const char *file)
{
	struct stat st;

	return lstat(file, &st) == 0;
}

/** Leave a socket file behind that nobody listens on, as a killed process does. */
static void
make_stale_socket(const char *file)
{
	struct sockaddr_un addr = address(file);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(__real_bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(__real_listen(fd, 1), 0);
	close(fd);
}

/** The listener works: a client gets through to it. Closes it. */
static void
assert_serves(int listen_fd)
{
	int client = dynvhost_socket_connect(path);
	int server;
	char byte;

	assert_true(client >= 0);
	server = dynvhost_socket_accept(listen_fd);
	assert_true(server >= 0);
	assert_int_equal(write(client, "x", 1), 1);
	assert_int_equal(read(server, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	close(client);
	close(server);
	close(listen_fd);
}

/** Listening fails with EADDRINUSE and the file at the path stays the one it was. */
static void
assert_left_alone(void)
{
	struct stat before = status(path);
	struct stat after;

	assert_int_equal(dynvhost_socket_listen(path, 0600, KEEP_GROUP), -EADDRINUSE);
	after = status(path);
	assert_int_equal(after.st_ino, before.st_ino);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
}

static void
fds_neither_block_nor_survive_exec(void **state)
{
	int listener = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	int client, server, i;

	assert_true(listener >= 0);
	assert_int_equal(dynvhost_socket_accept(listener), -EAGAIN);
	client = dynvhost_socket_connect(path);
	assert_true(client >= 0);
	server = dynvhost_socket_accept(listener);
	assert_true(server >= 0);
	assert_int_equal(dynvhost_socket_accept(listener), -EAGAIN);

	for (i = 0; i < 3; i++) {
		int fd = (const int[]){listener, client, server}[i];

		assert_true(is_non_blocking(fd));
		assert_true(is_close_on_exec(fd));
		if (fd != listener)
			close(fd);
	}
	assert_serves(listener);
}

static void
file_has_the_mode_asked_for_whatever_the_umask(void **state)
{
	static const mode_t modes[] = {0600, 0660, 0666, 0770, 0777, 0620, 0200, 0};
	static const mode_t masks[] = {0, 022, 027, 077, 0777};
	mode_t ours = umask(022);
	uint32_t i, k;
	int fd;

	for (k = 0; k < sizeof(masks) / sizeof(masks[0]); k++) {
		for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
			umask(masks[k]);
			fd = dynvhost_socket_listen(path, modes[i], KEEP_GROUP);
			assert_int_equal(umask(022), masks[k]);
			assert_true(fd >= 0);
			assert_int_equal(status(path).st_mode, S_IFSOCK | modes[i]);
			close(fd);
			assert_int_equal(unlink(path), 0);
		}
	}
	umask(ours);
}

static void
file_is_never_open_to_more_than_asked_for(void **state)
{
	mode_t ours = umask(0);
	int fd = dynvhost_socket_listen(path, 0660, KEEP_GROUP);

	umask(ours);
	assert_true(fd >= 0);
	/* The group is not yet the right one here, so it has no rights either. */
	assert_int_equal(seen.after_bind.st_mode, S_IFSOCK | 0600);
	assert_int_equal(seen.before_listen.st_mode, S_IFSOCK | 0660);
	assert_int_equal(seen.connect_before_listen, ECONNREFUSED);
	assert_serves(fd);
}

static void
file_has_its_group_before_anyone_can_connect(void **state)
{
	int fd;

	if (geteuid() != 0) {
		print_message("not root: no foreign group can be given\n");
		skip();
	}
	fd = dynvhost_socket_listen(path, 0660, NEW_GROUP);
	assert_true(fd >= 0);
	assert_int_equal(seen.after_bind.st_gid, getegid());
	assert_int_equal(seen.before_listen.st_gid, NEW_GROUP);
	assert_int_equal(seen.before_listen.st_mode, S_IFSOCK | 0660);
	assert_int_equal(status(path).st_gid, NEW_GROUP);
	assert_int_equal(status(path).st_uid, geteuid());
	assert_serves(fd);
}

static void
refused_group_leaves_nothing_behind(void **state)
{
	seen.lchown_error = EPERM;
	assert_int_equal(dynvhost_socket_listen(path, 0660, NEW_GROUP), -EPERM);
	assert_false(exists(path));

	seen.file_replaced = true;
	assert_int_equal(dynvhost_socket_listen(path, 0660, NEW_GROUP), -EPERM);
	assert_false(exists(path));
	assert_int_equal(status(seen.name).st_mode, S_IFREG | 0640);
	assert_int_equal(status(seen.name).st_size, 4);
	unlink(seen.name);
}

static void
stale_socket_is_replaced(void **state)
{
	int fd;

	make_stale_socket(path);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(try_connect(path), ECONNREFUSED);
	fd = dynvhost_socket_listen(path, 0640, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_int_equal(status(path).st_mode, S_IFSOCK | 0640);
	assert_serves(fd);
}

static void
file_that_vanishes_meanwhile_is_no_obstacle(void **state)
{
	int fd;

	make_stale_socket(path);
	seen.file_vanishes = true;
	fd = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_serves(fd);
}

static void
file_system_that_cannot_promise_not_to_replace_will_do(void **state)
{
	int fd;

	seen.no_noreplace = true;
	fd = dynvhost_socket_listen(path, 0640, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_int_equal(dynvhost_socket_listen(path, 0600, KEEP_GROUP), -EADDRINUSE);
	/* The other one's look at it. */
	close(dynvhost_socket_accept(fd));
	assert_serves(fd);
	fd = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_int_equal(status(path).st_mode, S_IFSOCK | 0600);
	assert_serves(fd);
}

static void
name_that_is_taken_is_passed_over(void **state)
{
	char taken[sizeof(seen.name) + 32];
	unsigned int serial;
	int fd;

	fd = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_serves(fd);
	unlink(path);
	assert_int_equal(sscanf(strrchr(seen.name, '-'), "-%u", &serial), 1);
	snprintf(taken, sizeof(taken), "%s.%d-%u", path, (int)getpid(), serial + 1);
	make_file(taken);
	fd = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_string_not_equal(seen.name, taken);
	assert_int_equal(status(taken).st_mode, S_IFREG | 0640);
	unlink(taken);
	assert_serves(fd);
}

static void
folder_that_somebody_keeps_locked_is_given_up(void **state)
{
	int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(lock >= 0);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	make_stale_socket(path);
	assert_left_alone();
	close(lock);
}

#define RACERS       6
#define RACER_ROUNDS 150

static pthread_barrier_t race_start;

static void *
race_for_path(void *arg)
{
	int *fd = arg;

	pthread_barrier_wait(&race_start);
	*fd = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	return NULL;
}

/* One round; the file that is there already, if any, is a dead listener's. */
static void
race_once(void)
{
	pthread_t thread[RACERS];
	int fd[RACERS];
	int winner = -1;
	int i;

	for (i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, race_for_path, &fd[i]), 0);
	for (i = 0; i < RACERS; i++) {
		pthread_join(thread[i], NULL);
		if (fd[i] < 0)
			assert_int_equal(fd[i], -EADDRINUSE);
		else if (winner >= 0)
			fail_msg("two have won the path");
		else
			winner = fd[i];
	}
	assert_true(winner >= 0);
	/* Those who lost have had a look at it. */
	while (i >= 0) {
		i = dynvhost_socket_accept(winner);
		if (i >= 0)
			close(i);
	}
	assert_serves(winner);
}

static void
one_of_many_gets_a_dead_listeners_path(void **state)
{
	int i;

	assert_int_equal(pthread_barrier_init(&race_start, NULL, RACERS), 0);
	for (i = 0; i < RACER_ROUNDS; i++)
		race_once();
	unlink(path);
	race_once();
	pthread_barrier_destroy(&race_start);
}

static void
listener_in_use_keeps_its_path(void **state)
{
	int first = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	int probe;

	assert_true(first >= 0);
	assert_left_alone();
	/* All the other one sees is a connection that closes at once. */
	probe = dynvhost_socket_accept(first);
	assert_true(probe >= 0);
	assert_int_equal(read(probe, (char[1]){0}, 1), 0);
	close(probe);
	assert_serves(first);
}

static void
listener_with_a_full_backlog_keeps_its_path(void **state)
{
	int first = dynvhost_socket_listen(path, 0600, KEEP_GROUP);
	int client[64];
	int i, n, fd;

	assert_true(first >= 0);
	for (n = 0; n < 64; n++) {
		client[n] = dynvhost_socket_connect(path);
		if (client[n] < 0)
			break;
	}
	assert_in_range(n, 1, 63);
	assert_int_equal(client[n], -EAGAIN);
	assert_left_alone();

	for (i = 0; i < n; i++) {
		close(client[i]);
		fd = dynvhost_socket_accept(first);
		assert_true(fd >= 0);
		close(fd);
	}
	assert_serves(first);
}

static void
other_kinds_of_socket_keep_their_path(void **state)
{
	static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};
	struct sockaddr_un addr = address(path);
	uint32_t i;
	int fd;

	for (i = 0; i < 2; i++) {
		fd = socket(AF_UNIX, types[i], 0);
		assert_int_equal(__real_bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
		assert_left_alone();
		close(fd);
		unlink(path);
	}
}

static void
what_is_no_socket_is_left_alone(void **state)
{
	char target[sizeof(path)];

	snprintf(target, sizeof(target), "%s/target", folder);
	make_file(path);
	assert_left_alone();
	unlink(path);

	assert_int_equal(mkdir(path, 0755), 0);
	assert_left_alone();
	rmdir(path);

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_left_alone();
	unlink(path);

	assert_int_equal(symlink(target, path), 0);
	assert_left_alone();
	assert_false(exists(target));
	make_stale_socket(target);
	assert_left_alone();
	assert_true(exists(target));
	unlink(target);
}

/* 107 bytes are the most that an address holds beside its end. */
static void
path_that_does_not_fit_is_refused(void **state)
{
	char longest[108], too_long[109], forever[5000];
	int fd;

	memset(longest, 'a', sizeof(longest));
	memcpy(longest, folder, strlen(folder));
	longest[strlen(folder)] = '/';
	longest[107] = '\0';
	snprintf(too_long, sizeof(too_long), "%sa", longest);
	memset(forever, 'a', sizeof(forever));
	forever[sizeof(forever) - 1] = '\0';

	assert_int_equal(dynvhost_socket_listen(too_long, 0600, KEEP_GROUP), -ENAMETOOLONG);
	assert_int_equal(dynvhost_socket_connect(too_long), -ENAMETOOLONG);
	assert_int_equal(dynvhost_socket_listen(forever, 0600, KEEP_GROUP), -ENAMETOOLONG);
	assert_int_equal(dynvhost_socket_connect(forever), -ENAMETOOLONG);
	assert_false(exists(too_long));
	assert_false(exists(longest));

	snprintf(path, sizeof(path), "%s", longest);
	fd = dynvhost_socket_listen(longest, 0600, KEEP_GROUP);
	assert_true(fd >= 0);
	assert_serves(fd);
}

static void
empty_path_is_refused(void **state)
{
	assert_int_equal(dynvhost_socket_listen("", 0600, KEEP_GROUP), -EINVAL);
	assert_int_equal(dynvhost_socket_connect(""), -EINVAL);
}

static void
missing_folder_is_reported(void **state)
{
	char missing[sizeof(path)];

	snprintf(missing, sizeof(missing), "%s/none/port.sock", folder);
	assert_int_equal(dynvhost_socket_listen(missing, 0600, KEEP_GROUP), -ENOENT);
	assert_int_equal(dynvhost_socket_connect(missing), -ENOENT);
}

static void
connect_tells_why_nobody_answers(void **state)
{
	assert_int_equal(dynvhost_socket_connect(path), -ENOENT);
	make_stale_socket(path);
	assert_int_equal(dynvhost_socket_connect(path), -ECONNREFUSED);
	unlink(path);
	make_file(path);
	assert_int_equal(dynvhost_socket_connect(path), -ECONNREFUSED);
}

static void
accept_reports_errors(void **state)
{
	assert_int_equal(dynvhost_socket_accept(-1), -EBADF);
}

#define SOCKET_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SOCKET_TEST(fds_neither_block_nor_survive_exec),
		SOCKET_TEST(file_has_the_mode_asked_for_whatever_the_umask),
		SOCKET_TEST(file_is_never_open_to_more_than_asked_for),
		SOCKET_TEST(file_has_its_group_before_anyone_can_connect),
		SOCKET_TEST(refused_group_leaves_nothing_behind),
		SOCKET_TEST(stale_socket_is_replaced),
		SOCKET_TEST(file_that_vanishes_meanwhile_is_no_obstacle),
		SOCKET_TEST(file_system_that_cannot_promise_not_to_replace_will_do),
		SOCKET_TEST(name_that_is_taken_is_passed_over),
		SOCKET_TEST(folder_that_somebody_keeps_locked_is_given_up),
		SOCKET_TEST(one_of_many_gets_a_dead_listeners_path),
		SOCKET_TEST(listener_in_use_keeps_its_path),
		SOCKET_TEST(listener_with_a_full_backlog_keeps_its_path),
		SOCKET_TEST(other_kinds_of_socket_keep_their_path),
		SOCKET_TEST(what_is_no_socket_is_left_alone),
		SOCKET_TEST(path_that_does_not_fit_is_refused),
		SOCKET_TEST(empty_path_is_refused),
		SOCKET_TEST(missing_folder_is_reported),
		SOCKET_TEST(connect_tells_why_nobody_answers),
		SOCKET_TEST(accept_reports_errors),
	};

	return cmocka_run_group_tests_name("vhost_user/socket", tests, NULL, NULL);
}
