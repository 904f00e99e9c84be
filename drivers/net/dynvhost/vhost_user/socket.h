/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_SOCKET_H
#define DYNVHOST_SOCKET_H

/**
 * @file
 * Sockets of the control plane: listen, accept, connect, and framed messages over a non-blocking
 * stream with fds. Nothing here knows what a message means. Calls come from the control thread and
 * never block, unless their comment says otherwise.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "message.h"

/** A half message must be whole after this many milliseconds. */
#define DYNVHOST_CONN_DEADLINE_MS 2000
/** Bytes of replies a peer may leave unread. */
#define DYNVHOST_CONN_OUT_MAX 4096
/** fds that one piece of a message can bring along: what the kernel lets a peer send (SCM_MAX_FD). */
#define DYNVHOST_CONN_FDS_MAX 253

/** One connection: at most one message half read, and a bounded number of reply bytes unsent. */
struct dynvhost_conn {
	int fd;                 /**< -1: closed */
	struct dynvhost_msg in; /**< being received */
	uint32_t in_bytes;      /**< received of header and payload */
	bool replies;           /**< what comes are replies of one u64 at most, no requests */
	bool at_end;            /**< the peer sends no more, and nothing is unread */
	uint64_t
		deadline_ms; /**< CLOCK_MONOTONIC ms by which `in` must be whole; UINT64_MAX: none */
	uint32_t out_bytes;
	uint8_t out[DYNVHOST_CONN_OUT_MAX];
	/** Closes fds that may take their time (closer.h); NULL: close(2) will do. */
	void (*close_fd)(void *opaque, int fd);
	void *opaque;
};

/** Put a path into a socket address. @return 0, -EINVAL (empty path) or -ENAMETOOLONG. */
int dynvhost_socket_address(struct sockaddr_un *addr, const char *path);

/** A new stream socket: non-blocking, close-on-exec. @return its fd or -errno. */
int dynvhost_socket_open(void);

/**
 * Listen on a path. A socket file that nobody listens on any more is replaced; anything else at the
 * path is left alone. The file takes its place in one step, with its final mode and group and open
 * for connections; of several that find the same dead listener's file, one gets the path (listen.c).
 * May wait a second for another one that is taking over a path in the same folder. Any thread.
 *
 * @param path   not empty; at most 107 bytes, what a socket address holds.
 * @param mode   permission bits of the socket file, whatever the umask.
 * @param group  group of the socket file, (gid_t)-1 to leave it.
 * @return a non-blocking, close-on-exec listening fd; -EADDRINUSE (somebody listens there, or it is
 *         no socket), -ENAMETOOLONG, -EINVAL (empty path), or the error of the system call.
 */
int dynvhost_socket_listen(const char *path, mode_t mode, gid_t group);

/**
 * Accept one connection.
 * @return a non-blocking, close-on-exec fd, -EAGAIN if nobody waits, or -errno.
 */
int dynvhost_socket_accept(int listen_fd);

/**
 * Begin to connect to a path.
 * @return a non-blocking, close-on-exec fd, -ENOENT or -ECONNREFUSED (nobody there), -EAGAIN
 *         (backlog full), or -errno.
 */
int dynvhost_socket_connect(const char *path);

/** Take over a connected fd. */
void dynvhost_conn_init(struct dynvhost_conn *conn, int fd);

/** Have @p close_fd close what the peer has chosen, and the socket if that may hold more of it. */
void dynvhost_conn_set_close(
	struct dynvhost_conn *conn, void (*close_fd)(void *opaque, int fd), void *opaque);

/** Close the connection and every fd of a half received message. Repeatable. */
void dynvhost_conn_close(struct dynvhost_conn *conn);

/**
 * Receive until one message is whole or nothing more is there; further messages stay in the
 * socket. fds come with the header: further behind they break the connection. After an error only
 * dynvhost_conn_close() makes sense.
 *
 * @param now_ms  CLOCK_MONOTONIC in milliseconds; starts the deadline of a half message.
 * @param msg     receives a whole message, zeroes behind its payload; its fds are the caller's.
 * @return 1: a whole message; 0: none yet; -ECONNRESET: the peer is gone; -EPROTO: broken framing;
 *         -EMFILE: fds were lost (too many sent, or our fd limit reached); -errno.
 */
int dynvhost_conn_recv(struct dynvhost_conn *conn, uint64_t now_ms, struct dynvhost_msg *msg);

/**
 * Queue a message and send as much as the socket takes. Never raises SIGPIPE. A message is queued
 * whole or not at all.
 * @return 0; -ENOBUFS (the peer does not read its replies); -EINVAL (fds, or a size beyond the
 *         payload); -errno (the peer is gone).
 */
int dynvhost_conn_send(struct dynvhost_conn *conn, const struct dynvhost_msg *msg);

/** Send what is queued; to be called when the socket becomes writable. @return 0 or -errno. */
int dynvhost_conn_flush(struct dynvhost_conn *conn);

/** Whether bytes wait for the socket to become writable. */
static inline bool
dynvhost_conn_wants_write(const struct dynvhost_conn *conn)
{
	return conn->out_bytes != 0;
}

#endif /* DYNVHOST_SOCKET_H */
