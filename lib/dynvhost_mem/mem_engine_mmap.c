/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The engine that works everywhere: an open page is a mapping of its own over the reservation.
 *
 * It fails closed, and an open page stays right whatever the kernel does to the memory behind it.
 * It costs mappings, of which a process has a limited number (vm.max_map_count), and each call
 * takes the process's mapping lock for writing, so that queues opening pages hinder each other.
 */

#include <errno.h>

#include "mem_engine.h"
#include "mem_reserve.h"

static int
mmap_open(struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *opened)
{
	int rc = mem_reserve_map(window, offset, length);

	*opened = 0;
	if (rc != 0)
		return rc;
	rc = mem_reserve_allow(window, offset, length);
	if (rc == 0)
		rc = mem_reserve_populate(window, offset, length);
	if (rc == 0)
		*opened = length;
	else if (mem_reserve_cover(window, offset, length) != 0)
		return -EBUSY;
	return rc;
}

const struct mem_engine dynvhost_mem_engine_mmap = {
	.name = "mmap",
	.mappings = 2, /* the mapping itself, and the rest of the reservation behind it */
	.open_call_ns = 4500,
	.open_page_ns = 500,
	.probe = mem_reserve_probe,
	.reserve = mem_reserve,
	.open = mmap_open,
	.close = mem_reserve_cover,
	.repair = mem_reserve_repair,
	.release = mem_reserve_free,
};
