/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile guests with packed rings: chains that are none, bits that flicker, ids and events that mean
 * nothing, memory that changes under the device.
 */

#include <stdlib.h>
#include <string.h>

#include "hostile.h"

#define PACKED (NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED))

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define BUFFER (8 * MIB)
#define TABLE  (9 * MIB)

static void
packed_open(uint64_t more, uint16_t ring_size)
{
	const struct rig_config config = {
		.nic = {.features = PACKED | more, .ring_size = ring_size}};

	rig_open(rig_main(), &config);
}

static struct packed_ring *
packed_tx(void)
{
	return &rig_main()->nic.ring[NIC_TX(0)].packed;
}

/* Let the host poll for a moment; what it receives is thrown away. */
static void
packed_poll_a_while(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < 100; i++)
		rig_poll(rig);
}

struct packed_case {
	const char *what;
	uint16_t n; /**< descriptors in the ring */
	bool stops; /**< the queue; else the packet is dropped */
	struct vring_packed_desc desc[3];
	struct vring_packed_desc table[2]; /**< at TABLE */
};

static const struct packed_case packed_cases[] = {
	{"H57 a chain that does not end", 3, true,
		{{BUFFER, 10, 0, NEXT}, {BUFFER, 10, 0, NEXT}, {BUFFER, 0, 0, NEXT}}, {{0}}},
	{"H58 no bytes", 1, false, {{BUFFER, 0, 0, 0}}, {{0}}},
	{"H59 longer than any packet", 2, false,
		{{BUFFER, 0xffffff00, 0, NEXT}, {BUFFER, 0x170, 0, 0}}, {{0}}},
	{"H60 a header alone", 1, false, {{BUFFER, 12, 0, 0}}, {{0}}},
	{"H62 outside memory", 1, true, {{GIB, 100, 0, 0}}, {{0}}},
	{"H62 last byte outside memory", 1, true, {{RIG_RAM_SIZE - 99, 100, 0, 0}}, {{0}}},
	{"H62 wraps around", 1, true, {{UINT64_MAX - 50, 100, 0, 0}}, {{0}}},
	{"H64 to be written", 1, true, {{BUFFER, 112, 0, WRITE}}, {{0}}},
	{"H64 to be written behind a packet", 2, true,
		{{BUFFER, 112, 0, NEXT}, {BUFFER, 100, 0, WRITE}}, {{0}}},
	{"H65 table of no bytes", 1, true, {{TABLE, 0, 0, INDIRECT}}, {{0}}},
	{"H65 table of one entry and a half", 1, true, {{TABLE, 24, 0, INDIRECT}},
		{{BUFFER, 112, 0, 0}}},
	{"H65 table outside memory", 1, true, {{GIB, 16, 0, INDIRECT}}, {{0}}},
	{"H65 table as long as can be", 1, true, {{TABLE, 0xfffffff0, 0, INDIRECT}},
		{{BUFFER, 112, 0, 0}}},
	{"H66 table in a table", 1, true, {{TABLE, 32, 0, INDIRECT}},
		{{BUFFER, 12, 0, 0}, {TABLE, 16, 0, INDIRECT}}},
	{"H66 table and next", 2, true, {{TABLE, 16, 0, INDIRECT | NEXT}, {BUFFER, 100, 0, 0}},
		{{BUFFER, 112, 0, 0}}},
};

static void
packed_try(struct rig *rig, const struct packed_case *bad)
{
	struct packed_ring *ring = packed_tx();
	uint64_t errors = port_errors(&rig->port);
	uint16_t i;

	guest_ram_write(&rig->ram, TABLE, bad->table, sizeof(bad->table));
	for (i = 0; i < bad->n; i++)
		packed_ring_offer(ring, &bad->desc[i]);
	packed_ring_publish(ring);
	packed_poll_a_while(rig);
	if (port_errors(&rig->port) == errors)
		mock_fail("%s: nobody has counted it", bad->what);
	/* What is sent behind it tells whether the queue lives. */
	assert_int_equal(rig_send(rig, 0, 1), 1);
	if (bad->stops) {
		rig_expect_nothing_received(rig, 0);
		rig_revive(rig, NIC_TX(0));
	} else if (!rig_collect(rig, 0, MOCK_DEADLINE_MS)) {
		mock_fail("%s: the queue has stopped", bad->what);
	}
	rig_exchange(rig, 0, 64);
}

static void
test_h57_to_h66_bad_chains_in_a_packed_ring(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	packed_open(0, 64);
	for (i = 0; i < sizeof(packed_cases) / sizeof(packed_cases[0]); i++)
		packed_try(rig, &packed_cases[i]);
	canary_check();
}

static void
test_h76_ids_that_mean_nothing_are_given_back(void **state)
{
	static const uint16_t ids[] = {64, 65, 255, 0x7fff, 0x8000, 0xffff, 7, 7, 7, 0, 0};
	struct rig *rig = rig_main();
	unsigned int i;

	packed_open(0, 64);
	for (i = 0; i < 300; i++) {
		const struct vring_packed_desc desc = {BUFFER, 112, ids[i % 11], 0};
		struct packed_ring *ring = packed_tx();
		struct rte_mbuf *pkt;
		struct ring_used used;

		packed_ring_offer(ring, &desc);
		packed_ring_publish(ring);
		assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
		rte_pktmbuf_free(pkt);
		assert_true(packed_ring_collect(ring, &used));
		assert_int_equal(used.id, ids[i % 11]);
	}
	rig_exchange(rig, 0, 64);
}

static void
test_h76_next_on_every_slot_stops_rings_of_any_size(void **state)
{
	static const uint16_t sizes[] = {1, 3, 64, 255, 32767};
	struct rig *rig = rig_main();
	unsigned int k, i;

	for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		const struct vring_packed_desc desc = {BUFFER, 1, 0, NEXT};
		const struct rig_config config = {.ram_size = 256 * MIB,
			.nic = {.features = PACKED, .ring_size = sizes[k], .buf_len = 2048}};
		uint64_t errors;

		rig_open(rig, &config);
		errors = port_errors(&rig->port);
		for (i = 0; i < sizes[k]; i++)
			packed_ring_offer(packed_tx(), &desc);
		packed_ring_publish(packed_tx());
		rig_expect_nothing_received(rig, 0);
		assert_true(port_errors(&rig->port) > errors);
		rig_revive(rig, NIC_TX(0));
		for (i = 0; i < 10; i++)
			rig_exchange(rig, 0, 1);
		rig_close(rig);
	}
	canary_check();
}

static void
test_h76_events_beyond_the_ring_signal_once_a_burst_at_most(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	packed_open(BIT(VIRTIO_RING_F_EVENT_IDX), 61);
	srand(5);
	for (i = 0; i < 300; i++) {
		struct packed_ring *ring = &rig->nic.ring[NIC_RX(0)].packed;
		struct rte_mbuf *pkts[8];
		struct nic_packet packet;
		uint8_t data[64];
		uint16_t k;

		ring->driver->off_wrap = (uint16_t)rand();
		ring->driver->flags = (uint16_t)rand();
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
test_h77_packed_ring_that_is_zeroed_while_it_runs_can_be_revived(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	packed_open(0, 100);
	for (i = 0; i < 10; i++) {
		rig_exchange(rig, 0, 20 + 17 * i);
		memset(guest_ram_at(&rig->ram, 0, RIG_RAM_SIZE), 0, RIG_RAM_SIZE);
		packed_poll_a_while(rig);
		rig_revive(rig, NIC_RX(0));
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 200);
	}
}

static void
test_h78_base_ahead_of_the_guest_takes_nothing(void **state)
{
	struct rig *rig = rig_main();
	struct fe_ring ring;

	packed_open(0, 64);
	rig_exchange(rig, 0, 10);
	/* With our mark in the ring the base is found out; without it the guest waits in vain. */
	fe_get_vring_base(&rig->fe, NIC_TX(0));
	ring = nic_fe_ring(&rig->nic, NIC_TX(0));
	fe_set_vring_base(&rig->fe, NIC_TX(0), 0x80148014, FE_OK);
	fe_set_vring_addr(&rig->fe, &ring, FE_OK);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 10);

	fe_get_vring_base(&rig->fe, NIC_TX(0));
	packed_tx()->device->off_wrap = 0;
	fe_set_vring_base(&rig->fe, NIC_TX(0), 0x80308030, FE_OK);
	fe_set_vring_addr(&rig->fe, &ring, FE_OK);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
	assert_int_equal(rig_send(rig, 0, 4), 4);
	rig_expect_nothing_received(rig, 0);
	rig_revive(rig, NIC_TX(0));
	rig_exchange(rig, 0, 100);
}

/* A guest's other processor: every field of every descriptor, as fast as it can. */
struct packed_racer {
	struct packed_ring *ring;
	uint64_t gpa;
	bool stop;
};

static void *
packed_race(void *arg)
{
	struct packed_racer *racer = arg;
	unsigned int seed = 6;

	while (!__atomic_load_n(&racer->stop, __ATOMIC_ACQUIRE)) {
		uint16_t i = (uint16_t)(rand_r(&seed) % racer->ring->num);
		volatile struct vring_packed_desc *desc = &racer->ring->desc[i];
		uint16_t bits = rand_r(&seed) & 1 ? PACKED_RING_AVAIL : PACKED_RING_USED;

		desc->addr = rand_r(&seed) % 64 == 0 ? (uint64_t)rand_r(&seed) << 20 : racer->gpa;
		desc->len = rand_r(&seed) % 64 == 0 ? (uint32_t)rand_r(&seed) : 200;
		desc->id = (uint16_t)rand_r(&seed);
		desc->flags = (uint16_t)(rand_r(&seed) % 16 == 0 ? rand_r(&seed) : bits);
	}
	return NULL;
}

static void
test_c72_h68_h76_bits_and_chains_that_change_while_they_are_read(void **state)
{
	struct rig *rig = rig_main();
	struct packed_racer racer = {0};
	pthread_t thread;
	unsigned int i;

	packed_open(BIT(VIRTIO_RING_F_EVENT_IDX), 63);
	racer.ring = packed_tx();
	racer.gpa = rig->nic.ring[NIC_TX(0)].buf_gpa;
	assert_int_equal(pthread_create(&thread, NULL, packed_race, &racer), 0);
	for (i = 0; i < rig_repeats(2000, 400000); i++) {
		rig_poll(rig);
		/* Stopped or not, it starts again, or is refused for what its descriptors say. */
		if (i % 20 == 19) {
			struct fe_ring ring = nic_fe_ring(&rig->nic, NIC_TX(0));

			fe_get_vring_base(&rig->fe, NIC_TX(0));
			fe_set_vring_base(&rig->fe, NIC_TX(0), 0x80008000, FE_OK);
			fe_set_vring_addr(&rig->fe, &ring, FE_OK);
			fe_set_vring_kick(
				&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
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
		HOSTILE_TEST(test_h57_to_h66_bad_chains_in_a_packed_ring),
		HOSTILE_TEST(test_h76_ids_that_mean_nothing_are_given_back),
		HOSTILE_TEST(test_h76_next_on_every_slot_stops_rings_of_any_size),
		HOSTILE_TEST(test_h76_events_beyond_the_ring_signal_once_a_burst_at_most),
		HOSTILE_TEST(test_h77_packed_ring_that_is_zeroed_while_it_runs_can_be_revived),
		HOSTILE_TEST(test_h78_base_ahead_of_the_guest_takes_nothing),
		HOSTILE_TEST(test_c72_h68_h76_bits_and_chains_that_change_while_they_are_read),
	};

	hostile_program("test_hostile_packed", 90);
	return cmocka_run_group_tests_name(
		"hostile packed rings", tests, rig_group_setup, rig_group_teardown);
}
