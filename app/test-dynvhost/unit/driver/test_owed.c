/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Notifications that a queue owes its guest, because it has published without a fence (defer.h), when
 * its ring is stopped, moved or lost at that moment: there is no later one to make up for them. That
 * the guest has asked for them just before, unseen, is played as in unit/virtqueue/test_defer.c.
 */

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include <rte_cycles.h>

#include "defer.h"
#include "drv_test.h"

static struct dynvhost_vq *
owed_vq(struct rig *rig)
{
	return &drv_dev(&rig->port)->vq[NIC_TX(0)];
}

/** A guest that sends, and has polled for so long that the queue leaves its fences out. */
static void
owed_open(struct rig *rig)
{
	struct dynvhost_vq *vq;

	rig_open(rig, NULL);
	vq = owed_vq(rig);
	split_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].ring, true);
	drv_wait((rig_exchange(rig, 0, 1), atomic_load(&vq->defer.watched)));
	nic_calls(&rig->nic, NIC_TX(0));
}

/** One packet more, whose buffer comes back without a fence; the guest wants to be told of it. */
static void
owed_publish(struct rig *rig)
{
	struct dynvhost_vq *vq = owed_vq(rig);
	uint32_t unfenced = atomic_load(&vq->defer.unfenced);
	uint8_t data[PACKET_MIN];
	struct rte_mbuf *pkt;

	packet_fill(data, sizeof(data), 1);
	mock_check(nic_send(&rig->nic, 0, data, sizeof(data)));
	drv_wait(port_rx(&rig->port, 0, &pkt, 1) == 1);
	rte_pktmbuf_free(pkt);
	assert_int_equal(atomic_load(&vq->defer.unfenced), unfenced + 1);
	split_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].ring, false);
}

/** What happens to the ring then. */
enum owed_end { OWED_STOP, OWED_MOVE, OWED_TABLE, OWED_HANG_UP };

static void
owed_end(struct rig *rig, enum owed_end end)
{
	struct fe_ring ring = nic_fe_ring(&rig->nic, NIC_TX(0));

	if (end == OWED_STOP)
		fe_get_vring_base(&rig->fe, NIC_TX(0));
	else if (end == OWED_MOVE)
		fe_set_vring_addr(&rig->fe, &ring, FE_OK);
	else if (end == OWED_TABLE)
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
	else
		rig_hang_up(rig);
}

/** Control must be quicker than its own tick to be tested here: several times. */
static void
owed_expect_paid(enum owed_end end)
{
	struct rig *rig = rig_main();

	for (int i = 0; i < 10; i++) {
		owed_open(rig);
		owed_publish(rig);
		owed_end(rig, end);
		assert_int_equal(nic_calls(&rig->nic, NIC_TX(0)), 1);
		rig_close(rig);
	}
}

static void
test_guest_is_told_when_its_ring_stops(void **state)
{
	owed_expect_paid(OWED_STOP);
}

static void
test_guest_is_told_when_its_ring_moves(void **state)
{
	owed_expect_paid(OWED_MOVE);
}

static void
test_guest_is_told_when_its_memory_changes(void **state)
{
	owed_expect_paid(OWED_TABLE);
}

static void
test_guest_is_told_when_its_front_end_goes(void **state)
{
	owed_expect_paid(OWED_HANG_UP);
}

static void
test_guest_that_polls_is_not_told(void **state)
{
	struct rig *rig = rig_main();

	owed_open(rig);
	owed_publish(rig);
	split_ring_suppress_calls(&rig->nic.ring[NIC_TX(0)].ring, true);
	owed_end(rig, OWED_STOP);
	assert_int_equal(nic_calls(&rig->nic, NIC_TX(0)), 0);
}

/** How often the control thread has gone to sleep. */
static unsigned long
owed_sleeps_of_control(void)
{
	unsigned long sleeps = 0;
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	char path[320], line[128];

	assert_non_null(tasks);
	while ((task = readdir(tasks)) != NULL) {
		bool is_control = false;
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		status = fopen(path, "re");
		while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
			is_control |= strcmp(line, "Name:\tdynvhost\n") == 0;
			if (is_control)
				sscanf(line, "voluntary_ctxt_switches: %lu", &sleeps);
		}
		if (status != NULL)
			fclose(status);
	}
	closedir(tasks);
	return sleeps;
}

/** The processor it would wake up on belongs to others, a guest's perhaps. */
static void
test_control_sleeps_while_a_guest_that_polls_sends(void **state)
{
	struct rig *rig = rig_main();
	unsigned long sleeps;
	uint64_t end;

	owed_open(rig);
	sleeps = owed_sleeps_of_control();
	assert_int_not_equal(sleeps, 0);
	end = rte_rdtsc() + rte_get_tsc_hz() / 2;
	while (rte_rdtsc() < end)
		rig_exchange(rig, 0, 1);
	assert_in_range(owed_sleeps_of_control() - sleeps, 0, 100);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_guest_is_told_when_its_ring_stops),
		RIG_TEST(test_guest_is_told_when_its_ring_moves),
		RIG_TEST(test_guest_is_told_when_its_memory_changes),
		RIG_TEST(test_guest_is_told_when_its_front_end_goes),
		RIG_TEST(test_guest_that_polls_is_not_told),
		RIG_TEST(test_control_sleeps_while_a_guest_that_polls_sends),
	};

	rig_program("unit_drv_owed", 60);
	return cmocka_run_group_tests_name(
		"unit_drv_owed", tests, rig_group_setup, rig_group_teardown);
}
