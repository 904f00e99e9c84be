/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The library needs libc and libnuma, and nothing else: this program is linked against it alone and
 * looks at what the dynamic linker has loaded. Speaks TAP by itself, cmocka being one library more.
 */

#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "dynvhost_mem.h"

static bool
link_is_expected(const char *path)
{
	static const char *const names[] = {
		"linux-vdso",
		"linux-gate",
		"libc.so",
		"libnuma.so",
		"ld-linux",
		"ld64",
	};
	const char *base = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(base, names[i], strlen(names[i])) == 0)
			return true;
	return *path == '\0';
}

static int
link_visit(struct dl_phdr_info *info, size_t size, void *strangers)
{
	(void)size;
	if (!link_is_expected(info->dlpi_name)) {
		printf("# also loaded: %s\n", info->dlpi_name);
		++*(int *)strangers;
	}
	return 0;
}

int
main(void)
{
	struct dynvhost_mem_config config = {.name = "alone"};
	struct dynvhost_mem *mem = NULL;
	int strangers = 0;
	bool works;

	works = dynvhost_mem_create(&config, &mem) == 0;
	dynvhost_mem_destroy(mem);
	dl_iterate_phdr(link_visit, &strangers);
	printf("1..1\n%s 1 - the_library_stands_alone\n",
		works && strangers == 0 ? "ok" : "not ok");
	return works && strangers == 0 ? 0 : 1;
}
