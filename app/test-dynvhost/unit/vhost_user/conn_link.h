/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef TEST_CONN_LINK_H
#define TEST_CONN_LINK_H

/**
 * @file
 * A connection under test, the peer that the test plays, and what every case must end with: the
 * same open fds and no SIGPIPE. To be included behind cmocka.h.
 */

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "open_fds.h"
#include "socket.h"

/** Bytes of a message header on the wire. */
#define HEAD 12u

/** A connection under test and the peer's end of it. */
struct link {
	struct dynvhost_conn conn;
	int peer;
};

static volatile sig_atomic_t sigpipes;

static inline void
count_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

static inline int
set_up(void **state)
{
	sigpipes = 0;
	signal(SIGPIPE, count_sigpipe);
	return count_fds_before(state);
}

static inline int
tear_down(void **state)
{
	if (sigpipes == 0)
		return count_fds_after(state);
	print_error("SIGPIPE was raised\n");
	return -1;
}

static inline void
link_open(struct link *link)
{
	int pair[2];

	/* The end under test blocks by itself: it must not matter. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(&link->conn, 0xa5, sizeof(link->conn));
	dynvhost_conn_init(&link->conn, pair[0]);
	link->peer = pair[1];
}

static inline void
link_close(struct link *link)
{
	dynvhost_conn_close(&link->conn);
	close(link->peer);
}

#endif /* TEST_CONN_LINK_H */
