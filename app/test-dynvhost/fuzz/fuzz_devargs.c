/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Device arguments: any string is either refused with words, or says something that is in range.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_log.h>

#include "dynvhost_devargs.h"
#include "fuzz.h"

enum devargs_outcome {
	DEVARGS_GOOD,
	DEVARGS_REFUSED,
};

const char *const fuzz_outcomes[] = {
	[DEVARGS_GOOD] = "arguments are taken",
	[DEVARGS_REFUSED] = "arguments are refused",
	NULL,
};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

static void
devargs_judge(const struct dynvhost_devargs *args)
{
	const uint64_t granule = args->map_granule;

	fuzz_check(args->iface[0] != '\0' && memchr(args->iface, '\0', sizeof(args->iface)));
	fuzz_check(strchr(args->iface, ',') == NULL);
	fuzz_check(args->queues >= 1 && args->queues <= 128);
	fuzz_check(args->reconnect_ms <= 3600000 && args->map_idle_ms <= 3600000);
	fuzz_check((args->sock_mode & ~0777u) == 0);
	fuzz_check(args->csum || !args->tso);
	fuzz_check(args->mtu == 0 || args->mtu >= 68);
	fuzz_check(args->tx_retries <= 32);
	fuzz_check(args->map_mode <= DYNVHOST_MEM_MODE_EAGER);
	fuzz_check(granule == 0 ||
		   (rte_is_power_of_2(granule) && granule >= 4096 && granule <= 1u << 30));
	fuzz_see(DEVARGS_GOOD);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dynvhost_devargs args;
	char *params = malloc(size + 1);
	char *said = NULL;
	size_t said_len = 0;
	FILE *log = open_memstream(&said, &said_len);
	int rc;

	fuzz_check(params != NULL && log != NULL);
	memcpy(params, data, size);
	params[size] = '\0';
	rte_openlog_stream(log);
	rc = dynvhost_devargs_parse("net_dynvhost0", params, &args);
	rte_openlog_stream(NULL);
	fclose(log);
	/* Words for a refusal, and for nothing else. */
	fuzz_check((rc == 0) == (said_len == 0));
	if (rc == 0) {
		devargs_judge(&args);
	} else {
		fuzz_check(rc == -EINVAL);
		fuzz_see(DEVARGS_REFUSED);
	}
	free(said);
	free(params);
	return 0;
}
