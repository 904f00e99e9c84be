/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_SESSION_H
#define DYNVHOST_SESSION_H

/**
 * @file
 * The back-end state machine: what one front-end has asked for, and what of it is live.
 *
 * Every request is judged whole, then committed whole. Judging happens while traffic runs; what the
 * datapath uses is committed while all queues of the port are held outside their bursts. A queue
 * that is inside at that moment makes the request *parked*: the session keeps it and the control
 * thread looks again, so that no port waits for another port's lcore.
 *
 * All calls come from the control thread, under its lock, unless a comment says otherwise.
 */

#include <stdbool.h>
#include <stdint.h>

#include "closer.h"
#include "dynvhost_mem.h"
#include "dynvhost_mem_iotlb.h"
#include "dynvhost_mem_log.h"
#include "gate.h"
#include "message.h"
#include "socket.h"
#include "virtqueue.h"

/** What GET_QUEUE_NUM answers; front-ends compare it with pairs or rings, this suits both. */
#define DYNVHOST_MAX_QUEUE_PAIRS 128
/** Ring numbers that a front-end may name. */
#define DYNVHOST_MAX_RINGS 256

/** Called by the control thread under its lock; must neither wait nor call back. */
struct dynvhost_session_hooks {
	/** Rings may have started, stopped, been enabled or disabled; all queues are outside. */
	void (*rings_changed)(void *opaque);
	/** Another kick fd of a ring comes, or -1: none. The old one is closed afterwards. */
	void (*kick_changed)(void *opaque, uint16_t ring, int fd);
};

/** What a port is made of, fixed at probe. */
struct dynvhost_session_config {
	const char *name;           /**< for log lines */
	uint64_t features;          /**< virtio features offered */
	uint64_t protocol_features; /**< protocol features offered */
	uint16_t max_mtu;           /**< largest MTU that a front-end may set */
	uint16_t n_rings;           /**< two per queue pair */
	struct dynvhost_vq *vq;     /**< n_rings of them, stopped */
	uint16_t n_gates;
	struct dynvhost_gate **gate; /**< gates of all ethdev queues that may run a ring */
	struct dynvhost_mem *mem;    /**< the port's guest memory, without regions */
	struct dynvhost_closer
		*closer;  /**< for fds that a request brings and that are not wanted */
	uint32_t idle_ms; /**< close guest memory this long after its last use; 0: never */
	const struct dynvhost_session_hooks *hooks;
	void *opaque; /**< handed to the hooks */
};

/** One ring as the front-end asked for it. */
struct session_ring {
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	uint32_t size; /**< 0: not said */
	uint32_t base; /**< position, as said or as last stopped */
	bool has_base;
	uint64_t need;    /**< open guest memory that the started ring has to have room for */
	int start_error;  /**< why it last could not start; 0: it could, or was not tried */
	int kick_fd;      /**< -1: none */
	int call_fd;      /**< -1: none */
	int err_fd;       /**< -1: none */
	uint64_t log_gpa; /**< where writing to the used area is to be logged */
	bool log_used;    /**< writing to the ring is to be logged */
	bool has_addr;
	bool kicked; /**< SET_VRING_KICK has come, with or without fd: start when possible */
	bool enabled;
	uint64_t call_since_us; /**< when the notification under way was first seen; 0: none was */
	uint64_t calls_seen;    /**< notifications finished by then */
	bool broken; /**< stopped by itself, and then its translation went: not to be started again */
	uint64_t untranslated_us; /**< since when its pages have no translation; 0: they have */
	bool fault_told;          /**< the fault of the virtqueue was logged and signalled */
	bool reported_enabled;    /**< as last told upwards */
};

/** Questions that may wait for their replies at a time. */
#define SESSION_QUESTIONS 64

/** A translation that the front-end has been asked for. */
struct session_question {
	struct dynvhost_mem_miss miss;
	uint64_t sent_us;
	bool settled; /**< answered by IOTLB_MSG or refused */
	bool refused;
};

/** Our questions to the front-end, over the socket of SET_BACKEND_REQ_FD (session_ask.c). */
struct session_asker {
	struct dynvhost_conn conn; /**< fd -1: there is none */
	bool acks;                 /**< the front-end is asked to reply to each question */
	bool refusal_told;
	uint32_t n_asked;    /**< questions so far; the last SESSION_QUESTIONS are kept */
	uint32_t n_replied;  /**< how many of them have been replied to, in their order */
	uint32_t n_forgiven; /**< replies that may still come though nobody waits for them */
	struct session_question question[SESSION_QUESTIONS];
	uint64_t sent_us[DYNVHOST_MAX_RINGS]; /**< when the miss of each ring was asked for */
};

/** What has changed and must be told to the application once no lock is held. */
struct dynvhost_session_news {
	bool link_changed;
	bool link_up;
	bool mtu_changed;
	uint16_t mtu; /**< what the front-end has set; 0: it has gone */
	uint16_t n_rings;
	struct {
		uint16_t ring;
		bool enabled;
	} ring[DYNVHOST_MAX_RINGS];
};

/** Where a session stands, for people. */
struct dynvhost_session_info {
	uint64_t features;
	uint64_t protocol_features;
	uint64_t guest_bytes;
	uint32_t n_regions;
	uint16_t rings_started;
	uint16_t rings_enabled;
	bool connected;
	bool link_up;
	char waiting_for[80]; /**< why the link is down; empty when it is up */
	char refused[160];    /**< what was refused lastingly in this connection; empty: nothing */
};

/** Events that are remembered. */
#define DYNVHOST_SESSION_EVENTS 64

/** Something that has happened to a port, for people. */
struct dynvhost_session_event {
	uint64_t time_us; /**< CLOCK_REALTIME, of the last time if it was several */
	uint64_t times;   /**< in a row */
	char text[160];   /**< a request with its outcome, or what became of connection or link */
};

/** Where a ring stands, for people. */
struct dynvhost_session_ring_info {
	uint16_t index;
	uint32_t size;
	bool started;
	bool enabled;
	bool packed;
	bool has_kick_fd;
	bool has_call_fd;
	bool has_err_fd;
	char waiting_for[80]; /**< why it does not serve; empty when it does */
};

struct dynvhost_session {
	struct dynvhost_session_config config;
	struct session_ring ring[DYNVHOST_MAX_RINGS];

	/* Said by the front-end. */
	bool connected;
	bool features_set;
	bool features_refused; /**< the last SET_FEATURES failed: FEATURES_OK must not show */
	uint64_t features;
	uint64_t protocol_features;
	uint8_t status;
	uint16_t mtu;                     /**< 0: not said */
	struct dynvhost_mem_view *view;   /**< guest memory in force; NULL: none */
	struct dynvhost_mem_log *log;     /**< dirty log in force; NULL: none */
	struct dynvhost_mem_iotlb *iotlb; /**< NULL: an IOMMU is not offered */
	struct session_asker asker;

	/* The request being carried out. */
	struct dynvhost_msg msg;
	struct dynvhost_mem_view *next_view; /**< built, not yet in force */
	struct dynvhost_mem_view *old_view;  /**< replaced, not yet released */
	struct dynvhost_mem_log *next_log;   /**< mapped, not yet in force */
	struct dynvhost_mem_log *old_log;    /**< replaced, not yet unmapped */
	bool held;                           /**< the gates are held */
	bool closing;                        /**< the end of the connection waits for the gates */
	bool stuck_told;
	uint64_t held_since_us;
	struct dynvhost_gate_snapshot *snapshot; /**< one per gate, taken when the hold began */

	uint64_t
		late_next_us; /**< when rings that could not start for the moment are tried again */

	/* Closing idle guest memory. */
	uint64_t watch_next_us; /**< when queues are looked at again (session_watch.c) */
	uint64_t idle_began_us; /**< when the pass under way, or the last one, began */
	uint64_t idle_next_us;  /**< when the next pass, or the next step of this one, is due */
	struct dynvhost_gate_snapshot *idle_snapshot; /**< one per gate, taken after each pass */

	bool link_up;
	uint64_t now_us;     /**< when the call at hand began */
	uint32_t log_tokens; /**< lines that may be logged at once, over all connections */
	uint64_t log_refill_us;
	uint64_t log_left_out;
	uint64_t complaints;  /**< requests whose refusal was already logged in this connection */
	uint32_t faults_told; /**< ring faults reported in this connection */
	char refused[160];    /**< see struct dynvhost_session_info */
	char why[160];        /**< words for the refusal of the request at hand */
	struct dynvhost_session_news news;

	/* What has happened lately: a ring, whose oldest entry is overwritten. */
	uint64_t n_events;
	struct dynvhost_session_event event[DYNVHOST_SESSION_EVENTS];
};

/** Outcome of feeding a session. */
enum dynvhost_session_result {
	DYNVHOST_SESSION_DONE = 0, /**< finished; `reply` may hold an answer to send */
	DYNVHOST_SESSION_PARKED,   /**< waits for a gate: call dynvhost_session_resume() soon */
	DYNVHOST_SESSION_CLOSE,    /**< the connection must be closed */
};

/** Make a session without a front-end. @return 0 or -ENOMEM. */
int dynvhost_session_init(
	struct dynvhost_session *session, const struct dynvhost_session_config *config);

/** Free a session; it must have no front-end any more. */
void dynvhost_session_fini(struct dynvhost_session *session);

/**
 * Get ready for front-ends.
 * @param wake_fd  eventfd by which queues have dynvhost_session_tick() called soon.
 * @return 0 or -ENOMEM.
 */
int dynvhost_session_begin(struct dynvhost_session *session, int wake_fd);

/** A front-end has connected. */
void dynvhost_session_open(struct dynvhost_session *session);

/**
 * Carry out one request.
 *
 * @param msg    a whole message; its fds belong to the session from here on.
 * @param reply  receives the answer if @p has_reply is set.
 */
enum dynvhost_session_result
dynvhost_session_handle(struct dynvhost_session *session, const struct dynvhost_msg *msg,
	uint64_t now_us, struct dynvhost_msg *reply, bool *has_reply);

/** Look again whether a parked request (or a parked end) can go on. Results as above. */
enum dynvhost_session_result dynvhost_session_resume(struct dynvhost_session *session,
	uint64_t now_us, struct dynvhost_msg *reply, bool *has_reply);

/**
 * The front-end is gone: stop every ring, close all guest memory and fds.
 * @return DONE: nothing of the connection is left; PARKED: waits for a gate, resume it.
 */
enum dynvhost_session_result
dynvhost_session_close(struct dynvhost_session *session, uint64_t now_us);

/** Whether the session waits for a gate. */
static inline bool
dynvhost_session_is_parked(const struct dynvhost_session *session)
{
	return session->held;
}

/**
 * Notice what queues did by themselves (faults, notifications that do not end), start rings that
 * could not start before, and close guest memory that is idle. To be called now and then.
 * @return DONE or CLOSE.
 */
enum dynvhost_session_result
dynvhost_session_tick(struct dynvhost_session *session, uint64_t now_us);

/** Whether memory that the front-end has shared is gone while it was in use: the port must be closed. */
bool dynvhost_session_has_lost_memory(const struct dynvhost_session *session);

/**
 * Whether one more line that a front-end can cause may be logged. "One per kind and connection" is
 * no bound for a peer that connects again and again; this budget of the port is.
 */
bool dynvhost_session_may_log(struct dynvhost_session *session, uint64_t now_us);

/** Microseconds until idle guest memory needs a look (a tick); UINT64_MAX: never. */
uint64_t dynvhost_session_next_idle(const struct dynvhost_session *session, uint64_t now_us);

/** Microseconds until a tick is due because queues leave fences out; UINT64_MAX: none is. */
uint64_t dynvhost_session_next_watch(const struct dynvhost_session *session, uint64_t now_us);

/** Microseconds until a tick is due because a question is under way; UINT64_MAX: none is. */
uint64_t dynvhost_session_next_reply(const struct dynvhost_session *session, uint64_t now_us);

/** Take what must be told to the application. @return whether there is anything. */
bool
dynvhost_session_take_news(struct dynvhost_session *session, struct dynvhost_session_news *news);

/** Describe the session. */
void
dynvhost_session_info(const struct dynvhost_session *session, struct dynvhost_session_info *info);

/** Describe up to @p max rings from @p first on. @return how many there were. */
uint16_t dynvhost_session_rings(const struct dynvhost_session *session, uint16_t first,
	struct dynvhost_session_ring_info *out, uint16_t max);

/** Remember an event; the same one again and again is one. */
void dynvhost_session_note(struct dynvhost_session *session, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** Copy the events remembered, the oldest first. @return how many, at most @p max. */
uint32_t dynvhost_session_events(
	const struct dynvhost_session *session, struct dynvhost_session_event *out, uint32_t max);

#endif /* DYNVHOST_SESSION_H */
