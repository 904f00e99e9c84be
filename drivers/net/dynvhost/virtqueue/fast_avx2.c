/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The second pass for CPUs with AVX2: registers of 32 bytes. */

#define FAST_NAME    dynvhost_fast_avx2
#define FAST_TARGET  __attribute__((target("avx2")))
#define FAST_BITS    256
#define FAST_HAS_256 1

#include "fast_kernel.h"

#ifdef RTE_ARCH_X86_64

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
	_mm256_storeu_si256((__m256i *)(to + len - 64), c);
	_mm256_storeu_si256((__m256i *)(to + len - 32), d);
}

/** Copy 128 bytes or more. */
static __rte_always_inline FAST_TARGET void
fast_copy_long(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	for (i = 0; i + 128 <= len; i += 128)
		fast_copy_128(to + i, from + i, 128);
	for (; i + 32 <= len; i += 32)
		_mm256_storeu_si256(
			(__m256i *)(to + i), _mm256_loadu_si256((const __m256i *)(from + i)));
	_mm256_storeu_si256(
		(__m256i *)(to + len - 32), _mm256_loadu_si256((const __m256i *)(from + len - 32)));
}

static __rte_always_inline FAST_TARGET void
fast_copy(uint8_t *to, const uint8_t *from, size_t len)
{
	if (len <= 64)
		fast_copy_short(to, from, len);
	else if (len <= 128)
		fast_copy_128(to, from, len);
	else
		fast_copy_long(to, from, len);
}

static __rte_always_inline FAST_TARGET void
fast_store_mbuf(void *to, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	_mm256_storeu_si256(
		(__m256i *)to, _mm256_set_epi64x((int64_t)d, (int64_t)c, (int64_t)b, (int64_t)a));
}

#include "fast_moves.h"

#endif /* RTE_ARCH_X86_64 */
