/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * One control thread for 64 ports: how long a front-end waits for its answer while another port's lcore
 * is stuck inside a burst, or another port's front-end does what it can. The ports are back-ends with
 * rings and guest memory, without ethdev, of which a process has 32 here.
 *
 * Time limits are the excess over the same round without the disturbance. Tests run on busy machines,
 * whose scheduler may add more than what is looked for: the best of a few tries counts.
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "drv_test.h"

#define BIT(n) (1ull << (n))

#define CROWD_PORTS        64
#define CROWD_ROUNDS       5
#define CROWD_TRIES        4
#define CROWD_EXCESS_US    100000
#define CROWD_RAM_SIZE     (4ull << 20)
#define CROWD_TROUBLEMAKER 7

struct crowd_port {
	char name[16];
	char path[96];
	struct dynvhost_vq vq[2];
	struct dynvhost_gate gate[2];
	struct dynvhost_gate *gates[2];
	struct dynvhost_mem *mem;
	struct dynvhost_backend *backend;
	struct front_end fe;
};

static struct crowd_port crowd[CROWD_PORTS];
static struct guest_ram crowd_ram;
static char crowd_folder[] = "/tmp/dynvhost-crowd-XXXXXX";

static void
crowd_link_changed(void *opaque, bool up, int numa_node)
{
}

static void
crowd_ring_changed(void *opaque, uint16_t ring, bool enabled)
{
}

static void
crowd_mtu_changed(void *opaque, uint16_t mtu)
{
}

static void
crowd_rings_changed(void *opaque)
{
}

static void
crowd_kick_changed(void *opaque, uint16_t ring, int fd)
{
}

static const struct dynvhost_backend_ops crowd_ops = {
	.link_changed = crowd_link_changed,
	.ring_changed = crowd_ring_changed,
	.mtu_changed = crowd_mtu_changed,
};

static const struct dynvhost_session_hooks crowd_hooks = {
	.rings_changed = crowd_rings_changed,
	.kick_changed = crowd_kick_changed,
};

static void
crowd_open_port(struct crowd_port *port)
{
	const struct dynvhost_mem_config mem = {.name = port->name};
	struct dynvhost_backend_config config = {
		.path = port->path,
		.mode = 0600,
		.group = (gid_t)-1,
		.session = {.name = port->name,
			.features = BIT(VIRTIO_F_VERSION_1) | BIT(VU_F_PROTOCOL_FEATURES),
			.protocol_features = BIT(VU_PF_REPLY_ACK),
			.max_mtu = 1500,
			.n_rings = 2,
			.vq = port->vq,
			.n_gates = 2,
			.gate = port->gates,
			.hooks = &crowd_hooks},
		.ops = &crowd_ops,
	};

	mock_check(dynvhost_mem_create(&mem, &port->mem) == 0);
	config.session.mem = port->mem;
	for (uint16_t i = 0; i < 2; i++) {
		mock_check(dynvhost_vq_init(&port->vq[i], i, SOCKET_ID_ANY) == 0);
		dynvhost_gate_init(&port->gate[i]);
		port->gates[i] = &port->gate[i];
	}
	mock_check(dynvhost_backend_create(&config, &port->backend) == 0);
	fe_connect(&port->fe, port->path);
	fe_set_protocol_features(&port->fe, BIT(VU_PF_REPLY_ACK), FE_SEND);
	fe_set_features(&port->fe, config.session.features, FE_OK);
	fe_set_mem_table(&port->fe, &crowd_ram, FE_OK);
}

static void
crowd_close_port(struct crowd_port *port)
{
	fe_close(&port->fe);
	dynvhost_backend_destroy(port->backend);
	dynvhost_mem_destroy(port->mem);
	for (unsigned int i = 0; i < 2; i++)
		dynvhost_vq_fini(&port->vq[i]);
}

static int
crowd_set_up(void **state)
{
	rig_setup(state);
	mock_check(mkdtemp(crowd_folder) != NULL);
	guest_ram_init_plain(&crowd_ram, CROWD_RAM_SIZE);
	for (unsigned int i = 0; i < CROWD_PORTS; i++) {
		memset(&crowd[i], 0, sizeof(crowd[i]));
		snprintf(crowd[i].name, sizeof(crowd[i].name), "crowd%u", i);
		snprintf(crowd[i].path, sizeof(crowd[i].path), "%s/%u", crowd_folder, i);
		crowd_open_port(&crowd[i]);
	}
	return 0;
}

static int
crowd_tear_down(void **state)
{
	for (unsigned int i = 0; i < CROWD_PORTS; i++)
		crowd_close_port(&crowd[i]);
	guest_ram_fini(&crowd_ram);
	mock_check(rmdir(crowd_folder) == 0);
	memcpy(crowd_folder + strlen(crowd_folder) - 6, "XXXXXX", 6);
	return rig_teardown(state);
}

static uint64_t
crowd_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The longest that one of the good ports waits for messages of every cost. @return microseconds. */
static uint64_t
crowd_longest_wait(void)
{
	uint64_t longest = 0;

	for (unsigned int i = 0; i < CROWD_ROUNDS * CROWD_PORTS; i++) {
		struct front_end *fe = &crowd[i % CROWD_PORTS].fe;
		uint64_t start = crowd_now_us();

		if (i % CROWD_PORTS == CROWD_TROUBLEMAKER)
			continue;
		fe_barrier(fe);
		fe_set_vring_enable(fe, 0, i & 1, FE_OK);
		fe_set_mem_table(fe, &crowd_ram, FE_OK);
		longest = RTE_MAX(longest, crowd_now_us() - start);
	}
	return longest;
}

/** A way to make trouble from the one port: begins when it is called with true, ends with false. */
typedef void (*crowd_trouble_t)(struct crowd_port *port, bool begin);

static void
crowd_compare(crowd_trouble_t trouble)
{
	uint64_t quiet = 0, disturbed = 0;

	for (unsigned int i = 0; i < CROWD_TRIES; i++) {
		quiet = crowd_longest_wait();
		trouble(&crowd[CROWD_TROUBLEMAKER], true);
		disturbed = crowd_longest_wait();
		trouble(&crowd[CROWD_TROUBLEMAKER], false);
		print_message("# longest wait: %" PRIu64 " us alone, %" PRIu64 " us disturbed\n",
			quiet, disturbed);
		if (disturbed < quiet + CROWD_EXCESS_US)
			return;
	}
	fail_msg("others wait %" PRIu64 " us longer", disturbed - quiet);
}

/* The lcore has entered its burst and does not come out; the front-end waits for it. */
static void
crowd_stick_lcore(struct crowd_port *port, bool begin)
{
	if (begin) {
		assert_true(dynvhost_gate_enter(&port->gate[0]));
		fe_set_vring_enable(&port->fe, 0, 1, FE_SEND_NR);
	} else {
		dynvhost_gate_leave(&port->gate[0]);
		assert_int_equal(fe_expect_u64(&port->fe, VU_SET_VRING_ENABLE), 0);
	}
}

static void
test_lcore_stuck_in_a_burst_holds_up_its_own_port_alone(void **state)
{
	crowd_compare(crowd_stick_lcore);
}

/* Half a message, and then nothing; the connection ends after two seconds. */
static void
crowd_stall(struct crowd_port *port, bool begin)
{
	const struct vu_header header = {.request = VU_SET_MEM_TABLE, .flags = 1, .size = 264};

	if (begin) {
		assert_int_equal(fe_try_send_bytes(&port->fe, &header, 12, NULL, 0), 0);
		return;
	}
	fe_close(&port->fe);
	fe_connect(&port->fe, port->path);
}

static void
test_half_a_message_holds_up_nobody(void **state)
{
	crowd_compare(crowd_stall);
}

static bool crowd_stop;
static pthread_t crowd_thread;

/* Messages as fast as they go, replies never read; connects again when that ends the connection. */
static void *
crowd_flood_loop(void *arg)
{
	struct crowd_port *port = arg;
	const struct vu_vring_state state = {.index = 0, .num = 1};
	struct fe_message ask = fe_make(VU_GET_FEATURES, 1, NULL, 0);
	struct fe_message enable = fe_make(VU_SET_VRING_ENABLE, 1, &state, sizeof(state));

	while (!__atomic_load_n(&crowd_stop, __ATOMIC_ACQUIRE)) {
		uint8_t bytes[4096];
		size_t len = 0;

		while (len + 64 < sizeof(bytes)) {
			len += fe_encode(&enable, bytes + len, sizeof(bytes) - len);
			len += fe_encode(&ask, bytes + len, sizeof(bytes) - len);
		}
		if (send(port->fe.sock, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
			errno != EAGAIN) {
			fe_close(&port->fe);
			if (fe_try_connect(&port->fe, port->path) < 0)
				usleep(100);
		}
	}
	return NULL;
}

static void
crowd_flood(struct crowd_port *port, bool begin)
{
	if (begin) {
		crowd_stop = false;
		mock_check(pthread_create(&crowd_thread, NULL, crowd_flood_loop, port) == 0);
		return;
	}
	__atomic_store_n(&crowd_stop, true, __ATOMIC_RELEASE);
	pthread_join(crowd_thread, NULL);
	fe_close(&port->fe);
	fe_connect(&port->fe, port->path);
}

static void
test_flood_of_messages_holds_up_nobody(void **state)
{
	crowd_compare(crowd_flood);
}

/* Tables, each of which is swapped in and out, as fast as they are answered. */
static void *
crowd_swap_loop(void *arg)
{
	struct crowd_port *port = arg;

	while (!__atomic_load_n(&crowd_stop, __ATOMIC_ACQUIRE))
		fe_set_mem_table(&port->fe, &crowd_ram, FE_SEND);
	return NULL;
}

static void
crowd_swap(struct crowd_port *port, bool begin)
{
	if (begin) {
		crowd_stop = false;
		fe_set_protocol_features(&port->fe, BIT(VU_PF_REPLY_ACK), FE_SEND);
		mock_check(pthread_create(&crowd_thread, NULL, crowd_swap_loop, port) == 0);
		return;
	}
	__atomic_store_n(&crowd_stop, true, __ATOMIC_RELEASE);
	pthread_join(crowd_thread, NULL);
	fe_barrier(&port->fe);
}

static void
test_tables_without_end_hold_up_nobody(void **state)
{
	crowd_compare(crowd_swap);
}

#define CROWD_TEST(test) cmocka_unit_test_setup_teardown(test, crowd_set_up, crowd_tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CROWD_TEST(test_lcore_stuck_in_a_burst_holds_up_its_own_port_alone),
		CROWD_TEST(test_half_a_message_holds_up_nobody),
		CROWD_TEST(test_flood_of_messages_holds_up_nobody),
		CROWD_TEST(test_tables_without_end_hold_up_nobody),
	};

	rig_program("unit_drv_crowd", 80);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_crowd", tests, rig_group_setup, rig_group_teardown);
}
