/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * What opening and closing guest memory costs. Prints tables for people, and asserts nothing.
 *
 * Usage: bench_map [TABLE...]    see bench_help()
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_map.h"

#define BENCH_SAMPLES 2000
#define BENCH_THREADS 2

/** The rates are not what is measured: a clock that runs fast pays all back at once. */
static uint64_t
bench_fast_clock(void)
{
	return bench_now_ns() * 1000;
}

static void
bench_use_cpu(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % (unsigned int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/** Times of one thread that opens, loses, has repaired and closes granule after granule. */
struct bench_cycle {
	pthread_t thread;
	unsigned int cpu;
	pthread_barrier_t *barrier;
	struct bench_port port;
	uint64_t granule;
	enum dynvhost_mem_right right;
	uint64_t open[BENCH_SAMPLES], close[BENCH_SAMPLES], repair[BENCH_SAMPLES];
};

/** One granule's life. */
static void
bench_cycle_once(struct bench_cycle *c, uint32_t i)
{
	const uint64_t page = c->port.region->file->page_size;
	const uint64_t n_granules = c->port.size / c->granule;
	/* Every other one, so that no two adjoin. */
	const uint64_t offset = (uint64_t)i * 2 % n_granules * c->granule;
	volatile uint8_t *hva;
	uint64_t start_ns, opened_ns, gone_ns, back_ns;

	start_ns = bench_now_ns();
	hva = bench_translate(&c->port, offset, 1, c->right);
	opened_ns = bench_now_ns();
	/* As the kernel does when it needs the memory elsewhere. */
	madvise((void *)(uintptr_t)hva, page, MADV_DONTNEED);
	gone_ns = bench_now_ns();
	if (c->right == DYNVHOST_MEM_WRITE)
		*hva = 1;
	else
		(void)*hva;
	back_ns = bench_now_ns();
	bench_close(&c->port, c->right, offset / page, c->granule / page);
	c->close[i] = bench_now_ns() - back_ns;
	c->repair[i] = back_ns - gone_ns;
	c->open[i] = opened_ns - start_ns;
}

static void *
bench_cycle_main(void *arg)
{
	struct bench_cycle *c = arg;
	uint32_t i;

	bench_use_cpu(c->cpu);
	pthread_barrier_wait(c->barrier);
	for (i = 0; i < BENCH_SAMPLES; i++)
		bench_cycle_once(c, i);
	return NULL;
}

/** Whether all went well: the machine had what it takes. */
static bool
bench_cycle_prepare(struct bench_cycle *c, const struct bench_kind *kind, unsigned int id,
	pthread_barrier_t *barrier)
{
	const uint64_t size = kind->page == BENCH_2M ? 16 * BENCH_2M : 64 * BENCH_2M;

	if (bench_port_open(&c->port, kind, size) != 0)
		return false;
	if (bench_port_fill(&c->port) != 0) {
		bench_port_close(&c->port);
		return false;
	}
	c->cpu = id;
	c->barrier = barrier;
	c->granule = kind->granule;
	c->right = id % 2 == 0 ? DYNVHOST_MEM_READ : DYNVHOST_MEM_WRITE;
	return true;
}

static void
bench_cycle_print(struct bench_cycle *c, const struct bench_kind *kind, unsigned int threads)
{
	const uint32_t n = BENCH_SAMPLES;

	printf("%-5s %5s %7s %8u %8ju %8ju %8ju %8ju %8ju\n", bench_mode(kind->mode),
		bench_size(kind->page), bench_size(kind->granule), threads,
		(uintmax_t)bench_percentile(c->open, n, 50),
		(uintmax_t)bench_percentile(c->open, n, 99),
		(uintmax_t)bench_percentile(c->close, n, 50),
		(uintmax_t)bench_percentile(c->close, n, 99),
		(uintmax_t)bench_percentile(c->repair, n, 50));
}

/** Measure a kind with so many threads, each on a port of its own. */
static void
bench_cycle_run(const struct bench_kind *kind, unsigned int threads)
{
	static struct bench_cycle cycle[BENCH_THREADS];
	pthread_barrier_t barrier;
	unsigned int i, n = 0;

	pthread_barrier_init(&barrier, NULL, threads);
	while (n < threads && bench_cycle_prepare(&cycle[n], kind, n, &barrier))
		n++;
	if (n == threads) {
		for (i = 0; i < threads; i++)
			pthread_create(&cycle[i].thread, NULL, bench_cycle_main, &cycle[i]);
		for (i = 0; i < threads; i++)
			pthread_join(cycle[i].thread, NULL);
		bench_cycle_print(&cycle[0], kind, threads);
	} else {
		printf("%-5s %5s %7s: not here\n", bench_mode(kind->mode), bench_size(kind->page),
			bench_size(kind->granule));
	}
	while (n > 0)
		bench_port_close(&cycle[--n].port);
	pthread_barrier_destroy(&barrier);
}

static const struct bench_kind bench_kinds[] = {
	{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, BENCH_4K},
	{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, 4 * BENCH_4K},
	{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, BENCH_64K},
	{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, 4 * BENCH_64K},
	{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, 16 * BENCH_64K},
	{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, BENCH_2M},
	{DYNVHOST_MEM_MODE_UFFD, BENCH_2M, BENCH_2M},
	{DYNVHOST_MEM_MODE_MMAP, BENCH_4K, BENCH_4K},
	{DYNVHOST_MEM_MODE_MMAP, BENCH_4K, BENCH_64K},
	{DYNVHOST_MEM_MODE_MMAP, BENCH_4K, BENCH_2M},
	{DYNVHOST_MEM_MODE_MMAP, BENCH_2M, BENCH_2M},
};

static void
bench_open_table(void)
{
	size_t i;

	printf("\nOpen, close, and repair a page that the kernel has taken; ns\n");
	printf("%-5s %5s %7s %8s %8s %8s %8s %8s %8s\n", "mode", "page", "granule", "threads",
		"open", "p99", "close", "p99", "repair");
	for (i = 0; i < sizeof(bench_kinds) / sizeof(bench_kinds[0]); i++) {
		bench_cycle_run(&bench_kinds[i], 1);
		bench_cycle_run(&bench_kinds[i], BENCH_THREADS);
	}
}

/** A thread that does nothing but look at the clock: what is missing was taken from it. */
struct bench_victim {
	pthread_t thread;
	atomic_bool stop;
	uint64_t stolen_ns; /* in gaps of more than BENCH_GAP_NS */
};
#define BENCH_GAP_NS     300
#define BENCH_PREEMPT_NS 200000 /* longer gaps are other processes' doing */

static void *
bench_victim_main(void *arg)
{
	struct bench_victim *victim = arg;
	uint64_t last_ns, now_ns;

	bench_use_cpu(1);
	last_ns = bench_now_ns();
	while (!atomic_load_explicit(&victim->stop, memory_order_relaxed)) {
		now_ns = bench_now_ns();
		if (now_ns - last_ns > BENCH_GAP_NS && now_ns - last_ns < BENCH_PREEMPT_NS) {
			victim->stolen_ns += now_ns - last_ns;
		}
		last_ns = now_ns;
	}
	return NULL;
}

/** Close one run of @p n pages after another. */
static void
bench_close_runs(const struct bench_port *port, uint64_t n, uint64_t *took_ns)
{
	const uint64_t page = port->region->file->page_size;
	const uint64_t n_runs = port->size / page / n;
	uint64_t start_ns;
	uint32_t i;

	for (i = 0; i < BENCH_SAMPLES; i++) {
		uint64_t first = i % n_runs * n;

		bench_translate(port, first * page, n * page, DYNVHOST_MEM_WRITE);
		start_ns = bench_now_ns();
		bench_close(port, DYNVHOST_MEM_WRITE, first, n);
		took_ns[i] = bench_now_ns() - start_ns;
	}
}

/** What a victim loses while we close runs, or (@p n is 0) sleep for @p took_us. */
static uint64_t
bench_disturb(const struct bench_port *port, uint64_t n, uint64_t *took_ns, uint64_t *took_us)
{
	struct bench_victim victim = {.stolen_ns = 0};
	uint64_t start_ns = bench_now_ns();

	pthread_create(&victim.thread, NULL, bench_victim_main, &victim);
	if (n != 0) {
		bench_close_runs(port, n, took_ns);
		*took_us = (bench_now_ns() - start_ns) / 1000;
	} else {
		usleep((useconds_t)*took_us);
	}
	atomic_store(&victim.stop, true);
	pthread_join(victim.thread, NULL);
	return victim.stolen_ns;
}

static void
bench_stolen_run(const struct bench_kind *kind, uint64_t n)
{
	static uint64_t took_ns[BENCH_SAMPLES];
	uint64_t took_us, closing_ns, quiet_ns;
	struct bench_port port;

	if (bench_port_open(&port, kind, kind->page == BENCH_2M ? 16 * BENCH_2M : 64 * BENCH_2M) !=
		0)
		return;
	if (bench_port_fill(&port) == 0) {
		closing_ns = bench_disturb(&port, n, took_ns, &took_us);
		quiet_ns = bench_disturb(NULL, 0, NULL, &took_us);
		printf("%-5s %5s %6ju %10ju %10jd\n", bench_mode(kind->mode),
			bench_size(kind->page), (uintmax_t)n,
			(uintmax_t)bench_percentile(took_ns, BENCH_SAMPLES, 50),
			((intmax_t)closing_ns - (intmax_t)quiet_ns) / BENCH_SAMPLES);
	}
	bench_port_close(&port);
}

static void
bench_stolen_table(void)
{
	static const struct bench_kind kinds[] = {
		{DYNVHOST_MEM_MODE_UFFD, BENCH_4K, BENCH_4K},
		{DYNVHOST_MEM_MODE_MMAP, BENCH_4K, BENCH_4K},
		{DYNVHOST_MEM_MODE_UFFD, BENCH_2M, BENCH_2M},
		{DYNVHOST_MEM_MODE_MMAP, BENCH_2M, BENCH_2M},
	};
	size_t i;

	printf("\nClose a run beside one busy thread; ns for us, and ns that the other thread "
	       "lost\n");
	printf("%-5s %5s %6s %10s %10s\n", "mode", "page", "run", "close", "other");
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		bench_stolen_run(&kinds[i], 1);
		bench_stolen_run(&kinds[i], 8);
		if (kinds[i].page == BENCH_4K)
			bench_stolen_run(&kinds[i], 64);
	}
}

/** Resident memory and page tables of the process, in KiB. */
static uint64_t
bench_used_kib(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	uint64_t sum = 0, kib;
	char line[256];

	if (status == NULL)
		return 0;
	while (fgets(line, sizeof(line), status) != NULL)
		if (sscanf(line, "VmRSS: %ju", &kib) == 1 || sscanf(line, "VmPTE: %ju", &kib) == 1)
			sum += kib;
	fclose(status);
	return sum;
}

/** A guest connects, two rings are pinned, the first packet is found. */
static void
bench_connect_run(enum dynvhost_mem_mode mode, uint64_t size, bool locked)
{
	const struct bench_kind kind = {mode, BENCH_4K, BENCH_4K};
	uint64_t before_kib, start_ns, connect_ns, first_ns, end_ns;
	struct dynvhost_mem_pin pin[6];
	struct bench_port port;
	unsigned int i;

	before_kib = bench_used_kib();
	start_ns = bench_now_ns();
	if (bench_port_open(&port, &kind, size) != 0) {
		printf("%-5s %6s %6s: not here\n", bench_mode(mode), bench_size(size),
			locked ? "yes" : "no");
		return;
	}
	connect_ns = bench_now_ns();
	for (i = 0; i < 6; i++)
		dynvhost_mem_pin(port.view, BENCH_GPA + size / 2 + i * BENCH_64K, BENCH_4K,
			i % 3 == 2, &pin[i]);
	bench_translate(&port, size / 3, 1500, DYNVHOST_MEM_READ);
	first_ns = bench_now_ns();
	before_kib = bench_used_kib() - before_kib;
	for (i = 0; i < 6; i++)
		dynvhost_mem_unpin(&pin[i]);
	end_ns = bench_now_ns();
	bench_port_close(&port);
	end_ns = bench_now_ns() - end_ns;
	printf("%-5s %6s %6s %10ju %10ju %10ju %10ju\n", bench_mode(mode), bench_size(size),
		locked ? "yes" : "no", (uintmax_t)(connect_ns - start_ns) / 1000,
		(uintmax_t)(first_ns - connect_ns) / 1000, (uintmax_t)end_ns / 1000,
		(uintmax_t)before_kib);
}

static void
bench_connect_rows(bool locked)
{
	static const enum dynvhost_mem_mode modes[] = {
		DYNVHOST_MEM_MODE_UFFD, DYNVHOST_MEM_MODE_MMAP, DYNVHOST_MEM_MODE_EAGER};
	uint64_t size;
	size_t i;

	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		/* Whoever maps all of the guest under mlockall has it populated as well. */
		if (locked && modes[i] == DYNVHOST_MEM_MODE_EAGER)
			continue;
		for (size = BENCH_GIB; size <= 1024 * BENCH_GIB; size *= 32)
			bench_connect_run(modes[i], size, locked);
	}
}

static void
bench_connect_table(void)
{
	printf("\nConnect a guest with a sparse file, pin six ring pages, find the first packet; "
	       "us\n");
	printf("%-5s %6s %6s %10s %10s %10s %10s\n", "mode", "guest", "locked", "connect", "first",
		"release", "used KiB");
	bench_connect_rows(false);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
		printf("locked: not here: %s\n", strerror(errno));
		return;
	}
	bench_connect_rows(true);
	munlockall();
}

/** How the regions of successive packets are chosen. */
enum bench_pattern {
	BENCH_LOCAL,
	BENCH_SEQUENTIAL,
	BENCH_ALTERNATING,
	BENCH_RANDOM,
	BENCH_N_PATTERNS,
};
#define BENCH_LOOKUPS 200000

static uint32_t
bench_choose(enum bench_pattern pattern, uint32_t i, uint32_t n)
{
	static uint32_t seed = 1;

	switch (pattern) {
	case BENCH_LOCAL:
		return n / 2;
	case BENCH_SEQUENTIAL:
		return i / 32 % n;
	case BENCH_ALTERNATING:
		return i % 2 == 0 ? 0 : n - 1;
	default:
		seed = seed * 1103515245 + 12345;
		return (seed >> 16) % n;
	}
}

/** Nanoseconds of a translation that hits, times ten. */
static uint64_t
bench_lookup(const struct dynvhost_mem_view *view, enum bench_pattern pattern)
{
	struct dynvhost_mem_cursor cursor = {.budget = UINT32_MAX};
	struct dynvhost_mem_span span;
	uint64_t best_ns = UINT64_MAX, start_ns;
	uint32_t round, i;

	for (round = 0; round < 9; round++) {
		start_ns = bench_now_ns();
		for (i = 0; i < BENCH_LOOKUPS; i++) {
			uint32_t region = bench_choose(pattern, i, view->n_regions);

			dynvhost_mem_translate(view, &cursor, view->region[region]->gpa + i % 2048,
				1500, DYNVHOST_MEM_READ, &span);
			__asm__ volatile("" : : "r"(span.hva) : "memory");
		}
		start_ns = bench_now_ns() - start_ns;
		best_ns = start_ns < best_ns ? start_ns : best_ns;
	}
	return best_ns * 10 / BENCH_LOOKUPS;
}

static void
bench_lookup_run(uint32_t n, uint64_t tenths[BENCH_N_PATTERNS])
{
	struct dynvhost_mem_config config = {.name = "bench"};
	struct dynvhost_mem_slot *slot = calloc(n, sizeof(*slot));
	struct dynvhost_mem_view *view;
	struct dynvhost_mem *mem;
	enum bench_pattern pattern;
	uint32_t i;
	int fd = memfd_create("bench", 0);

	if (slot == NULL || fd < 0 || ftruncate(fd, (off_t)(n * BENCH_4K)) != 0 ||
		dynvhost_mem_create(&config, &mem) != 0)
		exit(1);
	for (i = 0; i < n; i++)
		slot[i] = (struct dynvhost_mem_slot){.gpa = BENCH_GPA + 2 * i * BENCH_4K,
			.size = BENCH_4K,
			.uva = 2 * i * BENCH_4K,
			.file_offset = i * BENCH_4K,
			.fd = fd};
	if (dynvhost_mem_view_build(mem, NULL, slot, n, &view) != 0)
		exit(1);
	for (pattern = 0; pattern < BENCH_N_PATTERNS; pattern++)
		bench_lookup(view, pattern);
	printf("%7u", n);
	for (pattern = 0; pattern < BENCH_N_PATTERNS; pattern++) {
		tenths[pattern] = bench_lookup(view, pattern);
		printf(" %8ju.%ju", (uintmax_t)tenths[pattern] / 10,
			(uintmax_t)tenths[pattern] % 10);
	}
	printf("\n");
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	free(slot);
}

static void
bench_lookup_table(void)
{
	uint64_t few[BENCH_N_PATTERNS], many[BENCH_N_PATTERNS];
	enum bench_pattern pattern;

	printf("\nTranslate 1500 bytes that are open; ns\n");
	printf("%7s %10s %10s %10s %10s\n", "regions", "local", "sequential", "two", "random");
	bench_lookup_run(2, few);
	bench_lookup_run(32, many);
	bench_lookup_run(DYNVHOST_MEM_MAX_REGIONS, many);
	printf("%7s", "ratio");
	for (pattern = 0; pattern < BENCH_N_PATTERNS; pattern++)
		printf(" %10.2f", (double)many[pattern] / (double)few[pattern]);
	printf("\n");
}

static const struct {
	const char *name;
	const char *about;
	void (*print)(void);
} bench_tables[] = {
	{"open",
		"open, close and repair a granule, by engine, page size and granule; one thread "
		"and two",
		bench_open_table},
	{"stolen", "close runs of pages beside a busy thread, and what that thread loses",
		bench_stolen_table},
	{"connect",
		"connect a sparse guest of 1 GiB to 1 TiB, find its first packet, release it; also "
		"under mlockall(MCL_CURRENT | MCL_FUTURE), which needs a high enough "
		"RLIMIT_MEMLOCK",
		bench_connect_table},
	{"lookup", "translate what is open, with 2 to 509 memory regions", bench_lookup_table},
};
#define BENCH_N_TABLES (sizeof(bench_tables) / sizeof(bench_tables[0]))

static void
bench_help(FILE *out)
{
	size_t i;

	fprintf(out, "Usage: bench_map [--help] [TABLE...]\n\n"
		     "What opening and closing guest memory costs. Without TABLE, all of these:\n");
	for (i = 0; i < BENCH_N_TABLES; i++)
		fprintf(out, "  %-8s %s\n", bench_tables[i].name, bench_tables[i].about);
	fprintf(out,
		"\nTakes about ten seconds, on CPUs 0 and 1, which should have nothing else to "
		"do.\nHuge pages are measured if 40 of 2 MiB are free. Times are medians, those "
		"of\nlookup the best of some rounds; the head of each table has its unit.\n");
}

/** Whether a table of this name exists. */
static bool
bench_knows(const char *name)
{
	size_t i;

	for (i = 0; i < BENCH_N_TABLES; i++)
		if (strcmp(name, bench_tables[i].name) == 0)
			return true;
	return false;
}

int
main(int argc, char **argv)
{
	static struct mem_sys_ops fast;
	size_t i;
	int k;

	for (k = 1; k < argc; k++) {
		bool help = strcmp(argv[k], "--help") == 0;

		if (help || !bench_knows(argv[k])) {
			bench_help(help ? stdout : stderr);
			return help ? 0 : 2;
		}
	}
	bench_use_cpu(0);
	fast = dynvhost_mem_sys_real;
	fast.now_ns = bench_fast_clock;
	dynvhost_mem_sys = &fast;
	for (i = 0; i < BENCH_N_TABLES; i++) {
		bool wanted = argc == 1;

		for (k = 1; k < argc; k++)
			wanted = wanted || strcmp(argv[k], bench_tables[i].name) == 0;
		if (wanted)
			bench_tables[i].print();
	}
	return 0;
}
