/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/aio_abi.h>

#include "notify.h"

static aio_context_t notify_context;
static int notify_zero_fd = -1;

bool
dynvhost_is_eventfd(int fd)
{
	static const char kind[] = "anon_inode:[eventfd]";
	char link[64], target[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof(target));
	return n == (ssize_t)sizeof(kind) - 1 && memcmp(target, kind, sizeof(kind) - 1) == 0;
}

void
dynvhost_notify_setup(void)
{
	if (syscall(SYS_io_setup, 1, &notify_context) < 0)
		return;
	notify_zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (notify_zero_fd < 0)
		dynvhost_notify_teardown();
}

void
dynvhost_notify_teardown(void)
{
	if (notify_zero_fd >= 0)
		close(notify_zero_fd);
	notify_zero_fd = -1;
	if (notify_context != 0)
		syscall(SYS_io_destroy, notify_context);
	notify_context = 0;
}

/** Only where AIO is missing: the peer would have to win a race of two system calls to block us. */
static void
notify_by_write(int fd)
{
	struct pollfd pollfd = {.fd = fd, .events = POLLOUT};

	if (!dynvhost_is_eventfd(fd))
		return;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (poll(&pollfd, 1, 0) == 1)
		eventfd_write(fd, 1);
}

void
dynvhost_notify(int fd)
{
	char byte;
	struct iocb read_zero = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)notify_zero_fd,
		.aio_buf = (uintptr_t)&byte,
		.aio_nbytes = sizeof(byte),
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	};
	struct iocb *list = &read_zero;
	struct io_event done;

	if (fd < 0)
		return;
	if (notify_context == 0 || syscall(SYS_io_submit, notify_context, 1, &list) != 1) {
		if (notify_context == 0 || errno == EAGAIN)
			notify_by_write(fd);
		return;
	}
	/* Reads of /dev/zero complete within io_submit; make room for the next one. */
	syscall(SYS_io_getevents, notify_context, 0, 1, &done, NULL);
}
