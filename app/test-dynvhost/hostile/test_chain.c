/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile guests: descriptor chains that are no good, in both directions. A chain that breaks the
 * rules stops its queue, which a new ring set-up revives; a chain that is well-formed but no packet
 * is dropped; nothing else notices.
 */

#include <string.h>

#include "hostile.h"

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define DELIVERED HOSTILE_DELIVERED
#define DROPPED   HOSTILE_DROPPED
#define STOPPED   HOSTILE_STOPPED
#define NEVER     0

/** Bad chains begin here; the good ones before and after take descriptors from 0 on. */
#define BAD 128

/** Memory for the pieces of bad chains, and for indirect tables. */
#define BUFFER (8 * MIB)
#define TABLE  (6 * MIB)
/** A copy of the table's four entries, with nothing behind. */
#define EDGE_TABLE (16 * MIB - 64)

/**
 * 16 MiB at gpa 0, a hole of 16 MiB, another 4 MiB; nothing behind. Addresses from 8 MiB on are for
 * bad chains.
 */
static void
chain_lay_out(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, 20 * MIB, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, 16 * MIB, 0);
	guest_ram_add_region(ram, 0, 16 * MIB, 32 * MIB, 4 * MIB, 0);
}

static const struct rig_config chain_config = {
	.lay_out = chain_lay_out,
	.no_rx_buffers = true,
};

/** One descriptor of a bad chain; the first is number BAD. */
struct chain_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct chain_case {
	const char *what;
	/** What may become of it when sent, and when offered to receive into; NEVER: not tried. */
	unsigned int sent;
	unsigned int offered;
	uint16_t head; /**< 0: BAD */
	struct chain_desc desc[4];
	/** Descriptors at TABLE, for an indirect table. */
	struct chain_desc table[4];
};

/** Chains as a guest sends them; WRITE is turned round for those it receives into. */
static const struct chain_case chain_cases[] = {
	{"H56 head is the ring size", STOPPED, STOPPED, 256, {{0}}, {{0}}},
	{"H56 head is 65535", STOPPED, STOPPED, 65535, {{0}}, {{0}}},

	{"H57 next is the ring size", STOPPED, STOPPED, 0, {{BUFFER, 100, NEXT, 256}}, {{0}}},
	{"H57 next is 65535", STOPPED, STOPPED, 0, {{BUFFER, 100, NEXT, 65535}}, {{0}}},
	{"H57 loop of one", STOPPED, STOPPED, 0, {{BUFFER, 10, NEXT, BAD}}, {{0}}},
	{"H57 loop of two", STOPPED, STOPPED, 0,
		{{BUFFER, 10, NEXT, BAD + 1}, {BUFFER, 10, NEXT, BAD}}, {{0}}},
	{"H57 loop of one without bytes", STOPPED, STOPPED, 0, {{BUFFER, 0, NEXT, BAD}}, {{0}}},
	{"H57 loop of two without bytes", STOPPED, STOPPED, 0,
		{{BUFFER, 0, NEXT, BAD + 1}, {BUFFER, 0, NEXT, BAD}}, {{0}}},
	{"H57 loop behind a whole packet", STOPPED, STOPPED, 0,
		{{BUFFER, 12, NEXT, BAD + 1}, {BUFFER, 100, NEXT, BAD + 2},
			{BUFFER, 0, NEXT, BAD + 2}},
		{{0}}},

	{"H58 no bytes", DROPPED, NEVER, 0, {{BUFFER, 0, 0, 0}}, {{0}}},
	{"H58 no bytes in three pieces", DROPPED, NEVER, 0,
		{{BUFFER, 0, NEXT, BAD + 1}, {BUFFER, 0, NEXT, BAD + 2}, {BUFFER, 0, 0, 0}}, {{0}}},
	{"H58 a descriptor of zeroes", DROPPED, NEVER, 0, {{0}}, {{0}}},
	{"H58 nothing between good pieces", DELIVERED, DELIVERED, 0,
		{{BUFFER, 12, NEXT, BAD + 1}, {BUFFER, 0, NEXT, BAD + 2}, {BUFFER, 100, 0, 0}},
		{{0}}},
	{"H58 nothing before good pieces", DELIVERED, DELIVERED, 0,
		{{0, 0, NEXT, BAD + 1}, {BUFFER, 112, 0, 0}}, {{0}}},
	{"H58 nothing behind good pieces", DELIVERED, DELIVERED, 0,
		{{BUFFER, 112, NEXT, BAD + 1}, {0, 0, 0, 0}}, {{0}}},

	{"H59 longer than memory", DROPPED, DELIVERED, 0, {{BUFFER, UINT32_MAX, 0, 0}}, {{0}}},
	{"H59 two that add up beyond 32 bits", DROPPED, NEVER, 0,
		{{BUFFER, 0xffffff00, NEXT, BAD + 1}, {BUFFER, 0x170, 0, 0}}, {{0}}},

	{"H60 one byte", DROPPED, NEVER, 0, {{BUFFER, 1, 0, 0}}, {{0}}},
	{"H60 a byte less than a header", DROPPED, NEVER, 0, {{BUFFER, 11, 0, 0}}, {{0}}},
	{"H60 a header alone", DROPPED, NEVER, 0, {{BUFFER, 12, 0, 0}}, {{0}}},
	{"H60 a header in twelve and nothing", DROPPED, NEVER, 0,
		{{BUFFER, 6, NEXT, BAD + 1}, {BUFFER, 6, 0, 0}}, {{0}}},
	{"H60 a packet of one byte", DROPPED, NEVER, 0, {{BUFFER, 13, 0, 0}}, {{0}}},
	{"H60 a packet of 13 bytes", DROPPED, NEVER, 0, {{BUFFER, 25, 0, 0}}, {{0}}},
	{"H60 a packet of 14 bytes", DELIVERED, NEVER, 0, {{BUFFER, 26, 0, 0}}, {{0}}},

	{"H62 behind all memory", STOPPED, STOPPED, 0, {{GIB, 100, 0, 0}}, {{0}}},
	{"H62 in a hole", STOPPED, STOPPED, 0, {{20 * MIB, 100, 0, 0}}, {{0}}},
	{"H62 last byte in a hole", STOPPED, STOPPED, 0, {{16 * MIB - 99, 100, 0, 0}}, {{0}}},
	{"H62 first byte in a hole", STOPPED, STOPPED, 0, {{32 * MIB - 1, 100, 0, 0}}, {{0}}},
	{"H62 last byte behind all memory", STOPPED, STOPPED, 0, {{36 * MIB - 99, 100, 0, 0}},
		{{0}}},
	{"H62 wraps around", STOPPED, STOPPED, 0, {{UINT64_MAX - 50, 100, 0, 0}}, {{0}}},
	{"H62 ends at the end of everything", STOPPED, STOPPED, 0, {{UINT64_MAX - 99, 100, 0, 0}},
		{{0}}},
	{"H62 second piece in a hole", STOPPED, STOPPED, 0,
		{{BUFFER, 12, NEXT, BAD + 1}, {20 * MIB, 100, 0, 0}}, {{0}}},
	{"H62 header in a hole", STOPPED, STOPPED, 0,
		{{20 * MIB, 12, NEXT, BAD + 1}, {BUFFER, 100, 0, 0}}, {{0}}},

	{"H64 the other direction", STOPPED, STOPPED, 0, {{BUFFER, 112, WRITE, 0}}, {{0}}},
	{"H64 other direction behind a packet", STOPPED, STOPPED, 0,
		{{BUFFER, 112, NEXT, BAD + 1}, {BUFFER + 4096, 100, WRITE, 0}}, {{0}}},
	{"H64 other direction before a packet", STOPPED, STOPPED, 0,
		{{BUFFER, 100, NEXT | WRITE, BAD + 1}, {BUFFER + 4096, 112, 0, 0}}, {{0}}},

	{"H65 table of no bytes", STOPPED, STOPPED, 0, {{TABLE, 0, INDIRECT, 0}}, {{0}}},
	{"H65 table of half an entry", STOPPED, STOPPED, 0, {{TABLE, 8, INDIRECT, 0}},
		{{BUFFER, 112, 0, 0}}},
	{"H65 table of one entry and a half", STOPPED, STOPPED, 0, {{TABLE, 24, INDIRECT, 0}},
		{{BUFFER, 112, 0, 0}}},
	{"H65 table in a hole", STOPPED, STOPPED, 0, {{20 * MIB, 16, INDIRECT, 0}}, {{0}}},
	{"H65 table ends in a hole", STOPPED, STOPPED, 0, {{EDGE_TABLE, 80, INDIRECT, 0}},
		{{BUFFER, 12, NEXT, 1}, {BUFFER, 10, NEXT, 2}, {BUFFER, 10, NEXT, 3},
			{BUFFER, 10, NEXT, 4}}},
	{"H65 table wraps around", STOPPED, STOPPED, 0, {{UINT64_MAX - 15, 32, INDIRECT, 0}},
		{{0}}},
	{"H65 table of more than 65536 entries", STOPPED, STOPPED, 0,
		{{TABLE, 16 * 65537, INDIRECT, 0}}, {{BUFFER, 112, 0, 0}}},
	{"H65 table as long as can be", STOPPED, STOPPED, 0, {{TABLE, 0xfffffff0, INDIRECT, 0}},
		{{BUFFER, 112, 0, 0}}},
	{"H65 next outside the table", STOPPED, STOPPED, 0, {{TABLE, 32, INDIRECT, 0}},
		{{BUFFER, 12, NEXT, 2}, {BUFFER, 100, 0, 0}, {BUFFER, 100, 0, 0}}},
	{"H65 next far outside the table", STOPPED, STOPPED, 0, {{TABLE, 32, INDIRECT, 0}},
		{{BUFFER, 12, NEXT, 65535}, {BUFFER, 100, 0, 0}}},
	{"H65 loop in the table", STOPPED, STOPPED, 0, {{TABLE, 32, INDIRECT, 0}},
		{{BUFFER, 12, NEXT, 1}, {BUFFER, 10, NEXT, 0}}},
	{"H65 loop in the table without bytes", STOPPED, STOPPED, 0, {{TABLE, 32, INDIRECT, 0}},
		{{BUFFER, 0, NEXT, 0}}},
	{"H65 piece in a hole", STOPPED, STOPPED, 0, {{TABLE, 32, INDIRECT, 0}},
		{{BUFFER, 12, NEXT, 1}, {20 * MIB, 100, 0, 0}}},

	{"H66 table in a table", STOPPED, STOPPED, 0, {{TABLE, 32, INDIRECT, 0}},
		{{BUFFER, 12, NEXT, 1}, {TABLE + 32, 16, INDIRECT, 0}, {BUFFER, 100, 0, 0}}},
	{"H66 table that is itself", STOPPED, STOPPED, 0, {{TABLE, 16, INDIRECT, 0}},
		{{TABLE, 16, INDIRECT, 0}}},
	{"H66 table and next", STOPPED, STOPPED, 0,
		{{TABLE, 16, INDIRECT | NEXT, BAD + 1}, {BUFFER, 100, 0, 0}},
		{{BUFFER, 112, 0, 0}}},

	{"H71 the ring itself", DELIVERED, NEVER, 0, {{0, 200, 0, 0}}, {{0}}},
};
#define N_CHAIN_CASES (sizeof(chain_cases) / sizeof(chain_cases[0]))

/* Write a case into ring @p index and offer it. */
static void
chain_offer(struct rig *rig, unsigned int index, const struct chain_case *bad)
{
	struct split_ring *ring = &rig->nic.ring[index].ring;
	uint16_t turn = index == NIC_RX(0) ? WRITE : 0;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		const struct chain_desc *desc = &bad->desc[i];
		const struct chain_desc *entry = &bad->table[i];
		const struct vring_desc table = {
			entry->gpa, entry->len, entry->flags ^ turn, entry->next};

		split_ring_set_desc(ring, (uint16_t)(BAD + i), desc->gpa, desc->len,
			(desc->flags & INDIRECT) != 0 ? desc->flags : desc->flags ^ turn,
			desc->next);
		guest_ram_write(&rig->ram, TABLE + i * sizeof(table), &table, sizeof(table));
		guest_ram_write(&rig->ram, EDGE_TABLE + i * sizeof(table), &table, sizeof(table));
	}
	split_ring_offer(ring, bad->head != 0 ? bad->head : BAD);
}

static const char *
chain_outcome_name(enum hostile_outcome outcome)
{
	return outcome == DELIVERED ? "delivered"
	       : outcome == DROPPED ? "dropped"
				    : "queue stopped";
}

/* Whatever has become of a chain, the other ring works, and this one once it is set up anew. */
static void
chain_recover(struct rig *rig, unsigned int index)
{
	if (index == NIC_TX(0)) {
		nic_post_rx(&rig->nic, 0, 1);
		rig_to_guest(rig, 0, 200, 0);
	} else {
		rig_to_host(rig, 0, 200);
	}
	rig_revive(rig, NIC_RX(0));
	rig_revive(rig, NIC_TX(0));
	rig_to_host(rig, 0, 200);
	nic_post_rx(&rig->nic, 0, 1);
	rig_to_guest(rig, 0, 200, 0);
	rig_revive(rig, NIC_RX(0));
}

static void
chain_try_case(struct rig *rig, const struct chain_case *bad, bool sent)
{
	unsigned int index = sent ? NIC_TX(0) : NIC_RX(0);
	unsigned int allowed = sent ? bad->sent : bad->offered;
	enum hostile_outcome outcome;

	if (allowed == NEVER)
		return;
	chain_offer(rig, index, bad);
	outcome = sent ? hostile_judge_sent(rig) : hostile_judge_offered(rig, 100);
	print_message("# %s: %s\n", bad->what, chain_outcome_name(outcome));
	if ((outcome & allowed) == 0)
		mock_fail("%s: %s", bad->what, chain_outcome_name(outcome));
	chain_recover(rig, index);
}

static void
test_h56_to_h71_bad_chain_to_send(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &chain_config);
	for (i = 0; i < N_CHAIN_CASES; i++)
		chain_try_case(rig, &chain_cases[i], true);
}

static void
test_h56_to_h71_bad_chain_to_receive_into(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &chain_config);
	for (i = 0; i < N_CHAIN_CASES; i++)
		chain_try_case(rig, &chain_cases[i], false);
}

static void
test_h66_table_without_the_feature_stops_the_queue(void **state)
{
	static const struct chain_case bad = {"indirect was not negotiated", STOPPED, STOPPED, 0,
		{{TABLE, 16, INDIRECT, 0}}, {{BUFFER, 112, 0, 0}}};
	struct rig_config config = chain_config;
	struct rig *rig = rig_main();

	config.nic.features = NIC_FEATURES & ~BIT(VIRTIO_RING_F_INDIRECT_DESC);
	rig_open(rig, &config);
	chain_try_case(rig, &bad, true);
	chain_try_case(rig, &bad, false);
}

/* A chain of @p n pieces of @p len bytes, all of the same memory, through a table at TABLE. */
static void
chain_offer_long(struct rig *rig, unsigned int index, uint32_t n, uint32_t len, uint32_t last_len)
{
	struct split_ring *ring = &rig->nic.ring[index].ring;
	uint16_t turn = index == NIC_RX(0) ? WRITE : 0;
	uint32_t i;

	for (i = 0; i < n; i++) {
		bool last = i + 1 == n;
		const struct vring_desc desc = {BUFFER, last ? last_len : len,
			(uint16_t)(turn | (last ? 0 : NEXT)), (uint16_t)(i + 1)};

		guest_ram_write(&rig->ram, TABLE + i * sizeof(desc), &desc, sizeof(desc));
	}
	split_ring_set_desc(ring, BAD, TABLE, n * 16, INDIRECT, 0);
	split_ring_offer(ring, BAD);
}

static void
chain_expect_sent(struct rig *rig, unsigned int allowed)
{
	enum hostile_outcome outcome = hostile_judge_sent(rig);

	if ((outcome & allowed) == 0)
		mock_fail("long chain: %s", chain_outcome_name(outcome));
	chain_recover(rig, NIC_TX(0));
}

static void
test_h59_packet_longer_than_any_is_dropped(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, &chain_config);
	/* 80 KiB and 16 MiB, all of it memory of the guest. */
	chain_offer_long(rig, NIC_TX(0), 10, 8192, 8192);
	chain_expect_sent(rig, DROPPED);
	chain_offer_long(rig, NIC_TX(0), 200, 80000, 80000);
	chain_expect_sent(rig, DROPPED);
	/* 256 x 8 MiB x 2 is 2^32: the sum in 32 bits would be a packet of 100 bytes. */
	chain_offer_long(rig, NIC_TX(0), 513, 8 * MIB, 112);
	chain_expect_sent(rig, DROPPED);
}

static void
test_h67_tables_around_the_ring_size(void **state)
{
	static const uint32_t entries[] = {255, 256, 257, 515, 1024, 1025, 4096, 65535, 65536};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &chain_config);
	for (i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		uint32_t n = entries[i];

		/* Drivers go beyond the ring size, to which virtio 1.2 §2.7.5.3.1 keeps them. */
		chain_offer_long(rig, NIC_TX(0), n, 1, 1);
		chain_expect_sent(rig, n <= 1024 ? DELIVERED : STOPPED);
	}
}

static void
test_h64_read_only_buffer_is_never_written(void **state)
{
	struct rig *rig = rig_main();
	struct split_ring *ring;
	uint8_t *bytes;
	unsigned int i;

	rig_open(rig, &chain_config);
	ring = &rig->nic.ring[NIC_RX(0)].ring;
	bytes = guest_ram_at(&rig->ram, BUFFER, 4096);
	memset(bytes, 0xa5, 4096);
	split_ring_set_desc(ring, BAD, BUFFER, 2048, 0, 0);
	split_ring_offer(ring, BAD);
	(void)hostile_judge_offered(rig, 100);
	for (i = 0; i < 4096; i++)
		assert_int_equal(bytes[i], 0xa5);
	chain_recover(rig, NIC_RX(0));
}

static void
test_h69_receive_buffers_of_a_byte(void **state)
{
	struct rig_config config = chain_config;
	struct rig *rig = rig_main();
	unsigned int mergeable;

	for (mergeable = 0; mergeable < 2; mergeable++) {
		struct split_ring *ring;
		uint8_t *bytes;
		uint16_t i;

		config.nic.features = NIC_FEATURES;
		if (mergeable == 0)
			config.nic.features &= ~BIT(VIRTIO_NET_F_MRG_RXBUF);
		rig_open(rig, &config);
		ring = &rig->nic.ring[NIC_RX(0)].ring;
		bytes = guest_ram_at(&rig->ram, BUFFER, 4096);
		memset(bytes, 0xa5, 4096);
		for (i = 0; i < 256; i++) {
			split_ring_set_desc(ring, i, BUFFER + i * 3, 1, WRITE, 0);
			split_ring_offer(ring, i);
		}
		/* The good buffer that comes then is behind as many that take nothing. */
		assert_int_not_equal(hostile_judge_offered(rig, 60), DELIVERED);
		for (i = 0; i < 4096; i++)
			assert_int_equal(bytes[i], 0xa5);
		rig_to_host(rig, 0, 200);
		rig_revive(rig, NIC_RX(0));
		nic_post_rx(&rig->nic, 0, 1);
		rig_to_guest(rig, 0, 200, 0);
		rig_close(rig);
	}
}

static void
test_h70_buffers_that_run_out_are_not_consumed(void **state)
{
	struct rig_config config = chain_config;
	struct rig *rig = rig_main();
	struct split_ring *ring;
	struct rte_mbuf *pkt;
	unsigned int i;

	config.nic.buf_len = 256;
	rig_open(rig, &config);
	ring = &rig->nic.ring[NIC_RX(0)].ring;
	nic_post_rx(&rig->nic, 0, 3);
	for (i = 0; i < 20; i++) {
		pkt = port_packet(&rig->port, 1514, 1, 0);
		assert_int_equal(port_tx(&rig->port, 0, &pkt, 1), 0);
		assert_int_equal(split_ring_device_idx(ring), 0);
	}
	nic_post_rx(&rig->nic, 0, 3);
	rig_to_guest(rig, 0, 1514, 0);
}

static void
test_h71_the_same_head_twice(void **state)
{
	struct rig *rig = rig_main();
	struct split_ring *ring;
	unsigned int i;

	rig_open(rig, &chain_config);
	ring = &rig->nic.ring[NIC_TX(0)].ring;
	split_ring_set_desc(ring, BAD, BUFFER, 112, 0, 0);
	for (i = 0; i < 32; i++)
		split_ring_offer(ring, BAD);
	split_ring_publish(ring);
	for (i = 0; i < 32; i++) {
		struct rte_mbuf *pkt;

		if (port_rx(&rig->port, 0, &pkt, 1) == 1)
			rte_pktmbuf_free(pkt);
	}
	chain_recover(rig, NIC_TX(0));

	ring = &rig->nic.ring[NIC_RX(0)].ring;
	split_ring_set_desc(ring, BAD, BUFFER, 2048, WRITE, 0);
	for (i = 0; i < 32; i++)
		split_ring_offer(ring, BAD);
	split_ring_publish(ring);
	for (i = 0; i < 32; i++) {
		struct rte_mbuf *pkt = port_packet(&rig->port, 100, i, 0);

		port_tx(&rig->port, 0, &pkt, 1);
	}
	chain_recover(rig, NIC_RX(0));
}

static void
test_h71_every_buffer_is_a_used_ring(void **state)
{
	struct rig *rig = rig_main();
	struct split_ring *ring;
	uint16_t i;

	rig_open(rig, &chain_config);
	ring = &rig->nic.ring[NIC_RX(0)].ring;
	for (i = 0; i < 64; i++) {
		split_ring_set_desc(ring, i, ring->used_gpa, 2048, WRITE, 0);
		split_ring_offer(ring, i);
	}
	split_ring_publish(ring);
	for (i = 0; i < 64; i++) {
		struct rte_mbuf *pkt = port_packet(&rig->port, 1514, i, 0);

		port_tx(&rig->port, 0, &pkt, 1);
	}
	rig_to_host(rig, 0, 200);
	rig_revive(rig, NIC_RX(0));
	nic_post_rx(&rig->nic, 0, 1);
	rig_to_guest(rig, 0, 200, 0);
}

static void
test_h103_bad_chains_do_not_flood_the_log(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &chain_config);
	port_log_capture();
	for (i = 0; i < 50; i++) {
		chain_offer(rig, NIC_TX(0), &chain_cases[0]);
		assert_int_equal(hostile_judge_sent(rig), STOPPED);
		rig_revive(rig, NIC_TX(0));
		/* And many that are dropped. */
		chain_offer_long(rig, NIC_TX(0), 10, 8192, 8192);
		assert_int_equal(hostile_judge_sent(rig), DROPPED);
	}
	/* One for the mistake; links that go down and up are told at a limited rate. */
	assert_int_equal(port_log_lines("stopped"), 1);
	assert_true(port_log_lines(rig->port.name) <= 32);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h56_to_h71_bad_chain_to_send),
		HOSTILE_TEST(test_h56_to_h71_bad_chain_to_receive_into),
		HOSTILE_TEST(test_h66_table_without_the_feature_stops_the_queue),
		HOSTILE_TEST(test_h59_packet_longer_than_any_is_dropped),
		HOSTILE_TEST(test_h67_tables_around_the_ring_size),
		HOSTILE_TEST(test_h64_read_only_buffer_is_never_written),
		HOSTILE_TEST(test_h69_receive_buffers_of_a_byte),
		HOSTILE_TEST(test_h70_buffers_that_run_out_are_not_consumed),
		HOSTILE_TEST(test_h71_the_same_head_twice),
		HOSTILE_TEST(test_h71_every_buffer_is_a_used_ring),
		HOSTILE_TEST(test_h103_bad_chains_do_not_flood_the_log),
	};

	hostile_program("test_hostile_chain", 90);
	return cmocka_run_group_tests_name(
		"hostile chains", tests, rig_group_setup, rig_group_teardown);
}
