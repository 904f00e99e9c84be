/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Security model: every field of a message comes from a front-end that may be hostile. Framing has
 * been judged by message.c; values are judged by the `check` of each handler, before anything
 * changes. No message may abort, block, or log more than once per kind and connection.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "../dynvhost_log.h"
#include "session_priv.h"

/** A queue inside one burst for longer than this is worth a line in the log. */
#define SESSION_STUCK_US 10000
/** How often rings are tried again that could not start for the moment. */
#define SESSION_LATE_US 20000
/** Lines that front-ends can cause: so many at once, then one per interval. */
#define SESSION_LOG_BURST       20
#define SESSION_LOG_INTERVAL_US 5000000

int
session_refuse(struct dynvhost_session *session, int error, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(session->why, sizeof(session->why), fmt, args);
	va_end(args);
	return error;
}

bool
session_may_log(struct dynvhost_session *session)
{
	uint64_t earned = (session->now_us - session->log_refill_us) / SESSION_LOG_INTERVAL_US;

	if (earned > 0) {
		session->log_tokens = (uint32_t)RTE_MIN(
			session->log_tokens + earned, (uint64_t)SESSION_LOG_BURST);
		session->log_refill_us = session->now_us;
	}
	if (session->log_tokens == 0) {
		session->log_left_out++;
		return false;
	}
	session->log_tokens--;
	if (session->log_left_out != 0)
		DYNVHOST_LOG(proto, INFO, session->config.name,
			"%" PRIu64 " lines about front-ends were left out", session->log_left_out);
	session->log_left_out = 0;
	return true;
}

bool
dynvhost_session_may_log(struct dynvhost_session *session, uint64_t now_us)
{
	session->now_us = now_us;
	return session_may_log(session);
}

void
session_reply_u64(struct dynvhost_msg *reply, const struct dynvhost_msg *msg, uint64_t value)
{
	dynvhost_msg_init_reply(reply, msg, sizeof(value));
	reply->payload.u64 = value;
}

bool
session_is_running(const struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (dynvhost_vq_is_started(&session->config.vq[i]))
			return true;
	}
	return false;
}

static const struct session_handler *
session_find_handler(uint32_t request)
{
	static const struct session_handler *const tables[] = {
		session_feature_handlers,
		session_memory_handlers,
		session_ring_handlers,
		session_log_handlers,
		session_iommu_handlers,
	};

	if (request >= VU_REQUEST_MAX)
		return NULL;
	for (unsigned int i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (tables[i][request].apply != NULL)
			return &tables[i][request];
	}
	return NULL;
}

void
session_hold(struct dynvhost_session *session, uint64_t now_us)
{
	const struct dynvhost_session_config *config = &session->config;

	for (uint16_t i = 0; i < config->n_gates; i++)
		dynvhost_gate_hold(config->gate[i], DYNVHOST_GATE_CONTROL);
	dynvhost_gate_sync();
	for (uint16_t i = 0; i < config->n_gates; i++)
		session->snapshot[i] = dynvhost_gate_look(config->gate[i]);
	session->held = true;
	session->stuck_told = false;
	session->held_since_us = now_us;
}

bool
session_is_outside(const struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_gates; i++) {
		if (!dynvhost_gate_was_outside(session->config.gate[i], session->snapshot[i]))
			return false;
	}
	return true;
}

void
session_release(struct dynvhost_session *session)
{
	session->config.hooks->rings_changed(session->config.opaque);
	for (uint16_t i = 0; i < session->config.n_gates; i++)
		dynvhost_gate_release(session->config.gate[i], DYNVHOST_GATE_CONTROL);
	session->held = false;
}

/** Let go of what the request at hand has brought along. */
static void
session_drop_request(struct dynvhost_session *session)
{
	dynvhost_closer_add_msg(session->config.closer, &session->msg);
	dynvhost_mem_view_release(session->next_view);
	session->next_view = NULL;
	dynvhost_mem_view_release(session->old_view);
	session->old_view = NULL;
	session_drop_logs(session);
}

/** Log a refusal once per kind of request and connection. */
static void
session_log_refusal(struct dynvhost_session *session, const char *consequence)
{
	uint32_t request = session->msg.header.request;
	uint64_t bit = UINT64_C(1) << (request < VU_REQUEST_MAX ? request : 0);

	if (session->complaints & bit)
		return;
	session->complaints |= bit;
	if (!session_may_log(session))
		return;
	DYNVHOST_LOG(proto, WARNING, session->config.name, "%s (%u) refused: %s; %s",
		dynvhost_msg_name(request), request, session->why, consequence);
}

static void
session_note_refusal(struct dynvhost_session *session)
{
	char outcome[sizeof(session->why) + 16];

	snprintf(outcome, sizeof(outcome), "refused: %s", session->why);
	session_note_request(session, outcome);
}

/** Answer a request that is not carried out: by an error reply if one is awaited, else by closing. */
static enum dynvhost_session_result
session_finish_refused(
	struct dynvhost_session *session, struct dynvhost_msg *reply, bool *has_reply)
{
	const struct dynvhost_msg *msg = &session->msg;
	enum dynvhost_session_result result = DYNVHOST_SESSION_CLOSE;

	if (msg->header.request == VU_SET_FEATURES)
		session->features_refused = true;
	session_note_refusal(session);
	if (dynvhost_msg_wants_ack(msg, session->protocol_features)) {
		session_log_refusal(session, "told the front-end, previous state stays");
		session_reply_u64(reply, msg, 1);
		*has_reply = true;
		result = DYNVHOST_SESSION_DONE;
	} else {
		session_log_refusal(session, "closing the connection");
	}
	session_drop_request(session);
	return result;
}

/** A ring without a queue: said once, and to the front-end if it asks; nothing else suffers. */
static enum dynvhost_session_result
session_finish_no_queue(
	struct dynvhost_session *session, struct dynvhost_msg *reply, bool *has_reply)
{
	session_note_refusal(session);
	if (session->refused[0] == '\0') {
		snprintf(session->refused, sizeof(session->refused), "%s", session->why);
		if (session_may_log(session))
			DYNVHOST_LOG(proto, WARNING, session->config.name, "%s", session->why);
	}
	if (dynvhost_msg_wants_ack(&session->msg, session->protocol_features)) {
		session_reply_u64(reply, &session->msg, 1);
		*has_reply = true;
	}
	session_drop_request(session);
	return DYNVHOST_SESSION_DONE;
}

/** Commit the request at hand, or refuse it after all; queues are outside if it needs that. */
static enum dynvhost_session_result
session_finish(struct dynvhost_session *session, struct dynvhost_msg *reply, bool *has_reply)
{
	struct dynvhost_msg *msg = &session->msg;
	const struct session_handler *handler = session_find_handler(msg->header.request);
	int rc;

	rc = handler->apply(session, msg, reply);
	if (rc == SESSION_AGAIN)
		return DYNVHOST_SESSION_PARKED;
	if (session->held)
		session_release(session);
	if (rc == 0)
		session_note_request(session, "ok");
	session_update_link(session);
	if (rc < 0)
		return session_finish_refused(session, reply, has_reply);
	/* Memory is unmapped before the acknowledgement that promises it. */
	session_drop_request(session);

	if (dynvhost_msg_info(msg->header.request)->reply == DYNVHOST_MSG_BODY) {
		*has_reply = true;
	} else if (dynvhost_msg_wants_ack(msg, session->protocol_features)) {
		session_reply_u64(reply, msg, 0);
		*has_reply = true;
	}
	return DYNVHOST_SESSION_DONE;
}

enum dynvhost_session_result
dynvhost_session_handle(struct dynvhost_session *session, const struct dynvhost_msg *msg,
	uint64_t now_us, struct dynvhost_msg *reply, bool *has_reply)
{
	const struct session_handler *handler;
	enum dynvhost_msg_verdict verdict;
	const char *why = NULL;
	int rc;

	*has_reply = false;
	session->now_us = now_us;
	session->msg = *msg;
	verdict = dynvhost_msg_check(msg, session->protocol_features, &why);
	if (verdict == DYNVHOST_MSG_BROKEN) {
		session_refuse(session, -EPROTO, "%s", why);
		session_note_refusal(session);
		session_log_refusal(session, "closing the connection");
		session_drop_request(session);
		return DYNVHOST_SESSION_CLOSE;
	}
	if (verdict == DYNVHOST_MSG_REFUSED) {
		session_refuse(session, -ENOTSUP, "%s", why);
		return session_finish_refused(session, reply, has_reply);
	}
	handler = session_find_handler(msg->header.request);
	if (handler == NULL) {
		session_refuse(session, -ENOTSUP, "not offered by this back-end");
		return session_finish_refused(session, reply, has_reply);
	}
	rc = handler->check == NULL ? 0 : handler->check(session, &session->msg);
	if (rc == SESSION_NO_QUEUE)
		return session_finish_no_queue(session, reply, has_reply);
	if (rc < 0)
		return session_finish_refused(session, reply, has_reply);
	if (handler->hold) {
		session_hold(session, now_us);
		if (!session_is_outside(session))
			return DYNVHOST_SESSION_PARKED;
	}
	return session_finish(session, reply, has_reply);
}

/** Everything the connection held, queues being outside. */
static void
session_tear_down(struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		session_stop_ring(session, i);
		session_reset_ring(session, i);
		session->ring[i].base = 0;
		session->ring[i].has_base = false;
		session->ring[i].start_error = 0;
		session->ring[i].enabled = false;
		session->ring[i].size = 0;
	}
	session->connected = false;
	session->features_set = false;
	session->features_refused = false;
	session->features = 0;
	session->protocol_features = 0;
	session->status = 0;
	if (session->mtu != 0) {
		session->news.mtu_changed = true;
		session->news.mtu = 0;
	}
	session->mtu = 0;
	session->complaints = 0;
	session->faults_told = 0;
	session->refused[0] = '\0';
	for (uint16_t i = 0; i < session->config.n_rings; i++)
		dynvhost_vq_announce(&session->config.vq[i], NULL);
	session_update_link(session);
	session->old_view = session->view;
	session->view = NULL;
	session_forget_log(session);
	session_forget_iommu(session);
	session_replace_asker(session, -1);
	session_release(session);
	session_drop_request(session);
	session->closing = false;
}

static void
session_log_blocked(struct dynvhost_session *session)
{
	if (session_may_log(session))
		DYNVHOST_LOG(proto, WARNING, session->config.name,
			"an lcore was blocked in the front-end's call eventfd; closing the "
			"connection");
}

/** A queue that does not come out of its burst: say so once, and free it if the guest holds it. */
static enum dynvhost_session_result
session_look_after_stuck(struct dynvhost_session *session, uint64_t now_us)
{
	bool freed = false;

	if (now_us - session->held_since_us < SESSION_STUCK_US)
		return DYNVHOST_SESSION_PARKED;
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (dynvhost_vq_unblock_call(&session->config.vq[i]))
			freed = true;
	}
	if (freed && !session->closing) {
		session_log_blocked(session);
		return DYNVHOST_SESSION_CLOSE;
	}
	if (!session->stuck_told) {
		session->stuck_told = true;
		if (!session->closing)
			session_note_request(session, "waits for an lcore inside a burst");
		if (session_may_log(session))
			DYNVHOST_LOG(proto, NOTICE, session->config.name,
				"an lcore has been inside one burst for %d ms; the front-end's "
				"request waits",
				SESSION_STUCK_US / 1000);
	}
	return DYNVHOST_SESSION_PARKED;
}

enum dynvhost_session_result
dynvhost_session_resume(struct dynvhost_session *session, uint64_t now_us,
	struct dynvhost_msg *reply, bool *has_reply)
{
	*has_reply = false;
	session->now_us = now_us;
	if (!session->held)
		return DYNVHOST_SESSION_DONE;
	if (!session_is_outside(session))
		return session_look_after_stuck(session, now_us);
	if (session->closing) {
		session_tear_down(session);
		return DYNVHOST_SESSION_DONE;
	}
	return session_finish(session, reply, has_reply);
}

enum dynvhost_session_result
dynvhost_session_close(struct dynvhost_session *session, uint64_t now_us)
{
	session->now_us = now_us;
	if (!session->connected)
		return DYNVHOST_SESSION_DONE;
	session_drop_request(session);
	session->closing = true;
	if (!session->held)
		session_hold(session, now_us);
	if (!session_is_outside(session))
		return DYNVHOST_SESSION_PARKED;
	session_tear_down(session);
	return DYNVHOST_SESSION_DONE;
}

void
dynvhost_session_open(struct dynvhost_session *session)
{
	session->connected = true;
}

/** Start rings late. Queues that are inside a burst just now put it off; nobody waits for them. */
static void
session_start_late(struct dynvhost_session *session)
{
	if (session->held || session->now_us < session->late_next_us ||
		!session_has_late_rings(session))
		return;
	session->late_next_us = session->now_us + SESSION_LATE_US;
	session_hold(session, session->now_us);
	if (session_is_outside(session))
		session_start_rings(session);
	session_release(session);
}

enum dynvhost_session_result
dynvhost_session_tick(struct dynvhost_session *session, uint64_t now_us)
{
	bool blocked = false;

	session->now_us = now_us;
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		session_tell_fault(session, i);
		blocked |= !session->closing && session_free_caller(session, i);
	}
	if (blocked) {
		session_log_blocked(session);
		return DYNVHOST_SESSION_CLOSE;
	}
	session_start_late(session);
	session_update_link(session);
	session_close_idle(session);
	session_watch_calls(session);
	session_ask_iommu(session);
	return DYNVHOST_SESSION_DONE;
}

int
dynvhost_session_init(
	struct dynvhost_session *session, const struct dynvhost_session_config *config)
{
	memset(session, 0, sizeof(*session));
	session->snapshot = calloc(config->n_gates, sizeof(session->snapshot[0]));
	session->idle_snapshot = calloc(config->n_gates, sizeof(session->idle_snapshot[0]));
	if (session->snapshot == NULL || session->idle_snapshot == NULL) {
		dynvhost_session_fini(session);
		return -ENOMEM;
	}
	session->config = *config;
	session->asker.conn.fd = -1;
	session->watch_next_us = UINT64_MAX;
	session->log_tokens = SESSION_LOG_BURST;
	for (uint16_t i = 0; i < DYNVHOST_MAX_RINGS; i++) {
		session->ring[i].kick_fd = -1;
		session->ring[i].call_fd = -1;
		session->ring[i].err_fd = -1;
	}
	return 0;
}

void
dynvhost_session_fini(struct dynvhost_session *session)
{
	dynvhost_mem_iotlb_destroy(session->iotlb);
	session->iotlb = NULL;
	free(session->idle_snapshot);
	free(session->snapshot);
	session->idle_snapshot = NULL;
	session->snapshot = NULL;
}
