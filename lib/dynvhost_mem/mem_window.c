/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * A region's two windows: when a page opens, when it closes, and what it costs.
 *
 * Security model: which page is asked for, and how often, is the guest's choice; so is what the
 * file behind it has become by then. A page is changed only by the one who put BUSY into its state
 * byte; everybody else finds another way or comes back later, so nobody waits longer than a bounded
 * spin.
 *
 * Mappings of the process are counted in engine calls: a call that opens pages adds at most
 * `engine->mappings`, and marks its first page HEAD. Closing takes the heads of the closed pages
 * back; where the rest of a call's pages stay open behind them, the rest gets a head of its own. So
 * the count is never less than what the kernel holds.
 */

#include <errno.h>

#include "mem_priv.h"

/** Mappings charged, by all ports of the process. */
static _Atomic int64_t window_mappings;

static inline void
window_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void
window_raise_peak(_Atomic uint64_t *peak, uint64_t value)
{
	uint64_t seen = atomic_load_explicit(peak, memory_order_relaxed);

	while (seen < value && !atomic_compare_exchange_weak_explicit(peak, &seen, value,
				       memory_order_relaxed, memory_order_relaxed))
		;
}

/** Account for pages that are no longer reachable. */
static void
window_uncharge(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t bytes, uint64_t n_heads)
{
	struct dynvhost_mem *mem = region->pub.mem;
	struct mem_counters *counters = &mem->counters;
	int64_t mappings = (int64_t)(n_heads * region->engine->mappings);

	atomic_fetch_sub_explicit(&counters->loadable_bytes, bytes, memory_order_relaxed);
	if (right == DYNVHOST_MEM_WRITE)
		atomic_fetch_sub_explicit(&counters->storable_bytes, bytes, memory_order_relaxed);
	if (mappings == 0)
		return;
	atomic_fetch_sub_explicit(&mem->mappings, mappings, memory_order_relaxed);
	atomic_fetch_sub_explicit(&window_mappings, mappings, memory_order_relaxed);
}

/**
 * Charge for mappings of one call. Those of all ports together have a limit, and one port may have
 * no more of them than it leaves to others: there is always some room for the next. The limit is
 * lower while the process has none left.
 */
static bool
window_charge_mappings(struct dynvhost_mem *mem, int64_t n)
{
	int64_t all, own;

	if (n == 0)
		return true;
	all = atomic_fetch_add_explicit(&window_mappings, n, memory_order_relaxed) + n;
	own = atomic_fetch_add_explicit(&mem->mappings, n, memory_order_relaxed) + n;
	return own <= mem->max_mappings - all && mem_spare_allows(all);
}

/** Charge for bytes of the cap. */
static bool
window_charge_bytes(struct dynvhost_mem *mem, enum dynvhost_mem_right right, uint64_t bytes)
{
	struct mem_counters *counters = &mem->counters;
	uint64_t max_bytes = mem->config.max_bytes;
	uint64_t before;

	before = atomic_fetch_add_explicit(&counters->loadable_bytes, bytes, memory_order_relaxed);
	if (right == DYNVHOST_MEM_WRITE)
		mem_count(&counters->storable_bytes, bytes);
	return max_bytes == 0 || (before <= max_bytes && bytes <= max_bytes - before);
}

/** Account for one call that makes @p bytes reachable, before it is made. 0 or -EAGAIN. */
static int
window_charge(struct mem_region *region, enum dynvhost_mem_right right, uint64_t bytes)
{
	struct dynvhost_mem *mem = region->pub.mem;
	bool mappings = window_charge_mappings(mem, region->engine->mappings);

	if (window_charge_bytes(mem, right, bytes) && mappings)
		return 0;
	window_uncharge(region, right, bytes, 1);
	atomic_store_explicit(&mem->room_wanted, true, memory_order_relaxed);
	return -EAGAIN;
}

static void
window_raise_peaks(struct mem_counters *counters)
{
	window_raise_peak(&counters->loadable_peak,
		atomic_load_explicit(&counters->loadable_bytes, memory_order_relaxed));
	window_raise_peak(&counters->storable_peak,
		atomic_load_explicit(&counters->storable_bytes, memory_order_relaxed));
}

void
mem_window_count_mirror(struct dynvhost_mem *mem, int64_t bytes)
{
	mem_count(&mem->counters.loadable_bytes, (uint64_t)bytes);
	window_raise_peaks(&mem->counters);
}

/** Note that @p n pages are open now. */
static void
window_opened(struct mem_region *region, uint64_t n, uint64_t now_ns)
{
	struct dynvhost_mem *mem = region->pub.mem;
	const struct mem_engine *engine = region->engine;

	mem_rate_charge(&mem->opens, now_ns,
		(engine->open_call_ns + n * engine->open_page_ns) * MEM_OPEN_PAYBACK);
	mem_count(&mem->counters.opens, n);
	atomic_store_explicit(&mem->counters.last_open_ns, now_ns, memory_order_relaxed);
	window_raise_peaks(&mem->counters);
}

/** The kernel has no mapping left: leave the last ones to others, and close what can be closed. */
static void
window_run_short(struct dynvhost_mem *mem)
{
	mem_spare_use(atomic_load_explicit(&window_mappings, memory_order_relaxed));
	atomic_store_explicit(&mem->room_wanted, true, memory_order_relaxed);
}

int
mem_window_open_run(struct mem_region *region, enum dynvhost_mem_right right, uint64_t first,
	uint64_t n, uint64_t now_ns, uint64_t *opened)
{
	struct mem_window *window = &region->window[right];
	const struct mem_engine *engine = region->engine;
	uint32_t shift = region->pub.page_shift;
	uint64_t bytes;
	int rc;

	*opened = 0;
	if (atomic_load_explicit(&window->engine.dead, memory_order_relaxed))
		return -EAGAIN;
	if (!engine->whole) {
		rc = window_charge(region, right, n << shift);
		if (rc != 0)
			return rc;
	}
	rc = engine->open(&window->engine, first << shift, n << shift, &bytes);
	*opened = bytes >> shift;
	if (*opened != 0)
		window_opened(region, *opened, now_ns);
	if (rc == -EOWNERDEAD)
		mem_region_lose(region);
	if (rc != 0 && rc != -EBUSY && !engine->whole)
		window_uncharge(region, right, (n - *opened) << shift, *opened == 0 ? 1 : 0);
	if (rc == -ENOMEM && engine->mappings != 0)
		window_run_short(region->pub.mem);
	return rc;
}

void
mem_window_restore(const struct dynvhost_mem *mem)
{
	mem_spare_restore(
		atomic_load_explicit(&window_mappings, memory_order_relaxed), mem->max_mappings);
}

void
mem_region_lose(struct mem_region *region)
{
	if (!atomic_exchange(&region->lost, true))
		atomic_fetch_add(&region->pub.mem->lost_regions, 1);
}

/** Set @p bits on an open page whose state was @p s, unless the state has changed. */
static void
window_use(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page, uint8_t s,
	uint8_t bits)
{
	const uint8_t gained = bits & ~s;

	if (!atomic_compare_exchange_strong(&region->window[right].pages.state[page], &s, s | bits))
		return;
	if ((gained & DYNVHOST_MEM_PIN) != 0)
		mem_count(&region->pub.mem->counters.pinned_bytes, region->file->page_size);
}

int
mem_window_open(struct mem_region *region, enum dynvhost_mem_right right, uint64_t first,
	uint64_t last, const struct mem_ask *ask)
{
	_Atomic uint8_t *state = region->window[right].pages.state;
	const uint8_t needed = DYNVHOST_MEM_HIT | ask->bits;
	uint32_t spins = ask->spins;
	uint64_t page = first;

	while (page <= last) {
		uint8_t s = atomic_load_explicit(&state[page], memory_order_acquire);
		int rc = 0;

		if ((s & needed) == needed) {
			page++;
			continue;
		}
		/* Every other turn counts: somebody else may undo what was done. */
		if (spins-- == 0)
			rc = -EAGAIN;
		else if ((s & DYNVHOST_MEM_BUSY) != 0)
			window_pause();
		else if ((s & DYNVHOST_MEM_OPEN) != 0)
			window_use(region, right, page, s, needed);
		else
			rc = mem_group_open(region, right, page, last, ask);
		if (rc != 0) {
			mem_count(&region->pub.mem->counters.denials, 1);
			return -EAGAIN;
		}
	}
	return 0;
}

bool
mem_window_claim_idle(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page)
{
	_Atomic uint8_t *state = &region->window[right].pages.state[page];
	uint8_t s = atomic_load(state);

	return (s & ~MEM_PAGE_HEAD) == DYNVHOST_MEM_OPEN &&
	       atomic_compare_exchange_strong(state, &s, DYNVHOST_MEM_BUSY | (s & MEM_PAGE_HEAD));
}

/** Heads that go when pages [first, end) do. What stays open behind them gets one. */
static uint64_t
window_move_heads(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t end)
{
	_Atomic uint8_t *state = region->window[right].pages.state;
	uint64_t heads = 0;

	for (; first < end; first++)
		heads += (atomic_load(&state[first]) & MEM_PAGE_HEAD) != 0;
	if (end < region->n_pages &&
		(atomic_load(&state[end]) & (DYNVHOST_MEM_OPEN | MEM_PAGE_HEAD)) ==
			DYNVHOST_MEM_OPEN) {
		atomic_fetch_or(&state[end], MEM_PAGE_HEAD);
		heads--;
	}
	return heads;
}

bool
mem_window_close_run(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t end)
{
	_Atomic uint8_t *state = region->window[right].pages.state;
	struct dynvhost_mem *mem = region->pub.mem;
	uint32_t shift = region->pub.page_shift;
	uint64_t page;
	int rc;

	rc = region->engine->close(
		&region->window[right].engine, first << shift, (end - first) << shift);
	if (rc == 0) {
		window_uncharge(region, right, (end - first) << shift,
			window_move_heads(region, right, first, end));
		mem_count(&mem->counters.closes, end - first);
		for (page = first; page < end; page++)
			atomic_store(&state[page], 0);
	} else if (rc == -EAGAIN) {
		for (page = first; page < end; page++)
			atomic_fetch_xor(&state[page], DYNVHOST_MEM_BUSY | DYNVHOST_MEM_OPEN);
	}
	return rc == 0;
}

void
mem_window_unpin(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n)
{
	_Atomic uint8_t *state = region->window[right].pages.state;
	struct dynvhost_mem *mem = region->pub.mem;
	uint64_t end = first + n;

	for (; first < end; first++)
		if ((atomic_fetch_and(&state[first], (uint8_t)~DYNVHOST_MEM_PIN) &
			    DYNVHOST_MEM_PIN) != 0)
			atomic_fetch_sub_explicit(&mem->counters.pinned_bytes,
				region->file->page_size, memory_order_relaxed);
}

/** Reserve one window and set up its pages. 0 or -errno. */
static int
window_init(struct mem_region *region, enum dynvhost_mem_right right)
{
	struct dynvhost_mem *mem = region->pub.mem;
	struct mem_window *window = &region->window[right];
	struct mem_engine_window *view = &window->engine;
	int rc;

	view->length = region->n_pages << region->pub.page_shift;
	view->page_size = region->file->page_size;
	view->file_offset = region->first_file_page << region->pub.page_shift;
	view->fd = region->file->fd;
	view->right = right;
	view->dump = mem->config.dump;
	view->fence = &mem->fence;
	rc = mem_pages_init(&window->pages, region->n_pages);
	if (rc != 0)
		return rc;
	rc = region->engine->reserve(view);
	if (rc != 0)
		return rc;
	region->pub.window[right].base = view->start + region->pub.phase;
	region->pub.window[right].state = window->pages.state;
	if (region->engine->whole) {
		mem_count(&mem->counters.loadable_bytes, view->length);
		if (right == DYNVHOST_MEM_WRITE)
			mem_count(&mem->counters.storable_bytes, view->length);
		window_raise_peaks(&mem->counters);
	}
	return 0;
}

/** Take a window's open pages out of the counters; under a dead window, close them as well. */
static void
window_drain(struct mem_region *region, enum dynvhost_mem_right right)
{
	struct mem_window *window = &region->window[right];
	struct dynvhost_mem *mem = region->pub.mem;
	uint32_t shift = region->pub.page_shift;
	uint64_t page, heads = 0, open = 0;

	for (page = mem_pages_next(&window->pages, 0); page < region->n_pages;
		page = mem_pages_next(&window->pages, page + 1)) {
		uint8_t s = atomic_load(&window->pages.state[page]);

		open++;
		heads += (s & MEM_PAGE_HEAD) != 0;
		if ((s & DYNVHOST_MEM_OPEN) != 0 && atomic_load(&window->engine.dead))
			region->engine->close(&window->engine, page << shift, UINT64_C(1) << shift);
	}
	mem_count(&mem->counters.closes, open);
	if (region->engine->whole)
		window_uncharge(region, right, window->engine.length, 0);
	else
		window_uncharge(region, right, open << shift, heads);
}

/**
 * Map the file's range without any right, for mincore(). The kernel would dump what it holds all
 * the same, and a child has no business with it. 0 or -errno.
 */
static int
window_map_probe(struct mem_region *region)
{
	const struct mem_engine_window *window = &region->window[DYNVHOST_MEM_READ].engine;
	void *probe = dynvhost_mem_sys->mmap(NULL, window->length, PROT_NONE,
		MAP_SHARED | MAP_NORESERVE, window->fd, (off_t)window->file_offset);

	if (probe == MAP_FAILED)
		return -errno;
	region->probe = probe;
	if (dynvhost_mem_sys->madvise(probe, window->length, MADV_DONTDUMP) != 0 ||
		dynvhost_mem_sys->madvise(probe, window->length, MADV_DONTFORK) != 0)
		return -errno;
	return 0;
}

int
mem_windows_init(struct mem_region *region)
{
	int rc;

	region->spares = region->engine->mappings != 0;
	if (region->spares)
		mem_spare_join();
	rc = window_init(region, DYNVHOST_MEM_READ);
	if (rc == 0)
		rc = window_init(region, DYNVHOST_MEM_WRITE);
	if (rc == 0 && region->file->countable)
		rc = window_map_probe(region);
	if (rc != 0)
		mem_windows_fini(region);
	return rc;
}

void
mem_windows_fini(struct mem_region *region)
{
	int right;

	for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++) {
		struct mem_window *window = &region->window[right];

		if (window->engine.start != NULL)
			window_drain(region, right);
		region->engine->release(&window->engine);
		mem_pages_fini(&window->pages);
	}
	if (region->probe != NULL)
		dynvhost_mem_sys->munmap(region->probe, region->window[0].engine.length);
	region->probe = NULL;
	if (region->spares)
		mem_spare_leave();
	region->spares = false;
}
