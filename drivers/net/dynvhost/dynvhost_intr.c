/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Receive interrupts: an lcore that has nothing to do sleeps until the guest kicks.
 *
 * Applications put one fd per queue into their epoll sets, once. Kick fds come and go with front-ends;
 * so the fd of a queue is an epoll set of its own, made when the port is configured and there until it
 * is closed, and what is in that set changes: the kick fd of the moment, and an eventfd of ours for
 * what no kick tells.
 *
 * Nobody reads these fds. Both are in the inner set edge-triggered, so that an event stays there until
 * the set is asked, which happens when the application enables the interrupt again. That comes before
 * the guest is asked for kicks, and this before the ring is looked at: a packet that comes at any
 * moment is either seen or kicked for.
 *
 * Security model: a kick fd belongs to the peer too, which may signal it without end: each signal wakes
 * the lcore that waits for it, as a packet would. It is never read, so it does not matter what the peer
 * makes of its flags and its counter.
 */

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_interrupts.h>

#include "dynvhost_ethdev.h"
#include "dynvhost_log.h"

/** Fds in the set of a queue. */
#define INTR_SOURCES 2

static int
intr_add(int set, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/** Wake who waits for a queue. Any thread. */
static void
intr_wake(struct dynvhost_queue *queue)
{
	if (queue->intr_fd >= 0)
		eventfd_write(queue->wake_fd, 1);
}

/** Forget what was signalled so far. */
static void
intr_forget(struct dynvhost_queue *queue)
{
	struct epoll_event events[INTR_SOURCES];

	(void)epoll_wait(queue->intr_fd, events, INTR_SOURCES, 0);
}

static void
intr_close_queue(struct dynvhost_queue *queue)
{
	if (queue->intr_fd >= 0)
		close(queue->intr_fd);
	if (queue->wake_fd >= 0)
		close(queue->wake_fd);
	queue->intr_fd = -1;
	queue->wake_fd = -1;
}

/** Give a queue its fd, unless it has one. Under the control thread's lock. @return 0 or -errno. */
static int
intr_open_queue(struct dynvhost_queue *queue)
{
	int rc;

	if (queue->intr_fd >= 0)
		return 0;
	queue->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (queue->wake_fd < 0)
		return -errno;
	queue->intr_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = queue->intr_fd < 0 ? -errno : intr_add(queue->intr_fd, queue->wake_fd);
	if (rc == 0 && queue->kick_fd >= 0)
		rc = intr_add(queue->intr_fd, queue->kick_fd);
	if (rc < 0)
		intr_close_queue(queue);
	return rc;
}

/** Work for the control thread's lock. */
struct intr_opening {
	struct dynvhost_dev *dev;
	uint16_t n;
	int rc;
};

static void
intr_open_queues(void *opaque)
{
	struct intr_opening *opening = opaque;

	for (uint16_t q = 0; q < opening->n && opening->rc == 0; q++)
		opening->rc = intr_open_queue(&opening->dev->rxq[q]);
}

/** Tell ethdev the fds of the first @p n queues. @return 0 or -errno. */
static int
intr_fill_handle(const struct dynvhost_dev *dev, struct rte_intr_handle *handle, uint16_t n)
{
	int rc = rte_intr_type_set(handle, RTE_INTR_HANDLE_VDEV);

	/* Nothing is to be read from them. */
	if (rc == 0)
		rc = rte_intr_efd_counter_size_set(handle, 0);
	if (rc == 0)
		rc = rte_intr_nb_efd_set(handle, n);
	if (rc == 0)
		rc = rte_intr_max_intr_set(handle, n + 1);
	if (rc == 0 && rte_intr_vec_list_index_get(handle, dev->n_pairs - 1) < 0)
		rc = rte_intr_vec_list_alloc(handle, NULL, dev->n_pairs);
	for (uint16_t q = 0; q < n && rc == 0; q++) {
		rc = rte_intr_efds_index_set(handle, q, dev->rxq[q].intr_fd);
		if (rc == 0)
			rc = rte_intr_vec_list_index_set(handle, q, RTE_INTR_VEC_RXTX_OFFSET + q);
	}
	return rc;
}

int
dynvhost_intr_configure(struct rte_eth_dev *eth_dev)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;
	struct intr_opening opening = {.dev = dev, .n = eth_dev->data->nb_rx_queues};

	if (eth_dev->data->dev_conf.intr_conf.rxq == 0)
		return 0;
	dynvhost_backend_call(dev->backend, intr_open_queues, &opening);
	if (opening.rc == 0 && eth_dev->intr_handle == NULL) {
		eth_dev->intr_handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
		if (eth_dev->intr_handle == NULL)
			opening.rc = -ENOMEM;
	}
	if (opening.rc == 0)
		opening.rc = intr_fill_handle(dev, eth_dev->intr_handle, opening.n);
	if (opening.rc < 0)
		DYNVHOST_LOG(
			driver, ERR, dev->name, "no receive interrupts: %s", strerror(-opening.rc));
	return opening.rc;
}

/** Receive queues, if they could be made, have no fds yet. */
void
dynvhost_intr_init(struct dynvhost_dev *dev)
{
	for (uint16_t q = 0; dev->rxq != NULL && q < dev->n_pairs; q++) {
		dev->rxq[q].intr_fd = -1;
		dev->rxq[q].wake_fd = -1;
		dev->rxq[q].kick_fd = -1;
	}
}

void
dynvhost_intr_release(struct dynvhost_dev *dev)
{
	struct rte_intr_handle *handle = dev->eth_dev->intr_handle;

	dev->eth_dev->intr_handle = NULL;
	if (handle != NULL)
		rte_intr_vec_list_free(handle);
	rte_intr_instance_free(handle);
	for (uint16_t q = 0; dev->rxq != NULL && q < dev->n_pairs; q++)
		intr_close_queue(&dev->rxq[q]);
}

int
dynvhost_rx_queue_intr_enable(struct rte_eth_dev *eth_dev, uint16_t q)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;
	struct dynvhost_queue *queue = &dev->rxq[q];
	bool look_again = true;

	if (queue->intr_fd < 0)
		return -ENOTSUP;
	intr_forget(queue);
	atomic_store_explicit(&queue->rest, 0, memory_order_relaxed);
	if (likely(dynvhost_gate_enter(&queue->gate))) {
		dynvhost_vq_set_kicks(queue->vq, true);
		look_again = dynvhost_vq_has_work(queue->vq);
		dynvhost_gate_leave(&queue->gate);
	}
	if (look_again)
		intr_wake(queue);
	return 0;
}

int
dynvhost_rx_queue_intr_disable(struct rte_eth_dev *eth_dev, uint16_t q)
{
	struct dynvhost_dev *dev = eth_dev->data->dev_private;
	struct dynvhost_queue *queue = &dev->rxq[q];

	if (queue->intr_fd < 0)
		return -ENOTSUP;
	/* Else the guest goes on kicking for a while: that does no harm. */
	if (likely(dynvhost_gate_enter(&queue->gate))) {
		dynvhost_vq_set_kicks(queue->vq, false);
		dynvhost_gate_leave(&queue->gate);
	}
	return 0;
}

void
dynvhost_intr_kick_changed(struct dynvhost_dev *dev, uint16_t ring, int fd)
{
	struct dynvhost_queue *queue = &dev->rxq[ring / 2];

	if (ring != DYNVHOST_RING_OF_RXQ(ring / 2))
		return;
	/* The peer has it open too: closing it would not take it out of the set. */
	if (queue->intr_fd >= 0 && queue->kick_fd >= 0)
		(void)epoll_ctl(queue->intr_fd, EPOLL_CTL_DEL, queue->kick_fd, NULL);
	queue->kick_fd = fd;
	if (queue->intr_fd >= 0 && fd >= 0 && intr_add(queue->intr_fd, fd) < 0)
		DYNVHOST_LOG(driver, WARNING, dev->name,
			"queue %u cannot wait for kicks: %s; it has to be polled", ring / 2,
			strerror(errno));
}

void
dynvhost_intr_rings_changed(struct dynvhost_dev *dev)
{
	for (uint16_t q = 0; q < dev->n_pairs; q++) {
		if (dev->vq[DYNVHOST_RING_OF_RXQ(q)].kicks &&
			dynvhost_vq_has_work(&dev->vq[DYNVHOST_RING_OF_RXQ(q)]))
			intr_wake(&dev->rxq[q]);
	}
}
