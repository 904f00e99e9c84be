/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Faults inside windows: what the kernel took is put back (H52), what is gone is survived (H51,
 * H53), and what nobody may touch kills with a word (design, faults inside windows).
 *
 * The test framework has handlers of its own, a new one for each test, so each test asks for the
 * library's to be put in front.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES 16
#define SIZE  (PAGES * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct fault_setup {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd;
};

/** A port named "faulty" on a file that can be cut. */
static struct fault_setup
fault_setup(void)
{
	struct dynvhost_mem_config config = {.name = "faulty"};
	struct fault_setup s = {.mem = mt_create(&config), .fd = mt_memfd_unsealable(SIZE)};

	s.view = mt_view(s.mem, s.fd, SIZE);
	assert_int_equal(dynvhost_mem_faults_arm(), 0);
	return s;
}

static void
fault_teardown(struct fault_setup *s)
{
	dynvhost_mem_view_release(s->view);
	assert_int_equal(mt_stats(s->mem).loadable_bytes, 0);
	assert_int_equal(mt_reach(s->fd).mappings, 0);
	assert_false(dynvhost_mem_is_lost(s->mem));
	dynvhost_mem_destroy(s->mem);
	close(s->fd);
}

static void
fault_punch(const struct fault_setup *s, uint64_t page, uint64_t n)
{
	assert_int_equal(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(page * MT_PAGE), (off_t)(n * MT_PAGE)),
		0);
}

static void
fault_cut(const struct fault_setup *s, uint64_t pages)
{
	assert_int_equal(ftruncate(s->fd, (off_t)(pages * MT_PAGE)), 0);
}

/** With mappings the kernel puts pages back by itself. */
static uint64_t
fault_by_us(uint64_t n)
{
	return mt_kind->mode == DYNVHOST_MEM_MODE_UFFD ? n : 0;
}

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

/** A touch that must not be. */
struct fault_stray {
	struct fault_setup s;
	volatile uint8_t *addr;
	bool store;
	int survived; /* the byte */
};

static void
fault_touch(void *arg)
{
	struct fault_stray *stray = arg;

	/* A child has no window by itself. */
	stray->s = fault_setup();
	mt_hva(stray->s.view, MT_GPA, 1, READ);
	stray->addr = (uint8_t *)stray->s.view->region[0]->window[stray->store].base +
		      (uintptr_t)stray->addr;
	if (stray->store)
		*stray->addr = 1;
	else
		stray->survived = *stray->addr;
}

/** Touch a byte of a window, die, and say so. */
static void
fault_expect_death(int64_t offset, bool store, const char *where)
{
	struct fault_stray stray = {.addr = (uint8_t *)offset, .store = store};
	struct mt_end end = mt_child(fault_touch, &stray);
	char want[200];

	assert_true(WIFSIGNALED(end.status));
	assert_true(WTERMSIG(end.status) == SIGSEGV || WTERMSIG(end.status) == SIGBUS);
	snprintf(want, sizeof(want), "dynvhost: port faulty: stray %s guest address 0x%jx (host 0x",
		store ? "store to" : "load from", (uintmax_t)(MT_GPA + (uint64_t)offset));
	if (strncmp(end.said, want, strlen(want)) != 0 || strstr(end.said, where) == NULL ||
		end.said[strlen(end.said) - 1] != '\n')
		fail_msg("said: %s, not: %s..., %s", end.said, want, where);
}

static void
a_stray_pointer_dies_with_a_word(void **state)
{
	fault_expect_death((int64_t)(3 * MT_PAGE + 0x123), false, "): the page is not open\n");
	fault_expect_death((int64_t)(3 * MT_PAGE + 0x123), true, "): the page is not open\n");
	fault_expect_death(-1, false, "): it lies outside of its region\n");
	fault_expect_death((int64_t)SIZE, true, "): it lies outside of its region\n");
}

static void
fault_store_to_read_window(void *arg)
{
	struct fault_setup s = fault_setup();

	*mt_hva(s.view, MT_GPA + 5, 1, READ) = 1;
}

static void
a_store_through_the_read_window_dies_with_a_word(void **state)
{
	struct mt_end end = mt_child(fault_store_to_read_window, NULL);

	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGSEGV);
	assert_non_null(strstr(end.said, "stray store to guest address 0x100000005 "));
	assert_non_null(strstr(end.said, "): the page is open for loads only\n"));
}

static void
fault_touch_window_of_parent(void *arg)
{
	volatile uint8_t *loads = arg;

	if (dynvhost_mem_faults_arm() != 0)
		_exit(1);
	(void)*loads;
}

static void
a_forked_child_that_touches_a_window_dies(void **state)
{
	struct fault_setup s = fault_setup();
	volatile uint8_t *loads = mt_hva(s.view, MT_GPA, 1, READ);
	int punched;

	for (punched = 0; punched < 2; punched++) {
		struct mt_end end = mt_child(
			fault_touch_window_of_parent, (void *)(uintptr_t)loads);

		assert_true(WIFSIGNALED(end.status));
		assert_int_equal(WTERMSIG(end.status), SIGSEGV);
		assert_non_null(strstr(end.said, "): the page is not there\n"));
		fault_punch(&s, 0, 1);
	}
	assert_int_equal(mt_stats(s.mem).repairs, 0);
	assert_int_equal(*loads, 0);
	fault_teardown(&s);
}

static void
fault_as_nobody(void *arg)
{
	const struct mt_kind *kind = arg;
	struct fault_setup s;
	volatile uint8_t *bytes;

	if (setgid(65534) != 0 || setuid(65534) != 0)
		_exit(1);
	mt_kind = kind;
	s = fault_setup();
	bytes = mt_hva(s.view, MT_GPA, 3 * MT_PAGE, WRITE);
	bytes[MT_PAGE] = 'n';
	fault_punch(&s, 0, 1);
	bytes[0] = 'm';
	if (*mt_hva(s.view, MT_GPA + MT_PAGE, 1, READ) != 'n' ||
		mt_stats(s.mem).repairs != fault_by_us(1) ||
		dynvhost_mem_idle_pass(s.mem) + dynvhost_mem_idle_pass(s.mem) != 4)
		_exit(2);
	bytes = mt_hva(s.view, MT_GPA, 1, READ);
	fault_cut(&s, 0);
	_exit(bytes[0] == 0 && dynvhost_mem_is_lost(s.mem) ? 0 : 3);
}

static void
an_ordinary_user_needs_no_privilege(void **state)
{
	struct mt_end end;

	if (geteuid() != 0)
		mt_skip("must be root to become nobody");
	end = mt_child(fault_as_nobody, (void *)(uintptr_t)mt_kind);
	if (!WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0)
		fail_msg("status 0x%x: %s", end.status, end.said);
}

/** A handler of the application, which knows how to go on. */
static sigjmp_buf fault_app_jump;
static siginfo_t fault_app_info;
static int fault_app_calls;

static void
fault_app_handler(int number, siginfo_t *info, void *context)
{
	fault_app_calls++;
	fault_app_info = *info;
	siglongjmp(fault_app_jump, number);
}

static void
fault_app_plain_handler(int number)
{
	fault_app_calls++;
	siglongjmp(fault_app_jump, number);
}

/** Store to an address; NULL: have a signal sent. @return the signal that the application saw. */
static int
fault_provoke(volatile uint8_t *addr)
{
	int number = sigsetjmp(fault_app_jump, 1);

	if (number == 0 && addr != NULL)
		*addr = 1;
	else if (number == 0)
		raise(SIGBUS);
	return number;
}

/** An address where nothing ever is. */
static volatile uint8_t *volatile fault_nowhere = (uint8_t *)8;

static void
fault_before_us(void *arg)
{
	struct sigaction action = {.sa_sigaction = fault_app_handler, .sa_flags = SA_SIGINFO};
	uint8_t *page = mmap(NULL, MT_4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fault_setup s;

	sigaction(SIGSEGV, &action, NULL);
	action.sa_flags = 0;
	action.sa_handler = fault_app_plain_handler;
	sigaction(SIGBUS, &action, NULL);
	s = fault_setup();
	/* Elsewhere: theirs, with what the kernel said. */
	if (fault_provoke(page + 5) != SIGSEGV || fault_app_info.si_addr != page + 5 ||
		fault_app_info.si_code != SEGV_ACCERR || fault_provoke(page) != SIGSEGV)
		_exit(1);
	/* Not for us, but ours: reported, and theirs. */
	if (fault_provoke(s.view->region[0]->window[WRITE].base) == 0)
		_exit(2);
	/* For us: ours alone. */
	fault_app_calls = 0;
	mt_hva(s.view, MT_GPA, 1, WRITE);
	fault_punch(&s, 0, 1);
	if (fault_provoke(s.view->region[0]->window[WRITE].base) != 0 || fault_app_calls != 0)
		_exit(3);
	if (fault_provoke(NULL) != SIGBUS)
		_exit(4);
}

static void
handlers_that_were_there_get_what_is_not_ours(void **state)
{
	struct mt_end end;

	end = mt_child(fault_before_us, NULL);
	if (!WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0)
		fail_msg("status 0x%x: %s", end.status, end.said);
	assert_non_null(strstr(end.said, "stray store to guest address 0x100000000 "));
}

/** A handler that passes on what it does not want, as a good one does. */
static struct sigaction fault_app_old;

static void
fault_app_polite_handler(int number, siginfo_t *info, void *context)
{
	static const char word[] = "app: not mine\n";

	fault_app_calls++;
	if (number == SIGSEGV && write(STDERR_FILENO, word, sizeof(word) - 1) < 0)
		_exit(9);
	if ((fault_app_old.sa_flags & SA_SIGINFO) != 0)
		fault_app_old.sa_sigaction(number, info, context);
}

static void
fault_after_us(void *arg)
{
	struct sigaction action = {
		.sa_sigaction = fault_app_polite_handler, .sa_flags = SA_SIGINFO};
	const int *with_arm = arg;
	struct fault_setup s = fault_setup();
	volatile uint8_t *stores = mt_hva(s.view, MT_GPA, 1, WRITE);

	sigaction(SIGBUS, &action, &fault_app_old);
	sigaction(SIGSEGV, &action, NULL);
	if (*with_arm && (dynvhost_mem_faults_arm() != 0 || dynvhost_mem_faults_arm() != 0))
		_exit(1);
	fault_punch(&s, 0, 1);
	*stores = 1;
	/* In front of theirs they do not see what is ours. */
	if (*with_arm && fault_app_calls != 0)
		_exit(2);
	*fault_nowhere = 1;
}

static void
handlers_that_come_later_are_no_trap(void **state)
{
	int with_arm;

	/* What is nobody's ends by the default action, round and round though it went. */
	for (with_arm = 0; with_arm < 2; with_arm++) {
		struct mt_end end = mt_child(fault_after_us, &with_arm);

		if (!WIFSIGNALED(end.status) || WTERMSIG(end.status) != SIGSEGV)
			fail_msg("status 0x%x: %s", end.status, end.said);
		assert_string_equal(end.said, "app: not mine\n");
	}
}

static void
fault_app_dying_handler(int number)
{
	static const char word[] = "app: dying\n";

	if (write(STDERR_FILENO, word, sizeof(word) - 1) < 0)
		_exit(9);
}

static void
fault_once(void *arg)
{
	struct sigaction action = {
		.sa_handler = fault_app_dying_handler, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGSEGV, &action, NULL);
	fault_setup();
	*fault_nowhere = 1;
}

static void
fault_ignored(void *arg)
{
	signal(SIGSEGV, SIG_IGN);
	fault_setup();
	raise(SIGSEGV);
	*fault_nowhere = 1;
}

static void
fault_sent(void *arg)
{
	fault_setup();
	raise(SIGBUS);
	_exit(1);
}

/** Send a signal that claims to be a fault in an open page. */
static void
fault_forged(void *arg)
{
	struct fault_setup s = fault_setup();
	siginfo_t info = {.si_signo = SIGBUS, .si_code = SI_QUEUE};

	info.si_addr = mt_hva(s.view, MT_GPA, 1, READ);
	syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), SIGBUS, &info);
	_exit(1);
}

static void
the_death_is_the_one_it_would_have_been(void **state)
{
	struct mt_end end = mt_child(fault_once, NULL);

	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGSEGV);
	assert_string_equal(end.said, "app: dying\n");
	end = mt_child(fault_ignored, NULL);
	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGSEGV);
	end = mt_child(fault_sent, NULL);
	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGBUS);
	assert_string_equal(end.said, "");
	end = mt_child(fault_forged, NULL);
	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGBUS);
	assert_string_equal(end.said, "");
}

static void
fault_flags(void *arg)
{
	struct sigaction found;
	int i;

	fault_setup();
	for (i = 0; i < 2; i++)
		if (sigaction(i ? SIGBUS : SIGSEGV, NULL, &found) != 0 ||
			(found.sa_flags & ~0x04000000) != SA_SIGINFO)
			_exit(1);
}

static void
the_handlers_have_the_one_flag_that_eal_passes_faults_to(void **state)
{
	struct mt_end end = mt_child(fault_flags, NULL);

	assert_true(WIFEXITED(end.status) && WEXITSTATUS(end.status) == 0);
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
		cmocka_unit_test(a_stray_pointer_dies_with_a_word),
		cmocka_unit_test(a_store_through_the_read_window_dies_with_a_word),
		cmocka_unit_test(a_forked_child_that_touches_a_window_dies),
		cmocka_unit_test(an_ordinary_user_needs_no_privilege),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(a_collapse_into_huge_pages_loses_nothing),
		cmocka_unit_test(handlers_that_were_there_get_what_is_not_ours),
		cmocka_unit_test(handlers_that_come_later_are_no_trap),
		cmocka_unit_test(the_death_is_the_one_it_would_have_been),
		cmocka_unit_test(the_handlers_have_the_one_flag_that_eal_passes_faults_to),
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
