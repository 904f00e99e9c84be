/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file The guest behind a measured port: memory, rings, front-end. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_common.h>

#include "bench_burst.h"
#include "mock.h"

#define BIT(n) (1ull << (n))

/** Regions that SET_MEM_TABLE carries; more go one by one. */
#define GUEST_TABLE_REGIONS 8

/** Bytes for both rings, in front of the first region's buffers. */
#define GUEST_RING_BYTES(size) (2 * ((uint64_t)(size)*40 + 3 * GUEST_RAM_PAGE))

static uint64_t
guest_align(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/** Buffers of one direction that a region holds. */
static uint32_t
guest_share(const struct burst_shape *shape)
{
	return (shape->buffers + shape->regions - 1) / shape->regions;
}

/** Bytes of a region, which are whole pages. */
static uint64_t
guest_region_bytes(const struct burst_shape *shape, uint64_t page)
{
	const uint64_t least = 2 * (uint64_t)guest_share(shape) * BURST_STRIDE +
			       GUEST_RING_BYTES(shape->ring) + GUEST_RAM_PAGE;

	return guest_align(RTE_MAX(least, shape->memory / shape->regions), page);
}

/** The page size that a shape asks for, where the machine has such pages. */
static uint64_t
guest_page(const struct burst_shape *shape)
{
	static bool told;

	if (shape->page != GUEST_RAM_HUGEPAGE ||
		guest_ram_has_hugepages(
			guest_region_bytes(shape, GUEST_RAM_HUGEPAGE) * shape->regions))
		return shape->page;
	if (!told)
		fprintf(stderr, "%s: no 2 MiB pages free, 4 KiB instead\n", shape->name);
	told = true;
	return GUEST_RAM_PAGE;
}

/** Regions lie apart in guest addresses and end to end in one file. */
static void
guest_lay_out(struct burst_port *port, const struct burst_shape *shape)
{
	const uint64_t page = guest_page(shape);
	const uint64_t share = guest_region_bytes(shape, page);
	unsigned int file;

	guest_ram_init(&port->ram);
	file = guest_ram_add_file(&port->ram, share * shape->regions, page);
	for (uint32_t i = 0; i < shape->regions; i++)
		guest_ram_add_region(&port->ram, file, i * share, i * 2 * share, share, 0);
}

/** A place of the ring's own, its pointer too. */
static void *
guest_area(struct burst_port *port, uint64_t len, uint64_t *gpa)
{
	*gpa = guest_ram_alloc(&port->ram, 0, len, 64);
	return guest_ram_at(&port->ram, *gpa, len);
}

static void
guest_make_ring(struct burst_port *port, const struct burst_shape *shape, struct burst_ring *ring)
{
	const uint64_t size = shape->ring;
	void *desc, *avail, *used;

	ring->shape = shape;
	ring->size = shape->ring;
	desc = guest_area(port, size * 16, &ring->desc_gpa);
	avail = guest_area(port, 6 + size * 2, &ring->avail_gpa);
	used = guest_area(port, 6 + size * 8, &ring->used_gpa);
	ring->desc = desc;
	ring->avail = avail;
	ring->used = used;
	ring->packed = desc;
	ring->driver_event = avail;
	ring->wrap = ring->used_wrap = true;
	/* A driver that polls. */
	if (shape->packed) {
		ring->driver_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	} else {
		ring->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		ring->avail->ring[size] = 0x7fff;
	}
	ring->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ring->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	mock_check(ring->kick_fd >= 0 && ring->call_fd >= 0);
}

/** From one buffer to the next, so that those of both rings fill most of the guest's memory. */
static uint64_t
guest_stride(const struct burst_shape *shape)
{
	const uint64_t share = shape->memory / shape->regions;
	const uint64_t each = share / (2 * (uint64_t)guest_share(shape) + 2);

	return RTE_MAX((uint64_t)BURST_STRIDE, each & ~(GUEST_RAM_PAGE - 1));
}

/** Buffers in the order of addresses, region by region; all pages present, headers zero. */
static void
guest_make_buffers(
	struct burst_port *port, const struct burst_shape *shape, struct burst_ring *ring)
{
	ring->n_bufs = shape->buffers;
	ring->buf_gpa = calloc(shape->buffers, sizeof(*ring->buf_gpa));
	ring->buf_hva = calloc(shape->buffers, sizeof(*ring->buf_hva));
	mock_check(ring->buf_gpa != NULL && ring->buf_hva != NULL);
	for (uint32_t i = 0; i < shape->buffers; i++) {
		ring->buf_gpa[i] = guest_ram_alloc(&port->ram, i / guest_share(shape),
			guest_stride(shape), BURST_STRIDE % 128 ? 64 : 128);
		ring->buf_hva[i] = guest_ram_at(&port->ram, ring->buf_gpa[i], BURST_STRIDE);
		memset(ring->buf_hva[i], 0, BURST_STRIDE);
	}
}

static uint64_t
guest_features(const struct burst_shape *shape)
{
	uint64_t features = BIT(VIRTIO_F_VERSION_1) | BIT(VU_F_PROTOCOL_FEATURES);

	if (shape->packed)
		features |= BIT(VIRTIO_F_RING_PACKED);
	if (shape->in_order)
		features |= BIT(VIRTIO_F_IN_ORDER);
	if (shape->mergeable)
		features |= BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (shape->csum)
		features |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (shape->event_idx)
		features |= BIT(VIRTIO_RING_F_EVENT_IDX);
	return features;
}

static void
guest_send_memory(struct burst_port *port, uint64_t protocol)
{
	if (port->ram.n_regions <= GUEST_TABLE_REGIONS) {
		fe_set_mem_table(&port->fe, &port->ram, FE_OK);
		return;
	}
	if (!(protocol & BIT(VU_PF_CONFIGURE_MEM_SLOTS)))
		mock_fail("%s takes 8 regions at most", port->spec);
	for (unsigned int i = 0; i < port->ram.n_regions; i++) {
		struct vu_mem_region region = fe_region(&port->ram.region[i]);

		fe_add_mem_reg(&port->fe, &region, &port->ram.file[0].fd, 1, FE_OK);
	}
}

static void
guest_set_up_ring(struct burst_port *port, uint32_t index)
{
	const struct burst_ring *ring = &port->ring[index];
	const struct fe_ring said = {
		.index = index,
		.num = ring->size,
		.base = ring->shape->packed ? 1u << VRING_PACKED_EVENT_F_WRAP_CTR : 0,
		.desc_uva = guest_ram_uva(&port->ram, ring->desc_gpa),
		.avail_uva = guest_ram_uva(&port->ram, ring->avail_gpa),
		.used_uva = guest_ram_uva(&port->ram, ring->used_gpa),
	};

	fe_set_vring_num(&port->fe, index, said.num, FE_OK);
	fe_set_vring_base(&port->fe, index, said.base, FE_OK);
	fe_set_vring_addr(&port->fe, &said, FE_OK);
	fe_set_vring_kick(&port->fe, index, ring->kick_fd, FE_OK);
	fe_set_vring_call(&port->fe, index, ring->call_fd, FE_OK);
}

bool
burst_guest_open(struct burst_port *port, const struct burst_shape *shape)
{
	const uint64_t wanted = guest_features(shape);
	uint64_t missing, protocol;

	guest_lay_out(port, shape);
	for (unsigned int i = 0; i < 2; i++) {
		guest_make_ring(port, shape, &port->ring[i]);
		port->ring[i].writable = i == 0;
	}
	for (unsigned int i = 0; i < 2; i++)
		guest_make_buffers(port, shape, &port->ring[i]);

	fe_connect(&port->fe, port->path);
	fe_set_owner(&port->fe, FE_SEND);
	missing = wanted & ~fe_get_features(&port->fe);
	if (missing != 0) {
		fprintf(stderr, "%s does not offer features 0x%jx\n", port->spec,
			(uintmax_t)missing);
		return false;
	}
	protocol = fe_get_protocol_features(&port->fe);
	protocol &= BIT(VU_PF_MQ) | BIT(VU_PF_REPLY_ACK) | BIT(VU_PF_CONFIGURE_MEM_SLOTS);
	if (port->ram.n_regions <= GUEST_TABLE_REGIONS)
		protocol &= ~BIT(VU_PF_CONFIGURE_MEM_SLOTS);
	fe_set_protocol_features(&port->fe, protocol, FE_SEND);
	fe_set_features(&port->fe, wanted, FE_OK);
	guest_send_memory(port, protocol);
	for (unsigned int i = 0; i < 2; i++)
		guest_set_up_ring(port, i);
	for (unsigned int i = 0; i < 2; i++)
		fe_set_vring_enable(&port->fe, i, 1, FE_OK);
	fe_barrier(&port->fe);
	return true;
}

void
burst_guest_close(struct burst_port *port)
{
	fe_close(&port->fe);
	for (unsigned int i = 0; i < 2; i++) {
		struct burst_ring *ring = &port->ring[i];

		free(ring->buf_gpa);
		free(ring->buf_hva);
		close(ring->kick_fd);
		close(ring->call_fd);
	}
	guest_ram_fini(&port->ram);
}
