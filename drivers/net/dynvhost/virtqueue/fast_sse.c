/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The second pass for every x86-64 CPU: registers of 16 bytes. */

#define FAST_NAME dynvhost_fast_sse
#define FAST_TARGET
#define FAST_BITS  128
#define FAST_ALIGN 16u

#include "fast_kernel.h"

#ifdef RTE_ARCH_X86_64

#include <rte_atomic.h>

/** Copy 64 bytes. */
static __rte_always_inline void
fast_copy_64(uint8_t *to, const uint8_t *from)
{
	__m128i a = _mm_loadu_si128((const __m128i *)from);
	__m128i b = _mm_loadu_si128((const __m128i *)(from + 16));
	__m128i c = _mm_loadu_si128((const __m128i *)(from + 32));
	__m128i d = _mm_loadu_si128((const __m128i *)(from + 48));

	_mm_storeu_si128((__m128i *)to, a);
	_mm_storeu_si128((__m128i *)(to + 16), b);
	_mm_storeu_si128((__m128i *)(to + 32), c);
	_mm_storeu_si128((__m128i *)(to + 48), d);
}

/** Copy 16 to 128 bytes. */
static __rte_always_inline void
fast_copy_short(uint8_t *to, const uint8_t *from, size_t len)
{
	if (len <= 32) {
		fast_copy_32(to, from, len);
	} else if (len <= 64) {
		fast_copy_32(to, from, 32);
		fast_copy_32(to + len - 32, from + len - 32, 32);
	} else {
		fast_copy_64(to, from);
		fast_copy_64(to + len - 64, from + len - 64);
	}
}

/** Copy FAST_BLOCK bytes. */
static __rte_always_inline void
fast_copy_block(uint8_t *to, const uint8_t *from)
{
	fast_copy_64(to, from);
	/* All stores to a line in a row are one to the cache; compilers would mix them. */
	rte_compiler_barrier();
	fast_copy_64(to + 64, from + 64);
}

static __rte_always_inline void
fast_store_mbuf(void *to, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	_mm_storeu_si128((__m128i *)to, _mm_set_epi64x((int64_t)b, (int64_t)a));
	_mm_storeu_si128((__m128i *)to + 1, _mm_set_epi64x((int64_t)d, (int64_t)c));
}

#include "fast_moves.h"

#endif /* RTE_ARCH_X86_64 */
