/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file The round trip of a cache line between two CPUs. */

#include <pthread.h>
#include <sched.h>

#include <rte_cycles.h>
#include <rte_pause.h>

#include "bench_burst_line.h"

#define LINE_PINGS 4000u

void
burst_hurry(bool on)
{
	const struct sched_param param = {.sched_priority = on ? 1 : 0};

	pthread_setschedparam(pthread_self(), on ? SCHED_FIFO : SCHED_OTHER, &param);
}

/** Answer every odd number with the next one. */
void
burst_line_answer(struct burst_line *line)
{
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(line->cpu, &cpu);
	pthread_setaffinity_np(pthread_self(), sizeof(cpu), &cpu);
	burst_hurry(true);
	atomic_store(&line->ready, true);
	for (uint32_t i = 1; i < LINE_PINGS; i += 2) {
		while (atomic_load_explicit(&line->ping, memory_order_acquire) != i)
			rte_pause();
		atomic_store_explicit(&line->ping, i + 1, memory_order_release);
	}
}

double
burst_line_ask(struct burst_line *line)
{
	uint64_t start;

	while (!atomic_load(&line->ready))
		sched_yield();
	burst_hurry(true);
	start = rte_rdtsc();
	for (uint32_t i = 1; i < LINE_PINGS; i += 2) {
		atomic_store_explicit(&line->ping, i, memory_order_release);
		while (atomic_load_explicit(&line->ping, memory_order_acquire) != i + 1)
			rte_pause();
	}
	return (double)(rte_rdtsc() - start) * 1e9 / (double)rte_get_tsc_hz() / (LINE_PINGS / 2);
}
