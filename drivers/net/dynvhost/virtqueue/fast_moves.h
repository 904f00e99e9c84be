/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The loops of the second pass; see fast_kernel.h.
 */

/** The packet after the one in work. */
struct fast_next {
	uint8_t *to;
	const uint8_t *from; /**< NULL: is not to be fetched */
	size_t len;          /**< 0: there is none */
};

/** Fetch the next packet, all of it. */
static __rte_always_inline FAST_TARGET void
fast_moves_fetch(const struct fast_next *next)
{
	for (size_t at = 0; at < next->len; at += FAST_BLOCK) {
		fast_prefetch_write(next->to + at);
		fast_prefetch_write(next->to + at + RTE_CACHE_LINE_SIZE);
		if (next->from != NULL) {
			__builtin_prefetch(next->from + at);
			__builtin_prefetch(next->from + at + RTE_CACHE_LINE_SIZE);
		}
	}
}

/**
 * Fetch a long packet behind a short one. Out of line, so that the loop of short packets keeps in
 * registers what it needs: one store more for each packet, to the stack even, waits in one row with
 * those to lines that the guest's core has just had, and the row is full before the burst ends.
 */
static __rte_noinline FAST_TARGET void
fast_moves_fetch_all(uint8_t *to, const uint8_t *from, size_t len)
{
	const struct fast_next next = {.to = to, .from = from, .len = len};

	fast_moves_fetch(&next);
}

/**
 * Copy FAST_BLOCK bytes or more, when the next packet has been asked for: all of its lines before the
 * first store. Asked for between stores that wait in a row for lines of their own, they would wait in
 * that row too, and come one by one.
 */
static __rte_always_inline FAST_TARGET void
fast_moves_copy_long(uint8_t *to, const uint8_t *from, size_t len, const struct fast_next *next)
{
	size_t at = 0;

	fast_moves_fetch(next);
	/* A store that crosses lines costs as much as two. */
	if ((uintptr_t)to % FAST_ALIGN != 0) {
		fast_copy_block(to, from);
		at = FAST_ALIGN - (uintptr_t)to % FAST_ALIGN;
	}
	for (; at + FAST_BLOCK <= len; at += FAST_BLOCK)
		fast_copy_block(to + at, from + at);
	if (at < len)
		fast_copy_block(to + len - FAST_BLOCK, from + len - FAST_BLOCK);
}

/** Write frames into mbufs, and give them back if @p gives. */
static __rte_always_inline FAST_TARGET void
fast_moves_take(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
	const struct fast_mbufs *mbufs, enum give_back_way way, const bool gives)
{
	const uint64_t rearm = mbufs->rearm;
	const size_t data_at = mbufs->data_at;

	for (uint16_t i = 0; i < n; i++) {
		const uint64_t len = job[i].len;
		const bool last = i + 1 == n;

		/* rearm_data, ol_flags, packet_type and pkt_len, data_len and vlan_tci and hash.
		 * The rest of an mbuf from its pool is as a packet of one segment has it.
		 */
		fast_store_mbuf(&pkts[i]->rearm_data, rearm, 0, len << 32, len);
		if (len > FAST_BLOCK) {
			const struct fast_next next = {
				.to = last ? NULL : RTE_PTR_ADD(pkts[i + 1], data_at),
				.from = last ? NULL : job[i + 1].guest,
				.len = last ? 0 : job[i + 1].len,
			};

			fast_moves_copy_long(
				RTE_PTR_ADD(pkts[i], data_at), job[i].guest, len, &next);
			if (gives)
				give_back_frame(way, job[i].guest, len);
			continue;
		}
		fast_copy_short(RTE_PTR_ADD(pkts[i], data_at), job[i].guest, len);
		if (gives)
			give_back_frame(way, job[i].guest, len);
		if (unlikely(!last && job[i + 1].len > FAST_BLOCK))
			fast_moves_fetch_all(RTE_PTR_ADD(pkts[i + 1], data_at), job[i + 1].guest,
				job[i + 1].len);
	}
}

static FAST_TARGET void
fast_moves_dequeue(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
	const struct fast_mbufs *mbufs)
{
	fast_moves_take(job, pkts, n, mbufs, GIVE_BACK_NOT, false);
}

static FAST_TARGET void
fast_moves_dequeue_giving(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
	const struct fast_mbufs *mbufs, enum give_back_way way)
{
	fast_moves_take(job, pkts, n, mbufs, way, true);
}

/** The header of a packet with nothing left to do, in one buffer. */
static __rte_always_inline FAST_TARGET void
fast_moves_header(uint8_t *hdr, uint8_t hdr_len)
{
	const uint16_t num_buffers[2] = {0, 1};
	uint64_t first;
	uint32_t second;

	/* Buffers lie anywhere. Guests seldom dirty what they have read; then the line stays theirs. */
	memcpy(&first, hdr, sizeof(first));
	if (first != 0)
		memset(hdr, 0, sizeof(first));
	hdr += sizeof(first);
	if (hdr_len == sizeof(struct virtio_net_hdr_v1)) {
		memcpy(&second, hdr, sizeof(second));
		if (second != UINT32_C(1) << 16)
			memcpy(hdr, num_buffers, sizeof(num_buffers));
	} else if ((hdr[0] | hdr[1]) != 0) {
		memset(hdr, 0, sizeof(num_buffers[0]));
	}
}

/**
 * Fetch the second line of each frame, which for those of up to FAST_BLOCK bytes nobody else does. What
 * another core has had is a long way off: it has to be asked for early, and for all packets of a burst
 * at once.
 */
static __rte_always_inline FAST_TARGET void
fast_moves_fetch_second(const struct fast_job *job, uint16_t n, uint8_t hdr_len)
{
	for (uint16_t i = 0; i < n; i++) {
		const size_t len = RTE_MIN((size_t)job[i].len, FAST_BLOCK);

		fast_prefetch_write(job[i].guest + hdr_len + len - 1);
	}
}

static FAST_TARGET void
fast_moves_enqueue(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n, uint8_t hdr_len,
	uint64_t bytes)
{
	/* Frames of one line, and there are hardly any others in many bursts, need none of this. */
	if (bytes > (uint64_t)n * RTE_CACHE_LINE_SIZE)
		fast_moves_fetch_second(job, n, hdr_len);
	for (uint16_t i = 0; i < n; i++) {
		const uint8_t *from = rte_pktmbuf_mtod(pkts[i], const uint8_t *);
		uint8_t *to = job[i].guest + hdr_len;
		const uint64_t len = job[i].len;
		const bool last = i + 1 == n;

		fast_moves_header(job[i].guest, hdr_len);
		if (len > FAST_BLOCK) {
			const struct fast_next next = {
				.to = last ? NULL : job[i + 1].guest + hdr_len,
				.len = last ? 0 : job[i + 1].len,
			};

			fast_moves_copy_long(to, from, len, &next);
			continue;
		}
		fast_copy_short(to, from, len);
		if (unlikely(!last && job[i + 1].len > FAST_BLOCK))
			fast_moves_fetch_all(job[i + 1].guest + hdr_len, NULL, job[i + 1].len);
	}
}

const struct dynvhost_fast FAST_NAME = {
	.dequeue = fast_moves_dequeue,
	.dequeue_giving = fast_moves_dequeue_giving,
	.enqueue = fast_moves_enqueue,
	.bits = FAST_BITS,
};
