/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * When bits are set in the dirty log. Bursts are carried out one instruction at a time, and between
 * any two of them a front-end may take what is in the log and copy the pages it stands for, as one
 * does that migrates the guest meanwhile. In the end it has all that the virtqueue has written,
 * whenever it has looked: it is tried with one that looks each time, so that no bit lasts which is
 * set before its bytes are written. And whoever sees that buffers were used finds the bits of all
 * that was written up to then: it is tried with one that looks at that moment for the first time.
 */

#include <stdlib.h>
#include <string.h>

#include "bed.h"
#include "bed_step.h"
#include "mock.h"

#define PAGE       4096u
#define FRAME      100u
#define LONG_FRAME 1900u
#define BUFFER     700u
#define PACKETS    4

enum order_looks {
	ORDER_ALWAYS,
	ORDER_WHEN_USED, /**< at the first moment when the driver sees a used buffer */
	ORDER_LOOKS
};

/** The front-end, and the guest's memory as it has copied it. */
static struct order {
	struct bed *bed;
	enum order_looks looks;
	uint8_t *copy;
	bool used;     /**< it has seen a used buffer */
	bool complete; /**< and all that was written with it */
} order;

static uint8_t *
order_memory(void)
{
	return guest_ram_at(&order.bed->ram, 0, BED_RAM);
}

static uint64_t
order_used_len(void)
{
	return bed_format.packed ? sizeof(struct vring_packed_desc_event)
				 : split_ring_used_bytes(order.bed->config.size);
}

/* The used area is logged where the front-end has asked for it, which is not where it lies. */
static void
order_copy_used(uint64_t gpa)
{
	const uint64_t first = RTE_MAX(gpa, BED_LOG_USED);
	const uint64_t end = RTE_MIN(gpa + PAGE, BED_LOG_USED + order_used_len());
	uint64_t at;

	if (first >= end)
		return;
	at = order.bed->setup.used_gpa + first - BED_LOG_USED;
	memcpy(order.copy + at, order_memory() + at, end - first);
}

static void
order_copy(uint64_t page)
{
	const uint64_t gpa = page * PAGE;

	if (gpa < BED_RAM)
		memcpy(order.copy + gpa, order_memory() + gpa, PAGE);
	else
		order_copy_used(gpa);
}

static void
order_take(void)
{
	_Atomic uint64_t *bits = order.bed->log.bits;
	unsigned int i;

	for (i = 0; i < BED_LOG_SIZE / sizeof(*bits); i++) {
		uint64_t word = bits[i] == 0 ? 0 : atomic_exchange(&bits[i], 0);

		for (; word != 0; word &= word - 1)
			order_copy(i * 64ull + (uint64_t)__builtin_ctzll(word));
	}
}

static bool
order_is_complete(void)
{
	return memcmp(order.copy, order_memory(), BED_RAM) == 0;
}

static void
order_look(void)
{
	if (order.looks == ORDER_ALWAYS) {
		order_take();
	} else if (!order.used && bed_has_used(order.bed)) {
		order.used = true;
		order_take();
		order.complete = order_is_complete();
	}
}

/* Have a front-end look on while something moves that gives @p buffers back to the driver. */
static void
order_watch(struct bed *bed, enum order_looks looks, void (*move)(struct bed *bed),
	unsigned int buffers)
{
	struct ring_used used;

	order = (struct order){.bed = bed, .looks = looks, .copy = malloc(BED_RAM)};
	mock_check(order.copy != NULL);
	memcpy(order.copy, order_memory(), BED_RAM);
	bed_clear_log(bed);

	bed_step(bed, move, order_look);
	assert_int_equal(order.used, looks == ORDER_WHEN_USED && buffers > 0);
	assert_int_equal(order.complete, order.used);
	order_take();
	assert_true(order_is_complete());
	free(order.copy);

	for (; buffers > 0; buffers--)
		assert_true(bed_collect(bed, &used));
	assert_false(bed_has_used(bed));
	bed_clear_log(bed);
}

/* The burst begins shortly before the end of the ring, which has its pages for itself. */
static struct bed *
open_bed(uint16_t index, uint64_t features)
{
	struct bed *bed = bed_open(&(struct bed_config){.index = index,
		.features = BED_V1 | features,
		.size = 256,
		.start = 253,
		.log = true});

	bed_take(bed, PAGE, PAGE);
	return bed;
}

static struct rte_mbuf *order_pkts[PACKETS];

static void
enqueue(struct bed *bed)
{
	if (bed->vq.enqueue(&bed->vq, order_pkts, PACKETS) != PACKETS)
		mock_check(false);
}

static void
packets_for_the_guest(void **state)
{
	const unsigned int per_packet = (BED_HDR_LEN + LONG_FRAME + BUFFER - 1) / BUFFER;
	enum order_looks looks;
	unsigned int i;

	for (looks = 0; looks < ORDER_LOOKS; looks++) {
		struct bed *bed = open_bed(BED_ENQUEUE, BED_MRG);

		for (i = 0; i < PACKETS * per_packet; i++)
			bed_offer_plain(bed, BUFFER);
		for (i = 0; i < PACKETS; i++)
			order_pkts[i] = bed_packet(bed_pool(), LONG_FRAME, 0, i);
		order_watch(bed, looks, enqueue, PACKETS * per_packet);
		bed_teardown(NULL);
	}
}

static void
dequeue(struct bed *bed)
{
	bed_dequeue(bed, bed_pool(), BED_MAX_BURST);
}

static void
packets_from_the_guest(void **state)
{
	enum order_looks looks;
	unsigned int i;

	for (looks = 0; looks < ORDER_LOOKS; looks++) {
		struct bed *bed = open_bed(BED_DEQUEUE, 0);

		for (i = 0; i < PACKETS; i++)
			bed_send_plain(bed, FRAME, i);
		order_watch(bed, looks, dequeue, PACKETS);
		for (i = 0; i < PACKETS; i++)
			rte_pktmbuf_free(bed->pkts[i]);
		bed_teardown(NULL);
	}
}

static void
packets_from_a_disabled_ring(void **state)
{
	enum order_looks looks;
	unsigned int i;

	for (looks = 0; looks < ORDER_LOOKS; looks++) {
		struct bed *bed = open_bed(BED_DEQUEUE, 0);

		dynvhost_vq_set_enabled(&bed->vq, false);
		for (i = 0; i < PACKETS; i++)
			bed_send_plain(bed, FRAME, i);
		order_watch(bed, looks, dequeue, PACKETS);
		bed_teardown(NULL);
	}
}

static void
ask_for_kicks(struct bed *bed)
{
	dynvhost_vq_set_kicks(&bed->vq, true);
}

static void
wish_for_kicks(void **state)
{
	static const uint64_t features[] = {0, BED_EVENT};
	unsigned int i;

	for (i = 0; i < RTE_DIM(features); i++) {
		struct bed *bed = open_bed(BED_DEQUEUE, features[i]);

		order_watch(bed, ORDER_ALWAYS, ask_for_kicks, 0);
		bed_teardown(NULL);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		BED_TEST(packets_for_the_guest),
		BED_TEST(packets_from_the_guest),
		BED_TEST(packets_from_a_disabled_ring),
		BED_TEST(wish_for_kicks),
	};

	return bed_run(tests);
}
