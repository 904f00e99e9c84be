/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The files behind guest memory.
 *
 * Security model: the front-end chooses the file descriptor, may hold the same file open elsewhere,
 * and may shrink, grow or punch it at any moment. What is learnt here is therefore only what cannot
 * change (kind, file system, access mode, seals); the size is asked again before every open. Files
 * whose reads are served by somebody (FUSE, network) could stall a burst and are refused. They could
 * stall the control thread as well: already fstat() may wait for their server. So the first question
 * is one that the kernel answers by itself, whatever the file is.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_priv.h"

/** Why the file system does not do, or NULL; gives the page size that mappings of the file have. */
static const char *
file_judge_fs(const struct dynvhost_mem *mem, int fd, uint64_t *page_size, bool *is_tmpfs)
{
	struct statfs fs;

	if (dynvhost_mem_sys->fstatfs(fd, &fs) != 0)
		return "its file system cannot be asked";
	*page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	*is_tmpfs = (uint32_t)fs.f_type == TMPFS_MAGIC;
	if ((uint32_t)fs.f_type == HUGETLBFS_MAGIC) {
		*page_size = (uint64_t)fs.f_bsize;
		if (*page_size == 0 || (*page_size & (*page_size - 1)) != 0)
			return "its huge page size is no power of two";
		return NULL;
	}
	if (!*is_tmpfs && !mem->config.any_file)
		return "it is on neither tmpfs nor hugetlbfs";
	return NULL;
}

/** Why the descriptor does not do, or NULL. Waits for nobody. */
static const char *
file_judge_fd(int fd)
{
	int flags = dynvhost_mem_sys->fcntl(fd, F_GETFL, 0);

	if (flags < 0)
		return "it is not open";
	if ((flags & O_ACCMODE) != O_RDWR)
		return "it is not open for reading and writing";
	return NULL;
}

/** Whether the kernel alone keeps the file: memfds, and files on tmpfs and hugetlbfs, know seals. */
static bool
file_is_memory(int fd)
{
	return dynvhost_mem_sys->fcntl(fd, F_GET_SEALS, 0) >= 0;
}

/** Why what is behind the descriptor does not do, or NULL. */
static const char *
file_judge_kind(int fd, struct stat *st)
{
	if (dynvhost_mem_sys->fstat(fd, st) != 0)
		return "it cannot be inspected";
	if (!S_ISREG(st->st_mode))
		return "it is not a regular file";
	return NULL;
}

/** Forbid shrinking where the file lets us. @return the seals in force; 0 where there are none. */
static unsigned int
file_seal(int fd)
{
	int seals;

	/*
	 * Refused (EPERM, EINVAL) for files that were not made to be sealed: what counts is the
	 * answer.
	 */
	dynvhost_mem_sys->fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	seals = dynvhost_mem_sys->fcntl(fd, F_GET_SEALS, 0);
	return seals < 0 ? 0 : (unsigned int)seals;
}

static struct mem_file *
file_find(const struct dynvhost_mem *mem, const struct stat *st)
{
	struct mem_file *file;

	for (file = mem->files; file != NULL; file = file->next)
		if (file->dev == st->st_dev && file->ino == st->st_ino)
			return file;
	return NULL;
}

/** A record for a file that passed, without references yet. */
static struct mem_file *
file_new(struct dynvhost_mem *mem, const struct stat *st, int fd)
{
	struct mem_file *file = dynvhost_mem_sys->calloc(1, sizeof(*file));

	if (file == NULL)
		return NULL;
	file->dev = st->st_dev;
	file->ino = st->st_ino;
	file->fd = fd;
	file->next = mem->files;
	mem->files = file;
	return file;
}

int
mem_file_get(struct dynvhost_mem *mem, const struct dynvhost_mem_slot *slot, struct mem_file **file)
{
	unsigned int seals;
	uint64_t page_size;
	const char *flaw;
	struct stat st;
	bool is_tmpfs;

	flaw = file_judge_fd(slot->fd);
	if (flaw == NULL && !mem->config.any_file && !file_is_memory(slot->fd))
		return mem_fail(mem, -EPERM,
			"region at gpa 0x%jx: file refused: it is on neither tmpfs nor hugetlbfs",
			(uintmax_t)slot->gpa);
	if (flaw == NULL)
		flaw = file_judge_kind(slot->fd, &st);
	if (flaw != NULL)
		return mem_fail(mem, -EINVAL, "region at gpa 0x%jx: bad file: %s",
			(uintmax_t)slot->gpa, flaw);
	flaw = file_judge_fs(mem, slot->fd, &page_size, &is_tmpfs);
	if (flaw != NULL)
		return mem_fail(mem, -EPERM, "region at gpa 0x%jx: file refused: %s",
			(uintmax_t)slot->gpa, flaw);
	seals = file_seal(slot->fd);
	if ((seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0)
		return mem_fail(mem, -EINVAL, "region at gpa 0x%jx: file is sealed against writing",
			(uintmax_t)slot->gpa);
	if ((seals & F_SEAL_SHRINK) == 0 && mem->config.require_seal)
		return mem_fail(mem, -EPERM,
			"region at gpa 0x%jx: file can shrink and sealing is required; "
			"let the front-end use a memfd that allows sealing",
			(uintmax_t)slot->gpa);
	/* Asked once more: from here on a sealed file keeps at least this size. */
	if (dynvhost_mem_sys->fstat(slot->fd, &st) != 0)
		return mem_fail(mem, -EINVAL, "region at gpa 0x%jx: file cannot be inspected",
			(uintmax_t)slot->gpa);
	if (st.st_size < 0 || slot->size > (uint64_t)st.st_size ||
		slot->file_offset > (uint64_t)st.st_size - slot->size)
		return mem_fail(mem, -EINVAL,
			"region at gpa 0x%jx: file has %jd bytes, region needs %ju from offset %ju",
			(uintmax_t)slot->gpa, (intmax_t)st.st_size, (uintmax_t)slot->size,
			(uintmax_t)slot->file_offset);

	*file = file_find(mem, &st);
	if (*file == NULL) {
		*file = file_new(mem, &st, slot->fd);
		if (*file == NULL)
			return mem_fail(mem, -ENOMEM, "no memory for a file record");
		(*file)->page_size = page_size;
		(*file)->countable = is_tmpfs && dynvhost_mem_sys->writable(slot->fd) == 0;
	}
	(*file)->refs++;
	return 0;
}

void
mem_file_adopt(struct mem_file *file, int fd)
{
	if (file->fd == fd)
		file->owned = true;
	else /* never the last one */
		dynvhost_mem_sys->close(fd);
}

void
mem_file_put(struct dynvhost_mem *mem, struct mem_file *file)
{
	struct mem_file **link;

	if (--file->refs != 0)
		return;
	for (link = &mem->files; *link != file; link = &(*link)->next)
		;
	*link = file->next;
	if (file->owned && mem->close_fd != NULL)
		mem->close_fd(mem->close_opaque, file->fd);
	else if (file->owned)
		dynvhost_mem_sys->close(file->fd);
	free(file);
}

/** Bytes that came to the file since @p before; other hands may have added some of them. */
static uint64_t
file_growth(const struct mem_file *file, const struct stat *before, uint64_t most)
{
	struct stat after;
	uint64_t grown;

	if (dynvhost_mem_sys->fstat(file->fd, &after) != 0 || after.st_blocks <= before->st_blocks)
		return 0;
	grown = (uint64_t)(after.st_blocks - before->st_blocks) * 512;
	return grown < most ? grown : most;
}

int
mem_file_fill_now(struct dynvhost_mem *mem, const struct mem_file *file, uint64_t offset,
	uint64_t length, bool all_holes)
{
	uint64_t filled = length;
	struct stat before;

	if (!all_holes && dynvhost_mem_sys->fstat(file->fd, &before) != 0)
		return -errno;
	if (dynvhost_mem_sys->fallocate(
		    file->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) != 0) {
		/* A file system without it (tests): the fault that populates fills the hole. */
		if (errno != EOPNOTSUPP)
			return -errno;
	}
	if (!all_holes)
		filled = file_growth(file, &before, length);
	mem_rate_charge(&mem->fills, dynvhost_mem_sys->now_ns(), filled);
	mem_count(&mem->counters.allocations, filled / file->page_size);
	return 0;
}

int
mem_file_fill(struct dynvhost_mem *mem, const struct mem_file *file, uint64_t offset,
	uint64_t length, bool all_holes)
{
	if (!mem_rate_allows(&mem->fills, dynvhost_mem_sys->now_ns(), MEM_FILL_BURST_NS))
		return -EAGAIN;
	return mem_file_fill_now(mem, file, offset, length, all_holes);
}
