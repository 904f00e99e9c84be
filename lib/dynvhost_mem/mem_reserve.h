/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_RESERVE_H
#define DYNVHOST_MEM_RESERVE_H

/**
 * @file Address ranges that hold nothing, and the ways in and out of them: common to all engines.
 */

#include "mem_engine.h"

/** As `probe` of struct mem_engine: whether the kernel can populate with error codes. */
int mem_reserve_probe(char reason[MEM_REASON_SIZE]);

/**
 * Reserve a window between two guards, its first page placed as pages of the file must be. Fills
 * `start`, `map` and `map_length`. 0 or -errno.
 */
int mem_reserve(struct mem_engine_window *window);

/**
 * Give a window's range back, or leave it for ever if the window is dead.
 *
 * @return whether nothing that the window has shown is mapped any more.
 */
bool mem_reserve_release(struct mem_engine_window *window);

/** As `release` of struct mem_engine. */
void mem_reserve_free(struct mem_engine_window *window);

/**
 * Map a range of the window's file in place of the reservation, without any right, out of children
 * and (unless the window says otherwise) out of core dumps.
 *
 * @return as `open` of struct mem_engine.
 */
int mem_reserve_map(struct mem_engine_window *window, uint64_t offset, uint64_t length);

/** Give a mapped range the window's right. 0 or -errno. */
int mem_reserve_allow(struct mem_engine_window *window, uint64_t offset, uint64_t length);

/** Have the kernel fill the page-table entries of a range that has its right. 0 or -errno. */
int mem_reserve_populate(struct mem_engine_window *window, uint64_t offset, uint64_t length);

/** As `repair` of struct mem_engine, for windows that are mapped in the ordinary way. */
int mem_reserve_repair(struct mem_engine_window *window, uint64_t offset);

/** Put the reservation back over a range. @return as `close` of struct mem_engine. */
int mem_reserve_cover(struct mem_engine_window *window, uint64_t offset, uint64_t length);

#endif /* DYNVHOST_MEM_RESERVE_H */
