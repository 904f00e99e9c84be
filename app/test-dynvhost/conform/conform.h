/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_CONFORM_H
#define DYNVHOST_CONFORM_H

/**
 * @file
 * Conformance: does a scripted front-end see what the specifications say? Every test is named after
 * the number that it answers:
 *
 *	Wire      C1–C12   test_conform_wire
 *	Features  C13–C21  test_conform_features
 *	Memory    C22–C35  test_conform_memory, what the table messages say and refuse
 *	          C27–C30, C33, C36–C38  test_conform_mapping, what becomes of memory under traffic
 *	          closing of idle pages: test_conform_idle
 *	Rings     C39–C45, C49, C56, C57  test_conform_ring_setup
 *	          C46–C48, C50–C53, C55   test_conform_ring_life
 *	          C54, and all of these for packed rings  test_conform_packed
 *	Device    C58, C59, C77, C78      test_conform_device
 *	virtio    C60–C62, C67, C69       test_conform_misc
 *	          C66, C67 (malformed), C68  hostile: test_hostile_chain, test_hostile_ring
 *	          C63–C65  test_conform_offload
 *	          C70      test_conform_packed
 *	          C71      test_conform_in_order
 *	          C72      hostile: test_hostile_ring (a racing guest on split rings)
 *	Migration C73–C76  later: dirty log
 *	Restart   C79      test_conform_restart; with packed rings test_conform_packed
 *	          C80      hostile: test_hostile_vanish
 */

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "rig.h"

#define BIT(n) (1ull << (n))

/** A 64-bit feature that no network device has. */
#define CONFORM_NO_FEATURE BIT(49)
/** A protocol feature that nobody knows. */
#define CONFORM_NO_PROTOCOL_FEATURE BIT(60)

/** Set by the build, where a test runs with other options than the driver's own choice. */
#ifndef CONFORM_DEVARGS
#define CONFORM_DEVARGS NULL
#endif

/** fds of this process while the port of @p rig has no connection. To be called once it has one. */
static inline unsigned int
conform_idle_fds(struct rig *rig)
{
	/* Both ends of the connection are in this process. */
	fe_barrier(&rig->fe);
	return mock_count_fds() - 2;
}

/** Connect again and negotiate, without a guest. */
static inline void
conform_renegotiate(struct rig *rig)
{
	fe_close(&rig->fe);
	fe_connect(&rig->fe, rig->port.path);
	nic_negotiate(&rig->nic);
}

/** Options that make front-ends send whole tables: SET_MEM_TABLE instead of ADD_MEM_REG. */
#define CONFORM_WHOLE_TABLES .without_protocol = BIT(VU_PF_CONFIGURE_MEM_SLOTS)

#endif /* DYNVHOST_CONFORM_H */
