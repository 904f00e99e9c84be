/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A secondary process for test_secondary.py: looks at port 0 of the primary, tries to move packets
 * of the pool that its last argument names, prints what it found, one "name value" per line, and
 * stays until its standard input has a line or ends.
 */

#include <inttypes.h>
#include <stdio.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define PORT      0
#define BURST     32
#define N_BURSTS  100000
#define MAX_STATS 256

/** Packets that receive bursts bring. */
static uint64_t
try_to_receive(void)
{
	struct rte_mbuf *pkts[BURST];
	uint64_t moved = 0;

	for (unsigned int i = 0; i < N_BURSTS; i++) {
		uint16_t n = rte_eth_rx_burst(PORT, 0, pkts, BURST);

		rte_pktmbuf_free_bulk(pkts, n);
		moved += n;
	}
	return moved;
}

/** Packets that transmit bursts take. */
static uint64_t
try_to_transmit(struct rte_mempool *pool)
{
	struct rte_mbuf *pkt = rte_pktmbuf_alloc(pool);
	uint64_t moved = 0;

	if (pkt == NULL)
		rte_exit(EXIT_FAILURE, "no mbuf in pool %s\n", pool->name);
	rte_pktmbuf_append(pkt, RTE_ETHER_MIN_LEN);
	for (unsigned int i = 0; i < N_BURSTS && moved == 0; i++)
		moved += rte_eth_tx_burst(PORT, 0, &pkt, 1);
	if (moved == 0)
		rte_pktmbuf_free(pkt);
	return moved;
}

static void
print_port(void)
{
	static struct rte_eth_xstat_name name[MAX_STATS];
	static struct rte_eth_xstat stat[MAX_STATS];
	struct rte_eth_stats stats = {0};
	struct rte_eth_link link = {0};
	int n;

	if (rte_eth_link_get_nowait(PORT, &link) != 0 || rte_eth_stats_get(PORT, &stats) != 0)
		rte_exit(EXIT_FAILURE, "port %u does not answer\n", PORT);
	printf("link %u\n", link.link_status);
	printf("rx_packets %" PRIu64 "\n", stats.ipackets);
	printf("tx_packets %" PRIu64 "\n", stats.opackets);
	n = rte_eth_xstats_get(PORT, stat, MAX_STATS);
	if (n <= 0 || n > MAX_STATS || rte_eth_xstats_get_names(PORT, name, MAX_STATS) != n)
		rte_exit(EXIT_FAILURE, "port %u has no extended statistics\n", PORT);
	for (int i = 0; i < n; i++)
		printf("xstat:%s %" PRIu64 "\n", name[stat[i].id].name, stat[i].value);
}

int
main(int argc, char **argv)
{
	struct rte_mempool *pool;

	if (rte_eal_init(argc, argv) < 0)
		return EXIT_FAILURE;
	if (rte_eal_process_type() != RTE_PROC_SECONDARY || !rte_eth_dev_is_valid_port(PORT))
		rte_exit(EXIT_FAILURE, "this is no secondary process, or it sees no port\n");
	pool = rte_mempool_lookup(argv[argc - 1]);
	if (pool == NULL)
		rte_exit(EXIT_FAILURE, "no pool %s\n", argv[argc - 1]);
	printf("received %" PRIu64 "\n", try_to_receive());
	printf("transmitted %" PRIu64 "\n", try_to_transmit(pool));
	print_port();
	printf("ready\n");
	fflush(stdout);
	getchar();
	return rte_eal_cleanup() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
