/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_RIG_H
#define DYNVHOST_MOCK_RIG_H

/**
 * @file
 * A port with a mock guest behind it, for cmocka tests: what almost every conformance and hostile
 * test starts from. A test opens rig_main() the way it needs it and leaves the rest to the
 * teardown, which closes everything and then checks that neither fds nor mappings are left behind.
 *
 * Packets move when the test calls something of the rig: the rig polls the port itself, or leaves
 * that to its echo thread when one runs.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exposure.h"
#include "front_end.h"
#include "guest_nic.h"
#include "guest_ram.h"
#include "mock.h"
#include "packet.h"
#include "port.h"

#define RIG_RAM_SIZE (16ull << 20)

struct rig_config {
	struct port_config port;
	struct nic_config nic;
	uint64_t ram_size;                      /**< 0: RIG_RAM_SIZE; one region at gpa 0 */
	void (*lay_out)(struct guest_ram *ram); /**< other memory than that */
	bool no_rx_buffers;                     /**< offer no receive buffers */
	bool client;                            /**< the port connects, the front-end listens */
};

struct rig {
	bool open;
	struct rig_config config;
	struct test_port port;
	struct guest_ram ram;
	struct front_end fe;
	struct guest_nic nic;
	struct {
		uint32_t sent; /**< packets that the guest has sent for the port to give back */
		uint32_t got;  /**< of these, how many were received again, or given up */
	} flow[NIC_MAX_PAIRS];
	uint32_t seed;     /**< of the next packet that goes one way only */
	uint32_t may_lose; /**< packets of the flows that may still get lost, for a good reason */
	int listen_fd;     /**< the front-end's; -1: it connects */

	/** The echo thread: polls all queues and gives back what comes. */
	pthread_t echo_thread;
	bool echo_runs;
	bool echo_stop; /**< atomic */
};

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)

/** The rig of the running test. */
struct rig *rig_main(void);

/** Fixtures for cmocka. */
int rig_group_setup(void **state);
int rig_group_teardown(void **state);
int rig_setup(void **state);
int rig_teardown(void **state);

/** End the test if a helper thread of it has failed. */
void rig_check_helpers(void);

/** How often to do something: @p usual, or the other where DYNVHOST_TEST_LONG=1 is set. */
unsigned int rig_repeats(unsigned int usual, unsigned int in_long_form);

/** Devargs of ports that name none themselves, "key=value,…"; NULL: none. */
extern const char *rig_devargs;

/** Those, and @p more; good until the next call. */
const char *rig_devargs_and(const char *more);

/**
 * Name of the program, seconds it may take in all; to be called first in main(). DYNVHOST_TEST_ONLY in
 * the environment names the tests that run, as a pattern of the shell.
 */
void rig_program(const char *name, unsigned int seconds);

/** More to do in the group's fixtures, with EAL up; NULL: nothing. */
extern void (*rig_group_extra_setup)(void);
extern void (*rig_group_extra_teardown)(void);

/** Port, memory and rings; nothing is said to the back-end yet, but the front-end is connected. */
void rig_prepare(struct rig *rig, const struct rig_config *config);

/** rig_prepare(), and everything up to a link that is up. NULL: all defaults. */
void rig_open(struct rig *rig, const struct rig_config *config);

/** Offer receive buffers on every pair, unless the configuration says otherwise. */
void rig_offer_buffers(struct rig *rig);

/** Negotiate, offer buffers, start the guest, wait for the link. */
void rig_bring_up(struct rig *rig);

/** Connect the front-end, whoever listens. */
void rig_connect(struct rig *rig);

/** Connect again and go on with rings and packets where they are, as after a crash of either side. */
void rig_resume(struct rig *rig);

/** Take the port away and make it anew at the same path. The front-end notices and hangs up. */
void rig_restart_port(struct rig *rig);

/** Stop everything and give it back. Repeatable. */
void rig_close(struct rig *rig);

/** Close the connection, wait until the link is down. */
void rig_hang_up(struct rig *rig);

/** How many ways rig_change() knows. */
#define RIG_CHANGES 4

/**
 * Have the front-end of a running guest change something that bursts of pair @p pair use, to what it
 * is already: stop and start its transmit ring, replace the kick fd of that, the memory table, the
 * call fd of its receive ring. Answered when it is in force; no packet gets lost. Front-ends
 * that send whole tables only.
 * @param way  which of RIG_CHANGES; they begin anew behind the last.
 */
void rig_change(struct rig *rig, unsigned int pair, unsigned int way);

/** What a guest's reset does to its rings; what was on its way is given up. */
void rig_reset_rings(struct rig *rig);

/** Connect again with fresh rings in the same places, bring up. */
void rig_reconnect(struct rig *rig);

/** One round of polling by this thread; nothing when the echo thread runs. */
void rig_poll(struct rig *rig);

void rig_echo_start(struct rig *rig);
void rig_echo_stop(struct rig *rig);

/** Send @p n packets from the guest, for the port to give back. @return how many found room. */
unsigned int rig_send(struct rig *rig, unsigned int pair, unsigned int n);

/**
 * Poll until all that rig_send() sent has come back, in order and unchanged.
 * @return false: time is up.
 */
bool rig_collect(struct rig *rig, unsigned int pair, unsigned int timeout_ms);

/** Give up what has not come back. */
void rig_forget(struct rig *rig, unsigned int pair);

/** Send @p n packets of 60 to 1514 bytes and receive all of them, in order and unchanged. */
void rig_exchange(struct rig *rig, unsigned int pair, unsigned int n);

/** As rig_exchange(), but @return false where that fails; what was lost is given up. */
bool rig_try_exchange(struct rig *rig, unsigned int pair, unsigned int n, unsigned int timeout_ms);

/** One packet from guest to host, checked. */
void rig_to_host(struct rig *rig, unsigned int pair, uint32_t len);

/** One packet from host to guest, checked; mbuf segments as in port_packet(). */
struct nic_packet rig_to_guest(struct rig *rig, unsigned int pair, uint32_t len, uint16_t seg_len);

/** A buffer in the test's own pieces of guest memory. */
struct rig_chain {
	const struct ring_piece *piece;
	uint16_t n;
	uint16_t n_direct;  /**< pieces before the indirect table, if there is one */
	uint64_t table_gpa; /**< of the indirect table; 0: all pieces are direct */
};

/** Offer a chain to a ring; @p writable says for the whole of it who writes. @return its head. */
uint16_t
rig_offer_chain(struct rig *rig, unsigned int index, const struct rig_chain *chain, bool writable);

/**
 * One packet from guest to host whose header and data fill @p chain wholly, checked.
 */
void rig_chain_to_host(struct rig *rig, unsigned int pair, const struct rig_chain *chain);

/** One packet from host to guest into @p chain, which is the only receive buffer, checked. */
struct nic_packet
rig_chain_to_guest(struct rig *rig, unsigned int pair, const struct rig_chain *chain, uint32_t len);

/**
 * What a guest and its VMM do to a ring that the device has given up: stop it, clear it, set it up
 * anew. Receive rings get buffers.
 */
void rig_revive(struct rig *rig, unsigned int index);

/** Poll the host side for a while; fail if it receives anything on queue @p pair. */
void rig_expect_nothing_received(struct rig *rig, unsigned int pair);

/**
 * fds that this process has while the port has no connection; to be called when it has one. Both
 * ends of that are in this process.
 */
unsigned int rig_idle_fds(struct rig *rig);

/** Wait until this process has @p n fds. */
void rig_wait_fds(unsigned int n);

#endif /* DYNVHOST_MOCK_RIG_H */
