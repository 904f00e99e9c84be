/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Which CPUs give lines back, and the frames' lines. */

#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "give_back.h"

bool
dynvhost_give_back_is_possible(void)
{
#ifdef __x86_64__
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_CLFLUSHOPT) != 0;
#else
	return false;
#endif
}

bool
dynvhost_give_back_pays(void)
{
#ifdef __x86_64__
	/* On others it is not known to. */
	return __builtin_cpu_is("amd") && dynvhost_give_back_is_possible();
#else
	return false;
#endif
}

void
dynvhost_give_back_frames(const struct fast_job *job, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (job[i].len <= GIVE_BACK_LONGEST)
			give_back_line(job[i].guest);
}
