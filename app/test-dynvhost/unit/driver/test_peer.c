/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The control plane against the worst moments of its peers: bad requests to rings that run, front-ends
 * that come in the shadow of others, and a process that runs out of fds.
 */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_ring.h>

#include "drv_test.h"

#define BIT(n) (1ull << (n))

/* --- requests to rings that run --- */

/** Address fields of a ring as the guest has them. */
static struct vu_vring_addr
addr_of(struct rig *rig, unsigned int index)
{
	struct fe_ring ring = nic_fe_ring(&rig->nic, index);

	return (struct vu_vring_addr){
		.index = index,
		.desc_uva = ring.desc_uva,
		.avail_uva = ring.avail_uva,
		.used_uva = ring.used_uva,
	};
}

/** Bad addresses, one field each; the guest's memory is one region of RIG_RAM_SIZE at gpa 0. */
static unsigned int
make_bad_addresses(struct rig *rig, unsigned int index, struct vu_vring_addr *bad)
{
	const uint64_t end = GUEST_RAM_UVA_BASE + RIG_RAM_SIZE;
	unsigned int n = 0, i;

	for (i = 0; i < 12; i++)
		bad[i] = addr_of(rig, index);
	bad[n++].desc_uva = 0;
	bad[n++].avail_uva = end;
	bad[n++].used_uva = UINT64_MAX;
	bad[n++].desc_uva += 8;
	bad[n++].avail_uva += 1;
	bad[n++].used_uva += 2;
	bad[n++].desc_uva = end - 16;
	bad[n++].avail_uva = end - 4;
	bad[n++].used_uva = end - 4;
	return n;
}

static void
test_bad_address_for_a_running_ring_changes_nothing(void **state)
{
	struct rig *rig = rig_main();
	struct vu_vring_addr bad[12], good;
	unsigned int n, i, index;

	rig_open(rig, NULL);
	rig_echo_start(rig);
	for (index = 0; index < 2; index++) {
		n = make_bad_addresses(rig, index, bad);
		for (i = 0; i < n; i++) {
			fe_set_vring_addr_raw(&rig->fe, &bad[i], FE_REFUSED);
			assert_true(port_link_up(&rig->port));
			rig_exchange(rig, 0, 8);
		}
		good = addr_of(rig, index);
		fe_set_vring_addr_raw(&rig->fe, &good, FE_OK);
		rig_exchange(rig, 0, 8);
	}
}

static void
test_bad_address_for_a_running_ring_closes_without_reply_ack(void **state)
{
	struct rig *rig = rig_main();
	struct vu_vring_addr bad;

	rig_open(rig, NULL);
	bad = addr_of(rig, 1);
	bad.desc_uva = 0;
	fe_set_vring_addr_raw(&rig->fe, &bad, FE_CLOSED);
	port_wait_link(&rig->port, false);
	fe_close(&rig->fe);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
}

static void
test_ring_moves_to_another_place_while_it_runs(void **state)
{
	struct rig *rig = rig_main();
	struct split_ring *ring;
	struct vu_vring_addr to;
	uint64_t gpa;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 8);
	/* Only the descriptor table: the guest here writes the other two where they were. */
	ring = &rig->nic.ring[1].ring;
	gpa = guest_ram_alloc(&rig->ram, 0, 16ull * ring->num, 4096);
	memcpy(guest_ram_at(&rig->ram, gpa, 16ull * ring->num), ring->desc, 16ull * ring->num);
	ring->desc = guest_ram_at(&rig->ram, gpa, 16ull * ring->num);
	to = addr_of(rig, 1);
	to.desc_uva = guest_ram_uva(&rig->ram, gpa);
	fe_set_vring_addr_raw(&rig->fe, &to, FE_OK);
	rig_exchange(rig, 0, 300);
}

static void
test_ring_number_with_other_bits_is_no_ring(void **state)
{
	static const uint32_t request[] = {VU_SET_VRING_KICK, VU_SET_VRING_CALL, VU_SET_VRING_ERR};
	static const uint64_t number[] = {BIT(9), BIT(16), BIT(32), BIT(63), 0x200000001};
	struct rig *rig = rig_main();
	size_t i, k;

	rig_open(rig, NULL);
	for (i = 0; i < RTE_DIM(request); i++) {
		for (k = 0; k < RTE_DIM(number); k++) {
			uint64_t with_fd = number[k], without = number[k] | VU_VRING_NOFD;

			fe_request(&rig->fe, request[i], &with_fd, sizeof(with_fd),
				&rig->nic.masked_fd, 1, FE_REFUSED);
			fe_request(&rig->fe, request[i], &without, sizeof(without), NULL, 0,
				FE_REFUSED);
		}
	}
	/* Ring 0 still has its own call fd. */
	nic_calls(&rig->nic, 0);
	rig_exchange(rig, 0, 8);
	assert_true(nic_calls(&rig->nic, 0) > 0);
}

/** Without protocol features rings are enabled; saying the features again says that again. */
static void
test_features_said_again_without_protocol_features_enable_for_good(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES & ~BIT(VU_F_PROTOCOL_FEATURES)},
	};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_exchange(rig, 0, 8);
	fe_set_vring_enable(&rig->fe, 1, 0, FE_OK);
	port_wait_link(&rig->port, false);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 8);
}

static void
test_ring_is_asked_for_its_base_before_anything_else(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	for (i = 0; i < 256; i++)
		assert_int_equal(fe_get_vring_base(&rig->fe, i), 0);
	nic_negotiate(&rig->nic);
	for (i = 0; i < 256; i++)
		assert_int_equal(fe_get_vring_base(&rig->fe, i), 0);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 8);
}

static void
test_rings_beyond_the_ports_queues_harm_no_other(void **state)
{
	const struct rig_config config = {.port = {.n_queues = 1}};
	const struct fe_ring beyond = {.index = 2, .num = 256, .desc_uva = 0x1000};
	struct rig *rig = rig_main();
	unsigned int fds, i;

	rig_open(rig, &config);
	fds = mock_count_fds();
	port_log_capture();
	for (i = 0; i < 3; i++) {
		fe_set_vring_num(&rig->fe, 2, 256, FE_REFUSED);
		fe_set_vring_base(&rig->fe, 2, 0, FE_REFUSED);
		fe_set_vring_addr(&rig->fe, &beyond, FE_REFUSED);
		fe_set_vring_kick(&rig->fe, 2, rig->nic.masked_fd, FE_REFUSED);
		fe_set_vring_enable(&rig->fe, 2, 1, FE_REFUSED);
		/* What front-ends say of every ring they have, used or not. */
		fe_set_vring_call(&rig->fe, 2, rig->nic.masked_fd, FE_OK);
		fe_set_vring_err(&rig->fe, 2, rig->nic.masked_fd, FE_OK);
		fe_set_vring_enable(&rig->fe, 2, 0, FE_OK);
		assert_int_equal(fe_get_vring_base(&rig->fe, 2), 0);
		/* Without NEED_REPLY the connection stays, too. */
		fe_set_vring_enable(&rig->fe, 3, 1, FE_SEND);
		fe_set_vring_kick(&rig->fe, 255, rig->nic.masked_fd, FE_SEND);
	}
	fe_barrier(&rig->fe);
	assert_int_equal(mock_count_fds(), fds + 1);
	assert_int_equal(port_log_lines("net_dynvhost"), 1);
	assert_int_equal(
		port_log_lines("front-end uses 2 or more queue pairs, port has queues=1"), 1);
	rig_exchange(rig, 0, 8);
}

/* --- front-ends that come and go --- */

static void
test_second_front_end_is_turned_away_and_the_first_stays(void **state)
{
	struct rig *rig = rig_main();
	struct front_end second = {.sock = -1};
	int i;

	rig_open(rig, NULL);
	for (i = 0; i < 10; i++) {
		fe_connect(&second, rig->port.path);
		fe_expect_closed(&second);
		fe_close(&second);
	}
	rig_exchange(rig, 0, 8);
}

/** One line per kind and connection is no limit for who connects without end. */
static void
test_connections_without_end_do_not_flood_the_log(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	fe_close(&rig->fe);
	port_log_capture();
	for (i = 0; i < 200; i++) {
		fe_connect(&rig->fe, rig->port.path);
		fe_set_vring_num(&rig->fe, 0, 0, FE_CLOSED);
		fe_close(&rig->fe);
	}
	assert_in_range(port_log_lines("net_dynvhost"), 1, 60);
	fe_connect(&rig->fe, rig->port.path);
	fe_barrier(&rig->fe);
}

/** Most requests interrupt every lcore of the process: nobody may have that done all the time. */
static void
test_requests_without_end_are_slowed_down(void **state)
{
	const unsigned int n = 10000, at_once = 4096, per_second = 20000;
	struct rig *rig = rig_main();
	uint64_t begin;
	unsigned int i;

	rig_open(rig, NULL);
	begin = mock_now_ms();
	for (i = 0; i < n; i++)
		fe_set_vring_enable(&rig->fe, 1, 1, FE_SEND);
	fe_barrier(&rig->fe);
	assert_in_range(
		mock_now_ms() - begin, (n - at_once) * 1000 / per_second - 50, MOCK_DEADLINE_MS);
	rig_exchange(rig, 0, 8);
}

/** From now on no fd can be opened. */
static struct rlimit
use_up_fds(void)
{
	struct rlimit before, none;
	int next = dup(STDERR_FILENO);

	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

static void
test_front_end_waits_while_no_fd_is_free(void **state)
{
	struct rig *rig = rig_main();
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct rlimit before;
	unsigned int fds;
	int sock;

	rig_prepare(rig, NULL);
	fe_barrier(&rig->fe);
	port_log_capture();
	fds = mock_count_fds();
	fe_close(&rig->fe);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", rig->port.path);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(sock >= 0);
	/* The port's end of the connection before has gone too: its fd would serve for the next. */
	rig_wait_fds(fds - 1);
	before = use_up_fds();
	assert_int_equal(connect(sock, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	drv_wait(port_log_lines("cannot accept a front-end: Too many open files") >= 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	fe_attach(&rig->fe, sock);
	fe_barrier(&rig->fe);
	assert_int_equal(port_log_lines("front-end connected"), 1);
}

static void
test_connection_that_loses_fds_is_closed_and_says_why(void **state)
{
	struct rig *rig = rig_main();
	struct rlimit before;

	rig_open(rig, NULL);
	port_log_capture();
	before = use_up_fds();
	fe_set_vring_call(&rig->fe, 0, rig->nic.masked_fd, FE_SEND);
	fe_expect_closed(&rig->fe);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(port_log_lines("raise the limit of open files"), 1);
	fe_close(&rig->fe);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
}

static uint64_t
cpu_time_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/** A child that an application has forked holds the connection open beside us. */
static void
test_connection_ends_though_a_child_process_holds_it(void **state)
{
	const struct timespec while_ = {.tv_nsec = 200 * 1000 * 1000};
	struct rig *rig = rig_main();
	uint64_t before;
	pid_t child;

	rig_open(rig, NULL);
	child = fork();
	if (child == 0) {
		/* The other end, which it holds too, must not count as the front-end's. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(rig->fe.sock);
		pause();
		_exit(0);
	}
	assert_true(child > 0);
	rig_hang_up(rig);
	before = cpu_time_ms();
	nanosleep(&while_, NULL);
	assert_in_range(cpu_time_ms() - before, 0, 100);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
	rig_hang_up(rig);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_bad_address_for_a_running_ring_changes_nothing),
		RIG_TEST(test_bad_address_for_a_running_ring_closes_without_reply_ack),
		RIG_TEST(test_ring_moves_to_another_place_while_it_runs),
		RIG_TEST(test_ring_number_with_other_bits_is_no_ring),
		RIG_TEST(test_features_said_again_without_protocol_features_enable_for_good),
		RIG_TEST(test_ring_is_asked_for_its_base_before_anything_else),
		RIG_TEST(test_rings_beyond_the_ports_queues_harm_no_other),
		RIG_TEST(test_second_front_end_is_turned_away_and_the_first_stays),
		RIG_TEST(test_connections_without_end_do_not_flood_the_log),
		RIG_TEST(test_requests_without_end_are_slowed_down),
		RIG_TEST(test_front_end_waits_while_no_fd_is_free),
		RIG_TEST(test_connection_that_loses_fds_is_closed_and_says_why),
		RIG_TEST(test_connection_ends_though_a_child_process_holds_it),
	};

	rig_program("unit_drv_peer", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_peer", tests, rig_group_setup, rig_group_teardown);
}
