/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: packed rings – what sets them up, their position in all its forms, and that they run
 * as split ones do (virtio 1.2 §2.8; vhost-user.rst, "Vring state description").
 */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conform.h"

#define MIB (1ull << 20)

#define PACKED_FEATURES (NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED))
#define FRESH           0x80008000u

static void
open_packed(uint16_t ring_size, unsigned int n_pairs)
{
	const struct rig_config config = {
		.nic = {.features = PACKED_FEATURES, .ring_size = ring_size, .n_pairs = n_pairs}};

	rig_open(rig_main(), &config);
}

static void
test_c39_packed_ring_size_is_any_number(void **state)
{
	static const uint32_t good[] = {1, 2, 3, 100, 255, 257, 32767, 32768, 256};
	static const uint32_t bad[] = {0, 32769, 65535, 65536, 0x80000003, 0xffffffff};
	const struct rig_config config = {.nic = {.features = PACKED_FEATURES}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		fe_set_vring_num(&rig->fe, 0, good[i], FE_OK);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		fe_set_vring_num(&rig->fe, 0, bad[i], FE_REFUSED);
}

static void
packed_in_order(enum nic_order order)
{
	const struct rig_config config = {.nic = {.order = order,
						  .features = PACKED_FEATURES,
						  .n_pairs = 2,
						  .ring_size = 251,
						  .start_index = 200}};

	conform_run_in_order(&config);
}

static void
test_c41_packed_rings_in_the_order_of_qemu_7_2(void **state)
{
	packed_in_order(NIC_ORDER_QEMU_72);
}

static void
test_c41_packed_rings_in_the_order_of_qemu_2_5(void **state)
{
	packed_in_order(NIC_ORDER_QEMU_25);
}

static void
test_c41_packed_rings_in_the_order_of_virtio_user(void **state)
{
	packed_in_order(NIC_ORDER_VIRTIO_USER);
}

/* The transmit ring with an address that is no good: nothing moves. Then with the right one. */
static void
packed_bad_address(struct rig *rig, uint64_t desc, uint64_t driver, uint64_t device)
{
	struct fe_ring good = nic_fe_ring(&rig->nic, NIC_TX(0));
	struct fe_ring bad = good;

	bad.desc_uva += desc;
	bad.avail_uva += driver;
	bad.used_uva += device;
	rig_exchange(rig, 0, 4);
	fe_get_vring_base(&rig->fe, NIC_TX(0));
	good.base = nic_ring_position(&rig->nic, &rig->nic.ring[NIC_TX(0)]);
	fe_set_vring_base(&rig->fe, NIC_TX(0), good.base, FE_OK);
	fe_set_vring_addr(&rig->fe, &bad, FE_ANSWERED);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_ANSWERED);
	assert_int_equal(rig_send(rig, 0, 4), 4);
	rig_expect_nothing_received(rig, 0);
	fe_set_vring_addr(&rig->fe, &good, FE_OK);
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
}

static void
test_c42_c43_bad_address_does_not_start_a_packed_ring(void **state)
{
	struct rig *rig = rig_main();
	uint64_t end = RIG_RAM_SIZE;
	const struct packed_ring *ring;

	open_packed(100, 1);
	ring = &rig->nic.ring[NIC_TX(0)].packed;
	packed_bad_address(rig, 8, 0, 0);
	packed_bad_address(rig, 0, 2, 0);
	packed_bad_address(rig, 0, 0, 2);
	/* One descriptor too many before the end of memory; events behind it. */
	packed_bad_address(rig, end - ring->desc_gpa - 99 * 16, 0, 0);
	packed_bad_address(rig, 0, end - ring->driver_gpa, 0);
	packed_bad_address(rig, 0, 0, end - ring->device_gpa);
}

static void
test_c45_packets_that_wait_in_a_packed_ring_need_no_kick(void **state)
{
	const struct rig_config config = {.nic = {.features = PACKED_FEATURES, .no_kicks = true}};
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
test_c50_disabled_packed_ring_drops_and_delivers_nothing(void **state)
{
	struct rig *rig = rig_main();
	struct nic_ring *tx;
	struct rte_mbuf *pkt;
	uint64_t deadline;
	unsigned int i;

	open_packed(61, 1);
	tx = &rig->nic.ring[NIC_TX(0)];
	for (i = 0; i < 3; i++) {
		rig_exchange(rig, 0, 32);
		fe_set_vring_enable(&rig->fe, NIC_RX(0), 0, FE_OK);
		fe_set_vring_enable(&rig->fe, NIC_TX(0), 0, FE_OK);
		assert_int_equal(rig_send(rig, 0, 20), 20);
		rig_expect_nothing_received(rig, 0);
		pkt = port_packet(&rig->port, 100, 1, 0);
		port_tx(&rig->port, 0, &pkt, 1);
		assert_false(nic_ring_has_used(&rig->nic, &rig->nic.ring[NIC_RX(0)]));
		deadline = mock_now_ms() + MOCK_DEADLINE_MS;
		while (packed_ring_device_pos(&tx->packed) != tx->packed.avail_pos &&
			mock_now_ms() < deadline)
			rig_poll(rig);
		assert_int_equal(nic_reap_tx(&rig->nic, 0), 20);
		rig_forget(rig, 0);
		fe_set_vring_enable(&rig->fe, NIC_RX(0), 1, FE_OK);
		fe_set_vring_enable(&rig->fe, NIC_TX(0), 1, FE_OK);
	}
	rig_exchange(rig, 0, 32);
}

static void
test_c51_stopped_packed_ring_is_not_touched(void **state)
{
	struct rig *rig = rig_main();
	uint8_t before[64 * 16];
	struct packed_ring *tx;

	open_packed(64, 2);
	rig_exchange(rig, 1, 100);
	tx = &rig->nic.ring[NIC_TX(1)].packed;
	/* Twice 64 slots are two rounds; 100 are one and 36 slots. */
	assert_int_equal(fe_get_vring_base(&rig->fe, NIC_TX(1)), 0x00240024);
	assert_int_equal(rig_send(rig, 1, 16), 16);
	memcpy(before, tx->desc, sizeof(before));
	nic_calls(&rig->nic, NIC_TX(1));
	rig_exchange(rig, 0, 600);
	rig_expect_nothing_received(rig, 1);
	assert_memory_equal(before, tx->desc, sizeof(before));
	assert_int_equal(nic_calls(&rig->nic, NIC_TX(1)), 0);

	/* Started again, it goes on where it was. */
	nic_set_up_ring(&rig->nic, NIC_TX(1));
	assert_true(rig_collect(rig, 1, MOCK_DEADLINE_MS));
	rig_exchange(rig, 0, 32);
	rig_exchange(rig, 1, 32);
}

static void
test_c52_base_of_a_packed_ring_that_was_never_started(void **state)
{
	const struct rig_config config = {.nic = {.features = PACKED_FEATURES}};
	struct rig *rig = rig_main();

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), FRESH);
	fe_set_vring_base(&rig->fe, 0, 0x00050005, FE_OK);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0x00050005);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0x00050005);
	fe_set_vring_base(&rig->fe, 0, 0, FE_OK);
	assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0);
}

static void
test_c53_packed_ring_loses_and_doubles_nothing_when_it_stops(void **state)
{
	static const uint16_t sizes[] = {64, 251};
	struct rig *rig = rig_main();
	unsigned int k, i;

	for (k = 0; k < 2; k++) {
		open_packed(sizes[k], 1);
		for (i = 0; i < rig_repeats(20, 1000); i++) {
			assert_int_equal(rig_send(rig, 0, 50), 50);
			rig_poll(rig);
			nic_stop(&rig->nic);
			nic_start(&rig->nic);
			port_wait_link(&rig->port, true);
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		}
		rig_close(rig);
	}
}

static void
test_c54_every_base_of_a_new_packed_ring_is_its_beginning(void **state)
{
	static const uint32_t bases[] = {0x00008000, 0x80008000};
	const struct rig_config config = {
		.nic = {.features = PACKED_FEATURES, .order = NIC_ORDER_CLOUD_HYPERVISOR}};
	struct rig *rig = rig_main();
	unsigned int i, k;

	/* As the front-end says it; and where it says nothing. */
	for (k = 0; k < 3; k++) {
		rig_prepare(rig, &config);
		nic_negotiate(&rig->nic);
		fe_set_features(&rig->fe, rig->nic.features, FE_OK);
		nic_send_memory(&rig->nic);
		rig_offer_buffers(rig);
		for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
			struct fe_ring ring = nic_fe_ring(&rig->nic, i);

			fe_set_vring_num(&rig->fe, i, ring.num, FE_OK);
			if (k < 2)
				fe_set_vring_base(&rig->fe, i, bases[k], FE_OK);
			fe_set_vring_addr(&rig->fe, &ring, FE_OK);
			fe_set_vring_kick(&rig->fe, i, rig->nic.ring[i].kick_fd, FE_OK);
			fe_set_vring_enable(&rig->fe, i, 1, FE_OK);
		}
		port_wait_link(&rig->port, true);
		rig_exchange(rig, 0, 21);
		assert_int_equal(fe_get_vring_base(&rig->fe, 0), 0x80158015);
		assert_int_equal(fe_get_vring_base(&rig->fe, 1), 0x80158015);
		rig_close(rig);
	}
}

static void
test_c54_base_beyond_the_ring_does_not_start_it(void **state)
{
	struct rig *rig = rig_main();
	struct fe_ring ring;

	open_packed(100, 1);
	port_log_capture();
	assert_int_equal(fe_get_vring_base(&rig->fe, NIC_TX(0)), FRESH);
	ring = nic_fe_ring(&rig->nic, NIC_TX(0));
	fe_set_vring_base(&rig->fe, NIC_TX(0), 0x80648064, FE_OK);
	fe_set_vring_addr(&rig->fe, &ring, FE_OK);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
	assert_int_equal(port_log_lines("bad size, base or alignment"), 1);
	assert_int_equal(port_log_lines("base 0x80648064"), 1);
	assert_int_equal(rig_send(rig, 0, 4), 4);
	rig_expect_nothing_received(rig, 0);
	assert_false(port_link_up(&rig->port));
	fe_get_vring_base(&rig->fe, NIC_TX(0));
	nic_set_up_ring(&rig->nic, NIC_TX(0));
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
}

static void
test_c57_packed_addresses_from_before_a_stop_are_forgotten(void **state)
{
	struct rig *rig = rig_main();
	struct packed_ring *ring;
	unsigned int i;

	open_packed(64, 1);
	rig_exchange(rig, 0, 32);
	ring = &rig->nic.ring[NIC_TX(0)].packed;
	nic_stop(&rig->nic);
	memset(ring->desc, 0xa5, packed_ring_desc_bytes(64));
	for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
		fe_set_vring_enable(&rig->fe, i, 1, FE_OK);
		fe_set_vring_num(&rig->fe, i, 64, FE_OK);
		fe_set_vring_base(&rig->fe, i, FRESH, FE_OK);
		fe_set_vring_kick(&rig->fe, i, rig->nic.ring[i].kick_fd, FE_ANSWERED);
	}
	rig_expect_nothing_received(rig, 0);
	for (i = 0; i < packed_ring_desc_bytes(64); i++)
		assert_int_equal(((uint8_t *)ring->desc)[i], 0xa5);
	rig_reset_rings(rig);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

static void
test_c61_c67_chains_of_every_shape_in_packed_rings(void **state)
{
	const struct rig_config config = {
		.nic = {.features = PACKED_FEATURES, .ring_size = 251}, .no_rx_buffers = true};
	struct rig *rig = rig_main();
	struct ring_piece piece[40];
	uint16_t n, i;

	rig_open(rig, &config);
	for (i = 0; i < 40; i++)
		piece[i] = (struct ring_piece){
			.gpa = 4 * MIB + i * 0x1003ull, .len = i == 0 ? 1 : 40 + i % 5};
	for (n = 2; n <= 40; n++) {
		struct rig_chain chain = {.piece = piece, .n = n};
		uint32_t room = 1;

		for (i = 1; i < n; i++)
			room += piece[i].len;
		if (room < rig->nic.hdr_len + 60)
			continue;
		rig_chain_to_host(rig, 0, &chain);
		rig_chain_to_guest(rig, 0, &chain, room - rig->nic.hdr_len);
		chain.table_gpa = 8 * MIB - 24;
		rig_chain_to_host(rig, 0, &chain);
		rig_chain_to_guest(rig, 0, &chain, room - rig->nic.hdr_len);
		chain.n_direct = 1;
		rig_chain_to_host(rig, 0, &chain);
		rig_chain_to_guest(rig, 0, &chain, room - rig->nic.hdr_len);
	}
}

static void
test_c62_mergeable_packet_in_a_packed_ring(void **state)
{
	const struct rig_config config = {
		.nic = {.features = PACKED_FEATURES, .ring_size = 41, .buf_len = 256}};
	static const uint32_t lens[] = {60, 244, 245, 500, 501, 1514, 9000};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 3 * sizeof(lens) / sizeof(lens[0]); i++) {
		uint32_t len = lens[i % 7];
		struct nic_packet packet = rig_to_guest(rig, 0, len, 100);

		assert_int_equal(packet.n_buffers, (len + 12 + 255) / 256);
		assert_int_equal(packet.hdr.num_buffers, packet.n_buffers);
	}
}

static void
test_c69_driver_event_of_a_packed_ring_is_honoured(void **state)
{
	static const uint64_t more[] = {0, BIT(VIRTIO_RING_F_EVENT_IDX)};
	struct rig *rig = rig_main();
	unsigned int i, k;

	for (i = 0; i < 2; i++) {
		const struct rig_config config = {.nic = {.features = PACKED_FEATURES | more[i]}};

		rig_open(rig, &config);
		rig_exchange(rig, 0, 1);
		for (k = 0; k < 3; k++) {
			packed_ring_suppress_calls(&rig->nic.ring[NIC_RX(0)].packed, true);
			packed_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].packed, true);
			nic_calls(&rig->nic, NIC_RX(0));
			nic_calls(&rig->nic, NIC_TX(0));
			rig_exchange(rig, 0, 64);
			assert_int_equal(nic_calls(&rig->nic, NIC_RX(0)), 0);
			assert_int_equal(nic_calls(&rig->nic, NIC_TX(0)), 0);
			packed_ring_suppress_calls(&rig->nic.ring[NIC_RX(0)].packed, false);
			packed_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].packed, false);
			rig_exchange(rig, 0, 64);
			assert_true(nic_calls(&rig->nic, NIC_RX(0)) > 0);
			assert_true(nic_calls(&rig->nic, NIC_TX(0)) > 0);
		}
		rig_close(rig);
	}
}

static void
test_c70_packed_rings_of_odd_sizes_wrap(void **state)
{
	static const uint16_t sizes[] = {33, 63, 100, 1000};
	struct rig *rig = rig_main();
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		open_packed(sizes[i], 1);
		rig_exchange(rig, 0, 3u * sizes[i]);
		rig_close(rig);
	}
}

static void
test_c70_chain_across_the_end_of_a_packed_ring(void **state)
{
	/* Packets of up to 7 pieces, from every slot on. */
	const struct rig_config config = {
		.nic = {.features = PACKED_FEATURES & ~BIT(VIRTIO_NET_F_MQ),
			.ring_size = 35,
			.buf_len = 256}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 200; i++) {
		rig_to_host(rig, 0, 60 + i * 7 % 1454);
		rig_to_guest(rig, 0, 60 + i * 11 % 1454, 0);
	}
}

/* A connection that ends says nothing of positions; the VMM knows those of the last start. */
static void
test_c79_packed_rings_go_on_after_a_connection_was_lost(void **state)
{
	const struct rig_config config = {.nic = {.features = PACKED_FEATURES, .ring_size = 100}};
	struct rig *rig = rig_main();
	unsigned int i, k;

	rig_open(rig, &config);
	for (i = 0; i < rig_repeats(10, 200); i++) {
		rig_exchange(rig, 0, 37);
		assert_int_equal(rig_send(rig, 0, 20), 20);
		rig_poll(rig);
		rig_hang_up(rig);
		fe_connect(&rig->fe, rig->port.path);
		nic_negotiate(&rig->nic);
		fe_set_features(&rig->fe, rig->nic.features, FE_OK);
		nic_send_memory(&rig->nic);
		for (k = NIC_RX(0); k <= NIC_TX(0); k++) {
			struct fe_ring ring = nic_fe_ring(&rig->nic, k);

			fe_set_vring_num(&rig->fe, k, ring.num, FE_OK);
			fe_set_vring_base(&rig->fe, k, FRESH, FE_OK);
			fe_set_vring_addr(&rig->fe, &ring, FE_OK);
			fe_set_vring_kick(&rig->fe, k, rig->nic.ring[k].kick_fd, FE_OK);
			fe_set_vring_call(&rig->fe, k, rig->nic.ring[k].call_fd, FE_OK);
		}
		port_wait_link(&rig->port, true);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
}

static void
test_c79_packed_ring_whose_position_is_lost_waits_for_a_reset(void **state)
{
	const struct rig_config config = {.nic = {.features = PACKED_FEATURES, .ring_size = 100}};
	struct rig *rig = rig_main();
	struct packed_ring *tx;
	struct fe_ring ring;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 37);
	tx = &rig->nic.ring[NIC_TX(0)].packed;
	fe_get_vring_base(&rig->fe, NIC_TX(0));
	tx->desc[3].flags ^= PACKED_RING_USED;
	tx->desc[5].flags ^= PACKED_RING_USED;
	ring = nic_fe_ring(&rig->nic, NIC_TX(0));
	port_log_capture();
	fe_set_vring_base(&rig->fe, NIC_TX(0), FRESH, FE_OK);
	fe_set_vring_addr(&rig->fe, &ring, FE_OK);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
	assert_int_equal(rig_send(rig, 0, 4), 4);
	rig_expect_nothing_received(rig, 0);
	assert_int_equal(port_log_lines("does not tell its position"), 1);
	rig_revive(rig, NIC_TX(0));
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 300);
}

static void
test_devarg_packed_0_offers_split_rings_alone(void **state)
{
	const struct rig_config config = {.port = {.devargs = "packed=0"}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	assert_int_equal(fe_get_features(&rig->fe) & BIT(VIRTIO_F_RING_PACKED), 0);
	rig_exchange(rig, 0, 32);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c39_packed_ring_size_is_any_number),
		RIG_TEST(test_c41_packed_rings_in_the_order_of_qemu_7_2),
		RIG_TEST(test_c41_packed_rings_in_the_order_of_qemu_2_5),
		RIG_TEST(test_c41_packed_rings_in_the_order_of_virtio_user),
		RIG_TEST(test_c42_c43_bad_address_does_not_start_a_packed_ring),
		RIG_TEST(test_c45_packets_that_wait_in_a_packed_ring_need_no_kick),
		RIG_TEST(test_c50_disabled_packed_ring_drops_and_delivers_nothing),
		RIG_TEST(test_c51_stopped_packed_ring_is_not_touched),
		RIG_TEST(test_c52_base_of_a_packed_ring_that_was_never_started),
		RIG_TEST(test_c53_packed_ring_loses_and_doubles_nothing_when_it_stops),
		RIG_TEST(test_c54_every_base_of_a_new_packed_ring_is_its_beginning),
		RIG_TEST(test_c54_base_beyond_the_ring_does_not_start_it),
		RIG_TEST(test_c57_packed_addresses_from_before_a_stop_are_forgotten),
		RIG_TEST(test_c61_c67_chains_of_every_shape_in_packed_rings),
		RIG_TEST(test_c62_mergeable_packet_in_a_packed_ring),
		RIG_TEST(test_c69_driver_event_of_a_packed_ring_is_honoured),
		RIG_TEST(test_c70_packed_rings_of_odd_sizes_wrap),
		RIG_TEST(test_c70_chain_across_the_end_of_a_packed_ring),
		RIG_TEST(test_c79_packed_rings_go_on_after_a_connection_was_lost),
		RIG_TEST(test_c79_packed_ring_whose_position_is_lost_waits_for_a_reset),
		RIG_TEST(test_devarg_packed_0_offers_split_rings_alone),
	};

	rig_program("test_conform_packed", 60);
	return cmocka_run_group_tests_name(
		"conform packed", tests, rig_group_setup, rig_group_teardown);
}
