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

/** What a test runs on: an engine, and files of one kind. */
struct mt_kind {
	const char *name;
	enum dynvhost_mem_mode mode;
	uint64_t page; /**< bytes of a page of the file */
};
extern const struct mt_kind mt_uffd, mt_uffd_huge, mt_mmap, mt_mmap_huge;

/** The kind of the running test; mt_uffd where a suite does not say. */
extern const struct mt_kind *mt_kind;

/** Lists of kinds to run a suite on, each with its length. */
#define MT_LIST(...)                                    \
	((const struct mt_kind *const[]){__VA_ARGS__}), \
		sizeof((const struct mt_kind *const[]){__VA_ARGS__}) / sizeof(void *)
#define MT_ALL   MT_LIST(&mt_uffd, &mt_mmap, &mt_uffd_huge, &mt_mmap_huge)
#define MT_SMALL MT_LIST(&mt_uffd, &mt_mmap)
#define MT_HUGE  MT_LIST(&mt_uffd_huge, &mt_mmap_huge)
#define MT_UFFD  MT_LIST(&mt_uffd, &mt_uffd_huge)
#define MT_MMAP  MT_LIST(&mt_mmap, &mt_mmap_huge)

/** Free huge pages that a test may need; where there are fewer, those kinds are skipped. */
#define MT_HUGE_NEEDED 80

/** Run @p tests on each of @p kinds, the kind being part of the test's name. @return failures. */
int mt_run(const struct CMUnitTest *tests, size_t n_tests, const struct mt_kind *const *kinds,
	size_t n_kinds);

/** Whether the long form of the tests is wanted. */
bool mt_is_long(void);

#define MT_PAGE (mt_kind->page)
#define MT_4K   UINT64_C(4096)
#define MT_2M   (UINT64_C(2) << 20)
#define MT_GPA  UINT64_C(0x100000000)
#define MT_UVA  UINT64_C(0x7f0000000000)

/** Skip the running test and say why. */
#define mt_skip(...)                                 \
	do {                                         \
		print_message("SKIP: " __VA_ARGS__); \
		print_message("\n");                 \
		skip();                              \
	} while (0)

/** A new sealable file of the running kind, without any memory; the test ends if there is none. */
int mt_memfd(uint64_t size);

/** The same that cannot be sealed. */
int mt_memfd_unsealable(uint64_t size);

/** Store to a file, as the guest does. */
void mt_put(int fd, uint64_t offset, const void *data, size_t length);

/** Load from a file. */
void mt_get(int fd, uint64_t offset, void *data, size_t length);

/** Store to each page of a range of a file. */
void mt_fill(int fd, uint64_t offset, uint64_t length);

/** Bytes of memory the file holds. */
uint64_t mt_file_bytes(int fd);

/** Create a port, with the engine of the running kind unless @p config (may be NULL) names one. */
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

/**
 * Close those of the pages [first, first + n) that are open, not used lately and not pinned.
 *
 * @return number of pages closed.
 */
uint64_t
mt_close(struct mem_region *region, enum dynvhost_mem_right right, uint64_t first, uint64_t n);

struct dynvhost_mem_stats mt_stats(const struct dynvhost_mem *mem);

/**
 * What of a file this process could reach now, as the kernel says: bytes of mappings with rights
 * (/proc/self/maps), of which a window behind userfaultfd shows those pages that have a page-table
 * entry (/proc/self/pagemap).
 */
struct mt_reach {
	uint64_t loadable;
	uint64_t storable;
	uint64_t mappings; /**< number of mappings, also those without any right */
};
struct mt_reach mt_reach(int fd);

/** Number of open file descriptors of this process. */
unsigned int mt_count_fds(void);

/** Number of mappings of this process; always 0 under sanitizers, which map for themselves. */
unsigned int mt_count_maps(void);

/** The VmFlags line of the mapping that holds @p addr; empty if none does. */
void mt_vm_flags(const void *addr, char flags[512]);

/** What a process holds that may leak. */
struct mt_holdings {
	unsigned int fds;
	unsigned int maps;
};

/** What this process holds now. */
struct mt_holdings mt_holdings(void);

/** Expect that it holds as much as it did @p before. */
void mt_expect_holdings(struct mt_holdings before);

/** Whether the page at @p addr has a page-table entry (pagemap bit 63). */
bool mt_is_present(const void *addr);

/** Load or store one byte. @return the byte, or -1: it faulted. */
int mt_load(const volatile uint8_t *addr);
int mt_store(volatile uint8_t *addr, uint8_t byte);

/** How a child process ended, and what it wrote to standard error. */
struct mt_end {
	int status; /**< as from waitpid() */
	char said[1024];
};

/** Run @p body in a child process, which ends by exit status 0 if it returns. */
struct mt_end mt_child(void (*body)(void *arg), void *arg);

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
