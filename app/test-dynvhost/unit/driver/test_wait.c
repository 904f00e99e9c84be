/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Requests that wait for a burst, while the front-end or the port goes. */

#include <pthread.h>

#include "drv_test.h"

/** Be inside a burst of the rig's port, in the sense of its gate. */
static struct dynvhost_gate *
begin_burst(struct rig *rig)
{
	struct dynvhost_gate *gate = drv_rx_gate(&rig->port, 0);

	/* What the port has done so far may have its gates held for another moment. */
	drv_wait(dynvhost_gate_enter(gate));
	return gate;
}

static void
wait_until_held(struct dynvhost_gate *gate)
{
	drv_wait(atomic_load(&gate->hold) != 0);
}

static void
test_request_waits_for_a_burst_and_other_ports_do_not(void **state)
{
	struct rig *rig = rig_main();
	struct test_port other;
	struct port_config other_config = {0};
	struct front_end other_fe = {.sock = -1};
	struct dynvhost_gate *gate;

	assert_int_equal(port_try_open(&other, &other_config), 0);
	rig_open(rig, NULL);
	gate = begin_burst(rig);
	fe_set_vring_enable(&rig->fe, 1, 0, FE_SEND_NR);
	fe_set_vring_enable(&rig->fe, 1, 1, FE_SEND_NR);
	wait_until_held(gate);
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);

	/* Another port is served meanwhile, from its first message to its end. */
	fe_connect(&other_fe, other.path);
	fe_barrier(&other_fe);
	fe_set_protocol_features(&other_fe, fe_get_protocol_features(&other_fe), FE_OK);
	fe_set_vring_num(&other_fe, 0, 64, FE_OK);
	fe_close(&other_fe);
	port_close(&other);

	dynvhost_gate_leave(gate);
	assert_int_equal(fe_expect_u64(&rig->fe, VU_SET_VRING_ENABLE), 0);
	assert_int_equal(fe_expect_u64(&rig->fe, VU_SET_VRING_ENABLE), 0);
	rig_exchange(rig, 0, 8);
}

static void
test_burst_that_takes_long_is_told_once(void **state)
{
	struct rig *rig = rig_main();
	struct dynvhost_gate *gate;

	rig_open(rig, NULL);
	port_log_capture();
	gate = begin_burst(rig);
	fe_set_vring_enable(&rig->fe, 1, 1, FE_SEND_NR);
	drv_wait(port_log_lines("an lcore has been inside one burst") == 1);
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
	dynvhost_gate_leave(gate);
	assert_int_equal(fe_expect_u64(&rig->fe, VU_SET_VRING_ENABLE), 0);
	assert_int_equal(port_log_lines("net_dynvhost"), 1);
}

/** Send a request that waits, and go. The burst's memory must stay until it ends. */
static void
check_hang_up_while_waiting(struct rig *rig, void (*request)(struct rig *rig))
{
	struct exposure exposure;
	struct dynvhost_gate *gate;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 8);
	gate = begin_burst(rig);
	request(rig);
	wait_until_held(gate);
	fe_close(&rig->fe);
	/* The next front-end's turn comes when nothing is left of the first. */
	fe_connect(&rig->fe, rig->port.path);
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
	exposure_read(&rig->ram, &exposure);
	assert_true(exposure.mapped > 0);
	assert_true(port_link_up(&rig->port));

	dynvhost_gate_leave(gate);
	port_wait_link(&rig->port, false);
	fe_barrier(&rig->fe);
	exposure_read(&rig->ram, &exposure);
	assert_int_equal(exposure.mapped, 0);
	rig_reset_rings(rig);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 8);
}

static void
request_stop(struct rig *rig)
{
	const struct vu_vring_state state = {.index = 1};
	struct fe_message message = fe_make(VU_GET_VRING_BASE, VU_VERSION, &state, sizeof(state));

	fe_send(&rig->fe, &message);
}

static void
request_call(struct rig *rig)
{
	fe_set_vring_call(&rig->fe, 1, rig->nic.masked_fd, FE_SEND);
}

static void
request_memory(struct rig *rig)
{
	fe_set_mem_table(&rig->fe, &rig->ram, FE_SEND);
}

static void
request_removal(struct rig *rig)
{
	struct vu_mem_region region = fe_region(&rig->ram.region[0]);

	fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_SEND);
}

static void
test_front_end_goes_while_its_stop_waits(void **state)
{
	check_hang_up_while_waiting(rig_main(), request_stop);
}

static void
test_front_end_goes_while_its_call_fd_waits(void **state)
{
	check_hang_up_while_waiting(rig_main(), request_call);
}

static void
test_front_end_goes_while_its_memory_table_waits(void **state)
{
	check_hang_up_while_waiting(rig_main(), request_memory);
}

static void
test_front_end_goes_while_its_removal_of_memory_waits(void **state)
{
	check_hang_up_while_waiting(rig_main(), request_removal);
}

static bool is_removed;

static void *
remove_port(void *arg)
{
	struct rig *rig = arg;

	rte_eth_dev_close(rig->port.id);
	__atomic_store_n(&is_removed, true, __ATOMIC_RELEASE);
	return NULL;
}

/** The application closes the port in one thread and still is in a burst in another. */
static void
check_close_while_waiting(bool connected)
{
	struct rig *rig = rig_main();
	struct dynvhost_gate *gate;
	pthread_t thread;
	uint64_t until;

	is_removed = false;
	rig_open(rig, NULL);
	gate = begin_burst(rig);
	request_memory(rig);
	wait_until_held(gate);
	if (!connected)
		fe_close(&rig->fe);
	port_stop(&rig->port);
	assert_int_equal(pthread_create(&thread, NULL, remove_port, rig), 0);
	for (until = mock_now_ms() + MOCK_SILENCE_MS; mock_now_ms() < until;)
		assert_false(__atomic_load_n(&is_removed, __ATOMIC_ACQUIRE));
	dynvhost_gate_leave(gate);
	pthread_join(thread, NULL);
	assert_true(is_removed);
	if (connected)
		fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	rte_eal_hotplug_remove("vdev", rig->port.name);
	rte_mempool_free(rig->port.pool);
	rig->port.open = false;
}

static void
test_port_is_closed_while_a_request_waits(void **state)
{
	check_close_while_waiting(true);
}

static void
test_port_is_closed_while_the_end_of_a_connection_waits(void **state)
{
	check_close_while_waiting(false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_request_waits_for_a_burst_and_other_ports_do_not),
		RIG_TEST(test_burst_that_takes_long_is_told_once),
		RIG_TEST(test_front_end_goes_while_its_stop_waits),
		RIG_TEST(test_front_end_goes_while_its_call_fd_waits),
		RIG_TEST(test_front_end_goes_while_its_memory_table_waits),
		RIG_TEST(test_front_end_goes_while_its_removal_of_memory_waits),
		RIG_TEST(test_port_is_closed_while_a_request_waits),
		RIG_TEST(test_port_is_closed_while_the_end_of_a_connection_waits),
	};

	rig_program("unit_drv_wait", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_wait", tests, rig_group_setup, rig_group_teardown);
}
