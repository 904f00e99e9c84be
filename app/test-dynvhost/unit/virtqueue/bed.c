/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_net.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_memory.h>

#include "bed.h"
#include "mock.h"
#include "packet.h"

static struct bed bed_main;
static struct rte_mempool *bed_pools[2];

static void
bed_fail(const char *file, int line, const char *text)
{
	print_error("%s\n", text);
	_fail(file, line);
}

int
bed_group_setup(void **state)
{
	static char words[][20] = {"test", "--no-huge", "-m", "64", "--no-pci", "--no-shconf",
		"--no-telemetry", "--log-level=error"};
	char *argv[RTE_DIM(words) + 1] = {NULL};
	unsigned int i;

	mock_fail_hook = bed_fail;
	for (i = 0; i < RTE_DIM(words); i++)
		argv[i] = words[i];
	if (rte_eal_init(RTE_DIM(words), argv) < 0)
		return -1;
	bed_pools[0] = rte_pktmbuf_pool_create(
		"pool", 4095, 32, 0, RTE_PKTMBUF_HEADROOM + BED_ROOM, SOCKET_ID_ANY);
	bed_pools[1] = rte_pktmbuf_pool_create(
		"small", 4095, 32, 0, RTE_PKTMBUF_HEADROOM + BED_SMALL_ROOM, SOCKET_ID_ANY);
	if (bed_pools[0] == NULL || bed_pools[1] == NULL) {
		print_error("no mempools: %s\n", rte_strerror(rte_errno));
		return -1;
	}
	return 0;
}

int
bed_group_teardown(void **state)
{
	return rte_eal_cleanup();
}

struct rte_mempool *
bed_pool(void)
{
	return bed_pools[0];
}

struct rte_mempool *
bed_small_pool(void)
{
	return bed_pools[1];
}

struct dynvhost_mem_view *
bed_build_view(struct bed *bed)
{
	static struct dynvhost_mem_slot slot[GUEST_RAM_MAX_REGIONS];
	struct dynvhost_mem_view *view = NULL;
	unsigned int i;

	for (i = 0; i < bed->ram.n_regions; i++) {
		const struct guest_ram_region *region = &bed->ram.region[i];

		slot[i] = (struct dynvhost_mem_slot){
			.gpa = region->gpa,
			.size = region->size,
			.uva = region->uva,
			.file_offset = region->file_offset,
			.fd = dup(bed->ram.file[region->file].fd),
		};
		assert_true(slot[i].fd >= 0);
	}
	assert_int_equal(
		dynvhost_mem_view_build(bed->mem, bed->view, slot, bed->ram.n_regions, &view), 0);
	return view;
}

void
bed_lay_out_neighbours(struct guest_ram *ram)
{
	guest_ram_init_neighbours(ram, 1 << 20, 1 << 20);
}

static void
bed_open_memory(struct bed *bed)
{
	struct dynvhost_mem_config config = bed->config.mem;

	if (config.name == NULL)
		config.name = "bed";
	if (bed->config.lay_out != NULL) {
		guest_ram_init(&bed->ram);
		bed->config.lay_out(&bed->ram);
	} else {
		guest_ram_init_plain(&bed->ram, BED_RAM);
	}
	assert_int_equal(dynvhost_mem_create(&config, &bed->mem), 0);
	bed->view = bed_build_view(bed);
}

struct bed *
bed_open(const struct bed_config *config)
{
	struct bed *bed = &bed_main;
	unsigned int i;

	assert_null(bed->mem);
	memset(bed, 0, sizeof(*bed));
	bed->config = *config;
	if (config->size == 0)
		bed->config.size = 256;
	for (i = 0; i < RTE_DIM(bed_pools); i++)
		bed->pools_full[i] = rte_mempool_avail_count(bed_pools[i]);
	bed_open_memory(bed);
	bed->buffer = calloc(bed->config.size, sizeof(*bed->buffer));
	assert_non_null(bed->buffer);

	bed->next_gpa = config->buffers_from;

	assert_int_equal(dynvhost_vq_init(&bed->vq, config->index, SOCKET_ID_ANY), 0);
	bed->vq.port_id = BED_PORT_ID;
	bed->setup = (struct dynvhost_vq_setup){
		.view = bed->view,
		.features = config->features | bed_format.features,
		.size = bed->config.size,
		.call_fd = config->calls ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1,
		.enabled = true,
	};
	bed_ring_init(bed);
	bed->log.fd = -1;
	if (config->log)
		bed_start_log(bed, true);
	if (!config->stopped)
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	return bed;
}

static void
bed_thaw(struct bed *bed)
{
	unsigned int i;

	for (i = 0; i < GUEST_RAM_MAX_FILES; i++) {
		free(bed->frozen[i]);
		bed->frozen[i] = NULL;
	}
}

/* Whether all files are as they were frozen and expected since; true when not frozen. */
static bool
bed_memory_matches(const struct bed *bed)
{
	unsigned int i;

	for (i = 0; i < bed->ram.n_files; i++) {
		const struct guest_ram_file *file = &bed->ram.file[i];

		if (bed->frozen[i] != NULL && memcmp(bed->frozen[i], file->base, file->size) != 0)
			return false;
	}
	return true;
}

static void
bed_close(struct bed *bed)
{
	unsigned int i;

	bed_thaw(bed);
	dynvhost_vq_stop(&bed->vq);
	dynvhost_vq_fini(&bed->vq);
	bed_stop_log(bed);
	dynvhost_mem_view_release(bed->view);
	dynvhost_mem_destroy(bed->mem);
	bed->mem = NULL;
	if (bed->setup.call_fd >= 0)
		close(bed->setup.call_fd);
	for (i = 0; i < bed->config.size; i++)
		free(bed->buffer[i].piece);
	free(bed->buffer);
	bed_ring_fini(bed);
	guest_ram_fini(&bed->ram);
}

int
bed_teardown(void **state)
{
	struct bed *bed = &bed_main;
	bool matches;
	unsigned int i;

	if (bed->mem == NULL)
		return 0;
	matches = bed_memory_matches(bed);
	bed_close(bed);
	assert_true(matches);
	for (i = 0; i < RTE_DIM(bed_pools); i++)
		assert_int_equal(rte_mempool_avail_count(bed_pools[i]), bed->pools_full[i]);
	return 0;
}

/* The guest writes to its memory: what was expected until now must have come true. */
static void
bed_guest_writes(struct bed *bed)
{
	if (bed->frozen[0] != NULL)
		bed_expect_memory(bed);
}

/* Bytes that pieces take, gaps apart. */
static uint64_t
bed_sum(const uint32_t *cut, uint16_t n)
{
	uint64_t sum = 0;
	uint16_t i;

	for (i = 0; i < n; i++)
		sum += cut[i];
	return sum;
}

uint64_t
bed_take(struct bed *bed, uint64_t size, uint64_t align)
{
	uint64_t gpa;

	if (bed->config.buffers_to == 0)
		return guest_ram_alloc(&bed->ram, 0, size, align);
	gpa = RTE_ALIGN_CEIL(bed->next_gpa, align);
	assert_true(gpa + size <= bed->config.buffers_to);
	bed->next_gpa = gpa + size;
	return gpa;
}

void
bed_place(struct bed *bed, const uint32_t *cut, uint16_t n, bool writable, struct ring_piece *piece)
{
	static uint8_t filling[PACKET_MAX + 3];
	const uint32_t gap = 3;
	uint16_t i;

	bed_guest_writes(bed);
	memset(filling, 0xa5, sizeof(filling));
	for (i = 0; i < n; i++) {
		uint64_t gpa = bed_take(bed, (uint64_t)cut[i] + gap, 1);
		uint32_t len = RTE_MIN(cut[i] + gap, (uint32_t)sizeof(filling));

		guest_ram_write(&bed->ram, gpa, filling, len);
		piece[i] = (struct ring_piece){.gpa = gpa, .len = cut[i], .writable = writable};
	}
}

/* Make pieces available as one buffer, and remember them by its head. */
static uint16_t
bed_add_at(struct bed *bed, enum bed_shape shape, const struct ring_piece *piece, uint16_t n,
	uint64_t table)
{
	struct bed_buffer *buffer;
	int head;
	uint16_t i;

	bed_guest_writes(bed);
	head = bed_ring_add(bed, shape, piece, n, table);
	assert_in_range(head, 0, bed->config.size - 1);

	buffer = &bed->buffer[head];
	free(buffer->piece);
	buffer->piece = malloc(n * sizeof(*piece));
	assert_non_null(buffer->piece);
	memcpy(buffer->piece, piece, n * sizeof(*piece));
	buffer->n = n;
	buffer->len = 0;
	for (i = 0; i < n; i++)
		buffer->len += piece[i].len;
	return (uint16_t)head;
}

uint16_t
bed_add(struct bed *bed, enum bed_shape shape, const struct ring_piece *piece, uint16_t n)
{
	uint64_t table = 0;

	if (shape == BED_SHAPE_MIXED && n < 2)
		shape = BED_SHAPE_TABLE;
	if (shape != BED_SHAPE_DIRECT)
		table = bed_take(bed, (uint64_t)n * sizeof(struct vring_desc), 4);
	return bed_add_at(bed, shape, piece, n, table);
}

uint16_t
bed_add_table(struct bed *bed, const struct ring_piece *piece, uint16_t n, uint64_t table)
{
	return bed_add_at(bed, BED_SHAPE_TABLE, piece, n, table);
}

uint16_t
bed_send_bytes(
	struct bed *bed, enum bed_shape shape, const uint32_t *cut, uint16_t n, const void *bytes)
{
	static struct ring_piece piece[BED_MAX_CUTS];
	const uint8_t *from = bytes;
	uint16_t i;

	assert_true(n <= BED_MAX_CUTS);
	bed_place(bed, cut, n, false, piece);
	for (i = 0; i < n; i++) {
		guest_ram_write(&bed->ram, piece[i].gpa, from, cut[i]);
		from += cut[i];
	}
	return bed_add(bed, shape, piece, n);
}

uint16_t
bed_send(struct bed *bed, enum bed_shape shape, const uint32_t *cut, uint16_t n, uint32_t seed)
{
	static uint8_t bytes[PACKET_MAX];
	uint64_t len = bed_sum(cut, n);
	uint64_t hdr_len = RTE_MIN((uint64_t)bed->vq.hdr_len, len);

	assert_true(len <= sizeof(bytes));
	memset(bytes, 0xff, hdr_len);
	packet_fill(bytes + hdr_len, (uint32_t)(len - hdr_len), seed);
	return bed_send_bytes(bed, shape, cut, n, bytes);
}

uint16_t
bed_send_plain(struct bed *bed, uint32_t frame_len, uint32_t seed)
{
	uint32_t len = bed->vq.hdr_len + frame_len;

	return bed_send(bed, BED_SHAPE_DIRECT, &len, 1, seed);
}

uint16_t
bed_offer(struct bed *bed, enum bed_shape shape, const uint32_t *cut, uint16_t n)
{
	static struct ring_piece piece[BED_MAX_CUTS];

	assert_true(n <= BED_MAX_CUTS);
	bed_place(bed, cut, n, true, piece);
	return bed_add(bed, shape, piece, n);
}

uint16_t
bed_offer_plain(struct bed *bed, uint32_t len)
{
	return bed_offer(bed, BED_SHAPE_DIRECT, &len, 1);
}

uint32_t
bed_restart(struct bed *bed)
{
	const uint32_t position = dynvhost_vq_stop(&bed->vq);

	if (bed_format.packed)
		bed->setup.base = position;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
	return position;
}

uint16_t
bed_dequeue(struct bed *bed, struct rte_mempool *pool, uint16_t n)
{
	uint16_t got;

	assert_true(n <= BED_MAX_BURST);
	memset(bed->pkts, 0, sizeof(bed->pkts));
	got = bed->vq.dequeue(&bed->vq, pool, bed->pkts, n);
	assert_true(got <= n);
	return got;
}

void
bed_pass(struct bed *bed, uint16_t n)
{
	struct ring_used used;
	uint16_t i;

	for (i = 0; i < n; i++)
		bed_send_plain(bed, 60, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), n), n);
	for (i = 0; i < n; i++) {
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
		assert_true(bed_collect(bed, &used));
	}
}

struct rte_mbuf *
bed_packet(struct rte_mempool *pool, uint32_t len, uint32_t seg_len, uint32_t seed)
{
	static uint8_t bytes[PACKET_MAX];
	struct rte_mbuf *pkt = NULL;
	struct rte_mbuf *last = NULL;
	uint32_t done = 0;

	assert_true(len <= sizeof(bytes));
	packet_fill(bytes, len, seed);
	do {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		uint32_t part = RTE_MIN(seg_len == 0 ? len : seg_len, len - done);

		assert_non_null(m);
		assert_true(part <= rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod(m, void *), bytes + done, part);
		m->data_len = (uint16_t)part;
		m->pkt_len = part;
		done += part;
		if (pkt == NULL) {
			pkt = m;
		} else {
			last->next = m;
			pkt->nb_segs++;
			pkt->pkt_len += part;
		}
		last = m;
	} while (done < len);
	return pkt;
}

uint16_t
bed_enqueue(struct bed *bed, struct rte_mbuf *pkt)
{
	uint16_t sent = bed->vq.enqueue(&bed->vq, &pkt, 1);

	if (sent == 0)
		rte_pktmbuf_free(pkt);
	return sent;
}

/* Apply xor to the states of the pages that hold [gpa, gpa + len). */
static void
bed_flip_state(
	struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right, uint8_t bits)
{
	const struct dynvhost_mem_region *region = NULL;
	uint64_t page, last;
	uint32_t i;

	for (i = 0; i < bed->view->n_regions; i++) {
		if (gpa - bed->view->region[i]->gpa < bed->view->region[i]->size)
			region = bed->view->region[i];
	}
	assert_non_null(region);
	page = (gpa - region->gpa + region->phase) >> region->page_shift;
	last = (gpa - region->gpa + region->phase + len - 1) >> region->page_shift;
	for (; page <= last; page++)
		atomic_fetch_xor(&region->window[right].state[page], bits);
}

void
bed_block(struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right)
{
	bed_flip_state(bed, gpa, len, right, DYNVHOST_MEM_BUSY);
}

void
bed_unblock(struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right)
{
	bed_flip_state(bed, gpa, len, right, DYNVHOST_MEM_BUSY);
}

void
bed_age_stall(struct bed *bed)
{
	assert_int_not_equal(bed->vq.stall_since, 0);
	bed->vq.stall_since -= rte_get_tsc_hz() / 1000 * (DYNVHOST_VQ_STALL_MS + 1);
}

void
bed_start_log(struct bed *bed, bool ring)
{
	struct bed_log *log = &bed->log;

	bed_stop_log(bed);
	log->fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(log->fd >= 0 && ftruncate(log->fd, BED_LOG_SIZE) == 0);
	log->bits = mmap(NULL, BED_LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
	assert_true(log->bits != MAP_FAILED);
	assert_int_equal(dynvhost_mem_log_map(bed->mem, log->fd, 0, BED_LOG_SIZE, &log->log), 0);
	bed->setup.log = (struct dynvhost_vq_log){
		.log = log->log, .ring = ring, .used_gpa = BED_LOG_USED};
	if (dynvhost_vq_is_started(&bed->vq))
		dynvhost_vq_set_log(&bed->vq, &bed->setup.log);
	bed_clear_log(bed);
}

void
bed_stop_log(struct bed *bed)
{
	struct bed_log *log = &bed->log;

	if (log->fd < 0)
		return;
	bed->setup.log = (struct dynvhost_vq_log){.log = NULL};
	if (dynvhost_vq_is_started(&bed->vq))
		dynvhost_vq_set_log(&bed->vq, &bed->setup.log);
	dynvhost_mem_log_unmap(log->log);
	munmap((void *)log->bits, BED_LOG_SIZE);
	close(log->fd);
	log->fd = -1;
}

void
bed_clear_log(struct bed *bed)
{
	if (bed->log.fd < 0)
		return;
	memset((void *)bed->log.bits, 0, BED_LOG_SIZE);
	memset(bed->log.expected, 0, BED_LOG_SIZE);
}

void
bed_expect_logged(struct bed *bed, uint64_t gpa, uint64_t len)
{
	uint64_t page;

	if (bed->log.fd < 0 || len == 0)
		return;
	for (page = gpa / 4096; page <= (gpa + len - 1) / 4096; page++) {
		assert_true(page < BED_LOG_SIZE * 8);
		bed->log.expected[page / 8] |= (uint8_t)(1u << (page % 8));
	}
}

void
bed_expect_log(const struct bed *bed)
{
	if (bed->log.fd >= 0)
		assert_memory_equal((void *)bed->log.bits, bed->log.expected, BED_LOG_SIZE);
}

/* Expect that writing guest memory has been logged, as the rules of the area are. */
static void
bed_expect_write_logged(struct bed *bed, uint64_t gpa, uint64_t len)
{
	if (bed->log.in_ring && !bed->setup.log.ring)
		return;
	/* The front-end may want the used area logged elsewhere. */
	if (bed->log.in_ring && !bed_format.packed)
		gpa = gpa - bed->setup.used_gpa + BED_LOG_USED;
	bed_expect_logged(bed, gpa, len);
}

void
bed_freeze(struct bed *bed)
{
	unsigned int i;

	bed_thaw(bed);
	bed_clear_log(bed);
	for (i = 0; i < bed->ram.n_files; i++) {
		bed->frozen[i] = malloc(bed->ram.file[i].size);
		assert_non_null(bed->frozen[i]);
		memcpy(bed->frozen[i], bed->ram.file[i].base, bed->ram.file[i].size);
	}
}

void
bed_write_frozen(struct bed *bed, uint64_t gpa, const void *bytes, uint64_t len)
{
	const uint8_t *from = bytes;
	uint64_t i;

	bed_expect_write_logged(bed, gpa, len);
	for (i = 0; i < len; i++) {
		const struct guest_ram_region *region = guest_ram_find(&bed->ram, gpa + i, 1);

		assert_non_null(region);
		bed->frozen[region->file][region->file_offset + gpa + i - region->gpa] = from[i];
	}
}

void
bed_expect_used(struct bed *bed, uint16_t head, uint32_t len)
{
	struct ring_used used;

	bed->log.in_ring = true;
	if (bed->frozen[0] != NULL)
		bed_ring_freeze_used(bed, head, len);
	bed->log.in_ring = false;
	if (!bed_collect(bed, &used))
		fail_msg("head %u was not returned", head);
	assert_int_equal(used.id, head);
	assert_int_equal(used.len, len);
}

void
bed_expect_no_used(struct bed *bed)
{
	assert_false(bed_has_used(bed));
}

void
bed_expect_written(struct bed *bed, uint16_t head, uint64_t offset, const void *bytes, uint64_t len)
{
	const struct bed_buffer *buffer = &bed->buffer[head];
	const uint8_t *from = bytes;
	uint16_t i;

	assert_true(offset <= buffer->len && len <= buffer->len - offset);
	for (i = 0; len > 0; i++) {
		const struct ring_piece *piece = &buffer->piece[i];
		uint64_t part;

		if (offset >= piece->len) {
			offset -= piece->len;
			continue;
		}
		part = RTE_MIN(len, piece->len - offset);
		bed_write_frozen(bed, piece->gpa + offset, from, part);
		from += part;
		len -= part;
		offset = 0;
	}
}

void
bed_expect_delivered(
	struct bed *bed, uint32_t frame_len, uint32_t seed, const uint16_t *head, uint16_t n)
{
	static uint8_t bytes[BED_HDR_LEN + PACKET_MAX];
	uint64_t len = (uint64_t)bed->vq.hdr_len + frame_len;
	uint64_t done = 0;
	uint16_t i;

	memset(bytes, 0, bed->vq.hdr_len);
	if (bed->vq.hdr_len > offsetof(struct virtio_net_hdr_v1, num_buffers))
		memcpy(bytes + offsetof(struct virtio_net_hdr_v1, num_buffers), &n, sizeof(n));
	packet_fill(bytes + bed->vq.hdr_len, frame_len, seed);
	for (i = 0; i < n; i++) {
		uint64_t part = RTE_MIN(len - done, bed->buffer[head[i]].len);

		bed_expect_written(bed, head[i], 0, bytes + done, part);
		bed_expect_used(bed, head[i], (uint32_t)part);
		done += part;
	}
	assert_int_equal(done, len);
}

void
bed_expect_memory(struct bed *bed)
{
	assert_non_null(bed->frozen[0]);
	bed_expect_no_used(bed);
	assert_true(bed_memory_matches(bed));
	bed_expect_log(bed);
	bed_thaw(bed);
}

void
bed_expect_packet(struct rte_mbuf *pkt, uint32_t len, uint32_t seed, uint32_t room)
{
	static uint8_t bytes[PACKET_MAX];
	uint32_t done = 0;
	uint16_t n_segs = 0;
	struct rte_mbuf *m;

	assert_non_null(pkt);
	assert_int_equal(pkt->pkt_len, len);
	assert_int_equal(pkt->port, BED_PORT_ID);
	assert_int_equal(pkt->ol_flags, 0);
	for (m = pkt; m != NULL; m = m->next) {
		assert_int_equal(m->data_off, RTE_PKTMBUF_HEADROOM);
		assert_int_equal(m->data_len, RTE_MIN(room, len - done));
		memcpy(bytes + done, rte_pktmbuf_mtod(m, void *), m->data_len);
		done += m->data_len;
		n_segs++;
	}
	assert_int_equal(done, len);
	assert_int_equal(pkt->nb_segs, n_segs);
	assert_int_equal(n_segs, (len + room - 1) / room);
	assert_true(packet_matches(bytes, len, seed));
	rte_pktmbuf_free(pkt);
}

void
bed_expect_stats(const struct bed *bed, struct dynvhost_vq_stats expected)
{
	const struct dynvhost_vq_stats *stats = &bed->vq.stats;

	assert_int_equal(stats->packets, expected.packets);
	assert_int_equal(stats->bytes, expected.bytes);
	assert_int_equal(stats->dropped, expected.dropped);
	assert_int_equal(stats->no_mbuf, expected.no_mbuf);
	assert_int_equal(stats->stalled, expected.stalled);
	assert_int_equal(stats->discarded, expected.discarded);
	assert_int_equal(stats->bad_chains, expected.bad_chains);
	assert_int_equal(stats->calls, expected.calls);
	assert_int_equal(stats->calls_suppressed, expected.calls_suppressed);
	assert_memory_equal(stats, &expected, sizeof(expected));
}

void
bed_expect_broken(struct bed *bed, enum dynvhost_vq_fault fault)
{
	struct rte_mbuf *pkt = bed_packet(bed_pool(), 60, 0, 0);

	assert_int_equal(bed->vq.fault, fault);
	assert_int_equal(dynvhost_vq_pending(&bed->vq), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 0);
	assert_int_equal(bed_enqueue(bed, pkt), 0);
	bed_expect_no_used(bed);
}

struct dynvhost_mem_stats
bed_mem_stats(const struct bed *bed)
{
	struct dynvhost_mem_stats stats;

	dynvhost_mem_stats_get(bed->mem, &stats);
	return stats;
}

uint64_t
bed_calls(struct bed *bed)
{
	uint64_t calls = 0;

	if (read(bed->setup.call_fd, &calls, sizeof(calls)) != sizeof(calls))
		return 0;
	return calls;
}
