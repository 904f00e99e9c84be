/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_DIFF_H
#define DYNVHOST_DIFF_H

/**
 * @file
 * net_dynvhost beside DPDK's net_vhost: two ports in one process, each with a mock guest of its own,
 * and whatever one guest or one application does, the other does too. What comes of it must be the
 * same: packets, their flags and lengths, used rings, headers. What is meant to differ is in the
 * table of test_intended.c.
 *
 * Both guests have the same memory at the same guest addresses, and their rings stand at the same
 * place, so that used entries can be compared as they are.
 */

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "guest_nic.h"
#include "packet.h"
#include "port.h"

enum diff_driver { DIFF_VHOST, DIFF_DYNVHOST, DIFF_SIDES };

#define DIFF_MAX_RING   256u
#define DIFF_MAX_PIECES 16u
#define DIFF_MAX_BURST  8u

#define DIFF_FOREACH(d, side) \
	for (struct diff_side *side = (d)->side; side < (d)->side + DIFF_SIDES; side++)

struct diff_config {
	const char *devargs;  /**< of both drivers */
	uint64_t features;    /**< negotiated */
	uint64_t rx_offloads; /**< configured */
	uint64_t tx_offloads;
	uint16_t ring_size;
	uint16_t start_index;
};

/** A receive buffer that a guest has offered. */
struct diff_buffer {
	struct ring_piece piece[DIFF_MAX_PIECES];
	uint16_t n;
};

/** What the device gave back, in its order. */
struct diff_used {
	struct ring_used entry[DIFF_MAX_RING];
	unsigned int n;
};

struct diff_side {
	struct test_port port;
	struct guest_ram ram;
	struct front_end fe;
	struct guest_nic nic;
	uint64_t send_gpa;  /**< where what is sent lies */
	uint64_t offer_gpa; /**< where receive buffers lie, one behind the other and around */
	uint64_t offered;   /**< bytes of them used so far */
	struct diff_buffer buffer[DIFF_MAX_RING]; /**< by id */
	struct rte_mbuf *pkts[DIFF_MAX_RING];     /**< received */
	unsigned int n_pkts;
	struct diff_used used; /**< of the ring looked at last */
	uint64_t n_refused;    /**< times that guest memory could not be opened, by the last look */
};

struct diff {
	bool open;
	struct diff_config config;
	struct diff_side side[DIFF_SIDES];
	uint64_t sent_bytes; /**< of the step */
};

/** A packet from the application. */
struct diff_packet {
	const uint8_t *data;
	uint32_t len;
	uint32_t first_len; /**< bytes of the first mbuf; 0: as many as it holds */
	uint64_t ol_flags;
	uint16_t l2_len, l3_len, l4_len, tso_segsz, vlan_tci;
	uint32_t packet_type;
	uint32_t
		ignore_at; /**< two bytes of the frame, as sent, that need not be the same; 0: none */
};

/** What a guest got. */
struct diff_delivery {
	struct virtio_net_hdr_v1 hdr;
	uint32_t len; /**< of the frame */
	uint8_t data[PACKET_MAX];
};

/** Ports, guests, rings, links up on both sides. Ends the test if that fails. */
void diff_open(struct diff *d, const struct diff_config *config);
void diff_close(struct diff *d);

/**
 * Both guests send @p bytes, header first, cut into @p n pieces; those after @p n_direct in an
 * indirect table. @return false: there is no room, and nothing was sent.
 */
bool
diff_send(struct diff *d, const uint8_t *bytes, const uint32_t *cut, uint16_t n, uint16_t n_direct);

/** Both guests offer a receive buffer. @return false: no room. */
bool diff_offer(struct diff *d, const uint32_t *cut, uint16_t n, uint16_t n_direct);

/** Descriptors that are free in the ring on which guests receive. */
uint16_t diff_offer_room(const struct diff *d);

/** Both applications receive all that was sent; what each got stays in side->pkts and ->used. */
void diff_receive(struct diff *d);

/** Descriptors of what a guest has sent that have not come back. */
uint16_t diff_unsent(const struct diff_side *side);

/** Free side->pkts. */
void diff_free(struct diff *d);

/**
 * Both applications send one burst; where net_dynvhost's comes out short because it could not open
 * guest memory at that moment, its application sends the rest again.
 * @param taken  receives how many each driver has taken.
 */
void diff_transmit(struct diff *d, const struct diff_packet *packet, uint16_t n, uint16_t *taken);

/** Only that of net_dynvhost sends a packet. @return packets taken. */
uint16_t diff_transmit_here(struct diff *d, const struct diff_packet *packet);

/**
 * Take one packet out of what a guest was given back last, from used entry @p at on.
 * @return the entries that it took; 0: there is none.
 */
unsigned int diff_deliver(struct diff_side *side, unsigned int at, struct diff_delivery *delivery);

#endif /* DYNVHOST_DIFF_H */
