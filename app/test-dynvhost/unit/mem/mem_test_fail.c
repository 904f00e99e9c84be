/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file A kernel whose calls fail on demand. */

#include <errno.h>
#include <stdlib.h>

#include "mem_test.h"

static struct {
	enum mt_fail_kind kind;
	unsigned int at;
	_Atomic unsigned int calls;
} mt_fail;

/** Count a call that may fail. @return true, with errno set: it fails. */
static bool
mt_fails(int error)
{
	unsigned int call = atomic_fetch_add(&mt_fail.calls, 1) + 1;
	bool fails = (mt_fail.kind == MT_FAIL_ONE && call == mt_fail.at) ||
		     (mt_fail.kind == MT_FAIL_FROM && call >= mt_fail.at);

	if (fails)
		errno = error;
	return fails;
}

static void *
mt_fail_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (mt_fails(ENOMEM))
		return MAP_FAILED;
	return mmap(addr, length, prot, flags, fd, offset);
}

/** Fails once at most: unmapping whole mappings is what a kernel without any memory still does. */
static int
mt_fail_munmap(void *addr, size_t length)
{
	if (mt_fails(ENOMEM) && mt_fail.kind != MT_FAIL_FROM)
		return -1;
	return munmap(addr, length);
}

static int
mt_fail_mprotect(void *addr, size_t length, int prot)
{
	return mt_fails(ENOMEM) ? -1 : mprotect(addr, length, prot);
}

static int
mt_fail_madvise(void *addr, size_t length, int advice)
{
	return mt_fails(EFAULT) ? -1 : madvise(addr, length, advice);
}

static int
mt_fail_mincore(void *addr, size_t length, unsigned char *vec)
{
	return mt_fails(EAGAIN) ? -1 : mincore(addr, length, vec);
}

static int
mt_fail_munlock(const void *addr, size_t length)
{
	return mt_fails(ENOMEM) ? -1 : munlock(addr, length);
}

static int
mt_fail_fstat(int fd, struct stat *st)
{
	return mt_fails(EIO) ? -1 : fstat(fd, st);
}

static int
mt_fail_fstatfs(int fd, struct statfs *fs)
{
	return mt_fails(EIO) ? -1 : fstatfs(fd, fs);
}

static int
mt_fail_fcntl(int fd, int cmd, int arg)
{
	return mt_fails(EPERM) ? -1 : dynvhost_mem_sys_real.fcntl(fd, cmd, arg);
}

static int
mt_fail_fallocate(int fd, int mode, off_t offset, off_t length)
{
	return mt_fails(ENOSPC) ? -1 : dynvhost_mem_sys_real.fallocate(fd, mode, offset, length);
}

static int
mt_fail_writable(int fd)
{
	return mt_fails(EACCES) ? -1 : dynvhost_mem_sys_real.writable(fd);
}

static int
mt_fail_ioctl(int fd, unsigned long request, void *arg)
{
	return mt_fails(ENOMEM) ? -1 : dynvhost_mem_sys_real.ioctl(fd, request, arg);
}

static int
mt_fail_userfaultfd(int flags)
{
	return mt_fails(EMFILE) ? -1 : dynvhost_mem_sys_real.userfaultfd(flags);
}

static int
mt_fail_memfd_create(const char *name, unsigned int flags)
{
	return mt_fails(EMFILE) ? -1 : memfd_create(name, flags);
}

/** The same range as a single mapping: that takes less time. */
static void *
mt_fail_hoard(unsigned int n)
{
	void *map;

	if (mt_fails(ENOMEM))
		return NULL;
	map = mmap(NULL, n * MEM_HOARD_STRIDE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return map == MAP_FAILED ? NULL : map;
}

static int
mt_fail_loadable(const void *addr)
{
	return mt_fails(EPERM) ? -1 : dynvhost_mem_sys_real.loadable(addr);
}

static void *
mt_fail_calloc(size_t n, size_t size)
{
	return mt_fails(ENOMEM) ? NULL : calloc(n, size);
}

static long
mt_fail_get_mempolicy(
	int *mode, unsigned long *nodes, unsigned long max_node, void *addr, unsigned int flags)
{
	if (mt_fails(EFAULT))
		return -1;
	return dynvhost_mem_sys_real.get_mempolicy(mode, nodes, max_node, addr, flags);
}

static long
mt_fail_move_pages(int pid, unsigned long n, void **pages, const int *nodes, int *status, int flags)
{
	if (mt_fails(ENOSYS))
		return -1;
	return dynvhost_mem_sys_real.move_pages(pid, n, pages, nodes, status, flags);
}

static struct mem_sys_ops mt_fail_ops = {
	.mmap = mt_fail_mmap,
	.munmap = mt_fail_munmap,
	.mprotect = mt_fail_mprotect,
	.madvise = mt_fail_madvise,
	.mincore = mt_fail_mincore,
	.munlock = mt_fail_munlock,
	.fstat = mt_fail_fstat,
	.fstatfs = mt_fail_fstatfs,
	.fcntl = mt_fail_fcntl,
	.fallocate = mt_fail_fallocate,
	.writable = mt_fail_writable,
	.ioctl = mt_fail_ioctl,
	.userfaultfd = mt_fail_userfaultfd,
	.memfd_create = mt_fail_memfd_create,
	.hoard = mt_fail_hoard,
	.loadable = mt_fail_loadable,
	.calloc = mt_fail_calloc,
	.get_mempolicy = mt_fail_get_mempolicy,
	.move_pages = mt_fail_move_pages,
};

void
mt_fail_start(enum mt_fail_kind kind, unsigned int at)
{
	mt_fail_ops.close = dynvhost_mem_sys_real.close;
	mt_fail_ops.now_ns = dynvhost_mem_sys_real.now_ns;
	mt_fail_ops.max_map_count = dynvhost_mem_sys_real.max_map_count;
	mt_fail_ops.max_numa_node = dynvhost_mem_sys_real.max_numa_node;
	mt_fail.kind = kind;
	mt_fail.at = at;
	mt_fail.calls = 0;
	dynvhost_mem_sys = &mt_fail_ops;
}

unsigned int
mt_fail_stop(void)
{
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	return mt_fail.calls;
}
