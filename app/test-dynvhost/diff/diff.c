/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include <rte_ethdev.h>

#include "diff.h"
#include "mock.h"
#include "rte_eth_dynvhost.h"

#define RAM_SIZE   (32ull << 20)
#define SEND_SIZE  (4ull << 20)
#define OFFER_SIZE (16ull << 20)

/**
 * Looks at an empty ring after which nothing more is expected of it: longer than a burst of a packed
 * ring waits for as many packets as the last one had.
 */
#define IDLE_LOOKS 2000

static const char *const diff_names[DIFF_SIDES] = {"net_vhost", "net_dynvhost"};

static void
side_configure(struct diff_side *side, const struct diff_config *config)
{
	const struct rte_eth_conf conf = {
		.rxmode = {.offloads = config->rx_offloads},
		.txmode = {.offloads = config->tx_offloads | RTE_ETH_TX_OFFLOAD_MULTI_SEGS},
	};
	const uint16_t id = side->port.id;

	port_stop(&side->port);
	mock_check(rte_eth_dev_configure(id, 1, 1, &conf) == 0);
	mock_check(rte_eth_rx_queue_setup(id, 0, 512, SOCKET_ID_ANY, NULL, side->port.pool) == 0);
	mock_check(rte_eth_tx_queue_setup(id, 0, 512, SOCKET_ID_ANY, NULL) == 0);
	mock_check(rte_eth_dev_start(id) == 0);
}

static void
side_open(struct diff_side *side, const char *driver, const struct diff_config *config)
{
	const struct port_config port = {
		.driver = driver, .devargs = config->devargs, .n_mbufs = 1023};
	const struct nic_config nic = {
		.ring_size = config->ring_size,
		.start_index = config->start_index,
		.buf_len = 64,
		.features = config->features,
	};

	memset(side, 0, sizeof(*side));
	side->fe.sock = -1;
	port_open(&side->port, &port);
	side_configure(side, config);
	guest_ram_init_plain(&side->ram, RAM_SIZE);
	nic_init(&side->nic, &side->ram, &side->fe, &nic);
	side->send_gpa = guest_ram_alloc(&side->ram, 0, SEND_SIZE, GUEST_RAM_PAGE);
	side->offer_gpa = guest_ram_alloc(&side->ram, 0, OFFER_SIZE, GUEST_RAM_PAGE);
	/* No page is a hole, and what nobody writes is the same. */
	memset(guest_ram_at(&side->ram, side->send_gpa, SEND_SIZE), 0xa5, SEND_SIZE);
	memset(guest_ram_at(&side->ram, side->offer_gpa, OFFER_SIZE), 0xa5, OFFER_SIZE);
	fe_connect(&side->fe, side->port.path);
	nic_negotiate(&side->nic);
	nic_start(&side->nic);
	if (side->nic.features != config->features)
		mock_fail("%s offers only features 0x%llx", driver,
			(unsigned long long)side->nic.features);
	port_wait_link(&side->port, true);
}

void
diff_open(struct diff *d, const struct diff_config *config)
{
	mock_check(!d->open && config->ring_size <= DIFF_MAX_RING);
	d->config = *config;
	d->open = true;
	d->sent_bytes = 0;
	DIFF_FOREACH(d, side)
	side_open(side, diff_names[side - d->side], config);
}

void
diff_close(struct diff *d)
{
	if (!d->open)
		return;
	d->open = false;
	diff_free(d);
	DIFF_FOREACH(d, side)
	{
		fe_close(&side->fe);
		port_close(&side->port);
		nic_fini(&side->nic);
		guest_ram_fini(&side->ram);
	}
}

/* Lay pieces one behind the other from @p gpa on, a table before them. @return the bytes used. */
static uint64_t
side_lay_out(uint64_t gpa, const uint32_t *cut, uint16_t n, bool writable, struct ring_piece *piece)
{
	uint64_t at = 16ull * DIFF_MAX_PIECES;
	uint16_t i;

	mock_check(n <= DIFF_MAX_PIECES);
	for (i = 0; i < n; i++) {
		piece[i] = (struct ring_piece){
			.gpa = gpa + at, .len = cut[i], .writable = writable};
		at += cut[i];
	}
	return (at + 63) & ~63ull;
}

/* @return what the buffer comes back by, or -1. */
static int
side_add(struct diff_side *side, unsigned int index, const struct ring_piece *piece, uint16_t n,
	uint16_t n_direct, uint64_t table)
{
	struct nic_ring *ring = &side->nic.ring[index];
	int id;

	if (n_direct < n)
		id = nic_ring_add_mixed(&side->nic, ring, piece, n_direct, n, table);
	else
		id = nic_ring_add(&side->nic, ring, piece, n);
	nic_ring_publish(&side->nic, ring);
	return id;
}

bool
diff_send(struct diff *d, const uint8_t *bytes, const uint32_t *cut, uint16_t n, uint16_t n_direct)
{
	const uint16_t needed = n_direct < n ? (uint16_t)(n_direct + 1) : n;
	struct ring_piece piece[DIFF_MAX_PIECES];
	uint64_t used = 0;

	if (nic_ring_room(&d->side[0].nic, &d->side[0].nic.ring[NIC_TX(0)]) < needed ||
		d->sent_bytes + 2 * PACKET_MAX > SEND_SIZE)
		return false;
	DIFF_FOREACH(d, side)
	{
		uint64_t gpa = side->send_gpa + d->sent_bytes;
		const uint8_t *from = bytes;
		uint16_t i;

		used = side_lay_out(gpa, cut, n, false, piece);
		for (i = 0; i < n; from += cut[i++])
			guest_ram_write(&side->ram, piece[i].gpa, from, cut[i]);
		mock_check(side_add(side, NIC_TX(0), piece, n, n_direct, gpa) >= 0);
	}
	d->sent_bytes += used;
	return true;
}

uint16_t
diff_offer_room(const struct diff *d)
{
	return nic_ring_room(&d->side[0].nic, &d->side[0].nic.ring[NIC_RX(0)]);
}

bool
diff_offer(struct diff *d, const uint32_t *cut, uint16_t n, uint16_t n_direct)
{
	const uint16_t needed = n_direct < n ? (uint16_t)(n_direct + 1) : n;

	if (diff_offer_room(d) < needed)
		return false;
	DIFF_FOREACH(d, side)
	{
		struct diff_buffer buffer = {.n = n};
		uint64_t gpa;
		int id;

		if (side->offered + 2 * PACKET_MAX > OFFER_SIZE)
			side->offered = 0;
		gpa = side->offer_gpa + side->offered;
		side->offered += side_lay_out(gpa, cut, n, true, buffer.piece);
		id = side_add(side, NIC_RX(0), buffer.piece, n, n_direct, gpa);
		mock_check(id >= 0 && (unsigned int)id < DIFF_MAX_RING);
		side->buffer[id] = buffer;
	}
	return true;
}

static bool
side_collect_one(struct diff_side *side, unsigned int index, struct ring_used *used)
{
	struct nic_ring *ring = &side->nic.ring[index];

	return nic_is_packed(&side->nic) ? packed_ring_collect(&ring->packed, used)
					 : split_ring_collect(&ring->ring, used);
}

/* Take back what there is. */
static void
side_collect(struct diff_side *side, unsigned int index)
{
	struct diff_used *out = &side->used;
	struct ring_used used;

	while (side_collect_one(side, index, &used)) {
		mock_check(out->n < DIFF_MAX_RING);
		out->entry[out->n++] = used;
	}
}

uint16_t
diff_unsent(const struct diff_side *side)
{
	return (uint16_t)(side->nic.config.ring_size -
			  nic_ring_room(&side->nic, &side->nic.ring[NIC_TX(0)]));
}

/* Whether guest memory was refused since this was asked last; net_vhost has all of it at all times. */
static bool
side_was_refused(struct diff_side *side)
{
	struct rte_eth_dynvhost_exposure exposure;
	uint64_t before = side->n_refused;

	if (rte_eth_dynvhost_get_exposure(side->port.id, &exposure) != 0)
		return false;
	side->n_refused = exposure.denials;
	return exposure.denials != before;
}

static void
side_receive(struct diff_side *side)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int idle;
	uint16_t n;

	side->used.n = 0;
	side->n_pkts = 0;
	for (idle = 0; idle < IDLE_LOOKS && diff_unsent(side) > 0; idle++) {
		n = port_rx(&side->port, 0, side->pkts + side->n_pkts,
			(uint16_t)RTE_MIN(32u, DIFF_MAX_RING - side->n_pkts));
		side->n_pkts += n;
		if (n > 0 || (side_was_refused(side) && mock_now_ms() < deadline))
			idle = 0;
		side_collect(side, NIC_TX(0));
	}
}

void
diff_receive(struct diff *d)
{
	DIFF_FOREACH(d, side)
	side_receive(side);
	d->sent_bytes = 0;
}

void
diff_free(struct diff *d)
{
	DIFF_FOREACH(d, side)
	{
		rte_pktmbuf_free_bulk(side->pkts, side->n_pkts);
		side->n_pkts = 0;
	}
}

static struct rte_mbuf *
side_mbuf(const struct diff_side *side, const struct diff_packet *packet)
{
	struct rte_mbuf *head = rte_pktmbuf_alloc(side->port.pool);
	struct rte_mbuf *m = head;
	uint32_t at = 0;

	mock_check(head != NULL);
	while (at < packet->len) {
		uint32_t part = RTE_MIN(packet->len - at, (uint32_t)rte_pktmbuf_tailroom(m));

		if (m == head && packet->first_len != 0)
			part = RTE_MIN(part, packet->first_len);
		memcpy(rte_pktmbuf_mtod(m, void *), packet->data + at, part);
		m->data_len = (uint16_t)part;
		at += part;
		if (at < packet->len) {
			m->next = rte_pktmbuf_alloc(side->port.pool);
			mock_check(m->next != NULL);
			m = m->next;
			head->nb_segs++;
		}
	}
	head->pkt_len = packet->len;
	head->ol_flags = packet->ol_flags;
	head->packet_type = packet->packet_type;
	head->vlan_tci = packet->vlan_tci;
	head->l2_len = packet->l2_len;
	head->l3_len = packet->l3_len;
	head->l4_len = packet->l4_len;
	head->tso_segsz = packet->tso_segsz;
	return head;
}

/*
 * Send, and free what is not taken. @param goal  how many the other driver has taken: a burst that
 * comes out shorter because a page of the guest's was just being closed is tried again.
 */
static uint16_t
side_send(struct diff_side *side, struct rte_mbuf **pkts, uint16_t n, uint16_t goal)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	uint16_t sent;

	(void)side_was_refused(side);
	sent = rte_eth_tx_burst(side->port.id, 0, pkts, n);
	while (sent < goal && side_was_refused(side) && mock_now_ms() < deadline)
		sent += rte_eth_tx_burst(side->port.id, 0, pkts + sent, (uint16_t)(n - sent));
	rte_pktmbuf_free_bulk(pkts + sent, (unsigned int)(n - sent));
	return sent;
}

/* One burst, and what the device has given back since. @return packets taken. */
static uint16_t
side_transmit(struct diff_side *side, const struct diff_packet *packet, uint16_t n, uint16_t goal)
{
	struct rte_mbuf *pkts[DIFF_MAX_BURST];
	uint16_t i;

	mock_check(n <= DIFF_MAX_BURST);
	for (i = 0; i < n; i++)
		pkts[i] = side_mbuf(side, &packet[i]);
	n = side_send(side, pkts, n, goal);
	side->used.n = 0;
	side_collect(side, NIC_RX(0));
	return n;
}

void
diff_transmit(struct diff *d, const struct diff_packet *packet, uint16_t n, uint16_t *taken)
{
	taken[DIFF_VHOST] = side_transmit(&d->side[DIFF_VHOST], packet, n, 0);
	taken[DIFF_DYNVHOST] = side_transmit(&d->side[DIFF_DYNVHOST], packet, n, taken[DIFF_VHOST]);
}

uint16_t
diff_transmit_here(struct diff *d, const struct diff_packet *packet)
{
	return side_transmit(&d->side[DIFF_DYNVHOST], packet, 1, 1);
}

/* Copy @p len bytes out of a buffer. */
static void
side_read(struct diff_side *side, const struct diff_buffer *buffer, uint8_t *to, uint32_t len)
{
	uint16_t i;

	for (i = 0; i < buffer->n && len > 0; i++) {
		uint32_t part = RTE_MIN(len, buffer->piece[i].len);

		guest_ram_read(&side->ram, buffer->piece[i].gpa, to, part);
		to += part;
		len -= part;
	}
	mock_check(len == 0);
}

unsigned int
diff_deliver(struct diff_side *side, unsigned int at, struct diff_delivery *delivery)
{
	static uint8_t bytes[PACKET_MAX + 64];
	const bool mergeable = (side->nic.features >> VIRTIO_NET_F_MRG_RXBUF) & 1;
	uint32_t len = 0;
	unsigned int n = 1;
	unsigned int i;

	if (at >= side->used.n)
		return 0;
	for (i = 0; i < n; i++) {
		const struct ring_used *used = &side->used.entry[at + i];

		mock_check(at + i < side->used.n && len + used->len <= sizeof(bytes));
		side_read(side, &side->buffer[used->id], bytes + len, used->len);
		len += used->len;
		if (i == 0) {
			mock_check(len >= side->nic.hdr_len);
			memset(&delivery->hdr, 0, sizeof(delivery->hdr));
			memcpy(&delivery->hdr, bytes, side->nic.hdr_len);
			if (mergeable)
				n = delivery->hdr.num_buffers;
		}
	}
	delivery->len = len - side->nic.hdr_len;
	memcpy(delivery->data, bytes + side->nic.hdr_len, delivery->len);
	return n;
}
