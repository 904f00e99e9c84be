/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Random guests and applications beside net_vhost. A run is a row of sessions; a session negotiates
 * and configures something, then does random things to both drivers, and all that comes of them must
 * be the same. What is known to differ is left out here and tested by test_intended.c.
 *
 * Each session follows from its own seed, which is printed when it fails. DYNVHOST_TEST_SEED begins
 * a run with another one, DYNVHOST_TEST_PACKETS says how many packets it has; a failed session is
 * replayed by its seed and DYNVHOST_TEST_PACKETS=1. DYNVHOST_TEST_LONG=1 chooses ten million packets,
 * in longer sessions.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "diff.h"
#include "rig.h"

#ifndef DIFF_PACKED
#define DIFF_PACKED 0
#endif

#define BIT(n) (1ull << (n))

/* Packets of a run, and of a session; the latter take a second each to begin and to end. */
#define PACKETS      110000u
#define PACKETS_LONG 10000000u
#define SESSION      5000u
#define SESSION_LONG 25000u

/** Sums of protocols that flags do not name are compared within one mbuf. */
#define MAX_ONE_MBUF 2000u
/** Headers of a frame lie in its first mbuf. */
#define MIN_FIRST 256u
/** Tags go where the addresses lie in the first mbuf; others: see test_intended.c. */
#define MIN_TAGGED 14u

static struct diff diff;
static uint8_t bytes[12 + PACKET_MAX];
static uint8_t host_bytes[DIFF_MAX_BURST][PACKET_MAX];
static struct diff_delivery got[DIFF_SIDES];

static uint64_t random_state;
static uint64_t session_seed;
static uint64_t n_packets;

/* What the session has chosen beside features. */
static bool legacy;
static bool linear; /* without external buffers */

static uint32_t
below(uint32_t n)
{
	return mock_random(&random_state, n);
}

static bool
one_in(uint32_t n)
{
	return below(n) == 0;
}

static bool
has(unsigned int feature)
{
	return (diff.config.features >> feature) & 1;
}

static uint64_t
maybe(uint64_t features)
{
	return one_in(2) ? features : 0;
}

static uint64_t
random_features(void)
{
	uint64_t features = BIT(VU_F_PROTOCOL_FEATURES) | BIT(VIRTIO_F_VERSION_1);

	features |= maybe(BIT(VIRTIO_NET_F_MRG_RXBUF));
	features |= maybe(BIT(VIRTIO_RING_F_INDIRECT_DESC));
	features |= maybe(BIT(VIRTIO_RING_F_EVENT_IDX));
	features |= maybe(BIT(VIRTIO_F_IN_ORDER));
	if (!one_in(4))
		features |= BIT(VIRTIO_NET_F_CSUM) | maybe(BIT(VIRTIO_NET_F_HOST_TSO4)) |
			    maybe(BIT(VIRTIO_NET_F_HOST_TSO6)) | maybe(BIT(VIRTIO_NET_F_HOST_UFO));
	if (features & (BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6)))
		features |= maybe(BIT(VIRTIO_NET_F_HOST_ECN));
	if (!one_in(4))
		features |= BIT(VIRTIO_NET_F_GUEST_CSUM) | maybe(BIT(VIRTIO_NET_F_GUEST_TSO4)) |
			    maybe(BIT(VIRTIO_NET_F_GUEST_TSO6)) |
			    maybe(BIT(VIRTIO_NET_F_GUEST_UFO));
	if (DIFF_PACKED)
		features |= BIT(VIRTIO_F_RING_PACKED);
	else
		/* A header of ten bytes. */
		features &= ~maybe(one_in(4) ? BIT(VIRTIO_F_VERSION_1) : 0);
	return features;
}

static const char *
random_devargs(void)
{
	static const char *const devargs[] = {
		"tso=1",
		"tso=1",
		"tso=1,linear-buffer=1",
		"tso=1,ext-buffer=1",
		"tso=1,linear-buffer=1,ext-buffer=1",
		"tso=1,legacy-ol-flags=1",
	};
	unsigned int i = below(RTE_DIM(devargs));

	linear = i == 2;
	legacy = i == RTE_DIM(devargs) - 1;
	return devargs[i];
}

static void
open_session(void)
{
	struct diff_config config = {.devargs = random_devargs()};

	config.features = random_features();
	if (linear)
		config.features &= ~(BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
				     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_UFO));
	config.ring_size = (uint16_t)(64u << below(3));
	if (DIFF_PACKED && one_in(2))
		config.ring_size = (uint16_t)(50 + below(200));
	config.start_index = (uint16_t)(DIFF_PACKED ? below(config.ring_size)
						    : 65536u - below(200));
	config.tx_offloads = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	if (!legacy) {
		config.rx_offloads = maybe(
			RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
		config.rx_offloads |= maybe(RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
		config.tx_offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	}
	diff_open(&diff, &config);
}

static uint32_t
random_payload(void)
{
	switch (below(8)) {
	case 0:
		return below(9000);
	case 1:
		return below(40);
	default:
		return below(1460);
	}
}

static struct frame_spec
random_spec(void)
{
	static const uint8_t protos[] = {
		FRAME_TCP, FRAME_TCP, FRAME_UDP, FRAME_UDP, FRAME_SCTP, 99};

	return (struct frame_spec){
		.tagged = one_in(3),
		.ipv6 = one_in(2),
		.proto = protos[below(RTE_DIM(protos))],
		.l4_options = (uint8_t)(4 * below(11)),
		.payload = random_payload(),
		.seed = below(UINT32_MAX),
	};
}

/* The kind of segments a frame can be, of what was negotiated by these features; 0: none. */
static uint8_t
random_gso(const struct frame_spec *spec, unsigned int tso4, unsigned int tso6, unsigned int ufo)
{
	if (one_in(2))
		return 0;
	if (spec->proto == FRAME_UDP && has(ufo))
		return VIRTIO_NET_HDR_GSO_UDP;
	if (spec->proto != FRAME_TCP)
		return 0;
	if (spec->ipv6)
		return has(tso6) ? VIRTIO_NET_HDR_GSO_TCPV6 : 0;
	return has(tso4) ? VIRTIO_NET_HDR_GSO_TCPV4 : 0;
}

/* --- guest to host --- */

/* A checksum somewhere: of no protocol that flags name. */
static void
ask_anywhere(struct virtio_net_hdr *hdr, uint32_t len)
{
	uint32_t end = len - 2;

	hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr->csum_start = (uint16_t)(below(end + 1) & ~1u);
	hdr->csum_offset = (uint16_t)below(end - hdr->csum_start + 1);
}

static void
ask(struct virtio_net_hdr *hdr, const struct frame_spec *spec, const struct frame *frame)
{
	hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr->csum_start = frame->l4_at;
	hdr->csum_offset = spec->proto == FRAME_SCTP ? 8 : frame->csum_offset;
	if (frame->csum_offset != 0)
		frame_make_partial(bytes + diff.side[0].nic.hdr_len, frame);
}

/* An IP frame, and what the guest asks for it. @return its bytes. */
static uint32_t
build_frame(uint8_t *at, struct virtio_net_hdr *hdr)
{
	struct frame_spec spec = random_spec();
	struct frame frame;
	uint8_t gso = 0;

	if (has(VIRTIO_NET_F_CSUM))
		gso = random_gso(&spec, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
			VIRTIO_NET_F_HOST_UFO);
	if (gso != 0)
		spec.payload = 1 + below(one_in(3) ? 60000 : 9000);
	if (!legacy)
		spec.ip_options = (uint8_t)(8 * below(5));
	spec.fragment = gso == 0 && !legacy && !spec.ipv6 && one_in(8);
	frame = frame_build(at, &spec);
	if (!has(VIRTIO_NET_F_CSUM) || (gso == 0 && one_in(3)))
		return frame.len;
	if (spec.proto == 99 || spec.fragment) {
		if (!legacy && frame.len <= MAX_ONE_MBUF)
			ask_anywhere(hdr, frame.len);
		return frame.len;
	}
	ask(hdr, &spec, &frame);
	if (gso == 0)
		return frame.len;
	hdr->gso_type = gso;
	hdr->gso_size = (uint16_t)(8 + below(RTE_MIN(frame.len - 8, 9000u)));
	if (gso != VIRTIO_NET_HDR_GSO_UDP && has(VIRTIO_NET_F_HOST_ECN) && one_in(3))
		hdr->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	return frame.len;
}

/* Cut @p len bytes into random pieces. @return how many. */
static uint16_t
random_cut(uint32_t *cut, uint32_t len, uint16_t max)
{
	uint16_t n = (uint16_t)(1 + below(max));
	uint16_t i;

	for (i = 0; i + 1 < n; i++) {
		cut[i] = one_in(3) ? below(RTE_MIN(len + 1, 20u)) : below(len + 1);
		len -= cut[i];
	}
	cut[n - 1] = len;
	return n;
}

static bool
guest_sends(void)
{
	const uint32_t hdr_len = diff.side[0].nic.hdr_len;
	struct virtio_net_hdr hdr = {.hdr_len = (uint16_t)below(65536)};
	uint32_t cut[DIFF_MAX_PIECES];
	uint32_t len;
	uint16_t n;

	memset(bytes, 0, hdr_len);
	hdr.csum_start = (uint16_t)below(65536);
	hdr.gso_size = (uint16_t)below(65536);
	if (one_in(3)) {
		len = 14 + random_payload();
		packet_fill(bytes + hdr_len, len, below(UINT32_MAX));
	} else {
		len = build_frame(bytes + hdr_len, &hdr);
	}
	/* Without offloads the header means nothing. */
	if (!has(VIRTIO_NET_F_CSUM))
		hdr.flags = (uint8_t)below(256);
	memcpy(bytes, &hdr, sizeof(hdr));
	/* Now and then a header alone; in packed rings: see test_intended.c. */
	if (!DIFF_PACKED && one_in(200))
		len = 0;
	n = random_cut(cut, hdr_len + len, one_in(2) ? 2 : 8);
	return diff_send(
		&diff, bytes, cut, n, has(VIRTIO_RING_F_INDIRECT_DESC) && one_in(2) ? 0 : n);
}

static void
compare_used(void)
{
	const struct diff_used *a = &diff.side[DIFF_VHOST].used;
	const struct diff_used *b = &diff.side[DIFF_DYNVHOST].used;

	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->entry, b->entry, a->n * sizeof(a->entry[0]));
}

/* Flags of net_vhost's mbuf, but for an external buffer of a packet that just fits an mbuf. */
static uint64_t
comparable_flags(const struct rte_mbuf *pkt)
{
	const uint32_t room = 2048;
	uint32_t len = pkt->pkt_len;

	if (pkt->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
		len += RTE_VLAN_HLEN;
	/* See test_intended.c. */
	if (DIFF_PACKED && len <= room && len + diff.side[0].nic.hdr_len > room)
		return pkt->ol_flags & ~RTE_MBUF_F_EXTERNAL;
	return pkt->ol_flags;
}

static void
compare_mbufs(const struct rte_mbuf *a, const struct rte_mbuf *b)
{
	static uint8_t copy[DIFF_SIDES][PACKET_MAX];

	assert_int_equal(a->pkt_len, b->pkt_len);
	assert_int_equal(a->nb_segs, b->nb_segs);
	assert_int_equal(a->data_len, b->data_len);
	assert_int_equal(comparable_flags(a), b->ol_flags);
	assert_int_equal(a->packet_type, b->packet_type);
	/* Fields that no flag speaks of are left as they were. */
	if (a->ol_flags & (RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6)) {
		assert_int_equal(a->l2_len, b->l2_len);
		assert_int_equal(a->l3_len, b->l3_len);
	}
	if (a->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG))
		assert_int_equal(a->l4_len, b->l4_len);
	if (a->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG | RTE_MBUF_F_RX_LRO))
		assert_int_equal(a->tso_segsz, b->tso_segsz);
	if (a->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
		assert_int_equal(a->vlan_tci, b->vlan_tci);
	assert_memory_equal(rte_pktmbuf_read(a, 0, a->pkt_len, copy[0]),
		rte_pktmbuf_read(b, 0, b->pkt_len, copy[1]), a->pkt_len);
}

static void
host_receives(void)
{
	const struct diff_side *a = &diff.side[DIFF_VHOST];
	const struct diff_side *b = &diff.side[DIFF_DYNVHOST];
	unsigned int i;

	diff_receive(&diff);
	assert_int_equal(diff_unsent(a), 0);
	assert_int_equal(diff_unsent(b), 0);
	compare_used();
	assert_int_equal(a->n_pkts, b->n_pkts);
	for (i = 0; i < a->n_pkts; i++)
		compare_mbufs(a->pkts[i], b->pkts[i]);
	n_packets += a->n_pkts;
	diff_free(&diff);
}

/* --- host to guest --- */

/* Longest frame for which buffers that are not merged have room. */
static uint32_t
max_frame(void)
{
	return has(VIRTIO_NET_F_MRG_RXBUF) ? 9000 : 1900;
}

static void
guest_offers(void)
{
	uint32_t cut[DIFF_MAX_PIECES];
	uint16_t n, i;
	bool table;

	do {
		uint32_t len = max_frame() == 1900 ? 2000 + below(500) : 800 + below(3000);

		n = (uint16_t)(1 + below(one_in(3) ? 4 : 1));
		table = has(VIRTIO_RING_F_INDIRECT_DESC) && one_in(2);
		/* Chains and tables in packed rings: see test_intended.c. */
		if (DIFF_PACKED)
			n = 1;
		/* The header lies in the first piece. */
		for (i = 0; i + 1 < n; i++) {
			cut[i] = 16 + below(len / 4);
			len -= cut[i];
		}
		cut[n - 1] = len;
	} while (diff_offer(&diff, cut, n, table ? 0 : n));
}

/* What the application may ask for this frame. */
static void
ask_guest(struct diff_packet *packet, const struct frame_spec *spec, const struct frame *frame,
	uint8_t gso)
{
	const bool partial = has(VIRTIO_NET_F_GUEST_CSUM);

	packet->l2_len = frame->l2_len;
	packet->l3_len = frame->l3_len;
	packet->l4_len = frame->l4_len;
	packet->ol_flags |= spec->ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
	if (!spec->ipv6 && one_in(2))
		packet->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	/* net_vhost looks there for the kind of checksum. */
	packet->packet_type = spec->proto == FRAME_UDP ? RTE_PTYPE_L4_UDP : 0;
	if (spec->proto == FRAME_TCP && (partial || !legacy))
		packet->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
	else if (spec->proto == FRAME_UDP && (partial || !legacy))
		packet->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
	else if (spec->proto == FRAME_SCTP && partial)
		packet->ol_flags |= RTE_MBUF_F_TX_SCTP_CKSUM;
	if (gso == 0)
		return;
	packet->tso_segsz = (uint16_t)(100 + below(1400));
	packet->ol_flags |= gso == VIRTIO_NET_HDR_GSO_UDP ? RTE_MBUF_F_TX_UDP_SEG
							  : RTE_MBUF_F_TX_TCP_SEG;
	/* Pseudo-headers of segments: see test_intended.c. */
	packet->ignore_at = frame->l4_at + (uint32_t)frame->csum_offset;
}

static struct diff_packet
random_packet(uint8_t *data)
{
	struct diff_packet packet = {.data = data, .vlan_tci = (uint16_t)below(65536)};
	struct frame_spec spec = random_spec();
	struct frame frame;
	uint8_t gso = 0;

	if (one_in(3)) {
		packet.len = 14 + below(RTE_MIN(random_payload() + 1, max_frame() - 20));
		packet_fill(data, packet.len, below(UINT32_MAX));
		packet.first_len = one_in(3) ? MIN_TAGGED + 2 * below(500) : 0;
	} else {
		if (has(VIRTIO_NET_F_GUEST_CSUM) && has(VIRTIO_NET_F_MRG_RXBUF))
			gso = random_gso(&spec, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
				VIRTIO_NET_F_GUEST_UFO);
		spec.payload = RTE_MIN(gso != 0 ? 1 + below(20000) : spec.payload,
			gso != 0 ? 20000u : max_frame() - 200);
		frame = frame_build(data, &spec);
		packet.len = frame.len;
		packet.first_len = one_in(3) ? MIN_FIRST + 2 * below(500) : 0;
		if (!one_in(3))
			ask_guest(&packet, &spec, &frame, gso);
	}
	if (one_in(6)) {
		packet.ol_flags |= RTE_MBUF_F_TX_VLAN;
		if (packet.ignore_at != 0)
			packet.ignore_at += 4;
	}
	return packet;
}

static void
compare_deliveries(const struct diff_packet *packet)
{
	/* net_vhost leaves the field alone where buffers are not merged. */
	if (!has(VIRTIO_NET_F_MRG_RXBUF)) {
		assert_int_equal(got[DIFF_DYNVHOST].hdr.num_buffers,
			diff.side[0].nic.hdr_len == sizeof(got[0].hdr));
		got[DIFF_VHOST].hdr.num_buffers = got[DIFF_DYNVHOST].hdr.num_buffers;
	}
	assert_memory_equal(&got[DIFF_VHOST].hdr, &got[DIFF_DYNVHOST].hdr, sizeof(got[0].hdr));
	assert_int_equal(got[DIFF_VHOST].len, got[DIFF_DYNVHOST].len);
	if (packet->ignore_at != 0)
		memcpy(got[DIFF_VHOST].data + packet->ignore_at,
			got[DIFF_DYNVHOST].data + packet->ignore_at, 2);
	assert_memory_equal(got[DIFF_VHOST].data, got[DIFF_DYNVHOST].data, got[DIFF_DYNVHOST].len);
}

static void
host_sends(void)
{
	struct diff_packet packet[DIFF_MAX_BURST];
	uint16_t n = (uint16_t)(1 + below(DIFF_MAX_BURST));
	uint16_t taken[DIFF_SIDES];
	unsigned int at = 0;
	uint16_t i;

	for (i = 0; i < n; i++)
		packet[i] = random_packet(host_bytes[i]);
	diff_transmit(&diff, packet, n, taken);
	assert_int_equal(taken[DIFF_VHOST], taken[DIFF_DYNVHOST]);
	compare_used();
	for (i = 0; i < taken[0]; i++) {
		unsigned int n_bufs = diff_deliver(&diff.side[DIFF_VHOST], at, &got[DIFF_VHOST]);

		assert_int_not_equal(n_bufs, 0);
		assert_int_equal(
			diff_deliver(&diff.side[DIFF_DYNVHOST], at, &got[DIFF_DYNVHOST]), n_bufs);
		compare_deliveries(&packet[i]);
		at += n_bufs;
	}
	assert_int_equal(at, diff.side[0].used.n);
	n_packets += taken[0];
}

/* Ask for signals, or for none. */
static void
guest_wishes(unsigned int index)
{
	const bool suppress = one_in(2);

	DIFF_FOREACH(&diff, side)
	{
		if (DIFF_PACKED)
			packed_ring_suppress_calls(&side->nic.ring[index].packed, suppress);
		else if (has(VIRTIO_RING_F_EVENT_IDX))
			split_ring_set_used_event(&side->nic.ring[index].ring,
				(uint16_t)(side->nic.ring[index].ring.used_idx +
					   (suppress ? 3 : 0)));
		else
			split_ring_suppress_calls(&side->nic.ring[index].ring, suppress);
	}
}

static void
run_session(void)
{
	uint64_t end = n_packets + rig_repeats(SESSION, SESSION_LONG);

	random_state = session_seed != 0 ? session_seed : 1;
	/* Seeds that are neighbours begin alike. */
	for (unsigned int i = 0; i < 8; i++)
		below(2);
	open_session();
	while (n_packets < end) {
		unsigned int n = below(24);

		while (n-- > 0 && guest_sends())
			continue;
		host_receives();
		guest_offers();
		host_sends();
		if (one_in(8))
			guest_wishes(one_in(2) ? NIC_RX(0) : NIC_TX(0));
	}
	diff_close(&diff);
}

static uint64_t
setting(const char *name, uint64_t usual)
{
	const char *value = getenv(name);

	return value != NULL ? strtoull(value, NULL, 0) : usual;
}

static void
test_both_drivers_do_the_same(void **state)
{
	uint64_t goal = setting("DYNVHOST_TEST_PACKETS", rig_repeats(PACKETS, PACKETS_LONG));
	uint64_t seed = setting("DYNVHOST_TEST_SEED", 20261120);

	printf("# %" PRIu64 " packets from seed %" PRIu64 "\n", goal, seed);
	for (n_packets = 0; n_packets < goal; seed++) {
		session_seed = seed;
		run_session();
	}
	session_seed = 0;
	printf("# %" PRIu64 " packets compared\n", n_packets);
}

static int
teardown(void **state)
{
	if (session_seed != 0)
		print_error("replay: DYNVHOST_TEST_LONG=%d DYNVHOST_TEST_SEED=%" PRIu64
			    " DYNVHOST_TEST_PACKETS=1 "
			    "(features 0x%" PRIx64 ", devargs %s, after %" PRIu64 " packets)\n",
			rig_repeats(0, 1), session_seed, diff.config.features, diff.config.devargs,
			n_packets);
	diff_close(&diff);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_drivers_do_the_same, rig_setup, teardown),
	};

	rig_program(DIFF_PACKED ? "diff-packed" : "diff-split", 150);
	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
