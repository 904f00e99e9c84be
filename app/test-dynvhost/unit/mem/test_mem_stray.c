/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Stray pointers into windows: what nobody may touch kills with a word, and faults that are not
 * ours go to the handlers that are there besides.
 *
 * The test framework has handlers of its own, a new one for each test, so each test asks for the
 * library's to be put in front.
 */

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault_setup.h"

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stray_pointer_dies_with_a_word),
		cmocka_unit_test(a_store_through_the_read_window_dies_with_a_word),
		cmocka_unit_test(a_forked_child_that_touches_a_window_dies),
		cmocka_unit_test(an_ordinary_user_needs_no_privilege),
	};
	const struct CMUnitTest of_small_pages[] = {
		cmocka_unit_test(handlers_that_were_there_get_what_is_not_ours),
		cmocka_unit_test(handlers_that_come_later_are_no_trap),
		cmocka_unit_test(the_death_is_the_one_it_would_have_been),
		cmocka_unit_test(the_handlers_have_the_one_flag_that_eal_passes_faults_to),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL) +
	       mt_run(of_small_pages, sizeof(of_small_pages) / sizeof(of_small_pages[0]), MT_SMALL);
}
