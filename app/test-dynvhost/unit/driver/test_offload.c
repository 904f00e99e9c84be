/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Offloads of a whole port: what is offered to the guest, what is announced to the application, and
 * that what the application configures is what it gets.
 */

#include <string.h>

#include <rte_ethdev.h>

#include "frame.h"
#include "rig.h"

#define BIT(n) (1ull << (n))

#define CSUM_FEATURES                                                                         \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_UFO) | BIT(VIRTIO_NET_F_GUEST_CSUM) | \
		BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |                 \
		BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_UFO))
#define TSO_FEATURES                                                                              \
	(BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) | \
		BIT(VIRTIO_NET_F_GSO))

#define RX_CKSUMS (RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)
#define TX_CKSUMS                                                       \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | \
		RTE_ETH_TX_OFFLOAD_UDP_CKSUM)

static uint8_t bytes[PACKET_MAX + 12];
static uint8_t *const frame_bytes = bytes + 12;

static struct rig *
open_rig(const char *devargs, uint64_t features)
{
	const struct rig_config config = {
		.port = {.devargs = devargs},
		.nic = {.features = NIC_FEATURES | features},
	};

	rig_open(rig_main(), &config);
	return rig_main();
}

/* Configure and start the port anew, with these receive offloads. */
static void
reconfigure(struct rig *rig, uint64_t rx_offloads)
{
	const struct rte_eth_conf conf = {.rxmode = {.offloads = rx_offloads}};
	uint16_t id = rig->port.id;

	port_stop(&rig->port);
	assert_int_equal(rte_eth_dev_configure(id, 1, 1, &conf), 0);
	assert_int_equal(rte_eth_rx_queue_setup(id, 0, 0, SOCKET_ID_ANY, NULL, rig->port.pool), 0);
	assert_int_equal(rte_eth_tx_queue_setup(id, 0, 0, SOCKET_ID_ANY, NULL), 0);
	assert_int_equal(rte_eth_dev_start(id), 0);
	port_wait_link(&rig->port, true);
}

/* Send what is in bytes[], header and frame. @return the packet. */
static struct rte_mbuf *
send_bytes(struct rig *rig, uint32_t len)
{
	uint32_t cut = 12 + len;
	struct rte_mbuf *pkt;

	assert_true(nic_send_cut(&rig->nic, 0, bytes, &cut, 1));
	assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
	nic_reap_tx(&rig->nic, 0);
	return pkt;
}

static struct rte_mbuf *
send_partial(struct rig *rig, const struct frame_spec *spec, struct frame *frame)
{
	struct virtio_net_hdr hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};

	*frame = frame_build(frame_bytes, spec);
	frame_make_partial(frame_bytes, frame);
	hdr.csum_start = frame->l4_at;
	hdr.csum_offset = frame->csum_offset;
	memset(bytes, 0, 12);
	memcpy(bytes, &hdr, sizeof(hdr));
	return send_bytes(rig, frame->len);
}

static void
test_features_are_those_of_the_arguments(void **state)
{
	static const struct {
		const char *devargs;
		uint64_t features;
	} cases[] = {
		{NULL, CSUM_FEATURES},
		{"csum=0", 0},
		{"tso=1", CSUM_FEATURES | TSO_FEATURES},
		{"legacy-ol-flags=1,linear-buffer=1,ext-buffer=1", CSUM_FEATURES},
		{"tso=1,linear-buffer=1,ext-buffer=1", CSUM_FEATURES | TSO_FEATURES},
		{"tso=1,linear-buffer=1", CSUM_FEATURES & ~BIT(VIRTIO_NET_F_HOST_UFO)},
	};
	size_t i;

	for (i = 0; i < RTE_DIM(cases); i++) {
		struct rig *rig = open_rig(cases[i].devargs, 0);

		assert_int_equal(fe_get_features(&rig->fe) & (CSUM_FEATURES | TSO_FEATURES),
			cases[i].features);
		rig_close(rig);
	}
}

static void
test_capabilities_are_announced(void **state)
{
	struct rte_eth_dev_info info;
	struct rig *rig = open_rig(NULL, 0);

	assert_int_equal(rte_eth_dev_info_get(rig->port.id, &info), 0);
	assert_int_equal(info.rx_offload_capa, RTE_ETH_RX_OFFLOAD_VLAN_STRIP | RX_CKSUMS);
	assert_int_equal(info.tx_offload_capa,
		RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_VLAN_INSERT | TX_CKSUMS);
	rig_close(rig);

	rig = open_rig("legacy-ol-flags=1", 0);
	assert_int_equal(rte_eth_dev_info_get(rig->port.id, &info), 0);
	assert_int_equal(info.rx_offload_capa, RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
	assert_int_equal(info.tx_offload_capa,
		RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
}

static void
test_checksums_are_completed_unless_the_application_takes_partial_ones(void **state)
{
	static const uint64_t offloads[] = {
		0, RTE_ETH_RX_OFFLOAD_TCP_CKSUM, RTE_ETH_RX_OFFLOAD_UDP_CKSUM, RX_CKSUMS};
	struct rig *rig = open_rig(NULL, CSUM_FEATURES);
	unsigned int i, udp;

	for (i = 0; i < RTE_DIM(offloads); i++) {
		reconfigure(rig, offloads[i]);
		for (udp = 0; udp < 2; udp++) {
			const struct frame_spec spec = {
				.proto = udp ? FRAME_UDP : FRAME_TCP, .payload = 77};
			bool taken = (offloads[i] & (udp ? RTE_ETH_RX_OFFLOAD_UDP_CKSUM
							 : RTE_ETH_RX_OFFLOAD_TCP_CKSUM)) != 0;
			struct frame frame;
			struct rte_mbuf *pkt = send_partial(rig, &spec, &frame);

			assert_int_equal(pkt->ol_flags,
				taken ? RTE_MBUF_F_RX_L4_CKSUM_NONE : RTE_MBUF_F_RX_L4_CKSUM_GOOD);
			assert_int_equal(
				frame_is_complete(rte_pktmbuf_mtod(pkt, uint8_t *), &frame),
				!taken);
			rte_pktmbuf_free(pkt);
		}
	}
}

static void
test_legacy_flags_are_for_passing_on(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 77};
	struct rig *rig = open_rig("legacy-ol-flags=1", CSUM_FEATURES);
	struct nic_packet packet;
	struct rte_mbuf *pkt;
	struct frame frame;

	pkt = send_partial(rig, &spec, &frame);
	assert_int_equal(pkt->ol_flags, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM);
	assert_int_equal(port_tx_wait(&rig->port, 0, &pkt, 1), 1);
	assert_true(nic_receive(&rig->nic, 0, bytes, sizeof(bytes), &packet));
	assert_int_equal(packet.len, frame.len);
	assert_int_equal(packet.hdr.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(packet.hdr.hdr.csum_start, frame.l4_at);
	assert_int_equal(packet.hdr.hdr.csum_offset, frame.csum_offset);
}

static void
test_tags_are_stripped_where_that_is_configured(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_UDP, .payload = 77, .tagged = true};
	struct rig *rig = open_rig(NULL, 0);
	struct frame frame;
	int on;

	memset(bytes, 0, 12);
	frame = frame_build(frame_bytes, &spec);
	/* At run time, then by configuration. */
	for (on = 0; on < 4; on++) {
		struct rte_mbuf *pkt;
		bool strip = on % 2 != 0;

		if (on < 2)
			assert_int_equal(rte_eth_dev_set_vlan_offload(rig->port.id,
						 strip ? RTE_ETH_VLAN_STRIP_OFFLOAD : 0),
				0);
		else
			reconfigure(rig, strip ? RTE_ETH_RX_OFFLOAD_VLAN_STRIP : 0);
		pkt = send_bytes(rig, frame.len);
		assert_int_equal(pkt->pkt_len, frame.len - (strip ? 4 : 0));
		assert_int_equal(pkt->ol_flags,
			strip ? RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED : 0);
		assert_int_equal(pkt->vlan_tci, strip ? FRAME_TAG : 0);
		assert_memory_equal(rte_pktmbuf_mtod(pkt, void *), frame_bytes, 12);
		assert_memory_equal(rte_pktmbuf_mtod_offset(pkt, void *, strip ? 12 : 16),
			frame_bytes + 16, frame.len - 16);
		rte_pktmbuf_free(pkt);
	}
}

/* H87 */
static void
test_frames_that_end_in_their_tag_are_dropped(void **state)
{
	struct rig *rig = open_rig(NULL, 0);
	struct rte_eth_stats stats;
	struct rte_mbuf *pkt;
	uint32_t len, cut;

	reconfigure(rig, RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
	memset(bytes, 0, sizeof(bytes));
	memcpy(frame_bytes + 12, "\x81\x00\x00\x07", 4);
	for (len = 14; len < 18; len++) {
		cut = 12 + len;
		assert_true(nic_send_cut(&rig->nic, 0, bytes, &cut, 1));
	}
	pkt = send_bytes(rig, 18);
	assert_int_equal(pkt->pkt_len, 14);
	assert_int_equal(pkt->vlan_tci, 7);
	rte_pktmbuf_free(pkt);
	assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
	assert_int_equal(stats.ierrors, 4);
}

static void
test_packet_types_are_for_those_who_ask(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 77, .ipv6 = true};
	const uint32_t type = RTE_PTYPE_L2_ETHER | RTE_PTYPE_L3_IPV6 | RTE_PTYPE_L4_TCP;
	struct rig *rig = open_rig(NULL, 0);
	uint32_t types[64], set[4];
	struct rte_mbuf *pkt;
	struct frame frame;
	unsigned int step;
	int n;

	frame = frame_build(frame_bytes, &spec);
	for (step = 0; step < 5; step++) {
		static const uint32_t want[] = {0, type, 0, RTE_PTYPE_L3_IPV6 | RTE_PTYPE_L4_TCP,
			RTE_PTYPE_L3_IPV6 | RTE_PTYPE_L4_TCP};

		if (step == 1 || step == 4) {
			n = rte_eth_dev_get_supported_ptypes(
				rig->port.id, RTE_PTYPE_ALL_MASK, types, RTE_DIM(types));
			assert_in_range(n, 10, RTE_DIM(types));
		} else if (step == 2) {
			assert_int_equal(rte_eth_dev_set_ptypes(rig->port.id, 0, NULL, 0), 0);
		} else if (step == 3) {
			assert_int_equal(
				rte_eth_dev_set_ptypes(rig->port.id,
					RTE_PTYPE_L3_MASK | RTE_PTYPE_L4_MASK, set, RTE_DIM(set)),
				0);
		}
		memset(bytes, 0, 12);
		pkt = send_bytes(rig, frame.len);
		assert_int_equal(pkt->packet_type, want[step]);
		rte_pktmbuf_free(pkt);
	}
}

static void
test_tags_are_inserted(void **state)
{
	struct rig *rig = open_rig(NULL, 0);
	struct rte_mbuf *pkt = port_packet(&rig->port, 300, 5, 0);
	struct nic_packet packet;

	pkt->ol_flags = RTE_MBUF_F_TX_VLAN;
	pkt->vlan_tci = 0x123;
	assert_int_equal(port_tx_wait(&rig->port, 0, &pkt, 1), 1);
	assert_true(nic_receive(&rig->nic, 0, bytes, sizeof(bytes), &packet));
	assert_int_equal(packet.len, 304);
	assert_memory_equal(bytes + 12, "\x81\x00\x01\x23", 4);
	memmove(bytes + 4, bytes, 12);
	assert_true(packet_matches(bytes + 4, 300, 5));
}

static void
test_buffers_are_those_of_the_arguments(void **state)
{
	static const struct {
		const char *devargs;
		unsigned int segs; /* 0: dropped */
	} cases[] = {
		{NULL, 5},
		{"linear-buffer=1", 0},
		{"ext-buffer=1", 1},
		{"linear-buffer=1,ext-buffer=1", 1},
	};
	struct rte_eth_stats stats;
	size_t i;

	for (i = 0; i < RTE_DIM(cases); i++) {
		struct rig *rig = open_rig(cases[i].devargs, 0);
		struct rte_mbuf *pkt;

		packet_fill(bytes, 9000, 1);
		assert_true(nic_send(&rig->nic, 0, bytes, 9000));
		assert_true(nic_send(&rig->nic, 0, bytes, 100));
		if (cases[i].segs != 0) {
			assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
			assert_int_equal(pkt->nb_segs, cases[i].segs);
			assert_true(port_packet_matches(pkt, 9000, 1));
			rte_pktmbuf_free(pkt);
		}
		assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
		assert_int_equal(pkt->pkt_len, 100);
		rte_pktmbuf_free(pkt);
		assert_int_equal(rte_eth_stats_get(rig->port.id, &stats), 0);
		assert_int_equal(stats.ierrors, cases[i].segs == 0);
		rig_close(rig);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_features_are_those_of_the_arguments),
		RIG_TEST(test_capabilities_are_announced),
		RIG_TEST(test_checksums_are_completed_unless_the_application_takes_partial_ones),
		RIG_TEST(test_legacy_flags_are_for_passing_on),
		RIG_TEST(test_tags_are_stripped_where_that_is_configured),
		RIG_TEST(test_frames_that_end_in_their_tag_are_dropped),
		RIG_TEST(test_packet_types_are_for_those_who_ask),
		RIG_TEST(test_tags_are_inserted),
		RIG_TEST(test_buffers_are_those_of_the_arguments),
	};

	rig_program("offload", 60);
	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
