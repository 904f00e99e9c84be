/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Notification without a fence: for whom it is done, and that no wish to be notified is lost by it,
 * whoever has to make up for it. What the missing fence would have shown is played by the test: the
 * guest asks for notifications after a burst, where without a fence it may already have asked before.
 */

#include "bed.h"
#include "defer.h"

static struct bed *
open_bed(uint64_t features)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE,
		.features = BED_V1 | features,
		.calls = true,
	});

	bed_suppress_calls(bed, true);
	return bed;
}

static uint32_t
unfenced(const struct bed *bed)
{
	return atomic_load(&bed->vq.defer.unfenced);
}

/* Bursts of one packet each, which publish one buffer each. */
static void
move(struct bed *bed, unsigned int n)
{
	struct ring_used used;

	while (n-- > 0) {
		bed_send_plain(bed, 60, n);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
		rte_pktmbuf_free(bed->pkts[0]);
		assert_true(bed_collect(bed, &used));
	}
}

/* A driver that has been polling for long, watched by control. */
static struct bed *
open_polling(void)
{
	struct bed *bed = open_bed(0);

	move(bed, DEFER_QUIET);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_WATCH);
	return bed;
}

static void
fences_unless_the_driver_polls_and_control_watches(void **state)
{
	struct bed *bed = open_bed(0);

	move(bed, DEFER_QUIET - 1);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_NOTHING);
	move(bed, 3);
	assert_int_equal(unfenced(bed), 0);
	assert_int_not_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_NOTHING);
	move(bed, 3);
	assert_int_equal(unfenced(bed), 3);
}

static void
fences_again_once_the_driver_wants_calls(void **state)
{
	struct bed *bed = open_polling();

	move(bed, 1);
	bed_suppress_calls(bed, false);
	move(bed, 1);
	assert_int_equal(bed_calls(bed), 1);
	bed_suppress_calls(bed, true);
	move(bed, DEFER_QUIET);
	assert_int_equal(unfenced(bed), 2);
	move(bed, 1);
	assert_int_equal(unfenced(bed), 3);
}

static void
fences_always_with_event_indices(void **state)
{
	struct bed *bed = open_bed(BED_EVENT);

	bed_call_at(bed, 30000);
	move(bed, DEFER_QUIET + 10);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_NOTHING);
	move(bed, 10);
	assert_int_equal(unfenced(bed), 0);
}

static void
empty_burst_makes_up_for_it(void **state)
{
	struct bed *bed = open_polling();

	move(bed, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(bed_calls(bed), 0);
	move(bed, 1);
	bed_suppress_calls(bed, false);
	assert_int_equal(bed_calls(bed), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(bed_calls(bed), 1);
	/* Once. */
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(bed_calls(bed), 0);
}

static void
control_makes_up_for_a_queue_that_stands_still(void **state)
{
	struct bed *bed = open_polling();

	move(bed, 1);
	bed_suppress_calls(bed, false);
	/* It has moved since the last look; at the next one it has not. */
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_WATCH);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_STANDS);
	assert_true(dynvhost_vq_defer_check(&bed->vq));
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_WATCH);

	bed_suppress_calls(bed, true);
	move(bed, 1);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_WATCH);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_STANDS);
	assert_false(dynvhost_vq_defer_check(&bed->vq));
}

static void
control_stops_watching_a_queue_at_rest(void **state)
{
	struct bed *bed = open_polling();
	unsigned int looks = 0;

	while (dynvhost_vq_defer_look(&bed->vq) == DYNVHOST_DEFER_WATCH)
		assert_true(++looks < 1000);
	/* For as long as it rests. */
	while (looks-- > 0)
		assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_NOTHING);
	move(bed, DEFER_QUIET);
	assert_int_equal(unfenced(bed), 0);
	/* And begins again. */
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_WATCH);
	move(bed, 5);
	assert_int_equal(unfenced(bed), 5);
}

static void
restart_forgets_what_was(void **state)
{
	struct bed *bed = open_polling();

	move(bed, 2);
	bed_restart(bed);
	assert_int_equal(unfenced(bed), 0);
	move(bed, 1);
	assert_int_equal(unfenced(bed), 0);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_NOTHING);
	dynvhost_vq_stop(&bed->vq);
	assert_int_equal(dynvhost_vq_defer_look(&bed->vq), DYNVHOST_DEFER_NOTHING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(fences_unless_the_driver_polls_and_control_watches),
		BED_TEST(fences_again_once_the_driver_wants_calls),
		BED_TEST(fences_always_with_event_indices),
		BED_TEST(empty_burst_makes_up_for_it),
		BED_TEST(control_makes_up_for_a_queue_that_stands_still),
		BED_TEST(control_stops_watching_a_queue_at_rest),
		BED_TEST(restart_forgets_what_was),
	};

	return bed_run(tests);
}
