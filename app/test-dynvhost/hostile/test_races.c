/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Pages that close while packets move, and what a child of this process gets of it: nothing.
 */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rte_ethdev.h>

#include "hostile.h"

/** Mappings of guest memory that are looked at in a child. */
#define RACES_MAX_RANGES 4096

/** First argument that makes this program say what it has inherited, and end. */
#define RACES_CHILD_ARG "--inherited"

struct races_range {
	uintptr_t start;
	uintptr_t end;
};

static struct races_range races_range[RACES_MAX_RANGES];
static unsigned int races_n_ranges;

/* What was open when this program began is somebody else's. */
static unsigned int races_inherited_before;

static void
races_nap_us(unsigned int us)
{
	const struct timespec nap = {.tv_nsec = (long)us * 1000};

	nanosleep(&nap, NULL);
}

/* Packets in bursts, with pauses around the time after which pages close. */
static void
races_exchange_with_pauses(struct rig *rig, unsigned int n_pairs, unsigned int rounds)
{
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		rig_exchange(rig, i % n_pairs, 1 + i * 7 % 64);
		if (i % 3 != 0)
			races_nap_us(i % 8 * 500);
	}
}

/* Give back what comes on a pair of queues, however long it takes until there is room again. */
static void
races_poll_pair(struct rig *rig, uint16_t pair)
{
	struct rte_mbuf *pkts[PORT_BURST];
	unsigned int looks = 0;

	while (!__atomic_load_n(&rig->echo_stop, __ATOMIC_ACQUIRE)) {
		uint16_t n = port_rx(&rig->port, pair, pkts, PORT_BURST);

		if (n == 0)
			mock_relax(&looks);
		else if (port_tx_wait(&rig->port, pair, pkts, n) != n)
			mock_fail("the guest's buffers stay closed: %llu opens refused, %llu pages "
				  "open",
				(unsigned long long)port_xstat(&rig->port, "map_refused_errors"),
				(unsigned long long)port_xstat(
					&rig->port, "map_management_loadable_bytes") /
					GUEST_RAM_PAGE);
	}
}

static void *
races_poll_first(void *arg)
{
	races_poll_pair(arg, 0);
	return NULL;
}

static void *
races_poll_second(void *arg)
{
	races_poll_pair(arg, 1);
	return NULL;
}

/* In place of the rig's echo thread, and ended like it. */
static void
races_start_first(struct rig *rig)
{
	rig->echo_stop = false;
	mock_check(pthread_create(&rig->echo_thread, NULL, races_poll_first, rig) == 0);
	rig->echo_runs = true;
}

static void
races_expect_clean(const struct rig *rig)
{
	assert_true(port_xstat(&rig->port, "map_management_closes") > 100);
	assert_int_equal(port_xstat(&rig->port, "map_lost_errors"), 0);
	/* Opens that were put off are no packets that were lost. */
	assert_int_equal(port_errors(&rig->port), port_xstat(&rig->port, "map_refused_errors"));
}

static void
races_close_under_traffic(const char *devargs)
{
	const struct rig_config config = {
		.port = {.devargs = rig_devargs_and(devargs)}, .nic = {.ring_size = 256}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	races_start_first(rig);
	races_exchange_with_pauses(rig, 1, rig_repeats(300, 30000));
	rig_echo_stop(rig);
	races_expect_clean(rig);
}

static void
test_h91_pages_close_all_the_time(void **state)
{
	races_close_under_traffic("map-idle-ms=2");
}

static void
test_h91_cap_of_few_pages(void **state)
{
	/* The least that rings and a largest packet in each direction need, of twice as much. */
	races_close_under_traffic("map-idle-ms=2,map-max=456K");
}

static void
test_h91_cap_of_few_granules(void **state)
{
	races_close_under_traffic("map-idle-ms=2,map-granule=64K,map-max=1M");
}

static void
test_h92_two_queues_in_the_same_granules(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = rig_devargs_and("map-idle-ms=2,map-granule=2M")},
		.nic = {.ring_size = 64, .n_pairs = 2},
	};
	struct rig *rig = rig_main();
	pthread_t second;

	rig_open(rig, &config);
	races_start_first(rig);
	mock_check(pthread_create(&second, NULL, races_poll_second, rig) == 0);
	races_exchange_with_pauses(rig, 2, rig_repeats(300, 30000));
	rig_echo_stop(rig);
	pthread_join(second, NULL);
	races_expect_clean(rig);
}

/* Where this process shows a file of the guest, apart from the guest's own mapping. */
static void
races_find_ranges(const struct guest_ram *ram)
{
	const struct guest_ram_file *file = &ram->file[0];
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	mock_check(maps != NULL);
	races_n_ranges = 0;
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long start, end, inode;
		unsigned int major, minor;

		if (sscanf(line, "%lx-%lx %*s %*x %x:%x %lu", &start, &end, &major, &minor,
			    &inode) != 5)
			continue;
		if (inode != file->ino || makedev(major, minor) != file->dev ||
			start == (uintptr_t)file->base)
			continue;
		mock_check(races_n_ranges < RACES_MAX_RANGES);
		races_range[races_n_ranges++] = (struct races_range){start, end};
	}
	fclose(maps);
}

static sigjmp_buf races_fault;

static void
races_on_fault(int signal_number)
{
	siglongjmp(races_fault, signal_number);
}

/* @return the signal that a load gets; 0: the load succeeds. */
static int
races_load(uintptr_t addr)
{
	int signal_number = sigsetjmp(races_fault, 1);

	if (signal_number == 0)
		(void)*(volatile const uint8_t *)addr; /* NOLINT(performance-no-int-to-ptr) */
	return signal_number;
}

/* In a child: touch every page. Exit code 0: each touch was SIGSEGV. */
static void
races_child_touches(void)
{
	const struct sigaction action = {.sa_handler = races_on_fault};
	unsigned int i;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	alarm(30);
	for (i = 0; i < races_n_ranges; i++) {
		uintptr_t addr = races_range[i].start;

		for (; addr < races_range[i].end; addr += GUEST_RAM_PAGE) {
			if (races_load(addr) != SIGSEGV)
				_exit(1);
		}
	}
	races_find_ranges(&rig_main()->ram);
	_exit(races_n_ranges == 0 ? 0 : 2);
}

/* Wait for a child. @return its exit code; -1: it was killed by a signal. */
static int
races_wait(pid_t pid)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (mock_now_ms() > deadline) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			mock_fail("a child does not end");
		}
		mock_relax(&looks);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_h93_forked_child_reaches_no_guest_memory(void **state)
{
	struct rig *rig = rig_main();
	pid_t pid;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 300);
	races_find_ranges(&rig->ram);
	assert_true(races_n_ranges > 0);
	pid = fork();
	if (pid == 0) {
		mock_fail_hook = NULL;
		races_child_touches();
	}
	mock_check(pid > 0);
	assert_int_equal(races_wait(pid), 0);
	rig_exchange(rig, 0, 300);
}

/* Fds that an application's child could do harm with. */
static unsigned int
races_count_inherited(void)
{
	static const char *const kinds[] = {
		"socket:", "/memfd:guest-ram", "[eventfd]", "[userfaultfd]", "dynvhost"};
	unsigned int n = 0;
	unsigned int k;
	int fd;

	for (fd = 3; fd < 1024; fd++) {
		char name[64];
		char target[256] = "";

		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (readlink(name, target, sizeof(target) - 1) <= 0)
			continue;
		for (k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			if (strstr(target, kinds[k]) != NULL) {
				n++;
				break;
			}
		}
	}
	return n;
}

static void
test_h95_executed_child_inherits_nothing_of_a_guest(void **state)
{
	struct rig *rig = rig_main();
	pid_t pid;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 64);
	assert_true(races_count_inherited() > races_inherited_before);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_hostile_races", RACES_CHILD_ARG, (char *)NULL);
		_exit(255);
	}
	mock_check(pid > 0);
	assert_int_equal(races_wait(pid), races_inherited_before);
	rig_exchange(rig, 0, 64);
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h91_pages_close_all_the_time),
		HOSTILE_TEST(test_h91_cap_of_few_pages),
		HOSTILE_TEST(test_h91_cap_of_few_granules),
		HOSTILE_TEST(test_h92_two_queues_in_the_same_granules),
		HOSTILE_TEST(test_h93_forked_child_reaches_no_guest_memory),
		HOSTILE_TEST(test_h95_executed_child_inherits_nothing_of_a_guest),
	};

	races_inherited_before = races_count_inherited();
	if (argc > 1 && strcmp(argv[1], RACES_CHILD_ARG) == 0)
		return (int)races_inherited_before;
	hostile_program("test_hostile_races", 90);
	rig_devargs = HOSTILE_DEVARGS;
	return cmocka_run_group_tests_name(
		"hostile races", tests, rig_group_setup, rig_group_teardown);
}
