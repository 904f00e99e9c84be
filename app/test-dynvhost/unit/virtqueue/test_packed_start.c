/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Where a packed ring starts and stops: its sizes and areas, and positions with a wrap counter. */

#include <errno.h>

#include "packed_bed.h"
#include "packed_resume.h"

static void
start_refuses_sizes_that_no_ring_has(void **state)
{
	static const uint32_t sizes[] = {0, 32769, 65535, 65536, 65537, 1u << 31};
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .stopped = true});
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		bed->setup.size = sizes[i];
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EINVAL);
		assert_false(dynvhost_vq_is_started(&bed->vq));
	}
	assert_int_equal(bed_mem_stats(bed).opens, 0);
}

static void
start_takes_any_size(void **state)
{
	static const uint32_t sizes[] = {1, 2, 3, 255, 256, 257, 32767, 32768};
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .size = 32768, .stopped = true});
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		bed->setup.size = sizes[i];
		bed->setup.base = sizes[i] - 1;
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		dynvhost_vq_stop(&bed->vq);
	}
}

static void
start_refuses_areas_that_end_outside_memory(void **state)
{
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .size = 100, .stopped = true});
	const struct dynvhost_vq_setup good = bed->setup;

	bed->setup.desc_gpa = BED_RAM - 99 * 16;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);
	bed->setup = good;
	bed->setup.avail_gpa = BED_RAM;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);
	bed->setup = good;
	bed->setup.used_gpa = UINT64_MAX - 3;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EFAULT);
	assert_false(dynvhost_vq_is_started(&bed->vq));
	assert_int_equal(bed_mem_stats(bed).pinned_bytes, 0);

	/* The last bytes of memory are good. */
	bed->setup.desc_gpa = BED_RAM - 100 * 16;
	bed->setup.avail_gpa = BED_RAM - 4;
	bed->setup.used_gpa = BED_RAM - 4;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
}

static void
start_takes_the_position_from_the_base(void **state)
{
	static const struct {
		uint32_t base;
		uint32_t position;
	} rows[] = {
		/* New rings: of virtio_user, and of QEMU. */
		{0x00008000, 0x80008000},
		{0x80008000, 0x80008000},
		/* Front-ends that know 16 bits. */
		{0x00000005, 0x00050005},
		{0x00008063, 0x80638063},
		{0x00000000, 0x00000000},
		/* Both halves are equal after a stop. */
		{0x00050005, 0x00050005},
		{0x80058005, 0x80058005},
		{0x80638063, 0x80638063},
		/* Taken and not given back, in the same round and across the ring's end. */
		{0x80078005, 0x80078007},
		{0x80638002, 0x80638063},
		{0x80630002, 0x80638063},
		{0x00018002, 0x00010001},
	};
	struct bed *bed = bed_open(
		&(struct bed_config){.index = BED_DEQUEUE, .size = 100, .stopped = true});
	unsigned int i;

	for (i = 0; i < RTE_DIM(rows); i++) {
		uint32_t used = rows[i].position >> 16;

		bed->setup.base = rows[i].base;
		/* No ring that we have begun before: the descriptors are not asked. */
		bed_unmark(bed);
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		assert_int_equal(dynvhost_vq_stop(&bed->vq), used << 16 | used);
	}
}

static void
start_refuses_positions_beyond_the_ring(void **state)
{
	static const uint32_t bases[] = {0x00008064, 0x00000064, 0x80648000, 0x80008064, 0x00640001,
		0x00007fff, 0x7fff8000, 0xffffffff};
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 100, 0);
	const uint32_t good = dynvhost_vq_stop(&bed->vq);
	unsigned int i;

	bed->packed.device->flags = 0x1234;
	bed_freeze(bed);
	for (i = 0; i < RTE_DIM(bases); i++) {
		bed->setup.base = bases[i];
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -EINVAL);
		assert_false(dynvhost_vq_is_started(&bed->vq));
		assert_int_equal(bed_mem_stats(bed).pinned_bytes, 0);
		dynvhost_vq_call(&bed->vq);
		assert_int_equal(bed_calls(bed), 0);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	}
	bed_expect_memory(bed);

	bed->setup.base = good;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
}

static void
buffers_that_were_taken_and_not_given_back_are_taken_again(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, 5, 3);
	uint16_t i;

	for (i = 0; i < 4; i++)
		bed_send_plain(bed, 60u + i, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 0, BED_ROOM);
	bed_expect_used(bed, 0, 0);

	/* It says that it has taken two more, in the ring's last slot and in its first one. */
	dynvhost_vq_stop(&bed->vq);
	bed->setup.base = bed_base(bed, 4) & 0xffff0000;
	bed->setup.base |= bed_base(bed, 6) & 0xffff;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 3);
	for (i = 1; i < 4; i++) {
		bed_expect_packet(bed->pkts[i - 1], 60u + i, i, BED_ROOM);
		bed_expect_used(bed, i, 0);
	}
}

static void
start_writes_nothing_but_its_wish_for_kicks_and_its_mark(void **state)
{
	static const uint64_t features[] = {0, BED_EVENT};
	unsigned int i;

	for (i = 0; i < RTE_DIM(features); i++) {
		struct bed *bed = bed_open(&(struct bed_config){
			.index = BED_DEQUEUE, .features = features[i], .stopped = true});

		bed_freeze(bed);
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
		assert_int_equal(bed->packed.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		assert_int_equal(bed->packed.device->off_wrap, PACKED_RESUME_MARK);
		bed->packed.device->flags = 0;
		bed->packed.device->off_wrap = 0;
		bed_expect_memory(bed);
		bed_teardown(NULL);
	}
}

/* Every packet once, though the queue stops and starts again between bursts. */
static void
nothing_is_lost_or_doubled_by_stops(void **state)
{
	static const uint16_t sizes[] = {1, 3, 7, 64};
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1, sizes[i], 0);
		uint32_t sent = 0;
		uint32_t got = 0;

		while (got < 200) {
			struct ring_used used;
			uint16_t n;
			uint16_t k;

			while (bed_room(bed) > 0)
				bed_send_plain(bed, 60, sent++);
			n = bed_dequeue(bed, bed_pool(), (uint16_t)(1 + got % 5));
			assert_in_range(n, 1, 5);
			for (k = 0; k < n; k++)
				bed_expect_packet(bed->pkts[k], 60, got++, BED_ROOM);
			assert_int_equal(bed_restart(bed), bed_base(bed, got));
			while (bed_collect(bed, &used))
				k--;
			assert_int_equal(k, 0);
		}
		bed_teardown(NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(start_refuses_sizes_that_no_ring_has),
		BED_TEST(start_takes_any_size),
		BED_TEST(start_refuses_areas_that_end_outside_memory),
		BED_TEST(start_takes_the_position_from_the_base),
		BED_TEST(start_refuses_positions_beyond_the_ring),
		BED_TEST(buffers_that_were_taken_and_not_given_back_are_taken_again),
		BED_TEST(start_writes_nothing_but_its_wish_for_kicks_and_its_mark),
		BED_TEST(nothing_is_lost_or_doubled_by_stops),
	};

	return bed_run(tests);
}
