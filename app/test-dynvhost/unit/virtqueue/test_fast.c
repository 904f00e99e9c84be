/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The short way of ordinary packets: that it is gone, for every length and with every kind of CPU's
 * functions; and that whatever is not ordinary, anywhere in a burst, goes the long way without any
 * packet losing its place, its bytes or its neighbours'.
 */

#include <stdlib.h>
#include <string.h>

#include <rte_malloc.h>
#include <rte_vect.h>

#include "bed.h"
#include "fast.h"
#include "packet.h"

/** Longer than one pass. */
#define BURST (FAST_BATCH + 8)

/** What may be unusual about the packet at one position. */
enum oddity {
	ODD_CUT,      /**< buffer of two pieces */
	ODD_INDIRECT, /**< buffer in a table */
	ODD_SHORT,    /**< frame that is shorter than the short way knows */
	ODD_CLOSED,   /**< buffer in pages that are not open */
	ODD_MBUF,     /**< to the guest: packet of several mbufs; from it: a piece that is empty */
	ODD_SHARED,   /**< to the guest: mbuf that somebody else holds too */
	ODD_CLONE,    /**< to the guest: mbuf whose data is another's */
	ODD_EXTERNAL, /**< to the guest: mbuf whose data lies in no mbuf */
	ODDITIES
};

static const struct dynvhost_fast *const kinds[] = {
	&dynvhost_fast_sse,
	&dynvhost_fast_avx2,
	&dynvhost_fast_avx512,
};

/* The functions of a kind, or NULL where this CPU has no such registers. */
static const struct dynvhost_fast *
kind_here(unsigned int i)
{
	const struct dynvhost_fast *fast = dynvhost_fast_choose(kinds[i]->bits);

	if (fast == kinds[i])
		return fast;
	print_message("# skipped: this CPU has no registers of %u bits\n", kinds[i]->bits);
	return NULL;
}

static struct bed *
open_bed(uint16_t index)
{
	return bed_open(&(struct bed_config){
		.index = index,
		.features = BED_V1 | BED_INDIRECT,
		.mem.granule = GUEST_RAM_PAGE,
	});
}

/* Lengths that differ from their neighbours', from the shortest to the longest. */
static uint32_t
frame_len(uint32_t i)
{
	return FAST_MIN_FRAME + i * 97 % (BED_ROOM - FAST_MIN_FRAME + 1);
}

static void
widest_registers_first(void **state)
{
	assert_null(dynvhost_fast_choose(64));
	assert_ptr_equal(dynvhost_fast_choose(128), &dynvhost_fast_sse);
	assert_ptr_equal(dynvhost_fast_choose(UINT16_MAX), dynvhost_fast_choose(512));
	assert_in_range(dynvhost_fast_choose(256)->bits, 128, 256);
	assert_ptr_equal(open_bed(BED_DEQUEUE)->vq.fast,
		dynvhost_fast_choose(rte_vect_get_max_simd_bitwidth()));
}

static void
received_whole_in_all_lengths(void **state)
{
	unsigned int k;

	for (k = 0; k < RTE_DIM(kinds); k++) {
		struct bed *bed = open_bed(BED_DEQUEUE);
		uint32_t len;

		bed->vq.fast = kind_here(k);
		/* The first of each page opens it, and does not count. */
		for (len = FAST_MIN_FRAME; bed->vq.fast != NULL && len <= BED_ROOM;
			len += len < 320 ? 1 : 37) {
			uint64_t before = bed->vq.ordinary;
			uint16_t head = bed_send_plain(bed, len, len);

			bed_freeze(bed);
			assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 1);
			bed_expect_packet(bed->pkts[0], len, len, BED_ROOM);
			bed_expect_used(bed, head, 0);
			bed_expect_memory(bed);
			assert_true(bed->vq.ordinary <= before + 1);
		}
		if (bed->vq.fast != NULL)
			assert_true(bed->vq.ordinary > 100);
		bed_teardown(state);
	}
}

static void
sent_whole_in_all_lengths(void **state)
{
	unsigned int k;

	for (k = 0; k < RTE_DIM(kinds); k++) {
		struct bed *bed = open_bed(BED_ENQUEUE);
		uint32_t len;

		bed->vq.fast = kind_here(k);
		for (len = FAST_MIN_FRAME; bed->vq.fast != NULL && len <= BED_ROOM;
			len += len < 320 ? 1 : 37) {
			/* Room to spare, or none at all. */
			uint16_t head = bed_offer_plain(bed, BED_HDR_LEN + len + len % 2);

			bed_freeze(bed);
			assert_int_equal(bed_enqueue(bed, bed_packet(bed_pool(), len, 0, len)), 1);
			bed_expect_delivered(bed, len, len, &head, 1);
			bed_expect_memory(bed);
		}
		if (bed->vq.fast != NULL)
			assert_true(bed->vq.ordinary > 100);
		bed_teardown(state);
	}
}

enum {
	RUN = 3,      /* packets of one call, the later ones fetched while the earlier are copied */
	PLACE = 2048, /* of each in memory */
	UNTOUCHED = 0xa5, /* around it */
};

/* Lengths around the steps of the copies, and some between. */
static const uint32_t edge_lens[] = {16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 159, 191, 192,
	193, 255, 256, 257, 319, 383, 384, 385, 640, 1518};

static void
expect_place(const uint8_t *place, uint32_t at, const uint8_t *frame, uint32_t len)
{
	uint32_t i;

	assert_memory_equal(&place[at], frame, len);
	for (i = 0; i < PLACE; i++)
		if (i < at || i >= at + len)
			assert_int_equal(place[i], UNTOUCHED);
}

static void
bytes_of_frames_and_no_others_at_any_alignment(void **state)
{
	static uint8_t __rte_cache_aligned memory[RUN][PLACE];
	unsigned int k, e, at;

	open_bed(BED_ENQUEUE);
	for (k = 0; k < RTE_DIM(kinds); k++) {
		const struct dynvhost_fast *fast = kind_here(k);

		for (e = 0; fast != NULL && e < RTE_DIM(edge_lens) * 64; e++) {
			struct fast_job job[RUN];
			struct rte_mbuf *pkts[RUN];

			at = 64 + e % 64;
			memset(memory, UNTOUCHED, sizeof(memory));
			for (uint32_t i = 0; i < RUN; i++) {
				job[i].guest = &memory[i][at];
				job[i].len = edge_lens[(e / 64 + i) % RTE_DIM(edge_lens)];
				pkts[i] = bed_packet(bed_pool(), job[i].len, 0, e + i);
				memset(job[i].guest, 0, BED_HDR_LEN);
			}
			fast->enqueue(job, pkts, RUN, BED_HDR_LEN, fast_bytes(job, RUN));
			for (uint32_t i = 0; i < RUN; i++) {
				memset(&memory[i][at], UNTOUCHED, BED_HDR_LEN);
				expect_place(memory[i], at + BED_HDR_LEN,
					rte_pktmbuf_mtod(pkts[i], uint8_t *), job[i].len);
				rte_pktmbuf_free(pkts[i]);
			}
		}
	}
}

/* Send packet @p i of a burst, in an unusual way if it is to be. @return its head. */
static uint16_t
send_one(struct bed *bed, uint32_t i, bool odd, enum oddity oddity)
{
	const uint32_t len = odd && oddity == ODD_SHORT ? FAST_MIN_FRAME - 1 : frame_len(i);

	if (!odd || oddity == ODD_SHORT)
		return bed_send_plain(bed, len, i);
	if (oddity == ODD_INDIRECT)
		return bed_send(bed, BED_SHAPE_TABLE, (uint32_t[]){BED_HDR_LEN + len}, 1, i);
	if (oddity == ODD_CUT)
		return bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){BED_HDR_LEN, len}, 2, i);
	if (oddity == ODD_CLOSED)
		bed_take(bed, 2 * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	if (oddity == ODD_MBUF)
		return bed_send(bed, BED_SHAPE_DIRECT, (uint32_t[]){BED_HDR_LEN + len, 0}, 2, i);
	return bed_send_plain(bed, len, i);
}

/* Open the pages that a burst of ordinary packets will use. */
static void
warm_up(struct bed *bed, bool dequeue)
{
	uint32_t i;

	for (i = 0; i < 2 * BURST; i++) {
		if (dequeue) {
			bed_send_plain(bed, BED_ROOM, 1);
			assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
			bed_expect_packet(bed->pkts[0], BED_ROOM, 1, BED_ROOM);
		} else {
			bed_offer_plain(bed, BED_HDR_LEN + BED_ROOM);
			assert_int_equal(
				bed_enqueue(bed, bed_packet(bed_pool(), BED_ROOM, 0, 1)), 1);
		}
	}
}

static void
unusual_buffer_from_the_guest_at_any_position(void **state)
{
	int oddity;

	for (oddity = 0; oddity < ODD_SHARED; oddity++) {
		uint32_t at, i;

		for (at = 0; at <= BURST; at += at < 3 || at >= FAST_BATCH - 2 ? 1 : 7) {
			struct bed *bed = open_bed(BED_DEQUEUE);
			uint16_t head[BURST];

			for (i = 0; i < BURST; i++)
				head[i] = send_one(bed, i, i == at, (enum oddity)oddity);
			bed_freeze(bed);
			assert_int_equal(bed_dequeue(bed, bed_pool(), BED_MAX_BURST), BURST);
			for (i = 0; i < BURST; i++) {
				bool is_short = i == at && oddity == ODD_SHORT;

				bed_expect_packet(bed->pkts[i],
					is_short ? FAST_MIN_FRAME - 1 : frame_len(i), i, BED_ROOM);
				bed_expect_used(bed, head[i], 0);
			}
			bed_expect_memory(bed);
			/* Not the unusual one, nor those that were first in their page. */
			assert_in_range(bed->vq.ordinary, 1, BURST - (at < BURST));
			bed_teardown(state);
		}
	}
}

/* The same packet in an mbuf that refers to the one given. */
static struct rte_mbuf *
clone_of(struct rte_mbuf *pkt)
{
	struct rte_mbuf *clone = rte_pktmbuf_clone(pkt, bed_pool());

	assert_non_null(clone);
	rte_pktmbuf_free(pkt);
	return clone;
}

/* Buffers outside of mbufs that nobody has given back. */
static unsigned int n_external;

static void
free_external(void *addr, void *opaque)
{
	free(opaque);
	n_external--;
}

/* The same packet in memory that is no mbuf's. */
static struct rte_mbuf *
external_of(struct rte_mbuf *pkt)
{
	uint16_t len = BED_ROOM + sizeof(struct rte_mbuf_ext_shared_info) + sizeof(uint64_t);
	struct rte_mbuf *m = rte_pktmbuf_alloc(bed_pool());
	struct rte_mbuf_ext_shared_info *shared;
	uint8_t *buf = malloc(len);

	assert_true(m != NULL && buf != NULL);
	shared = rte_pktmbuf_ext_shinfo_init_helper(buf, &len, free_external, buf);
	assert_non_null(shared);
	rte_pktmbuf_attach_extbuf(m, buf, 0, len, shared);
	memcpy(rte_pktmbuf_append(m, pkt->data_len), rte_pktmbuf_mtod(pkt, void *), pkt->data_len);
	rte_pktmbuf_free(pkt);
	n_external++;
	return m;
}

/* A packet for position @p i, in an unusual way if it is to be. */
static struct rte_mbuf *
packet_for(uint32_t i, bool odd, enum oddity oddity)
{
	const uint32_t len = odd && oddity == ODD_SHORT ? FAST_MIN_FRAME - 1 : frame_len(i);
	struct rte_mbuf *pkt = bed_packet(
		bed_pool(), len, odd && oddity == ODD_MBUF ? len / 2 + 1 : 0, i);

	if (odd && oddity == ODD_SHARED)
		rte_mbuf_refcnt_update(pkt, 1);
	if (odd && oddity == ODD_CLONE)
		return clone_of(pkt);
	if (odd && oddity == ODD_EXTERNAL)
		return external_of(pkt);
	return pkt;
}

static uint16_t
offer_one(struct bed *bed, uint32_t i, bool odd, enum oddity oddity)
{
	const uint32_t len = odd && oddity == ODD_SHORT ? FAST_MIN_FRAME - 1 : frame_len(i);

	if (odd && oddity == ODD_INDIRECT)
		return bed_offer(bed, BED_SHAPE_TABLE, (uint32_t[]){BED_HDR_LEN + len}, 1);
	if (odd && oddity == ODD_CUT)
		return bed_offer(bed, BED_SHAPE_DIRECT, (uint32_t[]){BED_HDR_LEN, len}, 2);
	if (odd && oddity == ODD_CLOSED)
		bed_take(bed, 2 * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
	return bed_offer_plain(bed, BED_HDR_LEN + len);
}

static void
unusual_packet_for_the_guest_at_any_position(void **state)
{
	int oddity;

	for (oddity = 0; oddity < ODDITIES; oddity++) {
		uint32_t at, i;

		for (at = 0; at <= BURST; at += at < 3 || at >= FAST_BATCH - 2 ? 1 : 7) {
			struct bed *bed = open_bed(BED_ENQUEUE);
			struct rte_mbuf *pkts[BURST], *shared = NULL;
			uint16_t head[BURST];

			for (i = 0; i < BURST; i++) {
				bool odd = i == at;

				head[i] = offer_one(bed, i, odd, (enum oddity)oddity);
				pkts[i] = packet_for(i, odd, (enum oddity)oddity);
				if (odd && oddity == ODD_SHARED)
					shared = pkts[i];
			}
			bed_freeze(bed);
			assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, BURST), BURST);
			for (i = 0; i < BURST; i++) {
				bool is_short = i == at && oddity == ODD_SHORT;

				bed_expect_delivered(bed,
					is_short ? FAST_MIN_FRAME - 1 : frame_len(i), i, &head[i],
					1);
			}
			bed_expect_memory(bed);
			assert_in_range(bed->vq.ordinary, 1, BURST - (at < BURST));
			if (shared != NULL)
				assert_int_equal(rte_mbuf_refcnt_read(shared), 1);
			rte_pktmbuf_free(shared);
			assert_int_equal(n_external, 0);
			bed_teardown(state);
		}
	}
}

static void
all_of_an_ordinary_burst_goes_the_short_way(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE);
	uint64_t before;
	uint16_t i;

	warm_up(bed, true);
	before = bed->vq.ordinary;
	for (i = 0; i < 8; i++)
		bed_send_plain(bed, 60, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 8);
	for (i = 0; i < 8; i++)
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
	/* They lie in one page, or two. */
	assert_in_range(bed->vq.ordinary - before, 6, 8);
}

static void
fault_behind_ordinary_packets_stops_the_queue_after_them(void **state)
{
	struct bed *bed = open_bed(BED_DEQUEUE);
	const struct vring_desc desc = {.addr = UINT64_MAX - 11, .len = 72};
	uint16_t head[3], i;

	for (i = 0; i < 3; i++)
		head[i] = bed_send_plain(bed, 60, i);
	/* Its end wraps to where guest memory begins. */
	bed_offer_raw(bed, &desc, 1);
	assert_int_equal(bed_dequeue(bed, bed_pool(), 32), 3);
	for (i = 0; i < 3; i++) {
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
		bed_expect_used(bed, head[i], 0);
	}
	assert_true(bed->vq.ordinary >= 2);
	bed_expect_broken(bed, DYNVHOST_VQ_BAD_ADDRESS);
}

static void
mbufs_of_two_pools_go_home(void **state)
{
	struct bed *bed = open_bed(BED_ENQUEUE);
	struct rte_mbuf *pkts[10];
	uint16_t i;

	for (i = 0; i < RTE_DIM(pkts); i++) {
		bed_offer_plain(bed, 128);
		pkts[i] = bed_packet(i % 3 != 0 ? bed_pool() : bed_small_pool(), 60, 0, i);
	}
	/* The teardown counts them. */
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, RTE_DIM(pkts)), RTE_DIM(pkts));
	assert_true(bed->vq.ordinary >= 8);
}

/* More packets than any application has in one burst, and than there are in one round of an index. */
enum { MANY = 4000, MANY_SIZE = 4096, MANY_LEN = 60 };

static struct bed *
open_many(uint16_t index)
{
	struct bed *bed = bed_open(&(struct bed_config){
		.index = index,
		.features = BED_V1,
		.size = MANY_SIZE,
		.start = UINT16_MAX - MANY / 2,
		.mem.granule = 256 * GUEST_RAM_PAGE,
	});

	/* The first burst opens it all. */
	for (unsigned int i = 0; i < 2; i++) {
		if (index == BED_DEQUEUE) {
			bed_send_plain(bed, MANY_LEN, 0);
			assert_int_equal(bed_dequeue(bed, bed_pool(), 1), 1);
			rte_pktmbuf_free(bed->pkts[0]);
		} else {
			bed_offer_plain(bed, BED_HDR_LEN + MANY_LEN);
			assert_int_equal(
				bed_enqueue(bed, bed_packet(bed_pool(), MANY_LEN, 0, 0)), 1);
		}
	}
	while (bed_collect(bed, &(struct ring_used){0}))
		;
	return bed;
}

static void
thousands_received_in_one_burst_around_the_ring(void **state)
{
	struct bed *bed = open_many(BED_DEQUEUE);
	static struct rte_mbuf *pkts[UINT16_MAX];
	static uint16_t head[MANY];
	uint16_t i;

	for (i = 0; i < MANY; i++)
		head[i] = bed_send_plain(bed, MANY_LEN, i);
	bed_freeze(bed);
	assert_int_equal(bed->vq.dequeue(&bed->vq, bed_pool(), pkts, UINT16_MAX), MANY);
	for (i = 0; i < MANY; i++) {
		bed_expect_packet(pkts[i], MANY_LEN, i, BED_ROOM);
		bed_expect_used(bed, head[i], 0);
	}
	bed_expect_memory(bed);
	bed_expect_position(bed);
	assert_in_range(bed->vq.ordinary, MANY - 1, MANY + 2);
}

static void
thousands_sent_in_one_burst_around_the_ring(void **state)
{
	struct bed *bed = open_many(BED_ENQUEUE);
	static struct rte_mbuf *pkts[MANY + 50];
	static uint16_t head[MANY];
	uint16_t i;

	for (i = 0; i < MANY; i++)
		head[i] = bed_offer_plain(bed, BED_HDR_LEN + MANY_LEN);
	for (i = 0; i < RTE_DIM(pkts); i++)
		pkts[i] = bed_packet(bed_pool(), MANY_LEN, 0, i);
	bed_freeze(bed);
	assert_int_equal(bed->vq.enqueue(&bed->vq, pkts, RTE_DIM(pkts)), MANY);
	for (i = 0; i < MANY; i++)
		bed_expect_delivered(bed, MANY_LEN, i, &head[i], 1);
	bed_expect_memory(bed);
	bed_expect_position(bed);
	rte_pktmbuf_free_bulk(&pkts[MANY], RTE_DIM(pkts) - MANY);
	assert_in_range(bed->vq.ordinary, MANY - 1, MANY + 2);
}

/* A packet whose seed is its length, in mbufs of @p room that have these flags; free it. */
static void
expect_in_room(struct rte_mbuf *pkt, uint32_t len, uint32_t room, uint64_t flags)
{
	uint8_t copy[BED_ROOM];
	const struct rte_mbuf *m;

	assert_int_equal(pkt->pkt_len, len);
	assert_int_equal(pkt->nb_segs, (len + room - 1) / room);
	for (m = pkt; m != NULL; m = m->next) {
		assert_int_equal(m->ol_flags, flags);
		assert_int_equal(rte_mbuf_refcnt_read(m), 1);
		assert_int_equal(m->data_len, RTE_MIN(room, len));
		memcpy(copy + pkt->pkt_len - len, rte_pktmbuf_mtod(m, void *), m->data_len);
		len -= m->data_len;
	}
	assert_int_equal(len, 0);
	assert_true(packet_matches(copy, pkt->pkt_len, pkt->pkt_len));
	rte_pktmbuf_free(pkt);
}

/* Receive every length around that of a data room, and a few more, into mbufs of a pool. */
static void
expect_received_into(struct rte_mempool *pool, uint32_t room, uint64_t flags)
{
	const unsigned int full = rte_mempool_avail_count(pool);
	struct bed *bed = open_bed(BED_DEQUEUE);
	uint32_t len;

	for (len = DYNVHOST_VQ_MIN_FRAME; len < room + 40 && len < BED_ROOM; len++) {
		uint16_t head = bed_send_plain(bed, len, len);

		bed_freeze(bed);
		assert_int_equal(bed_dequeue(bed, pool, 32), 1);
		assert_int_equal(rte_pktmbuf_tailroom(bed->pkts[0]), len < room ? room - len : 0);
		expect_in_room(bed->pkts[0], len, room, flags);
		bed_expect_used(bed, head, 0);
		bed_expect_memory(bed);
	}
	assert_int_equal(rte_mempool_avail_count(pool), full);
	bed_teardown(NULL);
}

static void
mbufs_of_all_kinds_of_pools_take_what_fits(void **state)
{
	static const struct {
		uint16_t private;
		uint16_t room;
	} kind[] = {{0, 64}, {64, 64}, {128, 65}, {0, 127}, {8, 128}, {192, 300}};

	for (size_t i = 0; i < RTE_DIM(kind); i++) {
		struct rte_mempool *pool = rte_pktmbuf_pool_create("kind", 63, 0, kind[i].private,
			RTE_PKTMBUF_HEADROOM + kind[i].room, SOCKET_ID_ANY);

		assert_non_null(pool);
		expect_received_into(pool, kind[i].room, 0);
		rte_mempool_free(pool);
	}
}

static void
mbufs_with_data_elsewhere_take_the_long_way(void **state)
{
	enum { ROOM = 200, ELEMENT = RTE_PKTMBUF_HEADROOM + ROOM, N = 63 };
	struct rte_pktmbuf_extmem memory = {
		.buf_ptr = rte_malloc("data", N * ELEMENT, RTE_CACHE_LINE_SIZE),
		.buf_iova = RTE_BAD_IOVA,
		.buf_len = N * ELEMENT,
		.elt_size = ELEMENT,
	};
	struct rte_mempool *pool;

	assert_non_null(memory.buf_ptr);
	pool = rte_pktmbuf_pool_create_extbuf(
		"elsewhere", N, 0, 0, ELEMENT, SOCKET_ID_ANY, &memory, 1);
	assert_non_null(pool);
	expect_received_into(pool, ROOM, RTE_MBUF_F_EXTERNAL);
	rte_mempool_free(pool);
	rte_free(memory.buf_ptr);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(widest_registers_first),
		BED_TEST(received_whole_in_all_lengths),
		BED_TEST(sent_whole_in_all_lengths),
		BED_TEST(bytes_of_frames_and_no_others_at_any_alignment),
		BED_TEST(unusual_buffer_from_the_guest_at_any_position),
		BED_TEST(unusual_packet_for_the_guest_at_any_position),
		BED_TEST(all_of_an_ordinary_burst_goes_the_short_way),
		BED_TEST(fault_behind_ordinary_packets_stops_the_queue_after_them),
		BED_TEST(mbufs_of_two_pools_go_home),
		BED_TEST(thousands_received_in_one_burst_around_the_ring),
		BED_TEST(thousands_sent_in_one_burst_around_the_ring),
		BED_TEST(mbufs_of_all_kinds_of_pools_take_what_fits),
		BED_TEST(mbufs_with_data_elsewhere_take_the_long_way),
	};

	return bed_run(tests);
}
