/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_FUZZ_FRONT_H
#define DYNVHOST_TEST_FUZZ_FRONT_H

/**
 * @file
 * The bed of the front-end target: a back-end with its session, rings and guest memory, served by the
 * calling thread in place of the control thread, so that the same input does the same; and the front
 * end's side of it: guest memory, fds of many kinds, and rings that a start can name.
 *
 * Time is the bed's own: it stands still until front_wait().
 */

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "front_end.h"
#include "gate.h"
#include "guest_ram.h"
#include "packed_ring.h"
#include "split_ring.h"
#include "virtqueue.h"

#define FRONT_RINGS    4u
#define FRONT_SIZE     16u          /**< of the rings */
#define FRONT_RAM      (256u << 10) /**< in regions of FRONT_REGION */
#define FRONT_REGION   (64u << 10)
#define FRONT_BUFFERS  0x10000u /**< gpa of a ring's buffers: one page each, one after the other */
#define FRONT_LOG_SIZE 4096u
/** The longest payload of any request: a configuration space (vhost-user.rst). */
#define FRONT_MAX_PAYLOAD 268u

/** Kinds of fds that a front-end may send. */
enum front_fd {
	FRONT_FD_EVENT,
	FRONT_FD_MEMORY, /**< of the guest's first file */
	FRONT_FD_OTHER,  /**< of its second one */
	FRONT_FD_LOG,
	FRONT_FD_SMALL, /**< memory of less than a page */
	FRONT_FD_READ_ONLY,
	FRONT_FD_SOCKET,
	FRONT_FD_PIPE,
	FRONT_FD_FOLDER,
	FRONT_FD_ZERO, /**< a device */
	FRONT_FDS
};

/** How page tables are changed; each has a back-end of its own. */
enum front_engine {
	FRONT_UFFD,
	FRONT_MMAP,
	FRONT_COARSE, /**< uffd, several pages at a time */
	FRONT_ENGINES
};

struct front {
	struct dynvhost_backend *backend;
	struct dynvhost_mem *mem;
	struct dynvhost_vq vq[FRONT_RINGS];
	struct dynvhost_gate gate[FRONT_RINGS];
	struct dynvhost_gate *gates[FRONT_RINGS];
	struct front_end fe;  /**< sock -1: not connected */
	struct guest_ram ram; /**< of the input at hand */
	int fd[FRONT_FDS];    /**< likewise */
	int asker;            /**< our end of FRONT_FD_SOCKET */
	struct split_ring split[FRONT_RINGS];
	struct packed_ring packed[FRONT_RINGS];
	unsigned int sent;    /**< messages of this connection, at most */
	unsigned int replies; /**< that were read */
	unsigned int due;     /**< replies, as long as it is known where messages end */
	bool rambles;         /**< that is not known any more */
	uint64_t now_us;
};

/** Make the back-ends. Ends the process if that fails. */
void front_init(void);

/** The bed for one input, connected. */
struct front *front_open(enum front_engine engine);

/** Hang up, and check that nothing is left. */
void front_close(struct front *front);

/** Connect, after hanging up if need be. */
void front_connect(struct front *front);
void front_hang_up(struct front *front);

/**
 * Whether a message breaks the frame of its request (vhost-user.rst), so that the connection must
 * end. That a payload is as long as the header says is not judged here.
 */
bool front_breaks_frame(const struct vu_header *header, uint32_t n_fds);

/** Have the back-end read and do what there is, and wait until it has. */
void front_serve(struct front *front);

/** Let time pass, and have the back-end look after things. */
void front_wait(struct front *front, uint64_t us);

/** Read and check what the back-end has answered: to each message that is due an answer, and once. */
void front_read(struct front *front);

/** Send bytes with fds, unless the back-end has hung up. They are not served yet. */
void front_send(struct front *front, const void *bytes, size_t len, const int *fd, uint32_t n_fds);

/**
 * Send a message and have it served. One whose frame is wrong must end the connection.
 *
 * @param len  of the payload; the header may say something else.
 */
void front_say_as(struct front *front, const struct vu_header *header, const void *payload,
	size_t len, const int *fd, uint32_t n_fds);

/** As front_say_as(), with a header that agrees. */
void front_say(struct front *front, uint32_t request, uint32_t flags, const void *payload,
	size_t len, const int *fd, uint32_t n_fds);

/** Put all rings into their places, empty. */
void front_lay_rings(struct front *front, bool packed);

/** The addresses of a ring in its place, as SET_VRING_ADDR has them. */
struct vu_vring_addr front_ring_addr(const struct front *front, uint32_t ring, bool packed);

/** How a start is made. */
#define FRONT_START_PACKED 0x01u
#define FRONT_START_IOMMU  0x02u
#define FRONT_START_LOG    0x04u
#define FRONT_START_SLOTS  0x08u /* memory comes region by region */
#define FRONT_START_EVENT  0x10u
#define FRONT_START_OLD    0x20u /* without protocol features */
#define FRONT_START_NO_MRG 0x40u
#define FRONT_START_ACKS   0x80u /* everything is to be acknowledged */

/** Put the rings into their places and say all that it takes for them to run, as these bits want it. */
void front_start(struct front *front, uint8_t how);

/** The region of guest memory with this number, as the memory table has it. */
struct vu_mem_region front_region(const struct front *front, uint32_t i);

#endif /* DYNVHOST_TEST_FUZZ_FRONT_H */
