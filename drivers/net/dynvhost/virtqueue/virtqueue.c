/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What all virtqueues have in common: life cycle, the ring's place in guest memory, faults,
 * notification. What is in a ring is the business of its format (format.h).
 *
 * Security model: the front-end chooses size, addresses and features. Sizes and alignment are judged
 * here, ranges by dynvhost_mem. Nothing of the rings is read here.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <rte_arp.h>
#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_malloc.h>
#include <rte_pause.h>
#include <rte_vect.h>

#include "chain.h"
#include "fast.h"
#include "format.h"
#include "give_back.h"
#include "net_hdr.h"
#include "rest.h"
#include "virtqueue.h"

/* Every ring format there is, the one of rings that negotiate no other last. */
static const struct dynvhost_vq_format *const vq_formats[] = {
	&dynvhost_packed_format,
	&dynvhost_split_format,
};

static const struct dynvhost_vq_format *
vq_choose_format(uint64_t features)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(vq_formats) - 1; i++)
		if ((features & vq_formats[i]->feature) != 0)
			break;
	return vq_formats[i];
}

static uint16_t
vq_dequeue_nothing(__rte_unused struct dynvhost_vq *vq, __rte_unused struct rte_mempool *pool,
	__rte_unused struct rte_mbuf **pkts, __rte_unused uint16_t n)
{
	return 0;
}

static uint16_t
vq_enqueue_nothing(__rte_unused struct dynvhost_vq *vq, __rte_unused struct rte_mbuf **pkts,
	__rte_unused uint16_t n)
{
	return 0;
}

static void vq_choose_bursts(struct dynvhost_vq *vq);

/* Takes the place of the queue's own function until all announcements are delivered. */
static uint16_t
vq_dequeue_rarps(
	struct dynvhost_vq *vq, struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = 0;

	while (done < n && done < vq->n_rarps) {
		pkts[done] = rte_net_make_rarp_packet(pool, &vq->rarp[done]);
		if (pkts[done] == NULL) {
			dynvhost_vq_count(&vq->stats.no_mbuf, 1);
			break;
		}
		pkts[done]->port = vq->port_id;
		dynvhost_vq_count(&vq->stats.packets, 1);
		dynvhost_vq_count(&vq->stats.bytes, pkts[done]->pkt_len);
		done++;
	}
	vq->n_rarps -= done;
	memmove(vq->rarp, vq->rarp + done, vq->n_rarps * sizeof(vq->rarp[0]));
	if (vq->n_rarps == 0)
		vq_choose_bursts(vq);
	return done;
}

static void
vq_lock(struct dynvhost_vq *vq)
{
	/* Pairs with vq_unlock(): what the last burst left behind is seen by the next one. */
	while (atomic_exchange_explicit(&vq->busy, true, memory_order_acquire)) {
		while (atomic_load_explicit(&vq->busy, memory_order_relaxed))
			rte_pause();
	}
}

static void
vq_unlock(struct dynvhost_vq *vq)
{
	atomic_store_explicit(&vq->busy, false, memory_order_release);
}

/* The enqueue burst of a virtqueue that several threads send to. */
static uint16_t
vq_enqueue_shared(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t moved;

	vq_lock(vq);
	moved = vq->enqueue_alone(vq, pkts, n);
	vq_unlock(vq);
	return moved;
}

/* Segmentation offload is for packets that are longer than a frame. */
static bool
vq_fits(const struct dynvhost_vq *vq, const struct rte_mbuf *pkt)
{
	return pkt->pkt_len <= vq->max_frame ||
	       (pkt->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)) != 0;
}

/* The enqueue burst of a guest with an MTU: no frame that exceeds it is passed (virtio 1.2 §5.1.4.1). */
static uint16_t
vq_enqueue_limited(struct dynvhost_vq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = 0, run, moved;

	while (done < n) {
		for (run = 0; done + run < n && vq_fits(vq, pkts[done + run]); run++)
			;
		if (run == 0) {
			rte_pktmbuf_free(pkts[done++]);
			dynvhost_vq_count(&vq->stats.dropped, 1);
			continue;
		}
		moved = vq->enqueue_fitting(vq, pkts + done, run);
		done += moved;
		if (moved < run)
			break;
	}
	return done;
}

/* Where the virtqueue is shared, this may be within a burst, and others may be loading `enqueue`. */
static void
vq_set_enqueue(struct dynvhost_vq *vq, dynvhost_vq_enqueue_t enqueue)
{
	vq->enqueue_alone = enqueue;
	if (!vq->shared)
		vq->enqueue = enqueue;
}

static void
vq_choose_enqueue(struct dynvhost_vq *vq)
{
	vq->enqueue_fitting = vq->format->choose_enqueue(vq);
	vq_set_enqueue(vq, vq->max_frame == 0 ? vq->enqueue_fitting : vq_enqueue_limited);
}

/* Give the queue the burst functions of its direction and state. */
static void
vq_choose_bursts(struct dynvhost_vq *vq)
{
	const bool guest_transmits = (vq->index & 1) != 0;

	vq->dequeue = vq_dequeue_nothing;
	vq->enqueue_fitting = vq_enqueue_nothing;
	vq_set_enqueue(vq, vq_enqueue_nothing);
	/* The short way knows no log and no IOMMU. */
	vq->fast = dynvhost_fast_choose(rte_vect_get_max_simd_bitwidth());
	if (vq->log.log != NULL || (vq->view != NULL && vq->view->iotlb != NULL))
		vq->fast = NULL;
	if (vq->n_rarps != 0) {
		vq->dequeue = vq_dequeue_rarps;
		return;
	}
	if (vq->pins == NULL || vq->fault != DYNVHOST_VQ_OK)
		return;
	if (guest_transmits)
		vq->dequeue = vq->format->choose_dequeue(vq);
	else if (vq->enabled)
		vq_choose_enqueue(vq);
}

int
dynvhost_vq_init(struct dynvhost_vq *vq, uint16_t index, int numa_node)
{
	memset(vq, 0, sizeof(*vq));
	vq->index = index;
	vq->format = vq_choose_format(0);
	vq->call_fd = -1;
	vq->port_id = RTE_MBUF_PORT_INVALID;
	vq->chain = rte_zmalloc_socket(
		"dynvhost_chain", sizeof(*vq->chain), RTE_CACHE_LINE_SIZE, numa_node);
	if (vq->chain == NULL)
		return -ENOMEM;
	vq_choose_bursts(vq);
	return 0;
}

void
dynvhost_vq_fini(struct dynvhost_vq *vq)
{
	rte_free(vq->chain);
	vq->chain = NULL;
}

uint8_t
dynvhost_vq_hdr_len(uint64_t features)
{
	const uint64_t has_num_buffers = (1ULL << VIRTIO_NET_F_MRG_RXBUF) |
					 (1ULL << VIRTIO_F_VERSION_1) |
					 (1ULL << VIRTIO_F_RING_PACKED);

	return (features & has_num_buffers) ? sizeof(struct virtio_net_hdr_v1)
					    : sizeof(struct virtio_net_hdr);
}

static int
vq_pin_area(const struct dynvhost_mem_view *view, uint64_t gpa, const struct dynvhost_vq_area *area,
	struct dynvhost_mem_pin *pin)
{
	if (gpa % area->align != 0)
		return -EINVAL;
	return dynvhost_mem_pin(view, gpa, area->len, area->right, pin);
}

static void
vq_unpin(struct dynvhost_vq_pins *pins)
{
	if (pins == NULL)
		return;
	dynvhost_mem_unpin(&pins->used);
	dynvhost_mem_unpin(&pins->avail);
	dynvhost_mem_unpin(&pins->desc);
	free(pins);
}

/* Pin the three areas of a ring of @p size. @return 0 and a new set of pins, or -errno. */
static int
vq_pin(const struct dynvhost_vq_setup *setup, uint32_t size, uint64_t features,
	struct dynvhost_vq_pins **out)
{
	struct dynvhost_vq_layout layout;
	struct dynvhost_vq_pins *pins;
	int avail, used;
	int ret;

	ret = vq_choose_format(features)->layout(size, features, &layout);
	if (ret != 0)
		return ret;
	pins = calloc(1, sizeof(*pins));
	if (pins == NULL)
		return -ENOMEM;
	/* All areas are tried: translations that an IOMMU has to give are asked for together. */
	ret = vq_pin_area(setup->view, setup->desc_gpa, &layout.desc, &pins->desc);
	avail = vq_pin_area(setup->view, setup->avail_gpa, &layout.avail, &pins->avail);
	used = vq_pin_area(setup->view, setup->used_gpa, &layout.used, &pins->used);
	if (ret == 0)
		ret = avail != 0 ? avail : used;
	if (ret != 0) {
		vq_unpin(pins);
		return ret;
	}
	*out = pins;
	return 0;
}

uint64_t
dynvhost_vq_need(const struct dynvhost_vq_setup *setup)
{
	const struct dynvhost_mem_view *view = setup->view;
	struct dynvhost_vq_layout layout;

	if (vq_choose_format(setup->features)->layout(setup->size, setup->features, &layout) != 0)
		return 0;
	return dynvhost_mem_area_need(view, setup->desc_gpa, layout.desc.len) +
	       dynvhost_mem_area_need(view, setup->avail_gpa, layout.avail.len) +
	       dynvhost_mem_area_need(view, setup->used_gpa, layout.used.len) +
	       dynvhost_mem_need(view, DYNVHOST_VQ_MAX_FRAME, DYNVHOST_VQ_FRAME_PIECES);
}

/* Use @p pins, which lie in @p view, from now on. */
static void
vq_attach(
	struct dynvhost_vq *vq, struct dynvhost_vq_pins *pins, const struct dynvhost_mem_view *view)
{
	vq->pins = pins;
	vq->view = view;
	atomic_store(&vq->cursor.miss, 0);
	vq->stall_since = 0;
	memset(&vq->defer, 0, sizeof(vq->defer));
	rest_end(vq);
	dynvhost_give_back_init(vq);
	vq->format->attach(vq, pins);
	dynvhost_vq_show(vq);
}

/* Let go of the ring: no burst touches it any more. */
static void
vq_detach(struct dynvhost_vq *vq)
{
	static const struct dynvhost_vq_pins nowhere;
	struct dynvhost_vq_pins *pins = vq->pins;

	vq->format->attach(vq, &nowhere);
	vq->pins = NULL;
	dynvhost_vq_show(vq);
	vq_unpin(pins);
	vq->view = NULL;
	vq->call_fd = -1;
	vq->log = (struct dynvhost_vq_log){.log = NULL};
	vq_choose_bursts(vq);
}

/* The MTU and its headers, a VLAN tag among them. */
static uint32_t
vq_max_frame(const struct dynvhost_vq_setup *setup)
{
	if (setup->mtu == 0 || (setup->features & (1ULL << VIRTIO_NET_F_MTU)) == 0)
		return 0;
	return setup->mtu + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
}

int
dynvhost_vq_start(struct dynvhost_vq *vq, const struct dynvhost_vq_setup *setup)
{
	struct dynvhost_vq_pins *pins;
	int ret;

	ret = vq_pin(setup, setup->size, setup->features, &pins);
	if (ret != 0)
		return ret;
	vq->format = vq_choose_format(setup->features);
	vq->size = (uint16_t)setup->size;
	vq->features = setup->features;
	vq->hdr_len = dynvhost_vq_hdr_len(setup->features);
	vq->mergeable = (setup->features & (1ULL << VIRTIO_NET_F_MRG_RXBUF)) != 0;
	vq->event_idx = (setup->features & (1ULL << VIRTIO_RING_F_EVENT_IDX)) != 0;
	vq->offloads = net_hdr_offloads(setup->features);
	vq->indirect = (setup->features & (1ULL << VIRTIO_RING_F_INDIRECT_DESC)) != 0;
	vq->max_frame = vq_max_frame(setup);
	vq->enabled = setup->enabled;
	vq->log = setup->log;
	vq_attach(vq, pins, setup->view);
	ret = vq->format->begin(vq, setup->base);
	if (ret != 0) {
		vq_detach(vq);
		return ret;
	}
	vq->fault = DYNVHOST_VQ_OK;
	dynvhost_vq_set_call(vq, setup->call_fd);
	vq_choose_bursts(vq);
	return 0;
}

uint32_t
dynvhost_vq_stop(struct dynvhost_vq *vq)
{
	const uint32_t position = vq->format->position(vq);

	vq_detach(vq);
	return position;
}

int
dynvhost_vq_move(struct dynvhost_vq *vq, const struct dynvhost_vq_setup *setup)
{
	struct dynvhost_vq_pins *old = vq->pins;
	struct dynvhost_vq_pins *pins;
	int ret;

	ret = vq_pin(setup, vq->size, vq->features, &pins);
	if (ret != 0)
		return ret;
	vq_attach(vq, pins, setup->view);
	vq_unpin(old);
	dynvhost_vq_set_log(vq, &setup->log);
	return 0;
}

void
dynvhost_vq_set_call(struct dynvhost_vq *vq, int call_fd)
{
	vq->call_fd = call_fd;
	/* The new fd's owner has heard of nothing yet. */
	vq->call_anyway = true;
}

void
dynvhost_vq_set_enabled(struct dynvhost_vq *vq, bool enabled)
{
	vq->enabled = enabled;
	vq_choose_bursts(vq);
}

void
dynvhost_vq_announce(struct dynvhost_vq *vq, const struct rte_ether_addr *mac)
{
	if (mac == NULL)
		vq->n_rarps = 0;
	else if (vq->n_rarps < DYNVHOST_VQ_MAX_RARPS)
		vq->rarp[vq->n_rarps++] = *mac;
	vq_choose_bursts(vq);
}

void
dynvhost_vq_set_kicks(struct dynvhost_vq *vq, bool kicks)
{
	vq->kicks = kicks;
	rest_end(vq);
	if (vq->pins == NULL)
		return;
	vq->format->set_kicks(vq, kicks);
	/* Pairs with the driver's full barrier between making a chain available and looking whether
	 * to kick: either it sees our wish, or we see its chain.
	 */
	atomic_thread_fence(memory_order_seq_cst);
}

bool
dynvhost_vq_has_work(struct dynvhost_vq *vq)
{
	return vq->n_rarps != 0 || dynvhost_vq_pending(vq) != 0;
}

void
dynvhost_vq_set_shared(struct dynvhost_vq *vq, bool shared)
{
	vq->shared = shared;
	vq->enqueue = shared ? vq_enqueue_shared : vq->enqueue_alone;
}

void
dynvhost_vq_set_log(struct dynvhost_vq *vq, const struct dynvhost_vq_log *log)
{
	vq->log = *log;
	vq_choose_bursts(vq);
}

const char *
dynvhost_vq_fault_text(enum dynvhost_vq_fault fault)
{
	switch (fault) {
	case DYNVHOST_VQ_OK:
		return "no fault";
	case DYNVHOST_VQ_BAD_AVAIL:
		return "available index is further ahead than the ring is long";
	case DYNVHOST_VQ_BAD_HEAD:
		return "descriptor index beyond the end of its table";
	case DYNVHOST_VQ_BAD_LOOP:
		return "descriptor chain is too long or has no end";
	case DYNVHOST_VQ_BAD_ADDRESS:
		return "descriptor address outside guest memory";
	case DYNVHOST_VQ_BAD_RIGHT:
		return "descriptor is device-writable where it must be readable, or the reverse";
	case DYNVHOST_VQ_BAD_INDIRECT:
		return "malformed, nested or not negotiated indirect descriptor table";
	case DYNVHOST_VQ_FAULTS:
		break;
	}
	return "unknown fault";
}

uint16_t
dynvhost_vq_pending(struct dynvhost_vq *vq)
{
	uint16_t n = 0;

	if (vq->shared)
		vq_lock(vq);
	if (vq->pins != NULL && vq->fault == DYNVHOST_VQ_OK)
		n = vq->format->pending(vq);
	if (vq->shared)
		vq_unlock(vq);
	return n;
}

void
dynvhost_vq_mark_broken(struct dynvhost_vq *vq, enum dynvhost_vq_fault fault)
{
	dynvhost_vq_count(&vq->stats.bad_chains, 1);
	vq->fault = fault;
	vq_choose_bursts(vq);
}

bool
dynvhost_vq_is_stalled(struct dynvhost_vq *vq)
{
	const uint64_t ms = vq->view->iotlb == NULL ? DYNVHOST_VQ_STALL_MS
						    : DYNVHOST_VQ_STALL_IOMMU_MS;
	const uint64_t limit = rte_get_tsc_hz() / 1000 * ms;
	const uint64_t now = rte_get_tsc_cycles();

	if (vq->stall_since == 0) {
		vq->stall_since = now;
		return false;
	}
	return now - vq->stall_since > limit;
}

void
dynvhost_vq_call(struct dynvhost_vq *vq)
{
	const uint64_t one = 1;
	ssize_t ret;

	if (vq->call_fd < 0)
		return;
	vq->call_anyway = false;
	/* Seen by control when the queue does not come out of its burst. */
	atomic_store_explicit(&vq->calling, true, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	/* An eventfd that takes no more has a call pending already: nothing is lost. */
	ret = write(vq->call_fd, &one, sizeof(one));
	RTE_SET_USED(ret);
	atomic_store_explicit(&vq->calling, false, memory_order_release);
	dynvhost_vq_count(&vq->stats.calls, 1);
}

bool
dynvhost_vq_unblock_call(struct dynvhost_vq *vq)
{
	uint64_t count;
	const struct iovec iov = {.iov_base = &count, .iov_len = sizeof(count)};
	struct pollfd pollfd = {.fd = vq->call_fd, .events = POLLOUT};
	ssize_t ret;
	int flags;

	if (!atomic_load_explicit(&vq->calling, memory_order_acquire))
		return false;
	/* A thread that was only preempted there is none of the peer's doing. */
	if (poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLOUT) != 0)
		return false;
	flags = fcntl(vq->call_fd, F_GETFL);
	if (flags >= 0)
		(void)fcntl(vq->call_fd, F_SETFL, flags | O_NONBLOCK);
	/* Empty the counter, which lets the writer through. The peer may have taken O_NONBLOCK away
	 * again and be emptying it too: RWF_NOWAIT keeps us from waiting all the same.
	 */
	ret = preadv2(vq->call_fd, &iov, 1, -1, RWF_NOWAIT);
	RTE_SET_USED(ret);
	return true;
}
