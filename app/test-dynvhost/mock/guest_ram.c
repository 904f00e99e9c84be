/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest_ram.h"
#include "mock.h"

void
guest_ram_init(struct guest_ram *ram)
{
	memset(ram, 0, sizeof(*ram));
}

/*
 * Map the file with a page of nothing on both sides, so that the kernel never joins this mapping
 * with one that the back-end makes: the exposure counters must be able to tell them apart.
 */
static uint8_t *
guest_ram_map_file(int fd, uint64_t size, uint64_t page_size)
{
	uint64_t reserve = size + 3 * page_size;
	uint8_t *space;
	uint8_t *base;

	space = mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mock_check(space != MAP_FAILED);
	base = (uint8_t *)(((uintptr_t)space + 2 * page_size - 1) & ~(page_size - 1));
	mock_check(mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == base);
	munmap(space, (size_t)(base - space) - page_size);
	return base;
}

void
guest_ram_fini(struct guest_ram *ram)
{
	unsigned int i;

	for (i = 0; i < ram->n_files; i++) {
		struct guest_ram_file *file = &ram->file[i];

		munmap(file->base - file->page_size, file->size + 2 * file->page_size);
		close(file->fd);
	}
	memset(ram, 0, sizeof(*ram));
}

bool
guest_ram_has_hugepages(uint64_t size)
{
	int fd = memfd_create("hugepage-probe", MFD_CLOEXEC | MFD_HUGETLB);
	void *map = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (map == MAP_FAILED)
		return false;
	munmap(map, size);
	return true;
}

unsigned int
guest_ram_add_file(struct guest_ram *ram, uint64_t size, uint64_t page_size)
{
	struct guest_ram_file *file = &ram->file[ram->n_files];
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	struct stat status;

	mock_check(ram->n_files < GUEST_RAM_MAX_FILES);
	if (page_size == GUEST_RAM_HUGEPAGE)
		flags |= MFD_HUGETLB;
	file->fd = memfd_create("guest-ram", flags);
	mock_check(file->fd >= 0);
	mock_check(ftruncate(file->fd, (off_t)size) == 0);
	mock_check(fstat(file->fd, &status) == 0);
	file->size = size;
	file->page_size = page_size;
	file->dev = status.st_dev;
	file->ino = status.st_ino;
	file->base = guest_ram_map_file(file->fd, size, page_size);
	return ram->n_files++;
}

unsigned int
guest_ram_add_region(struct guest_ram *ram, unsigned int file, uint64_t file_offset, uint64_t gpa,
	uint64_t size, uint64_t uva)
{
	mock_check(ram->n_regions < GUEST_RAM_MAX_REGIONS);
	mock_check(file < ram->n_files);
	ram->region[ram->n_regions] = (struct guest_ram_region){
		.gpa = gpa,
		.size = size,
		.uva = uva != 0 ? uva : GUEST_RAM_UVA_BASE + gpa,
		.file_offset = file_offset,
		.file = file,
	};
	return ram->n_regions++;
}

void
guest_ram_drop_region(struct guest_ram *ram)
{
	mock_check(ram->n_regions > 0);
	ram->n_regions--;
}

void
guest_ram_init_plain(struct guest_ram *ram, uint64_t size)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, size, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, size, 0);
}

void
guest_ram_init_neighbours(struct guest_ram *ram, uint64_t first, uint64_t second)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, first, GUEST_RAM_PAGE);
	guest_ram_add_file(ram, second, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, first, 0);
	guest_ram_add_region(ram, 1, 0, first, second, 0);
}

uint64_t
guest_ram_alloc(struct guest_ram *ram, unsigned int region, uint64_t size, uint64_t align)
{
	struct guest_ram_region *from = &ram->region[region];
	uint64_t gpa;

	mock_check(region < ram->n_regions);
	gpa = (from->gpa + from->taken + align - 1) & ~(align - 1);
	if (gpa - from->gpa > from->size || size > from->size - (gpa - from->gpa))
		mock_fail("guest region %u has no room for %llu bytes", region,
			(unsigned long long)size);
	from->taken = gpa - from->gpa + size;
	return gpa;
}

const struct guest_ram_region *
guest_ram_find(const struct guest_ram *ram, uint64_t gpa, uint64_t len)
{
	unsigned int i;

	for (i = 0; i < ram->n_regions; i++) {
		const struct guest_ram_region *region = &ram->region[i];

		if (gpa - region->gpa < region->size && len <= region->size - (gpa - region->gpa))
			return region;
	}
	return NULL;
}

void *
guest_ram_at(const struct guest_ram *ram, uint64_t gpa, uint64_t len)
{
	const struct guest_ram_region *region = guest_ram_find(ram, gpa, len);
	const struct guest_ram_file *file;
	uint64_t offset;

	if (region == NULL)
		mock_fail("guest has no memory at %#llx", (unsigned long long)gpa);
	file = &ram->file[region->file];
	offset = region->file_offset + (gpa - region->gpa);
	mock_check(offset < file->size && len <= file->size - offset);
	return file->base + offset;
}

uint64_t
guest_ram_uva(const struct guest_ram *ram, uint64_t gpa)
{
	const struct guest_ram_region *region = guest_ram_find(ram, gpa, 1);

	if (region == NULL)
		mock_fail("guest has no memory at %#llx", (unsigned long long)gpa);
	return region->uva + (gpa - region->gpa);
}

/* Bytes at @p gpa that can be reached in one piece, at most @p len. */
static uint64_t
guest_ram_piece(const struct guest_ram *ram, uint64_t gpa, uint64_t len)
{
	const struct guest_ram_region *region = guest_ram_find(ram, gpa, 1);
	uint64_t rest;

	if (region == NULL)
		mock_fail("guest has no memory at %#llx", (unsigned long long)gpa);
	rest = region->size - (gpa - region->gpa);
	return len < rest ? len : rest;
}

void
guest_ram_write(const struct guest_ram *ram, uint64_t gpa, const void *from, uint64_t len)
{
	const uint8_t *bytes = from;

	while (len > 0) {
		uint64_t piece = guest_ram_piece(ram, gpa, len);

		memcpy(guest_ram_at(ram, gpa, piece), bytes, piece);
		gpa += piece;
		bytes += piece;
		len -= piece;
	}
}

void
guest_ram_read(const struct guest_ram *ram, uint64_t gpa, void *to, uint64_t len)
{
	uint8_t *bytes = to;

	while (len > 0) {
		uint64_t piece = guest_ram_piece(ram, gpa, len);

		memcpy(bytes, guest_ram_at(ram, gpa, piece), piece);
		gpa += piece;
		bytes += piece;
		len -= piece;
	}
}
