/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_CONTROL_H
#define DYNVHOST_CONTROL_H

/**
 * @file
 * The control thread: one per process, for all ports. It owns every socket, timer and session, and
 * never blocks on a peer or on an lcore.
 *
 * The thread starts with the first back-end and ends with the last.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "session.h"

/** News that travel upwards, told by the control thread while it holds no lock. */
struct dynvhost_backend_ops {
	/** @param numa_node  where most of the guest's memory lies; -1: not known */
	void (*link_changed)(void *opaque, bool up, int numa_node);
	void (*ring_changed)(void *opaque, uint16_t ring, bool enabled);
	/** @param mtu  what the front-end has set; 0: it has gone, and its MTU with it */
	void (*mtu_changed)(void *opaque, uint16_t mtu);
};

/** One port's end of the control plane. */
struct dynvhost_backend_config {
	const char *path; /**< socket to listen on, or to connect to; copied */
	bool client;      /**< connect */
	uint32_t
		reconnect_ms; /**< longest pause between attempts to connect; 0: one attempt in all */
	mode_t mode;          /**< rights of the socket file, where it listens */
	gid_t group;          /**< its group, (gid_t)-1: as created */
	struct dynvhost_session_config session;
	const struct dynvhost_backend_ops *ops;
	void *opaque;
};

struct dynvhost_backend;

/**
 * Serve front-ends from now on, one at a time: those that connect to the path, or the one that
 * listens there, which is looked for again and again unless @p config allows one attempt only.
 *
 * @return 0, or -errno as dynvhost_socket_listen() and, for that one attempt,
 *         dynvhost_socket_connect(); -ENOMEM; -EDEADLK in a callback, which runs in the control
 *         thread: others may be waiting for it to end. Any thread.
 */
int dynvhost_backend_create(
	const struct dynvhost_backend_config *config, struct dynvhost_backend **out);

/**
 * Close the connection and the socket, remove its file, and free the back-end. When this returns no
 * queue touches guest memory and none of its callbacks runs, so it must not be called with a lock
 * that they take. No lcore may poll the port's queues. Any thread; in a callback too.
 */
void dynvhost_backend_destroy(struct dynvhost_backend *backend);

/**
 * List guest memory that is open, as dynvhost_mem_runs(). Any thread.
 * @return runs written to @p out, less than @p max at the end.
 */
uint32_t dynvhost_backend_runs(struct dynvhost_backend *backend,
	struct dynvhost_mem_run_cursor *cursor, struct dynvhost_mem_run *out, uint32_t max);

/** Call a function while the control thread changes nothing. Any thread but in the session's hooks. */
void
dynvhost_backend_call(struct dynvhost_backend *backend, void (*call)(void *opaque), void *opaque);

/** Describe rings, as dynvhost_session_rings(). Any thread. */
uint16_t dynvhost_backend_rings(struct dynvhost_backend *backend, uint16_t first,
	struct dynvhost_session_ring_info *out, uint16_t max);

/** Tell what has happened, as dynvhost_session_events(). Any thread. */
uint32_t dynvhost_backend_events(
	struct dynvhost_backend *backend, struct dynvhost_session_event *out, uint32_t max);

/** Describe the back-end's session. Any thread. */
void dynvhost_backend_info(struct dynvhost_backend *backend, struct dynvhost_session_info *info);

#endif /* DYNVHOST_CONTROL_H */
