/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The engine of choice: a window maps its file once, and a userfaultfd keeps every page of it
 * closed.
 *
 * A range that is registered for missing and for minor faults has no page-table entries but those
 * that UFFDIO_CONTINUE puts there, and MADV_DONTNEED takes away; a touch of any other page is a
 * SIGBUS (UFFD_FEATURE_SIGBUS), in a system call EFAULT. So opening and closing change page tables
 * and nothing else: no mapping is split, the mapping lock is only shared, and whatever the file has
 * become is reported as an error code.
 *
 * The price: the kernel closes open pages by itself when it moves, swaps or drops the memory behind
 * them, and leaves it to us to put them back (mem_fault.c). And it fails open: a range whose
 * userfaultfd is closed becomes an ordinary mapping. Therefore
 * - the descriptor is known to this file alone, is not inherited by exec, and what a fork inherits
 *   acts on us, not on the child, which has no window either (MADV_DONTFORK);
 * - a window is registered while it has no right, and unmapped before the descriptor is closed;
 * - a window that cannot be shown to be closed when it is made is not used, and one whose
 *   descriptor turns out to be gone later is emptied at once.
 *
 * One descriptor serves all windows of a port: with one for each, the 509 regions of one guest
 * would need more descriptors than a process usually may have.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "mem_priv.h"
#include "mem_reserve.h"
#include "mem_trial.h"

/** Without these, pages of memfds cannot be kept closed. */
#define UFFD_NEEDED (UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM)

/** The same for huge pages. */
#define UFFD_NEEDED_HUGE (UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS)

/** Looks at an answer that says "again" without having done anything. */
#define UFFD_TRIES 16

/** A userfaultfd with exactly @p features, or -errno. */
static int
uffd_open_with(uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	/*
	 * Faults that happen in the kernel are refused either way; giving them up in so many words
	 * makes this a call for everybody (vm.unprivileged_userfaultfd).
	 */
	int fd = dynvhost_mem_sys->userfaultfd(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	int rc;

	if (fd < 0)
		return -errno;
	if (dynvhost_mem_sys->ioctl(fd, UFFDIO_API, &api) == 0)
		return fd;
	rc = -errno;
	dynvhost_mem_sys->close(fd);
	return rc;
}

/** A userfaultfd for memfds, and for huge pages where the kernel has it; or -errno. */
static int
uffd_new(void)
{
	int fd = uffd_open_with(UFFD_NEEDED | UFFD_NEEDED_HUGE);

	return fd == -EINVAL ? uffd_open_with(UFFD_NEEDED) : fd;
}

static int
uffd_join_fence(struct mem_engine_window *window)
{
	struct mem_fence *fence = window->fence;

	if (fence->windows == 0) {
		int fd = uffd_new();

		if (fd < 0)
			return fd;
		atomic_store(&fence->fd, fd);
	}
	fence->windows++;
	window->fenced = true;
	return 0;
}

static void
uffd_release(struct mem_engine_window *window)
{
	struct mem_fence *fence = window->fence;

	/* A window that is still there keeps its guard for ever. */
	if (!mem_reserve_release(window) || !window->fenced)
		return;
	window->fenced = false;
	if (--fence->windows == 0 && fence->fd >= 0)
		dynvhost_mem_sys->close(fence->fd);
}

static struct uffdio_range
uffd_range(const struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	return (struct uffdio_range){
		.start = (uintptr_t)(window->start + offset),
		.len = length,
	};
}

static int
uffd_register(struct mem_engine_window *window)
{
	struct uffdio_register ask = {
		.range = uffd_range(window, 0, window->length),
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
	};

	if (dynvhost_mem_sys->ioctl(window->fence->fd, UFFDIO_REGISTER, &ask) != 0)
		return errno == EINVAL ? -ENOTSUP : -errno;
	return (ask.ioctls & (UINT64_C(1) << _UFFDIO_CONTINUE)) != 0 ? 0 : -ENOTSUP;
}

static int
uffd_close(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	uint8_t *addr = window->start + offset;

	/* The second is for kernels that lack the first (5.18), and refuses locked memory. */
	if (dynvhost_mem_sys->madvise(addr, length, MADV_DONTNEED_LOCKED) == 0 ||
		dynvhost_mem_sys->madvise(addr, length, MADV_DONTNEED) == 0)
		return 0;
	if (errno == EINVAL && dynvhost_mem_sys->munlock(window->start, window->length) == 0 &&
		dynvhost_mem_sys->madvise(addr, length, MADV_DONTNEED) == 0)
		return 0;
	return -EAGAIN;
}

/** See that the window's first page is closed, and that closing works for pages of this file. */
static int
uffd_try_window(struct mem_engine_window *window)
{
	if (dynvhost_mem_sys->loadable(window->start) == 0 || errno != EFAULT)
		return -ENOTSUP;
	return uffd_close(window, 0, window->page_size) == 0 ? 0 : -ENOTSUP;
}

static int
uffd_reserve(struct mem_engine_window *window)
{
	int rc = mem_reserve(window);

	if (rc == 0)
		rc = uffd_join_fence(window);
	if (rc == 0)
		rc = mem_reserve_map(window, 0, window->length);
	if (rc == 0)
		rc = uffd_register(window);
	if (rc == 0)
		rc = mem_reserve_allow(window, 0, window->length);
	if (rc == 0)
		rc = uffd_try_window(window);
	if (rc != 0)
		uffd_release(window);
	return rc;
}

/** We have no hold of the window any more: nothing of the guest may be seen through it. */
static int
uffd_lose_hold(struct mem_engine_window *window)
{
	mem_reserve_cover(window, 0, window->length);
	/* The number may be somebody else's by now. */
	atomic_store(&window->fence->fd, -1);
	return -EOWNERDEAD;
}

/** What an error of UFFDIO_CONTINUE means. */
static int
uffd_judge(struct mem_engine_window *window, int error)
{
	switch (error) {
	case EFAULT: /* a hole, or behind the end of a file on hugetlbfs */
	case EINVAL: /* behind the end of a file on tmpfs */
		return -ENODATA;
	case EBADF:
	case ENOTTY:
	case ENOENT: /* another userfaultfd than ours */
		return uffd_lose_hold(window);
	case EEXIST:
	case ENOMEM:
		return -error;
	default:
		return -EAGAIN;
	}
}

/** Put page-table entries in, for @p done bytes as it turns out. 0 or -errno. */
static int
uffd_continue(struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct uffdio_continue ask = {
		.range = uffd_range(window, offset, length),
		.mode = UFFDIO_CONTINUE_MODE_DONTWAKE, /* nobody waits: faults are signals */
	};

	if (dynvhost_mem_sys->ioctl(window->fence->fd, UFFDIO_CONTINUE, &ask) == 0) {
		*done = length;
		return 0;
	}
	*done = ask.mapped > 0 ? (uint64_t)ask.mapped : 0;
	return -errno;
}

static int
uffd_open(struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *opened)
{
	unsigned int tries = UFFD_TRIES;

	*opened = 0;
	while (*opened < length) {
		uint64_t done;
		int rc = uffd_continue(window, offset + *opened, length - *opened, &done);

		/* Where something is there already, it is this page of the file. */
		*opened += rc == -EEXIST ? window->page_size : done;
		if (rc == 0 || rc == -EEXIST || done > 0)
			continue;
		if ((rc != -EAGAIN && rc != -EINTR) || --tries == 0)
			return uffd_judge(window, -rc);
	}
	return 0;
}

static int
uffd_repair(struct mem_engine_window *window, uint64_t offset)
{
	uint64_t done;
	int rc = uffd_continue(window, offset, window->page_size, &done);

	return rc == 0 ? 0 : uffd_judge(window, -rc);
}

static int
uffd_check(struct mem_engine_window *window)
{
	struct uffdio_range range = uffd_range(window, 0, window->page_size);

	/* Wakes nobody, but must be a userfaultfd that is in use. */
	if (dynvhost_mem_sys->ioctl(window->fence->fd, UFFDIO_WAKE, &range) == 0 ||
		(errno != EBADF && errno != ENOTTY && errno != EINVAL))
		return 0;
	return uffd_lose_hold(window);
}

static int
uffd_probe(char reason[MEM_REASON_SIZE])
{
	return mem_trial(&dynvhost_mem_engine_uffd, reason);
}

const struct mem_engine dynvhost_mem_engine_uffd = {
	.name = "uffd",
	.finds_holes = true,
	.open_call_ns = 500,
	.open_page_ns = 250,
	.probe = uffd_probe,
	.reserve = uffd_reserve,
	.open = uffd_open,
	.close = uffd_close,
	.repair = uffd_repair,
	.check = uffd_check,
	.release = uffd_release,
};
