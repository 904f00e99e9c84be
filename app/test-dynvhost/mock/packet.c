/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "packet.h"

/* Locally administered addresses and the ethertype for local experiments (IEEE 802, 0x88b5). */
static const uint8_t packet_head[14] = {0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, 0x88, 0xb5};

/* Byte @p i of a packet: linear congruential steps would repeat along a page, a mix does not. */
static uint8_t
packet_byte(uint32_t i, uint32_t len, uint32_t seed)
{
	uint32_t x = (seed * 2654435761u) ^ (i * 2246822519u) ^ (len * 3266489917u);

	x ^= x >> 15;
	x *= 2246822519u;
	x ^= x >> 13;
	return (uint8_t)x;
}

void
packet_fill(uint8_t *data, uint32_t len, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < len; i++) {
		data[i] = i < sizeof(packet_head) ? packet_head[i] : packet_byte(i, len, seed);
	}
}

bool
packet_matches(const uint8_t *data, uint32_t len, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < len; i++) {
		uint8_t byte = i < sizeof(packet_head) ? packet_head[i] : packet_byte(i, len, seed);

		if (data[i] != byte)
			return false;
	}
	return true;
}
