/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "closer.h"

/** How long a patient dynvhost_closer_fini() waits, and how often it looks. */
#define CLOSER_PATIENCE_MS 100
#define CLOSER_LOOK_NS     100000

/** fds and the thread that closes them. */
struct closer_job {
	atomic_uint users; /**< the thread and the closer: who leaves last frees */
	unsigned int n;
	int fd[];
};

static void
closer_leave(struct closer_job *job)
{
	if (atomic_fetch_sub(&job->users, 1) == 1)
		free(job);
}

static void *
closer_run(void *arg)
{
	struct closer_job *job = arg;

	pthread_detach(pthread_self());
	pthread_setname_np(pthread_self(), "dynvhost-close");
	for (unsigned int i = 0; i < job->n; i++)
		close(job->fd[i]);
	closer_leave(job);
	return NULL;
}

/** Give what waits to a thread. @return NULL: there is none, and what waited has been closed here. */
static struct closer_job *
closer_start(struct dynvhost_closer *closer)
{
	struct closer_job *job = malloc(sizeof(*job) + closer->n * sizeof(job->fd[0]));
	pthread_t thread;

	if (job != NULL) {
		atomic_init(&job->users, 2);
		job->n = closer->n;
		memcpy(job->fd, closer->fd, closer->n * sizeof(job->fd[0]));
		if (pthread_create(&thread, NULL, closer_run, job) == 0) {
			closer->n = 0;
			return job;
		}
		free(job);
	}
	/* Without memory or threads this process has worse to fear than a slow peer. */
	for (unsigned int i = 0; i < closer->n; i++)
		close(closer->fd[i]);
	closer->n = 0;
	return NULL;
}

void
dynvhost_closer_add(struct dynvhost_closer *closer, int fd)
{
	if (fd < 0)
		return;
	/* Never so while a port is served only when nothing waits. */
	if (closer->n == DYNVHOST_CLOSER_MAX)
		close(fd);
	else
		closer->fd[closer->n++] = fd;
}

void
dynvhost_closer_add_msg(struct dynvhost_closer *closer, struct dynvhost_msg *msg)
{
	for (uint32_t i = 0; i < msg->n_fds; i++)
		dynvhost_closer_add(closer, dynvhost_msg_take_fd(msg, i));
	msg->n_fds = 0;
}

bool
dynvhost_closer_is_idle(struct dynvhost_closer *closer)
{
	if (closer->job != NULL && atomic_load(&closer->job->users) == 1) {
		closer_leave(closer->job);
		closer->job = NULL;
	}
	if (closer->job == NULL && closer->n != 0)
		closer->job = closer_start(closer);
	return closer->job == NULL;
}

/** Let a running thread end by itself. */
static void
closer_forget_job(struct dynvhost_closer *closer)
{
	if (closer->job != NULL)
		closer_leave(closer->job);
	closer->job = NULL;
}

void
dynvhost_closer_fini(struct dynvhost_closer *closer, bool patient)
{
	const struct timespec moment = {.tv_nsec = CLOSER_LOOK_NS};
	unsigned int looks = patient ? CLOSER_PATIENCE_MS * 1000000 / CLOSER_LOOK_NS : 0;

	while (!dynvhost_closer_is_idle(closer) && looks-- > 0)
		nanosleep(&moment, NULL);
	closer_forget_job(closer);
	/* What has waited behind it. */
	(void)dynvhost_closer_is_idle(closer);
	closer_forget_job(closer);
}
