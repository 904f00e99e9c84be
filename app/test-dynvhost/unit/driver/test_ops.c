/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The operations of a port as applications call them, with and without a guest: Open vSwitch in its
 * order (netdev_dpdk), testpmd and l2fwd with theirs. What an application does to its port must not
 * reach the guest, and statistics must have their shape before there is one.
 */

#include <errno.h>
#include <stdlib.h>

#include <linux/virtio_net.h>
#include <rte_dev.h>
#include <rte_ether.h>
#include <rte_mempool.h>

#include "drv_test.h"

#define PAIRS 2

static const struct rte_eth_link link_down = {
	.link_speed = RTE_ETH_SPEED_NUM_10G,
	.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
	.link_autoneg = RTE_ETH_LINK_FIXED,
	.link_status = RTE_ETH_LINK_DOWN,
};

static void
expect_link(uint16_t port, uint16_t status)
{
	struct rte_eth_link want = link_down;
	struct rte_eth_link link;

	want.link_status = status;
	memset(&link, 0xa5, sizeof(link));
	assert_int_equal(rte_eth_link_get_nowait(port, &link), 0);
	assert_int_equal(link.link_speed, want.link_speed);
	assert_int_equal(link.link_duplex, want.link_duplex);
	assert_int_equal(link.link_autoneg, want.link_autoneg);
	assert_int_equal(link.link_status, want.link_status);
	memset(&link, 0xa5, sizeof(link));
	assert_int_equal(rte_eth_link_get(port, &link), 0);
	assert_int_equal(link.link_status, want.link_status);
}

static struct rte_mempool *
make_pool(const char *name, uint16_t room)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		name, 511, 0, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + room), SOCKET_ID_ANY);

	assert_non_null(pool);
	return pool;
}

static void
configure(uint16_t port, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = {.intr_conf.lsc = 1};
	uint16_t q;

	assert_int_equal(rte_eth_dev_configure(port, PAIRS, PAIRS, &conf), 0);
	for (q = 0; q < PAIRS; q++)
		assert_int_equal(rte_eth_tx_queue_setup(port, q, 2048, SOCKET_ID_ANY, NULL), 0);
	for (q = 0; q < PAIRS; q++)
		assert_int_equal(
			rte_eth_rx_queue_setup(port, q, 2048, SOCKET_ID_ANY, NULL, pool), 0);
}

static void
expect_info(const struct test_port *port)
{
	struct rte_eth_dev_info info;

	assert_int_equal(rte_eth_dev_info_get(port->id, &info), 0);
	assert_string_equal(info.driver_name, "net_dynvhost");
	assert_string_equal(rte_dev_name(info.device), port->name);
	assert_int_equal(info.max_rx_queues, PAIRS);
	assert_int_equal(info.max_tx_queues, PAIRS);
	assert_int_equal(info.max_mac_addrs, 1);
	assert_int_equal(info.min_mtu, 68);
	assert_int_equal(info.max_mtu, 65535);
	assert_int_equal(info.max_rx_pktlen, 65535 + 18);
	assert_int_equal(info.min_rx_bufsize, 64);
	assert_int_equal(info.rx_desc_lim.nb_max, UINT16_MAX);
	assert_int_equal(info.tx_desc_lim.nb_max, UINT16_MAX);
	/* Open vSwitch would set up receive side scaling if it found any of these. */
	assert_int_equal(info.flow_type_rss_offloads, 0);
	assert_int_equal(info.reta_size, 0);
	assert_int_equal(info.speed_capa, RTE_ETH_LINK_SPEED_10G);
	assert_int_equal(info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
		RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
	assert_true((*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0);
}

static void
check_modes(uint16_t port)
{
	assert_int_equal(rte_eth_promiscuous_get(port), 1);
	assert_int_equal(rte_eth_promiscuous_enable(port), 0);
	assert_int_equal(rte_eth_allmulticast_enable(port), 0);
	assert_int_equal(rte_eth_promiscuous_disable(port), 0);
	assert_int_equal(rte_eth_allmulticast_disable(port), 0);
	assert_int_equal(rte_eth_promiscuous_get(port), 0);
	assert_int_equal(rte_eth_promiscuous_enable(port), 0);
}

static void
check_mac(uint16_t port)
{
	struct rte_ether_addr mac, other = {{0x02, 1, 2, 3, 4, 5}};

	assert_int_equal(rte_eth_macaddr_get(port, &mac), 0);
	assert_true(rte_is_local_admin_ether_addr(&mac));
	assert_true(rte_is_valid_assigned_ether_addr(&mac));
	assert_int_equal(mac.addr_bytes[4] << 8 | mac.addr_bytes[5], port);
	assert_int_equal(rte_eth_dev_default_mac_addr_set(port, &other), 0);
	assert_int_equal(rte_eth_macaddr_get(port, &mac), 0);
	assert_memory_equal(&mac, &other, sizeof(mac));
}

static void
check_mtu(uint16_t port)
{
	static const uint16_t good[] = {68, 1500, 9000, 65535};
	uint16_t mtu = 0;
	size_t i;

	for (i = 0; i < RTE_DIM(good); i++) {
		assert_int_equal(rte_eth_dev_set_mtu(port, good[i]), 0);
		assert_int_equal(rte_eth_dev_get_mtu(port, &mtu), 0);
		assert_int_equal(mtu, good[i]);
	}
	assert_int_equal(rte_eth_dev_set_mtu(port, 67), -EINVAL);
	assert_int_equal(rte_eth_dev_set_mtu(port, 1500), 0);
}

static void
check_queue_info(uint16_t port, const struct rte_mempool *pool)
{
	struct rte_eth_rxq_info rxq;
	struct rte_eth_txq_info txq;

	assert_int_equal(rte_eth_rx_queue_info_get(port, 1, &rxq), 0);
	assert_int_equal(rxq.nb_desc, 2048);
	assert_ptr_equal(rxq.mp, pool);
	assert_int_equal(rte_eth_tx_queue_info_get(port, 1, &txq), 0);
	assert_int_equal(txq.nb_desc, 2048);
}

/** Without a guest a port takes nothing and gives nothing. */
static void
check_idle_bursts(uint16_t port, struct rte_mempool *pool)
{
	struct rte_mbuf *pkt = rte_pktmbuf_alloc(pool);
	struct rte_mbuf *in[4];
	uint16_t q;

	assert_non_null(pkt);
	assert_non_null(rte_pktmbuf_append(pkt, 64));
	for (q = 0; q < PAIRS; q++) {
		assert_int_equal(rte_eth_rx_burst(port, q, in, 4), 0);
		assert_int_equal(rte_eth_tx_burst(port, q, &pkt, 1), 0);
		assert_int_equal(rte_eth_rx_queue_count(port, q), 0);
	}
	rte_pktmbuf_free(pkt);
}

static void
test_open_vswitch_sets_up_a_port_without_guest(void **state)
{
	struct port_config config = {.n_queues = PAIRS};
	struct rte_mempool *pool = make_pool("ops", 2048);
	struct rte_eth_fc_conf fc = {0};
	struct test_port port;

	assert_int_equal(port_try_open(&port, &config), 0);
	expect_info(&port);
	assert_int_equal(rte_eth_dev_flow_ctrl_get(port.id, &fc), -ENOTSUP);
	assert_int_equal(rte_eth_dev_stop(port.id), 0);
	configure(port.id, pool);
	check_mtu(port.id);
	check_queue_info(port.id, pool);
	assert_int_equal(rte_eth_dev_start(port.id), 0);
	assert_true(rte_eth_xstats_get_names(port.id, NULL, 0) > 0);
	check_modes(port.id);
	check_mac(port.id);
	expect_link(port.id, RTE_ETH_LINK_DOWN);
	assert_int_equal(rte_eth_dev_set_link_down(port.id), 0);
	assert_int_equal(rte_eth_dev_set_link_up(port.id), 0);
	expect_link(port.id, RTE_ETH_LINK_DOWN);
	check_idle_bursts(port.id, pool);
	assert_int_equal(rte_eth_dev_stop(port.id), 0);
	assert_int_equal(rte_eth_dev_close(port.id), 0);
	assert_int_equal(rte_eal_hotplug_remove("vdev", port.name), 0);
	assert_int_equal(rte_mempool_avail_count(pool), pool->size);
	rte_mempool_free(pool);
}

static void
test_port_stops_configures_and_starts_a_hundred_times(void **state)
{
	struct port_config config = {.n_queues = PAIRS};
	struct rte_mempool *pool = make_pool("ops", 2048);
	struct test_port port;
	struct footprint before;
	int i;

	assert_int_equal(port_try_open(&port, &config), 0);
	configure(port.id, pool);
	before = footprint_read();
	for (i = 0; i < 100; i++) {
		assert_int_equal(rte_eth_dev_start(port.id), 0);
		check_idle_bursts(port.id, pool);
		assert_int_equal(rte_eth_dev_stop(port.id), 0);
		configure(port.id, pool);
	}
	footprint_expect(&before);
	port_close(&port);
	rte_mempool_free(pool);
}

/** Connection, rings and what is in them stay; the guest notices nothing. */
static void
test_guest_survives_a_hundred_stops_and_starts(void **state)
{
	struct rig *rig = rig_main();
	unsigned int sent;
	int i;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 8);
	port_log_capture();
	sent = rig_send(rig, 0, 16);
	for (i = 0; i < 100; i++) {
		port_stop(&rig->port);
		expect_link(rig->port.id, RTE_ETH_LINK_DOWN);
		port_start(&rig->port);
		expect_link(rig->port.id, RTE_ETH_LINK_UP);
	}
	assert_int_equal(port_log_lines("net_dynvhost"), 0);
	assert_int_equal(sent, 16);
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	rig_exchange(rig, 0, 64);
}

static void
test_link_that_is_set_down_hides_the_guest(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	expect_link(rig->port.id, RTE_ETH_LINK_UP);
	assert_int_equal(rte_eth_dev_set_link_down(rig->port.id), 0);
	expect_link(rig->port.id, RTE_ETH_LINK_DOWN);
	port_stop(&rig->port);
	port_start(&rig->port);
	expect_link(rig->port.id, RTE_ETH_LINK_DOWN);
	assert_int_equal(rte_eth_dev_set_link_up(rig->port.id), 0);
	expect_link(rig->port.id, RTE_ETH_LINK_UP);
}

/** Received packets go into what the pool has room for: less than this, and bursts could not. */
static void
test_pool_with_too_little_room_is_refused(void **state)
{
	struct port_config config = {.n_queues = 1};
	struct rte_mempool *tiny = make_pool("tiny", 63), *enough = make_pool("enough", 64);
	struct rte_eth_conf conf = {0};
	struct test_port port;

	assert_int_equal(port_try_open(&port, &config), 0);
	assert_int_equal(rte_eth_dev_configure(port.id, 1, 1, &conf), 0);
	assert_int_equal(
		rte_eth_rx_queue_setup(port.id, 0, 512, SOCKET_ID_ANY, NULL, tiny), -EINVAL);
	assert_int_equal(rte_eth_rx_queue_setup(port.id, 0, 512, SOCKET_ID_ANY, NULL, enough), 0);
	port_close(&port);
	rte_mempool_free(tiny);
	rte_mempool_free(enough);
}

static void
test_more_queues_than_the_port_has_are_refused(void **state)
{
	struct port_config config = {.n_queues = PAIRS};
	struct rte_eth_conf conf = {0};
	struct test_port port;

	assert_int_equal(port_try_open(&port, &config), 0);
	assert_int_equal(rte_eth_dev_configure(port.id, PAIRS + 1, PAIRS, &conf), -EINVAL);
	assert_int_equal(rte_eth_dev_configure(port.id, PAIRS, PAIRS + 1, &conf), -EINVAL);
	/* Fewer will do, and need not be as many for both directions. */
	assert_int_equal(rte_eth_dev_configure(port.id, 1, PAIRS, &conf), 0);
	port_close(&port);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_open_vswitch_sets_up_a_port_without_guest),
		RIG_TEST(test_port_stops_configures_and_starts_a_hundred_times),
		RIG_TEST(test_guest_survives_a_hundred_stops_and_starts),
		RIG_TEST(test_link_that_is_set_down_hides_the_guest),
		RIG_TEST(test_pool_with_too_little_room_is_refused),
		RIG_TEST(test_more_queues_than_the_port_has_are_refused),
	};

	rig_program("unit_drv_ops", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_ops", tests, rig_group_setup, rig_group_teardown);
}
