/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Address ranges that hold nothing, and the ways in and out of them.
 *
 * A MAP_FIXED that fails may or may not have removed what was there. A gap in a reservation is
 * dangerous: the next mmap() of anybody in the process may land in it, and a window would show
 * memory that is not the guest's. So each failure is looked into, a gap is filled without replacing
 * anything, and where that is not possible the window is dead: nothing opens in it any more, and
 * its range is never unmapped, because part of it may not be ours.
 *
 * The reservation carries no DONTFORK and no DONTDUMP, because it has nothing to hide, and because
 * only alike mappings merge: a page that is closed must not leave a mapping of its own behind.
 */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "mem_priv.h"
#include "mem_reserve.h"

/** Room on either side of a window that nothing is ever mapped into. */
#define RESERVE_GUARD UINT64_C(0x10000)

#define RESERVE_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

int
mem_reserve_probe(char reason[MEM_REASON_SIZE])
{
	size_t length = (size_t)sysconf(_SC_PAGESIZE);
	void *page = dynvhost_mem_sys->mmap(
		NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc = 0;

	snprintf(reason, MEM_REASON_SIZE, "mappings can be populated with an error code");
	if (page == MAP_FAILED) {
		snprintf(reason, MEM_REASON_SIZE, "no memory to try it");
		return -ENOMEM;
	}
	if (dynvhost_mem_sys->madvise(page, length, MADV_POPULATE_READ) != 0 ||
		dynvhost_mem_sys->madvise(page, length, MADV_POPULATE_WRITE) != 0)
		rc = -ENOTSUP;
	if (rc != 0)
		snprintf(reason, MEM_REASON_SIZE,
			"this kernel cannot populate a mapping with an error code "
			"(MADV_POPULATE_READ, Linux 5.14)");
	dynvhost_mem_sys->munmap(page, length);
	return rc;
}

int
mem_reserve(struct mem_engine_window *window)
{
	size_t length = window->length + window->page_size + 2 * RESERVE_GUARD;
	uintptr_t start;
	void *map;

	map = dynvhost_mem_sys->mmap(NULL, length, PROT_NONE, RESERVE_FLAGS, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	start = (uintptr_t)map + RESERVE_GUARD + window->page_size - 1;
	window->start = (uint8_t *)(start & ~(uintptr_t)(window->page_size - 1));
	window->map = map;
	window->map_length = length;
	return 0;
}

bool
mem_reserve_release(struct mem_engine_window *window)
{
	if (window->start == NULL)
		return true;
	window->start = NULL;
	if (atomic_load(&window->dead))
		return false;
	if (dynvhost_mem_sys->munmap(window->map, window->map_length) == 0)
		return true;
	/*
	 * At the limit of mappings the kernel does not cut a piece out of a larger one, into which
	 * a reservation with nothing open may have merged. Were something open, this would empty
	 * it.
	 */
	return dynvhost_mem_sys->mmap(window->map, window->map_length, PROT_NONE,
		       RESERVE_FLAGS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

void
mem_reserve_free(struct mem_engine_window *window)
{
	mem_reserve_release(window);
}

/**
 * After a failed MAP_FIXED: leave no gap.
 *
 * @return -EAGAIN: what was there is still there; 0: nothing can be reached there; -EBUSY:
 * something
 *         is there and nobody can tell what. The window may be dead now.
 */
static int
reserve_mend(struct mem_engine_window *window, void *addr, size_t length)
{
	/* Changes nothing, but says ENOMEM if any of the range is not mapped. */
	if (dynvhost_mem_sys->madvise(addr, length, MADV_NORMAL) == 0 || errno != ENOMEM)
		return -EAGAIN;
	if (dynvhost_mem_sys->mmap(addr, length, PROT_NONE, RESERVE_FLAGS | MAP_FIXED_NOREPLACE, -1,
		    0) != MAP_FAILED)
		return 0;
	atomic_store(&window->dead, true);
	return errno == EEXIST ? -EBUSY : 0;
}

int
mem_reserve_cover(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	uint8_t *addr = window->start + offset;

	if (dynvhost_mem_sys->mmap(addr, length, PROT_NONE, RESERVE_FLAGS | MAP_FIXED, -1, 0) !=
		MAP_FAILED)
		return 0;
	return reserve_mend(window, addr, length);
}

int
mem_reserve_map(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	uint8_t *addr = window->start + offset;
	int rc;

	/*
	 * Without any right at first: a fork() just now copies nothing of use, and a file on
	 * hugetlbfs that has shrunk since it was looked at is not grown, as a writable mmap()
	 * would.
	 */
	if (dynvhost_mem_sys->mmap(addr, length, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		    window->fd, (off_t)(window->file_offset + offset)) == MAP_FAILED) {
		rc = -errno;
		return reserve_mend(window, addr, length) == -EBUSY ? -EBUSY : rc;
	}
	if (dynvhost_mem_sys->madvise(addr, length, MADV_DONTFORK) != 0 ||
		(!window->dump && dynvhost_mem_sys->madvise(addr, length, MADV_DONTDUMP) != 0)) {
		rc = -errno;
		return mem_reserve_cover(window, offset, length) == 0 ? rc : -EBUSY;
	}
	return 0;
}

int
mem_reserve_allow(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	int prot = window->right == DYNVHOST_MEM_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;

	return dynvhost_mem_sys->mprotect(window->start + offset, length, prot) == 0 ? 0 : -errno;
}

int
mem_reserve_populate(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	int advice = window->right == DYNVHOST_MEM_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	return dynvhost_mem_sys->madvise(window->start + offset, length, advice) == 0 ? 0 : -errno;
}

int
mem_reserve_repair(struct mem_engine_window *window, uint64_t offset)
{
	int rc = mem_reserve_populate(window, offset, window->page_size);

	return rc == -EFAULT ? -ENODATA : rc;
}
