/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Statistics: extended ones have the same names in the same order from probe to close, guest or none;
 * all sources count the same packets; and a reset means zero everywhere for whatever is a counter.
 */

#include <errno.h>
#include <stdlib.h>

#include <linux/virtio_net.h>
#include <rte_mempool.h>

#include "drv_test.h"

#define PAIRS     2
#define MAX_STATS 128

static const char *const mem_gauges[] = {
	"map_management_guest_bytes",
	"map_management_loadable_bytes",
	"map_management_loadable_peak_bytes",
	"map_management_storable_bytes",
	"map_management_storable_peak_bytes",
	"map_management_pinned_bytes",
};

static const char *const mem_counters[] = {
	"map_management_opens",
	"map_management_closes",
	"map_management_repairs",
	"map_management_allocations",
	"map_refused_errors",
	"map_lost_errors",
};

static const char *const rx_names[] = {
	"good_packets",
	"good_bytes",
	"discarded_packets",
	"invalid_dropped",
	"stalled_dropped",
	"bad_chain_errors",
	"guest_notifications",
	"guest_notifications_suppressed",
};

/* Of both directions, behind those. */
static const char *const kind_names[] = {
	"multicast_packets",
	"broadcast_packets",
	"undersize_packets",
	"size_64_packets",
	"size_65_127_packets",
	"size_128_255_packets",
	"size_256_511_packets",
	"size_512_1023_packets",
	"size_1024_1518_packets",
	"size_1519_max_packets",
};

static const char *const tx_names[] = {
	"good_packets",
	"good_bytes",
	"no_room_dropped",
	"stalled_errors",
	"bad_chain_errors",
	"guest_notifications",
	"guest_notifications_suppressed",
};

/** Extended statistics as ethdev shows them. */
struct stats_table {
	int n;
	struct rte_eth_xstat_name name[MAX_STATS];
	struct rte_eth_xstat value[MAX_STATS];
};

static void
read_table(uint16_t port, struct stats_table *table)
{
	int i;

	memset(table, 0, sizeof(*table));
	table->n = rte_eth_xstats_get_names(port, NULL, 0);
	assert_in_range(table->n, 1, MAX_STATS);
	assert_int_equal(rte_eth_xstats_get(port, NULL, 0), table->n);
	assert_int_equal(
		rte_eth_xstats_get_names(port, table->name, (unsigned int)table->n), table->n);
	assert_int_equal(rte_eth_xstats_get(port, table->value, (unsigned int)table->n), table->n);
	for (i = 0; i < table->n; i++)
		assert_int_equal(table->value[i].id, i);
	/* Too small an array gets the number and nothing else. */
	assert_int_equal(
		rte_eth_xstats_get(port, table->value, (unsigned int)table->n - 1), table->n);
}

static uint64_t
find(const struct stats_table *table, const char *name)
{
	int i;

	for (i = 0; i < table->n; i++) {
		if (strcmp(table->name[i].name, name) == 0)
			return table->value[i].value;
	}
	fail_msg("there is no %s", name);
	return 0;
}

static uint64_t
find_of_queue(
	const struct stats_table *table, const char *direction, unsigned int q, const char *name)
{
	char full[RTE_ETH_XSTATS_NAME_SIZE];

	snprintf(full, sizeof(full), "%s_q%u_%s", direction, q, name);
	return find(table, full);
}

static void
append(char text[][RTE_ETH_XSTATS_NAME_SIZE], int *n, const char *prefix, const char *const *name,
	size_t n_names)
{
	size_t i;

	for (i = 0; i < n_names; i++)
		snprintf(text[(*n)++], RTE_ETH_XSTATS_NAME_SIZE, "%s%s", prefix, name[i]);
}

/** The driver's own come behind those that ethdev makes of the basic ones. */
static void
expect_names(const struct stats_table *table)
{
	char want[MAX_STATS][RTE_ETH_XSTATS_NAME_SIZE];
	char prefix[16];
	int n = 0, i, first;
	unsigned int q;

	append(want, &n, "", mem_gauges, RTE_DIM(mem_gauges));
	append(want, &n, "", mem_counters, RTE_DIM(mem_counters));
	for (q = 0; q < PAIRS; q++) {
		snprintf(prefix, sizeof(prefix), "rx_q%u_", q);
		append(want, &n, prefix, rx_names, RTE_DIM(rx_names));
		append(want, &n, prefix, kind_names, RTE_DIM(kind_names));
		snprintf(prefix, sizeof(prefix), "tx_q%u_", q);
		append(want, &n, prefix, tx_names, RTE_DIM(tx_names));
		append(want, &n, prefix, kind_names, RTE_DIM(kind_names));
	}
	first = table->n - n;
	/* 8 of the port, and packets, bytes and errors of every queue. */
	assert_int_equal(first, 8 + PAIRS * 5);
	for (i = 0; i < n; i++)
		assert_string_equal(table->name[first + i].name, want[i]);
}

static void
expect_same_names(const struct stats_table *a, const struct stats_table *b)
{
	int i;

	assert_int_equal(a->n, b->n);
	for (i = 0; i < a->n; i++)
		assert_string_equal(a->name[i].name, b->name[i].name);
}

static void
test_names_are_the_same_from_probe_to_close(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = PAIRS}};
	struct port_config port_config = {.n_queues = PAIRS};
	struct stats_table *before = calloc(1, sizeof(*before));
	struct stats_table *now = calloc(1, sizeof(*now));
	struct rig *rig = rig_main();
	struct test_port port;

	assert_int_equal(port_try_open(&port, &port_config), 0);
	port.pool = NULL;
	port_close(&port);

	rig_prepare(rig, &config);
	read_table(rig->port.id, before);
	expect_names(before);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 4);
	read_table(rig->port.id, now);
	expect_same_names(before, now);
	port_stop(&rig->port);
	read_table(rig->port.id, now);
	expect_same_names(before, now);
	port_start(&rig->port);
	rig_hang_up(rig);
	read_table(rig->port.id, now);
	expect_same_names(before, now);
	free(before);
	free(now);
}

static void
test_without_guest_everything_is_zero(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = PAIRS}};
	struct stats_table *table = calloc(1, sizeof(*table));
	struct rte_eth_stats stats, zero = {0};
	struct rig *rig = rig_main();
	int i;

	rig_prepare(rig, &config);
	read_table(rig->port.id, table);
	for (i = 0; i < table->n; i++) {
		if (table->value[i].value != 0)
			fail_msg("%s is %llu", table->name[i].name,
				(unsigned long long)table->value[i].value);
	}
	memset(&stats, 0xa5, sizeof(stats));
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	assert_memory_equal(&stats, &zero, sizeof(stats));
	free(table);
}

/** Names by which Open vSwitch shows a statistic of a port. */
static bool
is_shown_by_open_vswitch(const char *name)
{
	size_t len = strlen(name);

	return strstr(name, "_management_") != NULL ||
	       (len > 7 && strcmp(name + len - 7, "_errors") == 0) ||
	       (len > 8 && strcmp(name + len - 8, "_dropped") == 0);
}

static void
test_memory_and_faults_are_shown_by_open_vswitch(void **state)
{
	struct rig *rig = rig_main();
	struct stats_table *table = calloc(1, sizeof(*table));
	int i;

	rig_prepare(rig, NULL);
	read_table(rig->port.id, table);
	for (i = 0; i < table->n; i++) {
		const char *name = table->name[i].name;

		if (strstr(name, "map_") != NULL || strstr(name, "bad_chain") != NULL ||
			strstr(name, "stalled") != NULL)
			assert_true(is_shown_by_open_vswitch(name));
	}
	free(table);
}

/** @p n packets there and back on pair 0. @return bytes one way. */
static uint64_t
exchange_counted(struct rig *rig, uint32_t first, uint32_t n)
{
	uint64_t bytes = 0;
	uint32_t i;

	for (i = first; i < first + n; i++)
		bytes += PACKET_MIN + i * 37 % (1514 - PACKET_MIN + 1);
	rig_exchange(rig, 0, n);
	return bytes;
}

static void
test_all_sources_count_the_same_packets(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = PAIRS}};
	struct stats_table *table = calloc(1, sizeof(*table));
	struct rte_eth_stats stats, want = {0};
	struct rig *rig = rig_main();
	uint64_t bytes;

	rig_open(rig, &config);
	bytes = exchange_counted(rig, 0, 100);
	want.ipackets = want.opackets = want.q_ipackets[0] = want.q_opackets[0] = 100;
	want.ibytes = want.obytes = want.q_ibytes[0] = want.q_obytes[0] = bytes;
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	assert_memory_equal(&stats, &want, sizeof(stats));

	read_table(rig->port.id, table);
	assert_int_equal(find(table, "rx_good_packets"), 100);
	assert_int_equal(find(table, "tx_good_bytes"), bytes);
	assert_int_equal(find_of_queue(table, "rx", 0, "packets"), 100);
	assert_int_equal(find_of_queue(table, "rx", 1, "packets"), 0);
	assert_int_equal(find(table, "map_management_guest_bytes"), RIG_RAM_SIZE);
	assert_true(find(table, "map_management_pinned_bytes") > 0);
	assert_true(find(table, "map_management_loadable_bytes") >=
		    find(table, "map_management_storable_bytes"));
	assert_true(find(table, "map_management_opens") > 0);
	free(table);
}

static void
test_reset_begins_counting_anew_and_leaves_gauges(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = PAIRS}};
	struct stats_table *before = calloc(1, sizeof(*before));
	struct stats_table *after = calloc(1, sizeof(*after));
	struct rte_eth_stats stats, want = {0};
	struct rig *rig = rig_main();
	uint64_t bytes;
	size_t i;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 50);
	read_table(rig->port.id, before);
	assert_int_equal(rte_eth_xstats_reset(rig->port.id), 0);
	read_table(rig->port.id, after);
	expect_same_names(before, after);
	for (i = 0; i < RTE_DIM(mem_gauges); i++)
		assert_int_equal(find(after, mem_gauges[i]), find(before, mem_gauges[i]));
	for (i = 0; i < RTE_DIM(mem_counters); i++)
		assert_int_equal(find(after, mem_counters[i]), 0);
	for (i = 0; i < RTE_DIM(rx_names); i++)
		assert_int_equal(find_of_queue(after, "rx", 0, rx_names[i]), 0);
	for (i = 0; i < RTE_DIM(tx_names); i++)
		assert_int_equal(find_of_queue(after, "tx", 0, tx_names[i]), 0);

	bytes = exchange_counted(rig, 50, 30);
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	want.ipackets = want.opackets = want.q_ipackets[0] = want.q_opackets[0] = 30;
	want.ibytes = want.obytes = want.q_ibytes[0] = want.q_obytes[0] = bytes;
	assert_memory_equal(&stats, &want, sizeof(stats));

	assert_int_equal(rte_eth_stats_reset(rig->port.id), 0);
	memset(&want, 0, sizeof(want));
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	assert_memory_equal(&stats, &want, sizeof(stats));
	free(before);
	free(after);
}

static void
test_counters_outlive_connections_and_restarts_of_the_port(void **state)
{
	struct rig *rig = rig_main();
	struct rte_eth_stats stats;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 10);
	rig_hang_up(rig);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 10);
	port_stop(&rig->port);
	port_start(&rig->port);
	rig_exchange(rig, 0, 10);
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	assert_int_equal(stats.ipackets, 30);
	assert_int_equal(stats.opackets, 30);
}

/* @p n packets one way and as many the other, of a length and to an address of a kind. */
static void
move_kind(struct rig *rig, uint32_t len, uint8_t first, unsigned int n)
{
	uint8_t data[2000];
	struct nic_packet packet;
	struct rte_mbuf *pkt;
	unsigned int i;

	packet_fill(data, len, 1);
	memset(data, first, 6);
	for (i = 0; i < n; i++) {
		assert_true(nic_send(&rig->nic, 0, data, len));
		assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
		assert_int_equal(port_tx_wait(&rig->port, 0, &pkt, 1), 1);
		assert_true(nic_receive(&rig->nic, 0, data, sizeof(data), &packet));
		assert_int_equal(packet.len, len);
	}
	nic_reap_tx(&rig->nic, 0);
}

static void
test_kinds_of_packets_are_counted_once_somebody_asks(void **state)
{
	static const uint32_t lens[] = {
		63, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1518, 1519, 1999};
	static const uint64_t want[] = {2, 3, 1, 1, 2, 2, 2, 2, 2, 2};
	static const char *const directions[] = {"rx", "tx"};
	static struct stats_table table;
	struct rig *rig = rig_main();
	unsigned int i, d;

	rig_open(rig, NULL);
	move_kind(rig, 100, 0x02, 3);
	read_table(rig->port.id, &table);
	for (d = 0; d < 2; d++) {
		assert_int_equal(find_of_queue(&table, directions[d], 0, "good_packets"), 3);
		assert_int_equal(find_of_queue(&table, directions[d], 0, "good_bytes"), 300);
		for (i = 0; i < RTE_DIM(kind_names); i++)
			assert_int_equal(find_of_queue(&table, directions[d], 0, kind_names[i]), 0);
	}
	for (i = 0; i < RTE_DIM(lens); i++)
		move_kind(rig, lens[i], i < 2 ? 0x01 : i < 5 ? 0xff : 0x02, 1);
	read_table(rig->port.id, &table);
	for (d = 0; d < 2; d++) {
		for (i = 0; i < RTE_DIM(kind_names); i++)
			assert_int_equal(
				find_of_queue(&table, directions[d], 0, kind_names[i]), want[i]);
	}
	assert_int_equal(rte_eth_xstats_reset(rig->port.id), 0);
	read_table(rig->port.id, &table);
	for (d = 0; d < 2; d++) {
		for (i = 0; i < RTE_DIM(kind_names); i++)
			assert_int_equal(find_of_queue(&table, directions[d], 0, kind_names[i]), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_names_are_the_same_from_probe_to_close),
		RIG_TEST(test_without_guest_everything_is_zero),
		RIG_TEST(test_memory_and_faults_are_shown_by_open_vswitch),
		RIG_TEST(test_kinds_of_packets_are_counted_once_somebody_asks),
		RIG_TEST(test_all_sources_count_the_same_packets),
		RIG_TEST(test_reset_begins_counting_anew_and_leaves_gauges),
		RIG_TEST(test_counters_outlive_connections_and_restarts_of_the_port),
	};

	rig_program("unit_drv_stats", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_stats", tests, rig_group_setup, rig_group_teardown);
}
