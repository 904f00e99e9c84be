/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The gate between control and datapath: first what each call says, in one thread, then two threads
 * that would see each other's half-done work if it let both in.
 *
 * Both forms are tested: with membarrier, and with the fence in every burst that takes its place
 * where the kernel has none; a gate that is initialised before dynvhost_gate_setup() is of that form.
 *
 * This file is also built with ThreadSanitizer. TSan knows no fences, but it needs none here: what it
 * asks for are happens-before edges between the two threads' plain accesses, and those run over
 * acquire and release on `seq` and `hold` alone. The fence (or membarrier) only keeps both sides from
 * missing each other's announcement, which TSan cannot see and the assertions here can; in that build
 * the instruction is there all the same. Hence -Wno-tsan, GCC's warning about fences.
 */

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* The form is decided by a static. */
#include "../../../../drivers/net/dynvhost/virtqueue/gate.c"

static void
init_form(struct dynvhost_gate *gate, bool fenced)
{
	gate_has_membarrier = false;
	if (!fenced) {
		dynvhost_gate_setup();
		/* Linux 4.14 and later have it. */
		assert_true(gate_has_membarrier);
	}
	dynvhost_gate_init(gate);
	assert_int_equal(gate->fenced, fenced);
}

static bool
is_outside_now(struct dynvhost_gate *gate)
{
	dynvhost_gate_sync();
	return dynvhost_gate_was_outside(gate, dynvhost_gate_look(gate));
}

static void
check_enter_and_leave(bool fenced)
{
	struct dynvhost_gate gate;
	int i;

	init_form(&gate, fenced);
	assert_true(is_outside_now(&gate));
	for (i = 0; i < 3; i++) {
		assert_true(dynvhost_gate_enter(&gate));
		assert_false(is_outside_now(&gate));
		dynvhost_gate_leave(&gate);
		assert_true(is_outside_now(&gate));
	}
}

static void
test_burst_is_inside_between_enter_and_leave(void **state)
{
	check_enter_and_leave(false);
	check_enter_and_leave(true);
}

static void
check_held_gate(bool fenced)
{
	struct dynvhost_gate gate;

	init_form(&gate, fenced);
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	assert_false(dynvhost_gate_enter(&gate));
	assert_true(is_outside_now(&gate));
	assert_false(dynvhost_gate_enter(&gate));
	dynvhost_gate_release(&gate, DYNVHOST_GATE_CONTROL);
	assert_true(dynvhost_gate_enter(&gate));
	dynvhost_gate_leave(&gate);
}

static void
test_held_gate_lets_no_burst_in(void **state)
{
	check_held_gate(false);
	check_held_gate(true);
}

static void
test_hold_does_not_end_a_running_burst(void **state)
{
	struct dynvhost_gate_snapshot snapshot;
	struct dynvhost_gate gate;

	init_form(&gate, false);
	assert_true(dynvhost_gate_enter(&gate));
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	dynvhost_gate_sync();
	snapshot = dynvhost_gate_look(&gate);
	assert_false(dynvhost_gate_was_outside(&gate, snapshot));
	assert_false(dynvhost_gate_was_outside(&gate, snapshot));
	dynvhost_gate_leave(&gate);
	assert_true(dynvhost_gate_was_outside(&gate, snapshot));
}

static void
test_burst_after_the_snapshot_does_not_hide_that_the_queue_was_outside(void **state)
{
	struct dynvhost_gate_snapshot snapshot;
	struct dynvhost_gate gate;

	/* As for idle closing: snapshots without a hold. */
	init_form(&gate, false);
	assert_true(dynvhost_gate_enter(&gate));
	snapshot = dynvhost_gate_look(&gate);
	assert_false(dynvhost_gate_was_outside(&gate, snapshot));
	dynvhost_gate_leave(&gate);
	assert_true(dynvhost_gate_enter(&gate));
	assert_true(dynvhost_gate_was_outside(&gate, snapshot));
	dynvhost_gate_leave(&gate);

	snapshot = dynvhost_gate_look(&gate);
	assert_true(dynvhost_gate_enter(&gate));
	assert_true(dynvhost_gate_was_outside(&gate, snapshot));
	dynvhost_gate_leave(&gate);
}

static void
test_refused_burst_counts_as_outside(void **state)
{
	struct dynvhost_gate_snapshot snapshot;
	struct dynvhost_gate gate;
	int i;

	init_form(&gate, false);
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	for (i = 0; i < 5; i++) {
		snapshot = dynvhost_gate_look(&gate);
		assert_true(dynvhost_gate_was_outside(&gate, snapshot));
		assert_false(dynvhost_gate_enter(&gate));
		assert_true(dynvhost_gate_was_outside(&gate, snapshot));
	}
	dynvhost_gate_release(&gate, DYNVHOST_GATE_CONTROL);
}

static void
test_two_holders_do_not_release_each_other(void **state)
{
	struct dynvhost_gate gate;

	init_form(&gate, false);
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_ETHDEV);
	dynvhost_gate_release(&gate, DYNVHOST_GATE_CONTROL);
	assert_false(dynvhost_gate_enter(&gate));
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	dynvhost_gate_release(&gate, DYNVHOST_GATE_ETHDEV);
	assert_false(dynvhost_gate_enter(&gate));
	dynvhost_gate_release(&gate, DYNVHOST_GATE_CONTROL);
	assert_true(dynvhost_gate_enter(&gate));
	dynvhost_gate_leave(&gate);
}

static void
test_holding_twice_is_holding_once(void **state)
{
	struct dynvhost_gate gate;

	init_form(&gate, false);
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	dynvhost_gate_hold(&gate, DYNVHOST_GATE_CONTROL);
	dynvhost_gate_release(&gate, DYNVHOST_GATE_CONTROL);
	assert_true(dynvhost_gate_enter(&gate));
	dynvhost_gate_leave(&gate);
}

/** Two threads at one queue lose steps of each other's; no mistake must outlive them. */
static void
test_h90_gate_that_two_threads_have_used_is_right_with_the_next_burst(void **state)
{
	struct dynvhost_gate gate;
	uint32_t seq;

	for (seq = 0; seq < 8; seq++) {
		init_form(&gate, false);
		atomic_store(&gate.seq, seq);
		assert_true(dynvhost_gate_enter(&gate));
		assert_false(is_outside_now(&gate));
		/* The other one leaves. */
		dynvhost_gate_leave(&gate);
		dynvhost_gate_leave(&gate);
		assert_true(is_outside_now(&gate));
		assert_true(dynvhost_gate_enter(&gate));
		assert_false(is_outside_now(&gate));
		dynvhost_gate_leave(&gate);
		assert_true(is_outside_now(&gate));
	}
}

static void
test_sequence_may_wrap(void **state)
{
	struct dynvhost_gate_snapshot snapshot;
	struct dynvhost_gate gate;

	init_form(&gate, false);
	atomic_store(&gate.seq, UINT32_MAX - 1);
	assert_true(dynvhost_gate_enter(&gate));
	snapshot = dynvhost_gate_look(&gate);
	assert_false(dynvhost_gate_was_outside(&gate, snapshot));
	dynvhost_gate_leave(&gate);
	assert_int_equal(atomic_load(&gate.seq), 0);
	assert_true(dynvhost_gate_was_outside(&gate, snapshot));
}

static void
test_gate_has_a_cache_line_of_its_own(void **state)
{
	assert_int_equal(sizeof(struct dynvhost_gate) % RTE_CACHE_LINE_SIZE, 0);
	assert_int_equal(_Alignof(struct dynvhost_gate), RTE_CACHE_LINE_SIZE);
}

/** Words that control changes one by one, and that bursts find all alike. */
#define WORDS 8
/** Changes by control. */
#define CHANGES 1500u
/** Where the two threads have to take turns on one CPU each change takes long: then fewer will do. */
#define CHANGES_LEAST 50u
#define SECONDS       2
/** Looks at the other thread before its CPU is given to others. */
#define LOOKS 2000

/** Memory that no cache holds, and stores to it before every burst. */
#define FAR_BYTES  (32u << 20)
#define FAR_STORES 30

/** What the two threads share. No access to `word` and `bursts` is atomic. */
struct shared {
	struct dynvhost_gate gate;
	uint64_t word[WORDS];   /**< written by control while the queue is outside */
	uint64_t bursts[WORDS]; /**< written by bursts; all alike between them */
	atomic_bool stop;
	uint8_t *far;
	uint32_t far_at;
	uint64_t torn; /**< bursts that have seen half a change */
	uint64_t refused;
};

static void
burst(struct shared *shared)
{
	volatile uint64_t *word = shared->word;
	uint64_t first = word[0];
	int i;

	for (i = 1; i < WORDS; i++)
		shared->torn += word[i] != first;
	for (i = 0; i < WORDS; i++)
		((volatile uint64_t *)shared->bursts)[i]++;
}

/**
 * Stores that take their time. Processors carry out stores in order and loads ahead of them: without
 * a fence the burst looks at `hold` long before anybody can see its announcement.
 */
static void
store_far(struct shared *shared)
{
	int i;

	for (i = 0; i < FAR_STORES; i++) {
		shared->far_at = shared->far_at * 1664525u + 1013904223u;
		((volatile uint8_t *)shared->far)[shared->far_at % FAR_BYTES] = 1;
	}
}

static void *
burst_loop(void *arg)
{
	struct shared *shared = arg;

	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		store_far(shared);
		if (!dynvhost_gate_enter(&shared->gate)) {
			shared->refused++;
			continue;
		}
		burst(shared);
		dynvhost_gate_leave(&shared->gate);
	}
	return NULL;
}

static time_t
now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/** Wait until a burst has begun and ended, so that the two threads do run side by side. */
static void
wait_for_burst(struct shared *shared)
{
	uint32_t seq = atomic_load_explicit(&shared->gate.seq, memory_order_relaxed);
	unsigned int looks = 0;

	while (atomic_load_explicit(&shared->gate.seq, memory_order_relaxed) - seq < 2) {
		if (++looks % LOOKS == 0)
			sched_yield();
	}
}

/**
 * Hold the gate until the queue is outside, change everything, let go.
 * @return how much was seen of a burst that is not over.
 */
static unsigned int
change(struct shared *shared)
{
	struct dynvhost_gate_snapshot snapshot;
	unsigned int torn = 0;
	int i;

	dynvhost_gate_hold(&shared->gate, DYNVHOST_GATE_CONTROL);
	dynvhost_gate_sync();
	snapshot = dynvhost_gate_look(&shared->gate);
	while (!dynvhost_gate_was_outside(&shared->gate, snapshot))
		sched_yield();
	for (i = 0; i < WORDS; i++) {
		((volatile uint64_t *)shared->word)[i]++;
		torn += shared->bursts[i] != shared->bursts[0];
	}
	dynvhost_gate_release(&shared->gate, DYNVHOST_GATE_CONTROL);
	return torn;
}

static void
check_two_threads(bool fenced)
{
	struct shared *shared = NULL;
	unsigned int repeat = getenv("DYNVHOST_TEST_LONG") != NULL ? 50 : 1;
	const time_t end = now_seconds() + SECONDS * repeat;
	unsigned int torn = 0;
	pthread_t thread;
	unsigned int i;

	assert_int_equal(posix_memalign((void **)&shared, RTE_CACHE_LINE_SIZE, sizeof(*shared)), 0);
	memset(shared, 0, sizeof(*shared));
	shared->far = malloc(FAR_BYTES);
	assert_non_null(shared->far);
	memset(shared->far, 0, FAR_BYTES);
	init_form(&shared->gate, fenced);
	assert_int_equal(pthread_create(&thread, NULL, burst_loop, shared), 0);
	for (i = 0; i < CHANGES * repeat; i++) {
		if (i >= CHANGES_LEAST && now_seconds() > end)
			break;
		wait_for_burst(shared);
		torn += change(shared);
	}
	atomic_store(&shared->stop, true);
	pthread_join(thread, NULL);

	print_message("# %s: %u changes, %llu bursts, %llu refused\n",
		fenced ? "fenced" : "membarrier", i, (unsigned long long)shared->bursts[0],
		(unsigned long long)shared->refused);
	assert_int_equal(torn, 0);
	assert_int_equal(shared->torn, 0);
	assert_int_equal(shared->word[WORDS - 1], i);
	assert_true(shared->bursts[0] > 0);
	free(shared->far);
	free(shared);
}

static void
test_no_burst_sees_half_a_change_with_membarrier(void **state)
{
	check_two_threads(false);
}

static void
test_no_burst_sees_half_a_change_with_fences(void **state)
{
	check_two_threads(true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_is_inside_between_enter_and_leave),
		cmocka_unit_test(test_held_gate_lets_no_burst_in),
		cmocka_unit_test(test_hold_does_not_end_a_running_burst),
		cmocka_unit_test(
			test_burst_after_the_snapshot_does_not_hide_that_the_queue_was_outside),
		cmocka_unit_test(test_refused_burst_counts_as_outside),
		cmocka_unit_test(test_two_holders_do_not_release_each_other),
		cmocka_unit_test(test_holding_twice_is_holding_once),
		cmocka_unit_test(
			test_h90_gate_that_two_threads_have_used_is_right_with_the_next_burst),
		cmocka_unit_test(test_sequence_may_wrap),
		cmocka_unit_test(test_gate_has_a_cache_line_of_its_own),
		cmocka_unit_test(test_no_burst_sees_half_a_change_with_membarrier),
		cmocka_unit_test(test_no_burst_sees_half_a_change_with_fences),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("unit_drv_gate", tests, NULL, NULL);
}
