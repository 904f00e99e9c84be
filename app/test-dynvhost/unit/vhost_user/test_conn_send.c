/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Sending messages: the test is a peer that reads late, or not at all, or is gone. Every case ends
 * with as many open fds as it began with, and without a SIGPIPE.
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

#include "conn_link.h"

/** Reply number i: its payload is its number, its id varies. */
static struct dynvhost_msg
reply(uint64_t i)
{
	struct dynvhost_msg request = {.header = {.request = 1 + i % 44}};
	struct dynvhost_msg msg;

	dynvhost_msg_init_reply(&msg, &request, 8);
	msg.payload.u64 = i;
	return msg;
}

/** Read replies from the peer's end, flushing meanwhile: number `from` and the n - 1 after it. */
static void
assert_peer_reads(struct link *link, uint64_t from, uint64_t n)
{
	struct dynvhost_msg expected;
	uint8_t bytes[HEAD + 8];
	uint64_t i;

	for (i = from; i < from + n; i++) {
		expected = reply(i);
		assert_int_equal(dynvhost_conn_flush(&link->conn), 0);
		assert_int_equal(
			recv(link->peer, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
		assert_memory_equal(bytes, &expected.header, HEAD);
		assert_memory_equal(bytes + HEAD, &expected.payload, 8);
	}
	assert_false(dynvhost_conn_wants_write(&link->conn));
	assert_int_equal(recv(link->peer, bytes, 1, MSG_DONTWAIT), -1);
}

/** Send replies to a peer that reads none until one is refused; returns how many were taken. */
static uint64_t
fill(struct link *link)
{
	struct dynvhost_msg msg;
	uint64_t n;
	int ret;

	for (n = 0; n < 1000000; n++) {
		msg = reply(n);
		ret = dynvhost_conn_send(&link->conn, &msg);
		assert_true(link->conn.out_bytes <= DYNVHOST_CONN_OUT_MAX);
		if (ret < 0)
			break;
	}
	assert_int_equal(ret, -ENOBUFS);
	assert_true(link->conn.out_bytes > DYNVHOST_CONN_OUT_MAX - (HEAD + 8));
	assert_true(dynvhost_conn_wants_write(&link->conn));
	assert_int_equal(dynvhost_conn_send(&link->conn, &msg), -ENOBUFS);
	return n;
}

/* H9 */
static void
unread_replies_are_bounded_and_none_is_cut(void **state)
{
	struct dynvhost_msg msg;
	struct link link;
	uint64_t n;

	link_open(&link);
	n = fill(&link);
	assert_peer_reads(&link, 0, n);

	msg = reply(n);
	assert_int_equal(dynvhost_conn_send(&link.conn, &msg), 0);
	assert_false(dynvhost_conn_wants_write(&link.conn));
	assert_peer_reads(&link, n, 1);
	link_close(&link);
}

/** The socket takes a part of what is queued, as it does when its buffer is small. */
static void
queue_that_leaves_piecemeal_keeps_its_order(void **state)
{
	struct link link;
	int least = 1;
	uint64_t n;

	link_open(&link);
	assert_int_equal(setsockopt(link.conn.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
	n = fill(&link);
	assert_peer_reads(&link, 0, n);
	link_close(&link);
}

static void
sending_makes_room_by_itself_when_the_peer_reads_again(void **state)
{
	struct dynvhost_msg msg;
	struct link link;
	uint8_t bytes[HEAD + 8];
	uint64_t n, i;

	link_open(&link);
	n = fill(&link);
	for (i = 0; recv(link.peer, bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(bytes); i++)
		;
	assert_in_range(i, 1, n);
	msg = reply(n);
	assert_int_equal(dynvhost_conn_send(&link.conn, &msg), 0);
	assert_peer_reads(&link, i, n + 1 - i);
	link_close(&link);
}

static void
reply_of_every_size_leaves_whole(void **state)
{
	struct dynvhost_msg request = {.header = {.request = 24}};
	struct dynvhost_msg msg;
	struct link link;
	uint8_t bytes[HEAD + sizeof(msg.payload)];
	uint32_t size;

	link_open(&link);
	for (size = 0; size <= sizeof(msg.payload); size++) {
		dynvhost_msg_init_reply(&msg, &request, size);
		memset(&msg.payload, 0x5a, sizeof(msg.payload));
		assert_int_equal(dynvhost_conn_send(&link.conn, &msg), 0);
		assert_int_equal(recv(link.peer, bytes, sizeof(bytes), 0), HEAD + size);
		assert_memory_equal(bytes, &msg.header, HEAD);
		assert_memory_equal(bytes + HEAD, &msg.payload, size);
	}
	dynvhost_msg_init_reply(&msg, &request, sizeof(msg.payload) + 1);
	assert_int_equal(dynvhost_conn_send(&link.conn, &msg), -EINVAL);
	dynvhost_msg_init_reply(&msg, &request, 8);
	msg.n_fds = 1;
	assert_int_equal(dynvhost_conn_send(&link.conn, &msg), -EINVAL);
	assert_int_equal(recv(link.peer, bytes, 1, MSG_DONTWAIT), -1);
	link_close(&link);
}

/* The tear-down sees that no SIGPIPE came. */
static void
sending_to_a_peer_that_is_gone_is_an_error_alone(void **state)
{
	struct dynvhost_msg msg = reply(0);
	struct link link;

	link_open(&link);
	assert_int_equal(dynvhost_conn_flush(&link.conn), 0);
	fill(&link);
	close(link.peer);
	assert_int_equal(dynvhost_conn_flush(&link.conn), -EPIPE);
	assert_int_equal(dynvhost_conn_send(&link.conn, &msg), -EPIPE);
	dynvhost_conn_close(&link.conn);

	link_open(&link);
	close(link.peer);
	assert_int_equal(dynvhost_conn_send(&link.conn, &msg), -EPIPE);
	dynvhost_conn_close(&link.conn);
}

#define SEND_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SEND_TEST(unread_replies_are_bounded_and_none_is_cut),
		SEND_TEST(queue_that_leaves_piecemeal_keeps_its_order),
		SEND_TEST(sending_makes_room_by_itself_when_the_peer_reads_again),
		SEND_TEST(reply_of_every_size_leaves_whole),
		SEND_TEST(sending_to_a_peer_that_is_gone_is_an_error_alone),
	};

	return cmocka_run_group_tests_name("vhost_user/conn_send", tests, NULL, NULL);
}
