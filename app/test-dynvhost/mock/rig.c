/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

static struct rig rig_the_main;
static const char *rig_name = "test";
static unsigned int rig_seconds = 60;
static unsigned int rig_base_fds;

const char *rig_devargs;
void (*rig_group_extra_setup)(void);
void (*rig_group_extra_teardown)(void);

struct rig *
rig_main(void)
{
	return &rig_the_main;
}

const char *
rig_devargs_and(const char *more)
{
	static char line[256];

	if (rig_devargs == NULL)
		return more;
	snprintf(line, sizeof(line), "%s,%s", rig_devargs, more);
	return line;
}

static bool
rig_is_long_form(void)
{
	const char *value = getenv("DYNVHOST_TEST_LONG");

	return value != NULL && strcmp(value, "1") == 0;
}

unsigned int
rig_repeats(unsigned int usual, unsigned int in_long_form)
{
	return rig_is_long_form() ? in_long_form : usual;
}

void
rig_program(const char *name, unsigned int seconds)
{
	const char *only = getenv("DYNVHOST_TEST_ONLY");

	if (only != NULL)
		cmocka_set_test_filter(only);
	rig_name = name;
	rig_seconds = rig_is_long_form() ? 30 * seconds : seconds;
}

/* A failure in another thread than the test's: kept until the test's teardown, which reports it. */
static pthread_t rig_test_thread;
static char rig_helper_failure[512];

static void
rig_fail(const char *file, int line, const char *text)
{
	if (pthread_equal(pthread_self(), rig_test_thread)) {
		print_error("%s\n", text);
		_fail(file, line);
	}
	snprintf(rig_helper_failure, sizeof(rig_helper_failure), "%s:%d: %s", file, line, text);
	pthread_exit(NULL);
}

void
rig_check_helpers(void)
{
	if (rig_helper_failure[0] != '\0')
		mock_fail("in another thread: %s", rig_helper_failure);
}

static void
rig_out_of_time(int signal_number)
{
	static const char text[] = "Bail out! The whole program ran out of time\n";

	(void)signal_number;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	_exit(124);
}

int
rig_group_setup(void **state)
{
	struct rig *rig = rig_main();

	(void)state;
	signal(SIGALRM, rig_out_of_time);
	alarm(rig_seconds);
	port_eal_init(rig_name);
	if (rig_group_extra_setup != NULL)
		rig_group_extra_setup();
	/* What is made once and kept (by EAL or libc) must exist before fds are counted. */
	rig_open(rig, NULL);
	rig_exchange(rig, 0, 1);
	rig_close(rig);
	rig_test_thread = pthread_self();
	mock_fail_hook = rig_fail;
	return 0;
}

int
rig_group_teardown(void **state)
{
	(void)state;
	mock_fail_hook = NULL;
	if (rig_group_extra_teardown != NULL)
		rig_group_extra_teardown();
	port_eal_fini();
	return 0;
}

int
rig_setup(void **state)
{
	(void)state;
	rig_helper_failure[0] = '\0';
	rig_base_fds = mock_count_fds();
	return 0;
}

int
rig_teardown(void **state)
{
	(void)state;
	port_log_release();
	rig_close(rig_main());
	rig_wait_fds(rig_base_fds);
	rig_check_helpers();
	return 0;
}

unsigned int
rig_idle_fds(struct rig *rig)
{
	fe_barrier(&rig->fe);
	return mock_count_fds() - 2;
}

void
rig_wait_fds(unsigned int n)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (mock_count_fds() != n) {
		if (mock_now_ms() > deadline)
			mock_fail("%u fds are open, should be %u", mock_count_fds(), n);
		mock_relax(&looks);
	}
}

/* Probe the port, listening for it where it connects. */
static void
rig_open_port(struct rig *rig)
{
	struct port_config config = rig->config.port;
	char devargs[256], path[sizeof(rig->port.path)];

	if (rig->config.client) {
		if (config.path == NULL)
			port_next_path(path, sizeof(path));
		else
			snprintf(path, sizeof(path), "%s", config.path);
		if (rig->listen_fd < 0)
			rig->listen_fd = fe_listen(path);
		snprintf(devargs, sizeof(devargs), "client=1,reconnect-ms=30%s%s",
			config.devargs != NULL ? "," : "",
			config.devargs != NULL ? config.devargs : "");
		config.devargs = devargs;
	}
	port_open(&rig->port, &config);
}

void
rig_prepare(struct rig *rig, const struct rig_config *config)
{
	static const struct rig_config defaults;

	mock_check(!rig->open);
	memset(rig, 0, sizeof(*rig));
	rig->config = config != NULL ? *config : defaults;
	rig->fe.sock = -1;
	rig->listen_fd = -1;
	rig->seed = 1;
	rig->open = true;
	if (rig->config.port.n_queues == 0)
		rig->config.port.n_queues = rig->config.nic.n_pairs;
	if (rig->config.port.devargs == NULL)
		rig->config.port.devargs = rig_devargs;
	rig_open_port(rig);
	if (rig->config.lay_out != NULL)
		rig->config.lay_out(&rig->ram);
	else
		guest_ram_init_plain(
			&rig->ram, rig->config.ram_size != 0 ? rig->config.ram_size : RIG_RAM_SIZE);
	nic_init(&rig->nic, &rig->ram, &rig->fe, &rig->config.nic);
	rig_connect(rig);
}

void
rig_connect(struct rig *rig)
{
	if (rig->listen_fd >= 0)
		fe_accept(&rig->fe, rig->listen_fd);
	else
		fe_connect(&rig->fe, rig->port.path);
}

void
rig_offer_buffers(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < rig->nic.config.n_pairs && !rig->config.no_rx_buffers; i++)
		nic_post_rx(&rig->nic, i, rig->nic.config.ring_size);
}

void
rig_bring_up(struct rig *rig)
{
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
}

void
rig_open(struct rig *rig, const struct rig_config *config)
{
	rig_prepare(rig, config);
	rig_bring_up(rig);
}

void
rig_hang_up(struct rig *rig)
{
	fe_close(&rig->fe);
	port_wait_link(&rig->port, false);
}

void
rig_change(struct rig *rig, unsigned int pair, unsigned int way)
{
	const struct nic_ring *rx = &rig->nic.ring[NIC_RX(pair)];
	const struct nic_ring *tx = &rig->nic.ring[NIC_TX(pair)];

	switch (way % RIG_CHANGES) {
	case 0:
		fe_get_vring_base(&rig->fe, NIC_TX(pair));
		nic_set_up_ring(&rig->nic, NIC_TX(pair));
		break;
	case 1:
		fe_set_vring_kick(&rig->fe, NIC_TX(pair), tx->kick_fd, FE_OK);
		break;
	case 2:
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
		break;
	default:
		fe_set_vring_call(&rig->fe, NIC_RX(pair), rx->call_fd, FE_OK);
	}
}

void
rig_reset_rings(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < 2 * rig->nic.config.n_pairs; i++) {
		nic_ring_reset(&rig->nic, &rig->nic.ring[i]);
		rig_forget(rig, i / 2);
	}
}

void
rig_reconnect(struct rig *rig)
{
	rig_reset_rings(rig);
	rig_connect(rig);
	rig_bring_up(rig);
}

void
rig_resume(struct rig *rig)
{
	rig_connect(rig);
	nic_negotiate(&rig->nic);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
}

void
rig_restart_port(struct rig *rig)
{
	char path[sizeof(rig->port.path)];
	bool echo = rig->echo_runs;

	snprintf(path, sizeof(path), "%s", rig->port.path);
	rig_echo_stop(rig);
	port_close(&rig->port);
	fe_expect_closed(&rig->fe);
	fe_close(&rig->fe);
	rig->config.port.path = path;
	rig_open_port(rig);
	rig->config.port.path = NULL;
	if (echo)
		rig_echo_start(rig);
}

void
rig_close(struct rig *rig)
{
	struct exposure exposure = {0};

	if (!rig->open)
		return;
	rig->open = false;
	rig_echo_stop(rig);
	fe_close(&rig->fe);
	if (rig->listen_fd >= 0) {
		close(rig->listen_fd);
		unlink(rig->port.path);
	}
	port_close(&rig->port);
	exposure_read(&rig->ram, &exposure);
	nic_fini(&rig->nic);
	guest_ram_fini(&rig->ram);
	if (exposure.mapped != 0)
		mock_fail("%llu bytes of guest memory are still mapped after the port has gone",
			(unsigned long long)exposure.mapped);
}

static void
rig_echo_all(struct rig *rig)
{
	uint16_t q;

	for (q = 0; q < rig->port.n_queues; q++)
		port_echo(&rig->port, q);
}

void
rig_poll(struct rig *rig)
{
	if (!rig->echo_runs)
		rig_echo_all(rig);
}

static void *
rig_echo_loop(void *arg)
{
	struct rig *rig = arg;
	unsigned int looks = 0;

	while (!__atomic_load_n(&rig->echo_stop, __ATOMIC_ACQUIRE)) {
		rig_echo_all(rig);
		mock_relax(&looks);
	}
	return NULL;
}

void
rig_echo_start(struct rig *rig)
{
	mock_check(!rig->echo_runs);
	rig->echo_stop = false;
	mock_check(pthread_create(&rig->echo_thread, NULL, rig_echo_loop, rig) == 0);
	rig->echo_runs = true;
}

void
rig_echo_stop(struct rig *rig)
{
	if (!rig->echo_runs)
		return;
	__atomic_store_n(&rig->echo_stop, true, __ATOMIC_RELEASE);
	pthread_join(rig->echo_thread, NULL);
	rig->echo_runs = false;
}

void
rig_revive(struct rig *rig, unsigned int index)
{
	fe_get_vring_base(&rig->fe, index);
	nic_ring_reset(&rig->nic, &rig->nic.ring[index]);
	if (index == NIC_RX(index / 2) && !rig->config.no_rx_buffers)
		nic_post_rx(&rig->nic, index / 2, rig->nic.config.ring_size);
	nic_set_up_ring(&rig->nic, index);
	rig_forget(rig, index / 2);
}
