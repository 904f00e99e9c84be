/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>
#include <rte_mempool.h>
#include <rte_string_fns.h>

#include "mock.h"
#include "packet.h"
#include "port.h"

#define PORT_RING_SIZE 512
/** How long packets to give back wait for room. */
#define PORT_ECHO_MS 20

static char port_folder[] = "/tmp/dynvhost-test-XXXXXX";
static unsigned int port_number;
static FILE *port_log;

static const char *
port_driver(const struct port_config *config)
{
	const char *other = getenv("DYNVHOST_TEST_DRIVER");

	if (config != NULL && config->driver != NULL)
		return config->driver;
	return other != NULL ? other : "net_dynvhost";
}

bool
port_is_dynvhost(void)
{
	return strcmp(port_driver(NULL), "net_dynvhost") == 0;
}

/* The first CPU we may run on. */
static int
port_first_cpu(const cpu_set_t *allowed)
{
	int cpu = 0;

	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, allowed))
		cpu++;
	return cpu;
}

void
port_eal_init(const char *program)
{
	char line[256];
	char *argv[32];
	cpu_set_t allowed;
	int argc;

	mock_check(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
	/* --no-shconf: no files shared with others; --in-memory does not go with --no-huge. */
	snprintf(line, sizeof(line),
		"%s --no-huge -m 128 --no-pci --no-shconf --no-telemetry --file-prefix %s-%d -l %d",
		program, program, (int)getpid(), port_first_cpu(&allowed));
	argc = rte_strsplit(line, sizeof(line), argv, RTE_DIM(argv) - 1, ' ');
	argv[argc] = NULL;
	if (rte_eal_init(argc, argv) < 0)
		mock_fail("EAL does not come up: %s", rte_strerror(rte_errno));
	/* EAL ties this thread, and all that it starts, to one CPU: the tests want them all. */
	mock_check(sched_setaffinity(0, sizeof(allowed), &allowed) == 0);
	mock_check(mkdtemp(port_folder) != NULL);
}

void
port_eal_fini(void)
{
	rte_eal_cleanup();
	rmdir(port_folder);
}

void
port_next_path(char *path, size_t size)
{
	snprintf(path, size, "%s/%u.sock", port_folder, port_number);
}

int
port_try_open(struct test_port *port, const struct port_config *config)
{
	unsigned int n_queues = config->n_queues != 0 ? config->n_queues : 1;
	char devargs[512];
	int ret;

	memset(port, 0, sizeof(*port));
	snprintf(port->name, sizeof(port->name), "%s%u", port_driver(config), port_number);
	port_next_path(port->path, sizeof(port->path));
	if (config->path != NULL)
		snprintf(port->path, sizeof(port->path), "%s", config->path);
	snprintf(devargs, sizeof(devargs), "iface=%s,queues=%u%s%s", port->path, n_queues,
		config->devargs != NULL ? "," : "", config->devargs != NULL ? config->devargs : "");
	port_number++;
	ret = rte_eal_hotplug_add("vdev", port->name, devargs);
	if (ret != 0)
		return ret;
	port->open = true;
	port->n_queues = n_queues;
	port->rx_intr = config->rx_intr;
	mock_check(rte_eth_dev_get_port_by_name(port->name, &port->id) == 0);
	return 0;
}

void
port_start(struct test_port *port)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	uint16_t q;

	mock_check(rte_eth_dev_info_get(port->id, &info) == 0);
	conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	conf.intr_conf.rxq = port->rx_intr;
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	mock_check(rte_eth_dev_configure(port->id, (uint16_t)port->n_queues,
			   (uint16_t)port->n_queues, &conf) == 0);
	for (q = 0; q < port->n_queues; q++) {
		mock_check(rte_eth_rx_queue_setup(port->id, q, PORT_RING_SIZE, SOCKET_ID_ANY, NULL,
				   port->pool) == 0);
		mock_check(rte_eth_tx_queue_setup(
				   port->id, q, PORT_RING_SIZE, SOCKET_ID_ANY, NULL) == 0);
	}
	mock_check(rte_eth_dev_start(port->id) == 0);
}

void
port_open(struct test_port *port, const struct port_config *config)
{
	uint16_t data_room = config->data_room != 0 ? config->data_room : 2048;
	int ret = port_try_open(port, config);
	char pool[48];

	if (ret != 0)
		mock_fail("cannot probe %s: %s", port->name, strerror(-ret));
	snprintf(pool, sizeof(pool), "pool-%u", port_number);
	port->pool = rte_pktmbuf_pool_create(pool, config->n_mbufs != 0 ? config->n_mbufs : 2047, 0,
		0, (uint16_t)(RTE_PKTMBUF_HEADROOM + data_room), SOCKET_ID_ANY);
	mock_check(port->pool != NULL);
	port_start(port);
}

void
port_stop(struct test_port *port)
{
	mock_check(rte_eth_dev_stop(port->id) == 0);
}

void
port_close(struct test_port *port)
{
	struct test_port closing = *port;
	unsigned int missing = 0;

	if (!port->open)
		return;
	port->open = false;
	rte_eth_dev_stop(closing.id);
	mock_check(rte_eal_hotplug_remove("vdev", closing.name) == 0);
	if (closing.pool != NULL) {
		missing = closing.pool->size - rte_mempool_avail_count(closing.pool);
		rte_mempool_free(closing.pool);
	}
	if (missing != 0)
		mock_fail("%s has lost %u mbufs", closing.name, missing);
}

bool
port_link_up(const struct test_port *port)
{
	struct rte_eth_link link;

	mock_check(rte_eth_link_get_nowait(port->id, &link) == 0);
	return link.link_status == RTE_ETH_LINK_UP;
}

void
port_wait_link(const struct test_port *port, bool up)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (port_link_up(port) != up) {
		if (mock_now_ms() > deadline)
			mock_fail("link of %s does not go %s", port->name, up ? "up" : "down");
		mock_relax(&looks);
	}
}

uint16_t
port_rx(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_rx_burst(port->id, queue, pkts, n);
}

uint16_t
port_rx_wait(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;
	uint16_t got = 0;

	while (got < n && mock_now_ms() < deadline) {
		uint16_t now = port_rx(port, queue, pkts + got, (uint16_t)(n - got));

		got = (uint16_t)(got + now);
		if (now == 0)
			mock_relax(&looks);
	}
	return got;
}

uint16_t
port_tx(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t sent = rte_eth_tx_burst(port->id, queue, pkts, n);

	rte_pktmbuf_free_bulk(pkts + sent, (unsigned int)(n - sent));
	return sent;
}

uint16_t
port_tx_wait(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;
	uint16_t sent = 0;

	while (sent < n && mock_now_ms() < deadline) {
		uint16_t now = rte_eth_tx_burst(port->id, queue, pkts + sent, (uint16_t)(n - sent));

		sent = (uint16_t)(sent + now);
		if (now == 0)
			mock_relax(&looks);
	}
	rte_pktmbuf_free_bulk(pkts + sent, (unsigned int)(n - sent));
	return sent;
}

unsigned int
port_echo(const struct test_port *port, uint16_t queue)
{
	struct rte_mbuf *pkts[PORT_BURST];
	uint16_t got = port_rx(port, queue, pkts, PORT_BURST);
	uint64_t deadline = mock_now_ms() + PORT_ECHO_MS;
	uint16_t sent = 0;

	/* A burst may be short for a moment: while memory or call fds change, for example. */
	while (sent < got) {
		sent = (uint16_t)(sent + rte_eth_tx_burst(port->id, queue, pkts + sent,
						 (uint16_t)(got - sent)));
		if (sent < got && mock_now_ms() > deadline)
			break;
	}
	rte_pktmbuf_free_bulk(pkts + sent, (unsigned int)(got - sent));
	return sent;
}

struct rte_mbuf *
port_packet(const struct test_port *port, uint32_t len, uint32_t seed, uint16_t seg_len)
{
	static __thread uint8_t data[PACKET_MAX];
	struct rte_mbuf *head = rte_pktmbuf_alloc(port->pool);
	struct rte_mbuf *tail = head;
	uint32_t at = 0;

	mock_check(len <= sizeof(data) && head != NULL);
	packet_fill(data, len, seed);
	while (at < len) {
		uint16_t room = rte_pktmbuf_tailroom(tail);
		uint32_t now = RTE_MIN(len - at, (uint32_t)room);

		if (seg_len != 0)
			now = RTE_MIN(now, (uint32_t)(seg_len - tail->data_len));
		if (now == 0) {
			tail = rte_pktmbuf_alloc(port->pool);
			mock_check(tail != NULL);
			mock_check(rte_pktmbuf_chain(head, tail) == 0);
			continue;
		}
		memcpy(rte_pktmbuf_mtod_offset(tail, uint8_t *, tail->data_len), data + at, now);
		tail->data_len = (uint16_t)(tail->data_len + now);
		head->pkt_len += now;
		at += now;
	}
	return head;
}

bool
port_packet_matches(const struct rte_mbuf *pkt, uint32_t len, uint32_t seed)
{
	static __thread uint8_t copy[PACKET_MAX];
	const char *reason;
	const uint8_t *data;

	if (rte_mbuf_check(pkt, 1, &reason) != 0 || pkt->pkt_len != len || len > sizeof(copy))
		return false;
	data = rte_pktmbuf_read(pkt, 0, len, copy);
	return data != NULL && packet_matches(data, len, seed);
}

static uint64_t
port_xstat_errors(const struct test_port *port)
{
	struct rte_eth_xstat_name *name;
	struct rte_eth_xstat *value;
	int n = rte_eth_xstats_get_names(port->id, NULL, 0);
	uint64_t sum = 0;
	int i;

	if (n <= 0)
		return 0;
	name = calloc((size_t)n, sizeof(*name));
	value = calloc((size_t)n, sizeof(*value));
	mock_check(name != NULL && value != NULL);
	mock_check(rte_eth_xstats_get_names(port->id, name, (unsigned int)n) == n);
	mock_check(rte_eth_xstats_get(port->id, value, (unsigned int)n) == n);
	for (i = 0; i < n; i++) {
		if (strstr(name[i].name, "error") != NULL)
			sum += value[i].value;
	}
	free(name);
	free(value);
	return sum;
}

uint64_t
port_xstat(const struct test_port *port, const char *name)
{
	uint64_t value = 0;
	uint64_t id;

	mock_check(rte_eth_xstats_get_id_by_name(port->id, name, &id) == 0);
	mock_check(rte_eth_xstats_get_by_id(port->id, &id, &value, 1) == 1);
	return value;
}

uint64_t
port_errors(const struct test_port *port)
{
	struct rte_eth_stats stats;

	mock_check(rte_eth_stats_get(port->id, &stats) == 0);
	return stats.ierrors + stats.oerrors + port_xstat_errors(port);
}

void
port_log_capture(void)
{
	/* Append mode: the driver's threads may write while we read. */
	port_log = fdopen(memfd_create("log", MFD_CLOEXEC), "a+");
	mock_check(port_log != NULL);
	rte_openlog_stream(port_log);
}

/* @p out: where all lines go, NULL: nowhere. */
static unsigned int
port_log_scan(const char *text, FILE *out)
{
	unsigned int n = 0;
	char line[1024];

	fflush(port_log);
	rewind(port_log);
	while (fgets(line, sizeof(line), port_log) != NULL) {
		if (strstr(line, text) != NULL)
			n++;
		if (out != NULL)
			fputs(line, out);
	}
	return n;
}

unsigned int
port_log_lines(const char *text)
{
	return port_log_scan(text, NULL);
}

void
port_log_release(void)
{
	if (port_log == NULL)
		return;
	rte_openlog_stream(NULL);
	port_log_scan("", stderr);
	fclose(port_log);
	port_log = NULL;
}
