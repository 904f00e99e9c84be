/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * When the rings of a session run: a ring starts as soon as it has all it needs, moves when its memory
 * or its addresses change, and stops at GET_VRING_BASE or when its memory goes.
 *
 * Security model: as session.c. What the addresses point to is judged here, by dynvhost_vq_start().
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "../dynvhost_log.h"
#include "defer.h"
#include "notify.h"
#include "session_priv.h"

/** Where a new packed ring stands, driver and device alike: slot 0, wrap counter 1. */
#define START_PACKED 0x80008000u

bool
session_rings_are_packed(const struct dynvhost_session *session)
{
	uint64_t features = session->features_set ? session->features : session->config.features;

	return (features & (UINT64_C(1) << VIRTIO_F_RING_PACKED)) != 0;
}

uint32_t
session_ring_base(const struct dynvhost_session *session, uint16_t index)
{
	const struct session_ring *ring = &session->ring[index];

	if (!session->features_set)
		return ring->base;
	if (!session_rings_are_packed(session))
		return (uint16_t)ring->base;
	return ring->has_base ? ring->base : START_PACKED;
}

/** Translate what the front-end asked for into what a virtqueue needs. @return 0 or -EFAULT. */
static int
start_fill_setup(
	const struct dynvhost_session *session, uint16_t index, struct dynvhost_vq_setup *setup)
{
	const struct session_ring *ring = &session->ring[index];
	const struct dynvhost_mem_view *view = session->view;

	*setup = (struct dynvhost_vq_setup){
		.view = view,
		.features = session->features,
		.base = session_ring_base(session, index),
		.size = ring->size,
		.mtu = session->mtu,
		.call_fd = ring->call_fd,
		.enabled = ring->enabled,
	};
	session_fill_log(session, index, &setup->log);
	if (session_has_iommu(session)) {
		setup->view = dynvhost_mem_iotlb_view(session->iotlb);
		setup->desc_gpa = ring->desc_uva;
		setup->avail_gpa = ring->avail_uva;
		setup->used_gpa = ring->used_uva;
		return 0;
	}
	/* First bytes only: how long each area is, the ring format knows (dynvhost_vq_start). */
	if (dynvhost_mem_uva_to_gpa(view, ring->desc_uva, 1, &setup->desc_gpa) < 0 ||
		dynvhost_mem_uva_to_gpa(view, ring->avail_uva, 1, &setup->avail_gpa) < 0 ||
		dynvhost_mem_uva_to_gpa(view, ring->used_uva, 1, &setup->used_gpa) < 0)
		return -EFAULT;
	return 0;
}

static bool
start_can_start(const struct dynvhost_session *session, uint16_t index)
{
	const struct session_ring *ring = &session->ring[index];

	return session->features_set && session->view != NULL && ring->kicked && ring->has_addr &&
	       ring->size != 0 && !ring->broken &&
	       !dynvhost_vq_is_started(&session->config.vq[index]);
}

/** Whether a ring that did not start for this reason may do so by and by. */
static bool
start_error_passes(int rc)
{
	return rc == -EAGAIN || rc == -ENOMEM;
}

const char *
session_move_error_text(int rc)
{
	switch (rc) {
	case -EAGAIN:
	case -ENOMEM:
		return "its memory cannot be opened now, tried again from time to time";
	case -EINVAL:
		return "bad size, base or alignment";
	case -EFAULT:
		return "not in guest memory";
	case -EXDEV:
		return "its pages do not follow each other in guest memory, as those of a smaller "
		       "ring "
		       "would";
	case -ENOTRECOVERABLE:
		return "the base is out of date and the ring does not tell its position, a reset "
		       "of the guest's device revives it";
	default:
		return strerror(-rc);
	}
}

const char *
session_start_error_text(const struct dynvhost_session *session, int error)
{
	switch (error) {
	case -EINVAL:
		return "size, base and addresses that fit a ring";
	case -EAGAIN:
		if (session_has_iommu(session))
			return "translations of its addresses by the guest's IOMMU";
		return "room to open its memory";
	case -ENOMEM:
		return "room to open its memory";
	case -EXDEV:
		return "a ring in one piece of guest memory, as a smaller one is";
	case -ENOSPC:
		return "a larger map-max";
	case -ENOTRECOVERABLE:
		return "a reset of the guest's device, its position is lost";
	default:
		return "ring addresses that lie in guest memory";
	}
}

/** One line per connection for rings that have everything and still cannot start. */
static void
start_log_no_start(struct dynvhost_session *session, uint16_t index, int rc)
{
	const struct session_ring *ring = &session->ring[index];
	const uint64_t bit = UINT64_C(1) << 63;

	static_assert(VU_REQUEST_MAX < 63, "bit 63 is free for rings that do not start");
	if (session->complaints & bit)
		return;
	session->complaints |= bit;
	if (!session_may_log(session))
		return;
	DYNVHOST_LOG(proto, WARNING, session->config.name,
		"ring %u does not start: %s; size %u, base 0x%x, desc 0x%" PRIx64
		", avail 0x%" PRIx64 ", used 0x%" PRIx64 " in the front-end",
		index, session_move_error_text(rc), ring->size, session_ring_base(session, index),
		ring->desc_uva, ring->avail_uva, ring->used_uva);
}

/** Say what a ring that cannot start wants of the cap of open memory. @return -ENOSPC. */
static int
start_refuse_cap(struct dynvhost_session *session, uint16_t index, uint64_t need, uint16_t n_rings)
{
	session_refuse(session, 0,
		"map-max=%" PRIu64 "K is too small: ring %u does not start, rings and a largest "
		"packet each need map-max=%" PRIu64 "K for %u rings",
		dynvhost_mem_cap(session->config.mem) >> 10, index, need >> 10, n_rings);
	if (session->refused[0] == '\0') {
		snprintf(session->refused, sizeof(session->refused), "%s", session->why);
		if (session_may_log(session))
			DYNVHOST_LOG(mem, WARNING, session->config.name, "%s", session->why);
	}
	return -ENOSPC;
}

/** Judge whether a ring fits under the cap of open memory, beside those started. 0 or -ENOSPC. */
static int
start_check_cap(
	struct dynvhost_session *session, uint16_t index, const struct dynvhost_vq_setup *setup)
{
	const uint64_t cap = dynvhost_mem_cap(session->config.mem);
	uint64_t need = dynvhost_vq_need(setup);
	uint16_t n_rings = 1;

	session->ring[index].need = need;
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (!dynvhost_vq_is_started(&session->config.vq[i]))
			continue;
		need += session->ring[i].need;
		n_rings++;
	}
	if (cap == 0 || need <= cap)
		return 0;
	return start_refuse_cap(session, index, need, n_rings);
}

static void
start_ring(struct dynvhost_session *session, uint16_t index)
{
	struct session_ring *ring = &session->ring[index];
	struct dynvhost_vq *vq = &session->config.vq[index];
	struct dynvhost_vq_setup setup;
	int rc;

	rc = start_fill_setup(session, index, &setup);
	if (rc == 0)
		rc = start_check_cap(session, index, &setup);
	if (rc == 0)
		rc = dynvhost_vq_start(vq, &setup);
	ring->start_error = rc;
	if (rc < 0) {
		if (!start_error_passes(rc))
			dynvhost_notify(ring->err_fd);
		/* Translations that are missing come one by one. */
		if (rc != -ENOSPC && !(rc == -EAGAIN && session_has_iommu(session)))
			start_log_no_start(session, index, rc);
		return;
	}
	ring->fault_told = false;
	ring->untranslated_us = 0;
	DYNVHOST_LOG(proto, DEBUG, session->config.name, "ring %u started, %u descriptors%s", index,
		ring->size, ring->enabled ? "" : ", not enabled yet");
}

void
session_start_rings(struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (start_can_start(session, i))
			start_ring(session, i);
	}
}

bool
session_has_late_rings(const struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (start_error_passes(session->ring[i].start_error) && start_can_start(session, i))
			return true;
	}
	return false;
}

/** Notify the guest of what it may not have seen: who stops or moves a ring is the last to know. */
static void
start_settle_calls(const struct dynvhost_vq *vq)
{
	if (dynvhost_vq_defer_owes(vq))
		dynvhost_notify(vq->call_fd);
}

void
session_stop_ring(struct dynvhost_session *session, uint16_t index)
{
	struct dynvhost_vq *vq = &session->config.vq[index];

	if (!dynvhost_vq_is_started(vq))
		return;
	start_settle_calls(vq);
	session->ring[index].base = dynvhost_vq_stop(vq);
	session->ring[index].has_base = true;
	DYNVHOST_LOG(proto, DEBUG, session->config.name, "ring %u stopped at 0x%x", index,
		session->ring[index].base);
}

int
session_move_ring(struct dynvhost_session *session, uint16_t index)
{
	struct dynvhost_vq *vq = &session->config.vq[index];
	struct dynvhost_vq_setup setup;
	int rc;

	rc = start_fill_setup(session, index, &setup);
	if (rc < 0)
		return rc;
	start_settle_calls(vq);
	return dynvhost_vq_move(vq, &setup);
}

void
session_move_rings(struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		if (!dynvhost_vq_is_started(&session->config.vq[i]) ||
			session_move_ring(session, i) == 0)
			continue;
		/* A ring whose memory has gone halts; good memory or addresses start it again. */
		session_stop_ring(session, i);
		dynvhost_notify(session->ring[i].err_fd);
	}
}

void
session_retranslate_rings(struct dynvhost_session *session)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		struct session_ring *ring = &session->ring[i];
		struct dynvhost_vq *vq = &session->config.vq[i];

		if (!dynvhost_vq_is_started(vq) || session_move_ring(session, i) == 0)
			continue;
		/* What the guest has broken stays so. */
		ring->broken = atomic_load_explicit(&vq->fault, memory_order_relaxed) !=
			       DYNVHOST_VQ_OK;
		if (!ring->broken)
			ring->untranslated_us = session->now_us;
		session_stop_ring(session, i);
	}
}
