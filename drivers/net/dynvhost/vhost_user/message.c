/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Security model: a message comes from a peer that may be hostile. This file decides, from one
 * table, whether its frame (flags, size, number of fds, count fields) is what the request is said
 * to look like, so that handlers meet neither missing bytes nor fds that they do not expect. Of the
 * payload it reads the count fields alone, and those only once the size is known to cover them.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

/** Payload bytes of the largest request: a whole configuration space. */
#define MSG_SIZE_MAX (offsetof(struct vu_config, data) + VU_MAX_CONFIG)

static_assert(MSG_SIZE_MAX <= sizeof(union vu_payload), "every request fits the payload");
static_assert(MSG_SIZE_MAX >= sizeof(struct vu_mem_table), "no request is larger");

/** Columns of the table: least and most payload bytes. */
#define MSG_NONE        0, 0
#define MSG_EXACT(type) sizeof(type), sizeof(type)
#define MSG_U64         MSG_EXACT(uint64_t)
#define MSG_STATE       MSG_EXACT(struct vu_vring_state)
#define MSG_ADDR        MSG_EXACT(struct vu_vring_addr)
#define MSG_REGION      MSG_EXACT(struct vu_single_region)
#define MSG_UUID        MSG_EXACT(struct vu_uuid)
#define MSG_TRANSFER    MSG_EXACT(struct vu_device_state)
#define MSG_TABLE       offsetof(struct vu_mem_table, region), sizeof(struct vu_mem_table)
#define MSG_CONFIG      offsetof(struct vu_config, data), MSG_SIZE_MAX
#define MSG_IOTLB       VU_IOTLB_MIN, sizeof(struct vu_iotlb)
#define MSG_INFLIGHT    VU_INFLIGHT_MIN, sizeof(struct vu_inflight)
#define MSG_LOG         sizeof(uint64_t), sizeof(struct vu_log)
#define MSG_LOG_FD      0, sizeof(uint64_t)
#define MSG_ANY         0, MSG_SIZE_MAX

#define MSG_ALWAYS DYNVHOST_MSG_NO_GATE
#define MSG_ROW(id, size, fds_min, fds_max, gate, reply) \
	[VU_##id] = {#id, size, fds_min, fds_max, gate, DYNVHOST_MSG_##reply}

/*
 * vhost-user.rst, "Front-end message types". Where a row alone is too wide, msg_frame_fault()
 * narrows it. The specification fixes no layout for a crypto session: any size is good enough to
 * be refused, and nobody asks a network device to accept one.
 */
/* clang-format off */
static const struct dynvhost_msg_info msg_table[VU_REQUEST_MAX] = {
	/*      request                 payload       fds   protocol feature            answer */
	MSG_ROW(GET_FEATURES,           MSG_NONE,     0, 0, MSG_ALWAYS,                 BODY),
	MSG_ROW(SET_FEATURES,           MSG_U64,      0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_OWNER,              MSG_NONE,     0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(RESET_OWNER,            MSG_NONE,     0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_MEM_TABLE,          MSG_TABLE,    0, 8, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_LOG_BASE,           MSG_LOG,      0, 1, VU_PF_LOG_SHMFD,            BODY),
	MSG_ROW(SET_LOG_FD,             MSG_LOG_FD,   1, 1, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_VRING_NUM,          MSG_STATE,    0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_VRING_ADDR,         MSG_ADDR,     0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_VRING_BASE,         MSG_STATE,    0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(GET_VRING_BASE,         MSG_STATE,    0, 0, MSG_ALWAYS,                 BODY),
	MSG_ROW(SET_VRING_KICK,         MSG_U64,      0, 1, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_VRING_CALL,         MSG_U64,      0, 1, MSG_ALWAYS,                 ACK),
	MSG_ROW(SET_VRING_ERR,          MSG_U64,      0, 1, MSG_ALWAYS,                 ACK),
	MSG_ROW(GET_PROTOCOL_FEATURES,  MSG_NONE,     0, 0, MSG_ALWAYS,                 BODY),
	MSG_ROW(SET_PROTOCOL_FEATURES,  MSG_U64,      0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(GET_QUEUE_NUM,          MSG_NONE,     0, 0, VU_PF_MQ,                   BODY),
	MSG_ROW(SET_VRING_ENABLE,       MSG_STATE,    0, 0, MSG_ALWAYS,                 ACK),
	MSG_ROW(SEND_RARP,              MSG_U64,      0, 0, VU_PF_RARP,                 ACK),
	MSG_ROW(NET_SET_MTU,            MSG_U64,      0, 0, VU_PF_NET_MTU,              ACK),
	MSG_ROW(SET_BACKEND_REQ_FD,     MSG_NONE,     1, 1, VU_PF_BACKEND_REQ,          ACK),
	MSG_ROW(IOTLB_MSG,              MSG_IOTLB,    0, 0, MSG_ALWAYS,                 ACK_UNGATED),
	MSG_ROW(SET_VRING_ENDIAN,       MSG_STATE,    0, 0, VU_PF_CROSS_ENDIAN,         ACK),
	MSG_ROW(GET_CONFIG,             MSG_CONFIG,   0, 0, VU_PF_CONFIG,               BODY),
	MSG_ROW(SET_CONFIG,             MSG_CONFIG,   0, 0, VU_PF_CONFIG,               ACK),
	MSG_ROW(CREATE_CRYPTO_SESSION,  MSG_ANY,      0, 0, VU_PF_CRYPTO_SESSION,       BODY),
	MSG_ROW(CLOSE_CRYPTO_SESSION,   MSG_U64,      0, 0, VU_PF_CRYPTO_SESSION,       ACK),
	MSG_ROW(POSTCOPY_ADVISE,        MSG_NONE,     0, 0, VU_PF_PAGEFAULT,            BODY),
	MSG_ROW(POSTCOPY_LISTEN,        MSG_NONE,     0, 0, VU_PF_PAGEFAULT,            ACK_UNGATED),
	MSG_ROW(POSTCOPY_END,           MSG_NONE,     0, 0, VU_PF_PAGEFAULT,            ACK_UNGATED),
	MSG_ROW(GET_INFLIGHT_FD,        MSG_INFLIGHT, 0, 0, VU_PF_INFLIGHT_SHMFD,       BODY),
	MSG_ROW(SET_INFLIGHT_FD,        MSG_INFLIGHT, 1, 1, VU_PF_INFLIGHT_SHMFD,       ACK),
	MSG_ROW(GPU_SET_SOCKET,         MSG_NONE,     1, 1, MSG_ALWAYS,                 ACK),
	MSG_ROW(RESET_DEVICE,           MSG_NONE,     0, 0, VU_PF_RESET_DEVICE,         ACK),
	MSG_ROW(VRING_KICK,             MSG_STATE,    0, 0, VU_PF_INBAND_NOTIFICATIONS, ACK),
	MSG_ROW(GET_MAX_MEM_SLOTS,      MSG_NONE,     0, 0, VU_PF_CONFIGURE_MEM_SLOTS,  BODY),
	MSG_ROW(ADD_MEM_REG,            MSG_REGION,   1, 1, VU_PF_CONFIGURE_MEM_SLOTS,  ACK),
	MSG_ROW(REM_MEM_REG,            MSG_REGION,   0, 1, VU_PF_CONFIGURE_MEM_SLOTS,  ACK),
	MSG_ROW(SET_STATUS,             MSG_U64,      0, 0, VU_PF_STATUS,               ACK),
	MSG_ROW(GET_STATUS,             MSG_NONE,     0, 0, VU_PF_STATUS,               BODY),
	MSG_ROW(GET_SHARED_OBJECT,      MSG_UUID,     0, 0, VU_PF_SHARED_OBJECT,        BODY),
	MSG_ROW(SET_DEVICE_STATE_FD,    MSG_TRANSFER, 1, 1, VU_PF_DEVICE_STATE,         BODY),
	MSG_ROW(CHECK_DEVICE_STATE,     MSG_NONE,     0, 0, VU_PF_DEVICE_STATE,         BODY),
	MSG_ROW(GET_SHMEM_CONFIG,       MSG_NONE,     0, 0, VU_PF_SHMEM,                BODY),
};
/* clang-format on */

static const char msg_wrong_size[] = "payload size is wrong for this request";
static const char msg_wrong_fds[] = "number of fds is wrong for this request";

const struct dynvhost_msg_info *
dynvhost_msg_info(uint32_t request)
{
	if (request >= VU_REQUEST_MAX || msg_table[request].name == NULL)
		return NULL;
	return &msg_table[request];
}

const char *
dynvhost_msg_name(uint32_t request)
{
	const struct dynvhost_msg_info *info = dynvhost_msg_info(request);

	return info == NULL ? "unknown request" : info->name;
}

int
dynvhost_msg_check_header(const struct vu_header *header)
{
	/* One comparison for the version, for REPLY and for the reserved bits. */
	if ((header->flags & ~VU_FLAG_NEED_REPLY) != VU_VERSION)
		return -EPROTO;
	if (header->size > MSG_SIZE_MAX)
		return -EPROTO;
	return 0;
}

static bool
msg_negotiated(uint64_t protocol_features, uint32_t bit)
{
	return bit == DYNVHOST_MSG_NO_GATE || (protocol_features >> bit & 1) != 0;
}

/** The table announces as many regions as it has room for, and comes with an fd for each. */
static const char *
msg_mem_table_fault(const struct dynvhost_msg *msg)
{
	uint64_t n_regions = msg->payload.table.n_regions;
	uint64_t head = offsetof(struct vu_mem_table, region);

	if (msg->header.size != head + n_regions * sizeof(struct vu_mem_region))
		return "payload size disagrees with the number of regions";
	if (msg->n_fds != n_regions)
		return "number of fds disagrees with the number of regions";
	return NULL;
}

/**
 * Without shared memory for the log the payload is a lone u64, though QEMU sends the full
 * description even then. Either is whole, and refused for the missing feature.
 */
static const char *
msg_log_base_fault(const struct dynvhost_msg *msg, uint64_t protocol_features)
{
	uint32_t size = msg->header.size;

	if (msg_negotiated(protocol_features, VU_PF_LOG_SHMFD)) {
		if (size != sizeof(struct vu_log))
			return msg_wrong_size;
		if (msg->n_fds != 1)
			return msg_wrong_fds;
	} else if (size != sizeof(uint64_t) && size != sizeof(struct vu_log)) {
		return msg_wrong_size;
	}
	return NULL;
}

static const char *
msg_vring_fd_fault(const struct dynvhost_msg *msg)
{
	uint32_t announced = (msg->payload.u64 & VU_VRING_NOFD) != 0 ? 0 : 1;

	return msg->n_fds == announced ? NULL : "number of fds disagrees with the no-fd flag";
}

static const char *
msg_config_fault(const struct dynvhost_msg *msg)
{
	uint64_t head = offsetof(struct vu_config, data);

	if (msg->header.size != head + msg->payload.config.size)
		return "payload size disagrees with the number of configuration bytes";
	return NULL;
}

/** What is wrong with the frame of a known request; NULL: nothing. */
static const char *
msg_frame_fault(const struct dynvhost_msg *msg, const struct dynvhost_msg_info *info,
	uint64_t protocol_features)
{
	uint32_t size = msg->header.size;

	if (size < info->size_min || size > info->size_max)
		return msg_wrong_size;
	if (msg->n_fds < info->fds_min || msg->n_fds > info->fds_max)
		return msg_wrong_fds;

	switch (msg->header.request) {
	case VU_SET_MEM_TABLE:
		return msg_mem_table_fault(msg);
	case VU_SET_LOG_BASE:
		return msg_log_base_fault(msg, protocol_features);
	case VU_SET_LOG_FD:
		return size == 0 || size == sizeof(uint64_t) ? NULL : msg_wrong_size;
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
		return msg_vring_fd_fault(msg);
	case VU_GET_CONFIG:
	case VU_SET_CONFIG:
		return msg_config_fault(msg);
	default:
		return NULL;
	}
}

enum dynvhost_msg_verdict
dynvhost_msg_check(const struct dynvhost_msg *msg, uint64_t protocol_features, const char **why)
{
	const struct dynvhost_msg_info *info = dynvhost_msg_info(msg->header.request);
	const char *fault;

	if (dynvhost_msg_check_header(&msg->header) < 0) {
		*why = "header has a wrong version, flags or size";
		return DYNVHOST_MSG_BROKEN;
	}
	if (info == NULL) {
		*why = "request is unknown";
		return DYNVHOST_MSG_REFUSED;
	}
	fault = msg_frame_fault(msg, info, protocol_features);
	if (fault != NULL) {
		*why = fault;
		return DYNVHOST_MSG_BROKEN;
	}
	if (!msg_negotiated(protocol_features, info->gate)) {
		*why = "protocol feature of this request is not negotiated";
		return DYNVHOST_MSG_REFUSED;
	}
	if (msg->header.request == VU_SET_MEM_TABLE && msg->payload.table.n_regions == 0) {
		*why = "memory table is empty";
		return DYNVHOST_MSG_REFUSED;
	}
	return DYNVHOST_MSG_OK;
}

/** The answer column, seen with the features in force: only a shared log is echoed. */
static enum dynvhost_msg_reply
msg_reply(uint32_t request, uint64_t protocol_features)
{
	const struct dynvhost_msg_info *info = dynvhost_msg_info(request);

	if (info == NULL)
		return DYNVHOST_MSG_ACK;
	if (request == VU_SET_LOG_BASE && !msg_negotiated(protocol_features, info->gate))
		return DYNVHOST_MSG_ACK;
	return info->reply;
}

bool
dynvhost_msg_wants_ack(const struct dynvhost_msg *msg, uint64_t protocol_features)
{
	if ((msg->header.flags & VU_FLAG_NEED_REPLY) == 0)
		return false;

	switch (msg_reply(msg->header.request, protocol_features)) {
	case DYNVHOST_MSG_ACK:
		return msg_negotiated(protocol_features, VU_PF_REPLY_ACK);
	case DYNVHOST_MSG_ACK_UNGATED:
		return true;
	case DYNVHOST_MSG_BODY:
		break;
	}
	return false;
}

void
dynvhost_msg_close_fds(struct dynvhost_msg *msg)
{
	uint32_t i;
	int fd;

	for (i = 0; i < msg->n_fds; i++) {
		fd = dynvhost_msg_take_fd(msg, i);
		if (fd >= 0)
			close(fd);
	}
	msg->n_fds = 0;
}

int
dynvhost_msg_take_fd(struct dynvhost_msg *msg, uint32_t i)
{
	int fd;

	if (i >= msg->n_fds)
		return -1;
	fd = msg->fd[i];
	msg->fd[i] = -1;
	return fd;
}

void
dynvhost_msg_init_reply(
	struct dynvhost_msg *reply, const struct dynvhost_msg *request, uint32_t size)
{
	uint32_t i;

	/* What the caller leaves out goes to the peer as zeroes, not as bytes of our stack. */
	memset(reply, 0, sizeof(*reply));
	reply->header.request = request->header.request;
	reply->header.flags = VU_VERSION | VU_FLAG_REPLY;
	reply->header.size = size;
	for (i = 0; i < VU_MAX_FDS; i++)
		reply->fd[i] = -1;
}
