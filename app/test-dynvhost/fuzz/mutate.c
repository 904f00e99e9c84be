/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "mutate.h"

/** Changes to one input at most. */
#define MUTATE_MOST 6

/** An input in the making. */
struct mutate_draft {
	struct mutate *mutate;
	uint8_t *bytes;
	size_t size;
	size_t room;
	const uint8_t *other;
	size_t other_size;
};

/* xorshift64*, whose state must not be 0. */
uint32_t
mutate_below(struct mutate *mutate, uint32_t n)
{
	uint64_t x = mutate->random != 0 ? mutate->random : 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	mutate->random = x;
	return (uint32_t)((x * 2685821657736338717ull) >> 32) % n;
}

static size_t
mutate_place(const struct mutate_draft *draft, size_t n)
{
	return n == 0 ? 0 : mutate_below(draft->mutate, (uint32_t)n);
}

static void
mutate_flip(struct mutate_draft *draft)
{
	if (draft->size > 0)
		draft->bytes[mutate_place(draft, draft->size)] ^=
			(uint8_t)(1u << mutate_below(draft->mutate, 8));
}

static void
mutate_byte(struct mutate_draft *draft)
{
	static const uint8_t edges[] = {0, 1, 2, 3, 4, 8, 16, 0x7f, 0x80, 0xfe, 0xff};
	uint8_t byte = mutate_below(draft->mutate, 2) != 0
			       ? edges[mutate_below(draft->mutate, sizeof(edges))]
			       : (uint8_t)mutate_below(draft->mutate, 256);

	if (draft->size > 0)
		draft->bytes[mutate_place(draft, draft->size)] = byte;
}

/* A number of 2, 4 or 8 bytes that is at an edge of its kind, or next to it. */
static void
mutate_number(struct mutate_draft *draft)
{
	const size_t width = (size_t)2 << mutate_below(draft->mutate, 3);
	uint64_t value = UINT64_C(1) << mutate_below(draft->mutate, (uint32_t)(8 * width));

	value += mutate_below(draft->mutate, 3);
	value -= 1;
	if (mutate_below(draft->mutate, 4) == 0)
		value = ~value;
	if (draft->size >= width)
		memcpy(draft->bytes + mutate_place(draft, draft->size - width + 1), &value, width);
}

static void
mutate_cut(struct mutate_draft *draft)
{
	size_t at = mutate_place(draft, draft->size);
	size_t n = mutate_place(draft, draft->size - at);

	if (mutate_below(draft->mutate, 2) != 0 && n > 8)
		n = 1 + n % 8;
	memmove(draft->bytes + at, draft->bytes + at + n, draft->size - at - n);
	draft->size -= n;
}

/* Put a piece in; it may come out of the input itself. */
static void
mutate_insert(struct mutate_draft *draft, const uint8_t *from, size_t from_size)
{
	uint8_t piece[64];
	size_t at = mutate_place(draft, draft->size);
	size_t start = mutate_place(draft, from_size);
	size_t n = 1 + mutate_place(draft, sizeof(piece));

	if (n > from_size - start)
		n = from_size - start;
	if (n > draft->room - draft->size)
		return;
	memcpy(piece, from + start, n);
	memmove(draft->bytes + at + n, draft->bytes + at, draft->size - at);
	memcpy(draft->bytes + at, piece, n);
	draft->size += n;
}

static void
mutate_once(struct mutate_draft *draft)
{
	switch (mutate_below(draft->mutate, 8)) {
	case 0:
	case 1:
		mutate_flip(draft);
		break;
	case 2:
	case 3:
		mutate_byte(draft);
		break;
	case 4:
		mutate_number(draft);
		break;
	case 5:
		mutate_cut(draft);
		break;
	case 6:
		mutate_insert(draft, draft->bytes, draft->size);
		break;
	default:
		mutate_insert(draft, draft->other, draft->other_size);
		break;
	}
}

size_t
mutate_input(struct mutate *mutate, uint8_t *bytes, size_t size, size_t room, const uint8_t *other,
	size_t other_size)
{
	struct mutate_draft draft = {
		.mutate = mutate,
		.bytes = bytes,
		.size = size,
		.room = room,
		.other = other,
		.other_size = other_size,
	};
	uint32_t n = 1 + mutate_below(mutate, MUTATE_MOST);

	while (n-- > 0)
		mutate_once(&draft);
	return draft.size;
}
