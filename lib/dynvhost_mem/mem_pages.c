/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * A window's state bytes, and an index of those that are not closed.
 *
 * There is one byte per page, so a terabyte of guest has 256 MiB of them; almost all stay zero.
 * They are mapped without memory behind them and nothing ever walks them whole: a bit per 64 pages
 * (one cache line of bytes) and a bit per 64 such bits say where to look. The bits may claim too
 * much, never too little: a page's bit is set after its byte has left "closed", and who clears a
 * bit looks at the bytes once more.
 */

#include <errno.h>

#include "mem_priv.h"

#define PAGES_PER_LINE  64
#define PAGES_PER_BLOCK (64 * PAGES_PER_LINE)

static uint64_t
pages_div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/**
 * Zeroed memory that takes room only where it is written, even in a process that locks all its
 * memory (mlockall): what is mapped without any right is not populated, and what is unlocked by the
 * time it becomes writable is not either. Huge pages would defeat the purpose as well.
 */
static void *
pages_map_lazily(size_t length)
{
	void *map = dynvhost_mem_sys->mmap(
		NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	/* A kernel that was built without huge pages says EINVAL, and means the same. */
	dynvhost_mem_sys->madvise(map, length, MADV_NOHUGEPAGE);
	if (dynvhost_mem_sys->munlock(map, length) != 0 ||
		dynvhost_mem_sys->mprotect(map, length, PROT_READ | PROT_WRITE) != 0) {
		dynvhost_mem_sys->munmap(map, length);
		return NULL;
	}
	return map;
}

int
mem_pages_init(struct mem_pages *pages, uint64_t n)
{
	uint64_t n_blocks = pages_div_up(n, PAGES_PER_BLOCK);
	uint64_t n_block_words = pages_div_up(n_blocks, 64);
	uint8_t *map;

	pages->n = n;
	/* Whole blocks of state bytes, so that reading a line never runs out of the array. */
	pages->map_length = n_blocks * PAGES_PER_BLOCK +
			    (n_blocks + n_block_words) * sizeof(uint64_t);
	map = pages_map_lazily(pages->map_length);
	if (map == NULL)
		return -ENOMEM;
	pages->map = map;
	pages->state = (_Atomic uint8_t *)map;
	pages->line = (_Atomic uint64_t *)(void *)(map + n_blocks * PAGES_PER_BLOCK);
	pages->block = pages->line + n_blocks;
	return 0;
}

void
mem_pages_fini(struct mem_pages *pages)
{
	if (pages->map != NULL)
		dynvhost_mem_sys->munmap(pages->map, pages->map_length);
	pages->map = NULL;
}

/** Set a bit; stores only where it is not set yet. */
static void
pages_set_bit(_Atomic uint64_t *words, uint64_t bit)
{
	uint64_t mask = UINT64_C(1) << (bit % 64);

	if ((atomic_load(&words[bit / 64]) & mask) == 0)
		atomic_fetch_or(&words[bit / 64], mask);
}

static void
pages_clear_bit(_Atomic uint64_t *words, uint64_t bit)
{
	atomic_fetch_and(&words[bit / 64], ~(UINT64_C(1) << (bit % 64)));
}

void
mem_pages_mark(struct mem_pages *pages, uint64_t page)
{
	pages_set_bit(pages->line, page / PAGES_PER_LINE);
	pages_set_bit(pages->block, page / PAGES_PER_BLOCK);
}

/** The first page of a line at or after @p from that is not closed; pages->n: none. */
static uint64_t
pages_scan_line(const struct mem_pages *pages, uint64_t from)
{
	uint64_t end = from / PAGES_PER_LINE * PAGES_PER_LINE + PAGES_PER_LINE;

	for (; from < end && from < pages->n; from++)
		if (atomic_load(&pages->state[from]) != 0)
			return from;
	return pages->n;
}

/** Take a line out of the index unless a page of it has just been opened; likewise its block. */
static void
pages_drop_line(struct mem_pages *pages, uint64_t line)
{
	uint64_t first = line * PAGES_PER_LINE;
	uint64_t block = line / 64;

	pages_clear_bit(pages->line, line);
	if (pages_scan_line(pages, first) != pages->n) {
		mem_pages_mark(pages, first);
		return;
	}
	if (atomic_load(&pages->line[block]) != 0)
		return;
	pages_clear_bit(pages->block, block);
	if (atomic_load(&pages->line[block]) != 0)
		pages_set_bit(pages->block, block);
}

/** The number of the first bit at or after @p from that is set, below @p end; @p end: none. */
static uint64_t
pages_next_bit(const _Atomic uint64_t *words, uint64_t from, uint64_t end)
{
	while (from < end) {
		uint64_t word = atomic_load(&words[from / 64]) >> (from % 64);

		if (word != 0) {
			from += (uint64_t)__builtin_ctzll(word);
			return from < end ? from : end;
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

uint64_t
mem_pages_next(struct mem_pages *pages, uint64_t from)
{
	uint64_t n_blocks = pages_div_up(pages->n, PAGES_PER_BLOCK);

	while (from < pages->n) {
		uint64_t block = from / PAGES_PER_BLOCK;
		uint64_t line = from / PAGES_PER_LINE;
		uint64_t page;

		block = pages_next_bit(pages->block, block, n_blocks);
		if (block * 64 > line) {
			from = block * PAGES_PER_BLOCK;
			continue;
		}
		line = pages_next_bit(pages->line, line, (block + 1) * 64);
		if (line * PAGES_PER_LINE > from)
			from = line * PAGES_PER_LINE;
		if (line == (block + 1) * 64)
			continue;
		page = pages_scan_line(pages, from);
		if (page != pages->n)
			return page;
		if (from % PAGES_PER_LINE == 0)
			pages_drop_line(pages, line);
		from = (line + 1) * PAGES_PER_LINE;
	}
	return pages->n;
}
