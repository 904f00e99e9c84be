/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The control thread: waits for events and timers of all ports, lets each port deal with its own
 * (backend.c), and tells news upwards.
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "../dynvhost_compat.h"
#include "../dynvhost_log.h"
#include "backend.h"
#include "control.h"
#include "notify.h"

#define CONTROL_EVENTS_PER_ROUND 64

static struct {
	pthread_mutex_t lock; /**< all of this, and every back-end; never held in a callback */
	pthread_cond_t changed;
	TAILQ_HEAD(, dynvhost_backend) backends;
	pthread_t thread;
	bool running;
	bool stop;     /**< somebody is joining the thread */
	bool orphaned; /**< the last back-end has gone during a callback: nobody will join it */
	bool away;     /**< the thread is in a callback: it touches no back-end, holds no event */
	struct dynvhost_backend *telling; /**< whose callback it is, unless that has died in it */
	int epoll_fd;
	int wake_fd;
	pthread_mutex_t life; /**< create and destroy, one at a time; taken before lock */
} control = {
	.life = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.backends = TAILQ_HEAD_INITIALIZER(control.backends),
	.epoll_fd = -1,
	.wake_fd = -1,
};

/** Set in the control thread alone: callbacks may come back into this file. */
static __thread bool control_is_this_thread;

static struct control_source control_wake_source = {.kind = CONTROL_WAKE};

static uint64_t
control_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int
control_wait(struct epoll_event *events, uint64_t wait_us)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(wait_us / 1000000),
		.tv_nsec = (long)(wait_us % 1000000) * 1000,
	};
	int n;

	n = epoll_pwait2(control.epoll_fd, events, CONTROL_EVENTS_PER_ROUND,
		wait_us == UINT64_MAX ? NULL : &timeout, NULL);
	if (n >= 0 || errno == EINTR)
		return n;
	/* Kernels before Linux 5.11 and system call filters that do not know this call yet. */
	return epoll_wait(control.epoll_fd, events, CONTROL_EVENTS_PER_ROUND,
		wait_us == UINT64_MAX ? -1 : (int)(wait_us / 1000 + 1));
}

static void
control_dispatch(const struct epoll_event *event, uint64_t now_us)
{
	struct control_source *source = event->data.ptr;
	eventfd_t value;

	switch (source->kind) {
	case CONTROL_WAKE:
		eventfd_read(control.wake_fd, &value);
		break;
	case CONTROL_LISTEN:
		backend_listen_event(source->backend, now_us);
		break;
	case CONTROL_CONN:
		backend_conn_event(source->backend, event->events, now_us);
		break;
	}
}

/** Tell one back-end's news without the lock. @return whether there were any. */
static bool
control_tell_one(void)
{
	static struct dynvhost_session_news news;
	struct dynvhost_backend *backend;
	int numa_node = -1;

	TAILQ_FOREACH (backend, &control.backends, next) {
		if (!backend->dying && dynvhost_session_take_news(&backend->session, &news))
			break;
	}
	if (backend == NULL)
		return false;
	if (news.link_changed && backend->session.view != NULL)
		numa_node = dynvhost_mem_numa_node(backend->session.view);
	if (news.link_changed)
		backend_log_link(backend, news.link_up, control_now_us());
	control.telling = backend;
	control.away = true;
	pthread_cond_broadcast(&control.changed);
	pthread_mutex_unlock(&control.lock);
	/* A callback may destroy the back-end, which then is no longer the one being told. */
	for (uint16_t i = 0; i < news.n_rings && control.telling == backend; i++)
		backend->ops->ring_changed(
			backend->opaque, news.ring[i].ring, news.ring[i].enabled);
	if (news.mtu_changed && control.telling == backend)
		backend->ops->mtu_changed(backend->opaque, news.mtu);
	if (news.link_changed && control.telling == backend)
		backend->ops->link_changed(backend->opaque, news.link_up, numa_node);
	pthread_mutex_lock(&control.lock);
	control.telling = NULL;
	control.away = false;
	pthread_cond_broadcast(&control.changed);
	return true;
}

/** Let go of what control_start() took, but the thread. Lock held. */
static void
control_fini(void)
{
	control.running = false;
	control.orphaned = false;
	close(control.wake_fd);
	close(control.epoll_fd);
	dynvhost_notify_teardown();
}

static DYNVHOST_THREAD_RESULT
control_run(void *arg)
{
	struct epoll_event events[CONTROL_EVENTS_PER_ROUND];
	struct dynvhost_backend *backend;
	uint64_t wait_us = UINT64_MAX;
	uint64_t now_us;
	int n;

	RTE_SET_USED(arg);
	control_is_this_thread = true;
	pthread_mutex_lock(&control.lock);
	while (!control.stop && !control.orphaned) {
		pthread_mutex_unlock(&control.lock);
		n = control_wait(events, wait_us);
		pthread_mutex_lock(&control.lock);

		now_us = control_now_us();
		for (int i = 0; i < n; i++)
			control_dispatch(&events[i], now_us);
		wait_us = UINT64_MAX;
		TAILQ_FOREACH (backend, &control.backends, next) {
			backend_look_after(backend, now_us);
			wait_us = RTE_MIN(wait_us, backend_next_look(backend, now_us));
		}
		pthread_cond_broadcast(&control.changed);
		while (control_tell_one())
			;
	}
	if (!control.stop) {
		pthread_detach(pthread_self());
		control_fini();
	}
	pthread_mutex_unlock(&control.lock);
	return 0;
}

/** Start the thread with the first back-end. Lock held. */
static int
control_start(void)
{
	struct epoll_event wake = {.events = EPOLLIN, .data.ptr = &control_wake_source};
	int rc;

	dynvhost_gate_setup();
	dynvhost_notify_setup();
	control.stop = false;
	control.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (control.epoll_fd < 0) {
		rc = -errno;
		goto undo_notify;
	}
	control.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (control.wake_fd < 0) {
		rc = -errno;
		goto undo_epoll;
	}
	if (epoll_ctl(control.epoll_fd, EPOLL_CTL_ADD, control.wake_fd, &wake) < 0) {
		rc = -errno;
		goto undo_wake;
	}
	rc = dynvhost_control_thread_create(&control.thread, "dynvhost", control_run, NULL);
	if (rc == 0) {
		control.running = true;
		return 0;
	}
	rc = -abs(rc);
undo_wake:
	close(control.wake_fd);
undo_epoll:
	close(control.epoll_fd);
undo_notify:
	dynvhost_notify_teardown();
	return rc;
}

/** Join the thread with the last back-end. Lock held, and given up meanwhile. */
static void
control_stop(void)
{
	pthread_t thread = control.thread;

	control.stop = true;
	eventfd_write(control.wake_fd, 1);
	pthread_mutex_unlock(&control.lock);
	pthread_join(thread, NULL);
	pthread_mutex_lock(&control.lock);
	control_fini();
}

/** Have the thread serve a back-end. Lock held. */
static int
control_add(struct dynvhost_backend *backend)
{
	int rc = 0;

	if (!control.running)
		rc = control_start();
	if (rc < 0)
		return rc;
	rc = dynvhost_session_begin(&backend->session, control.wake_fd);
	if (rc == 0)
		rc = backend_meet_begin(backend, control.epoll_fd, control_now_us());
	if (rc == 0) {
		TAILQ_INSERT_TAIL(&control.backends, backend, next);
		control.orphaned = false;
		/* The thread may be asleep until an event, and who connects waits for none. */
		eventfd_write(control.wake_fd, 1);
	} else if (TAILQ_EMPTY(&control.backends)) {
		control_stop();
	}
	return rc;
}

int
dynvhost_backend_create(const struct dynvhost_backend_config *config, struct dynvhost_backend **out)
{
	struct dynvhost_backend *backend;
	int rc;

	if (control_is_this_thread)
		return -EDEADLK;
	rc = backend_make(config, &backend);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&control.life);
	pthread_mutex_lock(&control.lock);
	rc = control_add(backend);
	pthread_mutex_unlock(&control.lock);
	pthread_mutex_unlock(&control.life);
	if (rc < 0) {
		backend_free(backend, true);
		return rc;
	}
	*out = backend;
	return 0;
}

/** Let a dying back-end's gates open, without the lock for a moment. */
static void
backend_wait_moment(struct dynvhost_backend *backend)
{
	const struct timespec moment = {
		.tv_nsec = (long)backend_next_look(backend, control_now_us()) * 1000,
	};

	pthread_mutex_unlock(&control.lock);
	nanosleep(&moment, NULL);
	pthread_mutex_lock(&control.lock);
}

/**
 * Wait until nothing of a dying back-end is in use. Lock held, given up meanwhile. Another port's
 * callback may take its time: as long as the control thread is away there, the work is done here.
 */
static void
backend_wait_dead(struct dynvhost_backend *backend)
{
	eventfd_write(control.wake_fd, 1);
	while (!backend->dead || control.telling == backend) {
		if (!control.away || control.telling == backend) {
			pthread_cond_wait(&control.changed, &control.lock);
			continue;
		}
		backend_look_after(backend, control_now_us());
		if (!backend->dead)
			backend_wait_moment(backend);
	}
}

/** Called from a callback: the thread does its own waiting; no lcore polls the queues, so it ends. */
static void
backend_die_in_callback(struct dynvhost_backend *backend)
{
	while (!backend->dead) {
		backend_look_after(backend, control_now_us());
		if (!backend->dead)
			backend_wait_moment(backend);
	}
	if (control.telling == backend)
		control.telling = NULL;
}

void
dynvhost_backend_destroy(struct dynvhost_backend *backend)
{
	bool in_callback = control_is_this_thread;

	if (!in_callback)
		pthread_mutex_lock(&control.life);
	pthread_mutex_lock(&control.lock);
	backend->dying = true;
	if (in_callback)
		backend_die_in_callback(backend);
	else
		backend_wait_dead(backend);
	TAILQ_REMOVE(&control.backends, backend, next);
	if (TAILQ_EMPTY(&control.backends)) {
		if (control.away)
			control.orphaned = true;
		else
			control_stop();
	}
	pthread_mutex_unlock(&control.lock);
	if (!in_callback)
		pthread_mutex_unlock(&control.life);
	backend_free(backend, !in_callback);
}

void
dynvhost_backend_call(struct dynvhost_backend *backend, void (*call)(void *opaque), void *opaque)
{
	RTE_SET_USED(backend);
	pthread_mutex_lock(&control.lock);
	call(opaque);
	pthread_mutex_unlock(&control.lock);
}

void
dynvhost_backend_info(struct dynvhost_backend *backend, struct dynvhost_session_info *info)
{
	pthread_mutex_lock(&control.lock);
	dynvhost_session_info(&backend->session, info);
	pthread_mutex_unlock(&control.lock);
}

uint32_t
dynvhost_backend_runs(struct dynvhost_backend *backend, struct dynvhost_mem_run_cursor *cursor,
	struct dynvhost_mem_run *out, uint32_t max)
{
	uint32_t n;

	pthread_mutex_lock(&control.lock);
	n = dynvhost_mem_runs(backend->session.config.mem, cursor, out, max);
	pthread_mutex_unlock(&control.lock);
	return n;
}

uint16_t
dynvhost_backend_rings(struct dynvhost_backend *backend, uint16_t first,
	struct dynvhost_session_ring_info *out, uint16_t max)
{
	uint16_t n;

	pthread_mutex_lock(&control.lock);
	n = dynvhost_session_rings(&backend->session, first, out, max);
	pthread_mutex_unlock(&control.lock);
	return n;
}

uint32_t
dynvhost_backend_events(
	struct dynvhost_backend *backend, struct dynvhost_session_event *out, uint32_t max)
{
	uint32_t n;

	pthread_mutex_lock(&control.lock);
	n = dynvhost_session_events(&backend->session, out, max);
	pthread_mutex_unlock(&control.lock);
	return n;
}
