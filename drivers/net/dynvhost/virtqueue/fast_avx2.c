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

static __rte_always_inline FAST_TARGET void
fast_copy(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	if (len <= 32) {
		fast_copy_32(to, from, len);
		return;
	}
	for (i = 0; i + 128 <= len; i += 128) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(from + i));
		__m256i b = _mm256_loadu_si256((const __m256i *)(from + i + 32));
		__m256i c = _mm256_loadu_si256((const __m256i *)(from + i + 64));
		__m256i d = _mm256_loadu_si256((const __m256i *)(from + i + 96));

		_mm256_storeu_si256((__m256i *)(to + i), a);
		_mm256_storeu_si256((__m256i *)(to + i + 32), b);
		_mm256_storeu_si256((__m256i *)(to + i + 64), c);
		_mm256_storeu_si256((__m256i *)(to + i + 96), d);
	}
	for (; i + 32 <= len; i += 32)
		_mm256_storeu_si256(
			(__m256i *)(to + i), _mm256_loadu_si256((const __m256i *)(from + i)));
	_mm256_storeu_si256(
		(__m256i *)(to + len - 32), _mm256_loadu_si256((const __m256i *)(from + len - 32)));
}

static __rte_always_inline FAST_TARGET void
fast_store_mbuf(void *to, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	_mm256_storeu_si256(
		(__m256i *)to, _mm256_set_epi64x((int64_t)d, (int64_t)c, (int64_t)b, (int64_t)a));
}

#include "fast_moves.h"

#endif /* RTE_ARCH_X86_64 */
