/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Hostile front-ends: bytes and fds on the socket that are no messages. */

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

/** By when a half message must have led to the end of its connection. */
#define STALL_DEADLINE_MS 11000

static void
socket_connect_again(struct rig *rig)
{
	fe_close(&rig->fe);
	fe_connect(&rig->fe, rig->port.path);
}

static void
test_h1_part_of_a_header_then_nothing(void **state)
{
	const struct vu_header header = {VU_GET_FEATURES, VU_VERSION, 0};
	struct rig *rig = rig_main();
	unsigned int idle;
	size_t n;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (n = 1; n < sizeof(header); n++) {
		socket_connect_again(rig);
		assert_int_equal(fe_try_send_bytes(&rig->fe, &header, n, NULL, 0), 0);
	}
	fe_close(&rig->fe);
	rig_wait_fds(idle);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

static void
test_h1_stalled_header_is_given_up(void **state)
{
	const struct vu_header header = {VU_GET_FEATURES, VU_VERSION, 0};
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	assert_int_equal(fe_try_send_bytes(&rig->fe, &header, 5, NULL, 0), 0);
	/* The guest goes on until then. */
	rig_exchange(rig, 0, 100);
	fe_drain_until_closed(&rig->fe, STALL_DEADLINE_MS);
	port_wait_link(&rig->port, false);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

static void
test_h2_slow_header_is_a_header(void **state)
{
	static const struct timespec pause = {.tv_nsec = 40000000};
	const struct vu_header header = {VU_GET_FEATURES, VU_VERSION, 0};
	const uint8_t *bytes = (const uint8_t *)&header;
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(header); i++) {
		assert_int_equal(fe_try_send_bytes(&rig->fe, bytes + i, 1, NULL, 0), 0);
		rig_exchange(rig, 0, 8);
		nanosleep(&pause, NULL);
	}
	assert_true(fe_expect_u64(&rig->fe, VU_GET_FEATURES) != 0);
}

static void
test_h3_r3_payload_that_never_comes_is_given_up(void **state)
{
	const struct vu_header header = {VU_SET_FEATURES, VU_VERSION, 8};
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	assert_int_equal(
		fe_try_send_bytes(&rig->fe, &header, sizeof(header), &rig->nic.masked_fd, 1), 0);
	rig_exchange(rig, 0, 100);
	fe_drain_until_closed(&rig->fe, STALL_DEADLINE_MS);
	port_wait_link(&rig->port, false);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

static void
test_h4_announced_size_is_never_believed(void **state)
{
	static const uint32_t sizes[] = {
		273, 300, 1024, 4096, 65536, 0x7fffffff, 0x80000000, 0xfffffff4, 0xffffffff};
	static uint8_t junk[65536];
	struct rig *rig = rig_main();
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	memset(junk, 0x41, sizeof(junk));
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct vu_header header = {VU_SET_MEM_TABLE, VU_VERSION, sizes[i]};

		socket_connect_again(rig);
		assert_int_equal(fe_try_send_bytes(&rig->fe, &header, sizeof(header), NULL, 0), 0);
		/* The rest of it may find nobody left. */
		(void)fe_try_send_bytes(&rig->fe, junk, sizeof(junk), NULL, 0);
		fe_drain_until_closed(&rig->fe, 1500);
		rig_wait_fds(idle);
	}
}

static void
test_h8_reserved_flag_bits_close(void **state)
{
	static const uint32_t flags[] = {0x11, 0x101, 0x10001, 0x80000001, 0xfffffff1};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct fe_message message = fe_make(VU_GET_FEATURES, flags[i], NULL, 0);

		socket_connect_again(rig);
		fe_send(&rig->fe, &message);
		fe_expect_closed(&rig->fe);
	}
}

static void
test_h9_r4_replies_that_nobody_reads_end_the_connection(void **state)
{
	const struct fe_message message = fe_make(VU_GET_FEATURES, VU_VERSION, NULL, 0);
	struct rig *rig = rig_main();
	unsigned int n = 0;
	int ret = 0;

	rig_open(rig, NULL);
	/* Far more than any socket buffer holds. */
	while (ret == 0 && n < 200000) {
		ret = fe_try_send(&rig->fe, &message);
		if (++n % 1000 == 0)
			rig_exchange(rig, 0, 1);
	}
	assert_true(ret == -EPIPE || ret == -ECONNRESET);
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	port_wait_link(&rig->port, false);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

static void
test_h10_h11_crowds_of_fds_are_closed(void **state)
{
	static const unsigned int counts[] = {2, 8, 9, 64, FE_MAX_FDS};
	static const uint32_t requests[] = {VU_GET_FEATURES, VU_SET_FEATURES, VU_SET_OWNER,
		VU_SET_MEM_TABLE, VU_SET_VRING_KICK, VU_SET_VRING_CALL, VU_ADD_MEM_REG,
		VU_REM_MEM_REG, VU_SET_LOG_BASE, VU_SET_BACKEND_REQ_FD, VU_IOTLB_MSG, 0, 1000};
	struct rig *rig = rig_main();
	const uint8_t payload[40] = {0};
	int fds[FE_MAX_FDS];
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < FE_MAX_FDS; i++)
		fds[i] = rig->nic.masked_fd;
	for (i = 0; i < 5 * sizeof(requests) / sizeof(requests[0]); i++) {
		uint32_t request = requests[i / 5];
		struct fe_message message = fe_make(request, VU_VERSION, payload,
			request == VU_GET_FEATURES || request == VU_SET_OWNER ? 0 : 8);

		message.fd = fds;
		message.n_fds = counts[i % 5];
		socket_connect_again(rig);
		fe_send(&rig->fe, &message);
		fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
		rig_wait_fds(idle);
	}
}

static void
test_h12_full_fd_table_of_the_back_end_closes(void **state)
{
	struct rig *rig = rig_main();
	struct rlimit limit;
	struct rlimit low;
	unsigned int idle;
	int lowest;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	nic_negotiate(&rig->nic);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	lowest = dup(0);
	assert_true(lowest >= 0);
	close(lowest);
	low = limit;
	low.rlim_cur = (rlim_t)lowest;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	fe_set_vring_kick(&rig->fe, 0, rig->nic.ring[0].kick_fd, FE_SEND);
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	rig_wait_fds(idle);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

static void
test_h13_fds_that_come_with_the_payload_are_closed(void **state)
{
	const struct vu_header header = {VU_SET_VRING_KICK, VU_VERSION, 8};
	const uint64_t payload = 0;
	struct rig *rig = rig_main();
	unsigned int idle;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	socket_connect_again(rig);
	assert_int_equal(fe_try_send_bytes(&rig->fe, &header, sizeof(header), NULL, 0), 0);
	assert_int_equal(
		fe_try_send_bytes(&rig->fe, &payload, sizeof(payload), &rig->nic.masked_fd, 1), 0);
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	rig_wait_fds(idle);

	/* In the middle of a header, and with the last byte of a message. */
	socket_connect_again(rig);
	assert_int_equal(fe_try_send_bytes(&rig->fe, &header, 6, NULL, 0), 0);
	assert_int_equal(fe_try_send_bytes(
				 &rig->fe, (const uint8_t *)&header + 6, 6, &rig->nic.masked_fd, 1),
		0);
	assert_int_equal(fe_try_send_bytes(&rig->fe, &payload, 7, NULL, 0), 0);
	(void)fe_try_send_bytes(&rig->fe, (const uint8_t *)&payload + 7, 1, &rig->nic.masked_fd, 1);
	fe_close(&rig->fe);
	rig_wait_fds(idle);
}

static void
test_h35_second_connection_does_not_disturb_the_first(void **state)
{
	struct front_end other[20];
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	for (i = 0; i < 20; i++) {
		if (fe_try_connect(&other[i], rig->port.path) == 0)
			(void)fe_try_send_bytes(&other[i], "x", 1, NULL, 0);
		rig_exchange(rig, 0, 8);
		fe_barrier(&rig->fe);
	}
	for (i = 0; i < 20; i++)
		fe_close(&other[i]);
	rig_exchange(rig, 0, 8);
	rig_wait_fds(fds);
	rig_hang_up(rig);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
}

static void
test_h35_connections_that_say_nothing_are_outlived(void **state)
{
	struct rig *rig = rig_main();
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	fe_close(&rig->fe);
	for (i = 0; i < rig_repeats(1000, 20000); i++) {
		fe_connect(&rig->fe, rig->port.path);
		fe_close(&rig->fe);
	}
	rig_wait_fds(idle);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h1_part_of_a_header_then_nothing),
		HOSTILE_TEST(test_h1_stalled_header_is_given_up),
		HOSTILE_TEST(test_h2_slow_header_is_a_header),
		HOSTILE_TEST(test_h3_r3_payload_that_never_comes_is_given_up),
		HOSTILE_TEST(test_h4_announced_size_is_never_believed),
		HOSTILE_TEST(test_h8_reserved_flag_bits_close),
		HOSTILE_TEST(test_h9_r4_replies_that_nobody_reads_end_the_connection),
		HOSTILE_TEST(test_h10_h11_crowds_of_fds_are_closed),
		HOSTILE_TEST(test_h12_full_fd_table_of_the_back_end_closes),
		HOSTILE_TEST(test_h13_fds_that_come_with_the_payload_are_closed),
		HOSTILE_TEST(test_h35_second_connection_does_not_disturb_the_first),
		HOSTILE_TEST(test_h35_connections_that_say_nothing_are_outlived),
	};

	hostile_program("test_hostile_socket", 90);
	return cmocka_run_group_tests_name(
		"hostile sockets", tests, rig_group_setup, rig_group_teardown);
}
