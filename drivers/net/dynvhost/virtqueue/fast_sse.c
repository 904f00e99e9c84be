/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The second pass for every x86-64 CPU: registers of 16 bytes. */

#define FAST_NAME dynvhost_fast_sse
#define FAST_TARGET
#define FAST_BITS 128

#include "fast_kernel.h"

#ifdef RTE_ARCH_X86_64

static __rte_always_inline void
fast_copy(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	if (len <= 32) {
		fast_copy_32(to, from, len);
		return;
	}
	for (i = 0; i + 64 <= len; i += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)(from + i));
		__m128i b = _mm_loadu_si128((const __m128i *)(from + i + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(from + i + 32));
		__m128i d = _mm_loadu_si128((const __m128i *)(from + i + 48));

		_mm_storeu_si128((__m128i *)(to + i), a);
		_mm_storeu_si128((__m128i *)(to + i + 16), b);
		_mm_storeu_si128((__m128i *)(to + i + 32), c);
		_mm_storeu_si128((__m128i *)(to + i + 48), d);
	}
	for (; i + 16 <= len; i += 16)
		_mm_storeu_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
	_mm_storeu_si128(
		(__m128i *)(to + len - 16), _mm_loadu_si128((const __m128i *)(from + len - 16)));
}

static __rte_always_inline void
fast_store_mbuf(void *to, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	_mm_storeu_si128((__m128i *)to, _mm_set_epi64x((int64_t)b, (int64_t)a));
	_mm_storeu_si128((__m128i *)to + 1, _mm_set_epi64x((int64_t)d, (int64_t)c));
}

#include "fast_moves.h"

#endif /* RTE_ARCH_X86_64 */
