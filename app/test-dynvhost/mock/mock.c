/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <dirent.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mock.h"

void (*mock_fail_hook)(const char *file, int line, const char *text);

void
mock_fail_at(const char *file, int line, const char *format, ...)
{
	static char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (mock_fail_hook != NULL)
		mock_fail_hook(file, line, text);
	fprintf(stderr, "%s:%d: %s\n", file, line, text);
	abort();
}

uint64_t
mock_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void
mock_relax(unsigned int *looks)
{
	static const struct timespec nap = {.tv_nsec = 200000};

	if (++*looks % 64 == 0)
		nanosleep(&nap, NULL);
	else
		sched_yield();
}

uint32_t
mock_random(uint64_t *state, uint32_t n)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 2685821657736338717ull) >> 32) % n;
}

unsigned int
mock_count_fds(void)
{
	struct dirent *entry;
	unsigned int n = 0;
	DIR *dir;

	dir = opendir("/proc/self/fd");
	mock_check(dir != NULL);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			n++;
	}
	closedir(dir);
	return n - 1;
}
