/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Guest memory of huge pages: they open one by one, and no file of them is ever grown. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_test.h"

#define SIZE  (16 * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE
#define TIB   (UINT64_C(1) << 40)

static void
huge_pages_open_one_by_one(void **state)
{
	const uint64_t offset = MT_2M / 2, size = 2 * MT_2M;
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_slot slot;
	int fd = mt_memfd(3 * MT_2M);
	uint8_t *hva;

	mt_fill(fd, 0, 3 * MT_2M);
	mt_put(fd, MT_2M - 2, "abcd", 4);
	mem = mt_create(NULL);
	slot = mt_slot(MT_GPA, size, offset, fd);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, &slot, 1, &view), 0);
	hva = mt_hva(view, MT_GPA + offset - 2, 2, READ);
	assert_memory_equal(hva, "ab", 2);
	assert_int_equal(((uintptr_t)hva + 2) % MT_2M, 0);
	assert_int_equal(mt_reach(fd).loadable, MT_2M);
	assert_int_equal(mt_load(hva + 2), -1);
	hva = mt_hva(view, MT_GPA + offset - 2, 4, WRITE);
	assert_memory_equal(hva, "abcd", 4);
	assert_int_equal(mt_reach(fd).storable, 2 * MT_2M);
	assert_int_equal(mt_reach(fd).loadable, 3 * MT_2M);
	assert_int_equal(mt_stats(mem).loadable_bytes, 3 * MT_2M);
	assert_int_equal(mt_stats(mem).allocations, 0);
	assert_int_equal(mt_store(mt_hva(view, MT_GPA, 1, READ), 1), -1);
	dynvhost_mem_view_release(view);
	assert_int_equal(mt_reach(fd).mappings, 0);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
huge_files_are_never_grown(void **state)
{
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_span span;
	struct stat st;
	int fd = mt_memfd_unsealable(2 * MT_2M);
	int right;

	mem = mt_create(NULL);
	view = mt_view(mem, fd, 2 * MT_2M);
	/* A hole is filled where it is touched, and counted. */
	mt_hva(view, MT_GPA, 1, WRITE);
	assert_int_equal(mt_stats(mem).allocations, 1);
	assert_int_equal(mt_file_bytes(fd), MT_2M);
	assert_int_equal(ftruncate(fd, (off_t)MT_2M), 0);
	for (right = READ; right <= WRITE; right++)
		assert_int_equal(mt_translate(view, MT_GPA + MT_2M, 1, right, &span), -EAGAIN);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, MT_2M);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** The file is cut between the look at it and the engine's first call. */
static int system_cut_fd;

static void *
system_cutting_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (fd >= 0 && ftruncate(system_cut_fd, (off_t)MT_2M) != 0)
		return MAP_FAILED;
	return mmap(addr, length, prot, flags, fd, offset);
}

static int
system_cutting_ioctl(int fd, unsigned long request, void *arg)
{
	return ftruncate(system_cut_fd, (off_t)MT_2M) != 0
		       ? -1
		       : dynvhost_mem_sys_real.ioctl(fd, request, arg);
}

static void
a_huge_file_cut_at_the_last_moment_is_not_grown_either(void **state)
{
	struct mem_sys_ops cutting = dynvhost_mem_sys_real;
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_span span;
	struct stat st;
	int fd = mt_memfd_unsealable(2 * MT_2M);

	mt_fill(fd, 0, 2 * MT_2M);
	system_cut_fd = fd;
	mem = mt_create(NULL);
	view = mt_view(mem, fd, 2 * MT_2M);
	cutting.mmap = system_cutting_mmap;
	cutting.ioctl = system_cutting_ioctl;
	dynvhost_mem_sys = &cutting;
	assert_int_equal(mt_translate(view, MT_GPA + MT_2M, 1, WRITE, &span), -EAGAIN);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, MT_2M);
	assert_int_equal(mt_reach(fd).loadable, 0);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
a_granule_takes_whole_huge_pages(void **state)
{
	struct dynvhost_mem_config config = {.granule = 4 * MT_2M};
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd = mt_memfd(4 * MT_2M);

	mt_fill(fd, 0, 4 * MT_2M);
	mem = mt_create(&config);
	view = mt_view(mem, fd, 4 * MT_2M);
	mt_hva(view, MT_GPA + MT_2M, 1, READ);
	assert_int_equal(mt_reach(fd).loadable, 4 * MT_2M);
	assert_int_equal(mt_stats(mem).loadable_bytes, 4 * MT_2M);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest of_huge_pages[] = {
		cmocka_unit_test(huge_pages_open_one_by_one),
		cmocka_unit_test(huge_files_are_never_grown),
		cmocka_unit_test(a_huge_file_cut_at_the_last_moment_is_not_grown_either),
		cmocka_unit_test(a_granule_takes_whole_huge_pages),
	};

	return mt_run(of_huge_pages, sizeof(of_huge_pages) / sizeof(of_huge_pages[0]), MT_HUGE);
}
