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
