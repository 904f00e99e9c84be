/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Mirrors: what they show, and that they can be loaded whatever becomes of guest memory. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "dynvhost_mem_mirror.h"
#include "mem_test.h"

#define MIRROR_PAGES 8
#define MIRROR_BYTE  (MT_PAGE + 100) /* what is pinned and shown begins there in the file */

/* A guest of some pages, with a pin in its second one. */
struct mirror_bed {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_pin pin;
	struct dynvhost_mem_mirror *mirror;
	int fd;
};

static void
bed_connect(struct mirror_bed *bed, uint64_t len, enum dynvhost_mem_right right)
{
	bed->fd = mt_memfd_unsealable(MIRROR_PAGES * MT_PAGE);
	mt_fill(bed->fd, 0, MIRROR_PAGES * MT_PAGE);
	bed->view = mt_view(bed->mem, bed->fd, MIRROR_PAGES * MT_PAGE);
	assert_int_equal(
		dynvhost_mem_pin(bed->view, MT_GPA + MIRROR_BYTE, len, right, &bed->pin), 0);
}

static void
bed_disconnect(struct mirror_bed *bed)
{
	dynvhost_mem_unpin(&bed->pin);
	dynvhost_mem_view_release(bed->view);
	close(bed->fd);
}

static void
bed_make(struct mirror_bed *bed, uint64_t len, enum dynvhost_mem_right right)
{
	*bed = (struct mirror_bed){.mem = mt_create(NULL)};
	bed_connect(bed, len, right);
	assert_int_equal(dynvhost_mem_mirror_create(bed->mem, &bed->mirror), 0);
}

static void
bed_free(struct mirror_bed *bed)
{
	dynvhost_mem_mirror_destroy(bed->mirror);
	bed_disconnect(bed);
	dynvhost_mem_destroy(bed->mem);
}

static const uint8_t *
bed_show(struct mirror_bed *bed)
{
	const uint8_t *at = NULL;

	assert_int_equal(dynvhost_mem_mirror_show(bed->mirror, &bed->pin, &at), 0);
	assert_non_null(at);
	return at;
}

static void
mirror_shows_what_the_guest_stores(void **state)
{
	struct mirror_bed bed;
	const uint8_t *at;
	uint8_t byte;

	bed_make(&bed, 2, DYNVHOST_MEM_READ);
	at = bed_show(&bed);
	for (byte = 1; byte < 5; byte++) {
		mt_put(bed.fd, MIRROR_BYTE, &byte, 1);
		assert_int_equal(mt_load(at), byte);
	}
	bed_free(&bed);
}

static void
mirror_store(void *at)
{
	*(volatile uint8_t *)at = 9;
}

static void
mirror_takes_no_store(void **state)
{
	struct mirror_bed bed;
	const uint8_t *at;

	bed_make(&bed, 2, DYNVHOST_MEM_READ);
	at = bed_show(&bed);
	dynvhost_mem_mirror_hide(bed.mirror);
	assert_int_equal(mt_child(mirror_store, (void *)(uintptr_t)at).status, SIGSEGV);
	assert_int_equal(mt_load(at), 0);
	bed_free(&bed);
}

static void
mirror_shows_all_of_a_pin_that_spans_pages(void **state)
{
	const uint64_t len = 2 * MT_PAGE < DYNVHOST_MEM_MIRROR_MAX ? 2 * MT_PAGE
								   : DYNVHOST_MEM_MIRROR_MAX;
	struct mirror_bed bed;
	const uint8_t *at;
	uint8_t byte = 77;

	bed_make(&bed, len, DYNVHOST_MEM_WRITE);
	at = bed_show(&bed);
	mt_put(bed.fd, MIRROR_BYTE + len - 1, &byte, 1);
	assert_int_equal(mt_load(at + len - 1), byte);
	bed_free(&bed);
}

static void
mirror_that_is_hidden_can_be_loaded_and_comes_back_at_the_same_place(void **state)
{
	struct mirror_bed bed;
	const uint8_t *at;
	unsigned int maps;
	uint8_t byte = 3;
	unsigned int i;

	bed_make(&bed, 2, DYNVHOST_MEM_READ);
	at = bed_show(&bed);
	maps = mt_count_maps();
	for (i = 0; i < 20; i++) {
		mt_put(bed.fd, MIRROR_BYTE, &byte, 1);
		assert_int_equal(mt_load(at), byte);
		dynvhost_mem_mirror_hide(bed.mirror);
		assert_int_equal(mt_load(at), 0);
		bed_disconnect(&bed);
		assert_int_equal(mt_load(at), 0);
		bed_connect(&bed, 2, DYNVHOST_MEM_READ);
		assert_ptr_equal(bed_show(&bed), at);
	}
	assert_int_equal(mt_count_maps(), maps);
	bed_free(&bed);
}

static void
mirror_counts_as_loadable(void **state)
{
	struct mirror_bed bed;

	bed_make(&bed, 2, DYNVHOST_MEM_READ);
	assert_int_equal(mt_stats(bed.mem).loadable_bytes, MT_PAGE);
	mt_load(bed_show(&bed));
	assert_int_equal(mt_stats(bed.mem).loadable_bytes, 2 * MT_PAGE);
	assert_int_equal(mt_stats(bed.mem).loadable_peak, 2 * MT_PAGE);
	assert_int_equal(mt_stats(bed.mem).storable_bytes, 0);
	assert_int_equal(mt_reach(bed.fd).loadable, 2 * MT_PAGE);
	dynvhost_mem_mirror_hide(bed.mirror);
	assert_int_equal(mt_stats(bed.mem).loadable_bytes, MT_PAGE);
	assert_int_equal(mt_reach(bed.fd).loadable, MT_PAGE);
	bed_free(&bed);
}

static void
mirror_of_a_file_that_was_cut_shows_zeros(void **state)
{
	struct mirror_bed bed;
	const uint8_t *at;
	uint8_t byte = 3;

	bed_make(&bed, 2, DYNVHOST_MEM_READ);
	at = bed_show(&bed);
	mt_put(bed.fd, MIRROR_BYTE, &byte, 1);
	assert_int_equal(ftruncate(bed.fd, 0), 0);
	/* A fault that nobody treats ends the test. */
	assert_int_equal(*(const volatile uint8_t *)at, 0);
	assert_false(dynvhost_mem_is_lost(bed.mem));
	bed_free(&bed);
}

struct mirror_reader {
	const volatile uint8_t *at;
	_Atomic bool stop;
	uint64_t loads;
};

static void *
reader_run(void *opaque)
{
	struct mirror_reader *reader = opaque;

	for (; !atomic_load(&reader->stop); reader->loads++)
		(void)*reader->at;
	return NULL;
}

static void
who_loads_all_the_time_lives_through_everything(void **state)
{
	const unsigned int rounds = mt_is_long() ? 20000 : 500;
	struct mirror_bed bed;
	struct mirror_reader reader = {.loads = 0};
	pthread_t thread;
	unsigned int i;

	bed_make(&bed, 2, DYNVHOST_MEM_READ);
	reader.at = bed_show(&bed);
	assert_int_equal(pthread_create(&thread, NULL, reader_run, &reader), 0);
	for (i = 0; i < rounds; i++) {
		if (i % 3 == 0)
			assert_int_equal(ftruncate(bed.fd, 0), 0);
		if (i % 5 == 0)
			bed_show(&bed);
		dynvhost_mem_mirror_hide(bed.mirror);
		bed_disconnect(&bed);
		bed_connect(&bed, 2, DYNVHOST_MEM_READ);
		assert_ptr_equal(bed_show(&bed), reader.at);
	}
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	assert_true(reader.loads > 0);
	bed_free(&bed);
}

/* Whichever call fails: the mirror can be loaded, or there is none; and guest memory is not in it. */
static void
failing_calls_leave_a_mirror_that_can_be_loaded(void **state)
{
	unsigned int at, calls;

	for (at = 1, calls = 1; at <= calls; at++) {
		struct mirror_bed bed;
		const uint8_t *hva;
		const uint8_t *again;
		int rc;

		bed_make(&bed, 2, DYNVHOST_MEM_READ);
		hva = bed_show(&bed);
		mt_fail_start(MT_FAIL_ONE, at);
		dynvhost_mem_mirror_hide(bed.mirror);
		rc = dynvhost_mem_mirror_show(bed.mirror, &bed.pin, &again);
		calls = mt_fail_stop();
		(void)*(const volatile uint8_t *)hva;
		dynvhost_mem_mirror_hide(bed.mirror);
		(void)*(const volatile uint8_t *)hva;
		assert_int_equal(mt_reach(bed.fd).loadable, MT_PAGE);
		if (rc != 0)
			assert_int_equal(mt_stats(bed.mem).loadable_bytes, MT_PAGE);
		bed_free(&bed);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mirror_shows_what_the_guest_stores),
		cmocka_unit_test(mirror_takes_no_store),
		cmocka_unit_test(mirror_shows_all_of_a_pin_that_spans_pages),
		cmocka_unit_test(
			mirror_that_is_hidden_can_be_loaded_and_comes_back_at_the_same_place),
		cmocka_unit_test(mirror_counts_as_loadable),
		cmocka_unit_test(mirror_of_a_file_that_was_cut_shows_zeros),
		cmocka_unit_test(who_loads_all_the_time_lives_through_everything),
		cmocka_unit_test(failing_calls_leave_a_mirror_that_can_be_loaded),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) == 0 ? 0 : 1;
}
