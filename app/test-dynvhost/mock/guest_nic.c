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
nic_init_ring(struct guest_nic *nic, struct nic_ring *ring)
{
	const struct nic_config *config = &nic->config;

	split_ring_init_alloc(
		&ring->ring, nic->ram, config->ring_region, config->ring_size, config->start_index);
	ring->kick_fd = nic_eventfd();
	ring->call_fd = nic_eventfd();
	ring->buf_gpa = guest_ram_alloc(nic->ram, config->buffer_region,
		(uint64_t)config->ring_size * config->buf_len, GUEST_RAM_PAGE);
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
		nic_init_ring(nic, &nic->ring[i]);
}

void
nic_fini(struct guest_nic *nic)
{
	unsigned int i;

	for (i = 0; i < 2 * nic->config.n_pairs; i++) {
		close(nic->ring[i].kick_fd);
		close(nic->ring[i].call_fd);
		split_ring_fini(&nic->ring[i].ring);
	}
	if (nic->config.n_pairs > 0)
		close(nic->masked_fd);
	memset(nic, 0, sizeof(*nic));
}

struct fe_ring
nic_fe_ring(const struct guest_nic *nic, unsigned int index)
{
	const struct split_ring *ring = &nic->ring[index].ring;

	return (struct fe_ring){
		.index = index,
		.num = ring->num,
		.base = split_ring_device_idx(ring),
		.desc_uva = guest_ram_uva(nic->ram, ring->desc_gpa),
		.avail_uva = guest_ram_uva(nic->ram, ring->avail_gpa),
		.used_uva = guest_ram_uva(nic->ram, ring->used_gpa),
	};
}

static uint64_t
nic_slot(const struct guest_nic *nic, const struct nic_ring *ring, uint16_t desc)
{
	return ring->buf_gpa + (uint64_t)desc * nic->config.buf_len;
}

void
nic_post_rx(struct guest_nic *nic, unsigned int pair, unsigned int n)
{
	struct nic_ring *ring = &nic->ring[NIC_RX(pair)];
	unsigned int i;

	for (i = 0; i < n && ring->ring.n_free > 0; i++) {
		struct ring_piece piece = {
			.gpa = nic_slot(nic, ring, split_ring_peek(&ring->ring, 0)),
			.len = nic->config.buf_len,
			.writable = true,
		};

		split_ring_add(&ring->ring, &piece, 1);
	}
	split_ring_publish(&ring->ring);
}

bool
nic_send_cut(struct guest_nic *nic, unsigned int pair, const uint8_t *bytes, const uint32_t *cut,
	uint16_t n_cuts)
{
	struct nic_ring *ring = &nic->ring[NIC_TX(pair)];
	struct ring_piece piece[NIC_MAX_PIECES];
	uint16_t i;

	mock_check(n_cuts <= NIC_MAX_PIECES);
	if (n_cuts > ring->ring.n_free)
		return false;
	for (i = 0; i < n_cuts; i++) {
		uint64_t gpa = nic_slot(nic, ring, split_ring_peek(&ring->ring, i));

		mock_check(cut[i] <= nic->config.buf_len);
		guest_ram_write(nic->ram, gpa, bytes, cut[i]);
		piece[i] = (struct ring_piece){.gpa = gpa, .len = cut[i]};
		bytes += cut[i];
	}
	split_ring_add(&ring->ring, piece, n_cuts);
	split_ring_publish(&ring->ring);
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
	struct split_ring *ring = &nic->ring[NIC_TX(pair)].ring;
	struct ring_used used;
	unsigned int n = 0;

	while (split_ring_collect(ring, &used)) {
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

	if (!split_ring_collect(&ring->ring, &used))
		mock_fail("packet of %u buffers: only %u were returned with it", n, i);
	if (used.len > nic->config.buf_len || (i + 1 < n && used.len != nic->config.buf_len))
		mock_fail("buffer %u of %u has %u bytes of %u", i + 1, n, used.len,
			nic->config.buf_len);
	mock_check(used.len <= room - at);
	guest_ram_read(nic->ram, nic_slot(nic, ring, (uint16_t)used.id), bytes + at, used.len);
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

	if (split_ring_device_idx(&ring->ring) == ring->ring.used_idx)
		return false;
	len = nic_take_buffer(nic, ring, bytes, sizeof(bytes), 0, 0, 1);
	mock_check(len >= nic->hdr_len);
	memset(packet, 0, sizeof(*packet));
	memcpy(&packet->hdr, bytes, nic->hdr_len);
	if (mergeable)
		n = packet->hdr.num_buffers;
	if (n == 0 || n > ring->ring.num || (n > 1 && len != nic->config.buf_len))
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
