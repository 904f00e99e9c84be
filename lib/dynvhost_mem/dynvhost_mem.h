/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_H
#define DYNVHOST_MEM_H

/**
 * @file
 * Guest memory, opened on demand.
 *
 * Theory of operation
 * -------------------
 * A front-end describes guest memory as regions: a range of guest physical addresses (gpa) that is
 * a range of some file. Each region reserves two address ranges of our own, its *windows*: through
 * the read window a page can only be loaded, through the write window it can be loaded and stored.
 * A reservation holds nothing. A page becomes reachable when a ring or a packet needs it, through
 * the window that gives the least right that serves, and is closed again when it falls idle. The
 * right of a page is the window through which it is reached, so no page is ever upgraded.
 *
 * The host address (hva) of a byte is the window's base plus its distance from the region's start:
 * a buffer that spans pages is contiguous in the window. Regions that adjoin in guest physical
 * memory do not adjoin in the windows; translation says how many bytes it covered, callers loop.
 *
 * Every page of a window has one state byte:
 *
 *	0            closed, and no page-table entry for it exists
 *	OPEN|REF     open and used lately: the hit of the hot path, one load and one compare
 *	OPEN         open, not used since the last idle pass; a user wins REF back by a CAS
 *	PIN          set beside OPEN|REF for pages that hold rings; never closed as idle
 *	BUSY         one owner is opening or closing the page; everybody else gets -EAGAIN
 *
 * Opening costs the queue that needs it about a microsecond; it is limited per burst (by the
 * caller's budget), in rate, and by a cap, and what is refused is -EAGAIN: leave the ring as it is
 * and come back. Closing interrupts every lcore of the process, and is the control thread's work:
 * see dynvhost_mem_idle_pass().
 *
 * What an address in a window shows is the front-end's file, which it can punch and cut, and memory
 * that the kernel moves and reclaims. A fault on an open page is therefore part of ordinary life: a
 * signal handler puts the page back, or if it is gone, anonymous memory in its place, and the burst
 * goes on (dynvhost_mem_is_lost()). Two things follow for callers. A thread that touches windows
 * must not block SIGBUS or SIGSEGV. And window addresses are not for system calls, which fail with
 * EFAULT where a load would have been mended. A fault that the page's state or the window's right
 * does not allow is a bug of the process: it is reported on standard error, and ends it.
 *
 * The set of regions is a *view*: immutable once built. Changing memory means building a new view
 * beside the old one, publishing it to the queues while they are outside their bursts, and
 * releasing the old one. Regions that both views name are shared, with their open pages.
 *
 * Threads
 * -------
 * Control calls (everything that is not marked "any thread") come from one thread at a time.
 * dynvhost_mem_translate() may run on any number of threads, each with its own cursor, on views
 * that the caller keeps alive. dynvhost_mem_stats_get() may run on any thread.
 *
 * The library depends on libc and libnuma alone, and does not log: after a failed control call
 * dynvhost_mem_why() gives the words for it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Regions one view can hold; what vhost-user front-ends use at most. */
#define DYNVHOST_MEM_MAX_REGIONS 509

/** Page state bits. */
#define DYNVHOST_MEM_OPEN 0x01u
#define DYNVHOST_MEM_REF  0x02u
#define DYNVHOST_MEM_PIN  0x04u
#define DYNVHOST_MEM_BUSY 0x08u
#define DYNVHOST_MEM_HIT  (DYNVHOST_MEM_OPEN | DYNVHOST_MEM_REF)

/** A right, and at the same time the window that gives it. */
enum dynvhost_mem_right {
	DYNVHOST_MEM_READ = 0,
	DYNVHOST_MEM_WRITE = 1,
};
#define DYNVHOST_MEM_WINDOWS 2

/** Page-table engine. */
enum dynvhost_mem_mode {
	DYNVHOST_MEM_MODE_AUTO = 0, /**< uffd where it works, else mmap */
	DYNVHOST_MEM_MODE_UFFD,     /**< userfaultfd over one mapping of the file */
	DYNVHOST_MEM_MODE_MMAP,     /**< a mapping for each open granule */
	DYNVHOST_MEM_MODE_EAGER,    /**< open everything at table time; to measure against */
};

/** How one port wants its guest memory treated. */
struct dynvhost_mem_config {
	const char *name;            /**< port name, for fault reports; copied */
	enum dynvhost_mem_mode mode; /**< page-table engine */
	uint64_t granule;   /**< bytes opened and closed together, a power of two; 0: page size;
			     *   what is below one page or above 512 counts as that */
	uint64_t max_bytes; /**< cap of open bytes over both windows; 0: none, as eager needs it */
	bool dump;          /**< let core dumps hold open guest memory */
	bool require_seal;  /**< refuse files that can still shrink */
	bool any_file;      /**< accept files outside tmpfs and hugetlbfs (tests) */
};

/** One region as a front-end describes it. */
struct dynvhost_mem_slot {
	uint64_t gpa;         /**< guest physical address of the first byte */
	uint64_t size;        /**< bytes */
	uint64_t uva;         /**< address of the first byte in the front-end */
	uint64_t file_offset; /**< position of the first byte in the file */
	int fd;               /**< the file */
};

/** One address range of ours that shows a region's pages with one right. */
struct dynvhost_mem_window {
	uint8_t *base; /**< hva of the region's first byte */
	_Atomic uint8_t
		*state; /**< one byte per page; [0] is the page of the region's first byte */
};

struct dynvhost_mem;

/** A region with its two windows; shared by all views that name it. */
struct dynvhost_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint32_t page_shift; /**< log2 of the file's page size */
	uint32_t phase;      /**< bytes between the start of the first page and the first byte */
	struct dynvhost_mem_window window[DYNVHOST_MEM_WINDOWS];
	uint64_t file_offset;
	struct dynvhost_mem *mem;
};

/** An immutable table of regions, sorted by gpa. */
struct dynvhost_mem_view {
	struct dynvhost_mem *mem;
	uint32_t n_regions;
	uint16_t *times; /**< for each region, how often it was added and not removed */
	struct dynvhost_mem_iotlb *iotlb; /**< its addresses are IOVAs; NULL: they are gpas */
	struct dynvhost_mem_region *region[];
};

/**
 * What one queue keeps between translations. Zero it once; set `budget` before each burst.
 */
struct dynvhost_mem_cursor {
	uint32_t hint;   /**< index of the region of the last hit */
	uint32_t other;  /**< index of the region of the hits before */
	uint32_t budget; /**< granules this burst may still open; at 0 misses give -EAGAIN */
	_Atomic uint64_t
		miss; /**< translation that is waited for (dynvhost_mem_iotlb.h); 0: none */
};

/** Host memory for a piece of guest memory. */
struct dynvhost_mem_span {
	void *hva;
	uint64_t len;
};

/** Pages kept open for a ring. */
struct dynvhost_mem_pin {
	struct dynvhost_mem_region *region; /**< NULL: nothing pinned */
	struct dynvhost_mem_pin *next;      /**< owned by the library while pinned */
	uint64_t first_page;
	uint64_t n_pages;
	enum dynvhost_mem_right right;
	void *hva; /**< first pinned byte */
};

/**
 * Exposure and events of one port. "Bytes" count addresses of ours through which guest memory
 * answers.
 */
struct dynvhost_mem_stats {
	uint64_t guest_bytes;    /**< size of all regions that some view holds */
	uint64_t loadable_bytes; /**< open in either window */
	uint64_t loadable_peak;
	uint64_t storable_bytes; /**< open in the write window */
	uint64_t storable_peak;
	uint64_t pinned_bytes; /**< part of loadable_bytes that holds rings */
	uint64_t opens;        /**< pages opened */
	uint64_t closes;       /**< pages closed */
	uint64_t repairs;     /**< open pages that the kernel had taken away and that were put back;
				*   with mappings it does so itself, and nobody counts */
	uint64_t denials;     /**< opens refused: budget, rate, cap, the kernel, or a page that
				*   somebody else is changing */
	uint64_t allocations; /**< holes of the file that had to be filled */
	uint64_t lost;        /**< pages whose memory is gone for good */
	uint64_t last_open_ns; /**< CLOCK_MONOTONIC of the last open, 0: none yet */
};

/**
 * Create the guest memory of one port. It starts without regions.
 *
 * The engine is chosen here, by trying: the first port of the process that wants an engine has it
 * open and close pages of its own. With DYNVHOST_MEM_MODE_AUTO, a region whose file that engine
 * cannot serve (huge pages before Linux 5.18) gets the mmap engine; with a mode that names an
 * engine it is refused.
 *
 * @return 0, or -EINVAL (bad granule, mode or cap), -ENOMEM, -ENOTSUP (engine does not work here);
 *         dynvhost_mem_why(NULL) has the words.
 */
int dynvhost_mem_create(const struct dynvhost_mem_config *config, struct dynvhost_mem **mem);

/**
 * Free a port's guest memory. All its views must have been released and pins dropped. NULL is fine.
 */
void dynvhost_mem_destroy(struct dynvhost_mem *mem);

/**
 * Have somebody else close the fds of files that are not needed any more: who closes the last fd of a
 * file frees its memory, which takes a tenth of a second for a GiB. Nothing of the file is mapped by
 * then. NULL: the library closes them itself. Control call.
 */
void dynvhost_mem_set_close(
	struct dynvhost_mem *mem, void (*close_fd)(void *opaque, int fd), void *opaque);

/**
 * Words for the last failed control call on @p mem, for a log line; valid until the next call.
 * NULL: for the last dynvhost_mem_create() that failed.
 */
const char *dynvhost_mem_why(const struct dynvhost_mem *mem);

/** The engine in use: "mmap", "uffd" or "eager". Any thread. */
const char *dynvhost_mem_engine_name(const struct dynvhost_mem *mem);

/** Why this engine is in use, for one log line: "as configured", or what was seen. Any thread. */
const char *dynvhost_mem_engine_reason(const struct dynvhost_mem *mem);

/**
 * Build a view of exactly @p slots. Regions that @p old (may be NULL) holds with the same gpa,
 * size, uva, file and file offset are taken over with their open pages. Every field is judged with
 * overflow-safe arithmetic and the file is inspected before anything is reserved
 * (vhost-user.rst, "Memory regions description"). Cost: O(regions), never O(guest memory).
 *
 * On success the view owns every slot's fd (it may close some: one fd per file is kept) and the
 * caller must forget them; on failure the caller still owns them and @p old is untouched.
 *
 * @return 0; -EINVAL (size 0, wrap-around, misfit of gpa and file page, not a regular file, file
 * too short, not writable), -EEXIST (overlap in gpa or uva), -ENOSPC (too many), -EPERM (kind of
 * file, file system or seal refused), -ENOTSUP (not a file for the engine that was asked for), -ENOMEM.
 */
int dynvhost_mem_view_build(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slots, uint32_t n_slots, struct dynvhost_mem_view **view);

/**
 * As dynvhost_mem_view_build(), for @p old (may be NULL) plus one region.
 *
 * A region of @p old may be added again, as often as a device has queues: front-ends of the field
 * (QEMU before 8.0) do so once for each pair of them, and remove it as often.
 */
int dynvhost_mem_view_add(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slot, struct dynvhost_mem_view **view);

/**
 * A view of @p old without the region whose gpa, size and uva are those of @p slot (fd and offset
 * are not looked at); one that was added more than once is still there, once less.
 *
 * @return 0; -ENOENT (no such region), -ENOMEM.
 */
int dynvhost_mem_view_remove(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slot, struct dynvhost_mem_view **view);

/**
 * Let go of a view. Regions that no other view holds are unmapped wholly before this returns; their
 * file is closed when its last region goes (see dynvhost_mem_set_close()). No queue may be inside a
 * burst that uses the view, and no pin may be left on a region that goes. NULL is fine.
 */
void dynvhost_mem_view_release(struct dynvhost_mem_view *view);

/**
 * Find the gpa of @p len bytes at front-end address @p uva. They must lie in one region. @return 0
 * or -EFAULT.
 */
int dynvhost_mem_uva_to_gpa(
	const struct dynvhost_mem_view *view, uint64_t uva, uint64_t len, uint64_t *gpa);

/**
 * Open the pages of @p len > 0 bytes at @p gpa and keep them open until dynvhost_mem_unpin(). The
 * bytes must lie in one region. Pages may be pinned several times.
 *
 * @param pin  linked into the region until unpinned: must stay where it is.
 * @return 0; -EFAULT (not in one region), -EXDEV (behind an IOMMU: not in one piece), or the error of
 *         opening (-ENOMEM, -EAGAIN …).
 */
int dynvhost_mem_pin(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_pin *pin);

/** Where the first pinned byte lies in guest memory. The pin must hold something. */
static inline uint64_t
dynvhost_mem_pin_gpa(const struct dynvhost_mem_pin *pin)
{
	const struct dynvhost_mem_region *region = pin->region;

	return region->gpa + (uint64_t)((uint8_t *)pin->hva - region->window[pin->right].base);
}

/**
 * Drop a pin; a pin with region NULL is ignored. The pages stay open, as used lately, and age from
 * now on.
 */
void dynvhost_mem_unpin(struct dynvhost_mem_pin *pin);

/**
 * Close what has been idle: one step of a pass over all open pages.
 *
 * A pass looks at each page that is open and not pinned: one that was used since the pass before
 * becomes a candidate, one that was not is closed, granule by granule, neighbours by one call of
 * the engine. So a page closes between one and two intervals after its last use, if passes begin at
 * regular intervals.
 *
 * A candidate may be closed once every burst has ended that ran when it became one. The caller sees
 * to that, and this function never waits for anybody:
 * - after the last step of each pass it takes a snapshot of every queue that uses this memory;
 * - it begins a pass only when each of these queues has been outside a burst since that snapshot.
 *
 * Work is bounded twice: a step closes and looks at a limited number of pages, so that the calling
 * thread can see to other ports in between, and closing as such has a rate, because each call
 * interrupts every lcore of the process. dynvhost_mem_idle_pending() says that the pass goes on.
 *
 * Does nothing while the port's memory is lost, and in eager mode.
 *
 * @return number of pages closed by this step.
 */
uint64_t dynvhost_mem_idle_pass(struct dynvhost_mem *mem);

/**
 * Whether a pass is under way: the next step goes on with it, and should be taken soon (after some
 * milliseconds), without looking at the queues anew.
 */
bool dynvhost_mem_idle_pending(const struct dynvhost_mem *mem);

/**
 * Whether an open was refused since the last pass began because of the cap of open bytes, or for
 * want of mappings. Passes that follow each other sooner than by idle time make room: pages go after
 * two passes without use.
 * Any thread.
 */
bool dynvhost_mem_wants_room(const struct dynvhost_mem *mem);

/**
 * The most bytes of the cap that @p len bytes of guest memory in @p pieces pieces can take,
 * wherever they lie: what they touch is open in whole pages, and a page of the front-end's largest
 * kind is assumed, though never more of them than the guest has. For judging whether a cap is enough
 * for a descriptor chain (a piece for each descriptor). Control call.
 */
uint64_t dynvhost_mem_need(const struct dynvhost_mem_view *view, uint64_t len, uint32_t pieces);

/**
 * The bytes of the cap that an area of a ring takes: the pages that hold @p len bytes at @p gpa.
 * 0: they do not lie in one region. Control call.
 */
uint64_t dynvhost_mem_area_need(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len);

/** The cap of open bytes as configured; 0: none. Any thread. */
uint64_t dynvhost_mem_cap(const struct dynvhost_mem *mem);

/**
 * Whether guest memory is gone for good while somebody was using it: cut off, or broken hardware.
 * Bursts went on with anonymous memory in its place, and nothing opens any more. The port must be
 * closed; it is as good as new when all views that hold the memory have been released. Any thread.
 */
bool dynvhost_mem_is_lost(const struct dynvhost_mem *mem);

/**
 * Put the library's handlers of SIGBUS and SIGSEGV in front of whoever handles these signals now.
 * They are what puts pages back that the kernel has taken away, and what reports stray pointers;
 * faults outside of all windows go on to whoever was there before.
 *
 * Done by each dynvhost_mem_create(). To be called again when somebody else may have put a handler
 * in front of ours since, for instance as guests connect; does nothing if ours is there. No handler
 * may be there that is not meant to stay: an application on DPDK calls this under
 * rte_mcfg_mem_read_lock(), because EAL catches SIGBUS for itself while it allocates memory. Not in
 * a signal handler, otherwise any thread.
 *
 * A handler that was there and runs on an alternate stack (SA_ONSTACK) runs on the stack of the
 * thread from now on.
 *
 * @return 0 or -ENOMEM.
 */
int dynvhost_mem_faults_arm(void);

/**
 * The NUMA node that holds the view's memory, or most of it: as the front-end has bound it, else as
 * pages that are open happen to lie, so that it is worth asking again when rings have been set up.
 * Opens and populates nothing; at most one system call per region.
 *
 * @return -1: not known.
 */
int dynvhost_mem_numa_node(const struct dynvhost_mem_view *view);

/** A run of pages that are open alike. */
struct dynvhost_mem_run {
	uint64_t gpa;   /**< of its first byte */
	uint64_t bytes; /**< in the region; pages that lie there in part are open as a whole */
	enum dynvhost_mem_right right;
	bool used;   /**< since the last idle pass */
	bool pinned; /**< holds a ring */
};

/** Where a listing of open pages stands. Zero it to begin. */
struct dynvhost_mem_run_cursor {
	uint64_t gpa;
	uint64_t serial;
	uint64_t page;
	enum dynvhost_mem_right right;
};

/**
 * List open pages, by guest address and region, those of the read window first. Queues go on
 * meanwhile, and the table may change between two calls: what was open all the time is listed once.
 * Work is bounded; a long run may come in pieces. Control call; another thread makes it under the
 * lock that control calls are made under.
 *
 * @param out  receives up to @p max > 0 runs.
 * @return how many; 0: there is nothing more.
 */
uint32_t dynvhost_mem_runs(struct dynvhost_mem *mem, struct dynvhost_mem_run_cursor *cursor,
	struct dynvhost_mem_run *out, uint32_t max);

/** Read the counters. Any thread. */
void dynvhost_mem_stats_get(const struct dynvhost_mem *mem, struct dynvhost_mem_stats *stats);

/** The miss path of dynvhost_mem_translate(): finds the region, opens what is closed. */
int dynvhost_mem_translate_miss(const struct dynvhost_mem_view *view,
	struct dynvhost_mem_cursor *cursor, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_span *span);

/**
 * Whether every page that holds bytes [offset, offset + len) of the region is a hit. @p len > 0.
 */
static inline bool
dynvhost_mem_is_hit(const struct dynvhost_mem_region *region, uint64_t offset, uint64_t len,
	enum dynvhost_mem_right right)
{
	const _Atomic uint8_t *state = region->window[right].state;
	uint64_t page = (offset + region->phase) >> region->page_shift;
	uint64_t last = (offset + region->phase + len - 1) >> region->page_shift;

	for (; page <= last; page++) {
		uint8_t s = atomic_load_explicit(&state[page], memory_order_acquire);

		if ((s & DYNVHOST_MEM_HIT) != DYNVHOST_MEM_HIT)
			return false;
	}
	return true;
}

/**
 * Turn @p len > 0 bytes at guest address @p gpa into host memory, opening pages where needed.
 * Called inside a burst; the address is good until the burst ends, never longer.
 *
 * @param cursor  the calling queue's own.
 * @param span    receives the hva and how many bytes it covers: less than @p len where the region
 *                ends (the caller asks again for the rest), never 0.
 * @return 0; -EFAULT (gpa lies in no region: the chain is bad), -EAGAIN (cannot be opened now:
 * leave
 *         the ring as it is and come back).
 */
static inline int
dynvhost_mem_translate(const struct dynvhost_mem_view *view, struct dynvhost_mem_cursor *cursor,
	uint64_t gpa, uint64_t len, enum dynvhost_mem_right right, struct dynvhost_mem_span *span)
{
	if (__builtin_expect(cursor->hint < view->n_regions, 1)) {
		const struct dynvhost_mem_region *region = view->region[cursor->hint];
		uint64_t offset = gpa - region->gpa;

		if (__builtin_expect(offset < region->size && len <= region->size - offset, 1) &&
			__builtin_expect(dynvhost_mem_is_hit(region, offset, len, right), 1)) {
			span->hva = region->window[right].base + offset;
			span->len = len;
			return 0;
		}
	}
	return dynvhost_mem_translate_miss(view, cursor, gpa, len, right, span);
}

#ifdef __cplusplus
}
#endif

#endif /* DYNVHOST_MEM_H */
