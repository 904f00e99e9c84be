/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Security model: the peer of a connection may send anything, at any pace, and may stop reading. So
 * a header is judged before a byte of its payload is read, no read goes past the message being
 * received, no more fds are kept than a message may carry, and what waits to be sent is bounded. No
 * call blocks, hence none can be interrupted by a signal. A message that fails leaves neither bytes
 * nor fds behind.
 *
 * All fds that come are received, wanted or not: those left behind the kernel would close in our
 * name, and a peer can make that take its time (closer.h). The same goes for fds that our table has no
 * room for. So a read first looks, which gives us the fds while the socket keeps its own, and then
 * takes; when fds are missing nothing is taken, and they go with the socket.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "socket.h"

int
dynvhost_socket_address(struct sockaddr_un *addr, const char *path)
{
	size_t len = strlen(path);

	/* An empty path would mean a random name in the abstract name space. */
	if (len == 0)
		return -EINVAL;
	if (len >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, len);
	return 0;
}

int
dynvhost_socket_open(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

int
dynvhost_socket_accept(int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int
dynvhost_socket_connect(const char *path)
{
	struct sockaddr_un addr;
	int fd, ret;

	ret = dynvhost_socket_address(&addr, path);
	if (ret < 0)
		return ret;
	fd = dynvhost_socket_open();
	if (fd < 0)
		return fd;
	/* A local stream connects at once or not at all: there is no EINPROGRESS. */
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/** Start on the next message, whose unsent bytes read as zero. The fds have been seen to. */
static void
conn_expect_message(struct dynvhost_conn *conn)
{
	uint32_t i;

	memset(&conn->in, 0, sizeof(conn->in));
	for (i = 0; i < VU_MAX_FDS; i++)
		conn->in.fd[i] = -1;
	conn->in_bytes = 0;
	conn->deadline_ms = UINT64_MAX;
}

void
dynvhost_conn_init(struct dynvhost_conn *conn, int fd)
{
	conn->fd = fd;
	conn->out_bytes = 0;
	conn->replies = false;
	conn->at_end = false;
	conn->close_fd = NULL;
	conn->opaque = NULL;
	conn_expect_message(conn);
}

void
dynvhost_conn_set_close(
	struct dynvhost_conn *conn, void (*close_fd)(void *opaque, int fd), void *opaque)
{
	conn->close_fd = close_fd;
	conn->opaque = opaque;
}

static void
conn_close_fd(struct dynvhost_conn *conn, int fd)
{
	if (conn->close_fd != NULL)
		conn->close_fd(conn->opaque, fd);
	else
		close(fd);
}

/** Close the fds of a half received message. */
static void
conn_drop_fds(struct dynvhost_conn *conn)
{
	for (uint32_t i = 0; i < conn->in.n_fds; i++)
		conn_close_fd(conn, dynvhost_msg_take_fd(&conn->in, i));
	conn->in.n_fds = 0;
}

void
dynvhost_conn_close(struct dynvhost_conn *conn)
{
	conn_drop_fds(conn);
	if (conn->fd >= 0 && conn->at_end)
		close(conn->fd);
	else if (conn->fd >= 0)
		conn_close_fd(conn, conn->fd);
	dynvhost_conn_init(conn, -1);
}

/** fds that came with bytes. */
struct conn_fds {
	int fd[DYNVHOST_CONN_FDS_MAX];
	unsigned int n;
	bool lost; /**< there were more, and our fd table takes no more */
};

/** Receive at most @p len bytes, and what comes with them. @return as recvmsg(2), or -errno. */
static ssize_t
conn_recvmsg(
	const struct dynvhost_conn *conn, void *bytes, size_t len, int flags, struct conn_fds *fds)
{
	union {
		struct cmsghdr align;
		uint8_t space[CMSG_SPACE(sizeof(fds->fd))];
	} control;
	struct iovec iov = {.iov_base = bytes, .iov_len = len};
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(conn->fd, &hdr, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	fds->n = 0;
	fds->lost = false;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr); cmsg != NULL;
		cmsg = CMSG_NXTHDR(&hdr, cmsg)) {
		const size_t bytes_of_fds = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds->fd, CMSG_DATA(cmsg), bytes_of_fds);
		fds->n = (unsigned int)(bytes_of_fds / sizeof(fds->fd[0]));
	}
	fds->lost = (hdr.msg_flags & MSG_CTRUNC) != 0;
	return n;
}

/** Append received fds to a message that may have @p most of them. @return whether all fit. */
static bool
conn_keep_fds(struct dynvhost_conn *conn, const struct conn_fds *fds, uint32_t most)
{
	struct dynvhost_msg *in = &conn->in;
	bool fit = true;

	for (unsigned int i = 0; i < fds->n; i++) {
		if (in->n_fds < most) {
			in->fd[in->n_fds++] = fds->fd[i];
			continue;
		}
		conn_close_fd(conn, fds->fd[i]);
		fit = false;
	}
	return fit;
}

/** Close fds that somebody else holds too. */
static void
conn_close_copies(const struct conn_fds *fds)
{
	for (unsigned int i = 0; i < fds->n; i++)
		close(fds->fd[i]);
}

/**
 * Receive what is there of @p len bytes of a message that may have @p most fds.
 * @return bytes, 0 at the end, -errno; -EMFILE: too many fds, or no room for them.
 */
static ssize_t
conn_receive(struct dynvhost_conn *conn, void *bytes, uint32_t len, uint32_t most)
{
	struct conn_fds seen, taken;
	ssize_t n = conn_recvmsg(conn, bytes, len, MSG_PEEK, &seen);

	if (n < 0)
		return n;
	if (seen.lost) {
		conn_close_copies(&seen);
		return -EMFILE;
	}
	/* No more than was looked at: behind it may be fds that were not. */
	n = conn_recvmsg(conn, bytes, (size_t)n, 0, &taken);
	/* A look goes one message too far: its fds may still be there, as those of the next one. */
	if (taken.n == 0 && !taken.lost) {
		conn_close_copies(&seen);
		return n;
	}
	/* Copies of what was seen, as far as there was room for them. */
	conn_close_copies(&taken);
	return conn_keep_fds(conn, &seen, most) ? n : -EMFILE;
}

static ssize_t
conn_read_header(struct dynvhost_conn *conn)
{
	uint8_t *header = (uint8_t *)&conn->in.header;
	uint32_t done = conn->in_bytes;

	return conn_receive(conn, header + done, sizeof(conn->in.header) - done, VU_MAX_FDS);
}

/** No fds belong to the payload. */
static ssize_t
conn_read_payload(struct dynvhost_conn *conn)
{
	uint8_t *payload = (uint8_t *)&conn->in.payload;
	uint32_t done = conn->in_bytes - sizeof(conn->in.header);

	return conn_receive(conn, payload + done, conn->in.header.size - done, conn->in.n_fds);
}

static bool
conn_header_is_good(const struct dynvhost_conn *conn)
{
	const struct vu_header *header = &conn->in.header;

	if (conn->replies)
		return header->flags == (VU_VERSION | VU_FLAG_REPLY) &&
		       header->size <= sizeof(conn->in.payload.u64);
	return dynvhost_msg_check_header(header) == 0;
}

/** Read once. @return 1: go on; -EAGAIN: nothing there; else as dynvhost_conn_recv(). */
static int
conn_read(struct dynvhost_conn *conn, uint64_t now_ms)
{
	const size_t header_len = sizeof(conn->in.header);
	ssize_t n;

	if (conn->in_bytes < header_len)
		n = conn_read_header(conn);
	else
		n = conn_read_payload(conn);
	if (n < 0)
		return (int)n;
	if (n == 0) {
		conn->at_end = true;
		return -ECONNRESET;
	}

	if (conn->in_bytes == 0)
		conn->deadline_ms = now_ms + DYNVHOST_CONN_DEADLINE_MS;
	conn->in_bytes += n;
	if (conn->in_bytes == header_len && !conn_header_is_good(conn))
		return -EPROTO;
	return 1;
}

int
dynvhost_conn_recv(struct dynvhost_conn *conn, uint64_t now_ms, struct dynvhost_msg *msg)
{
	const struct vu_header *header = &conn->in.header;
	int ret;

	do {
		ret = conn_read(conn, now_ms);
		if (ret == -EAGAIN)
			return 0;
		if (ret < 0) {
			conn_drop_fds(conn);
			conn_expect_message(conn);
			return ret;
		}
	} while (conn->in_bytes < sizeof(*header) ||
		 conn->in_bytes - sizeof(*header) < header->size);

	*msg = conn->in;
	conn_expect_message(conn);
	return 1;
}

int
dynvhost_conn_send(struct dynvhost_conn *conn, const struct dynvhost_msg *msg)
{
	uint32_t head = sizeof(msg->header);
	uint32_t size = msg->header.size;
	int ret;

	if (size > sizeof(msg->payload) || msg->n_fds != 0)
		return -EINVAL;
	if (head + size > sizeof(conn->out) - conn->out_bytes) {
		ret = dynvhost_conn_flush(conn);
		if (ret < 0)
			return ret;
		if (head + size > sizeof(conn->out) - conn->out_bytes)
			return -ENOBUFS;
	}
	memcpy(conn->out + conn->out_bytes, &msg->header, head);
	memcpy(conn->out + conn->out_bytes + head, &msg->payload, size);
	conn->out_bytes += head + size;
	return dynvhost_conn_flush(conn);
}

int
dynvhost_conn_flush(struct dynvhost_conn *conn)
{
	uint32_t sent = 0;
	ssize_t n;
	int ret = 0;

	while (sent < conn->out_bytes) {
		n = send(conn->fd, conn->out + sent, conn->out_bytes - sent,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0) {
			ret = errno == EAGAIN ? 0 : -errno;
			break;
		}
		sent += n;
	}
	memmove(conn->out, conn->out + sent, conn->out_bytes - sent);
	conn->out_bytes -= sent;
	return ret;
}
