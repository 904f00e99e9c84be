/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The rig's packets: there and back in flows, or one by one in either direction. */

#include <string.h>

#include "rig.h"

/** Packets on their way at once in rig_exchange(). */
#define RIG_WINDOW 32

/* Packets of a flow are told apart by their number, those of other pairs by the high bits. */
static uint32_t
rig_flow_seed(unsigned int pair, uint32_t i)
{
	return (pair + 1) << 24 | (i & 0xffffff);
}

static uint32_t
rig_flow_len(uint32_t i)
{
	return PACKET_MIN + i * 37 % (1514 - PACKET_MIN + 1);
}

unsigned int
rig_send(struct rig *rig, unsigned int pair, unsigned int n)
{
	uint8_t data[1514];
	unsigned int i;

	for (i = 0; i < n; i++) {
		uint32_t number = rig->flow[pair].sent;

		packet_fill(data, rig_flow_len(number), rig_flow_seed(pair, number));
		if (!nic_send(&rig->nic, pair, data, rig_flow_len(number)))
			break;
		rig->flow[pair].sent++;
	}
	return i;
}

/* The number of a packet that has come back: the next one, or one behind some that may be lost. */
static uint32_t
rig_skip_lost(struct rig *rig, unsigned int pair, const uint8_t *data, uint32_t len)
{
	uint32_t next = rig->flow[pair].got;
	uint32_t lost;

	for (lost = 0; lost <= rig->may_lose && next + lost < rig->flow[pair].sent; lost++) {
		if (len == rig_flow_len(next + lost) &&
			packet_matches(data, len, rig_flow_seed(pair, next + lost))) {
			rig->may_lose -= lost;
			return next + lost;
		}
	}
	return next;
}

/* Receive what has come back. */
static void
rig_take(struct rig *rig, unsigned int pair)
{
	static __thread uint8_t data[PACKET_MAX];
	struct nic_packet packet;

	nic_reap_tx(&rig->nic, pair);
	while (nic_receive(&rig->nic, pair, data, sizeof(data), &packet)) {
		uint32_t number = rig_skip_lost(rig, pair, data, packet.len);

		rig->flow[pair].got = number + 1;
		if (number == rig->flow[pair].sent)
			mock_fail(
				"guest received a packet of %u bytes that nobody sent", packet.len);
		if (packet.len != rig_flow_len(number) ||
			!packet_matches(data, packet.len, rig_flow_seed(pair, number)))
			mock_fail("packet %u came back changed (%u bytes, not %u)", number,
				packet.len, rig_flow_len(number));
	}
}

bool
rig_collect(struct rig *rig, unsigned int pair, unsigned int timeout_ms)
{
	uint64_t deadline = mock_now_ms() + timeout_ms;
	unsigned int looks = 0;

	rig_take(rig, pair);
	while (rig->flow[pair].got != rig->flow[pair].sent) {
		if (mock_now_ms() > deadline)
			return false;
		rig_poll(rig);
		rig_take(rig, pair);
		mock_relax(&looks);
	}
	return true;
}

void
rig_forget(struct rig *rig, unsigned int pair)
{
	rig->flow[pair].got = rig->flow[pair].sent;
}

bool
rig_try_exchange(struct rig *rig, unsigned int pair, unsigned int n, unsigned int timeout_ms)
{
	while (n > 0) {
		unsigned int sent = rig_send(rig, pair, n < RIG_WINDOW ? n : RIG_WINDOW);

		if (sent == 0 || !rig_collect(rig, pair, timeout_ms)) {
			rig_forget(rig, pair);
			return false;
		}
		n -= sent;
	}
	return true;
}

void
rig_exchange(struct rig *rig, unsigned int pair, unsigned int n)
{
	if (!rig_try_exchange(rig, pair, n, MOCK_DEADLINE_MS))
		mock_fail(
			"%s: %u packets did not all come back on pair %u", rig->port.name, n, pair);
}

void
rig_to_host(struct rig *rig, unsigned int pair, uint32_t len)
{
	static __thread uint8_t data[PACKET_MAX];
	struct rte_mbuf *pkt = NULL;
	uint32_t seed = rig->seed++;
	bool same;

	packet_fill(data, len, seed);
	mock_check(nic_send(&rig->nic, pair, data, len));
	if (port_rx_wait(&rig->port, (uint16_t)pair, &pkt, 1) != 1)
		mock_fail("packet of %u bytes does not reach the host", len);
	same = port_packet_matches(pkt, len, seed);
	rte_pktmbuf_free(pkt);
	if (!same)
		mock_fail("packet of %u bytes reached the host changed", len);
	nic_reap_tx(&rig->nic, pair);
}

struct nic_packet
rig_to_guest(struct rig *rig, unsigned int pair, uint32_t len, uint16_t seg_len)
{
	static __thread uint8_t data[PACKET_MAX];
	struct nic_packet packet;
	uint32_t seed = rig->seed++;
	struct rte_mbuf *pkt = port_packet(&rig->port, len, seed, seg_len);

	if (port_tx_wait(&rig->port, (uint16_t)pair, &pkt, 1) != 1)
		mock_fail("port does not take a packet of %u bytes", len);
	if (!nic_receive(&rig->nic, pair, data, sizeof(data), &packet))
		mock_fail("packet of %u bytes was taken, but does not reach the guest", len);
	if (packet.len != len || !packet_matches(data, len, seed))
		mock_fail(
			"packet of %u bytes reached the guest changed (%u bytes)", len, packet.len);
	return packet;
}

uint16_t
rig_offer_chain(struct rig *rig, unsigned int index, const struct rig_chain *chain, bool writable)
{
	struct nic_ring *ring = &rig->nic.ring[index];
	struct ring_piece piece[1024];
	uint16_t i;
	int head;

	mock_check(chain->n <= 1024);
	for (i = 0; i < chain->n; i++) {
		piece[i] = chain->piece[i];
		piece[i].writable = writable;
	}
	if (chain->table_gpa != 0)
		head = nic_ring_add_mixed(
			&rig->nic, ring, piece, chain->n_direct, chain->n, chain->table_gpa);
	else
		head = nic_ring_add(&rig->nic, ring, piece, chain->n);
	mock_check(head >= 0);
	nic_ring_publish(&rig->nic, ring);
	nic_kick(&rig->nic, index);
	return (uint16_t)head;
}

void
rig_chain_to_host(struct rig *rig, unsigned int pair, const struct rig_chain *chain)
{
	static __thread uint8_t bytes[PACKET_MAX];
	struct rte_mbuf *pkt = NULL;
	uint32_t seed = rig->seed++;
	uint32_t total = 0;
	uint32_t at = 0;
	uint16_t i;
	bool same;

	for (i = 0; i < chain->n; i++)
		total += chain->piece[i].len;
	mock_check(total > rig->nic.hdr_len && total <= sizeof(bytes));
	memset(bytes, 0, rig->nic.hdr_len);
	packet_fill(bytes + rig->nic.hdr_len, total - rig->nic.hdr_len, seed);
	for (i = 0; i < chain->n; at += chain->piece[i++].len)
		guest_ram_write(&rig->ram, chain->piece[i].gpa, bytes + at, chain->piece[i].len);
	rig_offer_chain(rig, NIC_TX(pair), chain, false);
	if (port_rx_wait(&rig->port, (uint16_t)pair, &pkt, 1) != 1)
		mock_fail("packet in %u pieces does not reach the host", chain->n);
	same = port_packet_matches(pkt, total - rig->nic.hdr_len, seed);
	rte_pktmbuf_free(pkt);
	if (!same)
		mock_fail("packet in %u pieces reached the host changed", chain->n);
	mock_check(nic_reap_tx(&rig->nic, pair) == 1);
}

struct nic_packet
rig_chain_to_guest(struct rig *rig, unsigned int pair, const struct rig_chain *chain, uint32_t len)
{
	static __thread uint8_t bytes[PACKET_MAX];
	struct nic_ring *ring = &rig->nic.ring[NIC_RX(pair)];
	uint16_t head = rig_offer_chain(rig, NIC_RX(pair), chain, true);
	struct rte_mbuf *pkt = port_packet(&rig->port, len, rig->seed, 0);
	struct nic_packet packet = {.len = len, .n_buffers = 1};
	uint32_t rest = len + rig->nic.hdr_len;
	struct ring_used used;
	uint64_t buffer_gpa;
	uint32_t at = 0;
	uint16_t i;

	if (port_tx_wait(&rig->port, (uint16_t)pair, &pkt, 1) != 1)
		mock_fail("port does not take a packet for a buffer in %u pieces", chain->n);
	if (!nic_ring_collect(&rig->nic, ring, &used, &buffer_gpa))
		mock_fail("packet for a buffer in %u pieces does not arrive", chain->n);
	if (used.id != head || used.len != rest)
		mock_fail("device returned head %u with %u bytes, not %u with %u", used.id,
			used.len, head, rest);
	for (i = 0; i < chain->n && rest > 0; i++) {
		uint32_t now = rest < chain->piece[i].len ? rest : chain->piece[i].len;

		guest_ram_read(&rig->ram, chain->piece[i].gpa, bytes + at, now);
		at += now;
		rest -= now;
	}
	memcpy(&packet.hdr, bytes, rig->nic.hdr_len);
	if (!packet_matches(bytes + rig->nic.hdr_len, len, rig->seed++))
		mock_fail("packet for a buffer in %u pieces arrives changed", chain->n);
	return packet;
}

void
rig_expect_nothing_received(struct rig *rig, unsigned int pair)
{
	uint64_t deadline = mock_now_ms() + MOCK_SILENCE_MS;
	unsigned int looks = 0;

	while (mock_now_ms() < deadline) {
		struct rte_mbuf *pkt;

		if (port_rx(&rig->port, (uint16_t)pair, &pkt, 1) != 0) {
			rte_pktmbuf_free(pkt);
			mock_fail("host received a packet that must not arrive");
		}
		mock_relax(&looks);
	}
}
