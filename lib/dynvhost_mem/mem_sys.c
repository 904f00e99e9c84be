/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Every call that leaves the library. */

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem_priv.h"

/** What Linux sets by itself, for where /proc is not there. */
#define SYS_DEFAULT_MAP_COUNT 65530

static int
sys_fcntl(int fd, int cmd, int arg)
{
	return fcntl(fd, cmd, arg);
}

static int
sys_writable(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS);
}

static int
sys_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg);
}

static int
sys_userfaultfd(int flags)
{
	return (int)syscall(SYS_userfaultfd, flags);
}

static int
sys_memfd_create(const char *name, unsigned int flags)
{
	return memfd_create(name, flags);
}

static void *
sys_hoard(unsigned int n)
{
	const size_t length = n * MEM_HOARD_STRIDE;
	uint8_t *map = mmap(
		NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int rc;
	size_t at;

	if (map == MAP_FAILED)
		return NULL;
	/* None is like its neighbours, and none like the reservations of windows. */
	rc = madvise(map, length, MADV_DONTDUMP);
	for (at = 0; at < length && rc == 0; at += 2 * MEM_HOARD_STRIDE)
		rc = madvise(map + at, MEM_HOARD_STRIDE, MADV_DONTFORK);
	if (rc == 0)
		return map;
	munmap(map, length);
	return NULL;
}

/**
 * Has the kernel read a signal set from there, which it does before it finds that it has nothing to
 * do with it (EINVAL).
 */
static int
sys_loadable(const void *addr)
{
	const int no_such_change = -1;

	if (syscall(SYS_rt_sigprocmask, no_such_change, addr, NULL, sizeof(uint64_t)) == 0 ||
		errno == EINVAL)
		return 0;
	return -1;
}

static uint64_t
sys_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static long
sys_max_map_count(void)
{
	long count = 0;
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

	if (file == NULL)
		return SYS_DEFAULT_MAP_COUNT;
	if (fscanf(file, "%ld", &count) != 1 || count <= 0)
		count = SYS_DEFAULT_MAP_COUNT;
	fclose(file);
	return count;
}

static int
sys_max_numa_node(void)
{
	return numa_available() < 0 ? -1 : numa_max_node();
}

const struct mem_sys_ops dynvhost_mem_sys_real = {
	.mmap = mmap,
	.munmap = munmap,
	.mprotect = mprotect,
	.madvise = madvise,
	.mincore = mincore,
	.munlock = munlock,
	.fstat = fstat,
	.fstatfs = fstatfs,
	.fcntl = sys_fcntl,
	.fallocate = fallocate,
	.writable = sys_writable,
	.close = close,
	.ioctl = sys_ioctl,
	.userfaultfd = sys_userfaultfd,
	.memfd_create = sys_memfd_create,
	.hoard = sys_hoard,
	.loadable = sys_loadable,
	.calloc = calloc,
	.get_mempolicy = get_mempolicy,
	.move_pages = move_pages,
	.max_numa_node = sys_max_numa_node,
	.now_ns = sys_now_ns,
	.max_map_count = sys_max_map_count,
};

const struct mem_sys_ops *dynvhost_mem_sys = &dynvhost_mem_sys_real;
