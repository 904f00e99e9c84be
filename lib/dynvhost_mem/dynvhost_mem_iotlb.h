/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_IOTLB_H
#define DYNVHOST_MEM_IOTLB_H

/**
 * @file
 * Translations of a guest's IOMMU, in front of guest memory (vhost-user.rst, "IOMMU support").
 *
 * Theory of operation
 * -------------------
 * Behind an IOMMU, what a driver writes into descriptors are I/O virtual addresses (IOVA), and the
 * front-end says range by range which guest memory they mean and whether it may be read or written.
 * The table of these ranges has a view of its own, in which addresses are IOVAs: whoever pins and
 * translates through it needs not know. A page is reachable only if the guest's IOMMU allows it and
 * a packet needs it.
 *
 * What the table does not hold is a *miss*: the queue's cursor keeps it (one at a time), the control
 * thread is woken, and the queue has -EAGAIN until the front-end has said something. One that was
 * denied is -EFAULT, as an address outside of guest memory is. Control's own calls do not wait: what
 * they lack is *wanted*, several pages at a time.
 *
 * The table changes only while all queues that use it are outside their bursts, so bursts read it
 * as it is. A range that goes takes the pages that were open because of it along: its removal is
 * complete when dynvhost_mem_iotlb_settle() says so.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dynvhost_mem.h"
#include "dynvhost_mem_log.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Ranges that one table holds; a further one takes the place of another. */
#define DYNVHOST_MEM_IOTLB_MAX 2048

/** Translations that control can want at a time. */
#define DYNVHOST_MEM_IOTLB_WANTS 64

/** What a range may be used for, as on the wire. */
#define DYNVHOST_MEM_IOTLB_READ  1u
#define DYNVHOST_MEM_IOTLB_WRITE 2u

struct dynvhost_mem_iotlb;

/** A translation that somebody waits for. */
struct dynvhost_mem_miss {
	uint64_t iova; /**< start of its page */
	uint8_t perm;
};

/**
 * Make an empty table.
 * @param wake_fd  non-blocking eventfd that is written to when a queue posts a miss; -1: none.
 * @return NULL: no memory.
 */
struct dynvhost_mem_iotlb *dynvhost_mem_iotlb_create(struct dynvhost_mem *mem, int wake_fd);

/** Free a table that nobody uses. NULL is fine. */
void dynvhost_mem_iotlb_destroy(struct dynvhost_mem_iotlb *iotlb);

/** The view in which addresses are IOVAs; as long-lived as the table. */
const struct dynvhost_mem_view *dynvhost_mem_iotlb_view(const struct dynvhost_mem_iotlb *iotlb);

/**
 * Lay the table over another view of guest memory. Ranges keep their meaning in the front-end's
 * addresses; those that have none in the new view go. NULL: forget everything. Queues outside.
 */
void dynvhost_mem_iotlb_set_memory(
	struct dynvhost_mem_iotlb *iotlb, const struct dynvhost_mem_view *memory);

/**
 * Enter a range; it replaces what it overlaps. As much of it counts as lies in one region. Queues
 * outside. Call dynvhost_mem_iotlb_settle() next.
 *
 * @return 0; -EINVAL (size, wrap-around or rights), -EFAULT (@p uva is in no region).
 */
int dynvhost_mem_iotlb_update(
	struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t size, uint64_t uva, uint8_t perm);

/**
 * Take a range out, and cut what it overlaps. All addresses are `iova` 0 and `size` 0, which is 2^64.
 * Queues outside. Call dynvhost_mem_iotlb_settle() next.
 *
 * @return 0 or -EINVAL (wrap-around).
 */
int dynvhost_mem_iotlb_invalidate(struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t size);

/**
 * Close pages that were open because of ranges that have gone; pinned ones stay. A step does a
 * limited amount of work, as closing has a rate. Queues outside.
 *
 * @return whether all is done; else call again before the change is acknowledged.
 */
bool dynvhost_mem_iotlb_settle(struct dynvhost_mem_iotlb *iotlb);

/** Whether a range overlaps [iova, iova + size), which does not wrap around. Control. */
bool dynvhost_mem_iotlb_overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size);

/** Number of ranges. Control call. */
uint32_t dynvhost_mem_iotlb_count(const struct dynvhost_mem_iotlb *iotlb);

/**
 * Note as wanted what has no translation of [iova, iova + len), page by page, as far as there is room.
 * Pinning does it too. Queues outside.
 * @return whether all of it has one.
 */
bool dynvhost_mem_iotlb_want(
	struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t len, uint8_t perm);

/** Take something wanted, in order to ask for it. @return false: there is nothing. Control. */
bool dynvhost_mem_iotlb_take_want(struct dynvhost_mem_iotlb *iotlb, struct dynvhost_mem_miss *miss);

/** Take a miss that has been posted, in order to ask for it. @return false: there is none. Control. */
bool dynvhost_mem_miss_take(struct dynvhost_mem_cursor *cursor, struct dynvhost_mem_miss *miss);

/** It could not be asked for: it counts as posted again, without waking anybody. Control. */
void dynvhost_mem_miss_repost(struct dynvhost_mem_cursor *cursor);

/** Forget a miss that has not been answered, so that it or another one can be posted. Control. */
void dynvhost_mem_miss_forget(struct dynvhost_mem_cursor *cursor);

/**
 * The front-end has answered for [iova, iova + size): a miss there is settled, and if it was not
 * granted, the address is as bad as one outside of guest memory. Control.
 */
void dynvhost_mem_miss_answer(
	struct dynvhost_mem_cursor *cursor, uint64_t iova, uint64_t size, bool granted);

/** The front-end refuses to translate just this: as an answer that does not grant it. Control. */
void
dynvhost_mem_miss_refuse(struct dynvhost_mem_cursor *cursor, const struct dynvhost_mem_miss *miss);

/**
 * As dynvhost_mem_log_mark(), for bytes of @p view, which may be a table's. Inside a burst, or with
 * queues outside.
 */
void dynvhost_mem_iotlb_log(struct dynvhost_mem_log *log, const struct dynvhost_mem_view *view,
	uint64_t addr, uint64_t len);

#ifdef __cplusplus
}
#endif

#endif /* DYNVHOST_MEM_IOTLB_H */
