/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The rings of a session: what the front-end asks for is kept per ring, in any order. When a ring
 * starts is the business of session_start.c.
 *
 * Security model: as session.c. Ring numbers are judged once, here, before they index anything.
 * Addresses are only stored; what they point to is judged when the ring starts or moves. fds that the
 * datapath writes to must be eventfds: a write to anything else could block or raise a signal.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "../dynvhost_log.h"
#include "notify.h"
#include "session_priv.h"

#define RINGS_MAX_SIZE 32768

/** A notification that takes longer waits for the peer. */
#define RINGS_STUCK_CALL_US 10000

/** A ring number of a message that carries struct vu_vring_state or struct vu_vring_addr. */
static int
rings_check_index(struct dynvhost_session *session, uint32_t index)
{
	if (index >= DYNVHOST_MAX_RINGS)
		return session_refuse(session, -EINVAL, "ring %u is beyond the %u there can be",
			index, DYNVHOST_MAX_RINGS);
	if (index >= session->config.n_rings) {
		session_refuse(session, 0,
			"front-end uses %u or more queue pairs, port has queues=%u: ring %u is "
			"left unused, give both the same number",
			index / 2 + 1, session->config.n_rings / 2, index);
		return SESSION_NO_QUEUE;
	}
	return 0;
}

/** Judge a kick, call or err message; its fd may be missing by agreement. */
static int
rings_check_fd(struct dynvhost_session *session, const struct dynvhost_msg *msg)
{
	/* A larger number must not pass for the ring that its last byte names. */
	if ((msg->payload.u64 & ~(uint64_t)(VU_VRING_INDEX_MASK | VU_VRING_NOFD)) != 0)
		return session_refuse(session, -EINVAL,
			"0x%" PRIx64 " is no ring number with its flag", msg->payload.u64);
	if (msg->n_fds != 0 && !dynvhost_is_eventfd(msg->fd[0]))
		return session_refuse(session, -EINVAL, "the fd is not an eventfd");
	return 0;
}

static void
rings_replace_fd(int *slot, int fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

static void
rings_replace_kick(struct dynvhost_session *session, uint16_t index, int fd)
{
	session->config.hooks->kick_changed(session->config.opaque, index, fd);
	rings_replace_fd(&session->ring[index].kick_fd, fd);
}

void
session_enable_ring(struct dynvhost_session *session, uint16_t index, bool enabled)
{
	session->ring[index].enabled = enabled;
	if (index < session->config.n_rings && dynvhost_vq_is_started(&session->config.vq[index]))
		dynvhost_vq_set_enabled(&session->config.vq[index], enabled);
}

void
session_reset_ring(struct dynvhost_session *session, uint16_t index)
{
	struct session_ring *ring = &session->ring[index];

	rings_replace_kick(session, index, -1);
	rings_replace_fd(&ring->call_fd, -1);
	rings_replace_fd(&ring->err_fd, -1);
	ring->kicked = false;
	/* The next driver may lay its rings out anew: old addresses must not start a ring. */
	ring->has_addr = false;
	ring->log_used = false;
	ring->fault_told = false;
	ring->broken = false;
	ring->untranslated_us = 0;
	ring->start_error = 0;
}

void
session_tell_fault(struct dynvhost_session *session, uint16_t index)
{
	struct session_ring *ring = &session->ring[index];
	struct dynvhost_vq *vq = &session->config.vq[index];
	enum dynvhost_vq_fault fault;

	fault = atomic_load_explicit(&vq->fault, memory_order_acquire);
	if (fault == DYNVHOST_VQ_OK || ring->fault_told || !dynvhost_vq_is_started(vq))
		return;
	ring->fault_told = true;
	dynvhost_notify(ring->err_fd);
	if (session->faults_told++ == 0 && session_may_log(session))
		DYNVHOST_LOG(data, WARNING, session->config.name,
			"ring %u stopped: %s; other rings go on, a reset of the guest's device "
			"revives it",
			index, dynvhost_vq_fault_text(fault));
}

bool
session_free_caller(struct dynvhost_session *session, uint16_t index)
{
	struct session_ring *ring = &session->ring[index];
	struct dynvhost_vq *vq = &session->config.vq[index];
	uint64_t calls = __atomic_load_n(&vq->stats.calls, __ATOMIC_RELAXED);

	if (!atomic_load_explicit(&vq->calling, memory_order_acquire)) {
		ring->call_since_us = 0;
		return false;
	}
	if (ring->call_since_us == 0 || ring->calls_seen != calls) {
		ring->call_since_us = session->now_us;
		ring->calls_seen = calls;
		return false;
	}
	if (session->now_us - ring->call_since_us < RINGS_STUCK_CALL_US)
		return false;
	return dynvhost_vq_unblock_call(vq);
}

static int
check_set_vring_num(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const struct vu_vring_state *state = &msg->payload.state;
	int rc;

	rc = rings_check_index(session, state->index);
	if (rc != 0)
		return rc;
	if (state->num == 0 || state->num > RINGS_MAX_SIZE)
		return session_refuse(session, -EINVAL, "ring size %u is not between 1 and %u",
			state->num, RINGS_MAX_SIZE);
	if ((state->num & (state->num - 1)) != 0 && !session_rings_are_packed(session))
		return session_refuse(
			session, -EINVAL, "split ring size %u is not a power of two", state->num);
	if (dynvhost_vq_is_started(&session->config.vq[state->index]) &&
		state->num != session->ring[state->index].size)
		return session_refuse(session, -EBUSY, "ring %u is running", state->index);
	return 0;
}

static int
apply_set_vring_num(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session->ring[msg->payload.state.index].size = msg->payload.state.num;
	session_start_rings(session);
	return 0;
}

static int
check_set_vring_addr(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const struct vu_vring_addr *addr = &msg->payload.addr;
	int rc;

	rc = rings_check_index(session, addr->index);
	if (rc != 0)
		return rc;
	if (addr->flags & ~VU_VRING_ADDR_LOG)
		return session_refuse(session, -EINVAL, "unknown address flags 0x%x", addr->flags);
	return 0;
}

static int
apply_set_vring_addr(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	const struct vu_vring_addr *addr = &msg->payload.addr;
	uint16_t index = (uint16_t)addr->index;
	struct session_ring *ring = &session->ring[index];
	const struct session_ring before = *ring;
	int rc;

	ring->desc_uva = addr->desc_uva;
	ring->avail_uva = addr->avail_uva;
	ring->used_uva = addr->used_uva;
	ring->log_gpa = addr->log_gpa;
	ring->log_used = (addr->flags & VU_VRING_ADDR_LOG) != 0;
	ring->has_addr = true;
	if (dynvhost_vq_is_started(&session->config.vq[index])) {
		rc = session_move_ring(session, index);
		if (rc < 0) {
			*ring = before;
			return session_refuse(session, rc, "ring %u runs and cannot move there: %s",
				index, session_move_error_text(rc));
		}
	}
	session_start_rings(session);
	return 0;
}

static int
check_set_vring_base(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const struct vu_vring_state *state = &msg->payload.state;
	int rc;

	rc = rings_check_index(session, state->index);
	if (rc != 0)
		return rc;
	if (state->num > UINT16_MAX && !session_rings_are_packed(session))
		return session_refuse(
			session, -EINVAL, "split ring base %u is more than 16 bits", state->num);
	if (dynvhost_vq_is_started(&session->config.vq[state->index]))
		return session_refuse(session, -EBUSY, "ring %u is running", state->index);
	return 0;
}

static int
apply_set_vring_base(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	struct session_ring *ring = &session->ring[msg->payload.state.index];

	ring->base = msg->payload.state.num;
	ring->has_base = true;
	return 0;
}

static int
check_get_vring_base(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	if (msg->payload.state.index >= DYNVHOST_MAX_RINGS)
		return session_refuse(session, -EINVAL, "ring %u is beyond the %u there can be",
			msg->payload.state.index, DYNVHOST_MAX_RINGS);
	return 0;
}

/** Stop the ring; what it had used is published, nothing touches its memory any more. */
static int
apply_get_vring_base(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	uint16_t index = (uint16_t)msg->payload.state.index;

	if (index < session->config.n_rings) {
		session_stop_ring(session, index);
		session_reset_ring(session, index);
	}
	/* A guest that is reset takes no translation back, and its next driver means others. */
	if (!session_is_running(session)) {
		session_forget_iommu(session);
		session_set_iommu_memory(session);
	}
	dynvhost_msg_init_reply(reply, msg, sizeof(reply->payload.state));
	reply->payload.state.index = index;
	reply->payload.state.num = session_ring_base(session, index);
	return 0;
}

static int
check_set_vring_kick(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	int rc = rings_check_fd(session, msg);

	if (rc != 0)
		return rc;
	return rings_check_index(session, msg->payload.u64 & VU_VRING_INDEX_MASK);
}

/** The front-end may never kick again after a reconnect, so this message itself starts the ring. */
static int
apply_set_vring_kick(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	uint16_t index = msg->payload.u64 & VU_VRING_INDEX_MASK;

	rings_replace_kick(session, index, dynvhost_msg_take_fd(msg, 0));
	session->ring[index].kicked = true;
	session->ring[index].broken = false;
	session_start_rings(session);
	return 0;
}

/** A front-end names its spare rings' fds too: they are judged, and closed when no queue is there. */
static int
check_set_vring_fd(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	return rings_check_fd(session, msg);
}

static int
apply_set_vring_call(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	uint16_t index = msg->payload.u64 & VU_VRING_INDEX_MASK;
	int fd = dynvhost_msg_take_fd(msg, 0);

	if (index >= session->config.n_rings) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	/* The flag is shared with the front-end, which may clear it: see dynvhost_vq_unblock_call(). */
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	if (dynvhost_vq_is_started(&session->config.vq[index])) {
		dynvhost_vq_set_call(&session->config.vq[index], fd);
		/* Notifications sent to the old fd may have been dropped by the front-end. */
		dynvhost_notify(fd);
	}
	rings_replace_fd(&session->ring[index].call_fd, fd);
	return 0;
}

static int
apply_set_vring_err(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	uint16_t index = msg->payload.u64 & VU_VRING_INDEX_MASK;
	int fd = dynvhost_msg_take_fd(msg, 0);

	if (index >= session->config.n_rings) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	rings_replace_fd(&session->ring[index].err_fd, fd);
	return 0;
}

static int
check_set_vring_enable(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const struct vu_vring_state *state = &msg->payload.state;
	int rc;

	if (state->num > 1)
		return session_refuse(
			session, -EINVAL, "a ring is enabled with 1 or 0, not %u", state->num);
	rc = rings_check_index(session, state->index);
	/* Front-ends disable every ring the guest does not use, with or without a queue here. */
	return rc == SESSION_NO_QUEUE && state->num == 0 ? 0 : rc;
}

static int
apply_set_vring_enable(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_enable_ring(
		session, (uint16_t)msg->payload.state.index, msg->payload.state.num != 0);
	return 0;
}

const struct session_handler session_ring_handlers[VU_REQUEST_MAX] = {
	[VU_SET_VRING_NUM] = {check_set_vring_num, apply_set_vring_num, .hold = true},
	[VU_SET_VRING_ADDR] = {check_set_vring_addr, apply_set_vring_addr, .hold = true},
	[VU_SET_VRING_BASE] = {check_set_vring_base, apply_set_vring_base},
	[VU_GET_VRING_BASE] = {check_get_vring_base, apply_get_vring_base, .hold = true},
	[VU_SET_VRING_KICK] = {check_set_vring_kick, apply_set_vring_kick, .hold = true},
	[VU_SET_VRING_CALL] = {check_set_vring_fd, apply_set_vring_call, .hold = true},
	[VU_SET_VRING_ERR] = {check_set_vring_fd, apply_set_vring_err},
	[VU_SET_VRING_ENABLE] = {check_set_vring_enable, apply_set_vring_enable, .hold = true},
};
