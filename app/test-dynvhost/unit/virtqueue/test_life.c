/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A virtqueue's life: what it takes to start, what it pins and through which window, where it
 * begins, and what is left of it after a stop, a move to other memory, and while it is disabled.
 */

#include <errno.h>
#include <string.h>

#include "bed.h"
#include "mock.h"

static void
header_length_follows_the_features(void **state)
{
	static const struct {
		uint64_t features;
		uint8_t len;
	} rows[] = {
		{0, 10},
		{BED_EVENT | BED_INDIRECT, 10},
		{BED_MRG, 12},
		{BED_V1, 12},
		{BED_V1 | BED_MRG, 12},
		{BED_PACKED, 12},
		{UINT64_MAX & ~(BED_V1 | BED_MRG | BED_PACKED), 10},
	};
	unsigned int i;

	for (i = 0; i < RTE_DIM(rows); i++)
		assert_int_equal(dynvhost_vq_hdr_len(rows[i].features), rows[i].len);
}

static void
every_fault_has_words_of_its_own(void **state)
{
	unsigned int i, k;

	for (i = 0; i <= DYNVHOST_VQ_FAULTS; i++) {
		const char *text = dynvhost_vq_fault_text((enum dynvhost_vq_fault)i);

		assert_true(strlen(text) > 5);
		for (k = 0; k < i; k++)
			assert_string_not_equal(
				text, dynvhost_vq_fault_text((enum dynvhost_vq_fault)k));
	}
}

static void
start_refuses_misaligned_areas(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .stopped = true});
	const struct dynvhost_vq_setup good = bed->setup;

	bed->setup.desc_gpa += 8;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EINVAL);
	bed->setup = good;
	bed->setup.avail_gpa += bed_format.event_align / 2;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EINVAL);
	bed->setup = good;
	bed->setup.used_gpa += 2;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EINVAL);
	assert_false(dynvhost_vq_is_started(&bed->vq));
	assert_int_equal(bed_mem_stats(bed).pinned_bytes, 0);

	bed->setup = good;
	bed->setup.desc_gpa += 16;
	bed->setup.avail_gpa += bed_format.event_align;
	bed->setup.used_gpa += 4;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
}

static void
start_pins_the_ring_through_the_windows_it_needs(void **state)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(bed_format.sizes) && bed_format.sizes[i] != 0; i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_DEQUEUE,
			.features = BED_EVENT,
			.size = bed_format.sizes[i],
			.mem.granule = GUEST_RAM_PAGE,
		});
		uint64_t loadable = bed_ring_loadable(bed_format.sizes[i]);
		uint64_t storable = bed_ring_storable(bed_format.sizes[i]);

		assert_int_equal(bed_mem_stats(bed).pinned_bytes, loadable + storable);
		assert_int_equal(bed_mem_stats(bed).loadable_bytes, loadable + storable);
		assert_int_equal(bed_mem_stats(bed).storable_bytes, storable);
		dynvhost_vq_stop(&bed->vq);
		assert_int_equal(bed_mem_stats(bed).pinned_bytes, 0);
		bed_teardown(NULL);
	}
}

static void
start_tells_the_driver_not_to_kick(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE});

	assert_true(bed_kicks_suppressed(bed));
}

static void
stopped_queue_touches_nothing(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .start = 65535});

	bed_send_plain(bed, 60, 1);
	bed_send_plain(bed, 60, 2);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_used(bed, 0, 0);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed->setup.base = dynvhost_vq_stop(&bed->vq);
	assert_int_equal(bed->setup.base, bed_base(bed, 65536));
	assert_null(bed->vq.split.used);
	assert_null(bed->vq.packed.desc);
	assert_int_equal(bed_mem_stats(bed).pinned_bytes, 0);

	bed_freeze(bed);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_memory(bed);

	/* Traffic goes on where it was left. */
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 2, BED_ROOM);
	bed_expect_used(bed, 1, 0);
}

static void
bursts_move_packets_in_the_ring_s_direction_only(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	bed_send_plain(bed, 60, 1);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 1)), 0);
	bed_teardown(NULL);

	bed = bed_open(&(struct bed_config){.index = BED_ENQUEUE, .features = BED_V1});
	bed_offer_plain(bed, 2048);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 1);
}

static void
pending_counts_what_was_not_taken(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1, .size = 4, .start = 65534});

	assert_int_equal(dynvhost_vq_pending(&bed->vq), 0);
	bed_send_plain(bed, 60, 1);
	bed_send_plain(bed, 60, 2);
	bed_send_plain(bed, 60, 3);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 3);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 2), 2);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_packet(bed->pkts[1], 60, 2, BED_ROOM);
	bed_send_plain(bed, 60, 4);
	bed_expect_used(bed, 0, 0);
	bed_expect_used(bed, 1, 0);
	bed_send_plain(bed, 60, 5);
	bed_send_plain(bed, 60, 6);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 4);
}

static void
disabled_transmit_ring_is_drained_unread(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .start = 65530});
	uint64_t opens;
	uint16_t i;

	for (i = 0; i < 40; i++)
		bed_send_plain(bed, 60, i);
	dynvhost_vq_set_enabled(&bed->vq, false);
	opens = bed_mem_stats(bed).opens;
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	for (i = 0; i < 32; i++)
		bed_expect_used(bed, i, 0);
	bed_expect_memory(bed);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.discarded = 32});
	assert_int_equal(bed_mem_stats(bed).opens, opens);

	dynvhost_vq_set_enabled(&bed->vq, true);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 8);
	for (i = 0; i < 8; i++) {
		bed_expect_packet(bed->pkts[i], 60, 32u + i, BED_ROOM);
		bed_expect_used(bed, (uint16_t)(32 + i), 0);
	}
}

static void
disabled_receive_ring_keeps_its_buffers(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_ENQUEUE, .features = BED_V1});
	uint16_t head = bed_offer_plain(bed, 2048);

	dynvhost_vq_set_enabled(&bed->vq, false);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 5)), 0);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){0});
	dynvhost_vq_set_enabled(&bed->vq, true);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 5)), 1);
	bed_expect_delivered(bed, 60, 5, &head, 1);
}

static void
move_goes_on_in_the_new_view(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1, .start = 65534});
	const uint64_t new_gpa = 1ULL << 30;
	struct ring_piece piece = {.gpa = new_gpa + 5, .len = BED_HDR_LEN + 60};
	struct dynvhost_mem_view *view;
	uint64_t pinned = bed_mem_stats(bed).pinned_bytes;
	unsigned int file;

	bed_send_plain(bed, 60, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, 0, 0);

	file = guest_ram_add_file(&bed->ram, 1 << 20, GUEST_RAM_PAGE);
	guest_ram_add_region(&bed->ram, file, 0, new_gpa, 1 << 20, 0);
	view = bed_build_view(bed);
	bed->setup.view = view;
	assert_int_equal(dynvhost_vq_move(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed_mem_stats(bed).pinned_bytes, pinned);
	dynvhost_mem_view_release(bed->view);
	bed->view = view;

	bed_add(bed, BED_SHAPE_DIRECT, &piece, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	assert_int_equal(bed->pkts[0]->pkt_len, 60);
	rte_pktmbuf_free(bed->pkts[0]);
	bed_expect_used(bed, 0, 0);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 65536));
	assert_int_equal(bed_mem_stats(bed).pinned_bytes, 0);
}

static void
failed_move_leaves_the_old_place_in_use(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});
	const struct dynvhost_vq_setup good = bed->setup;
	uint64_t pinned = bed_mem_stats(bed).pinned_bytes;

	bed->setup.used_gpa = BED_RAM;
	assert_int_equal(dynvhost_vq_move(&bed->vq, &bed->setup), -EFAULT);
	bed->setup = good;
	bed->setup.avail_gpa += bed_format.event_align / 2;
	assert_int_equal(dynvhost_vq_move(&bed->vq, &bed->setup), -EINVAL);
	bed->setup = good;
	assert_true(dynvhost_vq_is_started(&bed->vq));
	assert_int_equal(bed_mem_stats(bed).pinned_bytes, pinned);

	bed_send_plain(bed, 60, 1);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, 0, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(header_length_follows_the_features),
		BED_TEST(every_fault_has_words_of_its_own),
		BED_TEST(start_refuses_misaligned_areas),
		BED_TEST(start_pins_the_ring_through_the_windows_it_needs),
		BED_TEST(start_tells_the_driver_not_to_kick),
		BED_TEST(stopped_queue_touches_nothing),
		BED_TEST(bursts_move_packets_in_the_ring_s_direction_only),
		BED_TEST(pending_counts_what_was_not_taken),
		BED_TEST(disabled_transmit_ring_is_drained_unread),
		BED_TEST(disabled_receive_ring_keeps_its_buffers),
		BED_TEST(move_goes_on_in_the_new_view),
		BED_TEST(failed_move_leaves_the_old_place_in_use),
	};

	return bed_run(tests);
}
