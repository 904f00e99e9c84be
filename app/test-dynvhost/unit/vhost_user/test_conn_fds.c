/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Receiving fds with messages: they belong to the message they came with, and whatever is not wanted
 * is closed. Every case ends with as many open fds as it began with.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "conn_peer.h"

static void
fds_of_the_next_message_stay_with_it(void **state)
{
	struct frame first = frame(5, 0x1, 40, 0x11);
	struct frame second = frame(37, 0x1, 40, 0x22);
	struct dynvhost_msg msg;
	struct link link;
	int fd[3];

	link_open(&link);
	files_open(fd, 3);
	peer_send(link.peer, first.byte, first.len, fd, 2);
	peer_send(link.peer, second.byte, second.len, fd + 2, 1);
	assert_int_equal(receive(&link, &msg), 1);
	assert_files(&msg, fd, 2);
	assert_message(&msg, &first);
	assert_int_equal(unread(&link), second.len);
	assert_int_equal(receive(&link, &msg), 1);
	assert_files(&msg, fd + 2, 1);
	assert_message(&msg, &second);
	files_close(fd, 3);
	link_close(&link);
}

static void
eight_fds_arrive_in_order(void **state)
{
	struct frame f = frame(5, 0x1, 264, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	int fd[8];
	uint32_t n;

	link_open(&link);
	files_open(fd, 8);
	for (n = 0; n <= 8; n++) {
		peer_send(link.peer, f.byte, f.len, fd, n);
		assert_int_equal(receive(&link, &msg), 1);
		assert_files(&msg, fd, n);
	}
	files_close(fd, 8);
	link_close(&link);
}

/* C5, H10, H11 */
static void
more_than_eight_fds_break_the_connection(void **state)
{
	static const uint32_t counts[] = {9, 10, 16, MANY_FDS};
	struct frame f = frame(5, 0x1, 264, 0x11);
	struct link link;
	int fd[MANY_FDS];
	uint32_t i;

	files_open(fd, 1);
	for (i = 1; i < MANY_FDS; i++)
		fd[i] = fd[0];
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		link_open(&link);
		peer_send(link.peer, f.byte, f.len, fd, counts[i]);
		assert_receive_fails(&link, -EMFILE);
		link_close(&link);
	}
	files_close(fd, 1);
}

/** Send the header in two parts, each with fds, and the payload. */
static void
send_parted(struct link *link, const struct frame *f, uint32_t cut, const int *fd, uint32_t n[2])
{
	struct dynvhost_msg msg;

	peer_send(link->peer, f->byte, cut, fd, n[0]);
	assert_int_equal(receive(link, &msg), 0);
	assert_int_equal(link->conn.in.n_fds, n[0]);
	peer_send(link->peer, f->byte + cut, f->len - cut, fd + n[0], n[1]);
}

static void
fds_with_any_part_of_the_header_count(void **state)
{
	struct frame f = frame(5, 0x1, 264, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	uint32_t cut, first;
	int fd[9];

	files_open(fd, 9);
	for (cut = 1; cut < HEAD; cut++) {
		for (first = 0; first <= 8; first++) {
			link_open(&link);
			send_parted(&link, &f, cut, fd, (uint32_t[2]){first, 8 - first});
			assert_int_equal(receive(&link, &msg), 1);
			assert_files(&msg, fd, 8);
			assert_message(&msg, &f);
			link_close(&link);

			link_open(&link);
			send_parted(&link, &f, cut, fd, (uint32_t[2]){first, 9 - first});
			assert_receive_fails(&link, -EMFILE);
			link_close(&link);
		}
	}
	files_close(fd, 9);
}

/* H13 */
static void
fds_with_the_payload_break_the_connection(void **state)
{
	struct frame f = frame(2, 0x1, 8, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	uint32_t cut, n;
	int fd[8];

	files_open(fd, 8);
	for (cut = HEAD; cut < f.len; cut++) {
		for (n = 1; n <= 8; n++) {
			link_open(&link);
			peer_send(link.peer, f.byte, cut, fd, 1);
			assert_int_equal(receive(&link, &msg), 0);
			peer_send(link.peer, f.byte + cut, f.len - cut, fd, n);
			assert_receive_fails(&link, -EMFILE);
			link_close(&link);
		}
	}
	files_close(fd, 8);
}

/** fds that the connection has handed over to be closed. */
static struct {
	unsigned int n;
	int fd[64];
} handed_over;

static void
take_over(void *opaque, int fd)
{
	assert_ptr_equal(opaque, &handed_over);
	assert_true(handed_over.n < 64);
	handed_over.fd[handed_over.n++] = fd;
}

static void
close_handed_over(unsigned int n)
{
	assert_int_equal(handed_over.n, n);
	files_close(handed_over.fd, handed_over.n);
	handed_over.n = 0;
}

/** Whatever the peer has chosen, and the socket as long as it may hold more of that. */
static void
fds_that_are_not_wanted_are_handed_over(void **state)
{
	struct frame f = frame(5, 0x1, 264, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	int fd[20];

	files_open(fd, 20);

	/* Too many: all of them, and the socket, in which more may wait. */
	link_open(&link);
	dynvhost_conn_set_close(&link.conn, take_over, &handed_over);
	peer_send(link.peer, f.byte, f.len, fd, 20);
	assert_int_equal(receive(&link, &msg), -EMFILE);
	assert_int_equal(handed_over.n, 20);
	link_close(&link);
	close_handed_over(21);

	/* Half a message, then the end: its fds alone, as nothing is unread. */
	link_open(&link);
	dynvhost_conn_set_close(&link.conn, take_over, &handed_over);
	peer_send(link.peer, f.byte, HEAD, fd, 3);
	assert_int_equal(receive(&link, &msg), 0);
	assert_int_equal(shutdown(link.peer, SHUT_WR), 0);
	assert_int_equal(receive(&link, &msg), -ECONNRESET);
	link_close(&link);
	close_handed_over(3);

	/* A whole message: its fds are the caller's. */
	link_open(&link);
	dynvhost_conn_set_close(&link.conn, take_over, &handed_over);
	peer_send(link.peer, f.byte, f.len, fd, 8);
	assert_int_equal(receive(&link, &msg), 1);
	assert_files(&msg, fd, 8);
	link_close(&link);
	close_handed_over(1);
	files_close(fd, 20);
}

/** Leave room for so many fds more (at most 8); returns the limit to restore. */
static struct rlimit
limit_fds(uint32_t room)
{
	struct rlimit before, tight;
	int fd[9];

	/* Free numbers need not be neighbours: the first one too many is the limit. */
	files_open(fd, room + 1);
	files_close(fd, room + 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = fd[room];
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	return before;
}

/* H12 */
static void
full_fd_table_breaks_the_connection_and_no_more(void **state)
{
	struct frame f = frame(5, 0x1, 264, 0x11);
	struct dynvhost_msg msg;
	struct rlimit before;
	struct link link;
	int fd[4], ret, fds;
	uint32_t room;

	files_open(fd, 4);
	for (room = 0; room <= 4; room++) {
		link_open(&link);
		peer_send(link.peer, f.byte, f.len, fd, 4);
		fds = open_fds();
		before = limit_fds(room);
		ret = receive(&link, &msg);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_int_equal(ret, room < 4 ? -EMFILE : 1);
		if (room == 4)
			assert_files(&msg, fd, 4);
		assert_int_equal(open_fds(), fds);
		assert_idle(&link);
		link_close(&link);
	}
	files_close(fd, 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RECV_TEST(fds_of_the_next_message_stay_with_it),
		RECV_TEST(eight_fds_arrive_in_order),
		RECV_TEST(more_than_eight_fds_break_the_connection),
		RECV_TEST(fds_with_any_part_of_the_header_count),
		RECV_TEST(fds_with_the_payload_break_the_connection),
		RECV_TEST(fds_that_are_not_wanted_are_handed_over),
		RECV_TEST(full_fd_table_breaks_the_connection_and_no_more),
	};

	return cmocka_run_group_tests_name("vhost_user/conn_fds", tests, NULL, NULL);
}
