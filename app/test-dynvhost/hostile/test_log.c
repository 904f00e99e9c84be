/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile dirty logs. The front-end keeps the log's file and may cut it, punch it, name other files
 * or far too large ones, and change its mind as fast as it can. Answers H32, and H51 and H54 for the
 * log.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostile.h"

#define PAGE     4096ull
#define LOG_SIZE (RIG_RAM_SIZE / PAGE / 8)

static int
log_file(unsigned int flags, uint64_t size)
{
	int fd = memfd_create("log", MFD_CLOEXEC | flags);

	mock_check(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

/* Mappings of the test's logs in this process. */
static unsigned int
log_count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned int n = 0;

	mock_check(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL)
		n += strstr(line, "/memfd:log") != NULL;
	fclose(file);
	return n;
}

static void
log_begin(struct rig *rig, int fd, uint64_t size, uint64_t offset)
{
	fe_set_log_base(&rig->fe, size, offset, fd, FE_OK);
	fe_set_features(&rig->fe, rig->nic.features | BIT(VU_F_LOG_ALL), FE_OK);
}

static void
test_h51_log_cut_short_under_traffic_closes_the_port_alone(void **state)
{
	struct rig *rig = rig_main();
	int fd = log_file(0, LOG_SIZE);

	rig_open(rig, NULL);
	log_begin(rig, fd, LOG_SIZE, 0);
	rig_exchange(rig, 0, 50);
	assert_int_equal(ftruncate(fd, 0), 0);
	rig_send(rig, 0, 8);
	rig_poll(rig);
	fe_drain_until_closed(&rig->fe, 5000);
	port_wait_link(&rig->port, false);
	close(fd);
	/* The port is as good as new. */
	rig_reconnect(rig);
	rig_exchange(rig, 0, 50);
}

static void
test_h54_log_that_is_punched_all_the_time_is_no_harm(void **state)
{
	struct rig *rig = rig_main();
	int fd = log_file(MFD_ALLOW_SEALING, LOG_SIZE);
	unsigned int i;

	rig_open(rig, NULL);
	log_begin(rig, fd, LOG_SIZE, 0);
	for (i = 0; i < 200; i++) {
		assert_int_equal(
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)PAGE),
			0);
		rig_exchange(rig, 0, 8);
	}
	close(fd);
}

static void
test_h32_files_that_are_no_log_close_the_connection(void **state)
{
	struct rig *rig = rig_main();
	int fds[4], pipes[2];
	unsigned int i;

	rig_open(rig, NULL);
	mock_check(pipe(pipes) == 0);
	fds[0] = pipes[0];
	fds[1] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fds[2] = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[3] = log_file(0, 8);
	for (i = 0; i < 4; i++) {
		fe_set_log_base(&rig->fe, LOG_SIZE, 0, fds[i], FE_BROKEN);
		port_wait_link(&rig->port, false);
		rig_reconnect(rig);
	}
	rig_exchange(rig, 0, 20);
	for (i = 1; i < 4; i++)
		close(fds[i]);
	close(pipes[0]);
	close(pipes[1]);
}

static void
test_h32_largest_log_takes_no_memory(void **state)
{
	struct rig *rig = rig_main();
	int fd = log_file(MFD_ALLOW_SEALING, GIB);
	struct stat st;

	rig_open(rig, NULL);
	log_begin(rig, fd, GIB, 0);
	rig_exchange(rig, 0, 100);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 <= 2 * (off_t)PAGE);
	close(fd);
}

static void
test_h14_logs_that_come_by_the_hundred_leave_nothing_behind(void **state)
{
	struct rig *rig = rig_main();
	int fd = log_file(MFD_ALLOW_SEALING, 64 * PAGE);
	unsigned int i, fds;

	rig_open(rig, NULL);
	log_begin(rig, fd, LOG_SIZE, 0);
	fds = mock_count_fds();
	for (i = 0; i < rig_repeats(1000, 100000); i++)
		fe_set_log_base(&rig->fe, 1 + i % 4096, i % 7 * 1000, fd, FE_OK);
	fe_barrier(&rig->fe);
	assert_int_equal(mock_count_fds(), fds);
	assert_int_equal(log_count_maps(), 1);
	rig_exchange(rig, 0, 20);
	close(fd);
}

static void
test_h24_ring_may_want_its_writing_logged_anywhere(void **state)
{
	static const uint64_t at[] = {0, 5, UINT64_MAX, UINT64_MAX - 3, 1ull << 63, RIG_RAM_SIZE};
	struct rig *rig = rig_main();
	int fd = log_file(MFD_ALLOW_SEALING, LOG_SIZE);
	unsigned int i, k;

	rig_open(rig, NULL);
	log_begin(rig, fd, LOG_SIZE, 0);
	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (k = NIC_RX(0); k <= NIC_TX(0); k++) {
			const struct fe_ring ring = nic_fe_ring(&rig->nic, k);
			const struct vu_vring_addr addr = {.index = k,
				.flags = VU_VRING_ADDR_LOG,
				.desc_uva = ring.desc_uva,
				.avail_uva = ring.avail_uva,
				.used_uva = ring.used_uva,
				.log_gpa = at[i]};

			fe_set_vring_addr_raw(&rig->fe, &addr, FE_OK);
		}
		rig_exchange(rig, 0, 300);
	}
	close(fd);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h51_log_cut_short_under_traffic_closes_the_port_alone),
		HOSTILE_TEST(test_h54_log_that_is_punched_all_the_time_is_no_harm),
		HOSTILE_TEST(test_h32_files_that_are_no_log_close_the_connection),
		HOSTILE_TEST(test_h32_largest_log_takes_no_memory),
		HOSTILE_TEST(test_h14_logs_that_come_by_the_hundred_leave_nothing_behind),
		HOSTILE_TEST(test_h24_ring_may_want_its_writing_logged_anywhere),
	};

	hostile_program("test_hostile_log", 90);
	return cmocka_run_group_tests_name(
		"hostile log", tests, rig_group_setup, rig_group_teardown);
}
