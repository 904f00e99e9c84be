/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The second pass for CPUs with AVX2: registers of 32 bytes. */

#define FAST_NAME    dynvhost_fast_avx2
#define FAST_TARGET  __attribute__((target("avx2,tune=haswell")))
#define FAST_BITS    256
#define FAST_ALIGN   32u
#define FAST_HAS_256 1

#include "fast_kernel.h"

#ifdef RTE_ARCH_X86_64

#include <rte_atomic.h>

/** Copy 64 to 128 bytes: both ends, which may overlap. */
static __rte_always_inline FAST_TARGET void
fast_copy_128(uint8_t *to, const uint8_t *from, size_t len)
{
	__m256i a = _mm256_loadu_si256((const __m256i *)from);
	__m256i b = _mm256_loadu_si256((const __m256i *)(from + 32));
	__m256i c = _mm256_loadu_si256((const __m256i *)(from + len - 64));
	__m256i d = _mm256_loadu_si256((const __m256i *)(from + len - 32));

	_mm256_storeu_si256((__m256i *)to, a);
	_mm256_storeu_si256((__m256i *)(to + 32), b);
	/* Two stores to one line in a row are one to the cache; compilers would mix them. */
	rte_compiler_barrier();
	_mm256_storeu_si256((__m256i *)(to + len - 64), c);
	_mm256_storeu_si256((__m256i *)(to + len - 32), d);
}

/** Copy 16 to 128 bytes. */
static __rte_always_inline FAST_TARGET void
fast_copy_short(uint8_t *to, const uint8_t *from, size_t len)
{
	if (len <= 64)
		fast_copy_shorter(to, from, len);
	else
		fast_copy_128(to, from, len);
}

/** Copy FAST_BLOCK bytes. */
static __rte_always_inline FAST_TARGET void
fast_copy_block(uint8_t *to, const uint8_t *from)
{
	fast_copy_128(to, from, FAST_BLOCK);
}

static __rte_always_inline FAST_TARGET void
fast_store_mbuf(void *to, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	_mm256_storeu_si256(
		(__m256i *)to, _mm256_set_epi64x((int64_t)d, (int64_t)c, (int64_t)b, (int64_t)a));
}

#include "fast_moves.h"

#endif /* RTE_ARCH_X86_64 */
