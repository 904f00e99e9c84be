/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Guest memory and the rest of the machine: huge guests, locked memory, limits of mappings. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_test.h"

#define SIZE  (16 * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE
#define TIB   (UINT64_C(1) << 40)

/** With userfaultfd the number of mappings depends on the table alone. */
static void
opening_takes_no_mapping(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	unsigned int maps = mt_count_maps();
	char flags[512];
	uint64_t page;
	int right;

	for (right = READ; right <= WRITE; right++) {
		for (page = 0; page < 16; page += 2)
			mt_hva(view, MT_GPA + page * MT_PAGE, 1, right);
		/* Registered for missing and for minor faults. */
		mt_vm_flags(view->region[0]->window[right].base, flags);
		assert_non_null(strstr(flags, " um "));
		assert_non_null(strstr(flags, " ui "));
	}
	assert_int_equal(mt_count_maps(), maps);
	assert_true((fcntl(mem->fence.fd, F_GETFD) & FD_CLOEXEC) != 0);
	dynvhost_mem_view_release(view);
	assert_int_equal(mem->fence.windows, 0);
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** A number of KiB from /proc/self/status. */
static uint64_t
system_status_kib(const char *key)
{
	FILE *status = fopen("/proc/self/status", "re");
	uint64_t kib = 0;
	char line[256];

	assert_non_null(status);
	while (fgets(line, sizeof(line), status) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %" SCNu64, &kib);
	fclose(status);
	return kib;
}

static uint64_t
system_used_kib(void)
{
	return system_status_kib("VmRSS") + system_status_kib("VmPTE");
}

static void
system_connect_huge_guest(void)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(TIB);
	uint64_t before_kib = system_used_kib();
	uint64_t start_ns = dynvhost_mem_sys->now_ns();
	struct dynvhost_mem_view *view = mt_view(mem, fd, TIB);
	uint64_t took_ns = dynvhost_mem_sys->now_ns() - start_ns;
	uint64_t gpa;

	print_message("1 TiB: %ju us", (uintmax_t)(took_ns / 1000));
	assert_true(took_ns < 50 * 1000000);
	for (gpa = MT_GPA; gpa < MT_GPA + TIB; gpa += TIB / 4)
		mt_hva(view, gpa, 1, WRITE);
	mt_hva(view, MT_GPA + TIB - 1, 1, READ);
	print_message(", %ju KiB with 5 pages open\n", (uintmax_t)(system_used_kib() - before_kib));
	assert_true(system_used_kib() - before_kib < 1024);
	assert_int_equal(mt_reach(fd).loadable, 5 * MT_PAGE);
	start_ns = dynvhost_mem_sys->now_ns();
	dynvhost_mem_view_release(view);
	assert_true(dynvhost_mem_sys->now_ns() - start_ns < 50 * 1000000);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
a_terabyte_connects_in_milliseconds_and_kilobytes(void **state)
{
	system_connect_huge_guest();
}

static void
so_it_does_in_a_process_that_locks_its_memory(void **state)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		mt_skip("mlockall: %s", strerror(errno));
	system_connect_huge_guest();
	assert_int_equal(munlockall(), 0);
}

static void
locked_memory_does_not_open_pages(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view;
	unsigned int maps;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		mt_skip("mlockall: %s", strerror(errno));
	view = mt_view(mem, fd, SIZE);
	maps = mt_count_maps();
	mt_hva(view, MT_GPA + MT_PAGE, 1, READ);
	assert_int_equal(mt_reach(fd).loadable, MT_PAGE);
	assert_int_equal(mt_file_bytes(fd), MT_PAGE);
	atomic_fetch_and(&view->region[0]->window[READ].state[1], (uint8_t)~DYNVHOST_MEM_REF);
	assert_int_equal(mt_close(mem_region_of(view->region[0]), READ, 0, 16), 1);
	assert_int_equal(mt_reach(fd).loadable, 0);
	/* A closed page has melted into the reservation again. */
	assert_int_equal(mt_count_maps(), maps);
	dynvhost_mem_view_release(view);
	assert_int_equal(munlockall(), 0);
	dynvhost_mem_destroy(mem);
	close(fd);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void
a_limit_of_locked_memory_is_an_error_and_no_more(void **state)
{
	mt_skip("a sanitizer does not let memory be locked");
}

#else
/** An ordinary user's process that locks its memory, and may not lock much (H104). */
static void
system_lock_little(void *arg)
{
	struct rlimit little;
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view;
	int fd = mt_memfd(TIB);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA, TIB, 0, fd);

	getrlimit(RLIMIT_MEMLOCK, &little);
	little.rlim_cur = 4 * MT_2M;
	if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 || setgid(65534) != 0 || setuid(65534) != 0 ||
		mlockall(MCL_FUTURE) != 0)
		_exit(77);
	if (dynvhost_mem_view_build(mem, NULL, &slot, 1, &view) != -ENOMEM ||
		strstr(dynvhost_mem_why(mem), "cannot reserve") == NULL)
		_exit(1);
	view = mt_view(mem, fd, SIZE);
	*mt_hva(view, MT_GPA, 5 * MT_PAGE, WRITE) = 'x';
	if (*mt_hva(view, MT_GPA, 1, READ) != 'x')
		_exit(2);
	dynvhost_mem_idle_pass(mem);
	if (dynvhost_mem_idle_pass(mem) != 6)
		_exit(3);
}

static void
a_limit_of_locked_memory_is_an_error_and_no_more(void **state)
{
	struct mt_end end = mt_child(system_lock_little, NULL);

	if (!WIFEXITED(end.status) || WEXITSTATUS(end.status) % 77 != 0)
		fail_msg("status 0x%x: %s", end.status, end.said);
	if (WEXITSTATUS(end.status) == 77)
		mt_skip("must be root to become nobody, and nobody may lock memory");
}

#endif

static void
more_than_the_address_space_is_refused(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	unsigned int fds = mt_count_fds(), maps = mt_count_maps();
	struct dynvhost_mem_view *view = NULL;
	struct dynvhost_mem_slot slot[8];
	int fd = mt_memfd(16 * TIB);
	int i;

	for (i = 0; i < 8; i++)
		slot[i] = mt_slot(16 * TIB * (uint64_t)i, 16 * TIB, 0, fd);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, 8, &view), -ENOMEM);
	assert_non_null(strstr(dynvhost_mem_why(mem), "cannot reserve addresses"));
	for (i = 0; i < 8; i++)
		close(slot[i].fd);
	close(fd);
	assert_int_equal(mt_count_fds(), fds);
	assert_int_equal(mt_count_maps(), maps);
	dynvhost_mem_destroy(mem);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void
a_process_full_of_mappings_can_still_let_go(void **state)
{
	mt_skip("a sanitizer needs mappings itself");
}

static void
the_last_mappings_are_not_for_the_guest(void **state)
{
	mt_skip("a sanitizer needs mappings itself");
}

#else
/**
 * Use up the mappings of the process, by one mapping with a different right in every other page.
 */
static uint8_t *
system_use_up_mappings(uint64_t length)
{
	uint8_t *map = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t at;

	assert_ptr_not_equal(map, MAP_FAILED);
	for (at = 0; at < length; at += 2 * MT_PAGE)
		if (mprotect(map + at, MT_PAGE, PROT_NONE) != 0)
			return map;
	munmap(map, length);
	return NULL;
}

static void
a_process_full_of_mappings_can_still_let_go(void **state)
{
	const uint64_t length = UINT64_C(100000) * MT_PAGE;
	struct dynvhost_mem *mem = mt_create(NULL);
	unsigned int maps = mt_count_maps();
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	struct dynvhost_mem_span span = {0};
	uint8_t *full, *loads, *stores;
	int rc = 0, left[2];
	uint64_t page;
	bool closed;

	loads = mt_hva(view, MT_GPA + 4 * MT_PAGE, 4 * MT_PAGE, READ);
	stores = mt_hva(view, MT_GPA + 9 * MT_PAGE, MT_PAGE, WRITE);
	full = system_use_up_mappings(length);
	if (full == NULL)
		mt_skip("vm.max_map_count is above 100000");
	/*
	 * Nothing here may allocate; what is seen is judged when there is room again. With
	 * userfaultfd an open takes no mapping, and goes on working.
	 */
	for (page = 0; page < 16 && rc == 0; page += 2)
		rc = mt_translate(view, MT_GPA + page * MT_PAGE, 1, WRITE, &span);
	atomic_fetch_and(&view->region[0]->window[READ].state[5], (uint8_t)~DYNVHOST_MEM_REF);
	closed = mt_close(mem_region_of(view->region[0]), READ, 0, 16) != 0;
	closed = closed != (mt_load(loads + MT_PAGE) >= 0);
	dynvhost_mem_view_release(view);
	left[READ] = mt_load(loads);
	left[WRITE] = mt_load(stores);
	munmap(full, length);

	assert_int_equal(rc, mt_kind == &mt_uffd ? 0 : -EAGAIN);
	assert_true(closed);
	assert_int_equal(left[READ], -1);
	assert_int_equal(left[WRITE], -1);
	assert_int_equal(mt_reach(fd).mappings, 0);
	assert_int_equal(mt_stats(mem).loadable_bytes, 0);
	assert_int_equal(mt_count_maps(), maps);
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** Mappings that this process can still have, up to the length of @p map. */
static unsigned int
system_count_free(void *map[64])
{
	unsigned int n, i;

	for (n = 0; n < 64; n++) {
		/* No neighbour to merge with. */
		map[n] = mmap(NULL, MT_4K, n % 2 == 0 ? PROT_READ : PROT_NONE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (map[n] == MAP_FAILED)
			break;
	}
	for (i = 0; i < n; i++)
		munmap(map[i], MT_4K);
	return n;
}

/** Use every other page of a region. @return how many could be used. */
static unsigned int
system_use_alternate(const struct dynvhost_mem_view *view)
{
	struct dynvhost_mem_span span;
	unsigned int n = 0;
	uint64_t page;

	for (page = 0; page < view->region[0]->size / MT_PAGE; page += 2)
		n += mt_translate(view, MT_GPA + page * MT_PAGE, 1, READ, &span) == 0;
	return n;
}

/** A guest that keeps all its pages in use, while the application has taken most mappings. */
static void
the_last_mappings_are_not_for_the_guest(void **state)
{
	const uint64_t length = UINT64_C(100000) * MT_PAGE, size = 4096 * MT_PAGE;
	unsigned int left[3], used[4], pages = (unsigned int)(size / MT_PAGE / 2), i;
	struct dynvhost_mem *mem = mt_create(NULL);
	unsigned int maps = mt_count_maps();
	int fd = mt_memfd(size);
	struct dynvhost_mem_view *view = mt_view(mem, fd, size);
	bool wants_room;
	void *map[64];
	uint8_t *full;

	full = system_use_up_mappings(length);
	if (full == NULL)
		mt_skip("vm.max_map_count is above 100000");
	/* Room for some hundred pages. */
	munmap(full, 1000 * MT_PAGE);
	used[0] = system_use_alternate(view);
	wants_room = dynvhost_mem_wants_room(mem);
	left[0] = system_count_free(map);
	for (i = 1; i < 3; i++) {
		dynvhost_mem_idle_pass(mem);
		used[i] = system_use_alternate(view);
		left[i] = system_count_free(map);
	}
	munmap(full + 1000 * MT_PAGE, length - 1000 * MT_PAGE);
	for (i = 0, used[3] = 0; i < 16 && used[3] < pages; i++) {
		dynvhost_mem_idle_pass(mem);
		used[3] = system_use_alternate(view);
	}

	print_message("%u of %u pages, then %u, %u, with room %u after %u passes\n", used[0], pages,
		used[1], used[2], used[3], i);
	for (i = 0; i < 3; i++)
		assert_int_equal(left[i], 64);
	assert_true(wants_room);
	assert_in_range(used[0], 100, pages - 1);
	assert_in_range(used[2], 100, used[0]);
	assert_int_equal(used[3], pages);
	dynvhost_mem_view_release(view);
	assert_int_equal(mt_count_maps(), maps);
	dynvhost_mem_destroy(mem);
	close(fd);
}

#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locked_memory_does_not_open_pages),
	};
	const struct CMUnitTest of_userfaultfd[] = {
		cmocka_unit_test(opening_takes_no_mapping),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(a_terabyte_connects_in_milliseconds_and_kilobytes),
		cmocka_unit_test(so_it_does_in_a_process_that_locks_its_memory),
		cmocka_unit_test(a_limit_of_locked_memory_is_an_error_and_no_more),
		cmocka_unit_test(more_than_the_address_space_is_refused),
		cmocka_unit_test(a_process_full_of_mappings_can_still_let_go),
	};
	const struct CMUnitTest of_mappings[] = {
		cmocka_unit_test(the_last_mappings_are_not_for_the_guest),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_userfaultfd, 1, MT_UFFD) +
	       mt_run(of_small_pages, sizeof(of_small_pages) / sizeof(of_small_pages[0]),
		       MT_SMALL) +
	       mt_run(of_mappings, 1, MT_LIST(&mt_mmap));
}
