/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* What of fast.h is not in the loops. */

#include <stddef.h>

#include "fast.h"

const struct dynvhost_fast *
dynvhost_fast_choose(unsigned int max_bits)
{
	static const struct dynvhost_fast *const widest_first[] = {
#ifdef RTE_ARCH_X86_64
		&dynvhost_fast_avx512,
		&dynvhost_fast_avx2,
		&dynvhost_fast_sse,
#endif
		NULL,
	};
	const struct dynvhost_fast *const *fast = widest_first;

#ifdef RTE_ARCH_X86_64
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl"))
		max_bits = RTE_MIN(max_bits, 256u);
	if (!__builtin_cpu_supports("avx2"))
		max_bits = RTE_MIN(max_bits, 128u);
#endif
	while (*fast != NULL && (*fast)->bits > max_bits)
		fast++;
	return *fast;
}

const struct dynvhost_mem_region *__attribute__((noinline))
dynvhost_fast_region(struct dynvhost_vq *vq, uint64_t gpa)
{
	const struct dynvhost_mem_view *view = vq->view;
	uint32_t low = 0, high = view->n_regions;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct dynvhost_mem_region *region = view->region[middle];

		if (gpa < region->gpa) {
			high = middle;
		} else if (gpa - region->gpa >= region->size) {
			low = middle + 1;
		} else {
			vq->cursor.other = vq->cursor.hint;
			vq->cursor.hint = middle;
			return region;
		}
	}
	return NULL;
}
