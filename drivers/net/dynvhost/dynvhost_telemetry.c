/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Telemetry under /dynvhost/: which ports there are, what state their guests are in, what their
 * front-ends have said, and how much of the guests' memory is open. Callbacks run in EAL's telemetry thread.
 */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rte_common.h>

#include "dynvhost_compat.h"
#include "dynvhost_ethdev.h"

/** Visit the port that the command's parameter names. @return 0, or -EINVAL: none of ours. */
static int
telemetry_visit(const char *params, void (*visit)(struct dynvhost_dev *dev, void *opaque),
	struct rte_tel_data *dict)
{
	unsigned long port_id;
	char *end;

	if (params == NULL || *params == '\0')
		return -EINVAL;
	errno = 0;
	port_id = strtoul(params, &end, 10);
	if (errno != 0 || *end != '\0' || port_id >= RTE_MAX_ETHPORTS)
		return -EINVAL;
	rte_tel_data_start_dict(dict);
	return dynvhost_dev_visit((uint16_t)port_id, visit, dict) < 0 ? -EINVAL : 0;
}

static void
telemetry_add_port(struct dynvhost_dev *dev, void *opaque)
{
	struct rte_tel_data *list = opaque;

	rte_tel_data_add_array_int(list, dev->eth_dev->data->port_id);
}

static int
telemetry_list(const char *cmd, const char *params, struct rte_tel_data *list)
{
	RTE_SET_USED(cmd);
	RTE_SET_USED(params);
	rte_tel_data_start_array(list, RTE_TEL_INT_VAL);
	dynvhost_dev_foreach(telemetry_add_port, list);
	return 0;
}

static void
telemetry_fill_info(struct dynvhost_dev *dev, void *opaque)
{
	struct rte_tel_data *dict = opaque;
	struct dynvhost_session_info info;

	dynvhost_backend_info(dev->backend, &info);
	rte_tel_data_add_dict_string(dict, "name", dev->name);
	rte_tel_data_add_dict_string(dict, "iface", dev->args.iface);
	rte_tel_data_add_dict_string(dict, "role", dev->args.client ? "client" : "server");
	rte_tel_data_add_dict_string(dict, "link", info.link_up ? "up" : "down");
	rte_tel_data_add_dict_string(dict, "waiting_for", info.waiting_for);
	rte_tel_data_add_dict_string(dict, "refused", info.refused);
	rte_tel_data_add_dict_int(dict, "connected", info.connected);
	rte_tel_data_add_dict_int(dict, "mtu", dev->eth_dev->data->mtu);
	rte_tel_data_add_dict_int(dict, "queue_pairs", dev->n_pairs);
	rte_tel_data_add_dict_int(dict, "rings_started", info.rings_started);
	rte_tel_data_add_dict_int(dict, "rings_enabled", info.rings_enabled);
	dynvhost_tel_add_uint(dict, "features", info.features);
	dynvhost_tel_add_uint(dict, "protocol_features", info.protocol_features);
}

static int
telemetry_info(const char *cmd, const char *params, struct rte_tel_data *dict)
{
	RTE_SET_USED(cmd);
	return telemetry_visit(params, telemetry_fill_info, dict);
}

static void
telemetry_fill_mem(struct dynvhost_dev *dev, void *opaque)
{
	struct rte_tel_data *dict = opaque;
	struct dynvhost_session_info info;
	struct dynvhost_mem_stats stats;

	dynvhost_backend_info(dev->backend, &info);
	dynvhost_mem_stats_get(dev->mem, &stats);
	rte_tel_data_add_dict_string(dict, "engine", dynvhost_mem_engine_name(dev->mem));
	dynvhost_tel_add_uint(dict, "regions", info.n_regions);
	dynvhost_tel_add_uint(dict, "guest_bytes", stats.guest_bytes);
	dynvhost_tel_add_uint(dict, "loadable_bytes", stats.loadable_bytes);
	dynvhost_tel_add_uint(dict, "loadable_peak", stats.loadable_peak);
	dynvhost_tel_add_uint(dict, "storable_bytes", stats.storable_bytes);
	dynvhost_tel_add_uint(dict, "storable_peak", stats.storable_peak);
	dynvhost_tel_add_uint(dict, "pinned_bytes", stats.pinned_bytes);
	dynvhost_tel_add_uint(dict, "opens", stats.opens);
	dynvhost_tel_add_uint(dict, "closes", stats.closes);
	dynvhost_tel_add_uint(dict, "repairs", stats.repairs);
	dynvhost_tel_add_uint(dict, "denials", stats.denials);
	dynvhost_tel_add_uint(dict, "allocations", stats.allocations);
	dynvhost_tel_add_uint(dict, "lost", stats.lost);
	dynvhost_tel_add_uint(dict, "last_open_ns", stats.last_open_ns);
}

static int
telemetry_mem(const char *cmd, const char *params, struct rte_tel_data *dict)
{
	RTE_SET_USED(cmd);
	return telemetry_visit(params, telemetry_fill_mem, dict);
}

/** Runs in one reply: as many as its 16 KiB hold. */
#define TELEMETRY_RUNS_PER_PAGE 200

/** Rings in one reply, likewise. */
#define TELEMETRY_RINGS_PER_PAGE 64

struct telemetry_pages {
	struct rte_tel_data *list;
	unsigned long page;
};

static void
telemetry_add_run(struct rte_tel_data *list, const struct dynvhost_mem_run *run)
{
	char text[RTE_TEL_MAX_STRING_LEN];

	snprintf(text, sizeof(text), "0x%" PRIx64 "+0x%" PRIx64 " %s%s%s", run->gpa, run->bytes,
		run->right == DYNVHOST_MEM_WRITE ? "rw" : "r", run->used ? " used" : "",
		run->pinned ? " ring" : "");
	rte_tel_data_add_array_string(list, text);
}

static void
telemetry_fill_pages(struct dynvhost_dev *dev, void *opaque)
{
	struct telemetry_pages *pages = opaque;
	struct dynvhost_mem_run_cursor cursor = {0};
	struct dynvhost_mem_run run[TELEMETRY_RUNS_PER_PAGE];
	uint32_t n = RTE_DIM(run);

	for (unsigned long page = 0; page <= pages->page; page++) {
		/* The page asked for lies behind the last run. */
		if (n < RTE_DIM(run))
			return;
		n = dynvhost_backend_runs(dev->backend, &cursor, run, RTE_DIM(run));
	}
	for (uint32_t i = 0; i < n; i++)
		telemetry_add_run(pages->list, &run[i]);
}

/** "PORT" or "PORT,PAGE": page 0 comes first, the one after the last is empty. */
static int
telemetry_visit_page(const char *params, void (*visit)(struct dynvhost_dev *dev, void *opaque),
	struct rte_tel_data *list, enum rte_tel_value_type type)
{
	struct telemetry_pages pages = {.list = list};
	unsigned long port_id;
	char *end;

	if (params == NULL || !isdigit((unsigned char)*params))
		return -EINVAL;
	port_id = strtoul(params, &end, 10);
	if (*end == ',' && isdigit((unsigned char)end[1]))
		pages.page = strtoul(end + 1, &end, 10);
	if (*end != '\0' || port_id >= RTE_MAX_ETHPORTS)
		return -EINVAL;
	rte_tel_data_start_array(list, type);
	return dynvhost_dev_visit((uint16_t)port_id, visit, &pages) < 0 ? -EINVAL : 0;
}

static int
telemetry_pages(const char *cmd, const char *params, struct rte_tel_data *list)
{
	RTE_SET_USED(cmd);
	return telemetry_visit_page(params, telemetry_fill_pages, list, RTE_TEL_STRING_VAL);
}

static void
telemetry_add_ring(struct dynvhost_dev *dev, struct rte_tel_data *list,
	const struct dynvhost_session_ring_info *ring)
{
	const struct dynvhost_vq_stats *stats = &dev->vq[ring->index].stats;
	struct rte_tel_data *dict = rte_tel_data_alloc();

	if (dict == NULL)
		return;
	rte_tel_data_start_dict(dict);
	rte_tel_data_add_dict_int(dict, "ring", ring->index);
	rte_tel_data_add_dict_string(dict, "guest", ring->index % 2 != 0 ? "sends" : "receives");
	rte_tel_data_add_dict_int(dict, "size", (int)ring->size);
	rte_tel_data_add_dict_string(dict, "format", ring->packed ? "packed" : "split");
	rte_tel_data_add_dict_int(dict, "started", ring->started);
	rte_tel_data_add_dict_int(dict, "enabled", ring->enabled);
	rte_tel_data_add_dict_string(dict, "waiting_for", ring->waiting_for);
	rte_tel_data_add_dict_int(dict, "kick_fd", ring->has_kick_fd);
	rte_tel_data_add_dict_int(dict, "call_fd", ring->has_call_fd);
	rte_tel_data_add_dict_int(dict, "err_fd", ring->has_err_fd);
	dynvhost_tel_add_uint(dict, "packets", __atomic_load_n(&stats->packets, __ATOMIC_RELAXED));
	rte_tel_data_add_array_container(list, dict, 0);
}

static void
telemetry_fill_rings(struct dynvhost_dev *dev, void *opaque)
{
	struct telemetry_pages *pages = opaque;
	struct dynvhost_session_ring_info ring[TELEMETRY_RINGS_PER_PAGE];
	uint16_t n;

	if (pages->page > DYNVHOST_MAX_RINGS / TELEMETRY_RINGS_PER_PAGE)
		return;
	n = dynvhost_backend_rings(
		dev->backend, (uint16_t)(pages->page * RTE_DIM(ring)), ring, RTE_DIM(ring));
	for (uint16_t i = 0; i < n; i++)
		telemetry_add_ring(dev, pages->list, &ring[i]);
}

static int
telemetry_rings(const char *cmd, const char *params, struct rte_tel_data *list)
{
	RTE_SET_USED(cmd);
	return telemetry_visit_page(params, telemetry_fill_rings, list, RTE_TEL_CONTAINER);
}

/** One line: when (UTC), what, and how often in a row. */
static void
telemetry_add_event(struct rte_tel_data *list, const struct dynvhost_session_event *event)
{
	char when[32], times[32] = "", text[RTE_TEL_MAX_STRING_LEN];
	time_t seconds = (time_t)(event->time_us / 1000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	if (event->times > 1)
		snprintf(times, sizeof(times), "(%" PRIu64 " times) ", event->times);
	/* What does not fit is cut off. */
	snprintf(text, sizeof(text), "%s.%03u %s%s", when,
		(unsigned int)(event->time_us / 1000 % 1000), times, event->text);
	rte_tel_data_add_array_string(list, text);
}

static void
telemetry_fill_events(struct dynvhost_dev *dev, void *opaque)
{
	struct telemetry_pages *pages = opaque;
	struct dynvhost_session_event event[DYNVHOST_SESSION_EVENTS];
	struct dynvhost_session_info info;
	char text[RTE_TEL_MAX_STRING_LEN];
	uint32_t n;

	if (pages->page != 0)
		return;
	n = dynvhost_backend_events(dev->backend, event, RTE_DIM(event));
	for (uint32_t i = 0; i < n; i++)
		telemetry_add_event(pages->list, &event[i]);
	dynvhost_backend_info(dev->backend, &info);
	if (info.link_up)
		return;
	snprintf(text, sizeof(text), "waiting for %s", info.waiting_for);
	rte_tel_data_add_array_string(pages->list, text);
}

static int
telemetry_events(const char *cmd, const char *params, struct rte_tel_data *list)
{
	RTE_SET_USED(cmd);
	return telemetry_visit_page(params, telemetry_fill_events, list, RTE_TEL_STRING_VAL);
}

RTE_INIT(dynvhost_telemetry_init)
{
	rte_telemetry_register_cmd(
		"/dynvhost/list", telemetry_list, "Ports of this driver. Takes no parameters");
	rte_telemetry_register_cmd("/dynvhost/info", telemetry_info,
		"State of a port and its front-end. Parameters: int port_id");
	rte_telemetry_register_cmd("/dynvhost/mem", telemetry_mem,
		"Guest memory that a port can reach. Parameters: int port_id");
	rte_telemetry_register_cmd("/dynvhost/pages", telemetry_pages,
		"Runs of open guest memory. Parameters: int port_id[, int page]");
	rte_telemetry_register_cmd("/dynvhost/rings", telemetry_rings,
		"Rings of a port, 64 on a page. Parameters: int port_id[, int page]");
	rte_telemetry_register_cmd("/dynvhost/events", telemetry_events,
		"Last messages of a port's front-end and what became of them. "
		"Parameters: int port_id");
}
