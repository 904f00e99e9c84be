/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Mirrors (dynvhost_mem_mirror.h).
 *
 * What a range shows changes by one mmap() over the old, which nobody can look into half-way: a load
 * finds the one or the other. Where that fails, for want of kernel memory, the range is left without
 * any right, so that guest memory is out of reach all the same, and the load that comes next tries
 * again from the fault handler.
 *
 * Security model: the front-end can cut or punch the file while somebody loads. Any fault of a load
 * puts zeros in the place of all that is shown. Nothing of what is shown is believed here.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "dynvhost_mem_mirror.h"
#include "mem_priv.h"

/** Sizes of pages that one mirror can show. */
#define MIRROR_PLACES 4

/** A range for pages of one size, between its two reserved ends. */
struct mirror_place {
	struct mem_mapping mapping; /**< the range; its map is NULL: not made yet */
	uint64_t page_size;
	void *reserved;
	size_t reserved_length;
};

struct dynvhost_mem_mirror {
	struct dynvhost_mem *mem;
	struct mirror_place place[MIRROR_PLACES];
	struct mirror_place *shown; /**< NULL: nothing */
	uint64_t shown_bytes;
};

/** Let a whole range show zeros. @return whether it can be loaded. */
static bool
mirror_cover(struct mem_mapping *mapping)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	if (dynvhost_mem_sys->mmap(mapping->map, mapping->map_length, PROT_READ, flags, -1, 0) !=
		MAP_FAILED)
		return true;
	(void)dynvhost_mem_sys->mprotect(mapping->map, mapping->map_length, PROT_NONE);
	return false;
}

static bool
mirror_treat(struct mem_mapping *mapping, const struct mem_fault *fault)
{
	return fault->access != MEM_ACCESS_STORE && mirror_cover(mapping);
}

/** Make a range for pages of a size. 0 or -errno. */
static int
mirror_make_place(struct mirror_place *place, uint64_t page_size)
{
	/* A pin that begins and ends within pages takes one more than its length. */
	const uint64_t pages = (DYNVHOST_MEM_MIRROR_MAX + page_size - 1) / page_size + 1;
	const size_t length = (size_t)(pages * page_size);
	const size_t reserved_length = length + (size_t)page_size;
	void *map = dynvhost_mem_sys->mmap(NULL, reserved_length, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int rc = -ENOMEM;

	if (map == MAP_FAILED)
		return rc;
	place->reserved = map;
	place->reserved_length = reserved_length;
	place->page_size = page_size;
	place->mapping = (struct mem_mapping){
		.map = (uint8_t *)(((uintptr_t)map + page_size - 1) & ~(uintptr_t)(page_size - 1)),
		.map_length = length,
		.treat = mirror_treat,
	};
	if (mirror_cover(&place->mapping))
		rc = mem_fault_watch_mapping(&place->mapping);
	if (rc != 0) {
		dynvhost_mem_sys->munmap(map, reserved_length);
		place->mapping.map = NULL;
	}
	return rc;
}

/** The range for pages of a size. 0 or -errno. */
static int
mirror_get_place(
	struct dynvhost_mem_mirror *mirror, uint64_t page_size, struct mirror_place **place)
{
	for (*place = mirror->place; *place < mirror->place + MIRROR_PLACES; (*place)++) {
		if ((*place)->mapping.map == NULL)
			return mirror_make_place(*place, page_size);
		if ((*place)->page_size == page_size)
			return 0;
	}
	return -ENOSPC;
}

int
dynvhost_mem_mirror_create(struct dynvhost_mem *mem, struct dynvhost_mem_mirror **mirror)
{
	*mirror = dynvhost_mem_sys->calloc(1, sizeof(**mirror));
	if (*mirror == NULL)
		return -ENOMEM;
	(*mirror)->mem = mem;
	return 0;
}

/** Map pages of a file at the beginning of a range. 0 or -errno. */
static int
mirror_map(const struct dynvhost_mem_mirror *mirror, const struct mirror_place *place, int fd,
	uint64_t offset, size_t length)
{
	uint8_t *map = place->mapping.map;

	if (dynvhost_mem_sys->mmap(map, length, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		    fd, (off_t)offset) == MAP_FAILED ||
		dynvhost_mem_sys->madvise(map, length, MADV_DONTFORK) != 0 ||
		(!mirror->mem->config.dump &&
			dynvhost_mem_sys->madvise(map, length, MADV_DONTDUMP) != 0))
		return -errno;
	return 0;
}

int
dynvhost_mem_mirror_show(
	struct dynvhost_mem_mirror *mirror, const struct dynvhost_mem_pin *pin, const uint8_t **at)
{
	const struct mem_region *region = mem_region_of(pin->region);
	const uint32_t shift = region->pub.page_shift;
	const uint64_t skip = pin->first_page << shift;
	const uint64_t length = pin->n_pages << shift;
	struct mirror_place *place;
	int rc;

	dynvhost_mem_mirror_hide(mirror);
	rc = mirror_get_place(mirror, UINT64_C(1) << shift, &place);
	if (rc != 0)
		return rc;
	if (length > place->mapping.map_length)
		return -E2BIG;
	rc = mirror_map(
		mirror, place, region->file->fd, (region->first_file_page << shift) + skip, length);
	if (rc != 0) {
		mirror_cover(&place->mapping);
		return rc;
	}
	mirror->shown = place;
	mirror->shown_bytes = length;
	mem_window_count_mirror(mirror->mem, (int64_t)length);
	*at = place->mapping.map +
	      ((uint8_t *)pin->hva - region->window[pin->right].engine.start - skip);
	return 0;
}

void
dynvhost_mem_mirror_hide(struct dynvhost_mem_mirror *mirror)
{
	if (mirror->shown == NULL)
		return;
	mirror_cover(&mirror->shown->mapping);
	mirror->shown = NULL;
	mem_window_count_mirror(mirror->mem, -(int64_t)mirror->shown_bytes);
}

void
dynvhost_mem_mirror_destroy(struct dynvhost_mem_mirror *mirror)
{
	struct mirror_place *place;

	if (mirror == NULL)
		return;
	dynvhost_mem_mirror_hide(mirror);
	for (place = mirror->place; place < mirror->place + MIRROR_PLACES; place++) {
		if (place->mapping.map == NULL)
			break;
		mem_fault_forget_mapping(&place->mapping);
		dynvhost_mem_sys->munmap(place->reserved, place->reserved_length);
	}
	free(mirror);
}
