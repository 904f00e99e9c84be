/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MOCK_H
#define DYNVHOST_MOCK_H

/**
 * @file
 * What all test doubles share: how they report that a test cannot go on, and the clock.
 *
 * The doubles are the other side of the driver: guest memory, the driver's side of virtqueues, a
 * front-end. They are written from the specifications and share nothing with the driver but the
 * wire format's header. None of them returns errors that a test could forget: what must not happen
 * ends the test through mock_fail().
 */

#include <stdint.h>

/** Deadline for anything that should happen at once. Generous: test machines are busy. */
#define MOCK_DEADLINE_MS 5000

/** How long a test watches that something does not happen. */
#define MOCK_SILENCE_MS 60

/**
 * Called with the words for a failure, and expected not to return: a test runner's longjmp, for
 * example. NULL, or returning: the process aborts.
 */
extern void (*mock_fail_hook)(const char *file, int line, const char *text);

/** End the running test. */
void mock_fail_at(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

#define mock_fail(...) mock_fail_at(__FILE__, __LINE__, __VA_ARGS__)

#define mock_check(condition)                                \
	do {                                                 \
		if (!(condition))                            \
			mock_fail("failed: %s", #condition); \
	} while (0)

/** CLOCK_MONOTONIC in milliseconds. */
uint64_t mock_now_ms(void);

/** Let others run between two looks at something: a yield, and after many of them a short nap. */
void mock_relax(unsigned int *looks);

/** The next number of a sequence, below @p n (xorshift64*); @p state is never 0. */
uint32_t mock_random(uint64_t *state, uint32_t n);

/** Entries of /proc/self/fd, without the one that counting needs. */
unsigned int mock_count_fds(void);

#endif /* DYNVHOST_MOCK_H */
