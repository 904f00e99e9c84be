/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The second pass of fast.h, compiled once for each kind of CPU. The including file says how:
 *
 *	FAST_NAME         of its struct dynvhost_fast
 *	FAST_TARGET       attribute of all functions that use its instructions; names a CPU to tune
 *			  for, since those without these instructions take wide loads apart
 *	FAST_BITS         of its registers
 *	FAST_ALIGN        of the stores of a long copy, bytes
 *	fast_copy_short() copies FAST_MIN_FRAME to FAST_BLOCK bytes; reads and writes no others
 *	fast_copy_block() copies FAST_BLOCK bytes
 *	fast_store_mbuf() stores 32 bytes
 *
 * Nothing is judged here: addresses and lengths are those of the first pass.
 */

#include "fast.h"

#include <rte_vect.h>

/** Bytes of one step of a long copy. */
#define FAST_BLOCK ((size_t)2 * RTE_CACHE_LINE_SIZE)

/** Copy 16 to 32 bytes: both ends, which may overlap. */
static __rte_always_inline FAST_TARGET void
fast_copy_32(uint8_t *to, const uint8_t *from, size_t len)
{
	__m128i head = _mm_loadu_si128((const __m128i *)from);
	__m128i tail = _mm_loadu_si128((const __m128i *)(from + len - 16));

	_mm_storeu_si128((__m128i *)to, head);
	_mm_storeu_si128((__m128i *)(to + len - 16), tail);
}

#ifdef FAST_HAS_256
/** Copy 32 to 64 bytes, likewise. */
static __rte_always_inline FAST_TARGET void
fast_copy_64(uint8_t *to, const uint8_t *from, size_t len)
{
	__m256i head = _mm256_loadu_si256((const __m256i *)from);
	__m256i tail = _mm256_loadu_si256((const __m256i *)(from + len - 32));

	_mm256_storeu_si256((__m256i *)to, head);
	_mm256_storeu_si256((__m256i *)(to + len - 32), tail);
}

/** Copy 16 to 64 bytes. */
static __rte_always_inline FAST_TARGET void
fast_copy_shorter(uint8_t *to, const uint8_t *from, size_t len)
{
	if (likely(len >= 32))
		fast_copy_64(to, from, len);
	else
		fast_copy_32(to, from, len);
}
#endif
