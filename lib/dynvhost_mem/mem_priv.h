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
 *	mem_spare.c    mappings kept for the rest of the process
 *	mem_trial.c    whether an engine works here
 *	mem_window.c   when a page opens and closes; what that costs
 *	mem_group.c    opening closed pages together
 *	mem_idle.c     closing what is not used
 *	mem_fault.c    faults in windows
 *	mem_signal.c   the signals they come as
 *	mem_table.c    regions and views
 *	mem_lookup.c   from guest addresses to host memory
 *	mem_log.c      the log of pages written
 *	mem_mirror.c   addresses that can be loaded whatever becomes of guest memory
 *	mem_iotlb.c    translations of an IOMMU in front of guest addresses
 *	mem_query.c    what is open, and what a cap must hold
 *	mem_numa.c     where the memory is
 *	mem_port.c     the port: create, destroy, counters
 */

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "dynvhost_mem.h"
#include "dynvhost_mem_log.h"
#include "mem_engine.h"

/** Constants of Linux 4.17 to 5.18 that libc headers may lack. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/** Most pages one call of an engine opens. Larger granules count as this many pages. */
#define MEM_GROUP_PAGES 512

/**
 * Turns that a burst takes at a page that somebody else is changing before it gives up (some 25 us:
 * longer than it takes to close a run of idle pages), and that a control call takes.
 */
#define MEM_SPINS_BURST   1024
#define MEM_SPINS_CONTROL (1u << 20)

/**
 * How much of the file's holes one port may have filled: memory that the switch's control group
 * pays for, zeroed on an lcore. One byte for each nanosecond, and a quarter of a second at once.
 */
#define MEM_FILL_BURST_NS (UINT64_C(1) << 28)

/**
 * How much time one port may have queues spend on opening pages, by what its engine is known to
 * cost: a quarter of an lcore, and an eighth of a second at once. That is some 150000 single pages
 * at once and 300000 a second with userfaultfd, and a sixth of that with mappings. A guest that
 * comes to life touches some thousands; one that sends files from its page cache at 10 Gbit/s
 * touches 300000 new ones a second.
 */
#define MEM_OPEN_PAYBACK UINT64_C(4)
#define MEM_OPEN_MOST_NS (UINT64_C(125000000) * MEM_OPEN_PAYBACK)

/** Bytes from one mapping of a hoard to the next: whole pages, whatever size pages have. */
#define MEM_HOARD_STRIDE ((size_t)65536)

/** Private state bit: an engine call that opened pages began with this one (see mem_window.c). */
#define MEM_PAGE_HEAD 0x10u

/** Private state bit: open, but the memory is gone and anonymous memory is in its place. */
#define MEM_PAGE_LOST 0x20u

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
	int (*userfaultfd)(int flags);
	int (*memfd_create)(const char *name, unsigned int flags);
	/** Make @p n mappings that serve for nothing, MEM_HOARD_STRIDE apart; all or NULL. */
	void *(*hoard)(unsigned int n);
	int (*loadable)(const void *addr); /**< 0 when 8 bytes can be loaded, no signal if not */
	void *(*calloc)(size_t n, size_t size);
	long (*get_mempolicy)(int *mode, unsigned long *nodes, unsigned long max_node, void *addr,
		unsigned int flags);
	long (*move_pages)(
		int pid, unsigned long n, void **pages, const int *nodes, int *status, int flags);
	int (*max_numa_node)(void);  /**< the highest node there is; -1: NUMA is not known */
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
	_Atomic uint32_t idle_faults; /**< faults in a row that left nothing to repair */
};

struct mem_region {
	struct dynvhost_mem_region pub; /**< first, so that either pointer gives the other */
	struct mem_region *next;        /**< all live regions of the port */
	struct mem_file *file;
	const struct mem_engine *engine;
	struct mem_window window[DYNVHOST_MEM_WINDOWS];
	struct dynvhost_mem_pin *pins;
	uint8_t *probe;  /**< the file's range without any right, for mincore(); NULL: no use */
	uint64_t serial; /**< never the same twice in a port */
	uint64_t n_pages;
	uint64_t first_file_page; /**< page number in the file of window page 0 */
	uint32_t granule_pages;
	uint32_t refs;    /**< views */
	bool spares;      /**< one of those a spare of mappings is kept for */
	atomic_bool lost; /**< counted in the port's lost_regions */
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

/** Spending that is paid back as time goes by: at one time, no more than a limit is owed. */
struct mem_rate {
	_Atomic uint64_t until_ns; /**< when all is paid back */
};

/** Where the pass that closes idle pages stands. Control thread. */
struct mem_idle {
	struct mem_region *region; /**< the pass goes on here; NULL: no pass is under way */
	enum dynvhost_mem_right right;
	uint64_t page;
	struct mem_rate closes;
};

struct dynvhost_mem {
	struct dynvhost_mem_config config; /**< `name` points to the copy below */
	char name[64];
	const struct mem_engine *engine;   /**< of regions whose file it can serve */
	const struct mem_engine *fallback; /**< of the others; NULL: they are refused */
	char reason[MEM_REASON_SIZE];      /**< why this engine */
	struct mem_fence fence;
	struct mem_file *files;
	void (*close_fd)(void *opaque, int fd); /**< closes their fds; NULL: we do */
	void *close_opaque;
	struct mem_region *regions;
	uint64_t last_serial;
	int64_t max_mappings;     /**< of all ports' open pages together */
	_Atomic int64_t mappings; /**< of this port's */
	struct mem_rate opens;
	struct mem_rate fills;
	struct mem_idle idle;
	atomic_bool room_wanted; /**< an open was refused for want of room since a pass began */
	_Atomic uint32_t lost_regions; /**< regions with pages whose memory is gone */
	struct mem_counters counters;
	char stray[96]; /**< how the report of a stray pointer begins */
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

/** Whether no more than @p most_ns is owed. Any thread. */
static inline bool
mem_rate_allows(const struct mem_rate *rate, uint64_t now_ns, uint64_t most_ns)
{
	uint64_t until_ns = atomic_load_explicit(&rate->until_ns, memory_order_relaxed);

	return until_ns <= now_ns || until_ns - now_ns <= most_ns;
}

/** Owe @p cost_ns more. Any thread. */
static inline void
mem_rate_charge(struct mem_rate *rate, uint64_t now_ns, uint64_t cost_ns)
{
	uint64_t until_ns = atomic_load_explicit(&rate->until_ns, memory_order_relaxed);
	uint64_t paid_ns;

	do {
		paid_ns = (until_ns > now_ns ? until_ns : now_ns) + cost_ns;
	} while (!atomic_compare_exchange_weak_explicit(
		&rate->until_ns, &until_ns, paid_ns, memory_order_relaxed, memory_order_relaxed));
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

/** Drop one reference; with the last one the fd goes to be closed, if it was adopted. */
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

/** The same without asking for the allowance: a page that is open must be there. */
int mem_file_fill_now(struct dynvhost_mem *mem, const struct mem_file *file, uint64_t offset,
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

/** One more region will need mappings for its open pages. */
void mem_spare_join(void);

/** One less does. */
void mem_spare_leave(void);

/** Whether open pages may have so many mappings. Any thread. */
bool mem_spare_allows(int64_t mappings);

/** The kernel has no mapping left while open pages have @p mappings: use the spare. Any thread. */
void mem_spare_use(int64_t mappings);

/**
 * See whether there is a spare again, and let open pages have more than @p mappings then; from
 * @p most on, no limit is needed. Control thread.
 */
void mem_spare_restore(int64_t mappings, int64_t most);

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
 * @param opened  receives how many of them, from the first on, are open; all on success.
 * @return as `open` of struct mem_engine, or -EAGAIN (cap, or too many mappings).
 */
int mem_window_open_run(struct mem_region *region, enum dynvhost_mem_right right, uint64_t first,
	uint64_t n, uint64_t now_ns, uint64_t *opened);

/**
 * Open closed page @p page, and as many of the pages up to @p last as one step takes. Any thread.
 *
 * @return 0: look again, something has changed; or the error of opening.
 */
int mem_group_open(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page,
	uint64_t last, const struct mem_ask *ask);

/**
 * Claim a page that may be closed: open, not used lately, not pinned. The caller knows that nobody
 * holds an address in it (control thread).
 */
bool mem_window_claim_idle(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page);

/**
 * Close the claimed pages [first, end) by one call of the engine. Control thread.
 *
 * @return whether they are closed; else they are as before they were claimed, or out of use.
 */
bool mem_window_close_run(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t end);

/** Account for bytes that a mirror shows from now on, or (negative) no longer. */
void mem_window_count_mirror(struct dynvhost_mem *mem, int64_t bytes);

/** Let pages open again for which there were no mappings. Control thread. */
void mem_window_restore(const struct dynvhost_mem *mem);

/** Number of the granule that a page lies in; granules are aligned in the file. */
static inline uint64_t
mem_granule(const struct mem_region *region, uint64_t page)
{
	return (region->first_file_page + page) / region->granule_pages;
}

/** One past the last page of a granule, inside the region. */
static inline uint64_t
mem_granule_end(const struct mem_region *region, uint64_t granule)
{
	uint64_t end = (granule + 1) * region->granule_pages - region->first_file_page;

	return end < region->n_pages ? end : region->n_pages;
}

/** A region is about to be freed: no pass may go on in it. */
void mem_idle_forget(const struct mem_region *region);

/**
 * Close those of the pages [first, end) that are open and not pinned, used lately or not: nobody
 * holds an address in them. Control thread. @return whether all are; else there is more to do.
 */
bool mem_idle_close_range(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t end);

/** As dynvhost_mem_translate() in a table's view. */
int mem_iotlb_translate(const struct dynvhost_mem_iotlb *iotlb, struct dynvhost_mem_cursor *cursor,
	uint64_t iova, uint64_t len, enum dynvhost_mem_right right, struct dynvhost_mem_span *span);

/** The guest memory that a table lies over; NULL: none. Control. */
const struct dynvhost_mem_view *mem_iotlb_memory(const struct dynvhost_mem_iotlb *iotlb);

/**
 * As dynvhost_mem_pin() in a table's view; -EAGAIN: translations are missing, and are wanted now;
 * -EXDEV: there are all, but they do not lead to one piece of guest memory.
 */
int mem_iotlb_pin(struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_pin *pin);

/** What an instruction wanted that faulted. */
enum mem_access {
	MEM_ACCESS_UNKNOWN = 0,
	MEM_ACCESS_LOAD,
	MEM_ACCESS_STORE,
};

/** A signal that the kernel sent for an address. */
struct mem_fault {
	uintptr_t addr;
	int signal; /**< SIGBUS or SIGSEGV */
	int code;   /**< si_code */
	enum mem_access access;
};

/** Look for faults in a region whose windows have been set up. 0 or -ENOMEM. */
int mem_fault_watch(struct mem_region *region);

/** Stop looking for faults in a region; waits for handlers that are about to use it. */
void mem_fault_forget(const struct mem_region *region);

/** A mapping of a front-end's file that is no window: faults in it are its owner's business. */
struct mem_mapping {
	uint8_t *map;
	size_t map_length;
	/**
	 * Treat a fault in it. Runs in signal handlers.
	 * @return whether it may be touched again; else the process goes the way of a stray pointer.
	 */
	bool (*treat)(struct mem_mapping *mapping, const struct mem_fault *fault);
};

/** Look for faults in a mapping. 0 or -ENOMEM. */
int mem_fault_watch_mapping(struct mem_mapping *mapping);

/** Stop looking for faults in a mapping; waits for handlers that are about to use it. */
void mem_fault_forget_mapping(const struct mem_mapping *mapping);

/**
 * Treat a fault if it lies in a window or its guards, or in a watched mapping. Runs in signal handlers.
 *
 * @return true: go on where it happened; false: it is not ours, or it is a stray pointer and has
 *         been reported.
 */
bool mem_fault_handle(const struct mem_fault *fault);

/** Note that memory of the region is gone for good. Runs in signal handlers. */
void mem_region_lose(struct mem_region *region);

/** Take the pin bit off those of the pages that have it. Control thread. */
void mem_window_unpin(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n);

#endif /* DYNVHOST_MEM_PRIV_H */
