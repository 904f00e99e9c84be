/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_ENGINE_H
#define DYNVHOST_MEM_ENGINE_H

/**
 * @file
 * What a page-table engine can do. A new engine is one new file and one row in the engine table.
 *
 * An engine moves page-table entries, and nothing else: which page is open, for whom and for how
 * long is decided in mem_window.c, which also sees to it that two calls never meet on one page. All
 * calls work on one window of one region; ranges are whole pages of the file, in bytes from the
 * window's first page.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dynvhost_mem.h"

/** What a port's userfaultfd windows share. */
struct mem_fence {
	_Atomic int fd;   /**< the userfaultfd while `windows` is not 0; -1: it was lost */
	uint32_t windows; /**< how many it keeps closed */
};

/** One window as the engine sees it. */
struct mem_engine_window {
	uint8_t *start;       /**< hva of the window's first page; NULL: not reserved */
	uint64_t length;      /**< bytes, whole pages */
	uint64_t page_size;   /**< of the file */
	uint64_t file_offset; /**< position of the window's first page in the file */
	int fd;               /**< the file; owned by the table */
	enum dynvhost_mem_right right;
	bool dump;        /**< leave open pages in core dumps */
	atomic_bool dead; /**< given up: cannot be kept closed safely, nothing opens any more */
	void *map;        /**< all that was reserved: the window and its guards */
	size_t map_length;
	struct mem_fence *fence; /**< the port's; userfaultfd engine only */
	bool fenced;             /**< counted there */
};

/** Words for why an engine does or does not work. */
#define MEM_REASON_SIZE 128

struct mem_engine {
	const char *name;
	/**
	 * Every page is reachable from reserve() to release(); open() only makes it safe to touch.
	 */
	bool whole;
	/** open() takes what has memory behind it and stops at a hole, so nobody needs to look. */
	bool finds_holes;
	/** Mappings of the process that one open() may add, until its pages are closed. */
	uint32_t mappings;
	/** What open() costs, in nanoseconds for a call and for each page; see mem_window.c. */
	uint32_t open_call_ns;
	uint32_t open_page_ns;
	/**
	 * Find out by trying whether the engine works on this machine.
	 *
	 * @param reason  receives what was seen.
	 * @return 0; -ENOTSUP, or another -errno where it could not be tried.
	 */
	int (*probe)(char reason[MEM_REASON_SIZE]);
	/**
	 * Reserve the range; nothing is reachable through it afterwards (see `whole`).
	 *
	 * @return 0; -ENOTSUP: not for this file; or another -errno.
	 */
	int (*reserve)(struct mem_engine_window *window);
	/**
	 * Make closed pages reachable with the window's right, present in the page table, without
	 * raising a signal whatever the file is by now.
	 *
	 * @param opened  receives how many bytes, from the first page on, are open; all on success.
	 * @return 0; what is behind those bytes is not reachable in case of any error but these:
	 *         -EBUSY: what the range shows is not known, it must neither be used nor opened
	 *         again; -EOWNERDEAD: the engine has lost hold of the window and has emptied it. Of
	 *         the other errors -ENODATA says that the page there has no memory behind it.
	 */
	int (*open)(struct mem_engine_window *window, uint64_t offset, uint64_t length,
		uint64_t *opened);
	/**
	 * Make open pages unreachable.
	 *
	 * @return 0; -EAGAIN: nothing has changed, try later; -EBUSY: as for open().
	 */
	int (*close)(struct mem_engine_window *window, uint64_t offset, uint64_t length);
	/**
	 * Put an open page back that the kernel has taken away. Runs in signal handlers, and beside
	 * calls for other pages.
	 *
	 * @return 0; -EEXIST: it is there; or an error as for open().
	 */
	int (*repair)(struct mem_engine_window *window, uint64_t offset);
	/**
	 * Whether the engine still has hold of the window; if not, empty it. NULL: it cannot lose
	 * hold. @return 0 or -EOWNERDEAD.
	 */
	int (*check)(struct mem_engine_window *window);
	/**
	 * Give the address range back. Cannot fail. A dead window has a gap in it where a mapping
	 * of somebody else may live by now: its range is left reserved for ever.
	 */
	void (*release)(struct mem_engine_window *window);
};

extern const struct mem_engine dynvhost_mem_engine_uffd;
extern const struct mem_engine dynvhost_mem_engine_mmap;
extern const struct mem_engine dynvhost_mem_engine_eager;

#endif /* DYNVHOST_MEM_ENGINE_H */
