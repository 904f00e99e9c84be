/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_GATE_H
#define DYNVHOST_GATE_H

/**
 * @file
 * The one place where control and datapath synchronise.
 *
 * Theory of operation
 * -------------------
 * Every ethdev queue has a gate. Its polling thread makes `seq` odd when a burst begins and even
 * when it ends, with plain stores. To change something that bursts use, control sets `hold`, lets
 * every running thread of the process execute a barrier (membarrier), and then looks at `seq`:
 *
 *	burst:    seq = odd;  (compiler barrier)  if (hold) leave again; else work; seq = even
 *	control:  hold = 1;   membarrier          if (seq is even or has moved) the queue is outside
 *
 * The pair that must not be reordered is the burst's store of seq before its load of hold, against
 * control's store of hold before its load of seq: membarrier puts the missing fence into the middle
 * of the burst's side, so that the burst pays for it only when somebody wants in. Where the kernel
 * has no membarrier the burst executes the fence itself (`fenced`).
 *
 * Neither side waits: a burst that finds the gate held returns without packets, and control that
 * finds a queue inside comes back later. Hold is for changes of state; it makes bursts return 0.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

/** Who holds a gate: one bit each, so that two holders do not release each other. */
enum dynvhost_gate_holder {
	DYNVHOST_GATE_CONTROL = 1u << 0, /**< the control thread */
	DYNVHOST_GATE_ETHDEV = 1u << 1,  /**< a caller of an ethdev operation */
};

struct dynvhost_gate {
	/** Odd inside a burst. Written by the queue's polling thread alone. */
	_Atomic uint32_t seq;
	/** Bits of enum dynvhost_gate_holder. Written by control. */
	_Atomic uint32_t hold;
	/** No membarrier here: bursts fence. Set once, before the first burst. */
	bool fenced;
} __rte_cache_aligned;

/** A look at a gate, to see later whether the burst of that moment has ended. */
struct dynvhost_gate_snapshot {
	uint32_t seq;
};

/**
 * Begin a burst. Datapath. @return its number, which is odd; 0: the gate is held, the burst must not
 * touch anything.
 */
static inline uint32_t
dynvhost_gate_enter(struct dynvhost_gate *gate)
{
	/* Odd whatever it was: two threads that poll one queue, which they must not, lose steps. */
	uint32_t seq = (atomic_load_explicit(&gate->seq, memory_order_relaxed) + 1) | 1;

	atomic_store_explicit(&gate->seq, seq, memory_order_relaxed);
	/* Pairs with the membarrier of dynvhost_gate_sync(): seq is stored before hold is loaded. */
	atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(gate->fenced))
		atomic_thread_fence(memory_order_seq_cst);
	if (likely(atomic_load_explicit(&gate->hold, memory_order_acquire) == 0))
		return seq;
	atomic_store_explicit(&gate->seq, seq + 1, memory_order_release);
	return 0;
}

/**
 * End burst @p number: all it did is visible to whoever sees the gate left. Datapath. From one poll to
 * the next, what waits for what is one load of seq behind one store, and not two.
 */
static inline void
dynvhost_gate_leave_burst(struct dynvhost_gate *gate, uint32_t number)
{
	atomic_store_explicit(&gate->seq, number + 1, memory_order_release);
}

/** As dynvhost_gate_leave_burst(), of the burst that was begun last. */
static inline void
dynvhost_gate_leave(struct dynvhost_gate *gate)
{
	dynvhost_gate_leave_burst(gate, atomic_load_explicit(&gate->seq, memory_order_relaxed) | 1);
}

/** Prepare the process for gates (registers for membarrier). Control; once before any gate. */
void dynvhost_gate_setup(void);

/** Initialise a gate, held by nobody. Control, before the queue's first burst. */
void dynvhost_gate_init(struct dynvhost_gate *gate);

/** Ask for a gate. Takes effect with the next dynvhost_gate_sync(). */
static inline void
dynvhost_gate_hold(struct dynvhost_gate *gate, enum dynvhost_gate_holder holder)
{
	atomic_fetch_or_explicit(&gate->hold, holder, memory_order_relaxed);
}

/** Give a gate back: what the holder changed is visible to the next burst. */
static inline void
dynvhost_gate_release(struct dynvhost_gate *gate, enum dynvhost_gate_holder holder)
{
	atomic_fetch_and_explicit(&gate->hold, ~(uint32_t)holder, memory_order_release);
}

/** Order all holds set before against all snapshots taken after, on every thread of the process. */
void dynvhost_gate_sync(void);

/** Remember where a gate stands; to be taken after dynvhost_gate_sync(). */
static inline struct dynvhost_gate_snapshot
dynvhost_gate_look(const struct dynvhost_gate *gate)
{
	struct dynvhost_gate_snapshot snapshot = {
		.seq = atomic_load_explicit(&gate->seq, memory_order_acquire),
	};

	return snapshot;
}

/** Whether the queue has been outside at any moment since the snapshot. */
static inline bool
dynvhost_gate_was_outside(const struct dynvhost_gate *gate, struct dynvhost_gate_snapshot snapshot)
{
	if ((snapshot.seq & 1) == 0)
		return true;
	return atomic_load_explicit(&gate->seq, memory_order_acquire) != snapshot.seq;
}

#endif /* DYNVHOST_GATE_H */
