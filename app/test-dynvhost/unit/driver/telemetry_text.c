/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "drv_test.h"
#include "telemetry_text.h"

static struct {
	char name[64];
	telemetry_cb run;
} command[8];
static unsigned int n_commands;

char tel_answer[16384];

int __wrap_rte_telemetry_register_cmd(const char *cmd, telemetry_cb run, const char *help);
int __wrap_rte_tel_data_start_dict(struct rte_tel_data *data);
int __wrap_rte_tel_data_start_array(struct rte_tel_data *data, enum rte_tel_value_type type);
int
__wrap_rte_tel_data_add_dict_string(struct rte_tel_data *data, const char *name, const char *value);
int __wrap_rte_tel_data_add_dict_int(struct rte_tel_data *data, const char *name, int value);
int __wrap_rte_tel_data_add_dict_u64(struct rte_tel_data *data, const char *name, uint64_t value);
int __wrap_rte_tel_data_add_dict_uint(struct rte_tel_data *data, const char *name, uint64_t value);
int __wrap_rte_tel_data_add_array_int(struct rte_tel_data *data, int value);
int __wrap_rte_tel_data_add_array_string(struct rte_tel_data *data, const char *value);
int __wrap_rte_tel_data_add_array_container(
	struct rte_tel_data *data, struct rte_tel_data *value, int keep);

/** Called by the driver's constructors, before main(). */
int
__wrap_rte_telemetry_register_cmd(const char *cmd, telemetry_cb run, const char *help)
{
	(void)help;
	snprintf(command[n_commands].name, sizeof(command[n_commands].name), "%s", cmd);
	command[n_commands++].run = run;
	return 0;
}

static void __attribute__((format(printf, 1, 2))) write_down(const char *format, ...)
{
	size_t at = strlen(tel_answer);
	va_list args;

	va_start(args, format);
	vsnprintf(tel_answer + at, sizeof(tel_answer) - at, format, args);
	va_end(args);
}

int
__wrap_rte_tel_data_start_dict(struct rte_tel_data *data)
{
	/* The answer itself has no room; what has some becomes part of it. */
	if (data == NULL)
		tel_answer[0] = '\0';
	return 0;
}

static enum rte_tel_value_type array_type;

int
__wrap_rte_tel_data_start_array(struct rte_tel_data *data, enum rte_tel_value_type type)
{
	(void)data;
	array_type = type;
	tel_answer[0] = '\0';
	return 0;
}

int
__wrap_rte_tel_data_add_array_string(struct rte_tel_data *data, const char *value)
{
	(void)data;
	assert_int_equal(array_type, RTE_TEL_STRING_VAL);
	if (strlen(value) >= TEL_MAX_STRING)
		fail_msg("would be cut short: %s", value);
	write_down("%s\n", value);
	return 0;
}

int
__wrap_rte_tel_data_add_array_container(
	struct rte_tel_data *data, struct rte_tel_data *value, int keep)
{
	(void)data;
	assert_int_equal(array_type, RTE_TEL_CONTAINER);
	assert_int_equal(keep, 0);
	rte_tel_data_free(value);
	write_down("\n");
	return 0;
}

int
__wrap_rte_tel_data_add_dict_string(struct rte_tel_data *data, const char *name, const char *value)
{
	(void)data;
	if (strlen(value) >= TEL_MAX_STRING)
		fail_msg("%s would be cut short: %s", name, value);
	write_down("%s=%s\n", name, value);
	return 0;
}

int
__wrap_rte_tel_data_add_dict_int(struct rte_tel_data *data, const char *name, int value)
{
	(void)data;
	write_down("%s=%d\n", name, value);
	return 0;
}

int
__wrap_rte_tel_data_add_dict_u64(struct rte_tel_data *data, const char *name, uint64_t value)
{
	(void)data;
	write_down("%s=%" PRIu64 "\n", name, value);
	return 0;
}

/** Its name since DPDK 23.03. */
int
__wrap_rte_tel_data_add_dict_uint(struct rte_tel_data *data, const char *name, uint64_t value)
{
	return __wrap_rte_tel_data_add_dict_u64(data, name, value);
}

int
__wrap_rte_tel_data_add_array_int(struct rte_tel_data *data, int value)
{
	(void)data;
	assert_int_equal(array_type, RTE_TEL_INT_VAL);
	write_down("%d\n", value);
	return 0;
}

int
tel_ask(const char *cmd, const char *params)
{
	unsigned int i;

	strcpy(tel_answer, "nothing");
	for (i = 0; i < n_commands; i++) {
		if (strcmp(command[i].name, cmd) == 0)
			return command[i].run(cmd, params, NULL);
	}
	fail_msg("there is no %s", cmd);
	return -ENOENT;
}

void
tel_ask_of_port(const char *cmd, uint16_t port)
{
	char params[16];

	snprintf(params, sizeof(params), "%u", port);
	assert_int_equal(tel_ask(cmd, params), 0);
}

const char *
tel_value_of(const char *key)
{
	static char value[256];
	char start[64];
	const char *at;

	snprintf(start, sizeof(start), "\n%s=", key);
	at = strncmp(tel_answer, start + 1, strlen(start) - 1) == 0 ? tel_answer - 1
								    : strstr(tel_answer, start);
	if (at == NULL)
		fail_msg("no %s in: %s", key, tel_answer);
	snprintf(value, sizeof(value), "%s", at + strlen(start));
	*strchr(value, '\n') = '\0';
	return value;
}

uint64_t
tel_number_of(const char *key)
{
	return strtoull(tel_value_of(key), NULL, 10);
}
