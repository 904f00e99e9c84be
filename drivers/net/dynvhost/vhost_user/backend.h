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

/** How often ports are looked after that have something to look after. */
#define BACKEND_TICK_US 40000

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
	int epoll_fd;   /**< the control thread's */
	bool client;    /**< it connects to the path; else it listens there */
	int listen_fd;  /**< -1: it connects */
	dev_t file_dev; /**< which file at the path is ours */
	ino_t file_ino;
	bool listen_armed;
	uint64_t listen_retry_us; /**< when accepting is tried again after an error; 0: no error */
	uint32_t reconnect_ms;    /**< longest pause between attempts to connect; 0: there is one */
	uint32_t connect_pause_ms; /**< the next pause */
	uint64_t connect_at_us;    /**< when to try next; UINT64_MAX: never */
	uint64_t connected_since_us;
	bool connect_told;    /**< that nobody is there, since the last connection */
	uint32_t conn_events; /**< what epoll watches the connection for */
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

/* --- backend.c: the connection and its session --- */

/**
 * Make a back-end whose socket is there but not yet watched. Any thread.
 * @return 0, or -errno as dynvhost_socket_listen() and, where it connects once and for all,
 *         dynvhost_socket_connect(); -ENOMEM.
 */
int backend_make(const struct dynvhost_backend_config *config, struct dynvhost_backend **made);

/**
 * Free a back-end that is dead or was never watched, and remove the file of its socket, unless
 * somebody else has put another file in its place. Any thread.
 * @param patient  wait for what front-ends have sent to be closed; not for long, though.
 */
void backend_free(struct dynvhost_backend *backend, bool patient);

/** Something happened on the connection. */
void backend_conn_event(struct dynvhost_backend *backend, uint32_t events, uint64_t now_us);

/** Gates, half messages, faults, and the end of a dying back-end; to be called every round. */
void backend_look_after(struct dynvhost_backend *backend, uint64_t now_us);

/** Microseconds until the back-end needs a look; UINT64_MAX: only when an event comes. */
uint64_t backend_next_look(const struct dynvhost_backend *backend, uint64_t now_us);

/** Log a change of the link. */
void backend_log_link(struct dynvhost_backend *backend, bool up, uint64_t now_us);

/** The port's name, for log lines. */
static inline const char *
backend_name(const struct dynvhost_backend *backend)
{
	return backend->session.config.name;
}

/** Whether one more line that a front-end can cause may be logged. */
bool backend_may_log(struct dynvhost_backend *backend, uint64_t now_us);

/** Have the control thread's epoll watch an fd. @return 0 or -errno. */
int backend_watch(struct dynvhost_backend *backend, int op, int fd, uint32_t events,
	struct control_source *source);

/** Serve the front-end behind a connected fd. @return 0 or -errno, and then the fd is left to be closed. */
int backend_take_conn(struct dynvhost_backend *backend, int fd, uint64_t now_us);

/** Let go of a front-end that has closed its socket, whatever it has sent before. */
void backend_drop_gone(struct dynvhost_backend *backend, uint64_t now_us);

/* --- backend_meet.c: how it comes to a connection --- */

/**
 * Make the listening socket, or connect if there is one attempt only; nothing is watched yet. Any
 * thread. @return 0 or -errno.
 */
int
backend_meet_open(struct dynvhost_backend *backend, const struct dynvhost_backend_config *config);

/**
 * Remove the file of the listening socket, unless somebody else has put another file in its place,
 * and leave the socket to be closed. Any thread.
 */
void backend_meet_close(struct dynvhost_backend *backend);

/** Begin to wait for front-ends, or to look for one. Any thread, under the lock. @return 0 or -errno. */
int backend_meet_begin(struct dynvhost_backend *backend, int epoll_fd, uint64_t now_us);

/** No event of the listening socket comes any more after this. */
void backend_meet_end(struct dynvhost_backend *backend);

/** A front-end wants to connect. */
void backend_listen_event(struct dynvhost_backend *backend, uint64_t now_us);

/** The connection has ended: take no other before nothing of it is left. */
void backend_meet_lost(struct dynvhost_backend *backend, uint64_t now_us);

/** Take or look for front-ends, if it is time. */
void backend_meet_look(struct dynvhost_backend *backend, uint64_t now_us);

/** Microseconds until backend_meet_look() has something to do; UINT64_MAX: only after an event. */
uint64_t backend_meet_next_look(const struct dynvhost_backend *backend, uint64_t now_us);

#endif /* DYNVHOST_BACKEND_H */
