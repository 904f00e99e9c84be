/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A back-end and a front-end that says whatever the input says: bytes, messages with any fields and
 * fds, and good ones in any order, up to whole starts in one step, while the guest writes to its
 * memory and packets are taken and sent. In the end a front-end that means well must be served.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <rte_mbuf.h>

#include "front.h"
#include "fuzz.h"
#include "mock.h"

#define BIT(n) (1ull << (n))

/** Things that one input does at most. */
#define FRONTEND_MAX_STEPS 96
#define FRONTEND_ROOM      2048u

enum frontend_outcome {
	FRONTEND_HUNG_UP,
	FRONTEND_ANSWERED,
	FRONTEND_STARTED,
	FRONTEND_STARTED_PACKED,
	FRONTEND_STARTED_IOMMU,
	FRONTEND_LINKED,
	FRONTEND_RECEIVED,
	FRONTEND_SENT,
	FRONTEND_BROKEN,
	FRONTEND_LOGGED,
	FRONTEND_ASKED,
	FRONTEND_IDLE_CLOSED,
	FRONTEND_SECOND_TABLE,
	FRONTEND_HALF,
};

const char *const fuzz_outcomes[] = {
	[FRONTEND_HUNG_UP] = "the back-end hangs up",
	[FRONTEND_ANSWERED] = "the back-end answers",
	[FRONTEND_STARTED] = "a ring starts",
	[FRONTEND_STARTED_PACKED] = "a packed ring starts",
	[FRONTEND_STARTED_IOMMU] = "a ring behind an IOMMU starts",
	[FRONTEND_LINKED] = "the link comes up",
	[FRONTEND_RECEIVED] = "a frame is received",
	[FRONTEND_SENT] = "a frame is sent",
	[FRONTEND_BROKEN] = "a guest breaks its ring",
	[FRONTEND_LOGGED] = "a dirty log is in use",
	[FRONTEND_ASKED] = "a translation is asked for",
	[FRONTEND_IDLE_CLOSED] = "idle memory is closed",
	[FRONTEND_SECOND_TABLE] = "memory changes under a running ring",
	[FRONTEND_HALF] = "half a message is waited for",
	NULL,
};

struct frontend_run {
	struct fuzz_in in;
	struct front *front;
};

static struct rte_mempool *frontend_pool;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_eal_init();
	frontend_pool = fuzz_pool("frontend", 1023, FRONTEND_ROOM);
	front_init();
	return 0;
}

/* --- messages --- */

/* Up to three fds, each chosen by a byte. */
static uint32_t
frontend_fds(struct frontend_run *run, uint32_t n, int *fd)
{
	uint32_t i;

	n %= 4;
	for (i = 0; i < n; i++)
		fd[i] = run->front->fd[fuzz_pick(&run->in, FRONT_FDS)];
	return n;
}

/* Any message: request, flags, how many fds, which, and how many bytes of payload. */
static void
frontend_any(struct frontend_run *run)
{
	struct vu_header header = {.request = fuzz_u8(&run->in)};
	const uint8_t flags = fuzz_u8(&run->in);
	uint8_t payload[511] = {0};
	uint32_t n_fds;
	size_t len;
	int fd[4];

	header.flags = flags & 0x80 ? fuzz_u32(&run->in) : VU_VERSION | (flags & 8);
	n_fds = frontend_fds(run, flags & 7, fd);
	len = fuzz_u8(&run->in) | (flags & 0x20) << 3;
	header.size = (uint32_t)len;
	/* The payload is as long as the header says, or not. */
	if (flags & 0x40)
		header.size = fuzz_u32(&run->in);
	fuzz_bytes(&run->in, payload, len);
	front_say_as(run->front, &header, payload, len, fd, n_fds);
}

static void
frontend_bytes(struct frontend_run *run)
{
	uint8_t bytes[255];
	const uint8_t how = fuzz_u8(&run->in);
	int fd[4];
	uint32_t n_fds = frontend_fds(run, how, fd);
	size_t len = fuzz_u8(&run->in);

	len = fuzz_bytes(&run->in, bytes, len);
	front_send(run->front, bytes, len, fd, n_fds);
	if (how & 0x80)
		front_serve(run->front);
}

/* NEED_REPLY by the highest bit of what chooses the request. */
static uint32_t
frontend_flags(uint8_t how)
{
	return how & 0x80 ? VU_FLAG_NEED_REPLY : 0;
}

static void
frontend_say_u64(struct frontend_run *run, uint32_t request, uint8_t how, uint64_t value)
{
	front_say(run->front, request, frontend_flags(how), &value, sizeof(value), NULL, 0);
}

/* A region of the guest, with one of its numbers changed perhaps. */
static struct vu_mem_region
frontend_region(struct frontend_run *run, int *fd)
{
	const uint8_t how = fuzz_u8(&run->in);
	struct vu_mem_region region = front_region(run->front, how & 3);
	uint64_t *number[] = {&region.gpa, &region.size, &region.uva, &region.mmap_offset};

	*fd = run->front->fd[how & 1 ? FRONT_FD_OTHER : FRONT_FD_MEMORY];
	if (how & 0x04)
		*number[how >> 3 & 3] += (uint64_t)(int64_t)(int16_t)fuzz_u16(&run->in) * 256;
	if (how & 0x20)
		*number[how >> 3 & 3] = fuzz_u64(&run->in);
	if (how & 0x40)
		*fd = run->front->fd[fuzz_pick(&run->in, FRONT_FDS)];
	return region;
}

static void
frontend_set_table(struct frontend_run *run)
{
	const uint8_t how = fuzz_u8(&run->in);
	struct vu_mem_table table = {.n_regions = how % 9};
	int fd[VU_MAX_FDS];
	uint32_t i;

	for (i = 0; i < table.n_regions; i++)
		table.region[i] = frontend_region(run, &fd[i]);
	/* One fd less than there are regions, perhaps. */
	front_say(run->front, VU_SET_MEM_TABLE, frontend_flags(how), &table,
		offsetof(struct vu_mem_table, region[table.n_regions]), fd,
		table.n_regions - (table.n_regions > 0 && (how & 0x40)));
}

static void
frontend_change_table(struct frontend_run *run)
{
	const uint8_t how = fuzz_u8(&run->in);
	struct vu_single_region single = {.padding = 0};
	int fd;

	single.region = frontend_region(run, &fd);
	front_say(run->front, how & 1 ? VU_REM_MEM_REG : VU_ADD_MEM_REG, frontend_flags(how),
		&single, sizeof(single), &fd, how & 3 ? 0 : 1);
}

/* Requests whose payload is one number. */
static void
frontend_number(struct frontend_run *run)
{
	static const uint32_t request[] = {VU_SET_FEATURES, VU_SET_PROTOCOL_FEATURES, VU_SET_STATUS,
		VU_NET_SET_MTU, VU_SEND_RARP};
	const uint8_t how = fuzz_u8(&run->in);

	frontend_say_u64(run, request[how % RTE_DIM(request)], how, fuzz_u64(&run->in));
}

/* Requests without payload. */
static void
frontend_ask(struct frontend_run *run)
{
	static const uint32_t request[] = {VU_GET_FEATURES, VU_SET_OWNER, VU_RESET_OWNER,
		VU_GET_PROTOCOL_FEATURES, VU_GET_QUEUE_NUM, VU_RESET_DEVICE, VU_GET_MAX_MEM_SLOTS,
		VU_GET_STATUS};
	const uint8_t how = fuzz_u8(&run->in);

	front_say(
		run->front, request[how % RTE_DIM(request)], frontend_flags(how), NULL, 0, NULL, 0);
}

static void
frontend_ring_fd(struct frontend_run *run, uint8_t how, uint32_t request, uint32_t ring)
{
	const uint8_t kind = fuzz_u8(&run->in);
	uint64_t value = ring | (kind & 0x80 ? VU_VRING_NOFD : 0);
	int fd = run->front->fd[kind % FRONT_FDS];

	front_say(run->front, request, frontend_flags(how), &value, sizeof(value), &fd,
		kind & 0x80 ? 0 : 1);
}

/* Where the ring's areas are, some of them moved. */
static void
frontend_ring_addr(struct frontend_run *run, uint8_t how, uint32_t ring)
{
	const uint8_t moved = fuzz_u8(&run->in);
	struct vu_vring_addr addr = front_ring_addr(run->front, ring % FRONT_RINGS, false);

	addr.index = ring;
	addr.flags = moved >> 4;
	if (moved & 1)
		addr.desc_uva += fuzz_u32(&run->in);
	if (moved & 2)
		addr.avail_uva += fuzz_u32(&run->in);
	if (moved & 4)
		addr.used_uva += fuzz_u32(&run->in);
	if (moved & 8)
		addr.log_gpa = fuzz_u64(&run->in);
	front_say(run->front, VU_SET_VRING_ADDR, frontend_flags(how), &addr, sizeof(addr), NULL, 0);
}

static void
frontend_ring(struct frontend_run *run)
{
	static const uint32_t request[] = {VU_SET_VRING_NUM, VU_SET_VRING_BASE, VU_GET_VRING_BASE,
		VU_SET_VRING_ENABLE, VU_SET_VRING_KICK, VU_SET_VRING_CALL, VU_SET_VRING_ERR,
		VU_SET_VRING_ADDR};
	const uint8_t how = fuzz_u8(&run->in);
	const uint32_t ring = fuzz_u8(&run->in);
	const uint32_t what = request[how % RTE_DIM(request)];
	struct vu_vring_state state = {.index = ring};

	if (what == VU_SET_VRING_ADDR) {
		frontend_ring_addr(run, how, ring);
	} else if (what == VU_SET_VRING_KICK || what == VU_SET_VRING_CALL ||
		   what == VU_SET_VRING_ERR) {
		frontend_ring_fd(run, how, what, ring);
	} else {
		state.num = fuzz_u32(&run->in);
		front_say(run->front, what, frontend_flags(how), &state, sizeof(state), NULL, 0);
	}
}

static void
frontend_set_log(struct frontend_run *run)
{
	const uint8_t how = fuzz_u8(&run->in);
	struct vu_log log = {.size = FRONT_LOG_SIZE};
	int fd = run->front->fd[FRONT_FD_LOG];

	if (how & 1)
		log.size = fuzz_u64(&run->in);
	if (how & 2)
		log.offset = fuzz_u64(&run->in);
	if (how & 4)
		fd = run->front->fd[fuzz_pick(&run->in, FRONT_FDS)];
	front_say(run->front, VU_SET_LOG_BASE, frontend_flags(how), &log, sizeof(log), &fd, 1);
}

/* No ring runs in a range whose translation was taken back. */
static void
frontend_expect_invalid(const struct front *front, uint64_t iova, uint64_t size)
{
	const struct dynvhost_session *session = &front->backend->session;
	uint32_t i;

	for (i = 0; i < FRONT_RINGS; i++) {
		if (dynvhost_vq_is_started(&front->vq[i]) && front->vq[i].view->iotlb != NULL &&
			size <= UINT64_MAX - iova)
			fuzz_check(session->ring[i].desc_uva - iova >= size &&
				   session->ring[i].avail_uva - iova >= size &&
				   session->ring[i].used_uva - iova >= size);
	}
}

/* A translation, of an iova to itself or elsewhere, in pages. */
static void
frontend_translate(struct frontend_run *run)
{
	const uint8_t how = fuzz_u8(&run->in);
	struct vu_iotlb iotlb = {
		.iova = (uint64_t)fuzz_u8(&run->in) * GUEST_RAM_PAGE,
		.size = (uint64_t)fuzz_u8(&run->in) * GUEST_RAM_PAGE,
		.perm = how >> 2 & 3,
		.type = (uint8_t)(1 + (how & 3)),
	};

	iotlb.uva = GUEST_RAM_UVA_BASE + iotlb.iova;
	if (how & 0x10)
		iotlb.uva = GUEST_RAM_UVA_BASE + (uint64_t)fuzz_u8(&run->in) * GUEST_RAM_PAGE;
	if (how & 0x20)
		iotlb.size = fuzz_u64(&run->in);
	if (how & 0x40)
		iotlb.iova = fuzz_u64(&run->in);
	front_say(run->front, VU_IOTLB_MSG, frontend_flags(how), &iotlb, sizeof(iotlb), NULL, 0);
	if (iotlb.type == VU_IOTLB_INVALIDATE)
		frontend_expect_invalid(run->front, iotlb.iova, iotlb.size);
}

/* --- guest and host --- */

static void
frontend_guest_writes(struct frontend_run *run)
{
	const uint64_t gpa = (uint64_t)fuzz_u16(&run->in) << (fuzz_u8(&run->in) & 3);
	uint8_t bytes[255];
	size_t n = fuzz_u8(&run->in);

	n = fuzz_bytes(&run->in, bytes, n);
	if (gpa <= FRONT_RAM - n)
		guest_ram_write(&run->front->ram, gpa, bytes, n);
}

/* A buffer in a page of the ring's own, in both formats: the other's areas are not looked at. */
static void
frontend_offer(struct front *front, uint32_t ring, uint32_t len)
{
	const struct ring_piece piece = {
		.gpa = FRONT_BUFFERS + ring * GUEST_RAM_PAGE,
		.len = len,
		.writable = ring % 2 == 0,
	};

	if (front->packed[ring].ram != NULL && front->packed[ring].n_free > 0) {
		packed_ring_add(&front->packed[ring], &piece, 1);
		packed_ring_publish(&front->packed[ring]);
	} else if (front->split[ring].ram != NULL && front->split[ring].n_free > 0) {
		split_ring_add(&front->split[ring], &piece, 1);
		split_ring_publish(&front->split[ring]);
	}
}

static uint16_t
frontend_receive(struct front *front, uint32_t ring)
{
	struct dynvhost_vq *vq = &front->vq[ring];
	struct rte_mbuf *pkts[32];
	uint16_t i, n;

	/* Rests depend on the clock. */
	memset(&vq->rest, 0, sizeof(vq->rest));
	fuzz_check(dynvhost_gate_enter(&front->gate[ring]));
	n = vq->dequeue(vq, frontend_pool, pkts, RTE_DIM(pkts));
	dynvhost_gate_leave(&front->gate[ring]);
	for (i = 0; i < n; i++)
		fuzz_check_packet(pkts[i]);
	rte_pktmbuf_free_bulk(pkts, n);
	fuzz_seen[FRONTEND_RECEIVED] += n;
	return n;
}

static uint64_t
frontend_send(struct front *front, uint32_t ring, uint16_t len)
{
	struct dynvhost_vq *vq = &front->vq[ring];
	const uint64_t before = vq->stats.packets;
	struct rte_mbuf *pkt = rte_pktmbuf_alloc(frontend_pool);
	uint16_t n;

	fuzz_check(pkt != NULL);
	memset(rte_pktmbuf_append(pkt, len), 0, len);
	fuzz_check(dynvhost_gate_enter(&front->gate[ring]));
	n = vq->enqueue(vq, &pkt, 1);
	dynvhost_gate_leave(&front->gate[ring]);
	if (n == 0)
		rte_pktmbuf_free(pkt);
	fuzz_seen[FRONTEND_SENT] += vq->stats.packets - before;
	return vq->stats.packets - before;
}

static void
frontend_burst(struct frontend_run *run)
{
	const uint8_t how = fuzz_u8(&run->in);
	const uint32_t ring = how % FRONT_RINGS;

	if (how & 0x80)
		frontend_offer(run->front, ring, 40u * (how >> 2 & 31));
	if (ring % 2 != 0)
		frontend_receive(run->front, ring);
	else
		frontend_send(run->front, ring, 60 + how * 7u);
}

/* Time passes, up to some seconds. */
static void
frontend_wait(struct frontend_run *run)
{
	struct front *front = run->front;
	struct dynvhost_mem_stats before, after;

	const bool half = front->backend->conn.in_bytes > 0;
	const uint64_t us = 1ull << fuzz_u8(&run->in) % 23;

	dynvhost_mem_stats_get(front->mem, &before);
	front_wait(front, us);
	if (half && us > DYNVHOST_CONN_DEADLINE_MS * 1000)
		fuzz_check(front->backend->conn.fd < 0);
	dynvhost_mem_stats_get(front->mem, &after);
	fuzz_seen[FRONTEND_IDLE_CLOSED] += after.closes > before.closes &&
					   dynvhost_vq_is_started(front->vq);
}

/* Memory that the guest gives back while it is in use. */
static void
frontend_punch(struct frontend_run *run)
{
	const uint8_t page = fuzz_u8(&run->in);
	const struct guest_ram_file *file = &run->front->ram.file[page & 1];

	(void)fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)((page >> 1) * GUEST_RAM_PAGE), GUEST_RAM_PAGE);
}

/* What the back-end asks the front-end for, and answers that need not be any. */
static void
frontend_reply(struct frontend_run *run)
{
	uint8_t bytes[255];
	size_t n = fuzz_u8(&run->in);

	while (recv(run->front->asker, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		fuzz_see(FRONTEND_ASKED);
	n = fuzz_bytes(&run->in, bytes, n);
	(void)send(run->front->asker, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	front_serve(run->front);
}

/* --- the input --- */

static void
frontend_note(const struct front *front)
{
	const struct dynvhost_session *session = &front->backend->session;
	const struct dynvhost_vq *vq;
	struct dynvhost_mem_stats stats;
	uint32_t i;

	for (i = 0; i < FRONT_RINGS; i++) {
		vq = &front->vq[i];
		if (!dynvhost_vq_is_started(vq))
			continue;
		fuzz_see(FRONTEND_STARTED);
		fuzz_seen[FRONTEND_STARTED_PACKED] += (vq->features & BIT(VIRTIO_F_RING_PACKED)) !=
						      0;
		fuzz_seen[FRONTEND_STARTED_IOMMU] += vq->view->iotlb != NULL;
		fuzz_seen[FRONTEND_BROKEN] += vq->fault != DYNVHOST_VQ_OK;
		fuzz_seen[FRONTEND_LOGGED] += vq->log.log != NULL;
		fuzz_check(session->view != NULL);
	}
	dynvhost_mem_stats_get(front->mem, &stats);
	fuzz_check(stats.storable_bytes <= stats.loadable_bytes);
	fuzz_check(stats.loadable_bytes <= 2 * stats.guest_bytes + FRONT_RAM);
	fuzz_seen[FRONTEND_HALF] += front->backend->conn.fd >= 0 &&
				    front->backend->conn.in_bytes > 0;
	fuzz_seen[FRONTEND_HUNG_UP] += front->backend->conn.fd < 0;
	fuzz_seen[FRONTEND_ANSWERED] += front->replies > 0;
	fuzz_seen[FRONTEND_LINKED] += session->link_up;
}

/* What people are told of the port. */
static void
frontend_describe(const struct front *front)
{
	const struct dynvhost_session *session = &front->backend->session;
	static struct dynvhost_session_event events[DYNVHOST_SESSION_EVENTS];
	struct dynvhost_session_ring_info rings[FRONT_RINGS];
	struct dynvhost_session_info info;
	uint32_t i, n;

	dynvhost_session_info(session, &info);
	fuzz_check(info.link_up == (info.waiting_for[0] == '\0'));
	fuzz_check(info.rings_started <= FRONT_RINGS && info.rings_enabled <= FRONT_RINGS);
	fuzz_check(dynvhost_session_rings(session, 0, rings, FRONT_RINGS) == FRONT_RINGS);
	for (i = 0; i < FRONT_RINGS; i++)
		fuzz_check(rings[i].started == dynvhost_vq_is_started(&front->vq[i]));
	n = dynvhost_session_events(session, events, RTE_DIM(events));
	fuzz_check(n > 0 && n <= RTE_DIM(events));
	for (i = 0; i < n; i++)
		fuzz_check(memchr(events[i].text, '\0', sizeof(events[i].text)) != NULL);
}

static void
frontend_message(struct frontend_run *run)
{
	const bool running = dynvhost_vq_is_started(&run->front->vq[0]);
	const struct dynvhost_mem_view *view = run->front->backend->session.view;

	switch (fuzz_u8(&run->in) % 9) {
	case 0:
		frontend_any(run);
		break;
	case 1:
		frontend_bytes(run);
		break;
	case 2:
		frontend_set_table(run);
		break;
	case 3:
		frontend_change_table(run);
		break;
	case 4:
		frontend_number(run);
		break;
	case 5:
		frontend_ask(run);
		break;
	case 6:
		frontend_ring(run);
		break;
	case 7:
		frontend_set_log(run);
		break;
	default:
		frontend_translate(run);
		break;
	}
	fuzz_seen[FRONTEND_SECOND_TABLE] += running && dynvhost_vq_is_started(&run->front->vq[0]) &&
					    view != run->front->backend->session.view;
}

static void
frontend_step(struct frontend_run *run)
{
	switch (fuzz_u8(&run->in) % 9) {
	case 0:
		frontend_message(run);
		break;
	case 1:
		front_start(run->front, fuzz_u8(&run->in));
		break;
	case 2:
		frontend_guest_writes(run);
		break;
	case 3:
		frontend_burst(run);
		break;
	case 4:
		frontend_wait(run);
		break;
	case 5:
		front_read(run->front);
		frontend_describe(run->front);
		break;
	case 6:
		front_connect(run->front);
		break;
	case 7:
		frontend_punch(run);
		break;
	default:
		frontend_reply(run);
		break;
	}
	frontend_note(run->front);
}

/* Another front-end comes, and all is as if the first one had never been. */
static void
frontend_expect_service(struct front *front)
{
	front_connect(front);
	front_start(front, FRONT_START_NO_MRG | FRONT_START_ACKS);
	fuzz_check(front->backend->session.link_up);
	frontend_offer(front, 1, 100);
	fuzz_check(frontend_receive(front, 1) == 1);
	frontend_offer(front, 0, 100);
	fuzz_check(frontend_send(front, 0, 60) == 1);
	front_read(front);
	/* It has asked for acknowledgements, and got them all. */
	fuzz_check(front->due > FRONT_RINGS && front->replies == front->due);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frontend_run run = {.in = {.at = data, .left = RTE_MIN(size, FUZZ_MAX_INPUT)}};
	const unsigned int full = rte_mempool_avail_count(frontend_pool);
	unsigned int steps = 0;

	run.front = front_open((enum front_engine)fuzz_pick(&run.in, FRONT_ENGINES));
	while (run.in.left > 0 && steps++ < FRONTEND_MAX_STEPS)
		frontend_step(&run);
	frontend_expect_service(run.front);
	front_close(run.front);
	fuzz_check(rte_mempool_avail_count(frontend_pool) == full);
	return 0;
}
