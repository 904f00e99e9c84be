/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* What a test expects of guest memory, of the dirty log, and of packets. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include "bed.h"
#include "packet.h"

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
bed_thaw(struct bed *bed)
{
	unsigned int i;

	for (i = 0; i < GUEST_RAM_MAX_FILES; i++) {
		free(bed->frozen[i]);
		bed->frozen[i] = NULL;
	}
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

bool
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
