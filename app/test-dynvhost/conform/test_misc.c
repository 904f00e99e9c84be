/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: what virtio says about packets and signals in split rings (virtio 1.2 §2.7, §5.1.6).
 */

#include <stdlib.h>
#include <string.h>

#include "conform.h"

#define MIB (1ull << 20)

/* Packets each way with a header of @p hdr_len bytes: any other length would shift them. */
static void
misc_header(uint64_t features, uint32_t hdr_len)
{
	const struct rig_config config = {
		.nic = {.features = features | BIT(VU_F_PROTOCOL_FEATURES)}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	assert_int_equal(rig->nic.hdr_len, hdr_len);
	rig_exchange(rig, 0, 64);
	rig_to_host(rig, 0, 1514);
	rig_to_guest(rig, 0, 1514, 0);
	rig_close(rig);
}

static void
test_c60_header_length_follows_features(void **state)
{
	misc_header(BIT(VIRTIO_F_ANY_LAYOUT), 10);
	misc_header(BIT(VIRTIO_RING_F_INDIRECT_DESC), 10);
	misc_header(BIT(VIRTIO_NET_F_MRG_RXBUF), 12);
	misc_header(BIT(VIRTIO_F_VERSION_1), 12);
	misc_header(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF), 12);
}

static void
test_c60_header_length_changes_between_two_starts(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 32);
	nic_stop(&rig->nic);
	/* Firmware without any feature, then Linux. */
	rig->nic.features = BIT(VU_F_PROTOCOL_FEATURES);
	rig->nic.hdr_len = 10;
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
	nic_stop(&rig->nic);
	rig->nic.features = NIC_FEATURES & fe_get_features(&rig->fe);
	rig->nic.hdr_len = 12;
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

/** Lengths of pieces of a buffer; 0 ends. The rest of the packet is one more piece. */
static const uint32_t misc_layouts[][16] = {
	{0},
	{12, 0},
	{1, 0},
	{11, 0},
	{13, 0},
	{26, 0},
	{6, 6, 0},
	{10, 2, 0},
	{5, 9, 0},
	{12, 14, 0},
	{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0},
	{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0},
	{4, 4, 4, 1, 1, 1, 1, 1, 64, 0},
};
#define MISC_N_LAYOUTS (sizeof(misc_layouts) / sizeof(misc_layouts[0]))

/* Pieces of one layout, each on a page of its own, for @p total bytes. @return how many. */
static uint16_t
misc_pieces(struct guest_ram *ram, const uint32_t *layout, uint32_t total, struct ring_piece *piece)
{
	uint16_t n = 0;
	uint32_t rest = total;

	while (rest > 0) {
		uint32_t len = layout[n] != 0 && layout[n] < rest ? layout[n] : rest;

		piece[n] = (struct ring_piece){.gpa = 8 * MIB + n * 0x3001ull, .len = len};
		mock_check(guest_ram_find(ram, piece[n].gpa, len) != NULL);
		rest -= len;
		if (layout[n++] == 0)
			break;
	}
	return n;
}

static void
misc_split_headers(bool to_host)
{
	const struct rig_config config = {.no_rx_buffers = true};
	static const uint32_t lens[] = {60, 200, 1514};
	struct rig *rig = rig_main();
	struct ring_piece piece[16];
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 3 * MISC_N_LAYOUTS; i++) {
		uint32_t len = lens[i % 3];
		struct rig_chain chain = {.piece = piece};

		chain.n = misc_pieces(&rig->ram, misc_layouts[i / 3], len + 12, piece);
		if (to_host) {
			rig_chain_to_host(rig, 0, &chain);
		} else {
			struct nic_packet got = rig_chain_to_guest(rig, 0, &chain, len);

			assert_int_equal(got.hdr.num_buffers, 1);
		}
	}
}

static void
test_c61_header_of_sent_packet_lies_anyhow(void **state)
{
	misc_split_headers(true);
}

static void
test_c61_header_of_received_packet_lies_anyhow(void **state)
{
	misc_split_headers(false);
}

static void
test_c62_header_of_received_packet_is_clean(void **state)
{
	static const uint64_t features[] = {
		BIT(VIRTIO_F_VERSION_1), BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF)};
	const struct virtio_net_hdr_mrg_rxbuf clean = {.num_buffers = 1};
	struct rig *rig = rig_main();
	unsigned int i;

	for (i = 0; i < 2; i++) {
		const struct rig_config config = {
			.nic = {.features = features[i] | BIT(VU_F_PROTOCOL_FEATURES)}};
		struct nic_packet packet;

		rig_open(rig, &config);
		/* What lies in the buffers from before must not show through. */
		memset(guest_ram_at(&rig->ram, rig->nic.ring[NIC_RX(0)].buf_gpa, MIB / 2), 0xff,
			MIB / 2);
		packet = rig_to_guest(rig, 0, 100, 0);
		assert_memory_equal(&packet.hdr, &clean, sizeof(clean));
		rig_close(rig);
	}
}

static void
test_c62_mergeable_packet_counts_its_buffers(void **state)
{
	const struct rig_config config = {.nic = {.buf_len = 256}};
	static const struct {
		uint32_t len;
		uint16_t n_buffers;
	} cases[] = {{60, 1}, {244, 1}, {245, 2}, {500, 2}, {501, 3}, {1514, 6}, {9000, 36}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nic_packet packet = rig_to_guest(rig, 0, cases[i].len, 100);

		assert_int_equal(packet.hdr.num_buffers, cases[i].n_buffers);
		assert_int_equal(packet.n_buffers, cases[i].n_buffers);
	}
}

static void
test_c62_packet_that_does_not_fit_one_buffer_is_dropped(void **state)
{
	const struct rig_config config = {
		.nic = {.buf_len = 256,
			.features = BIT(VIRTIO_F_VERSION_1) | BIT(VU_F_PROTOCOL_FEATURES)}};
	struct rig *rig = rig_main();
	struct nic_packet packet;
	struct rte_mbuf *pkt;
	uint8_t data[256];
	struct ring_used used;

	rig_open(rig, &config);
	rig_to_guest(rig, 0, 244, 0);
	pkt = port_packet(&rig->port, 245, 1, 0);
	port_tx(&rig->port, 0, &pkt, 1);
	/* No packet; at most a buffer that comes back empty. */
	if (split_ring_collect(&rig->nic.ring[NIC_RX(0)].ring, &used))
		assert_int_equal(used.len, 0);
	assert_false(nic_receive(&rig->nic, 0, data, sizeof(data), &packet));
	rig_to_guest(rig, 0, 60, 0);
}

/* One buffer each way, its pieces in an indirect table but for the first @p n_direct. */
static void
misc_indirect(struct rig *rig, uint16_t n_direct, uint16_t n, uint64_t table_gpa)
{
	struct ring_piece piece[300];
	const struct rig_chain chain = {
		.piece = piece, .n = n, .n_direct = n_direct, .table_gpa = table_gpa};
	uint16_t i;

	for (i = 0; i < n; i++)
		piece[i] = (struct ring_piece){
			.gpa = 4 * MIB + i * 0x1003ull, .len = i == 0 ? 100 : 7 + i % 5};
	rig_chain_to_host(rig, 0, &chain);
	rig_chain_to_guest(rig, 0, &chain, 100 + 7u * (n - 1) - rig->nic.hdr_len);
}

static void
misc_lay_out_two_files(struct guest_ram *ram)
{
	guest_ram_init_neighbours(ram, 8 * MIB, 8 * MIB);
}

static void
test_c67_indirect_tables_lie_anywhere(void **state)
{
	const struct rig_config config = {.lay_out = misc_lay_out_two_files, .no_rx_buffers = true};
	static const uint64_t tables[] = {
		3 * MIB,               /* the start of a page */
		3 * MIB + 0x1000 - 16, /* one entry before a page's end */
		3 * MIB + 0x1000 - 8,  /* an entry across the pages */
		3 * MIB + 1,           /* no alignment at all */
		8 * MIB - 32,          /* across the border of two regions */
		8 * MIB - 8,           /* an entry across it */
		8 * MIB - 1,
	};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		misc_indirect(rig, 0, 10, tables[i]);
		misc_indirect(rig, 0, 200, tables[i]);
	}
}

static void
test_c67_indirect_table_lies_behind_direct_pieces(void **state)
{
	const struct rig_config config = {.no_rx_buffers = true};
	struct rig *rig = rig_main();
	uint16_t n_direct;

	rig_open(rig, &config);
	for (n_direct = 0; n_direct < 8; n_direct++) {
		misc_indirect(rig, n_direct, (uint16_t)(n_direct + 1), 3 * MIB);
		misc_indirect(rig, n_direct, (uint16_t)(n_direct + 9), 3 * MIB);
	}
}

static void
test_c67_indirect_table_of_one_entry(void **state)
{
	const struct rig_config config = {.no_rx_buffers = true};
	struct rig *rig = rig_main();
	struct ring_piece piece = {.gpa = 4 * MIB, .len = 1526};
	const struct rig_chain chain = {.piece = &piece, .n = 1, .table_gpa = 3 * MIB};

	rig_open(rig, &config);
	rig_chain_to_host(rig, 0, &chain);
	rig_chain_to_guest(rig, 0, &chain, 1514);
}

/* virtio 1.2 §2.7.10: whether moving used.idx from @p old to @p new passes @p event. */
static bool
misc_event_passed(uint16_t event, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

static void
test_c69_signals_follow_used_event(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES | BIT(VIRTIO_RING_F_EVENT_IDX),
			.start_index = 65400}};
	struct rig *rig = rig_main();
	struct split_ring *ring;
	unsigned int i;

	rig_open(rig, &config);
	ring = &rig->nic.ring[NIC_RX(0)].ring;
	rig_to_guest(rig, 0, 60, 0);
	/* Bursts of 1 to 8 packets across the wrap, with the event around them. */
	srand(1);
	for (i = 0; i < 200; i++) {
		uint16_t old = split_ring_device_idx(ring);
		uint16_t n = (uint16_t)(1 + i % 8);
		uint16_t event = (uint16_t)(old + rand() % 20 - 10);
		struct rte_mbuf *pkts[8];
		uint8_t data[64];
		struct nic_packet packet;
		uint16_t k;

		split_ring_set_used_event(ring, event);
		nic_calls(&rig->nic, NIC_RX(0));
		for (k = 0; k < n; k++)
			pkts[k] = port_packet(&rig->port, 60, k, 0);
		assert_int_equal(port_tx(&rig->port, 0, pkts, n), n);
		if ((nic_calls(&rig->nic, NIC_RX(0)) != 0) !=
			misc_event_passed(event, (uint16_t)(old + n), old))
			mock_fail("used_event %u, used.idx from %u to %u: wrong signal", event, old,
				(uint16_t)(old + n));
		for (k = 0; k < n; k++)
			assert_true(nic_receive(&rig->nic, 0, data, sizeof(data), &packet));
	}
}

static void
test_c69_first_buffer_after_a_start_is_signalled(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES | BIT(VIRTIO_RING_F_EVENT_IDX)}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 3; i++) {
		struct split_ring *ring = &rig->nic.ring[NIC_RX(0)].ring;

		rig_exchange(rig, 0, 10);
		nic_stop(&rig->nic);
		/* An event that the formula would call long past. */
		split_ring_set_used_event(ring, (uint16_t)(ring->used_idx - 100));
		nic_start(&rig->nic);
		port_wait_link(&rig->port, true);
		nic_calls(&rig->nic, NIC_RX(0));
		rig_to_guest(rig, 0, 60, 0);
		assert_true(nic_calls(&rig->nic, NIC_RX(0)) > 0);
	}
}

static void
test_c69_event_idx_lets_flags_alone(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES | BIT(VIRTIO_RING_F_EVENT_IDX)}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_exchange(rig, 0, 64);
	assert_int_equal(rig->nic.ring[NIC_RX(0)].ring.used->flags, 0);
	assert_int_equal(rig->nic.ring[NIC_TX(0)].ring.used->flags, 0);
}

static void
test_c69_suppression_flag_is_honoured_without_event_idx(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < 3; i++) {
		split_ring_suppress_calls(&rig->nic.ring[NIC_RX(0)].ring, true);
		split_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].ring, true);
		/* The first signal after a start may come in any case. */
		rig_exchange(rig, 0, 1);
		nic_calls(&rig->nic, NIC_RX(0));
		nic_calls(&rig->nic, NIC_TX(0));
		rig_exchange(rig, 0, 64);
		assert_int_equal(nic_calls(&rig->nic, NIC_RX(0)), 0);
		assert_int_equal(nic_calls(&rig->nic, NIC_TX(0)), 0);

		split_ring_suppress_calls(&rig->nic.ring[NIC_RX(0)].ring, false);
		split_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].ring, false);
		rig_exchange(rig, 0, 64);
		assert_true(nic_calls(&rig->nic, NIC_RX(0)) > 0);
		assert_true(nic_calls(&rig->nic, NIC_TX(0)) > 0);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c60_header_length_follows_features),
		RIG_TEST(test_c60_header_length_changes_between_two_starts),
		RIG_TEST(test_c61_header_of_sent_packet_lies_anyhow),
		RIG_TEST(test_c61_header_of_received_packet_lies_anyhow),
		RIG_TEST(test_c62_header_of_received_packet_is_clean),
		RIG_TEST(test_c62_mergeable_packet_counts_its_buffers),
		RIG_TEST(test_c62_packet_that_does_not_fit_one_buffer_is_dropped),
		RIG_TEST(test_c67_indirect_tables_lie_anywhere),
		RIG_TEST(test_c67_indirect_table_lies_behind_direct_pieces),
		RIG_TEST(test_c67_indirect_table_of_one_entry),
		RIG_TEST(test_c69_signals_follow_used_event),
		RIG_TEST(test_c69_first_buffer_after_a_start_is_signalled),
		RIG_TEST(test_c69_event_idx_lets_flags_alone),
		RIG_TEST(test_c69_suppression_flag_is_honoured_without_event_idx),
	};

	rig_program("test_conform_misc", 60);
	return cmocka_run_group_tests_name(
		"conform misc", tests, rig_group_setup, rig_group_teardown);
}
