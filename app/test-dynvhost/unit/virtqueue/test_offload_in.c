/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* What the header of a packet from the guest says becomes flags of the mbuf, or is done. */

#include <string.h>

#include "frame.h"
#include "offload_in.h"

static void
partial_checksums_are_left_to_the_application(void **state)
{
	struct bed *bed = open_bed(BED_CSUM);
	unsigned int i;

	for (i = 0; i < FRAME_KINDS; i++) {
		const struct frame_spec spec = frame_kind(i);
		struct frame frame = frame_build(sent_frame, &spec);
		const struct virtio_net_hdr hdr = csum_hdr(&frame);

		frame_make_partial(sent_frame, &frame);
		deliver(bed, &hdr, frame.len,
			&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE,
				.packet_type = packet_type(&spec)});
		expect_unchanged(frame.len);
	}
}

static void
checksums_are_completed_where_the_application_takes_no_partial_ones(void **state)
{
	struct bed *bed = open_bed(BED_CSUM);
	unsigned int i;

	bed->vq.app.complete_tcp = true;
	bed->vq.app.complete_udp = true;
	for (i = 0; i < FRAME_KINDS; i++) {
		const struct frame_spec spec = frame_kind(i);
		struct rte_mempool *pool = i % 3 == 0 ? bed_small_pool() : bed_pool();
		struct frame frame = frame_build(sent_frame, &spec);
		const struct virtio_net_hdr hdr = csum_hdr(&frame);

		frame_make_partial(sent_frame, &frame);
		deliver_to(bed, pool, &hdr, frame.len,
			&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD,
				.packet_type = packet_type(&spec)});
		assert_true(frame_is_complete(received, &frame));
		frame_build(sent_frame, &spec);
		expect_unchanged(frame.len);
	}
}

static void
each_protocol_is_completed_by_itself(void **state)
{
	const struct frame_spec spec[] = {
		{.proto = FRAME_TCP, .payload = 100},
		{.proto = FRAME_UDP, .payload = 100},
	};
	struct bed *bed = open_bed(BED_CSUM);
	unsigned int i, k;

	for (i = 0; i < 4; i++) {
		bed->vq.app.complete_tcp = i == 0;
		bed->vq.app.complete_udp = i == 1;
		for (k = 0; k < 2; k++) {
			struct frame frame = frame_build(sent_frame, &spec[k]);
			const struct virtio_net_hdr hdr = csum_hdr(&frame);

			frame_make_partial(sent_frame, &frame);
			deliver(bed, &hdr, frame.len,
				&(struct saying){.ol_flags = i == k ? RTE_MBUF_F_RX_L4_CKSUM_GOOD
								    : RTE_MBUF_F_RX_L4_CKSUM_NONE,
					.packet_type = packet_type(&spec[k])});
		}
	}
}

/* RFC 768: a checksum of 0 says that there is none. */
static void
checksum_of_udp_is_never_zero(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_UDP, .payload = 2};
	struct bed *bed = open_bed(BED_CSUM);
	struct frame frame = frame_build(sent_frame, &spec);
	const struct virtio_net_hdr hdr = csum_hdr(&frame);
	uint16_t sum;

	bed->vq.app.complete_udp = true;
	frame_make_partial(sent_frame, &frame);
	/* The payload that makes the whole sum 0xffff. */
	memset(sent_frame + frame.len - 2, 0, 2);
	sum = (uint16_t)~frame_sum(sent_frame + frame.l4_at, frame.len - frame.l4_at);
	sent_frame[frame.len - 2] = (uint8_t)(sum >> 8);
	sent_frame[frame.len - 1] = (uint8_t)sum;
	deliver(bed, &hdr, frame.len,
		&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD,
			.packet_type = packet_type(&spec)});
	assert_memory_equal(received + frame.l4_at + 6, "\xff\xff", 2);
}

/* Complete the checksum of sent[] from @p start on as the guest asks; an independent way. */
static void
complete_sent(uint32_t len, uint32_t start, uint32_t offset)
{
	uint16_t csum = (uint16_t)~frame_sum(sent_frame + start, len - start);

	if (csum == 0)
		csum = 0xffff;
	sent_frame[start + offset] = (uint8_t)(csum >> 8);
	sent_frame[start + offset + 1] = (uint8_t)csum;
}

/* As of a tunnel's inner packet, or of a protocol nobody knows. */
static void
checksums_that_no_flag_describes_are_completed(void **state)
{
	static const struct frame_spec spec[] = {
		{.proto = FRAME_UDP, .payload = 400},
		{.proto = FRAME_TCP, .payload = 400, .ipv6 = true},
		{.proto = 99, .payload = 400},
		{.proto = FRAME_UDP, .payload = 400, .fragment = true},
	};
	static const struct {
		uint16_t start, offset;
	} place[] = {{84, 16}, {34, 7}, {63, 0}, {62, 1}, {101, 28}, {0, 200}, {300, 5}};
	struct bed *bed = open_bed(BED_CSUM);
	unsigned int i, k;

	bed->vq.app.complete_udp = true;
	for (i = 0; i < RTE_DIM(spec); i++) {
		for (k = 0; k < 2 * RTE_DIM(place); k++) {
			bool small = k >= RTE_DIM(place);
			struct frame frame = frame_build(sent_frame, &spec[i]);
			const struct virtio_net_hdr hdr = {
				.flags = NEEDS_CSUM,
				.csum_start = place[k % RTE_DIM(place)].start,
				.csum_offset = place[k % RTE_DIM(place)].offset,
			};

			deliver_to(bed, small ? bed_small_pool() : bed_pool(), &hdr, frame.len,
				&(struct saying){.packet_type = packet_type(&spec[i])});
			complete_sent(frame.len, hdr.csum_start, hdr.csum_offset);
			expect_unchanged(frame.len);
		}
	}
}

static void
partial_checksum_of_sctp_is_left_to_the_application(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_SCTP, .payload = 100};
	struct bed *bed = open_bed(BED_CSUM);
	struct frame frame = frame_build(sent_frame, &spec);
	const struct virtio_net_hdr hdr = {
		.flags = NEEDS_CSUM, .csum_start = frame.l4_at, .csum_offset = 8};

	bed->vq.app.complete_tcp = true;
	bed->vq.app.complete_udp = true;
	deliver(bed, &hdr, frame.len,
		&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE,
			.packet_type = packet_type(&spec)});
	expect_unchanged(frame.len);
}

static void
segments_become_large_received_packets(void **state)
{
	static const uint32_t payload[] = {1200, 9000, 65000};
	unsigned int i, k;

	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		struct bed *bed = open_bed(BED_CSUM | gso_cases[i].features);

		for (k = 0; k < 2 * RTE_DIM(payload); k++) {
			bool complete = k >= RTE_DIM(payload);
			struct virtio_net_hdr hdr;
			struct frame frame = build_gso(&gso_cases[i], payload[k % 3], &hdr);
			uint64_t csum = complete ? RTE_MBUF_F_RX_L4_CKSUM_GOOD
						 : RTE_MBUF_F_RX_L4_CKSUM_NONE;

			bed->vq.app.complete_tcp = complete;
			bed->vq.app.complete_udp = complete;
			/* Segments without NEEDS_CSUM have a partial checksum all the same. */
			if (k == 0)
				hdr.flags = 0;
			deliver(bed, &hdr, frame.len,
				&(struct saying){.ol_flags = csum | RTE_MBUF_F_RX_LRO,
					.tso_segsz = 1000,
					.packet_type = packet_type(&gso_cases[i].spec)});
			if (complete)
				assert_true(frame_is_complete(received, &frame));
			else
				expect_unchanged(frame.len);
		}
		bed_teardown(NULL);
	}
}

static void
legacy_gso_stands_for_all_tcp_segments(void **state)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		struct bed *bed = open_bed(BED_CSUM | GSO_FEATURE);
		struct virtio_net_hdr hdr;
		struct frame frame = build_gso(&gso_cases[i], 3000, &hdr);

		deliver(bed, &hdr, frame.len,
			&(struct saying){
				.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_LRO,
				.tso_segsz = 1000,
				.packet_type = packet_type(&gso_cases[i].spec)});
		bed_teardown(NULL);
	}
}

static void
legacy_flags_say_what_a_sender_asks_for(void **state)
{
	struct bed *bed = open_bed(ALL_HOST);
	unsigned int i;

	bed->vq.app.legacy_ol_flags = true;
	for (i = 0; i < FRAME_KINDS; i++) {
		const struct frame_spec spec = frame_kind(i);
		struct frame frame = frame_build(sent_frame, &spec);
		const struct virtio_net_hdr hdr = csum_hdr(&frame);

		frame_make_partial(sent_frame, &frame);
		deliver(bed, &hdr, frame.len,
			&(struct saying){
				.ol_flags = (spec.ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4) |
					    (spec.proto == FRAME_TCP ? RTE_MBUF_F_TX_TCP_CKSUM
								     : RTE_MBUF_F_TX_UDP_CKSUM),
				.l2_len = frame.l2_len,
				.l3_len = frame.l3_len});
		expect_unchanged(frame.len);
	}
	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		const struct frame_spec *gso = &gso_cases[i].spec;
		bool tcp = gso->proto == FRAME_TCP;
		struct virtio_net_hdr hdr;
		struct frame frame = build_gso(&gso_cases[i], 5000, &hdr);

		deliver(bed, &hdr, frame.len,
			&(struct saying){
				.ol_flags = (gso->ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4) |
					    (tcp ? RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_TCP_SEG
						 : RTE_MBUF_F_TX_UDP_CKSUM | RTE_MBUF_F_TX_UDP_SEG),
				.l2_len = frame.l2_len,
				.l3_len = frame.l3_len,
				.l4_len = frame.l4_len,
				.tso_segsz = 1000});
		expect_unchanged(frame.len);
	}
}

static void
legacy_flags_do_not_stand_for_what_they_can_not_say(void **state)
{
	/* 800 bytes of extensions, where an mbuf can name 511 of layer 3. */
	struct frame_spec spec = {.proto = FRAME_TCP, .ipv6 = true, .ip_options = 248};
	struct bed *bed = open_bed(ALL_HOST);
	struct frame frame = frame_build(sent_frame, &spec);
	uint32_t len = frame.len + 552;
	struct virtio_net_hdr hdr = csum_hdr(&frame);

	bed->vq.app.legacy_ol_flags = true;
	/* The options' header says that it is longer, and all behind it moves there. */
	memmove(sent_frame + frame.l4_at + 552, sent_frame + frame.l4_at, frame.l4_len);
	memset(sent_frame + frame.l4_at, 0, 552);
	sent_frame[frame.l2_len + 41] = 800 / 8 - 1;
	hdr.csum_start += 552;
	deliver(bed, &hdr, len, &(struct saying){0});
	complete_sent(len, hdr.csum_start, hdr.csum_offset);
	expect_unchanged(len);

	hdr.gso_type = TCPV6;
	hdr.gso_size = 8;
	expect_dropped(bed, &hdr, len);

	/* And in a tunnel, as without them. */
	frame = frame_build(sent_frame, &(struct frame_spec){.proto = FRAME_UDP, .payload = 99});
	hdr = (struct virtio_net_hdr){.flags = NEEDS_CSUM, .csum_start = 60, .csum_offset = 6};
	deliver(bed, &hdr, frame.len, &(struct saying){0});
	complete_sent(frame.len, 60, 6);
	expect_unchanged(frame.len);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(partial_checksums_are_left_to_the_application),
		BED_TEST(checksums_are_completed_where_the_application_takes_no_partial_ones),
		BED_TEST(each_protocol_is_completed_by_itself),
		BED_TEST(checksum_of_udp_is_never_zero),
		BED_TEST(checksums_that_no_flag_describes_are_completed),
		BED_TEST(partial_checksum_of_sctp_is_left_to_the_application),
		BED_TEST(segments_become_large_received_packets),
		BED_TEST(legacy_gso_stands_for_all_tcp_segments),
		BED_TEST(legacy_flags_say_what_a_sender_asks_for),
		BED_TEST(legacy_flags_do_not_stand_for_what_they_can_not_say),
	};

	return bed_run(tests);
}
