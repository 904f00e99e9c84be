/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_GUEST_NIC_H
#define DYNVHOST_MOCK_GUEST_NIC_H

/**
 * @file
 * A guest's virtio-net device as its driver and its VMM have it: guest memory, two virtqueues per
 * pair, kick and call fds, and a front-end that brings all of it up in the order of a VMM of the
 * field. Rings are packed if the guest asks for that feature, else split. Ring 2k receives (the
 * back-end writes), ring 2k + 1 transmits.
 *
 * Nothing here waits for packets: the back-end's polling may be in the same thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "front_end.h"
#include "guest_ram.h"
#include "packed_ring.h"
#include "split_ring.h"

#define NIC_MAX_PAIRS 128

#define NIC_RX(pair) (2 * (pair))
#define NIC_TX(pair) (2 * (pair) + 1)

/** Features a guest asks for unless the test says otherwise. */
#define NIC_FEATURES                                                                \
	((1ull << VIRTIO_F_VERSION_1) | (1ull << VIRTIO_NET_F_MRG_RXBUF) |          \
		(1ull << VIRTIO_RING_F_INDIRECT_DESC) | (1ull << VIRTIO_NET_F_MQ) | \
		(1ull << VU_F_PROTOCOL_FEATURES))

/** In which order, and with which protocol features, the messages of a start come. */
enum nic_order {
	NIC_ORDER_QEMU_72,          /**< QEMU 7.2 */
	NIC_ORDER_QEMU_25,          /**< QEMU 2.5: no REPLY_ACK, each pair enabled last */
	NIC_ORDER_QEMU_10,          /**< QEMU 10: error fds, MTU, more acknowledgements */
	NIC_ORDER_CLOUD_HYPERVISOR, /**< every message with NEED_REPLY, addresses before base */
	NIC_ORDER_RUST_VMM, /**< front-ends on rust-vmm: one ring after the other, enabled last */
	NIC_ORDER_VIRTIO_USER, /**< DPDK's virtio_user: all receive rings, then all others */
	NIC_N_ORDERS
};

struct nic_config {
	enum nic_order order;
	unsigned int n_pairs;       /**< 0: 1 */
	uint16_t ring_size;         /**< 0: 256 */
	uint16_t start_index;       /**< value that ring indices start from; packed: in slots */
	uint32_t buf_len;           /**< bytes of each buffer; 0: 2048 */
	uint64_t features;          /**< 0: NIC_FEATURES; ACCESS is limited to what is offered */
	uint64_t without_protocol;  /**< protocol features left out though offered */
	unsigned int ring_region;   /**< guest region that rings come from */
	unsigned int buffer_region; /**< guest region that buffers come from */
	bool no_kicks;              /**< never kick */
};

struct nic_ring {
	struct split_ring ring;    /**< if rings are split */
	struct packed_ring packed; /**< if they are packed */
	int kick_fd;
	int call_fd;
	uint64_t buf_gpa; /**< one buffer per descriptor, in the order of descriptors */
};

struct guest_nic {
	struct nic_config config;
	struct guest_ram *ram;
	struct front_end *fe;
	int masked_fd; /**< call fd that a VMM shows while nobody listens */
	uint64_t features;
	uint64_t protocol_features;
	uint32_t hdr_len;  /**< bytes of virtio-net header, by the features in force */
	bool regions_sent; /**< by ADD_MEM_REG, on this connection */
	struct nic_ring ring[2 * NIC_MAX_PAIRS];
};

/** What the guest received. */
struct nic_packet {
	struct virtio_net_hdr_mrg_rxbuf hdr; /**< num_buffers 0 in a header of 10 bytes */
	uint32_t len;
	uint16_t n_buffers; /**< used elements that it took */
};

/** Take rings and buffers from @p ram. Ring indices start at config->start_index. */
void nic_init(struct guest_nic *nic, struct guest_ram *ram, struct front_end *fe,
	const struct nic_config *config);

/** Close fds and free rings. Repeatable; also good for all zero bytes. */
void nic_fini(struct guest_nic *nic);

/* --- rings of either format (nic_ring.c) --- */

bool nic_is_packed(const struct guest_nic *nic);

/** Take a ring and its buffers from guest memory. */
void nic_ring_init(struct guest_nic *nic, struct nic_ring *ring);

/** Free it. Repeatable. */
void nic_ring_fini(struct nic_ring *ring);

/** What the driver does to it in a reset. */
void nic_ring_reset(struct guest_nic *nic, struct nic_ring *ring);

/** Descriptors that are free. */
uint16_t nic_ring_room(const struct guest_nic *nic, const struct nic_ring *ring);

/** Where the buffer of the descriptor lies that comes @p ahead descriptors after the next one. */
uint64_t nic_ring_buffer(const struct guest_nic *nic, const struct nic_ring *ring, uint16_t ahead);

/** Add a chain. @return what it comes back by, or -1: no room. */
int nic_ring_add(const struct guest_nic *nic, struct nic_ring *ring, const struct ring_piece *piece,
	uint16_t n);

/** Add a chain whose pieces after the first @p n_direct are in a table. */
int nic_ring_add_mixed(const struct guest_nic *nic, struct nic_ring *ring,
	const struct ring_piece *piece, uint16_t n_direct, uint16_t n, uint64_t table_gpa);

/** Let the device see what was added. */
void nic_ring_publish(const struct guest_nic *nic, struct nic_ring *ring);

/** Whether the device has returned something. */
bool nic_ring_has_used(const struct guest_nic *nic, const struct nic_ring *ring);

/** Take one buffer back, and learn where that of its first descriptor lies. @return false: none. */
bool nic_ring_collect(const struct guest_nic *nic, struct nic_ring *ring, struct ring_used *used,
	uint64_t *buffer_gpa);

/** Up to where the device has returned buffers, as GET_VRING_BASE says it. */
uint32_t nic_ring_position(const struct guest_nic *nic, const struct nic_ring *ring);

/** What the front-end tells about ring @p index. */
struct fe_ring nic_fe_ring(const struct guest_nic *nic, unsigned int index);

/* --- bringing up (bring_up.c) --- */

/** What the VMM says when the socket has connected, before any guest runs. */
void nic_negotiate(struct guest_nic *nic);

/** What the VMM says when the guest's driver is ready. Rings start where they stand. */
void nic_start(struct guest_nic *nic);

/**
 * What the VMM says when the guest stops: GET_VRING_BASE of every ring, whose answer must be the
 * position up to which the device has returned buffers.
 */
void nic_stop(struct guest_nic *nic);

/** NUM, BASE, ADDR, KICK and CALL of one ring, each acknowledged where that was negotiated. */
void nic_set_up_ring(struct guest_nic *nic, unsigned int index);

/** Tell the memory: the whole table, or region by region where CONFIGURE_MEM_SLOTS is in force. */
void nic_send_memory(struct guest_nic *nic);

/* --- traffic --- */

/** Offer receive buffers: @p n, or as many as there are free descriptors. */
void nic_post_rx(struct guest_nic *nic, unsigned int pair, unsigned int n);

/**
 * Transmit a packet, header zeroed, in pieces of buf_len.
 * @return false: the ring has no room.
 */
bool nic_send(struct guest_nic *nic, unsigned int pair, const uint8_t *data, uint32_t len);

/** Transmit @p bytes, which begin with the header, cut into pieces of the given lengths. */
bool nic_send_cut(struct guest_nic *nic, unsigned int pair, const uint8_t *bytes,
	const uint32_t *cut, uint16_t n_cuts);

/** Take back transmitted buffers; each must say that nothing was written. @return how many. */
unsigned int nic_reap_tx(struct guest_nic *nic, unsigned int pair);

/**
 * Receive one packet if there is one, and offer its buffers again. All but the last buffer must be
 * full, and all must have been returned together.
 * @return false: nothing there.
 */
bool nic_receive(struct guest_nic *nic, unsigned int pair, uint8_t *data, uint32_t room,
	struct nic_packet *packet);

/** Kick a ring, whether or not the device asks for it. */
void nic_kick(struct guest_nic *nic, unsigned int index);

/** Signals that came on a ring's call fd since the last look. */
uint64_t nic_calls(struct guest_nic *nic, unsigned int index);

/** Signals on an eventfd since the last look. */
uint64_t nic_read_eventfd(int fd);

#endif /* DYNVHOST_MOCK_GUEST_NIC_H */
