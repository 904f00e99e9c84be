/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file What is open, for people to look at; and what a cap must hold. */

#include "mem_priv.h"

/** Pages that one call looks at, beyond which it ends with what it has. */
#define QUERY_LOOKS (UINT64_C(1) << 18)

/** State bits that make pages different to whoever looks. */
#define QUERY_BITS (DYNVHOST_MEM_OPEN | DYNVHOST_MEM_REF | DYNVHOST_MEM_PIN)

uint64_t
dynvhost_mem_need(const struct dynvhost_mem_view *view, uint64_t len, uint32_t pieces)
{
	uint64_t edges = 2 * (uint64_t)pieces;
	uint64_t guest = 0, pages;
	uint32_t shift = 0, i;

	if (view->iotlb != NULL)
		view = mem_iotlb_memory(view->iotlb);
	for (i = 0; view != NULL && i < view->n_regions; i++) {
		const struct dynvhost_mem_region *region = view->region[i];

		guest += mem_region_of(region)->n_pages << region->page_shift;
		if (region->page_shift > shift)
			shift = region->page_shift;
	}
	/* Each piece begins in one page and ends in another; a page holds one byte at least. */
	pages = len <= edges ? len : edges + ((len - edges) >> shift);
	return pages < guest >> shift ? pages << shift : guest;
}

uint64_t
dynvhost_mem_area_need(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len)
{
	uint32_t i;

	/* Where it will lie is not known yet: in as many pages as it can. */
	if (view->iotlb != NULL)
		return dynvhost_mem_need(view, len, 1);
	for (i = 0; i < view->n_regions; i++) {
		const struct dynvhost_mem_region *region = view->region[i];
		uint64_t offset = gpa - region->gpa;

		if (offset < region->size && len != 0 && len <= region->size - offset) {
			uint64_t first = (offset + region->phase) >> region->page_shift;
			uint64_t last = (offset + region->phase + len - 1) >> region->page_shift;

			return (last - first + 1) << region->page_shift;
		}
	}
	return 0;
}

uint64_t
dynvhost_mem_cap(const struct dynvhost_mem *mem)
{
	return mem->config.max_bytes;
}

/** Whether a region comes before another in a listing. */
static bool
query_is_before(const struct mem_region *region, uint64_t gpa, uint64_t serial)
{
	return region->pub.gpa != gpa ? region->pub.gpa < gpa : region->serial < serial;
}

/** The region where a listing goes on; NULL: it is at its end. */
static struct mem_region *
query_region(const struct dynvhost_mem *mem, struct dynvhost_mem_run_cursor *cursor)
{
	struct mem_region *found = NULL, *region;

	for (region = mem->regions; region != NULL; region = region->next)
		if (!query_is_before(region, cursor->gpa, cursor->serial) &&
			(found == NULL || query_is_before(region, found->pub.gpa, found->serial)))
			found = region;
	if (found != NULL && found->serial != cursor->serial) {
		cursor->gpa = found->pub.gpa;
		cursor->serial = found->serial;
		cursor->right = DYNVHOST_MEM_READ;
		cursor->page = 0;
	}
	return found;
}

static uint8_t
query_state(const struct mem_region *region, const struct dynvhost_mem_run_cursor *cursor)
{
	return atomic_load(&region->window[cursor->right].pages.state[cursor->page]) & QUERY_BITS;
}

/** Fill in pages [first, end) of a region, clipped to it. */
static void
query_fill(struct dynvhost_mem_run *run, const struct mem_region *region, uint64_t first,
	uint64_t end, enum dynvhost_mem_right right, uint8_t s)
{
	const struct dynvhost_mem_region *pub = &region->pub;
	uint64_t offset = first == 0 ? 0 : (first << pub->page_shift) - pub->phase;
	uint64_t offset_end = (end << pub->page_shift) - pub->phase;

	if (offset_end > pub->size)
		offset_end = pub->size;
	run->gpa = pub->gpa + offset;
	run->bytes = offset_end - offset;
	run->right = right;
	run->used = (s & DYNVHOST_MEM_REF) != 0;
	run->pinned = (s & DYNVHOST_MEM_PIN) != 0;
}

/** Find the next run of a window and move behind it. @return whether there was one. */
static bool
query_next(struct mem_region *region, struct dynvhost_mem_run_cursor *cursor,
	struct dynvhost_mem_run *run, uint64_t *looks)
{
	struct mem_pages *pages = &region->window[cursor->right].pages;
	uint64_t first;
	uint8_t s = 0;

	cursor->page = mem_pages_next(pages, cursor->page);
	for (; cursor->page < region->n_pages; cursor->page = mem_pages_next(pages, cursor->page)) {
		s = query_state(region, cursor);
		if ((s & DYNVHOST_MEM_OPEN) != 0)
			break;
		cursor->page++; /* somebody is opening or closing it */
	}
	if (cursor->page == region->n_pages)
		return false;
	first = cursor->page++;
	for (; cursor->page<region->n_pages && * looks> 0; cursor->page++, --*looks)
		if (query_state(region, cursor) != s)
			break;
	query_fill(run, region, first, cursor->page, cursor->right, s);
	return true;
}

uint32_t
dynvhost_mem_runs(struct dynvhost_mem *mem, struct dynvhost_mem_run_cursor *cursor,
	struct dynvhost_mem_run *out, uint32_t max)
{
	struct mem_region *region;
	uint64_t looks = QUERY_LOOKS;
	uint32_t n = 0;

	while (n < max && looks > 0) {
		region = query_region(mem, cursor);
		if (region == NULL)
			break;
		while (n < max && looks > 0 && query_next(region, cursor, &out[n], &looks))
			n++;
		if (cursor->page < region->n_pages || n == max || looks == 0)
			continue;
		cursor->page = 0;
		if (cursor->right == DYNVHOST_MEM_READ) {
			cursor->right = DYNVHOST_MEM_WRITE;
		} else {
			cursor->right = DYNVHOST_MEM_READ;
			cursor->serial++;
		}
	}
	return n;
}
