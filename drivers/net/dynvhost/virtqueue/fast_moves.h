/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * The loops of the second pass; see fast_kernel.h.
 */

/**
 * Fetch lines of the next buffer, up to @p bytes, while this packet is copied; the first line is on
 * its way already.
 */
static __rte_always_inline FAST_TARGET void
fast_moves_ahead(const struct fast_job *next, uint32_t bytes, const bool write)
{
	bytes = RTE_MIN(bytes, next->len);
	for (uint32_t at = RTE_CACHE_LINE_SIZE; at < bytes; at += RTE_CACHE_LINE_SIZE) {
		if (write)
			fast_prefetch_write(next->guest + at);
		else
			rte_prefetch0(next->guest + at);
	}
}

static FAST_TARGET void
fast_moves_dequeue(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n,
	const struct fast_mbufs *mbufs)
{
	const uint64_t rearm = mbufs->rearm;
	const size_t data_at = mbufs->data_at;

	for (uint16_t i = 0; i < n; i++) {
		const uint64_t len = job[i].len;

		/* rearm_data, ol_flags, packet_type and pkt_len, data_len and vlan_tci and hash.
		 * The rest of an mbuf from its pool is as a packet of one segment has it.
		 */
		fast_store_mbuf(&pkts[i]->rearm_data, rearm, 0, len << 32, len);
		if (i + 1 < n)
			fast_moves_ahead(&job[i + 1], FAST_AHEAD_RX, false);
		fast_copy(RTE_PTR_ADD(pkts[i], data_at), job[i].guest, len);
	}
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

static FAST_TARGET void
fast_moves_enqueue(const struct fast_job *job, struct rte_mbuf **pkts, uint16_t n, uint8_t hdr_len,
	uint32_t ahead)
{
	for (uint16_t i = 0; i < n; i++) {
		if (i + 1 < n)
			fast_moves_ahead(&job[i + 1], ahead, true);
		fast_moves_header(job[i].guest, hdr_len);
		fast_copy(job[i].guest + hdr_len, rte_pktmbuf_mtod(pkts[i], const uint8_t *),
			job[i].len);
	}
}

const struct dynvhost_fast FAST_NAME = {
	.dequeue = fast_moves_dequeue,
	.enqueue = fast_moves_enqueue,
	.bits = FAST_BITS,
};
