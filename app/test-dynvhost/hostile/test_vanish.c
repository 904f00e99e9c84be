/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Front-ends that vanish: after every byte and every message of a session, with rings running and
 * packets on their way, by closing and by being killed. A session is recorded once and then played
 * in part, again and again.
 */

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

/** Every so many steps everything is counted. */
#define VANISH_STEPS 50

static struct fe_record vanish_record;

static void
vanish_expect_nothing_left(struct rig *rig, unsigned int idle)
{
	struct exposure exposure;

	rig_wait_fds(idle);
	exposure_read(&rig->ram, &exposure);
	assert_int_equal(exposure.mapped, 0);
	port_wait_link(&rig->port, false);
}

/* Play the first @p bytes of the session on fresh rings that hold packets, and go. */
static void
vanish_after(struct rig *rig, size_t bytes, bool read_replies)
{
	rig_reset_rings(rig);
	rig_offer_buffers(rig);
	(void)rig_send(rig, 0, 4);
	fe_connect(&rig->fe, rig->port.path);
	(void)fe_replay(&rig->fe, &vanish_record, bytes);
	if (read_replies) {
		struct fe_reply reply;

		/* Until nothing comes: by then the back-end is where the session ended. */
		while (fe_try_recv(&rig->fe, &reply, 2) == 0)
			;
	}
	rig_poll(rig);
	fe_close(&rig->fe);
	rig_poll(rig);
}

static void
vanish_by_bytes(const struct rig_config *config, size_t step)
{
	struct rig *rig = rig_main();
	unsigned int idle = hostile_record_session(rig, config, &vanish_record);
	size_t len = fe_record_bytes(&vanish_record);
	unsigned int n = 0;
	size_t at;

	for (at = 0; at <= len; at += step) {
		vanish_after(rig, at, false);
		if (++n % VANISH_STEPS == 0)
			vanish_expect_nothing_left(rig, idle);
	}
	vanish_expect_nothing_left(rig, idle);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
}

static void
test_h36_front_end_that_vanishes_after_every_byte(void **state)
{
	vanish_by_bytes(NULL, 1);
}

static void
test_h36_front_end_with_whole_tables_that_vanishes_after_every_byte(void **state)
{
	const struct rig_config config = {.nic = {.order = NIC_ORDER_VIRTIO_USER, .n_pairs = 2}};

	vanish_by_bytes(&config, 3);
}

static void
test_h36_front_end_that_vanishes_after_every_message(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 3}};
	struct rig *rig = rig_main();
	unsigned int idle = hostile_record_session(rig, &config, &vanish_record);
	size_t at = 0;
	unsigned int i;

	rig_echo_start(rig);
	for (i = 0; i < vanish_record.n; i++) {
		at += vanish_record.message[i].len;
		vanish_after(rig, at, true);
		vanish_expect_nothing_left(rig, idle);
	}
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
	rig_exchange(rig, 2, 64);
}

/* A front-end in a process of its own: says everything, then waits to be killed. */
static pid_t
vanish_fork(const struct rig *rig)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct front_end fe;
		struct fe_reply reply;

		mock_fail_hook = NULL;
		if (fe_try_connect(&fe, rig->port.path) != 0 ||
			fe_replay(&fe, &vanish_record, SIZE_MAX) != 0)
			_exit(1);
		while (fe_try_recv(&fe, &reply, 60000) == 0)
			;
		_exit(2);
	}
	mock_check(pid > 0);
	return pid;
}

static void
test_c80_h37_killed_front_end_makes_room_for_the_next(void **state)
{
	struct rig *rig = rig_main();
	unsigned int idle = hostile_record_session(rig, NULL, &vanish_record);
	unsigned int i;

	for (i = 0; i < 5; i++) {
		pid_t pid;
		int status;

		rig_reset_rings(rig);
		rig_offer_buffers(rig);
		pid = vanish_fork(rig);
		port_wait_link(&rig->port, true);
		rig_exchange(rig, 0, 64);
		(void)rig_send(rig, 0, 32);
		rig_poll(rig);
		assert_int_equal(kill(pid, SIGKILL), 0);
		rig_poll(rig);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		port_wait_link(&rig->port, false);
		vanish_expect_nothing_left(rig, idle);
	}
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
}

static void
test_c80_h37_stopped_front_end_does_not_stop_its_guest(void **state)
{
	struct rig *rig = rig_main();
	pid_t pid;
	int status;

	hostile_record_session(rig, NULL, &vanish_record);
	rig_reset_rings(rig);
	rig_offer_buffers(rig);
	pid = vanish_fork(rig);
	port_wait_link(&rig->port, true);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	rig_exchange(rig, 0, 200);
	canary_check();
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	port_wait_link(&rig->port, false);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
}

static void
test_port_removed_while_a_front_end_speaks(void **state)
{
	const struct vu_header header = {VU_SET_FEATURES, VU_VERSION, 8};
	struct rig *rig = rig_main();
	unsigned int i;

	for (i = 0; i < 10; i++) {
		rig_open(rig, NULL);
		rig_exchange(rig, 0, 16);
		(void)rig_send(rig, 0, 16);
		(void)fe_try_send_bytes(&rig->fe, &header, i, NULL, 0);
		/* The rig hangs up before it removes the port: here the port goes first. */
		port_close(&rig->port);
		fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
		rig_close(rig);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h36_front_end_that_vanishes_after_every_byte),
		HOSTILE_TEST(test_h36_front_end_with_whole_tables_that_vanishes_after_every_byte),
		HOSTILE_TEST(test_h36_front_end_that_vanishes_after_every_message),
		HOSTILE_TEST(test_c80_h37_killed_front_end_makes_room_for_the_next),
		HOSTILE_TEST(test_c80_h37_stopped_front_end_does_not_stop_its_guest),
		HOSTILE_TEST(test_port_removed_while_a_front_end_speaks),
	};

	hostile_program("test_hostile_vanish", 90);
	return cmocka_run_group_tests_name(
		"hostile vanishing", tests, rig_group_setup, rig_group_teardown);
}
