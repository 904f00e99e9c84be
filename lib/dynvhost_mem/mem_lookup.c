/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * From guest addresses to host memory.
 *
 * Security model: address and length come from the guest (descriptors) or the front-end (rings) and
 * may be anything. A range is tested as `gpa - base < size && len <= size - (gpa - base)`, which no
 * value makes wrap.
 */

#include <errno.h>

#include "mem_priv.h"

/** Index of the region that holds @p gpa, or n_regions. */
static uint32_t
lookup_gpa(const struct dynvhost_mem_view *view, uint64_t gpa)
{
	uint32_t low = 0, high = view->n_regions;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct dynvhost_mem_region *region = view->region[middle];

		if (gpa < region->gpa)
			high = middle;
		else if (gpa - region->gpa < region->size)
			return middle;
		else
			low = middle + 1;
	}
	return view->n_regions;
}

static bool
lookup_is_in(const struct dynvhost_mem_view *view, uint32_t i, uint64_t gpa)
{
	return i < view->n_regions && gpa - view->region[i]->gpa < view->region[i]->size;
}

/**
 * As lookup_gpa(), beginning with the two regions that the queue used last, as ring tables and packets
 * often lie in different ones and take turns, and with the one that comes next in the guest.
 */
static uint32_t
lookup_near(const struct dynvhost_mem_view *view, struct dynvhost_mem_cursor *cursor, uint64_t gpa)
{
	uint32_t found = cursor->other;

	if (lookup_is_in(view, cursor->hint, gpa))
		return cursor->hint;
	if (!lookup_is_in(view, found, gpa))
		found = cursor->hint + 1;
	if (!lookup_is_in(view, found, gpa))
		found = lookup_gpa(view, gpa);
	if (found != view->n_regions) {
		cursor->other = cursor->hint;
		cursor->hint = found;
	}
	return found;
}

static uint64_t
lookup_page(const struct dynvhost_mem_region *region, uint64_t offset)
{
	return (offset + region->phase) >> region->page_shift;
}

int
dynvhost_mem_uva_to_gpa(
	const struct dynvhost_mem_view *view, uint64_t uva, uint64_t len, uint64_t *gpa)
{
	uint32_t i;

	for (i = 0; i < view->n_regions; i++) {
		const struct dynvhost_mem_region *region = view->region[i];
		uint64_t offset = uva - region->uva;

		if (offset < region->size) {
			if (len > region->size - offset)
				return -EFAULT;
			*gpa = region->gpa + offset;
			return 0;
		}
	}
	return -EFAULT;
}

int __attribute__((noinline)) dynvhost_mem_translate_miss(const struct dynvhost_mem_view *view,
	struct dynvhost_mem_cursor *cursor, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_span *span)
{
	struct mem_ask ask = {.budget = &cursor->budget, .spins = MEM_SPINS_BURST};
	uint32_t found = lookup_near(view, cursor, gpa);
	const struct dynvhost_mem_region *region;
	uint64_t offset;
	int rc;

	if (view->iotlb != NULL)
		return mem_iotlb_translate(view->iotlb, cursor, gpa, len, right, span);
	if (found == view->n_regions || len == 0)
		return -EFAULT;
	region = view->region[found];
	offset = gpa - region->gpa;
	if (len > region->size - offset)
		len = region->size - offset;
	rc = mem_window_open(mem_region_of(region), right, lookup_page(region, offset),
		lookup_page(region, offset + len - 1), &ask);
	if (rc != 0)
		return rc;
	span->hva = region->window[right].base + offset;
	span->len = len;
	return 0;
}

/** Whether a pin holds a page. */
static bool
lookup_is_pinned(const struct mem_region *region, enum dynvhost_mem_right right, uint64_t page)
{
	const struct dynvhost_mem_pin *pin;

	for (pin = region->pins; pin != NULL; pin = pin->next)
		if (pin->right == right && page - pin->first_page < pin->n_pages)
			return true;
	return false;
}

/** Take the pin bit off those of the pin's pages that no pin in the region's list holds. */
static void
lookup_unpin_pages(struct mem_region *region, const struct dynvhost_mem_pin *pin)
{
	uint64_t i;

	for (i = 0; i < pin->n_pages; i++)
		if (!lookup_is_pinned(region, pin->right, pin->first_page + i))
			mem_window_unpin(region, pin->right, pin->first_page + i, 1);
}

int
dynvhost_mem_pin(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_pin *pin)
{
	struct mem_ask ask = {.bits = DYNVHOST_MEM_PIN, .spins = MEM_SPINS_CONTROL};
	uint32_t found = lookup_gpa(view, gpa);
	struct mem_region *region;
	uint64_t offset;
	int rc;

	if (view->iotlb != NULL)
		return mem_iotlb_pin(view->iotlb, gpa, len, right, pin);
	pin->region = NULL;
	if (found == view->n_regions)
		return mem_fail(view->mem, -EFAULT, "gpa 0x%jx lies in no region", (uintmax_t)gpa);
	region = mem_region_of(view->region[found]);
	offset = gpa - region->pub.gpa;
	if (len == 0 || len > region->pub.size - offset)
		return mem_fail(view->mem, -EFAULT,
			"%ju bytes at gpa 0x%jx do not lie in one region", (uintmax_t)len,
			(uintmax_t)gpa);

	pin->right = right;
	pin->first_page = lookup_page(&region->pub, offset);
	pin->n_pages = lookup_page(&region->pub, offset + len - 1) - pin->first_page + 1;
	pin->hva = region->pub.window[right].base + offset;
	rc = mem_window_open(
		region, right, pin->first_page, pin->first_page + pin->n_pages - 1, &ask);
	if (rc != 0) {
		lookup_unpin_pages(region, pin);
		return mem_fail(view->mem, rc, "%ju bytes at gpa 0x%jx cannot be opened now",
			(uintmax_t)len, (uintmax_t)gpa);
	}
	pin->region = &region->pub;
	pin->next = region->pins;
	region->pins = pin;
	return 0;
}

void
dynvhost_mem_unpin(struct dynvhost_mem_pin *pin)
{
	struct dynvhost_mem_pin **link;
	struct mem_region *region;

	if (pin->region == NULL)
		return;
	region = mem_region_of(pin->region);
	for (link = &region->pins; *link != pin; link = &(*link)->next)
		;
	*link = pin->next;
	lookup_unpin_pages(region, pin);
	pin->region = NULL;
	pin->next = NULL;
}
