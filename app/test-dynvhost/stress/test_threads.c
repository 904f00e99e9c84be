/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Everybody at once: lcores that poll and sleep on rings, an application that stops and starts queues
 * and the port, readers of statistics and telemetry, idle pages that close, and a front-end that
 * changes all it can and comes back again and again. Packets must come through, and under
 * ThreadSanitizer nothing may be reported.
 */

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <linux/virtio_config.h>
#include <rte_power_intrinsics.h>
#include <rte_telemetry.h>

#include "drv_test.h"
#include "rte_eth_dynvhost.h"

#define LCORES 2
#define PAIRS  4
/** What the application does in a round of the front-end's. */
#define TURNS 4
/** What the front-end does in turn; the last is to hang up and come back. */
#define ACTS    (RIG_CHANGES + 2)
#define HANG_UP (ACTS - 1)

int __wrap_rte_telemetry_register_cmd(const char *cmd, telemetry_cb run, const char *help);

static struct {
	const char *name;
	telemetry_cb run;
} command[16];
static unsigned int n_commands;

/** Called by the driver's constructors, before main(). */
int
__wrap_rte_telemetry_register_cmd(const char *cmd, telemetry_cb run, const char *help)
{
	(void)help;
	command[n_commands].name = cmd;
	command[n_commands++].run = run;
	return 0;
}

static struct {
	struct rig *rig;
	atomic_bool stop;
	atomic_bool pause; /* lcores poll nothing while the port is stopped, as ethdev has it */
	atomic_uint paused;
	atomic_uint turns; /* of application and reader */
	atomic_uint round; /* the front-end's */
} crew;

struct member {
	pthread_t thread;
	unsigned int number;
};

static bool
crew_works(void)
{
	return !atomic_load(&crew.stop);
}

/* As the CPU does that watches the line: nothing orders it with anything. */
static __rte_noinline __attribute__((no_sanitize("thread"))) uint16_t
lcore_load(const volatile void *addr)
{
	return *(const volatile uint16_t *)addr;
}

/* As rte_power_monitor() does, without going to sleep. */
static void
lcore_monitor(uint16_t q)
{
	struct rte_power_monitor_cond cond;

	if (rte_eth_get_monitor_addr(crew.rig->port.id, q, &cond) == 0)
		(void)cond.fn(lcore_load(cond.addr), cond.opaque);
	(void)rte_eth_rx_queue_count(crew.rig->port.id, q);
	(void)rte_eth_rx_descriptor_status(crew.rig->port.id, q, 0);
}

/* Give back what comes, however long queues stay stopped meanwhile. @return how many packets came. */
static uint16_t
lcore_echo(uint16_t q)
{
	struct rte_mbuf *pkts[32];
	const uint16_t got = rte_eth_rx_burst(crew.rig->port.id, q, pkts, RTE_DIM(pkts));
	uint16_t sent = 0;

	while (sent < got && crew_works())
		sent = (uint16_t)(sent + rte_eth_tx_burst(crew.rig->port.id, q, pkts + sent,
						 (uint16_t)(got - sent)));
	rte_pktmbuf_free_bulk(pkts + sent, (unsigned int)(got - sent));
	return got;
}

static void
lcore_pause(void)
{
	atomic_fetch_add(&crew.paused, 1);
	while (crew_works() && atomic_load(&crew.pause))
		sched_yield();
	atomic_fetch_sub(&crew.paused, 1);
}

static void *
lcore_run(void *arg)
{
	const struct member *lcore = arg;
	uint16_t q;

	while (crew_works()) {
		if (atomic_load(&crew.pause)) {
			lcore_pause();
			continue;
		}
		for (q = (uint16_t)lcore->number; q < PAIRS; q += LCORES)
			if (lcore_echo(q) == 0)
				lcore_monitor(q);
	}
	return NULL;
}

static void
application_restart_port(void)
{
	atomic_store(&crew.pause, true);
	while (crew_works() && atomic_load(&crew.paused) < LCORES)
		sched_yield();
	if (crew_works()) {
		port_stop(&crew.rig->port);
		port_start(&crew.rig->port);
	}
	atomic_store(&crew.pause, false);
	/* Before the next pause nobody is left who counts for this one. */
	while (crew_works() && atomic_load(&crew.paused) != 0)
		sched_yield();
}

static void *
application_run(void *arg)
{
	const uint16_t id = crew.rig->port.id;
	unsigned int looks = 0;
	unsigned int i;

	for (i = 0; crew_works(); i++) {
		uint16_t q = (uint16_t)(i / 4 % PAIRS);

		/* ThreadSanitizer takes mappings of its own for each that is made, and keeps them. */
		while (crew_works() && i >= TURNS * atomic_load(&crew.round))
			mock_relax(&looks);

		switch (i % 4) {
		case 0:
			mock_check(rte_eth_dev_rx_queue_stop(id, q) == 0);
			mock_check(rte_eth_dev_rx_queue_start(id, q) == 0);
			break;
		case 1:
			mock_check(rte_eth_dev_tx_queue_stop(id, q) == 0);
			mock_check(rte_eth_dev_tx_queue_start(id, q) == 0);
			break;
		case 2:
			mock_check(rte_eth_dev_set_link_down(id) == 0);
			mock_check(rte_eth_dev_set_link_up(id) == 0);
			break;
		default:
			application_restart_port();
		}
		atomic_fetch_add(&crew.turns, 1);
		mock_relax(&looks);
	}
	return arg;
}

static void
reader_ask_telemetry(uint16_t id)
{
	struct rte_tel_data *data = rte_tel_data_alloc();
	char params[16];
	unsigned int i;

	mock_check(data != NULL);
	snprintf(params, sizeof(params), "%u", id);
	for (i = 0; i < n_commands; i++)
		(void)command[i].run(command[i].name, params, data);
	rte_tel_data_free(data);
}

static void *
reader_run(void *arg)
{
	const uint16_t id = crew.rig->port.id;
	struct rte_eth_dynvhost_queue_event event;
	struct rte_eth_dynvhost_exposure exposure;
	struct rte_eth_xstat xstats[512];
	struct rte_eth_stats stats;
	struct rte_eth_link link;
	unsigned int looks = 0;

	while (crew_works()) {
		mock_check(rte_eth_stats_get(id, &stats) == 0);
		mock_check(rte_eth_xstats_get(id, xstats, RTE_DIM(xstats)) > 0);
		mock_check(rte_eth_link_get_nowait(id, &link) == 0);
		mock_check(rte_eth_dynvhost_get_exposure(id, &exposure) == 0);
		while (rte_eth_dynvhost_get_queue_event(id, &event) == 0)
			continue;
		reader_ask_telemetry(id);
		atomic_fetch_add(&crew.turns, 1);
		mock_relax(&looks);
	}
	return arg;
}

static struct member member[LCORES + 2];
static bool crew_runs;

static void
crew_start(struct rig *rig)
{
	static void *(*const run[])(void *arg) = {
		lcore_run, lcore_run, application_run, reader_run};
	unsigned int i;

	crew.rig = rig;
	atomic_store(&crew.stop, false);
	atomic_store(&crew.pause, false);
	atomic_store(&crew.turns, 0);
	atomic_store(&crew.round, 0);
	for (i = 0; i < RTE_DIM(run); i++) {
		member[i].number = i;
		mock_check(pthread_create(&member[i].thread, NULL, run[i], &member[i]) == 0);
	}
	/* The rig leaves polling to them. */
	rig->echo_runs = true;
	crew_runs = true;
}

static void
crew_stop(struct rig *rig)
{
	unsigned int i;

	if (!crew_runs)
		return;
	crew_runs = false;
	atomic_store(&crew.stop, true);
	for (i = 0; i < LCORES + 2; i++)
		pthread_join(member[i].thread, NULL);
	rig->echo_runs = false;
}

/* One thing that a front-end does to a guest that runs. */
static void
front_end_acts(struct rig *rig, unsigned int i)
{
	const unsigned int pair = i / ACTS % PAIRS;
	const unsigned int act = i % ACTS;

	if (act < RIG_CHANGES) {
		rig_change(rig, pair, act);
	} else if (act != HANG_UP) {
		/* Not another state: what its queue sends would go to another ring. */
		fe_set_vring_enable(&rig->fe, NIC_RX(pair), 1, FE_OK);
	} else {
		rig_hang_up(rig);
		rig_reconnect(rig);
	}
}

static void
everybody_at_once(uint64_t features)
{
	const struct rig_config config = {.port = {.devargs = "map-idle-ms=2"},
		.nic = {.n_pairs = PAIRS,
			.features = features,
			.without_protocol = 1ull << VU_PF_CONFIGURE_MEM_SLOTS}};
	struct rig *rig = rig_main();
	unsigned int i, pair;

	rig_open(rig, &config);
	crew_start(rig);
	for (i = 0; i < rig_repeats(120, 240); i++) {
		atomic_fetch_add(&crew.round, 1);
		for (pair = 0; pair < PAIRS; pair++)
			assert_int_equal(rig_send(rig, pair, 8), 8);
		/* A front-end that goes takes what is on its way with it. */
		if (i % ACTS != HANG_UP)
			front_end_acts(rig, i);
		for (pair = 0; pair < PAIRS; pair++)
			assert_true(rig_collect(rig, pair, MOCK_DEADLINE_MS));
		if (i % ACTS == HANG_UP)
			front_end_acts(rig, i);
	}
	crew_stop(rig);
	print_message("# %u turns of application and reader\n", atomic_load(&crew.turns));
	assert_true(atomic_load(&crew.turns) > 20);
	rig_close(rig);
}

static void
test_everybody_at_once_on_split_rings(void **state)
{
	everybody_at_once(NIC_FEATURES);
}

static void
test_everybody_at_once_on_packed_rings(void **state)
{
	everybody_at_once(NIC_FEATURES | 1ull << VIRTIO_F_RING_PACKED);
}

static int
stress_teardown(void **state)
{
	crew_stop(rig_main());
	return rig_teardown(state);
}

#define STRESS_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, stress_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		STRESS_TEST(test_everybody_at_once_on_split_rings),
		STRESS_TEST(test_everybody_at_once_on_packed_rings),
	};

	rig_program("test_stress_threads", 150);
	return cmocka_run_group_tests_name(
		"stress threads", tests, rig_group_setup, rig_group_teardown);
}
