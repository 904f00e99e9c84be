/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "front_end.h"
#include "mock.h"

/* Send a request without payload that is always answered by a u64. */
static uint64_t
fe_get_u64(struct front_end *fe, uint32_t request)
{
	struct fe_message message = fe_make(request, VU_VERSION, NULL, 0);

	fe_send(fe, &message);
	return fe_expect_u64(fe, request);
}

static void
fe_set_u64(struct front_end *fe, uint32_t request, uint64_t value, enum fe_want want)
{
	fe_request(fe, request, &value, sizeof(value), NULL, 0, want);
}

static void
fe_set_state(
	struct front_end *fe, uint32_t request, uint32_t index, uint32_t num, enum fe_want want)
{
	struct vu_vring_state state = {.index = index, .num = num};

	fe_request(fe, request, &state, sizeof(state), NULL, 0, want);
}

static void
fe_set_ring_fd(struct front_end *fe, uint32_t request, uint32_t index, int fd, enum fe_want want)
{
	uint64_t value = index;

	if (fd < 0)
		value |= VU_VRING_NOFD;
	fe_request(fe, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1, want);
}

uint64_t
fe_get_features(struct front_end *fe)
{
	return fe_get_u64(fe, VU_GET_FEATURES);
}

void
fe_set_features(struct front_end *fe, uint64_t features, enum fe_want want)
{
	fe_set_u64(fe, VU_SET_FEATURES, features, want);
}

void
fe_set_owner(struct front_end *fe, enum fe_want want)
{
	fe_request(fe, VU_SET_OWNER, NULL, 0, NULL, 0, want);
}

void
fe_reset_owner(struct front_end *fe, enum fe_want want)
{
	fe_request(fe, VU_RESET_OWNER, NULL, 0, NULL, 0, want);
}

void
fe_reset_device(struct front_end *fe, enum fe_want want)
{
	fe_request(fe, VU_RESET_DEVICE, NULL, 0, NULL, 0, want);
}

uint64_t
fe_get_protocol_features(struct front_end *fe)
{
	return fe_get_u64(fe, VU_GET_PROTOCOL_FEATURES);
}

void
fe_set_protocol_features(struct front_end *fe, uint64_t features, enum fe_want want)
{
	fe_set_u64(fe, VU_SET_PROTOCOL_FEATURES, features, want);
	if (want == FE_OK || want == FE_SEND)
		fe->protocol_features = features;
}

uint64_t
fe_get_queue_num(struct front_end *fe)
{
	return fe_get_u64(fe, VU_GET_QUEUE_NUM);
}

uint64_t
fe_get_max_mem_slots(struct front_end *fe)
{
	return fe_get_u64(fe, VU_GET_MAX_MEM_SLOTS);
}

uint64_t
fe_get_status(struct front_end *fe)
{
	return fe_get_u64(fe, VU_GET_STATUS);
}

void
fe_set_status(struct front_end *fe, uint64_t status, enum fe_want want)
{
	fe_set_u64(fe, VU_SET_STATUS, status, want);
}

void
fe_set_mtu(struct front_end *fe, uint64_t mtu, enum fe_want want)
{
	fe_set_u64(fe, VU_NET_SET_MTU, mtu, want);
}

void
fe_send_rarp(struct front_end *fe, const uint8_t *mac, enum fe_want want)
{
	uint64_t value = 0;

	memcpy(&value, mac, 6);
	fe_set_u64(fe, VU_SEND_RARP, value, want);
}

void
fe_iotlb(struct front_end *fe, uint8_t type, uint64_t iova, uint64_t size, uint64_t uva,
	uint8_t perm, enum fe_want want)
{
	const struct vu_iotlb msg = {
		.iova = iova, .size = size, .uva = uva, .perm = perm, .type = type};

	fe_request(fe, VU_IOTLB_MSG, &msg, sizeof(msg), NULL, 0, want);
}

struct vu_mem_region
fe_region(const struct guest_ram_region *region)
{
	return (struct vu_mem_region){
		.gpa = region->gpa,
		.size = region->size,
		.uva = region->uva,
		.mmap_offset = region->file_offset,
	};
}

void
fe_set_mem_table_raw(struct front_end *fe, uint32_t n_regions, const struct vu_mem_region *region,
	unsigned int n_sent, const int *fd, unsigned int n_fds, enum fe_want want)
{
	struct {
		uint32_t n_regions;
		uint32_t padding;
		struct vu_mem_region region[16];
	} table = {.n_regions = n_regions};

	mock_check(n_sent <= 16);
	memcpy(table.region, region, n_sent * sizeof(*region));
	fe_request(fe, VU_SET_MEM_TABLE, &table, 8 + n_sent * sizeof(*region), fd, n_fds, want);
}

void
fe_set_mem_table(struct front_end *fe, const struct guest_ram *ram, enum fe_want want)
{
	struct vu_mem_region region[VU_MAX_TABLE_REGIONS];
	int fd[VU_MAX_TABLE_REGIONS];
	unsigned int i;

	mock_check(ram->n_regions <= VU_MAX_TABLE_REGIONS);
	for (i = 0; i < ram->n_regions; i++) {
		region[i] = fe_region(&ram->region[i]);
		fd[i] = ram->file[ram->region[i].file].fd;
	}
	fe_set_mem_table_raw(fe, ram->n_regions, region, ram->n_regions, fd, ram->n_regions, want);
}

void
fe_add_mem_reg(struct front_end *fe, const struct vu_mem_region *region, const int *fd,
	unsigned int n_fds, enum fe_want want)
{
	struct vu_single_region single = {.region = *region};

	fe_request(fe, VU_ADD_MEM_REG, &single, sizeof(single), fd, n_fds, want);
}

void
fe_rem_mem_reg(struct front_end *fe, const struct vu_mem_region *region, const int *fd,
	unsigned int n_fds, enum fe_want want)
{
	struct vu_single_region single = {.region = *region};

	fe_request(fe, VU_REM_MEM_REG, &single, sizeof(single), fd, n_fds, want);
}

void
fe_set_log_base(struct front_end *fe, uint64_t size, uint64_t offset, int fd, enum fe_want want)
{
	const struct vu_log log = {.size = size, .offset = offset};
	struct fe_message message = fe_make(VU_SET_LOG_BASE, VU_VERSION, &log, sizeof(log));
	struct fe_reply reply;

	if (want != FE_OK) {
		fe_request(fe, VU_SET_LOG_BASE, &log, sizeof(log), &fd, fd >= 0, want);
		return;
	}
	message.fd = &fd;
	message.n_fds = 1;
	fe_send(fe, &message);
	fe_expect_reply(fe, VU_SET_LOG_BASE, sizeof(log), &reply);
	mock_check(memcmp(&reply.payload.log, &log, sizeof(log)) == 0);
}

void
fe_set_vring_num(struct front_end *fe, uint32_t index, uint32_t num, enum fe_want want)
{
	fe_set_state(fe, VU_SET_VRING_NUM, index, num, want);
}

void
fe_set_vring_base(struct front_end *fe, uint32_t index, uint32_t base, enum fe_want want)
{
	fe_set_state(fe, VU_SET_VRING_BASE, index, base, want);
}

void
fe_set_vring_addr_raw(struct front_end *fe, const struct vu_vring_addr *addr, enum fe_want want)
{
	fe_request(fe, VU_SET_VRING_ADDR, addr, sizeof(*addr), NULL, 0, want);
}

void
fe_set_vring_addr(struct front_end *fe, const struct fe_ring *ring, enum fe_want want)
{
	struct vu_vring_addr addr = {
		.index = ring->index,
		.desc_uva = ring->desc_uva,
		.used_uva = ring->used_uva,
		.avail_uva = ring->avail_uva,
	};

	fe_set_vring_addr_raw(fe, &addr, want);
}

void
fe_set_vring_enable(struct front_end *fe, uint32_t index, uint32_t on, enum fe_want want)
{
	fe_set_state(fe, VU_SET_VRING_ENABLE, index, on, want);
}

uint32_t
fe_get_vring_base(struct front_end *fe, uint32_t index)
{
	struct vu_vring_state state = {.index = index};
	struct fe_message message = fe_make(VU_GET_VRING_BASE, VU_VERSION, &state, sizeof(state));
	struct fe_reply reply;

	fe_send(fe, &message);
	fe_expect_reply(fe, VU_GET_VRING_BASE, sizeof(state), &reply);
	mock_check(reply.payload.state.index == index);
	return reply.payload.state.num;
}

void
fe_set_vring_kick(struct front_end *fe, uint32_t index, int fd, enum fe_want want)
{
	fe_set_ring_fd(fe, VU_SET_VRING_KICK, index, fd, want);
}

void
fe_set_vring_call(struct front_end *fe, uint32_t index, int fd, enum fe_want want)
{
	fe_set_ring_fd(fe, VU_SET_VRING_CALL, index, fd, want);
}

void
fe_set_vring_err(struct front_end *fe, uint32_t index, int fd, enum fe_want want)
{
	fe_set_ring_fd(fe, VU_SET_VRING_ERR, index, fd, want);
}
