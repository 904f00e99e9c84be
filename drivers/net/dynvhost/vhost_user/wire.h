/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_WIRE_H
#define DYNVHOST_WIRE_H

/**
 * @file
 * vhost-user on the wire: numbers and layouts of the specification (vhost-user.rst), and nothing
 * else. All fields are in host byte order.
 */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/** fds that one message can carry ("Ancillary data"; the baseline memory table needs as many). */
#define VU_MAX_FDS 8
/** Regions in one memory table message. */
#define VU_MAX_TABLE_REGIONS 8
/** Bytes of configuration space in one message. */
#define VU_MAX_CONFIG 256

#define VU_VERSION         0x1u
#define VU_VERSION_MASK    0x3u
#define VU_FLAG_REPLY      (1u << 2)
#define VU_FLAG_NEED_REPLY (1u << 3)
#define VU_FLAGS_KNOWN     (VU_VERSION_MASK | VU_FLAG_REPLY | VU_FLAG_NEED_REPLY)

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SEND_RARP = 19,
	VU_NET_SET_MTU = 20,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_IOTLB_MSG = 22,
	VU_SET_VRING_ENDIAN = 23,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_CREATE_CRYPTO_SESSION = 26,
	VU_CLOSE_CRYPTO_SESSION = 27,
	VU_POSTCOPY_ADVISE = 28,
	VU_POSTCOPY_LISTEN = 29,
	VU_POSTCOPY_END = 30,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_GPU_SET_SOCKET = 33,
	VU_RESET_DEVICE = 34,
	VU_VRING_KICK = 35,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_STATUS = 39,
	VU_GET_STATUS = 40,
	VU_GET_SHARED_OBJECT = 41,
	VU_SET_DEVICE_STATE_FD = 42,
	VU_CHECK_DEVICE_STATE = 43,
	VU_GET_SHMEM_CONFIG = 44,
	VU_REQUEST_MAX
};

/** Protocol feature bits. */
enum vu_protocol_feature {
	VU_PF_MQ = 0,
	VU_PF_LOG_SHMFD = 1,
	VU_PF_RARP = 2,
	VU_PF_REPLY_ACK = 3,
	VU_PF_NET_MTU = 4,
	VU_PF_BACKEND_REQ = 5,
	VU_PF_CROSS_ENDIAN = 6,
	VU_PF_CRYPTO_SESSION = 7,
	VU_PF_PAGEFAULT = 8,
	VU_PF_CONFIG = 9,
	VU_PF_BACKEND_SEND_FD = 10,
	VU_PF_HOST_NOTIFIER = 11,
	VU_PF_INFLIGHT_SHMFD = 12,
	VU_PF_RESET_DEVICE = 13,
	VU_PF_INBAND_NOTIFICATIONS = 14,
	VU_PF_CONFIGURE_MEM_SLOTS = 15,
	VU_PF_STATUS = 16,
	VU_PF_XEN_MMAP = 17,
	VU_PF_SHARED_OBJECT = 18,
	VU_PF_DEVICE_STATE = 19,
	VU_PF_GET_VRING_BASE_INFLIGHT = 20,
	VU_PF_GPA_ADDRESSES = 21,
	VU_PF_SHMEM = 22,
};

/** Virtio feature bits that mean something to vhost-user alone. */
#define VU_F_LOG_ALL           26
#define VU_F_PROTOCOL_FEATURES 30

/** SET_VRING_KICK, _CALL and _ERR: ring index and "no fd comes with this". */
#define VU_VRING_INDEX_MASK 0xffu
#define VU_VRING_NOFD       (1u << 8)

/** SET_VRING_ADDR flags. */
#define VU_VRING_ADDR_LOG (1u << 0)

struct vu_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};
static_assert(sizeof(struct vu_header) == 12, "header is 12 bytes on the wire");

struct vu_vring_state {
	uint32_t index;
	uint32_t num;
};
static_assert(sizeof(struct vu_vring_state) == 8, "vring state");

struct vu_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc_uva;
	uint64_t used_uva;
	uint64_t avail_uva;
	uint64_t log_gpa;
};
static_assert(sizeof(struct vu_vring_addr) == 40, "vring address");

struct vu_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};
static_assert(sizeof(struct vu_mem_region) == 32, "memory region");

struct vu_mem_table {
	uint32_t n_regions;
	uint32_t padding;
	struct vu_mem_region region[VU_MAX_TABLE_REGIONS];
};
static_assert(offsetof(struct vu_mem_table, region) == 8, "memory table head");
static_assert(sizeof(struct vu_mem_table) == 8 + 32 * VU_MAX_TABLE_REGIONS, "memory table");

struct vu_single_region {
	uint64_t padding;
	struct vu_mem_region region;
};
static_assert(sizeof(struct vu_single_region) == 40, "single region");

struct vu_log {
	uint64_t size;
	uint64_t offset;
};
static_assert(sizeof(struct vu_log) == 16, "log description");

struct vu_iotlb {
	uint64_t iova;
	uint64_t size;
	uint64_t uva;
	uint8_t perm;
	uint8_t type;
	uint8_t padding[6];
};
static_assert(sizeof(struct vu_iotlb) == 32, "IOTLB message");
/** What an IOTLB message is about; front-ends send all but the first. */
enum vu_iotlb_type {
	VU_IOTLB_MISS = 1,
	VU_IOTLB_UPDATE = 2,
	VU_IOTLB_INVALIDATE = 3,
	VU_IOTLB_FAIL = 4,
};

/** The number of an IOTLB message on the socket of SET_BACKEND_REQ_FD. */
#define VU_BACKEND_IOTLB_MSG 1
/** Bytes of struct vu_iotlb that carry meaning; some front-ends leave out the padding. */
#define VU_IOTLB_MIN 26

struct vu_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding;
};
static_assert(sizeof(struct vu_inflight) == 24, "in-flight description");
#define VU_INFLIGHT_MIN 20

struct vu_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VU_MAX_CONFIG];
};
static_assert(offsetof(struct vu_config, data) == 12, "configuration space head");

struct vu_device_state {
	uint32_t direction;
	uint32_t phase;
};
static_assert(sizeof(struct vu_device_state) == 8, "device state transfer");

struct vu_uuid {
	uint8_t byte[16];
};
static_assert(sizeof(struct vu_uuid) == 16, "shared object");

union vu_payload {
	uint64_t u64;
	struct vu_vring_state state;
	struct vu_vring_addr addr;
	struct vu_mem_table table;
	struct vu_single_region single;
	struct vu_log log;
	struct vu_iotlb iotlb;
	struct vu_inflight inflight;
	struct vu_config config;
	struct vu_device_state device_state;
	struct vu_uuid uuid;
};

#endif /* DYNVHOST_WIRE_H */
