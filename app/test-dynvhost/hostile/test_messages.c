/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile front-ends: fds that change under traffic, kicks without end, positions and features at odd
 * moments, and messages that are damaged or made up.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostile.h"

/** The port's ring whose guest transmits. */
#define SENDING NIC_TX(0)

static void
test_h20_bases_of_a_stopped_ring_yield_to_the_used_ring(void **state)
{
	static const uint32_t bases[] = {65535, 0, 32768, 1};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		struct fe_ring ring;

		rig_exchange(rig, 0, 32);
		fe_get_vring_base(&rig->fe, SENDING);
		fe_set_vring_base(&rig->fe, SENDING, bases[i], FE_OK);
		fe_set_vring_base(&rig->fe, SENDING, 0x10000, FE_REFUSED);
		fe_set_vring_base(&rig->fe, SENDING, UINT32_MAX, FE_REFUSED);
		assert_int_equal(fe_get_vring_base(&rig->fe, SENDING), bases[i]);
		ring = nic_fe_ring(&rig->nic, SENDING);
		fe_set_vring_addr(&rig->fe, &ring, FE_OK);
		fe_set_vring_kick(&rig->fe, SENDING, rig->nic.ring[SENDING].kick_fd, FE_OK);
	}
	rig_exchange(rig, 0, 32);
}

static void
test_h20_bases_of_a_running_ring_are_refused(void **state)
{
	static const uint32_t bases[] = {0, 1, 65535, 0x10000, UINT32_MAX};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		fe_set_vring_base(&rig->fe, SENDING, bases[i], FE_REFUSED);
		rig_exchange(rig, 0, 32);
	}
}

static void
test_h23_front_end_that_knows_no_protocol_features(void **state)
{
	const struct rig_config config = {
		.nic = {.order = NIC_ORDER_QEMU_25,
			.features = NIC_FEATURES & ~BIT(VU_F_PROTOCOL_FEATURES),
			.without_protocol = UINT64_MAX}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_exchange(rig, 0, 32);
}

static void
test_h23_protocol_features_change_at_odd_moments(void **state)
{
	struct rig *rig = rig_main();
	uint64_t protocol;
	unsigned int i;

	rig_open(rig, NULL);
	protocol = rig->nic.protocol_features;
	for (i = 0; i < 64; i++) {
		uint64_t value = 1;

		fe_set_protocol_features(&rig->fe, protocol & BIT(i), FE_SEND);
		fe_set_protocol_features(&rig->fe, protocol, FE_SEND);
		rig_exchange(rig, 0, 8);
		if ((protocol & BIT(i)) != 0 || i == VU_PF_REPLY_ACK)
			continue;
		/* Some are offered, and this front-end has just not taken them. */
		value = protocol | BIT(i);
		fe_request(&rig->fe, VU_SET_PROTOCOL_FEATURES, &value, sizeof(value), NULL, 0,
			FE_ANSWERED);
		fe_set_protocol_features(&rig->fe, protocol, FE_OK);
	}
	rig_exchange(rig, 0, 32);
}

static bool messages_stop;

static void *
messages_kick_always(void *arg)
{
	const struct rig *rig = arg;

	while (!__atomic_load_n(&messages_stop, __ATOMIC_ACQUIRE)) {
		(void)eventfd_write(rig->nic.ring[SENDING].kick_fd, 1);
		(void)eventfd_write(rig->nic.ring[NIC_RX(0)].kick_fd, 1);
		usleep(50);
	}
	return NULL;
}

/* CPU time of a thread of this process by its name, in clock ticks. */
static unsigned long
messages_ticks_of(const char *name)
{
	unsigned long user = 0, system_time = 0;
	char command[128], path[64];
	FILE *pipe;

	snprintf(command, sizeof(command), "grep -lx %s /proc/%d/task/*/comm", name, (int)getpid());
	pipe = popen(command, "r");
	mock_check(pipe != NULL && fscanf(pipe, "%63s", path) == 1);
	pclose(pipe);
	strcpy(strrchr(path, '/'), "/stat");
	pipe = fopen(path, "r");
	mock_check(pipe != NULL);
	mock_check(fscanf(pipe, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			   &user, &system_time) == 2);
	fclose(pipe);
	return user + system_time;
}

/* Nobody empties the kick fds of rings that are polled: they stay readable for ever. */
static void
test_h30_kick_fds_that_never_rest_cost_the_control_thread_nothing(void **state)
{
	struct rig *rig = rig_main();
	uint64_t start, took;
	unsigned long ticks;
	pthread_t thread;

	rig_open(rig, NULL);
	messages_stop = false;
	mock_check(pthread_create(&thread, NULL, messages_kick_always, rig) == 0);
	ticks = messages_ticks_of("dynvhost");
	start = mock_now_ms();
	while (mock_now_ms() - start < 500) {
		rig_exchange(rig, 0, 32);
		canary_check();
	}
	took = mock_now_ms() - start;
	ticks = messages_ticks_of("dynvhost") - ticks;
	__atomic_store_n(&messages_stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	/* The canary's messages cost something; a thread that spins takes all there is. */
	if (ticks * 1000 / (unsigned long)sysconf(_SC_CLK_TCK) > took / 2)
		mock_fail("the control thread has used %lu ticks in %llu ms", ticks,
			(unsigned long long)took);
	rig_exchange(rig, 0, 32);
}

/* A number that an fd has had is soon another file's: no signal may go there. */
static void
test_h31_call_fds_replaced_while_they_are_signalled(void **state)
{
	struct rig *rig = rig_main();
	struct nic_ring *ring;
	unsigned int i, fds;

	rig_open(rig, NULL);
	rig_echo_start(rig);
	rig_exchange(rig, 0, 32);
	ring = &rig->nic.ring[NIC_RX(0)];
	fds = mock_count_fds();
	for (i = 0; i < rig_repeats(300, 20000); i++) {
		int old = ring->call_fd;
		struct stat st;
		int file[2];

		(void)rig_send(rig, 0, 8);
		ring->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		fe_set_vring_call(&rig->fe, NIC_RX(0), ring->call_fd, FE_OK);
		/* The lowest free numbers: one of these two was the back-end's old call fd. */
		close(old);
		file[0] = memfd_create("recycled", MFD_CLOEXEC);
		file[1] = memfd_create("recycled", MFD_CLOEXEC);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
		assert_int_equal(fstat(file[0], &st), 0);
		assert_int_equal(st.st_size, 0);
		assert_int_equal(fstat(file[1], &st), 0);
		assert_int_equal(st.st_size, 0);
		close(file[0]);
		close(file[1]);
	}
	assert_int_equal(mock_count_fds(), fds);
}

static struct fe_record messages_record;
static struct fe_record messages_damaged;

static void
messages_damage(unsigned int n_bits)
{
	messages_damaged = messages_record;
	while (n_bits-- > 0) {
		unsigned int which = (unsigned int)rand() % messages_damaged.n;
		uint32_t at = (uint32_t)rand() % messages_damaged.message[which].len;

		messages_damaged.message[which].bytes[at] ^= (uint8_t)(1u << rand() % 8);
	}
}

/* Play what was damaged on rings that hold packets, poll meanwhile, and go. */
static void
messages_play(struct rig *rig)
{
	struct fe_reply reply;

	rig_reset_rings(rig);
	rig_offer_buffers(rig);
	(void)rig_send(rig, 0, 8);
	fe_connect(&rig->fe, rig->port.path);
	(void)fe_replay(&rig->fe, &messages_damaged, SIZE_MAX);
	while (fe_try_recv(&rig->fe, &reply, 1) == 0)
		rig_poll(rig);
	rig_poll(rig);
	fe_close(&rig->fe);
	rig_poll(rig);
}

static void
messages_play_damaged(enum nic_order order)
{
	const struct rig_config config = {.nic = {.order = order, .n_pairs = 2}};
	struct rig *rig = rig_main();
	unsigned int i, idle;

	idle = hostile_record_session(rig, &config, &messages_record);
	for (i = 0; i < rig_repeats(300, 30000); i++) {
		messages_damage(1 + (unsigned int)rand() % 4);
		messages_play(rig);
		if (i % 50 == 49) {
			rig_wait_fds(idle);
			canary_check();
		}
	}
	rig_wait_fds(idle);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
	rig_exchange(rig, 1, 64);
}

static void
test_h34_damaged_session_of_qemu(void **state)
{
	srand(1);
	messages_play_damaged(NIC_ORDER_QEMU_10);
}

static void
test_h34_damaged_session_of_cloud_hypervisor(void **state)
{
	srand(2);
	messages_play_damaged(NIC_ORDER_CLOUD_HYPERVISOR);
}

/* A message with a right frame and values drawn by lot, small ones more often. */
static void
messages_make_up(struct front_end *fe, const struct rig *rig)
{
	static const uint32_t sizes[] = {0, 0, 8, 8, 8, 8, 16, 32, 40, 40, 264, 24};
	uint32_t word[80];
	uint32_t request = (uint32_t)rand() % 46;
	uint32_t size = sizes[(unsigned int)rand() % 12];
	const int fd = rand() % 2 != 0 ? rig->nic.masked_fd : rig->ram.file[0].fd;
	struct fe_message message;
	unsigned int i;

	for (i = 0; i < 80; i++)
		word[i] = rand() % 3 != 0 ? (uint32_t)rand() % 4 : (uint32_t)rand() << rand() % 16;
	message = fe_make(request, 1 | (rand() % 2 != 0 ? 8 : 0), word, size);
	if (rand() % 4 == 0) {
		message.fd = &fd;
		message.n_fds = 1;
	}
	(void)fe_try_send(fe, &message);
}

static void
test_h34_messages_that_are_made_up(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i, idle;

	srand(3);
	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	rig_bring_up(rig);
	for (i = 0; i < rig_repeats(3000, 300000); i++) {
		struct fe_reply reply;

		messages_make_up(&rig->fe, rig);
		rig_poll(rig);
		if (fe_try_recv(&rig->fe, &reply, 0) == -ECONNRESET) {
			fe_close(&rig->fe);
			fe_connect(&rig->fe, rig->port.path);
			fe_set_protocol_features(&rig->fe,
				fe_get_protocol_features(&rig->fe) | BIT(VU_PF_REPLY_ACK), FE_SEND);
		}
	}
	fe_close(&rig->fe);
	rig_wait_fds(idle);
	canary_check();
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h20_bases_of_a_stopped_ring_yield_to_the_used_ring),
		HOSTILE_TEST(test_h20_bases_of_a_running_ring_are_refused),
		HOSTILE_TEST(test_h23_front_end_that_knows_no_protocol_features),
		HOSTILE_TEST(test_h23_protocol_features_change_at_odd_moments),
		HOSTILE_TEST(test_h30_kick_fds_that_never_rest_cost_the_control_thread_nothing),
		HOSTILE_TEST(test_h31_call_fds_replaced_while_they_are_signalled),
		HOSTILE_TEST(test_h34_damaged_session_of_qemu),
		HOSTILE_TEST(test_h34_damaged_session_of_cloud_hypervisor),
		HOSTILE_TEST(test_h34_messages_that_are_made_up),
	};

	hostile_program("test_hostile_messages", 90);
	return cmocka_run_group_tests_name(
		"hostile messages", tests, rig_group_setup, rig_group_teardown);
}
