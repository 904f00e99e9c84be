/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What the header of a packet from the guest may say: what breaks a rule is dropped, and the queue
 * lives (H79 to H87).
 */

#include <pthread.h>
#include <string.h>

#include <rte_mbuf_ptype.h>

#include "frame.h"
#include "mock.h"
#include "net_hdr.h"
#include "offload_in.h"
#include "packet.h"

static void
h79_checksum_outside_the_packet_is_dropped(void **state)
{
	static const struct {
		uint16_t start, offset;
		bool good;
	} place[] = {
		{98, 0, true},
		{99, 0, false},
		{100, 0, false},
		{34, 64, true},
		{34, 65, false},
		{34, 66, false},
		{0, 98, true},
		{0, 99, false},
		{65535, 0, false},
		{0, 65535, false},
		{65535, 65535, false},
		{65535, 1, false},
		{32768, 32768, false},
	};
	struct bed *bed = open_bed(ALL_HOST);
	unsigned int i;

	packet_fill(sent_frame, 100, 1);
	for (i = 0; i < RTE_DIM(place); i++) {
		const struct virtio_net_hdr hdr = {.flags = NEEDS_CSUM,
			.csum_start = place[i].start,
			.csum_offset = place[i].offset};

		if (place[i].good)
			deliver(bed, &hdr, 100,
				&(struct saying){.packet_type = RTE_PTYPE_L2_ETHER});
		else
			expect_dropped(bed, &hdr, 100);
	}
}

static void
h80_what_was_not_negotiated_is_ignored_or_dropped(void **state)
{
	struct virtio_net_hdr hdr;
	struct bed *bed;
	struct frame frame;
	unsigned int i, k;

	/* No offload at all: the header is not even read. */
	bed = open_bed(BED_GUEST_CSUM | BED_GUEST_TSO | BED_HOST_TSO | GSO_FEATURE);
	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		frame = build_gso(&gso_cases[i], 2000, &hdr);
		deliver(bed, &hdr, frame.len, &(struct saying){0});
		expect_unchanged(frame.len);
	}
	bed_teardown(NULL);

	for (k = 0; k < RTE_DIM(gso_cases); k++) {
		bed = open_bed(BED_CSUM | gso_cases[k].features);
		for (i = 0; i < RTE_DIM(gso_cases); i++) {
			frame = build_gso(&gso_cases[i], 2000, &hdr);
			if ((gso_cases[i].features & ~gso_cases[k].features) != 0)
				expect_dropped(bed, &hdr, frame.len);
		}
		bed_teardown(NULL);
	}
}

static void
h81_impossible_segments_are_dropped(void **state)
{
	static const uint8_t bad_type[] = {2, 5, 6, 0x40, 0x7f, ECN, ECN | UDP, ECN | 5, 0xff};
	static const uint16_t bad_size[] = {0, 1, 7, 4000, 65535};
	struct bed *bed = open_bed(ALL_HOST | GSO_FEATURE);
	struct virtio_net_hdr hdr;
	struct frame frame;
	unsigned int i;

	frame = build_gso(&gso_cases[0], 3000, &hdr);
	for (i = 0; i < RTE_DIM(bad_type); i++) {
		hdr.gso_type = bad_type[i];
		expect_dropped(bed, &hdr, frame.len);
	}
	hdr.gso_type = TCPV4;
	for (i = 0; i < RTE_DIM(bad_size); i++) {
		hdr.gso_size = bad_size[i];
		expect_dropped(bed, &hdr, frame.len);
	}
	hdr.gso_size = NET_HDR_MIN_GSO_SIZE;
	deliver(bed, &hdr, frame.len,
		&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_LRO,
			.tso_segsz = NET_HDR_MIN_GSO_SIZE,
			.packet_type = packet_type(&gso_cases[0].spec)});
	/* Checksums of segments lie where those of their protocol do. */
	hdr.csum_start++;
	expect_dropped(bed, &hdr, frame.len);
	hdr.csum_start--;
	hdr.csum_offset = 6;
	expect_dropped(bed, &hdr, frame.len);
}

static void
h81_segments_of_another_protocol_are_dropped(void **state)
{
	static const struct frame_spec other[] = {
		{.proto = FRAME_SCTP},
		{.proto = 99},
		{.proto = FRAME_TCP, .fragment = true},
		{.proto = FRAME_UDP, .fragment = true},
	};
	struct bed *bed = open_bed(ALL_HOST);
	struct virtio_net_hdr hdr;
	struct frame frame;
	unsigned int i, k;

	for (i = 0; i < RTE_DIM(gso_cases); i++) {
		for (k = 0; k < RTE_DIM(gso_cases); k++) {
			if ((gso_cases[i].type & ~ECN) == (gso_cases[k].type & ~ECN))
				continue;
			frame = build_gso(&gso_cases[k], 2000, &hdr);
			hdr.gso_type = gso_cases[i].type;
			expect_dropped(bed, &hdr, frame.len);
		}
		for (k = 0; k < RTE_DIM(other); k++) {
			struct gso_case c = {.type = gso_cases[i].type, .spec = other[k]};

			frame = build_gso(&c, 2000, &hdr);
			expect_dropped(bed, &hdr, frame.len);
			hdr.flags = 0;
			expect_dropped(bed, &hdr, frame.len);
		}
		/* Nothing to segment. */
		frame = build_gso(&gso_cases[i], 0, &hdr);
		hdr.gso_size = 8;
		expect_dropped(bed, &hdr, frame.len);
	}
}

static void
h82_hdr_len_is_not_looked_at(void **state)
{
	static const uint16_t hdr_len[] = {0, 1, 14, 54, 1000, 65535};
	struct bed *bed = open_bed(ALL_HOST);
	unsigned int i;

	for (i = 0; i < RTE_DIM(hdr_len); i++) {
		struct virtio_net_hdr hdr;
		struct frame frame = build_gso(&gso_cases[0], 2000, &hdr);

		hdr.hdr_len = hdr_len[i];
		deliver(bed, &hdr, frame.len,
			&(struct saying){
				.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_LRO,
				.tso_segsz = 1000,
				.packet_type = packet_type(&gso_cases[0].spec)});
	}
}

/* One packet that may be dropped or not; the queue lives. */
static void
survive(struct bed *bed, const struct virtio_net_hdr *hdr, uint32_t len)
{
	uint16_t head = send_frame(bed, hdr, len);
	uint16_t n = bed_dequeue(bed, bed->seed++ % 2 ? bed_small_pool() : bed_pool(), 1);

	if (n == 1) {
		assert_int_equal(bed->pkts[0]->pkt_len, len);
		rte_mbuf_sanity_check(bed->pkts[0], 1);
		if (bed->pkts[0]->ol_flags & RTE_MBUF_F_RX_LRO)
			assert_in_range(bed->pkts[0]->tso_segsz, 8, len);
	}
	rte_pktmbuf_free_bulk(bed->pkts, n);
	bed_expect_used(bed, head, 0);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

/* Both checksum and segments, of a frame that is cut at @p len or has a byte changed. */
static void
survive_both(struct bed *bed, struct virtio_net_hdr hdr, uint32_t len)
{
	survive(bed, &hdr, len);
	hdr.flags = 0;
	survive(bed, &hdr, len);
	hdr.flags = NEEDS_CSUM;
	hdr.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	survive(bed, &hdr, len);
}

static void
h83_truncated_and_malformed_headers_are_survived(void **state)
{
	unsigned int i, value;
	uint32_t len;

	for (i = 0; i < 2 * RTE_DIM(gso_cases); i++) {
		struct bed *bed = open_bed(ALL_HOST);
		struct virtio_net_hdr hdr;
		struct frame frame = build_gso(&gso_cases[i / 2], 100, &hdr);

		bed->vq.app.legacy_ol_flags = i & 1;
		bed->vq.app.complete_tcp = !(i & 1);
		hdr.gso_size = 10;
		for (len = DYNVHOST_VQ_MIN_FRAME; len < frame.len; len++)
			survive_both(bed, hdr, len);
		/* Lengths of headers that are any. */
		for (value = 0; value < 16; value++) {
			sent_frame[frame.l2_len] = (uint8_t)(0x40 | value);
			survive_both(bed, hdr, frame.len);
		}
		for (value = 0; value < 16; value++) {
			build_gso(&gso_cases[i / 2], 100, &hdr);
			hdr.gso_size = 10;
			sent_frame[frame.l4_at + 12] = (uint8_t)(value << 4);
			survive_both(bed, hdr, frame.len);
		}
		/* Any type, and any next header, again and again. */
		for (value = 0; value < 256; value++) {
			build_gso(&gso_cases[i / 2], 100, &hdr);
			hdr.gso_size = 10;
			sent_frame[frame.l2_len + (gso_cases[i / 2].spec.ipv6 ? 6 : 9)] =
				(uint8_t)value;
			survive(bed, &hdr, frame.len);
		}
		bed_teardown(NULL);
	}
}

static void
h84_headers_may_lie_across_mbufs(void **state)
{
	struct bed *bed = open_bed(ALL_HOST);
	uint8_t options;

	for (options = 0; options <= 40; options += 4) {
		struct gso_case c = {
			TCPV4, {.proto = FRAME_TCP, .ip_options = options, .l4_options = 40}, 0};
		struct virtio_net_hdr hdr;
		struct frame frame = build_gso(&c, 4000, &hdr);

		deliver_to(bed, bed_small_pool(), &hdr, frame.len,
			&(struct saying){
				.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_LRO,
				.tso_segsz = 1000,
				.packet_type = packet_type(&c.spec)});
		expect_unchanged(frame.len);
	}
}

static void
h85_flags_that_mean_nothing_are_ignored(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 100};
	struct bed *bed = open_bed(ALL_HOST);
	struct frame frame = frame_build(sent_frame, &spec);
	struct virtio_net_hdr hdr = csum_hdr(&frame);

	hdr.flags = 0xff & ~NEEDS_CSUM;
	hdr.csum_start = 65535;
	deliver(bed, &hdr, frame.len, &(struct saying){0});
	expect_unchanged(frame.len);

	hdr = csum_hdr(&frame);
	hdr.flags = 0xff;
	deliver(bed, &hdr, frame.len,
		&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE,
			.packet_type = packet_type(&spec)});
}

/** A guest's processor that rewrites the header. */
struct racer {
	volatile struct virtio_net_hdr *hdr;
	_Atomic bool stop;
};

static void *
race(void *arg)
{
	struct racer *racer = arg;
	uint32_t x = 1;

	while (!atomic_load(&racer->stop)) {
		x = x * 1664525 + 1013904223;
		racer->hdr->flags = (uint8_t)(x >> 28);
		racer->hdr->gso_type = (uint8_t)(x >> 26 & 3);
		racer->hdr->gso_size = (uint16_t)(x >> 20);
		racer->hdr->csum_start = (uint16_t)((x & 3) ? 34 : x >> 16);
		racer->hdr->csum_offset = (uint16_t)((x & 12) ? 16 : x >> 12);
	}
	return NULL;
}

static void
h86_header_rewritten_while_it_is_read_is_survived(void **state)
{
	const struct frame_spec spec = {.proto = FRAME_TCP, .payload = 1000};
	struct bed *bed = open_bed(ALL_HOST);
	struct frame frame = frame_build(sent_frame, &spec);
	const struct dynvhost_vq_stats *stats = &bed->vq.stats;
	uint64_t start = mock_now_ms();
	struct ring_piece piece;
	struct racer racer = {0};
	uint32_t len = BED_HDR_LEN + frame.len;
	pthread_t thread;

	bed_place(bed, &len, 1, false, &piece);
	guest_ram_write(&bed->ram, piece.gpa + BED_HDR_LEN, sent_frame, frame.len);
	racer.hdr = guest_ram_at(&bed->ram, piece.gpa, sizeof(*racer.hdr));
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	/* Long enough, and until the race has gone both ways. */
	while (mock_now_ms() < start + 300 || ((stats->packets == 0 || stats->dropped == 0) &&
						      mock_now_ms() < start + MOCK_DEADLINE_MS)) {
		uint16_t head = bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
		uint16_t n = bed_dequeue(bed, bed_pool(), 1);

		if (n == 1 && (bed->pkts[0]->ol_flags & RTE_MBUF_F_RX_LRO))
			assert_in_range(bed->pkts[0]->tso_segsz, 8, frame.len);
		rte_pktmbuf_free_bulk(bed->pkts, n);
		bed_expect_used(bed, head, 0);
	}
	atomic_store(&racer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
	assert_true(stats->packets > 0 && stats->dropped > 0);
}

static void
header_is_read_from_any_number_of_descriptors(void **state)
{
	static const uint64_t features[] = {BED_V1, 0};
	const struct frame_spec spec = {.proto = FRAME_UDP, .payload = 200};
	unsigned int i, k, n;

	for (i = 0; i < RTE_DIM(features); i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_DEQUEUE, .features = features[i] | BED_CSUM | BED_INDIRECT});
		struct frame frame = frame_build(sent_frame, &spec);
		const struct virtio_net_hdr hdr = csum_hdr(&frame);
		uint8_t *from = sent_frame - bed->vq.hdr_len;

		memset(from, 0xff, bed->vq.hdr_len);
		memcpy(from, &hdr, sizeof(hdr));
		for (n = 1; n <= bed->vq.hdr_len; n++) {
			uint32_t cut[BED_HDR_LEN + 1];
			uint16_t head;

			for (k = 0; k < n; k++)
				cut[k] = 1;
			cut[n] = bed->vq.hdr_len - n + frame.len;
			head = bed_send_bytes(bed, (enum bed_shape)(n % BED_SHAPES), cut,
				(uint16_t)(n + 1), from);
			assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
			expect_saying(bed->pkts[0],
				&(struct saying){.ol_flags = RTE_MBUF_F_RX_L4_CKSUM_NONE,
					.packet_type = packet_type(&spec)});
			rte_pktmbuf_free(bed->pkts[0]);
			bed_expect_used(bed, head, 0);
		}
		bed_teardown(NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(h79_checksum_outside_the_packet_is_dropped),
		BED_TEST(h80_what_was_not_negotiated_is_ignored_or_dropped),
		BED_TEST(h81_impossible_segments_are_dropped),
		BED_TEST(h81_segments_of_another_protocol_are_dropped),
		BED_TEST(h82_hdr_len_is_not_looked_at),
		BED_TEST(h83_truncated_and_malformed_headers_are_survived),
		BED_TEST(h84_headers_may_lie_across_mbufs),
		BED_TEST(h85_flags_that_mean_nothing_are_ignored),
		BED_TEST(h86_header_rewritten_while_it_is_read_is_survived),
		BED_TEST(header_is_read_from_any_number_of_descriptors),
	};

	return bed_run(tests);
}
