/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_TEST_FUZZ_H
#define DYNVHOST_TEST_FUZZ_H

/**
 * @file
 * What fuzz targets share.
 *
 * A target is one file with the two functions that libFuzzer asks for. It reads its input through a
 * struct fuzz_in as a sequence of things to do, so that most inputs get far; what must hold after
 * each of them it says by fuzz_check(), and that aborts. No input is bad: where bytes run out, zeros
 * follow, and numbers are taken modulo what there is.
 *
 * The same target is linked with replay.c, which plays the corpus and variations of it, and with
 * libFuzzer. corpus.py writes the corpus; see there how an input of each target is put together.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rte_mempool;

/** Longest input that is worth something. */
#define FUZZ_MAX_INPUT 4096u

/** Called once, before the first input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/** Called for each input. @return 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/**
 * What inputs of this target can lead to, one name each, NULL at the end. The corpus must lead to
 * all of it: else an input has ceased to do what it was written for.
 */
extern const char *const fuzz_outcomes[];
#define FUZZ_MAX_OUTCOMES 48

/** How often each of fuzz_outcomes was seen. */
extern uint64_t fuzz_seen[FUZZ_MAX_OUTCOMES];

#define fuzz_see(outcome) ((void)fuzz_seen[outcome]++)

/** What must hold whatever the input. */
#define fuzz_check(condition)                                      \
	do {                                                       \
		if (!(condition))                                  \
			fuzz_fail(__FILE__, __LINE__, #condition); \
	} while (0)

void fuzz_fail(const char *file, int line, const char *text) __attribute__((noreturn));

/** For loops of the target's own that libFuzzer has nothing to learn from. */
#ifdef __clang__
#define FUZZ_UNWATCHED __attribute__((no_sanitize("coverage")))
#else
#define FUZZ_UNWATCHED
#endif

/* --- input --- */

struct fuzz_in {
	const uint8_t *at;
	size_t left;
};

/** The next byte, 0 when the input is over. */
uint8_t fuzz_u8(struct fuzz_in *in);
/** The next bytes, the least significant one first. */
uint16_t fuzz_u16(struct fuzz_in *in);
uint32_t fuzz_u32(struct fuzz_in *in);
uint64_t fuzz_u64(struct fuzz_in *in);
/** Up to @p n next bytes. @return how many there were; the rest of @p to is as it was. */
size_t fuzz_bytes(struct fuzz_in *in, void *to, size_t n);

/** A number below @p n from the next byte. */
static inline uint32_t
fuzz_pick(struct fuzz_in *in, uint32_t n)
{
	return fuzz_u8(in) % n;
}

/* --- DPDK --- */

/** Bring up EAL, without huge pages and files. For targets that do not do so through another bed. */
void fuzz_eal_init(void);

/** A pool of @p n mbufs with @p room bytes of data each. */
struct rte_mempool *fuzz_pool(const char *name, unsigned int n, uint16_t room);

/**
 * Where the address sanitizer watches: let it report whoever reaches from one object of a pool into
 * the next.
 */
void fuzz_fence_pool(struct rte_mempool *pool);

struct rte_mbuf;

/** Check a packet that was received: its own fields, and that all of its bytes can be loaded. */
void fuzz_check_packet(const struct rte_mbuf *pkt);

#endif /* DYNVHOST_TEST_FUZZ_H */
