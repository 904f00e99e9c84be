/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file Files of regions: which are guest memory, and who closes their fds (H44, H45).
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "table_refused.h"

static void
files_too_short_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);

	table_slot_refused(mt_slot(MT_GPA, SIZE + 1, 0, fd), -EINVAL);
	table_slot_refused(mt_slot(MT_GPA, SIZE, MT_PAGE, fd), -EINVAL);
	table_slot_refused(mt_slot(MT_GPA, MT_PAGE, SIZE, fd), -EINVAL);
	close(fd);
}

/** A slot of one page whose fd is @p fd itself. */
static struct dynvhost_mem_slot
table_slot_of(int fd)
{
	struct dynvhost_mem_slot slot = {.gpa = MT_GPA, .size = MT_PAGE, .uva = MT_UVA, .fd = fd};

	return slot;
}

/** The same memfd opened anew with other flags. */
static int
table_reopen(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static void
descriptors_that_are_no_files_are_refused(void **state)
{
	int pair[2];

	table_slot_refused(table_slot_of(-1), -EINVAL);
	table_slot_refused(table_slot_of(eventfd(0, EFD_CLOEXEC)), -EPERM);
	table_slot_refused(table_slot_of(epoll_create1(EPOLL_CLOEXEC)), -EPERM);
	table_slot_refused(table_slot_of(open("/dev/zero", O_RDWR | O_CLOEXEC)), -EPERM);
	table_slot_refused(table_slot_of(open("/dev/null", O_RDWR | O_CLOEXEC)), -EPERM);
	table_slot_refused(table_slot_of(open("/tmp", O_RDONLY | O_CLOEXEC)), -EINVAL);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	table_slot_refused(table_slot_of(pair[0]), -EINVAL);
	table_slot_refused(table_slot_of(pair[1]), -EINVAL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	table_slot_refused(table_slot_of(pair[0]), -EPERM);
	close(pair[1]);
}

static void
files_that_cannot_be_written_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);
	int sealed;

	table_slot_refused(table_slot_of(table_reopen(fd, O_RDONLY)), -EINVAL);
	table_slot_refused(table_slot_of(table_reopen(fd, O_WRONLY)), -EINVAL);
	table_slot_refused(table_slot_of(table_reopen(fd, O_PATH)), -EINVAL);
	close(fd);
	sealed = mt_memfd(SIZE);
	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
	table_slot_refused(table_slot_of(sealed), -EINVAL);
	sealed = mt_memfd(SIZE);
	assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	table_slot_refused(table_slot_of(sealed), -EINVAL);
}

/** A regular file of one page that is not on tmpfs, or -1. */
static int
table_disk_file(void)
{
	char path[] = "/var/tmp/dynvhost-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	struct statfs fs;

	if (fd < 0)
		return -1;
	unlink(path);
	if (fstatfs(fd, &fs) != 0 || (uint32_t)fs.f_type == 0x01021994 ||
		ftruncate(fd, (off_t)SIZE) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static unsigned int table_questions;

static int
table_counting_fstat(int fd, struct stat *st)
{
	table_questions++;
	return fstat(fd, st);
}

static int
table_counting_fstatfs(int fd, struct statfs *fs)
{
	table_questions++;
	return fstatfs(fd, fs);
}

static void
a_file_whose_server_could_make_us_wait_is_not_asked(void **state)
{
	struct mem_sys_ops counting = dynvhost_mem_sys_real;
	struct dynvhost_mem_slot slot = table_slot_of(table_disk_file());
	struct dynvhost_mem_view *view = NULL;
	struct dynvhost_mem *mem;

	if (slot.fd < 0)
		mt_skip("/var/tmp is no disk file system here");
	mem = mt_create(NULL);
	counting.fstat = table_counting_fstat;
	counting.fstatfs = table_counting_fstatfs;
	table_questions = 0;
	dynvhost_mem_sys = &counting;
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, &slot, 1, &view), -EPERM);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(table_questions, 0);
	assert_non_null(strstr(dynvhost_mem_why(mem), "neither tmpfs nor hugetlbfs"));
	dynvhost_mem_destroy(mem);
	close(slot.fd);
}

/** A new file of one page of the running kind in a file system that is mounted somewhere; or -1. */
static int
table_mounted_file(void)
{
	char path[] = "/dev/shm/dynvhost-test-XXXXXX";
	char dir[] = "/tmp/dynvhost-mount-XXXXXX";
	char file[64];
	int fd;

	if (MT_PAGE == MT_4K) {
		fd = mkostemp(path, O_CLOEXEC);
		unlink(path);
		return fd;
	}
	if (mkdtemp(dir) == NULL)
		return -1;
	if (mount("none", dir, "hugetlbfs", 0, NULL) != 0) {
		rmdir(dir);
		return -1;
	}
	snprintf(file, sizeof(file), "%s/guest", dir);
	fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	return fd;
}

/** What memory-backend-file gives to a guest. */
static void
files_of_mounted_file_systems_are_guest_memory(void **state)
{
	struct dynvhost_mem_config strict = {.require_seal = true};
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_slot slot;
	struct dynvhost_mem *mem;
	int fd = table_mounted_file();

	if (fd < 0)
		mt_skip("no such file system can be mounted here");
	assert_int_equal(ftruncate(fd, (off_t)MT_PAGE), 0);
	/* They know seals, and take none. */
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
	slot = mt_slot(MT_GPA, MT_PAGE, 0, fd);
	table_refused(&strict, &slot, 1, -EPERM);
	mem = mt_create(NULL);
	view = mt_view(mem, fd, MT_PAGE);
	assert_int_equal(UINT64_C(1) << view->region[0]->page_shift, MT_PAGE);
	*mt_hva(view, MT_GPA + 5, 1, DYNVHOST_MEM_WRITE) = 'x';
	assert_int_equal(*mt_hva(view, MT_GPA + 5, 1, DYNVHOST_MEM_READ), 'x');
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
other_file_systems_need_permission(void **state)
{
	struct dynvhost_mem_config any = {.any_file = true};
	struct dynvhost_mem *mem = NULL;
	struct dynvhost_mem_view *view;
	int fd = table_disk_file();
	char byte = 0;

	if (fd < 0)
		mt_skip("/var/tmp is no disk file system here");
	table_slot_refused(mt_slot(MT_GPA, SIZE, 0, fd), -EPERM);
	/* Which the userfaultfd engine cannot serve: the port chooses for itself. */
	assert_int_equal(dynvhost_mem_create(&any, &mem), 0);
	view = mt_view(mem, fd, SIZE);
	*mt_hva(view, MT_GPA + 5, 1, DYNVHOST_MEM_WRITE) = 'x';
	assert_int_equal(pread(fd, &byte, 1, 5), 1);
	assert_int_equal(byte, 'x');
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
a_file_that_can_shrink_is_sealed_or_refused(void **state)
{
	struct dynvhost_mem_config strict = {.require_seal = true};
	int unsealable = memfd_create("guest", MFD_CLOEXEC);
	struct dynvhost_mem_slot slot;
	struct dynvhost_mem *mem;
	int fd = mt_memfd(SIZE);

	mem = mt_create(&strict);
	dynvhost_mem_view_release(mt_view(mem, fd, SIZE));
	assert_true((fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	dynvhost_mem_destroy(mem);

	assert_int_equal(ftruncate(unsealable, (off_t)SIZE), 0);
	slot = mt_slot(MT_GPA, SIZE, 0, unsealable);
	table_refused(&strict, &slot, 1, -EPERM);
	mem = mt_create(NULL);
	dynvhost_mem_view_release(mt_view(mem, unsealable, SIZE));
	dynvhost_mem_destroy(mem);
	close(unsealable);
	close(fd);
}

static unsigned int table_closes;

static int
table_counting_close(int fd)
{
	table_closes++;
	return close(fd);
}

static void
an_fd_given_twice_is_closed_once(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view, *next;
	struct dynvhost_mem_slot slot[2];
	struct mem_sys_ops counting = dynvhost_mem_sys_real;
	unsigned int fds = mt_count_fds();
	int fd = mt_memfd(SIZE);

	slot[0] = mt_slot(MT_GPA, MT_PAGE, 0, fd);
	slot[1] = mt_slot(MT_GPA + SIZE, MT_PAGE, MT_PAGE, fd);
	close(slot[1].fd);
	slot[1].fd = slot[0].fd;
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, 2, &view), 0);
	slot[0].fd = slot[1].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	table_closes = 0;
	counting.close = table_counting_close;
	dynvhost_mem_sys = &counting;
	assert_int_equal(dynvhost_mem_view_build(mem, view, slot, 2, &next), 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(table_closes, 1);
	assert_int_equal(fcntl(slot[0].fd, F_GETFD), -1);
	dynvhost_mem_view_release(view);
	dynvhost_mem_view_release(next);
	close(fd);
	assert_int_equal(mt_count_fds(), fds);
	dynvhost_mem_destroy(mem);
}

struct table_closed {
	int fd[4];
	unsigned int n;
	int guest; /* of which nothing may be mapped any more */
};

static void
table_take_fd(void *opaque, int fd)
{
	struct table_closed *closed = opaque;

	assert_int_equal(mt_reach(closed->guest).mappings, 0);
	closed->fd[closed->n++] = fd;
}

static void
the_last_fd_of_a_file_goes_to_whom_it_shall(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view, *next;
	struct table_closed closed = {.guest = mt_memfd(SIZE)};
	struct dynvhost_mem_slot slot[2] = {
		mt_slot(MT_GPA, MT_PAGE, 0, closed.guest),
		mt_slot(MT_GPA + SIZE, MT_PAGE, MT_PAGE, closed.guest),
	};
	const int kept = slot[0].fd, other = slot[1].fd;

	dynvhost_mem_set_close(mem, table_take_fd, &closed);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, 2, &view), 0);
	mt_hva(view, MT_GPA, 1, DYNVHOST_MEM_READ);
	/* One is enough, and the other need not wait. */
	assert_int_equal(fcntl(other, F_GETFD), -1);
	assert_int_equal(dynvhost_mem_view_remove(mem, view, &slot[0], &next), 0);
	dynvhost_mem_view_release(view);
	assert_int_equal(closed.n, 0);
	dynvhost_mem_view_release(next);
	assert_int_equal(closed.n, 1);
	assert_int_equal(closed.fd[0], kept);
	assert_int_equal(close(kept), 0);
	dynvhost_mem_destroy(mem);
	close(closed.guest);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_too_short_are_refused),
		cmocka_unit_test(descriptors_that_are_no_files_are_refused),
		cmocka_unit_test(files_that_cannot_be_written_are_refused),
		cmocka_unit_test(other_file_systems_need_permission),
		cmocka_unit_test(a_file_whose_server_could_make_us_wait_is_not_asked),
		cmocka_unit_test(a_file_that_can_shrink_is_sealed_or_refused),
		cmocka_unit_test(an_fd_given_twice_is_closed_once),
		cmocka_unit_test(the_last_fd_of_a_file_goes_to_whom_it_shall),
	};
	const struct CMUnitTest of_mounts[] = {
		cmocka_unit_test(files_of_mounted_file_systems_are_guest_memory),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_SMALL) +
	       mt_run(of_mounts, 1, MT_ALL);
}
