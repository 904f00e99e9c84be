/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A virtqueue that two threads send to. Also built with ThreadSanitizer: ring, counters and scratch
 * memory of the virtqueue belong to the thread whose turn it is. Packets are never freed for good,
 * for the library's mempools are not built with it.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bed.h"
#include "mock.h"

#define SENDERS 2
#define PACKETS 20000u
#define LEN     100u

struct sender {
	struct bed *bed;
	struct rte_mbuf *pkt;
	pthread_t thread;
	uint32_t sent;
};

static atomic_bool sender_stop;

static void *
send_all(void *arg)
{
	struct sender *sender = arg;
	struct dynvhost_vq *vq = &sender->bed->vq;
	struct rte_mbuf *pkts[4] = {sender->pkt, sender->pkt, sender->pkt, sender->pkt};

	while (sender->sent < PACKETS && !atomic_load(&sender_stop)) {
		/* Far more references than packets on their way. */
		rte_mbuf_refcnt_set(sender->pkt, 1000);
		sender->sent += vq->enqueue(vq, pkts, RTE_DIM(pkts));
		dynvhost_vq_pending(vq);
	}
	return NULL;
}

static void
start_senders(struct bed *bed, struct sender *sender)
{
	unsigned int i;

	dynvhost_vq_set_shared(&bed->vq, true);
	atomic_store(&sender_stop, false);
	for (i = 0; i < SENDERS; i++) {
		sender[i] = (struct sender){.bed = bed};
		sender[i].pkt = bed_packet(bed_pool(), LEN, 0, i);
		assert_int_equal(pthread_create(&sender[i].thread, NULL, send_all, &sender[i]), 0);
	}
}

/* @return packets that were sent. */
static uint32_t
stop_senders(struct bed *bed, struct sender *sender)
{
	uint32_t sent = 0;
	unsigned int i;

	for (i = 0; i < SENDERS; i++) {
		assert_int_equal(pthread_join(sender[i].thread, NULL), 0);
		rte_mbuf_refcnt_set(sender[i].pkt, 1);
		rte_pktmbuf_free(sender[i].pkt);
		sent += sender[i].sent;
	}
	dynvhost_vq_set_shared(&bed->vq, false);
	return sent;
}

static struct bed *
open_bed(struct ring_piece piece[64])
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = BED_ENQUEUE, .features = BED_V1, .size = 128, .calls = true});
	const uint32_t cut = LEN + BED_HDR_LEN;
	unsigned int i;

	for (i = 0; i < 64; i++)
		bed_place(bed, &cut, 1, true, &piece[i]);
	return bed;
}

static void
every_packet_of_two_threads_arrives_once(void **state)
{
	struct ring_piece piece[64];
	struct bed *bed = open_bed(piece);
	struct sender sender[SENDERS];
	struct ring_used used;
	uint32_t offered = 0, got = 0, sent;

	start_senders(bed, sender);
	/* A sender's last burst may go beyond what it has to send, so there may be some more. */
	while (got < SENDERS * PACKETS) {
		while (bed_room(bed) > 64)
			bed_ring_add(bed, BED_SHAPE_DIRECT, &piece[offered++ % 64], 1, 0);
		while (bed_collect(bed, &used)) {
			assert_int_equal(used.len, LEN + BED_HDR_LEN);
			got++;
		}
	}
	sent = stop_senders(bed, sender);
	while (bed_collect(bed, &used))
		got++;
	assert_int_equal(got, sent);
	assert_int_equal(bed->vq.stats.packets, sent);
	assert_int_equal(bed->vq.stats.bytes, (uint64_t)sent * LEN);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
}

static void
ring_that_breaks_stops_all_of_its_threads(void **state)
{
	struct ring_piece piece[64];
	struct bed *bed = open_bed(piece);
	const struct vring_desc bad = {
		.addr = UINT64_MAX - 16, .len = 4096, .flags = VRING_DESC_F_WRITE};
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	struct sender sender[SENDERS];
	struct ring_used used;

	start_senders(bed, sender);
	bed_ring_add(bed, BED_SHAPE_DIRECT, &piece[0], 1, 0);
	bed_offer_raw(bed, &bad, 1);
	while (atomic_load(&bed->vq.fault) == DYNVHOST_VQ_OK && mock_now_ms() < deadline)
		;
	atomic_store(&sender_stop, true);
	assert_int_equal(stop_senders(bed, sender), 1);
	assert_true(bed_collect(bed, &used));
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(every_packet_of_two_threads_arrives_once),
		BED_TEST(ring_that_breaks_stops_all_of_its_threads),
	};

	return bed_run(tests);
}
