/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_PACKET_H
#define DYNVHOST_MOCK_PACKET_H

/**
 * @file
 * Packets that can be told apart: an Ethernet header, then bytes that follow from a seed. A packet
 * that comes back shortened, torn, mixed with another or shifted by a byte does not match its seed.
 */

#include <stdbool.h>
#include <stdint.h>

/** The shortest packet that carries a seed's mark. */
#define PACKET_MIN 60
/** The longest packet of these tests. */
#define PACKET_MAX 70000

/** Write a packet of @p len bytes. */
void packet_fill(uint8_t *data, uint32_t len, uint32_t seed);

/** Whether @p data is the packet of @p len bytes that packet_fill() wrote for @p seed. */
bool packet_matches(const uint8_t *data, uint32_t len, uint32_t seed);

#endif /* DYNVHOST_MOCK_PACKET_H */
