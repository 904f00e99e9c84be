/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Sleeping on a ring's memory: what the application is given to watch changes when the guest sends,
 * and only then, and can be loaded until the port is stopped.
 */

#include <errno.h>

#include <linux/virtio_config.h>
#include <rte_power_intrinsics.h>

#include "drv_test.h"
#include "rte_eth_dynvhost.h"

static const uint64_t formats[] = {
	NIC_FEATURES,
	NIC_FEATURES | 1ull << VIRTIO_RING_F_EVENT_IDX,
	NIC_FEATURES | 1ull << VIRTIO_F_RING_PACKED,
};
#define FORMATS RTE_DIM(formats)

#define RING_SIZE 16u

static void
open_guest(uint64_t features)
{
	const struct rig_config config = {.nic = {.features = features, .ring_size = RING_SIZE}};

	rig_open(rig_main(), &config);
}

static struct rte_power_monitor_cond
ask(void)
{
	struct rte_power_monitor_cond cond = {.addr = NULL};

	assert_int_equal(rte_eth_get_monitor_addr(rig_main()->port.id, 0, &cond), 0);
	assert_non_null(cond.addr);
	assert_int_equal(cond.size, 2);
	return cond;
}

static void
expect_nothing_to_sleep_on(void)
{
	struct rte_power_monitor_cond cond;

	assert_int_equal(rte_eth_get_monitor_addr(rig_main()->port.id, 0, &cond), -EAGAIN);
}

/* As rte_power_monitor() does once the CPU watches the line. */
static bool
would_sleep(const struct rte_power_monitor_cond *cond)
{
	int verdict = cond->fn(*(const volatile uint16_t *)cond->addr, cond->opaque);

	assert_in_range(verdict + 1, 0, 1);
	return verdict == 0;
}

static void
test_guest_that_sends_wakes_and_nothing_else_does(void **state)
{
	struct rig *rig = rig_main();
	struct rte_power_monitor_cond cond;
	unsigned int f, i;

	for (f = 0; f < FORMATS; f++) {
		open_guest(formats[f]);
		/* Several times around the ring, and all of it at once. */
		for (i = 0; i < 5 * RING_SIZE; i++) {
			unsigned int n = i % 8 == 7 ? RING_SIZE : 1 + i % 3;

			cond = ask();
			assert_true(would_sleep(&cond));
			assert_int_equal(rig_send(rig, 0, n), n);
			assert_false(would_sleep(&cond));
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		}
		cond = ask();
		assert_true(would_sleep(&cond));
		rig_close(rig);
	}
}

static void
test_packet_that_came_before_the_question_keeps_awake(void **state)
{
	struct rig *rig = rig_main();
	struct rte_power_monitor_cond cond;
	unsigned int f;

	for (f = 0; f < FORMATS; f++) {
		open_guest(formats[f]);
		assert_int_equal(rig_send(rig, 0, 1), 1);
		cond = ask();
		assert_false(would_sleep(&cond));
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		rig_close(rig);
	}
}

static void
test_no_ring_is_nothing_to_sleep_on(void **state)
{
	struct rig *rig = rig_main();
	struct rte_power_monitor_cond cond;

	rig_prepare(rig, NULL);
	expect_nothing_to_sleep_on();
	rig_bring_up(rig);
	cond = ask();
	assert_true(would_sleep(&cond));
	rig_hang_up(rig);
	expect_nothing_to_sleep_on();
	(void)would_sleep(&cond);
	rig_reconnect(rig);
	assert_ptr_equal(ask().addr, cond.addr);
	assert_int_equal(rte_eth_dev_rx_queue_stop(rig->port.id, 0), 0);
	expect_nothing_to_sleep_on();
	(void)would_sleep(&cond);
	assert_int_equal(rte_eth_dev_rx_queue_start(rig->port.id, 0), 0);
	cond = ask();
	assert_true(would_sleep(&cond));
}

static void
test_announcement_that_waits_keeps_awake(void **state)
{
	const uint8_t mac[] = {0x02, 0, 0, 0, 0, 7};
	struct rig *rig = rig_main();
	struct rte_mbuf *pkt;

	rig_open(rig, NULL);
	(void)ask();
	fe_send_rarp(&rig->fe, mac, FE_OK);
	expect_nothing_to_sleep_on();
	assert_int_equal(port_rx(&rig->port, 0, &pkt, 1), 1);
	rte_pktmbuf_free(pkt);
	(void)ask();
}

static uint64_t
loadable(void)
{
	struct rte_eth_dynvhost_exposure exposure;

	assert_int_equal(rte_eth_dynvhost_get_exposure(rig_main()->port.id, &exposure), 0);
	return exposure.loadable_bytes;
}

static void
test_what_is_watched_counts_as_open_until_the_port_stops(void **state)
{
	struct rig *rig = rig_main();
	uint64_t before;

	rig_open(rig, NULL);
	before = loadable();
	(void)ask();
	assert_int_equal(loadable(), before + 4096);
	(void)ask();
	assert_int_equal(loadable(), before + 4096);
	port_stop(&rig->port);
	assert_int_equal(loadable(), before);
	port_start(&rig->port);
	port_wait_link(&rig->port, true);
	(void)ask();
	assert_int_equal(loadable(), before + 4096);
	rig_exchange(rig, 0, 16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_guest_that_sends_wakes_and_nothing_else_does),
		RIG_TEST(test_packet_that_came_before_the_question_keeps_awake),
		RIG_TEST(test_no_ring_is_nothing_to_sleep_on),
		RIG_TEST(test_announcement_that_waits_keeps_awake),
		RIG_TEST(test_what_is_watched_counts_as_open_until_the_port_stops),
	};

	rig_program("unit_drv_monitor", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_monitor", tests, rig_group_setup, rig_group_teardown);
}
