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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

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

static struct frame
frame(uint32_t id, uint32_t flags, uint32_t size, uint8_t fill)
{
	const uint32_t head[3] = {id, flags, size};
	struct frame f = {.len = HEAD + (size <= LIMIT ? size : 0)};

	memcpy(f.byte, head, HEAD);
	memset(f.byte + HEAD, fill, f.len - HEAD);
	return f;
}

/** Send bytes in one call, with fds if there are any. */
static void
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

static void
peer_send_frame(int peer, const struct frame *f)
{
	peer_send(peer, f->byte, f->len, NULL, 0);
}

/** Bytes that the connection has not read yet. */
static int
unread(const struct link *link)
{
	int bytes;

	assert_int_equal(ioctl(link->conn.fd, FIONREAD, &bytes), 0);
	return bytes;
}

/** Files that can be told apart after their fds have been passed. */
static void
files_open(int *fd, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		fd[i] = memfd_create("test", MFD_CLOEXEC);
		assert_true(fd[i] >= 0);
	}
}

static void
files_close(const int *fd, uint32_t n)
{
	while (n > 0)
		close(fd[--n]);
}

static bool
same_file(int a, int b)
{
	struct stat sa, sb;

	assert_int_equal(fstat(a, &sa), 0);
	assert_int_equal(fstat(b, &sb), 0);
	return sa.st_ino == sb.st_ino;
}

/** The message holds n_fds fds of its own, for these files in this order. Closes them. */
static void
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
static void
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
static void
assert_idle(const struct link *link)
{
	assert_int_equal(link->conn.in_bytes, 0);
	assert_int_equal(link->conn.in.n_fds, 0);
	assert_int_equal(link->conn.deadline_ms, NO_TIMEOUT);
}

static int
receive(struct link *link, struct dynvhost_msg *msg)
{
	return dynvhost_conn_recv(&link->conn, NOW, msg);
}

static void
assert_receives(struct link *link, const struct frame *f)
{
	struct dynvhost_msg msg;

	assert_int_equal(receive(link, &msg), 1);
	assert_message(&msg, f);
	assert_idle(link);
}

/** Receiving fails so, hands out nothing, and keeps neither bytes nor fds. */
static void
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

#define RECV_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RECV_TEST(message_of_every_size_arrives_whole),
		RECV_TEST(message_in_one_byte_writes_arrives_whole),
		RECV_TEST(messages_in_one_write_arrive_one_by_one),
		RECV_TEST(fds_of_the_next_message_stay_with_it),
		RECV_TEST(eight_fds_arrive_in_order),
		RECV_TEST(more_than_eight_fds_break_the_connection),
		RECV_TEST(fds_with_any_part_of_the_header_count),
		RECV_TEST(fds_with_the_payload_break_the_connection),
		RECV_TEST(fds_that_are_not_wanted_are_handed_over),
		RECV_TEST(full_fd_table_breaks_the_connection_and_no_more),
		RECV_TEST(broken_header_is_all_that_is_read),
		RECV_TEST(peer_may_hang_up_after_any_byte),
		RECV_TEST(peer_may_hang_up_with_replies_unread),
		RECV_TEST(deadline_runs_from_the_first_byte_of_a_message),
		RECV_TEST(closing_takes_the_half_message_along),
		RECV_TEST(any_cutting_delivers_the_same_messages),
	};

	return cmocka_run_group_tests_name("vhost_user/conn_recv", tests, NULL, NULL);
}
