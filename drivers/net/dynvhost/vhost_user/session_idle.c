/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Closing idle guest memory: when a pass may begin, and when the next one is due.
 *
 * A pass makes pages candidates and closes those that have been candidates since the pass before.
 * Whoever used a page before it became a candidate may hold its address until its burst ends; so
 * after each pass every queue is looked at, and the next pass begins only when all of them have been
 * outside a burst since. Whoever comes later wins the page back by himself. Nothing here holds a gate
 * or waits for an lcore: a queue that stays inside postpones the pass of its own port.
 */

#include "session_priv.h"

/** How soon a pass goes on, and how soon queues that are inside are looked at again. */
#define IDLE_STEP_US 2000
/** How often passes begin while guest memory has reached its cap. */
#define IDLE_RECLAIM_US 5000

/** Microseconds from one pass to the next. */
static uint64_t
idle_interval(const struct dynvhost_session *session)
{
	uint64_t interval = (uint64_t)session->config.idle_ms * 1000 / 2;

	if (dynvhost_mem_wants_room(session->config.mem) && interval > IDLE_RECLAIM_US)
		interval = IDLE_RECLAIM_US;
	return interval;
}

/** Remember where the queues stand, after a pass. */
static void
idle_look(struct dynvhost_session *session)
{
	const struct dynvhost_session_config *config = &session->config;

	dynvhost_gate_sync();
	for (uint16_t i = 0; i < config->n_gates; i++)
		session->idle_snapshot[i] = dynvhost_gate_look(config->gate[i]);
}

/** Whether every queue has been outside a burst since the last pass. */
static bool
idle_may_begin(const struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_gates; i++) {
		if (!dynvhost_gate_was_outside(session->config.gate[i], session->idle_snapshot[i]))
			return false;
	}
	return true;
}

/** Take a step of the pass, and prepare the next pass when it was the last one. */
static void
idle_step(struct dynvhost_session *session, uint64_t now_us)
{
	dynvhost_mem_idle_pass(session->config.mem);
	if (dynvhost_mem_idle_pending(session->config.mem)) {
		session->idle_next_us = now_us + IDLE_STEP_US;
		return;
	}
	idle_look(session);
	session->idle_next_us = session->idle_began_us + idle_interval(session);
}

void
session_close_idle(struct dynvhost_session *session)
{
	const uint64_t now_us = session->now_us;

	if (session->config.idle_ms == 0 || session->view == NULL)
		return;
	if (dynvhost_mem_wants_room(session->config.mem) &&
		session->idle_next_us > session->idle_began_us + IDLE_RECLAIM_US)
		session->idle_next_us = session->idle_began_us + IDLE_RECLAIM_US;
	if (now_us < session->idle_next_us)
		return;
	if (!dynvhost_mem_idle_pending(session->config.mem)) {
		if (!idle_may_begin(session)) {
			session->idle_next_us = now_us + IDLE_STEP_US;
			return;
		}
		session->idle_began_us = now_us;
	}
	idle_step(session, now_us);
}

uint64_t
dynvhost_session_next_idle(const struct dynvhost_session *session, uint64_t now_us)
{
	if (session->config.idle_ms == 0 || session->view == NULL)
		return UINT64_MAX;
	return session->idle_next_us > now_us ? session->idle_next_us - now_us : 0;
}
