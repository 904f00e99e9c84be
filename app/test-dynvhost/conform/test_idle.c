/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: pages that fall idle close beside running traffic, and the traffic never notices.
 *
 * The test is the polling lcore and the guest in one thread, so it knows at each burst what there
 * is to be moved; the closer is the driver's own control thread.
 */

#include <sched.h>
#include <stdio.h>

#include <rte_ethdev.h>
#include <rte_eth_dynvhost.h>

#ifdef CONFORM_DEVARGS
#define IDLE_DEVARGS CONFORM_DEVARGS ","
#else
#define IDLE_DEVARGS ""
#endif

#include "conform.h"

/**
 * Long enough that a page in steady use is not taken for idle because this thread was off the CPU,
 * short enough for ten passes in a second.
 */
#define IDLE_HOT_DEVARGS IDLE_DEVARGS "map-idle-ms=200"
/** Short against the time in which slow traffic comes round to the same buffer again. */
#define IDLE_COLD_DEVARGS IDLE_DEVARGS "map-idle-ms=10"
/** Packets of slow traffic in a millisecond: 256 buffers take 64 ms. */
#define IDLE_COLD_RATE 4

/** Bursts of the port that had something to move. */
struct idle_bursts {
	uint64_t n;
	uint64_t moved_nothing;
};

static struct rte_eth_dynvhost_exposure
idle_look(const struct rig *rig)
{
	struct rte_eth_dynvhost_exposure exposure;

	assert_int_equal(rte_eth_dynvhost_get_exposure(rig->port.id, &exposure), 0);
	return exposure;
}

static uint16_t
idle_count(struct idle_bursts *bursts, uint16_t moved)
{
	bursts->n++;
	bursts->moved_nothing += moved == 0;
	return moved;
}

/**
 * Have the guest send up to @p n packets and the port give them back, and count the bursts that
 * takes: each of them has something to move, and room for it.
 */
static void
idle_turn(struct rig *rig, uint16_t n, struct idle_bursts *bursts)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	uint16_t port = rig->port.id;
	struct rte_mbuf *pkts[PORT_BURST];
	uint16_t here = 0;
	uint16_t done = 0;

	n = (uint16_t)rig_send(rig, 0, n);
	assert_true(n > 0);
	while (done < n) {
		uint16_t left = n - here;

		if (left > 0)
			here += idle_count(bursts, rte_eth_rx_burst(port, 0, &pkts[here], left));
		left = here - done;
		if (left > 0)
			done += idle_count(bursts, rte_eth_tx_burst(port, 0, &pkts[done], left));
		assert_true(mock_now_ms() < deadline);
	}
	assert_true(rig_collect(rig, 0, 0));
}

/** Open a page that no traffic will use again. @return bytes that are open then. */
static uint64_t
idle_open_bystander(struct rig *rig)
{
	const struct ring_piece piece = {.gpa = RIG_RAM_SIZE - 4096, .len = 100};
	const struct rig_chain chain = {.piece = &piece, .n = 1};

	rig_chain_to_host(rig, 0, &chain);
	return idle_look(rig).loadable_bytes;
}

static void
test_closing_beside_steady_traffic_makes_no_burst_return_0(void **state)
{
	const struct rig_config config = {.port = {.devargs = IDLE_HOT_DEVARGS}};
	struct rig *rig = rig_main();
	struct rte_eth_dynvhost_exposure exposure;
	struct idle_bursts bursts = {0};
	uint64_t closes = 0;
	uint64_t end;
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 20; i++)
		idle_turn(rig, PORT_BURST, &bursts);
	for (i = 0; i < rig_repeats(3, 60); i++) {
		idle_open_bystander(rig);
		end = mock_now_ms() + 500;
		while (mock_now_ms() < end)
			idle_turn(rig, PORT_BURST, &bursts);
		exposure = idle_look(rig);
		assert_true(exposure.closes > closes);
		closes = exposure.closes;
	}
	printf("# %llu bursts with something to move, %llu moved nothing; %llu pages closed\n",
		(unsigned long long)bursts.n, (unsigned long long)bursts.moved_nothing,
		(unsigned long long)closes);
	assert_int_equal(bursts.moved_nothing, 0);
}

/*
 * Here a packet may come to a page that is being closed at that moment. Then it waits for the end
 * of that, and only if the closer has lost its CPU in the middle, it waits for the next burst.
 */
static void
test_slow_traffic_opens_again_what_has_closed(void **state)
{
	const struct rig_config config = {.port = {.devargs = IDLE_COLD_DEVARGS}};
	struct rig *rig = rig_main();
	struct rte_eth_dynvhost_exposure exposure;
	struct idle_bursts bursts = {0};
	uint64_t start;
	uint64_t turns;

	rig_open(rig, &config);
	start = mock_now_ms();
	for (turns = 0; turns < rig_repeats(4000, 200000); turns++) {
		/* Not by polling: a port that is polled in vain takes rests. */
		while ((mock_now_ms() - start) * IDLE_COLD_RATE < turns)
			sched_yield();
		idle_turn(rig, 1, &bursts);
	}
	exposure = idle_look(rig);
	printf("# %llu bursts with something to move, %llu moved nothing; %llu pages closed, %llu "
	       "denials\n",
		(unsigned long long)bursts.n, (unsigned long long)bursts.moved_nothing,
		(unsigned long long)exposure.closes, (unsigned long long)exposure.denials);
	assert_true(exposure.closes > turns / 4);
	assert_int_equal(bursts.moved_nothing, exposure.denials);
}

static void
test_silence_leaves_nothing_but_rings_open(void **state)
{
	const struct rig_config config = {.port = {.devargs = IDLE_HOT_DEVARGS}};
	struct rig *rig = rig_main();
	struct idle_bursts bursts = {0};
	struct exposure rings;
	struct exposure left;
	unsigned int looks = 0;
	uint64_t deadline;
	unsigned int i;

	rig_open(rig, &config);
	exposure_read(&rig->ram, &rings);
	for (i = 0; i < rig_repeats(3, 60); i++) {
		idle_turn(rig, PORT_BURST, &bursts);
		exposure_read(&rig->ram, &left);
		assert_true(left.loadable > rings.loadable && left.storable > rings.storable);
		deadline = mock_now_ms() + MOCK_DEADLINE_MS;
		while (left.loadable != rings.loadable || left.storable != rings.storable) {
			assert_true(mock_now_ms() < deadline);
			mock_relax(&looks);
			exposure_read(&rig->ram, &left);
		}
		assert_int_equal(idle_look(rig).loadable_bytes, rings.loadable);
		assert_int_equal(idle_look(rig).pinned_bytes, rings.loadable);
	}
	assert_int_equal(bursts.moved_nothing, 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_closing_beside_steady_traffic_makes_no_burst_return_0),
		RIG_TEST(test_slow_traffic_opens_again_what_has_closed),
		RIG_TEST(test_silence_leaves_nothing_but_rings_open),
	};

	rig_program("test_conform_idle", 60);
	return cmocka_run_group_tests_name(
		"conform idle", tests, rig_group_setup, rig_group_teardown);
}
