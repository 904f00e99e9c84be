/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_BENCH_BURST_H
#define DYNVHOST_BENCH_BURST_H

/**
 * @file
 * What the files of bench_burst share. The program is its own guest: it attaches ports of several
 * drivers at once, is the vhost-user front-end of each, and measures them in turns, sample by
 * sample, so that whatever else the machine does happens to all of them.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "front_end.h"
#include "guest_ram.h"

/** Packets of one burst at most. */
#define BURST_MAX 256u
/** Ports that are compared at most. */
#define BURST_MAX_PORTS 4u
/** Bytes from one guest buffer to the next: a DPDK guest's mbuf. */
#define BURST_STRIDE 2304u
/** The virtio-net header that all measured feature sets have. */
#define BURST_HDR_LEN 12u
/** Largest frame measured. */
#define BURST_MAX_LEN 1518u

/** What the guest does with the bytes of a packet. */
enum burst_touch { BURST_TOUCH_NONE, BURST_TOUCH_FIRST, BURST_TOUCH_ALL };

/** Which way packets go. */
enum burst_dir {
	BURST_RX,    /**< from guest to host: rx bursts */
	BURST_TX,    /**< from host to guest: tx bursts */
	BURST_EMPTY, /**< nowhere: rx bursts that find nothing */
	BURST_LOOP,  /**< one at a time from the guest to the host and back */
};

/** One thing to measure. */
struct burst_shape {
	char name[64];
	enum burst_dir dir;
	uint32_t gap_ns; /**< loop: how long the guest rests before each packet */
	uint32_t len;    /**< of each frame; 0: IMIX, 7:4:1 of 64, 576 and 1500 */
	bool packed;
	bool in_order;
	bool mergeable;
	bool csum;
	bool event_idx;
	uint16_t burst;
	uint16_t ring;    /**< descriptors */
	uint32_t buffers; /**< of the guest, taken in turn: 256 stay in cache, 20000 do not */
	enum burst_touch touch;
	uint32_t data_at; /**< of a frame in its buffer: 12 (Linux) or 128 (DPDK) */
	uint32_t regions; /**< the buffers lie in */
	uint64_t page;    /**< of guest memory */
	uint64_t memory;  /**< of the guest, the buffers all over it; 0: as little as will do */
	uint32_t ports;   /**< one core: polled in turn, each with a guest of its own */
};

/** One virtqueue, the driver's side of it. Returned buffers come back in order. */
struct burst_ring {
	const struct burst_shape *shape;
	bool writable; /**< the device writes the buffers */
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	/* split */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_idx, used_idx;
	/* packed */
	struct vring_packed_desc *packed;
	struct vring_packed_desc_event *driver_event;
	uint16_t slot, used_slot;
	bool wrap, used_wrap;
	/* buffers */
	uint64_t *buf_gpa;
	uint8_t **buf_hva;
	uint32_t n_bufs;
	uint32_t next_buf; /**< to be made available */
	uint32_t back_buf; /**< the first of those that are with the device */
	uint32_t out;      /**< how many these are */
	uint32_t last_len; /**< how much was written into the one that came back last */
	int kick_fd, call_fd;
};

/** A port with the guest behind it. */
struct burst_port {
	const char *spec; /**< "driver" or "driver,key=value,…" */
	char name[48];    /**< of the device */
	char path[96];
	uint16_t id;
	struct rte_mempool *pool; /**< not the port's own */
	struct guest_ram ram;
	struct front_end fe;
	struct burst_ring ring[2]; /**< 0: the guest receives, 1: it transmits */
};

/** How long and how often to measure. */
struct burst_plan {
	unsigned int samples; /**< of each port and shape */
	unsigned int packets; /**< of each sample */
	unsigned int ms;      /**< of each sample with two cores */
	bool mean;            /**< of all bursts and samples, not what most of them had */
	int guest_cpu;        /**< of the guest's thread; -1: there is only one CPU */
};

/** The lengths of frames, in turn. */
static inline uint32_t
burst_len(const struct burst_shape *shape, uint32_t i)
{
	/* Mixed so that neighbours differ, as on a link. */
	static const uint16_t imix[12] = {64, 576, 64, 64, 1500, 64, 576, 64, 576, 64, 64, 576};

	return shape->len != 0 ? shape->len : imix[i % 12];
}

/**
 * Read "key=value,…" over the defaults. @return false: a line on stderr says what is wrong.
 *
 *	name=TEXT                  for the output; the shape's words
 *	dir=rx|tx|empty|loop       as enum burst_dir
 *	gap=NS                     rest of the guest before each packet of a loop; 0
 *	size=60..1518|imix         of frames; 64
 *	format=split|packed        of the ring; split
 *	inorder, mrg, csum, event  =0|1, features that are negotiated; 0
 *	burst=1..256, ring=2..32768, buffers=N   32, 256 and 256
 *	touch=none|first|all       lines of a frame that the guest reads or writes; none
 *	at=12..256                 where a frame is in its buffer; 128
 *	regions=1..509, page=4K|2M, memory=SIZE  one, 2M and what is needed
 *	ports=1..RTE_MAX_ETHPORTS  one
 */
bool burst_shape_parse(struct burst_shape *shape, const char *text);

/**
 * Start EAL, on the first CPU we may run on.
 * @param simd_bits  the widest registers that drivers may use; 0: any.
 * @return the last CPU we may run on, or -1 if there is no other.
 */
int burst_eal_init(unsigned int simd_bits);

/** Take down what burst_eal_init() made. */
void burst_eal_fini(void);

/** Attach a port, and its guest as the shape has it. @return false: a feature is not offered. */
bool burst_port_open(struct burst_port *port, const char *spec, const struct burst_shape *shape);

/** Take the guest and the port away. */
void burst_port_close(struct burst_port *port);

/** Lay the guest's memory out, connect and bring the device up. @return as burst_port_open(). */
bool burst_guest_open(struct burst_port *port, const struct burst_shape *shape);
void burst_guest_close(struct burst_port *port);

/** Move frames of all lengths in both directions and compare every byte. Ends the program if one
 * is wrong. Also opens all that is opened on demand.
 */
void burst_check(struct burst_port *port, const struct burst_shape *shape);

/** What one sample measured. */
struct burst_sample {
	double value;      /**< one core: cycles per packet; two: millions of packets per second;
			    * loop: nanoseconds, the median */
	double tail;       /**< loop: nanoseconds, the 99th percentile */
	double cycles;     /**< two cores: cycles per packet in bursts that were not empty */
	double burst;      /**< two cores: packets of a burst that was not empty */
	double empty;      /**< two cores: share of bursts that moved nothing */
	double stalls;     /**< two cores: share of the guest's turns that found nothing to do */
	double round_trip; /**< two cores: nanoseconds, of a cache line */
	bool valid;
};

/** Measure the burst call on this core; the guest's part is done by the same thread, untimed.
 * @param port  as many as the shape has.
 */
struct burst_sample
burst_one(struct burst_port *port, const struct burst_shape *shape, const struct burst_plan *plan);

/** Both cores at full speed, the guest on plan->guest_cpu. */
struct burst_sample
burst_two(struct burst_port *port, const struct burst_shape *shape, const struct burst_plan *plan);

/** One packet at a time through a loop; the guest on this core too, or on plan->guest_cpu. */
struct burst_sample burst_loop(struct burst_port *port, const struct burst_shape *shape,
	const struct burst_plan *plan, bool two);

/** Sorts @p v. */
double burst_median(double *v, unsigned int n);

#endif /* DYNVHOST_BENCH_BURST_H */
