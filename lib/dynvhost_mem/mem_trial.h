/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_MEM_TRIAL_H
#define DYNVHOST_MEM_TRIAL_H

/** @file Trying an engine out. */

#include "mem_engine.h"

/**
 * Have an engine that finds holes keep closed, open and close pages of files made for it: of a
 * memfd, and of huge pages if one is free.
 *
 * @return as `probe` of struct mem_engine. Where no huge page is free they are left untried.
 */
int mem_trial(const struct mem_engine *engine, char reason[MEM_REASON_SIZE]);

#endif /* DYNVHOST_MEM_TRIAL_H */
