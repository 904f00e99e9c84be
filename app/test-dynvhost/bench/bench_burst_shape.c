/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file What is measured, as words. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "bench_burst.h"

/** A number with K, M, G or T. */
static bool
shape_number(const char *text, uint64_t max, uint64_t *value)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	*value = strtoull(text, &end, 10);
	if (end == text)
		return false;
	unit = *end != '\0' ? strchr(units, *end) : NULL;
	if (unit != NULL) {
		*value <<= 10 * (unit - units + 1);
		end++;
	}
	return *end == '\0' && *value <= max;
}

static bool
shape_set_dir(struct burst_shape *shape, const char *value)
{
	static const char *const names[] = {
		[BURST_RX] = "rx",
		[BURST_TX] = "tx",
		[BURST_EMPTY] = "empty",
		[BURST_LOOP] = "loop",
	};

	for (unsigned int i = 0; i < RTE_DIM(names); i++) {
		if (strcmp(value, names[i]) == 0) {
			shape->dir = i;
			return true;
		}
	}
	return false;
}

static bool
shape_set_word(struct burst_shape *shape, const char *key, const char *value)
{
	if (strcmp(key, "name") == 0)
		snprintf(shape->name, sizeof(shape->name), "%s", value);
	else if (strcmp(key, "dir") == 0)
		return shape_set_dir(shape, value);
	else if (strcmp(key, "format") == 0 && strcmp(value, "split") == 0)
		shape->packed = false;
	else if (strcmp(key, "format") == 0 && strcmp(value, "packed") == 0)
		shape->packed = true;
	else if (strcmp(key, "size") == 0 && strcmp(value, "imix") == 0)
		shape->len = 0;
	else if (strcmp(key, "touch") == 0 && strcmp(value, "none") == 0)
		shape->touch = BURST_TOUCH_NONE;
	else if (strcmp(key, "touch") == 0 && strcmp(value, "first") == 0)
		shape->touch = BURST_TOUCH_FIRST;
	else if (strcmp(key, "touch") == 0 && strcmp(value, "all") == 0)
		shape->touch = BURST_TOUCH_ALL;
	else
		return false;
	return true;
}

static bool
shape_set_number(struct burst_shape *shape, const char *key, const char *value)
{
	uint64_t n;

	if (!shape_number(value, UINT64_MAX, &n))
		return false;
	if (strcmp(key, "size") == 0 && n >= 60 && n <= BURST_MAX_LEN)
		shape->len = (uint32_t)n;
	else if (strcmp(key, "gap") == 0 && n <= 1000000)
		shape->gap_ns = (uint32_t)n;
	else if (strcmp(key, "inorder") == 0 && n <= 1)
		shape->in_order = n;
	else if (strcmp(key, "mrg") == 0 && n <= 1)
		shape->mergeable = n;
	else if (strcmp(key, "csum") == 0 && n <= 1)
		shape->csum = n;
	else if (strcmp(key, "event") == 0 && n <= 1)
		shape->event_idx = n;
	else if (strcmp(key, "burst") == 0 && n >= 1 && n <= BURST_MAX)
		shape->burst = (uint16_t)n;
	else if (strcmp(key, "ring") == 0 && n >= 2 && n <= 32768 && (n & (n - 1)) == 0)
		shape->ring = (uint16_t)n;
	else if (strcmp(key, "buffers") == 0 && n >= 2 && n <= 1000000)
		shape->buffers = (uint32_t)n;
	else if (strcmp(key, "at") == 0 && n >= BURST_HDR_LEN && n <= 256)
		shape->data_at = (uint32_t)n;
	else if (strcmp(key, "regions") == 0 && n >= 1 && n <= 509)
		shape->regions = (uint32_t)n;
	else if (strcmp(key, "page") == 0 && (n == GUEST_RAM_PAGE || n == GUEST_RAM_HUGEPAGE))
		shape->page = n;
	else if (strcmp(key, "memory") == 0 && n <= UINT64_C(16) << 40)
		shape->memory = n;
	else if (strcmp(key, "ports") == 0 && n >= 1 && n <= RTE_MAX_ETHPORTS)
		shape->ports = (uint32_t)n;
	else
		return false;
	return true;
}

bool
burst_shape_parse(struct burst_shape *shape, const char *text)
{
	char copy[256];
	char *save, *item;

	*shape = (struct burst_shape){.dir = BURST_RX,
		.len = 64,
		.burst = 32,
		.ring = 256,
		.buffers = 256,
		.data_at = 128,
		.regions = 1,
		.ports = 1,
		.page = GUEST_RAM_HUGEPAGE};
	snprintf(shape->name, sizeof(shape->name), "%.63s", text);
	snprintf(copy, sizeof(copy), "%s", text);
	for (item = strtok_r(copy, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save)) {
		char *value = strchr(item, '=');

		if (value != NULL)
			*value++ = '\0';
		if (value == NULL || (!shape_set_word(shape, item, value) &&
					     !shape_set_number(shape, item, value))) {
			fprintf(stderr, "bench_burst: no such shape: %s in %s\n", item, text);
			return false;
		}
	}
	if (shape->burst > shape->ring) {
		fprintf(stderr, "bench_burst: burst is longer than the ring in %s\n", text);
		return false;
	}
	return true;
}
