/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "fuzz.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define FUZZ_HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FUZZ_HAS_ASAN 1
#endif
#ifdef FUZZ_HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

uint64_t fuzz_seen[FUZZ_MAX_OUTCOMES];

void
fuzz_fail(const char *file, int line, const char *text)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, text);
	abort();
}

uint8_t
fuzz_u8(struct fuzz_in *in)
{
	uint8_t byte = 0;

	fuzz_bytes(in, &byte, sizeof(byte));
	return byte;
}

uint16_t
fuzz_u16(struct fuzz_in *in)
{
	uint16_t low = fuzz_u8(in);

	return (uint16_t)(low | fuzz_u8(in) << 8);
}

uint32_t
fuzz_u32(struct fuzz_in *in)
{
	uint32_t low = fuzz_u16(in);

	return low | (uint32_t)fuzz_u16(in) << 16;
}

uint64_t
fuzz_u64(struct fuzz_in *in)
{
	uint64_t low = fuzz_u32(in);

	return low | (uint64_t)fuzz_u32(in) << 32;
}

size_t
fuzz_bytes(struct fuzz_in *in, void *to, size_t n)
{
	n = RTE_MIN(n, in->left);
	if (n == 0)
		return 0;
	memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
	return n;
}

void
fuzz_eal_init(void)
{
	static char words[][20] = {"fuzz", "--no-huge", "-m", "64", "--no-pci", "--no-shconf",
		"--no-telemetry", "--log-level=error"};
	char *argv[RTE_DIM(words) + 1] = {NULL};
	unsigned int i;

	for (i = 0; i < RTE_DIM(words); i++)
		argv[i] = words[i];
	fuzz_check(rte_eal_init(RTE_DIM(words), argv) >= 0);
}

#ifdef FUZZ_HAS_ASAN
/* Header and trailer of an object are the library's, and that is not instrumented. */
static void
fuzz_fence_object(struct rte_mempool *pool, void *opaque, void *object, unsigned int i)
{
	ASAN_POISON_MEMORY_REGION((uint8_t *)object - pool->header_size, pool->header_size);
	ASAN_POISON_MEMORY_REGION((uint8_t *)object + pool->elt_size, pool->trailer_size);
}
#endif

void
fuzz_fence_pool(struct rte_mempool *pool)
{
#ifdef FUZZ_HAS_ASAN
	rte_mempool_obj_iter(pool, fuzz_fence_object, NULL);
#endif
}

struct rte_mempool *
fuzz_pool(const char *name, unsigned int n, uint16_t room)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		name, n, 32, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + room), SOCKET_ID_ANY);

	fuzz_check(pool != NULL);
	fuzz_fence_pool(pool);
	return pool;
}

void
fuzz_check_packet(const struct rte_mbuf *pkt)
{
	static volatile uint8_t sink;
	const struct rte_mbuf *m;
	const char *reason;
	uint8_t sum = 0;
	uint16_t i;

	if (rte_mbuf_check(pkt, 1, &reason) != 0)
		fuzz_fail(__FILE__, __LINE__, reason);
	for (m = pkt; m != NULL; m = m->next) {
		const uint8_t *byte = rte_pktmbuf_mtod(m, const uint8_t *);

		fuzz_check(rte_mbuf_refcnt_read(m) == 1);
		for (i = 0; i < m->data_len; i++)
			sum ^= byte[i];
	}
	sink = sum;
	(void)sink;
}
