/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_LOG_H
#define DYNVHOST_MEM_LOG_H

/**
 * @file
 * The dirty log: which pages of guest memory have been written (vhost-user.rst, "Migration").
 *
 * A front-end that moves a running guest shares a bitmap, one bit for each 4 KiB of guest physical
 * memory whatever the size of the pages behind it: bit `page % 8` of byte `page / 8`. It takes bits
 * away while we set them, and copies the pages whose bits it found. So a page's bit is set after
 * the page was written, and before the guest or the front-end can see that this has happened:
 * whoever takes the bit finds the bytes, and whoever sees the completion finds the bit, or has
 * taken it.
 *
 * Marking is for any thread. The caller sees to it that nobody marks a log that it unmaps.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dynvhost_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

/** log2 of the bytes that one bit stands for. */
#define DYNVHOST_MEM_LOG_SHIFT 12

/** The largest log: bits for 32 TiB of guest memory. */
#define DYNVHOST_MEM_LOG_MAX (UINT64_C(1) << 30)

/** A front-end's log, mapped. */
struct dynvhost_mem_log {
	_Atomic uint8_t *bits;
	uint64_t n_pages;          /**< pages that there is a bit for */
	_Atomic uint64_t unlogged; /**< written pages that there was none for */
};

/**
 * Map a log: @p size bytes at @p offset of the file @p fd, which stays the caller's. Nothing of it
 * is touched, and no page of it takes memory before a bit is set there. Control call.
 *
 * The front-end may cut the file short, or leave it without memory, at any moment: bits are then
 * set in anonymous memory and lead nowhere, see dynvhost_mem_log_is_lost().
 *
 * @return 0; -EINVAL (size 0, sum beyond 64 bits, not a regular file of that size open for reading
 *         and writing), -E2BIG (more than DYNVHOST_MEM_LOG_MAX), -EPERM (not on tmpfs),
 *         -ENOMEM; dynvhost_mem_why(mem) has the words.
 */
int dynvhost_mem_log_map(struct dynvhost_mem *mem, int fd, uint64_t offset, uint64_t size,
	struct dynvhost_mem_log **log);

/** Let go of a log that nobody marks any more. NULL is fine. Control call. */
void dynvhost_mem_log_unmap(struct dynvhost_mem_log *log);

/** Whether bits have been set that nobody will see. The port must be closed. Any thread. */
bool dynvhost_mem_log_is_lost(const struct dynvhost_mem_log *log);

/** Guest memory that @p view describes and the log has no bits for, in bytes. Control call. */
uint64_t
dynvhost_mem_log_misses(const struct dynvhost_mem_log *log, const struct dynvhost_mem_view *view);

/**
 * Mark the pages of @p len bytes at @p gpa, which have been written before: it may not be done the
 * other way round. Nothing is written outside of the log, whatever gpa and len say. Any thread.
 */
static inline void
dynvhost_mem_log_mark(struct dynvhost_mem_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa >> DYNVHOST_MEM_LOG_SHIFT;
	uint64_t last;

	if (len == 0)
		return;
	last = len - 1 <= UINT64_MAX - gpa ? gpa + len - 1 : UINT64_MAX;
	last >>= DYNVHOST_MEM_LOG_SHIFT;
	if (__builtin_expect(last >= log->n_pages, 0)) {
		uint64_t first = page < log->n_pages ? log->n_pages : page;

		atomic_fetch_add_explicit(&log->unlogged, last - first + 1, memory_order_relaxed);
		if (page >= log->n_pages)
			return;
		last = log->n_pages - 1;
	}
	/* Each is a full barrier: what was written is visible before its bit, also where the bit is
	 * set already, and a bit that was set before may be taken away at this moment.
	 */
	for (; page <= last; page++)
		atomic_fetch_or(&log->bits[page / 8], (uint8_t)(1u << (page % 8)));
}

#ifdef __cplusplus
}
#endif

#endif /* DYNVHOST_MEM_LOG_H */
