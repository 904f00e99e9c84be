/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What differs between net_vhost and net_dynvhost, and is meant to. Each difference has its reason,
 * and a test that sees both sides of it: one that has gone is to go from here, too.
 *
 * What a guest gets for malformed chains and for memory that is cut short is the hostile suite's.
 */

#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>

#include "diff.h"
#include "rig.h"

#define BIT(n)     (1ull << (n))
#define BASE       (BIT(VU_F_PROTOCOL_FEATURES) | BIT(VIRTIO_F_VERSION_1))
#define PACKED     BIT(VIRTIO_F_RING_PACKED)
#define MRG        BIT(VIRTIO_NET_F_MRG_RXBUF)
#define INDIRECT   BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define CSUM       BIT(VIRTIO_NET_F_CSUM)
#define HOST_TSO   (BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6))
#define GUEST_CSUM BIT(VIRTIO_NET_F_GUEST_CSUM)
#define GUEST_TSO  (BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))
#define GUEST_ECN  BIT(VIRTIO_NET_F_GUEST_ECN)

#define RX_CKSUMS (RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)

#define NEEDS_CSUM VIRTIO_NET_HDR_F_NEEDS_CSUM
#define NONE       RTE_MBUF_F_RX_L4_CKSUM_NONE

static struct diff diff;
static struct diff_side *const vhost = &diff.side[DIFF_VHOST];
static struct diff_side *const dynvhost = &diff.side[DIFF_DYNVHOST];

static uint8_t bytes[12 + PACKET_MAX];
static uint8_t *const frame_bytes = bytes + 12;
static struct frame frame;
static struct virtio_net_hdr hdr;
static struct diff_delivery got[DIFF_SIDES];

static void
open_both(const char *devargs, uint64_t features, uint64_t rx_offloads)
{
	const struct diff_config config = {
		.devargs = devargs,
		.features = BASE | features,
		.ring_size = 64,
		.rx_offloads = rx_offloads,
	};

	diff_open(&diff, &config);
	memset(&hdr, 0, sizeof(hdr));
	memset(got, 0, sizeof(got));
}

static void
build(uint8_t proto, uint32_t payload)
{
	frame = frame_build(
		frame_bytes, &(struct frame_spec){.proto = proto, .payload = payload, .seed = 5});
}

/* Send the frame, or as much of it as @p len says, in two pieces, and receive what comes. */
static void
exchange(uint32_t len)
{
	const uint32_t cut[] = {12 + len / 2, len - len / 2};

	memset(bytes, 0, 12);
	memcpy(bytes, &hdr, sizeof(hdr));
	assert_true(diff_send(&diff, bytes, cut, 2, 2));
	diff_receive(&diff);
}

/* What net_vhost has received; we have thrown it away. */
static void
expect_dropped_here(uint64_t ol_flags)
{
	assert_int_equal(vhost->n_pkts, 1);
	assert_int_equal(vhost->pkts[0]->ol_flags, ol_flags);
	assert_int_equal(dynvhost->n_pkts, 0);
	assert_int_equal(dynvhost->used.n, 1);
	diff_free(&diff);
}

static void
expect_flags(uint64_t theirs, uint64_t ours)
{
	assert_int_equal(vhost->n_pkts, 1);
	assert_int_equal(dynvhost->n_pkts, 1);
	assert_int_equal(vhost->pkts[0]->ol_flags, theirs);
	assert_int_equal(dynvhost->pkts[0]->ol_flags, ours);
}

static const uint8_t *
received(const struct diff_side *side)
{
	return rte_pktmbuf_mtod(side->pkts[0], const uint8_t *);
}

static void
checksum_behind_the_end(void)
{
	open_both(NULL, CSUM, RX_CKSUMS);
	build(FRAME_UDP, 100);
	hdr = (struct virtio_net_hdr){
		.flags = NEEDS_CSUM, .csum_start = frame.l4_at, .csum_offset = 5000};
	exchange(frame.len);
	expect_dropped_here(NONE);
}

static void
checksum_in_another_place(void)
{
	open_both(NULL, CSUM, RX_CKSUMS);
	build(FRAME_UDP, 100);
	hdr = (struct virtio_net_hdr){
		.flags = NEEDS_CSUM, .csum_start = frame.l4_at, .csum_offset = 20};
	exchange(frame.len);
	expect_flags(NONE, 0);
	assert_memory_equal(received(vhost), frame_bytes, frame.len);
	assert_memory_not_equal(received(dynvhost), frame_bytes, frame.len);
}

static void
segments_of_no_size(void)
{
	open_both("tso=1", CSUM | HOST_TSO, RX_CKSUMS);
	build(FRAME_TCP, 1000);
	hdr = (struct virtio_net_hdr){.flags = NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.csum_start = frame.l4_at,
		.csum_offset = 16};
	exchange(frame.len);
	expect_dropped_here(NONE);
}

static void
segments_of_another_protocol(void)
{
	open_both("tso=1", CSUM | HOST_TSO, RX_CKSUMS);
	build(FRAME_UDP, 1000);
	hdr = (struct virtio_net_hdr){.flags = NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 500,
		.csum_start = frame.l4_at,
		.csum_offset = 6};
	exchange(frame.len);
	expect_dropped_here(NONE);
}

static void
segments_not_negotiated(void)
{
	open_both("tso=1", CSUM, RX_CKSUMS);
	build(FRAME_TCP, 1000);
	hdr = (struct virtio_net_hdr){.flags = NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 500,
		.csum_start = frame.l4_at,
		.csum_offset = 16};
	exchange(frame.len);
	expect_dropped_here(NONE | RTE_MBUF_F_RX_LRO);
}

static void
flags_without_meaning(void)
{
	open_both(NULL, CSUM, RX_CKSUMS);
	build(FRAME_UDP, 100);
	hdr.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	exchange(frame.len);
	expect_flags(0, 0);
	assert_int_equal(vhost->pkts[0]->packet_type,
		RTE_PTYPE_L2_ETHER | RTE_PTYPE_L3_IPV4 | RTE_PTYPE_L4_UDP);
	assert_int_equal(dynvhost->pkts[0]->packet_type, 0);
}

static void
frames_without_an_ethernet_header(void)
{
	open_both(NULL, 0, 0);
	build(FRAME_UDP, 100);
	exchange(13);
	expect_dropped_here(0);
}

static void
header_alone_in_a_packed_ring(void)
{
	unsigned int i;

	open_both(NULL, PACKED, 0);
	memset(bytes, 0, 12);
	/* A batch of four of them. */
	for (i = 0; i < 4; i++)
		assert_true(diff_send(&diff, bytes, (uint32_t[]){12}, 1, 1));
	diff_receive(&diff);
	assert_int_equal(vhost->n_pkts, 4);
	assert_int_equal(vhost->pkts[0]->pkt_len, 0);
	assert_int_equal(dynvhost->n_pkts, 0);
	assert_int_equal(dynvhost->used.n, 4);
}

static void
external_buffer_of_what_just_fits(void)
{
	const uint32_t len = 12 + 2040;
	unsigned int i;

	open_both("ext-buffer=1", PACKED, 0);
	memset(bytes, 0, len);
	/* A batch of four of them. */
	for (i = 0; i < 4; i++)
		assert_true(diff_send(&diff, bytes, &len, 1, 1));
	diff_receive(&diff);
	assert_int_equal(vhost->n_pkts, 4);
	assert_int_equal(dynvhost->n_pkts, 4);
	assert_true(RTE_MBUF_HAS_EXTBUF(vhost->pkts[0]));
	assert_false(RTE_MBUF_HAS_EXTBUF(dynvhost->pkts[0]));
}

static void
table_behind_a_direct_descriptor(void)
{
	const uint32_t cut[] = {12, 60, 82};

	open_both(NULL, INDIRECT, 0);
	build(FRAME_UDP, 100);
	memset(bytes, 0, 12);
	assert_true(diff_send(&diff, bytes, cut, 3, 1));
	diff_receive(&diff);
	expect_flags(0, 0);
	/* The table itself: two entries. */
	assert_int_equal(vhost->pkts[0]->pkt_len, 2 * sizeof(struct vring_desc));
	assert_int_equal(dynvhost->pkts[0]->pkt_len, frame.len);
	assert_memory_equal(received(dynvhost), frame_bytes, frame.len);
}

static void
legacy_flags_in_a_tunnel(void)
{
	open_both("legacy-ol-flags=1", CSUM, 0);
	build(FRAME_UDP, 100);
	hdr = (struct virtio_net_hdr){.flags = NEEDS_CSUM, .csum_start = 80, .csum_offset = 6};
	exchange(frame.len);
	expect_flags(0, 0);
	assert_memory_equal(received(vhost), frame_bytes, frame.len);
	assert_memory_not_equal(received(dynvhost), frame_bytes, frame.len);
}

/* One packet to both guests, whose buffer is one piece of @p room bytes. */
static void
transmit(const struct diff_packet *packet, uint32_t room, uint16_t *taken)
{
	assert_true(diff_offer(&diff, &room, 1, 1));
	diff_transmit(&diff, packet, 1, taken);
	DIFF_FOREACH(&diff, side)
	diff_deliver(side, 0, &got[side - diff.side]);
}

/* The frame, with its first checksum asked for by @p flags. */
static struct diff_packet
asking(uint64_t flags)
{
	return (struct diff_packet){
		.data = frame_bytes,
		.len = frame.len,
		.ol_flags = RTE_MBUF_F_TX_IPV4 | flags,
		.l2_len = frame.l2_len,
		.l3_len = frame.l3_len,
		.l4_len = frame.l4_len,
		.tso_segsz = 500,
	};
}

static void
expect_taken(const uint16_t *taken, uint16_t theirs, uint16_t ours)
{
	assert_int_equal(taken[DIFF_VHOST], theirs);
	assert_int_equal(taken[DIFF_DYNVHOST], ours);
}

static void
number_of_buffers_that_are_not_merged(void)
{
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, 0, 0);
	build(FRAME_UDP, 100);
	packet = asking(0);
	transmit(&packet, 1000, taken);
	expect_taken(taken, 1, 1);
	assert_int_equal(got[DIFF_VHOST].hdr.num_buffers, 0xa5a5);
	assert_int_equal(got[DIFF_DYNVHOST].hdr.num_buffers, 1);
}

static void
pseudo_header_of_segments(void)
{
	static uint8_t want[PACKET_MAX];
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, MRG | GUEST_CSUM | GUEST_TSO, 0);
	build(FRAME_TCP, 1000);
	memcpy(want, frame_bytes, frame.len);
	frame_make_partial(want, &frame);
	packet = asking(RTE_MBUF_F_TX_TCP_SEG);
	transmit(&packet, 4000, taken);
	expect_taken(taken, 1, 1);
	assert_memory_equal(&got[0].hdr, &got[1].hdr, sizeof(got[0].hdr));
	assert_memory_not_equal(got[DIFF_VHOST].data, want, frame.len);
	assert_memory_equal(got[DIFF_DYNVHOST].data, want, frame.len);
}

static void
segments_with_congestion_marks(void)
{
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, MRG | GUEST_CSUM | GUEST_TSO | GUEST_ECN, 0);
	frame = frame_build(frame_bytes,
		&(struct frame_spec){
			.proto = FRAME_TCP, .payload = 1000, .tcp_flags = FRAME_TCP_CWR});
	packet = asking(RTE_MBUF_F_TX_TCP_SEG);
	transmit(&packet, 4000, taken);
	expect_taken(taken, 1, 1);
	assert_int_equal(got[DIFF_VHOST].hdr.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(
		got[DIFF_DYNVHOST].hdr.gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
}

static void
segments_for_a_guest_without(void)
{
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, MRG | GUEST_CSUM, 0);
	build(FRAME_TCP, 1000);
	packet = asking(RTE_MBUF_F_TX_TCP_SEG);
	transmit(&packet, 4000, taken);
	expect_taken(taken, 1, 1);
	assert_int_equal(got[DIFF_VHOST].hdr.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(vhost->used.n, 1);
	assert_int_equal(dynvhost->used.n, 0);
}

static void
checksum_for_a_guest_without(void)
{
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, MRG, 0);
	build(FRAME_TCP, 1000);
	packet = asking(RTE_MBUF_F_TX_TCP_CKSUM);
	transmit(&packet, 4000, taken);
	expect_taken(taken, 1, 1);
	assert_int_equal(got[DIFF_VHOST].hdr.flags, NEEDS_CSUM);
	assert_false(frame_is_complete(got[DIFF_VHOST].data, &frame));
	assert_int_equal(got[DIFF_DYNVHOST].hdr.flags, 0);
	assert_true(frame_is_complete(got[DIFF_DYNVHOST].data, &frame));
}

static void
headers_in_two_mbufs(void)
{
	static uint8_t want[PACKET_MAX];
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, MRG | GUEST_CSUM, 0);
	build(FRAME_TCP, 1000);
	memcpy(want, frame_bytes, frame.len);
	frame_make_partial(want, &frame);
	packet = asking(RTE_MBUF_F_TX_TCP_CKSUM);
	packet.first_len = 40;
	transmit(&packet, 4000, taken);
	expect_taken(taken, 1, 1);
	assert_memory_equal(&got[0].hdr, &got[1].hdr, sizeof(got[0].hdr));
	assert_memory_equal(got[DIFF_VHOST].data, frame_bytes, frame.len);
	assert_memory_equal(got[DIFF_DYNVHOST].data, want, frame.len);
}

static void
tag_for_a_short_first_mbuf(void)
{
	struct diff_packet packet;

	open_both(NULL, MRG, 0);
	build(FRAME_UDP, 100);
	packet = asking(RTE_MBUF_F_TX_VLAN);
	packet.first_len = 8;
	assert_true(diff_offer(&diff, (uint32_t[]){1000}, 1, 1));
	/* net_vhost drops it, and the count that it returns leaves open which packets are whose. */
	assert_int_equal(diff_transmit_here(&diff, &packet), 1);
	diff_deliver(dynvhost, 0, &got[DIFF_DYNVHOST]);
	assert_int_equal(got[DIFF_DYNVHOST].len, frame.len + 4);
}

static void
packets_that_never_fit(void)
{
	struct diff_packet packet;
	uint16_t taken[DIFF_SIDES];

	open_both(NULL, 0, 0);
	build(FRAME_UDP, 1000);
	packet = asking(0);
	transmit(&packet, 500, taken);
	expect_taken(taken, 0, 1);
	assert_int_equal(vhost->used.n, 0);
	assert_int_equal(dynvhost->used.n, 0);
}

static void
chains_to_receive_in_a_packed_ring(void)
{
	const uint32_t cut[] = {200, 300};
	struct diff_packet packet[4];
	uint16_t taken[DIFF_SIDES];
	unsigned int i;

	open_both(NULL, PACKED, 0);
	build(FRAME_UDP, 50);
	for (i = 0; i < 4; i++) {
		packet[i] = asking(0);
		assert_true(diff_offer(&diff, cut, 2, 2));
	}
	diff_transmit(&diff, packet, 4, taken);
	expect_taken(taken, 4, 4);
	/* Each half a chain, and by an id that is none. */
	assert_in_range(vhost->used.entry[0].id, DIFF_MAX_RING, UINT16_MAX);
	for (i = 0; i < 4; i++)
		assert_int_equal(diff_deliver(dynvhost, i, &got[DIFF_DYNVHOST]), 1);
}

/** The table. */
static const struct {
	const char *name;
	const char *reason;
	void (*run)(void);
} differences[] = {
	{"checksum that lies behind the packet's end", "breaks a rule: dropped",
		checksum_behind_the_end},
	{"checksum in another place than its protocol's",
		"no flag can describe it: completed where the guest asks",
		checksum_in_another_place},
	{"segments without a size", "breaks a rule: dropped", segments_of_no_size},
	{"segments of another protocol than the packet's", "breaks a rule: dropped",
		segments_of_another_protocol},
	{"segments that were not negotiated", "breaks a rule: dropped", segments_not_negotiated},
	{"header with flags that mean nothing", "asks for nothing, so nothing is parsed",
		flags_without_meaning},
	{"frames without an Ethernet header", "no application can do anything with them: dropped",
		frames_without_an_ethernet_header},
	{"header alone in a packed ring", "is no packet, as in a split ring",
		header_alone_in_a_packed_ring},
	{"external buffer of a packet that just fits an mbuf", "is not needed",
		external_buffer_of_what_just_fits},
	{"table behind a direct descriptor", "is a table there, too (virtio 1.2 §2.7.5.3.2)",
		table_behind_a_direct_descriptor},
	{"checksum in a tunnel with legacy-ol-flags", "nobody would ever complete it: completed",
		legacy_flags_in_a_tunnel},
	{"num_buffers where buffers are not merged", "is 1 (virtio 1.2 §5.1.6.4.1)",
		number_of_buffers_that_are_not_merged},
	{"pseudo-header of segments", "has their length, so that a guest can segment them again",
		pseudo_header_of_segments},
	{"segments with a mark of congestion", "say so to guests that understand it",
		segments_with_congestion_marks},
	{"segments for a guest that has not agreed to them", "would be refused: dropped",
		segments_for_a_guest_without},
	{"checksum for a guest that has not agreed to it",
		"completed, whether or not the application has configured it",
		checksum_for_a_guest_without},
	{"checksum of headers in two mbufs", "is asked for all the same", headers_in_two_mbufs},
	{"tag for a short first mbuf", "is inserted all the same", tag_for_a_short_first_mbuf},
	{"packet for which no buffer has room", "would stand in the way for ever: dropped",
		packets_that_never_fit},
	{"chains to receive in a packed ring", "are one buffer each",
		chains_to_receive_in_a_packed_ring},
};

static void
run_difference(void **state)
{
	const unsigned int i = (unsigned int)(uintptr_t)*state;

	printf("# %s: %s\n", differences[i].name, differences[i].reason);
	differences[i].run();
}

static int
teardown(void **state)
{
	diff_close(&diff);
	return 0;
}

int
main(void)
{
	static struct CMUnitTest tests[RTE_DIM(differences)];
	size_t i;

	for (i = 0; i < RTE_DIM(differences); i++)
		tests[i] = (struct CMUnitTest){
			.name = differences[i].name,
			.test_func = run_difference,
			.setup_func = rig_setup,
			.teardown_func = teardown,
			.initial_state = (void *)(uintptr_t)i,
		};
	rig_program("diff-intended", 120);
	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
