/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_SESSION_PRIV_H
#define DYNVHOST_SESSION_PRIV_H

/**
 * @file
 * What the session's files share. A request has a row in one of the handler tables: `check` judges
 * it and prepares what can be prepared while traffic runs, `apply` commits it.
 */

#include "session.h"

/** Result of a check: the port has no queue for this ring; the request has no effect, all else goes on. */
#define SESSION_NO_QUEUE 1

/** Result of an apply: it has more to do, and is to be called again while the queues stay outside. */
#define SESSION_AGAIN 2

struct session_handler {
	/**
	 * Judge the request; must change nothing that is in force.
	 * @return 0, -errno with session->why filled in, or SESSION_NO_QUEUE.
	 */
	int (*check)(struct dynvhost_session *session, struct dynvhost_msg *msg);
	/**
	 * Commit the request; for requests with a reply of their own, fill it in.
	 * @return 0, or as check, and then nothing has changed: for what can only be judged while
	 *         all queues are outside; or SESSION_AGAIN.
	 */
	int (*apply)(struct dynvhost_session *session, struct dynvhost_msg *msg,
		struct dynvhost_msg *reply);
	/** The datapath uses what this request changes: apply while all queues are outside. */
	bool hold;
};

/** Handlers by request; rows without `apply` are requests this back-end does not serve. */
extern const struct session_handler session_feature_handlers[VU_REQUEST_MAX];
extern const struct session_handler session_memory_handlers[VU_REQUEST_MAX];
extern const struct session_handler session_ring_handlers[VU_REQUEST_MAX];
extern const struct session_handler session_log_handlers[VU_REQUEST_MAX];
extern const struct session_handler session_iommu_handlers[VU_REQUEST_MAX];

/** Say why the request at hand is refused. @return @p error, for the caller to return. */
int session_refuse(struct dynvhost_session *session, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** As dynvhost_session_may_log(), within the call at hand. */
bool session_may_log(struct dynvhost_session *session);

/** Remember the request at hand and its outcome, in a few words. */
void session_note_request(struct dynvhost_session *session, const char *outcome);

/** Make @p reply the answer to @p msg with one u64. */
void session_reply_u64(struct dynvhost_msg *reply, const struct dynvhost_msg *msg, uint64_t value);

/** Start every ring that has all it needs. Queues outside. */
void session_start_rings(struct dynvhost_session *session);

/** What a ring waits for that has everything and could not start with it. */
const char *session_start_error_text(const struct dynvhost_session *session, int error);

/** Words for a ring that cannot start or move. */
const char *session_move_error_text(int rc);

/** Whether rings are packed; before SET_FEATURES, whether they may come to be. */
bool session_rings_are_packed(const struct dynvhost_session *session);

/** A ring's position as SET_VRING_BASE and GET_VRING_BASE have it. */
uint32_t session_ring_base(const struct dynvhost_session *session, uint16_t index);

/** Take a started ring to the view and addresses now asked for. @return 0, or -errno: it stays. */
int session_move_ring(struct dynvhost_session *session, uint16_t index);

/**
 * Take every started ring to its addresses' translations of now. Where one has none, it stops until
 * they come, which is ordinary life: nobody is told, and the link stays up for a while. Queues
 * outside.
 */
void session_retranslate_rings(struct dynvhost_session *session);

/** Whether a ring has all it needs and did not start for a reason that passes. */
bool session_has_late_rings(const struct dynvhost_session *session);

/** Stop one ring and remember its position. Queues outside. */
void session_stop_ring(struct dynvhost_session *session, uint16_t index);

/** Take every started ring to the view now in force, or stop it where it does not fit. Queues outside. */
void session_move_rings(struct dynvhost_session *session);

/** Enable or disable a ring, started or not. Queues outside. */
void session_enable_ring(struct dynvhost_session *session, uint16_t index, bool enabled);

/** Forget what the front-end said of a ring and close its fds. The ring is stopped. */
void session_reset_ring(struct dynvhost_session *session, uint16_t index);

/** Notice faults of a ring: log and signal them once. */
void session_tell_fault(struct dynvhost_session *session, uint16_t index);

/** Work out link and ring states anew and note what changed. */
void session_update_link(struct dynvhost_session *session);

/**
 * Free a ring's polling thread from a notification that does not end, because the peer has filled its
 * call eventfd and taken O_NONBLOCK away. @return whether it was in one.
 */
bool session_free_caller(struct dynvhost_session *session, uint16_t ring);

/** What of a ring's writing is to be logged now. */
void session_fill_log(
	const struct dynvhost_session *session, uint16_t index, struct dynvhost_vq_log *log);

/** Have started rings log what is asked for now. Queues outside. */
void session_apply_log(struct dynvhost_session *session);

/** Leave the log to be unmapped; no ring uses it. */
void session_forget_log(struct dynvhost_session *session);

/** Unmap logs that nobody uses. */
void session_drop_logs(struct dynvhost_session *session);

/** Whether addresses are those of a guest's IOMMU. */
bool session_has_iommu(const struct dynvhost_session *session);

/** Translations lead into the view now in force. Queues outside. */
void session_set_iommu_memory(struct dynvhost_session *session);

/** Forget all translations. Queues outside. */
void session_forget_iommu(struct dynvhost_session *session);

/** Have translations asked for that receiving will need. Queues outside. */
void session_look_ahead(struct dynvhost_session *session);

/** Ask the front-end for translations that queues wait for, and hear what it refuses. */
void session_ask_iommu(struct dynvhost_session *session);

/** Questions about a range have been answered. */
void session_settle_questions(struct dynvhost_session *session, uint64_t iova, uint64_t size);

/** Ask over another socket from now on; @p fd is taken, -1: none. */
void session_replace_asker(struct dynvhost_session *session, int fd);

/** Close guest memory that has fallen idle, if that is due. */
void session_close_idle(struct dynvhost_session *session);

/** Make up for notifications that bursts have left to us, as far as they are due. */
void session_watch_calls(struct dynvhost_session *session);

/** Hold every gate of the port and note who is inside. */
void session_hold(struct dynvhost_session *session, uint64_t now_us);

/** Whether all queues are outside, or have been since the hold. */
bool session_is_outside(const struct dynvhost_session *session);

/** Let bursts go on. */
void session_release(struct dynvhost_session *session);

/** Whether any ring is started. */
bool session_is_running(const struct dynvhost_session *session);

#endif /* DYNVHOST_SESSION_PRIV_H */
