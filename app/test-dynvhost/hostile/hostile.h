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
 * Of the control plane's entries, where they are answered (lint/numbers.py checks that):
 *
 *	H1   part of a header, then nothing
 *	     hostile/test_socket.c
 *	H2   a header byte by byte
 *	     hostile/test_socket.c
 *	H3   a payload that never comes
 *	     hostile/test_socket.c
 *	H4   an enormous size
 *	     hostile/test_socket.c
 *	H5   a payload that is too short
 *	     conform/test_wire.c: test_c07_wrong_payload_size_closes
 *	H6   or too long
 *	     conform/test_wire.c: test_c07_wrong_payload_size_closes
 *	H7   requests that do not exist
 *	     conform/test_wire.c: test_c09_unknown_request_closes_when_not_asked
 *	H8   flags that do not exist
 *	     hostile/test_socket.c
 *	H9   replies that nobody reads
 *	     hostile/test_socket.c
 *	H10  fds where none belong
 *	     hostile/test_socket.c
 *	H11  more fds than there is room for
 *	     hostile/test_socket.c
 *	H12  no room for fds in the back-end
 *	     hostile/test_socket.c
 *	H13  fds with the payload
 *	     hostile/test_socket.c
 *	H14  the same message without end
 *	     hostile/test_frontend.c
 *	H15  rings that do not exist
 *	     hostile/test_frontend.c
 *	H16  sizes that are none
 *	     conform/test_ring_setup.c: test_c39_ring_size_out_of_range_is_refused
 *	H17  a refused value in the midst
 *	     hostile/test_frontend.c
 *	H18  bad addresses of rings
 *	     hostile/test_frontend.c
 *	H19  areas that overlap
 *	     hostile/test_ring.c
 *	H20  bases out of range, and of running rings
 *	     hostile/test_messages.c
 *	H21  the base of a ring that was never set up
 *	     conform/test_ring_life.c: test_c52_base_can_be_asked_for_again_and_before_a_start
 *	H22  features that were not offered, or change
 *	     conform/test_features.c: test_c16_features_do_not_change_while_running
 *	H23  protocol features not offered, early, never
 *	     hostile/test_messages.c
 *	H24  rings switched on and off
 *	     hostile/test_frontend.c
 *	H25  pairs with holes
 *	     hostile/test_frontend.c
 *	H26  kick fds of every kind
 *	     hostile/test_frontend.c
 *	H27  call fds of every kind
 *	     hostile/test_frontend.c
 *	H28  call fds that block
 *	     hostile/test_frontend.c
 *	H29  one eventfd for everything
 *	     hostile/test_frontend.c
 *	H30  a kick fd that never rests
 *	     hostile/test_messages.c
 *	H31  fds replaced while they are used
 *	     hostile/test_messages.c
 *	H32  requests of features not offered
 *	     conform/test_features.c: test_c21_requests_of_features_not_offered_fail
 *	H33  tens of GiB of in-flight descriptions
 *	     conform/test_features.c: test_c21_requests_of_features_not_offered_fail
 *	H34  random and damaged messages
 *	     hostile/test_messages.c
 *	H35  second connections, and too many
 *	     hostile/test_socket.c
 *	H36  a peer that goes after every byte
 *	     hostile/test_vanish.c
 *	H37  a peer that is killed, or stopped
 *	     hostile/test_vanish.c
 *
 * Of memory's, races' and resources' likewise:
 *
 *	H38  tables of impossible length
 *	     hostile/test_memory.c
 *	H39  sizes of no whole pages
 *	     hostile/test_memory.c
 *	H40  numbers that wrap
 *	     hostile/test_memory.c
 *	H41  regions that overlap
 *	     hostile/test_memory.c
 *	H42  one file in many regions
 *	     hostile/test_memory.c
 *	H43  offsets that do not fit their addresses
 *	     hostile/test_memory.c
 *	H44  files that are too short
 *	     hostile/test_memory.c
 *	H45  fds that are no guest memory
 *	     hostile/test_memory.c
 *	H46  a sparse TiB
 *	     hostile/test_memory.c
 *	H47  more than the address space
 *	     hostile/test_memory.c
 *	H48  the table replaced under traffic
 *	     hostile/test_memory.c
 *	H49  a region removed while in use
 *	     hostile/test_memory.c
 *	H50  regions added and removed without end
 *	     hostile/test_exhaust.c
 *	H51  a file cut short while in use
 *	     hostile/test_truncate.c
 *	H52  holes under rings and buffers
 *	     hostile/test_memory.c
 *	H53  no huge page left
 *	     hostile/test_truncate.c
 *	H54  a file that shrinks and grows without end
 *	     hostile/test_truncate.c
 *	H55  a region that is never used
 *	     hostile/test_truncate.c
 *	H88  ports that stop, start and go under traffic
 *	     hostile/test_life.c
 *	H89  state that changes under several lcores
 *	     hostile/test_lcores.c
 *	H91  pages that close all the time
 *	     hostile/test_races.c
 *	H92  two queues in the same pages
 *	     hostile/test_races.c
 *	H93  a forked child
 *	     hostile/test_races.c
 *	H95  a child that executes another program
 *	     hostile/test_races.c
 *	H97  every call to the system that fails
 *	     unit/driver/test_calls.c
 *	H99  every packet in a new page
 *	     hostile/test_exhaust.c
 *	H100 and what that does to another port
 *	     hostile/test_exhaust.c
 *	H101 no mapping left
 *	     hostile/test_exhaust.c
 *	H102 a mempool that is shared
 *	     hostile/test_life.c
 *	H103 mistakes without end, and the log
 *	     hostile/test_exhaust.c
 *	H105 kicks without need
 *	     hostile/test_exhaust.c
 *
 * Of the others:
 *
 *	Memory    numbers and files one by one: unit_mem_table, unit_mem_file; H51–H54: unit_mem_fault,
 *	          unit_mem_stress
 *	          H48, H49, H51, H91 also  test_hostile_monitor: rings that somebody sleeps on
 *	Chains    H56–H60, H62, H64–H67, H69–H71  test_hostile_chain; packed: test_hostile_packed
 *	          H61, H63            test_hostile_lcores
 *	          H68                 test_hostile_ring, test_hostile_packed
 *	Rings     H72–H75, H77        test_hostile_ring
 *	          H76–H78             test_hostile_packed
 *	Offloads  H79–H87             unit_vq_*_offload_rules; test_diff_intended
 *	Life      H90                 unit_drv_gate
 *	          H91–H95 also        unit_mem_stress, unit_mem_secret, unit_drv_child
 *	          H94                 unit_mem_secret; e2e: test_secrets
 *	          H96                 unit_mem_fail: engines are chosen by what works
 *	          H97 also            unit_mem_fail, unit_drv_probe
 *	          H98                 e2e: test_secondary
 *	Resources H101 also           unit_mem_system
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

/**
 * Open the rig and note in @p record what its front-end says until the link is up; then it hangs up.
 * @return rig_idle_fds().
 */
unsigned int
hostile_record_session(struct rig *rig, const struct rig_config *config, struct fe_record *record);

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
