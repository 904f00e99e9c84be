/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What only a packed ring has: any size, chains across the ring's end, used descriptors that
 * overwrite the guest's and are published by the first one's flags, and ids that mean nothing to the
 * device.
 */

#include <string.h>

#include "packed_bed.h"
#include "packet.h"

/* Guest memory is as it was frozen, whatever the ring looks like to the guest. */
static void
expect_untouched(const struct bed *bed)
{
	assert_memory_equal(bed->frozen[0], bed->ram.file[0].base, bed->ram.file[0].size);
}

static void
only_one_pattern_of_the_two_bits_is_available(void **state)
{
	static const uint16_t patterns[] = {0, AVAIL, USED, AVAIL | USED};
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 3, 0);
	unsigned int i;
	int wrap;

	for (wrap = 0; wrap < 2; wrap++) {
		bed->setup.base = wrap ? 0x80018001 : 0x00010001;
		dynvhost_vq_stop(&bed->vq);
		bed_unmark(bed);
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		for (i = 0; i < RTE_DIM(patterns); i++) {
			bool available = patterns[i] == (wrap ? AVAIL : USED);

			bed->packed.desc[1].flags = patterns[i];
			assert_int_equal(dynvhost_vq_pending(&bed->vq), available);
			if (available)
				continue;
			bed_freeze(bed);
			assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
			assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
			expect_untouched(bed);
		}
	}
}

/* A buffer of each length from each slot of the ring on. */
static void
dequeue_takes_chains_across_the_ring_s_end(void **state)
{
	static const uint16_t sizes[] = {2, 3, 7, 13};
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		uint32_t cut[16] = {20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140};
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, sizes[i], 0);
		uint32_t count = 0;
		uint32_t round;
		uint16_t n;

		for (round = 0; round < 2u * sizes[i]; round++) {
			for (n = 1; n <= sizes[i]; n++) {
				uint32_t len = 20u * n + 10u * n * (n - 1u) / 2 - BED_HDR_LEN;
				uint16_t head;

				if (len < DYNVHOST_VQ_MIN_FRAME)
					continue;
				count += n;
				head = bed_send(bed, BED_SHAPE_DIRECT, cut, n, count);
				bed_freeze(bed);
				assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
				bed_expect_packet(bed->pkts[0], len, count, BED_ROOM);
				bed_expect_used(bed, head, 0);
				bed_expect_memory(bed);
			}
		}
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, count));
		bed_teardown(NULL);
	}
}

static void
enqueue_fills_chains_across_the_ring_s_end(void **state)
{
	static const uint16_t sizes[] = {2, 3, 7, 13};
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		uint32_t cut[16] = {90, 80, 70, 60, 50, 40, 30, 20, 10, 5, 4, 3, 2};
		struct bed *bed = open_bed(BED_ENQUEUE, BED_V1 | BED_MRG, sizes[i], 1);
		uint32_t count = 1;
		uint16_t n;

		/* Two buffers for each packet where there is room, one of which is a chain. */
		for (n = 1; n < 20u * sizes[i]; n++) {
			uint16_t n_cuts = (uint16_t)(1 + n % (sizes[i] - 1u));
			uint16_t head[2];
			uint32_t len;

			head[0] = bed_offer(bed, BED_SHAPE_DIRECT, cut, n_cuts);
			head[1] = bed_offer_plain(bed, 100);
			len = (uint32_t)bed->buffer[head[0]].len + 50;
			bed_freeze(bed);
			assert_int_equal(
				bed_enqueue(bed, bed_packet(bed_pool(), len - BED_HDR_LEN, 0, n)),
				1);
			bed_expect_delivered(bed, len - BED_HDR_LEN, n, head, 2);
			bed_expect_memory(bed);
			count += n_cuts + 1u;
		}
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, count));
		bed_teardown(NULL);
	}
}

static void
one_burst_takes_a_whole_ring_and_no_more(void **state)
{
	static const uint16_t sizes[] = {1, 3, 7, 200};
	unsigned int i;
	uint16_t k;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, sizes[i], (uint16_t)(sizes[i] / 2));

		for (k = 0; k < sizes[i]; k++)
			bed_send_plain(bed, 60, k);
		assert_int_equal(dynvhost_vq_pending(&bed->vq), sizes[i]);
		bed_freeze(bed);
		assert_int_equal(bed_dequeue(bed, bed_pool(), BED_MAX_BURST), sizes[i]);
		for (k = 0; k < sizes[i]; k++) {
			bed_expect_packet(bed->pkts[k], 60, k, BED_ROOM);
			bed_expect_used(bed, k, 0);
		}
		bed_expect_memory(bed);
		assert_int_equal(dynvhost_vq_pending(&bed->vq), 0);
		assert_int_equal(bed_calls(bed), 1);
		bed_teardown(NULL);
	}
}

/* The guest receives a packet into its ring, where it is a descriptor of the next round. */
static void
one_burst_goes_around_the_ring_once(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, BED_V1, 1, 0);
	const struct vring_packed_desc next = {
		.addr = bed_take(bed, 100, 64), .len = 100, .flags = USED | WRITE};
	struct rte_mbuf *pkts[2];
	struct ring_piece piece[2];

	bed_place(bed, (uint32_t[]){BED_HDR_LEN}, 1, true, piece);
	piece[1] = (struct ring_piece){
		.gpa = bed->packed.desc_gpa, .len = sizeof(next), .writable = true};
	bed_add_table(bed, piece, 2, bed_take(bed, 32, 16));
	pkts[0] = bed_packet(bed_pool(), sizeof(next), 0, 1);
	memcpy(rte_pktmbuf_mtod(pkts[0], void *), &next, sizeof(next));
	pkts[1] = bed_packet(bed_pool(), 60, 0, 2);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, 2), 1);
	rte_pktmbuf_free(pkts[1]);
	assert_int_equal(bed->packed.desc[0].flags, AVAIL | USED | WRITE);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 1));
}

/* The last packet of a burst is the ring itself, as it looks in the middle of that burst. */
static void
first_descriptor_of_a_burst_is_published_last(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 6, 3);
	const uint32_t len = 6 * sizeof(struct vring_packed_desc);
	struct vring_packed_desc seen[6];
	struct ring_piece piece[2];
	uint16_t i;

	for (i = 0; i < 5; i++)
		bed_send_plain(bed, 60, i);
	bed_place(bed, (uint32_t[]){BED_HDR_LEN}, 1, false, piece);
	piece[1] = (struct ring_piece){.gpa = bed->packed.desc_gpa, .len = len};
	bed_add_table(bed, piece, 2, bed_take(bed, 32, 16));

	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 6);
	for (i = 0; i < 5; i++)
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
	assert_int_equal(bed->pkts[5]->data_len, len);
	memcpy(seen, rte_pktmbuf_mtod(bed->pkts[5], void *), len);
	rte_pktmbuf_free(bed->pkts[5]);

	/* From slot 3 on in the first round; 0, 1 and 2 in the second, whose counter is 0. */
	assert_int_equal(seen[3].flags, AVAIL);
	assert_int_equal(seen[4].flags, AVAIL | USED);
	assert_int_equal(seen[5].flags, AVAIL | USED);
	assert_int_equal(seen[0].flags, 0);
	assert_int_equal(seen[1].flags, 0);
	assert_int_equal(seen[2].flags, USED | INDIRECT);
	assert_int_equal(bed->packed.desc[3].flags, AVAIL | USED);
	assert_int_equal(bed->packed.desc[2].flags, 0);
}

static void
ids_are_echoed_whatever_they_are(void **state)
{
	static const uint16_t ids[] = {65535, 4, 4, 0, 32768, 4, 65535};
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 7, 4);
	struct vring_packed_desc desc = {.len = BED_HDR_LEN + 60};
	uint8_t frame[60];
	uint16_t i;

	packet_fill(frame, sizeof(frame), 1);
	desc.addr = bed_take(bed, desc.len, 64);
	guest_ram_write(&bed->ram, desc.addr + BED_HDR_LEN, frame, sizeof(frame));
	for (i = 0; i < RTE_DIM(ids); i++) {
		desc.id = ids[i];
		packed_ring_offer(&bed->packed, &desc);
	}
	packed_ring_publish(&bed->packed);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), RTE_DIM(ids));
	for (i = 0; i < RTE_DIM(ids); i++) {
		struct ring_used used;

		bed_expect_packet(bed->pkts[i], 60, 1, BED_ROOM);
		bed_ring_freeze_used(bed, ids[i], 0);
		assert_true(packed_ring_collect(&bed->packed, &used));
		assert_int_equal(used.id, ids[i]);
	}
}

/* WRITE too: there is a driver that leaves it in what it sends. */
static void
flags_and_ids_in_tables_that_are_sent_mean_nothing(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 3, 0);
	uint64_t table = bed_take(bed, 48, 16);
	struct vring_packed_desc entry[3];
	struct ring_piece piece[3];
	uint8_t frame[60];
	uint16_t head;
	uint16_t i;

	packet_fill(frame, sizeof(frame), 1);
	bed_place(bed, (uint32_t[]){BED_HDR_LEN, 20, 40}, 3, false, piece);
	guest_ram_write(&bed->ram, piece[1].gpa, frame, 20);
	guest_ram_write(&bed->ram, piece[2].gpa, frame + 20, 40);
	head = bed_add_table(bed, piece, 3, table);
	guest_ram_read(&bed->ram, table, entry, sizeof(entry));
	for (i = 0; i < 3; i++) {
		entry[i].flags = (uint16_t) ~(INDIRECT | (i == 1 ? NEXT | WRITE : 0));
		entry[i].id = (uint16_t)(65535 - i);
	}
	guest_ram_write(&bed->ram, table, entry, sizeof(entry));
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, head, 0);
}

/* Fill the ring with descriptors that all say that there is one more. */
static void
offer_endless_chain(struct bed *bed, bool writable)
{
	struct vring_packed_desc desc = {
		.addr = bed_take(bed, 64, 64), .len = 64, .flags = NEXT | (writable ? WRITE : 0)};

	while (bed_room(bed) > 0)
		packed_ring_offer(&bed->packed, &desc);
	packed_ring_publish(&bed->packed);
}

static void
next_on_every_slot_stops_the_queue(void **state)
{
	static const uint16_t sizes[] = {1, 3, 256, 32767};
	unsigned int i;
	uint16_t index;

	for (i = 0; i < 3 * RTE_DIM(sizes); i++) {
		struct bed *bed;

		index = i % 3 == 0 ? BED_ENQUEUE : BED_DEQUEUE;
		bed = open_bed(index, BED_V1 | BED_MRG, sizes[i / 3], 0);
		offer_endless_chain(bed, index == BED_ENQUEUE);
		dynvhost_vq_set_enabled(&bed->vq, i % 3 != 2);
		assert_int_equal(dynvhost_vq_pending(&bed->vq), 1);
		bed_freeze(bed);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, 1)), 0);
		bed_expect_broken(bed, DYNVHOST_VQ_BAD_LOOP);
		bed_expect_stats(bed, (struct dynvhost_vq_stats){.bad_chains = 1});
		bed_expect_memory(bed);
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 0));
		bed_teardown(NULL);
	}
}

/* The chain comes around to the good buffer, which has been given back, but not published yet. */
static void
endless_chain_behind_a_good_buffer_stops_the_queue(void **state)
{
	static const uint16_t sizes[] = {2, 3, 256, 32767};
	unsigned int i;

	for (i = 0; i < 2 * RTE_DIM(sizes); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, sizes[i / 2], 0);
		bool enabled = i % 2 == 0;

		bed_send_plain(bed, 60, 1);
		offer_endless_chain(bed, false);
		dynvhost_vq_set_enabled(&bed->vq, enabled);
		bed_freeze(bed);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), enabled);
		if (enabled)
			bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
		bed_expect_used(bed, 0, 0);
		bed_expect_broken(bed, DYNVHOST_VQ_BAD_LOOP);
		bed_expect_stats(bed, (struct dynvhost_vq_stats){
					      .packets = enabled,
					      .bytes = enabled ? 60 : 0,
					      .discarded = !enabled,
					      .bad_chains = 1,
					      .calls = 1,
				      });
		bed_expect_memory(bed);
		bed_teardown(NULL);
	}
}

static void
disabled_ring_has_the_limit_of_all_chains(void **state)
{
	static uint32_t cut[DYNVHOST_VQ_MAX_SEGS + 1];
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 4096, 4000);
	uint16_t head = bed_send(bed, BED_SHAPE_DIRECT, cut, DYNVHOST_VQ_MAX_SEGS, 1);

	bed_send(bed, BED_SHAPE_DIRECT, cut, DYNVHOST_VQ_MAX_SEGS + 1, 2);
	dynvhost_vq_set_enabled(&bed->vq, false);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head, 0);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_LOOP);
	assert_int_equal(bed->vq.stats.discarded, 1);
}

/* The second buffer of a packet runs into the first one, which is not given back yet. */
static void
buffers_of_a_packet_are_no_longer_than_the_ring(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, BED_V1 | BED_MRG, 5, 4);
	const struct vring_packed_desc desc = {
		.addr = bed_take(bed, 64, 64), .len = 20, .flags = NEXT | WRITE};

	bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){50, 50}, 2);
	while (bed_room(bed) > 0)
		packed_ring_offer(&bed->packed, &desc);
	packed_ring_publish(&bed->packed);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 160, 0, 1)), 0);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_LOOP);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.bad_chains = 1});
	bed_expect_memory(bed);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 4));
}

static void
packet_larger_than_a_ring_of_chains_is_dropped(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, BED_V1 | BED_MRG, 5, 4);
	uint16_t head[2];

	head[0] = bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){50, 50}, 2);
	head[1] = bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){30, 30}, 2);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 149, 0, 1)), 0);
	bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){10}, 1);
	bed_freeze(bed);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 159, 0, 1)), 1);
	assert_int_equal(bed->vq.stats.dropped, 1);
	assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 148, 0, 2)), 1);
	bed_expect_delivered(bed, 148, 2, head, 2);
}

static void
what_the_guest_writes_over_used_descriptors_means_nothing(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 3, 1);

	bed_send_plain(bed, 60, 1);
	bed_send_plain(bed, 61, 2);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
	bed_expect_used(bed, 0, 0);
	memset(&bed->packed.desc[1], 0xff, sizeof(bed->packed.desc[1]));
	memset(bed->packed.device, 0xff, sizeof(*bed->packed.device));
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 61, 2, BED_ROOM);
	bed_expect_used(bed, 1, 0);
	bed_expect_memory(bed);
}

static void
ring_cleared_under_a_running_queue_moves_nothing(void **state)
{
	static const uint16_t starts[] = {0, 4, 9};
	unsigned int i;

	for (i = 0; i < RTE_DIM(starts); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 7, starts[i]);

		bed_send_plain(bed, 60, 1);
		bed_send_plain(bed, 60, 2);
		memset(bed->packed.desc, 0, packed_ring_desc_bytes(7));
		bed_freeze(bed);
		assert_int_equal(dynvhost_vq_pending(&bed->vq), 0);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
		expect_untouched(bed);
		assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);

		/* The guest has rebooted: its new driver begins at the beginning. */
		assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, starts[i]));
		bed_reset(bed, 0);
		assert_int_equal(bed->setup.base, 0x80008000);
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		bed_freeze(bed);
		bed_send_plain(bed, 60, 3);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
		bed_expect_packet(bed->pkts[0], 60, 3, BED_ROOM);
		bed_expect_used(bed, 0, 0);
		bed_teardown(NULL);
	}
}

static void
disabled_ring_gives_chains_back_by_their_extent(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 7, 5);
	const uint64_t opens = bed_mem_stats(bed).opens;
	uint16_t head[3];

	head[0] = bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){12, 20, 40}, 3, 1);
	head[1] = bed_send(bed, BED_SHAPE_TABLE, (uint32_t[]){12, 20, 40}, 3, 2);
	head[2] = bed_send(bed, BED_SHAPE_MIXED, (uint32_t[]){12, 20, 40}, 3, 3);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 3);
	dynvhost_vq_set_enabled(&bed->vq, false);
	bed_freeze(bed);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_expect_used(bed, head[0], 0);
	bed_expect_used(bed, head[1], 0);
	bed_expect_used(bed, head[2], 0);
	bed_expect_memory(bed);
	bed_expect_stats(bed, (struct dynvhost_vq_stats){.discarded = 3, .calls = 1});
	assert_int_equal(bed_mem_stats(bed).opens, opens);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), bed_base(bed, 5 + 6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(only_one_pattern_of_the_two_bits_is_available),
		BED_TEST(dequeue_takes_chains_across_the_ring_s_end),
		BED_TEST(enqueue_fills_chains_across_the_ring_s_end),
		BED_TEST(one_burst_takes_a_whole_ring_and_no_more),
		BED_TEST(one_burst_goes_around_the_ring_once),
		BED_TEST(first_descriptor_of_a_burst_is_published_last),
		BED_TEST(ids_are_echoed_whatever_they_are),
		BED_TEST(flags_and_ids_in_tables_that_are_sent_mean_nothing),
		BED_TEST(next_on_every_slot_stops_the_queue),
		BED_TEST(endless_chain_behind_a_good_buffer_stops_the_queue),
		BED_TEST(disabled_ring_has_the_limit_of_all_chains),
		BED_TEST(buffers_of_a_packet_are_no_longer_than_the_ring),
		BED_TEST(packet_larger_than_a_ring_of_chains_is_dropped),
		BED_TEST(what_the_guest_writes_over_used_descriptors_means_nothing),
		BED_TEST(ring_cleared_under_a_running_queue_moves_nothing),
		BED_TEST(disabled_ring_gives_chains_back_by_their_extent),
	};

	return bed_run(tests);
}
