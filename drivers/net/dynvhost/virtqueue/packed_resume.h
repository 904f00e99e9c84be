/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_PACKED_RESUME_H
#define DYNVHOST_PACKED_RESUME_H

/**
 * @file
 * Where to go on in a packed ring whose last back-end did not live to say where it stopped.
 *
 * A front-end whose back-end dies knows no position but that of the last start; in a split ring the
 * used index says the rest. In a packed one the descriptors have to say it. Each has two bits:
 *
 *	AVAIL  differs from one slot to the next in one place of the ring, where the driver will
 *	       write next: slots before it are of the driver's round, those from it on of the last
 *	USED   equals AVAIL in every slot that we have given back, and in no other
 *
 * So our position is where the slots that are not used begin that end at the driver's. The second
 * rule holds because we mark every slot of a chain, the last one first, while the driver needs only
 * the first to be marked. Other back-ends do not; therefore a ring that we work on bears a mark of
 * ours, in the field of the device event area that no driver reads while the event's flags say on or
 * off. In a ring without the mark the front-end's word holds.
 *
 * A burst that was not published when the back-end died is published now, as if nothing had been sent
 * or written. All of its used descriptors but the first may be there, or, of a chain, marks from the last
 * slot on, its first one bearing the id. The same is true of us, should we die meanwhile. The guest need
 * not hold still: what it adds behind the place where it was found to write is of another round.
 *
 * QEMU drops what the guest sends while there is no back-end, beginning at the position that it
 * knows, which the ring may have passed many times. If there is a buffer then that seems to be the
 * next one, it is given back before those that the driver waits for, and we are told the position
 * behind it. What was left out is given back unsent, else the driver would wait for it for ever.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "virtqueue.h"

/** The mark: `off_wrap` of the device event. */
#define PACKED_RESUME_MARK 0x4459

/**
 * Find the position in a marked ring of @p size descriptors, control's, with the queue outside. If
 * the last burst was cut off before it was published, it is published now, and what a front-end has
 * left out is given back: the driver must see the used descriptors in order.
 *
 * @param writes  the device writes to buffers of this ring.
 * @param pos     what the front-end says; receives the position.
 * @return 0, or -ENOTRECOVERABLE: the descriptors do not tell, and nothing has been written.
 */
int packed_resume(struct vring_packed_desc *desc, uint32_t size, bool writes,
	struct dynvhost_vq_packed_pos *pos);

#endif /* DYNVHOST_PACKED_RESUME_H */
