/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_CONFORM_H
#define DYNVHOST_CONFORM_H

/**
 * @file
 * Conformance: does a scripted front-end see what the specifications say? The rules have numbers; a
 * test of rule 7 is named test_c07_... Below is each rule in a few words, and where its test is: the
 * file, and its name where that has another number. lint/numbers.py checks that they exist. Many rules
 * have more tests elsewhere: those of packed rings are together in conform/test_packed.c.
 *
 * compare.py runs the same tests against another driver, as a report.
 *
 *	C1   a reply repeats the id and says 5 in flags
 *	     conform/test_wire.c
 *	C2   pieces make one message, one write may hold several
 *	     conform/test_wire.c
 *	C3   an announced size that is too large closes
 *	     conform/test_wire.c
 *	C4   other versions and replies as requests close
 *	     conform/test_wire.c
 *	C5   nine fds close the connection, none leaks
 *	     conform/test_wire.c
 *	C6   fds where none or one belong close
 *	     conform/test_wire.c
 *	C7   a payload of the wrong size closes
 *	     conform/test_wire.c
 *	C8   an unknown request is refused if asked
 *	     conform/test_wire.c
 *	C9   and closes if not
 *	     conform/test_wire.c
 *	C10  success is acknowledged once
 *	     conform/test_wire.c
 *	C11  nothing is without REPLY_ACK
 *	     conform/test_wire.c
 *	C12  half a message leaves nothing
 *	     conform/test_wire.c
 *	C13  features are constant, and those that work
 *	     conform/test_features.c
 *	C14  protocol features come before SET_FEATURES
 *	     conform/test_features.c
 *	C15  a feature not offered is refused
 *	     conform/test_features.c
 *	C16  features do not change while a ring runs
 *	     conform/test_features.c
 *	C17  without bit 30 rings are enabled
 *	     conform/test_features.c
 *	C18  protocol features not offered are refused
 *	     conform/test_features.c
 *	C19  negotiation may be repeated
 *	     conform/test_features.c
 *	C20  GET_QUEUE_NUM suits every front-end
 *	     conform/test_features.c
 *	C21  requests of features not offered fail
 *	     conform/test_features.c
 *	C22  a table of no, nine, or fewer regions than fds fails
 *	     conform/test_memory.c
 *	C23  regions of no size, that wrap or overlap fail
 *	     conform/test_memory.c
 *	C24  a file that is too short is refused
 *	     conform/test_memory.c
 *	C25  the offset in the file is honoured
 *	     conform/test_memory.c
 *	C26  a buffer may cross regions
 *	     conform/test_memory.c
 *	C27  a table changes under traffic
 *	     conform/test_mapping.c
 *	C28  the same table disturbs nothing
 *	     conform/test_mapping.c
 *	C29  a refused table leaves traffic running
 *	     conform/test_mapping.c
 *	C30  a ring without its memory halts and recovers
 *	     conform/test_mapping.c
 *	C31  ADD_MEM_REG takes one fd, no overlap, so many slots
 *	     conform/test_memory.c
 *	C32  REM_MEM_REG goes by addresses and size
 *	     conform/test_memory.c
 *	C33  removed memory is unmapped before the answer
 *	     conform/test_mapping.c
 *	C34  the number of slots is constant
 *	     conform/test_memory.c
 *	C35  a table of added regions outlives a stop
 *	     conform/test_memory.c
 *	C36  only what is touched is mapped
 *	     conform/test_mapping.c
 *	C37  a buffer outside memory stops its ring alone
 *	     conform/test_mapping.c
 *	C38  a disconnect gives everything back
 *	     conform/test_mapping.c
 *	C39  a ring has a size that fits its format
 *	     conform/test_ring_setup.c
 *	C40  a ring that does not exist is refused
 *	     conform/test_ring_setup.c
 *	C41  messages of a ring come in any order
 *	     conform/test_ring_setup.c
 *	C42  a ring at a bad address does not start
 *	     conform/test_ring_setup.c
 *	C43  nor does one that ends outside memory
 *	     conform/test_ring_setup.c
 *	C44  a ring without kick fd is polled
 *	     conform/test_ring_setup.c
 *	C45  what waits at the start needs no kick
 *	     conform/test_ring_setup.c
 *	C46  a new call fd is signalled, the old one never again
 *	     conform/test_ring_life.c
 *	C47  without call fd packets move
 *	     conform/test_ring_life.c
 *	C48  a full call fd holds up nothing
 *	     conform/test_ring_life.c
 *	C49  enabling is remembered
 *	     conform/test_ring_setup.c
 *	C50  a disabled ring drops what is sent, delivers nothing
 *	     conform/test_ring_life.c
 *	C51  a stopped ring is not touched
 *	     conform/test_ring_life.c
 *	C52  a base may be asked for again
 *	     conform/test_ring_life.c
 *	C53  a stop and a start lose and double nothing
 *	     conform/test_ring_life.c
 *	C54  every base of a new packed ring is its beginning
 *	     conform/test_packed.c
 *	C55  a base that disagrees yields to the used ring
 *	     conform/test_ring_life.c
 *	C56  a guest without multiqueue uses pair 0
 *	     conform/test_ring_setup.c
 *	C57  addresses from before a stop are forgotten
 *	     conform/test_ring_setup.c
 *	C58  RESET_OWNER and RESET_DEVICE keep the connection
 *	     conform/test_device.c
 *	C59  status is kept; FEATURES_OK tells the truth
 *	     conform/test_device.c
 *	C60  the header is 10 or 12 bytes by features
 *	     conform/test_misc.c
 *	C61  and lies anyhow
 *	     conform/test_misc.c
 *	C62  num_buffers counts
 *	     conform/test_misc.c
 *	C63  without GUEST_* the checksum is complete
 *	     conform/test_offload.c
 *	C64  a checksum beyond the frame does no harm
 *	     conform/test_offload.c
 *	C65  segmentation that was not negotiated is dropped
 *	     conform/test_offload.c
 *	C66  loops and chains out of range do no harm
 *	     hostile/test_chain.c: test_h56_to_h71_bad_chain_to_send
 *	C67  indirect tables lie anywhere
 *	     conform/test_misc.c
 *	C68  an avail index too far ahead stops its ring alone
 *	     hostile/test_ring.c: test_h72_r8_avail_index_beyond_the_ring_stops_the_queue
 *	C69  signals follow event index or flag
 *	     conform/test_misc.c
 *	C70  packed rings of any size wrap
 *	     conform/test_packed.c
 *	C71  buffers come back in order
 *	     conform/test_in_order.c
 *	C72  a guest that races its device does no harm
 *	     hostile/test_ring.c
 *	C73  SET_LOG_BASE is echoed; its size and offset hold
 *	     conform/test_log.c
 *	C74  every byte written is logged
 *	     conform/test_log.c
 *	C75  a ring without the log flag logs payload alone
 *	     conform/test_log.c
 *	C76  nothing is logged behind the end
 *	     conform/test_log.c
 *	C77  SEND_RARP puts one frame into the stream
 *	     conform/test_device.c
 *	C78  NET_SET_MTU is the MTU of the port
 *	     conform/test_device.c
 *	C79  either side restarts
 *	     conform/test_restart.c
 *	C80  a killed front-end makes room for the next
 *	     hostile/test_vanish.c
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

/** Connect again and negotiate, without a guest. */
static inline void
conform_renegotiate(struct rig *rig)
{
	fe_close(&rig->fe);
	fe_connect(&rig->fe, rig->port.path);
	nic_negotiate(&rig->nic);
}

/**
 * Two pairs of rings, whose front-end sets them up the way that @p config names, carry traffic over
 * stops and a new connection.
 */
static inline void
conform_run_in_order(const struct rig_config *config)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, config);
	for (i = 0; i < 3; i++) {
		rig_exchange(rig, 0, 300);
		rig_exchange(rig, 1, 300);
		nic_stop(&rig->nic);
		nic_start(&rig->nic);
		port_wait_link(&rig->port, true);
	}
	rig_hang_up(rig);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 64);
	rig_exchange(rig, 1, 64);
}

/** Options that make front-ends send whole tables: SET_MEM_TABLE instead of ADD_MEM_REG. */
#define CONFORM_WHOLE_TABLES .without_protocol = BIT(VU_PF_CONFIGURE_MEM_SLOTS)

#endif /* DYNVHOST_CONFORM_H */
