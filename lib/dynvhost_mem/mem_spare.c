/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Mappings that are kept for the rest of the process.
 *
 * A process may have vm.max_map_count mappings. Ports take no more than half of that for open pages
 * (mem_window.c), but how many the application has, nobody can say; at the limit its malloc() fails,
 * and no thread can be started. A guest chooses how many pages of its are open, and must not be the
 * one who decides about that.
 *
 * So a spare is kept: mappings that serve for nothing. When the kernel has none left for a page, the
 * spare is given up at once, so that everybody else finds room, and open pages may not become more
 * again until some of them have closed. The spare comes back when there is room for two of it.
 *
 * Calls come from queues that open pages and from control.
 */

#include <pthread.h>

#include "mem_priv.h"

/** Mappings of the spare. */
#define SPARE_MAPPINGS 256

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER; /* users, and making a spare */
static unsigned int spare_users;
static void *_Atomic spare_map;                 /* NULL: given up, or there never was one */
static _Atomic int64_t spare_limit = INT64_MAX; /* what open pages may have */

static size_t
spare_length(unsigned int n)
{
	return (size_t)n * MEM_HOARD_STRIDE;
}

/** Give the spare up. Any thread. */
static void
spare_drop(void)
{
	void *map = atomic_exchange(&spare_map, NULL);

	if (map != NULL)
		dynvhost_mem_sys->munmap(map, spare_length(SPARE_MAPPINGS));
}

/** Have a spare again if that leaves as much to others. @return whether there is one. */
static bool
spare_make(void)
{
	uint8_t *map;

	if (atomic_load(&spare_map) != NULL)
		return true;
	map = dynvhost_mem_sys->hoard(2 * SPARE_MAPPINGS);
	if (map == NULL)
		return false;
	dynvhost_mem_sys->munmap(map + spare_length(SPARE_MAPPINGS), spare_length(SPARE_MAPPINGS));
	atomic_store(&spare_map, map);
	return true;
}

void
mem_spare_join(void)
{
	pthread_mutex_lock(&spare_lock);
	if (spare_users++ == 0)
		spare_make();
	pthread_mutex_unlock(&spare_lock);
}

void
mem_spare_leave(void)
{
	pthread_mutex_lock(&spare_lock);
	if (--spare_users == 0) {
		spare_drop();
		atomic_store(&spare_limit, INT64_MAX);
	}
	pthread_mutex_unlock(&spare_lock);
}

bool
mem_spare_allows(int64_t mappings)
{
	return mappings <= atomic_load_explicit(&spare_limit, memory_order_relaxed);
}

void
mem_spare_use(int64_t mappings)
{
	int64_t limit = mappings - SPARE_MAPPINGS;

	if (limit < mappings / 2)
		limit = mappings / 2;
	atomic_store(&spare_limit, limit);
	spare_drop();
}

void
mem_spare_restore(int64_t mappings, int64_t most)
{
	int64_t more = mappings / 4;
	int64_t limit;

	if (atomic_load(&spare_limit) == INT64_MAX && atomic_load(&spare_map) != NULL)
		return;
	pthread_mutex_lock(&spare_lock);
	if (spare_users != 0 && spare_make()) {
		limit = mappings + (more > SPARE_MAPPINGS / 2 ? more : SPARE_MAPPINGS / 2);
		atomic_store(&spare_limit, limit < most ? limit : INT64_MAX);
	}
	pthread_mutex_unlock(&spare_lock);
}
