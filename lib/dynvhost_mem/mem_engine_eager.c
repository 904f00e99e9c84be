/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The engine that hides nothing: both windows are mapped at table time, as other vhost back-ends
 * map guest memory. To measure against.
 *
 * A page is still populated before its first use, for the error code that a file cut short would
 * otherwise give as a signal.
 */

#include <errno.h>

#include "mem_engine.h"
#include "mem_reserve.h"

static int
eager_reserve(struct mem_engine_window *window)
{
	int rc = mem_reserve(window);

	if (rc != 0)
		return rc;
	rc = mem_reserve_map(window, 0, window->length);
	if (rc == 0)
		rc = mem_reserve_allow(window, 0, window->length);
	if (rc != 0)
		mem_reserve_free(window);
	return rc;
}

static int
eager_open(struct mem_engine_window *window, uint64_t offset, uint64_t length, uint64_t *opened)
{
	int rc = mem_reserve_populate(window, offset, length);

	*opened = rc == 0 ? length : 0;
	return rc;
}

static int
eager_close(struct mem_engine_window *window, uint64_t offset, uint64_t length)
{
	(void)window;
	(void)offset;
	(void)length;
	return -EAGAIN;
}

const struct mem_engine dynvhost_mem_engine_eager = {
	.name = "eager",
	.whole = true,
	.probe = mem_reserve_probe,
	.reserve = eager_reserve,
	.open = eager_open,
	.close = eager_close,
	.repair = mem_reserve_repair,
	.release = mem_reserve_free,
};
