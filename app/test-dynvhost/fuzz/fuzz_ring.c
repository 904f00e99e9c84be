/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A virtqueue and a guest that does whatever the input says: it lays out buffers well, writes
 * descriptors, tables, indices and events, sets the ring up anew and elsewhere, while packets are
 * taken and sent. One ring, in one direction, of the format of the bed it is linked with.
 */

#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_malloc.h>
#include <rte_vect.h>

#include "bed.h"
#include "format.h"
#include "fuzz.h"
#include "mock.h"
#include "net_hdr.h"
#include "packet.h"
#include "ring_guard.h"
#include "ring_model.h"
#include "ring_run.h"

#define RING_MAX_BURST 40
/** Things that one input does at most. */
#define RING_MAX_STEPS 256

/** Set by the build. */
#ifndef FUZZ_PACKED
#define FUZZ_PACKED 0
#endif

enum ring_outcome {
	RING_RECEIVED,
	RING_RECEIVED_SHORT,
	RING_RECEIVED_SEGMENTS,
	RING_SENT,
	RING_SENT_SHORT,
	RING_DROPPED,
	RING_DISCARDED,
	RING_STALLED,
	RING_NO_MBUF,
	RING_CALLED,
	RING_CALL_SUPPRESSED,
	RING_MOVED,
	RING_REFUSED,
	RING_RARP,
	RING_EXACT,
	RING_MODELLED,
	RING_BAD_LOOP,
	RING_BAD_ADDRESS,
	RING_BAD_RIGHT,
	RING_BAD_INDIRECT,
	RING_BAD_AVAIL,
	RING_BAD_HEAD,
};

const char *const fuzz_outcomes[] = {
	[RING_RECEIVED] = "a frame is received",
	[RING_RECEIVED_SHORT] = "a frame is received the short way",
	[RING_RECEIVED_SEGMENTS] = "a frame is received in several mbufs",
	[RING_SENT] = "a frame is sent",
	[RING_SENT_SHORT] = "a frame is sent the short way",
	[RING_DROPPED] = "a frame is dropped",
	[RING_DISCARDED] = "a disabled ring gives chains back",
	[RING_STALLED] = "a chain whose memory does not open is given back",
	[RING_NO_MBUF] = "mbufs are short",
	[RING_CALLED] = "the guest is called",
	[RING_CALL_SUPPRESSED] = "the guest is not called",
	[RING_MOVED] = "the ring is set up elsewhere",
	[RING_REFUSED] = "a ring is refused",
	[RING_RARP] = "the guest is announced",
	[RING_EXACT] = "each byte that was written is judged",
	[RING_MODELLED] = "all that was received is judged",
	[RING_BAD_LOOP] = "the ring stops: endless chain",
	[RING_BAD_ADDRESS] = "the ring stops: address outside of memory",
	[RING_BAD_RIGHT] = "the ring stops: wrong direction",
	[RING_BAD_INDIRECT] = "the ring stops: bad table",
#if !FUZZ_PACKED
	[RING_BAD_AVAIL] = "the ring stops: bad index",
	[RING_BAD_HEAD] = "the ring stops: bad head",
#endif
	NULL,
};

static struct ring_guard ring_guard;

static const uint64_t ring_features[] = {BED_V1, BED_MRG, BED_EVENT, BED_INDIRECT, BED_IN_ORDER,
	BED_CSUM | BED_HOST_TSO | BED_HOST_ECN | BED_HOST_UFO,
	BED_GUEST_CSUM | BED_GUEST_TSO | BED_GUEST_ECN | BED_GUEST_UFO};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	/* What the bed asserts ends the process. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	fuzz_check(bed_group_setup(NULL) == 0);
	fuzz_fence_pool(bed_pool());
	fuzz_fence_pool(bed_small_pool());
	return 0;
}

static void
ring_block(struct ring_run *run, uint32_t page, enum dynvhost_mem_right right)
{
	const struct dynvhost_mem_region *region =
		run->bed->view->region[page * GUEST_RAM_PAGE / GUARD_REGION];
	uint64_t i = page % (GUARD_REGION / GUEST_RAM_PAGE);

	/* Those of the ring are nobody's to close. */
	if (atomic_load(&region->window[right].state[i]) & DYNVHOST_MEM_PIN)
		return;
	bed_block(run->bed, page * GUEST_RAM_PAGE, 1, right);
	run->blocked[right] ^= 1u << page;
}

static void
ring_unblock_all(struct ring_run *run)
{
	uint32_t page, right;

	for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++) {
		for (page = 0; page < GUARD_RAM / GUEST_RAM_PAGE; page++) {
			if (run->blocked[right] >> page & 1)
				bed_unblock(run->bed, page * GUEST_RAM_PAGE, 1,
					(enum dynvhost_mem_right)right);
		}
		run->blocked[right] = 0;
	}
}

/* --- the host --- */

static void
ring_note_fault(const struct bed *bed)
{
	static const enum ring_outcome outcome[DYNVHOST_VQ_FAULTS] = {
		[DYNVHOST_VQ_BAD_AVAIL] = RING_BAD_AVAIL,
		[DYNVHOST_VQ_BAD_HEAD] = RING_BAD_HEAD,
		[DYNVHOST_VQ_BAD_LOOP] = RING_BAD_LOOP,
		[DYNVHOST_VQ_BAD_ADDRESS] = RING_BAD_ADDRESS,
		[DYNVHOST_VQ_BAD_RIGHT] = RING_BAD_RIGHT,
		[DYNVHOST_VQ_BAD_INDIRECT] = RING_BAD_INDIRECT,
	};

	fuzz_check(bed->vq.fault < DYNVHOST_VQ_FAULTS);
	fuzz_check(bed_format.faults >> bed->vq.fault & 1);
	if (bed->vq.fault != DYNVHOST_VQ_OK)
		fuzz_see(outcome[bed->vq.fault]);
}

static void
ring_note_stats(const struct dynvhost_vq_stats *before, const struct dynvhost_vq_stats *after)
{
	fuzz_seen[RING_DROPPED] += after->dropped - before->dropped;
	fuzz_seen[RING_DISCARDED] += after->discarded - before->discarded;
	fuzz_seen[RING_STALLED] += after->stalled - before->stalled;
	fuzz_seen[RING_NO_MBUF] += after->no_mbuf - before->no_mbuf;
	fuzz_seen[RING_CALLED] += after->calls - before->calls;
	fuzz_seen[RING_CALL_SUPPRESSED] += after->calls_suppressed - before->calls_suppressed;
}

/** A burst, and what was there before it. */
struct ring_burst {
	struct dynvhost_vq_stats stats;
	uint64_t ordinary;
	uint32_t position;
	uint32_t fault;
	uint16_t pending;
	uint16_t rarps;
};

static struct ring_burst
ring_begin_burst(struct ring_run *run)
{
	struct dynvhost_vq *vq = &run->bed->vq;

	/* Rests depend on the clock. */
	memset(&vq->rest, 0, sizeof(vq->rest));
	ring_guard_begin(&ring_guard, run->bed);
	return (struct ring_burst){
		.stats = vq->stats,
		.ordinary = vq->ordinary,
		.position = vq->format->position(vq),
		.fault = vq->fault,
		.pending = dynvhost_vq_pending(vq),
		.rarps = vq->n_rarps,
	};
}

static void
ring_end_burst(struct ring_run *run, const struct ring_burst *burst)
{
	struct bed *bed = run->bed;
	const struct dynvhost_vq *vq = &bed->vq;

	ring_guard_end(&ring_guard, bed);
	fuzz_seen[RING_EXACT] += ring_guard.exact;
	if (ring_guard.exact && dynvhost_vq_is_started(vq))
		ring_model_judge_used(&ring_guard, bed, burst->position);
	if (dynvhost_vq_is_started(vq) && bed_format.packed)
		fuzz_check(vq->packed.pos.slot < bed->setup.size);
	else if (dynvhost_vq_is_started(vq))
		fuzz_check(vq->split.last_avail == vq->split.last_used);
	/* One chain stops a queue, and nothing starts it but a new set-up. */
	fuzz_check(vq->stats.bad_chains - burst->stats.bad_chains ==
		   (vq->fault != DYNVHOST_VQ_OK && burst->fault == DYNVHOST_VQ_OK));
	if (burst->fault != DYNVHOST_VQ_OK)
		fuzz_check(vq->format->position(vq) == burst->position);
	ring_note_stats(&burst->stats, &vq->stats);
	if (burst->fault == DYNVHOST_VQ_OK)
		ring_note_fault(bed);
}

/* Whether the burst had something to do and could do it. */
static bool
ring_could_move(const struct ring_run *run, const struct ring_burst *burst)
{
	const struct dynvhost_vq *vq = &run->bed->vq;

	return dynvhost_vq_is_started(vq) && burst->pending > 0 && burst->fault == DYNVHOST_VQ_OK &&
	       vq->fault == DYNVHOST_VQ_OK && burst->rarps == 0 &&
	       vq->stats.no_mbuf == burst->stats.no_mbuf && run->blocked[DYNVHOST_MEM_READ] == 0 &&
	       run->blocked[DYNVHOST_MEM_WRITE] == 0;
}

static void
ring_take_packet(const struct bed *bed, const struct rte_mbuf *pkt)
{
	fuzz_check_packet(pkt);
	fuzz_check(pkt->port == BED_PORT_ID);
	fuzz_check(pkt->pkt_len >= DYNVHOST_VQ_MIN_FRAME && pkt->pkt_len <= DYNVHOST_VQ_MAX_FRAME);
	if (bed->vq.app.linear_buffer)
		fuzz_check(pkt->nb_segs == 1);
	fuzz_see(RING_RECEIVED);
	fuzz_seen[RING_RECEIVED_SEGMENTS] += pkt->nb_segs > 1;
}

/* Whether the model knows all of what a burst that received must have done. */
static bool
ring_is_modelled(const struct ring_run *run, const struct ring_burst *burst)
{
	const struct dynvhost_vq *vq = &run->bed->vq;

	return dynvhost_vq_is_started(vq) && vq->enabled && ring_guard.exact &&
	       burst->fault == DYNVHOST_VQ_OK && burst->rarps == 0 &&
	       vq->stats.no_mbuf == burst->stats.no_mbuf && !net_hdr_is_read(vq->offloads) &&
	       !vq->app.linear_buffer && run->blocked[DYNVHOST_MEM_READ] == 0 &&
	       run->blocked[DYNVHOST_MEM_WRITE] == 0;
}

static void
ring_dequeue(struct ring_run *run)
{
	struct bed *bed = run->bed;
	const uint8_t how = fuzz_u8(&run->in);
	const uint16_t n = 1 + how % RING_MAX_BURST;
	struct rte_mempool *pool = how & 0x80 ? bed_small_pool() : bed_pool();
	const struct ring_burst burst = ring_begin_burst(run);
	uint16_t i, got;

	got = bed_dequeue(bed, pool, n);
	ring_end_burst(run, &burst);
	fuzz_check(bed->vq.stats.packets - burst.stats.packets == got);
	for (i = 0; i < got; i++)
		ring_take_packet(bed, bed->pkts[i]);
	if (ring_is_modelled(run, &burst)) {
		ring_model_judge(&ring_guard, bed, burst.position, n, bed->pkts, got);
		fuzz_see(RING_MODELLED);
	}
	fuzz_seen[RING_RECEIVED_SHORT] += bed->vq.ordinary - burst.ordinary;
	fuzz_seen[RING_RARP] += burst.rarps > bed->vq.n_rarps;
	rte_pktmbuf_free_bulk(bed->pkts, got);
	if (ring_could_move(run, &burst))
		fuzz_check(bed->vq.format->position(&bed->vq) != burst.position);
}

/* A packet to send, in segments, with what the application asks for. */
static struct rte_mbuf *
ring_packet(struct ring_run *run)
{
	const uint16_t len = fuzz_u16(&run->in);
	const uint8_t how = fuzz_u8(&run->in);
	struct rte_mbuf *pkt;

	/* There are mbufs enough for four of the worst. */
	if (how & 1)
		pkt = bed_packet(bed_pool(), len, RTE_MAX(1 + how * 8u, len / 512u), how);
	else
		pkt = bed_packet(
			bed_small_pool(), RTE_MIN(len, 900u), 1 + how % BED_SMALL_ROOM, how);
	if (how & 0x40)
		pkt->ol_flags |= RTE_MBUF_F_TX_VLAN;
	return pkt;
}

static void
ring_enqueue(struct ring_run *run)
{
	struct bed *bed = run->bed;
	const uint16_t n = (uint16_t)(1 + fuzz_pick(&run->in, 4));
	struct ring_burst burst;
	struct rte_mbuf *pkts[4];
	uint16_t i, done;

	for (i = 0; i < n; i++)
		pkts[i] = ring_packet(run);
	burst = ring_begin_burst(run);
	done = bed->vq.enqueue(&bed->vq, pkts, n);
	fuzz_check(done <= n);
	ring_end_burst(run, &burst);
	fuzz_seen[RING_SENT] += bed->vq.stats.packets - burst.stats.packets;
	fuzz_seen[RING_SENT_SHORT] += bed->vq.ordinary - burst.ordinary;
	for (i = done; i < n; i++)
		fuzz_check_packet(pkts[i]);
	rte_pktmbuf_free_bulk(&pkts[done], n - done);
	/* More buffers are waited for only where they are merged. */
	if (ring_could_move(run, &burst) && bed->vq.enabled && !bed->vq.mergeable)
		fuzz_check(done > 0);
}

static void
ring_burst(struct ring_run *run)
{
	if (run->bed->config.index == BED_DEQUEUE)
		ring_dequeue(run);
	else
		ring_enqueue(run);
}

/* --- control --- */

/* Stop, and start with this. @return whether that was possible; else the ring stays stopped. */
static bool
ring_start(struct ring_run *run, const struct dynvhost_vq_setup *setup)
{
	struct bed *bed = run->bed;

	ring_unblock_all(run);
	dynvhost_vq_stop(&bed->vq);
	if (dynvhost_vq_start(&bed->vq, setup) != 0) {
		fuzz_check(!dynvhost_vq_is_started(&bed->vq));
		fuzz_see(RING_REFUSED);
		return false;
	}
	fuzz_check(bed->vq.fault == DYNVHOST_VQ_OK);
	bed->setup = *setup;
	return true;
}

/* As after a crash, or as told: in a packed ring the position may be any. */
static void
ring_restart(struct ring_run *run)
{
	struct dynvhost_vq_setup setup = run->bed->setup;
	const uint8_t how = fuzz_u8(&run->in);
	const uint32_t position = dynvhost_vq_is_started(&run->bed->vq)
					  ? run->bed->vq.format->position(&run->bed->vq)
					  : setup.base;

	setup.base = how & 1 ? fuzz_u32(&run->in) : position;
	setup.mtu = how & 2 ? fuzz_u16(&run->in) : 0;
	setup.features |= how & 2 ? 1ULL << VIRTIO_NET_F_MTU : 0;
	setup.enabled = (how & 4) == 0;
	if (how & 8)
		bed_unmark(run->bed);
	ring_start(run, &setup);
}

static void
ring_set_up_elsewhere(struct ring_run *run)
{
	struct dynvhost_vq_setup setup = run->bed->setup;
	const uint8_t how = fuzz_u8(&run->in);

	setup.size = how & 1 ? fuzz_u16(&run->in) : setup.size;
	if (how & 2)
		setup.desc_gpa = (uint64_t)fuzz_u16(&run->in) << (how & 0x10 ? 4 : 0);
	if (how & 4)
		setup.avail_gpa = fuzz_u16(&run->in);
	if (how & 8)
		setup.used_gpa = fuzz_u16(&run->in);
	if (ring_start(run, &setup))
		fuzz_see(RING_MOVED);
}

/* A new ring where the first one was. */
static void
ring_reset(struct ring_run *run)
{
	struct bed *bed = run->bed;
	struct dynvhost_vq_setup setup = bed->setup;

	ring_unblock_all(run);
	dynvhost_vq_stop(&bed->vq);
	bed_reset(bed, fuzz_u16(&run->in));
	setup.base = bed->setup.base;
	setup.size = bed->config.size;
	setup.desc_gpa = bed_format.packed ? bed->packed.desc_gpa : bed->split.desc_gpa;
	setup.avail_gpa = bed_format.packed ? bed->packed.driver_gpa : bed->split.avail_gpa;
	setup.used_gpa = bed_format.packed ? bed->packed.device_gpa : bed->split.used_gpa;
	fuzz_check(ring_start(run, &setup));
}

static void
ring_control(struct ring_run *run)
{
	struct dynvhost_vq *vq = &run->bed->vq;
	const struct rte_ether_addr mac = {.addr_bytes = {2}};
	const uint8_t how = fuzz_u8(&run->in);

	switch (how % 5) {
	case 0:
		if (dynvhost_vq_is_started(vq))
			dynvhost_vq_set_enabled(vq, (how & 0x80) == 0);
		break;
	case 1:
		dynvhost_vq_set_kicks(vq, (how & 0x80) == 0);
		break;
	case 2:
		dynvhost_vq_announce(vq, &mac);
		break;
	case 3:
		dynvhost_vq_set_shared(vq, (how & 0x80) != 0);
		break;
	default:
		(void)dynvhost_vq_has_work(vq);
		break;
	}
}

/* Memory that does not open, and time that passes meanwhile. */
static void
ring_hinder(struct ring_run *run)
{
	const uint8_t how = fuzz_u8(&run->in);

	if (how & 0x80) {
		if (run->bed->vq.stall_since != 0)
			bed_age_stall(run->bed);
		return;
	}
	ring_block(run, how % (GUARD_RAM / GUEST_RAM_PAGE),
		how & 0x40 ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ);
}

/* --- the input --- */

static void
ring_step(struct ring_run *run)
{
	switch (fuzz_u8(&run->in) % 15) {
	case 0:
		ring_burst(run);
		break;
	case 1:
		ring_add_buffer(run);
		break;
	case 2:
		ring_write_desc(run);
		break;
	case 3:
		ring_write_entry(run);
		break;
	case 4:
		bed_force_available(run->bed, fuzz_u8(&run->in) % (run->bed->config.size + 2u));
		break;
	case 5:
		ring_write_bytes(run);
		break;
	case 6:
		ring_write_field(run);
		break;
	case 7:
		ring_write_wild(run);
		break;
	case 8:
		ring_control(run);
		break;
	case 9:
		ring_restart(run);
		break;
	case 10:
		ring_set_up_elsewhere(run);
		break;
	case 11:
		ring_reset(run);
		break;
	case 12:
		ring_hinder(run);
		break;
	case 13:
		ring_fill(run);
		break;
	default:
		ring_write_table(run);
		break;
	}
}

static struct bed *
ring_open(struct fuzz_in *in)
{
	const uint8_t features = fuzz_u8(in);
	const uint8_t how = fuzz_u8(in);
	const uint8_t app = fuzz_u8(in);
	struct bed_config config = {
		.index = features & 0x80 ? BED_ENQUEUE : BED_DEQUEUE,
		.size = bed_format.small_sizes[how % RTE_DIM(bed_format.small_sizes)],
		.log = (how & 0x40) != 0,
		.calls = (how & 0x80) != 0,
		.start = fuzz_u16(in),
		.lay_out = ring_guard_lay_out,
	};
	static const uint16_t simd[] = {
		RTE_VECT_SIMD_MAX, RTE_VECT_SIMD_128, RTE_VECT_SIMD_256, RTE_VECT_SIMD_512};
	struct bed *bed;
	unsigned int i;

	/* Kinds of CPU, as far as this one has them. */
	fuzz_check(rte_vect_set_max_simd_bitwidth(simd[app >> 5 & 3]) == 0);
	for (i = 0; i < RTE_DIM(ring_features); i++)
		config.features |= features >> i & 1 ? ring_features[i] : 0;
	bed = bed_open(&config);
	bed->vq.app = (struct dynvhost_vq_app){
		.legacy_ol_flags = app & 1,
		.linear_buffer = app & 2,
		.ext_buffer = app & 4,
		.complete_tcp = app & 8,
		.complete_udp = app & 16,
	};
	return bed;
}

static size_t
ring_heap_bytes(void)
{
	struct rte_malloc_socket_stats stats;

	fuzz_check(rte_malloc_get_socket_stats(0, &stats) == 0);
	return stats.heap_allocsz_bytes;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ring_run run = {.in = {.at = data, .left = RTE_MIN(size, FUZZ_MAX_INPUT)}};
	const size_t heap = ring_heap_bytes();
	unsigned int steps = 0;

	run.bed = ring_open(&run.in);
	while (run.in.left > 0 && steps++ < RING_MAX_STEPS)
		ring_step(&run);
	/* Once more, so that what was written last is read. */
	ring_burst(&run);
	ring_unblock_all(&run);
	bed_teardown(NULL);
	fuzz_check(ring_heap_bytes() == heap);
	return 0;
}
