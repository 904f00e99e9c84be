/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file Regions and views: what is accepted, what is refused, who owns the fds (H38 to H47, H50).
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

#include "mem_test.h"

#define SIZE (64 * MT_PAGE)

/** Build, expect @p want, words for it, and nothing left behind; closes the slots' fds. */
static void
table_refused(const struct dynvhost_mem_config *config, struct dynvhost_mem_slot *slots, uint32_t n,
	int want)
{
	struct dynvhost_mem *mem = mt_create(config);
	struct dynvhost_mem_view *view = NULL;
	const struct mt_holdings before = mt_holdings();
	uint32_t i;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slots, n, &view), want);
	assert_null(view);
	assert_true(strlen(dynvhost_mem_why(mem)) > 10);
	mt_expect_holdings(before);
	assert_int_equal(mt_stats(mem).guest_bytes, 0);
	for (i = 0; i < n; i++)
		if (slots[i].fd >= 0)
			assert_int_equal(close(slots[i].fd), 0);
	dynvhost_mem_destroy(mem);
}

static void
table_slot_refused(struct dynvhost_mem_slot slot, int want)
{
	table_refused(NULL, &slot, 1, want);
}

static void
numbers_that_wrap_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot;

	slot = mt_slot(MT_GPA, 0, 0, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(UINT64_MAX - MT_PAGE + 1, SIZE, 0, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, UINT64_MAX, 0, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, SIZE, 0, fd);
	slot.uva = UINT64_MAX - SIZE + 2;
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, SIZE, UINT64_MAX - MT_PAGE + 1, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, SIZE, (UINT64_C(1) << 63) - MT_PAGE, fd);
	table_slot_refused(slot, -EINVAL);
	close(fd);
}

static void
gpa_and_offset_in_different_phase_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);

	table_slot_refused(mt_slot(MT_GPA + 8, MT_PAGE, 0, fd), -EINVAL);
	table_slot_refused(mt_slot(MT_GPA, MT_PAGE, 2048, fd), -EINVAL);
	close(fd);
}

static void
overlaps_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot[3];
	int by_uva, i;

	for (by_uva = 0; by_uva < 2; by_uva++) {
		slot[0] = mt_slot(MT_GPA, 2 * MT_PAGE, 0, fd);
		slot[1] = mt_slot(MT_GPA + SIZE, MT_PAGE, 0, fd);
		slot[2] = mt_slot(MT_GPA + MT_PAGE, MT_PAGE, 0, fd);
		for (i = 0; by_uva && i < 3; i++)
			slot[i].gpa = MT_GPA + (uint64_t)i * SIZE;
		table_refused(NULL, slot, 3, -EEXIST);
	}
	slot[0] = mt_slot(MT_GPA, MT_PAGE, 0, fd);
	slot[1] = mt_slot(MT_GPA, MT_PAGE, 0, fd);
	table_refused(NULL, slot, 2, -EEXIST);
	close(fd);
}

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

static void
a_bad_slot_undoes_the_good_ones(void **state)
{
	int good = mt_memfd(SIZE), other = mt_memfd(SIZE), bad = mt_memfd(MT_PAGE);
	struct dynvhost_mem_slot slot[4] = {
		mt_slot(MT_GPA, SIZE, 0, good),
		mt_slot(MT_GPA + SIZE, SIZE, 0, other),
		mt_slot(MT_GPA + 2 * SIZE, SIZE, 0, good),
		mt_slot(MT_GPA + 3 * SIZE, SIZE, 0, bad),
	};

	table_refused(NULL, slot, 4, -EINVAL);
	close(good);
	close(other);
	close(bad);
}

static void
more_regions_than_fit_are_refused(void **state)
{
	static struct dynvhost_mem_slot slot[DYNVHOST_MEM_MAX_REGIONS + 1];
	struct dynvhost_mem_view *view, *more = NULL;
	struct dynvhost_mem *mem = mt_create(NULL);
	struct mt_holdings before;
	int fd = mt_memfd(SIZE);
	uint32_t i;

	before = mt_holdings();
	for (i = 0; i <= DYNVHOST_MEM_MAX_REGIONS; i++)
		slot[i] = mt_slot(MT_GPA + i * MT_PAGE, MT_PAGE, (i % 64) * MT_PAGE, fd);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, i, &view), -ENOSPC);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, i - 1, &view), 0);
	assert_int_equal(view->n_regions, DYNVHOST_MEM_MAX_REGIONS);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &slot[i - 1], &more), -ENOSPC);
	close(slot[i - 1].fd);
	/* One fd for the one file, and one userfaultfd for all windows. */
	assert_int_equal(mt_count_fds(), before.fds + (mt_kind == &mt_uffd ? 2 : 1));
	dynvhost_mem_view_release(view);
	mt_expect_holdings(before);
	dynvhost_mem_destroy(mem);
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

static void
the_same_table_keeps_open_pages(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view, *next;
	int fd = mt_memfd(2 * SIZE);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA, SIZE, 0, fd);
	struct dynvhost_mem_slot moved = mt_slot(MT_GPA, SIZE, MT_PAGE, fd);
	struct dynvhost_mem_stats stats;

	view = mt_view(mem, fd, SIZE);
	mt_hva(view, MT_GPA, 1, DYNVHOST_MEM_READ);
	assert_int_equal(dynvhost_mem_view_build(mem, view, &slot, 1, &next), 0);
	assert_ptr_equal(next->region[0], view->region[0]);
	dynvhost_mem_view_release(view);
	assert_int_equal(mt_stats(mem).loadable_bytes, MT_PAGE);
	/* Another offset is another region, though gpa and file are the same. */
	moved.uva = slot.uva;
	assert_int_equal(dynvhost_mem_view_build(mem, next, &moved, 1, &view), 0);
	assert_ptr_not_equal(next->region[0], view->region[0]);
	assert_int_equal(mt_stats(mem).guest_bytes, 2 * SIZE);
	dynvhost_mem_view_release(next);
	stats = mt_stats(mem);
	assert_int_equal(stats.loadable_bytes, 0);
	assert_int_equal(stats.closes, 1);
	assert_int_equal(stats.guest_bytes, SIZE);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
regions_come_and_go_one_by_one(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	const struct mt_holdings before = mt_holdings();
	struct dynvhost_mem_view *view = NULL, *next;
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot, unknown;
	int i;

	for (i = 0; i < 4; i++) {
		slot = mt_slot(MT_GPA + (uint64_t)(3 - i) * SIZE, SIZE, 0, fd);
		assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
		assert_int_equal(view->n_regions, i + 1);
		mt_hva(view, slot.gpa, SIZE, DYNVHOST_MEM_WRITE);
	}
	for (i = 0; i < 4; i++)
		assert_int_equal(view->region[i]->gpa, MT_GPA + (uint64_t)i * SIZE);
	slot = mt_slot(MT_GPA + SIZE / 2, MT_PAGE, 0, fd);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), -EEXIST);
	close(slot.fd);
	for (i = 0; i < 4; i++) {
		unknown = (struct dynvhost_mem_slot){
			.gpa = MT_GPA + (uint64_t)i * SIZE, .size = SIZE, .uva = MT_UVA, .fd = -1};
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &unknown, &next), -ENOENT);
		unknown.uva = MT_UVA + unknown.gpa;
		unknown.file_offset = 12345;
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &unknown, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
		assert_int_equal(mt_reach(fd).storable, (uint64_t)(3 - i) * SIZE);
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &unknown, &next), -ENOENT);
	}
	assert_int_equal(view->n_regions, 0);
	dynvhost_mem_view_release(view);
	close(fd);
	mt_expect_holdings(before);
	dynvhost_mem_destroy(mem);
}

/* As QEMU before 8.0 does for each pair of queues, on the same connection. */
static void
region_added_again_goes_with_its_last_removal(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	const struct mt_holdings before = mt_holdings();
	struct dynvhost_mem_view *view = NULL, *next;
	struct dynvhost_mem_slot slot, other;
	int fd = mt_memfd(SIZE);
	unsigned int fds = 0;
	int i;

	for (i = 0; i < 128; i++) {
		slot = mt_slot(MT_GPA, SIZE, 0, fd);
		assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
		assert_int_equal(view->n_regions, 1);
		mt_hva(view, MT_GPA, SIZE, DYNVHOST_MEM_WRITE);
		fds = i == 0 ? mt_count_fds() : fds;
		assert_int_equal(mt_count_fds(), fds);
	}
	slot = mt_slot(MT_GPA, SIZE, 0, fd);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), -EEXIST);
	close(slot.fd);
	/* The same place, but not the same memory. */
	other = slot;
	other.fd = mt_memfd(SIZE);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &other, &next), -EEXIST);
	close(other.fd);
	slot.fd = -1;
	for (i = 0; i < 128; i++) {
		assert_int_equal(mt_reach(fd).storable, SIZE);
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
	}
	assert_int_equal(view->n_regions, 0);
	assert_int_equal(dynvhost_mem_view_remove(mem, view, &slot, &next), -ENOENT);
	dynvhost_mem_view_release(view);
	close(fd);
	mt_expect_holdings(before);
	dynvhost_mem_destroy(mem);
}

static void
adding_and_removing_for_ever_leaks_nothing(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view, *next;
	int fd = mt_memfd(2 * SIZE);
	struct mt_holdings before;
	struct dynvhost_mem_slot slot;
	int i;

	view = mt_view(mem, fd, SIZE);
	before = mt_holdings();
	for (i = 0; i < 2000; i++) {
		slot = mt_slot(MT_GPA + 4 * SIZE, SIZE, SIZE, fd);
		assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		mt_hva(next, slot.gpa, 3, DYNVHOST_MEM_WRITE);
		assert_int_equal(dynvhost_mem_view_remove(mem, next, &slot, &view), 0);
		dynvhost_mem_view_release(next);
	}
	mt_expect_holdings(before);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
front_end_addresses_lead_to_guest_addresses(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	const uint64_t uva = view->region[0]->uva;
	uint64_t gpa = 0;

	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva + 5, SIZE - 5, &gpa), 0);
	assert_int_equal(gpa, MT_GPA + 5);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva + 5, SIZE - 4, &gpa), -EFAULT);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva - 1, 1, &gpa), -EFAULT);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva + SIZE, 1, &gpa), -EFAULT);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva, UINT64_MAX, &gpa), -EFAULT);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
bad_configurations_are_refused(void **state)
{
	struct dynvhost_mem_config granule = {.granule = 12288};
	struct dynvhost_mem_config mode = {.mode = (enum dynvhost_mem_mode)7};
	struct dynvhost_mem_config capped = {.mode = DYNVHOST_MEM_MODE_EAGER, .max_bytes = MT_2M};
	struct dynvhost_mem *mem = NULL;

	assert_int_equal(dynvhost_mem_create(&granule, &mem), -EINVAL);
	assert_string_equal(dynvhost_mem_why(NULL), "the granule is no power of two");
	assert_int_equal(dynvhost_mem_create(&mode, &mem), -EINVAL);
	assert_string_equal(dynvhost_mem_why(NULL), "no such engine");
	assert_int_equal(dynvhost_mem_create(&capped, &mem), -EINVAL);
	assert_non_null(strstr(dynvhost_mem_why(NULL), "no cap can hold"));
	assert_null(mem);
	dynvhost_mem_destroy(mem);
	dynvhost_mem_view_release(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_that_wrap_are_refused),
		cmocka_unit_test(gpa_and_offset_in_different_phase_are_refused),
		cmocka_unit_test(overlaps_are_refused),
		cmocka_unit_test(files_too_short_are_refused),
		cmocka_unit_test(descriptors_that_are_no_files_are_refused),
		cmocka_unit_test(files_that_cannot_be_written_are_refused),
		cmocka_unit_test(other_file_systems_need_permission),
		cmocka_unit_test(a_file_whose_server_could_make_us_wait_is_not_asked),
		cmocka_unit_test(a_file_that_can_shrink_is_sealed_or_refused),
		cmocka_unit_test(a_bad_slot_undoes_the_good_ones),
		cmocka_unit_test(more_regions_than_fit_are_refused),
		cmocka_unit_test(an_fd_given_twice_is_closed_once),
		cmocka_unit_test(the_last_fd_of_a_file_goes_to_whom_it_shall),
		cmocka_unit_test(the_same_table_keeps_open_pages),
		cmocka_unit_test(regions_come_and_go_one_by_one),
		cmocka_unit_test(region_added_again_goes_with_its_last_removal),
		cmocka_unit_test(adding_and_removing_for_ever_leaks_nothing),
		cmocka_unit_test(front_end_addresses_lead_to_guest_addresses),
		cmocka_unit_test(bad_configurations_are_refused),
	};
	const struct CMUnitTest of_mounts[] = {
		cmocka_unit_test(files_of_mounted_file_systems_are_guest_memory),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_SMALL) +
	       mt_run(of_mounts, 1, MT_ALL);
}
