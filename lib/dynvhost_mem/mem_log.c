/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The dirty log of a front-end: map, unmap, and what becomes of faults in it.
 *
 * Security model: file, offset and size come from the front-end, which keeps the file and can cut or
 * punch it at any moment. So the mapping is treated like a window: what is learnt of the file when
 * it is mapped is what cannot change, and a page that is gone when a bit is set there is replaced by
 * anonymous memory, which ends the port and not the process. Of the content nothing is believed; it
 * is not even read. A log takes address space by its size, and memory only where bits are set.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_priv.h"

/** A mapped log. */
struct mem_log {
	struct dynvhost_mem_log pub; /**< first, so that either pointer gives the other */
	struct mem_mapping mapping;
	atomic_bool lost;
};

/** Why the file does not do, or NULL. */
static const char *
log_judge_file(int fd, uint64_t end, struct stat *st)
{
	int flags = dynvhost_mem_sys->fcntl(fd, F_GETFL, 0);

	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR)
		return "its file is not open for reading and writing";
	/* Where the file allows it, it cannot be cut from here on, and its size is good for ever. */
	dynvhost_mem_sys->fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	if (dynvhost_mem_sys->fstat(fd, st) != 0 || !S_ISREG(st->st_mode))
		return "it is no regular file";
	if (st->st_size < 0 || end > (uint64_t)st->st_size)
		return "its file is shorter than it should be";
	return NULL;
}

/** Judge what the front-end says of its log. @return 0, or -errno with words. */
static int
log_judge(struct dynvhost_mem *mem, int fd, uint64_t offset, uint64_t size)
{
	struct statfs fs;
	struct stat st;
	const char *flaw;

	if (size == 0 || size > UINT64_MAX - offset)
		return mem_fail(mem, -EINVAL,
			"dirty log: %ju bytes at offset %ju are no range of a file",
			(uintmax_t)size, (uintmax_t)offset);
	if (size > DYNVHOST_MEM_LOG_MAX)
		return mem_fail(mem, -E2BIG, "dirty log: %ju bytes are more than %ju",
			(uintmax_t)size, (uintmax_t)DYNVHOST_MEM_LOG_MAX);
	flaw = log_judge_file(fd, offset + size, &st);
	if (flaw != NULL)
		return mem_fail(mem, -EINVAL, "dirty log: %s", flaw);
	if (dynvhost_mem_sys->fstatfs(fd, &fs) != 0 || (uint32_t)fs.f_type != TMPFS_MAGIC)
		return mem_fail(mem, -EPERM, "dirty log: its file is not on tmpfs");
	return 0;
}

/**
 * Map the file's pages without populating them, should the process lock its memory: what is mapped
 * without any right is not populated, and what is unlocked when it becomes writable is not either.
 */
static int
log_map_file(struct mem_log *log, int fd, uint64_t offset)
{
	int rc;

	log->mapping.map = dynvhost_mem_sys->mmap(NULL, log->mapping.map_length, PROT_NONE,
		MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
	if (log->mapping.map == MAP_FAILED)
		return -errno;
	if (dynvhost_mem_sys->madvise(log->mapping.map, log->mapping.map_length, MADV_DONTFORK) ==
			0 &&
		dynvhost_mem_sys->madvise(
			log->mapping.map, log->mapping.map_length, MADV_DONTDUMP) == 0 &&
		dynvhost_mem_sys->munlock(log->mapping.map, log->mapping.map_length) == 0 &&
		dynvhost_mem_sys->mprotect(
			log->mapping.map, log->mapping.map_length, PROT_READ | PROT_WRITE) == 0)
		return 0;
	rc = -errno;
	dynvhost_mem_sys->munmap(log->mapping.map, log->mapping.map_length);
	return rc;
}

/** Turn the whole log into anonymous memory. @return whether that was possible. */
static bool
log_replace_whole(struct mem_log *log)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	/* In this order it is not populated, should the process lock its memory. */
	return dynvhost_mem_sys->mmap(log->mapping.map, log->mapping.map_length, PROT_NONE, flags,
		       -1, 0) != MAP_FAILED &&
	       dynvhost_mem_sys->munlock(log->mapping.map, log->mapping.map_length) == 0 &&
	       dynvhost_mem_sys->mprotect(
		       log->mapping.map, log->mapping.map_length, PROT_READ | PROT_WRITE) == 0;
}

/** Put anonymous memory in the place of a page whose file has been cut short, or has no memory. */
static bool
log_replace(struct mem_mapping *mapping, const struct mem_fault *fault)
{
	struct mem_log *log =
		(struct mem_log *)((uint8_t *)mapping - offsetof(struct mem_log, mapping));
	const uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
	uint8_t *page = log->mapping.map +
			(fault->addr - (uintptr_t)log->mapping.map) / page_size * page_size;

	/* A log without any right is being replaced by another thread. */
	if (fault->signal != SIGBUS)
		return fault->code == SEGV_ACCERR && atomic_load(&log->lost);
	atomic_store(&log->lost, true);
	/* At the limit of mappings a piece cannot be replaced, the whole still can. */
	return dynvhost_mem_sys->mmap(page, page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		       0) != MAP_FAILED ||
	       log_replace_whole(log);
}

int
dynvhost_mem_log_map(struct dynvhost_mem *mem, int fd, uint64_t offset, uint64_t size,
	struct dynvhost_mem_log **log)
{
	const uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t phase = offset % page_size;
	struct mem_log *made;
	int rc;

	rc = log_judge(mem, fd, offset, size);
	if (rc != 0)
		return rc;
	made = dynvhost_mem_sys->calloc(1, sizeof(*made));
	if (made == NULL)
		return mem_fail(mem, -ENOMEM, "dirty log: no memory");
	made->mapping.map_length = (size_t)(phase + size);
	rc = log_map_file(made, fd, offset - phase);
	if (rc != 0)
		goto free_made;
	made->pub.bits = (_Atomic uint8_t *)(made->mapping.map + phase);
	made->pub.n_pages = size * 8;
	made->mapping.treat = log_replace;
	rc = mem_fault_watch_mapping(&made->mapping);
	if (rc != 0)
		goto unmap;
	*log = &made->pub;
	return 0;

unmap:
	dynvhost_mem_sys->munmap(made->mapping.map, made->mapping.map_length);
free_made:
	free(made);
	return mem_fail(mem, rc, "dirty log: it cannot be mapped");
}

static struct mem_log *
log_of(const struct dynvhost_mem_log *pub)
{
	return (struct mem_log *)(uintptr_t)pub;
}

void
dynvhost_mem_log_unmap(struct dynvhost_mem_log *log)
{
	struct mem_log *mine = log_of(log);

	if (log == NULL)
		return;
	mem_fault_forget_mapping(&mine->mapping);
	dynvhost_mem_sys->munmap(mine->mapping.map, mine->mapping.map_length);
	free(mine);
}

bool
dynvhost_mem_log_is_lost(const struct dynvhost_mem_log *log)
{
	return atomic_load(&log_of(log)->lost);
}

uint64_t
dynvhost_mem_log_misses(const struct dynvhost_mem_log *log, const struct dynvhost_mem_view *view)
{
	const uint64_t covered = log->n_pages << DYNVHOST_MEM_LOG_SHIFT;
	uint64_t missed = 0;
	uint32_t i;

	for (i = 0; i < view->n_regions; i++) {
		const struct dynvhost_mem_region *region = view->region[i];

		if (region->gpa >= covered)
			missed += region->size;
		else if (region->size > covered - region->gpa)
			missed += region->size - (covered - region->gpa);
	}
	return missed;
}
