/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_FRAME_H
#define DYNVHOST_MOCK_FRAME_H

/**
 * @file
 * Ethernet frames with IP in them, and their checksums, written from the RFCs alone: what offloads
 * are judged by.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_TCP  6
#define FRAME_UDP  17
#define FRAME_SCTP 132

#define FRAME_TAG 0x2abc /**< the tag of tagged frames */

/** TCP flags of a frame. */
#define FRAME_TCP_ACK 0x10
#define FRAME_TCP_CWR 0x80

struct frame_spec {
	bool tagged;
	bool ipv6;
	bool fragment;      /**< IPv4: says that more follow */
	uint8_t proto;      /**< FRAME_TCP … or any other, which has no header here */
	uint8_t ip_options; /**< IPv4: bytes, of 4; IPv6: bytes of extension headers, of 8 */
	uint8_t l4_options; /**< TCP: bytes, of 4 */
	uint8_t tcp_flags;  /**< 0: FRAME_TCP_ACK */
	uint32_t payload;   /**< bytes behind all headers */
	uint32_t seed;      /**< of the payload */
};

struct frame {
	const uint8_t *data; /**< where frame_build() was told to write */
	uint32_t len;
	uint16_t l2_len;
	uint16_t l3_len;
	uint16_t l4_len;
	uint16_t l4_at;       /**< where the layer 4 header is */
	uint16_t csum_offset; /**< of the checksum in it; 0: none that is a sum */
};

/** How many frame_kind() tells apart. */
#define FRAME_KINDS 16

/** TCP and UDP with and without all that may stand before them: kind @p i of FRAME_KINDS. */
struct frame_spec frame_kind(unsigned int i);

/** Build a frame with all its checksums. @p data must have room for it. */
struct frame frame_build(uint8_t *data, const struct frame_spec *spec);

/** Put the sum of the pseudo-header where the checksum is, as virtio 1.2 §5.1.6.2 has it. */
void frame_make_partial(uint8_t *data, const struct frame *frame);

/** Ones' complement sum of bytes, 16 bits, in the order of the network. */
uint16_t frame_sum(const uint8_t *data, size_t len);

/** Whether the layer 4 checksum, the one of IPv4 too, is right. */
bool frame_is_complete(const uint8_t *data, const struct frame *frame);

#endif /* DYNVHOST_MOCK_FRAME_H */
