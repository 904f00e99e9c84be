/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Regions and views.
 *
 * Security model: a slot is what a front-end sent, and any field may be anything. Numbers are
 * judged first, then against each other, then the files, and only then is something reserved; all
 * that was made is undone if a later slot fails. Work and memory depend on the number of regions
 * alone.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem_priv.h"

/** Guest fields keep their alignment in the window as far as this: every ring field's, by far. */
#define TABLE_PHASE UINT64_C(4096)

/** How often a region can be added: once for each pair of queues that a device can have. */
#define TABLE_MAX_TIMES 128

/** A range of addresses, and the region it stands for. */
struct table_range {
	uint64_t first;
	uint64_t size;
	uint64_t gpa;
};

/** Judge the numbers of a slot. */
static int
table_check_slot(struct dynvhost_mem *mem, const struct dynvhost_mem_slot *slot)
{
	const char *flaw = NULL;

	if (slot->size == 0)
		flaw = "size is 0";
	else if (slot->size > UINT64_MAX - slot->gpa)
		flaw = "gpa and size wrap around";
	else if (slot->size > UINT64_MAX - slot->uva)
		flaw = "user address and size wrap around";
	else if ((slot->gpa - slot->file_offset) % TABLE_PHASE != 0)
		flaw = "gpa and offset lie differently in their pages";
	if (flaw != NULL)
		return mem_fail(mem, -EINVAL, "region at gpa 0x%jx, %ju bytes: %s",
			(uintmax_t)slot->gpa, (uintmax_t)slot->size, flaw);
	return 0;
}

static int
table_compare_ranges(const void *left, const void *right)
{
	const struct table_range *a = left, *b = right;

	return (a->first > b->first) - (a->first < b->first);
}

/** Whether two of @p n ranges overlap; sorts them. */
static int
table_check_ranges(
	struct dynvhost_mem *mem, struct table_range *range, uint32_t n, const char *space)
{
	uint32_t i;

	qsort(range, n, sizeof(*range), table_compare_ranges);
	for (i = 1; i < n; i++)
		if (range[i].first - range[i - 1].first < range[i - 1].size)
			return mem_fail(mem, -EEXIST,
				"regions at gpa 0x%jx and 0x%jx overlap in %s addresses",
				(uintmax_t)range[i - 1].gpa, (uintmax_t)range[i].gpa, space);
	return 0;
}

/** Judge new slots against each other and against the regions that are kept. */
static int
table_check_overlaps(struct dynvhost_mem *mem, const struct dynvhost_mem_view *kept,
	const struct dynvhost_mem_slot *slots, uint32_t n_slots)
{
	struct table_range gpa[DYNVHOST_MEM_MAX_REGIONS], uva[DYNVHOST_MEM_MAX_REGIONS];
	uint32_t n = kept == NULL ? 0 : kept->n_regions;
	uint32_t i;
	int rc;

	for (i = 0; i < n; i++) {
		const struct dynvhost_mem_region *region = kept->region[i];

		gpa[i] = (struct table_range){region->gpa, region->size, region->gpa};
		uva[i] = (struct table_range){region->uva, region->size, region->gpa};
	}
	for (i = 0; i < n_slots; i++, n++) {
		gpa[n] = (struct table_range){slots[i].gpa, slots[i].size, slots[i].gpa};
		uva[n] = (struct table_range){slots[i].uva, slots[i].size, slots[i].gpa};
	}
	rc = table_check_ranges(mem, gpa, n, "guest");
	return rc != 0 ? rc : table_check_ranges(mem, uva, n, "user");
}

/** Pages opened together in a region of this file. */
static uint32_t
table_granule_pages(const struct dynvhost_mem *mem, uint32_t page_shift)
{
	uint64_t pages = mem->config.granule >> page_shift;

	if (pages == 0)
		return 1;
	return pages < MEM_GROUP_PAGES ? (uint32_t)pages : MEM_GROUP_PAGES;
}

/** Set up a region's windows with one engine, to be seen by faults as well. 0 or -errno. */
static int
table_make_windows(struct mem_region *region, const struct mem_engine *engine)
{
	int rc;

	region->engine = engine;
	rc = mem_windows_init(region);
	if (rc != 0)
		return rc;
	rc = mem_fault_watch(region);
	if (rc != 0)
		mem_windows_fini(region);
	return rc;
}

/** Drop a view's hold on a region; the last one frees it. */
static void
table_put_region(struct mem_region *region)
{
	struct dynvhost_mem *mem = region->pub.mem;
	struct mem_region **link;

	if (--region->refs != 0)
		return;
	for (link = &mem->regions; *link != region; link = &(*link)->next)
		;
	*link = region->next;
	mem_idle_forget(region);
	if (atomic_load(&region->lost))
		atomic_fetch_sub(&mem->lost_regions, 1);
	atomic_fetch_sub_explicit(
		&mem->counters.guest_bytes, region->pub.size, memory_order_relaxed);
	mem_fault_forget(region);
	mem_windows_fini(region);
	mem_file_put(mem, region->file);
	free(region);
}

/** Make a region that takes over the caller's hold on @p file, also on failure. */
static int
table_new_region(struct dynvhost_mem *mem, const struct dynvhost_mem_slot *slot,
	struct mem_file *file, struct mem_region **made)
{
	struct mem_region *region = dynvhost_mem_sys->calloc(1, sizeof(*region));
	uint64_t phase = slot->file_offset & (file->page_size - 1);
	int rc;

	if (region == NULL) {
		mem_file_put(mem, file);
		return mem_fail(mem, -ENOMEM, "no memory for a region");
	}
	region->pub.gpa = slot->gpa;
	region->pub.size = slot->size;
	region->pub.uva = slot->uva;
	region->pub.file_offset = slot->file_offset;
	region->pub.page_shift = mem_log2(file->page_size);
	region->pub.phase = (uint32_t)phase;
	region->pub.mem = mem;
	region->file = file;
	region->refs = 1;
	region->first_file_page = slot->file_offset >> region->pub.page_shift;
	region->n_pages = ((phase + slot->size - 1) >> region->pub.page_shift) + 1;
	region->granule_pages = table_granule_pages(mem, region->pub.page_shift);
	rc = table_make_windows(region, mem->engine);
	if (rc == -ENOTSUP && mem->fallback != NULL)
		rc = table_make_windows(region, mem->fallback);
	if (rc != 0) {
		mem_file_put(mem, file);
		free(region);
		if (rc == -ENOTSUP)
			return mem_fail(mem, rc,
				"region at gpa 0x%jx: engine %s cannot serve its file",
				(uintmax_t)slot->gpa, mem->engine->name);
		return mem_fail(mem, -ENOMEM,
			"region at gpa 0x%jx, %ju bytes: cannot reserve addresses: %s",
			(uintmax_t)slot->gpa, (uintmax_t)slot->size, strerror(-rc));
	}
	region->serial = ++mem->last_serial;
	region->next = mem->regions;
	mem->regions = region;
	mem_count(&mem->counters.guest_bytes, slot->size);
	*made = region;
	return 0;
}

/** The region of @p old that is the same as @p slot in @p file, or NULL. */
static struct mem_region *
table_find_same(const struct dynvhost_mem_view *old, const struct dynvhost_mem_slot *slot,
	const struct mem_file *file)
{
	uint32_t i;

	for (i = 0; old != NULL && i < old->n_regions; i++) {
		const struct dynvhost_mem_region *region = old->region[i];

		if (region->gpa == slot->gpa && region->size == slot->size &&
			region->uva == slot->uva && region->file_offset == slot->file_offset &&
			mem_region_of(region)->file == file &&
			!atomic_load(&mem_region_of(region)->lost))
			return mem_region_of(region);
	}
	return NULL;
}

/** The region for a slot, with a hold on it: one of @p old, or a new one. */
static int
table_get_region(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slot, struct mem_region **region)
{
	struct mem_file *file;
	int rc = mem_file_get(mem, slot, &file);

	if (rc != 0)
		return rc;
	*region = table_find_same(old, slot, file);
	if (*region == NULL)
		return table_new_region(mem, slot, file, region);
	(*region)->refs++;
	mem_file_put(mem, file);
	return 0;
}

static struct dynvhost_mem_view *
table_new_view(struct dynvhost_mem *mem, uint32_t n_regions)
{
	struct dynvhost_mem_view *view = dynvhost_mem_sys->calloc(
		1, sizeof(*view) + n_regions * (sizeof(view->region[0]) + sizeof(view->times[0])));

	if (view == NULL) {
		mem_fail(mem, -ENOMEM, "no memory for a view");
		return NULL;
	}
	view->mem = mem;
	view->times = (uint16_t *)&view->region[n_regions];
	return view;
}

/** Put a region into its place in a view that has room for it. */
static void
table_insert(struct dynvhost_mem_view *view, struct mem_region *region, uint16_t times)
{
	uint32_t i = view->n_regions++;

	for (; i > 0 && view->region[i - 1]->gpa > region->pub.gpa; i--) {
		view->region[i] = view->region[i - 1];
		view->times[i] = view->times[i - 1];
	}
	view->region[i] = &region->pub;
	view->times[i] = times;
}

/** Hand the slots' fds over to the files, each number once. The view has one region per slot. */
static void
table_adopt_fds(const struct dynvhost_mem_view *view, const struct dynvhost_mem_slot *slots,
	uint32_t n_slots)
{
	uint32_t i, k;

	for (i = 0; i < n_slots; i++) {
		const struct dynvhost_mem_region *region;
		uint32_t at = 0;

		for (k = 0; k < i && slots[k].fd != slots[i].fd; k++)
			;
		if (k < i)
			continue;
		while (view->region[at]->gpa != slots[i].gpa)
			at++;
		region = view->region[at];
		mem_file_adopt(mem_region_of(region)->file, slots[i].fd);
	}
}

/**
 * Make a view of all regions of @p kept plus one region per slot, taken from @p old where it is the
 * same. The numbers have been judged.
 */
static int
table_make_view(struct dynvhost_mem *mem, const struct dynvhost_mem_view *kept,
	const struct dynvhost_mem_view *old, const struct dynvhost_mem_slot *slots,
	uint32_t n_slots, struct dynvhost_mem_view **made)
{
	uint32_t n_kept = kept == NULL ? 0 : kept->n_regions;
	struct dynvhost_mem_view *view = table_new_view(mem, n_kept + n_slots);
	struct mem_region *region;
	uint32_t i;
	int rc;

	if (view == NULL)
		return -ENOMEM;
	for (i = 0; i < n_kept; i++) {
		region = mem_region_of(kept->region[i]);
		region->refs++;
		table_insert(view, region, kept->times[i]);
	}
	for (i = 0; i < n_slots; i++) {
		rc = table_get_region(mem, old, &slots[i], &region);
		if (rc != 0) {
			dynvhost_mem_view_release(view);
			return rc;
		}
		table_insert(view, region, 1);
	}
	table_adopt_fds(view, slots, n_slots);
	*made = view;
	return 0;
}

/** Judge slots that come on top of @p kept, then make the view. */
static int
table_judge_and_make(struct dynvhost_mem *mem, const struct dynvhost_mem_view *kept,
	const struct dynvhost_mem_view *old, const struct dynvhost_mem_slot *slots,
	uint32_t n_slots, struct dynvhost_mem_view **made)
{
	uint32_t n_kept = kept == NULL ? 0 : kept->n_regions;
	uint32_t i;
	int rc;

	if (n_slots > DYNVHOST_MEM_MAX_REGIONS - n_kept)
		return mem_fail(
			mem, -ENOSPC, "more than %d memory regions", DYNVHOST_MEM_MAX_REGIONS);
	for (i = 0; i < n_slots; i++) {
		rc = table_check_slot(mem, &slots[i]);
		if (rc != 0)
			return rc;
	}
	rc = table_check_overlaps(mem, kept, slots, n_slots);
	if (rc != 0)
		return rc;
	return table_make_view(mem, kept, old, slots, n_slots, made);
}

int
dynvhost_mem_view_build(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slots, uint32_t n_slots, struct dynvhost_mem_view **view)
{
	return table_judge_and_make(mem, NULL, old, slots, n_slots, view);
}

/** Where in a view the region with the numbers of @p slot is; n_regions: nowhere. */
static uint32_t
table_find(const struct dynvhost_mem_view *view, const struct dynvhost_mem_slot *slot)
{
	uint32_t i;

	for (i = 0; i < view->n_regions; i++)
		if (view->region[i]->gpa == slot->gpa && view->region[i]->size == slot->size &&
			view->region[i]->uva == slot->uva)
			break;
	return i;
}

/** Where in a view the very region is that a slot describes, file included; n_regions: nowhere. */
static uint32_t
table_find_again(struct dynvhost_mem *mem, const struct dynvhost_mem_view *view,
	const struct dynvhost_mem_slot *slot)
{
	uint32_t at = table_find(view, slot);
	struct mem_file *file;

	if (at == view->n_regions || mem_file_get(mem, slot, &file) != 0)
		return view->n_regions;
	if (table_find_same(view, slot, file) == NULL)
		at = view->n_regions;
	mem_file_put(mem, file);
	return at;
}

int
dynvhost_mem_view_add(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slot, struct dynvhost_mem_view **view)
{
	uint32_t at = old == NULL ? 0 : table_find_again(mem, old, slot);
	int rc;

	/* What is too often is an overlap. */
	if (old == NULL || at == old->n_regions || old->times[at] == TABLE_MAX_TIMES)
		return table_judge_and_make(mem, old, NULL, slot, 1, view);
	rc = table_make_view(mem, old, NULL, NULL, 0, view);
	if (rc != 0)
		return rc;
	(*view)->times[at]++;
	mem_file_adopt(mem_region_of(old->region[at])->file, slot->fd);
	return 0;
}

int
dynvhost_mem_view_remove(struct dynvhost_mem *mem, const struct dynvhost_mem_view *old,
	const struct dynvhost_mem_slot *slot, struct dynvhost_mem_view **view)
{
	uint32_t gone = old == NULL ? 0 : table_find(old, slot);
	struct dynvhost_mem_view *smaller;
	uint32_t i;

	if (old == NULL || gone == old->n_regions)
		return mem_fail(mem, -ENOENT, "no region at gpa 0x%jx with %ju bytes at 0x%jx",
			(uintmax_t)slot->gpa, (uintmax_t)slot->size, (uintmax_t)slot->uva);
	smaller = table_new_view(mem, old->n_regions);
	if (smaller == NULL)
		return -ENOMEM;
	for (i = 0; i < old->n_regions; i++) {
		struct mem_region *region = mem_region_of(old->region[i]);
		uint16_t times = old->times[i] - (i == gone);

		if (times == 0)
			continue;
		region->refs++;
		table_insert(smaller, region, times);
	}
	*view = smaller;
	return 0;
}

void
dynvhost_mem_view_release(struct dynvhost_mem_view *view)
{
	uint32_t i;

	if (view == NULL)
		return;
	for (i = 0; i < view->n_regions; i++)
		table_put_region(mem_region_of(view->region[i]));
	free(view);
}
