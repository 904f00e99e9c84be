/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A ring of a guest's network device, in the format that the guest asks for.
 */

#include <linux/virtio_config.h>

#include "guest_nic.h"
#include "mock.h"

bool
nic_is_packed(const struct guest_nic *nic)
{
	return (nic->config.features & (1ull << VIRTIO_F_RING_PACKED)) != 0;
}

static uint16_t
nic_packed_start(const struct guest_nic *nic)
{
	return packed_ring_step(nic->config.ring_size, PACKED_RING_START, nic->config.start_index);
}

void
nic_ring_init(struct guest_nic *nic, struct nic_ring *ring)
{
	const struct nic_config *config = &nic->config;

	if (nic_is_packed(nic))
		packed_ring_init_alloc(&ring->packed, nic->ram, config->ring_region,
			config->ring_size, nic_packed_start(nic));
	else
		split_ring_init_alloc(&ring->ring, nic->ram, config->ring_region, config->ring_size,
			config->start_index);
	ring->packed.in_order = (config->features >> VIRTIO_F_IN_ORDER) & 1;
	ring->buf_gpa = guest_ram_alloc(nic->ram, config->buffer_region,
		(uint64_t)config->ring_size * config->buf_len, GUEST_RAM_PAGE);
}

void
nic_ring_fini(struct nic_ring *ring)
{
	split_ring_fini(&ring->ring);
	packed_ring_fini(&ring->packed);
}

void
nic_ring_reset(struct guest_nic *nic, struct nic_ring *ring)
{
	if (nic_is_packed(nic))
		packed_ring_reset(&ring->packed, nic_packed_start(nic));
	else
		split_ring_reset(&ring->ring, nic->config.start_index);
}

uint16_t
nic_ring_room(const struct guest_nic *nic, const struct nic_ring *ring)
{
	return nic_is_packed(nic) ? ring->packed.n_free : ring->ring.n_free;
}

/* A buffer belongs to a descriptor of a split ring, to a slot of a packed one. */
static uint64_t
nic_ring_buffer_of(const struct guest_nic *nic, const struct nic_ring *ring, uint32_t i)
{
	return ring->buf_gpa + (uint64_t)i * nic->config.buf_len;
}

uint64_t
nic_ring_buffer(const struct guest_nic *nic, const struct nic_ring *ring, uint16_t ahead)
{
	const struct packed_ring *packed = &ring->packed;

	if (!nic_is_packed(nic))
		return nic_ring_buffer_of(nic, ring, split_ring_peek(&ring->ring, ahead));
	return nic_ring_buffer_of(
		nic, ring, packed_ring_step(packed->num, packed->avail_pos, ahead) & 0x7fff);
}

int
nic_ring_add(const struct guest_nic *nic, struct nic_ring *ring, const struct ring_piece *piece,
	uint16_t n)
{
	return nic_is_packed(nic) ? packed_ring_add(&ring->packed, piece, n)
				  : split_ring_add(&ring->ring, piece, n);
}

int
nic_ring_add_mixed(const struct guest_nic *nic, struct nic_ring *ring,
	const struct ring_piece *piece, uint16_t n_direct, uint16_t n, uint64_t table_gpa)
{
	return nic_is_packed(nic)
		       ? packed_ring_add_mixed(&ring->packed, piece, n_direct, n, table_gpa)
		       : split_ring_add_mixed(&ring->ring, piece, n_direct, n, table_gpa);
}

void
nic_ring_publish(const struct guest_nic *nic, struct nic_ring *ring)
{
	if (nic_is_packed(nic))
		packed_ring_publish(&ring->packed);
	else
		split_ring_publish(&ring->ring);
}

bool
nic_ring_has_used(const struct guest_nic *nic, const struct nic_ring *ring)
{
	if (nic_is_packed(nic))
		return packed_ring_has_used(&ring->packed);
	return split_ring_device_idx(&ring->ring) != ring->ring.used_idx;
}

bool
nic_ring_collect(const struct guest_nic *nic, struct nic_ring *ring, struct ring_used *used,
	uint64_t *buffer_gpa)
{
	uint16_t slot = ring->packed.used_pos & 0x7fff;

	if (!nic_is_packed(nic)) {
		if (!split_ring_collect(&ring->ring, used))
			return false;
		slot = (uint16_t)used->id;
	} else if (!packed_ring_collect(&ring->packed, used)) {
		return false;
	}
	*buffer_gpa = nic_ring_buffer_of(nic, ring, slot);
	return true;
}

uint32_t
nic_ring_position(const struct guest_nic *nic, const struct nic_ring *ring)
{
	uint32_t half;

	if (!nic_is_packed(nic))
		return split_ring_device_idx(&ring->ring);
	half = packed_ring_device_pos(&ring->packed);
	return half << 16 | half;
}

struct fe_ring
nic_fe_ring(const struct guest_nic *nic, unsigned int index)
{
	const struct nic_ring *ring = &nic->ring[index];
	const struct split_ring *split = &ring->ring;
	const struct packed_ring *packed = &ring->packed;
	bool is_packed = nic_is_packed(nic);

	return (struct fe_ring){
		.index = index,
		.num = is_packed ? packed->num : split->num,
		.base = nic_ring_position(nic, ring),
		.desc_uva = guest_ram_uva(nic->ram, is_packed ? packed->desc_gpa : split->desc_gpa),
		.avail_uva = guest_ram_uva(
			nic->ram, is_packed ? packed->driver_gpa : split->avail_gpa),
		.used_uva = guest_ram_uva(
			nic->ram, is_packed ? packed->device_gpa : split->used_gpa),
	};
}
