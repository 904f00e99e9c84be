/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Our questions to the front-end of a guest with an IOMMU: what do these addresses mean? They go over a
 * socket of their own (SET_BACKEND_REQ_FD); an answer comes as a request like any other (IOTLB_MSG),
 * and after it, in the order of the questions, a reply that says whether there was one
 * (vhost-user.rst, "VHOST_USER_BACKEND_IOTLB_MSG"). A refusal has that reply alone.
 *
 * Security model: the socket is the peer's. It is never waited for, read in small steps and only
 * while a reply is due, and closed where closing may take its time. What comes must be the reply to a
 * question that was asked; anything else ends this socket, and the guest's packets then wait in vain,
 * each as long as for memory that cannot be opened. Questions under way are bounded, whatever the
 * guest writes into its descriptors, and none is asked twice before it is answered.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../dynvhost_log.h"
#include "ahead.h"
#include "session_priv.h"

/** A question that has not been answered by then may be asked again, unless a reply is due. */
#define ASK_ANSWER_US 100000
/** One that was refused may be by then, unless a packet needs it. */
#define ASK_REFUSED_US 1000000
/** A front-end that has not replied for so long, with no room for more questions, never does. */
#define ASK_REPLY_US 2000000
/** How soon replies are looked for. */
#define ASK_LOOK_US 500
/** Replies that are read in one look. */
#define ASK_REPLIES 64
/** Chains looked at in advance: where nobody waits, and where a packet does. */
#define ASK_AHEAD      8
#define ASK_AHEAD_BUSY 48

static void
ask_close_fd(void *opaque, int fd)
{
	dynvhost_closer_add(opaque, fd);
}

void
session_replace_asker(struct dynvhost_session *session, int fd)
{
	struct session_asker *asker = &session->asker;

	dynvhost_conn_close(&asker->conn);
	dynvhost_conn_init(&asker->conn, fd);
	dynvhost_conn_set_close(&asker->conn, ask_close_fd, session->config.closer);
	asker->conn.replies = true;
	asker->acks = (session->protocol_features & (UINT64_C(1) << VU_PF_REPLY_ACK)) != 0;
	asker->refusal_told = false;
	asker->n_asked = 0;
	asker->n_replied = 0;
	asker->n_forgiven = 0;
}

static struct session_question *
ask_question(struct session_asker *asker, uint32_t number)
{
	return &asker->question[number % SESSION_QUESTIONS];
}

/** The number of the oldest question that is kept. */
static uint32_t
ask_oldest(const struct session_asker *asker)
{
	return asker->n_asked > SESSION_QUESTIONS ? asker->n_asked - SESSION_QUESTIONS : 0;
}

/** How long an answer is waited for: where a reply is due, nothing is lost meanwhile. */
static uint64_t
ask_patience(const struct session_asker *asker)
{
	return asker->acks ? ASK_REPLY_US : ASK_ANSWER_US;
}

static bool
ask_is_due(const struct session_asker *asker)
{
	return asker->conn.fd >= 0 && asker->acks && asker->n_replied != asker->n_asked;
}

static void
ask_give_up(struct dynvhost_session *session, const char *why)
{
	dynvhost_session_note(session, "questions end: %s", why);
	if (session_may_log(session))
		DYNVHOST_LOG(proto, WARNING, session->config.name,
			"the front-end cannot be asked for translations any more: %s", why);
	session_replace_asker(session, -1);
}

/** Whether a question need not be asked: it is under way, or was refused a moment ago. */
static bool
ask_is_known(struct dynvhost_session *session, const struct dynvhost_mem_miss *miss, bool urgent)
{
	struct session_asker *asker = &session->asker;

	for (uint32_t i = ask_oldest(asker); i != asker->n_asked; i++) {
		const struct session_question *question = ask_question(asker, i);
		const uint64_t age = session->now_us - question->sent_us;

		if (question->miss.iova != miss->iova || question->miss.perm != miss->perm)
			continue;
		if (!question->settled && age < ask_patience(asker))
			return true;
		if (question->refused && !urgent && age < ASK_REFUSED_US)
			return true;
	}
	return false;
}

/** Whether there is room for another question. */
static bool
ask_may(struct dynvhost_session *session)
{
	struct session_asker *asker = &session->asker;

	if (!ask_is_due(asker) || asker->n_asked - asker->n_replied < SESSION_QUESTIONS)
		return true;
	if (session->now_us - ask_question(asker, asker->n_replied)->sent_us < ASK_REPLY_US)
		return false;
	/* It may be busy with something else and reply to all of them in the end. */
	asker->n_forgiven = SESSION_QUESTIONS;
	asker->acks = false;
	return true;
}

/** @return 0: asked, or under way; -EAGAIN: not now; else the socket is of no use. */
static int
ask(struct dynvhost_session *session, const struct dynvhost_mem_miss *miss, bool urgent)
{
	struct session_asker *asker = &session->asker;
	struct dynvhost_msg msg;
	int rc;

	if (ask_is_known(session, miss, urgent))
		return 0;
	if (!ask_may(session))
		return -EAGAIN;
	memset(&msg.header, 0, sizeof(msg.header));
	memset(&msg.payload.iotlb, 0, sizeof(msg.payload.iotlb));
	msg.n_fds = 0;
	msg.header.request = VU_BACKEND_IOTLB_MSG;
	msg.header.flags = VU_VERSION | (asker->acks ? VU_FLAG_NEED_REPLY : 0);
	msg.header.size = sizeof(msg.payload.iotlb);
	msg.payload.iotlb.iova = miss->iova;
	msg.payload.iotlb.perm = miss->perm;
	msg.payload.iotlb.type = VU_IOTLB_MISS;
	rc = dynvhost_conn_send(&asker->conn, &msg);
	if (rc < 0)
		return rc == -ENOBUFS ? -EAGAIN : rc;
	*ask_question(asker, asker->n_asked++) = (struct session_question){
		.miss = *miss, .sent_us = session->now_us};
	return 0;
}

/** Ask what a ring's packets wait for. @return whether there is something new. */
static int
ask_for_ring(struct dynvhost_session *session, uint16_t index, bool *news)
{
	struct dynvhost_mem_cursor *cursor = &session->config.vq[index].cursor;
	struct dynvhost_mem_miss miss;
	int rc;

	if (session->now_us - session->asker.sent_us[index] >= ask_patience(&session->asker))
		dynvhost_mem_miss_forget(cursor);
	if (!dynvhost_mem_miss_take(cursor, &miss))
		return 0;
	*news = true;
	session->asker.sent_us[index] = session->now_us;
	rc = ask(session, &miss, true);
	if (rc != 0)
		dynvhost_mem_miss_repost(cursor);
	return rc == -EAGAIN ? 0 : rc;
}

/** Ask for what control wants. What finds no room will be wanted again. */
static int
ask_for_wants(struct dynvhost_session *session)
{
	struct dynvhost_mem_miss miss;
	int rc = 0;

	while (dynvhost_mem_iotlb_take_want(session->iotlb, &miss)) {
		if (rc == 0)
			rc = ask(session, &miss, false);
	}
	return rc == -EAGAIN ? 0 : rc;
}

/** A packet waits: whoever is behind it will, too. Queues that are inside put it off. */
static void
ask_look_ahead(struct dynvhost_session *session, const bool *waits)
{
	if (session->held)
		return;
	session_hold(session, session->now_us);
	if (session_is_outside(session))
		for (uint16_t i = 0; i < session->config.n_rings; i++)
			if (waits[i])
				dynvhost_vq_look_ahead(&session->config.vq[i], ASK_AHEAD_BUSY);
	session_release(session);
}

void
session_look_ahead(struct dynvhost_session *session)
{
	/* What the guest sends is asked for as soon as somebody looks, and that is all the time. */
	for (uint16_t i = 0; i < session->config.n_rings; i += 2)
		dynvhost_vq_look_ahead(&session->config.vq[i], ASK_AHEAD);
}

void
session_settle_questions(struct dynvhost_session *session, uint64_t iova, uint64_t size)
{
	struct session_asker *asker = &session->asker;

	for (uint32_t i = ask_oldest(asker); i != asker->n_asked; i++) {
		struct session_question *question = ask_question(asker, i);

		if (dynvhost_mem_iotlb_overlaps(iova, size, question->miss.iova, 1))
			question->settled = true;
	}
}

/** The front-end says that there is no such translation. */
static void
ask_is_refused(struct dynvhost_session *session, struct session_question *question)
{
	/* One that was granted and has been refused since was asked for again by then. */
	if (question->settled)
		return;
	question->refused = true;
	for (uint16_t i = 0; i < session->config.n_rings; i++)
		dynvhost_mem_miss_refuse(&session->config.vq[i].cursor, &question->miss);
	if (session->asker.refusal_told)
		return;
	session->asker.refusal_told = true;
	dynvhost_session_note(session, "translation of 0x%" PRIx64 " to %s refused",
		question->miss.iova,
		(question->miss.perm & DYNVHOST_MEM_IOTLB_WRITE) != 0 ? "write" : "read");
}

/** Take a reply. @return whether it may be one. */
static bool
ask_take_reply(struct dynvhost_session *session, const struct dynvhost_msg *msg)
{
	struct session_asker *asker = &session->asker;
	struct session_question *question;

	if (msg->header.request != VU_BACKEND_IOTLB_MSG ||
		msg->header.size != sizeof(msg->payload.u64) || msg->n_fds != 0)
		return false;
	if (asker->n_forgiven > 0) {
		asker->n_forgiven--;
		return true;
	}
	if (!ask_is_due(asker))
		return false;
	question = ask_question(asker, asker->n_replied++);
	if (msg->payload.u64 != 0)
		ask_is_refused(session, question);
	question->settled = true;
	return true;
}

/** Read replies, as far as some are due. */
static void
ask_hear(struct dynvhost_session *session)
{
	struct session_asker *asker = &session->asker;
	struct dynvhost_msg msg;
	int rc;

	for (unsigned int i = 0; i < ASK_REPLIES; i++) {
		if (!ask_is_due(asker) && asker->n_forgiven == 0)
			return;
		rc = dynvhost_conn_recv(&asker->conn, session->now_us / 1000, &msg);
		if (rc == 0)
			break;
		if (rc < 0 || !ask_take_reply(session, &msg)) {
			if (rc > 0)
				dynvhost_closer_add_msg(session->config.closer, &msg);
			ask_give_up(session, rc == -ECONNRESET ? "it has closed their socket"
							       : "what it replies is no reply");
			return;
		}
	}
	if (session->now_us / 1000 >= asker->conn.deadline_ms)
		ask_give_up(session, "it sent half a reply and stalled");
}

void
session_ask_iommu(struct dynvhost_session *session)
{
	bool waits[DYNVHOST_MAX_RINGS] = {false};
	bool any = false;
	int rc = 0;

	if (!session_has_iommu(session) || session->asker.conn.fd < 0 || session->closing)
		return;
	ask_hear(session);
	if (session->asker.conn.fd < 0)
		return;
	for (uint16_t i = 0; i < session->config.n_rings && rc == 0; i++) {
		rc = ask_for_ring(session, i, &waits[i]);
		any |= waits[i];
	}
	if (any && rc == 0)
		ask_look_ahead(session, waits);
	if (rc == 0)
		rc = ask_for_wants(session);
	if (rc == 0 && dynvhost_conn_wants_write(&session->asker.conn))
		rc = dynvhost_conn_flush(&session->asker.conn);
	if (rc != 0)
		ask_give_up(session, "it has closed their socket");
}

uint64_t
dynvhost_session_next_reply(const struct dynvhost_session *session, uint64_t now_us)
{
	const struct session_asker *asker = &session->asker;

	if (!ask_is_due(asker) ||
		now_us - asker->question[(asker->n_asked - 1) % SESSION_QUESTIONS].sent_us >
			ASK_ANSWER_US)
		return UINT64_MAX;
	return ASK_LOOK_US;
}
