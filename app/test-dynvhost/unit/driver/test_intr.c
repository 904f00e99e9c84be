/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Receive interrupts, with a guest that kicks only when it is asked to: whoever sleeps on a queue
 * wakes when a packet comes, at whatever moment, and with whatever front-end.
 */

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "drv_test.h"

/** Long enough for a signal that is on its way. */
#define SOON_MS 2000
/** Time in which a signal would come that must not. */
#define QUIET_MS 30

static const uint64_t formats[] = {
	NIC_FEATURES,
	NIC_FEATURES | 1ull << VIRTIO_RING_F_EVENT_IDX,
	NIC_FEATURES | 1ull << VIRTIO_F_RING_PACKED,
	NIC_FEATURES | 1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_RING_F_EVENT_IDX,
};
#define FORMATS RTE_DIM(formats)

static int sleeper_epoll = -1;

/* A port whose queue 0 is in an epoll set of the application. */
static void
open_sleeper(uint64_t features)
{
	const struct rig_config config = {
		.port = {.rx_intr = true}, .nic = {.features = features, .no_kicks = true}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	sleeper_epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_true(sleeper_epoll >= 0);
	assert_int_equal(
		rte_eth_dev_rx_intr_ctl_q(rig->port.id, 0, sleeper_epoll, RTE_INTR_EVENT_ADD, NULL),
		0);
}

static void
close_sleeper(void)
{
	struct rig *rig = rig_main();

	assert_int_equal(
		rte_eth_dev_rx_intr_ctl_q(rig->port.id, 0, sleeper_epoll, RTE_INTR_EVENT_DEL, NULL),
		0);
	close(sleeper_epoll);
	rig_close(rig);
}

static bool
wakes_within(int ms)
{
	struct rte_epoll_event event[2];

	return rte_epoll_wait(sleeper_epoll, event, 2, ms) > 0;
}

/* What has been signalled before does not count. */
static void
enable_quietly(struct rig *rig)
{
	assert_int_equal(rte_eth_dev_rx_intr_enable(rig->port.id, 0), 0);
	while (wakes_within(0))
		;
	assert_false(wakes_within(QUIET_MS));
}

/* Whether the device asks for a kick, now that the available index has moved by @p n. */
static bool
kick_is_wanted(const struct rig *rig, uint16_t n)
{
	const struct nic_ring *ring = &rig->nic.ring[NIC_TX(0)];
	uint16_t now = ring->ring.avail_idx;

	if (nic_is_packed(&rig->nic))
		return !packed_ring_kicks_suppressed(&ring->packed);
	if ((rig->nic.features & 1ull << VIRTIO_RING_F_EVENT_IDX) == 0)
		return !split_ring_kicks_suppressed(&ring->ring);
	return vring_need_event(split_ring_avail_event(&ring->ring), now, (uint16_t)(now - n));
}

/* Send as a driver does. @return whether it kicked. */
static bool
send_and_kick(struct rig *rig, unsigned int n)
{
	bool wanted;

	assert_int_equal(rig_send(rig, 0, n), n);
	wanted = kick_is_wanted(rig, (uint16_t)n);
	if (wanted)
		mock_check(eventfd_write(rig->nic.ring[NIC_TX(0)].kick_fd, 1) == 0);
	return wanted;
}

static void
test_kick_wakes_and_nothing_else_does(void **state)
{
	struct rig *rig = rig_main();
	unsigned int f, i;

	for (f = 0; f < FORMATS; f++) {
		open_sleeper(formats[f]);
		/* Not enabled, nobody kicks. */
		assert_false(send_and_kick(rig, 3));
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		for (i = 0; i < 5; i++) {
			enable_quietly(rig);
			assert_true(send_and_kick(rig, 1 + i));
			assert_true(wakes_within(SOON_MS));
			assert_int_equal(rte_eth_dev_rx_intr_disable(rig->port.id, 0), 0);
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
			assert_false(send_and_kick(rig, 40));
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		}
		close_sleeper();
	}
}

static void
test_packet_that_waits_wakes_at_once(void **state)
{
	struct rig *rig = rig_main();
	unsigned int f;

	for (f = 0; f < FORMATS; f++) {
		open_sleeper(formats[f]);
		enable_quietly(rig);
		assert_int_equal(rte_eth_dev_rx_intr_disable(rig->port.id, 0), 0);
		assert_false(send_and_kick(rig, 1));
		assert_false(wakes_within(QUIET_MS));
		assert_int_equal(rte_eth_dev_rx_intr_enable(rig->port.id, 0), 0);
		assert_true(wakes_within(SOON_MS));
		/* Asked again while it still waits: again. */
		assert_int_equal(rte_eth_dev_rx_intr_enable(rig->port.id, 0), 0);
		assert_true(wakes_within(SOON_MS));
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		close_sleeper();
	}
}

/* Who has polled in vain for long leaves the ring alone now and then (rest.h), but not when it wants to
 * sleep: what came before it asked for kicks is found by its next poll.
 */
static void
test_poll_after_enabling_looks_at_the_ring(void **state)
{
	struct rig *rig = rig_main();
	struct rte_mbuf *pkts[32];

	open_sleeper(NIC_FEATURES);
	for (unsigned int i = 0; i < 200; i++) {
		for (unsigned int polls = 0; polls < 100 + i; polls++)
			assert_int_equal(rte_eth_rx_burst(rig->port.id, 0, pkts, 32), 0);
		assert_int_equal(rig_send(rig, 0, 1), 1);
		assert_int_equal(rte_eth_dev_rx_intr_enable(rig->port.id, 0), 0);
		assert_int_equal(rte_eth_rx_burst(rig->port.id, 0, pkts, 32), 1);
		rte_pktmbuf_free(pkts[0]);
		assert_int_equal(rte_eth_dev_rx_intr_disable(rig->port.id, 0), 0);
	}
	close_sleeper();
}

static void
test_sleeper_outlives_front_ends(void **state)
{
	struct rig *rig = rig_main();
	unsigned int f, i;
	int fd;

	for (f = 0; f < FORMATS; f++) {
		open_sleeper(formats[f]);
		fd = rte_eth_dev_rx_intr_ctl_q_get_fd(rig->port.id, 0);
		enable_quietly(rig);
		for (i = 0; i < 3; i++) {
			rig_hang_up(rig);
			rig_reconnect(rig);
			while (wakes_within(QUIET_MS))
				;
			/* Nobody has enabled anything since. */
			assert_true(send_and_kick(rig, 1));
			assert_true(wakes_within(SOON_MS));
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
			enable_quietly(rig);
			assert_int_equal(rte_eth_dev_rx_intr_ctl_q_get_fd(rig->port.id, 0), fd);
		}
		/* A packet that is there when the new front-end starts its ring: no kick comes. */
		rig_hang_up(rig);
		rig_reset_rings(rig);
		fe_connect(&rig->fe, rig->port.path);
		nic_negotiate(&rig->nic);
		rig_offer_buffers(rig);
		assert_int_equal(rig_send(rig, 0, 1), 1);
		nic_start(&rig->nic);
		assert_true(wakes_within(SOON_MS));
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		close_sleeper();
	}
}

static void
test_new_kick_fd_wakes_and_the_old_one_never(void **state)
{
	struct rig *rig = rig_main();
	struct nic_ring *tx;
	int old, i;

	open_sleeper(NIC_FEATURES);
	tx = &rig->nic.ring[NIC_TX(0)];
	for (i = 0; i < 10; i++) {
		old = tx->kick_fd;
		tx->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		mock_check(tx->kick_fd >= 0);
		fe_set_vring_kick(&rig->fe, NIC_TX(0), tx->kick_fd, FE_OK);
		enable_quietly(rig);
		mock_check(eventfd_write(old, 1) == 0);
		assert_false(wakes_within(QUIET_MS));
		close(old);
		assert_true(send_and_kick(rig, 1));
		assert_true(wakes_within(SOON_MS));
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
	/* None at all: the queue has to be polled, and goes on. */
	fe_set_vring_kick(&rig->fe, NIC_TX(0), -1, FE_OK);
	enable_quietly(rig);
	rig_exchange(rig, 0, 16);
	close_sleeper();
}

static void
test_h30_kicks_without_end_wake_once_each_at_most(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i, woken = 0;

	open_sleeper(NIC_FEATURES);
	enable_quietly(rig);
	/* The counter stays where it is, for nobody reads it: that alone wakes nobody. */
	mock_check(eventfd_write(rig->nic.ring[NIC_TX(0)].kick_fd, 1u << 30) == 0);
	assert_true(wakes_within(SOON_MS));
	assert_false(wakes_within(QUIET_MS));
	enable_quietly(rig);
	for (i = 0; i < 1000; i++) {
		mock_check(eventfd_write(rig->nic.ring[NIC_TX(0)].kick_fd, 1) == 0);
		while (wakes_within(0))
			woken++;
	}
	assert_in_range(woken, 1, 1000);
	rig_exchange(rig, 0, 16);
	close_sleeper();
}

static void
test_interrupts_stay_over_stop_and_configuration(void **state)
{
	struct rig *rig = rig_main();
	int fd;

	open_sleeper(NIC_FEATURES);
	fd = rte_eth_dev_rx_intr_ctl_q_get_fd(rig->port.id, 0);
	port_stop(&rig->port);
	port_start(&rig->port);
	assert_int_equal(rte_eth_dev_rx_intr_ctl_q_get_fd(rig->port.id, 0), fd);
	port_wait_link(&rig->port, true);
	enable_quietly(rig);
	assert_true(send_and_kick(rig, 1));
	assert_true(wakes_within(SOON_MS));
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	close_sleeper();
}

static void
test_port_without_interrupts_refuses_them(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	assert_int_equal(rte_eth_dev_rx_intr_enable(rig->port.id, 0), -ENOTSUP);
	assert_int_equal(rte_eth_dev_rx_intr_disable(rig->port.id, 0), -ENOTSUP);
	assert_int_equal(rte_eth_dev_rx_intr_ctl_q_get_fd(rig->port.id, 0), -1);
}

static struct {
	pthread_t thread;
	bool stop;
	unsigned int sleeps;
} lcore;

/* As l3fwd-power does: poll while there is work, else sleep. */
static void *
lcore_run(void *arg)
{
	struct rig *rig = arg;
	struct rte_epoll_event event[1];

	while (!__atomic_load_n(&lcore.stop, __ATOMIC_ACQUIRE)) {
		if (port_echo(&rig->port, 0) != 0)
			continue;
		rte_eth_dev_rx_intr_enable(rig->port.id, 0);
		__atomic_add_fetch(&lcore.sleeps, 1, __ATOMIC_RELAXED);
		/* Far longer than any deadline of the test. */
		rte_epoll_wait(sleeper_epoll, event, 1, 60000);
		rte_eth_dev_rx_intr_disable(rig->port.id, 0);
	}
	return NULL;
}

static void
test_lcore_that_sleeps_misses_no_packet(void **state)
{
	struct rig *rig = rig_main();
	unsigned int f, i;

	for (f = 0; f < FORMATS; f++) {
		open_sleeper(formats[f]);
		lcore.stop = false;
		lcore.sleeps = 0;
		mock_check(pthread_create(&lcore.thread, NULL, lcore_run, rig) == 0);
		/* The rig polls nothing by itself. */
		rig->echo_runs = true;
		for (i = 0; i < rig_repeats(300, 30000); i++) {
			send_and_kick(rig, 1 + i % 3);
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
			if (i % 100 == 50) {
				rig_hang_up(rig);
				rig_reconnect(rig);
			}
		}
		__atomic_store_n(&lcore.stop, true, __ATOMIC_RELEASE);
		mock_check(eventfd_write(rig->nic.ring[NIC_TX(0)].kick_fd, 1) == 0);
		pthread_join(lcore.thread, NULL);
		rig->echo_runs = false;
		assert_true(lcore.sleeps > 10);
		close_sleeper();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_kick_wakes_and_nothing_else_does),
		RIG_TEST(test_packet_that_waits_wakes_at_once),
		RIG_TEST(test_poll_after_enabling_looks_at_the_ring),
		RIG_TEST(test_sleeper_outlives_front_ends),
		RIG_TEST(test_new_kick_fd_wakes_and_the_old_one_never),
		RIG_TEST(test_h30_kicks_without_end_wake_once_each_at_most),
		RIG_TEST(test_interrupts_stay_over_stop_and_configuration),
		RIG_TEST(test_port_without_interrupts_refuses_them),
		RIG_TEST(test_lcore_that_sleeps_misses_no_packet),
	};

	rig_program("unit_drv_intr", 80);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_intr", tests, rig_group_setup, rig_group_teardown);
}
