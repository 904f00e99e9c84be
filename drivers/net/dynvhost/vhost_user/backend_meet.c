/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * How a back-end and its front-end meet: it listens, or it connects and does so again when the
 * front-end has gone.
 *
 * Security model: as backend.c. A listening port turns a second front-end away; a connecting one that
 * is accepted and hung up on at once pauses longer and longer, as if nobody were there.
 */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>

#include "../dynvhost_log.h"
#include "backend.h"

/** The first pause before connecting again; each one after it is twice as long. */
#define MEET_FIRST_PAUSE_MS 20

/** Whether front-ends are accepted, or wait in the backlog until the last one's things are gone. */
static void
meet_arm(struct dynvhost_backend *backend, bool armed)
{
	if (backend->client || backend->listen_armed == armed)
		return;
	backend->listen_armed = armed;
	backend_watch(backend, EPOLL_CTL_MOD, backend->listen_fd, armed ? EPOLLIN : 0,
		&backend->listen_source);
}

/** No front-end can be taken now. It still waits: without a pause this would be tried without end. */
static void
meet_pause(struct dynvhost_backend *backend, int rc, uint64_t now_us)
{
	meet_arm(backend, false);
	backend->listen_retry_us = now_us + BACKEND_TICK_US;
	if (backend_may_log(backend, now_us))
		DYNVHOST_LOG(proto, WARNING, backend_name(backend),
			"cannot accept a front-end: %s; check the limit of open files",
			strerror(-rc));
}

void
backend_listen_event(struct dynvhost_backend *backend, uint64_t now_us)
{
	int fd, rc;

	/* A front-end that starts again must not be turned away in favour of its own past. */
	backend_drop_gone(backend, now_us);
	if (!backend->listen_armed || backend->dying)
		return;
	fd = dynvhost_socket_accept(backend->listen_fd);
	if (fd == -EAGAIN)
		return;
	if (fd < 0) {
		meet_pause(backend, fd, now_us);
		return;
	}
	if (backend->conn.fd < 0) {
		rc = backend_take_conn(backend, fd, now_us);
		if (rc < 0)
			meet_pause(backend, rc, now_us);
		return;
	}
	/* It may have sent something already. */
	dynvhost_closer_add(&backend->closer, fd);
	dynvhost_session_note(&backend->session, "a second front-end was turned away");
	if (backend_may_log(backend, now_us))
		DYNVHOST_LOG(proto, NOTICE, backend_name(backend),
			"a second front-end was turned away: one is connected already");
}

/** Say once per outage that the front-end is not there. */
static void
meet_tell_missing(struct dynvhost_backend *backend, int rc, uint64_t now_us)
{
	if (backend->connect_told || !backend_may_log(backend, now_us))
		return;
	backend->connect_told = true;
	DYNVHOST_LOG(proto, INFO, backend_name(backend),
		"no front-end at %s (%s); trying again at least every %u ms", backend->path,
		strerror(-rc), backend->reconnect_ms);
}

/** Let a pause begin, and make the next one longer. */
static void
meet_back_off(struct dynvhost_backend *backend, uint64_t now_us)
{
	if (backend->reconnect_ms == 0) {
		backend->connect_at_us = UINT64_MAX;
		return;
	}
	backend->connect_at_us = now_us + backend->connect_pause_ms * UINT64_C(1000);
	backend->connect_pause_ms = RTE_MIN(2 * backend->connect_pause_ms, backend->reconnect_ms);
}

static void
meet_reset_pause(struct dynvhost_backend *backend)
{
	backend->connect_pause_ms = RTE_MIN((uint32_t)MEET_FIRST_PAUSE_MS, backend->reconnect_ms);
}

static void
meet_connect(struct dynvhost_backend *backend, uint64_t now_us)
{
	int rc = dynvhost_socket_connect(backend->path);

	if (rc >= 0)
		rc = backend_take_conn(backend, rc, now_us);
	if (rc == 0) {
		backend->connect_told = false;
		return;
	}
	dynvhost_session_note(&backend->session, "no front-end at the path: %s", strerror(-rc));
	meet_tell_missing(backend, rc, now_us);
	meet_back_off(backend, now_us);
}

void
backend_meet_lost(struct dynvhost_backend *backend, uint64_t now_us)
{
	if (!backend->client) {
		/* Stays so until nothing of the old connection is left. */
		meet_arm(backend, false);
		return;
	}
	/* A connection that lasted was a good one. */
	if (now_us - backend->connected_since_us > backend->reconnect_ms * UINT64_C(1000))
		meet_reset_pause(backend);
	meet_back_off(backend, now_us);
	if (backend->reconnect_ms == 0 && !backend->dying && backend_may_log(backend, now_us))
		DYNVHOST_LOG(proto, NOTICE, backend_name(backend),
			"not connecting again: reconnect-ms=0");
}

/** Whether a front-end may be taken, be it to be turned away: nothing of the last one is left. */
static bool
meet_may(const struct dynvhost_backend *backend)
{
	return backend->listen_retry_us == 0 && backend->closing_since_us == 0 &&
	       (backend->conn.fd >= 0 || !dynvhost_session_is_parked(&backend->session));
}

void
backend_meet_look(struct dynvhost_backend *backend, uint64_t now_us)
{
	if (backend->listen_retry_us != 0 && now_us >= backend->listen_retry_us)
		backend->listen_retry_us = 0;
	if (!backend->client)
		meet_arm(backend, meet_may(backend));
	else if (backend->conn.fd < 0 && now_us >= backend->connect_at_us && meet_may(backend))
		meet_connect(backend, now_us);
}

uint64_t
backend_meet_next_look(const struct dynvhost_backend *backend, uint64_t now_us)
{
	if (!backend->client)
		return backend->listen_retry_us != 0 ? BACKEND_TICK_US : UINT64_MAX;
	if (backend->conn.fd >= 0 || backend->connect_at_us == UINT64_MAX || !meet_may(backend))
		return UINT64_MAX;
	return backend->connect_at_us > now_us ? backend->connect_at_us - now_us : 0;
}

/** Listen, and remember the file that has come into being. */
static int
meet_listen(struct dynvhost_backend *backend, const struct dynvhost_backend_config *config)
{
	struct stat st;

	backend->listen_fd = dynvhost_socket_listen(config->path, config->mode, config->group);
	if (backend->listen_fd < 0)
		return backend->listen_fd;
	if (lstat(backend->path, &st) == 0) {
		backend->file_dev = st.st_dev;
		backend->file_ino = st.st_ino;
	}
	return 0;
}

int
backend_meet_open(struct dynvhost_backend *backend, const struct dynvhost_backend_config *config)
{
	int rc;

	backend->client = config->client;
	if (!config->client)
		return meet_listen(backend, config);
	backend->listen_fd = -1;
	backend->reconnect_ms = config->reconnect_ms;
	meet_reset_pause(backend);
	if (config->reconnect_ms != 0)
		return 0;
	/* The only attempt: whoever adds the port shall know how it ended. */
	rc = dynvhost_socket_connect(backend->path);
	if (rc < 0)
		return rc;
	dynvhost_conn_init(&backend->conn, rc);
	return 0;
}

/**
 * Remove the socket's file, then close it: in this order no other process takes it for that of a
 * dead listener and puts its own in the place that we are about to clear.
 */
void
backend_meet_close(struct dynvhost_backend *backend)
{
	struct stat st;

	if (backend->client) {
		/* Connected and never served. */
		dynvhost_closer_add(&backend->closer, backend->conn.fd);
		return;
	}
	if (lstat(backend->path, &st) == 0 && st.st_dev == backend->file_dev &&
		st.st_ino == backend->file_ino)
		unlink(backend->path);
	/* Who waits to be accepted may have sent something already. */
	dynvhost_closer_add(&backend->closer, backend->listen_fd);
}

int
backend_meet_begin(struct dynvhost_backend *backend, int epoll_fd, uint64_t now_us)
{
	int fd = backend->conn.fd;

	backend->epoll_fd = epoll_fd;
	if (!backend->client) {
		backend->listen_armed = true;
		return backend_watch(backend, EPOLL_CTL_ADD, backend->listen_fd, EPOLLIN,
			&backend->listen_source);
	}
	if (fd < 0)
		return 0;
	backend->conn.fd = -1;
	return backend_take_conn(backend, fd, now_us);
}

void
backend_meet_end(struct dynvhost_backend *backend)
{
	if (!backend->client)
		epoll_ctl(backend->epoll_fd, EPOLL_CTL_DEL, backend->listen_fd, NULL);
}
