/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The second pass for CPUs with AVX-512: registers of 64 bytes. */

#define FAST_NAME    dynvhost_fast_avx512
#define FAST_TARGET  __attribute__((target("avx2,avx512f,avx512vl,tune=skylake-avx512")))
#define FAST_BITS    512
#define FAST_ALIGN   64u
#define FAST_HAS_256 1

#include "fast_kernel.h"

#ifdef RTE_ARCH_X86_64

/** Copy 64 to 128 bytes: both ends, which may overlap. */
static __rte_always_inline FAST_TARGET void
fast_copy_128(uint8_t *to, const uint8_t *from, size_t len)
{
	__m512i head = _mm512_loadu_si512(from);
	__m512i tail = _mm512_loadu_si512(from + len - 64);

	_mm512_storeu_si512(to, head);
	_mm512_storeu_si512(to + len - 64, tail);
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
