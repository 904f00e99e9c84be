/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* The guest of a bed: it lays out buffers and makes them available. */

#include <stdlib.h>
#include <string.h>

#include "bed.h"
#include "packet.h"

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
