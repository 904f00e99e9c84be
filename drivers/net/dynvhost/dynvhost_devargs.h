/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_DEVARGS_H
#define DYNVHOST_DEVARGS_H

/**
 * @file
 * Device arguments of a port.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dynvhost_mem.h"

#define DYNVHOST_ARG_IFACE            "iface"
#define DYNVHOST_ARG_QUEUES           "queues"
#define DYNVHOST_ARG_CLIENT           "client"
#define DYNVHOST_ARG_RECONNECT_MS     "reconnect-ms"
#define DYNVHOST_ARG_SOCK_MODE        "sock-mode"
#define DYNVHOST_ARG_SOCK_GROUP       "sock-group"
#define DYNVHOST_ARG_MRG_RXBUF        "mrg-rxbuf"
#define DYNVHOST_ARG_PACKED           "packed"
#define DYNVHOST_ARG_IN_ORDER         "in-order"
#define DYNVHOST_ARG_EVENT_IDX        "event-idx"
#define DYNVHOST_ARG_INDIRECT         "indirect"
#define DYNVHOST_ARG_CSUM             "csum"
#define DYNVHOST_ARG_TSO              "tso"
#define DYNVHOST_ARG_LINEAR_BUFFER    "linear-buffer"
#define DYNVHOST_ARG_EXT_BUFFER       "ext-buffer"
#define DYNVHOST_ARG_LEGACY_OL_FLAGS  "legacy-ol-flags"
#define DYNVHOST_ARG_MTU              "mtu"
#define DYNVHOST_ARG_TX_RETRIES       "tx-retries"
#define DYNVHOST_ARG_IOMMU_SUPPORT    "iommu-support"
#define DYNVHOST_ARG_MAP_MODE         "map-mode"
#define DYNVHOST_ARG_MAP_GRANULE      "map-granule"
#define DYNVHOST_ARG_MAP_IDLE_MS      "map-idle-ms"
#define DYNVHOST_ARG_MAP_MAX          "map-max"
#define DYNVHOST_ARG_MAP_REQUIRE_SEAL "map-require-seal"
#define DYNVHOST_ARG_MAP_DUMP         "map-dump"

/** For people: EAL's parameter string, shown by dpdk-pmdinfo.py. */
/* clang-format off */
#define DYNVHOST_PARAM_STRING \
	DYNVHOST_ARG_IFACE "=<path> " \
	DYNVHOST_ARG_QUEUES "=<1-128> " \
	DYNVHOST_ARG_CLIENT "=<0|1> " \
	DYNVHOST_ARG_RECONNECT_MS "=<ms> " \
	DYNVHOST_ARG_SOCK_MODE "=<octal> " \
	DYNVHOST_ARG_SOCK_GROUP "=<name> " \
	DYNVHOST_ARG_MRG_RXBUF "=<0|1> " \
	DYNVHOST_ARG_PACKED "=<0|1> " \
	DYNVHOST_ARG_IN_ORDER "=<0|1> " \
	DYNVHOST_ARG_EVENT_IDX "=<0|1> " \
	DYNVHOST_ARG_INDIRECT "=<0|1> " \
	DYNVHOST_ARG_CSUM "=<0|1> " \
	DYNVHOST_ARG_TSO "=<0|1> " \
	DYNVHOST_ARG_LINEAR_BUFFER "=<0|1> " \
	DYNVHOST_ARG_EXT_BUFFER "=<0|1> " \
	DYNVHOST_ARG_LEGACY_OL_FLAGS "=<0|1> " \
	DYNVHOST_ARG_IOMMU_SUPPORT "=<0|1> " \
	DYNVHOST_ARG_MTU "=<68-65535> " \
	DYNVHOST_ARG_TX_RETRIES "=<0-32> " \
	DYNVHOST_ARG_MAP_MODE "=<auto|uffd|mmap|eager> " \
	DYNVHOST_ARG_MAP_GRANULE "=<auto|4K-1G> " \
	DYNVHOST_ARG_MAP_IDLE_MS "=<ms> " \
	DYNVHOST_ARG_MAP_MAX "=<bytes|K|M|G> " \
	DYNVHOST_ARG_MAP_REQUIRE_SEAL "=<0|1> " \
	DYNVHOST_ARG_MAP_DUMP "=<0|1>"
/* clang-format on */

/** What the arguments say, with defaults for what they leave out. */
struct dynvhost_devargs {
	char iface[108]; /**< as long as a socket address can hold */
	uint16_t queues;
	bool client;           /**< connect to iface */
	uint32_t reconnect_ms; /**< longest pause between attempts; 0: one attempt in all */
	mode_t sock_mode;
	gid_t sock_group; /**< (gid_t)-1: leave it */
	bool mrg_rxbuf;
	bool packed;
	bool in_order;
	bool event_idx;
	bool indirect;
	bool csum;
	bool tso; /**< only with csum */
	bool linear_buffer;
	bool ext_buffer;
	bool legacy_ol_flags;
	bool iommu_support;
	uint16_t mtu; /**< 0: not said */
	uint8_t tx_retries;
	enum dynvhost_mem_mode map_mode;
	uint64_t map_granule; /**< bytes, 0: auto */
	uint32_t map_idle_ms; /**< 0: never */
	uint64_t map_max;     /**< bytes, 0: no cap */
	bool map_require_seal;
	bool map_dump;
};

/**
 * Read the arguments of device @p name. Strict: an unknown or repeated key, junk, or a value out of
 * range is refused with one line that names key, value and what is allowed.
 *
 * @return 0, -EINVAL or -ENOMEM.
 */
int dynvhost_devargs_parse(const char *name, const char *params, struct dynvhost_devargs *args);

#endif /* DYNVHOST_DEVARGS_H */
