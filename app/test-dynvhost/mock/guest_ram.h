/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_GUEST_RAM_H
#define DYNVHOST_MOCK_GUEST_RAM_H

/**
 * @file
 * The memory of a test's guest: files (memfds of normal or huge pages) and regions, which are
 * ranges of guest physical addresses laid over ranges of those files. Any layout can be made:
 * regions that share a file, regions of different files that adjoin, holes, regions that claim more
 * than the file has.
 *
 * The guest reaches its memory through a mapping of each file that the test keeps, apart from
 * whatever the back-end in the same process maps.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define GUEST_RAM_MAX_FILES   8
#define GUEST_RAM_MAX_REGIONS 520

/** Front-end address of gpa 0 in regions that do not choose one: no address of this process. */
#define GUEST_RAM_UVA_BASE 0x100000000000ull

#define GUEST_RAM_PAGE     0x1000ull
#define GUEST_RAM_HUGEPAGE 0x200000ull

struct guest_ram_file {
	int fd;
	uint64_t size;
	uint64_t page_size;
	uint8_t *base; /**< the guest's own view of the whole file */
	dev_t dev;
	ino_t ino;
};

struct guest_ram_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t file_offset;
	unsigned int file;
	uint64_t taken; /**< bytes handed out by guest_ram_alloc() */
};

struct guest_ram {
	unsigned int n_files;
	unsigned int n_regions;
	struct guest_ram_file file[GUEST_RAM_MAX_FILES];
	struct guest_ram_region region[GUEST_RAM_MAX_REGIONS];
};

/** Start without files and regions. */
void guest_ram_init(struct guest_ram *ram);

/** Unmap and close everything. Repeatable; also good for memory that is all zero bytes. */
void guest_ram_fini(struct guest_ram *ram);

/** Whether a file of @p size bytes of 2 MiB pages could be had now. */
bool guest_ram_has_hugepages(uint64_t size);

/**
 * Add a file.
 * @param page_size  GUEST_RAM_PAGE or GUEST_RAM_HUGEPAGE.
 * @return its number, for guest_ram_add_region().
 */
unsigned int guest_ram_add_file(struct guest_ram *ram, uint64_t size, uint64_t page_size);

/**
 * Add a region. Nothing is judged: the back-end is expected to.
 * @param uva  0: GUEST_RAM_UVA_BASE + gpa.
 * @return its number.
 */
unsigned int guest_ram_add_region(struct guest_ram *ram, unsigned int file, uint64_t file_offset,
	uint64_t gpa, uint64_t size, uint64_t uva);

/** Forget the last region added. */
void guest_ram_drop_region(struct guest_ram *ram);

/** One file of normal pages, and one region that is all of it, at gpa 0. */
void guest_ram_init_plain(struct guest_ram *ram, uint64_t size);

/** Start with two files of normal pages, and a region of each, side by side from gpa 0 on. */
void guest_ram_init_neighbours(struct guest_ram *ram, uint64_t first, uint64_t second);

/** Take @p size bytes from a region that nobody else was given. @p align is a power of two. */
uint64_t guest_ram_alloc(struct guest_ram *ram, unsigned int region, uint64_t size, uint64_t align);

/** The region that holds all of [gpa, gpa + len); NULL: none. */
const struct guest_ram_region *
guest_ram_find(const struct guest_ram *ram, uint64_t gpa, uint64_t len);

/** The guest's own pointer to @p len bytes at @p gpa, which must lie in one region. */
void *guest_ram_at(const struct guest_ram *ram, uint64_t gpa, uint64_t len);

/** The front-end's address of @p gpa, which must lie in a region. */
uint64_t guest_ram_uva(const struct guest_ram *ram, uint64_t gpa);

/** Copy into guest memory, over any number of regions that adjoin. */
void guest_ram_write(const struct guest_ram *ram, uint64_t gpa, const void *from, uint64_t len);

/** Copy out of guest memory, over any number of regions that adjoin. */
void guest_ram_read(const struct guest_ram *ram, uint64_t gpa, void *to, uint64_t len);

#endif /* DYNVHOST_MOCK_GUEST_RAM_H */
