/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file EAL and ports. */

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_string_fns.h>

#include "bench_burst.h"
#include "mock.h"

#define PORT_MBUFS     8191
#define PORT_CACHE     256
#define PORT_DESC      512
#define PORT_EAL_BYTES (96ull << 20)

static char port_folder[64];
static struct rte_mempool *port_pool;
static unsigned int port_number;

int
burst_eal_init(unsigned int simd_bits)
{
	const char *pages = guest_ram_has_hugepages(PORT_EAL_BYTES) ? "--in-memory -m 64"
								    : "--no-huge -m 128";
	cpu_set_t allowed;
	int first = -1, last = -1;
	char simd[48] = "";
	char line[320];
	char *argv[32];
	int argc;

	mock_check(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		first = first < 0 ? cpu : first;
		last = cpu;
	}
	if (simd_bits != 0)
		snprintf(simd, sizeof(simd), " --force-max-simd-bitwidth=%u", simd_bits);
	snprintf(line, sizeof(line),
		"bench_burst %s%s --no-pci --no-shconf --no-telemetry --log-level=4 "
		"--file-prefix bench-%d -l %d",
		pages, simd, (int)getpid(), first);
	argc = rte_strsplit(line, sizeof(line), argv, RTE_DIM(argv) - 1, ' ');
	argv[argc] = NULL;
	if (rte_eal_init(argc, argv) < 0)
		mock_fail("EAL does not come up: %s", rte_strerror(rte_errno));
	snprintf(port_folder, sizeof(port_folder), "%s/dynvhost-bench-XXXXXX",
		getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	mock_check(mkdtemp(port_folder) != NULL);
	port_pool = rte_pktmbuf_pool_create(
		"bench", PORT_MBUFS, PORT_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	mock_check(port_pool != NULL);
	return last == first ? -1 : last;
}

void
burst_eal_fini(void)
{
	rte_mempool_free(port_pool);
	rte_eal_cleanup();
	rmdir(port_folder);
}

static void
port_start(struct burst_port *port)
{
	const struct rte_eth_conf conf = {0};

	mock_check(rte_eth_dev_get_port_by_name(port->name, &port->id) == 0);
	mock_check(rte_eth_dev_configure(port->id, 1, 1, &conf) == 0);
	mock_check(rte_eth_rx_queue_setup(
			   port->id, 0, PORT_DESC, SOCKET_ID_ANY, NULL, port->pool) == 0);
	mock_check(rte_eth_tx_queue_setup(port->id, 0, PORT_DESC, SOCKET_ID_ANY, NULL) == 0);
	mock_check(rte_eth_dev_start(port->id) == 0);
}

static void
port_wait_link(const struct burst_port *port)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	struct rte_eth_link link = {0};
	unsigned int looks = 0;

	do {
		mock_check(mock_now_ms() < deadline);
		mock_relax(&looks);
		mock_check(rte_eth_link_get_nowait(port->id, &link) == 0);
	} while (link.link_status != RTE_ETH_LINK_UP);
}

bool
burst_port_open(struct burst_port *port, const char *spec, const struct burst_shape *shape)
{
	const size_t driver_len = strcspn(spec, ",");
	char devargs[256];

	memset(port, 0, sizeof(*port));
	port->spec = spec;
	port->pool = port_pool;
	snprintf(port->name, sizeof(port->name), "%.*s%u", (int)driver_len, spec, port_number);
	snprintf(port->path, sizeof(port->path), "%s/%u.sock", port_folder, port_number);
	snprintf(devargs, sizeof(devargs), "iface=%s,queues=1%s", port->path, spec + driver_len);
	port_number++;
	if (rte_eal_hotplug_add("vdev", port->name, devargs) != 0)
		mock_fail("%s cannot be probed", spec);
	port_start(port);
	if (!burst_guest_open(port, shape))
		return false;
	port_wait_link(port);
	return true;
}

void
burst_port_close(struct burst_port *port)
{
	rte_eth_dev_stop(port->id);
	burst_guest_close(port);
	mock_check(rte_eal_hotplug_remove("vdev", port->name) == 0);
}
