/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* When a packed ring calls: as its flags say, or at a position. */

#include "packed_bed.h"

/* Let @p n packets pass in one burst. @return calls. */
static uint64_t
move(struct bed *bed, uint16_t n)
{
	bed_pass(bed, n);
	return bed_calls(bed);
}

static void
event_flags_decide(void **state)
{
	static const struct {
		uint64_t features;
		uint16_t flags;
		uint64_t calls;
	} rows[] = {
		{0, VRING_PACKED_EVENT_FLAG_ENABLE, 1},
		{0, VRING_PACKED_EVENT_FLAG_DISABLE, 0},
		{BED_EVENT, VRING_PACKED_EVENT_FLAG_ENABLE, 1},
		{BED_EVENT, VRING_PACKED_EVENT_FLAG_DISABLE, 0},
		/* A position though none was negotiated; the value that is reserved. */
		{0, VRING_PACKED_EVENT_FLAG_DESC, 1},
		{0, 3, 1},
		{BED_EVENT, 3, 1},
		/* The other bits are reserved. */
		{0, 0xfffc | VRING_PACKED_EVENT_FLAG_ENABLE, 1},
		{BED_EVENT, 0xfffc | VRING_PACKED_EVENT_FLAG_DISABLE, 0},
	};
	unsigned int i;

	for (i = 0; i < RTE_DIM(rows); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | rows[i].features, 7, 0);

		/* The position is one that is not passed. */
		bed->packed.driver->off_wrap = 0x8005;
		bed->packed.driver->flags = rows[i].flags;
		if (move(bed, 1) != rows[i].calls || move(bed, 2) != rows[i].calls)
			fail_msg("row %u", i);
		assert_int_equal(bed->vq.stats.calls, 2 * rows[i].calls);
		assert_int_equal(bed->vq.stats.calls_suppressed, 2 - 2 * rows[i].calls);
		bed_teardown(NULL);
	}
}

/* All events before, in and behind all bursts, from all places, in rings of few slots. */
static void
event_position_decides(void **state)
{
	static const uint16_t sizes[] = {1, 2, 3, 7};
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		const uint16_t size = sizes[i];
		struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_EVENT, size, 0);
		uint32_t count = 1;
		uint32_t event, k;
		uint16_t start, n;

		assert_int_equal(move(bed, 1), 1);
		for (start = 0; start < 2 * size; start++) {
			for (n = 1; n <= size; n++) {
				for (event = 0; event < 2u * size; event++) {
					bool passed = false;

					/* The counter tells a round from the next. */
					for (k = count; k < count + n; k++)
						passed = passed || k % (2u * size) == event;
					bed_call_at(bed, (uint16_t)event);
					if (move(bed, n) != passed)
						fail_msg("size %u: event %u, burst %u from %u",
							size, event, n, count % (2u * size));
					count += n;
				}
			}
			/* Elsewhere with the next one. */
			bed_suppress_calls(bed, true);
			assert_int_equal(move(bed, 1), 0);
			count++;
		}
		bed_teardown(NULL);
	}
}

static void
event_beyond_the_ring_is_survived(void **state)
{
	static const uint16_t events[] = {0x0007, 0x8007, 0x7fff, 0xffff};
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_EVENT, 7, 0);
	unsigned int i;
	uint16_t n;

	for (n = 1; n <= 7; n++) {
		for (i = 0; i < RTE_DIM(events); i++) {
			packed_ring_set_used_event(&bed->packed, events[i]);
			assert_in_range(move(bed, n), 0, 1);
		}
	}
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

static void
first_call_is_enough(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, BED_V1 | BED_EVENT, 7, 0);

	/* Called because the driver wants it always, it need not be called to be sure. */
	bed_suppress_calls(bed, false);
	assert_int_equal(move(bed, 1), 1);
	bed_call_at(bed, 5);
	assert_int_equal(move(bed, 1), 0);
	bed_restart(bed);
	bed_suppress_calls(bed, true);
	assert_int_equal(move(bed, 1), 0);
	bed_call_at(bed, 6);
	assert_int_equal(move(bed, 1), 1);
	assert_int_equal(move(bed, 1), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(event_flags_decide),
		BED_TEST(event_position_decides),
		BED_TEST(event_beyond_the_ring_is_survived),
		BED_TEST(first_call_is_enough),
	};

	return bed_run(tests);
}
