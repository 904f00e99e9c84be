/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <rte_common.h>

#include "front.h"
#include "fuzz.h"
#include "mock.h"
#include "notify.h"

/** All that a back-end can offer: what is behind a feature is to be reached. */
#define FRONT_FEATURES                                                            \
	((1ULL << VIRTIO_NET_F_MRG_RXBUF) | (1ULL << VIRTIO_F_VERSION_1) |        \
		(1ULL << VIRTIO_NET_F_CSUM) | (1ULL << VIRTIO_NET_F_GUEST_CSUM) | \
		(1ULL << VIRTIO_NET_F_MQ) | (1ULL << VIRTIO_NET_F_CTRL_VQ) |      \
		(1ULL << VIRTIO_NET_F_MTU) | (1ULL << VIRTIO_F_RING_PACKED) |     \
		(1ULL << VIRTIO_F_IN_ORDER) | (1ULL << VIRTIO_RING_F_EVENT_IDX) | \
		(1ULL << VIRTIO_RING_F_INDIRECT_DESC) | (1ULL << VU_F_LOG_ALL) |  \
		(1ULL << VIRTIO_F_ACCESS_PLATFORM) | (1ULL << VU_F_PROTOCOL_FEATURES))
#define FRONT_PROTOCOL                                                               \
	((1ULL << VU_PF_MQ) | (1ULL << VU_PF_LOG_SHMFD) | (1ULL << VU_PF_RARP) |     \
		(1ULL << VU_PF_REPLY_ACK) | (1ULL << VU_PF_NET_MTU) |                \
		(1ULL << VU_PF_RESET_DEVICE) | (1ULL << VU_PF_CONFIGURE_MEM_SLOTS) | \
		(1ULL << VU_PF_STATUS) | (1ULL << VU_PF_GPA_ADDRESSES) |             \
		(1ULL << VU_PF_BACKEND_REQ))

/** Looks at what happens in other threads (closer.h) before that is too long. */
#define FRONT_MAX_LOOKS 10000000u

static struct front front_bed[FRONT_ENGINES];
static int front_epoll_fd;
static int front_wake_fd;

static void
front_rings_changed(void *opaque)
{
}

static void
front_kick_changed(void *opaque, uint16_t ring, int fd)
{
	fuzz_check(ring < FRONT_RINGS);
}

static void
front_make(struct front *front, const struct dynvhost_mem_config *mem, const char *path)
{
	static const struct dynvhost_session_hooks hooks = {
		.rings_changed = front_rings_changed,
		.kick_changed = front_kick_changed,
	};
	struct dynvhost_backend_config config = {
		.path = path,
		.mode = 0600,
		.group = (gid_t)-1,
		.session =
			{
				.name = mem->name,
				.features = FRONT_FEATURES,
				.protocol_features = FRONT_PROTOCOL,
				.max_mtu = 9000,
				.n_rings = FRONT_RINGS,
				.vq = front->vq,
				.n_gates = FRONT_RINGS,
				.gate = front->gates,
				.idle_ms = 100,
				.hooks = &hooks,
			},
	};
	uint16_t i;

	for (i = 0; i < FRONT_RINGS; i++) {
		fuzz_check(dynvhost_vq_init(&front->vq[i], i, -1) == 0);
		dynvhost_gate_init(&front->gate[i]);
		front->gates[i] = &front->gate[i];
	}
	fuzz_check(dynvhost_mem_create(mem, &front->mem) == 0);
	config.session.mem = front->mem;
	fuzz_check(backend_make(&config, &front->backend) == 0);
	fuzz_check(dynvhost_session_begin(&front->backend->session, front_wake_fd) == 0);
	fuzz_check(backend_meet_begin(front->backend, front_epoll_fd, 0) == 0);
	front->fe.sock = -1;
	front->now_us = 1;
}

void
front_init(void)
{
	static const struct dynvhost_mem_config mem[FRONT_ENGINES] = {
		[FRONT_UFFD] = {.name = "uffd", .mode = DYNVHOST_MEM_MODE_AUTO},
		[FRONT_MMAP] = {.name = "mmap", .mode = DYNVHOST_MEM_MODE_MMAP},
		[FRONT_COARSE] = {.name = "coarse", .granule = 16u << 10},
	};
	const char *parent = getenv("RUNTIME_DIRECTORY");
	char folder[64], path[80];
	unsigned int i;

	snprintf(folder, sizeof(folder), "%.40s/fuzz-XXXXXX", parent != NULL ? parent : "/tmp");
	fuzz_check(mkdtemp(folder) != NULL);
	front_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	front_wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	fuzz_check(front_epoll_fd >= 0 && front_wake_fd >= 0);
	dynvhost_gate_setup();
	dynvhost_notify_setup();
	for (i = 0; i < FRONT_ENGINES; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, mem[i].name);
		front_make(&front_bed[i], &mem[i], path);
		/* Nobody connects there. */
		unlink(path);
	}
	rmdir(folder);
}

/* --- what the front-end has --- */

static int
front_memory(uint64_t size)
{
	int fd = memfd_create("front", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	fuzz_check(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static void
front_open_fds(struct front *front)
{
	int pair[2];
	char path[32];

	front->fd[FRONT_FD_EVENT] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	front->fd[FRONT_FD_MEMORY] = dup(front->ram.file[0].fd);
	front->fd[FRONT_FD_OTHER] = dup(front->ram.file[1].fd);
	front->fd[FRONT_FD_LOG] = front_memory(FRONT_LOG_SIZE);
	front->fd[FRONT_FD_SMALL] = front_memory(100);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", front->ram.file[0].fd);
	front->fd[FRONT_FD_READ_ONLY] = open(path, O_RDONLY | O_CLOEXEC);
	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	front->fd[FRONT_FD_SOCKET] = pair[0];
	front->asker = pair[1];
	fuzz_check(pipe2(pair, O_NONBLOCK | O_CLOEXEC) == 0);
	close(pair[0]);
	front->fd[FRONT_FD_PIPE] = pair[1];
	front->fd[FRONT_FD_FOLDER] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	front->fd[FRONT_FD_ZERO] = open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static void
front_open_memory(struct front *front)
{
	unsigned int i;

	guest_ram_init(&front->ram);
	for (i = 0; i < 2; i++)
		guest_ram_add_file(&front->ram, FRONT_RAM / 2, GUEST_RAM_PAGE);
	for (i = 0; i < FRONT_RAM / FRONT_REGION; i++)
		guest_ram_add_region(&front->ram, i % 2, (uint64_t)(i / 2) * FRONT_REGION,
			(uint64_t)i * FRONT_REGION, FRONT_REGION, 0);
}

struct vu_mem_region
front_region(const struct front *front, uint32_t i)
{
	return fe_region(&front->ram.region[i % front->ram.n_regions]);
}

static uint64_t
front_ring_gpa(uint32_t ring, uint32_t area)
{
	return (uint64_t)(ring * 3 + area) * GUEST_RAM_PAGE;
}

static void
front_forget_rings(struct front *front)
{
	unsigned int i;

	for (i = 0; i < FRONT_RINGS; i++) {
		split_ring_fini(&front->split[i]);
		packed_ring_fini(&front->packed[i]);
	}
}

void
front_lay_rings(struct front *front, bool packed)
{
	uint32_t i;

	front_forget_rings(front);
	for (i = 0; i < FRONT_RINGS; i++) {
		if (packed)
			packed_ring_init(&front->packed[i], &front->ram, FRONT_SIZE,
				front_ring_gpa(i, 0), front_ring_gpa(i, 1), front_ring_gpa(i, 2),
				PACKED_RING_START);
		else
			split_ring_init(&front->split[i], &front->ram, FRONT_SIZE,
				front_ring_gpa(i, 0), front_ring_gpa(i, 1), front_ring_gpa(i, 2),
				0);
	}
}

struct vu_vring_addr
front_ring_addr(const struct front *front, uint32_t ring, bool packed)
{
	return (struct vu_vring_addr){
		.index = ring,
		.desc_uva = GUEST_RAM_UVA_BASE + front_ring_gpa(ring, 0),
		.avail_uva = GUEST_RAM_UVA_BASE + front_ring_gpa(ring, 1),
		.used_uva = GUEST_RAM_UVA_BASE + front_ring_gpa(ring, 2),
		.log_gpa = front_ring_gpa(ring, 2),
	};
}

/* --- the connection --- */

/* Let the back-end finish what it has begun: fds that are being closed, a request in steps. */
static void
front_settle(struct front *front)
{
	static struct dynvhost_session_news news;
	struct dynvhost_backend *backend = front->backend;
	unsigned int looks = 0;

	do {
		backend_look_after(backend, front->now_us);
		(void)dynvhost_session_take_news(&backend->session, &news);
		if (dynvhost_session_is_parked(&backend->session))
			front->now_us += 1000;
		else if (backend->closing_since_us != 0)
			sched_yield();
		fuzz_check(looks++ < FRONT_MAX_LOOKS);
	} while (dynvhost_session_is_parked(&backend->session) || backend->closing_since_us != 0);
}

bool
front_breaks_frame(const struct vu_header *header, uint32_t n_fds)
{
	const uint32_t none = UINT32_MAX;
	/* Bytes of a payload; where it may have several lengths, none. */
	static const struct {
		uint32_t request;
		uint32_t size;
		uint32_t fds; /* at most */
	} frame[] = {
		{VU_GET_FEATURES, 0, 0},
		{VU_SET_FEATURES, 8, 0},
		{VU_SET_OWNER, 0, 0},
		{VU_RESET_OWNER, 0, 0},
		{VU_SET_MEM_TABLE, UINT32_MAX, 8},
		{VU_SET_VRING_NUM, 8, 0},
		{VU_SET_VRING_ADDR, 40, 0},
		{VU_SET_VRING_BASE, 8, 0},
		{VU_GET_VRING_BASE, 8, 0},
		{VU_SET_VRING_KICK, 8, 1},
		{VU_SET_VRING_CALL, 8, 1},
		{VU_SET_VRING_ERR, 8, 1},
		{VU_GET_PROTOCOL_FEATURES, 0, 0},
		{VU_SET_PROTOCOL_FEATURES, 8, 0},
		{VU_GET_QUEUE_NUM, 0, 0},
		{VU_SET_VRING_ENABLE, 8, 0},
		{VU_SEND_RARP, 8, 0},
		{VU_NET_SET_MTU, 8, 0},
		{VU_SET_BACKEND_REQ_FD, 0, 1},
		{VU_RESET_DEVICE, 0, 0},
		{VU_GET_MAX_MEM_SLOTS, 0, 0},
		{VU_ADD_MEM_REG, 40, 1},
		{VU_REM_MEM_REG, 40, 1},
		{VU_SET_STATUS, 8, 0},
		{VU_GET_STATUS, 0, 0},
	};
	unsigned int i;

	if ((header->flags & ~VU_FLAG_NEED_REPLY) != VU_VERSION || header->size > FRONT_MAX_PAYLOAD)
		return true;
	for (i = 0; i < RTE_DIM(frame) && frame[i].request != header->request; i++)
		;
	if (i == RTE_DIM(frame))
		return false;
	return n_fds > frame[i].fds || (frame[i].size != none && header->size != frame[i].size) ||
	       (header->request == VU_SET_MEM_TABLE && header->size != 8 + 32 * n_fds);
}

void
front_serve(struct front *front)
{
	struct dynvhost_backend *backend = front->backend;

	if (backend->conn.fd >= 0)
		backend_conn_event(backend, EPOLLIN, front->now_us);
	front_settle(front);
}

void
front_wait(struct front *front, uint64_t us)
{
	front->now_us += us;
	front_settle(front);
}

void
front_hang_up(struct front *front)
{
	unsigned int looks = 0;

	if (front->fe.sock < 0)
		return;
	front_read(front);
	fe_close(&front->fe);
	/* It may not have read everything yet. */
	while (front->backend->conn.fd >= 0) {
		front->now_us += 1000;
		front_serve(front);
		fuzz_check(looks++ < FRONT_MAX_LOOKS);
	}
	front_settle(front);
}

void
front_connect(struct front *front)
{
	int pair[2];

	front_hang_up(front);
	/* Its budget of requests is for another test. */
	front_wait(front, 1000000);
	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	fe_attach(&front->fe, pair[0]);
	front->sent = 0;
	front->replies = 0;
	front->due = 0;
	front->rambles = false;
	fuzz_check(backend_take_conn(front->backend, pair[1], front->now_us) == 0);
}

void
front_send(struct front *front, const void *bytes, size_t len, const int *fd, uint32_t n_fds)
{
	/* A back-end that has hung up, or one that does not read any more. */
	if (len == 0 || fe_try_send_bytes(&front->fe, bytes, len, fd, n_fds) != 0)
		return;
	front->rambles = true;
	front->sent += 1 + len / sizeof(struct vu_header);
}

/* Replies that a message is due which has not ended the connection. */
static unsigned int
front_count_due(const struct front *front, const struct vu_header *header)
{
	const uint64_t agreed = front->backend->session.protocol_features;
	const bool acked = (header->flags & VU_FLAG_NEED_REPLY) != 0;

	switch (header->request) {
	case VU_GET_FEATURES:
	case VU_GET_PROTOCOL_FEATURES:
	case VU_GET_QUEUE_NUM:
	case VU_GET_VRING_BASE:
	case VU_GET_MAX_MEM_SLOTS:
	case VU_GET_STATUS:
		return 1;
	case VU_SET_LOG_BASE:
		if (agreed >> VU_PF_LOG_SHMFD & 1)
			return 1;
		break;
	case VU_IOTLB_MSG:
		return acked;
	default:
		break;
	}
	return acked && (agreed >> VU_PF_REPLY_ACK & 1);
}

void
front_say_as(struct front *front, const struct vu_header *header, const void *payload, size_t len,
	const int *fd, uint32_t n_fds)
{
	const struct fe_message message = {
		.header = *header,
		.payload = payload,
		.payload_len = len,
		.fd = fd,
		.n_fds = n_fds,
	};
	bool open;

	if (fe_try_send(&front->fe, &message) != 0)
		return;
	front->sent += 1 + len / sizeof(*header);
	front_serve(front);
	open = front->backend->conn.fd >= 0;
	/* All of it has been read, or as much as it takes to see that it is no good. */
	if (!front->rambles && front_breaks_frame(header, n_fds) &&
		(header->size <= len || header->size > FRONT_MAX_PAYLOAD))
		fuzz_check(!open);
	front->rambles |= header->size != len;
	if (!front->rambles && open)
		front->due += front_count_due(front, header);
}

void
front_say(struct front *front, uint32_t request, uint32_t flags, const void *payload, size_t len,
	const int *fd, uint32_t n_fds)
{
	const struct vu_header header = {
		.request = request, .flags = VU_VERSION | flags, .size = (uint32_t)len};

	front_say_as(front, &header, payload, len, fd, n_fds);
}

/* Read and check what the socket holds. */
static void
front_read_socket(struct front *front)
{
	const struct dynvhost_msg_info *info;
	struct fe_reply reply;

	while (fe_try_recv(&front->fe, &reply, 0) == 0) {
		fuzz_check(reply.header.flags == FE_REPLY_FLAGS);
		/* Requests that nobody knows are refused like others. */
		info = dynvhost_msg_info(reply.header.request);
		if (info == NULL || info->reply != DYNVHOST_MSG_BODY)
			fuzz_check(reply.header.size == sizeof(uint64_t));
		fuzz_check(++front->replies <= front->sent);
	}
}

void
front_read(struct front *front)
{
	struct dynvhost_backend *backend = front->backend;

	front_read_socket(front);
	/* What the socket had no room for. */
	while (backend->conn.fd >= 0 && dynvhost_conn_wants_write(&backend->conn)) {
		backend_conn_event(backend, EPOLLOUT, front->now_us);
		front_read_socket(front);
	}
	if (!front->rambles && backend->conn.fd >= 0)
		fuzz_check(front->replies == front->due);
}

/* --- an input's begin and end --- */

static unsigned int front_fds_before;

struct front *
front_open(enum front_engine engine)
{
	struct front *front = &front_bed[engine];

	front_fds_before = mock_count_fds();
	front_open_memory(front);
	front_open_fds(front);
	front_connect(front);
	return front;
}

static void
front_expect_nothing_left(struct front *front)
{
	const struct dynvhost_session *session = &front->backend->session;
	struct dynvhost_mem_stats stats;
	unsigned int i;

	dynvhost_mem_stats_get(front->mem, &stats);
	fuzz_check(stats.loadable_bytes == 0 && stats.storable_bytes == 0);
	fuzz_check(stats.pinned_bytes == 0 && stats.guest_bytes == 0);
	fuzz_check(!session->connected && !session->held && session->view == NULL);
	for (i = 0; i < FRONT_RINGS; i++) {
		fuzz_check(!dynvhost_vq_is_started(&front->vq[i]));
		fuzz_check(session->ring[i].kick_fd < 0 && session->ring[i].call_fd < 0 &&
			   session->ring[i].err_fd < 0);
		fuzz_check(atomic_load(&front->gate[i].hold) == 0);
	}
}

void
front_close(struct front *front)
{
	unsigned int i;

	front_hang_up(front);
	front_expect_nothing_left(front);
	front_forget_rings(front);
	for (i = 0; i < FRONT_FDS; i++)
		close(front->fd[i]);
	close(front->asker);
	guest_ram_fini(&front->ram);
	fuzz_check(mock_count_fds() == front_fds_before);
}
