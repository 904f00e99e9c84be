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
#include <string.h>
#include <unistd.h>

#include "mem_test.h"

int
mt_memfd(uint64_t size)
{
	int fd = memfd_create("guest", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

int
mt_memfd_huge(uint32_t n_pages)
{
	int fd = memfd_create(
		"guest-huge", MFD_ALLOW_SEALING | MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)(n_pages * MT_2M)) != 0 ||
		fallocate(fd, 0, 0, (off_t)(n_pages * MT_2M)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void
mt_fill(int fd, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;

	for (; offset < end; offset += MT_PAGE)
		assert_int_equal(pwrite(fd, "", 1, (off_t)offset), 1);
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

struct dynvhost_mem_stats
mt_stats(const struct dynvhost_mem *mem)
{
	struct dynvhost_mem_stats stats;

	memset(&stats, 0xff, sizeof(stats));
	dynvhost_mem_stats_get(mem, &stats);
	return stats;
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
		uint64_t first, end, inode;
		char right[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %" SCNu64, &first, &end,
			    right, &inode) != 4 ||
			inode != st.st_ino)
			continue;
		reach.mappings++;
		reach.loadable += right[0] == 'r' ? end - first : 0;
		reach.storable += right[1] == 'w' ? end - first : 0;
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

bool
mt_is_present(const void *addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, sizeof(entry),
				 (off_t)((uintptr_t)addr / MT_PAGE * sizeof(entry))),
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
