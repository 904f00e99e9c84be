/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file The guest memory of one port: create, destroy, counters. */

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem_priv.h"

/** An engine that can be asked for. */
struct port_engine {
	enum dynvhost_mem_mode mode;
	bool automatic;
	const struct mem_engine *engine;
	bool works;                   /**< has been found to work here; asked again until then */
	char reason[MEM_REASON_SIZE]; /**< what was seen */
};

/** `auto` takes the first that works; each is the fallback of those above it. */
static struct port_engine port_engines[] = {
	{DYNVHOST_MEM_MODE_UFFD, true, &dynvhost_mem_engine_uffd},
	{DYNVHOST_MEM_MODE_MMAP, true, &dynvhost_mem_engine_mmap},
	{DYNVHOST_MEM_MODE_EAGER, false, &dynvhost_mem_engine_eager},
};
static pthread_mutex_t port_engines_lock = PTHREAD_MUTEX_INITIALIZER;

/** Words for the last failed dynvhost_mem_create(). */
static char port_why[256];

#define PORT_N_ENGINES (sizeof(port_engines) / sizeof(port_engines[0]))

int
mem_fail(struct dynvhost_mem *mem, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(mem->why, sizeof(mem->why), format, args);
	va_end(args);
	return rc;
}

/** Whether an engine works on this machine. */
static bool
port_try_engine(struct port_engine *candidate)
{
	bool works;

	pthread_mutex_lock(&port_engines_lock);
	if (!candidate->works)
		candidate->works = candidate->engine->probe(candidate->reason) == 0;
	works = candidate->works;
	pthread_mutex_unlock(&port_engines_lock);
	return works;
}

/** Choose the engines for a mode that is not `auto`. 0 or -ENOTSUP. */
static int
port_use_engine(struct dynvhost_mem *mem)
{
	struct port_engine *candidate = port_engines;

	while (candidate->mode != mem->config.mode)
		candidate++;
	if (!port_try_engine(candidate)) {
		snprintf(port_why, sizeof(port_why), "engine %s does not work here: %s",
			candidate->engine->name, candidate->reason);
		return -ENOTSUP;
	}
	mem->engine = candidate->engine;
	snprintf(mem->reason, sizeof(mem->reason), "as configured");
	return 0;
}

/** Choose the first engine that works, and the next one as its fallback. 0 or -ENOTSUP. */
static int
port_choose_engine(struct dynvhost_mem *mem)
{
	const char *reason = NULL;
	size_t i;

	for (i = 0; i < PORT_N_ENGINES && mem->fallback == NULL; i++) {
		struct port_engine *candidate = &port_engines[i];

		if (!candidate->automatic)
			continue;
		if (port_try_engine(candidate)) {
			if (mem->engine != NULL)
				mem->fallback = candidate->engine;
			else
				mem->engine = candidate->engine;
		}
		if (reason == NULL)
			reason = candidate->reason;
	}
	snprintf(mem->reason, sizeof(mem->reason), "%s", reason);
	if (mem->engine == NULL)
		snprintf(port_why, sizeof(port_why), "no engine works here: %s", reason);
	return mem->engine == NULL ? -ENOTSUP : 0;
}

static int
port_check_config(const struct dynvhost_mem_config *config)
{
	const char *flaw = NULL;

	if ((unsigned int)config->mode > DYNVHOST_MEM_MODE_EAGER)
		flaw = "no such engine";
	else if ((config->granule & (config->granule - 1)) != 0)
		flaw = "the granule is no power of two";
	else if (config->mode == DYNVHOST_MEM_MODE_EAGER && config->max_bytes != 0)
		flaw = "the eager engine opens all of the guest, no cap can hold";
	if (flaw == NULL)
		return 0;
	snprintf(port_why, sizeof(port_why), "%s", flaw);
	return -EINVAL;
}

/** Have faults reported to us. 0 or -ENOMEM. */
static int
port_arm_faults(void)
{
	int rc = dynvhost_mem_faults_arm();

	if (rc != 0)
		snprintf(port_why, sizeof(port_why), "signal handlers cannot be set up: %s",
			strerror(-rc));
	return rc;
}

int
dynvhost_mem_create(const struct dynvhost_mem_config *config, struct dynvhost_mem **mem)
{
	struct dynvhost_mem *created;
	int rc = port_check_config(config);

	if (rc != 0)
		return rc;
	created = dynvhost_mem_sys->calloc(1, sizeof(*created));
	if (created == NULL) {
		snprintf(port_why, sizeof(port_why), "no memory");
		return -ENOMEM;
	}
	created->config = *config;
	snprintf(created->name, sizeof(created->name), "%s", config->name ? config->name : "");
	created->config.name = created->name;
	snprintf(
		created->stray, sizeof(created->stray), "dynvhost: port %s: stray ", created->name);
	/* The other half is for the application: at the limit, its malloc() fails too. */
	created->max_mappings = dynvhost_mem_sys->max_map_count() / 2;
	rc = port_arm_faults();
	if (rc == 0 && config->mode == DYNVHOST_MEM_MODE_AUTO)
		rc = port_choose_engine(created);
	else if (rc == 0)
		rc = port_use_engine(created);
	if (rc != 0) {
		free(created);
		return rc;
	}
	*mem = created;
	return 0;
}

void
dynvhost_mem_destroy(struct dynvhost_mem *mem)
{
	free(mem);
}

void
dynvhost_mem_set_close(
	struct dynvhost_mem *mem, void (*close_fd)(void *opaque, int fd), void *opaque)
{
	mem->close_fd = close_fd;
	mem->close_opaque = opaque;
}

const char *
dynvhost_mem_why(const struct dynvhost_mem *mem)
{
	return mem == NULL ? port_why : mem->why;
}

const char *
dynvhost_mem_engine_name(const struct dynvhost_mem *mem)
{
	return mem->engine->name;
}

const char *
dynvhost_mem_engine_reason(const struct dynvhost_mem *mem)
{
	return mem->reason;
}

bool
dynvhost_mem_wants_room(const struct dynvhost_mem *mem)
{
	return atomic_load_explicit(&mem->room_wanted, memory_order_relaxed);
}

bool
dynvhost_mem_is_lost(const struct dynvhost_mem *mem)
{
	return atomic_load_explicit(&mem->lost_regions, memory_order_relaxed) != 0;
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
