/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "hostile.h"

/** How long something may take to show, where "nothing happens" is an answer too. */
#define HOSTILE_WATCH_MS 30

static struct rig canary_rig;
static pthread_t canary_thread;
static bool canary_stop;
static unsigned int canary_rounds;
static uint64_t canary_longest_ms;

/* One round: packets through the port, and a message to the control plane. */
static void
canary_round(struct rig *rig)
{
	uint64_t start = mock_now_ms();
	uint64_t took;

	rig_exchange(rig, 0, 8);
	fe_barrier(&rig->fe);
	took = mock_now_ms() - start;
	if (took > canary_longest_ms)
		canary_longest_ms = took;
	if (took > CANARY_LIMIT_MS)
		mock_fail("the canary was held up for %llu ms", (unsigned long long)took);
	__atomic_fetch_add(&canary_rounds, 1, __ATOMIC_RELEASE);
}

static void *
canary_loop(void *arg)
{
	struct rig *rig = arg;
	unsigned int looks = 63;

	while (!__atomic_load_n(&canary_stop, __ATOMIC_ACQUIRE)) {
		canary_round(rig);
		looks = 63;
		mock_relax(&looks);
	}
	return NULL;
}

static void
canary_start(void)
{
	rig_open(&canary_rig, NULL);
	canary_stop = false;
	mock_check(pthread_create(&canary_thread, NULL, canary_loop, &canary_rig) == 0);
}

static void
canary_end(void)
{
	__atomic_store_n(&canary_stop, true, __ATOMIC_RELEASE);
	pthread_join(canary_thread, NULL);
	rig_close(&canary_rig);
	print_message("# canary: %u rounds, the longest took %llu ms\n", canary_rounds,
		(unsigned long long)canary_longest_ms);
}

void
canary_check(void)
{
	unsigned int before = __atomic_load_n(&canary_rounds, __ATOMIC_ACQUIRE);
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	/* The round that is under way may have begun long ago: two must end. */
	while (__atomic_load_n(&canary_rounds, __ATOMIC_ACQUIRE) - before < 2) {
		rig_check_helpers();
		if (mock_now_ms() > deadline)
			mock_fail("the canary forwards no more");
		mock_relax(&looks);
	}
}

void
hostile_program(const char *name, unsigned int seconds)
{
	rig_program(name, seconds);
	rig_group_extra_setup = canary_start;
	rig_group_extra_teardown = canary_end;
}

int
hostile_teardown(void **state)
{
	canary_check();
	rig_teardown(state);
	canary_check();
	return 0;
}

unsigned int
hostile_record_session(struct rig *rig, const struct rig_config *config, struct fe_record *record)
{
	unsigned int idle;

	rig_prepare(rig, config);
	idle = rig_idle_fds(rig);
	record->n = 0;
	rig->fe.record = record;
	rig_bring_up(rig);
	rig->fe.record = NULL;
	rig_exchange(rig, 0, 8);
	rig_hang_up(rig);
	return idle;
}

/* Poll receive queue 0 of the host until a packet comes, errors are counted, or time is up. */
static bool
hostile_watch_host(struct rig *rig, uint64_t errors)
{
	const struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;
	uint64_t deadline = mock_now_ms() + HOSTILE_WATCH_MS;
	uint16_t idx = split_ring_device_idx(ring);
	unsigned int looks = 0;

	while (mock_now_ms() < deadline) {
		struct rte_mbuf *pkt;

		if (port_rx(&rig->port, 0, &pkt, 1) == 1) {
			rte_pktmbuf_free(pkt);
			return true;
		}
		if (split_ring_device_idx(ring) != idx || port_errors(&rig->port) != errors)
			return false;
		mock_relax(&looks);
	}
	return false;
}

/* Send a packet that is as it should be. @return whether it arrives. */
static bool
hostile_good_packet_arrives(struct rig *rig)
{
	uint64_t deadline = mock_now_ms() + HOSTILE_WATCH_MS;
	uint32_t seed = rig->seed++;
	struct rte_mbuf *pkt = NULL;
	unsigned int looks = 0;
	uint8_t data[300];
	bool same;

	packet_fill(data, sizeof(data), seed);
	mock_check(nic_send(&rig->nic, 0, data, sizeof(data)));
	while (port_rx(&rig->port, 0, &pkt, 1) == 0) {
		if (mock_now_ms() > deadline)
			return false;
		mock_relax(&looks);
	}
	same = port_packet_matches(pkt, sizeof(data), seed);
	rte_pktmbuf_free(pkt);
	if (!same)
		mock_fail("another packet arrived than the one that was sent");
	return true;
}

enum hostile_outcome
hostile_judge_sent(struct rig *rig)
{
	uint64_t errors = port_errors(&rig->port);
	bool delivered;

	split_ring_publish(&rig->nic.ring[NIC_TX(0)].ring);
	delivered = hostile_watch_host(rig, errors);
	if (!hostile_good_packet_arrives(rig)) {
		if (port_errors(&rig->port) == errors)
			mock_fail("the queue has stopped, but no error is counted");
		return HOSTILE_STOPPED;
	}
	nic_reap_tx(&rig->nic, 0);
	if (!delivered && port_errors(&rig->port) == errors)
		mock_fail("a packet was dropped, but no error is counted");
	return delivered ? HOSTILE_DELIVERED : HOSTILE_DROPPED;
}

/* Send packets from the host until one is taken, errors are counted, or time is up. */
static void
hostile_send_from_host(struct rig *rig, uint32_t len, uint64_t errors)
{
	uint64_t deadline = mock_now_ms() + HOSTILE_WATCH_MS;
	unsigned int looks = 0;
	uint16_t sent = 0;

	while (sent == 0 && mock_now_ms() < deadline && port_errors(&rig->port) == errors) {
		struct rte_mbuf *pkt = port_packet(&rig->port, len, 1, 0);

		sent = port_tx(&rig->port, 0, &pkt, 1);
		mock_relax(&looks);
	}
}

/* Offer a good buffer and send into it. @return whether that packet arrives there. */
static bool
hostile_good_buffer_is_filled(struct rig *rig, uint64_t errors)
{
	struct split_ring *ring = &rig->nic.ring[NIC_RX(0)].ring;
	uint16_t good = split_ring_peek(ring, 0);
	struct ring_used used;

	nic_post_rx(&rig->nic, 0, 1);
	hostile_send_from_host(rig, 300, errors);
	while (split_ring_collect(ring, &used)) {
		if (used.id == good)
			return used.len == 300 + rig->nic.hdr_len;
	}
	return false;
}

enum hostile_outcome
hostile_judge_offered(struct rig *rig, uint32_t len)
{
	struct split_ring *ring = &rig->nic.ring[NIC_RX(0)].ring;
	uint64_t errors = port_errors(&rig->port);
	bool delivered = false;
	struct ring_used used;

	split_ring_publish(ring);
	hostile_send_from_host(rig, len, errors);
	while (split_ring_collect(ring, &used))
		delivered = delivered || used.len != 0;
	if (!hostile_good_buffer_is_filled(rig, port_errors(&rig->port))) {
		if (port_errors(&rig->port) == errors)
			mock_fail("the queue has stopped, but no error is counted");
		return HOSTILE_STOPPED;
	}
	if (!delivered && port_errors(&rig->port) == errors)
		mock_fail("a packet was dropped, but no error is counted");
	return delivered ? HOSTILE_DELIVERED : HOSTILE_DROPPED;
}
