/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Faults inside windows: repair, lost page, wild pointer. Faults in other mappings of a front-end's
 * files are found here too, and treated by whom they belong to.
 *
 * What runs in a signal handler here takes no lock and allocates nothing. It finds the window in a
 * list whose entries are never freed; one that is taken out is not used again, and what it names is
 * not freed, before all handlers that may have seen it have left.
 *
 * Security model: the front-end can cut and punch the file at any moment, and make each touch of an
 * open page a fault. A page that is still inside the file is put back, with memory for a hole, as
 * often as it takes; that costs time of this port's queues, and no more memory than is open. A page
 * that is not is replaced by anonymous memory, once; then the port opens nothing any more. What the
 * state of the page does not allow is not the guest's doing but a stray pointer of this process,
 * which has to die of it, and is told where.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "mem_priv.h"

/** How often one fault tries to have its page back. */
#define FAULT_TRIES 16

/** Faults in a row on pages of one window that are there, but fault all the same. */
#define FAULT_MOST_IDLE 1000

/** A window or a mapping that faults are looked for in; one without either is free. */
struct fault_watch {
	_Atomic uintptr_t first; /**< guards included */
	_Atomic size_t length;
	struct mem_region *_Atomic region;
	_Atomic int right;
	struct mem_mapping *_Atomic mapping;
};

struct fault_block {
	struct fault_watch watch[128];
	struct fault_block *_Atomic next;
};

static struct fault_block fault_blocks;
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER; /* for writers */
static _Atomic uint32_t fault_visitors;                        /* handlers inside */

static bool
fault_is_free(const struct fault_watch *watch)
{
	return atomic_load(&watch->region) == NULL && atomic_load(&watch->mapping) == NULL;
}

/** A free entry; NULL: no memory. */
static struct fault_watch *
fault_get_watch(void)
{
	struct fault_block *block = &fault_blocks;
	const size_t n = sizeof(block->watch) / sizeof(block->watch[0]);
	size_t i;

	for (;;) {
		for (i = 0; i < n; i++)
			if (fault_is_free(&block->watch[i]))
				return &block->watch[i];
		if (atomic_load(&block->next) == NULL)
			atomic_store(&block->next, dynvhost_mem_sys->calloc(1, sizeof(*block)));
		block = atomic_load(&block->next);
		if (block == NULL)
			return NULL;
	}
}

static int
fault_watch_window(struct mem_region *region, enum dynvhost_mem_right right)
{
	const struct mem_engine_window *window = &region->window[right].engine;
	struct fault_watch *watch = fault_get_watch();

	if (watch == NULL)
		return -ENOMEM;
	atomic_store(&watch->first, (uintptr_t)window->map);
	atomic_store(&watch->length, window->map_length);
	atomic_store(&watch->right, right);
	atomic_store(&watch->region, region);
	return 0;
}

int
mem_fault_watch(struct mem_region *region)
{
	int rc;

	pthread_mutex_lock(&fault_lock);
	rc = fault_watch_window(region, DYNVHOST_MEM_READ);
	if (rc == 0)
		rc = fault_watch_window(region, DYNVHOST_MEM_WRITE);
	pthread_mutex_unlock(&fault_lock);
	if (rc != 0)
		mem_fault_forget(region);
	return rc;
}

/** Nobody is left who may have seen what has been taken out. Handlers wait for nobody: this ends. */
static void
fault_wait_for_visitors(void)
{
	while (atomic_load(&fault_visitors) != 0)
		sched_yield();
}

void
mem_fault_forget(const struct mem_region *region)
{
	struct fault_block *block;
	size_t i;

	pthread_mutex_lock(&fault_lock);
	for (block = &fault_blocks; block != NULL; block = atomic_load(&block->next))
		for (i = 0; i < sizeof(block->watch) / sizeof(block->watch[0]); i++)
			if (atomic_load(&block->watch[i].region) == region)
				atomic_store(&block->watch[i].region, NULL);
	fault_wait_for_visitors();
	pthread_mutex_unlock(&fault_lock);
}

int
mem_fault_watch_mapping(struct mem_mapping *mapping)
{
	struct fault_watch *watch;

	pthread_mutex_lock(&fault_lock);
	watch = fault_get_watch();
	if (watch != NULL) {
		atomic_store(&watch->first, (uintptr_t)mapping->map);
		atomic_store(&watch->length, mapping->map_length);
		atomic_store(&watch->mapping, mapping);
	}
	pthread_mutex_unlock(&fault_lock);
	return watch == NULL ? -ENOMEM : 0;
}

void
mem_fault_forget_mapping(const struct mem_mapping *mapping)
{
	struct fault_block *block;
	size_t i;

	pthread_mutex_lock(&fault_lock);
	for (block = &fault_blocks; block != NULL; block = atomic_load(&block->next))
		for (i = 0; i < sizeof(block->watch) / sizeof(block->watch[0]); i++)
			if (atomic_load(&block->watch[i].mapping) == mapping)
				atomic_store(&block->watch[i].mapping, NULL);
	fault_wait_for_visitors();
	pthread_mutex_unlock(&fault_lock);
}

static const struct fault_watch *
fault_find(uintptr_t addr)
{
	const struct fault_block *block;
	size_t i;

	for (block = &fault_blocks; block != NULL; block = atomic_load(&block->next))
		for (i = 0; i < sizeof(block->watch) / sizeof(block->watch[0]); i++) {
			const struct fault_watch *watch = &block->watch[i];

			if (!fault_is_free(watch) &&
				addr - atomic_load(&watch->first) < atomic_load(&watch->length))
				return watch;
		}
	return NULL;
}

/** One page of a window, as a fault sees it. */
struct fault_page {
	struct mem_region *region;
	enum dynvhost_mem_right right;
	uint64_t page;
};

/** Give memory to a page that is inside the file. 0 or -errno. */
static int
fault_fill(const struct fault_page *at)
{
	const struct mem_region *region = at->region;
	uint32_t shift = region->pub.page_shift;
	uint64_t offset = (region->first_file_page + at->page) << shift;
	struct stat st;

	if (dynvhost_mem_sys->fstat(region->file->fd, &st) != 0)
		return -errno;
	if (st.st_size < 0 || offset >= (uint64_t)st.st_size)
		return -EFAULT;
	return mem_file_fill_now(region->pub.mem, region->file, offset, UINT64_C(1) << shift, true);
}

/** Put a page back that should be there. @return whether it is worth trying again to touch it. */
static bool
fault_repair(const struct fault_page *at)
{
	struct mem_region *region = at->region;
	struct mem_window *window = &region->window[at->right];
	unsigned int tries;
	int rc;

	for (tries = 0; tries < FAULT_TRIES; tries++) {
		rc = region->engine->repair(&window->engine, at->page << region->pub.page_shift);
		if (rc == 0) {
			atomic_store(&window->idle_faults, 0);
			mem_count(&region->pub.mem->counters.repairs, 1);
			return true;
		}
		if (rc == -EEXIST) /* another thread's doing, unless it goes on and on */
			return atomic_fetch_add(&window->idle_faults, 1) < FAULT_MOST_IDLE;
		if (rc == -ENODATA)
			rc = fault_fill(at);
		if (rc != 0 && rc != -EAGAIN && rc != -EINTR && rc != -ENOMEM)
			return false;
	}
	return false;
}

/** Turn the whole window into anonymous memory. @return whether that was possible. */
static bool
fault_replace_window(struct mem_engine_window *window, int prot)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	/* In this order it is not populated, should the process lock its memory. */
	return dynvhost_mem_sys->mmap(window->start, window->length, PROT_NONE, flags, -1, 0) !=
		       MAP_FAILED &&
	       dynvhost_mem_sys->munlock(window->start, window->length) == 0 &&
	       dynvhost_mem_sys->mprotect(window->start, window->length, prot) == 0;
}

/** Let whoever uses a page go on with anonymous memory. @return whether that was possible. */
static bool
fault_lose(const struct fault_page *at)
{
	struct mem_region *region = at->region;
	struct mem_window *window = &region->window[at->right];
	uint8_t *addr = window->engine.start + (at->page << region->pub.page_shift);
	int prot = at->right == DYNVHOST_MEM_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;

	mem_region_lose(region);
	/* At the limit of mappings a piece cannot be replaced, the whole still can. */
	if (dynvhost_mem_sys->mmap(addr, window->engine.page_size, prot,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED &&
		!fault_replace_window(&window->engine, prot))
		return false;
	if ((atomic_fetch_or(&window->pages.state[at->page], MEM_PAGE_LOST) & MEM_PAGE_LOST) == 0)
		mem_count(&region->pub.mem->counters.lost, 1);
	return true;
}

static bool
fault_is_memory_error(const struct mem_fault *fault)
{
	return fault->signal == SIGBUS &&
	       (fault->code == BUS_MCEERR_AR || fault->code == BUS_MCEERR_AO);
}

/** Treat a fault in a page. @return NULL: it may be touched again; else what is wrong. */
static const char *
fault_treat(const struct fault_page *at, const struct mem_fault *fault)
{
	struct mem_region *region = at->region;
	uint8_t s = atomic_load(&region->window[at->right].pages.state[at->page]);

	if ((s & DYNVHOST_MEM_OPEN) == 0)
		return "the page is not open";
	if (at->right == DYNVHOST_MEM_READ &&
		(fault->access == MEM_ACCESS_STORE ||
			(fault->access == MEM_ACCESS_UNKNOWN && fault->signal == SIGSEGV)))
		return "the page is open for loads only";
	if (fault_is_memory_error(fault))
		return fault_lose(at) ? NULL : "hardware memory error";
	if ((s & MEM_PAGE_LOST) != 0) /* replaced by another thread in the meantime */
		return NULL;
	if (fault->signal == SIGBUS && fault_repair(at))
		return NULL;
	/* No access to what is open means that a window had to be emptied (see mem_engine.h). */
	if (fault->signal == SIGSEGV && fault->code != SEGV_ACCERR)
		return "the page is not there";
	return fault_lose(at) ? NULL : "its memory is gone, and none is left to replace it";
}

/** A line for standard error, made without any help. */
struct fault_line {
	char text[320];
	size_t length;
};

static void
fault_print(struct fault_line *line, const char *text)
{
	while (*text != '\0' && line->length < sizeof(line->text))
		line->text[line->length++] = *text++;
}

static void
fault_print_hex(struct fault_line *line, uint64_t value)
{
	char digits[17];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = "0123456789abcdef"[value % 16];
		value /= 16;
	} while (value != 0);
	fault_print(line, "0x");
	fault_print(line, &digits[at]);
}

static void
fault_describe(struct fault_line *line, const struct mem_region *region,
	enum dynvhost_mem_right right, const struct mem_fault *fault, const char *flaw)
{
	static const char *const access[] = {
		[MEM_ACCESS_UNKNOWN] = "access to",
		[MEM_ACCESS_LOAD] = "load from",
		[MEM_ACCESS_STORE] = "store to",
	};

	fault_print(line, region->pub.mem->stray);
	fault_print(line, access[fault->access]);
	fault_print(line, " guest address ");
	fault_print_hex(
		line, fault->addr - (uintptr_t)region->pub.window[right].base + region->pub.gpa);
	fault_print(line, " (host ");
	fault_print_hex(line, fault->addr);
	fault_print(line, "): ");
	fault_print(line, flaw);
	fault_print(line, "\n");
}

/** Look at a fault inside a window. @return NULL: treated; else what is wrong. */
static const char *
fault_judge(struct mem_region *region, enum dynvhost_mem_right right, const struct mem_fault *fault)
{
	const struct mem_engine_window *window = &region->window[right].engine;
	uint64_t offset = fault->addr - (uintptr_t)window->start;
	struct fault_page at = {
		.region = region,
		.right = right,
		.page = offset >> region->pub.page_shift,
	};

	if (offset >= window->length)
		return "it lies outside of its region";
	return fault_treat(&at, fault);
}

bool
mem_fault_handle(const struct mem_fault *fault)
{
	struct fault_line line = {.length = 0};
	const struct fault_watch *watch;
	const char *flaw = NULL;

	atomic_fetch_add(&fault_visitors, 1);
	watch = fault_find(fault->addr);
	if (watch != NULL) {
		struct mem_region *region = atomic_load(&watch->region);
		struct mem_mapping *mapping = atomic_load(&watch->mapping);
		enum dynvhost_mem_right right = (enum dynvhost_mem_right)atomic_load(&watch->right);

		if (mapping != NULL && !mapping->treat(mapping, fault))
			watch = NULL;
		if (region != NULL)
			flaw = fault_judge(region, right, fault);
		if (flaw != NULL)
			fault_describe(&line, region, right, fault, flaw);
	}
	atomic_fetch_sub(&fault_visitors, 1);
	/* Outside: it may have to wait for whoever reads it. */
	if (line.length != 0 && write(STDERR_FILENO, line.text, line.length) < 0)
		flaw = line.text;
	return watch != NULL && flaw == NULL;
}
