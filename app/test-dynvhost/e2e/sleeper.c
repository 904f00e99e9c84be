/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * An application for test_sleep.py that receives as l3fwd-power does: polls port 0 while packets come,
 * and sleeps on its receive interrupt when none have come for a while. It says "sleeping N" whenever it
 * goes to sleep with N packets received, and ends with its standard input.
 */

#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>

#define PORT    0
#define BURST   32
#define N_MBUFS 4095
#define N_DESCS 256
/** Polls in a row that bring nothing. */
#define MOST_IDLE 300

static void
start_port(void)
{
	const struct rte_eth_conf conf = {.intr_conf = {.rxq = 1}};
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		"sleeper", N_MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);

	if (pool == NULL || rte_eth_dev_configure(PORT, 1, 1, &conf) != 0 ||
		rte_eth_rx_queue_setup(PORT, 0, N_DESCS, SOCKET_ID_ANY, NULL, pool) != 0 ||
		rte_eth_tx_queue_setup(PORT, 0, N_DESCS, SOCKET_ID_ANY, NULL) != 0 ||
		rte_eth_dev_start(PORT) != 0 ||
		rte_eth_dev_rx_intr_ctl_q(
			PORT, 0, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD, NULL) != 0)
		rte_exit(EXIT_FAILURE, "port %u cannot be polled and slept on\n", PORT);
}

/** Receive until nothing more comes. @return packets. */
static uint64_t
poll_until_idle(void)
{
	struct rte_mbuf *pkts[BURST];
	uint64_t received = 0;
	unsigned int idle = 0;

	while (idle < MOST_IDLE) {
		uint16_t n = rte_eth_rx_burst(PORT, 0, pkts, BURST);

		rte_pktmbuf_free_bulk(pkts, n);
		received += n;
		idle = n == 0 ? idle + 1 : 0;
	}
	return received;
}

/** Sleep until the guest kicks or the port has news. @return false: standard input has ended. */
static bool
sleep_on_interrupt(void)
{
	struct rte_epoll_event event[2];
	bool goes_on = true;
	int n;

	if (rte_eth_dev_rx_intr_enable(PORT, 0) != 0)
		rte_exit(EXIT_FAILURE, "no receive interrupt\n");
	n = rte_epoll_wait(RTE_EPOLL_PER_THREAD, event, RTE_DIM(event), -1);
	for (int i = 0; i < n; i++)
		if (event[i].epdata.data == start_port)
			goes_on = false;
	rte_eth_dev_rx_intr_disable(PORT, 0);
	return goes_on;
}

int
main(int argc, char **argv)
{
	struct rte_epoll_event input = {.epdata = {.event = EPOLLIN, .data = start_port}};
	uint64_t received = 0;
	uint64_t said = UINT64_MAX;

	if (rte_eal_init(argc, argv) < 0)
		return EXIT_FAILURE;
	start_port();
	if (rte_epoll_ctl(RTE_EPOLL_PER_THREAD, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0)
		rte_exit(EXIT_FAILURE, "standard input cannot be waited for\n");
	do {
		received += poll_until_idle();
		if (received != said)
			printf("sleeping %" PRIu64 "\n", received);
		fflush(stdout);
		said = received;
	} while (sleep_on_interrupt());
	rte_eth_dev_stop(PORT);
	rte_eth_dev_close(PORT);
	return rte_eal_cleanup() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
