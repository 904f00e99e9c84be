/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "front_end.h"
#include "mock.h"

static struct sockaddr_un
fe_address(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	mock_check(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path) + 1);
	return address;
}

int
fe_listen(const char *path)
{
	struct sockaddr_un address = fe_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	mock_check(fd >= 0);
	mock_check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	mock_check(listen(fd, 8) == 0);
	return fd;
}

void
fe_accept(struct front_end *fe, int listen_fd)
{
	struct pollfd pollfd = {.fd = listen_fd, .events = POLLIN};

	*fe = (struct front_end){.sock = -1};
	if (poll(&pollfd, 1, MOCK_DEADLINE_MS) != 1)
		mock_fail("no back-end connects");
	fe->sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	mock_check(fe->sock >= 0);
}

int
fe_try_connect(struct front_end *fe, const char *path)
{
	struct sockaddr_un address = fe_address(path);
	int error;

	*fe = (struct front_end){.sock = -1};
	fe->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mock_check(fe->sock >= 0);
	if (connect(fe->sock, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	error = -errno;
	fe_close(fe);
	return error;
}

void
fe_connect(struct front_end *fe, const char *path)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;
	int ret;

	while ((ret = fe_try_connect(fe, path)) != 0) {
		if (mock_now_ms() > deadline)
			mock_fail("cannot connect to %s: %s", path, strerror(-ret));
		mock_relax(&looks);
	}
}

void
fe_attach(struct front_end *fe, int sock)
{
	*fe = (struct front_end){.sock = sock};
}

void
fe_close(struct front_end *fe)
{
	if (fe->sock >= 0)
		close(fe->sock);
	fe->sock = -1;
	fe->protocol_features = 0;
}

struct fe_message
fe_make(uint32_t request, uint32_t flags, const void *payload, size_t len)
{
	return (struct fe_message){
		.header = {.request = request, .flags = flags, .size = (uint32_t)len},
		.payload = payload,
		.payload_len = len,
	};
}

/* One sendmsg of at most @p len bytes. @return bytes taken or -errno. */
static ssize_t
fe_send_some(int sock, const void *bytes, size_t len, const int *fd, unsigned int n_fds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(FE_MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (n_fds > 0) {
		struct cmsghdr *cmsg;

		mock_check(n_fds <= FE_MAX_FDS);
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fd, n_fds * sizeof(int));
	}
	sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 ? -errno : sent;
}

int
fe_try_send_bytes(
	struct front_end *fe, const void *bytes, size_t len, const int *fd, unsigned int n_fds)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	const uint8_t *from = bytes;

	while (len > 0) {
		struct pollfd writable = {.fd = fe->sock, .events = POLLOUT};
		ssize_t sent = fe_send_some(fe->sock, from, len, fd, n_fds);

		if (sent > 0) {
			from += sent;
			len -= (size_t)sent;
			n_fds = 0;
			continue;
		}
		if (sent != -EAGAIN && sent != -EINTR)
			return (int)sent;
		if (mock_now_ms() > deadline)
			return -ETIMEDOUT;
		poll(&writable, 1, 10);
	}
	return 0;
}

size_t
fe_encode(const struct fe_message *message, uint8_t *bytes, size_t room)
{
	size_t len = sizeof(message->header) + message->payload_len;

	mock_check(len <= room);
	memcpy(bytes, &message->header, sizeof(message->header));
	if (message->payload_len > 0)
		memcpy(bytes + sizeof(message->header), message->payload, message->payload_len);
	return len;
}

int
fe_try_send(struct front_end *fe, const struct fe_message *message)
{
	uint8_t bytes[8192];
	size_t len = fe_encode(message, bytes, sizeof(bytes));

	return fe_try_send_bytes(fe, bytes, len, message->fd, message->n_fds);
}

static void
fe_note(struct fe_record *record, const struct fe_message *message)
{
	unsigned int n = record->n++;

	mock_check(n < FE_MAX_RECORD && message->n_fds <= VU_MAX_FDS);
	record->message[n].len = (uint32_t)fe_encode(
		message, record->message[n].bytes, sizeof(record->message[n].bytes));
	record->message[n].n_fds = message->n_fds;
	if (message->n_fds > 0)
		memcpy(record->message[n].fd, message->fd, message->n_fds * sizeof(int));
}

size_t
fe_record_bytes(const struct fe_record *record)
{
	size_t bytes = 0;
	unsigned int i;

	for (i = 0; i < record->n; i++)
		bytes += record->message[i].len;
	return bytes;
}

int
fe_replay(struct front_end *fe, const struct fe_record *record, size_t bytes)
{
	unsigned int i;

	for (i = 0; i < record->n && bytes > 0; i++) {
		size_t len = record->message[i].len;
		int ret;

		if (len > bytes)
			len = bytes;
		ret = fe_try_send_bytes(fe, record->message[i].bytes, len, record->message[i].fd,
			record->message[i].n_fds);
		if (ret != 0)
			return ret;
		bytes -= len;
	}
	return 0;
}

void
fe_send(struct front_end *fe, const struct fe_message *message)
{
	int ret;

	if (fe->record != NULL)
		fe_note(fe->record, message);
	ret = fe_try_send(fe, message);
	if (ret != 0)
		mock_fail("cannot send request %u: %s", message->header.request, strerror(-ret));
}

void
fe_send_pieces(struct front_end *fe, const struct fe_message *message, size_t piece)
{
	static const struct timespec pause = {.tv_nsec = 300000};
	uint8_t bytes[1024];
	size_t len = fe_encode(message, bytes, sizeof(bytes));
	size_t at;

	for (at = 0; at < len; at += piece) {
		size_t now = len - at < piece ? len - at : piece;
		int ret = fe_try_send_bytes(
			fe, bytes + at, now, message->fd, at == 0 ? message->n_fds : 0);

		if (ret != 0)
			mock_fail("cannot send byte %zu of request %u: %s", at,
				message->header.request, strerror(-ret));
		nanosleep(&pause, NULL);
	}
}

/* Receive exactly @p len bytes. @return 0, -ETIMEDOUT, or -ECONNRESET. */
static int
fe_recv_bytes(struct front_end *fe, void *bytes, size_t len, uint64_t deadline)
{
	uint8_t *to = bytes;

	while (len > 0) {
		struct pollfd readable = {.fd = fe->sock, .events = POLLIN};
		uint64_t now = mock_now_ms();
		ssize_t got;

		if (poll(&readable, 1, now < deadline ? (int)(deadline - now) : 0) == 0)
			return -ETIMEDOUT;
		got = recv(fe->sock, to, len, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno == ECONNRESET))
			return -ECONNRESET;
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		mock_check(got > 0);
		to += got;
		len -= (size_t)got;
	}
	return 0;
}

int
fe_try_recv(struct front_end *fe, struct fe_reply *reply, unsigned int timeout_ms)
{
	uint64_t deadline = mock_now_ms() + timeout_ms;
	int ret;

	memset(reply, 0, sizeof(*reply));
	ret = fe_recv_bytes(fe, &reply->header, sizeof(reply->header), deadline);
	if (ret != 0)
		return ret;
	if (reply->header.size > sizeof(reply->payload))
		return -EMSGSIZE;
	return fe_recv_bytes(fe, &reply->payload, reply->header.size, deadline);
}

void
fe_expect_reply(struct front_end *fe, uint32_t request, uint32_t size, struct fe_reply *reply)
{
	int ret = fe_try_recv(fe, reply, MOCK_DEADLINE_MS);

	if (ret != 0)
		mock_fail("no reply to request %u: %s", request, strerror(-ret));
	if (reply->header.request != request || reply->header.flags != FE_REPLY_FLAGS ||
		reply->header.size != size)
		mock_fail("reply to request %u, %u bytes, is request %u, flags %#x, %u bytes",
			request, size, reply->header.request, reply->header.flags,
			reply->header.size);
}

uint64_t
fe_expect_u64(struct front_end *fe, uint32_t request)
{
	struct fe_reply reply;

	fe_expect_reply(fe, request, sizeof(uint64_t), &reply);
	return reply.payload.u64;
}

void
fe_expect_closed(struct front_end *fe)
{
	struct fe_reply reply;
	int ret = fe_try_recv(fe, &reply, MOCK_DEADLINE_MS);

	if (ret == 0)
		mock_fail("connection should close, but request %u was answered (flags %#x, %u "
			  "bytes, value %#llx)",
			reply.header.request, reply.header.flags, reply.header.size,
			(unsigned long long)reply.payload.u64);
	if (ret != -ECONNRESET)
		mock_fail("connection should close: %s", strerror(-ret));
	fe_close(fe);
}

void
fe_drain_until_closed(struct front_end *fe, unsigned int timeout_ms)
{
	uint64_t deadline = mock_now_ms() + timeout_ms;
	uint8_t byte;
	int ret;

	do {
		ret = fe_recv_bytes(fe, &byte, 1, deadline);
	} while (ret == 0);
	if (ret != -ECONNRESET)
		mock_fail("connection should close within %u ms", timeout_ms);
	fe_close(fe);
}

void
fe_expect_silence(struct front_end *fe, unsigned int ms)
{
	uint8_t byte;
	int ret = fe_recv_bytes(fe, &byte, 1, mock_now_ms() + ms);

	if (ret == 0)
		mock_fail("back-end sent bytes that nobody asked for");
	if (ret != -ETIMEDOUT)
		mock_fail("connection should stay: %s", strerror(-ret));
}

void
fe_barrier(struct front_end *fe)
{
	(void)fe_get_features(fe);
}

/* Read what must come of a request that was sent with NEED_REPLY. */
static void
fe_judge_answer(struct front_end *fe, uint32_t request, enum fe_want want)
{
	struct fe_reply reply;
	int ret = fe_try_recv(fe, &reply, MOCK_DEADLINE_MS);

	if (ret == -ECONNRESET && want == FE_FAILED) {
		fe_close(fe);
		return;
	}
	if (ret != 0)
		mock_fail("request %u: no acknowledgement: %s", request, strerror(-ret));
	if (reply.header.request != request || reply.header.flags != FE_REPLY_FLAGS ||
		reply.header.size != sizeof(uint64_t))
		mock_fail("request %u: acknowledgement is request %u, flags %#x, %u bytes", request,
			reply.header.request, reply.header.flags, reply.header.size);
	if (want == FE_OK && reply.payload.u64 != 0)
		mock_fail("request %u: should succeed, was refused (%llu)", request,
			(unsigned long long)reply.payload.u64);
	if (want != FE_OK && want != FE_ANSWERED && reply.payload.u64 == 0)
		mock_fail("request %u: should be refused, succeeded", request);
}

void
fe_request(struct front_end *fe, uint32_t request, const void *payload, size_t len, const int *fd,
	unsigned int n_fds, enum fe_want want)
{
	bool acks = (fe->protocol_features & (1ull << VU_PF_REPLY_ACK)) != 0;
	struct fe_message message = fe_make(request, VU_VERSION, payload, len);

	if (want != FE_SEND && want != FE_CLOSED && (want != FE_OK || acks))
		message.header.flags |= VU_FLAG_NEED_REPLY;
	message.fd = fd;
	message.n_fds = n_fds;
	fe_send(fe, &message);

	if (want == FE_CLOSED || want == FE_BROKEN)
		fe_expect_closed(fe);
	else if (want == FE_OK && !acks)
		fe_barrier(fe);
	else if (want != FE_SEND && want != FE_SEND_NR)
		fe_judge_answer(fe, request, want);
}
