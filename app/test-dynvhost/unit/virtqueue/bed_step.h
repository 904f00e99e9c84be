/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_VQ_BED_STEP_H
#define DYNVHOST_TEST_VQ_BED_STEP_H

/**
 * @file
 * Carry something out one instruction at a time, for tests of what others see meanwhile.
 */

#include "bed.h"

/**
 * Call @p move, and @p look after each of its instructions. Both run in signal handlers or between
 * them: they may not fail a test. On machines other than x86 the test is skipped.
 */
void bed_step(struct bed *bed, void (*move)(struct bed *bed), void (*look)(void));

#endif /* DYNVHOST_TEST_VQ_BED_STEP_H */
