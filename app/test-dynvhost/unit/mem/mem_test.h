/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef MEM_TEST_H
#define MEM_TEST_H

/** @file What the tests of guest memory share: files, observation from /proc, faults, failures. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "mem_priv.h"

#define MT_PAGE UINT64_C(4096)
#define MT_GPA  UINT64_C(0x100000000)
#define MT_UVA  UINT64_C(0x7f0000000000)
#define MT_2M   (UINT64_C(2) << 20)

/** Skip the running test and say why. */
#define mt_skip(...)                                 \
	do {                                         \
		print_message("SKIP: " __VA_ARGS__); \
		print_message("\n");                 \
		skip();                              \
	} while (0)

/** A new sealable memfd of @p size bytes without any memory; the test ends if there is none. */
int mt_memfd(uint64_t size);

/** The same of 2 MiB huge pages, or -1 where the machine has fewer than @p n_pages free. */
int mt_memfd_huge(uint32_t n_pages);

/** Write to each page of a range of a file on tmpfs. */
void mt_fill(int fd, uint64_t offset, uint64_t length);

/** Bytes of memory the file holds. */
uint64_t mt_file_bytes(int fd);

/** Create a port with the mmap engine and everything else as in @p config (may be NULL). */
struct dynvhost_mem *mt_create(const struct dynvhost_mem_config *config);

/** A slot with a duplicate of @p fd, so that the test keeps its own. */
struct dynvhost_mem_slot mt_slot(uint64_t gpa, uint64_t size, uint64_t file_offset, int fd);

/** A view of one region: all of @p fd, at MT_GPA. */
struct dynvhost_mem_view *mt_view(struct dynvhost_mem *mem, int fd, uint64_t size);

/** Translate with a budget of plenty; the result of dynvhost_mem_translate(). */
int mt_translate(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_span *span);

/** Translate what must be there; the hva. */
uint8_t *mt_hva(const struct dynvhost_mem_view *view, uint64_t gpa, uint64_t len,
	enum dynvhost_mem_right right);

struct dynvhost_mem_stats mt_stats(const struct dynvhost_mem *mem);

/** What of a file this process could reach now, as the kernel says (/proc/self/maps). */
struct mt_reach {
	uint64_t loadable; /**< bytes of mappings that can be read */
	uint64_t storable; /**< bytes of mappings that can be written */
	uint64_t mappings; /**< number of mappings, also those without any right */
};
struct mt_reach mt_reach(int fd);

/** Number of open file descriptors of this process. */
unsigned int mt_count_fds(void);

/** Number of mappings of this process; always 0 under sanitizers, which map for themselves. */
unsigned int mt_count_maps(void);

/** Whether the page at @p addr has a page-table entry (pagemap bit 63). */
bool mt_is_present(const void *addr);

/** Load or store one byte. @return the byte, or -1: it faulted. */
int mt_load(const volatile uint8_t *addr);
int mt_store(volatile uint8_t *addr, uint8_t byte);

/** A kernel whose calls fail on demand. Counts calls from mt_fail_start() on. */
enum mt_fail_kind {
	MT_FAIL_NONE,
	MT_FAIL_ONE,  /**< call number `at`, counted from 1 */
	MT_FAIL_FROM, /**< that one and all later ones */
};
void mt_fail_start(enum mt_fail_kind kind, unsigned int at);
/** Back to the real kernel. @return number of calls that were made. */
unsigned int mt_fail_stop(void);

#endif /* MEM_TEST_H */
