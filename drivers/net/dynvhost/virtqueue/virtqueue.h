/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_VIRTQUEUE_H
#define DYNVHOST_VIRTQUEUE_H

/**
 * @file
 * One virtqueue, seen from the device's side.
 *
 * A virtqueue lives from probe to remove. Control starts and stops it while its queue is held
 * outside its bursts (gate.h); the polling thread moves packets. It knows rings, guest memory and
 * mbufs, and neither messages nor ethdev.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_common.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "dynvhost_mem.h"
#include "dynvhost_mem_log.h"

/** Largest ring of either format (virtio 1.2 §2.7, §2.8). */
#define DYNVHOST_VQ_MAX_SIZE 32768u
/** Pieces of host memory one packet may be spread over; also bounds the hops of a chain. */
#define DYNVHOST_VQ_MAX_SEGS 1024u
/** Smallest frame taken from the guest: an Ethernet header. */
#define DYNVHOST_VQ_MIN_FRAME 14u
/** Largest frame moved in one piece: 64 KiB of payload and generous headers. */
#define DYNVHOST_VQ_MAX_FRAME (65536u + 64u)
/**
 * Pieces of guest memory that a driver spreads the largest frame over: a header, 17 fragments of a
 * page, and the table that lists them. Chains may have more; a cap of open memory has room for these.
 */
#define DYNVHOST_VQ_FRAME_PIECES 19u
/** A chain whose memory could not be opened for this long is completed without its packet. */
#define DYNVHOST_VQ_STALL_MS 100
/** As long as that one waits that an IOMMU has not translated: who answers may be busy. */
#define DYNVHOST_VQ_STALL_IOMMU_MS 1000
/** Announcements that wait for a receive burst; later ones find no room and are dropped. */
#define DYNVHOST_VQ_MAX_RARPS 16
/** Granules that one burst may open; the rest waits for the next one. */
#define DYNVHOST_VQ_OPEN_BUDGET 64

/** Why a virtqueue stopped by itself. */
enum dynvhost_vq_fault {
	DYNVHOST_VQ_OK = 0,
	DYNVHOST_VQ_BAD_AVAIL,    /**< available index ran further than the ring is long */
	DYNVHOST_VQ_BAD_HEAD,     /**< head or next out of the descriptor table */
	DYNVHOST_VQ_BAD_LOOP,     /**< chain longer than it can be */
	DYNVHOST_VQ_BAD_ADDRESS,  /**< descriptor outside guest memory */
	DYNVHOST_VQ_BAD_RIGHT,    /**< device-writable where readable is due, or the reverse */
	DYNVHOST_VQ_BAD_INDIRECT, /**< malformed, nested or not negotiated indirect table */
	DYNVHOST_VQ_FAULTS
};

/** Counters; written by the polling thread alone, read by anyone. Never reset by a reconnect. */
struct dynvhost_vq_stats {
	uint64_t packets;
	uint64_t bytes;      /**< without virtio header */
	uint64_t dropped;    /**< packets thrown away: no room for them, wrong length or offloads */
	uint64_t no_mbuf;    /**< bursts cut short because the mempool was empty */
	uint64_t stalled;    /**< chains completed empty because their memory would not open */
	uint64_t discarded;  /**< chains consumed while the ring was disabled */
	uint64_t bad_chains; /**< chains that stopped the queue */
	uint64_t calls;      /**< notifications sent to the guest */
	uint64_t calls_suppressed; /**< notifications the guest did not want */
};

/** What to sleep on while a ring is empty. */
struct dynvhost_vq_monitor {
	const void *addr; /**< where the driver says that there is more */
	uint8_t size;     /**< bytes to load there */
	bool equal; /**< there is more once `mask` leaves `value` of them; else: anything else */
	uint64_t mask;
	uint64_t value;
};

struct dynvhost_chain;
struct dynvhost_fast;
struct dynvhost_mem_mirror;
struct dynvhost_vq;
struct dynvhost_vq_format;

/**
 * Take up to @p n descriptor chains and move their packets into fresh mbufs of @p pool, whose data
 * room beyond the headroom must be 64 bytes or more. @return packets moved.
 */
typedef uint16_t (*dynvhost_vq_dequeue_t)(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n);
/** Move up to @p n packets to the guest. @return packets consumed (freed), sent or dropped. */
typedef uint16_t (*dynvhost_vq_enqueue_t)(
	struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n);

/** What of a virtqueue's writing is logged (dynvhost_mem_log.h). All zero: nothing. */
struct dynvhost_vq_log {
	struct dynvhost_mem_log *log; /**< pages of packets; NULL: nothing is logged */
	bool ring;                    /**< what is written to the ring, too */
	uint64_t used_gpa; /**< where writing to the `used` area is logged, as the front-end says */
};

/** What control wants a ring to be; all of it has been said by the front-end. */
struct dynvhost_vq_setup {
	const struct dynvhost_mem_view *view;
	uint64_t desc_gpa;
	uint64_t avail_gpa;
	uint64_t used_gpa;
	uint64_t features; /**< negotiated virtio features; they choose the ring's format */
	uint32_t size;     /**< descriptors */
	uint16_t mtu;  /**< of the guest, which VIRTIO_NET_F_MTU makes a promise; 0: not known */
	uint32_t base; /**< position to start at, as SET_VRING_BASE has it; split: not looked at */
	int call_fd;   /**< non-blocking eventfd, or -1: never notify; stays the caller's */
	bool enabled;
	struct dynvhost_vq_log log;
};

/** How an application wants packets from the guest; by default as the simplest can take them. */
struct dynvhost_vq_app {
	bool legacy_ol_flags; /**< what the guest leaves undone is said by TX flags */
	bool linear_buffer;   /**< no chains of mbufs: what is longer is dropped */
	bool ext_buffer;      /**< what is longer than an mbuf comes in a buffer from the heap */
	bool complete_tcp;    /**< no partial TCP checksums; not with legacy_ol_flags */
	bool complete_udp;    /**< nor UDP ones */
};

/** The three pinned areas of a ring; packed: `avail` is the driver's event, `used` ours. */
struct dynvhost_vq_pins {
	struct dynvhost_mem_pin desc;
	struct dynvhost_mem_pin avail;
	struct dynvhost_mem_pin used;
};

/** Split ring state. */
struct dynvhost_vq_split {
	const struct vring_desc *desc;
	const struct vring_avail *avail;
	struct vring_used *used;
	uint16_t last_avail; /**< next available ring entry to take */
	uint32_t next_head; /**< what the next head will be, if the driver goes through its table */
	uint16_t last_used; /**< next used ring entry to fill; published between bursts */
};

/** A position in a packed ring. */
struct dynvhost_vq_packed_pos {
	uint16_t slot;
	bool wrap; /**< wrap counter: true in the first round, and in every other one after it */
};

/** Waiting for bursts to ripen (packed_ripe.h). */
struct dynvhost_vq_ripe {
	uint16_t expected; /**< packets of the last burst from the guest */
	uint16_t haste;    /**< so many bursts do not wait */
	bool waits;
	bool late;       /**< the wait was in vain */
	uint32_t polls;  /**< left out after the last look */
	uint64_t looked; /**< TSC of that */
	uint64_t since;  /**< TSC when the wait began */
};

/** Packed ring state. */
struct dynvhost_vq_packed {
	struct vring_packed_desc *desc;
	const struct vring_packed_desc_event *driver_event;
	struct vring_packed_desc_event *device_event;
	struct dynvhost_vq_packed_pos pos; /**< next buffer to take and to give back */
	bool batches; /**< one used descriptor stands for a burst: in order, and nothing written */
	struct dynvhost_vq_ripe ripe;
};

/** Notifications whose look came without a fence (defer.h). */
struct dynvhost_vq_defer {
	/* Written by the polling thread. */
	_Atomic uint32_t unfenced; /**< publications so far */
	uint32_t settled;          /**< how many of them it has made up for */
	uint32_t quiet;            /**< bursts in a row whose driver wanted no notification */
	/* Written by control. */
	_Atomic bool watched; /**< ticks come soon enough */
	uint32_t seen;        /**< publications at the last tick */
	uint32_t checked;     /**< how many of them control has made up for */
	uint32_t idle_ticks;
};

/** Bursts of a guest that is silent (rest.h). */
struct dynvhost_vq_rest {
	uint32_t looks; /**< in a row that found nothing */
	uint32_t skips; /**< bursts that leave the ring alone after each look */
	uint32_t skip;  /**< as many, or more where the burst waits for the guest */
	bool was_on; /**< the burst that finds something now has been looked for in vain before */
	uint64_t since; /**< TSC when the time between bursts was last measured */
};

/** Giving lines back that the guest will write (give_back.h). */
struct dynvhost_vq_give_back {
	uint8_t way;    /**< enum give_back_way */
	uint8_t ways;   /**< that the CPU has, a bit for each */
	int32_t left;   /**< packets until there is something to think about */
	uint64_t next;  /**< TSC before which there is no other trial */
	uint64_t pause; /**< TSC cycles from the last trial to that */
	/* Of a trial. */
	uint8_t rounds;   /**< still to come; 0: there is none */
	uint8_t before;   /**< the way before it */
	bool settled;     /**< all lines are as the way leaves them */
	uint32_t packets; /**< since the turn of a way began, or had settled */
	uint64_t since;   /**< TSC when that was */
	uint64_t last;    /**< TSC of the last burst */
	uint64_t cost[5]; /**< least of each way */
};

struct dynvhost_vq {
	/* Read by every burst. Written by control while the queue is outside; the two burst pointers
	 * also by the polling thread when it stops the queue.
	 */
	dynvhost_vq_dequeue_t dequeue; /**< never NULL: a stopped queue moves nothing */
	dynvhost_vq_enqueue_t enqueue;
	const struct dynvhost_fast *fast; /**< functions of the short way; NULL: not to be gone */
	const struct dynvhost_mem_view *view;
	uint16_t size;
	uint16_t port_id; /**< written into received mbufs */
	uint8_t hdr_len;  /**< of struct virtio_net_hdr_v1, by features */
	bool mergeable;
	bool event_idx;
	bool indirect;
	int call_fd;
	struct dynvhost_vq_log log;
	struct dynvhost_vq_app app; /**< written while the application polls nothing */
	bool shared;                /**< several threads send to it; see enqueue_alone */
	uint64_t offloads; /**< of the features negotiated, those for packets (net_hdr.h) */
	/* Of a ring that several threads send to: `enqueue` takes the lock and calls this one. */
	dynvhost_vq_enqueue_t enqueue_alone;
	_Atomic bool busy; /**< the lock */

	/* Written by the polling thread, or by control while it is outside. */
	struct dynvhost_vq_split split __rte_cache_aligned;
	struct dynvhost_vq_packed packed;
	struct dynvhost_vq_defer defer;
	struct dynvhost_vq_rest rest;
	struct dynvhost_vq_give_back give_back;
	bool kicks;       /**< the driver is asked for kicks; outlives stops */
	bool call_anyway; /**< nobody has been called yet: call, whatever the driver's event says */
	struct dynvhost_mem_cursor cursor;
	uint64_t stall_since; /**< TSC when the next chain first could not be opened; 0: it could */
	_Atomic bool calling; /**< inside the system call that notifies the guest */
	_Atomic uint32_t fault; /**< enum dynvhost_vq_fault; not 0: stopped by itself */
	struct dynvhost_vq_stats stats;
	uint64_t ordinary;            /**< packets that went the short way (fast.h); for tests */
	struct dynvhost_chain *chain; /**< scratch: the packet in work (chain.h) */
	uint16_t n_rarps;             /**< announcements that the next bursts deliver */
	struct rte_ether_addr rarp[DYNVHOST_VQ_MAX_RARPS];
	uint32_t max_frame; /**< longest frame that the guest may be given; 0: any */
	/* Where there is such a limit: what moves the packets that fit. */
	dynvhost_vq_enqueue_t enqueue_fitting;

	/* Control alone. */
	struct dynvhost_vq_pins *pins;           /**< NULL: not started */
	const struct dynvhost_vq_format *format; /**< never NULL (format.h) */
	uint64_t features;
	struct dynvhost_mem_mirror *mirror; /**< NULL: nobody sleeps on the ring (watch.c) */
	_Atomic(const uint8_t *)
		mirror_at; /**< the area it shows; NULL: nothing. Inside the gate */
	uint16_t index; /**< ring number of the device: 2k guest receives, 2k + 1 guest transmits */
	bool enabled;
} __rte_cache_aligned;

/** Make a stopped virtqueue. Control. @return 0 or -ENOMEM. */
int dynvhost_vq_init(struct dynvhost_vq *vq, uint16_t index, int numa_node);

/** Free what dynvhost_vq_init() took. The virtqueue must be stopped. Control. */
void dynvhost_vq_fini(struct dynvhost_vq *vq);

/** The bytes of virtio-net header before each packet, by negotiated features (virtio 1.2 §5.1.6). */
uint8_t dynvhost_vq_hdr_len(uint64_t features);

/**
 * Start a stopped virtqueue. Pins the ring's pages, takes its position over (split: from the used
 * ring; packed: from setup->base, or from the ring where that knows better), and tells the driver
 * that no kicks are needed, or that they are (dynvhost_vq_set_kicks()). The queue must be outside.
 * Control.
 *
 * @return 0; -EINVAL (size, alignment or base; virtio 1.2 §2.7, §2.8), -EFAULT (an area does not
 *         lie wholly in one region), -EXDEV (behind an IOMMU: nor in one piece), -ENOTRECOVERABLE
 *         (packed: the base is out of date, and the ring does not tell the position either), or the
 *         error of opening its pages. On failure the queue stays stopped and guest memory as it was.
 */
int dynvhost_vq_start(struct dynvhost_vq *vq, const struct dynvhost_vq_setup *setup);

/**
 * Open guest memory that a virtqueue may have to have at a time: its ring, and one largest frame. To
 * be called before dynvhost_vq_start(), which judges addresses and size; for such as it refuses the
 * result means nothing. Control.
 */
uint64_t dynvhost_vq_need(const struct dynvhost_vq_setup *setup);

/**
 * Stop a virtqueue: after this it does not touch guest memory and notifies nobody. The queue must
 * be outside. Control.
 * @return its position as GET_VRING_BASE reports it, good as setup->base of the next start. Split:
 *         the next available index to be taken, 16 bits. Packed: available and used position, which
 *         are the same, in the lower and the upper half: a slot and, above it, the wrap counter.
 */
uint32_t dynvhost_vq_stop(struct dynvhost_vq *vq);

/** Whether the virtqueue has been started (it may be disabled or faulty all the same). Control. */
static inline bool
dynvhost_vq_is_started(const struct dynvhost_vq *vq)
{
	return vq->pins != NULL;
}

/**
 * Move a started virtqueue to another view of guest memory at the same ring position. The queue
 * must be outside. Control.
 *
 * @param setup  as at start, with the new view.
 * @return 0, or as dynvhost_vq_start(): then the queue still runs on the old view.
 */
int dynvhost_vq_move(struct dynvhost_vq *vq, const struct dynvhost_vq_setup *setup);

/** Give a started virtqueue another call fd (-1: none). The queue must be outside. Control. */
void dynvhost_vq_set_call(struct dynvhost_vq *vq, int call_fd);

/**
 * If the polling thread is inside a notification, make the call eventfd writable again: the peer
 * shares the fd's flags and counter and could block us with them. Control, queue inside or outside.
 * @return whether the thread was inside a notification that could not end.
 */
bool dynvhost_vq_unblock_call(struct dynvhost_vq *vq);

/** Enable or disable a started virtqueue: a disabled one drains what the guest sends. Outside. Control. */
void dynvhost_vq_set_enabled(struct dynvhost_vq *vq, bool enabled);

/**
 * Have the bursts that dequeue deliver one broadcast RARP request (RFC 903) from @p mac, as if the
 * guest had sent it: switches learn from it where the guest now is. Good for a virtqueue in any
 * state. NULL: forget what was not delivered yet. The queue must be outside. Control.
 */
void dynvhost_vq_announce(struct dynvhost_vq *vq, const struct rte_ether_addr *mac);

/**
 * Ask the driver for kicks or tell it that none are needed, now and whenever the virtqueue starts
 * again. What becomes available afterwards is either kicked for or seen by who looks then. Polling
 * thread inside the gate, or control with the queue outside.
 */
void dynvhost_vq_set_kicks(struct dynvhost_vq *vq, bool kicks);

/** Whether a dequeue burst would have something to do. As dynvhost_vq_set_kicks(). */
bool dynvhost_vq_has_work(struct dynvhost_vq *vq);

/**
 * Whether several threads send to a virtqueue at the same time: then they do it one by one, each
 * waiting for the others' bursts, and to each of them it looks as if it were alone. Guest receives;
 * started or not. All of its queues outside. Control.
 */
void dynvhost_vq_set_shared(struct dynvhost_vq *vq, bool shared);

/**
 * Log what a virtqueue writes from now on, in another log or not at all. The queue must be outside:
 * when this returns, the log that was used before can go. Control.
 */
void dynvhost_vq_set_log(struct dynvhost_vq *vq, const struct dynvhost_vq_log *log);

/**
 * Let applications sleep on a virtqueue: from now on dynvhost_vq_monitor() has an address to give.
 * Until dynvhost_vq_unwatch() the ring's place is reachable a second time. Control.
 * @return 0 or -ENOMEM.
 */
int dynvhost_vq_watch(struct dynvhost_vq *vq, struct dynvhost_mem *mem);

/** Addresses that were given must not be loaded any more. Good for any virtqueue. Control. */
void dynvhost_vq_unwatch(struct dynvhost_vq *vq);

/** The ring has gone or come: let the address that was given show it. Outside. Control. */
void dynvhost_vq_show(struct dynvhost_vq *vq);

/**
 * What to sleep on after a burst that found nothing. The address can be loaded until
 * dynvhost_vq_unwatch(), whatever becomes of ring and memory; it says nothing of changes that control
 * makes, so that nobody should sleep for long. Polling thread, inside the gate.
 * @return 0, or -EAGAIN: there is nothing to sleep on now.
 */
int dynvhost_vq_monitor(const struct dynvhost_vq *vq, struct dynvhost_vq_monitor *monitor);

/** Words for a fault, for logs. Any thread. */
const char *dynvhost_vq_fault_text(enum dynvhost_vq_fault fault);

/** Entries the guest has made available and the queue has not taken. Inside the gate. */
uint16_t dynvhost_vq_pending(struct dynvhost_vq *vq);

/**
 * Stop a virtqueue that the guest has broken: it moves nothing until the next start. What the
 * running burst has taken so far can still be published. Polling thread.
 */
void dynvhost_vq_mark_broken(struct dynvhost_vq *vq, enum dynvhost_vq_fault fault);

/**
 * The next chain's memory could not be opened now: whether this has gone on for more than
 * DYNVHOST_VQ_STALL_MS, or behind an IOMMU DYNVHOST_VQ_STALL_IOMMU_MS, so that the chain is to be
 * given back empty. Polling thread.
 */
bool dynvhost_vq_is_stalled(struct dynvhost_vq *vq);

/** Notify the guest, if there is a call fd. Polling thread; does not block. */
void dynvhost_vq_call(struct dynvhost_vq *vq);

/** Add to a counter that one thread writes and others read. */
static inline void
dynvhost_vq_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

#endif /* DYNVHOST_VIRTQUEUE_H */
