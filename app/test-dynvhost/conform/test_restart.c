/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: either side goes and comes back, whichever of them listens. Rings stay in guest memory
 * with packets in them; the device goes on at used->idx (virtio 1.2 §2.7, vhost-user.rst,
 * "Communication"), so nothing that it had not taken is lost, and nothing comes twice.
 */

#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_malloc.h>

#include "conform.h"

/** What a connection may take up, and must give back. */
struct restart_footprint {
	unsigned int fds;
	unsigned int maps;
	size_t heap;
	size_t rte_heap;
};

/** Shared mappings: guest memory and what belongs to it. Private ones are heap and threads. */
static unsigned int
restart_count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	char line[512], rights[8];
	unsigned int n = 0;

	mock_check(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL)
		n += sscanf(line, "%*s %7s", rights) == 1 && rights[3] == 's';
	fclose(file);
	return n;
}

static struct restart_footprint
restart_footprint(void)
{
	struct rte_malloc_socket_stats stats;

	mock_check(rte_malloc_get_socket_stats(0, &stats) == 0);
	return (struct restart_footprint){
		.fds = mock_count_fds(),
		.maps = restart_count_maps(),
		.heap = mallinfo2().uordblks,
		.rte_heap = stats.heap_allocsz_bytes,
	};
}

/** The C library's heap may still warm up; a leak of every connection would not stay below this. */
#define RESTART_HEAP_SLACK 4096

static void
restart_expect_footprint(const struct restart_footprint *before)
{
	struct restart_footprint now;

	rig_wait_fds(before->fds);
	now = restart_footprint();
	if (now.maps != before->maps || now.rte_heap != before->rte_heap ||
		now.heap > before->heap + RESTART_HEAP_SLACK)
		mock_fail("maps %u -> %u, heap %zu -> %zu, DPDK's heap %zu -> %zu", before->maps,
			now.maps, before->heap, now.heap, before->rte_heap, now.rte_heap);
}

/* Nothing is on its way in the host when the front-end goes: every packet must come back. */
static void
restart_front_end(bool client)
{
	const struct rig_config config = {.client = client, .nic = {.start_index = 65400}};
	struct restart_footprint before = {0};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < rig_repeats(20, 200); i++) {
		assert_int_equal(rig_send(rig, 0, 50), 50);
		rig_poll(rig);
		rig_hang_up(rig);
		rig_resume(rig);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		/* The first rounds fill caches. */
		if (i == 2)
			before = restart_footprint();
		if (i > 2)
			restart_expect_footprint(&before);
	}
}

static void
test_c79_front_end_restarts_and_the_listening_port_goes_on(void **state)
{
	restart_front_end(false);
}

static void
test_c79_front_end_restarts_and_the_connecting_port_goes_on(void **state)
{
	restart_front_end(true);
}

/* Packets move while the front-end goes: those in the host's hands may get lost, no others. */
static void
restart_front_end_under_traffic(bool client)
{
	const struct rig_config config = {.client = client};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	rig_echo_start(rig);
	for (i = 0; i < rig_repeats(20, 200); i++) {
		rig_exchange(rig, 0, 16 + i);
		assert_true(rig_send(rig, 0, 200) > 0);
		fe_close(&rig->fe);
		rig_resume(rig);
		rig->may_lose = PORT_BURST;
		/* The last packet tells that all before it have come or are lost. */
		assert_int_equal(rig_send(rig, 0, 1), 1);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
}

static void
test_c79_front_end_is_killed_under_traffic_of_a_listening_port(void **state)
{
	restart_front_end_under_traffic(false);
}

static void
test_c79_front_end_is_killed_under_traffic_of_a_connecting_port(void **state)
{
	restart_front_end_under_traffic(true);
}

/* A listener that was killed leaves its file behind. */
static void
restart_leave_stale_file(const char *path)
{
	close(fe_listen(path));
	assert_int_equal(access(path, F_OK), 0);
}

static void
restart_back_end(bool client)
{
	const struct rig_config config = {.client = client};
	struct rig *rig = rig_main();
	uint64_t features, protocol, slots;
	unsigned int i;

	rig_open(rig, &config);
	features = fe_get_features(&rig->fe);
	protocol = fe_get_protocol_features(&rig->fe);
	slots = fe_get_max_mem_slots(&rig->fe);
	for (i = 0; i < rig_repeats(5, 20); i++) {
		assert_int_equal(rig_send(rig, 0, 50), 50);
		rig_poll(rig);
		rig_restart_port(rig);
		rig_resume(rig);
		assert_int_equal(fe_get_features(&rig->fe), features);
		assert_int_equal(fe_get_protocol_features(&rig->fe), protocol);
		assert_int_equal(fe_get_max_mem_slots(&rig->fe), slots);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		rig_exchange(rig, 0, 64);
	}
}

static void
test_c79_listening_port_restarts_and_its_guest_goes_on(void **state)
{
	restart_back_end(false);
}

static void
test_c79_connecting_port_restarts_and_its_guest_goes_on(void **state)
{
	restart_back_end(true);
}

static void
test_c79_port_takes_the_path_of_a_killed_one_over(void **state)
{
	struct rig *rig = rig_main();
	char path[sizeof(rig->port.path)];
	struct rig_config config = {.port = {.path = path}};

	port_next_path(path, sizeof(path));
	restart_leave_stale_file(path);
	rig_open(rig, &config);
	rig_exchange(rig, 0, 32);
}

static void
restart_wait_lines(const char *text, unsigned int n)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (port_log_lines(text) != n) {
		if (mock_now_ms() > deadline)
			mock_fail("%u lines say \"%s\", not %u", port_log_lines(text), text, n);
		mock_relax(&looks);
	}
}

static void
test_connecting_port_waits_for_its_front_end(void **state)
{
	struct port_config config = {.devargs = "client=1,reconnect-ms=50"};
	struct rig *rig = rig_main();
	struct test_port port;
	int listen_fd;

	/* Nobody, then a dead listener's file, then the front-end. */
	port_log_capture();
	assert_int_equal(port_try_open(&port, &config), 0);
	restart_wait_lines("no front-end at", 1);
	restart_leave_stale_file(port.path);
	unlink(port.path);
	listen_fd = fe_listen(port.path);
	fe_accept(&rig->fe, listen_fd);
	fe_barrier(&rig->fe);
	assert_int_equal(port_log_lines("no front-end at"), 1);
	fe_close(&rig->fe);
	fe_accept(&rig->fe, listen_fd);
	fe_barrier(&rig->fe);
	fe_close(&rig->fe);
	port_close(&port);
	close(listen_fd);
	/* The file is not the port's to remove. */
	assert_int_equal(unlink(port.path), 0);
}

/* Connections that a listener gets in half a second, when it hangs up at once. */
static unsigned int
restart_count_attempts(int listen_fd)
{
	uint64_t deadline = mock_now_ms() + 500;
	struct pollfd pollfd = {.fd = listen_fd, .events = POLLIN};
	unsigned int n = 0;

	while (mock_now_ms() < deadline) {
		if (poll(&pollfd, 1, 10) != 1)
			continue;
		close(accept(listen_fd, NULL, NULL));
		n++;
	}
	return n;
}

static void
test_connecting_port_pauses_longer_and_longer(void **state)
{
	struct port_config config = {.devargs = "client=1,reconnect-ms=10000"};
	struct test_port port;
	char path[sizeof(port.path)];
	unsigned int attempts;
	int listen_fd;

	port_next_path(path, sizeof(path));
	listen_fd = fe_listen(path);
	assert_int_equal(port_try_open(&port, &config), 0);
	/* At 0, 20, 60, 140, 300 ms: five, where a fixed pause of 20 ms would make 25. */
	attempts = restart_count_attempts(listen_fd);
	port_close(&port);
	close(listen_fd);
	unlink(path);
	assert_in_range(attempts, 2, 6);
}

static void
test_connecting_port_without_reconnect_connects_once(void **state)
{
	struct port_config config = {.devargs = "client=1,reconnect-ms=0"};
	struct rig *rig = rig_main();
	struct test_port port;
	char path[sizeof(port.path)];
	int listen_fd;

	port_log_capture();
	assert_int_not_equal(port_try_open(&port, &config), 0);
	assert_int_equal(port_log_lines("cannot connect to"), 1);

	port_next_path(path, sizeof(path));
	listen_fd = fe_listen(path);
	assert_int_equal(port_try_open(&port, &config), 0);
	fe_accept(&rig->fe, listen_fd);
	fe_barrier(&rig->fe);
	fe_close(&rig->fe);
	assert_int_equal(restart_count_attempts(listen_fd), 0);
	assert_int_equal(port_log_lines("not connecting again"), 1);
	port_close(&port);
	/* Connected, and gone before anything was said. */
	config.path = path;
	assert_int_equal(port_try_open(&port, &config), 0);
	port_close(&port);
	close(listen_fd);
	unlink(path);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c79_front_end_restarts_and_the_listening_port_goes_on),
		RIG_TEST(test_c79_front_end_restarts_and_the_connecting_port_goes_on),
		RIG_TEST(test_c79_front_end_is_killed_under_traffic_of_a_listening_port),
		RIG_TEST(test_c79_front_end_is_killed_under_traffic_of_a_connecting_port),
		RIG_TEST(test_c79_listening_port_restarts_and_its_guest_goes_on),
		RIG_TEST(test_c79_connecting_port_restarts_and_its_guest_goes_on),
		RIG_TEST(test_c79_port_takes_the_path_of_a_killed_one_over),
		RIG_TEST(test_connecting_port_waits_for_its_front_end),
		RIG_TEST(test_connecting_port_pauses_longer_and_longer),
		RIG_TEST(test_connecting_port_without_reconnect_connects_once),
	};

	rig_program("test_conform_restart", 60);
	return cmocka_run_group_tests_name(
		"conform restart", tests, rig_group_setup, rig_group_teardown);
}
