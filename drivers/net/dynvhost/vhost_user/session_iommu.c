/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A guest with an IOMMU (vhost-user.rst, "IOMMU support"): ring addresses and descriptors are I/O
 * virtual addresses, which the front-end translates when we ask (session_ask.c). A change of a
 * translation is made while the queues are outside; what was reachable through one that goes is
 * closed before the answer, in as many steps as the rate of closing needs.
 *
 * Security model: as session.c; ranges are judged by the guest memory library.
 */

#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>

#include <linux/virtio_config.h>

#include "session_priv.h"

bool
session_has_iommu(const struct dynvhost_session *session)
{
	return session->iotlb != NULL &&
	       (session->features & (UINT64_C(1) << VIRTIO_F_ACCESS_PLATFORM)) != 0;
}

int
dynvhost_session_begin(struct dynvhost_session *session, int wake_fd)
{
	if ((session->config.features & (UINT64_C(1) << VIRTIO_F_ACCESS_PLATFORM)) == 0)
		return 0;
	session->iotlb = dynvhost_mem_iotlb_create(session->config.mem, wake_fd);
	return session->iotlb == NULL ? -ENOMEM : 0;
}

void
session_set_iommu_memory(struct dynvhost_session *session)
{
	if (session->iotlb != NULL)
		dynvhost_mem_iotlb_set_memory(session->iotlb, session->view);
}

void
session_forget_iommu(struct dynvhost_session *session)
{
	if (session->iotlb != NULL)
		dynvhost_mem_iotlb_set_memory(session->iotlb, NULL);
}

/** Whether a translation is one of a ring that runs. */
static bool
iommu_is_of_rings(const struct dynvhost_session *session, uint64_t iova, uint64_t size)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		const struct session_ring *ring = &session->ring[i];
		/* No area of either format is longer. */
		const uint64_t most = 16 * (uint64_t)ring->size + 8;

		if (dynvhost_vq_is_started(&session->config.vq[i]) &&
			(dynvhost_mem_iotlb_overlaps(iova, size, ring->desc_uva, most) ||
				dynvhost_mem_iotlb_overlaps(iova, size, ring->avail_uva, most) ||
				dynvhost_mem_iotlb_overlaps(iova, size, ring->used_uva, most)))
			return true;
	}
	return false;
}

/** Questions about a range have been answered. */
static void
iommu_answer(struct dynvhost_session *session, const struct vu_iotlb *msg, bool granted)
{
	session_settle_questions(session, msg->iova, msg->size);
	for (uint16_t i = 0; i < session->config.n_rings; i++)
		dynvhost_mem_miss_answer(
			&session->config.vq[i].cursor, msg->iova, msg->size, granted);
}

static int
check_iotlb_msg(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const uint8_t type = msg->payload.iotlb.type;

	if (!session_has_iommu(session))
		return session_refuse(session, -ENOTSUP, "an IOMMU was not negotiated");
	if (type != VU_IOTLB_UPDATE && type != VU_IOTLB_INVALIDATE && type != VU_IOTLB_FAIL)
		return session_refuse(session, -EINVAL, "type %u is none of a front-end's", type);
	return 0;
}

/**
 * Carry out a change. It may be done in several steps, each of which begins from the start: what a
 * step before has done is found done.
 */
static int
apply_iotlb_msg(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	const struct vu_iotlb *iotlb = &msg->payload.iotlb;
	int rc = 0;

	if (iotlb->type == VU_IOTLB_UPDATE)
		rc = dynvhost_mem_iotlb_update(
			session->iotlb, iotlb->iova, iotlb->size, iotlb->uva, iotlb->perm);
	else if (iotlb->type == VU_IOTLB_INVALIDATE)
		rc = dynvhost_mem_iotlb_invalidate(session->iotlb, iotlb->iova, iotlb->size);
	if (rc < 0)
		return session_refuse(session, rc,
			"%" PRIu64 " bytes at iova 0x%" PRIx64 " with rights %u: %s", iotlb->size,
			iotlb->iova, iotlb->perm,
			rc == -EFAULT ? "not in guest memory" : "no range");
	if (iotlb->type != VU_IOTLB_FAIL && iommu_is_of_rings(session, iotlb->iova, iotlb->size))
		session_retranslate_rings(session);
	if (!dynvhost_mem_iotlb_settle(session->iotlb))
		return SESSION_AGAIN;
	if (iotlb->type != VU_IOTLB_INVALIDATE)
		iommu_answer(session, iotlb, iotlb->type == VU_IOTLB_UPDATE);
	session_start_rings(session);
	session_look_ahead(session);
	return 0;
}

static int
check_set_backend_req_fd(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	int domain = -1, type = -1;
	socklen_t len = sizeof(domain);

	if (getsockopt(msg->fd[0], SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
		getsockopt(msg->fd[0], SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
		domain != AF_UNIX || type != SOCK_STREAM)
		return session_refuse(session, -EINVAL, "the fd is no local stream socket");
	return 0;
}

static int
apply_set_backend_req_fd(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_replace_asker(session, dynvhost_msg_take_fd(msg, 0));
	return 0;
}

const struct session_handler session_iommu_handlers[VU_REQUEST_MAX] = {
	[VU_SET_BACKEND_REQ_FD] = {check_set_backend_req_fd, apply_set_backend_req_fd},
	[VU_IOTLB_MSG] = {check_iotlb_msg, apply_iotlb_msg, .hold = true},
};
