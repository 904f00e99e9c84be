/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Features, status and identity of a session.
 *
 * Security model: as session.c. A front-end may only acknowledge what was offered, and may not
 * change under a running ring what the ring's burst functions were chosen for.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "session_priv.h"

/** The smallest MTU that a virtio-net device may have (virtio 1.2 §5.1.4.1). */
#define FEATURES_MTU_MIN 68
/** The ring on which the first queue pair's guest transmits. */
#define FEATURES_FIRST_TX 1

/** Device status is one byte in the virtio transport that the front-end speaks. */
#define FEATURES_STATUS_MAX 0xff

/** Whether pages written are to be logged: not a feature that the guest knows of. */
#define FEATURES_LOG (UINT64_C(1) << VU_F_LOG_ALL)

static bool
features_has_protocol(const struct dynvhost_session *session)
{
	return session->features & (UINT64_C(1) << VU_F_PROTOCOL_FEATURES);
}

static int
apply_get_features(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_reply_u64(reply, msg, session->config.features);
	return 0;
}

static int
check_set_features(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	uint64_t features = msg->payload.u64;

	if (features & ~session->config.features)
		return session_refuse(session, -EINVAL, "features 0x%" PRIx64 " were not offered",
			features & ~session->config.features);
	/* Logging is no feature of the rings. */
	if (session_is_running(session) && ((features ^ session->features) & ~FEATURES_LOG) != 0)
		return session_refuse(session, -EBUSY,
			"features cannot change while a ring runs; stop the rings first");
	return 0;
}

static int
apply_set_features(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	/* After a migration its log is of no use. */
	if ((session->features & ~msg->payload.u64 & FEATURES_LOG) != 0)
		session_forget_log(session);
	session->features = msg->payload.u64;
	if (!session_has_iommu(session)) {
		session_forget_iommu(session);
		session_set_iommu_memory(session);
	}
	session->features_set = true;
	session->features_refused = false;
	/* Without protocol features rings are enabled from the start (vhost-user.rst, "Ring states"). */
	if (!features_has_protocol(session)) {
		for (uint16_t i = 0; i < session->config.n_rings; i++)
			session_enable_ring(session, i, true);
	}
	session_apply_log(session);
	session_start_rings(session);
	return 0;
}

static int
apply_set_owner(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	/* A marker of the session's begin; repeats are harmless. */
	return 0;
}

static int
apply_reset_owner(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	/* Deprecated; the specification recommends to ignore it. */
	return 0;
}

static int
apply_get_protocol_features(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_reply_u64(reply, msg, session->config.protocol_features);
	return 0;
}

static int
check_set_protocol_features(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	uint64_t unknown = msg->payload.u64 & ~session->config.protocol_features;

	if (unknown != 0)
		return session_refuse(session, -EINVAL,
			"protocol features 0x%" PRIx64 " were not offered", unknown);
	return 0;
}

static int
apply_set_protocol_features(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session->protocol_features = msg->payload.u64;
	return 0;
}

static int
apply_get_queue_num(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_reply_u64(reply, msg, DYNVHOST_MAX_QUEUE_PAIRS);
	return 0;
}

static int
check_set_status(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	if (msg->payload.u64 > FEATURES_STATUS_MAX)
		return session_refuse(session, -EINVAL, "status 0x%" PRIx64 " is more than a byte",
			msg->payload.u64);
	return 0;
}

static int
apply_set_status(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session->status = (uint8_t)msg->payload.u64;
	/* The front-end learns of refused features by reading the status back. */
	if (session->features_refused)
		session->status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	return 0;
}

static int
apply_get_status(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_reply_u64(reply, msg, session->status);
	return 0;
}

static int
check_net_set_mtu(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	if (msg->payload.u64 < FEATURES_MTU_MIN || msg->payload.u64 > session->config.max_mtu)
		return session_refuse(session, -EINVAL,
			"MTU %" PRIu64 " is not in the range from %u to %u", msg->payload.u64,
			FEATURES_MTU_MIN, session->config.max_mtu);
	return 0;
}

static int
apply_net_set_mtu(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session->mtu = (uint16_t)msg->payload.u64;
	session->news.mtu_changed = true;
	session->news.mtu = session->mtu;
	return 0;
}

/** The guest has arrived here and cannot say so itself: say it in its name. */
static int
apply_send_rarp(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	struct rte_ether_addr mac;

	/* The first six bytes in memory, whatever the byte order. */
	memcpy(&mac, &msg->payload.u64, sizeof(mac));
	dynvhost_vq_announce(&session->config.vq[FEATURES_FIRST_TX], &mac);
	return 0;
}

/** Back to a device that nobody has set up; owner, protocol features and memory stay. */
static int
apply_reset_device(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		session_stop_ring(session, i);
		session_reset_ring(session, i);
		session_enable_ring(session, i, false);
		session->ring[i].size = 0;
	}
	session->features = 0;
	session->features_set = false;
	session->features_refused = false;
	session->status = 0;
	return 0;
}

const struct session_handler session_feature_handlers[VU_REQUEST_MAX] = {
	[VU_GET_FEATURES] = {.apply = apply_get_features},
	[VU_SET_FEATURES] = {check_set_features, apply_set_features, .hold = true},
	[VU_SET_OWNER] = {.apply = apply_set_owner},
	[VU_RESET_OWNER] = {.apply = apply_reset_owner},
	[VU_GET_PROTOCOL_FEATURES] = {.apply = apply_get_protocol_features},
	[VU_SET_PROTOCOL_FEATURES] = {check_set_protocol_features, apply_set_protocol_features},
	[VU_GET_QUEUE_NUM] = {.apply = apply_get_queue_num},
	[VU_SEND_RARP] = {.apply = apply_send_rarp, .hold = true},
	[VU_NET_SET_MTU] = {check_net_set_mtu, apply_net_set_mtu},
	[VU_RESET_DEVICE] = {.apply = apply_reset_device, .hold = true},
	[VU_SET_STATUS] = {check_set_status, apply_set_status},
	[VU_GET_STATUS] = {.apply = apply_get_status},
};
