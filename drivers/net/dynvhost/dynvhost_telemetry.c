/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Telemetry under /dynvhost/: which ports there are, what state their guests are in, and how much
 * of the guests' memory is open. Callbacks run in EAL's telemetry thread.
 */

#include <errno.h>
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
	rte_tel_data_add_dict_string(dict, "role", "server");
	rte_tel_data_add_dict_string(dict, "link", info.link_up ? "up" : "down");
	rte_tel_data_add_dict_string(dict, "waiting_for", info.waiting_for);
	rte_tel_data_add_dict_string(dict, "refused", info.refused);
	rte_tel_data_add_dict_int(dict, "connected", info.connected);
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

RTE_INIT(dynvhost_telemetry_init)
{
	rte_telemetry_register_cmd(
		"/dynvhost/list", telemetry_list, "Ports of this driver. Takes no parameters");
	rte_telemetry_register_cmd("/dynvhost/info", telemetry_info,
		"State of a port and its front-end. Parameters: int port_id");
	rte_telemetry_register_cmd("/dynvhost/mem", telemetry_mem,
		"Guest memory that a port can reach. Parameters: int port_id");
}
