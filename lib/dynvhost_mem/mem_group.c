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
 * An engine that finds holes by itself is simply asked to open the group, which is all there is to
 * do for pages that the guest has used before. For other engines, the file is looked at first.
 *
 * Security model: the file is looked at anew for each group, because the front-end may have cut or
 * punched it since; a size that changes after the look is caught by the engine's error codes.
 */

#include <errno.h>

#include "mem_priv.h"

/** Flags of a page in a group. */
#define GROUP_OWNED   0x01u /* BUSY is ours */
#define GROUP_PRESENT 0x02u /* memory is behind it */

/** Holes that nobody wants, before an engine that finds them is asked for wanted pages alone. */
#define GROUP_HOLES 8

struct mem_group {
	struct mem_region *region;
	enum dynvhost_mem_right right;
	uint64_t first;      /* page number of flags[0] */
	uint64_t want_first; /* pages [want_first, want_last] must open */
	uint64_t want_last;
	uint64_t now_ns;
	uint32_t n;
	uint8_t flags[MEM_GROUP_PAGES];
};

/** First page of a granule, inside the region. */
static uint64_t
group_granule_first(const struct mem_region *region, uint64_t granule)
{
	uint64_t file_page = granule * region->granule_pages;

	return file_page > region->first_file_page ? file_page - region->first_file_page : 0;
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
	uint64_t granule = mem_granule(region, page);
	uint64_t last_granule = mem_granule(region, last);
	uint64_t end;

	if (last_granule - granule >= max_granules)
		last_granule = granule + max_granules - 1;
	end = mem_granule_end(region, last_granule);
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

/** Whether what is wanted is inside the file as it is now. 0; -EFAULT: it is not; or -errno. */
static int
group_check_size(const struct mem_group *group, struct stat *st)
{
	if (dynvhost_mem_sys->fstat(group->region->file->fd, st) != 0)
		return -errno;
	if (st->st_size < 0 || group_file_end(group, group->want_last) > (uint64_t)st->st_size)
		return -EFAULT;
	return 0;
}

/** Find the pages that have memory. 0 or as group_check_size(). */
static int
group_inspect(struct mem_group *group)
{
	unsigned char present[MEM_GROUP_PAGES];
	struct stat st;
	bool full;
	uint32_t i;
	int rc = group_check_size(group, &st);

	if (rc != 0)
		return rc;
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

/** Give memory to pages [i, end). 0 or -errno. */
static int
group_fill(struct mem_group *group, uint32_t i, uint32_t end, bool all_holes)
{
	struct mem_region *region = group->region;
	uint32_t shift = region->pub.page_shift;
	int rc = mem_file_fill(region->pub.mem, region->file,
		(region->first_file_page + group->first + i) << shift, (uint64_t)(end - i) << shift,
		all_holes);

	for (; rc == 0 && i < end; i++)
		group->flags[i] |= GROUP_PRESENT;
	return rc;
}

/** Give memory to the wanted pages that have none. 0 or -errno. */
static int
group_fill_holes(struct mem_group *group)
{
	uint32_t i, end;
	int rc;

	for (i = 0; i < group->n; i = end) {
		end = group_run_end(group, i);
		if (group->flags[i] != GROUP_OWNED || !group_wants(group, i))
			continue;
		rc = group_fill(group, i, end, group->region->probe != NULL);
		if (rc != 0)
			return rc;
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

/** Open pages [i, end). Where there is no memory they stay ours, other failures give them up. */
static int
group_open_run(struct mem_group *group, uint32_t i, uint32_t end, uint8_t bits)
{
	uint64_t opened;
	int rc = mem_window_open_run(
		group->region, group->right, group->first + i, end - i, group->now_ns, &opened);

	group_settle(group, i, i + (uint32_t)opened, 0, bits);
	if (rc != -ENODATA)
		group_settle(group, i + (uint32_t)opened, end, rc, bits);
	return rc;
}

/** Index behind the pages from @p i on that are ours, and have memory if @p present says so. */
static uint32_t
group_ready_end(const struct mem_group *group, uint32_t i, uint8_t present)
{
	const uint8_t ready = GROUP_OWNED | present;

	while (i < group->n && (group->flags[i] & ready) == ready)
		i++;
	return i;
}

/** Whether a page of [i, end) is wanted. */
static bool
group_wants_any(const struct mem_group *group, uint32_t i, uint32_t end)
{
	return group->first + i <= group->want_last && group->first + end > group->want_first;
}

/** Look where memory is, add what is wanted, and open it, in runs. 0 or -errno. */
static int
group_open_present(struct mem_group *group, uint8_t bits)
{
	uint32_t i, end;
	int result = group_inspect(group);

	if (result == 0)
		result = group_fill_holes(group);
	for (i = 0; result == 0 && i < group->n; i = end) {
		int rc = 0;

		end = group_ready_end(group, i, GROUP_PRESENT);
		if (end > i)
			rc = group_open_run(group, i, end, bits);
		else
			end++;
		if (rc != 0 && group_wants_any(group, i, end))
			result = rc;
	}
	return result;
}

/** Give memory to a wanted page that turned out to be a hole, and to what is wanted next. */
static int
group_mend_hole(struct mem_group *group, uint32_t hole)
{
	uint32_t end = hole + 1;
	struct stat st;
	int rc;

	if ((group->flags[hole] & GROUP_PRESENT) != 0)
		return -EAGAIN; /* somebody is punching */
	while (end < group->n && (group->flags[end] & GROUP_OWNED) != 0 && group_wants(group, end))
		end++;
	rc = group_check_size(group, &st);
	return rc != 0 ? rc : group_fill(group, hole, end, end == hole + 1);
}

/** Open what is there, with an engine that finds holes; mend those that are wanted. 0 or -errno. */
static int
group_open_finding(struct mem_group *group, uint8_t bits)
{
	uint32_t holes = 0, i = 0, end;
	int result = 0;

	while (i < group->n && result == 0) {
		bool wanted;
		int rc;

		end = group_ready_end(group, i, 0);
		if (end == i || (holes >= GROUP_HOLES && !group_wants(group, i))) {
			i++;
			continue;
		}
		wanted = group_wants_any(group, i, end);
		rc = group_open_run(group, i, end, bits);
		while (i < end && (group->flags[i] & GROUP_OWNED) == 0)
			i++;
		if (rc == -ENODATA && group_wants(group, i)) {
			result = group_mend_hole(group, i);
		} else if (rc == -ENODATA) {
			i++;
			holes++;
		} else if (rc != 0 && wanted) {
			result = rc;
		}
	}
	return result;
}

/** Whether the port may open something just now. Rings are few, and control asks for them. */
static bool
group_is_allowed(const struct dynvhost_mem *mem, const struct mem_ask *ask, uint64_t now_ns)
{
	if (dynvhost_mem_is_lost(mem))
		return false;
	return ask->budget == NULL || mem_rate_allows(&mem->opens, now_ns, MEM_OPEN_MOST_NS);
}

int
mem_group_open(struct mem_region *region, enum dynvhost_mem_right right, uint64_t page,
	uint64_t last, const struct mem_ask *ask)
{
	struct mem_group group;
	uint32_t max_granules = MEM_GROUP_PAGES / region->granule_pages;
	uint32_t n_granules;
	int rc;

	if (ask->budget != NULL && *ask->budget < max_granules)
		max_granules = *ask->budget;
	group.now_ns = dynvhost_mem_sys->now_ns();
	if (max_granules == 0 || !group_is_allowed(region->pub.mem, ask, group.now_ns))
		return -EAGAIN;
	group.region = region;
	group.right = right;
	n_granules = group_choose(&group, page, last, max_granules);
	if (!group_claim_page(&group, (uint32_t)(page - group.first)))
		return 0;
	if (ask->budget != NULL)
		*ask->budget -= n_granules;
	group_claim_others(&group);
	rc = region->engine->finds_holes ? group_open_finding(&group, ask->bits)
					 : group_open_present(&group, ask->bits);
	group_give_back(&group);
	return rc;
}
