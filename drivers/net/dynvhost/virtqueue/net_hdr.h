/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_NET_HDR_H
#define DYNVHOST_NET_HDR_H

/**
 * @file
 * The virtio-net header before each packet (virtio 1.2 §5.1.6).
 *
 * No offload is offered to the guest: what a guest writes into the header of a packet it sends
 * means nothing and is not read, and a header written for the guest says that nothing is left to do.
 */

#include <stdint.h>
#include <string.h>

#include <linux/virtio_net.h>

/**
 * Make the header of a packet for the guest.
 *
 * @param num_buffers  buffers the packet takes; 1 where buffers are not merged (virtio 1.2
 *                     §5.1.6.4). Lies beyond the end of the 10-byte header.
 */
static inline void
net_hdr_fill(struct virtio_net_hdr_v1 *hdr, uint16_t num_buffers)
{
	memset(hdr, 0, sizeof(*hdr));
	hdr->num_buffers = num_buffers;
}

#endif /* DYNVHOST_NET_HDR_H */
