/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Receiving framed messages: the test is a peer that cuts, stuffs, overfills, dribbles and hangs
 * up. Every case ends with as many open fds as it began with.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "conn_peer.h"

static void
message_of_every_size_arrives_whole(void **state)
{
	struct frame f;
	struct link link;
	uint32_t size;

	link_open(&link);
	for (size = 0; size <= LIMIT; size++) {
		f = frame(size, 0x1, size, 0xff);
		peer_send_frame(link.peer, &f);
		assert_receives(&link, &f);
	}
	/* Nothing of the long ones shows behind a short one. */
	f = frame(2, 0x9, 8, 0x11);
	peer_send_frame(link.peer, &f);
	assert_receives(&link, &f);
	link_close(&link);
}

/* C2, H2 */
static void
message_in_one_byte_writes_arrives_whole(void **state)
{
	struct frame f = frame(5, 0x9, 264, 0x3c);
	struct dynvhost_msg msg;
	struct link link;
	int fd[2];
	uint32_t i;

	link_open(&link);
	files_open(fd, 2);
	for (i = 0; i < f.len; i++) {
		assert_int_equal(receive(&link, &msg), 0);
		assert_int_equal(link.conn.in_bytes, i);
		peer_send(link.peer, f.byte + i, 1, fd, i == 0 ? 2 : 0);
	}
	assert_int_equal(receive(&link, &msg), 1);
	assert_files(&msg, fd, 2);
	assert_message(&msg, &f);
	assert_idle(&link);
	assert_int_equal(receive(&link, &msg), 0);
	files_close(fd, 2);
	link_close(&link);
}

/* C2 */
static void
messages_in_one_write_arrive_one_by_one(void **state)
{
	struct frame first = frame(2, 0x9, 8, 0x11);
	struct frame second = frame(3, 0x1, 0, 0);
	struct frame third = frame(9, 0x1, 40, 0x22);
	struct dynvhost_msg msg;
	struct link link;
	uint8_t bytes[128];
	uint32_t len = 0, half = third.len - 1;

	link_open(&link);
	memcpy(bytes, first.byte, first.len);
	len += first.len;
	memcpy(bytes + len, second.byte, second.len);
	len += second.len;
	memcpy(bytes + len, third.byte, half);
	peer_send(link.peer, bytes, len + half, NULL, 0);

	assert_receives(&link, &first);
	assert_int_equal(unread(&link), second.len + half);
	assert_receives(&link, &second);
	assert_int_equal(unread(&link), half);
	assert_int_equal(receive(&link, &msg), 0);
	assert_int_equal(link.conn.in_bytes, half);
	peer_send(link.peer, third.byte + half, 1, NULL, 0);
	assert_receives(&link, &third);
	link_close(&link);
}

/* C3, C4, H4, H8: the header is judged before a byte of the payload is read. */
static void
broken_header_is_all_that_is_read(void **state)
{
	static const uint32_t broken[][2] = {{0x0, 8}, {0x2, 8}, {0x3, 8}, {0x5, 8}, {0xd, 8},
		{0x11, 8}, {0x80000001, 8}, {0x1, 269}, {0x1, 4096}, {0x1, 0x7fffffff},
		{0x1, 0x80000000}, {0x1, 0xffffffff}};
	const uint8_t payload[300] = {0};
	struct frame f;
	struct link link;
	uint32_t i;
	int fd[3];

	files_open(fd, 3);
	for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		f = frame(2, broken[i][0], broken[i][1], 0);
		link_open(&link);
		peer_send(link.peer, f.byte, HEAD, fd, 3);
		peer_send(link.peer, payload, sizeof(payload), NULL, 0);
		assert_receive_fails(&link, -EPROTO);
		assert_int_equal(unread(&link), sizeof(payload));
		link_close(&link);
	}
	files_close(fd, 3);
}

/* C12, H1, H36 */
static void
peer_may_hang_up_after_any_byte(void **state)
{
	struct frame f = frame(5, 0x1, 72, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	int fd[2];
	uint32_t n;

	files_open(fd, 2);
	for (n = 0; n <= f.len; n++) {
		link_open(&link);
		if (n > 0)
			peer_send(link.peer, f.byte, n, fd, 2);
		close(link.peer);
		if (n == f.len) {
			assert_int_equal(receive(&link, &msg), 1);
			assert_files(&msg, fd, 2);
			assert_message(&msg, &f);
		}
		assert_receive_fails(&link, -ECONNRESET);
		dynvhost_conn_close(&link.conn);
	}
	files_close(fd, 2);
}

static void
peer_may_hang_up_with_replies_unread(void **state)
{
	struct dynvhost_msg request = {.header = {.request = 1}};
	struct dynvhost_msg reply;
	struct link link;

	link_open(&link);
	dynvhost_msg_init_reply(&reply, &request, 8);
	assert_int_equal(dynvhost_conn_send(&link.conn, &reply), 0);
	close(link.peer);
	assert_receive_fails(&link, -ECONNRESET);
	dynvhost_conn_close(&link.conn);
}

/* H1, H3 */
static void
deadline_runs_from_the_first_byte_of_a_message(void **state)
{
	struct frame f = frame(2, 0x1, 8, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	uint32_t i;

	link_open(&link);
	assert_int_equal(link.conn.deadline_ms, NO_TIMEOUT);
	assert_int_equal(dynvhost_conn_recv(&link.conn, 5000, &msg), 0);
	assert_int_equal(link.conn.deadline_ms, NO_TIMEOUT);

	/* A dribbling peer gains no time. */
	for (i = 0; i < f.len - 1; i++) {
		peer_send(link.peer, f.byte + i, 1, NULL, 0);
		assert_int_equal(dynvhost_conn_recv(&link.conn, 10000 + 100 * i, &msg), 0);
		assert_int_equal(link.conn.deadline_ms, 10000 + DYNVHOST_CONN_DEADLINE_MS);
	}
	/* The last byte of one message and the first of the next, in one write. */
	peer_send(link.peer, (uint8_t[2]){0x11, 2}, 2, NULL, 0);
	assert_int_equal(dynvhost_conn_recv(&link.conn, 11900, &msg), 1);
	assert_int_equal(link.conn.deadline_ms, NO_TIMEOUT);
	assert_int_equal(dynvhost_conn_recv(&link.conn, 11901, &msg), 0);
	assert_int_equal(link.conn.deadline_ms, 11901 + DYNVHOST_CONN_DEADLINE_MS);
	dynvhost_conn_close(&link.conn);
	assert_int_equal(link.conn.deadline_ms, NO_TIMEOUT);
	close(link.peer);
}

static void
closing_takes_the_half_message_along(void **state)
{
	struct frame f = frame(5, 0x1, 264, 0x11);
	struct dynvhost_msg msg;
	struct link link;
	int fd[8];

	files_open(fd, 8);
	link_open(&link);
	peer_send(link.peer, f.byte, f.len - 1, fd, 8);
	assert_int_equal(receive(&link, &msg), 0);
	assert_int_equal(link.conn.in.n_fds, 8);
	dynvhost_conn_close(&link.conn);
	assert_int_equal(link.conn.fd, -1);
	assert_int_equal(link.conn.out_bytes, 0);
	assert_idle(&link);
	assert_int_equal(read(link.peer, &msg, 1), 0);

	dynvhost_conn_close(&link.conn);
	assert_int_equal(receive(&link, &msg), -EBADF);
	assert_int_equal(link.conn.fd, -1);
	close(link.peer);
	files_close(fd, 8);
}

static uint32_t
random_below(uint32_t *seed, uint32_t bound)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed % bound;
}

/** Send a frame cut at random, fds with its first byte, receiving after each piece. */
static void
send_in_pieces(
	struct link *link, const struct frame *f, const int *fd, uint32_t n_fds, uint32_t *seed)
{
	struct dynvhost_msg msg;
	uint32_t at = 0, len;

	for (;;) {
		len = 1 + random_below(seed, f->len - at);
		peer_send(link->peer, f->byte + at, len, fd, at == 0 ? n_fds : 0);
		at += len;
		if (at == f->len)
			return;
		assert_int_equal(receive(link, &msg), 0);
		assert_int_equal(link->conn.in_bytes, at);
	}
}

static void
any_cutting_delivers_the_same_messages(void **state)
{
	uint32_t seed = 20260131, i, n_fds;
	struct dynvhost_msg msg;
	struct frame f;
	struct link link;
	int fd[8];

	link_open(&link);
	files_open(fd, 8);
	for (i = 0; i < 3000; i++) {
		f = frame(random_below(&seed, 60), i % 2 != 0 ? 0x9 : 0x1,
			random_below(&seed, LIMIT + 1), i);
		n_fds = random_below(&seed, 9);
		send_in_pieces(&link, &f, fd, n_fds, &seed);
		assert_int_equal(receive(&link, &msg), 1);
		assert_files(&msg, fd, n_fds);
		assert_message(&msg, &f);
		assert_idle(&link);
	}
	files_close(fd, 8);
	link_close(&link);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RECV_TEST(message_of_every_size_arrives_whole),
		RECV_TEST(message_in_one_byte_writes_arrives_whole),
		RECV_TEST(messages_in_one_write_arrive_one_by_one),
		RECV_TEST(broken_header_is_all_that_is_read),
		RECV_TEST(peer_may_hang_up_after_any_byte),
		RECV_TEST(peer_may_hang_up_with_replies_unread),
		RECV_TEST(deadline_runs_from_the_first_byte_of_a_message),
		RECV_TEST(closing_takes_the_half_message_along),
		RECV_TEST(any_cutting_delivers_the_same_messages),
	};

	return cmocka_run_group_tests_name("vhost_user/conn_recv", tests, NULL, NULL);
}
