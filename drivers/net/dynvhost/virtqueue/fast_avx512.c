/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The second pass for CPUs with AVX-512: registers of 64 bytes. */

#define FAST_NAME    dynvhost_fast_avx512
#define FAST_TARGET  __attribute__((target("avx2,avx512f,avx512vl")))
#define FAST_BITS    512
#define FAST_HAS_256 1

#include "fast_kernel.h"

#ifdef RTE_ARCH_X86_64

/** Copy 64 bytes or more; the source may have any alignment. */
static __rte_always_inline FAST_TARGET void
fast_copy_long(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	for (i = 0; i + 256 <= len; i += 256) {
		__m512i a = _mm512_loadu_si512(from + i);
		__m512i b = _mm512_loadu_si512(from + i + 64);
		__m512i c = _mm512_loadu_si512(from + i + 128);
		__m512i d = _mm512_loadu_si512(from + i + 192);

		_mm512_storeu_si512(to + i, a);
		_mm512_storeu_si512(to + i + 64, b);
		_mm512_storeu_si512(to + i + 128, c);
		_mm512_storeu_si512(to + i + 192, d);
	}
	for (; i + 64 <= len; i += 64)
		_mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
	_mm512_storeu_si512(to + len - 64, _mm512_loadu_si512(from + len - 64));
}

static __rte_always_inline FAST_TARGET void
fast_copy(uint8_t *to, const uint8_t *from, size_t len)
{
	if (len <= 64)
		fast_copy_short(to, from, len);
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
