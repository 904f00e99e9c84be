/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_FRONT_END_H
#define DYNVHOST_MOCK_FRONT_END_H

/**
 * @file
 * A scripted vhost-user front-end (vhost-user.rst): connects to a back-end's socket and says what
 * the test tells it to, right or wrong, whole or in pieces, and judges what comes back, with a
 * deadline on everything.
 *
 * Every request has a function by its name; enum fe_want says whether an acknowledgement is asked
 * for and what must become of the request.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest_ram.h"
#include "wire.h"

/** The flags word of every reply: version 1, REPLY, and nothing else. */
#define FE_REPLY_FLAGS 0x5u

/** The most fds the kernel lets one message carry. */
#define FE_MAX_FDS 253

/** What a request is sent for. */
enum fe_want {
	FE_SEND,     /**< NEED_REPLY not set; nothing is read */
	FE_SEND_NR,  /**< NEED_REPLY set; nothing is read */
	FE_OK,       /**< must succeed: acknowledged by 0, or, without REPLY_ACK, survived */
	FE_REFUSED,  /**< must be acknowledged by another value than 0; the connection stays */
	FE_CLOSED,   /**< NEED_REPLY not set: the connection must close without a byte */
	FE_BROKEN,   /**< NEED_REPLY set: the connection must close without a byte */
	FE_FAILED,   /**< NEED_REPLY set: refused or closed, both will do */
	FE_ANSWERED, /**< NEED_REPLY set: acknowledged by any value; the connection stays */
};

/** The most messages that one recording holds. */
#define FE_MAX_RECORD 256

/** Messages as they were sent, to be sent again from another connection. */
struct fe_record {
	unsigned int n;
	struct {
		uint32_t len;
		uint8_t bytes[12 + sizeof(union vu_payload)];
		unsigned int n_fds;
		int fd[VU_MAX_FDS]; /**< the sender's own fds: they must still be open */
	} message[FE_MAX_RECORD];
};

struct front_end {
	int sock; /**< -1: not connected */
	/** Where to note what fe_send() sends; NULL: nowhere. */
	struct fe_record *record;
	/** What SET_PROTOCOL_FEATURES said last: decides whether FE_OK may ask for an ack. */
	uint64_t protocol_features;
};

/** A message as the test wants it; header and payload need not agree. */
struct fe_message {
	struct vu_header header;
	const void *payload;
	size_t payload_len;
	const int *fd;
	unsigned int n_fds;
};

/** One reply. */
struct fe_reply {
	struct vu_header header;
	union vu_payload payload;
};

/** What a front-end tells the back-end about one ring. */
struct fe_ring {
	uint32_t index;
	uint32_t num;
	uint32_t base;
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
};

/* --- connection --- */

/** Connect; tries again while nobody listens, until the deadline. */
void fe_connect(struct front_end *fe, const char *path);

/** Connect once. @return 0 or -errno. */
int fe_try_connect(struct front_end *fe, const char *path);

/** Listen at a path, for a back-end that connects. @return the listening fd. */
int fe_listen(const char *path);

/** Take the next back-end that connects, until the deadline. */
void fe_accept(struct front_end *fe, int listen_fd);

/** Use a socket that is connected already. */
void fe_attach(struct front_end *fe, int sock);

/** Close the connection. Repeatable; also good for a front_end with sock -1. */
void fe_close(struct front_end *fe);

/* --- raw sending and receiving --- */

/** A message with header and payload that agree, and no fds. */
struct fe_message fe_make(uint32_t request, uint32_t flags, const void *payload, size_t len);

/** Send a message, fds with its first byte. @return 0, or -errno when the peer is gone. */
int fe_try_send(struct front_end *fe, const struct fe_message *message);

/** As fe_try_send(), and must succeed. */
void fe_send(struct front_end *fe, const struct fe_message *message);

/** Send bytes, with fds on the first one. @return 0 or -errno. */
int fe_try_send_bytes(
	struct front_end *fe, const void *bytes, size_t len, const int *fd, unsigned int n_fds);

/** Send a message in pieces of @p piece bytes, fds on the first, with a short pause after each. */
void fe_send_pieces(struct front_end *fe, const struct fe_message *message, size_t piece);

/**
 * Send the first @p bytes of a recording, each message in one call with its fds.
 * @return 0, or -errno when the peer is gone.
 */
int fe_replay(struct front_end *fe, const struct fe_record *record, size_t bytes);

/** Bytes of all messages of a recording. */
size_t fe_record_bytes(const struct fe_record *record);

/** Lay a message out as on the wire. @return its bytes. */
size_t fe_encode(const struct fe_message *message, uint8_t *bytes, size_t room);

/** Receive one reply. @return 0; -ETIMEDOUT; -ECONNRESET (closed); -EMSGSIZE (too long). */
int fe_try_recv(struct front_end *fe, struct fe_reply *reply, unsigned int timeout_ms);

/* --- expectations --- */

/** A reply to @p request with a body of @p size bytes must come. */
void fe_expect_reply(struct front_end *fe, uint32_t request, uint32_t size, struct fe_reply *reply);

/** A u64 reply to @p request must come. @return its value. */
uint64_t fe_expect_u64(struct front_end *fe, uint32_t request);

/** The connection must close, and nothing may come before it does. */
void fe_expect_closed(struct front_end *fe);

/** The connection must close within @p timeout_ms; replies before that do not matter. */
void fe_drain_until_closed(struct front_end *fe, unsigned int timeout_ms);

/** No byte may come for @p ms, and the connection stays. */
void fe_expect_silence(struct front_end *fe, unsigned int ms);

/** Wait until the back-end has carried out everything sent so far (GET_FEATURES). */
void fe_barrier(struct front_end *fe);

/** Send a message and see to it that what @p want says becomes of it. */
void fe_request(struct front_end *fe, uint32_t request, const void *payload, size_t len,
	const int *fd, unsigned int n_fds, enum fe_want want);

/* --- every request by its name --- */

uint64_t fe_get_features(struct front_end *fe);
void fe_set_features(struct front_end *fe, uint64_t features, enum fe_want want);
void fe_set_owner(struct front_end *fe, enum fe_want want);
void fe_reset_owner(struct front_end *fe, enum fe_want want);
void fe_reset_device(struct front_end *fe, enum fe_want want);
uint64_t fe_get_protocol_features(struct front_end *fe);
void fe_set_protocol_features(struct front_end *fe, uint64_t features, enum fe_want want);
uint64_t fe_get_queue_num(struct front_end *fe);
uint64_t fe_get_max_mem_slots(struct front_end *fe);
uint64_t fe_get_status(struct front_end *fe);
void fe_set_status(struct front_end *fe, uint64_t status, enum fe_want want);
void fe_set_mtu(struct front_end *fe, uint64_t mtu, enum fe_want want);

/** @param mac  six bytes. */
void fe_send_rarp(struct front_end *fe, const uint8_t *mac, enum fe_want want);

/** IOTLB_MSG; what it says of @p iova is the front-end's business, be it wrong. */
void fe_iotlb(struct front_end *fe, uint8_t type, uint64_t iova, uint64_t size, uint64_t uva,
	uint8_t perm, enum fe_want want);

/** The wire form of a region. */
struct vu_mem_region fe_region(const struct guest_ram_region *region);

/** All regions of @p ram in one SET_MEM_TABLE; at most 8. */
void fe_set_mem_table(struct front_end *fe, const struct guest_ram *ram, enum fe_want want);

/** @p n regions as given, with @p n_fds fds. */
void
fe_set_mem_table_raw(struct front_end *fe, uint32_t n_regions, const struct vu_mem_region *region,
	unsigned int n_sent, const int *fd, unsigned int n_fds, enum fe_want want);

void fe_add_mem_reg(struct front_end *fe, const struct vu_mem_region *region, const int *fd,
	unsigned int n_fds, enum fe_want want);
void fe_rem_mem_reg(struct front_end *fe, const struct vu_mem_region *region, const int *fd,
	unsigned int n_fds, enum fe_want want);

/**
 * @param fd  of the log; -1: none is sent.
 * @param want  FE_OK: the answer must be the description itself, which needs LOG_SHMFD.
 */
void
fe_set_log_base(struct front_end *fe, uint64_t size, uint64_t offset, int fd, enum fe_want want);

void fe_set_vring_num(struct front_end *fe, uint32_t index, uint32_t num, enum fe_want want);
void fe_set_vring_base(struct front_end *fe, uint32_t index, uint32_t base, enum fe_want want);
void fe_set_vring_addr(struct front_end *fe, const struct fe_ring *ring, enum fe_want want);
void
fe_set_vring_addr_raw(struct front_end *fe, const struct vu_vring_addr *addr, enum fe_want want);
void fe_set_vring_enable(struct front_end *fe, uint32_t index, uint32_t on, enum fe_want want);

/** @return the num field of the reply, whose index must be that of the request. */
uint32_t fe_get_vring_base(struct front_end *fe, uint32_t index);

/** @param fd  -1: none, said so by the "no fd" flag. */
void fe_set_vring_kick(struct front_end *fe, uint32_t index, int fd, enum fe_want want);
void fe_set_vring_call(struct front_end *fe, uint32_t index, int fd, enum fe_want want);
void fe_set_vring_err(struct front_end *fe, uint32_t index, int fd, enum fe_want want);

#endif /* DYNVHOST_MOCK_FRONT_END_H */
