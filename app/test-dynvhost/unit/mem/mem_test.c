/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Files, observation from /proc and faults for the tests of guest memory. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_test.h"

const struct mt_kind mt_uffd = {"uffd", DYNVHOST_MEM_MODE_UFFD, MT_4K};
const struct mt_kind mt_uffd_huge = {"uffd_huge", DYNVHOST_MEM_MODE_UFFD, MT_2M};
const struct mt_kind mt_mmap = {"mmap", DYNVHOST_MEM_MODE_MMAP, MT_4K};
const struct mt_kind mt_mmap_huge = {"mmap_huge", DYNVHOST_MEM_MODE_MMAP, MT_2M};
const struct mt_kind *mt_kind = &mt_uffd;

static uint64_t
mt_free_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	uint64_t n = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%" SCNu64, &n) != 1)
		n = 0;
	fclose(file);
	return n;
}

/** Set the kind before a test, and put right what a test that failed may have left. */
static int
mt_begin(void **state)
{
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	mt_kind = *state;
	return 0;
}

static void
mt_no_huge_pages(void **state)
{
	mt_skip("fewer than %d huge pages of 2 MiB are free (vm.nr_hugepages)", MT_HUGE_NEEDED);
}

/** The name of a test on a kind, to be freed. */
static char *
mt_name(const struct mt_kind *kind, const char *test)
{
	char *name = NULL;

	if (asprintf(&name, "%s_on_%s", test, kind->name) < 0)
		abort();
	return name;
}

int
mt_run(const struct CMUnitTest *tests, size_t n_tests, const struct mt_kind *const *kinds,
	size_t n_kinds)
{
	struct CMUnitTest *all = calloc(n_tests * n_kinds, sizeof(*all));
	char **names = calloc(n_tests * n_kinds, sizeof(*names));
	size_t n = 0, i, k;
	int failures;

	if (all == NULL || names == NULL)
		abort();
	for (k = 0; k < n_kinds; k++) {
		bool lacks = kinds[k]->page != MT_4K && mt_free_huge_pages() < MT_HUGE_NEEDED;

		for (i = 0; i < (lacks ? 1 : n_tests); i++) {
			all[n] = tests[i];
			names[n] = mt_name(kinds[k], lacks ? "all" : tests[i].name);
			all[n].name = names[n];
			all[n].setup_func = mt_begin;
			all[n].initial_state = (void *)(uintptr_t)kinds[k];
			if (lacks)
				all[n].test_func = mt_no_huge_pages;
			n++;
		}
	}
	failures = _cmocka_run_group_tests("mem", all, n, NULL, NULL);
	while (n > 0)
		free(names[--n]);
	free(names);
	free(all);
	return failures;
}

bool
mt_is_long(void)
{
	const char *form = getenv("DYNVHOST_TEST_LONG");

	return form != NULL && strcmp(form, "1") == 0;
}

static int
mt_new_file(uint64_t size, unsigned int flags)
{
	unsigned int huge = MT_PAGE == MT_4K ? 0 : MFD_HUGETLB | MFD_HUGE_2MB;
	int fd = memfd_create("guest", MFD_CLOEXEC | flags | huge);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)((size + MT_PAGE - 1) / MT_PAGE * MT_PAGE)), 0);
	if (MT_PAGE == MT_4K)
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

int
mt_memfd(uint64_t size)
{
	return mt_new_file(size, MFD_ALLOW_SEALING);
}

int
mt_memfd_unsealable(uint64_t size)
{
	return mt_new_file(size, 0);
}

/** Map the pages of a file that hold a range. @return the range's first byte. */
static uint8_t *
mt_map(int fd, uint64_t offset, size_t length, void **map, size_t *map_length)
{
	uint64_t phase = offset % MT_2M;

	*map_length = (phase + length + MT_2M - 1) / MT_2M * MT_2M;
	*map = mmap(
		NULL, *map_length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset - phase));
	assert_ptr_not_equal(*map, MAP_FAILED);
	return (uint8_t *)*map + phase;
}

void
mt_put(int fd, uint64_t offset, const void *data, size_t length)
{
	size_t map_length;
	void *map;

	if (MT_PAGE == MT_4K) {
		assert_int_equal(pwrite(fd, data, length, (off_t)offset), length);
		return;
	}
	memcpy(mt_map(fd, offset, length, &map, &map_length), data, length);
	munmap(map, map_length);
}

void
mt_get(int fd, uint64_t offset, void *data, size_t length)
{
	size_t map_length;
	void *map;

	if (MT_PAGE == MT_4K) {
		assert_int_equal(pread(fd, data, length, (off_t)offset), length);
		return;
	}
	memcpy(data, mt_map(fd, offset, length, &map, &map_length), length);
	munmap(map, map_length);
}

void
mt_fill(int fd, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;

	for (; offset < end; offset += MT_PAGE)
		mt_put(fd, offset, "", 1);
}

uint64_t
mt_file_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

struct dynvhost_mem *
mt_create(const struct dynvhost_mem_config *config)
{
	struct dynvhost_mem_config with = {.name = "test"};
	struct dynvhost_mem *mem = NULL;

	if (config != NULL)
		with = *config;
	if (with.mode == DYNVHOST_MEM_MODE_AUTO)
		with.mode = mt_kind->mode;
	assert_int_equal(dynvhost_mem_create(&with, &mem), 0);
	return mem;
}

struct dynvhost_mem_slot
mt_slot(uint64_t gpa, uint64_t size, uint64_t file_offset, int fd)
{
	struct dynvhost_mem_slot slot = {
		.gpa = gpa,
		.size = size,
		.uva = MT_UVA + gpa,
		.file_offset = file_offset,
		.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
	};

	return slot;
}

struct dynvhost_mem_view *
mt_view(struct dynvhost_mem *mem, int fd, uint64_t size)
{
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA, size, 0, fd);
	struct dynvhost_mem_view *view = NULL;

	if (dynvhost_mem_view_build(mem, NULL, &slot, 1, &view) != 0)
		fail_msg("%s", dynvhost_mem_why(mem));
	return view;
}

int
mt_translate(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_span *span)
{
	struct dynvhost_mem_cursor cursor = {.budget = UINT32_MAX};

	return dynvhost_mem_translate(view, &cursor, gpa, len, right, span);
}

uint8_t *
mt_hva(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right)
{
	struct dynvhost_mem_span span = {0};

	assert_int_equal(mt_translate(view, gpa, len, right, &span), 0);
	assert_int_equal(span.len, len);
	return span.hva;
}

uint64_t
mt_close(struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;
	uint64_t closed = 0;
	uint64_t run;

	for (; first < end; first = run + 1) {
		for (run = first; run < end && mem_window_claim_idle(region, right, run); run++)
			;
		if (run > first && mem_window_close_run(region, right, first, run))
			closed += run - first;
	}
	return closed;
}

struct dynvhost_mem_stats
mt_stats(const struct dynvhost_mem *mem)
{
	struct dynvhost_mem_stats stats;

	memset(&stats, 0xff, sizeof(stats));
	dynvhost_mem_stats_get(mem, &stats);
	return stats;
}

/** ioctl PAGEMAP_SCAN, of Linux 6.7. */
struct mt_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct mt_scan_range {
	uint64_t start, end, categories;
};
#define MT_SCAN         _IOWR('f', 16, struct mt_scan)
#define MT_SCAN_PRESENT (UINT64_C(1) << 3)

/** Bytes of pages in [first, end) that have a page-table entry; asks about ranges. -1: cannot. */
static int64_t
mt_scan_present(int fd, uint64_t first, uint64_t end)
{
	struct mt_scan_range range[64];
	struct mt_scan scan = {
		.size = sizeof(scan),
		.start = first,
		.end = end,
		.vec = (uintptr_t)range,
		.vec_len = 64,
		.category_mask = MT_SCAN_PRESENT,
		.return_mask = MT_SCAN_PRESENT,
	};
	int64_t bytes = 0;
	int i, n;

	for (; scan.start < end; scan.start = scan.walk_end) {
		n = ioctl(fd, MT_SCAN, &scan);
		if (n < 0)
			return -1;
		for (i = 0; i < n; i++)
			bytes += (int64_t)(range[i].end - range[i].start);
	}
	return bytes;
}

/** Bytes of pages in [first, end) that have a page-table entry; looks at each. */
static uint64_t
mt_count_present(int fd, uint64_t first, uint64_t end)
{
	static uint64_t entry[1 << 16];
	uint64_t bytes = 0;
	size_t n, i;

	for (; first < end; first += n * MT_4K) {
		n = (end - first) / MT_4K < sizeof(entry) / 8 ? (end - first) / MT_4K
							      : sizeof(entry) / 8;
		assert_int_equal(
			pread(fd, entry, n * 8, (off_t)(first / MT_4K * sizeof(entry[0]))), n * 8);
		for (i = 0; i < n; i++)
			bytes += (entry[i] >> 63) != 0 ? MT_4K : 0;
	}
	return bytes;
}

static uint64_t
mt_present_bytes(uint64_t first, uint64_t end)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int64_t bytes;

	assert_true(fd >= 0);
	bytes = mt_scan_present(fd, first, end);
	if (bytes < 0)
		bytes = (int64_t)mt_count_present(fd, first, end);
	close(fd);
	return (uint64_t)bytes;
}

struct mt_reach
mt_reach(int fd)
{
	struct mt_reach reach = {0};
	char line[512];
	struct stat st;
	FILE *maps;

	assert_int_equal(fstat(fd, &st), 0);
	maps = fopen("/proc/self/maps", "re");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		uint64_t first, end, inode, bytes;
		char right[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %" SCNu64, &first, &end,
			    right, &inode) != 4 ||
			inode != st.st_ino)
			continue;
		reach.mappings++;
		if (right[0] != 'r')
			continue;
		bytes = mt_kind->mode == DYNVHOST_MEM_MODE_UFFD ? mt_present_bytes(first, end)
								: end - first;
		reach.loadable += bytes;
		reach.storable += right[1] == 'w' ? bytes : 0;
	}
	fclose(maps);
	return reach;
}

unsigned int
mt_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
unsigned int
mt_count_maps(void)
{
	return 0;
}
#else
unsigned int
mt_count_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	int c;

	assert_non_null(maps);
	while ((c = fgetc(maps)) != EOF)
		n += c == '\n';
	fclose(maps);
	return n;
}
#endif

void
mt_vm_flags(const void *addr, char flags[512])
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

struct mt_holdings
mt_holdings(void)
{
	return (struct mt_holdings){mt_count_fds(), mt_count_maps()};
}

void
mt_expect_holdings(struct mt_holdings before)
{
	assert_int_equal(mt_count_fds(), before.fds);
	assert_int_equal(mt_count_maps(), before.maps);
}

bool
mt_is_present(const void *addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(
		pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)addr / MT_4K * sizeof(entry))),
		sizeof(entry));
	close(fd);
	return (entry >> 63) != 0;
}

static sigjmp_buf mt_fault_jump;

static void
mt_on_fault(int sig)
{
	siglongjmp(mt_fault_jump, sig);
}

static void
mt_catch(struct sigaction *segv, struct sigaction *bus)
{
	struct sigaction action = {.sa_handler = mt_on_fault};

	sigaction(SIGSEGV, &action, segv);
	sigaction(SIGBUS, &action, bus);
}

int
mt_load(const volatile uint8_t *addr)
{
	struct sigaction segv, bus;
	volatile int byte = -1;

	mt_catch(&segv, &bus);
	if (sigsetjmp(mt_fault_jump, 1) == 0)
		byte = *addr;
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return byte;
}

int
mt_store(volatile uint8_t *addr, uint8_t byte)
{
	struct sigaction segv, bus;
	volatile int rc = -1;

	mt_catch(&segv, &bus);
	if (sigsetjmp(mt_fault_jump, 1) == 0) {
		*addr = byte;
		rc = byte;
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return rc;
}

struct mt_end
mt_child(void (*body)(void *arg), void *arg)
{
	struct mt_end end = {.status = -1};
	size_t n = 0;
	ssize_t got;
	int pipe_fd[2];
	pid_t child;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit core;

		getrlimit(RLIMIT_CORE, &core);
		core.rlim_cur = 0;
		setrlimit(RLIMIT_CORE, &core);
		dup2(pipe_fd[1], STDERR_FILENO);
		dup2(pipe_fd[1], STDOUT_FILENO);
		close(pipe_fd[1]);
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		/* What the test framework would do about signals is not for here. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		alarm(60);
		body(arg);
		_exit(0);
	}
	close(pipe_fd[1]);
	while (n < sizeof(end.said) - 1 &&
		(got = read(pipe_fd[0], end.said + n, sizeof(end.said) - 1 - n)) > 0)
		n += (size_t)got;
	close(pipe_fd[0]);
	assert_int_equal(waitpid(child, &end.status, 0), child);
	return end;
}
