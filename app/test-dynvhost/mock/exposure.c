/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "exposure.h"
#include "mock.h"

#define EXPOSURE_PAGE    4096ull
#define EXPOSURE_PRESENT (1ull << 63)

/** One mapping of this process, as smaps shows it. */
struct exposure_vma {
	uint64_t start;
	uint64_t end;
	char perms[8];
	unsigned int major;
	unsigned int minor;
	unsigned long inode;
};

/* Whether the mapping shows a file of the guest and is not the guest's own. */
static bool
exposure_counts(const struct guest_ram *ram, const struct exposure_vma *vma)
{
	unsigned int i;

	for (i = 0; i < ram->n_files; i++) {
		const struct guest_ram_file *file = &ram->file[i];
		uint64_t own = (uintptr_t)file->base;

		if (vma->inode == file->ino && makedev(vma->major, vma->minor) == file->dev)
			return vma->start < own || vma->end > own + file->size;
	}
	return false;
}

/* Bytes of a mapping that have a page-table entry. */
static uint64_t
exposure_present(const struct exposure_vma *vma)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t page = vma->start / EXPOSURE_PAGE;
	uint64_t end = vma->end / EXPOSURE_PAGE;
	uint64_t bytes = 0;

	mock_check(fd >= 0);
	while (page < end) {
		uint64_t entry[512];
		uint64_t n = end - page < 512 ? end - page : 512;
		uint64_t i;

		mock_check(pread(fd, entry, n * 8, (off_t)(page * 8)) == (ssize_t)(n * 8));
		for (i = 0; i < n; i++)
			bytes += (entry[i] & EXPOSURE_PRESENT) != 0 ? EXPOSURE_PAGE : 0;
		page += n;
	}
	close(fd);
	return bytes;
}

static void
exposure_add(const struct exposure_vma *vma, bool watched, struct exposure *exposure)
{
	uint64_t bytes = vma->end - vma->start;

	exposure->mapped += bytes;
	if (watched)
		bytes = exposure_present(vma);
	if (vma->perms[0] == 'r')
		exposure->loadable += bytes;
	if (vma->perms[1] == 'w')
		exposure->storable += bytes;
}

void
exposure_read(const struct guest_ram *ram, struct exposure *exposure)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	struct exposure_vma vma = {0};
	char line[512];

	mock_check(smaps != NULL);
	memset(exposure, 0, sizeof(*exposure));
	while (fgets(line, sizeof(line), smaps) != NULL) {
		struct exposure_vma next = {0};
		unsigned long start, end;

		/* A mapping's first line; its last one is VmFlags. */
		if (sscanf(line, "%lx-%lx %7s %*x %x:%x %lu", &start, &end, next.perms, &next.major,
			    &next.minor, &next.inode) == 6) {
			vma = next;
			vma.start = start;
			vma.end = end;
		} else if (strncmp(line, "VmFlags:", 8) == 0 && exposure_counts(ram, &vma)) {
			bool watched = strstr(line, " um") != NULL || strstr(line, " ui") != NULL;

			exposure_add(&vma, watched, exposure);
		}
	}
	fclose(smaps);
}
