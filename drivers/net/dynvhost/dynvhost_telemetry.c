/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Telemetry under /dynvhost/: which ports there are, what state their guests are in, and how much
 * of the guests' memory is open. Callbacks run in EAL's telemetry thread.
 */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

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

/** "PORT" or "PORT,PAGE": page 0 has the first runs, the one after the last has none. */
static int
telemetry_pages(const char *cmd, const char *params, struct rte_tel_data *list)
{
	struct telemetry_pages pages = {.list = list};
	unsigned long port_id;
	char *end;

	RTE_SET_USED(cmd);
	if (params == NULL || !isdigit((unsigned char)*params))
		return -EINVAL;
	port_id = strtoul(params, &end, 10);
	if (*end == ',' && isdigit((unsigned char)end[1]))
		pages.page = strtoul(end + 1, &end, 10);
	if (*end != '\0' || port_id >= RTE_MAX_ETHPORTS)
		return -EINVAL;
	rte_tel_data_start_array(list, RTE_TEL_STRING_VAL);
	return dynvhost_dev_visit((uint16_t)port_id, telemetry_fill_pages, &pages) < 0 ? -EINVAL
										       : 0;
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
}
