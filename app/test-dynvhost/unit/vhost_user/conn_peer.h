/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef TEST_CONN_PEER_H
#define TEST_CONN_PEER_H

/**
 * @file
 * A peer that sends frames and files, and what becomes of them at the other end. To be included behind
 * cmocka.h.
 */

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn_link.h"

#define LIMIT      268u
#define NOW        1000000u
#define MANY_FDS   253 /**< the most that the kernel passes at once */
#define NO_TIMEOUT UINT64_MAX

/** A message as bytes on the wire. */
struct frame {
	uint8_t byte[HEAD + 512];
	uint32_t len;
};

static inline struct frame
frame(uint32_t id, uint32_t flags, uint32_t size, uint8_t fill)
{
	const uint32_t head[3] = {id, flags, size};
	struct frame f = {.len = HEAD + (size <= LIMIT ? size : 0)};

	memcpy(f.byte, head, HEAD);
	memset(f.byte + HEAD, fill, f.len - HEAD);
	return f;
}

/** Send bytes in one call, with fds if there are any. */
static inline void
peer_send(int peer, const void *bytes, size_t len, const int *fd, uint32_t n_fds)
{
	union {
		struct cmsghdr align;
		uint8_t space[CMSG_SPACE(MANY_FDS * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds != 0) {
		hdr.msg_control = &control;
		hdr.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fd, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(peer, &hdr, MSG_NOSIGNAL), len);
}

static inline void
peer_send_frame(int peer, const struct frame *f)
{
	peer_send(peer, f->byte, f->len, NULL, 0);
}

/** Bytes that the connection has not read yet. */
static inline int
unread(const struct link *link)
{
	int bytes;

	assert_int_equal(ioctl(link->conn.fd, FIONREAD, &bytes), 0);
	return bytes;
}

/** Files that can be told apart after their fds have been passed. */
static inline void
files_open(int *fd, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		fd[i] = memfd_create("test", MFD_CLOEXEC);
		assert_true(fd[i] >= 0);
	}
}

static inline void
files_close(const int *fd, uint32_t n)
{
	while (n > 0)
		close(fd[--n]);
}

static inline bool
same_file(int a, int b)
{
	struct stat sa, sb;

	assert_int_equal(fstat(a, &sa), 0);
	assert_int_equal(fstat(b, &sb), 0);
	return sa.st_ino == sb.st_ino;
}

/** The message holds n_fds fds of its own, for these files in this order. Closes them. */
static inline void
assert_files(struct dynvhost_msg *msg, const int *fd, uint32_t n_fds)
{
	uint32_t i;

	assert_int_equal(msg->n_fds, n_fds);
	for (i = 0; i < n_fds; i++) {
		assert_true(same_file(msg->fd[i], fd[i]));
		assert_int_not_equal(msg->fd[i], fd[i]);
		assert_true(is_close_on_exec(msg->fd[i]));
	}
	for (; i < VU_MAX_FDS; i++)
		assert_int_equal(msg->fd[i], -1);
	dynvhost_msg_close_fds(msg);
}

/** The message is the frame, without fds, and with zeroes behind its payload. */
static inline void
assert_message(const struct dynvhost_msg *msg, const struct frame *f)
{
	struct dynvhost_msg expected;
	uint32_t i;

	memset(&expected, 0, sizeof(expected));
	for (i = 0; i < VU_MAX_FDS; i++)
		expected.fd[i] = -1;
	memcpy(&expected.header, f->byte, HEAD);
	memcpy(&expected.payload, f->byte + HEAD, f->len - HEAD);
	assert_memory_equal(msg, &expected, sizeof(expected));
}

/** The connection is between two messages. */
static inline void
assert_idle(const struct link *link)
{
	assert_int_equal(link->conn.in_bytes, 0);
	assert_int_equal(link->conn.in.n_fds, 0);
	assert_int_equal(link->conn.deadline_ms, NO_TIMEOUT);
}

static inline int
receive(struct link *link, struct dynvhost_msg *msg)
{
	return dynvhost_conn_recv(&link->conn, NOW, msg);
}

static inline void
assert_receives(struct link *link, const struct frame *f)
{
	struct dynvhost_msg msg;

	assert_int_equal(receive(link, &msg), 1);
	assert_message(&msg, f);
	assert_idle(link);
}

/** Receiving fails so, hands out nothing, and keeps neither bytes nor fds. */
static inline void
assert_receive_fails(struct link *link, int error)
{
	struct dynvhost_msg msg, before;
	int fds = open_fds();
	int held = link->conn.in.n_fds;

	memset(&msg, 0xa5, sizeof(msg));
	before = msg;
	assert_int_equal(receive(link, &msg), error);
	assert_memory_equal(&msg, &before, sizeof(msg));
	assert_idle(link);
	assert_int_equal(open_fds(), fds - held);
}

#define RECV_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif /* TEST_CONN_PEER_H */
