/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Hostile front-ends: well-formed messages with values and fds that are no good. */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "hostile.h"

#define N_FD_KINDS 9

/** fds that are no eventfds. */
struct fd_zoo {
	const char *name[N_FD_KINDS];
	int fd[N_FD_KINDS];
	int other_ends[2];
};

static void
zoo_open(struct fd_zoo *zoo)
{
	static const char *const names[N_FD_KINDS] = {"file", "folder", "pipe without reader",
		"read end of a pipe", "socket", "epoll", "timer", "/dev/null", "memfd"};
	int pipe_fd[2], half_pipe[2], pair[2];
	unsigned int i;

	memcpy(zoo->name, names, sizeof(names));
	mock_check(pipe(half_pipe) == 0 && pipe(pipe_fd) == 0);
	mock_check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	close(half_pipe[0]);
	zoo->fd[0] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	zoo->fd[1] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	zoo->fd[2] = half_pipe[1];
	zoo->fd[3] = pipe_fd[0];
	zoo->fd[4] = pair[0];
	zoo->fd[5] = epoll_create1(EPOLL_CLOEXEC);
	zoo->fd[6] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	zoo->fd[7] = open("/dev/null", O_RDWR | O_CLOEXEC);
	zoo->fd[8] = memfd_create("zoo", MFD_CLOEXEC);
	zoo->other_ends[0] = pipe_fd[1];
	zoo->other_ends[1] = pair[1];
	for (i = 0; i < N_FD_KINDS; i++)
		mock_check(zoo->fd[i] >= 0);
}

static void
zoo_close(struct fd_zoo *zoo)
{
	unsigned int i;

	for (i = 0; i < N_FD_KINDS; i++)
		close(zoo->fd[i]);
	close(zoo->other_ends[0]);
	close(zoo->other_ends[1]);
}

static void
test_h26_h27_r5_fds_that_are_no_eventfds_are_refused(void **state)
{
	struct rig *rig = rig_main();
	struct fd_zoo zoo;
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	zoo_open(&zoo);
	fds = mock_count_fds();
	for (i = 0; i < N_FD_KINDS; i++) {
		print_message("# %s\n", zoo.name[i]);
		fe_set_vring_kick(&rig->fe, NIC_TX(0), zoo.fd[i], FE_REFUSED);
		fe_set_vring_call(&rig->fe, NIC_RX(0), zoo.fd[i], FE_REFUSED);
		fe_set_vring_err(&rig->fe, NIC_RX(0), zoo.fd[i], FE_ANSWERED);
		/* The fds from before are in force. */
		nic_calls(&rig->nic, NIC_RX(0));
		rig_exchange(rig, 0, 64);
		assert_true(nic_calls(&rig->nic, NIC_RX(0)) > 0);
	}
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->fe.sock, FE_REFUSED);
	fe_set_vring_call(&rig->fe, NIC_TX(0), rig->fe.sock, FE_REFUSED);
	assert_true(mock_count_fds() <= fds + 1);
	zoo_close(&zoo);
}

static void
test_h26_h27_fds_that_are_no_eventfds_close_when_not_asked(void **state)
{
	struct rig *rig = rig_main();
	struct fd_zoo zoo;
	unsigned int i;

	rig_open(rig, NULL);
	zoo_open(&zoo);
	for (i = 0; i < N_FD_KINDS; i++) {
		fe_set_vring_call(&rig->fe, NIC_RX(0), zoo.fd[i], FE_CLOSED);
		port_wait_link(&rig->port, false);
		rig_reconnect(rig);
	}
	zoo_close(&zoo);
	rig_exchange(rig, 0, 8);
}

static int
frontend_eventfd(int flags)
{
	int fd = eventfd(0, EFD_CLOEXEC | flags);

	mock_check(fd >= 0);
	return fd;
}

/* Make an eventfd one on which every write blocks. O_NONBLOCK belongs to all who hold the file. */
static void
frontend_fill(int fd)
{
	const uint64_t almost_full = UINT64_MAX - 1;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	do {
		(void)nic_read_eventfd(fd);
	} while (write(fd, &almost_full, sizeof(almost_full)) != sizeof(almost_full));
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

/*
 * Either traffic goes on, or the connection ends and the next one works; but the polling thread is
 * never stuck for good.
 */
static void
frontend_expect_lcore_lives(struct rig *rig, int full)
{
	bool moved = rig_try_exchange(rig, 0, 300, 1500);
	struct fe_reply reply;
	bool closed = false;

	canary_check();
	if (!moved)
		closed = fe_try_recv(&rig->fe, &reply, MOCK_DEADLINE_MS) == -ECONNRESET;
	if (!moved && !closed) {
		/* Let go of it, so that this can be reported. */
		(void)fcntl(full, F_SETFL, O_NONBLOCK);
		(void)nic_read_eventfd(full);
		mock_fail("the polling thread is stuck in a signal to the guest");
	}
	if (closed) {
		fe_close(&rig->fe);
		port_wait_link(&rig->port, false);
		rig_reconnect(rig);
	}
	rig_exchange(rig, 0, 32);
}

static void
test_h28_r6_full_call_fd_does_not_hold_the_lcore(void **state)
{
	struct rig *rig = rig_main();
	int full = frontend_eventfd(0);

	rig_open(rig, NULL);
	rig_echo_start(rig);
	frontend_fill(full);
	fe_set_vring_call(&rig->fe, NIC_RX(0), full, FE_OK);
	frontend_expect_lcore_lives(rig, full);
	rig_echo_stop(rig);
	close(full);
}

static void
test_h28_call_fd_that_is_made_blocking_later_does_not_hold_the_lcore(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	rig_echo_start(rig);
	for (i = 0; i < 3; i++) {
		int full = frontend_eventfd(EFD_NONBLOCK);

		fe_set_vring_call(&rig->fe, NIC_RX(0), full, FE_OK);
		rig_exchange(rig, 0, 32);
		frontend_fill(full);
		frontend_expect_lcore_lives(rig, full);
		close(full);
	}
	rig_echo_stop(rig);
}

static void
test_h29_one_eventfd_for_everything(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 2}};
	struct rig *rig = rig_main();
	int one = frontend_eventfd(EFD_NONBLOCK);
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 4; i++) {
		fe_set_vring_kick(&rig->fe, i, one, FE_OK);
		fe_set_vring_call(&rig->fe, i, one, FE_OK);
		fe_set_vring_err(&rig->fe, i, one, FE_OK);
	}
	rig_exchange(rig, 0, 64);
	rig_exchange(rig, 1, 64);
	rig_hang_up(rig);
	close(one);
}

/* Mappings of this process, the canary's among them. */
static unsigned int
frontend_count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned int n = 0;
	int c;

	mock_check(file != NULL);
	while ((c = fgetc(file)) != EOF)
		n += c == '\n';
	fclose(file);
	return n;
}

static void
test_h14_repeated_messages_take_nothing(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region = {GIB, MIB, GIB, 0};
	/* Less than one for each of the rounds; pages of the canary's come and go meanwhile. */
	const unsigned int slack_maps = 100;
	const size_t slack_heap = 8192;
	unsigned int fds = 0, maps = 0;
	size_t heap = 0;
	unsigned int i;

	rig_open(rig, NULL);
	fe_set_vring_err(&rig->fe, 1, rig->nic.masked_fd, FE_OK);
	for (i = 0; i < rig_repeats(1000, 100000); i++) {
		fe_set_vring_kick(&rig->fe, 1, rig->nic.ring[1].kick_fd, FE_OK);
		fe_set_vring_call(&rig->fe, 1, rig->nic.ring[1].call_fd, FE_OK);
		fe_set_vring_err(&rig->fe, 1, rig->nic.masked_fd, FE_OK);
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
		if (i % 100 == 0)
			rig_exchange(rig, 0, 8);
		/* The first rounds fill caches. */
		if (i != 100)
			continue;
		fds = mock_count_fds();
		maps = frontend_count_maps();
		heap = mallinfo2().uordblks;
	}
	assert_int_equal(mock_count_fds(), fds);
	assert_true(frontend_count_maps() < maps + slack_maps);
	assert_true(mallinfo2().uordblks < heap + slack_heap);
	rig_exchange(rig, 0, 32);
}

static void
test_h14_repeated_sizes_of_a_ring_that_does_not_run(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	for (i = 0; i < rig_repeats(2000, 100000); i++) {
		fe_set_vring_num(&rig->fe, i % 2, 1u << (i % 16), FE_OK);
		fe_set_vring_base(&rig->fe, i % 2, i % 65536, FE_OK);
	}
	fe_set_vring_base(&rig->fe, 0, 0, FE_OK);
	fe_set_vring_base(&rig->fe, 1, 0, FE_OK);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

static void
test_r7_h17_refused_value_changes_nothing(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	fe_set_vring_num(&rig->fe, NIC_TX(0), 32767, FE_REFUSED);
	fe_set_vring_num(&rig->fe, NIC_TX(0), 65536 + 2, FE_REFUSED);
	fe_set_vring_base(&rig->fe, NIC_TX(0), 7, FE_REFUSED);
	fe_set_vring_base(&rig->fe, NIC_TX(0), 0x10007, FE_REFUSED);
	rig_exchange(rig, 0, 600);
}

static void
test_h15_ring_number_is_not_cut_to_its_last_byte(void **state)
{
	static const uint32_t requests[] = {VU_SET_VRING_KICK, VU_SET_VRING_CALL, VU_SET_VRING_ERR};
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	for (i = 0; i < 3 * 55; i++) {
		/* Every bit above the "no fd" flag, on top of the number of a ring that runs. */
		uint64_t value = 1 | (1ull << (9 + i / 3));

		fe_request(&rig->fe, requests[i % 3], &value, sizeof(value), &rig->nic.masked_fd, 1,
			FE_REFUSED);
	}
	assert_int_equal(mock_count_fds(), fds);
	nic_calls(&rig->nic, NIC_TX(0));
	rig_exchange(rig, 0, 32);
	assert_true(nic_calls(&rig->nic, NIC_TX(0)) > 0);
}

static void
test_h18_bad_addresses_of_a_running_ring_are_not_used(void **state)
{
	static const uint64_t bad[] = {0, 1, UINT64_MAX, UINT64_MAX - 15, 0x8000000000000000,
		GUEST_RAM_UVA_BASE + RIG_RAM_SIZE, GUEST_RAM_UVA_BASE + RIG_RAM_SIZE - 16,
		GUEST_RAM_UVA_BASE - 16, GUEST_RAM_UVA_BASE + 1};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < 3 * sizeof(bad) / sizeof(bad[0]); i++) {
		struct fe_ring ring = nic_fe_ring(&rig->nic, NIC_TX(0));
		struct fe_ring good = ring;

		if (i % 3 == 0)
			ring.desc_uva = bad[i / 3];
		else if (i % 3 == 1)
			ring.avail_uva = bad[i / 3];
		else
			ring.used_uva = bad[i / 3];
		fe_set_vring_addr(&rig->fe, &ring, FE_ANSWERED);
		assert_true(rig_send(rig, 0, 4) > 0);
		rig_poll(rig);
		/* The right ones again: whatever it did in between, it goes on. */
		fe_set_vring_addr(&rig->fe, &good, FE_OK);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		rig_exchange(rig, 0, 8);
	}
}

static void
test_h18_unknown_address_flags_are_refused(void **state)
{
	struct rig *rig = rig_main();
	struct fe_ring ring;
	struct vu_vring_addr addr;

	rig_open(rig, NULL);
	ring = nic_fe_ring(&rig->nic, NIC_TX(0));
	addr = (struct vu_vring_addr){.index = NIC_TX(0),
		.flags = 0x80000000,
		.desc_uva = ring.desc_uva,
		.used_uva = ring.used_uva,
		.avail_uva = ring.avail_uva};
	fe_set_vring_addr_raw(&rig->fe, &addr, FE_REFUSED);
	addr.flags = 2;
	fe_set_vring_addr_raw(&rig->fe, &addr, FE_REFUSED);
	rig_exchange(rig, 0, 32);
}

static void
test_h24_rings_switched_on_and_off_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	uint8_t data[100];
	unsigned int i;

	rig_open(rig, NULL);
	rig_echo_start(rig);
	packet_fill(data, sizeof(data), 1);
	for (i = 0; i < rig_repeats(2000, 10000); i++) {
		fe_set_vring_enable(&rig->fe, i % 2, i / 2 % 2, FE_OK);
		/* Which of these are dropped is anybody's guess. */
		nic_reap_tx(&rig->nic, 0);
		(void)nic_send(&rig->nic, 0, data, sizeof(data));
	}
	fe_set_vring_enable(&rig->fe, 0, 1, FE_OK);
	fe_set_vring_enable(&rig->fe, 1, 1, FE_OK);
	rig_echo_stop(rig);
	rig_revive(rig, NIC_RX(0));
	rig_revive(rig, NIC_TX(0));
	rig_exchange(rig, 0, 64);
}

static void
test_h25_pairs_with_holes_are_served_where_complete(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 4}};
	struct rig *rig = rig_main();

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	nic_send_memory(&rig->nic);
	rig_offer_buffers(rig);
	/* Pair 0 sends only, pair 1 receives only, pair 2 is not there, pair 3 is whole. */
	nic_set_up_ring(&rig->nic, NIC_TX(0));
	nic_set_up_ring(&rig->nic, NIC_RX(1));
	nic_set_up_ring(&rig->nic, NIC_RX(3));
	nic_set_up_ring(&rig->nic, NIC_TX(3));
	fe_set_status(&rig->fe, 15, FE_OK);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 3, 32);
	rig_to_host(rig, 0, 100);
	rig_to_guest(rig, 1, 100, 0);
}

/* The error fd of a ring must be signalled, once. */
static void
frontend_expect_error(struct rig *rig, int err_fd)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (nic_read_eventfd(err_fd) == 0) {
		if (mock_now_ms() > deadline)
			mock_fail("no signal on the error fd");
		rig_poll(rig);
		mock_relax(&looks);
	}
	rig_expect_nothing_received(rig, 0);
	assert_int_equal(nic_read_eventfd(err_fd), 0);
}

static void
test_h18_h49_h72_error_fd_tells_of_rings_that_stop(void **state)
{
	struct rig *rig = rig_main();
	int err_fd = frontend_eventfd(EFD_NONBLOCK);
	struct vu_mem_region region;
	struct split_ring *tx;
	struct fe_ring ring;

	rig_open(rig, NULL);
	tx = &rig->nic.ring[NIC_TX(0)].ring;
	region = fe_region(&rig->ram.region[0]);
	fe_set_vring_err(&rig->fe, NIC_TX(0), err_fd, FE_OK);
	rig_exchange(rig, 0, 64);
	assert_int_equal(nic_read_eventfd(err_fd), 0);

	/* The guest breaks the ring. */
	split_ring_force_avail_idx(tx, (uint16_t)(tx->avail_idx + 1000));
	frontend_expect_error(rig, err_fd);
	rig_revive(rig, NIC_TX(0));
	rig_exchange(rig, 0, 64);

	/* Stopping a ring gives its error fd back, as the other ones. */
	fe_set_vring_err(&rig->fe, NIC_TX(0), err_fd, FE_OK);
	fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
	frontend_expect_error(rig, err_fd);
	fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
	rig_revive(rig, NIC_RX(0));
	rig_revive(rig, NIC_TX(0));
	rig_exchange(rig, 0, 64);

	/* A ring that cannot start. */
	ring = nic_fe_ring(&rig->nic, NIC_TX(0));
	fe_get_vring_base(&rig->fe, NIC_TX(0));
	fe_set_vring_err(&rig->fe, NIC_TX(0), err_fd, FE_OK);
	ring.used_uva = region.uva + region.size - 4;
	fe_set_vring_addr(&rig->fe, &ring, FE_OK);
	fe_set_vring_kick(&rig->fe, NIC_TX(0), rig->nic.ring[NIC_TX(0)].kick_fd, FE_OK);
	frontend_expect_error(rig, err_fd);
	close(err_fd);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h26_h27_r5_fds_that_are_no_eventfds_are_refused),
		HOSTILE_TEST(test_h26_h27_fds_that_are_no_eventfds_close_when_not_asked),
		HOSTILE_TEST(test_h28_r6_full_call_fd_does_not_hold_the_lcore),
		HOSTILE_TEST(test_h28_call_fd_that_is_made_blocking_later_does_not_hold_the_lcore),
		HOSTILE_TEST(test_h29_one_eventfd_for_everything),
		HOSTILE_TEST(test_h14_repeated_messages_take_nothing),
		HOSTILE_TEST(test_h14_repeated_sizes_of_a_ring_that_does_not_run),
		HOSTILE_TEST(test_r7_h17_refused_value_changes_nothing),
		HOSTILE_TEST(test_h15_ring_number_is_not_cut_to_its_last_byte),
		HOSTILE_TEST(test_h18_bad_addresses_of_a_running_ring_are_not_used),
		HOSTILE_TEST(test_h18_unknown_address_flags_are_refused),
		HOSTILE_TEST(test_h24_rings_switched_on_and_off_under_traffic),
		HOSTILE_TEST(test_h18_h49_h72_error_fd_tells_of_rings_that_stop),
		HOSTILE_TEST(test_h25_pairs_with_holes_are_served_where_complete),
	};

	hostile_program("test_hostile_frontend", 90);
	/* Signals that a back-end must not raise must end this program: SIGPIPE stays as it is. */
	signal(SIGPIPE, SIG_DFL);
	return cmocka_run_group_tests_name(
		"hostile front-ends", tests, rig_group_setup, rig_group_teardown);
}
