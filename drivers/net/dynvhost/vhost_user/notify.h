/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_NOTIFY_H
#define DYNVHOST_NOTIFY_H

/**
 * @file
 * Signal an eventfd that a hostile peer holds too, from the control thread.
 *
 * write(2) on an eventfd blocks while its counter is at the maximum, unless O_NONBLOCK is set; the
 * peer can fill the counter and clear the flag at any moment, since both are shared. The kernel's
 * own signalling adds to the counter and saturates instead: it never waits. Asynchronous I/O
 * signals that way on completion, so a read of one byte of /dev/zero is the vehicle.
 */

#include <stdbool.h>

/** Whether @p fd is an eventfd: a write to anything else may block or raise a signal. Any thread. */
bool dynvhost_is_eventfd(int fd);

/** Get ready. Without it, or where the kernel has no AIO, signals are plain non-blocking writes. */
void dynvhost_notify_setup(void);

/** Let go of what dynvhost_notify_setup() took. */
void dynvhost_notify_teardown(void);

/**
 * Signal @p fd once; never blocks, raises no signal. What is no eventfd is left alone, negative
 * numbers too. Control thread.
 */
void dynvhost_notify(int fd);

#endif /* DYNVHOST_NOTIFY_H */
