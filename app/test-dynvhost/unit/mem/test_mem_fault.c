/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Faults inside windows: what the kernel took is put back (H52), what is gone is survived (H51,
 * H53), and so is a kernel that does not help.
 *
 * The test framework has handlers of its own, a new one for each test, so each test asks for the
 * library's to be put in front.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault_setup.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static void
a_punched_page_is_put_back_empty(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 2 * MT_PAGE, READ);
	volatile uint8_t *stores = mt_hva(s.view, MT_GPA, MT_PAGE, WRITE);
	uint64_t filled = mt_stats(s.mem).allocations;
	uint8_t byte;

	stores[1] = 'a';
	assert_int_equal(loads[1], 'a');
	fault_punch(&s, 0, 2);
	errno = 4711;
	assert_int_equal(loads[1], 0);
	assert_int_equal(errno, 4711);
	/* The page of the write window was taken as well. */
	stores[2] = 'b';
	mt_get(s.fd, 2, &byte, 1);
	assert_int_equal(byte, 'b');
	assert_int_equal(loads[2], 'b');
	assert_int_equal(mt_stats(s.mem).repairs, fault_by_us(2));
	assert_int_equal(mt_stats(s.mem).allocations, filled + fault_by_us(1));
	assert_int_equal(mt_stats(s.mem).lost, 0);
	assert_false(dynvhost_mem_is_lost(s.mem));
	fault_teardown(&s);
}

static void
a_punched_page_that_has_memory_again_costs_none(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 1, READ);
	uint64_t filled = mt_stats(s.mem).allocations;

	fault_punch(&s, 0, 1);
	mt_put(s.fd, 0, "new", 3);
	assert_int_equal(loads[2], 'w');
	assert_int_equal(mt_stats(s.mem).repairs, fault_by_us(1));
	assert_int_equal(mt_stats(s.mem).allocations, filled);
	fault_teardown(&s);
}

static void
a_collapse_into_huge_pages_loses_nothing(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	const uint64_t size = 2 * MT_2M;
	int fd = mt_memfd(size);
	struct dynvhost_mem_view *view = mt_view(mem, fd, size);
	volatile uint8_t *loads, *stores;
	uint8_t *other, *aligned;
	uint64_t i;

	for (i = 0; i < size; i += MT_PAGE)
		mt_put(fd, i, &(uint8_t){(uint8_t)(i / MT_PAGE + 1)}, 1);
	loads = mt_hva(view, MT_GPA, MT_2M, READ);
	stores = mt_hva(view, MT_GPA, MT_2M / 2, WRITE);
	other = mmap(NULL, size + MT_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	aligned = (uint8_t *)(((uintptr_t)other + MT_2M - 1) & ~(uintptr_t)(MT_2M - 1));
	aligned = mmap(aligned, MT_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	assert_int_equal(dynvhost_mem_faults_arm(), 0);
	if (madvise(aligned, MT_2M, MADV_COLLAPSE) != 0)
		mt_skip("MADV_COLLAPSE: %s", strerror(errno));
	for (i = 0; i < MT_2M; i += MT_PAGE) {
		assert_int_equal(loads[i], (uint8_t)(i / MT_PAGE + 1));
		if (i < MT_2M / 2)
			stores[i] = 7;
	}
	assert_int_equal(aligned[MT_2M / 2 - MT_PAGE], 7);
	print_message("%ju repairs\n", (uintmax_t)mt_stats(mem).repairs);
	if (mt_kind == &mt_uffd)
		assert_true(mt_stats(mem).repairs > 0);
	munmap(other, size + MT_2M);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

/** After a loss: the port is marked, nothing opens, and all is well with the next table. */
static void
fault_expect_lost(struct fault_setup *s, uint64_t pages)
{
	struct dynvhost_mem_span span;
	struct dynvhost_mem_pin pin;
	struct dynvhost_mem_view *view;
	struct dynvhost_mem_slot slot;

	assert_true(dynvhost_mem_is_lost(s->mem));
	assert_int_equal(mt_stats(s->mem).lost, pages);
	assert_int_equal(mt_translate(s->view, MT_GPA + 4 * MT_PAGE, 1, READ, &span), -EAGAIN);
	assert_int_equal(dynvhost_mem_pin(s->view, MT_GPA + 4 * MT_PAGE, 1, READ, &pin), -EAGAIN);
	assert_int_equal(dynvhost_mem_idle_pass(s->mem), 0);
	assert_int_equal(dynvhost_mem_idle_pass(s->mem), 0);

	/* The same table again: its regions are made anew. */
	assert_int_equal(ftruncate(s->fd, (off_t)SIZE), 0);
	slot = mt_slot(MT_GPA, SIZE, 0, s->fd);
	assert_int_equal(dynvhost_mem_view_build(s->mem, s->view, &slot, 1, &view), 0);
	assert_true(dynvhost_mem_is_lost(s->mem));
	dynvhost_mem_view_release(s->view);
	assert_false(dynvhost_mem_is_lost(s->mem));
	s->view = view;
	mt_put(s->fd, 4 * MT_PAGE, "again", 5);
	assert_memory_equal(mt_hva(s->view, MT_GPA + 4 * MT_PAGE, 5, READ), "again", 5);
}

static void
a_cut_idle_page_is_nobodys_business(void **state)
{
	struct fault_setup s = fault_setup();
	struct dynvhost_mem_span span;

	mt_hva(s.view, MT_GPA + 5 * MT_PAGE, 1, READ);
	fault_cut(&s, 2);
	assert_false(dynvhost_mem_is_lost(s.mem));
	assert_int_equal(mt_translate(s.view, MT_GPA + 6 * MT_PAGE, 1, READ, &span), -EAGAIN);
	*mt_hva(s.view, MT_GPA + MT_PAGE, 1, WRITE) = 1;
	/* It closes as any other. */
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 0);
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 2);
	assert_false(dynvhost_mem_is_lost(s.mem));
	fault_teardown(&s);
}

static void
a_cut_ring_page_marks_the_port(void **state)
{
	struct fault_setup s = fault_setup();
	struct dynvhost_mem_pin pin;
	volatile uint16_t *ring;

	assert_int_equal(dynvhost_mem_pin(s.view, MT_GPA + 3 * MT_PAGE, 64, WRITE, &pin), 0);
	ring = pin.hva;
	ring[0] = 0x1234;
	fault_cut(&s, 3);
	assert_int_equal(ring[0], 0);
	ring[1] = 5;
	assert_int_equal(ring[1], 5);
	dynvhost_mem_unpin(&pin);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

static void
a_copy_over_a_cut_page_ends_in_zeroes(void **state)
{
	struct fault_setup s = fault_setup();
	uint8_t *packet = malloc(2 * MT_PAGE), *loads;
	uint64_t i;

	assert_non_null(packet);
	memset(packet, 0xaa, 2 * MT_PAGE);
	mt_put(s.fd, MT_PAGE, packet, 2 * MT_PAGE);
	loads = mt_hva(s.view, MT_GPA + MT_PAGE, 2 * MT_PAGE, READ);
	fault_cut(&s, 2);
	memcpy(packet, loads, 2 * MT_PAGE);
	for (i = 0; i < 2 * MT_PAGE; i++)
		if (packet[i] != (i < MT_PAGE ? 0xaa : 0))
			fail_msg("byte %ju is 0x%x", (uintmax_t)i, packet[i]);
	free(packet);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

static void
a_header_stored_to_a_cut_page_goes_nowhere(void **state)
{
	struct fault_setup s = fault_setup();
	uint8_t *stores = mt_hva(s.view, MT_GPA + 7 * MT_PAGE - 6, 12, WRITE);

	fault_cut(&s, 7);
	memset(stores, 0x5b, 12);
	assert_int_equal(stores[11], 0x5b);
	fault_cut(&s, 8);
	mt_get(s.fd, 7 * MT_PAGE - 6, stores, 12);
	assert_int_equal(stores[5], 0x5b);
	assert_int_equal(stores[6], 0);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

/** The process has no mapping left for a piece of another. */
static void *
fault_full_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	if ((flags & MAP_FIXED) != 0 && length == MT_PAGE) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return mmap(addr, length, prot, flags, fd, offset);
}

static void
a_loss_with_no_room_for_a_mapping_takes_the_window(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 3 * MT_PAGE, READ);
	struct mem_sys_ops full = dynvhost_mem_sys_real;

	mt_put(s.fd, 0, "x", 1);
	assert_int_equal(loads[0], 'x');
	fault_cut(&s, 2);
	full.mmap = fault_full_mmap;
	dynvhost_mem_sys = &full;
	assert_int_equal(loads[2 * MT_PAGE], 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(loads[0], 0);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

/** Punch (or cut) an open page and touch it while call @p at fails. @return whether it was made. */
static bool
fault_fail_at(unsigned int at, bool cut, bool *lost)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *stores = mt_hva(s.view, MT_GPA + MT_PAGE, 1, WRITE);
	unsigned int calls;

	if (cut)
		fault_cut(&s, 1);
	else
		fault_punch(&s, 1, 1);
	mt_fail_start(MT_FAIL_ONE, at);
	stores[0] = 'f';
	calls = mt_fail_stop();
	assert_int_equal(stores[0], 'f');
	*lost = dynvhost_mem_is_lost(s.mem);
	assert_int_equal(mt_stats(s.mem).lost, *lost ? 1 : 0);
	assert_int_equal(mt_stats(s.mem).repairs, *lost ? 0 : 1);
	fault_teardown(&s);
	return at <= calls;
}

static void
a_call_that_fails_in_a_repair_is_survived(void **state)
{
	unsigned int at = 0, losses = 0;
	bool lost;

	while (fault_fail_at(++at, false, &lost))
		losses += lost;
	assert_false(lost);
	print_message("punched: %u calls, %u matter\n", at - 1, losses);
	assert_in_range(at - 1, 4, 10);
	for (at = 1; fault_fail_at(at, true, &lost); at++)
		assert_true(lost);
	assert_in_range(at - 1, 3, 10);
}

/** Take all huge pages that are free. @return a file that holds them. */
static int
fault_take_huge_pages(void)
{
	int fd = mt_memfd(1024 * MT_2M);
	off_t at = 0;

	while (fallocate(fd, FALLOC_FL_KEEP_SIZE, at, (off_t)MT_2M) == 0)
		at += (off_t)MT_2M;
	return fd;
}

static void
a_page_for_which_there_is_no_memory_is_lost(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA + MT_PAGE, 1, READ);
	int hoard;

	fault_punch(&s, 1, 1);
	hoard = fault_take_huge_pages();
	assert_int_equal(loads[0], 0);
	close(hoard);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

static void
broken_memory_is_lost(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA + 2 * MT_PAGE, 1, READ);
	struct mem_fault fault = {
		.addr = (uintptr_t)loads + 17,
		.signal = SIGBUS,
		.code = BUS_MCEERR_AR,
		.access = MEM_ACCESS_LOAD,
	};

	mt_put(s.fd, 2 * MT_PAGE, "x", 1);
	assert_int_equal(loads[0], 'x');
	assert_true(mem_fault_handle(&fault));
	assert_int_equal(loads[0], 0);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

/** The userfaultfd is closed behind our back. */
static void
a_window_without_guard_is_emptied(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 2, READ);
	struct dynvhost_mem_span span;

	mt_fill(s.fd, 0, SIZE);
	close(s.mem->fence.fd);
	/* This is what it is about. */
	assert_true(mt_load(loads + 9 * MT_PAGE) >= 0);
	assert_int_equal(dynvhost_mem_idle_pass(s.mem), 0);
	assert_int_equal(mt_load(loads + 9 * MT_PAGE), -1);
	assert_int_equal(mt_load(s.view->region[0]->window[WRITE].base), -1);
	assert_true(dynvhost_mem_is_lost(s.mem));
	assert_int_equal(mt_translate(s.view, MT_GPA + MT_PAGE, 1, READ, &span), -EAGAIN);
	/* Who is inside a burst goes on with nothing. */
	assert_int_equal(loads[1], 0);
	assert_int_equal(mt_stats(s.mem).lost, 1);
	dynvhost_mem_view_release(s.view);
	dynvhost_mem_destroy(s.mem);
	close(s.fd);
}

static void
an_open_finds_that_the_guard_is_gone(void **state)
{
	int way, number;

	for (way = 0; way < 3; way++) {
		struct fault_setup s = fault_setup(), other = fault_setup();
		struct dynvhost_mem_span span;

		mt_fill(s.fd, 0, SIZE);
		mt_hva(s.view, MT_GPA, 2, READ);
		/* Its number belongs to nobody, to a file, or to another userfaultfd. */
		number = s.mem->fence.fd;
		close(number);
		if (way == 1)
			assert_int_equal(dup2(s.fd, number), number);
		else if (way == 2)
			assert_int_equal(dup2(other.mem->fence.fd, number), number);
		assert_int_equal(mt_translate(s.view, MT_GPA + MT_PAGE, 1, READ, &span), -EAGAIN);
		assert_int_equal(mt_load(s.view->region[0]->window[READ].base + MT_PAGE), -1);
		assert_true(dynvhost_mem_is_lost(s.mem));
		dynvhost_mem_view_release(s.view);
		dynvhost_mem_destroy(s.mem);
		/* Whoever has the number now keeps it. */
		assert_int_equal(close(number), way == 0 ? -1 : 0);
		close(s.fd);
		fault_teardown(&other);
	}
}

/** The kernel says that the page is there, though it is not. */
static int
fault_lying_ioctl(int fd, unsigned long request, void *arg)
{
	errno = EEXIST;
	return -1;
}

/** The kernel asks to be asked again, and does nothing. */
static int
fault_lazy_ioctl(int fd, unsigned long request, void *arg)
{
	errno = EAGAIN;
	return -1;
}

static void
a_kernel_that_puts_us_off_is_not_asked_for_ever(void **state)
{
	struct fault_setup s = fault_setup();
	struct mem_sys_ops lazy = dynvhost_mem_sys_real;
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 1, READ);
	struct dynvhost_mem_span span;

	fault_punch(&s, 0, 1);
	lazy.ioctl = fault_lazy_ioctl;
	dynvhost_mem_sys = &lazy;
	assert_int_equal(mt_translate(s.view, MT_GPA + MT_PAGE, 1, READ, &span), -EAGAIN);
	assert_false(dynvhost_mem_is_lost(s.mem));
	assert_int_equal(loads[0], 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

static void
a_page_that_faults_for_ever_is_lost(void **state)
{
	struct fault_setup s = fault_setup();
	struct mem_sys_ops lying = dynvhost_mem_sys_real;
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 1, READ);

	fault_punch(&s, 0, 1);
	lying.ioctl = fault_lying_ioctl;
	dynvhost_mem_sys = &lying;
	assert_int_equal(loads[0], 0);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
	assert_int_equal(mt_stats(s.mem).repairs, 0);
	fault_expect_lost(&s, 1);
	fault_teardown(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_punched_page_is_put_back_empty),
		cmocka_unit_test(a_punched_page_that_has_memory_again_costs_none),
		cmocka_unit_test(a_cut_idle_page_is_nobodys_business),
		cmocka_unit_test(a_cut_ring_page_marks_the_port),
		cmocka_unit_test(a_copy_over_a_cut_page_ends_in_zeroes),
		cmocka_unit_test(a_header_stored_to_a_cut_page_goes_nowhere),
		cmocka_unit_test(a_loss_with_no_room_for_a_mapping_takes_the_window),
		cmocka_unit_test(broken_memory_is_lost),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(a_collapse_into_huge_pages_loses_nothing),
	};
	const struct CMUnitTest of_huge_pages[] = {
		cmocka_unit_test(a_page_for_which_there_is_no_memory_is_lost),
	};
	const struct CMUnitTest of_userfaultfd[] = {
		cmocka_unit_test(a_call_that_fails_in_a_repair_is_survived),
		cmocka_unit_test(a_kernel_that_puts_us_off_is_not_asked_for_ever),
		cmocka_unit_test(a_page_that_faults_for_ever_is_lost),
		cmocka_unit_test(a_window_without_guard_is_emptied),
		cmocka_unit_test(an_open_finds_that_the_guard_is_gone),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_small_pages, sizeof(of_small_pages) / sizeof(of_small_pages[0]),
		       MT_SMALL) +
	       mt_run(of_huge_pages, sizeof(of_huge_pages) / sizeof(of_huge_pages[0]), MT_HUGE) +
	       mt_run(of_userfaultfd, sizeof(of_userfaultfd) / sizeof(of_userfaultfd[0]), MT_UFFD);
}
