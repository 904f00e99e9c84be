/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MESSAGE_H
#define DYNVHOST_MESSAGE_H

/**
 * @file
 * One vhost-user message: what each request looks like (a table), whether a received one is
 * well-formed, and how a reply is laid out. No state of a connection, no meaning of a request.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

/** A message as received. The fds belong to it until a handler takes them (and leaves -1). */
struct dynvhost_msg {
	struct vu_header header;
	union vu_payload payload;
	int fd[VU_MAX_FDS];
	uint32_t n_fds;
};

/** What the answer to a request is. */
enum dynvhost_msg_reply {
	DYNVHOST_MSG_ACK,  /**< a u64, only if the front-end asks and REPLY_ACK is negotiated */
	DYNVHOST_MSG_BODY, /**< always, with a body of its own */
	DYNVHOST_MSG_ACK_UNGATED, /**< a u64 whenever the front-end asks, REPLY_ACK or not */
};

/** Value of dynvhost_msg_info.gate for requests that need no protocol feature. */
#define DYNVHOST_MSG_NO_GATE 0xffu

/** One row of the request table. */
struct dynvhost_msg_info {
	const char *name; /**< as in the specification, without VHOST_USER_; NULL: no such row */
	uint16_t size_min;
	uint16_t size_max;
	uint8_t fds_min;
	uint8_t fds_max;
	uint8_t gate;  /**< protocol feature bit that must be negotiated, or DYNVHOST_MSG_NO_GATE */
	uint8_t reply; /**< enum dynvhost_msg_reply */
};

enum dynvhost_msg_verdict {
	DYNVHOST_MSG_OK = 0,
	DYNVHOST_MSG_REFUSED, /**< well-formed, but not to be carried out: error reply or close */
	DYNVHOST_MSG_BROKEN,  /**< framing is wrong: the connection must close */
};

/** The table row of a request; NULL for ids the specification does not know. Any thread. */
const struct dynvhost_msg_info *dynvhost_msg_info(uint32_t request);

/** A name for logs, also for unknown ids ("unknown request"). Any thread. */
const char *dynvhost_msg_name(uint32_t request);

/**
 * Judge a header before its payload is read: version, flags, and a size within that of any request.
 * @return 0 or -EPROTO.
 */
int dynvhost_msg_check_header(const struct vu_header *header);

/**
 * Judge a whole message against its row: size, number of fds, agreement of count fields with both,
 * protocol features. Values are not looked at: that is the handler's work.
 *
 * @param protocol_features  what the front-end has negotiated.
 * @param why                receives a static text for anything but DYNVHOST_MSG_OK.
 */
enum dynvhost_msg_verdict
dynvhost_msg_check(const struct dynvhost_msg *msg, uint64_t protocol_features, const char **why);

/**
 * Whether the front-end waits for an acknowledgement (u64) of this message. Never so where the
 * answer is a body of its own: such a request, when it cannot be answered, leaves only closing.
 */
bool dynvhost_msg_wants_ack(const struct dynvhost_msg *msg, uint64_t protocol_features);

/** Close every fd the message still owns. */
void dynvhost_msg_close_fds(struct dynvhost_msg *msg);

/** Take fd @p i out of the message; -1 if there is none. The caller owns it. */
int dynvhost_msg_take_fd(struct dynvhost_msg *msg, uint32_t i);

/**
 * Make @p reply the answer to @p request with a payload of @p size bytes, zero until the caller
 * fills them in. Flags are version 1 and REPLY alone, as front-ends compare the whole word. No fds.
 */
void dynvhost_msg_init_reply(
	struct dynvhost_msg *reply, const struct dynvhost_msg *request, uint32_t size);

#endif /* DYNVHOST_MESSAGE_H */
