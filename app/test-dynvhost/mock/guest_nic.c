/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest_nic.h"
#include "mock.h"

/** Descriptors that one transmitted packet can take. */
#define NIC_MAX_PIECES 64

static int
nic_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	mock_check(fd >= 0);
	return fd;
}

static void
nic_open_ring(struct guest_nic *nic, struct nic_ring *ring)
{
	nic_ring_init(nic, ring);
	ring->kick_fd = nic_eventfd();
	ring->call_fd = nic_eventfd();
}

void
nic_init(struct guest_nic *nic, struct guest_ram *ram, struct front_end *fe,
	const struct nic_config *config)
{
	unsigned int i;

	memset(nic, 0, sizeof(*nic));
	nic->config = *config;
	nic->ram = ram;
	nic->fe = fe;
	if (config->n_pairs == 0)
		nic->config.n_pairs = 1;
	if (config->ring_size == 0)
		nic->config.ring_size = 256;
	if (config->buf_len == 0)
		nic->config.buf_len = 2048;
	if (config->features == 0)
		nic->config.features = NIC_FEATURES;
	mock_check(nic->config.n_pairs <= NIC_MAX_PAIRS);
	nic->masked_fd = nic_eventfd();
	for (i = 0; i < 2 * nic->config.n_pairs; i++)
		nic_open_ring(nic, &nic->ring[i]);
}

void
nic_fini(struct guest_nic *nic)
{
	unsigned int i;

	for (i = 0; i < 2 * nic->config.n_pairs; i++) {
		close(nic->ring[i].kick_fd);
		close(nic->ring[i].call_fd);
		nic_ring_fini(&nic->ring[i]);
	}
	if (nic->config.n_pairs > 0)
		close(nic->masked_fd);
	memset(nic, 0, sizeof(*nic));
}

void
nic_post_rx(struct guest_nic *nic, unsigned int pair, unsigned int n)
{
	struct nic_ring *ring = &nic->ring[NIC_RX(pair)];
	unsigned int i;

	for (i = 0; i < n && nic_ring_room(nic, ring) > 0; i++) {
		struct ring_piece piece = {
			.gpa = nic_ring_buffer(nic, ring, 0),
			.len = nic->config.buf_len,
			.writable = true,
		};

		nic_ring_add(nic, ring, &piece, 1);
	}
	nic_ring_publish(nic, ring);
}

bool
nic_send_cut(struct guest_nic *nic, unsigned int pair, const uint8_t *bytes, const uint32_t *cut,
	uint16_t n_cuts)
{
	struct nic_ring *ring = &nic->ring[NIC_TX(pair)];
	struct ring_piece piece[NIC_MAX_PIECES];
	uint16_t i;

	mock_check(n_cuts <= NIC_MAX_PIECES);
	if (n_cuts > nic_ring_room(nic, ring))
		return false;
	for (i = 0; i < n_cuts; i++) {
		uint64_t gpa = nic_ring_buffer(nic, ring, i);

		mock_check(cut[i] <= nic->config.buf_len);
		guest_ram_write(nic->ram, gpa, bytes, cut[i]);
		piece[i] = (struct ring_piece){.gpa = gpa, .len = cut[i]};
		bytes += cut[i];
	}
	nic_ring_add(nic, ring, piece, n_cuts);
	nic_ring_publish(nic, ring);
	nic_kick(nic, NIC_TX(pair));
	return true;
}

bool
nic_send(struct guest_nic *nic, unsigned int pair, const uint8_t *data, uint32_t len)
{
	static __thread uint8_t bytes[NIC_MAX_PIECES * 4096];
	uint32_t cut[NIC_MAX_PIECES];
	uint32_t rest = nic->hdr_len + len;
	uint16_t n = 0;

	mock_check(rest <= sizeof(bytes));
	memset(bytes, 0, nic->hdr_len);
	memcpy(bytes + nic->hdr_len, data, len);
	while (rest > 0) {
		mock_check(n < NIC_MAX_PIECES);
		cut[n] = rest < nic->config.buf_len ? rest : nic->config.buf_len;
		rest -= cut[n++];
	}
	return nic_send_cut(nic, pair, bytes, cut, n);
}

unsigned int
nic_reap_tx(struct guest_nic *nic, unsigned int pair)
{
	struct nic_ring *ring = &nic->ring[NIC_TX(pair)];
	struct ring_used used;
	unsigned int n = 0;
	uint64_t gpa;

	while (nic_ring_collect(nic, ring, &used, &gpa)) {
		if (used.len != 0)
			mock_fail(
				"device says it wrote %u bytes to a transmitted buffer", used.len);
		n++;
	}
	return n;
}

/* Collect buffer @p i of @p n of a packet, append its bytes behind those of the ones before. */
static uint32_t
nic_take_buffer(struct guest_nic *nic, struct nic_ring *ring, uint8_t *bytes, uint32_t room,
	uint32_t at, uint16_t i, uint16_t n)
{
	struct ring_used used;
	uint64_t gpa;

	if (!nic_ring_collect(nic, ring, &used, &gpa))
		mock_fail("packet of %u buffers: only %u were returned with it", n, i);
	if (used.len > nic->config.buf_len || (i + 1 < n && used.len != nic->config.buf_len))
		mock_fail("buffer %u of %u has %u bytes of %u", i + 1, n, used.len,
			nic->config.buf_len);
	mock_check(used.len <= room - at);
	guest_ram_read(nic->ram, gpa, bytes + at, used.len);
	return at + used.len;
}

bool
nic_receive(struct guest_nic *nic, unsigned int pair, uint8_t *data, uint32_t room,
	struct nic_packet *packet)
{
	static __thread uint8_t bytes[NIC_MAX_PIECES * 4096];
	struct nic_ring *ring = &nic->ring[NIC_RX(pair)];
	bool mergeable = (nic->features & (1ull << VIRTIO_NET_F_MRG_RXBUF)) != 0;
	uint16_t n = 1;
	uint32_t len;
	uint16_t i;

	if (!nic_ring_has_used(nic, ring))
		return false;
	len = nic_take_buffer(nic, ring, bytes, sizeof(bytes), 0, 0, 1);
	mock_check(len >= nic->hdr_len);
	memset(packet, 0, sizeof(*packet));
	memcpy(&packet->hdr, bytes, nic->hdr_len);
	if (mergeable)
		n = packet->hdr.num_buffers;
	if (n == 0 || n > nic->config.ring_size || (n > 1 && len != nic->config.buf_len))
		mock_fail("first buffer of %u has %u bytes", n, len);
	for (i = 1; i < n; i++)
		len = nic_take_buffer(nic, ring, bytes, sizeof(bytes), len, i, n);
	packet->n_buffers = n;
	packet->len = len - nic->hdr_len;
	mock_check(packet->len <= room);
	memcpy(data, bytes + nic->hdr_len, packet->len);
	nic_post_rx(nic, pair, n);
	return true;
}

void
nic_kick(struct guest_nic *nic, unsigned int index)
{
	uint64_t one = 1;

	if (nic->config.no_kicks)
		return;
	mock_check(write(nic->ring[index].kick_fd, &one, sizeof(one)) == sizeof(one));
}

uint64_t
nic_read_eventfd(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

uint64_t
nic_calls(struct guest_nic *nic, unsigned int index)
{
	return nic_read_eventfd(nic->ring[index].call_fd);
}
