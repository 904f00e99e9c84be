/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <string.h>

#include "frame.h"

#define FRAME_ETH_LEN 14
#define FRAME_TAG_LEN 4
#define FRAME_V4_LEN  20
#define FRAME_V6_LEN  40

/** IPv6 header of options that are all padding (RFC 8200 §4.6). */
#define FRAME_V6_OPTIONS 60

static void
frame_put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint16_t
frame_get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t
frame_add(const uint8_t *data, size_t len)
{
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < len; i++)
		sum += i % 2 == 0 ? (uint32_t)data[i] << 8 : data[i];
	return sum;
}

static uint16_t
frame_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t
frame_sum(const uint8_t *data, size_t len)
{
	return frame_fold(frame_add(data, len));
}

static bool
frame_is_ipv4(const uint8_t *data, const struct frame *frame)
{
	return data[frame->l2_len] >> 4 == 4;
}

/* Pseudo-header: addresses, protocol, length of what follows layer 3 (RFC 9293 §3.1, RFC 8200 §8.1). */
static uint16_t
frame_pseudo(const uint8_t *data, const struct frame *frame)
{
	const uint8_t *l3 = data + frame->l2_len;
	uint64_t sum = frame->len - frame->l4_at;

	if (frame_is_ipv4(data, frame))
		return frame_fold(sum + l3[9] + frame_add(l3 + 12, 8));
	/* The protocol is that of the last header; extensions name it first. */
	sum += frame->l3_len > FRAME_V6_LEN ? l3[FRAME_V6_LEN] : l3[6];
	return frame_fold(sum + frame_add(l3 + 8, 32));
}

static uint32_t
frame_build_l2(uint8_t *data, const struct frame_spec *spec)
{
	static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
	uint32_t at = sizeof(addresses);

	memcpy(data, addresses, sizeof(addresses));
	if (spec->tagged) {
		frame_put16(data + at, 0x8100);
		frame_put16(data + at + 2, FRAME_TAG);
		at += FRAME_TAG_LEN;
	}
	frame_put16(data + at, spec->ipv6 ? 0x86dd : 0x0800);
	return at + 2;
}

static uint32_t
frame_build_ipv4(uint8_t *l3, const struct frame_spec *spec, uint32_t rest)
{
	uint32_t len = FRAME_V4_LEN + spec->ip_options;

	memset(l3, 1 /* no operation */, len);
	l3[0] = (uint8_t)(0x40 | len / 4);
	l3[1] = 0;
	frame_put16(l3 + 2, len + rest);
	frame_put16(l3 + 4, spec->seed);
	frame_put16(l3 + 6, spec->fragment ? 0x2000 : 0);
	l3[8] = 64;
	l3[9] = spec->proto;
	frame_put16(l3 + 10, 0);
	memcpy(l3 + 12, (const uint8_t[]){10, 0, 0, 1, 10, 0, 0, 2}, 8);
	frame_put16(l3 + 10, (uint16_t)~frame_sum(l3, len));
	return len;
}

static uint32_t
frame_build_ipv6(uint8_t *l3, const struct frame_spec *spec, uint32_t rest)
{
	uint32_t len = FRAME_V6_LEN + spec->ip_options;

	memset(l3, 0, len);
	l3[0] = 0x60;
	frame_put16(l3 + 4, spec->ip_options + rest);
	l3[6] = spec->ip_options > 0 ? FRAME_V6_OPTIONS : spec->proto;
	l3[7] = 64;
	l3[8] = 0xfd;
	l3[23] = 1;
	l3[24] = 0xfd;
	l3[39] = 2;
	if (spec->ip_options > 0) {
		l3[FRAME_V6_LEN] = spec->proto;
		l3[FRAME_V6_LEN + 1] = (uint8_t)(spec->ip_options / 8 - 1);
	}
	return len;
}

/* A layer 4 header without its checksum. @return its bytes. */
static uint32_t
frame_build_l4(uint8_t *l4, const struct frame_spec *spec, struct frame *frame)
{
	uint32_t len = 0;

	if (spec->proto == FRAME_TCP) {
		len = 20 + spec->l4_options;
		memset(l4, 1, len);
		l4[12] = (uint8_t)(len / 4 << 4);
		l4[13] = spec->tcp_flags != 0 ? spec->tcp_flags : FRAME_TCP_ACK;
		frame->csum_offset = 16;
	} else if (spec->proto == FRAME_UDP) {
		len = 8;
		frame_put16(l4 + 4, len + spec->payload);
		frame->csum_offset = 6;
	} else if (spec->proto == FRAME_SCTP) {
		len = 12;
		memset(l4, 0, len);
	}
	if (len > 0) {
		frame_put16(l4, 1000 + (spec->seed & 0xff));
		frame_put16(l4 + 2, 2000);
	}
	if (frame->csum_offset != 0)
		frame_put16(l4 + frame->csum_offset, 0);
	return len;
}

static uint32_t
frame_l4_len(const struct frame_spec *spec)
{
	switch (spec->proto) {
	case FRAME_TCP:
		return 20u + spec->l4_options;
	case FRAME_UDP:
		return 8;
	case FRAME_SCTP:
		return 12;
	default:
		return 0;
	}
}

struct frame_spec
frame_kind(unsigned int i)
{
	return (struct frame_spec){
		.ipv6 = i & 1,
		.tagged = (i >> 1) & 1,
		.proto = (i >> 2) & 1 ? FRAME_TCP : FRAME_UDP,
		.ip_options = (i >> 3) & 1 ? 24 : 0,
		.l4_options = (i >> 2) & 1 ? 12 : 0,
		.payload = 301 + i,
		.seed = i,
	};
}

struct frame
frame_build(uint8_t *data, const struct frame_spec *spec)
{
	uint32_t rest = frame_l4_len(spec) + spec->payload;
	struct frame frame = {.data = data};
	uint32_t x = spec->seed * 2654435761u + 1;
	uint16_t csum;
	uint32_t i;

	frame.l2_len = (uint16_t)frame_build_l2(data, spec);
	frame.l3_len = (uint16_t)(spec->ipv6 ? frame_build_ipv6(data + frame.l2_len, spec, rest)
					     : frame_build_ipv4(data + frame.l2_len, spec, rest));
	frame.l4_at = (uint16_t)(frame.l2_len + frame.l3_len);
	frame.l4_len = (uint16_t)frame_build_l4(data + frame.l4_at, spec, &frame);
	frame.len = frame.l4_at + rest;
	for (i = frame.l4_at + frame.l4_len; i < frame.len; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = (uint8_t)(x >> 24);
	}
	if (frame.csum_offset == 0)
		return frame;
	frame_make_partial(data, &frame);
	csum = (uint16_t)~frame_sum(data + frame.l4_at, rest);
	if (csum == 0 && spec->proto == FRAME_UDP)
		csum = 0xffff;
	frame_put16(data + frame.l4_at + frame.csum_offset, csum);
	return frame;
}

void
frame_make_partial(uint8_t *data, const struct frame *frame)
{
	frame_put16(data + frame->l4_at + frame->csum_offset, frame_pseudo(data, frame));
}

bool
frame_is_complete(const uint8_t *data, const struct frame *frame)
{
	uint32_t sum;

	if (frame_is_ipv4(data, frame) && frame_sum(data + frame->l2_len, frame->l3_len) != 0xffff)
		return false;
	if (frame->csum_offset == 0)
		return true;
	if (frame->csum_offset == 6 && frame_get16(data + frame->l4_at + 6) == 0)
		return false;
	sum = frame_pseudo(data, frame);
	return frame_fold(sum + frame_add(data + frame->l4_at, frame->len - frame->l4_at)) ==
	       0xffff;
}
