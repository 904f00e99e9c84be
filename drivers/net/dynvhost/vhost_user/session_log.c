/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The dirty log of a session (vhost-user.rst, "Migration"). The front-end shares a log, says that
 * it wants to know of pages (a feature), and of which rings (with their addresses), in any order
 * and while packets move. Each of the three takes effect while the queues are outside, so when it
 * is acknowledged all that is written is logged, in the new log, and nobody uses the old one.
 *
 * Security model: as session.c; what the log's file may be is judged by the guest memory library,
 * which also bounds where bits are set. Where the front-end wants a ring's writing logged is its own
 * business: an address without a bit is counted and has no other effect.
 */

#include <errno.h>
#include <inttypes.h>

#include "../dynvhost_log.h"
#include "session_priv.h"

static bool
log_is_wanted(const struct dynvhost_session *session)
{
	return (session->features & (UINT64_C(1) << VU_F_LOG_ALL)) != 0;
}

void
session_fill_log(
	const struct dynvhost_session *session, uint16_t index, struct dynvhost_vq_log *log)
{
	const struct session_ring *ring = &session->ring[index];

	*log = (struct dynvhost_vq_log){.log = NULL};
	if (!log_is_wanted(session) || session->log == NULL)
		return;
	log->log = session->log;
	log->ring = ring->log_used;
	log->used_gpa = ring->log_gpa;
}

void
session_apply_log(struct dynvhost_session *session)
{
	struct dynvhost_vq_log log;

	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (!dynvhost_vq_is_started(&session->config.vq[i]))
			continue;
		session_fill_log(session, i, &log);
		dynvhost_vq_set_log(&session->config.vq[i], &log);
	}
}

void
session_forget_log(struct dynvhost_session *session)
{
	session->old_log = session->log;
	session->log = NULL;
}

static int
check_set_log_base(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const struct vu_log *log = &msg->payload.log;
	int rc;

	rc = dynvhost_mem_log_map(
		session->config.mem, msg->fd[0], log->offset, log->size, &session->next_log);
	if (rc < 0)
		return session_refuse(session, rc, "%s", dynvhost_mem_why(session->config.mem));
	return 0;
}

/** Say so if a migration will miss pages; the front-end may yet send a larger log. */
static void
log_warn_of_misses(struct dynvhost_session *session)
{
	uint64_t missed;

	if (session->view == NULL)
		return;
	missed = dynvhost_mem_log_misses(session->log, session->view);
	if (missed != 0 && session_may_log(session))
		DYNVHOST_LOG(proto, WARNING, session->config.name,
			"dirty log is too small: it has no bits for %" PRIu64
			" KiB of guest memory, which a migration will not bring over",
			missed >> 10);
}

static int
apply_set_log_base(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_forget_log(session);
	session->log = session->next_log;
	session->next_log = NULL;
	session_apply_log(session);
	log_warn_of_misses(session);
	/* Front-ends expect the description back, or any body. */
	dynvhost_msg_init_reply(reply, msg, sizeof(reply->payload.log));
	reply->payload.log = msg->payload.log;
	return 0;
}

static int
apply_set_log_fd(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	/* A doorbell for front-ends that would sleep until pages are dirty; none uses it. */
	return 0;
}

void
session_drop_logs(struct dynvhost_session *session)
{
	dynvhost_mem_log_unmap(session->next_log);
	session->next_log = NULL;
	dynvhost_mem_log_unmap(session->old_log);
	session->old_log = NULL;
}

bool
dynvhost_session_has_lost_memory(const struct dynvhost_session *session)
{
	return dynvhost_mem_is_lost(session->config.mem) ||
	       (session->log != NULL && dynvhost_mem_log_is_lost(session->log));
}

const struct session_handler session_log_handlers[VU_REQUEST_MAX] = {
	[VU_SET_LOG_BASE] = {check_set_log_base, apply_set_log_base, .hold = true},
	[VU_SET_LOG_FD] = {.apply = apply_set_log_fd},
};
