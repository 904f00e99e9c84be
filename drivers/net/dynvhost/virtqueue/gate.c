/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"

/** Set by each port's probe, to the same. */
static atomic_bool gate_has_membarrier;

void
dynvhost_gate_setup(void)
{
	atomic_store_explicit(&gate_has_membarrier,
		syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0,
		memory_order_relaxed);
}

void
dynvhost_gate_init(struct dynvhost_gate *gate)
{
	atomic_store_explicit(&gate->seq, 0, memory_order_relaxed);
	atomic_store_explicit(&gate->hold, 0, memory_order_relaxed);
	gate->fenced = !atomic_load_explicit(&gate_has_membarrier, memory_order_relaxed);
}

void
dynvhost_gate_sync(void)
{
	/* The fence orders this thread; membarrier puts one into every other running thread. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&gate_has_membarrier, memory_order_relaxed))
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}
