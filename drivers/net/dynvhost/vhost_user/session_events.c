/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What has happened to a port lately, in words: every request with its outcome, connections and links.
 *
 * Security model: as session.c. A front-end decides how many events there are, so they take fixed room;
 * one that repeats itself does not push the others out.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#include "session_priv.h"

static uint64_t
events_clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void
dynvhost_session_note(struct dynvhost_session *session, const char *fmt, ...)
{
	struct dynvhost_session_event event = {.time_us = events_clock_us(), .times = 1};
	struct dynvhost_session_event *last;
	va_list args;

	va_start(args, fmt);
	vsnprintf(event.text, sizeof(event.text), fmt, args);
	va_end(args);
	last = &session->event[(session->n_events - 1) % DYNVHOST_SESSION_EVENTS];
	if (session->n_events != 0 && strcmp(last->text, event.text) == 0) {
		last->times++;
		last->time_us = event.time_us;
		return;
	}
	session->event[session->n_events++ % DYNVHOST_SESSION_EVENTS] = event;
}

/** What a request is about, behind its name; empty where the name says all. */
static void
events_describe(const struct dynvhost_msg *msg, char *text, size_t size)
{
	const union vu_payload *payload = &msg->payload;

	text[0] = '\0';
	switch (msg->header.request) {
	case VU_SET_FEATURES:
	case VU_SET_PROTOCOL_FEATURES:
	case VU_SET_STATUS:
		snprintf(text, size, " 0x%" PRIx64, payload->u64);
		break;
	case VU_NET_SET_MTU:
		snprintf(text, size, " %" PRIu64, payload->u64);
		break;
	case VU_SET_MEM_TABLE:
		snprintf(text, size, " of %u regions", payload->table.n_regions);
		break;
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		snprintf(text, size, " 0x%" PRIx64 "+0x%" PRIx64, payload->single.region.gpa,
			payload->single.region.size);
		break;
	case VU_SET_VRING_NUM:
	case VU_SET_VRING_BASE:
	case VU_SET_VRING_ENABLE:
		snprintf(text, size, " ring %u, %u", payload->state.index, payload->state.num);
		break;
	case VU_GET_VRING_BASE:
		snprintf(text, size, " ring %u", payload->state.index);
		break;
	case VU_SET_VRING_ADDR:
		snprintf(text, size, " ring %u", payload->addr.index);
		break;
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
		snprintf(text, size, " ring %" PRIu64 "%s", payload->u64 & VU_VRING_INDEX_MASK,
			(payload->u64 & VU_VRING_NOFD) != 0 ? ", no fd" : "");
		break;
	default:
		if (dynvhost_msg_info(msg->header.request) == NULL)
			snprintf(text, size, " %u", msg->header.request);
	}
}

void
session_note_request(struct dynvhost_session *session, const char *outcome)
{
	char about[64];

	events_describe(&session->msg, about, sizeof(about));
	dynvhost_session_note(session, "%s%s: %s", dynvhost_msg_name(session->msg.header.request),
		about, outcome);
}

uint32_t
dynvhost_session_events(
	const struct dynvhost_session *session, struct dynvhost_session_event *out, uint32_t max)
{
	uint32_t n = (uint32_t)RTE_MIN(session->n_events, (uint64_t)DYNVHOST_SESSION_EVENTS);

	n = RTE_MIN(n, max);
	for (uint32_t i = 0; i < n; i++)
		out[i] = session->event[(session->n_events - n + i) % DYNVHOST_SESSION_EVENTS];
	return n;
}
