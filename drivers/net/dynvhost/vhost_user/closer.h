/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_CLOSER_H
#define DYNVHOST_CLOSER_H

/**
 * @file
 * Close fds that a peer has chosen.
 *
 * Who closes the last fd of a file may have to wait: for a TCP socket as long as its SO_LINGER says,
 * for a file of a FUSE mount as long as its server likes, for guest memory until it is freed. A peer
 * decides about all three, and the control thread waits for no peer. So what a peer has sent, and
 * sockets that may hold more of it, are closed
 * by a thread of their own. A port is not served while it has such a thread: one at a time is all
 * that its peer can tie up.
 *
 * Calls come from the control thread, under its lock, unless a comment says otherwise.
 */

#include <stdbool.h>

#include "message.h"

/** fds that can wait at once: all that two messages can bring, files of memory slots, and sockets. */
#define DYNVHOST_CLOSER_MAX 1152

struct closer_job;

/** What one port has left to be closed. Zero it to begin with. */
struct dynvhost_closer {
	struct closer_job *job; /**< being closed; NULL: nothing */
	unsigned int n;         /**< waiting */
	int fd[DYNVHOST_CLOSER_MAX];
};

/** Leave an fd to be closed; a negative one is ignored. */
void dynvhost_closer_add(struct dynvhost_closer *closer, int fd);

/** Leave all fds that a message still owns to be closed. */
void dynvhost_closer_add_msg(struct dynvhost_closer *closer, struct dynvhost_msg *msg);

/** See to it that what waits is being closed. @return whether nothing is left. */
bool dynvhost_closer_is_idle(struct dynvhost_closer *closer);

/**
 * Begin to close what waits, and let go. Any thread, when nobody else uses the closer any more.
 * @param patient  wait for the end, though not for long: what takes its time is closed later.
 */
void dynvhost_closer_fini(struct dynvhost_closer *closer, bool patient);

#endif /* DYNVHOST_CLOSER_H */
