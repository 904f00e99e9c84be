/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile front-ends beside several polling threads: state that changes under all of them, buffers
 * that lie across every border there is.
 */

#include <stdlib.h>
#include <string.h>

#include "hostile.h"

#define LCORES 2
#define PAIRS  4

static struct lcore {
	pthread_t thread;
	struct rig *rig;
	unsigned int number;
	bool stop;
} lcores[LCORES];

static void *
lcore_run(void *arg)
{
	struct lcore *lcore = arg;
	unsigned int looks = 0;
	uint16_t q;

	while (!__atomic_load_n(&lcore->stop, __ATOMIC_ACQUIRE)) {
		for (q = (uint16_t)lcore->number; q < lcore->rig->port.n_queues; q += LCORES)
			port_echo(&lcore->rig->port, q);
		mock_relax(&looks);
	}
	return NULL;
}

/* From now on all queues are polled, by threads that share them out. */
static void
lcores_start(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < LCORES; i++) {
		lcores[i] = (struct lcore){.rig = rig, .number = i};
		mock_check(pthread_create(&lcores[i].thread, NULL, lcore_run, &lcores[i]) == 0);
	}
	/* The rig leaves polling to them. */
	rig->echo_runs = true;
}

static void
lcores_stop(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < LCORES; i++) {
		__atomic_store_n(&lcores[i].stop, true, __ATOMIC_RELEASE);
		pthread_join(lcores[i].thread, NULL);
	}
	rig->echo_runs = false;
}

static void
change_under_lcores(uint64_t features)
{
	const struct rig_config config = {
		.nic = {.n_pairs = PAIRS,
			.features = features,
			.without_protocol = BIT(VU_PF_CONFIGURE_MEM_SLOTS)}};
	struct rig *rig = rig_main();
	uint64_t start, longest = 0;
	unsigned int i, pair;

	rig_open(rig, &config);
	lcores_start(rig);
	for (i = 0; i < rig_repeats(200, 20000); i++) {
		for (pair = 0; pair < PAIRS; pair++)
			rig_send(rig, pair, 8);
		start = mock_now_ms();
		rig_change(rig, i / RIG_CHANGES % PAIRS, i);
		longest = mock_now_ms() - start > longest ? mock_now_ms() - start : longest;
		for (pair = 0; pair < PAIRS; pair++)
			assert_true(rig_collect(rig, pair, MOCK_DEADLINE_MS));
	}
	lcores_stop(rig);
	print_message("# the longest of %u changes took %llu ms\n", i, (unsigned long long)longest);
	assert_true(longest < MOCK_DEADLINE_MS);
	rig_close(rig);
	canary_check();
}

static void
test_h89_state_that_changes_under_two_lcores(void **state)
{
	change_under_lcores(NIC_FEATURES);
}

static void
test_h89_packed_rings_that_change_under_two_lcores(void **state)
{
	change_under_lcores(NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED));
}

/* 8 MiB, then 4 MiB of another file next to them, then a hole. */
static void
lay_out_neighbours(struct guest_ram *ram)
{
	guest_ram_init_neighbours(ram, 8 * MIB, 4 * MIB);
}

/* Header and packet in pieces of a byte or a few, from @p gpa on. */
static void
exchange_across(struct rig *rig, uint64_t gpa, uint32_t header_piece, uint32_t len)
{
	struct ring_piece piece[16];
	const struct rig_chain chain = {.piece = piece, .n = (uint16_t)(12 / header_piece + 1)};
	uint16_t i;

	for (i = 0; i + 1 < chain.n; i++)
		piece[i] = (struct ring_piece){
			.gpa = gpa - 12 + i * header_piece, .len = header_piece};
	piece[i] = (struct ring_piece){.gpa = gpa, .len = len};
	rig_chain_to_host(rig, 0, &chain);
	rig_chain_to_guest(rig, 0, &chain, len);
}

static void
test_h61_h63_headers_and_packets_across_pages_and_regions(void **state)
{
	static const uint64_t features[] = {NIC_FEATURES, NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED)};
	static const uint64_t borders[] = {5 * MIB, 6 * MIB + 4096, 8 * MIB};
	static const uint32_t pieces[] = {1, 4, 6, 12};
	struct rig *rig = rig_main();
	unsigned int f, b, p;
	int shift;

	for (f = 0; f < 2; f++) {
		const struct rig_config config = {.lay_out = lay_out_neighbours,
			.no_rx_buffers = true,
			.nic = {.features = features[f]}};

		rig_open(rig, &config);
		for (b = 0; b < 3; b++) {
			for (p = 0; p < 4; p++) {
				for (shift = -100; shift <= 13; shift++)
					exchange_across(rig, borders[b] + (uint64_t)(int64_t)shift,
						pieces[p], 100);
			}
		}
		rig_close(rig);
	}
}

static void
test_h63_packet_that_runs_into_a_hole_stops_the_queue(void **state)
{
	static const uint64_t features[] = {NIC_FEATURES, NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED)};
	struct rig *rig = rig_main();
	unsigned int f;

	for (f = 0; f < 2; f++) {
		const struct rig_config config = {
			.lay_out = lay_out_neighbours, .nic = {.features = features[f]}};
		const struct ring_piece piece = {.gpa = 12 * MIB - 100, .len = 112};
		const struct rig_chain chain = {.piece = &piece, .n = 1};
		uint64_t errors;

		rig_open(rig, &config);
		errors = port_errors(&rig->port);
		rig_offer_chain(rig, NIC_TX(0), &chain, false);
		rig_expect_nothing_received(rig, 0);
		assert_true(port_errors(&rig->port) > errors);
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 64);
		rig_close(rig);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h89_state_that_changes_under_two_lcores),
		HOSTILE_TEST(test_h89_packed_rings_that_change_under_two_lcores),
		HOSTILE_TEST(test_h61_h63_headers_and_packets_across_pages_and_regions),
		HOSTILE_TEST(test_h63_packet_that_runs_into_a_hole_stops_the_queue),
	};

	hostile_program("test_hostile_lcores", 90);
	return cmocka_run_group_tests_name(
		"hostile front-ends and lcores", tests, rig_group_setup, rig_group_teardown);
}
