/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Notifications that bursts left to us (defer.h). Guests that never poll, and ports at rest, cost
 * nothing but the look at each of the back-end's ticks; while a queue that gives packets to the guest
 * leaves fences out, looks come every millisecond, and a queue that has stood still since the last one
 * is checked.
 *
 * A queue that takes packets from the guest is polled all the time, and makes up for a fence as soon
 * as it finds nothing. Only where the application has turned away from it is it our turn, and the
 * back-end's ticks will do: a thread that runs a thousand times in a second is somebody's processor.
 */

#include "defer.h"
#include "notify.h"
#include "session_priv.h"

/** From one look to the next while a queue is watched. */
#define WATCH_STEP_US 1000

/** Whether ring @p i is one on which the guest receives. virtio 1.2 §5.1.2 */
static bool
watch_is_to_guest(uint16_t i)
{
	return i % 2 == 0;
}

/** Check the queues that stand still, once everything they have published is visible. */
static void
watch_check(struct dynvhost_session *session, const bool *stands)
{
	dynvhost_gate_sync();
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (stands[i] && dynvhost_vq_defer_check(&session->config.vq[i]))
			dynvhost_notify(session->config.vq[i].call_fd);
	}
}

void
session_watch_calls(struct dynvhost_session *session)
{
	bool stands[DYNVHOST_MAX_RINGS] = {false};
	bool any = false;

	session->watch_next_us = UINT64_MAX;
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		enum dynvhost_defer_look look = dynvhost_vq_defer_look(&session->config.vq[i]);

		if (look != DYNVHOST_DEFER_NOTHING && watch_is_to_guest(i))
			session->watch_next_us = session->now_us + WATCH_STEP_US;
		stands[i] = look == DYNVHOST_DEFER_STANDS;
		any |= stands[i];
	}
	if (any)
		watch_check(session, stands);
}

uint64_t
dynvhost_session_next_watch(const struct dynvhost_session *session, uint64_t now_us)
{
	if (session->watch_next_us == UINT64_MAX)
		return UINT64_MAX;
	return session->watch_next_us > now_us ? session->watch_next_us - now_us : 0;
}
