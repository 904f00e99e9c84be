/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The messages of a start, in the orders of the VMMs of the field. Each VMM has three moments: the
 * socket connects, the guest's driver is ready, the guest stops.
 */

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "guest_nic.h"
#include "mock.h"

#define BIT(n) (1ull << (n))

/** Protocol features that a VMM takes when they are offered. */
static const uint64_t bring_up_protocol[NIC_N_ORDERS] = {
	[NIC_ORDER_QEMU_72] = (BIT(VU_PF_STATUS + 1) - 1) & ~BIT(VU_PF_CONFIG),
	[NIC_ORDER_QEMU_25] = BIT(VU_PF_MQ) | BIT(VU_PF_LOG_SHMFD) | BIT(VU_PF_RARP),
	[NIC_ORDER_QEMU_10] = (BIT(VU_PF_SHMEM + 1) - 1) & ~BIT(VU_PF_CONFIG),
	[NIC_ORDER_RUST_VMM] = BIT(VU_PF_MQ) | BIT(VU_PF_REPLY_ACK) |
			       BIT(VU_PF_CONFIGURE_MEM_SLOTS),
	[NIC_ORDER_CLOUD_HYPERVISOR] = BIT(VU_PF_MQ) | BIT(VU_PF_REPLY_ACK) |
				       BIT(VU_PF_INFLIGHT_SHMFD) | BIT(VU_PF_CONFIGURE_MEM_SLOTS),
	[NIC_ORDER_VIRTIO_USER] = BIT(VU_PF_MQ) | BIT(VU_PF_REPLY_ACK) | BIT(VU_PF_STATUS),
};

static bool
bring_up_has(const struct guest_nic *nic, unsigned int protocol_bit)
{
	return (nic->protocol_features & BIT(protocol_bit)) != 0;
}

/* How a VMM asks: those in Rust want an acknowledgement for everything, others for little. */
static enum fe_want
bring_up_want(const struct guest_nic *nic)
{
	return nic->config.order == NIC_ORDER_CLOUD_HYPERVISOR ||
			       nic->config.order == NIC_ORDER_RUST_VMM
		       ? FE_OK
		       : FE_SEND;
}

/* QEMU's newer releases want to know that fds and enabled rings are in force. */
static enum fe_want
bring_up_want_ring(const struct guest_nic *nic)
{
	return nic->config.order == NIC_ORDER_QEMU_10 ? FE_OK : bring_up_want(nic);
}

static void
bring_up_pick_features(struct guest_nic *nic)
{
	uint64_t hdr_bits = BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_F_VERSION_1) |
			    BIT(VIRTIO_F_RING_PACKED);

	nic->features = fe_get_features(nic->fe) & nic->config.features;
	/* The rings are laid out already. */
	mock_check(!nic_is_packed(nic) || (nic->features & BIT(VIRTIO_F_RING_PACKED)) != 0);
	nic->hdr_len = (nic->features & hdr_bits) != 0 ? 12 : 10;
}

static void
bring_up_pick_protocol(struct guest_nic *nic)
{
	uint64_t offered = fe_get_protocol_features(nic->fe);

	nic->protocol_features = offered & bring_up_protocol[nic->config.order] &
				 ~nic->config.without_protocol;
	fe_set_protocol_features(nic->fe, nic->protocol_features, FE_SEND);
}

static void
bring_up_qemu_negotiate_pair(struct guest_nic *nic, unsigned int pair)
{
	unsigned int i;

	bring_up_pick_features(nic);
	bring_up_pick_protocol(nic);
	if (pair == 0 && bring_up_has(nic, VU_PF_MQ))
		mock_check(fe_get_queue_num(nic->fe) >= nic->config.n_pairs);
	if (bring_up_has(nic, VU_PF_CONFIGURE_MEM_SLOTS))
		mock_check(fe_get_max_mem_slots(nic->fe) >= 32);
	if (pair == 0)
		fe_set_owner(nic->fe, FE_SEND);
	bring_up_pick_features(nic);
	for (i = NIC_RX(pair); i <= NIC_TX(pair); i++) {
		fe_set_vring_call(nic->fe, i, nic->masked_fd, bring_up_want_ring(nic));
		if (nic->config.order == NIC_ORDER_QEMU_10)
			fe_set_vring_err(nic->fe, i, nic->masked_fd, FE_OK);
	}
}

static void
bring_up_other_negotiate(struct guest_nic *nic)
{
	unsigned int i;

	fe_set_owner(nic->fe, FE_SEND);
	bring_up_pick_features(nic);
	bring_up_pick_protocol(nic);
	if (nic->config.order != NIC_ORDER_VIRTIO_USER)
		return;
	for (i = 0; i < nic->config.n_pairs; i++)
		fe_set_vring_call(nic->fe, NIC_RX(i), nic->masked_fd, FE_SEND);
	for (i = 0; i < nic->config.n_pairs; i++)
		fe_set_vring_call(nic->fe, NIC_TX(i), nic->masked_fd, FE_SEND);
}

void
nic_negotiate(struct guest_nic *nic)
{
	bool qemu = nic->config.order == NIC_ORDER_QEMU_72 ||
		    nic->config.order == NIC_ORDER_QEMU_25 ||
		    nic->config.order == NIC_ORDER_QEMU_10;
	unsigned int i;

	nic->regions_sent = false;
	if (!qemu) {
		bring_up_other_negotiate(nic);
		return;
	}
	for (i = 0; i < nic->config.n_pairs; i++)
		bring_up_qemu_negotiate_pair(nic, i);
	/* The guest has written its features: QEMU enables what will be used. */
	for (i = 0; i < 2 * nic->config.n_pairs; i++)
		fe_set_vring_enable(nic->fe, i, 1, bring_up_want_ring(nic));
}

void
nic_send_memory(struct guest_nic *nic)
{
	unsigned int i;

	if (!bring_up_has(nic, VU_PF_CONFIGURE_MEM_SLOTS)) {
		fe_set_mem_table(nic->fe, nic->ram, FE_OK);
		return;
	}
	for (i = 0; i < nic->ram->n_regions && !nic->regions_sent; i++) {
		struct vu_mem_region region = fe_region(&nic->ram->region[i]);

		fe_add_mem_reg(
			nic->fe, &region, &nic->ram->file[nic->ram->region[i].file].fd, 1, FE_OK);
	}
	nic->regions_sent = true;
}

static void
bring_up_add_status(struct guest_nic *nic, uint64_t bits)
{
	uint64_t status;

	if (!bring_up_has(nic, VU_PF_STATUS))
		return;
	status = fe_get_status(nic->fe);
	fe_set_status(nic->fe, status | bits, bring_up_want(nic));
}

static void
bring_up_ring(struct guest_nic *nic, unsigned int index, enum fe_want want)
{
	struct fe_ring ring = nic_fe_ring(nic, index);

	/* virtio_user knows the lower half of a packed ring's position. */
	if (nic->config.order == NIC_ORDER_VIRTIO_USER)
		ring.base &= UINT16_MAX;
	fe_set_vring_num(nic->fe, index, ring.num, want);
	fe_set_vring_base(nic->fe, index, ring.base, want);
	fe_set_vring_addr(nic->fe, &ring, want);
	if (nic->config.order == NIC_ORDER_QEMU_10)
		want = FE_OK;
	fe_set_vring_kick(nic->fe, index, nic->ring[index].kick_fd, want);
	fe_set_vring_call(nic->fe, index, nic->ring[index].call_fd, want);
}

void
nic_set_up_ring(struct guest_nic *nic, unsigned int index)
{
	bring_up_ring(nic, index, FE_OK);
}

static void
bring_up_enable_pair(struct guest_nic *nic, unsigned int pair)
{
	fe_set_vring_enable(nic->fe, NIC_RX(pair), 1, bring_up_want_ring(nic));
	fe_set_vring_enable(nic->fe, NIC_TX(pair), 1, bring_up_want_ring(nic));
}

static void
bring_up_qemu_start_pair(struct guest_nic *nic, unsigned int pair)
{
	bool enable_last = nic->config.order == NIC_ORDER_QEMU_25;
	unsigned int i;

	if (!enable_last)
		bring_up_enable_pair(nic, pair);
	fe_set_features(nic->fe, nic->features, FE_SEND);
	bring_up_add_status(nic, VIRTIO_CONFIG_S_FEATURES_OK);
	if (pair == 0)
		nic_send_memory(nic);
	for (i = NIC_RX(pair); i <= NIC_TX(pair); i++)
		bring_up_ring(nic, i, FE_SEND);
	if (enable_last)
		bring_up_enable_pair(nic, pair);
}

static void
bring_up_qemu_start(struct guest_nic *nic)
{
	unsigned int i;

	if (nic->config.order == NIC_ORDER_QEMU_10 && bring_up_has(nic, VU_PF_NET_MTU))
		fe_set_mtu(nic->fe, 1500, FE_OK);
	for (i = 0; i < nic->config.n_pairs; i++)
		bring_up_qemu_start_pair(nic, i);
	bring_up_add_status(nic,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void
bring_up_cloud_hypervisor_start(struct guest_nic *nic)
{
	unsigned int n_rings = 2 * nic->config.n_pairs;
	unsigned int i;

	fe_set_features(nic->fe, nic->features, FE_OK);
	nic_send_memory(nic);
	for (i = 0; i < n_rings; i++)
		fe_set_vring_num(nic->fe, i, nic->config.ring_size, FE_OK);
	for (i = 0; i < n_rings; i++) {
		struct fe_ring ring = nic_fe_ring(nic, i);

		/* Its base is the avail index: buffers in the ring must not be passed over. */
		if (!nic_is_packed(nic))
			ring.base = nic->ring[i].ring.avail->idx;
		fe_set_vring_addr(nic->fe, &ring, FE_OK);
		fe_set_vring_base(nic->fe, i, ring.base, FE_OK);
		fe_set_vring_call(nic->fe, i, nic->ring[i].call_fd, FE_OK);
		fe_set_vring_kick(nic->fe, i, nic->ring[i].kick_fd, FE_OK);
	}
	for (i = 0; i < n_rings; i++)
		fe_set_vring_enable(nic->fe, i, 1, FE_OK);
}

static void
bring_up_virtio_user_start(struct guest_nic *nic)
{
	unsigned int n = nic->config.n_pairs;
	unsigned int i;

	fe_set_features(nic->fe, nic->features, FE_SEND);
	bring_up_add_status(nic, VIRTIO_CONFIG_S_FEATURES_OK);
	nic_send_memory(nic);
	for (i = 0; i < n; i++)
		bring_up_ring(nic, NIC_RX(i), FE_SEND);
	for (i = 0; i < n; i++)
		bring_up_ring(nic, NIC_TX(i), FE_SEND);
	for (i = 0; i < 2 * n; i++)
		fe_set_vring_enable(nic->fe, i, 1, FE_SEND);
	bring_up_add_status(nic,
		VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* One ring after the other, with all that belongs to it. */
static void
bring_up_rust_vmm_start(struct guest_nic *nic)
{
	unsigned int i;

	fe_set_features(nic->fe, nic->features, FE_OK);
	nic_send_memory(nic);
	for (i = 0; i < 2 * nic->config.n_pairs; i++) {
		struct fe_ring ring = nic_fe_ring(nic, i);

		fe_set_vring_num(nic->fe, i, ring.num, FE_OK);
		fe_set_vring_addr(nic->fe, &ring, FE_OK);
		fe_set_vring_base(nic->fe, i, ring.base, FE_OK);
		fe_set_vring_call(nic->fe, i, nic->ring[i].call_fd, FE_OK);
		fe_set_vring_kick(nic->fe, i, nic->ring[i].kick_fd, FE_OK);
		fe_set_vring_err(nic->fe, i, nic->masked_fd, FE_OK);
		fe_set_vring_enable(nic->fe, i, 1, FE_OK);
	}
}

void
nic_start(struct guest_nic *nic)
{
	switch (nic->config.order) {
	case NIC_ORDER_CLOUD_HYPERVISOR:
		bring_up_cloud_hypervisor_start(nic);
		break;
	case NIC_ORDER_RUST_VMM:
		bring_up_rust_vmm_start(nic);
		break;
	case NIC_ORDER_VIRTIO_USER:
		bring_up_virtio_user_start(nic);
		break;
	default:
		bring_up_qemu_start(nic);
	}
	fe_barrier(nic->fe);
}

void
nic_stop(struct guest_nic *nic)
{
	unsigned int i;

	for (i = 0; i < 2 * nic->config.n_pairs; i++) {
		uint32_t base = fe_get_vring_base(nic->fe, i);

		if (base != nic_ring_position(nic, &nic->ring[i]))
			mock_fail("ring %u stops at 0x%x, but returned buffers up to 0x%x", i, base,
				nic_ring_position(nic, &nic->ring[i]));
	}
	if (bring_up_has(nic, VU_PF_STATUS))
		fe_set_status(nic->fe, 0, FE_OK);
}
