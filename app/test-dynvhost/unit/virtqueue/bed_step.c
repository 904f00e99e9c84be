/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <signal.h>
#include <ucontext.h>

#include "bed_step.h"

#ifdef __x86_64__

/** Trap after the next instruction. */
#define TRAP_FLAG 0x100

/** A move of fewer instructions than these has not been stepped through. */
#define STEP_LEAST 10

static struct step {
	void (*look)(void);
	volatile sig_atomic_t on;
	uint64_t steps;
} step;

static void
step_trap(int number, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	step.steps++;
	step.look();
	if (step.on)
		*flags |= TRAP_FLAG;
	else
		*flags &= ~TRAP_FLAG;
}

void
bed_step(struct bed *bed, void (*move)(struct bed *bed), void (*look)(void))
{
	const struct sigaction trap = {.sa_sigaction = step_trap, .sa_flags = SA_SIGINFO};
	struct sigaction before;

	step = (struct step){.look = look, .on = 1};
	assert_int_equal(sigaction(SIGTRAP, &trap, &before), 0);
	raise(SIGTRAP);
	move(bed);
	step.on = 0;
	raise(SIGTRAP);
	assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
	assert_true(step.steps > STEP_LEAST);
}

#else

void
bed_step(struct bed *bed, void (*move)(struct bed *bed), void (*look)(void))
{
	print_message("single steps are those of x86\n");
	skip();
}

#endif
