/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef TABLE_REFUSED_H
#define TABLE_REFUSED_H

/** @file Tables that must be refused. */

#include <string.h>
#include <unistd.h>

#include "mem_test.h"

#define SIZE (64 * MT_PAGE)

/** Build, expect @p want, words for it, and nothing left behind; closes the slots' fds. */
static inline void
table_refused(const struct dynvhost_mem_config *config, struct dynvhost_mem_slot *slots, uint32_t n,
	int want)
{
	struct dynvhost_mem *mem = mt_create(config);
	struct dynvhost_mem_view *view = NULL;
	const struct mt_holdings before = mt_holdings();
	uint32_t i;

	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slots, n, &view), want);
	assert_null(view);
	assert_true(strlen(dynvhost_mem_why(mem)) > 10);
	mt_expect_holdings(before);
	assert_int_equal(mt_stats(mem).guest_bytes, 0);
	for (i = 0; i < n; i++)
		if (slots[i].fd >= 0)
			assert_int_equal(close(slots[i].fd), 0);
	dynvhost_mem_destroy(mem);
}

static inline void
table_slot_refused(struct dynvhost_mem_slot slot, int want)
{
	table_refused(NULL, &slot, 1, want);
}

#endif /* TABLE_REFUSED_H */
