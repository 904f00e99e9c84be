/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * One port's end of the control plane: its sockets, its session, and what it may log.
 *
 * Security model: the peers of the sockets are not trusted. Everything here is bounded per port:
 * one connection, one half message with a deadline, a fixed buffer of replies, a fixed number of
 * requests per round, and a budget of log lines. A port that waits waits alone.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <rte_common.h>

#include "../dynvhost_log.h"
#include "backend.h"

/** Requests of one port served before the next port's turn. */
#define BACKEND_REQUESTS_PER_ROUND 32
/** How soon a port that waits for a gate is looked at again: at first, and in the long run. */
#define BACKEND_PARKED_US      50
#define BACKEND_PARKED_SLOW_US 1000
/** A front-end's fd that has not closed by then is worth a line in the log. */
#define BACKEND_CLOSING_US 1000000
/**
 * Requests of one port: so many at once, then so many in a second. A start with all queues and memory
 * slots there can be takes less. Most requests interrupt every lcore of the process for a moment.
 */
#define BACKEND_REQUEST_BURST 4096
#define BACKEND_REQUEST_RATE  20000

bool
backend_may_log(struct dynvhost_backend *backend, uint64_t now_us)
{
	return dynvhost_session_may_log(&backend->session, now_us);
}

int
backend_watch(struct dynvhost_backend *backend, int op, int fd, uint32_t events,
	struct control_source *source)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	return epoll_ctl(backend->epoll_fd, op, fd, &event) == 0 ? 0 : -errno;
}

/** Give a port the requests it has earned. */
static void
backend_earn(struct dynvhost_backend *backend, uint64_t now_us)
{
	uint64_t earned = (now_us - backend->request_refill_us) * BACKEND_REQUEST_RATE / 1000000;

	if (earned == 0)
		return;
	backend->request_tokens = (uint32_t)RTE_MIN(
		backend->request_tokens + earned, (uint64_t)BACKEND_REQUEST_BURST);
	backend->request_refill_us = now_us;
}

/** Whether a request may be read: none waits for a gate, and nothing of the last one to be closed. */
static bool
backend_may_read(const struct dynvhost_backend *backend)
{
	return !dynvhost_session_is_parked(&backend->session) && backend->closing_since_us == 0 &&
	       backend->request_tokens > 0;
}

/** Watch the connection for what the session and the socket wait for. */
static void
backend_watch_conn(struct dynvhost_backend *backend)
{
	uint32_t events = 0;

	if (backend->conn.fd < 0)
		return;
	if (backend_may_read(backend))
		events |= EPOLLIN;
	if (dynvhost_conn_wants_write(&backend->conn))
		events |= EPOLLOUT;
	if (events == backend->conn_events)
		return;
	backend->conn_events = events;
	backend_watch(backend, EPOLL_CTL_MOD, backend->conn.fd, events, &backend->conn_source);
}

/** End the connection, if there is one; the session may still wait for a gate afterwards. */
static void
backend_disconnect(struct dynvhost_backend *backend, uint64_t now_us, const char *why)
{
	if (backend->conn.fd < 0)
		return;
	dynvhost_session_note(&backend->session, "disconnected: %s", why);
	if (backend_may_log(backend, now_us))
		DYNVHOST_LOG(proto, INFO, backend_name(backend), "front-end disconnected: %s", why);
	/* Closing alone ends no events while a forked child holds the socket too. */
	backend_watch(backend, EPOLL_CTL_DEL, backend->conn.fd, 0, NULL);
	dynvhost_conn_close(&backend->conn);
	backend->reply_waits = false;
	backend_meet_lost(backend, now_us);
	dynvhost_session_close(&backend->session, now_us);
}

void
backend_drop_gone(struct dynvhost_backend *backend, uint64_t now_us)
{
	struct pollfd pollfd = {.fd = backend->conn.fd};

	if (backend->conn.fd >= 0 && poll(&pollfd, 1, 0) == 1)
		backend_disconnect(backend, now_us, "it closed the socket");
}

static void
backend_close_fd(void *opaque, int fd)
{
	struct dynvhost_backend *backend = opaque;

	dynvhost_closer_add(&backend->closer, fd);
}

int
backend_take_conn(struct dynvhost_backend *backend, int fd, uint64_t now_us)
{
	int rc = backend_watch(backend, EPOLL_CTL_ADD, fd, EPOLLIN, &backend->conn_source);

	if (rc < 0) {
		dynvhost_closer_add(&backend->closer, fd);
		return rc;
	}
	backend->connected_since_us = now_us;
	backend->conn_events = EPOLLIN;
	dynvhost_conn_init(&backend->conn, fd);
	dynvhost_conn_set_close(&backend->conn, backend_close_fd, backend);
	dynvhost_session_open(&backend->session);
	dynvhost_session_note(&backend->session, "connected");
	if (backend_may_log(backend, now_us))
		DYNVHOST_LOG(proto, INFO, backend_name(backend), "front-end connected");
	return 0;
}

static bool
backend_send(struct dynvhost_backend *backend, const struct dynvhost_msg *reply, uint64_t now_us)
{
	int rc = dynvhost_conn_send(&backend->conn, reply);

	if (rc < 0)
		backend_disconnect(backend, now_us,
			rc == -ENOBUFS ? "it does not read its replies" : strerror(-rc));
	return rc == 0;
}

/** Do what a fed session asks for. @return whether more requests may be read. */
static bool
backend_after_request(struct dynvhost_backend *backend, enum dynvhost_session_result result,
	const struct dynvhost_msg *reply, bool has_reply, uint64_t now_us)
{
	if (result == DYNVHOST_SESSION_CLOSE) {
		backend_disconnect(backend, now_us, "it broke the protocol");
		return false;
	}
	/* The answer says that all is done, and that is when nothing of the request is left. */
	if (!dynvhost_closer_is_idle(&backend->closer)) {
		backend->reply_waits = has_reply;
		if (has_reply)
			backend->reply = *reply;
		return false;
	}
	if (has_reply && !backend_send(backend, reply, now_us))
		return false;
	return result == DYNVHOST_SESSION_DONE;
}

/** See to what front-ends have left to be closed, and to what waits for that. */
static void
backend_look_after_closing(struct dynvhost_backend *backend, uint64_t now_us)
{
	if (dynvhost_closer_is_idle(&backend->closer)) {
		backend->closing_since_us = 0;
		backend->closing_told = false;
		if (backend->reply_waits)
			backend_send(backend, &backend->reply, now_us);
		backend->reply_waits = false;
		return;
	}
	if (backend->closing_since_us == 0)
		backend->closing_since_us = now_us;
	if (backend->closing_told || now_us - backend->closing_since_us < BACKEND_CLOSING_US)
		return;
	backend->closing_told = true;
	if (backend_may_log(backend, now_us))
		DYNVHOST_LOG(proto, WARNING, backend_name(backend),
			"an fd that a front-end has sent does not close, or its memory takes long "
			"to "
			"be freed; the port waits for it");
}

static void
backend_receive(struct dynvhost_backend *backend, uint64_t now_us)
{
	enum dynvhost_session_result result;
	struct dynvhost_msg msg, reply;
	bool has_reply;
	int rc;

	for (int i = 0; i < BACKEND_REQUESTS_PER_ROUND && backend->request_tokens > 0; i++) {
		rc = dynvhost_conn_recv(&backend->conn, now_us / 1000, &msg);
		if (rc == 0)
			return;
		if (rc < 0) {
			backend_disconnect(backend, now_us,
				rc == -ECONNRESET ? "it closed the socket"
				: rc == -EMFILE   ? "fds were lost: too many sent, or too few "
						    "allowed (raise the limit of open files)"
						  : strerror(-rc));
			return;
		}
		backend->request_tokens--;
		result = dynvhost_session_handle(
			&backend->session, &msg, now_us, &reply, &has_reply);
		if (!backend_after_request(backend, result, &reply, has_reply, now_us))
			return;
	}
}

void
backend_conn_event(struct dynvhost_backend *backend, uint32_t events, uint64_t now_us)
{
	int rc;

	if (backend->conn.fd < 0)
		return;
	if (events & EPOLLOUT) {
		rc = dynvhost_conn_flush(&backend->conn);
		if (rc < 0) {
			backend_disconnect(backend, now_us, strerror(-rc));
			return;
		}
	}
	if (!backend_may_read(backend)) {
		if (events & (EPOLLHUP | EPOLLERR))
			backend_disconnect(backend, now_us, "it closed the socket");
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		backend_receive(backend, now_us);
}

/** Let a parked session go on if its queues have come out. */
static void
backend_resume(struct dynvhost_backend *backend, uint64_t now_us)
{
	enum dynvhost_session_result result;
	struct dynvhost_msg reply;
	bool has_reply;

	if (!dynvhost_session_is_parked(&backend->session))
		return;
	result = dynvhost_session_resume(&backend->session, now_us, &reply, &has_reply);
	if (backend->conn.fd >= 0)
		backend_after_request(backend, result, &reply, has_reply, now_us);
}

/** Finish a dying back-end once nothing of its connection is left; no event can point to it then. */
static void
backend_end(struct dynvhost_backend *backend)
{
	if (backend->dead || dynvhost_session_is_parked(&backend->session))
		return;
	backend_meet_end(backend);
	backend->dead = true;
}

void
backend_look_after(struct dynvhost_backend *backend, uint64_t now_us)
{
	backend_resume(backend, now_us);
	if (backend->conn.fd >= 0 && now_us / 1000 >= backend->conn.deadline_ms)
		backend_disconnect(backend, now_us, "it sent half a message and stalled");
	if (backend->dying) {
		backend_disconnect(backend, now_us, "the port is being removed");
		backend_end(backend);
		return;
	}
	if (dynvhost_session_tick(&backend->session, now_us) == DYNVHOST_SESSION_CLOSE)
		backend_disconnect(backend, now_us, "it held up an lcore");
	if (dynvhost_session_has_lost_memory(&backend->session))
		backend_disconnect(backend, now_us, "its memory was cut off while in use");
	backend_earn(backend, now_us);
	backend_look_after_closing(backend, now_us);
	backend_meet_look(backend, now_us);
	backend_watch_conn(backend);
}

uint64_t
backend_next_look(const struct dynvhost_backend *backend, uint64_t now_us)
{
	uint64_t wait = backend_meet_next_look(backend, now_us);

	if (dynvhost_session_is_parked(&backend->session))
		return now_us - backend->session.held_since_us < BACKEND_TICK_US
			       ? BACKEND_PARKED_US
			       : BACKEND_PARKED_SLOW_US;
	if (backend->conn.fd >= 0 && backend->request_tokens == 0)
		return BACKEND_PARKED_SLOW_US;
	if (backend->closing_since_us != 0)
		wait = RTE_MIN(wait, now_us - backend->closing_since_us < BACKEND_TICK_US
					     ? (uint64_t)BACKEND_PARKED_US
					     : (uint64_t)BACKEND_TICK_US);
	if (backend->conn.fd >= 0)
		wait = RTE_MIN(wait, (uint64_t)BACKEND_TICK_US);
	if (backend->conn.fd >= 0)
		wait = RTE_MIN(wait, dynvhost_session_next_idle(&backend->session, now_us));
	if (backend->conn.fd >= 0)
		wait = RTE_MIN(wait, dynvhost_session_next_watch(&backend->session, now_us));
	if (backend->conn.fd >= 0)
		wait = RTE_MIN(wait, dynvhost_session_next_reply(&backend->session, now_us));
	return wait;
}

void
backend_log_link(struct dynvhost_backend *backend, bool up, uint64_t now_us)
{
	struct dynvhost_session_info info;

	if (!backend_may_log(backend, now_us))
		return;
	if (!up) {
		DYNVHOST_LOG(proto, INFO, backend_name(backend), "link down");
		return;
	}
	dynvhost_session_info(&backend->session, &info);
	DYNVHOST_LOG(proto, INFO, backend_name(backend),
		"link up: %u rings, features 0x%" PRIx64 ", guest memory %" PRIu64
		" MiB in %u regions, opened on demand (%s)",
		info.rings_started, info.features, info.guest_bytes >> 20, info.n_regions,
		dynvhost_mem_engine_name(backend->session.config.mem));
}

int
backend_make(const struct dynvhost_backend_config *config, struct dynvhost_backend **made)
{
	struct dynvhost_backend *backend = calloc(1, sizeof(*backend));
	int rc = -ENOMEM;

	if (backend == NULL)
		return -ENOMEM;
	backend->path = strdup(config->path);
	if (backend->path == NULL)
		goto free_backend;
	rc = dynvhost_session_init(&backend->session, &config->session);
	if (rc < 0)
		goto free_path;
	backend->session.config.closer = &backend->closer;
	backend->conn.fd = -1;
	rc = backend_meet_open(backend, config);
	if (rc < 0)
		goto fini_session;
	backend->ops = config->ops;
	backend->opaque = config->opaque;
	backend->request_tokens = BACKEND_REQUEST_BURST;
	backend->listen_source.kind = CONTROL_LISTEN;
	backend->listen_source.backend = backend;
	backend->conn_source.kind = CONTROL_CONN;
	backend->conn_source.backend = backend;
	dynvhost_mem_set_close(config->session.mem, backend_close_fd, backend);
	*made = backend;
	return 0;

fini_session:
	dynvhost_session_fini(&backend->session);
free_path:
	free(backend->path);
free_backend:
	free(backend);
	return rc;
}

void
backend_free(struct dynvhost_backend *backend, bool patient)
{
	dynvhost_mem_set_close(backend->session.config.mem, NULL, NULL);
	backend_meet_close(backend);
	dynvhost_closer_fini(&backend->closer, patient);
	dynvhost_session_fini(&backend->session);
	free(backend->path);
	free(backend);
}
