/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: rings that run: notification fds that change, disabling, stopping and starting again
 * (vhost-user.rst, "Ring states", "Multiple queue support").
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "conform.h"

static int
life_eventfd(unsigned int count, int flags)
{
	int fd = eventfd(count, EFD_CLOEXEC | flags);

	mock_check(fd >= 0);
	return fd;
}

static void
life_wait_call(int fd)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (nic_read_eventfd(fd) == 0) {
		if (mock_now_ms() > deadline)
			mock_fail("no signal on the call fd");
		mock_relax(&looks);
	}
}

static void
test_c46_replaced_call_fd_is_signalled_and_the_old_one_never(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	rig_echo_start(rig);
	rig_exchange(rig, 0, 64);
	life_wait_call(rig->nic.ring[NIC_RX(0)].call_fd);
	fds = mock_count_fds();
	for (i = 0; i < 20; i++) {
		int old = rig->nic.ring[NIC_RX(0)].call_fd;
		int new = life_eventfd(0, EFD_NONBLOCK);

		assert_int_equal(rig_send(rig, 0, 32), 32);
		fe_set_vring_call(&rig->fe, NIC_RX(0), new, FE_OK);
		(void)nic_read_eventfd(old);
		rig->nic.ring[NIC_RX(0)].call_fd = new;
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		life_wait_call(new);
		rig_exchange(rig, 0, 32);
		assert_int_equal(nic_read_eventfd(old), 0);
		close(old);
		assert_int_equal(mock_count_fds(), fds);
	}
}

static void
test_c46_new_call_fd_is_signalled_once_without_traffic(void **state)
{
	struct rig *rig = rig_main();
	int new = life_eventfd(0, EFD_NONBLOCK);

	rig_open(rig, NULL);
	/* What was signalled on the fd before may have been thrown away by the VMM. */
	fe_set_vring_call(&rig->fe, NIC_RX(0), new, FE_OK);
	close(rig->nic.ring[NIC_RX(0)].call_fd);
	rig->nic.ring[NIC_RX(0)].call_fd = new;
	life_wait_call(new);
}

static void
test_c47_ring_without_call_fd_moves_packets(void **state)
{
	/* cloud-hypervisor's connect names no call fds. */
	const struct rig_config config = {.nic = {.order = NIC_ORDER_CLOUD_HYPERVISOR}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	nic_send_memory(&rig->nic);
	rig_offer_buffers(rig);
	for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
		struct fe_ring ring = nic_fe_ring(&rig->nic, i);

		fe_set_vring_num(&rig->fe, i, ring.num, FE_OK);
		fe_set_vring_base(&rig->fe, i, ring.base, FE_OK);
		fe_set_vring_addr(&rig->fe, &ring, FE_OK);
		fe_set_vring_kick(&rig->fe, i, rig->nic.ring[i].kick_fd, FE_OK);
		fe_set_vring_enable(&rig->fe, i, 1, FE_OK);
	}
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 64);
}

static void
test_c47_call_fd_taken_away_is_not_signalled(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 64);
	fe_set_vring_call(&rig->fe, NIC_RX(0), -1, FE_OK);
	fe_set_vring_call(&rig->fe, NIC_TX(0), -1, FE_OK);
	nic_calls(&rig->nic, NIC_RX(0));
	nic_calls(&rig->nic, NIC_TX(0));
	rig_exchange(rig, 0, 64);
	assert_int_equal(nic_calls(&rig->nic, NIC_RX(0)), 0);
	assert_int_equal(nic_calls(&rig->nic, NIC_TX(0)), 0);
}

static void
test_c48_full_call_fd_does_not_hold_up_packets(void **state)
{
	const uint64_t almost_full = UINT64_MAX - 1;
	struct rig *rig = rig_main();
	bool moved;
	int full;

	rig_open(rig, NULL);
	/* A write to it would block: the counter is at its maximum and O_NONBLOCK is not set. */
	full = life_eventfd(0, 0);
	assert_int_equal(write(full, &almost_full, sizeof(almost_full)), sizeof(almost_full));
	fe_set_vring_call(&rig->fe, NIC_RX(0), full, FE_SEND_NR);
	rig_echo_start(rig);
	moved = rig_try_exchange(rig, 0, 500, 2000);
	/* Let go whoever is stuck, so that a failure can be reported. */
	(void)nic_read_eventfd(full);
	close(full);
	assert_true(moved);
}

static void
life_enable(struct rig *rig, uint32_t on)
{
	fe_set_vring_enable(&rig->fe, NIC_RX(0), on, FE_OK);
	fe_set_vring_enable(&rig->fe, NIC_TX(0), on, FE_OK);
}

static void
test_c50_disabled_rings_drop_and_deliver_nothing(void **state)
{
	struct rig *rig = rig_main();
	struct rte_mbuf *pkts[1];
	struct split_ring *tx;
	uint64_t deadline;
	unsigned int i;

	rig_open(rig, NULL);
	tx = &rig->nic.ring[NIC_TX(0)].ring;
	for (i = 0; i < 3; i++) {
		rig_exchange(rig, 0, 32);
		life_enable(rig, 0);
		assert_int_equal(rig_send(rig, 0, 20), 20);
		rig_expect_nothing_received(rig, 0);
		pkts[0] = port_packet(&rig->port, 100, 1, 0);
		port_tx(&rig->port, 0, pkts, 1);
		assert_int_equal(split_ring_device_idx(&rig->nic.ring[NIC_RX(0)].ring),
			rig->nic.ring[NIC_RX(0)].ring.used_idx);

		/* What the guest sends into a disabled ring is used up. */
		deadline = mock_now_ms() + MOCK_DEADLINE_MS;
		while (split_ring_device_idx(tx) != tx->avail_idx && mock_now_ms() < deadline)
			rig_poll(rig);
		assert_int_equal(nic_reap_tx(&rig->nic, 0), 20);
		rig_forget(rig, 0);
		life_enable(rig, 1);
	}
	rig_exchange(rig, 0, 32);
}

static void
test_c50_enable_takes_only_0_and_1(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	fe_set_vring_enable(&rig->fe, 0, 2, FE_REFUSED);
	fe_set_vring_enable(&rig->fe, 0, UINT32_MAX, FE_REFUSED);
	rig_exchange(rig, 0, 32);
}

static void
test_c51_stopped_ring_is_not_touched(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 2, .start_index = 65530}};
	struct rig *rig = rig_main();
	uint8_t before[8192];
	struct split_ring *tx;
	uint64_t len;

	rig_open(rig, &config);
	rig_exchange(rig, 1, 40);
	tx = &rig->nic.ring[NIC_TX(1)].ring;
	len = split_ring_used_bytes(tx->num);
	assert_true(len <= sizeof(before));
	assert_int_equal(fe_get_vring_base(&rig->fe, NIC_TX(1)), (uint16_t)(65530 + 40));
	memcpy(before, tx->used, len);
	nic_calls(&rig->nic, NIC_TX(1));

	assert_int_equal(rig_send(rig, 1, 16), 16);
	rig_exchange(rig, 0, 600);
	rig_expect_nothing_received(rig, 1);
	assert_memory_equal(before, tx->used, len);
	assert_int_equal(nic_calls(&rig->nic, NIC_TX(1)), 0);

	/* Started again, it goes on where it was. */
	nic_set_up_ring(&rig->nic, NIC_TX(1));
	assert_true(rig_collect(rig, 1, MOCK_DEADLINE_MS));
	rig_exchange(rig, 0, 32);
	rig_exchange(rig, 1, 32);
}

static void
test_c51_stopped_receive_ring_is_not_touched(void **state)
{
	const struct rig_config config = {.nic = {.start_index = 65530}};
	struct rig *rig = rig_main();
	uint8_t *before = malloc(RIG_RAM_SIZE);
	unsigned int i;

	assert_non_null(before);
	rig_open(rig, &config);
	rig_exchange(rig, 0, 40);
	assert_int_equal(fe_get_vring_base(&rig->fe, NIC_RX(0)), (uint16_t)(65530 + 40));
	nic_calls(&rig->nic, NIC_RX(0));
	guest_ram_read(&rig->ram, 0, before, RIG_RAM_SIZE);
	for (i = 0; i < 20; i++) {
		struct rte_mbuf *pkt = port_packet(&rig->port, 100, i, 0);

		assert_int_equal(port_tx(&rig->port, 0, &pkt, 1), 0);
	}
	assert_memory_equal(guest_ram_at(&rig->ram, 0, RIG_RAM_SIZE), before, RIG_RAM_SIZE);
	assert_int_equal(nic_calls(&rig->nic, NIC_RX(0)), 0);
	free(before);

	nic_set_up_ring(&rig->nic, NIC_RX(0));
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

static void
test_c51_stopped_ring_gives_its_fds_back(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	for (i = 0; i < 3; i++) {
		rig_exchange(rig, 0, 32);
		nic_stop(&rig->nic);
		/* Kick and call fds of both rings went with the stop. */
		assert_int_equal(mock_count_fds(), fds - 4);
		nic_start(&rig->nic);
		port_wait_link(&rig->port, true);
		assert_int_equal(mock_count_fds(), fds);
	}
}

static void
test_c52_base_can_be_asked_for_again_and_before_a_start(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0);
	fe_set_vring_base(&rig->fe, 0, 0x1234, FE_OK);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0x1234);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0x1234);
	assert_int_equal(fe_get_vring_base(&rig->fe, 1), 0);

	fe_set_vring_base(&rig->fe, 0, 0, FE_OK);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 21);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 21);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 21);
	assert_int_equal(fe_get_vring_base(&rig->fe, 1), 21);
}

static void
test_c53_stop_and_start_lose_and_double_nothing(void **state)
{
	const struct rig_config config = {.nic = {.start_index = 65200}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	/* Packets lie in the ring at every stop; over the wrap of the indices. */
	for (i = 0; i < rig_repeats(40, 2000); i++) {
		assert_int_equal(rig_send(rig, 0, 50), 50);
		rig_poll(rig);
		nic_stop(&rig->nic);
		nic_start(&rig->nic);
		port_wait_link(&rig->port, true);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
}

static void
test_c53_application_stop_and_start_lose_nothing(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 32);
	fds = mock_count_fds();
	for (i = 0; i < 20; i++) {
		assert_int_equal(rig_send(rig, 0, 50), 50);
		rig_poll(rig);
		port_stop(&rig->port);
		port_start(&rig->port);
		port_wait_link(&rig->port, true);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		assert_int_equal(mock_count_fds(), fds);
	}
}

static void
test_c55_base_that_disagrees_with_the_used_ring_yields_to_it(void **state)
{
	static const uint16_t bases[] = {5, 7, 0, 65535, 1000};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		struct fe_ring ring;

		rig_exchange(rig, 0, 3);
		fe_get_vring_base(&rig->fe, NIC_TX(0));
		assert_int_equal(rig_send(rig, 0, 10), 10);
		ring = nic_fe_ring(&rig->nic, NIC_TX(0));
		fe_set_vring_num(&rig->fe, NIC_TX(0), ring.num, FE_OK);
		fe_set_vring_base(&rig->fe, NIC_TX(0), bases[i], FE_OK);
		fe_set_vring_addr(&rig->fe, &ring, FE_OK);
		fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c46_replaced_call_fd_is_signalled_and_the_old_one_never),
		RIG_TEST(test_c46_new_call_fd_is_signalled_once_without_traffic),
		RIG_TEST(test_c47_ring_without_call_fd_moves_packets),
		RIG_TEST(test_c47_call_fd_taken_away_is_not_signalled),
		RIG_TEST(test_c48_full_call_fd_does_not_hold_up_packets),
		RIG_TEST(test_c50_disabled_rings_drop_and_deliver_nothing),
		RIG_TEST(test_c50_enable_takes_only_0_and_1),
		RIG_TEST(test_c51_stopped_ring_is_not_touched),
		RIG_TEST(test_c51_stopped_receive_ring_is_not_touched),
		RIG_TEST(test_c51_stopped_ring_gives_its_fds_back),
		RIG_TEST(test_c52_base_can_be_asked_for_again_and_before_a_start),
		RIG_TEST(test_c53_stop_and_start_lose_and_double_nothing),
		RIG_TEST(test_c53_application_stop_and_start_lose_nothing),
		RIG_TEST(test_c55_base_that_disagrees_with_the_used_ring_yields_to_it),
	};

	rig_program("test_conform_ring_life", 60);
	return cmocka_run_group_tests_name(
		"conform ring life", tests, rig_group_setup, rig_group_teardown);
}
