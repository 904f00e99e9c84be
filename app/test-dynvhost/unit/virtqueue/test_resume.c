/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A packed ring whose last back-end has died: the base is that of some earlier start, and the
 * descriptors say where to go on. Never is a buffer taken that is not the device's.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bed_step.h"
#include "packed_resume.h"
#include "packet.h"

/** The base of a new ring, which is what a front-end still says of an old one. */
#define FRESH 0x80008000u
#define BITS  (PACKED_RING_AVAIL | PACKED_RING_USED)

static const uint16_t sizes[] = {1, 3, 7, 64, 256};

static struct bed *
open_bed(uint16_t index, uint16_t size)
{
	return bed_open(&(struct bed_config){
		.index = index,
		.features = BED_V1 | BED_INDIRECT,
		.size = size,
	});
}

/* The back-end is gone; the next one is told @p base. @return of its start. */
static int
die_and_start(struct bed *bed, uint32_t base)
{
	dynvhost_vq_stop(&bed->vq);
	bed->setup.base = base;
	return dynvhost_vq_start(&bed->vq, &bed->setup);
}

/* Offer packets in chains of 1 to 3 slots until there is no room. @return slots taken. */
static uint32_t
send_some(struct bed *bed, uint32_t *sent)
{
	static const uint32_t cut[3] = {40, 20, 20};
	uint32_t slots = 0;
	uint16_t n;

	for (;;) {
		n = (uint16_t)(1 + *sent % 3);
		if (bed->config.size < 3)
			n = 1;
		if (bed_room(bed) < n)
			return slots;
		bed_send(bed, BED_SHAPE_DIRECT, cut, n, (*sent)++);
		slots += n;
	}
}

/* Take up to @p n packets and check that they are those from number @p got on. @return how many. */
static uint16_t
take_some(struct bed *bed, uint16_t n, uint32_t got)
{
	uint16_t k;

	n = bed_dequeue(bed, bed_pool(), n);
	for (k = 0; k < n; k++) {
		uint32_t pieces = bed->config.size < 3 ? 1 : 1 + (got + k) % 3;

		bed_expect_packet(bed->pkts[k], 28 + 20 * (pieces - 1), got + k, BED_ROOM);
	}
	return n;
}

static void
stale_base_does_not_matter(void **state)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(sizes); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, sizes[i]);
		uint32_t sent = 0, got = 0;

		while (got < 2000) {
			struct ring_used used;
			uint16_t n = 0;

			send_some(bed, &sent);
			n = take_some(bed, (uint16_t)(1 + got % 5), got);
			got += n;
			/* What was given back is seen by the driver before the death or after it. */
			while (got % 2 == 0 && bed_collect(bed, &used))
				n--;
			assert_int_equal(die_and_start(bed, FRESH), 0);
			while (bed_collect(bed, &used))
				n--;
			assert_int_equal(n, 0);
		}
		bed_teardown(NULL);
	}
}

static void
receive_ring_full_of_buffers_is_found(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, 64);
	struct ring_used used;
	uint32_t i;

	for (i = 0; i < 500; i++) {
		while (bed_room(bed) > 0)
			bed_offer_plain(bed, 2048);
		assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), 60, 0, i)), 1);
		/* Any base that the ring has passed; twice around it looks as if it lay ahead. */
		assert_int_equal(die_and_start(bed, i % 3 == 0 ? FRESH : bed_base(bed, i / 2)), 0);
		assert_true(bed_collect(bed, &used));
		assert_int_equal(used.len, BED_HDR_LEN + 60);
		assert_false(bed_has_used(bed));
	}
}

/* As a burst of @p n packets leaves the ring if it dies just before it publishes them. */
static void
unpublish(struct bed *bed, uint16_t first)
{
	uint16_t *flags = &bed->packed.desc[first & 0x7fff].flags;

	*flags = first & 0x8000 ? PACKED_RING_AVAIL : PACKED_RING_USED;
}

static void
burst_that_was_cut_off_is_published(void **state)
{
	unsigned int i;

	for (i = 1; i < RTE_DIM(sizes); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, sizes[i]);
		uint32_t sent = 0, got = 0;

		while (got < 1000) {
			struct ring_used used;
			uint16_t first = bed->packed.used_pos;
			uint16_t n;

			send_some(bed, &sent);
			n = take_some(bed, (uint16_t)(2 + got % 7), got);
			got += n;
			/* One slot alone is as if the burst had not begun: it is taken again. */
			if (n > 1 || bed->config.size > 3) {
				uint16_t slots =
					bed->packed.id_slots[bed->packed.desc[first & 0x7fff].id];

				if (n > 1 || slots > 1)
					unpublish(bed, first);
			}
			assert_int_equal(die_and_start(bed, FRESH), 0);
			while (bed_collect(bed, &used)) {
				assert_int_equal(used.len, 0);
				n--;
			}
			assert_int_equal(n, 0);
		}
		bed_teardown(NULL);
	}
}

static void
burst_of_one_that_was_cut_off_is_done_again(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 7);
	uint16_t first = bed->packed.used_pos;

	bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){72}, 1, 5);
	bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){72}, 1, 6);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
	bed_expect_packet(bed->pkts[0], 60, 5, BED_ROOM);
	/* Died after the copy: neither id nor length had been written, nor the flags. */
	bed->packed.desc[first & 0x7fff].len = 72;
	unpublish(bed, first);
	assert_int_equal(die_and_start(bed, FRESH), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 2);
	bed_expect_packet(bed->pkts[0], 60, 5, BED_ROOM);
	bed_expect_packet(bed->pkts[1], 60, 6, BED_ROOM);
	bed_expect_used(bed, 0, 0);
	bed_expect_used(bed, 1, 0);
}

static void
burst_that_is_published_late_is_logged(void **state)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_DEQUEUE, .features = BED_V1, .size = 16, .log = true});
	uint16_t first = bed->packed.used_pos;
	struct ring_used used;
	uint32_t sent = 0;

	send_some(bed, &sent);
	assert_int_equal(take_some(bed, 3, 0), 3);
	unpublish(bed, first);
	/* The second time it has been published, but perhaps not logged. */
	for (unsigned int i = 0; i < 2; i++) {
		memset((void *)bed->log.bits, 0, BED_LOG_SIZE);
		assert_int_equal(die_and_start(bed, FRESH), 0);
		bed_expect_logged(bed, bed->packed.desc_gpa, 16 * sizeof(struct vring_packed_desc));
		bed_expect_logged(bed, BED_LOG_USED, 4);
		bed_expect_log(bed);
	}
	while (bed_collect(bed, &used))
		;
}

static void
ring_that_does_not_tell_is_refused_and_left_alone(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 16);
	struct ring_used used;
	uint32_t sent = 0;

	send_some(bed, &sent);
	assert_int_equal(take_some(bed, 5, 0), 5);
	while (bed_collect(bed, &used))
		;
	/* Two holes: no burst of ours leaves them. */
	bed->packed.desc[1].flags ^= PACKED_RING_USED;
	bed->packed.desc[3].flags ^= PACKED_RING_USED;
	dynvhost_vq_stop(&bed->vq);
	bed_freeze(bed);
	bed->setup.base = FRESH;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -ENOTRECOVERABLE);
	assert_false(dynvhost_vq_is_started(&bed->vq));
	bed_expect_memory(bed);

	/* Slots of more than two rounds. */
	bed->packed.desc[1].flags ^= PACKED_RING_USED;
	bed->packed.desc[3].flags ^= PACKED_RING_USED;
	bed->packed.desc[1].flags ^= BITS;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -ENOTRECOVERABLE);

	/* A reset of the guest's device revives it. */
	bed_reset(bed, 0);
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	bed_send_plain(bed, 60, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 1, BED_ROOM);
}

static void
ring_without_our_mark_is_where_the_front_end_says(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 16);

	dynvhost_vq_stop(&bed->vq);
	bed_unmark(bed);
	bed->setup.base = 0x00050005;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(dynvhost_vq_stop(&bed->vq), 0x00050005);
}

/* Other back-ends leave the rest of a chain as it was; their front-end knows where they stopped. */
static void
rest_of_a_chain_that_another_back_end_used_is_no_buffer(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 16);
	struct ring_used used;
	uint16_t i;

	bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){40, 20, 20}, 3, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 68, 1, BED_ROOM);
	for (i = 1; i < 3; i++)
		bed->packed.desc[i].flags ^= PACKED_RING_USED;
	bed_send_plain(bed, 60, 2);
	assert_int_equal(die_and_start(bed, bed_base(bed, 3)), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 2, BED_ROOM);
	assert_true(bed_collect(bed, &used));
	assert_true(bed_collect(bed, &used));
	assert_false(bed_has_used(bed));

	/* Nor is it for the one that comes after us. */
	bed_send_plain(bed, 60, 3);
	assert_int_equal(die_and_start(bed, FRESH), 0);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], 60, 3, BED_ROOM);
	bed_expect_used(bed, used.id, 0);
}

/* Ids come again: the slots from the last used one up to the base may look like its rest by that. */
static void
buffers_that_are_not_linked_are_no_rest_of_a_chain(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 16);
	struct vring_packed_desc *desc = bed->packed.desc;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		bed_send_plain(bed, 60, 2 * i);
		bed_send_plain(bed, 60, 2 * i + 1);
		if (i == 1) {
			desc[2].id = desc[0].id;
			desc[3].id = desc[1].id;
			assert_int_equal(die_and_start(bed, bed_base(bed, 4)), 0);
		}
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 2);
		bed_expect_packet(bed->pkts[0], 60, 2 * i, BED_ROOM);
		bed_expect_packet(bed->pkts[1], 60, 2 * i + 1, BED_ROOM);
		while (bed_collect(bed, &(struct ring_used){0}))
			;
	}
}

/* Packets number 0 to n - 1, in chains of 1 to 3 slots. @return slots taken. */
static uint16_t
slots_of(uint32_t n)
{
	return (uint16_t)(n / 3 * 6 + (n % 3 == 2 ? 3 : n % 3));
}

/*
 * As QEMU does without a back-end: give a buffer back unsent, by its first slot alone. It takes the id
 * from there, where drivers have it too; the one of these tests has it in the last slot alone.
 */
static void
drop(struct bed *bed, uint16_t slot, uint16_t slots)
{
	struct vring_packed_desc *desc = bed->packed.desc;

	desc[slot].id = desc[slot + slots - 1].id;
	desc[slot].len = 0;
	desc[slot].flags = desc[slot].flags & PACKED_RING_AVAIL ? BITS : 0;
}

/* As a back-end leaves a chain that dies while it gives it back. */
static void
cut_off(struct bed *bed, uint16_t slot, uint16_t slots)
{
	struct vring_packed_desc *desc = bed->packed.desc;
	struct vring_packed_desc *last = &desc[(slot + slots - 1) % bed->config.size];

	desc[slot].id = last->id;
	last->flags = last->flags & PACKED_RING_AVAIL ? BITS : 0;
}

/*
 * The front-end knows the ring's beginning, and drops so many buffers there while @p left before
 * them have not been given back; of those the last one was being @p cut.
 */
static void
drop_and_resume(uint32_t left, uint32_t dropped, bool cut)
{
	const uint16_t size = 32;
	const uint32_t all = left + dropped + 3;
	struct bed *bed = open_bed(BED_DEQUEUE, size);
	struct ring_used used;
	uint32_t sent, k;

	for (k = 0; k < (uint32_t)size - slots_of(left); k++) {
		bed_send_plain(bed, 60, k);
		assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
		bed_expect_packet(bed->pkts[0], 60, k, BED_ROOM);
		assert_true(bed_collect(bed, &used));
	}
	for (sent = 0; sent < all; sent++)
		bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){40, 20, 20}, (uint16_t)(1 + sent % 3),
			sent);
	if (cut && left % 3 != 1)
		cut_off(bed, (uint16_t)(size - (left - 1) % 3 - 1), (uint16_t)(1 + (left - 1) % 3));
	for (k = left; k < left + dropped; k++)
		drop(bed, (uint16_t)(slots_of(k) - slots_of(left)), (uint16_t)(1 + k % 3));
	k = size + slots_of(left + dropped) - slots_of(left);
	assert_int_equal(die_and_start(bed, bed_base(bed, k)), 0);
	assert_int_equal(take_some(bed, 32, left + dropped), 3);
	for (k = 0; k < all; k++) {
		assert_true(bed_collect(bed, &used));
		assert_int_equal(used.len, 0);
	}
	assert_false(bed_has_used(bed));
	bed_teardown(NULL);
}

static void
what_the_front_end_drops_holds_up_nothing(void **state)
{
	uint32_t left, dropped;

	for (left = 0; left <= 6; left++) {
		for (dropped = 1; dropped <= 4; dropped++) {
			drop_and_resume(left, dropped, false);
			drop_and_resume(left, dropped, left > 0);
		}
	}
}

static void
buffers_to_be_written_are_not_given_back_unwritten(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE, 16);
	unsigned int i;

	for (i = 0; i < 8; i++)
		bed_offer_plain(bed, 2048);
	drop(bed, 3, 1);
	dynvhost_vq_stop(&bed->vq);
	bed_freeze(bed);
	bed->setup.base = bed_base(bed, 4);
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), -ENOTRECOVERABLE);
	bed_expect_memory(bed);
}

/** A guest that sends a chain while the back-end looks at its ring: first its rest, then its head. */
static struct sender {
	struct bed *bed;
	struct ring_piece piece[3];
	unsigned int steps, begins, ends;
	int started;
} sender;

#define SENDER_TAKES 300u     /**< instructions of the back-end */
#define SENDER_LATE  1000000u /**< more than it needs to start */

static void
sender_look(void)
{
	struct sender *s = &sender;

	s->steps++;
	if (s->steps == s->begins)
		packed_ring_add(&s->bed->packed, s->piece, 3);
	if (s->steps == s->ends)
		packed_ring_publish(&s->bed->packed);
}

static void
start(struct bed *bed)
{
	sender.started = dynvhost_vq_start(&bed->vq, &bed->setup);
}

/* The guest begins after so many instructions. @return how many the back-end has needed. */
static unsigned int
start_while_sending(unsigned int begins)
{
	struct bed *bed = open_bed(BED_DEQUEUE, 16);
	uint32_t sent = 0, got;
	unsigned int steps;
	uint8_t frame[68];

	send_some(bed, &sent);
	got = take_some(bed, 5, 0);
	while (bed_collect(bed, &(struct ring_used){0}))
		;
	sender = (struct sender){.bed = bed, .begins = begins, .ends = begins + SENDER_TAKES};
	packet_fill(frame, sizeof(frame), sent);
	bed_place(bed, (uint32_t[]){BED_HDR_LEN, 28, 40}, 3, false, sender.piece);
	guest_ram_write(&bed->ram, sender.piece[1].gpa, frame, 28);
	guest_ram_write(&bed->ram, sender.piece[2].gpa, frame + 28, 40);

	dynvhost_vq_stop(&bed->vq);
	bed->setup.base = FRESH;
	bed_step(bed, start, sender_look);
	assert_int_equal(sender.started, 0);
	steps = sender.steps;
	while (sender.steps < sender.ends)
		sender_look();

	got += take_some(bed, (uint16_t)(sent - got), got);
	assert_int_equal(got, sent);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
	bed_expect_packet(bed->pkts[0], sizeof(frame), sent, BED_ROOM);
	while (bed_collect(bed, &(struct ring_used){0}))
		;
	assert_int_equal(bed_room(bed), 16);
	bed_teardown(NULL);
	return steps;
}

static void
guest_may_send_while_its_ring_is_looked_at(void **state)
{
	const unsigned int all = start_while_sending(SENDER_LATE);
	unsigned int begins;

	for (begins = 1; begins < all; begins += 17)
		start_while_sending(begins);
}

/* Whatever the descriptors say, the position is one of the ring. */
static void
any_descriptors_are_survived(void **state)
{
	unsigned int i, k, good = 0;

	srand(1);
	for (i = 0; i < RTE_DIM(sizes); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, sizes[i]);

		for (k = 0; k < 2000; k++) {
			uint16_t slot;
			int ret;

			for (slot = 0; slot < sizes[i]; slot++)
				bed->packed.desc[slot].flags = (uint16_t)rand();
			ret = die_and_start(bed, (uint32_t)rand() % sizes[i]);
			if (ret == 0) {
				bed_expect_position(bed);
				good++;
			} else {
				assert_int_equal(ret, -ENOTRECOVERABLE);
				bed_unmark(bed);
				assert_int_equal(die_and_start(bed, FRESH), 0);
			}
		}
		bed_teardown(NULL);
	}
	assert_in_range(good, 1000, 9000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(stale_base_does_not_matter),
		BED_TEST(receive_ring_full_of_buffers_is_found),
		BED_TEST(burst_that_was_cut_off_is_published),
		BED_TEST(burst_of_one_that_was_cut_off_is_done_again),
		BED_TEST(burst_that_is_published_late_is_logged),
		BED_TEST(ring_that_does_not_tell_is_refused_and_left_alone),
		BED_TEST(ring_without_our_mark_is_where_the_front_end_says),
		BED_TEST(rest_of_a_chain_that_another_back_end_used_is_no_buffer),
		BED_TEST(buffers_that_are_not_linked_are_no_rest_of_a_chain),
		BED_TEST(what_the_front_end_drops_holds_up_nothing),
		BED_TEST(buffers_to_be_written_are_not_given_back_unwritten),
		BED_TEST(guest_may_send_while_its_ring_is_looked_at),
		BED_TEST(any_descriptors_are_survived),
	};

	return bed_run(tests);
}
