/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A whole start, as a good front-end makes it.
 */

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <rte_common.h>

#include "front.h"

#define BIT(n) (1ull << (n))

static void
start_number(struct front *front, uint32_t request, uint32_t flags, uint64_t value)
{
	front_say(front, request, flags, &value, sizeof(value), NULL, 0);
}

static void
start_memory(struct front *front, uint8_t how, uint32_t flags)
{
	struct vu_mem_table table = {.n_regions = front->ram.n_regions};
	int fd[VU_MAX_FDS];
	uint32_t i;

	for (i = 0; i < table.n_regions; i++) {
		struct vu_single_region single = {.region = front_region(front, i)};

		table.region[i] = single.region;
		fd[i] = front->fd[i % 2 ? FRONT_FD_OTHER : FRONT_FD_MEMORY];
		if ((how & FRONT_START_SLOTS) && !(how & FRONT_START_OLD))
			front_say(front, VU_ADD_MEM_REG, flags, &single, sizeof(single), &fd[i], 1);
	}
	if (!(how & FRONT_START_SLOTS) || (how & FRONT_START_OLD))
		front_say(front, VU_SET_MEM_TABLE, flags, &table,
			offsetof(struct vu_mem_table, region[table.n_regions]), fd,
			table.n_regions);
}

/* What behind an IOMMU comes before rings can start: all of memory, where it is. */
static void
start_iommu(struct front *front, uint32_t flags)
{
	const struct vu_iotlb iotlb = {
		.size = FRONT_RAM / 2,
		.uva = GUEST_RAM_UVA_BASE,
		.perm = 3,
		.type = VU_IOTLB_UPDATE,
	};

	front_say(front, VU_SET_BACKEND_REQ_FD, flags, NULL, 0, &front->fd[FRONT_FD_SOCKET], 1);
	front_say(front, VU_IOTLB_MSG, flags, &iotlb, sizeof(iotlb), NULL, 0);
}

static void
start_ring(struct front *front, uint32_t ring, uint8_t how, uint32_t flags)
{
	const uint32_t base = how & FRONT_START_PACKED ? 0x80008000 : 0;
	struct vu_vring_state state = {.index = ring, .num = FRONT_SIZE};
	struct vu_vring_addr addr = front_ring_addr(front, ring, (how & FRONT_START_PACKED) != 0);
	uint64_t index = ring;

	if (how & FRONT_START_IOMMU) {
		addr.desc_uva -= GUEST_RAM_UVA_BASE;
		addr.avail_uva -= GUEST_RAM_UVA_BASE;
		addr.used_uva -= GUEST_RAM_UVA_BASE;
	}
	addr.flags = how & FRONT_START_LOG ? VU_VRING_ADDR_LOG : 0;
	front_say(front, VU_SET_VRING_NUM, flags, &state, sizeof(state), NULL, 0);
	state.num = base;
	front_say(front, VU_SET_VRING_BASE, flags, &state, sizeof(state), NULL, 0);
	front_say(front, VU_SET_VRING_ADDR, flags, &addr, sizeof(addr), NULL, 0);
	front_say(front, VU_SET_VRING_CALL, flags, &index, sizeof(index),
		&front->fd[FRONT_FD_EVENT], 1);
	front_say(front, VU_SET_VRING_KICK, flags, &index, sizeof(index),
		&front->fd[FRONT_FD_EVENT], 1);
	state.num = 1;
	if (!(how & FRONT_START_OLD))
		front_say(front, VU_SET_VRING_ENABLE, flags, &state, sizeof(state), NULL, 0);
}

static uint64_t
start_features(uint8_t how)
{
	uint64_t features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC);

	features |= how & FRONT_START_OLD ? 0 : BIT(VU_F_PROTOCOL_FEATURES);
	features |= how & FRONT_START_NO_MRG ? 0 : BIT(VIRTIO_NET_F_MRG_RXBUF);
	features |= how & FRONT_START_EVENT ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0;
	features |= how & FRONT_START_PACKED ? BIT(VIRTIO_F_RING_PACKED) : 0;
	features |= how & FRONT_START_IOMMU ? BIT(VIRTIO_F_ACCESS_PLATFORM) : 0;
	features |= how & FRONT_START_LOG ? BIT(VU_F_LOG_ALL) : 0;
	return features;
}

void
front_start(struct front *front, uint8_t how)
{
	const uint32_t flags = how & FRONT_START_ACKS ? VU_FLAG_NEED_REPLY : 0;
	const struct vu_log log = {.size = FRONT_LOG_SIZE};
	uint32_t i;

	front_lay_rings(front, (how & FRONT_START_PACKED) != 0);
	start_number(front, VU_SET_FEATURES, flags, start_features(how));
	if (!(how & FRONT_START_OLD))
		start_number(front, VU_SET_PROTOCOL_FEATURES, flags,
			front->backend->session.config.protocol_features);
	start_memory(front, how, flags);
	if ((how & FRONT_START_IOMMU) && !(how & FRONT_START_OLD))
		start_iommu(front, flags);
	if ((how & FRONT_START_LOG) && !(how & FRONT_START_OLD))
		front_say(front, VU_SET_LOG_BASE, flags, &log, sizeof(log),
			&front->fd[FRONT_FD_LOG], 1);
	for (i = 0; i < FRONT_RINGS; i++)
		start_ring(front, i, how, flags);
}
