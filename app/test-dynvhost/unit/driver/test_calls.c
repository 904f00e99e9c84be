/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A port's whole session, of which one call of guest memory to the system fails, each in turn (H97):
 * the message that needed it is refused, the ring starts later, the packet waits. Afterwards packets
 * pass, and nothing is left behind.
 */

#include "../mem/mem_test.h"
#include "drv_test.h"

/** Refused or not; the failure is over after one call. */
static void
calls_send_memory(struct rig *rig)
{
	const struct vu_mem_region region = fe_region(&rig->ram.region[0]);
	const int fd = rig->ram.file[0].fd;

	fe_add_mem_reg(&rig->fe, &region, &fd, 1, FE_ANSWERED);
	/* If it is there, it is there twice and refused. */
	fe_add_mem_reg(&rig->fe, &region, &fd, 1, FE_ANSWERED);
	rig->nic.regions_sent = true;
}

/** From now on call @p at fails. What is unmapped goes: that it does not is for unit_mem_fail. */
static void
calls_start(unsigned int at)
{
	static struct mem_sys_ops ops;

	mt_fail_start(MT_FAIL_ONE, at);
	ops = *dynvhost_mem_sys;
	ops.munmap = munmap;
	dynvhost_mem_sys = &ops;
}

/** @return whether the session was long enough for call @p at to fail. */
static bool
calls_fail(unsigned int at)
{
	const struct rig_config config = {.port = {.devargs = rig_devargs}};
	unsigned int fds = mock_count_fds();
	struct rig *rig = rig_main();
	unsigned int calls;

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	calls_start(at);
	calls_send_memory(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	/* A burst that is put off may cost packets here, as nobody offers them again, and so may a
	 * ring whose start fails at first and which comes up after the other.
	 */
	rig->may_lose = 8;
	(void)rig_try_exchange(rig, 0, 8, 300);
	rig->may_lose = 0;
	rig_forget(rig, 0);
	rig_close(rig);
	calls = mt_fail_stop();
	rig_wait_fds(fds);
	return at <= calls;
}

static void
test_h97_each_call_of_a_session_fails_once(void **state)
{
	unsigned int at = 1;

	while (calls_fail(at))
		at++;
	print_message("# %u calls\n", at - 1);
	assert_true(at > 40);
	rig_open(rig_main(), NULL);
	rig_exchange(rig_main(), 0, 64);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_h97_each_call_of_a_session_fails_once),
	};

	rig_program("unit_drv_calls", 80);
	rig_devargs = CALLS_DEVARGS;
	return cmocka_run_group_tests_name(
		"unit_drv_calls", tests, rig_group_setup, rig_group_teardown);
}
