/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "dynvhost_devargs.h"
#include "dynvhost_log.h"
#include "session.h"

#define DEVARGS_MAX_MS 3600000
/** Room for a group's entry with all its members: to begin with, and at most. */
#define DEVARGS_GROUP_MIN   1024
#define DEVARGS_GROUP_MAX   (4u << 20)
#define DEVARGS_MIN_MTU     68
#define DEVARGS_MAX_MTU     65535
#define DEVARGS_MAX_RETRIES 32

/** Reads one value into @p field. @return 0 or -EINVAL. */
typedef int (*devargs_read_t)(const char *value, void *field);

struct devargs_option {
	const char *key;
	devargs_read_t read;
	size_t offset;       /**< of the field in struct dynvhost_devargs */
	const char *allowed; /**< for the message */
};

/** A whole string as an unsigned number up to @p max; no sign, no white space, no tail. */
static int
devargs_read_number(const char *value, int base, uint64_t max, uint64_t *number)
{
	char *end;

	if (!isalnum((unsigned char)value[0]))
		return -EINVAL;
	errno = 0;
	*number = strtoull(value, &end, base);
	return errno != 0 || *end != '\0' || *number > max ? -EINVAL : 0;
}

static int
devargs_read_path(const char *value, void *field)
{
	size_t length = strlen(value);

	if (length == 0 || length >= sizeof(((struct dynvhost_devargs *)NULL)->iface))
		return -EINVAL;
	memcpy(field, value, length + 1);
	return 0;
}

static int
devargs_read_queues(const char *value, void *field)
{
	uint64_t number;

	if (devargs_read_number(value, 10, DYNVHOST_MAX_QUEUE_PAIRS, &number) < 0 || number == 0)
		return -EINVAL;
	*(uint16_t *)field = (uint16_t)number;
	return 0;
}

static int
devargs_read_bool(const char *value, void *field)
{
	if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
		return -EINVAL;
	*(bool *)field = value[0] == '1';
	return 0;
}

static int
devargs_read_retries(const char *value, void *field)
{
	uint64_t number;

	if (devargs_read_number(value, 10, DEVARGS_MAX_RETRIES, &number) < 0)
		return -EINVAL;
	*(uint8_t *)field = (uint8_t)number;
	return 0;
}

static int
devargs_read_file_mode(const char *value, void *field)
{
	uint64_t number;

	if (devargs_read_number(value, 8, 0777, &number) < 0)
		return -EINVAL;
	*(mode_t *)field = (mode_t)number;
	return 0;
}

static int
devargs_read_group(const char *value, void *field)
{
	/* getgrnam() answers in memory that other threads' calls overwrite. */
	size_t size = DEVARGS_GROUP_MIN;
	struct group group, *found = NULL;
	char *room = NULL, *more;
	int rc = ERANGE;

	for (; rc == ERANGE && size <= DEVARGS_GROUP_MAX; size *= 4) {
		more = realloc(room, size);
		if (more == NULL)
			break;
		room = more;
		rc = getgrnam_r(value, &group, room, size, &found);
	}
	if (rc == 0 && found != NULL)
		*(gid_t *)field = group.gr_gid;
	free(room);
	return rc == 0 && found != NULL ? 0 : -EINVAL;
}

static int
devargs_read_map_mode(const char *value, void *field)
{
	static const struct {
		const char *name;
		enum dynvhost_mem_mode mode;
	} modes[] = {
		{"auto", DYNVHOST_MEM_MODE_AUTO},
		{"uffd", DYNVHOST_MEM_MODE_UFFD},
		{"mmap", DYNVHOST_MEM_MODE_MMAP},
		{"eager", DYNVHOST_MEM_MODE_EAGER},
	};

	for (size_t i = 0; i < RTE_DIM(modes); i++) {
		if (strcmp(value, modes[i].name) == 0) {
			*(enum dynvhost_mem_mode *)field = modes[i].mode;
			return 0;
		}
	}
	return -EINVAL;
}

/** A number of bytes, perhaps in units of K, M or G. */
static int
devargs_read_bytes(const char *value, uint64_t *bytes)
{
	static const char units[] = "KMG";
	char digits[24];
	const char *unit;
	size_t length = strlen(value);
	unsigned int shift = 0;
	uint64_t number;

	if (length == 0 || length >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, value, length + 1);
	unit = strchr(units, toupper((unsigned char)value[length - 1]));
	if (unit != NULL) {
		shift = 10 * (unsigned int)(unit - units + 1);
		digits[length - 1] = '\0';
	}
	if (devargs_read_number(digits, 10, UINT64_MAX >> shift, &number) < 0)
		return -EINVAL;
	*bytes = number << shift;
	return 0;
}

/** "auto", or a power of two between 4K and 1G. */
static int
devargs_read_granule(const char *value, void *field)
{
	uint64_t bytes = 0;

	if (strcmp(value, "auto") != 0 &&
		(devargs_read_bytes(value, &bytes) < 0 || !rte_is_power_of_2(bytes) ||
			bytes < (1u << 12) || bytes > (1u << 30)))
		return -EINVAL;
	*(uint64_t *)field = bytes;
	return 0;
}

static int
devargs_read_mtu(const char *value, void *field)
{
	uint64_t number;

	if (devargs_read_number(value, 10, DEVARGS_MAX_MTU, &number) < 0 ||
		number < DEVARGS_MIN_MTU)
		return -EINVAL;
	*(uint16_t *)field = (uint16_t)number;
	return 0;
}

static int
devargs_read_ms(const char *value, void *field)
{
	uint64_t number;

	if (devargs_read_number(value, 10, DEVARGS_MAX_MS, &number) < 0)
		return -EINVAL;
	*(uint32_t *)field = (uint32_t)number;
	return 0;
}

static int
devargs_read_max(const char *value, void *field)
{
	return devargs_read_bytes(value, field);
}

#define DEVARGS_FIELD(field) offsetof(struct dynvhost_devargs, field)

static const struct devargs_option devargs_options[] = {
	{DYNVHOST_ARG_IFACE, devargs_read_path, DEVARGS_FIELD(iface),
		"a socket path of 1 to 107 characters"},
	{DYNVHOST_ARG_QUEUES, devargs_read_queues, DEVARGS_FIELD(queues), "1 to 128 queue pairs"},
	{DYNVHOST_ARG_CLIENT, devargs_read_bool, DEVARGS_FIELD(client), "0 or 1"},
	{DYNVHOST_ARG_RECONNECT_MS, devargs_read_ms, DEVARGS_FIELD(reconnect_ms),
		"0 (one attempt) to 3600000 milliseconds"},
	{DYNVHOST_ARG_SOCK_MODE, devargs_read_file_mode, DEVARGS_FIELD(sock_mode),
		"octal file rights from 0 to 0777"},
	{DYNVHOST_ARG_SOCK_GROUP, devargs_read_group, DEVARGS_FIELD(sock_group),
		"the name of a group"},
	{DYNVHOST_ARG_MRG_RXBUF, devargs_read_bool, DEVARGS_FIELD(mrg_rxbuf), "0 or 1"},
	{DYNVHOST_ARG_PACKED, devargs_read_bool, DEVARGS_FIELD(packed), "0 or 1"},
	{DYNVHOST_ARG_IN_ORDER, devargs_read_bool, DEVARGS_FIELD(in_order), "0 or 1"},
	{DYNVHOST_ARG_EVENT_IDX, devargs_read_bool, DEVARGS_FIELD(event_idx), "0 or 1"},
	{DYNVHOST_ARG_INDIRECT, devargs_read_bool, DEVARGS_FIELD(indirect), "0 or 1"},
	{DYNVHOST_ARG_CSUM, devargs_read_bool, DEVARGS_FIELD(csum), "0 or 1"},
	{DYNVHOST_ARG_TSO, devargs_read_bool, DEVARGS_FIELD(tso), "0 or 1"},
	{DYNVHOST_ARG_LINEAR_BUFFER, devargs_read_bool, DEVARGS_FIELD(linear_buffer), "0 or 1"},
	{DYNVHOST_ARG_EXT_BUFFER, devargs_read_bool, DEVARGS_FIELD(ext_buffer), "0 or 1"},
	{DYNVHOST_ARG_LEGACY_OL_FLAGS, devargs_read_bool, DEVARGS_FIELD(legacy_ol_flags), "0 or 1"},
	{DYNVHOST_ARG_IOMMU_SUPPORT, devargs_read_bool, DEVARGS_FIELD(iommu_support), "0 or 1"},
	{DYNVHOST_ARG_MTU, devargs_read_mtu, DEVARGS_FIELD(mtu), "68 to 65535 bytes"},
	{DYNVHOST_ARG_TX_RETRIES, devargs_read_retries, DEVARGS_FIELD(tx_retries), "0 to 32"},
	{DYNVHOST_ARG_MAP_MODE, devargs_read_map_mode, DEVARGS_FIELD(map_mode),
		"auto, uffd, mmap or eager"},
	{DYNVHOST_ARG_MAP_GRANULE, devargs_read_granule, DEVARGS_FIELD(map_granule),
		"auto or a power of two from 4K to 1G"},
	{DYNVHOST_ARG_MAP_IDLE_MS, devargs_read_ms, DEVARGS_FIELD(map_idle_ms),
		"0 (never) to 3600000 milliseconds"},
	{DYNVHOST_ARG_MAP_MAX, devargs_read_max, DEVARGS_FIELD(map_max),
		"a number of bytes, with K, M or G, or 0 for no cap"},
	{DYNVHOST_ARG_MAP_REQUIRE_SEAL, devargs_read_bool, DEVARGS_FIELD(map_require_seal),
		"0 or 1"},
	{DYNVHOST_ARG_MAP_DUMP, devargs_read_bool, DEVARGS_FIELD(map_dump), "0 or 1"},
};

static const struct devargs_option *
devargs_find(const char *key)
{
	for (size_t i = 0; i < RTE_DIM(devargs_options); i++) {
		if (strcmp(devargs_options[i].key, key) == 0)
			return &devargs_options[i];
	}
	return NULL;
}

/** Read one "key=value"; @p seen has a bit for each option that was there before. */
static int
devargs_read_pair(const char *name, char *pair, uint64_t *seen, struct dynvhost_devargs *args)
{
	static_assert(RTE_DIM(devargs_options) <= 64, "one bit each");
	/* Up to the first sign: a value may have more of them. */
	char *sign = strchr(pair, '=');
	const char *value = sign == NULL ? "" : sign + 1;
	const struct devargs_option *option;
	uint64_t bit;

	if (sign != NULL)
		*sign = '\0';
	option = devargs_find(pair);
	if (option == NULL) {
		DYNVHOST_LOG(driver, ERR, name, "unknown argument \"%s\"; known are: %s", pair,
			DYNVHOST_PARAM_STRING);
		return -EINVAL;
	}
	bit = UINT64_C(1) << (option - devargs_options);
	if ((*seen & bit) != 0) {
		DYNVHOST_LOG(driver, ERR, name, "argument \"%s\" is given more than once", pair);
		return -EINVAL;
	}
	*seen |= bit;
	if (option->read(value, (char *)args + option->offset) < 0) {
		DYNVHOST_LOG(driver, ERR, name, "%s=%s is refused: it takes %s", pair, value,
			option->allowed);
		return -EINVAL;
	}
	return 0;
}

/**
 * Read "key=value,key=value". By hand: rte_kvargs cuts a value at its second '=' without a word,
 * and takes 32 pairs only.
 */
static int
devargs_read_list(const char *name, const char *params, struct dynvhost_devargs *args)
{
	char *list = strdup(params == NULL ? "" : params);
	char *rest = NULL;
	uint64_t seen = 0;
	int rc = 0;

	if (list == NULL)
		return -ENOMEM;
	for (char *pair = strtok_r(list, ",", &rest); pair != NULL && rc == 0;
		pair = strtok_r(NULL, ",", &rest))
		rc = devargs_read_pair(name, pair, &seen, args);
	free(list);
	return rc;
}

int
dynvhost_devargs_parse(const char *name, const char *params, struct dynvhost_devargs *args)
{
	int rc;

	*args = (struct dynvhost_devargs){
		.queues = 1,
		.reconnect_ms = 1000,
		.sock_mode = 0600,
		.sock_group = (gid_t)-1,
		.mrg_rxbuf = true,
		.packed = true,
		.in_order = true,
		.event_idx = true,
		.indirect = true,
		.csum = true,
		.map_mode = DYNVHOST_MEM_MODE_AUTO,
		.map_idle_ms = 1000,
	};
	rc = devargs_read_list(name, params, args);
	if (rc == 0 && args->iface[0] == '\0') {
		DYNVHOST_LOG(driver, ERR, name,
			"argument \"%s\" is missing: the path of the socket", DYNVHOST_ARG_IFACE);
		rc = -EINVAL;
	}
	if (rc == 0 && args->tso && !args->csum) {
		DYNVHOST_LOG(driver, ERR, name,
			"%s=1 is refused with %s=0: segments come without complete checksums",
			DYNVHOST_ARG_TSO, DYNVHOST_ARG_CSUM);
		rc = -EINVAL;
	}
	return rc;
}
