/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: VIRTIO_F_IN_ORDER, with split and packed rings (virtio 1.2 §2.7.9, §2.8.8). A driver
 * that negotiates it takes buffers back in the order in which it offered them, whatever became of
 * the packets in them. In a packed ring a used descriptor may stand for all buffers that were sent up
 * to the one it names; buffers that were received in have one each, which their lengths need.
 */

#include <string.h>

#include "conform.h"

#define MIB (1ull << 20)

#define ORDER_BUFFERS 64

static const uint64_t formats[] = {0, BIT(VIRTIO_F_RING_PACKED)};

static void
open_in_order(uint64_t format, uint32_t buf_len)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES | BIT(VIRTIO_F_IN_ORDER) | format,
			.ring_size = ORDER_BUFFERS,
			.buf_len = buf_len},
		.no_rx_buffers = true};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	assert_int_equal(rig->nic.features & BIT(VIRTIO_F_IN_ORDER), BIT(VIRTIO_F_IN_ORDER));
}

/* Take everything back; it must come in the order of @p id. @return how many came. */
static unsigned int
expect_in_order(struct rig *rig, unsigned int index, const int *id, unsigned int n)
{
	struct ring_used used;
	unsigned int i = 0;
	uint64_t gpa;

	while (nic_ring_collect(&rig->nic, &rig->nic.ring[index], &used, &gpa)) {
		assert_true(i < n);
		assert_int_equal(used.id, id[i++]);
	}
	return i;
}

/* Offer @p n buffers for sending; every third is no packet, every fifth has three pieces. */
static void
send_mixed(struct rig *rig, int *id, unsigned int n)
{
	struct nic_ring *ring = &rig->nic.ring[NIC_TX(0)];
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct ring_piece piece[3] = {
			{.gpa = 4 * MIB + i * 4096, .len = i % 3 == 0 ? 10 : 100},
			{.gpa = 5 * MIB + i * 4096, .len = 100},
			{.gpa = 6 * MIB + i * 4096, .len = 100},
		};

		id[i] = nic_ring_add(&rig->nic, ring, piece, i % 5 == 0 ? 3 : 1);
		assert_true(id[i] >= 0);
	}
	nic_ring_publish(&rig->nic, ring);
}

static void
test_c71_sent_buffers_come_back_in_order(void **state)
{
	struct rig *rig = rig_main();
	int id[ORDER_BUFFERS];
	unsigned int f, round;

	for (f = 0; f < 2; f++) {
		open_in_order(formats[f], 2048);
		for (round = 0; round < 50; round++) {
			unsigned int n = 1 + round % 30, back = 0;
			uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
			bool enabled = round % 4 != 3;

			/* Disabled, a ring gives back what is sent all the same. */
			fe_set_vring_enable(&rig->fe, NIC_TX(0), enabled, FE_OK);
			send_mixed(rig, id, n);
			while (back < n && mock_now_ms() < deadline) {
				rig_poll(rig);
				back += expect_in_order(rig, NIC_TX(0), id + back, n - back);
			}
			assert_int_equal(back, n);
		}
		rig_close(rig);
	}
}

static void
test_c71_receive_buffers_come_back_in_order(void **state)
{
	struct rig *rig = rig_main();
	int id[ORDER_BUFFERS];
	unsigned int f, round, i;

	for (f = 0; f < 2; f++) {
		/* Buffers are merged: a packet takes one to six of them. */
		open_in_order(formats[f], 256);
		for (round = 0; round < 50; round++) {
			struct nic_ring *ring = &rig->nic.ring[NIC_RX(0)];
			unsigned int n = 6 + round % 50, back = 0;

			for (i = 0; i < n; i++) {
				struct ring_piece piece = {
					.gpa = 4 * MIB + i * 256, .len = 256, .writable = true};

				id[i] = nic_ring_add(&rig->nic, ring, &piece, 1);
			}
			nic_ring_publish(&rig->nic, ring);
			for (i = 0; back < n; i++) {
				uint32_t len = 60 + (i * 97 + round) % 1440;
				struct rte_mbuf *pkt;

				/* The last ones are filled by what fits. */
				if ((n - back) * 256 < len + 12)
					len = 60;
				pkt = port_packet(&rig->port, len, i, 0);
				assert_int_equal(port_tx_wait(&rig->port, 0, &pkt, 1), 1);
				assert_int_equal(
					expect_in_order(rig, NIC_RX(0), id + back, n - back),
					(len + 12 + 255) / 256);
				back += (len + 12 + 255) / 256;
			}
		}
		rig_close(rig);
	}
}

static void
test_c71_traffic_over_stops_of_rings_in_order(void **state)
{
	struct rig *rig = rig_main();
	unsigned int f, i;

	for (f = 0; f < 2; f++) {
		const struct rig_config config = {
			.nic = {.features = NIC_FEATURES | BIT(VIRTIO_F_IN_ORDER) |
					    BIT(VIRTIO_RING_F_EVENT_IDX) | formats[f],
				.start_index = 65500}};

		rig_open(rig, &config);
		for (i = 0; i < 10; i++) {
			rig_exchange(rig, 0, 200);
			assert_int_equal(rig_send(rig, 0, 50), 50);
			nic_stop(&rig->nic);
			nic_start(&rig->nic);
			port_wait_link(&rig->port, true);
			assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		}
		rig_close(rig);
	}
}

static void
test_devarg_in_order_0_does_not_offer_it(void **state)
{
	const struct rig_config config = {.port = {.devargs = "in-order=0"}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	assert_int_equal(fe_get_features(&rig->fe) & BIT(VIRTIO_F_IN_ORDER), 0);
	fe_set_features(&rig->fe, rig->nic.features | BIT(VIRTIO_F_IN_ORDER), FE_REFUSED);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c71_sent_buffers_come_back_in_order),
		RIG_TEST(test_c71_receive_buffers_come_back_in_order),
		RIG_TEST(test_c71_traffic_over_stops_of_rings_in_order),
		RIG_TEST(test_devarg_in_order_0_does_not_offer_it),
	};

	rig_program("test_conform_in_order", 60);
	return cmocka_run_group_tests_name(
		"conform in order", tests, rig_group_setup, rig_group_teardown);
}
