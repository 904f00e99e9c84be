/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_PRIV_H
#define DYNVHOST_MEM_PRIV_H

/**
 * @file
 * What the files of the library share. Layers, each using only those above it:
 *
 *	mem_sys.c      every call that leaves the library, replaceable
 *	mem_file.c     the front-end's files: judge, share, fill holes
 *	mem_pages.c    a window's state bytes and the index of those that are not closed
 *	mem_reserve.c  address ranges that hold nothing
 *	mem_engine_*   page-table engines
 *	mem_window.c   when a page opens and closes; what that costs
 *	mem_group.c    opening closed pages together
 *	mem_table.c    regions and views
 *	mem_lookup.c   from guest addresses to host memory
 *	mem_port.c     the port: create, destroy, counters
 */

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "dynvhost_mem.h"
#include "mem_engine.h"

/** Constants of Linux 4.17 and 5.14 that libc headers may lack. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

/** Most pages one call of an engine opens. Larger granules count as this many pages. */
#define MEM_GROUP_PAGES 512

/** Looks at a BUSY page before a burst gives up (about 10 us), and before a control call does. */
#define MEM_SPINS_BURST   256
#define MEM_SPINS_CONTROL (1u << 20)

/**
 * How much of the file's holes one port may have filled: memory that the switch's control group
 * pays for, zeroed on an lcore. One byte for each nanosecond, and a quarter of a second at once.
 */
#define MEM_FILL_BURST_NS (UINT64_C(1) << 28)

/** Private state bit: an engine call that opened pages began with this one (see mem_window.c). */
#define MEM_PAGE_HEAD 0x10u

/**
 * Every call that leaves the library. Tests put a table of their own in place to make the n-th call
 * fail. Errors come as the system reports them, -1 (MAP_FAILED, NULL) and errno.
 */
struct mem_sys_ops {
	void *(*mmap)(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
	int (*munmap)(void *addr, size_t length);
	int (*mprotect)(void *addr, size_t length, int prot);
	int (*madvise)(void *addr, size_t length, int advice);
	int (*mincore)(void *addr, size_t length, unsigned char *vec);
	int (*munlock)(const void *addr, size_t length);
	int (*fstat)(int fd, struct stat *st);
	int (*fstatfs)(int fd, struct statfs *fs);
	int (*fcntl)(int fd, int cmd, int arg);
	int (*fallocate)(int fd, int mode, off_t offset, off_t length);
	int (*writable)(int fd); /**< 0 when we own the file or may open it for writing */
	int (*close)(int fd);
	int (*ioctl)(int fd, unsigned long request, void *arg);
	void *(*calloc)(size_t n, size_t size);
	uint64_t (*now_ns)(void);    /**< CLOCK_MONOTONIC; cannot fail */
	long (*max_map_count)(void); /**< vm.max_map_count; cannot fail */
};

extern const struct mem_sys_ops dynvhost_mem_sys_real;
extern const struct mem_sys_ops *dynvhost_mem_sys;

/** A file of the front-end, shared by all regions of the port that name it. */
struct mem_file {
	struct mem_file *next;
	dev_t dev;
	ino_t ino;
	int fd;
	bool owned;     /**< the fd is ours to close */
	bool countable; /**< mincore() tells the truth about it */
	uint32_t refs;
	uint64_t page_size;
};

/** A window's pages that are not closed; level 0 is the state bytes. */
struct mem_pages {
	_Atomic uint8_t *state;  /**< one byte per page */
	_Atomic uint64_t *line;  /**< one bit per 64 pages */
	_Atomic uint64_t *block; /**< one bit per word of `line` */
	uint64_t n;
	void *map;
	size_t map_length;
};

struct mem_window {
	struct mem_pages pages;
	struct mem_engine_window engine;
};

struct mem_region {
	struct dynvhost_mem_region pub; /**< first, so that either pointer gives the other */
	struct mem_region *next;        /**< all live regions of the port */
	struct mem_file *file;
	struct mem_window window[DYNVHOST_MEM_WINDOWS];
	struct dynvhost_mem_pin *pins;
	uint8_t *probe; /**< the file's range without any right, for mincore(); NULL: no use */
	uint64_t n_pages;
	uint64_t first_file_page; /**< page number in the file of window page 0 */
	uint32_t granule_pages;
	uint32_t refs; /**< views */
};

/** Counters as they are kept; names as in struct dynvhost_mem_stats. */
struct mem_counters {
	_Atomic uint64_t guest_bytes;
	_Atomic uint64_t loadable_bytes;
	_Atomic uint64_t loadable_peak;
	_Atomic uint64_t storable_bytes;
	_Atomic uint64_t storable_peak;
	_Atomic uint64_t pinned_bytes;
	_Atomic uint64_t opens;
	_Atomic uint64_t closes;
	_Atomic uint64_t repairs;
	_Atomic uint64_t denials;
	_Atomic uint64_t allocations;
	_Atomic uint64_t lost;
	_Atomic uint64_t last_open_ns;
};

struct dynvhost_mem {
	struct dynvhost_mem_config config; /**< `name` points to the copy below */
	char name[64];
	const struct mem_engine *engine;
	struct mem_file *files;
	struct mem_region *regions;
	int64_t max_mappings;           /**< of all ports' open pages together */
	_Atomic uint64_t fill_until_ns; /**< the fills so far are paid for at this time */
	struct mem_counters counters;
	char why[256];
};

static inline struct mem_region *
mem_region_of(const struct dynvhost_mem_region *pub)
{
	return (struct mem_region *)(uintptr_t)pub;
}

/** log2 of a power of two. */
static inline uint32_t
mem_log2(uint64_t power)
{
	return (uint32_t)__builtin_ctzll(power);
}

/** Add to a counter. Any thread. */
static inline void
mem_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/** Keep the words for a failed control call. @return @p rc, for `return mem_fail(...)`. */
int mem_fail(struct dynvhost_mem *mem, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * Judge the file behind a slot and find or make its record. A new record borrows the fd until
 * mem_file_adopt().
 *
 * @return 0, or as dynvhost_mem_view_build() and with words.
 */
int mem_file_get(
	struct dynvhost_mem *mem, const struct dynvhost_mem_slot *slot, struct mem_file **file);

/** Take a slot's fd over: it becomes the file's, or is closed where the file has one. */
void mem_file_adopt(struct mem_file *file, int fd);

/** Drop one reference; the last one closes the fd if it was adopted. */
void mem_file_put(struct dynvhost_mem *mem, struct mem_file *file);

/** Whether every byte of the file has memory behind it. */
static inline bool
mem_file_is_full(const struct stat *st)
{
	return st->st_size / 512 + (st->st_size % 512 != 0) <= st->st_blocks;
}

/**
 * Give memory to a range of the file, inside the port's allowance. Any thread.
 *
 * @param all_holes  the whole range is known to be holes; else the file is asked what it cost.
 * @return 0; -EAGAIN (allowance used up), or the error of fallocate(2).
 */
int mem_file_fill(struct dynvhost_mem *mem, const struct mem_file *file, uint64_t offset,
	uint64_t length, bool all_holes);

/** Set up the state of @p n closed pages; touches none of it. 0 or -ENOMEM. */
int mem_pages_init(struct mem_pages *pages, uint64_t n);

/** Free it. One that was never set up (all zero) is fine. */
void mem_pages_fini(struct mem_pages *pages);

/** Enter a page whose state has left "closed" into the index. Any thread. */
void mem_pages_mark(struct mem_pages *pages, uint64_t page);

/**
 * The first page at or after @p from that is not closed, or pages->n. Takes lines that turn out to
 * be all closed out of the index. One thread at a time (control); mem_pages_mark() may run beside
 * it.
 */
uint64_t mem_pages_next(struct mem_pages *pages, uint64_t from);

/** Reserve and set up both windows of a region whose other fields are filled in. 0 or -errno. */
int mem_windows_init(struct mem_region *region);

/** Close and free both windows, and take what they held out of the counters. */
void mem_windows_fini(struct mem_region *region);

/** What an open is for. */
struct mem_ask {
	uint32_t *budget; /**< granules that may be opened, counted down; NULL: no limit */
	uint8_t bits;     /**< state bits the pages must have besides OPEN and REF: 0 or PIN */
	uint32_t spins;   /**< patience with pages that somebody else is changing */
};

/**
 * Make pages [first, last] of a window hits. Any thread.
 *
 * @return 0 or -EAGAIN; pages opened until then stay open.
 */
int mem_window_open(struct mem_region *region, enum dynvhost_mem_right right, uint64_t first,
	uint64_t last, const struct mem_ask *ask);

/**
 * Open the BUSY pages [first, first + n), which the caller has claimed, by one call of the engine,
 * and account for them. The caller sets their state. Any thread.
 *
 * @return as `open` of struct mem_engine, or -EAGAIN (cap, or too many mappings).
 */
int mem_window_open_run(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n);

/**
 * Open closed page @p page, and as many of the pages up to @p last as one step takes. Any thread.
 *
 * @return 0; 1: another thread was faster, look again; or the error of opening.
 */
int mem_group_open(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page,
	uint64_t last, const struct mem_ask *ask);

/**
 * Close those of the pages [first, first + n) that are open, not used lately, and not pinned. The
 * caller knows that nobody holds an address in them (control thread).
 *
 * @return number of pages closed.
 */
uint64_t mem_window_close(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n);

/** Take the pin bit off those of the pages that have it. Control thread. */
void mem_window_unpin(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n);

#endif /* DYNVHOST_MEM_PRIV_H */
