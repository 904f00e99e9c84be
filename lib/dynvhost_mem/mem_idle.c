/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Closing what is not used: a hand that goes round the open pages, over and over.
 *
 * It clears the REF bit of pages that were used, and closes those whose bit is still clear when it
 * comes by again. Clearing REF is what retires a page: whoever hit the page before has ended its
 * burst by the next time round (the caller's part), and whoever comes later must win a CAS on the
 * state byte, against ours. So no lcore is ever waited for, and none is made to wait for longer
 * than it takes to close one run.
 *
 * Security model: a guest decides which pages open and therefore how many close, and how scattered
 * they lie. Each call of an engine costs some microseconds on every lcore of the process, also on
 * those of other guests. So calls have a rate; a guest that is beyond it keeps its own pages open
 * for longer, and disturbs nobody.
 */

#include "mem_priv.h"

/** Pages that one call of the engine closes at most; an lcore may be waiting for one of them. */
#define IDLE_RUN_PAGES 64

/** What one step does at most: calls of the engine, and pages looked at. */
#define IDLE_STEP_RUNS  64
#define IDLE_STEP_LOOKS (1u << 16)

/**
 * What closing costs, in nanoseconds per call and per page, and how it is paid back: a port may
 * close for a twentieth of the time, and for 50 ms at once (some 4000 pages that lie apart, or
 * 150000 in long runs).
 */
#define IDLE_CALL_NS  UINT64_C(12000)
#define IDLE_PAGE_NS  UINT64_C(200)
#define IDLE_PAYBACK  UINT64_C(20)
#define IDLE_DEPTH_NS (UINT64_C(50000000) * IDLE_PAYBACK)

/** One step of a pass. */
struct idle_step {
	struct mem_region *region;
	enum dynvhost_mem_right right;
	uint64_t run_first; /* claimed pages [run_first, run_end) */
	uint64_t run_end;
	uint64_t closed;
	uint32_t runs;
	uint32_t looks;
	bool spent; /* closing has gone on for as long as the rate allows */
};

/** Close what is claimed. */
static void
idle_close_run(struct idle_step *step)
{
	struct mem_rate *closes = &step->region->pub.mem->idle.closes;
	uint64_t n = step->run_end - step->run_first;
	uint64_t now_ns;

	if (n == 0)
		return;
	now_ns = dynvhost_mem_sys->now_ns();
	mem_rate_charge(closes, now_ns, (IDLE_CALL_NS + n * IDLE_PAGE_NS) * IDLE_PAYBACK);
	step->spent = !mem_rate_allows(closes, now_ns, IDLE_DEPTH_NS);
	step->runs++;
	if (mem_window_close_run(step->region, step->right, step->run_first, step->run_end))
		step->closed += n;
	step->run_first = step->run_end;
}

static _Atomic uint8_t *
idle_state(const struct idle_step *step)
{
	return step->region->window[step->right].pages.state;
}

/** Whether a page of [first, end) was used since the pass before. Rings do not count. */
static bool
idle_is_used(const struct idle_step *step, uint64_t first, uint64_t end)
{
	for (; first < end; first++) {
		uint8_t s = atomic_load(&idle_state(step)[first]);

		if ((s & (DYNVHOST_MEM_REF | DYNVHOST_MEM_PIN)) == DYNVHOST_MEM_REF)
			return true;
	}
	return false;
}

/** Make pages [first, end) candidates. */
static void
idle_retire(const struct idle_step *step, uint64_t first, uint64_t end)
{
	for (; first < end; first++) {
		_Atomic uint8_t *state = &idle_state(step)[first];
		uint8_t s = atomic_load(state);

		if ((s & (DYNVHOST_MEM_REF | DYNVHOST_MEM_PIN)) == DYNVHOST_MEM_REF)
			atomic_fetch_and(state, (uint8_t)~DYNVHOST_MEM_REF);
	}
}

/** Add those of the pages [first, end) that may be closed to the run, and close what is full. */
static void
idle_collect(struct idle_step *step, uint64_t first, uint64_t end)
{
	for (; first < end; first++) {
		if (first != step->run_end || first - step->run_first == IDLE_RUN_PAGES) {
			idle_close_run(step);
			step->run_first = first;
			step->run_end = first;
		}
		if (mem_window_claim_idle(step->region, step->right, first))
			step->run_end = first + 1;
	}
}

/** Whether the step has done its part. */
static bool
idle_has_done(const struct idle_step *step)
{
	return step->spent || step->runs >= IDLE_STEP_RUNS || step->looks >= IDLE_STEP_LOOKS;
}

/** Go through one window from @p page on. @return where to go on; n_pages: it is done. */
static uint64_t
idle_walk_window(struct idle_step *step, uint64_t page)
{
	struct mem_region *region = step->region;
	struct mem_pages *pages = &region->window[step->right].pages;

	step->run_first = 0;
	step->run_end = 0;
	for (page = mem_pages_next(pages, page); page < region->n_pages && !idle_has_done(step);) {
		uint64_t end = mem_granule_end(region, mem_granule(region, page));

		if (page != step->run_end)
			idle_close_run(step);
		if (idle_is_used(step, page, end))
			idle_retire(step, page, end);
		else
			idle_collect(step, page, end);
		step->looks += (uint32_t)(end - page);
		page = mem_pages_next(pages, end);
	}
	idle_close_run(step);
	return page;
}

/** See that the engines still have hold of their windows; what cannot be kept closed is lost. */
static void
idle_check_hold(struct dynvhost_mem *mem)
{
	struct mem_region *region;
	int right;

	for (region = mem->regions; region != NULL; region = region->next)
		for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++) {
			if (region->engine->check == NULL)
				continue;
			/* Windows of a port have one guard. */
			if (region->engine->check(&region->window[right].engine) == 0)
				return;
			mem_region_lose(region);
		}
}

uint64_t
dynvhost_mem_idle_pass(struct dynvhost_mem *mem)
{
	struct mem_idle *idle = &mem->idle;
	struct idle_step step = {0};

	if (idle->region == NULL)
		idle_check_hold(mem);
	if (mem->engine->whole || dynvhost_mem_is_lost(mem))
		return 0;
	if (idle->region == NULL) {
		mem_window_restore(mem);
		atomic_store_explicit(&mem->room_wanted, false, memory_order_relaxed);
		idle->region = mem->regions;
		idle->right = DYNVHOST_MEM_READ;
		idle->page = 0;
	}
	step.spent = !mem_rate_allows(&idle->closes, dynvhost_mem_sys->now_ns(), IDLE_DEPTH_NS);
	while (idle->region != NULL) {
		step.region = idle->region;
		step.right = idle->right;
		idle->page = idle_walk_window(&step, idle->page);
		if (idle->page < step.region->n_pages)
			break;
		idle->page = 0;
		idle->right ^= 1;
		if (idle->right == DYNVHOST_MEM_READ)
			idle->region = idle->region->next;
	}
	return step.closed;
}

bool
mem_idle_close_range(
	struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t end)
{
	struct mem_pages *pages = &region->window[right].pages;
	struct idle_step step = {.region = region, .right = right};
	uint64_t page;

	if (region->engine->whole)
		return true;
	if (end > region->n_pages)
		end = region->n_pages;
	step.spent = !mem_rate_allows(
		&region->pub.mem->idle.closes, dynvhost_mem_sys->now_ns(), IDLE_DEPTH_NS);
	page = mem_pages_next(pages, first);
	while (page < end && !idle_has_done(&step)) {
		idle_retire(&step, page, page + 1);
		idle_collect(&step, page, page + 1);
		step.looks++;
		page = mem_pages_next(pages, page + 1);
	}
	idle_close_run(&step);
	return page >= end;
}

bool
dynvhost_mem_idle_pending(const struct dynvhost_mem *mem)
{
	return mem->idle.region != NULL;
}

void
mem_idle_forget(const struct mem_region *region)
{
	struct mem_idle *idle = &region->pub.mem->idle;

	if (idle->region != region)
		return;
	idle->region = region->next;
	idle->right = DYNVHOST_MEM_READ;
	idle->page = 0;
}
