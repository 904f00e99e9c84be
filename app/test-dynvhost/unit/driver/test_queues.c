/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Queues: packets sent on those that the guest has not enabled reach it all the same, several
 * threads may end up at one ring, and each queue can be stopped and started, asked how full it is,
 * and told to wait a little.
 */

#include <stdlib.h>
#include <time.h>

#include <linux/virtio_config.h>

#include "drv_test.h"

#define PAIRS 4

#define PACKED (NIC_FEATURES | 1ull << VIRTIO_F_RING_PACKED)

static void
enable_pair(struct rig *rig, unsigned int pair, uint32_t on)
{
	fe_set_vring_enable(&rig->fe, NIC_RX(pair), on, FE_OK);
	fe_set_vring_enable(&rig->fe, NIC_TX(pair), on, FE_OK);
}

/* Send one packet on a transmit queue. @return the pair on which the guest receives it. */
static unsigned int
pair_of_queue(struct rig *rig, uint16_t queue)
{
	struct rte_mbuf *pkt = port_packet(&rig->port, 100, 7u + queue, 0);
	struct nic_packet packet;
	uint8_t data[100];
	unsigned int pair;

	assert_int_equal(port_tx_wait(&rig->port, queue, &pkt, 1), 1);
	for (pair = 0; pair < rig->nic.config.n_pairs; pair++) {
		if (nic_receive(&rig->nic, pair, data, sizeof(data), &packet)) {
			assert_true(packet_matches(data, 100, 7u + queue));
			return pair;
		}
	}
	mock_fail("packet of queue %u has vanished", queue);
}

static void
expect_pairs(struct rig *rig, const unsigned int pair[PAIRS])
{
	uint16_t q;

	for (q = 0; q < PAIRS; q++)
		assert_int_equal(pair_of_queue(rig, q), pair[q]);
}

static void
test_queues_without_a_ring_share_those_of_others(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = PAIRS}};
	struct rig *rig = rig_main();
	unsigned int pair;

	rig_open(rig, &config);
	for (pair = 0; pair < PAIRS; pair++)
		rig_exchange(rig, pair, 1);
	expect_pairs(rig, (unsigned int[]){0, 1, 2, 3});
	for (pair = 1; pair < PAIRS; pair++)
		enable_pair(rig, pair, 0);
	expect_pairs(rig, (unsigned int[]){0, 0, 0, 0});
	enable_pair(rig, 2, 1);
	expect_pairs(rig, (unsigned int[]){0, 0, 2, 2});
	enable_pair(rig, 0, 0);
	expect_pairs(rig, (unsigned int[]){2, 2, 2, 2});
	/* A ring that is stopped is no better than a disabled one. */
	enable_pair(rig, 3, 1);
	fe_get_vring_base(&rig->fe, NIC_RX(2));
	expect_pairs(rig, (unsigned int[]){3, 3, 3, 3});
	nic_set_up_ring(&rig->nic, NIC_RX(2));
	enable_pair(rig, 0, 1);
	enable_pair(rig, 1, 1);
	expect_pairs(rig, (unsigned int[]){0, 1, 2, 3});
}

static void
test_guest_of_one_pair_gets_what_is_sent_on_every_queue(void **state)
{
	const struct rig_config config = {.port = {.n_queues = PAIRS}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 3; i++) {
		expect_pairs(rig, (unsigned int[]){0, 0, 0, 0});
		rig_exchange(rig, 0, 16);
		rig_hang_up(rig);
		rig_reconnect(rig);
	}
}

static void
test_one_thread_to_a_ring_takes_no_lock(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = PAIRS}};
	struct rig *rig = rig_main();
	struct dynvhost_dev *dev;
	unsigned int pair;

	rig_open(rig, &config);
	dev = drv_dev(&rig->port);
	for (pair = 0; pair < PAIRS; pair++)
		rig_exchange(rig, pair, 1);
	for (pair = 0; pair < PAIRS; pair++)
		assert_false(dev->vq[DYNVHOST_RING_OF_TXQ(pair)].shared);
	enable_pair(rig, 3, 0);
	assert_true(dev->vq[DYNVHOST_RING_OF_TXQ(0)].shared);
	assert_false(dev->vq[DYNVHOST_RING_OF_TXQ(1)].shared);
	/* Queues that the application has not configured send nothing. */
	port_stop(&rig->port);
	rig->port.n_queues = 3;
	port_start(&rig->port);
	assert_false(dev->vq[DYNVHOST_RING_OF_TXQ(0)].shared);
	port_stop(&rig->port);
	rig->port.n_queues = PAIRS;
	port_start(&rig->port);
	assert_true(dev->vq[DYNVHOST_RING_OF_TXQ(0)].shared);
	expect_pairs(rig, (unsigned int[]){0, 1, 2, 0});
}

#define STRESS_PACKETS 20000u
#define STRESS_THREADS 2

struct sender {
	struct rig *rig;
	pthread_t thread;
	uint16_t queue; /**< the first of those that it sends on in turn */
	uint16_t n_queues;
	unsigned int id;
	uint32_t n;
	_Atomic uint32_t sent;
	uint8_t *seen; /**< by packet: whether the guest has got it */
};

/* The length tells the sender, the seed the number. */
static uint32_t
sender_len(unsigned int id)
{
	return 64 + id;
}

/* The first bytes are the number. */
static struct rte_mbuf *
sender_packet(const struct sender *sender, uint32_t number)
{
	struct rte_mbuf *pkt = port_packet(&sender->rig->port, sender_len(sender->id), number, 0);

	memcpy(rte_pktmbuf_mtod(pkt, void *), &number, sizeof(number));
	return pkt;
}

static void *
send_all(void *arg)
{
	struct sender *sender = arg;
	struct rte_mbuf *pkts[8];
	uint32_t made = 0;
	uint16_t have = 0, turn = 0, moved, i;

	while (atomic_load(&sender->sent) < sender->n) {
		while (have < RTE_DIM(pkts) && made < sender->n)
			pkts[have++] = sender_packet(sender, made++);
		moved = rte_eth_tx_burst(sender->rig->port.id,
			(uint16_t)(sender->queue + turn++ % sender->n_queues), pkts, have);
		for (i = moved; i < have; i++)
			pkts[i - moved] = pkts[i];
		have = (uint16_t)(have - moved);
		atomic_fetch_add(&sender->sent, moved);
		if (moved == 0)
			sched_yield();
	}
	return NULL;
}

/* Take what has come on a pair and tick it off. @return how many packets. */
static uint32_t
tick_off(struct rig *rig, unsigned int pair, struct sender *sender)
{
	static const uint8_t head[4] = {0x02, 0, 0, 0};
	struct nic_packet packet;
	uint8_t data[128];
	uint32_t n = 0, k;

	while (nic_receive(&rig->nic, pair, data, sizeof(data), &packet)) {
		struct sender *from = &sender[packet.len - 64];

		assert_in_range(packet.len, 64, 64 + STRESS_THREADS - 1);
		memcpy(&k, data, sizeof(k));
		memcpy(data, head, sizeof(head));
		assert_true(k < from->n && packet_matches(data, packet.len, k));
		assert_int_equal(from->seen[k], 0);
		from->seen[k] = 1;
		n++;
	}
	return n;
}

/* One pair, or two, or four: queues 1 and 3 share a ring most of the time. */
static void
stress_few(struct rig *rig, uint32_t change)
{
	enable_pair(rig, 1, change % 4 == 3);
	enable_pair(rig, 3, change % 4 >= 2);
	enable_pair(rig, 2, change % 2);
}

/* Ever more pairs, then ever fewer. */
static void
stress_many(struct rig *rig, uint32_t change)
{
	const unsigned int n = rig->nic.config.n_pairs;

	enable_pair(rig, 1 + change % (n - 1), change / (n - 1) % 2);
}

static void
stress(uint64_t features, unsigned int n_pairs, void (*change)(struct rig *rig, uint32_t change))
{
	const struct rig_config config = {.port = {.n_mbufs = 8191},
		.nic = {.n_pairs = n_pairs, .ring_size = 64, .features = features},
		.ram_size = 64ull << 20};
	struct sender sender[STRESS_THREADS] = {{0}};
	const uint32_t n = rig_repeats(STRESS_PACKETS, 100 * STRESS_PACKETS);
	struct rig *rig = rig_main();
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	uint32_t got = 0, round = 0, more;
	unsigned int i;

	rig_open(rig, &config);
	for (i = 1; i < n_pairs; i++)
		rig_exchange(rig, i, 1);
	for (i = 0; i < STRESS_THREADS; i++) {
		sender[i] = (struct sender){.rig = rig,
			.queue = (uint16_t)(n_pairs == PAIRS ? 1 + 2 * i
							     : i * n_pairs / STRESS_THREADS),
			.n_queues = (uint16_t)(n_pairs == PAIRS ? 1 : n_pairs / STRESS_THREADS),
			.id = i,
			.n = n,
			.seen = calloc(n, 1)};
		assert_non_null(sender[i].seen);
		mock_check(pthread_create(&sender[i].thread, NULL, send_all, &sender[i]) == 0);
	}
	while (got < STRESS_THREADS * n) {
		if (++round % 16 == 0)
			change(rig, round / 16);
		for (i = 0, more = 0; i < n_pairs; i++)
			more += tick_off(rig, i, sender);
		got += more;
		/* How long all of it takes, the machine decides; it must go on. */
		if (more != 0)
			deadline = mock_now_ms() + MOCK_DEADLINE_MS;
		else if (mock_now_ms() > deadline)
			mock_fail("%u packets of %u have come", got, STRESS_THREADS * n);
	}
	for (i = 0; i < STRESS_THREADS; i++) {
		pthread_join(sender[i].thread, NULL);
		free(sender[i].seen);
	}
}

static void
test_threads_that_share_a_split_ring_lose_and_double_nothing(void **state)
{
	stress(NIC_FEATURES, PAIRS, stress_few);
}

static void
test_threads_that_share_a_packed_ring_lose_and_double_nothing(void **state)
{
	stress(PACKED, PAIRS, stress_few);
}

static void
test_threads_that_share_128_rings_lose_and_double_nothing(void **state)
{
	stress(NIC_FEATURES, 128, stress_many);
	rig_close(rig_main());
	stress(PACKED, 128, stress_many);
}

static void
test_stopped_queue_moves_nothing_and_others_go_on(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 2}};
	struct rig *rig = rig_main();
	struct rte_eth_rxq_info rxq;
	struct rte_eth_txq_info txq;
	struct rte_mbuf *pkt;
	uint16_t id;

	rig_open(rig, &config);
	id = rig->port.id;
	rig_exchange(rig, 1, 8);
	assert_int_equal(rte_eth_dev_rx_queue_stop(id, 1), 0);
	assert_int_equal(rte_eth_rx_queue_info_get(id, 1, &rxq), 0);
	assert_int_equal(rxq.queue_state, RTE_ETH_QUEUE_STATE_STOPPED);
	assert_int_equal(rig_send(rig, 1, 8), 8);
	rig_expect_nothing_received(rig, 1);
	rig_exchange(rig, 0, 64);
	assert_int_equal(rte_eth_dev_rx_queue_start(id, 1), 0);
	assert_true(rig_collect(rig, 1, MOCK_DEADLINE_MS));

	assert_int_equal(rte_eth_dev_tx_queue_stop(id, 1), 0);
	assert_int_equal(rte_eth_tx_queue_info_get(id, 1, &txq), 0);
	assert_int_equal(txq.queue_state, RTE_ETH_QUEUE_STATE_STOPPED);
	pkt = port_packet(&rig->port, 60, 1, 0);
	assert_int_equal(rte_eth_tx_burst(id, 1, &pkt, 1), 0);
	rte_pktmbuf_free(pkt);
	rig_exchange(rig, 0, 64);
	/* Requests of the front-end are carried out all the same. */
	nic_stop(&rig->nic);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	assert_int_equal(rte_eth_dev_tx_queue_start(id, 1), 0);
	rig_exchange(rig, 1, 64);

	/* A stop of the port forgets it. */
	assert_int_equal(rte_eth_dev_rx_queue_stop(id, 0), 0);
	port_stop(&rig->port);
	port_start(&rig->port);
	rig_exchange(rig, 0, 64);
}

static void
test_deferred_queue_waits_for_its_own_start(void **state)
{
	const struct rte_eth_rxconf rxconf = {.rx_deferred_start = 1};
	const struct rte_eth_txconf txconf = {.tx_deferred_start = 1};
	struct rig *rig = rig_main();
	struct rte_eth_conf conf = {0};
	uint16_t id;

	rig_open(rig, NULL);
	id = rig->port.id;
	port_stop(&rig->port);
	assert_int_equal(rte_eth_dev_configure(id, 1, 1, &conf), 0);
	assert_int_equal(
		rte_eth_rx_queue_setup(id, 0, 512, SOCKET_ID_ANY, &rxconf, rig->port.pool), 0);
	assert_int_equal(rte_eth_tx_queue_setup(id, 0, 512, SOCKET_ID_ANY, &txconf), 0);
	assert_int_equal(rte_eth_dev_start(id), 0);
	assert_int_equal(rig_send(rig, 0, 8), 8);
	rig_expect_nothing_received(rig, 0);
	assert_int_equal(rte_eth_dev_rx_queue_start(id, 0), 0);
	assert_int_equal(rte_eth_dev_tx_queue_start(id, 0), 0);
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
}

static void
test_descriptors_say_how_full_the_guests_rings_are(void **state)
{
	static const uint64_t features[] = {NIC_FEATURES, PACKED};
	struct rig *rig = rig_main();
	unsigned int i;
	uint16_t id;

	for (i = 0; i < 2; i++) {
		const struct rig_config config = {
			.nic = {.features = features[i], .ring_size = 64}, .no_rx_buffers = true};

		rig_open(rig, &config);
		id = rig->port.id;
		assert_int_equal(rte_eth_rx_queue_count(id, 0), 0);
		assert_int_equal(rte_eth_rx_descriptor_status(id, 0, 0), RTE_ETH_RX_DESC_AVAIL);
		assert_int_equal(rte_eth_tx_descriptor_status(id, 0, 0), RTE_ETH_TX_DESC_FULL);
		assert_int_equal(rig_send(rig, 0, 5), 5);
		nic_post_rx(&rig->nic, 0, 7);
		assert_int_equal(rte_eth_rx_queue_count(id, 0), 5);
		assert_int_equal(rte_eth_rx_descriptor_status(id, 0, 4), RTE_ETH_RX_DESC_DONE);
		assert_int_equal(rte_eth_rx_descriptor_status(id, 0, 5), RTE_ETH_RX_DESC_AVAIL);
		assert_int_equal(rte_eth_rx_descriptor_status(id, 0, 64), RTE_ETH_RX_DESC_UNAVAIL);
		assert_int_equal(rte_eth_tx_descriptor_status(id, 0, 6), RTE_ETH_TX_DESC_DONE);
		assert_int_equal(rte_eth_tx_descriptor_status(id, 0, 7), RTE_ETH_TX_DESC_FULL);
		assert_int_equal(rte_eth_tx_descriptor_status(id, 0, 64), RTE_ETH_TX_DESC_UNAVAIL);
		assert_int_equal(rte_eth_tx_done_cleanup(id, 0, 0), 0);
		rig_forget(rig, 0);
		rig_close(rig);
	}
}

static uint64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void
test_retries_wait_for_buffers_but_not_for_long(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = "tx-retries=32"}, .no_rx_buffers = true};
	struct rig *rig = rig_main();
	struct rte_mbuf *pkts[4];
	uint64_t begin;
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 4; i++)
		pkts[i] = port_packet(&rig->port, 60, i, 0);
	begin = now_us();
	assert_int_equal(rte_eth_tx_burst(rig->port.id, 0, pkts, 4), 0);
	assert_in_range(now_us() - begin, 32, 1000000);
	nic_post_rx(&rig->nic, 0, 3);
	begin = now_us();
	assert_int_equal(rte_eth_tx_burst(rig->port.id, 0, pkts, 4), 3);
	assert_in_range(now_us() - begin, 32, 1000000);
	nic_post_rx(&rig->nic, 0, 1);
	assert_int_equal(rte_eth_tx_burst(rig->port.id, 0, &pkts[3], 1), 1);
}

static void
test_guest_of_128_pairs(void **state)
{
	static const uint64_t features[] = {NIC_FEATURES, PACKED};
	struct rig *rig = rig_main();
	unsigned int i, pair;

	for (i = 0; i < 2; i++) {
		const struct rig_config config = {.port = {.n_mbufs = 1023},
			.nic = {.n_pairs = 128, .ring_size = 8, .features = features[i]},
			.ram_size = 64ull << 20};

		rig_open(rig, &config);
		for (pair = 0; pair < 128; pair++)
			assert_int_equal(rig_send(rig, pair, 4), 4);
		for (pair = 0; pair < 128; pair++)
			assert_true(rig_collect(rig, pair, MOCK_DEADLINE_MS));
		for (pair = 1; pair < 128; pair++)
			enable_pair(rig, pair, 0);
		assert_int_equal(pair_of_queue(rig, 127), 0);
		assert_int_equal(pair_of_queue(rig, 64), 0);
		rig_close(rig);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_queues_without_a_ring_share_those_of_others),
		RIG_TEST(test_guest_of_one_pair_gets_what_is_sent_on_every_queue),
		RIG_TEST(test_one_thread_to_a_ring_takes_no_lock),
		RIG_TEST(test_threads_that_share_a_split_ring_lose_and_double_nothing),
		RIG_TEST(test_threads_that_share_a_packed_ring_lose_and_double_nothing),
		RIG_TEST(test_threads_that_share_128_rings_lose_and_double_nothing),
		RIG_TEST(test_stopped_queue_moves_nothing_and_others_go_on),
		RIG_TEST(test_deferred_queue_waits_for_its_own_start),
		RIG_TEST(test_descriptors_say_how_full_the_guests_rings_are),
		RIG_TEST(test_retries_wait_for_buffers_but_not_for_long),
		RIG_TEST(test_guest_of_128_pairs),
	};

	rig_program("unit_drv_queues", 80);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_queues", tests, rig_group_setup, rig_group_teardown);
}
