/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef TEST_OPEN_FDS_H
#define TEST_OPEN_FDS_H

/**
 * @file
 * What the process holds open: a count around every test case, and the flags of one fd. To be
 * included behind cmocka.h.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

/** Number of fds the process holds. */
static inline int
open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	/* ".", ".." and the fd of the folder itself */
	return n - 3;
}

static inline bool
is_close_on_exec(int fd)
{
	return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static inline bool
is_non_blocking(int fd)
{
	return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/** cmocka set-up: remember how many fds are open. */
static inline int
count_fds_before(void **state)
{
	*state = (void *)(intptr_t)open_fds();
	return 0;
}

/** cmocka tear-down: fail the case if it has left fds behind, or closed others'. */
static inline int
count_fds_after(void **state)
{
	int before = (int)(intptr_t)*state;
	int after = open_fds();

	if (after == before)
		return 0;
	print_error("%d fds before the test, %d after\n", before, after);
	return -1;
}

#endif /* TEST_OPEN_FDS_H */
