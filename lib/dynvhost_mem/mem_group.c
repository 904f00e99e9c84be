/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Opening closed pages together.
 *
 * A group is the closed pages that a caller wants next, and those of the same granules that the
 * file has memory for already. Holes are filled where they are wanted and only there: the memory is
 * charged to us, not to the guest that left it untouched.
 *
 * Security model: the file is looked at anew for each group, because the front-end may have cut or
 * punched it since; a size that changes after the look is caught by the engine's error codes.
 */

#include <errno.h>

#include "mem_priv.h"

/** Flags of a page in a group. */
#define GROUP_OWNED   0x01u /* BUSY is ours */
#define GROUP_PRESENT 0x02u /* memory is behind it */

struct mem_group {
	struct mem_region *region;
	enum dynvhost_mem_right right;
	uint64_t first;      /* page number of flags[0] */
	uint64_t want_first; /* pages [want_first, want_last] must open */
	uint64_t want_last;
	uint32_t n;
	uint8_t flags[MEM_GROUP_PAGES];
};

/** Number of the granule that a page lies in; granules are aligned in the file. */
static uint64_t
group_granule(const struct mem_region *region, uint64_t page)
{
	return (region->first_file_page + page) / region->granule_pages;
}

/** First page of a granule, inside the region. */
static uint64_t
group_granule_first(const struct mem_region *region, uint64_t granule)
{
	uint64_t file_page = granule * region->granule_pages;

	return file_page > region->first_file_page ? file_page - region->first_file_page : 0;
}

/** One past the last page of a granule, inside the region. */
static uint64_t
group_granule_end(const struct mem_region *region, uint64_t granule)
{
	uint64_t end = (granule + 1) * region->granule_pages - region->first_file_page;

	return end < region->n_pages ? end : region->n_pages;
}

/** Whether pages that nobody asked for still fit under the port's cap. */
static bool
group_has_room(const struct mem_region *region)
{
	const struct dynvhost_mem *mem = region->pub.mem;
	uint64_t granule = (uint64_t)region->granule_pages << region->pub.page_shift;
	uint64_t open = atomic_load_explicit(&mem->counters.loadable_bytes, memory_order_relaxed);
	uint64_t cap = mem->config.max_bytes;

	return cap == 0 || (open <= cap && granule <= cap - open);
}

/** Choose the group's pages: wanted ones from @p page on, as far as one call and the budget go. */
static uint32_t
group_choose(struct mem_group *group, uint64_t page, uint64_t last, uint32_t max_granules)
{
	const struct mem_region *region = group->region;
	uint64_t granule = group_granule(region, page);
	uint64_t last_granule = group_granule(region, last);
	uint64_t end;

	if (last_granule - granule >= max_granules)
		last_granule = granule + max_granules - 1;
	end = group_granule_end(region, last_granule);
	group->want_first = page;
	group->want_last = last < end ? last : end - 1;
	group->first = group_granule_first(region, granule);
	if (!group_has_room(region)) {
		group->first = page;
		end = group->want_last + 1;
	}
	group->n = (uint32_t)(end - group->first);
	return (uint32_t)(last_granule - granule + 1);
}

static bool
group_wants(const struct mem_group *group, uint32_t i)
{
	uint64_t page = group->first + i;

	return page >= group->want_first && page <= group->want_last;
}

static _Atomic uint8_t *
group_state(const struct mem_group *group, uint32_t i)
{
	return &group->region->window[group->right].pages.state[group->first + i];
}

/** Put BUSY on one page of the group, if it is closed. */
static bool
group_claim_page(struct mem_group *group, uint32_t i)
{
	uint8_t closed = 0;

	group->flags[i] = 0;
	if (!atomic_compare_exchange_strong(group_state(group, i), &closed, DYNVHOST_MEM_BUSY))
		return false;
	group->flags[i] = GROUP_OWNED;
	mem_pages_mark(&group->region->window[group->right].pages, group->first + i);
	return true;
}

static void
group_claim_others(struct mem_group *group)
{
	uint32_t i;

	for (i = 0; i < group->n; i++)
		if (group->first + i != group->want_first)
			group_claim_page(group, i);
}

/** Close again what was claimed and not opened. */
static void
group_give_back(struct mem_group *group)
{
	uint32_t i;

	for (i = 0; i < group->n; i++)
		if ((group->flags[i] & GROUP_OWNED) != 0)
			atomic_store(group_state(group, i), 0);
}

/** Position in the file where the region's bytes of a page end. */
static uint64_t
group_file_end(const struct mem_group *group, uint64_t page)
{
	const struct mem_region *region = group->region;
	uint64_t end = (page + 1) << region->pub.page_shift;
	uint64_t region_end = region->pub.phase + region->pub.size;

	return (region->first_file_page << region->pub.page_shift) +
	       (end < region_end ? end : region_end);
}

/**
 * Which pages have memory behind them, where the kernel can tell: else none has. Memory that nobody
 * has written to or read from yet is not told; filling it again does no harm.
 */
static void
group_probe(const struct mem_group *group, unsigned char *present)
{
	const struct mem_region *region = group->region;
	uint32_t shift = region->pub.page_shift;
	uint32_t i;

	if (region->probe == NULL ||
		dynvhost_mem_sys->mincore(region->probe + (group->first << shift),
			(size_t)group->n << shift, present) != 0)
		for (i = 0; i < group->n; i++)
			present[i] = 0;
}

/** Look at the file as it is now. 0; -EFAULT: it has become too short; or -errno. */
static int
group_inspect(struct mem_group *group)
{
	unsigned char present[MEM_GROUP_PAGES];
	struct stat st;
	bool full;
	uint32_t i;

	if (dynvhost_mem_sys->fstat(group->region->file->fd, &st) != 0)
		return -errno;
	if (st.st_size < 0 || group_file_end(group, group->want_last) > (uint64_t)st.st_size)
		return -EFAULT;
	full = mem_file_is_full(&st);
	if (!full)
		group_probe(group, present);
	for (i = 0; i < group->n; i++)
		if ((full || (present[i] & 1) != 0) &&
			group_file_end(group, group->first + i) <= (uint64_t)st.st_size)
			group->flags[i] |= GROUP_PRESENT;
	return 0;
}

/** Index behind the pages from @p i on whose flags and wish are like those of @p i. */
static uint32_t
group_run_end(const struct mem_group *group, uint32_t i)
{
	uint8_t flags = group->flags[i];
	bool wanted = group_wants(group, i);

	do {
		i++;
	} while (i < group->n && group->flags[i] == flags && group_wants(group, i) == wanted);
	return i;
}

/** Give memory to the wanted pages that have none. 0 or -errno. */
static int
group_fill_holes(struct mem_group *group)
{
	struct mem_region *region = group->region;
	uint32_t shift = region->pub.page_shift;
	uint32_t i, end;
	int rc;

	for (i = 0; i < group->n; i = end) {
		end = group_run_end(group, i);
		if (group->flags[i] != GROUP_OWNED || !group_wants(group, i))
			continue;
		rc = mem_file_fill(region->pub.mem, region->file,
			(region->first_file_page + group->first + i) << shift,
			(uint64_t)(end - i) << shift, region->probe != NULL);
		if (rc != 0)
			return rc;
		while (i < end)
			group->flags[i++] |= GROUP_PRESENT;
	}
	return 0;
}

/** Set the state of pages [i, end), whose opening ended with @p rc; they are no longer ours. */
static void
group_settle(struct mem_group *group, uint32_t i, uint32_t end, int rc, uint8_t bits)
{
	uint8_t head = MEM_PAGE_HEAD;

	for (; i < end; i++, head = 0) {
		uint8_t s = 0;

		if (rc == -EBUSY)
			s = DYNVHOST_MEM_BUSY | head;
		else if (rc == 0)
			s = DYNVHOST_MEM_HIT | head | (group_wants(group, i) ? bits : 0);
		if ((s & DYNVHOST_MEM_PIN) != 0)
			mem_count(&group->region->pub.mem->counters.pinned_bytes,
				group->region->file->page_size);
		group->flags[i] = 0;
		atomic_store(group_state(group, i), s);
	}
}

/** Open what is ours and has memory, in runs. 0, or the error of a run with wanted pages. */
static int
group_open_runs(struct mem_group *group, uint8_t bits)
{
	const uint8_t ready = GROUP_OWNED | GROUP_PRESENT;
	uint32_t i, end;
	int result = 0;

	for (i = 0; i < group->n; i = end) {
		bool wanted = false;
		int rc;

		for (end = i; end < group->n && group->flags[end] == ready; end++)
			wanted = wanted || group_wants(group, end);
		if (end == i) {
			end++;
			continue;
		}
		rc = mem_window_open_run(group->region, group->right, group->first + i, end - i);
		group_settle(group, i, end, rc, bits);
		if (rc != 0 && wanted)
			result = rc;
	}
	return result;
}

int
mem_group_open(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page,
	uint64_t last, const struct mem_ask *ask)
{
	struct mem_group group = {.region = region, .right = right};
	uint32_t max_granules = MEM_GROUP_PAGES / region->granule_pages;
	uint32_t n_granules;
	int rc;

	if (ask->budget != NULL && *ask->budget < max_granules)
		max_granules = *ask->budget;
	if (max_granules == 0)
		return -EAGAIN;
	n_granules = group_choose(&group, page, last, max_granules);
	if (!group_claim_page(&group, (uint32_t)(page - group.first)))
		return 1;
	if (ask->budget != NULL)
		*ask->budget -= n_granules;
	group_claim_others(&group);
	rc = group_inspect(&group);
	if (rc == 0)
		rc = group_fill_holes(&group);
	if (rc == 0)
		rc = group_open_runs(&group, ask->bits);
	group_give_back(&group);
	return rc;
}
