/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef FAULT_SETUP_H
#define FAULT_SETUP_H

/** @file A port named "faulty", and how its file is punched and cut. */

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "mem_test.h"

#define PAGES 16
#define SIZE  (PAGES * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE

struct fault_setup {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd;
};

/** A port named "faulty" on a file that can be cut. */
static inline struct fault_setup
fault_setup(void)
{
	struct dynvhost_mem_config config = {.name = "faulty"};
	struct fault_setup s = {.mem = mt_create(&config), .fd = mt_memfd_unsealable(SIZE)};

	s.view = mt_view(s.mem, s.fd, SIZE);
	assert_int_equal(dynvhost_mem_faults_arm(), 0);
	return s;
}

static inline void
fault_teardown(struct fault_setup *s)
{
	dynvhost_mem_view_release(s->view);
	assert_int_equal(mt_stats(s->mem).loadable_bytes, 0);
	assert_int_equal(mt_reach(s->fd).mappings, 0);
	assert_false(dynvhost_mem_is_lost(s->mem));
	dynvhost_mem_destroy(s->mem);
	close(s->fd);
}

static inline void
fault_punch(const struct fault_setup *s, uint64_t page, uint64_t n)
{
	assert_int_equal(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(page * MT_PAGE), (off_t)(n * MT_PAGE)),
		0);
}

static inline void
fault_cut(const struct fault_setup *s, uint64_t pages)
{
	assert_int_equal(ftruncate(s->fd, (off_t)(pages * MT_PAGE)), 0);
}

/** With mappings the kernel puts pages back by itself. */
static inline uint64_t
fault_by_us(uint64_t n)
{
	return mt_kind->mode == DYNVHOST_MEM_MODE_UFFD ? n : 0;
}

#endif /* FAULT_SETUP_H */
