/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Conformance: the virtio-net header (virtio 1.2 §5.1.6). More in unit/virtqueue/test_offload_*. */

#include <string.h>

#include "conform.h"
#include "frame.h"

static uint8_t bytes[PACKET_MAX];
static uint8_t *const frame_bytes = bytes + 12;

static struct rig *
open_rig(uint64_t features)
{
	const struct rig_config config = {
		.port = {.devargs = "tso=1"},
		.nic = {.features = NIC_FEATURES | features, .buf_len = 4096},
	};

	rig_open(rig_main(), &config);
	return rig_main();
}

/* Send frame_bytes behind a header. */
static void
send_frame(struct rig *rig, const struct virtio_net_hdr *hdr, uint32_t len)
{
	uint32_t cut = 12 + len;

	memset(bytes, 0, 12);
	memcpy(bytes, hdr, sizeof(*hdr));
	assert_true(nic_send_cut(&rig->nic, 0, bytes, &cut, 1));
}

static void
expect_dropped(struct rig *rig, const struct virtio_net_hdr *hdr, uint32_t len)
{
	send_frame(rig, hdr, len);
	rig_expect_nothing_received(rig, 0);
	assert_int_equal(nic_reap_tx(&rig->nic, 0), 1);
}

static void
test_c63_guest_without_offloads_gets_complete_packets(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_UDP, .payload = 500};
	const struct virtio_net_hdr_mrg_rxbuf zero = {.num_buffers = 1};
	struct frame frame = frame_build(frame_bytes, &spec);
	struct rig *rig = open_rig(0);
	struct nic_packet packet;
	struct rte_mbuf *pkt = port_packet(&rig->port, frame.len, 1, 0);

	memcpy(rte_pktmbuf_mtod(pkt, void *), frame_bytes, frame.len);
	pkt->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
	pkt->l2_len = frame.l2_len;
	pkt->l3_len = frame.l3_len;
	assert_int_equal(port_tx_wait(&rig->port, 0, &pkt, 1), 1);
	assert_true(nic_receive(&rig->nic, 0, bytes, sizeof(bytes), &packet));
	assert_memory_equal(&packet.hdr, &zero, sizeof(zero));
	assert_int_equal(packet.len, frame.len);
	assert_true(frame_is_complete(bytes, &frame));
}

static void
test_c64_checksum_out_of_bounds_is_dropped(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 100};
	struct frame frame = frame_build(frame_bytes, &spec);
	struct rig *rig = open_rig(BIT(VIRTIO_NET_F_CSUM));
	struct virtio_net_hdr hdr = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};

	hdr.csum_start = (uint16_t)frame.len;
	expect_dropped(rig, &hdr, frame.len);
	hdr.csum_start = frame.l4_at;
	hdr.csum_offset = (uint16_t)(frame.len - frame.l4_at - 1);
	expect_dropped(rig, &hdr, frame.len);
	rig_exchange(rig, 0, 3);
}

static void
test_c65_segments_not_negotiated_or_of_no_size_are_dropped(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 3000};
	struct frame frame = frame_build(frame_bytes, &spec);
	struct virtio_net_hdr hdr = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1000,
		.csum_start = frame.l4_at,
		.csum_offset = frame.csum_offset,
	};
	struct rig *rig = open_rig(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO6));

	expect_dropped(rig, &hdr, frame.len);
	rig_close(rig);

	rig = open_rig(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4));
	hdr.gso_size = 0;
	expect_dropped(rig, &hdr, frame.len);
	rig_exchange(rig, 0, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_c63_guest_without_offloads_gets_complete_packets),
		RIG_TEST(test_c64_checksum_out_of_bounds_is_dropped),
		RIG_TEST(test_c65_segments_not_negotiated_or_of_no_size_are_dropped),
	};

	rig_program("conform-offload", 60);
	return cmocka_run_group_tests(tests, rig_group_setup, rig_group_teardown);
}
