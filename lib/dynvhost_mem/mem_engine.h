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
	int uffd; /**< userfaultfd engine only, else -1 */
};

struct mem_engine {
	const char *name;
	/**
	 * Every page is reachable from reserve() to release(); open() only makes it safe to touch.
	 */
	bool whole;
	/** Mappings of the process that one open() may add, until its pages are closed. */
	uint32_t mappings;
	/** Find out by trying whether the engine works on this machine. 0 or -ENOTSUP. */
	int (*probe)(void);
	/**
	 * Reserve the range; nothing is reachable through it afterwards (see `whole`). 0 or -errno.
	 */
	int (*reserve)(struct mem_engine_window *window);
	/**
	 * Make closed pages reachable with the window's right, present in the page table, without
	 * raising a signal whatever the file is by now.
	 *
	 * @return 0; -EBUSY: what the range shows is not known, it must neither be used nor opened
	 *         again; any other -errno: nothing of the range is reachable.
	 */
	int (*open)(struct mem_engine_window *window, uint64_t offset, uint64_t length);
	/**
	 * Make open pages unreachable.
	 *
	 * @return 0; -EAGAIN: nothing has changed, try later; -EBUSY: as for open().
	 */
	int (*close)(struct mem_engine_window *window, uint64_t offset, uint64_t length);
	/**
	 * Give the address range back. Cannot fail. A dead window has a gap in it where a mapping
	 * of somebody else may live by now: its range is left reserved for ever.
	 */
	void (*release)(struct mem_engine_window *window);
};

extern const struct mem_engine dynvhost_mem_engine_mmap;
extern const struct mem_engine dynvhost_mem_engine_eager;

#endif /* DYNVHOST_MEM_ENGINE_H */
