/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef BENCH_MAP_H
#define BENCH_MAP_H

/** @file What the tables of bench_map share: ports to measure on, times, and their medians. */

#include <stdint.h>

#include "mem_priv.h"

#define BENCH_4K  UINT64_C(4096)
#define BENCH_64K UINT64_C(65536)
#define BENCH_2M  (UINT64_C(2) << 20)
#define BENCH_GIB (UINT64_C(1) << 30)
#define BENCH_GPA UINT64_C(0x100000000)

/** What is measured on. */
struct bench_kind {
	enum dynvhost_mem_mode mode;
	uint64_t page;    /**< bytes of a page of the file */
	uint64_t granule; /**< bytes that open together */
};

/** A port with one region, and its file. */
struct bench_port {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	struct mem_region *region;
	uint64_t size;
	int fd;
};

/** Make one of @p size bytes, a file without memory; 0, or -1 where the machine cannot. */
int bench_port_open(struct bench_port *port, const struct bench_kind *kind, uint64_t size);
void bench_port_close(struct bench_port *port);

/** Give memory to all of the file. 0, or -1 where there is none. */
int bench_port_fill(const struct bench_port *port);

/** Translate @p len bytes at @p offset; ends the program if that does not work. @return the hva. */
uint8_t *bench_translate(const struct bench_port *port, uint64_t offset, uint64_t len,
	enum dynvhost_mem_right right);

/** Close pages [first, first + n), which are open, by one call, whatever the rates say. */
void bench_close(
	const struct bench_port *port, enum dynvhost_mem_right right, uint64_t first, uint64_t n);

/** Nanoseconds of a clock. */
uint64_t bench_now_ns(void);

/** The @p percent-th of @p n times; sorts them. */
uint64_t bench_percentile(uint64_t *times, uint32_t n, uint32_t percent);

/** Name of a size: 4K, 2M, 1G. In a buffer of its own per call, some calls long. */
const char *bench_size(uint64_t bytes);

/** Name of a mode. */
const char *bench_mode(enum dynvhost_mem_mode mode);

#endif /* BENCH_MAP_H */
