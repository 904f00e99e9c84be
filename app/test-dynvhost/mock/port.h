/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_PORT_H
#define DYNVHOST_MOCK_PORT_H

/**
 * @file
 * One vhost-user port of this process, through the ethdev API alone: an application in little.
 *
 * EAL comes up once per program, without huge pages, PCI or files shared with others. Every port
 * gets a socket path of its own in a private folder and a mempool of its own; closing a port checks
 * that all mbufs have come back.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_mbuf.h>

/** Ethdev queues of one port at most. */
#define PORT_MAX_QUEUES 128
/** Packets of one burst. */
#define PORT_BURST 32

struct port_config {
	const char *driver;    /**< NULL: net_dynvhost, or what DYNVHOST_TEST_DRIVER says */
	const char *path;      /**< of the socket; NULL: one of its own */
	const char *devargs;   /**< appended to iface and queues, "key=value,…"; NULL: none */
	unsigned int n_queues; /**< pairs: devarg and configured queues alike; 0: 1 */
	uint16_t data_room;    /**< bytes of mbuf data after the headroom; 0: 2048 */
	unsigned int n_mbufs;  /**< 0: 2047 */
	bool rx_intr;          /**< configured with receive interrupts */
};

struct test_port {
	bool open;
	uint16_t id;
	unsigned int n_queues;
	bool rx_intr;
	char name[32];
	char path[96];
	struct rte_mempool *pool;
};

/** Bring up EAL under a name of its own. Ends the process when that fails. */
void port_eal_init(const char *program);

/** Take EAL down and remove the private folder. */
void port_eal_fini(void);

/** Whether ports are those of our own driver (see port_config.driver). */
bool port_is_dynvhost(void);

/** The path that the next port gets, if its configuration names none. */
void port_next_path(char *path, size_t size);

/** Probe a port. @return 0 or -errno; on failure nothing is left. */
int port_try_open(struct test_port *port, const struct port_config *config);

/** Probe, configure and start a port. */
void port_open(struct test_port *port, const struct port_config *config);

/** Configure and start; the port must be stopped. */
void port_start(struct test_port *port);
void port_stop(struct test_port *port);

/** Stop and remove the port, then see to it that no mbuf is missing. Repeatable. */
void port_close(struct test_port *port);

/** Wait for a link state. */
void port_wait_link(const struct test_port *port, bool up);
bool port_link_up(const struct test_port *port);

/** One receive burst. */
uint16_t port_rx(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);

/** Poll until @p n packets were received, or nothing more comes. @return how many. */
uint16_t
port_rx_wait(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);

/** One transmit burst; what it does not take is freed. @return how many it took. */
uint16_t port_tx(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);

/** Burst until @p n packets are taken or time is up; the rest is freed. @return how many. */
uint16_t
port_tx_wait(const struct test_port *port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);

/** Give back what was received; drop what finds no room for a while. @return packets given back. */
unsigned int port_echo(const struct test_port *port, uint16_t queue);

/** A packet by its seed (packet.h), in segments of @p seg_len bytes; 0: as long as they can be. */
struct rte_mbuf *
port_packet(const struct test_port *port, uint32_t len, uint32_t seed, uint16_t seg_len);

/** Whether an mbuf is the packet of that length and seed, and says so in its own fields. */
bool port_packet_matches(const struct rte_mbuf *pkt, uint32_t len, uint32_t seed);

/** One of the port's extended statistics, which it must have. */
uint64_t port_xstat(const struct test_port *port, const char *name);

/** Sum of every counter whose name says it counts errors. */
uint64_t port_errors(const struct test_port *port);

/** From now on, what EAL and drivers log goes to a private file instead of stderr. */
void port_log_capture(void);

/** Lines logged since port_log_capture() that contain @p text. */
unsigned int port_log_lines(const char *text);

/** Log to stderr again, also what was captured. Repeatable. */
void port_log_release(void);

#endif /* DYNVHOST_MOCK_PORT_H */
