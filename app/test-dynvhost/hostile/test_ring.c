/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Hostile guests: ring indices, and ring memory that changes under the device. */

#include <stdlib.h>
#include <string.h>

#include "hostile.h"

/* Let the host poll for a moment; what it receives is thrown away. */
static void
ring_poll_a_while(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < 200; i++)
		rig_poll(rig);
}

/* The transmit queue must have stopped: nothing arrives, an error is counted, receiving goes on. */
static void
ring_expect_sending_stopped(struct rig *rig, uint64_t errors)
{
	uint16_t idx = split_ring_device_idx(&rig->nic.ring[NIC_TX(0)].ring);

	rig_expect_nothing_received(rig, 0);
	assert_int_equal(split_ring_device_idx(&rig->nic.ring[NIC_TX(0)].ring), idx);
	assert_true(port_errors(&rig->port) > errors);
	rig_to_guest(rig, 0, 100, 0);
	canary_check();
	rig_revive(rig, NIC_TX(0));
	rig_exchange(rig, 0, 64);
}

static void
test_h72_r8_avail_index_beyond_the_ring_stops_the_queue(void **state)
{
	/* 65535 and 65436 are steps back. */
	static const uint16_t jumps[] = {257, 300, 512, 32768, 60000, 65436, 65535};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;
		uint64_t errors = port_errors(&rig->port);

		rig_exchange(rig, 0, 40);
		split_ring_force_avail_idx(ring, (uint16_t)(ring->avail_idx + jumps[i]));
		ring_expect_sending_stopped(rig, errors);
	}
}

static void
test_h72_avail_index_beyond_the_ring_stops_receiving_alone(void **state)
{
	static const uint16_t jumps[] = {1, 300, 60000, 65000};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		struct split_ring *ring = &rig->nic.ring[NIC_RX(0)].ring;
		uint64_t errors = port_errors(&rig->port);
		struct rte_mbuf *pkt = port_packet(&rig->port, 100, 1, 0);
		uint16_t idx = split_ring_device_idx(ring);

		/* All 256 buffers are offered: every step on is one too many. */
		split_ring_force_avail_idx(ring, (uint16_t)(ring->avail_idx + jumps[i]));
		assert_int_equal(port_tx(&rig->port, 0, &pkt, 1), 0);
		assert_int_equal(split_ring_device_idx(ring), idx);
		assert_true(port_errors(&rig->port) > errors);
		rig_to_host(rig, 0, 100);
		rig_revive(rig, NIC_RX(0));
		rig_exchange(rig, 0, 64);
	}
}

static void
test_h73_indices_wrap_in_rings_of_every_size(void **state)
{
	static const uint16_t sizes[] = {1, 2, 4, 64, 1024, 32768};
	struct rig *rig = rig_main();
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct rig_config config = {
			.ram_size = 512 * MIB,
			.nic = {.ring_size = sizes[i],
				.start_index = (uint16_t)(65536 - 20),
				.buf_len = 4096},
		};
		unsigned int k;

		rig_open(rig, &config);
		for (k = 0; k < 60; k++)
			rig_exchange(rig, 0, 1);
		if (sizes[i] >= 32)
			rig_exchange(rig, 0, 600);
		rig_close(rig);
	}
}

static void
test_h74_what_the_guest_writes_to_the_used_ring_does_not_matter(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	srand(2);
	for (i = 0; i < 300; i++) {
		struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;
		struct rte_mbuf *pkt = NULL;
		uint16_t expected = (uint16_t)(ring->used_idx + 1);
		uint8_t data[100];
		unsigned int k;

		for (k = 0; k < split_ring_used_bytes(ring->num); k++)
			((uint8_t *)ring->used)[k] = (uint8_t)rand();
		packet_fill(data, sizeof(data), i);
		assert_true(nic_send(&rig->nic, 0, data, sizeof(data)));
		assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
		assert_true(port_packet_matches(pkt, sizeof(data), i));
		rte_pktmbuf_free(pkt);
		/* The device goes on by its own count. */
		assert_int_equal(split_ring_device_idx(ring), expected);
		assert_int_equal(nic_reap_tx(&rig->nic, 0), 1);
	}
}

static void
test_h75_events_and_flags_at_random_signal_once_a_burst_at_most(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES | BIT(VIRTIO_RING_F_EVENT_IDX)}};
	struct rig *rig = rig_main();
	struct split_ring *ring;
	unsigned int i;

	rig_open(rig, &config);
	ring = &rig->nic.ring[NIC_RX(0)].ring;
	srand(3);
	for (i = 0; i < 300; i++) {
		struct rte_mbuf *pkts[8];
		struct nic_packet packet;
		uint8_t data[64];
		uint16_t k;

		split_ring_set_used_event(ring, (uint16_t)rand());
		split_ring_suppress_calls(ring, i % 2 == 0);
		nic_calls(&rig->nic, NIC_RX(0));
		for (k = 0; k < 8; k++)
			pkts[k] = port_packet(&rig->port, 60, k, 0);
		assert_int_equal(port_tx(&rig->port, 0, pkts, 8), 8);
		assert_true(nic_calls(&rig->nic, NIC_RX(0)) <= 1);
		for (k = 0; k < 8; k++)
			assert_true(nic_receive(&rig->nic, 0, data, sizeof(data), &packet));
	}
}

static void
test_h77_ring_that_is_zeroed_while_it_runs_can_be_revived(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < 10; i++) {
		struct split_ring *rx = &rig->nic.ring[NIC_RX(0)].ring;
		struct split_ring *tx = &rig->nic.ring[NIC_TX(0)].ring;

		rig_exchange(rig, 0, 20 + i);
		/* What a guest's crash and restart look like. */
		memset(guest_ram_at(&rig->ram, 0, RIG_RAM_SIZE), 0, RIG_RAM_SIZE);
		ring_poll_a_while(rig);
		split_ring_reset(rx, 0);
		split_ring_reset(tx, 0);
		rig_revive(rig, NIC_RX(0));
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 64);
	}
}

static void
test_h19_ring_areas_that_overlap_harm_nobody_else(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < 4; i++) {
		struct fe_ring ring = nic_fe_ring(&rig->nic, NIC_TX(0));

		fe_get_vring_base(&rig->fe, NIC_TX(0));
		ring.used_uva = i != 1 ? ring.desc_uva : ring.used_uva;
		ring.avail_uva = i != 2 ? ring.desc_uva : ring.avail_uva;
		if (i == 3)
			ring.desc_uva = guest_ram_uva(&rig->ram, rig->nic.ring[NIC_TX(0)].buf_gpa);
		fe_set_vring_num(&rig->fe, NIC_TX(0), ring.num, FE_OK);
		fe_set_vring_base(&rig->fe, NIC_TX(0), 0, FE_OK);
		fe_set_vring_addr(&rig->fe, &ring, FE_ANSWERED);
		fe_set_vring_kick(
			&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_ANSWERED);
		memset(rig->nic.ring[NIC_TX(0)].ring.desc, 0x11, 4096);
		ring_poll_a_while(rig);
		rig_revive(rig, NIC_RX(0));
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 32);
	}
}

/* A guest's other processor: writes over descriptors and the avail ring as fast as it can. */
struct ring_racer {
	struct split_ring *ring;
	uint64_t gpa;
	bool stop;
};

static void *
ring_race(void *arg)
{
	struct ring_racer *racer = arg;
	unsigned int seed = 4;

	while (!__atomic_load_n(&racer->stop, __ATOMIC_ACQUIRE)) {
		uint16_t i = (uint16_t)(rand_r(&seed) % 256);
		volatile struct vring_desc *desc = &racer->ring->desc[i];

		desc->addr = rand_r(&seed) % 64 == 0 ? (uint64_t)rand_r(&seed) << 20 : racer->gpa;
		desc->len = rand_r(&seed) % 64 == 0 ? (uint32_t)rand_r(&seed) : 200;
		desc->flags = (uint16_t)(rand_r(&seed) % 16 == 0 ? rand_r(&seed) & 7 : 0);
		desc->next = (uint16_t)(rand_r(&seed) % 300);
	}
	return NULL;
}

static void
test_c72_h68_chains_that_change_while_they_are_read(void **state)
{
	struct rig *rig = rig_main();
	struct ring_racer racer = {0};
	pthread_t thread;
	unsigned int i;

	rig_open(rig, NULL);
	racer.ring = &rig->nic.ring[NIC_TX(0)].ring;
	racer.gpa = rig->nic.ring[NIC_TX(0)].buf_gpa;
	assert_int_equal(pthread_create(&thread, NULL, ring_race, &racer), 0);
	for (i = 0; i < rig_repeats(400, 400000); i++) {
		uint16_t k;

		for (k = 0; k < 32; k++)
			split_ring_offer(racer.ring, (uint16_t)((i * 32 + k) % 256));
		split_ring_publish(racer.ring);
		rig_poll(rig);
		/* Stopped or not, it starts again. */
		if (i % 20 == 19) {
			fe_get_vring_base(&rig->fe, NIC_TX(0));
			split_ring_reset(racer.ring, 0);
			nic_set_up_ring(&rig->nic, NIC_TX(0));
		}
	}
	__atomic_store_n(&racer.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	rig_revive(rig, NIC_RX(0));
	rig_revive(rig, NIC_TX(0));
	rig_exchange(rig, 0, 64);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h72_r8_avail_index_beyond_the_ring_stops_the_queue),
		HOSTILE_TEST(test_h72_avail_index_beyond_the_ring_stops_receiving_alone),
		HOSTILE_TEST(test_h73_indices_wrap_in_rings_of_every_size),
		HOSTILE_TEST(test_h74_what_the_guest_writes_to_the_used_ring_does_not_matter),
		HOSTILE_TEST(test_h75_events_and_flags_at_random_signal_once_a_burst_at_most),
		HOSTILE_TEST(test_h77_ring_that_is_zeroed_while_it_runs_can_be_revived),
		HOSTILE_TEST(test_h19_ring_areas_that_overlap_harm_nobody_else),
		HOSTILE_TEST(test_c72_h68_chains_that_change_while_they_are_read),
	};

	hostile_program("test_hostile_ring", 90);
	return cmocka_run_group_tests_name(
		"hostile rings", tests, rig_group_setup, rig_group_teardown);
}
