/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Guest memory and the rest of the machine: children, core dumps, huge guests, limits. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_test.h"

#define SIZE  (16 * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE
#define TIB   (UINT64_C(1) << 40)

static void
a_child_has_no_guest_memory(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	uint8_t *loads = mt_hva(view, MT_GPA, SIZE, READ);
	uint8_t *stores = mt_hva(view, MT_GPA, SIZE, WRITE);
	uint8_t *closed = view->region[0]->window[READ].base;
	pid_t child;
	int status;

	assert_true(mt_load(loads) >= 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(mt_load(loads) == -1 && mt_load(stores) == -1 && mt_load(closed) == -1 &&
					mt_load(stores + SIZE - 1) == -1
				? 0
				: 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** The VmFlags line of the mapping that holds @p addr. */
static void
system_vm_flags(const void *addr, char flags[512])
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uint64_t first = 0, end = 0, a, b;
	char line[512];

	assert_non_null(smaps);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), smaps) != NULL) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &a, &b) == 2) {
			first = a;
			end = b;
		} else if (strncmp(line, "VmFlags:", 8) == 0 && (uintptr_t)addr >= first &&
			   (uintptr_t)addr < end) {
			strcpy(flags, line + 8);
		}
	}
	fclose(smaps);
}

static void
open_pages_stay_out_of_core_dumps(void **state)
{
	int dump, right;

	for (dump = 0; dump < 2; dump++) {
		struct dynvhost_mem_config config = {.dump = dump != 0};
		struct dynvhost_mem *mem = mt_create(&config);
		int fd = mt_memfd(SIZE);
		struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
		char flags[512];

		for (right = READ; right <= WRITE; right++) {
			system_vm_flags(mt_hva(view, MT_GPA + MT_PAGE, 1, right), flags);
			assert_int_equal(strstr(flags, " dd ") == NULL, dump);
			assert_non_null(strstr(flags, " dc "));
		}
		dynvhost_mem_view_release(view);
		dynvhost_mem_destroy(mem);
		close(fd);
	}
}

static const char system_secret[] = "what the guest alone may know";

/** Have some guest memory open, and die. */
static void
system_dump_core(void *arg)
{
	struct rlimit core;
	const bool *dump = arg;
	struct dynvhost_mem_config config = {.dump = *dump};
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mt_create(&config), fd, SIZE);
	uint64_t i;

	for (i = 0; i < sizeof(system_secret); i++)
		mt_put(fd, MT_PAGE + i, &(char){(char)(system_secret[i] ^ 0x55)}, 1);
	/* So that the words are found in guest memory alone. */
	for (i = 0; i < sizeof(system_secret); i++)
		mt_hva(view, MT_GPA + MT_PAGE, 100, WRITE)[i] ^= 0x11;
	mt_hva(view, MT_GPA + MT_PAGE, 100, READ);
	getrlimit(RLIMIT_CORE, &core);
	core.rlim_cur = core.rlim_max;
	setrlimit(RLIMIT_CORE, &core);
	abort();
}

/** Whether a file contains the secret as it is in guest memory. */
static bool
system_file_tells(const char *path)
{
	uint8_t needle[sizeof(system_secret)];
	bool found = false;
	uint8_t *map;
	struct stat st;
	size_t i;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	for (i = 0; i < sizeof(needle); i++)
		needle[i] = (uint8_t)(system_secret[i] ^ 0x55 ^ 0x11);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	found = memmem(map, (size_t)st.st_size, needle, sizeof(needle)) != NULL;
	/* Children to come must not have it from here. */
	explicit_bzero(needle, sizeof(needle));
	munmap(map, (size_t)st.st_size);
	close(fd);
	return found;
}

/** Whether a core dump lands in the working directory, as a file of this name. */
static bool
system_core_is_a_file(void)
{
	FILE *file = fopen("/proc/sys/kernel/core_pattern", "re");
	char pattern[128] = "";

	assert_non_null(file);
	if (fscanf(file, "%127s", pattern) != 1)
		pattern[0] = '\0';
	fclose(file);
	return strcmp(pattern, "core") == 0;
}

/** Dump core in the working directory. @return 0: no guest memory in it; 1: some; -1: no core. */
static int
system_core_tells(bool dump)
{
	struct mt_end end = mt_child(system_dump_core, &dump);
	int tells;

	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGABRT);
	if (!WCOREDUMP(end.status) || access("core", R_OK) != 0)
		return -1;
	tells = system_file_tells("core");
	assert_int_equal(unlink("core"), 0);
	return tells;
}

static void
a_core_dump_holds_no_byte_of_the_guest(void **state)
{
	char here[PATH_MAX], dir[] = "/tmp/dynvhost-core-XXXXXX";
	int by_default, if_asked_for;

	if (!system_core_is_a_file())
		mt_skip("core dumps go elsewhere (kernel.core_pattern)");
	assert_non_null(getcwd(here, sizeof(here)));
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	by_default = system_core_tells(false);
	if_asked_for = system_core_tells(true);
	assert_int_equal(chdir(here), 0);
	assert_int_equal(rmdir(dir), 0);
	if (by_default < 0 || if_asked_for < 0)
		mt_skip("no file \"core\" is dumped here (RLIMIT_CORE)");
	assert_int_equal(by_default, 0);
	/* The kernel dumps shared memory, unless it is huge pages. */
	assert_int_equal(if_asked_for, MT_PAGE == MT_4K);
}

static void
system_exec_ls(void *arg)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mt_create(NULL), fd, SIZE);

	mt_hva(view, MT_GPA, 1, READ);
	execl("/bin/sh", "sh", "-c", "ls -l /proc/self/fd >&2", NULL);
	_exit(1);
}

static void
a_program_that_is_executed_holds_no_fd_of_ours(void **state)
{
	struct mt_end end = mt_child(system_exec_ls, NULL);

	assert_true(WIFEXITED(end.status));
	assert_int_equal(WEXITSTATUS(end.status), 0);
	assert_non_null(strstr(end.said, "pipe:"));
	if (strstr(end.said, "memfd") != NULL || strstr(end.said, "userfaultfd") != NULL)
		fail_msg("%s", end.said);
}

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
		system_vm_flags(view->region[0]->window[right].base, flags);
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
		cmocka_unit_test(a_child_has_no_guest_memory),
		cmocka_unit_test(open_pages_stay_out_of_core_dumps),
		cmocka_unit_test(a_core_dump_holds_no_byte_of_the_guest),
		cmocka_unit_test(a_program_that_is_executed_holds_no_fd_of_ours),
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
	const struct CMUnitTest of_huge_pages[] = {
		cmocka_unit_test(huge_pages_open_one_by_one),
		cmocka_unit_test(huge_files_are_never_grown),
		cmocka_unit_test(a_huge_file_cut_at_the_last_moment_is_not_grown_either),
		cmocka_unit_test(a_granule_takes_whole_huge_pages),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_userfaultfd, 1, MT_UFFD) +
	       mt_run(of_small_pages, sizeof(of_small_pages) / sizeof(of_small_pages[0]),
		       MT_SMALL) +
	       mt_run(of_mappings, 1, MT_LIST(&mt_mmap)) +
	       mt_run(of_huge_pages, sizeof(of_huge_pages) / sizeof(of_huge_pages[0]), MT_HUGE);
}
