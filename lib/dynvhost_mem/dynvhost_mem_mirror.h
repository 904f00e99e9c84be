/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_MIRROR_H
#define DYNVHOST_MEM_MIRROR_H

/**
 * @file
 * Mirrors: addresses that can be loaded at any time, whatever becomes of guest memory.
 *
 * An address in a window is good until the burst ends. Somebody who sleeps on a line of guest memory
 * (UMONITOR) loads it outside of bursts, at moments that nobody knows, while the ring stops, its
 * region goes, or the front-end cuts the file. So what is watched is not the window but a mirror: a
 * range of its own, without any right to store, that shows the pages of a pin while there is one, and
 * zeros before and after. What it shows is the guest's own memory, so a store of the guest's wakes
 * who sleeps there.
 *
 * All addresses that a mirror ever gave can be loaded until it is destroyed. It takes one range for
 * each size of pages that it has shown, and uses it again: a front-end that comes and goes takes no
 * more of them.
 */

#include "dynvhost_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The longest pin that can be shown: a packed ring of 32768 descriptors. */
#define DYNVHOST_MEM_MIRROR_MAX (UINT64_C(512) << 10)

struct dynvhost_mem_mirror;

/** Make a mirror that shows nothing. Control call. @return 0 or -ENOMEM. */
int dynvhost_mem_mirror_create(struct dynvhost_mem *mem, struct dynvhost_mem_mirror **mirror);

/**
 * Show the pages of a pin, and no longer those shown before. They are reachable a second time, for
 * loads, and count as such (loadable_bytes). Control call.
 *
 * @param at  receives where the first pinned byte is.
 * @return 0; -E2BIG (longer than DYNVHOST_MEM_MIRROR_MAX), -ENOSPC (too many sizes of pages), or
 *         -ENOMEM: then the mirror shows nothing.
 */
int dynvhost_mem_mirror_show(
	struct dynvhost_mem_mirror *mirror, const struct dynvhost_mem_pin *pin, const uint8_t **at);

/** Show zeros. To be called before the pin is dropped. Control call. */
void dynvhost_mem_mirror_hide(struct dynvhost_mem_mirror *mirror);

/** Free a mirror: nobody loads from its addresses any more. NULL is fine. Control call. */
void dynvhost_mem_mirror_destroy(struct dynvhost_mem_mirror *mirror);

#ifdef __cplusplus
}
#endif

#endif /* DYNVHOST_MEM_MIRROR_H */
