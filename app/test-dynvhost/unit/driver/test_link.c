/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * News from the control thread: which events an application is told, in which order, and what it may
 * do about its ports while it is told, or while another of its threads is.
 */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_dev.h>

#include "drv_test.h"

#define MAX_EVENTS 64

/** One event, and what the callback found then. */
struct event {
	uint16_t port;
	enum rte_eth_event_type type;
	uint16_t link; /**< rte_eth_link_get_nowait() within the callback */
};

/** What the application's callback does; everything below is guarded by `lock`. */
static struct {
	pthread_mutex_t lock;
	unsigned int n;
	struct event event[MAX_EVENTS];
	unsigned int running;
	/** To be done when the link of any port comes up; NULL: nothing. No lock is held. */
	void (*on_up)(uint16_t port);
} app = {.lock = PTHREAD_MUTEX_INITIALIZER};

static sem_t entered, may_return;

static int
on_event(uint16_t port, enum rte_eth_event_type type, void *arg, void *ret)
{
	struct rte_eth_link link = {0};
	void (*on_up)(uint16_t) = NULL;

	(void)arg;
	(void)ret;
	if (rte_eth_link_get_nowait(port, &link) < 0)
		link.link_status = RTE_ETH_LINK_DOWN;
	pthread_mutex_lock(&app.lock);
	app.running++;
	if (app.n < MAX_EVENTS)
		app.event[app.n++] = (struct event){port, type, link.link_status};
	if (type == RTE_ETH_EVENT_INTR_LSC && link.link_status == RTE_ETH_LINK_UP)
		on_up = app.on_up;
	pthread_mutex_unlock(&app.lock);
	if (on_up != NULL)
		on_up(port);
	pthread_mutex_lock(&app.lock);
	app.running--;
	pthread_mutex_unlock(&app.lock);
	return 0;
}

static unsigned int
count_events(enum rte_eth_event_type type)
{
	unsigned int n = 0, i;

	pthread_mutex_lock(&app.lock);
	for (i = 0; i < app.n; i++)
		n += app.event[i].type == type;
	pthread_mutex_unlock(&app.lock);
	return n;
}

static void
forget_events(void)
{
	pthread_mutex_lock(&app.lock);
	app.n = 0;
	pthread_mutex_unlock(&app.lock);
}

static bool
is_idle(void)
{
	bool idle;

	pthread_mutex_lock(&app.lock);
	idle = app.running == 0;
	pthread_mutex_unlock(&app.lock);
	return idle;
}

static int
setup(void **state)
{
	int rc = rig_setup(state);

	forget_events();
	app.on_up = NULL;
	sem_init(&entered, 0, 0);
	sem_init(&may_return, 0, 0);
	if (rc == 0)
		rc = rte_eth_dev_callback_register(
			RTE_ETH_ALL, RTE_ETH_EVENT_INTR_LSC, on_event, NULL);
	if (rc == 0)
		rc = rte_eth_dev_callback_register(
			RTE_ETH_ALL, RTE_ETH_EVENT_QUEUE_STATE, on_event, NULL);
	return rc;
}

static int
teardown(void **state)
{
	int rc;

	/* Should a test have failed before it did. */
	sem_post(&may_return);
	rc = rig_teardown(state);
	drv_wait(is_idle());
	rte_eth_dev_callback_unregister(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_LSC, on_event, NULL);
	rte_eth_dev_callback_unregister(RTE_ETH_ALL, RTE_ETH_EVENT_QUEUE_STATE, on_event, NULL);
	return rc;
}

/* --- what is told --- */

static void
expect_event(unsigned int i, uint16_t port, enum rte_eth_event_type type)
{
	assert_in_range(i, 0, app.n - 1);
	assert_int_equal(app.event[i].port, port);
	assert_int_equal(app.event[i].type, type);
}

static void
test_link_is_told_after_its_queues_and_is_what_ethdev_says(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	drv_wait(count_events(RTE_ETH_EVENT_INTR_LSC) == 1 && is_idle());
	assert_int_equal(app.n, 3);
	expect_event(0, rig->port.id, RTE_ETH_EVENT_QUEUE_STATE);
	expect_event(1, rig->port.id, RTE_ETH_EVENT_QUEUE_STATE);
	expect_event(2, rig->port.id, RTE_ETH_EVENT_INTR_LSC);
	assert_int_equal(app.event[2].link, RTE_ETH_LINK_UP);

	forget_events();
	rig_hang_up(rig);
	drv_wait(count_events(RTE_ETH_EVENT_INTR_LSC) == 1 && is_idle());
	assert_int_equal(app.n, 3);
	expect_event(2, rig->port.id, RTE_ETH_EVENT_INTR_LSC);
	assert_int_equal(app.event[2].link, RTE_ETH_LINK_DOWN);
}

static void
test_nothing_is_told_of_a_stopped_port(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	port_stop(&rig->port);
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	/* The answer goes out before the news do. */
	drv_wait(atomic_load(&drv_dev(&rig->port)->link_ready));
	assert_false(port_link_up(&rig->port));
	/* The application finds the link up as soon as it starts the port. */
	port_start(&rig->port);
	assert_true(port_link_up(&rig->port));
	port_stop(&rig->port);
	assert_false(port_link_up(&rig->port));
	fe_close(&rig->fe);
	fe_connect(&rig->fe, rig->port.path);
	fe_barrier(&rig->fe);
	assert_int_equal(app.n, 0);
}

static void
test_ring_that_is_disabled_takes_the_link_down(void **state)
{
	struct rig *rig = rig_main();
	int i;

	rig_open(rig, NULL);
	drv_wait(count_events(RTE_ETH_EVENT_INTR_LSC) == 1 && is_idle());
	for (i = 0; i < 3; i++) {
		forget_events();
		fe_set_vring_enable(&rig->fe, 1, 0, FE_OK);
		port_wait_link(&rig->port, false);
		drv_wait(app.n == 2 && is_idle());
		fe_set_vring_enable(&rig->fe, 1, 1, FE_OK);
		port_wait_link(&rig->port, true);
		drv_wait(app.n == 4 && is_idle());
		expect_event(0, rig->port.id, RTE_ETH_EVENT_QUEUE_STATE);
		expect_event(1, rig->port.id, RTE_ETH_EVENT_INTR_LSC);
		expect_event(2, rig->port.id, RTE_ETH_EVENT_QUEUE_STATE);
		expect_event(3, rig->port.id, RTE_ETH_EVENT_INTR_LSC);
		assert_int_equal(app.event[1].link, RTE_ETH_LINK_DOWN);
		assert_int_equal(app.event[3].link, RTE_ETH_LINK_UP);
	}
	rig_exchange(rig, 0, 8);
}

static void
test_half_a_queue_pair_is_no_link(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	nic_send_memory(&rig->nic);
	nic_set_up_ring(&rig->nic, NIC_TX(0));
	drv_wait(count_events(RTE_ETH_EVENT_QUEUE_STATE) == 1 && is_idle());
	assert_false(port_link_up(&rig->port));
	/* The half that is there works. */
	rig_to_host(rig, 0, 60);
	rig_offer_buffers(rig);
	nic_set_up_ring(&rig->nic, NIC_RX(0));
	port_wait_link(&rig->port, true);
}

/** The link is worked out by two threads: neither may overwrite with what it has seen before. */
static void
test_link_is_right_when_guest_and_application_start_together(void **state)
{
	struct rig *rig = rig_main();
	uint64_t until;
	int i;

	rig_open(rig, NULL);
	for (i = 0; i < 300; i++) {
		fe_set_vring_enable(&rig->fe, 1, 0, FE_OK);
		port_wait_link(&rig->port, false);
		assert_int_equal(rte_eth_dev_stop(rig->port.id), 0);
		fe_set_vring_enable(&rig->fe, 1, 1, FE_SEND_NR);
		/* Not always at the same moment of what the control thread does about it. */
		for (until = rte_rdtsc() + (uint64_t)i * 500; rte_rdtsc() < until;)
			;
		assert_int_equal(rte_eth_dev_start(rig->port.id), 0);
		assert_int_equal(fe_expect_u64(&rig->fe, VU_SET_VRING_ENABLE), 0);
		port_wait_link(&rig->port, true);
	}
	rig_exchange(rig, 0, 8);
}

/* --- what may be done about it --- */

static uint16_t closed_port;

static void
close_port(uint16_t port)
{
	rte_eth_dev_stop(port);
	if (rte_eth_dev_close(port) == 0)
		__atomic_store_n(&closed_port, port, __ATOMIC_RELEASE);
}

static char remove_name[32];

static void
remove_port(uint16_t port)
{
	rte_eth_dev_stop(port);
	if (rte_eal_hotplug_remove("vdev", remove_name) == 0)
		__atomic_store_n(&closed_port, port, __ATOMIC_RELEASE);
}

static bool
is_closed(uint16_t port)
{
	return __atomic_load_n(&closed_port, __ATOMIC_ACQUIRE) == port;
}

/** Bring a guest up on a port, and have the callback do something when it is told so. */
static void
bring_up_and(struct rig *rig, void (*on_up)(uint16_t port))
{
	closed_port = RTE_MAX_ETHPORTS;
	rig_prepare(rig, NULL);
	snprintf(remove_name, sizeof(remove_name), "%s", rig->port.name);
	app.on_up = on_up;
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	nic_set_up_ring(&rig->nic, NIC_RX(0));
	nic_set_up_ring(&rig->nic, NIC_TX(0));
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	/* The last message that the link waits for; who would answer may be in the callback. */
	fe_set_mem_table(&rig->fe, &rig->ram, FE_SEND);
}

/** Bring a guest up on a port of which the callback disposes. */
static void
bring_up_to_be_disposed_of(struct rig *rig, void (*dispose)(uint16_t port))
{
	bring_up_and(rig, dispose);
	drv_wait(is_closed(rig->port.id));
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	fe_close(&rig->fe);
}

/** Forget the rig's port, which the callback has disposed of; its mbufs must all be there. */
static void
forget_port(struct rig *rig)
{
	rte_eal_hotplug_remove("vdev", rig->port.name);
	assert_int_equal(rte_mempool_avail_count(rig->port.pool), rig->port.pool->size);
	rte_mempool_free(rig->port.pool);
	rig->port.open = false;
}

static void
check_disposal_in_callback(void (*dispose)(uint16_t port))
{
	struct footprint before = footprint_read();
	struct rig *rig = rig_main();
	int i;

	for (i = 0; i < 3; i++) {
		bring_up_to_be_disposed_of(rig, dispose);
		drv_wait(is_idle());
		forget_port(rig);
		rig_close(rig);
		footprint_expect(&before);
	}
}

static void
test_port_is_closed_within_its_own_callback(void **state)
{
	check_disposal_in_callback(close_port);
}

static void
test_port_is_removed_within_its_own_callback(void **state)
{
	check_disposal_in_callback(remove_port);
}

static void
test_ports_work_after_one_was_removed_within_its_callback(void **state)
{
	struct rig *rig = rig_main();
	struct port_config config = {0};
	struct test_port other;

	assert_int_equal(port_try_open(&other, &config), 0);
	bring_up_to_be_disposed_of(rig, remove_port);
	drv_wait(is_idle());
	forget_port(rig);
	rig_close(rig);
	app.on_up = NULL;
	rig_open(rig, NULL);
	rig_exchange(rig, 0, 8);
	port_close(&other);
	rig_exchange(rig, 0, 8);
}

static struct test_port other_port;

static void
remove_the_other_port(uint16_t port)
{
	if (rte_eal_hotplug_remove("vdev", other_port.name) == 0)
		__atomic_store_n(&closed_port, port, __ATOMIC_RELEASE);
}

static void
test_another_port_is_removed_within_a_callback(void **state)
{
	struct rig *rig = rig_main();
	struct port_config config = {0};

	closed_port = RTE_MAX_ETHPORTS;
	assert_int_equal(port_try_open(&other_port, &config), 0);
	rig_prepare(rig, NULL);
	app.on_up = remove_the_other_port;
	rig_bring_up(rig);
	drv_wait(is_closed(rig->port.id));
	assert_int_equal(rte_eth_dev_count_avail(), 1);
	rig_exchange(rig, 0, 8);
}

static int probe_result;
static char probe_path[128];

static void
add_a_port(uint16_t port)
{
	char devargs[160];

	snprintf(devargs, sizeof(devargs), "iface=%s", probe_path);
	probe_result = rte_eal_hotplug_add("vdev", "net_dynvhost_late", devargs);
	__atomic_store_n(&closed_port, port, __ATOMIC_RELEASE);
}

static void
test_port_cannot_be_added_within_a_callback(void **state)
{
	struct rig *rig = rig_main();

	closed_port = RTE_MAX_ETHPORTS;
	rig_prepare(rig, NULL);
	snprintf(probe_path, sizeof(probe_path), "%s.late", rig->port.path);
	app.on_up = add_a_port;
	rig_bring_up(rig);
	drv_wait(is_closed(rig->port.id));
	assert_int_equal(probe_result, -EDEADLK);
	assert_int_equal(rte_eth_dev_count_avail(), 1);
	rig_exchange(rig, 0, 8);
}

static void
take_a_long_time(uint16_t port)
{
	(void)port;
	sem_post(&entered);
	sem_wait(&may_return);
}

/** Whatever an application does in a callback, its other ports are not held up by it. */
static void
test_another_port_is_removed_while_a_callback_takes_its_time(void **state)
{
	struct rig *rig = rig_main();
	struct port_config config = {0};
	struct test_port other;
	uint64_t begin;

	assert_int_equal(port_try_open(&other, &config), 0);
	bring_up_and(rig, take_a_long_time);
	sem_wait(&entered);
	begin = mock_now_ms();
	/* If this waits for the callback it waits for ever, and the program runs out of time. */
	assert_int_equal(rte_eal_hotplug_remove("vdev", other.name), 0);
	assert_in_range(mock_now_ms() - begin, 0, MOCK_DEADLINE_MS);
	sem_post(&may_return);
	drv_wait(is_idle());
	app.on_up = NULL;
	rig_exchange(rig, 0, 8);
}

/** All of this is there at once when the control thread looks, the end of it behind much else. */
static void
test_front_end_that_comes_back_is_not_turned_away_for_its_own_past(void **state)
{
	struct rig *rig = rig_main();
	int i;

	bring_up_and(rig, take_a_long_time);
	sem_wait(&entered);
	app.on_up = NULL;
	/* More than is served in one go. */
	for (i = 0; i < 200; i++)
		fe_set_owner(&rig->fe, FE_SEND);
	fe_close(&rig->fe);
	fe_connect(&rig->fe, rig->port.path);
	sem_post(&may_return);
	fe_barrier(&rig->fe);
	rig_reset_rings(rig);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 8);
}

static bool is_removed;

static void *
remove_rig_port(void *arg)
{
	struct rig *rig = arg;

	rte_eth_dev_stop(rig->port.id);
	rte_eal_hotplug_remove("vdev", rig->port.name);
	__atomic_store_n(&is_removed, true, __ATOMIC_RELEASE);
	return NULL;
}

/** After the removal a callback would meet a port that is gone. */
static void
test_removal_waits_for_the_ports_own_callback(void **state)
{
	struct rig *rig = rig_main();
	pthread_t thread;
	uint64_t until;

	is_removed = false;
	bring_up_and(rig, take_a_long_time);
	sem_wait(&entered);
	assert_int_equal(pthread_create(&thread, NULL, remove_rig_port, rig), 0);
	for (until = mock_now_ms() + MOCK_SILENCE_MS; mock_now_ms() < until;)
		assert_false(__atomic_load_n(&is_removed, __ATOMIC_ACQUIRE));
	sem_post(&may_return);
	pthread_join(thread, NULL);
	assert_true(is_removed);
	assert_true(is_idle());
	forget_port(rig);
}

static void
test_no_callback_comes_after_close(void **state)
{
	struct rig *rig = rig_main();
	unsigned int n;
	int i;

	for (i = 0; i < 10; i++) {
		rig_open(rig, NULL);
		/* The connection goes down at the same moment as the port. */
		fe_close(&rig->fe);
		port_stop(&rig->port);
		assert_int_equal(rte_eth_dev_close(rig->port.id), 0);
		assert_true(is_idle());
		n = app.n;
		forget_port(rig);
		rig_close(rig);
		assert_int_equal(app.n, n);
	}
}

int
main(void)
{
#define LINK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		LINK_TEST(test_link_is_told_after_its_queues_and_is_what_ethdev_says),
		LINK_TEST(test_nothing_is_told_of_a_stopped_port),
		LINK_TEST(test_ring_that_is_disabled_takes_the_link_down),
		LINK_TEST(test_half_a_queue_pair_is_no_link),
		LINK_TEST(test_link_is_right_when_guest_and_application_start_together),
		LINK_TEST(test_port_is_closed_within_its_own_callback),
		LINK_TEST(test_port_is_removed_within_its_own_callback),
		LINK_TEST(test_ports_work_after_one_was_removed_within_its_callback),
		LINK_TEST(test_another_port_is_removed_within_a_callback),
		LINK_TEST(test_port_cannot_be_added_within_a_callback),
		LINK_TEST(test_another_port_is_removed_while_a_callback_takes_its_time),
		LINK_TEST(test_front_end_that_comes_back_is_not_turned_away_for_its_own_past),
		LINK_TEST(test_removal_waits_for_the_ports_own_callback),
		LINK_TEST(test_no_callback_comes_after_close),
	};

	rig_program("unit_drv_link", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_link", tests, rig_group_setup, rig_group_teardown);
}
