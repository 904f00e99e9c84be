/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BACKEND_H
#define DYNVHOST_BACKEND_H

/**
 * @file
 * One port's end of the control plane, between the control thread (control.c) and the session. All
 * calls come from the control thread under its lock, unless a comment says otherwise. Times are
 * CLOCK_MONOTONIC in microseconds.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "closer.h"
#include "control.h"
#include "session.h"
#include "socket.h"

enum control_source_kind {
	CONTROL_WAKE,
	CONTROL_LISTEN,
	CONTROL_CONN,
};

/** What an epoll event points to. */
struct control_source {
	enum control_source_kind kind;
	struct dynvhost_backend *backend;
};

struct dynvhost_backend {
	TAILQ_ENTRY(dynvhost_backend) next;
	char *path;
	const struct dynvhost_backend_ops *ops;
	void *opaque;
	int epoll_fd; /**< the control thread's */
	int listen_fd;
	dev_t file_dev; /**< which file at the path is ours */
	ino_t file_ino;
	bool listen_armed;
	uint64_t listen_retry_us; /**< when accepting is tried again after an error; 0: no error */
	uint32_t conn_events;     /**< what epoll watches the connection for */
	struct control_source listen_source;
	struct control_source conn_source;
	struct dynvhost_conn conn;
	struct dynvhost_closer closer; /**< of what front-ends have sent */
	uint64_t closing_since_us;     /**< since when it is busy; 0: it is not */
	bool closing_told;
	bool reply_waits; /**< until what came with the request has been closed */
	struct dynvhost_msg reply;
	uint32_t request_tokens; /**< requests that may be read at once */
	uint64_t request_refill_us;
	struct dynvhost_session session;
	bool dying; /**< to be destroyed */
	bool dead;  /**< no event can point to it any more, nothing of its connection is left */
};

/**
 * Make a back-end whose socket is there but not yet watched. Any thread.
 * @return 0, or -errno as dynvhost_socket_listen(), -ENOMEM.
 */
int backend_make(const struct dynvhost_backend_config *config, struct dynvhost_backend **made);

/**
 * Free a back-end that is dead or was never watched, and remove the file of its socket, unless
 * somebody else has put another file in its place. Any thread.
 * @param patient  wait for what front-ends have sent to be closed; not for long, though.
 */
void backend_free(struct dynvhost_backend *backend, bool patient);

/** Begin to wait for front-ends. Any thread, under the lock. @return 0 or -errno. */
int backend_listen(struct dynvhost_backend *backend, int epoll_fd);

/** A front-end wants to connect. */
void backend_listen_event(struct dynvhost_backend *backend, uint64_t now_us);

/** Something happened on the connection. */
void backend_conn_event(struct dynvhost_backend *backend, uint32_t events, uint64_t now_us);

/** Gates, half messages, faults, and the end of a dying back-end; to be called every round. */
void backend_look_after(struct dynvhost_backend *backend, uint64_t now_us);

/** Microseconds until the back-end needs a look; UINT64_MAX: only when an event comes. */
uint64_t backend_next_look(const struct dynvhost_backend *backend, uint64_t now_us);

/** Log a change of the link. */
void backend_log_link(struct dynvhost_backend *backend, bool up, uint64_t now_us);

#endif /* DYNVHOST_BACKEND_H */
