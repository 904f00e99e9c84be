/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: what a front-end says about the device as a whole: resets, status, announcement after
 * a migration, MTU (vhost-user.rst).
 */

#include <string.h>

#include <rte_arp.h>
#include <rte_ethdev.h>

#include "conform.h"

#define STATUS_ACKNOWLEDGED (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)

static void
test_c58_reset_owner_keeps_connection_and_memory(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 32);
	fe_reset_owner(&rig->fe, FE_OK);
	nic_stop(&rig->nic);
	/* The regions are not sent again. */
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

static void
test_c58_reset_device_disables_rings_alone(void **state)
{
	const uint64_t features = NIC_FEATURES;
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	assert_true(fe_get_protocol_features(&rig->fe) & BIT(VU_PF_RESET_DEVICE));
	for (i = 0; i < 3; i++) {
		rig_exchange(rig, 0, 32);
		fe_reset_device(&rig->fe, FE_OK);
		port_wait_link(&rig->port, false);
		assert_int_equal(rig_send(rig, 0, 4), 4);
		rig_expect_nothing_received(rig, 0);
		assert_int_equal(fe_get_status(&rig->fe), 0);
		/* Features may be others now, and the regions are not sent again. */
		rig->nic.features = features & fe_get_features(&rig->fe);
		if (i == 1)
			rig->nic.features &= ~BIT(VIRTIO_RING_F_INDIRECT_DESC);
		nic_start(&rig->nic);
		port_wait_link(&rig->port, true);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
}

static void
test_c58_reset_device_may_be_repeated_and_come_early(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	fe_reset_device(&rig->fe, FE_OK);
	fe_reset_device(&rig->fe, FE_OK);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

static void
test_c59_status_is_kept(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	assert_int_equal(fe_get_status(&rig->fe), 0);
	fe_set_status(&rig->fe, STATUS_ACKNOWLEDGED, FE_OK);
	assert_int_equal(fe_get_status(&rig->fe), STATUS_ACKNOWLEDGED);
	fe_set_status(&rig->fe, 0x100, FE_REFUSED);
	fe_set_status(&rig->fe, UINT64_MAX, FE_REFUSED);
	assert_int_equal(fe_get_status(&rig->fe), STATUS_ACKNOWLEDGED);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	assert_true(fe_get_status(&rig->fe) & VIRTIO_CONFIG_S_DRIVER_OK);
	nic_stop(&rig->nic);
	assert_int_equal(fe_get_status(&rig->fe), 0);
}

static void
test_c59_features_ok_tells_that_features_failed(void **state)
{
	const uint64_t status = STATUS_ACKNOWLEDGED | VIRTIO_CONFIG_S_FEATURES_OK;
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, CONFORM_NO_FEATURE, FE_REFUSED);
	fe_set_status(&rig->fe, status, FE_ANSWERED);
	assert_int_equal(fe_get_status(&rig->fe) & VIRTIO_CONFIG_S_FEATURES_OK, 0);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	fe_set_status(&rig->fe, status, FE_OK);
	assert_int_equal(fe_get_status(&rig->fe), status);
}

/** The frame that announces @p mac: a broadcast RARP request for its own address (RFC 903). */
static void
device_expect_rarp(const struct rte_mbuf *pkt, const struct rte_ether_addr *mac)
{
	const struct rte_ether_addr broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(pkt, const struct rte_ether_hdr *);
	const struct rte_arp_hdr *arp = (const struct rte_arp_hdr *)(eth + 1);

	assert_int_equal(pkt->pkt_len, 64);
	assert_int_equal(pkt->data_len, 64);
	assert_true(rte_is_same_ether_addr(&eth->dst_addr, &broadcast));
	assert_true(rte_is_same_ether_addr(&eth->src_addr, mac));
	assert_int_equal(eth->ether_type, htons(RTE_ETHER_TYPE_RARP));
	assert_int_equal(arp->arp_hardware, htons(RTE_ARP_HRD_ETHER));
	assert_int_equal(arp->arp_protocol, htons(RTE_ETHER_TYPE_IPV4));
	assert_int_equal(arp->arp_hlen, 6);
	assert_int_equal(arp->arp_plen, 4);
	assert_int_equal(arp->arp_opcode, htons(RTE_ARP_OP_REVREQUEST));
	assert_true(rte_is_same_ether_addr(&arp->arp_data.arp_sha, mac));
	assert_true(rte_is_same_ether_addr(&arp->arp_data.arp_tha, mac));
	assert_int_equal(arp->arp_data.arp_sip, 0);
	assert_int_equal(arp->arp_data.arp_tip, 0);
}

static struct rte_ether_addr
device_mac(uint8_t last)
{
	return (struct rte_ether_addr){{0x52, 0x54, 0x00, 0x12, 0x34, last}};
}

/* @p n announcements must arrive, their addresses counted up from @p first, and nothing more. */
static void
device_expect_rarps(struct rig *rig, uint8_t first, uint16_t n)
{
	struct rte_mbuf *pkts[32];
	uint16_t got = port_rx_wait(&rig->port, 0, pkts, n);
	uint16_t i;

	assert_int_equal(got, n);
	for (i = 0; i < got; i++) {
		struct rte_ether_addr mac = device_mac((uint8_t)(first + i));

		assert_int_equal(pkts[i]->port, rig->port.id);
		device_expect_rarp(pkts[i], &mac);
		rte_pktmbuf_free(pkts[i]);
	}
	rig_expect_nothing_received(rig, 0);
}

static void
device_announce(struct rig *rig, uint8_t last)
{
	struct rte_ether_addr mac = device_mac(last);

	fe_send_rarp(&rig->fe, mac.addr_bytes, FE_OK);
}

static void
test_c77_rarp_while_running_is_received_once(void **state)
{
	struct rig *rig = rig_main();
	uint8_t i;

	rig_open(rig, NULL);
	for (i = 0; i < 3; i++) {
		rig_exchange(rig, 0, 32);
		device_announce(rig, i);
		device_expect_rarps(rig, i, 1);
	}
	/* Several rounds before anybody polls. */
	for (i = 0; i < 5; i++)
		device_announce(rig, i);
	device_expect_rarps(rig, 0, 5);
	rig_exchange(rig, 0, 32);
}

static void
test_c77_rarp_before_rings_run_is_received_once(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	device_announce(rig, 7);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	device_expect_rarps(rig, 7, 1);
	rig_exchange(rig, 0, 32);
}

static void
test_c77_rarps_without_end_take_bounded_room(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < 1000; i++)
		device_announce(rig, (uint8_t)i);
	device_expect_rarps(rig, 0, 16);
	/* What nobody has fetched goes with its front-end. */
	device_announce(rig, 0);
	rig_hang_up(rig);
	rig_reconnect(rig);
	rig_expect_nothing_received(rig, 0);
	rig_exchange(rig, 0, 32);
}

static uint16_t
device_mtu(const struct rig *rig)
{
	uint16_t mtu = 0;

	assert_int_equal(rte_eth_dev_get_mtu(rig->port.id, &mtu), 0);
	return mtu;
}

static void
device_wait_mtu(const struct rig *rig, uint16_t mtu)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (device_mtu(rig) != mtu) {
		if (mock_now_ms() > deadline)
			mock_fail("MTU of the port is %u, not %u", device_mtu(rig), mtu);
		mock_relax(&looks);
	}
}

static void
test_c78_mtu_of_the_front_end_is_that_of_the_port(void **state)
{
	static const uint64_t bad[] = {0, 67, 65536, UINT64_MAX, (1ull << 32) + 1500};
	static const uint16_t good[] = {68, 1500, 9000, 65535, 1400};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	assert_true(fe_get_features(&rig->fe) & BIT(VIRTIO_NET_F_MTU));
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		fe_set_mtu(&rig->fe, good[i], FE_OK);
		device_wait_mtu(rig, good[i]);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		fe_set_mtu(&rig->fe, bad[i], FE_REFUSED);
	rig_exchange(rig, 0, 32);
	assert_int_equal(device_mtu(rig), 1400);
	/* Configuring anew does not lose it; the application's own wish counts until the next. */
	port_stop(&rig->port);
	port_start(&rig->port);
	assert_int_equal(device_mtu(rig), 1400);
	assert_int_equal(rte_eth_dev_set_mtu(rig->port.id, 3000), 0);
	assert_int_equal(device_mtu(rig), 3000);
	fe_set_mtu(&rig->fe, 1600, FE_OK);
	device_wait_mtu(rig, 1600);
}

static void
test_c78_mtu_beyond_that_of_the_port_is_refused(void **state)
{
	const struct rig_config config = {.port = {.devargs = "mtu=2000"}};
	struct rte_eth_dev_info info;
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	assert_int_equal(device_mtu(rig), 2000);
	assert_int_equal(rte_eth_dev_info_get(rig->port.id, &info), 0);
	assert_int_equal(info.max_mtu, 2000);
	fe_set_mtu(&rig->fe, 2001, FE_REFUSED);
	fe_set_mtu(&rig->fe, 2000, FE_OK);
	fe_set_mtu(&rig->fe, 1280, FE_OK);
	device_wait_mtu(rig, 1280);
	assert_int_equal(rte_eth_dev_set_mtu(rig->port.id, 2001), -EINVAL);
	rig_exchange(rig, 0, 32);
}

static void
test_c78_mtu_goes_with_its_front_end(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	fe_set_mtu(&rig->fe, 1280, FE_OK);
	device_wait_mtu(rig, 1280);
	rig_hang_up(rig);
	device_wait_mtu(rig, 1500);
	/* What the application has said meanwhile counts. */
	rig_reconnect(rig);
	assert_int_equal(device_mtu(rig), 1500);
	fe_set_mtu(&rig->fe, 1300, FE_OK);
	device_wait_mtu(rig, 1300);
	assert_int_equal(rte_eth_dev_set_mtu(rig->port.id, 2000), 0);
	rig_hang_up(rig);
	fe_connect(&rig->fe, rig->port.path);
	fe_barrier(&rig->fe);
	assert_int_equal(device_mtu(rig), 2000);
}

static struct rte_mbuf *
device_packet(const struct rig *rig, uint32_t len)
{
	return port_packet(&rig->port, len, len, 0);
}

/* Of frames around the limit only those that keep it arrive, in their order. */
static void
device_send_around(struct rig *rig, uint64_t features, bool limited)
{
	const struct rig_config config = {.nic = {.features = features}};
	static const uint32_t len[] = {1218, 1219, 1220, 60, 1500, 1218};
	uint8_t data[2048];
	struct rte_mbuf *pkts[6];
	struct rte_eth_stats before, stats;
	struct nic_packet packet;
	unsigned int i;

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	fe_set_mtu(&rig->fe, 1200, FE_OK);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	assert_int_equal(rte_eth_stats_get(rig->port.id, &before), 0);
	for (i = 0; i < 6; i++)
		pkts[i] = device_packet(rig, len[i]);
	assert_int_equal(port_tx_wait(&rig->port, 0, pkts, 6), 6);
	for (i = 0; i < 6; i++) {
		if (limited && len[i] > 1218)
			continue;
		assert_true(nic_receive(&rig->nic, 0, data, sizeof(data), &packet));
		assert_int_equal(packet.len, len[i]);
		assert_true(packet_matches(data, packet.len, len[i]));
	}
	assert_false(nic_receive(&rig->nic, 0, data, sizeof(data), &packet));
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	assert_int_equal(stats.oerrors - before.oerrors, limited ? 3 : 0);
	rig_close(rig);
}

static void
test_frames_beyond_a_negotiated_mtu_are_dropped(void **state)
{
	const uint64_t packed = BIT(VIRTIO_F_RING_PACKED);
	const uint64_t mtu = BIT(VIRTIO_NET_F_MTU);
	struct rig *rig = rig_main();

	device_send_around(rig, NIC_FEATURES | mtu, true);
	device_send_around(rig, NIC_FEATURES | mtu | packed, true);
	/* A guest that has not heard of it gets them. */
	device_send_around(rig, NIC_FEATURES, false);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c58_reset_owner_keeps_connection_and_memory),
		RIG_TEST(test_c58_reset_device_disables_rings_alone),
		RIG_TEST(test_c58_reset_device_may_be_repeated_and_come_early),
		RIG_TEST(test_c59_status_is_kept),
		RIG_TEST(test_c59_features_ok_tells_that_features_failed),
		RIG_TEST(test_c77_rarp_while_running_is_received_once),
		RIG_TEST(test_c77_rarp_before_rings_run_is_received_once),
		RIG_TEST(test_c77_rarps_without_end_take_bounded_room),
		RIG_TEST(test_c78_mtu_of_the_front_end_is_that_of_the_port),
		RIG_TEST(test_c78_mtu_beyond_that_of_the_port_is_refused),
		RIG_TEST(test_c78_mtu_goes_with_its_front_end),
		RIG_TEST(test_frames_beyond_a_negotiated_mtu_are_dropped),
	};

	rig_program("test_conform_device", 60);
	return cmocka_run_group_tests_name(
		"conform device", tests, rig_group_setup, rig_group_teardown);
}
