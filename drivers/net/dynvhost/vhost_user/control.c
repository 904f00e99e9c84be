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
	bool stop;
	int epoll_fd;
	int wake_fd;
	struct dynvhost_backend *telling; /**< whose callback is running */
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

	return epoll_pwait2(control.epoll_fd, events, CONTROL_EVENTS_PER_ROUND,
		wait_us == UINT64_MAX ? NULL : &timeout, NULL);
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

	TAILQ_FOREACH (backend, &control.backends, next) {
		if (!backend->dying && dynvhost_session_take_news(&backend->session, &news))
			break;
	}
	if (backend == NULL)
		return false;
	if (news.link_changed)
		backend_log_link(backend, news.link_up, control_now_us());
	control.telling = backend;
	pthread_mutex_unlock(&control.lock);
	/* A callback may destroy the back-end, which then is no longer the one being told. */
	for (uint16_t i = 0; i < news.n_rings && control.telling == backend; i++)
		backend->ops->ring_changed(
			backend->opaque, news.ring[i].ring, news.ring[i].enabled);
	if (news.link_changed && control.telling == backend)
		backend->ops->link_changed(backend->opaque, news.link_up);
	pthread_mutex_lock(&control.lock);
	control.telling = NULL;
	pthread_cond_broadcast(&control.changed);
	return true;
}

static void *
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
	while (!control.stop) {
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
	pthread_mutex_unlock(&control.lock);
	return NULL;
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
	epoll_ctl(control.epoll_fd, EPOLL_CTL_ADD, control.wake_fd, &wake);
	rc = dynvhost_control_thread_create(&control.thread, "dynvhost", control_run, NULL);
	if (rc == 0) {
		control.running = true;
		return 0;
	}
	rc = -abs(rc);
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
	control.running = false;
	close(control.wake_fd);
	close(control.epoll_fd);
	dynvhost_notify_teardown();
}

int
dynvhost_backend_create(const struct dynvhost_backend_config *config, struct dynvhost_backend **out)
{
	struct dynvhost_backend *backend = backend_alloc(config);
	int rc = 0;

	if (backend == NULL)
		return -ENOMEM;
	backend->listen_fd = dynvhost_socket_listen(config->path, config->mode, config->group);
	if (backend->listen_fd < 0) {
		rc = backend->listen_fd;
		goto undo_alloc;
	}
	pthread_mutex_lock(&control.life);
	pthread_mutex_lock(&control.lock);
	if (!control.running)
		rc = control_start();
	if (rc == 0) {
		TAILQ_INSERT_TAIL(&control.backends, backend, next);
		backend_listen(backend, control.epoll_fd);
	}
	pthread_mutex_unlock(&control.lock);
	pthread_mutex_unlock(&control.life);
	if (rc < 0)
		goto undo_listen;
	*out = backend;
	return 0;

undo_listen:
	close(backend->listen_fd);
	unlink(backend->path);
undo_alloc:
	backend_free(backend);
	return rc;
}

/** Wait until the control thread has let go of a dying back-end. Lock held, given up meanwhile. */
static void
backend_wait_dead(struct dynvhost_backend *backend)
{
	eventfd_write(control.wake_fd, 1);
	while (!backend->dead || control.telling == backend)
		pthread_cond_wait(&control.changed, &control.lock);
}

/** Called from a callback: the thread does its own waiting; no lcore polls the queues, so it ends. */
static void
backend_die_in_callback(struct dynvhost_backend *backend)
{
	while (!backend->dead)
		backend_look_after(backend, control_now_us());
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
	close(backend->listen_fd);
	unlink(backend->path);
	if (TAILQ_EMPTY(&control.backends) && !in_callback)
		control_stop();
	pthread_mutex_unlock(&control.lock);
	if (!in_callback)
		pthread_mutex_unlock(&control.life);
	backend_free(backend);
}

void
dynvhost_backend_info(struct dynvhost_backend *backend, struct dynvhost_session_info *info)
{
	pthread_mutex_lock(&control.lock);
	dynvhost_session_info(&backend->session, info);
	pthread_mutex_unlock(&control.lock);
}
