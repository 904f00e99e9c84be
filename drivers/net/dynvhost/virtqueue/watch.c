/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What an application may sleep on instead of polling a virtqueue: the place where the driver says
 * that there is more.
 *
 * Security model: what is handed out can be loaded at any time, whatever becomes of ring and guest
 * memory (dynvhost_mem_mirror.h). What is loaded there decides how long the application sleeps, and
 * nothing else: a guest that stores without end keeps a thread awake that would otherwise poll.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "dynvhost_mem_mirror.h"
#include "format.h"
#include "virtqueue.h"

void
dynvhost_vq_show(struct dynvhost_vq *vq)
{
	const uint8_t *at = NULL;

	if (vq->mirror == NULL)
		return;
	if (vq->pins != NULL)
		(void)dynvhost_mem_mirror_show(vq->mirror, vq->format->watched(vq->pins), &at);
	else
		dynvhost_mem_mirror_hide(vq->mirror);
	/* Pairs with dynvhost_vq_monitor(), in a queue that was not held when it was first asked. */
	atomic_store_explicit(&vq->mirror_at, at, memory_order_release);
}

int
dynvhost_vq_watch(struct dynvhost_vq *vq, struct dynvhost_mem *mem)
{
	int ret;

	if (vq->mirror != NULL)
		return 0;
	ret = dynvhost_mem_mirror_create(mem, &vq->mirror);
	if (ret != 0)
		return ret;
	dynvhost_vq_show(vq);
	return 0;
}

void
dynvhost_vq_unwatch(struct dynvhost_vq *vq)
{
	atomic_store_explicit(&vq->mirror_at, NULL, memory_order_release);
	dynvhost_mem_mirror_destroy(vq->mirror);
	vq->mirror = NULL;
}

int
dynvhost_vq_monitor(const struct dynvhost_vq *vq, struct dynvhost_vq_monitor *monitor)
{
	const uint8_t *at = atomic_load_explicit(&vq->mirror_at, memory_order_acquire);

	if (at == NULL || vq->pins == NULL || vq->fault != DYNVHOST_VQ_OK || vq->n_rarps != 0)
		return -EAGAIN;
	vq->format->monitor(vq, monitor);
	monitor->addr = at + ((const uint8_t *)monitor->addr -
				     (uint8_t *)vq->format->watched(vq->pins)->hva);
	return 0;
}
