/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Trying an engine out.
 *
 * Versions and feature bits say what a kernel means to do. What matters is that a page that nobody
 * has opened cannot be touched, so this is what is looked at: before it is opened, beside one that
 * is open, and after it is closed. Looking is done by the kernel, which has an error code for it
 * instead of a signal.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mem_priv.h"
#include "mem_trial.h"

/** Constants of Linux 4.14 that libc headers may lack. */
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

static bool
trial_is_loadable(const uint8_t *page)
{
	return dynvhost_mem_sys->loadable(page) == 0;
}

/** What is wrong with a window whose first page is a hole and whose second has memory; or NULL. */
static const char *
trial_judge(const struct mem_engine *engine, struct mem_engine_window *window)
{
	uint64_t page_size = window->page_size;
	const uint8_t *hole = window->start, *page = window->start + page_size;
	uint64_t opened;

	if (trial_is_loadable(hole) || trial_is_loadable(page))
		return "pages that nobody has opened can be loaded";
	if (engine->open(window, 0, page_size, &opened) != -ENODATA || trial_is_loadable(hole))
		return "a hole can be opened";
	if (engine->open(window, page_size, page_size, &opened) != 0 || !trial_is_loadable(page))
		return "a page cannot be opened";
	if (trial_is_loadable(hole))
		return "the neighbour of an open page can be loaded";
	if (engine->close(window, page_size, page_size) != 0 || trial_is_loadable(page))
		return "a page cannot be closed";
	return NULL;
}

/**
 * Try one window on a file that trial_judge() can use.
 *
 * @return 0; -ENOTSUP: the engine itself says that it cannot; -EPROTO: it can, but not what it
 *         promises; or another -errno; with the reason.
 */
static int
trial_window(const struct mem_engine *engine, int fd, uint64_t page_size,
	enum dynvhost_mem_right right, char reason[MEM_REASON_SIZE])
{
	struct mem_fence fence = {.fd = -1};
	struct mem_engine_window window = {
		.length = 2 * page_size,
		.page_size = page_size,
		.fd = fd,
		.right = right,
		.fence = &fence,
	};
	const char *flaw;
	int rc = engine->reserve(&window);

	if (rc != 0) {
		snprintf(reason, MEM_REASON_SIZE, "no window of %ju KiB pages can be made: %s",
			(uintmax_t)page_size / 1024, strerror(-rc));
		return rc;
	}
	flaw = trial_judge(engine, &window);
	engine->release(&window);
	if (flaw == NULL)
		return 0;
	snprintf(reason, MEM_REASON_SIZE, "%ju KiB pages: %s", (uintmax_t)page_size / 1024, flaw);
	return -EPROTO;
}

/**
 * Try windows on a file of two pages.
 *
 * @param page_size  receives the size of its pages, 0 if there is no such file to be had.
 */
static int
trial_file(const struct mem_engine *engine, unsigned int flags, uint64_t *page_size,
	char reason[MEM_REASON_SIZE])
{
	struct statfs fs;
	int fd, rc = 0;

	*page_size = 0;
	fd = dynvhost_mem_sys->memfd_create("dynvhost-trial", MFD_CLOEXEC | flags);
	if (fd < 0)
		return 0;
	if (dynvhost_mem_sys->fstatfs(fd, &fs) == 0 &&
		dynvhost_mem_sys->fallocate(fd, 0, fs.f_bsize, fs.f_bsize) == 0) {
		*page_size = (uint64_t)fs.f_bsize;
		rc = trial_window(engine, fd, *page_size, DYNVHOST_MEM_READ, reason);
		if (rc == 0)
			rc = trial_window(engine, fd, *page_size, DYNVHOST_MEM_WRITE, reason);
	}
	dynvhost_mem_sys->close(fd);
	return rc;
}

int
mem_trial(const struct mem_engine *engine, char reason[MEM_REASON_SIZE])
{
	uint64_t page_size, huge_size;
	int rc = trial_file(engine, 0, &page_size, reason);

	if (rc != 0)
		return rc;
	if (page_size == 0) {
		snprintf(reason, MEM_REASON_SIZE, "no memfd can be made to try it");
		return -ENOTSUP;
	}
	rc = trial_file(engine, MFD_HUGETLB, &huge_size, reason);
	if (rc == -ENOTSUP)
		snprintf(reason, MEM_REASON_SIZE,
			"tried here on %ju KiB pages; %ju KiB pages are left to the mmap engine",
			(uintmax_t)page_size / 1024, (uintmax_t)huge_size / 1024);
	else if (rc != 0)
		return rc;
	else if (huge_size == 0)
		snprintf(reason, MEM_REASON_SIZE,
			"tried here on %ju KiB pages; no huge page was free to try",
			(uintmax_t)page_size / 1024);
	else
		snprintf(reason, MEM_REASON_SIZE, "tried here on pages of %ju and %ju KiB",
			(uintmax_t)page_size / 1024, (uintmax_t)huge_size / 1024);
	return 0;
}
