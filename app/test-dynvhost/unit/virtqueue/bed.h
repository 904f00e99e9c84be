/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_VQ_BED_H
#define DYNVHOST_TEST_VQ_BED_H

/**
 * @file
 * One virtqueue under test, between a mock guest and mempools; its ring is bed_ring.h's.
 *
 * The guest's side is written with bed_send() and bed_offer(). Before the virtqueue moves anything
 * the test calls bed_freeze(), which copies all of guest memory. Then it says what it expects
 * (bed_expect_*), which is also applied to the copy. In the end every byte is compared, and whatever
 * was written that nobody expected fails the test: by bed_expect_memory(), before the guest's next
 * move, and by the teardown, which also counts the mbufs. With a dirty log, what was logged since
 * bed_freeze() must be exactly the pages of what was expected.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <rte_mbuf.h>

#include "bed_ring.h"
#include "guest_ram.h"
#include "packed_ring.h"
#include "split_ring.h"
#include "virtqueue.h"

/** Ring numbers, which choose the direction. */
#define BED_ENQUEUE 0
#define BED_DEQUEUE 1

#define BED_V1         (1ULL << VIRTIO_F_VERSION_1)
#define BED_MRG        (1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define BED_EVENT      (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define BED_INDIRECT   (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define BED_IN_ORDER   (1ULL << VIRTIO_F_IN_ORDER)
#define BED_PACKED     (1ULL << VIRTIO_F_RING_PACKED)
#define BED_CSUM       (1ULL << VIRTIO_NET_F_CSUM)
#define BED_HOST_TSO   ((1ULL << VIRTIO_NET_F_HOST_TSO4) | (1ULL << VIRTIO_NET_F_HOST_TSO6))
#define BED_HOST_ECN   (1ULL << VIRTIO_NET_F_HOST_ECN)
#define BED_HOST_UFO   (1ULL << VIRTIO_NET_F_HOST_UFO)
#define BED_GUEST_CSUM (1ULL << VIRTIO_NET_F_GUEST_CSUM)
#define BED_GUEST_TSO  ((1ULL << VIRTIO_NET_F_GUEST_TSO4) | (1ULL << VIRTIO_NET_F_GUEST_TSO6))
#define BED_GUEST_ECN  (1ULL << VIRTIO_NET_F_GUEST_ECN)
#define BED_GUEST_UFO  (1ULL << VIRTIO_NET_F_GUEST_UFO)

#define BED_HDR_LEN 12 /**< with BED_V1 or BED_MRG */

#define BED_PORT_ID    7
#define BED_RAM        (4ULL << 20)
#define BED_ROOM       2048u /**< data room of bed_pool() */
#define BED_SMALL_ROOM 64u   /**< data room of bed_small_pool() */
#define BED_MAX_CUTS   2048
#define BED_MAX_BURST  256
#define BED_LOG_SIZE   (32u << 10)
/** gpa that the front-end wants the used area logged at: elements begin with a page. */
#define BED_LOG_USED ((512ULL << 20) - 4)

struct bed_config {
	uint16_t index;    /**< BED_ENQUEUE or BED_DEQUEUE */
	uint64_t features; /**< besides those of the format */
	uint16_t size;     /**< 0: 256 */
	uint16_t start;    /**< entries used before the test */
	bool calls;        /**< with a call fd */
	bool stopped;      /**< leave it to the test to start the virtqueue */
	bool log;          /**< with a dirty log, for packets and ring */
	struct dynvhost_mem_config mem;
	void (*lay_out)(struct guest_ram *ram); /**< NULL: one region of BED_RAM at gpa 0 */
	uint64_t
		buffers_from; /**< where buffers are placed, over region borders too; 0: region 0 */
	uint64_t buffers_to;
};

/** What the guest has made available under one head. */
struct bed_buffer {
	struct ring_piece *piece;
	uint16_t n;
	uint64_t len;
};

struct bed {
	struct bed_config config;
	struct guest_ram ram;
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct split_ring split; /**< this one or the other, by bed_format */
	struct packed_ring packed;
	struct dynvhost_vq vq;
	struct dynvhost_vq_setup setup;
	struct bed_buffer *buffer;            /**< by head */
	uint8_t *frozen[GUEST_RAM_MAX_FILES]; /**< copies of the files; NULL: not frozen */
	struct bed_log {
		int fd;                       /**< -1: none */
		struct dynvhost_mem_log *log; /**< mapped by the virtqueue's side */
		_Atomic uint64_t *bits;       /**< the front-end's own view of it */
		uint8_t expected[BED_LOG_SIZE];
		bool in_ring; /**< what is expected now is written to the ring */
	} log;
	unsigned int pools_full[2];           /**< mbufs in the pools when the test began */
	struct rte_mbuf *pkts[BED_MAX_BURST]; /**< what bed_dequeue() got */
	uint64_t next_gpa; /**< of what bed_take() gives, when not from a region */
	uint32_t seed;
};

#define BED_TEST(test) cmocka_unit_test_teardown(test, bed_teardown)

/** Group fixtures: EAL and the pools. */
int bed_group_setup(void **state);
int bed_group_teardown(void **state);

/** Run an array of tests, as main() does. Entries that are all zero are no tests. */
#define bed_run(tests)                             \
	(cmocka_set_message_output(CM_OUTPUT_TAP), \
		cmocka_run_group_tests(tests, bed_group_setup, bed_group_teardown))

/** Checks that memory is as expected and that no mbuf is missing; closes the bed. */
int bed_teardown(void **state);

/** Lay out the bed of the running test, and start the virtqueue. */
struct bed *bed_open(const struct bed_config *config);

/** The mbufs have BED_ROOM or BED_SMALL_ROOM bytes each. */
struct rte_mempool *bed_pool(void);
struct rte_mempool *bed_small_pool(void);

/** For bed_config: two files side by side from gpa 0, 1 MiB each, whose windows are not. */
void bed_lay_out_neighbours(struct guest_ram *ram);

/** A view of the guest's memory as it is laid out now. */
struct dynvhost_mem_view *bed_build_view(struct bed *bed);

/* --- the guest's side --- */

/** Take memory from where buffers are placed. */
uint64_t bed_take(struct bed *bed, uint64_t size, uint64_t align);

/** Take memory for a buffer of the given pieces, with gaps between them, filled with 0xa5. */
void bed_place(
	struct bed *bed, const uint32_t *cut, uint16_t n, bool writable, struct ring_piece *piece);

/** Make pieces available as one buffer. @return its head. */
uint16_t bed_add(struct bed *bed, enum bed_shape shape, const struct ring_piece *piece, uint16_t n);

/** Make pieces available as one buffer, by an indirect table at @p table. @return its head. */
uint16_t bed_add_table(struct bed *bed, const struct ring_piece *piece, uint16_t n, uint64_t table);

/**
 * Send a frame whose header and bytes are cut into pieces of the given lengths; the header is all
 * 0xff. The frame's bytes follow from @p seed and its length. @return the head.
 */
uint16_t
bed_send(struct bed *bed, enum bed_shape shape, const uint32_t *cut, uint16_t n, uint32_t seed);

/** Send the bytes, which begin with a header, cut into pieces of the given lengths. @return the head. */
uint16_t bed_send_bytes(
	struct bed *bed, enum bed_shape shape, const uint32_t *cut, uint16_t n, const void *bytes);

/** bed_send() of @p frame_len bytes in one direct piece. */
uint16_t bed_send_plain(struct bed *bed, uint32_t frame_len, uint32_t seed);

/** Offer a buffer cut into pieces of the given lengths. @return the head. */
uint16_t bed_offer(struct bed *bed, enum bed_shape shape, const uint32_t *cut, uint16_t n);

/** bed_offer() of one direct piece. */
uint16_t bed_offer_plain(struct bed *bed, uint32_t len);

/* --- the host's side --- */

/** Stop the virtqueue and start it where it stopped. @return its position. */
uint32_t bed_restart(struct bed *bed);

/** One burst into bed->pkts. */
uint16_t bed_dequeue(struct bed *bed, struct rte_mempool *pool, uint16_t n);

/** Send @p n short packets and take them in one burst, which must return them all. */
void bed_pass(struct bed *bed, uint16_t n);

/** A packet of @p len bytes in mbufs of @p seg_len each (0: one). */
struct rte_mbuf *
bed_packet(struct rte_mempool *pool, uint32_t len, uint32_t seg_len, uint32_t seed);

/** One burst of one packet. What is not consumed is freed. @return packets consumed. */
uint16_t bed_enqueue(struct bed *bed, struct rte_mbuf *pkt);

/** Make the pages of [gpa, gpa + len) impossible to open, or what they were again. */
void bed_block(struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right);
void bed_unblock(struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right);

/** Let the stall of the next chain have begun so long ago that its time is up. */
void bed_age_stall(struct bed *bed);

/* --- expectations --- */

/** Copy guest memory: from here on only what is expected may change. */
void bed_freeze(struct bed *bed);

/** Give up the copy, unseen. */
void bed_thaw(struct bed *bed);

/** Whether guest memory is what was copied and expected since; true without a copy. */
bool bed_memory_matches(const struct bed *bed);

/** Write to the copy of guest memory, which must have been frozen. */
void bed_write_frozen(struct bed *bed, uint64_t gpa, const void *bytes, uint64_t len);

/** Begin to log, or to log in a new log. */
void bed_start_log(struct bed *bed, bool ring);

/** Stop logging, and unmap the log. */
void bed_stop_log(struct bed *bed);

/** Forget what was logged and what was expected of it. */
void bed_clear_log(struct bed *bed);

/** Expect that the pages of [gpa, gpa + len) have been logged. */
void bed_expect_logged(struct bed *bed, uint64_t gpa, uint64_t len);

/** Compare the log with all that was expected. */
void bed_expect_log(const struct bed *bed);

/** Expect that the device has returned @p head, with @p len bytes written. */
void bed_expect_used(struct bed *bed, uint16_t head, uint32_t len);

/** Expect that the device has returned nothing more. */
void bed_expect_no_used(struct bed *bed);

/** Expect bytes at the front of an offered buffer, from @p offset on. */
void bed_expect_written(
	struct bed *bed, uint16_t head, uint64_t offset, const void *bytes, uint64_t len);

/** Expect a frame and its header in these buffers, each but the last filled, and their return. */
void bed_expect_delivered(
	struct bed *bed, uint32_t frame_len, uint32_t seed, const uint16_t *head, uint16_t n);

/** Compare all of guest memory, which must have been frozen. It is frozen no longer. */
void bed_expect_memory(struct bed *bed);

/** Compare the segments, fields and bytes of a received packet, and free it. */
void bed_expect_packet(struct rte_mbuf *pkt, uint32_t len, uint32_t seed, uint32_t room);

/** Compare all counters. */
void bed_expect_stats(const struct bed *bed, struct dynvhost_vq_stats expected);

/** Expect a queue that was stopped by @p fault and moves nothing any more. */
void bed_expect_broken(struct bed *bed, enum dynvhost_vq_fault fault);

/** What guest memory counts. */
struct dynvhost_mem_stats bed_mem_stats(const struct bed *bed);

/** Signals on the call fd since the last look. */
uint64_t bed_calls(struct bed *bed);

#endif /* DYNVHOST_TEST_VQ_BED_H */
