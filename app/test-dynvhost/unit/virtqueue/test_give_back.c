/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * How the lines of what a guest sends are given back: which way a trial chooses and when there is one,
 * and that nothing but the lines' place in caches changes, whatever the way: every byte arrives, of these
 * packets and of those that follow in the same buffers.
 *
 * Trials are told the time here: burst by burst, each way at a price of its own.
 */

#include "bed.h"
#include "fast.h"
#include "give_back.h"

#define BURST    32u
#define ALL_WAYS ((1u << GIVE_BACK_WAYS) - 1)

/* TSC cycles that a packet takes by each way. */
struct price {
	uint64_t of[GIVE_BACK_WAYS];
};

static const struct price flush_is_best = {{100, 99, 98, 80, 60}};
static const struct price nothing_helps = {{100, 98, 97, 150, 96}};

struct guest {
	struct dynvhost_vq vq;
	uint64_t now;
};

/* A queue that has waited for its guest. */
static struct guest
make_guest(void)
{
	struct guest guest = {.vq = {.size = 256}, .now = 1};

	dynvhost_give_back_init(&guest.vq);
	guest.vq.give_back.ways = ALL_WAYS;
	guest.vq.rest.was_on = true;
	return guest;
}

static bool
is_tried(const struct guest *guest)
{
	return guest->vq.give_back.rounds > 0;
}

/* One burst of @p n packets. The part of give_back_note() that asks for the time is done here. */
static void
pass(struct guest *guest, const struct price *price, uint16_t n)
{
	struct dynvhost_vq_give_back *back = &guest->vq.give_back;

	guest->now += n * price->of[back->way];
	back->left -= n;
	if (back->left <= 0)
		dynvhost_give_back_note(&guest->vq, n, guest->now);
}

static void
begin_trial(struct guest *guest, const struct price *price)
{
	for (unsigned int i = 0; i < 2 * GIVE_BACK_PATIENCE / BURST && !is_tried(guest); i++)
		pass(guest, price, BURST);
	assert_true(is_tried(guest));
}

/* @return packets of the trial. */
static unsigned int
end_trial(struct guest *guest, const struct price *price)
{
	unsigned int packets = 0;

	for (; is_tried(guest); packets += BURST) {
		assert_in_range(packets, 0, 100000);
		pass(guest, price, BURST);
	}
	return packets;
}

static unsigned int
chosen(const struct price *price)
{
	struct guest guest = make_guest();

	begin_trial(&guest, price);
	end_trial(&guest, price);
	return guest.vq.give_back.way;
}

static void
let_pass(struct guest *guest, uint64_t cycles)
{
	guest->now += cycles;
	if (is_tried(guest))
		guest->vq.give_back.last += cycles;
}

static void
best_way_is_kept(void **state)
{
	assert_int_equal(chosen(&flush_is_best), GIVE_BACK_FLUSH);
	assert_int_equal(chosen(&(struct price){{100, 70, 60, 80, 90}}), GIVE_BACK_CLEAN);
	assert_int_equal(chosen(&(struct price){{100, 110, 120, 80, 90}}), GIVE_BACK_FLUSH_FIRST);
}

static void
little_gain_is_not_worth_it(void **state)
{
	assert_int_equal(chosen(&nothing_helps), GIVE_BACK_NOT);
	assert_int_equal(chosen(&(struct price){{1600, 1500, 1600, 1600, 1600}}), GIVE_BACK_NOT);
	assert_int_equal(
		chosen(&(struct price){{1600, 1499, 1600, 1600, 1600}}), GIVE_BACK_CLEAN_FIRST);
}

/* What happens in one turn alone, and makes it slower, does not count. */
static void
disturbance_of_one_turn_does_not_count(void **state)
{
	struct guest guest = make_guest();

	begin_trial(&guest, &flush_is_best);
	while (guest.vq.give_back.way != GIVE_BACK_FLUSH || !guest.vq.give_back.settled)
		pass(&guest, &flush_is_best, BURST);
	let_pass(&guest, 1000 * GIVE_BACK_PROBE);
	end_trial(&guest, &flush_is_best);
	assert_int_equal(guest.vq.give_back.way, GIVE_BACK_FLUSH);
}

/* The packets by which a way is judged come behind some that were treated so. */
static void
what_the_way_before_left_does_not_count(void **state)
{
	const struct price others = {{300, 300, 300, 300, 10}};
	struct guest guest = make_guest();
	struct dynvhost_vq_give_back *back = &guest.vq.give_back;
	unsigned int behind = 0;
	uint8_t way;

	begin_trial(&guest, &flush_is_best);
	while (is_tried(&guest)) {
		way = back->way;
		pass(&guest, behind < GIVE_BACK_SETTLE ? &others : &flush_is_best, BURST);
		behind = back->way == way ? behind + BURST : 0;
	}
	assert_int_equal(back->cost[GIVE_BACK_NOT], 100 * 16);
	assert_int_equal(back->cost[GIVE_BACK_FLUSH], 60 * 16);
}

static void
trial_is_short(void **state)
{
	struct guest guest = make_guest();

	begin_trial(&guest, &nothing_helps);
	assert_in_range(end_trial(&guest, &nothing_helps), 1,
		GIVE_BACK_WAYS * GIVE_BACK_ROUNDS *
			(GIVE_BACK_SETTLE + GIVE_BACK_PROBE + 2 * BURST));
}

static void
trial_of_a_slow_guest_is_short_too(void **state)
{
	const struct price slow = {{3000, 3000, 3000, 3000, 2000}};
	const uint64_t turn = 2 * (rte_get_tsc_hz() / GIVE_BACK_TURNS + BURST * slow.of[0]);
	struct guest guest = make_guest();
	uint64_t start;

	begin_trial(&guest, &slow);
	start = guest.now;
	end_trial(&guest, &slow);
	assert_in_range(guest.now - start, 1, GIVE_BACK_WAYS * GIVE_BACK_ROUNDS * turn);
	assert_int_equal(guest.vq.give_back.way, GIVE_BACK_FLUSH);
}

static void
ways_that_the_cpu_lacks_are_not_tried(void **state)
{
	struct guest guest = make_guest();

	guest.vq.give_back.ways = 1u << GIVE_BACK_NOT | 1u << GIVE_BACK_FLUSH_FIRST;
	begin_trial(&guest, &flush_is_best);
	while (is_tried(&guest)) {
		assert_true(guest.vq.give_back.way == GIVE_BACK_NOT ||
			    guest.vq.give_back.way == GIVE_BACK_FLUSH_FIRST);
		pass(&guest, &flush_is_best, BURST);
	}
	assert_int_equal(guest.vq.give_back.way, GIVE_BACK_FLUSH_FIRST);
	assert_int_equal(guest.vq.give_back.cost[GIVE_BACK_CLEAN], UINT64_MAX);
}

/* Whether a trial begins within so many packets that one is due. */
static bool
trial_comes(struct guest *guest, uint16_t burst)
{
	for (unsigned int i = 0; i < 2 * GIVE_BACK_PATIENCE && !is_tried(guest); i++)
		give_back_note(&guest->vq, burst);
	return is_tried(guest);
}

static void
trial_is_for_streams_that_are_waited_for(void **state)
{
	struct guest guest = make_guest();

	assert_false(trial_comes(&guest, GIVE_BACK_LEAST - 1));
	guest.vq.rest.was_on = false;
	assert_false(trial_comes(&guest, BURST));
	guest.vq.rest.was_on = true;
	guest.vq.give_back.ways = 1u << GIVE_BACK_NOT;
	assert_false(trial_comes(&guest, BURST));
	guest.vq.give_back.ways = ALL_WAYS;
	assert_true(trial_comes(&guest, GIVE_BACK_LEAST));
}

/* A way that is in force may be what keeps the host from waiting. */
static void
way_in_force_is_tried_again(void **state)
{
	struct guest guest = make_guest();

	begin_trial(&guest, &flush_is_best);
	end_trial(&guest, &flush_is_best);
	guest.vq.rest.was_on = false;
	for (unsigned int i = 0; i < GIVE_BACK_PATIENCE / BURST; i++)
		pass(&guest, &flush_is_best, BURST);
	assert_false(is_tried(&guest));
	let_pass(&guest, guest.vq.give_back.pause);
	begin_trial(&guest, &nothing_helps);
	end_trial(&guest, &nothing_helps);
	assert_int_equal(guest.vq.give_back.way, GIVE_BACK_NOT);
}

/* In parts of the longest time between two trials. */
static unsigned int
pause_after(struct guest *guest, const struct price *price)
{
	begin_trial(guest, price);
	end_trial(guest, price);
	let_pass(guest, guest->vq.give_back.pause);
	return (unsigned int)(rte_get_tsc_hz() / GIVE_BACK_TRIALS / guest->vq.give_back.pause);
}

static void
choice_that_holds_is_left_alone(void **state)
{
	struct guest guest = make_guest();

	assert_int_equal(pause_after(&guest, &flush_is_best), 8);
	assert_int_equal(pause_after(&guest, &flush_is_best), 4);
	assert_int_equal(pause_after(&guest, &flush_is_best), 2);
	assert_int_equal(pause_after(&guest, &flush_is_best), 1);
	assert_int_equal(pause_after(&guest, &flush_is_best), 1);
	assert_int_equal(pause_after(&guest, &nothing_helps), 8);
}

static void
pause_of_the_guest_ends_a_trial(void **state)
{
	struct guest guest = make_guest();

	begin_trial(&guest, &flush_is_best);
	end_trial(&guest, &flush_is_best);
	let_pass(&guest, guest.vq.give_back.pause);
	begin_trial(&guest, &nothing_helps);
	guest.now += rte_get_tsc_hz() / GIVE_BACK_PAUSES + 1;
	pass(&guest, &nothing_helps, BURST);
	assert_false(is_tried(&guest));
	assert_int_equal(guest.vq.give_back.way, GIVE_BACK_FLUSH);
	/* And the next one is not there at once. */
	for (unsigned int i = 0; i < GIVE_BACK_PATIENCE / BURST; i++)
		pass(&guest, &nothing_helps, BURST);
	assert_false(is_tried(&guest));
}

static void
ring_that_starts_gives_nothing_back(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	assert_int_equal(bed->vq.give_back.ways, dynvhost_give_back_ways());
	assert_int_equal(bed->vq.give_back.way, GIVE_BACK_NOT);
	bed->vq.give_back.way = GIVE_BACK_FLUSH_FIRST;
	bed_restart(bed);
	assert_int_equal(bed->vq.give_back.way, GIVE_BACK_NOT);
}

static void
time_is_what_a_look_in_vain_shows(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	bed_pass(bed, 1);
	assert_false(bed->vq.rest.was_on);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	bed_pass(bed, 1);
	assert_true(bed->vq.rest.was_on);
	bed_pass(bed, 1);
	assert_false(bed->vq.rest.was_on);
}

static void
bursts_are_counted(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});

	for (uint16_t i = 0; i < GIVE_BACK_LEAST; i++)
		bed_send_plain(bed, 60, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), GIVE_BACK_LEAST);
	assert_int_equal(bed->vq.give_back.left, GIVE_BACK_PATIENCE - (int)GIVE_BACK_LEAST);
	rte_pktmbuf_free_bulk(bed->pkts, GIVE_BACK_LEAST);
}

/* Of frames that fit into one mbuf, at places of all kinds. */
static uint32_t
test_len(uint32_t seed)
{
	return 60 + seed * 37 % 1459;
}

static void
pass_some(struct bed *bed, uint32_t seed, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		bed_send_plain(bed, test_len(seed + i), seed + i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), n);
	for (uint16_t i = 0; i < n; i++) {
		struct ring_used used;

		bed_expect_packet(bed->pkts[i], test_len(seed + i), seed + i, BED_ROOM);
		assert_true(bed_collect(bed, &used));
	}
}

static void
packets_arrive_whose_lines_are_given_back(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});
	uint32_t seed = 0;

	for (unsigned int round = 0; round < 30 * GIVE_BACK_WAYS; round++) {
		const uint8_t way = round % GIVE_BACK_WAYS;
		const uint16_t n = (uint16_t)(GIVE_BACK_LEAST + round % 20);

		if ((dynvhost_give_back_ways() & 1u << way) == 0)
			continue;
		bed->vq.give_back.way = way;
		pass_some(bed, seed, n);
		seed += n;
	}
	/* The first of each page goes the long way, which opens it. */
	assert_true(bed->vq.ordinary > seed / 2);
}

/* Of the functions of this CPU, with a count of what is given back. */
static const struct dynvhost_fast *spied;
static unsigned int given[GIVE_BACK_WAYS];

static void
spy_dequeue_giving(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
	const struct fast_mbufs *mbufs, enum give_back_way way)
{
	given[way] += n;
	spied->dequeue_giving(job, pkts, n, mbufs, way);
}

static void
only_streams_are_given_back_and_in_the_way_in_force(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = BED_DEQUEUE, .features = BED_V1});
	struct dynvhost_fast spy = *bed->vq.fast;

	spied = bed->vq.fast;
	spy.dequeue_giving = spy_dequeue_giving;
	bed->vq.fast = &spy;
	for (uint8_t way = 0; way < GIVE_BACK_WAYS; way++) {
		if ((dynvhost_give_back_ways() & 1u << way) == 0)
			continue;
		memset(given, 0, sizeof(given));
		bed->vq.give_back.way = way;
		bed_pass(bed, GIVE_BACK_LEAST - 1);
		assert_int_equal(given[way], 0);
		bed_pass(bed, 20);
		for (unsigned int other = 0; other < GIVE_BACK_WAYS; other++)
			assert_int_equal(given[other] > 0, other == way && way != GIVE_BACK_NOT);
	}
	bed->vq.fast = spied;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(best_way_is_kept),
		BED_TEST(little_gain_is_not_worth_it),
		BED_TEST(disturbance_of_one_turn_does_not_count),
		BED_TEST(what_the_way_before_left_does_not_count),
		BED_TEST(trial_is_short),
		BED_TEST(trial_of_a_slow_guest_is_short_too),
		BED_TEST(ways_that_the_cpu_lacks_are_not_tried),
		BED_TEST(trial_is_for_streams_that_are_waited_for),
		BED_TEST(way_in_force_is_tried_again),
		BED_TEST(choice_that_holds_is_left_alone),
		BED_TEST(pause_of_the_guest_ends_a_trial),
		BED_TEST(ring_that_starts_gives_nothing_back),
		BED_TEST(time_is_what_a_look_in_vain_shows),
		BED_TEST(bursts_are_counted),
		BED_TEST(only_streams_are_given_back_and_in_the_way_in_force),
		BED_TEST(packets_arrive_whose_lines_are_given_back),
	};

	return bed_run(tests);
}
