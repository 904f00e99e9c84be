/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file The guest memory of one port: create, destroy, counters. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "mem_priv.h"

/** Engines by mode; `auto` takes the first that works. */
static const struct {
	enum dynvhost_mem_mode mode;
	bool automatic;
	const struct mem_engine *engine;
} port_engines[] = {
	{DYNVHOST_MEM_MODE_MMAP, true, &dynvhost_mem_engine_mmap},
	{DYNVHOST_MEM_MODE_EAGER, false, &dynvhost_mem_engine_eager},
};

int
mem_fail(struct dynvhost_mem *mem, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(mem->why, sizeof(mem->why), format, args);
	va_end(args);
	return rc;
}

/** The engine for a mode, or NULL with the reason. */
static const struct mem_engine *
port_choose_engine(enum dynvhost_mem_mode mode, int *rc)
{
	size_t i;

	*rc = -ENOTSUP;
	for (i = 0; i < sizeof(port_engines) / sizeof(port_engines[0]); i++) {
		if (mode != port_engines[i].mode &&
			!(mode == DYNVHOST_MEM_MODE_AUTO && port_engines[i].automatic))
			continue;
		*rc = port_engines[i].engine->probe();
		if (*rc == 0)
			return port_engines[i].engine;
	}
	return NULL;
}

int
dynvhost_mem_create(const struct dynvhost_mem_config *config, struct dynvhost_mem **mem)
{
	const struct mem_engine *engine;
	struct dynvhost_mem *created;
	int rc;

	if ((unsigned int)config->mode > DYNVHOST_MEM_MODE_EAGER ||
		(config->granule & (config->granule - 1)) != 0)
		return -EINVAL;
	/* All of the guest is open from the start: no cap can hold. */
	if (config->mode == DYNVHOST_MEM_MODE_EAGER && config->max_bytes != 0)
		return -EINVAL;
	engine = port_choose_engine(config->mode, &rc);
	if (engine == NULL)
		return rc;
	created = dynvhost_mem_sys->calloc(1, sizeof(*created));
	if (created == NULL)
		return -ENOMEM;
	created->config = *config;
	snprintf(created->name, sizeof(created->name), "%s", config->name ? config->name : "");
	created->config.name = created->name;
	created->engine = engine;
	/* The other half is for the application: at the limit, its malloc() fails too. */
	created->max_mappings = dynvhost_mem_sys->max_map_count() / 2;
	*mem = created;
	return 0;
}

void
dynvhost_mem_destroy(struct dynvhost_mem *mem)
{
	free(mem);
}

const char *
dynvhost_mem_why(const struct dynvhost_mem *mem)
{
	return mem->why;
}

const char *
dynvhost_mem_engine_name(const struct dynvhost_mem *mem)
{
	return mem->engine->name;
}

void
dynvhost_mem_stats_get(const struct dynvhost_mem *mem, struct dynvhost_mem_stats *stats)
{
	const struct mem_counters *counters = &mem->counters;

#define PORT_READ(name) stats->name = atomic_load_explicit(&counters->name, memory_order_relaxed)
	PORT_READ(guest_bytes);
	PORT_READ(loadable_bytes);
	PORT_READ(loadable_peak);
	PORT_READ(storable_bytes);
	PORT_READ(storable_peak);
	PORT_READ(pinned_bytes);
	PORT_READ(opens);
	PORT_READ(closes);
	PORT_READ(repairs);
	PORT_READ(denials);
	PORT_READ(allocations);
	PORT_READ(lost);
	PORT_READ(last_open_ns);
#undef PORT_READ
}
