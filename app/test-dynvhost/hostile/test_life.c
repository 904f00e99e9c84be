/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Ports that stop, start and go while their guests send on, and guests that share what the
 * application gives them.
 */

#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>

#include "hostile.h"

/** Frames of this many bytes take this many mbufs of the pool. */
#define LIFE_FRAME 65000u
#define LIFE_MBUFS 33u

/** Where a guest's large frames all lie. */
#define LIFE_FRAME_GPA (8 * MIB)

/** As guest after guest sends, whatever becomes of the port. */
static void
life_send(struct rig *rig)
{
	unsigned int pair;

	for (pair = 0; pair < rig->port.n_queues; pair++)
		(void)rig_send(rig, pair, 16);
}

static void
life_collect(struct rig *rig)
{
	unsigned int pair;

	for (pair = 0; pair < rig->port.n_queues; pair++)
		assert_true(rig_collect(rig, pair, MOCK_DEADLINE_MS));
}

static void
test_h88_port_that_stops_and_starts_under_traffic(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 2}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < rig_repeats(100, 1000); i++) {
		life_send(rig);
		if (i % 3 != 0)
			rig_poll(rig);
		port_stop(&rig->port);
		life_send(rig);
		port_start(&rig->port);
		/* What was in the rings stays there: nothing is lost. */
		life_collect(rig);
	}
	rig_exchange(rig, 0, 64);
}

static void
test_h88_port_that_is_removed_under_traffic(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 2}};
	struct rig *rig = rig_main();
	struct exposure exposure;
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < rig_repeats(50, 1000); i++) {
		life_send(rig);
		if (i % 3 != 0)
			rig_poll(rig);
		port_close(&rig->port);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(exposure.mapped, 0);
		life_send(rig);
		fe_close(&rig->fe);
		port_open(&rig->port, &rig->config.port);
		rig_forget(rig, 0);
		rig_forget(rig, 1);
		rig_reconnect(rig);
		life_send(rig);
		life_collect(rig);
	}
}

static void
life_offer_frames(struct rig *rig)
{
	const struct ring_piece piece = {.gpa = LIFE_FRAME_GPA, .len = LIFE_FRAME + 12};
	struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;

	while (ring->n_free > 0)
		split_ring_add(ring, &piece, 1);
	split_ring_publish(ring);
}

/* Take large frames until there are no mbufs for more. */
static uint16_t
life_take_frames(struct rig *rig, struct rte_mbuf **pkts, uint16_t room)
{
	uint16_t got = 0, idle = 0;

	while (got < room && idle < 100) {
		uint16_t n = port_rx(&rig->port, 0, pkts + got, (uint16_t)(room - got));

		got = (uint16_t)(got + n);
		idle = n == 0 ? (uint16_t)(idle + 1) : 0;
	}
	return got;
}

static void
test_h102_pool_that_another_guest_has_emptied(void **state)
{
	static struct rig second;
	const struct rig_config config = {.port = {.n_mbufs = 1023}};
	struct rte_mempool *own;
	struct rte_mbuf *pkts[64];
	struct rig *rig = rig_main();
	uint16_t n;

	rig_open(rig, &config);
	rig_open(&second, NULL);
	own = second.port.pool;
	port_stop(&second.port);
	second.port.pool = rig->port.pool;
	port_start(&second.port);
	rig_exchange(&second, 0, 32);

	life_offer_frames(rig);
	n = life_take_frames(rig, pkts, 64);
	assert_in_range(n, 1023 / LIFE_MBUFS - 1, 1023 / LIFE_MBUFS);
	/* The other guest waits, and loses nothing by it. */
	assert_int_equal(rig_send(&second, 0, 32), 32);
	rig_poll(&second);
	rte_pktmbuf_free_bulk(pkts, n);
	assert_true(rig_collect(&second, 0, MOCK_DEADLINE_MS));
	canary_check();

	nic_reap_tx(&rig->nic, 0);
	port_stop(&second.port);
	second.port.pool = own;
	rig_close(&second);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h88_port_that_stops_and_starts_under_traffic),
		HOSTILE_TEST(test_h88_port_that_is_removed_under_traffic),
		HOSTILE_TEST(test_h102_pool_that_another_guest_has_emptied),
	};

	hostile_program("test_hostile_life", 90);
	rig_devargs = HOSTILE_DEVARGS;
	return cmocka_run_group_tests_name(
		"hostile lives", tests, rig_group_setup, rig_group_teardown);
}
