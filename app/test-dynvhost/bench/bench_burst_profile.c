/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Sampling of instructions by a timer. */

#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "bench_burst_profile.h"
#include "mock.h"

/** Prime, so that it falls into no step with what is measured. */
#define PROFILE_NS  70001
#define PROFILE_MAX 200000u

volatile bool burst_profile_inside;

static uintptr_t profile_ip[PROFILE_MAX];
static volatile unsigned int profile_n;
static timer_t profile_timer;

static void
profile_note(int number, siginfo_t *info, void *context)
{
	const ucontext_t *where = context;

	(void)number;
	(void)info;
	if (burst_profile_inside && profile_n < PROFILE_MAX)
		profile_ip[profile_n++] = (uintptr_t)where->uc_mcontext.gregs[REG_RIP];
}

void
burst_profile_start(void)
{
	struct sigaction action = {
		.sa_sigaction = profile_note, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
	const struct itimerspec every = {
		.it_interval.tv_nsec = PROFILE_NS, .it_value.tv_nsec = PROFILE_NS};

	event._sigev_un._tid = gettid();
	profile_n = 0;
	mock_check(sigaction(SIGPROF, &action, NULL) == 0);
	mock_check(timer_create(CLOCK_MONOTONIC, &event, &profile_timer) == 0);
	mock_check(timer_settime(profile_timer, 0, &every, NULL) == 0);
}

void
burst_profile_stop(void)
{
	timer_delete(profile_timer);
}

static int
profile_compare(const void *left, const void *right)
{
	uintptr_t a = *(const uintptr_t *)left, b = *(const uintptr_t *)right;

	return (a > b) - (a < b);
}

void
burst_profile_write(FILE *out, const char *shape, const char *port)
{
	unsigned int n;

	qsort(profile_ip, profile_n, sizeof(profile_ip[0]), profile_compare);
	for (unsigned int i = 0; i < profile_n; i += n) {
		Dl_info info = {.dli_fname = "?"};

		for (n = 1; i + n < profile_n && profile_ip[i + n] == profile_ip[i];)
			n++;
		dladdr((void *)profile_ip[i], &info);
		fprintf(out, "%s;%s;%s;0x%jx;%u\n", shape, port, info.dli_fname,
			(uintmax_t)(profile_ip[i] - (uintptr_t)info.dli_fbase), n);
	}
}
