/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * fds that take their time to close: the last holder of a TCP socket with unsent data and SO_LINGER
 * waits in close(2) for as long as its maker has said, and so does whoever lets the kernel drop one.
 * However a front-end passes such an fd, other ports must not notice, and its own port must be good
 * again afterwards.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>

#include "drv_test.h"

/** How long a close takes, */
#define LINGER_SECONDS 1
/** what other ports may take for a round trip meanwhile (machines are busy), */
#define PROMPT_MS 600
/** and how long they are watched: whoever meets the close by then waits for longer than that. */
#define WATCH_MS 300

static struct test_port other;
static struct front_end other_fe = {.sock = -1};

/** The other end of the socket below, never accepted and never read; -1: none. */
static int listener = -1;

/** A socket with more to send than its peer takes: its last fd closes slowly. */
static int
open_lingering(void)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = LINGER_SECONDS};
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	static const char data[65536];
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mock_check(bind(listener, (const struct sockaddr *)&addr, len) == 0);
	mock_check(listen(listener, 1) == 0);
	mock_check(getsockname(listener, (struct sockaddr *)&addr, &len) == 0);
	mock_check(connect(fd, (const struct sockaddr *)&addr, len) == 0);
	mock_check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	while (write(fd, data, sizeof(data)) > 0)
		;
	mock_check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
	return fd;
}

int __wrap_close(int fd);
int __real_close(int fd);

/** Thread of the driver that has closed a file of guest memory last; empty: none has. */
static char memory_closer[16];
static pthread_t test_thread;

int
__wrap_close(int fd)
{
	char path[32], target[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!pthread_equal(pthread_self(), test_thread) &&
		readlink(path, target, sizeof(target) - 1) > 0 &&
		strncmp(target, "/memfd:guest-ram", 16) == 0)
		pthread_getname_np(pthread_self(), memory_closer, sizeof(memory_closer));
	return __real_close(fd);
}

/** Without its other end the socket closes at once. */
static void
end_lingering(void)
{
	if (listener >= 0)
		close(listener);
	listener = -1;
}

static sem_t paused, may_go_on;
static bool shall_pause;

static int
on_queue_state(uint16_t port, enum rte_eth_event_type type, void *arg, void *ret)
{
	(void)port;
	(void)type;
	(void)arg;
	(void)ret;
	if (!__atomic_exchange_n(&shall_pause, false, __ATOMIC_ACQ_REL))
		return 0;
	sem_post(&paused);
	sem_wait(&may_go_on);
	return 0;
}

/** Keep the control thread in a callback: what is sent now, it finds when the sender has let go. */
static void
pause_control(struct rig *rig)
{
	__atomic_store_n(&shall_pause, true, __ATOMIC_RELEASE);
	fe_set_vring_enable(&rig->fe, 1, 0, FE_OK);
	sem_wait(&paused);
}

/** Let go of the fd, and have the control thread go on. Nobody but the peer holds it now. */
static void
let_go(int fd)
{
	close(fd);
	sem_post(&may_go_on);
}

static int
setup(void **state)
{
	struct port_config config = {0};
	int rc = rig_setup(state);

	test_thread = pthread_self();
	memory_closer[0] = '\0';
	sem_init(&paused, 0, 0);
	sem_init(&may_go_on, 0, 0);
	if (rc == 0)
		rc = rte_eth_dev_callback_register(
			RTE_ETH_ALL, RTE_ETH_EVENT_QUEUE_STATE, on_queue_state, NULL);
	if (rc != 0 || port_try_open(&other, &config) != 0)
		return -1;
	fe_connect(&other_fe, other.path);
	fe_barrier(&other_fe);
	return 0;
}

static int
teardown(void **state)
{
	int rc;

	/* Should a test have failed before it did. */
	sem_post(&may_go_on);
	end_lingering();
	fe_close(&other_fe);
	port_close(&other);
	rc = rig_teardown(state);
	rte_eth_dev_callback_unregister(
		RTE_ETH_ALL, RTE_ETH_EVENT_QUEUE_STATE, on_queue_state, NULL);
	return rc;
}

/** The other port answers at once, whatever the fd does. */
static void
expect_other_port_is_prompt(void)
{
	uint64_t begin = mock_now_ms();
	uint64_t before;

	while (mock_now_ms() - begin < WATCH_MS) {
		before = mock_now_ms();
		fe_barrier(&other_fe);
		assert_in_range(mock_now_ms() - before, 0, PROMPT_MS);
	}
}

/** The rig's port is as good as new. */
static void
expect_port_is_good(struct rig *rig)
{
	fe_close(&rig->fe);
	port_wait_link(&rig->port, false);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
}

static void
test_fd_of_a_refused_request(void **state)
{
	struct rig *rig = rig_main();
	int fd;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	fe_set_vring_call(&rig->fe, 0, fd, FE_SEND_NR);
	let_go(fd);
	expect_other_port_is_prompt();
	end_lingering();
	/* No eventfd: refused, and the connection stays. */
	assert_int_not_equal(fe_expect_u64(&rig->fe, VU_SET_VRING_CALL), 0);
	fe_set_vring_enable(&rig->fe, 1, 1, FE_OK);
	rig_exchange(rig, 0, 8);
	expect_port_is_good(rig);
}

static void
test_more_fds_than_a_message_carries(void **state)
{
	struct rig *rig = rig_main();
	struct fe_message message = fe_make(VU_SET_OWNER, VU_VERSION, NULL, 0);
	int fd[20];
	unsigned int i;

	rig_open(rig, NULL);
	fd[19] = open_lingering();
	pause_control(rig);
	for (i = 0; i < 19; i++)
		fd[i] = rig->nic.masked_fd;
	message.fd = fd;
	message.n_fds = 20;
	fe_send(&rig->fe, &message);
	let_go(fd[19]);
	expect_other_port_is_prompt();
	end_lingering();
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	expect_port_is_good(rig);
}

static void
test_fd_behind_the_header(void **state)
{
	const uint64_t payload = 0;
	struct rig *rig = rig_main();
	struct fe_message message = fe_make(VU_SET_FEATURES, VU_VERSION, &payload, sizeof(payload));
	uint8_t bytes[64];
	size_t len;
	int fd;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	len = fe_encode(&message, bytes, sizeof(bytes));
	assert_int_equal(fe_try_send_bytes(&rig->fe, bytes, 12, NULL, 0), 0);
	fe_try_send_bytes(&rig->fe, bytes + 12, len - 12, &fd, 1);
	let_go(fd);
	expect_other_port_is_prompt();
	end_lingering();
	expect_port_is_good(rig);
}

static void
test_fd_in_half_a_message(void **state)
{
	const struct vu_header header = {VU_SET_VRING_CALL, VU_VERSION, 8};
	struct rig *rig = rig_main();
	int fd;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	assert_int_equal(fe_try_send_bytes(&rig->fe, &header, 4, &fd, 1), 0);
	fe_close(&rig->fe);
	let_go(fd);
	expect_other_port_is_prompt();
	end_lingering();
	expect_port_is_good(rig);
}

/** Messages that nobody reads any more, as the one before them has ended the connection. */
static void
test_fd_in_what_is_never_read(void **state)
{
	struct rig *rig = rig_main();
	int fd;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	fe_set_vring_num(&rig->fe, 0, 3, FE_SEND);
	fe_set_vring_call(&rig->fe, 0, fd, FE_SEND);
	let_go(fd);
	expect_other_port_is_prompt();
	end_lingering();
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	expect_port_is_good(rig);
}

static void
test_fd_of_a_second_front_end(void **state)
{
	struct rig *rig = rig_main();
	struct front_end second = {.sock = -1};
	int fd;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	fe_connect(&second, rig->port.path);
	(void)fe_try_send_bytes(&second, "", 1, &fd, 1);
	fe_close(&second);
	let_go(fd);
	expect_other_port_is_prompt();
	end_lingering();
	fe_set_vring_enable(&rig->fe, 1, 1, FE_OK);
	rig_exchange(rig, 0, 8);
}

/** The kernel lets go of fds that our table has no room for. */
static void
test_fd_that_there_is_no_room_for(void **state)
{
	struct rig *rig = rig_main();
	struct rlimit limit, low;
	int fd, lowest;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	fe_set_vring_call(&rig->fe, 0, fd, FE_SEND);
	close(fd);
	mock_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	lowest = dup(0);
	close(lowest);
	low = limit;
	low.rlim_cur = (rlim_t)lowest;
	mock_check(setrlimit(RLIMIT_NOFILE, &low) == 0);
	sem_post(&may_go_on);
	expect_other_port_is_prompt();
	mock_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	end_lingering();
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	expect_port_is_good(rig);
}

/** Who closes the last fd of a large guest's memory is busy for seconds. */
static void
test_memory_of_a_front_end_that_is_gone(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;

	rig_prepare(rig, NULL);
	/* The other end of the connection is of this process too. */
	fe_barrier(&rig->fe);
	fds = mock_count_fds();
	rig_bring_up(rig);
	rig_exchange(rig, 0, 8);
	memory_closer[0] = 0;
	rig_hang_up(rig);
	/* The connection is gone as well. */
	rig_wait_fds(fds - 2);
	assert_string_equal(memory_closer, "dynvhost-close");
	rig_reconnect(rig);
	rig_exchange(rig, 0, 8);
}

/** Whoever removes the port does not wait for its front-end either. */
static void
test_port_is_removed_meanwhile(void **state)
{
	struct rig *rig = rig_main();
	uint64_t begin;
	int fd;

	rig_open(rig, NULL);
	fd = open_lingering();
	pause_control(rig);
	fe_set_vring_call(&rig->fe, 0, fd, FE_SEND);
	let_go(fd);
	begin = mock_now_ms();
	port_close(&rig->port);
	assert_in_range(mock_now_ms() - begin, 0, PROMPT_MS);
	expect_other_port_is_prompt();
	end_lingering();
}

int
main(void)
{
#define LINGER_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		LINGER_TEST(test_fd_of_a_refused_request),
		LINGER_TEST(test_more_fds_than_a_message_carries),
		LINGER_TEST(test_fd_behind_the_header),
		LINGER_TEST(test_fd_in_half_a_message),
		LINGER_TEST(test_fd_in_what_is_never_read),
		LINGER_TEST(test_fd_of_a_second_front_end),
		LINGER_TEST(test_fd_that_there_is_no_room_for),
		LINGER_TEST(test_memory_of_a_front_end_that_is_gone),
		LINGER_TEST(test_port_is_removed_meanwhile),
	};

	rig_program("unit_drv_linger", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_linger", tests, rig_group_setup, rig_group_teardown);
}
