/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_HOSTILE_H
#define DYNVHOST_HOSTILE_H

/**
 * @file
 * Hostile guests and front-ends: does the process live, does everybody else go on, is everything
 * given back? Every test is named after the entry of the catalogue of hostile inputs (H1 and up) or
 * of the front-end tricks (R1 and up) that it answers.
 *
 *	Framing   H1–H4, H8–H13, H35  test_hostile_socket; H5–H8, H10–H13 byte by byte: unit_vu_message,
 *	          unit_vu_conn_recv; an fd that closes slowly, however it comes: unit_drv_linger
 *	Requests  H14, H15, H17, H18, H24–H29  test_hostile_frontend
 *	          H16, H20–H23, H32   conform: test_conform_ring_setup, _ring_life, _features, _wire
 *	          H30                 unit_drv_intr
 *	          H36, H37            test_hostile_vanish
 *	          H33                 not offered; H34: later, fuzz
 *	Memory    H38–H49             test_hostile_memory; numbers and files one by one: unit_mem_table
 *	          H50                 test_hostile_exhaust, unit_mem_table
 *	          H51–H55             test_hostile_truncate; H52 also test_hostile_memory
 *	Chains    H56–H60, H62, H64–H67, H69–H71  test_hostile_chain; packed: test_hostile_packed
 *	          H61, H63            test_hostile_lcores
 *	          H68                 test_hostile_ring, test_hostile_packed
 *	Rings     H19, H72–H75, H77   test_hostile_ring
 *	          H76–H78             test_hostile_packed
 *	Offloads  H79–H87             later: offloads
 *	Life      H88, H102           test_hostile_life
 *	          H89                 test_hostile_lcores
 *	          H90                 unit_drv_gate
 *	          H91, H92            test_hostile_races, unit_mem_stress
 *	          H93, H95            test_hostile_races, unit_mem_system, unit_drv_child
 *	          H94                 unit_mem_system, unit_drv_child
 *	          H96                 unit_mem_fail: engines are chosen by what works
 *	          H97                 unit_mem_fail, for every call of guest memory; unit_drv_probe
 *	          H98                 e2e: test_secondary
 *	Resources H99–H101, H103, H105  test_hostile_exhaust; H101 also unit_mem_system
 *	          H104                unit_mem_system: a limit of locked memory
 *
 * All the while a canary forwards: a second port with a guest of its own, in a thread of its own,
 * whose packets must come back and whose messages must be answered without a long gap. After every
 * test fds and mappings are counted.
 */

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "rig.h"

#define BIT(n) (1ull << (n))
#define MIB    (1ull << 20)
#define GIB    (1ull << 30)

/** The longest that the canary's packets and messages may take to come back. */
#define CANARY_LIMIT_MS 500

/** Set by the build, where a test runs with other options than the driver's own choice. */
#ifndef HOSTILE_DEVARGS
#define HOSTILE_DEVARGS NULL
#endif

#define HOSTILE_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, hostile_teardown)

/** To be called first in main(): as rig_program(), and with a canary. */
void hostile_program(const char *name, unsigned int seconds);

/** The canary must be alive, and complete another round. */
void canary_check(void);

/** As rig_teardown(), with a look at the canary before and after. */
int hostile_teardown(void **state);

/** What has become of a buffer that is no good. */
enum hostile_outcome {
	HOSTILE_DELIVERED = 1, /**< taken as a packet */
	HOSTILE_DROPPED = 2,   /**< no packet; the queue lives */
	HOSTILE_STOPPED = 4,   /**< no packet; the queue has stopped */
};

/**
 * What becomes of a buffer that the test has just offered to transmit queue 0: watches the host
 * side, then sends a good packet after it.
 */
enum hostile_outcome hostile_judge_sent(struct rig *rig);

/** As hostile_judge_sent(), for a buffer to receive into: the host sends @p len bytes. */
enum hostile_outcome hostile_judge_offered(struct rig *rig, uint32_t len);

#endif /* DYNVHOST_HOSTILE_H */
