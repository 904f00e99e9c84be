/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: setting rings up – what is refused, and every order in which front-ends do it
 * (vhost-user.rst, "Ring states").
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conform.h"

#define MIB (1ull << 20)

/* Everything of a start but the rings. */
static void
setup_all_but_rings(struct rig *rig)
{
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	nic_send_memory(&rig->nic);
	rig_offer_buffers(rig);
}

static void
setup_driver_ok(struct rig *rig)
{
	fe_set_status(&rig->fe, 15, FE_OK);
}

static void
test_c39_ring_size_out_of_range_is_refused(void **state)
{
	static const uint32_t bad[] = {
		0, 3, 100, 32767, 32769, 65536, 65792, 0x80000000, 0xffffffff};
	static const uint32_t good[] = {1, 2, 1024, 32768, 256};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	setup_all_but_rings(rig);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		fe_set_vring_num(&rig->fe, 0, bad[i], FE_REFUSED);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		fe_set_vring_num(&rig->fe, 0, good[i], FE_OK);
}

static void
test_c39_refused_ring_size_leaves_the_old_one(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	setup_all_but_rings(rig);
	for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
		struct fe_ring ring = nic_fe_ring(&rig->nic, i);

		fe_set_vring_num(&rig->fe, i, ring.num, FE_OK);
		fe_set_vring_num(&rig->fe, i, 32767, FE_REFUSED);
		fe_set_vring_base(&rig->fe, i, 0, FE_OK);
		fe_set_vring_addr(&rig->fe, &ring, FE_OK);
		fe_set_vring_kick(&rig->fe, i, rig->nic.ring[i].kick_fd, FE_OK);
		fe_set_vring_call(&rig->fe, i, rig->nic.ring[i].call_fd, FE_OK);
	}
	setup_driver_ok(rig);
	port_wait_link(&rig->port, true);
	/* Twice around: a size that is not that of the guest would show. */
	rig_exchange(rig, 0, 600);
}

static void
test_c39_ring_size_does_not_change_while_started(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	fe_set_vring_num(&rig->fe, 0, 128, FE_REFUSED);
	rig_exchange(rig, 0, 300);
}

static void
test_c40_ring_that_does_not_exist_is_refused(void **state)
{
	static const uint32_t bad[] = {256, 65535, 65536, 0x10001, 0x80000000, 0xffffffff};
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fe_ring ring = nic_fe_ring(&rig->nic, 0);
		struct vu_vring_state get = {.index = bad[i]};

		ring.index = bad[i];
		fe_set_vring_num(&rig->fe, bad[i], 256, FE_REFUSED);
		fe_set_vring_base(&rig->fe, bad[i], 0, FE_REFUSED);
		fe_set_vring_addr(&rig->fe, &ring, FE_REFUSED);
		fe_set_vring_enable(&rig->fe, bad[i], 1, FE_REFUSED);
		fe_request(&rig->fe, VU_GET_VRING_BASE, &get, sizeof(get), NULL, 0, FE_FAILED);
		assert_true(mock_count_fds() <= fds);
		if (rig->fe.sock < 0)
			rig_reconnect(rig);
		rig_exchange(rig, 0, 8);
	}
}

static void
test_c40_ring_that_does_not_exist_closes_when_not_asked(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	fe_set_vring_num(&rig->fe, 256, 256, FE_CLOSED);
	rig_reconnect(rig);
	fe_set_vring_enable(&rig->fe, 0x10001, 1, FE_CLOSED);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
}

static void
test_c40_ring_beyond_the_queues_of_the_port_is_refused(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	fe_set_vring_enable(&rig->fe, 255, 1, FE_REFUSED);
	fe_set_vring_kick(&rig->fe, 255, rig->nic.masked_fd, FE_REFUSED);
	fe_set_vring_kick(&rig->fe, 2, rig->nic.masked_fd, FE_REFUSED);
	fe_set_vring_enable(&rig->fe, 2, 1, FE_REFUSED);
	assert_int_equal(mock_count_fds(), fds);
	rig_exchange(rig, 0, 8);
	/* VMMs name and switch off all rings that they have: that alone is no mistake. */
	fe_set_vring_enable(&rig->fe, 2, 0, FE_OK);
	fe_set_vring_call(&rig->fe, 2, rig->nic.masked_fd, FE_OK);
	rig_exchange(rig, 0, 8);
}

static void
test_c40_guest_with_more_queues_than_the_port_uses_the_first(void **state)
{
	/* QEMU starts pair after pair and asks for no acknowledgement. */
	const struct rig_config config = {.port = {.n_queues = 1}, .nic = {.n_pairs = 3}};
	struct rig *rig = rig_main();

	port_log_capture();
	rig_open(rig, &config);
	rig_exchange(rig, 0, 64);
	/* One line that names both numbers, however many rings are too many. */
	assert_int_equal(port_log_lines("queues=1"), 1);
}

static void
setup_in_order(enum nic_order order)
{
	const struct rig_config config = {
		.nic = {.order = order, .n_pairs = 2, .start_index = 65530}};

	conform_run_in_order(&config);
}

static void
test_c41_order_of_qemu_7_2(void **state)
{
	setup_in_order(NIC_ORDER_QEMU_72);
}

static void
test_c41_order_of_qemu_2_5(void **state)
{
	setup_in_order(NIC_ORDER_QEMU_25);
}

static void
test_c41_order_of_qemu_10(void **state)
{
	setup_in_order(NIC_ORDER_QEMU_10);
}

static void
test_c41_order_of_rust_vmm(void **state)
{
	setup_in_order(NIC_ORDER_RUST_VMM);
}

static void
test_c41_order_of_cloud_hypervisor(void **state)
{
	setup_in_order(NIC_ORDER_CLOUD_HYPERVISOR);
}

static void
test_c41_order_of_virtio_user(void **state)
{
	setup_in_order(NIC_ORDER_VIRTIO_USER);
}

enum setup_step {
	STEP_NUM,
	STEP_ADDR,
	STEP_KICK,
	STEP_ENABLE,
	STEP_MEMORY,
	STEP_FEATURES,
	N_STEPS
};

static void
setup_do_step(struct rig *rig, enum setup_step step)
{
	unsigned int i;

	if (step == STEP_MEMORY) {
		nic_send_memory(&rig->nic);
		return;
	}
	if (step == STEP_FEATURES) {
		fe_set_features(&rig->fe, rig->nic.features, FE_OK);
		return;
	}
	for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
		struct fe_ring ring = nic_fe_ring(&rig->nic, i);

		if (step == STEP_NUM)
			fe_set_vring_num(&rig->fe, i, ring.num, FE_OK);
		else if (step == STEP_ADDR)
			fe_set_vring_addr(&rig->fe, &ring, FE_ANSWERED);
		else if (step == STEP_KICK)
			fe_set_vring_kick(&rig->fe, i, rig->nic.ring[i].kick_fd, FE_OK);
		else
			fe_set_vring_enable(&rig->fe, i, 1, FE_OK);
	}
}

/* Permutation number @p which of all orders. */
static void
setup_permutation(unsigned int which, enum setup_step step[N_STEPS])
{
	unsigned int i;

	for (i = 0; i < N_STEPS; i++) {
		unsigned int at = which % (i + 1);

		which /= i + 1;
		step[i] = step[at];
		step[at] = (enum setup_step)i;
	}
}

static void
test_c41_any_order_of_ring_messages(void **state)
{
	/* cloud-hypervisor's connect says nothing about rings. */
	const struct rig_config config = {.nic = {.order = NIC_ORDER_CLOUD_HYPERVISOR}};
	struct rig *rig = rig_main();
	enum setup_step step[N_STEPS] = {0};
	unsigned int which;
	unsigned int i;

	rig_prepare(rig, &config);
	/* 7 does not divide the number of orders, so every step comes at every place. */
	for (which = 0; which < 720; which += rig_repeats(7, 1)) {
		setup_permutation(which, step);
		nic_negotiate(&rig->nic);
		rig_offer_buffers(rig);
		fe_set_vring_base(&rig->fe, NIC_RX(0), 0, FE_OK);
		fe_set_vring_base(&rig->fe, NIC_TX(0), 0, FE_OK);
		for (i = 0; i < N_STEPS; i++)
			setup_do_step(rig, step[i]);
		port_wait_link(&rig->port, true);
		if (!rig_try_exchange(rig, 0, 8, MOCK_DEADLINE_MS))
			mock_fail("no traffic after order %u%u%u%u%u%u", step[0], step[1], step[2],
				step[3], step[4], step[5]);
		rig_hang_up(rig);
		rig_reset_rings(rig);
		fe_connect(&rig->fe, rig->port.path);
	}
}

/* Everything said twice and again while it runs: nothing changes, and nothing is lost. */
static void
test_c41_ring_messages_may_be_repeated(void **state)
{
	const struct rig_config config = {.nic = {.order = NIC_ORDER_CLOUD_HYPERVISOR}};
	struct rig *rig = rig_main();
	enum setup_step step;
	unsigned int fds, i;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 32);
	fds = mock_count_fds();
	for (i = 0; i < 20; i++) {
		assert_int_equal(rig_send(rig, 0, 50), 50);
		rig_poll(rig);
		for (step = 0; step < N_STEPS; step++) {
			setup_do_step(rig, step);
			setup_do_step(rig, step);
		}
		assert_true(port_link_up(&rig->port));
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		assert_int_equal(mock_count_fds(), fds);
	}
}

/* The transmit ring with an address that is no good: nothing moves. Then with the right one. */
static void
setup_bad_address(struct rig *rig, const struct fe_ring *bad)
{
	struct fe_ring good = nic_fe_ring(&rig->nic, NIC_TX(0));

	setup_all_but_rings(rig);
	nic_set_up_ring(&rig->nic, NIC_RX(0));
	fe_set_vring_num(&rig->fe, NIC_TX(0), good.num, FE_OK);
	fe_set_vring_base(&rig->fe, NIC_TX(0), good.base, FE_OK);
	fe_set_vring_addr(&rig->fe, bad, FE_ANSWERED);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_ANSWERED);
	fe_set_vring_call(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].call_fd, FE_ANSWERED);
	setup_driver_ok(rig);
	assert_int_equal(rig_send(rig, 0, 4), 4);
	rig_expect_nothing_received(rig, 0);
	assert_int_equal(split_ring_device_idx(&rig->nic.ring[NIC_TX(0)].ring), 0);

	fe_set_vring_addr(&rig->fe, &good, FE_OK);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
	port_wait_link(&rig->port, true);
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	rig_exchange(rig, 0, 8);
	rig_hang_up(rig);
	rig_reset_rings(rig);
	fe_connect(&rig->fe, rig->port.path);
}

static void
test_c42_misaligned_ring_does_not_start(void **state)
{
	struct rig *rig = rig_main();
	struct fe_ring bad;

	rig_prepare(rig, NULL);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.desc_uva += 8;
	setup_bad_address(rig, &bad);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.avail_uva += 1;
	setup_bad_address(rig, &bad);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.used_uva += 2;
	setup_bad_address(rig, &bad);
}

static void
test_c42_unmapped_ring_does_not_start(void **state)
{
	struct rig *rig = rig_main();
	struct fe_ring bad;

	rig_prepare(rig, NULL);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.desc_uva = GUEST_RAM_UVA_BASE - 0x1000;
	setup_bad_address(rig, &bad);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.avail_uva = 0;
	setup_bad_address(rig, &bad);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.used_uva = 0xfffffffffffffffc;
	setup_bad_address(rig, &bad);
	/* A guest address, where a front-end's is asked for. */
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.desc_uva -= GUEST_RAM_UVA_BASE;
	setup_bad_address(rig, &bad);
}

static void
test_c43_ring_past_the_end_of_memory_does_not_start(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES | BIT(VIRTIO_RING_F_EVENT_IDX)}};
	struct rig *rig = rig_main();
	uint64_t end = GUEST_RAM_UVA_BASE + RIG_RAM_SIZE;
	struct fe_ring bad;

	rig_prepare(rig, &config);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.desc_uva = end - split_ring_desc_bytes(256) + 16;
	setup_bad_address(rig, &bad);
	/* All but the event field would fit. */
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.avail_uva = end - split_ring_avail_bytes(256) + 2;
	setup_bad_address(rig, &bad);
	bad = nic_fe_ring(&rig->nic, NIC_TX(0));
	bad.used_uva = end - split_ring_used_bytes(256) + 2;
	setup_bad_address(rig, &bad);
}

static void
test_c43_ring_up_to_the_last_byte_of_memory_works(void **state)
{
	const struct rig_config config = {
		.nic = {.ring_size = 256, .features = NIC_FEATURES | BIT(VIRTIO_RING_F_EVENT_IDX)}};
	struct rig *rig = rig_main();
	struct split_ring *ring;
	uint64_t used_gpa = (RIG_RAM_SIZE - split_ring_used_bytes(256)) & ~3ull;

	rig_prepare(rig, &config);
	ring = &rig->nic.ring[NIC_TX(0)].ring;
	split_ring_fini(ring);
	split_ring_init(
		ring, &rig->ram, 256, RIG_RAM_SIZE - 0x8000, RIG_RAM_SIZE - 0x4000, used_gpa, 0);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 600);
}

static void
test_c44_ring_without_kick_fd_is_polled(void **state)
{
	const struct rig_config config = {.nic = {.no_kicks = true}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), -1, FE_OK);
	rig_exchange(rig, 0, 64);
	nic_stop(&rig->nic);
	close(rig->nic.ring[NIC_TX(0)].kick_fd);
	rig->nic.ring[NIC_TX(0)].kick_fd = -1;
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 64);
}

static void
test_c44_no_fd_flag_that_lies_fails(void **state)
{
	static const uint32_t requests[] = {VU_SET_VRING_KICK, VU_SET_VRING_CALL, VU_SET_VRING_ERR};
	struct rig *rig = rig_main();
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < 3; i++) {
		const uint64_t with = 0;
		const uint64_t without = VU_VRING_NOFD;

		conform_renegotiate(rig);
		fe_request(&rig->fe, requests[i], &with, sizeof(with), NULL, 0, FE_FAILED);
		conform_renegotiate(rig);
		fe_request(&rig->fe, requests[i], &without, sizeof(without), &rig->nic.masked_fd, 1,
			FE_FAILED);
		fe_close(&rig->fe);
		rig_wait_fds(idle);
	}
}

static void
test_c45_packets_that_wait_at_start_need_no_kick(void **state)
{
	const struct rig_config config = {.nic = {.no_kicks = true}};
	struct rig *rig = rig_main();

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	assert_int_equal(rig_send(rig, 0, 20), 20);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
}

static void
test_c49_enable_is_remembered(void **state)
{
	const struct rig_config config = {.nic = {.order = NIC_ORDER_CLOUD_HYPERVISOR}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	fe_set_vring_enable(&rig->fe, NIC_RX(0), 1, FE_OK);
	fe_set_vring_enable(&rig->fe, NIC_TX(0), 1, FE_OK);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	nic_send_memory(&rig->nic);
	rig_offer_buffers(rig);
	for (i = 0; i < 3; i++) {
		nic_set_up_ring(&rig->nic, NIC_RX(0));
		nic_set_up_ring(&rig->nic, NIC_TX(0));
		port_wait_link(&rig->port, true);
		rig_exchange(rig, 0, 32);
		nic_stop(&rig->nic);
	}
}

static void
test_c56_guest_without_multiqueue_uses_pair_0(void **state)
{
	const struct rig_config config = {
		.nic = {.n_pairs = 4, .features = NIC_FEATURES & ~BIT(VIRTIO_NET_F_MQ)}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, &config);
	/* The VMM names the call fds of all rings, then the guest uses the first two. */
	nic_negotiate(&rig->nic);
	for (i = 2; i < 8; i++)
		fe_set_vring_enable(&rig->fe, i, 0, FE_OK);
	rig->nic.config.n_pairs = 1;
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 64);
	rig->nic.config.n_pairs = 4;
}

static void
test_c57_addresses_from_before_a_stop_are_forgotten(void **state)
{
	struct rig *rig = rig_main();
	struct split_ring *ring;
	unsigned int i;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 32);
	ring = &rig->nic.ring[NIC_TX(0)].ring;
	nic_stop(&rig->nic);
	/* Firmware runs next: it owns this memory and has set up no ring. */
	memset(ring->desc, 0xa5, split_ring_desc_bytes(ring->num));
	memset(ring->avail, 0xa5, split_ring_avail_bytes(ring->num));
	memset(ring->used, 0xa5, split_ring_used_bytes(ring->num));
	for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
		fe_set_vring_enable(&rig->fe, i, 1, FE_OK);
		fe_set_vring_num(&rig->fe, i, 256, FE_OK);
		fe_set_vring_base(&rig->fe, i, 0, FE_OK);
		fe_set_vring_kick(&rig->fe, i, rig->nic.ring[i].kick_fd, FE_ANSWERED);
		fe_set_vring_call(&rig->fe, i, rig->nic.ring[i].call_fd, FE_ANSWERED);
	}
	setup_driver_ok(rig);
	rig_expect_nothing_received(rig, 0);
	for (i = 0; i < split_ring_used_bytes(ring->num); i++)
		assert_int_equal(((uint8_t *)ring->used)[i], 0xa5);

	rig_reset_rings(rig);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c39_ring_size_out_of_range_is_refused),
		RIG_TEST(test_c39_refused_ring_size_leaves_the_old_one),
		RIG_TEST(test_c39_ring_size_does_not_change_while_started),
		RIG_TEST(test_c40_ring_that_does_not_exist_is_refused),
		RIG_TEST(test_c40_ring_that_does_not_exist_closes_when_not_asked),
		RIG_TEST(test_c40_ring_beyond_the_queues_of_the_port_is_refused),
		RIG_TEST(test_c40_guest_with_more_queues_than_the_port_uses_the_first),
		RIG_TEST(test_c41_order_of_qemu_7_2),
		RIG_TEST(test_c41_order_of_qemu_2_5),
		RIG_TEST(test_c41_order_of_qemu_10),
		RIG_TEST(test_c41_order_of_rust_vmm),
		RIG_TEST(test_c41_order_of_cloud_hypervisor),
		RIG_TEST(test_c41_order_of_virtio_user),
		RIG_TEST(test_c41_any_order_of_ring_messages),
		RIG_TEST(test_c41_ring_messages_may_be_repeated),
		RIG_TEST(test_c42_misaligned_ring_does_not_start),
		RIG_TEST(test_c42_unmapped_ring_does_not_start),
		RIG_TEST(test_c43_ring_past_the_end_of_memory_does_not_start),
		RIG_TEST(test_c43_ring_up_to_the_last_byte_of_memory_works),
		RIG_TEST(test_c44_ring_without_kick_fd_is_polled),
		RIG_TEST(test_c44_no_fd_flag_that_lies_fails),
		RIG_TEST(test_c45_packets_that_wait_at_start_need_no_kick),
		RIG_TEST(test_c49_enable_is_remembered),
		RIG_TEST(test_c56_guest_without_multiqueue_uses_pair_0),
		RIG_TEST(test_c57_addresses_from_before_a_stop_are_forgotten),
	};

	rig_program("test_conform_ring_setup", 60);
	return cmocka_run_group_tests_name(
		"conform ring setup", tests, rig_group_setup, rig_group_teardown);
}
