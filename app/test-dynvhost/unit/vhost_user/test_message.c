/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The request table and the judgement of messages, against a second table written from the text of
 * vhost-user.rst in plain numbers. Every request meets every payload size, every number of fds,
 * every value of its count field that matters, with and without its protocol feature.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "message.h"

#define FLAGS_REQUEST 0x1u
#define FLAGS_ASKING  0x9u
#define FLAGS_REPLY   0x5u

/** Payloads of requests: a configuration space of 256 bytes behind a head of 12 is the largest. */
#define SIZE_LIMIT 268u

#define ALWAYS        (-1)
#define REPLY_ACK_BIT (1ull << 3)

/** How a request takes its answer. */
enum answer { ACK, BODY, ASKED };

struct spec_row {
	uint32_t id;
	const char *name;
	const char *sizes; /**< list of payload sizes, "a" or "a-b" */
	const char *fds;   /**< list of numbers of fds */
	int feature;       /**< protocol feature bit */
	enum answer answer;
};

/* clang-format off */
static const struct spec_row spec[] = {
	{ 1, "GET_FEATURES",          "0",      "0",   ALWAYS, BODY},
	{ 2, "SET_FEATURES",          "8",      "0",   ALWAYS, ACK},
	{ 3, "SET_OWNER",             "0",      "0",   ALWAYS, ACK},
	{ 4, "RESET_OWNER",           "0",      "0",   ALWAYS, ACK},
	/* 8 bytes of head, 32 and one fd for each of up to 8 regions */
	{ 5, "SET_MEM_TABLE",         "8,40,72,104,136,168,200,232,264", "0-8", ALWAYS, ACK},
	/* with LOG_SHMFD: log description, one fd; a u64 before that feature existed */
	{ 6, "SET_LOG_BASE",          "8,16",   "0-1", 1,      BODY},
	{ 7, "SET_LOG_FD",            "0,8",    "1",   ALWAYS, ACK},
	{ 8, "SET_VRING_NUM",         "8",      "0",   ALWAYS, ACK},
	{ 9, "SET_VRING_ADDR",        "40",     "0",   ALWAYS, ACK},
	{10, "SET_VRING_BASE",        "8",      "0",   ALWAYS, ACK},
	{11, "GET_VRING_BASE",        "8",      "0",   ALWAYS, BODY},
	/* bit 8 of the u64 says that no fd comes */
	{12, "SET_VRING_KICK",        "8",      "0-1", ALWAYS, ACK},
	{13, "SET_VRING_CALL",        "8",      "0-1", ALWAYS, ACK},
	{14, "SET_VRING_ERR",         "8",      "0-1", ALWAYS, ACK},
	{15, "GET_PROTOCOL_FEATURES", "0",      "0",   ALWAYS, BODY},
	{16, "SET_PROTOCOL_FEATURES", "8",      "0",   ALWAYS, ACK},
	{17, "GET_QUEUE_NUM",         "0",      "0",   0,      BODY},
	{18, "SET_VRING_ENABLE",      "8",      "0",   ALWAYS, ACK},
	{19, "SEND_RARP",             "8",      "0",   2,      ACK},
	{20, "NET_SET_MTU",           "8",      "0",   4,      ACK},
	{21, "SET_BACKEND_REQ_FD",    "0",      "1",   5,      ACK},
	/* 26 bytes carry meaning, 6 more are padding */
	{22, "IOTLB_MSG",             "26-32",  "0",   ALWAYS, ASKED},
	{23, "SET_VRING_ENDIAN",      "8",      "0",   6,      ACK},
	/* 12 bytes of head and as many bytes as its second field says, at most 256 */
	{24, "GET_CONFIG",            "12-268", "0",   9,      BODY},
	{25, "SET_CONFIG",            "12-268", "0",   9,      ACK},
	/* no layout is given */
	{26, "CREATE_CRYPTO_SESSION", "0-268",  "0",   7,      BODY},
	{27, "CLOSE_CRYPTO_SESSION",  "8",      "0",   7,      ACK},
	{28, "POSTCOPY_ADVISE",       "0",      "0",   8,      BODY},
	{29, "POSTCOPY_LISTEN",       "0",      "0",   8,      ASKED},
	{30, "POSTCOPY_END",          "0",      "0",   8,      ASKED},
	/* 20 bytes carry meaning, 4 more are padding */
	{31, "GET_INFLIGHT_FD",       "20-24",  "0",   12,     BODY},
	{32, "SET_INFLIGHT_FD",       "20-24",  "1",   12,     ACK},
	{33, "GPU_SET_SOCKET",        "0",      "1",   ALWAYS, ACK},
	{34, "RESET_DEVICE",          "0",      "0",   13,     ACK},
	{35, "VRING_KICK",            "8",      "0",   14,     ACK},
	{36, "GET_MAX_MEM_SLOTS",     "0",      "0",   15,     BODY},
	{37, "ADD_MEM_REG",           "40",     "1",   15,     ACK},
	/* no fd is sent, but one by mistake is to be tolerated */
	{38, "REM_MEM_REG",           "40",     "0-1", 15,     ACK},
	{39, "SET_STATUS",            "8",      "0",   16,     ACK},
	{40, "GET_STATUS",            "0",      "0",   16,     BODY},
	{41, "GET_SHARED_OBJECT",     "16",     "0",   18,     BODY},
	{42, "SET_DEVICE_STATE_FD",   "8",      "1",   19,     BODY},
	{43, "CHECK_DEVICE_STATE",    "0",      "0",   19,     BODY},
	{44, "GET_SHMEM_CONFIG",      "0",      "0",   22,     BODY},
};
/* clang-format on */

#define N_SPEC (sizeof(spec) / sizeof(spec[0]))

static const uint32_t unknown_ids[] = {0, 45, 46, 127, 128, 255, 256, 257, 65535, 65536, 65537,
	0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};

#define N_UNKNOWN (sizeof(unknown_ids) / sizeof(unknown_ids[0]))

/** Whether a list like "8,40" or "26-32" holds a number. */
static bool
listed(const char *list, uint32_t number)
{
	unsigned long from, to;
	char *end;

	for (;;) {
		from = strtoul(list, &end, 10);
		to = *end == '-' ? strtoul(end + 1, &end, 10) : from;
		if (number >= from && number <= to)
			return true;
		if (*end == '\0')
			return false;
		list = end + 1;
	}
}

static uint32_t
largest(const char *list)
{
	uint32_t number = SIZE_LIMIT + 100;

	while (!listed(list, number))
		number--;
	return number;
}

static uint32_t
smallest(const char *list)
{
	uint32_t number = 0;

	while (!listed(list, number))
		number++;
	return number;
}

static bool
negotiated(uint64_t features, int bit)
{
	return bit == ALWAYS || (features & 1ull << bit) != 0;
}

/** A message with a frame of the test's choice; its fds are numbers that are never closed. */
static struct dynvhost_msg
message(uint32_t id, uint32_t flags, uint32_t size, uint32_t n_fds)
{
	struct dynvhost_msg msg;
	uint32_t i;

	memset(&msg, 0xa5, sizeof(msg));
	msg.header.request = id;
	msg.header.flags = flags;
	msg.header.size = size;
	msg.n_fds = n_fds;
	for (i = 0; i < VU_MAX_FDS; i++)
		msg.fd[i] = i < n_fds ? 1000 + (int)i : -1;
	return msg;
}

/** What the text of the specification and our policy for malformed messages ask for. */
static enum dynvhost_msg_verdict
expected_verdict(const struct spec_row *row, const struct dynvhost_msg *msg, uint64_t features)
{
	uint32_t size = msg->header.size;
	uint32_t word[3];

	memcpy(word, &msg->payload, sizeof(word));
	if (!listed(row->sizes, size) || !listed(row->fds, msg->n_fds))
		return DYNVHOST_MSG_BROKEN;
	switch (row->id) {
	case 5:
		if ((size - 8) / 32 != word[0] || msg->n_fds != word[0])
			return DYNVHOST_MSG_BROKEN;
		return word[0] == 0 ? DYNVHOST_MSG_REFUSED : DYNVHOST_MSG_OK;
	case 6:
		if (negotiated(features, 1) && (size != 16 || msg->n_fds != 1))
			return DYNVHOST_MSG_BROKEN;
		break;
	case 12:
	case 13:
	case 14:
		if (msg->n_fds != ((word[0] & 0x100) != 0 ? 0 : 1))
			return DYNVHOST_MSG_BROKEN;
		break;
	case 24:
	case 25:
		if (size - 12 != word[1])
			return DYNVHOST_MSG_BROKEN;
		break;
	}
	return negotiated(features, row->feature) ? DYNVHOST_MSG_OK : DYNVHOST_MSG_REFUSED;
}

/** Judge, compare with the expectation, and see that judging changed nothing. */
static void
assert_verdict(
	const struct dynvhost_msg *msg, uint64_t features, enum dynvhost_msg_verdict expected)
{
	static const char untouched[] = "untouched";
	const char *why = untouched;
	struct dynvhost_msg before = *msg;
	enum dynvhost_msg_verdict verdict = dynvhost_msg_check(msg, features, &why);

	if (verdict != expected)
		fail_msg("request %u, flags %#x, size %u, %u fds, first words %#x %#x, features "
			 "%#llx: verdict %u (%s), expected %u",
			msg->header.request, msg->header.flags, msg->header.size, msg->n_fds,
			msg->payload.state.index, msg->payload.state.num,
			(unsigned long long)features, verdict, why, expected);
	assert_memory_equal(msg, &before, sizeof(before));
	if (expected == DYNVHOST_MSG_OK) {
		assert_ptr_equal(why, untouched);
	} else {
		assert_non_null(why);
		assert_ptr_not_equal(why, untouched);
	}
}

/** One frame with the payload as it stands, under each set of features that could matter. */
static void
sweep_features(const struct spec_row *row, const struct dynvhost_msg *msg)
{
	uint64_t own = row->feature == ALWAYS ? 0 : 1ull << row->feature;
	const uint64_t sets[] = {0, own, ~own, UINT64_MAX};
	uint32_t i;

	for (i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		assert_verdict(msg, sets[i], expected_verdict(row, msg, sets[i]));
}

/** One frame with each payload that could matter: count fields right, off by one, and absurd. */
static void
sweep_payloads(const struct spec_row *row, uint32_t size, uint32_t n_fds)
{
	struct dynvhost_msg msg = message(row->id, FLAGS_REQUEST, size, n_fds);
	const uint32_t config_sizes[] = {
		0, size - 13, size - 12, size - 11, size, 256, 257, UINT32_MAX, UINT32_MAX - 11};
	const uint32_t tables[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x08000000, 0x08000001, UINT32_MAX};
	const uint64_t vrings[] = {
		0, 1, 255, 256, 257, 511, 512, UINT64_MAX, UINT64_MAX - 256, 1ull << 40};
	uint32_t i;

	sweep_features(row, &msg);
	for (i = 0; row->id == 5 && i < sizeof(tables) / sizeof(tables[0]); i++) {
		msg.payload.table.n_regions = tables[i];
		sweep_features(row, &msg);
	}
	for (i = 0; row->id >= 12 && row->id <= 14 && i < sizeof(vrings) / sizeof(vrings[0]); i++) {
		msg.payload.u64 = vrings[i];
		sweep_features(row, &msg);
	}
	for (i = 0; (row->id == 24 || row->id == 25) && i < 9; i++) {
		msg.payload.config.size = config_sizes[i];
		sweep_features(row, &msg);
	}
}

static void
table_holds_every_request_of_the_specification(void **state)
{
	static const uint8_t answers[] = {
		[ACK] = DYNVHOST_MSG_ACK,
		[BODY] = DYNVHOST_MSG_BODY,
		[ASKED] = DYNVHOST_MSG_ACK_UNGATED,
	};
	const struct dynvhost_msg_info *info;
	uint32_t i;

	assert_int_equal(N_SPEC, 44);
	for (i = 0; i < N_SPEC; i++) {
		assert_int_equal(spec[i].id, i + 1);
		info = dynvhost_msg_info(spec[i].id);
		assert_non_null(info);
		assert_string_equal(info->name, spec[i].name);
		assert_string_equal(dynvhost_msg_name(spec[i].id), spec[i].name);
		assert_int_equal(info->size_min, smallest(spec[i].sizes));
		assert_int_equal(info->size_max, largest(spec[i].sizes));
		assert_int_equal(info->fds_min, smallest(spec[i].fds));
		assert_int_equal(info->fds_max, largest(spec[i].fds));
		assert_int_equal(info->gate, spec[i].feature == ALWAYS ? 0xff : spec[i].feature);
		assert_int_equal(info->reply, answers[spec[i].answer]);
	}
}

static void
unknown_ids_have_no_row_but_a_name(void **state)
{
	uint32_t i;

	for (i = 0; i < N_UNKNOWN; i++) {
		assert_null(dynvhost_msg_info(unknown_ids[i]));
		assert_string_equal(dynvhost_msg_name(unknown_ids[i]), "unknown request");
	}
}

/* C6, C7, C22, C31, C32, C44, H5, H6, H10 */
static void
every_size_and_fd_count_of_every_request_is_judged(void **state)
{
	uint32_t i, size, n_fds;

	for (i = 0; i < N_SPEC; i++)
		for (size = 0; size <= SIZE_LIMIT + 1; size++)
			for (n_fds = 0; n_fds <= VU_MAX_FDS; n_fds++)
				sweep_payloads(&spec[i], size, n_fds);
}

/* C8, C9, H7 */
static void
unknown_ids_are_refused_whatever_comes_with_them(void **state)
{
	struct dynvhost_msg msg;
	uint32_t i, size, n_fds;

	for (i = 0; i < N_UNKNOWN; i++) {
		for (size = 0; size <= SIZE_LIMIT + 1; size++) {
			for (n_fds = 0; n_fds <= VU_MAX_FDS; n_fds++) {
				msg = message(unknown_ids[i], FLAGS_REQUEST, size, n_fds);
				assert_verdict(&msg, UINT64_MAX,
					size <= SIZE_LIMIT ? DYNVHOST_MSG_REFUSED
							   : DYNVHOST_MSG_BROKEN);
			}
		}
	}
}

/* C4, H8: version 1 with or without NEED_REPLY is the only flags word that a request may have. */
static void
every_other_flags_word_is_broken(void **state)
{
	struct dynvhost_msg msg;
	uint32_t bit, flags;
	bool good;

	for (flags = 0; flags < 0x1000; flags++) {
		good = flags == FLAGS_REQUEST || flags == FLAGS_ASKING;
		msg = message(1, flags, 0, 0);
		assert_int_equal(dynvhost_msg_check_header(&msg.header), good ? 0 : -EPROTO);
		assert_verdict(&msg, UINT64_MAX, good ? DYNVHOST_MSG_OK : DYNVHOST_MSG_BROKEN);
		msg.header.request = 99;
		assert_verdict(&msg, 0, good ? DYNVHOST_MSG_REFUSED : DYNVHOST_MSG_BROKEN);
	}
	for (bit = 12; bit < 32; bit++) {
		msg = message(1, FLAGS_ASKING | 1u << bit, 0, 0);
		assert_int_equal(dynvhost_msg_check_header(&msg.header), -EPROTO);
		assert_verdict(&msg, UINT64_MAX, DYNVHOST_MSG_BROKEN);
	}
}

/* C3, H4: the limit is the largest row, whatever the id. */
static void
header_size_is_bounded_by_the_largest_request(void **state)
{
	const uint32_t beyond[] = {
		269, 270, 272, 296, 4096, 0x7fffffff, 0x80000000, 0xfffffff4, 0xffffffff};
	const uint32_t ids[] = {0, 1, 5, 25, 26, 44, 45, 0xffffffff};
	struct vu_header header = {.flags = FLAGS_REQUEST};
	uint32_t i, k, limit = 0;

	for (i = 0; i < N_SPEC; i++)
		if (largest(spec[i].sizes) > limit)
			limit = largest(spec[i].sizes);
	assert_int_equal(limit, SIZE_LIMIT);

	for (k = 0; k < sizeof(ids) / sizeof(ids[0]); k++) {
		header.request = ids[k];
		for (header.size = 0; header.size <= SIZE_LIMIT; header.size++)
			assert_int_equal(dynvhost_msg_check_header(&header), 0);
		for (i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
			header.size = beyond[i];
			assert_int_equal(dynvhost_msg_check_header(&header), -EPROTO);
		}
	}
}

static void
assert_why(const struct dynvhost_msg *msg, uint64_t features, const char *expected)
{
	const char *why = NULL;

	dynvhost_msg_check(msg, features, &why);
	assert_string_equal(why, expected);
}

static void
reason_names_what_is_wrong(void **state)
{
	struct dynvhost_msg msg = message(1, 0x5, 0, 0);

	assert_why(&msg, 0, "header has a wrong version, flags or size");
	msg = message(45, FLAGS_REQUEST, 0, 0);
	assert_why(&msg, 0, "request is unknown");
	msg = message(2, FLAGS_REQUEST, 7, 0);
	assert_why(&msg, 0, "payload size is wrong for this request");
	msg = message(2, FLAGS_REQUEST, 8, 1);
	assert_why(&msg, 0, "number of fds is wrong for this request");
	msg = message(7, FLAGS_REQUEST, 4, 1);
	assert_why(&msg, 0, "payload size is wrong for this request");
	msg = message(6, FLAGS_REQUEST, 8, 1);
	assert_why(&msg, 1 << 1, "payload size is wrong for this request");
	msg = message(6, FLAGS_REQUEST, 16, 0);
	assert_why(&msg, 1 << 1, "number of fds is wrong for this request");
	msg = message(17, FLAGS_REQUEST, 0, 0);
	assert_why(&msg, 0, "protocol feature of this request is not negotiated");
	msg = message(12, FLAGS_REQUEST, 8, 1);
	msg.payload.u64 = 0x100;
	assert_why(&msg, 0, "number of fds disagrees with the no-fd flag");
	msg = message(24, FLAGS_REQUEST, 20, 0);
	msg.payload.config.size = 7;
	assert_why(&msg, 0, "payload size disagrees with the number of configuration bytes");
	msg = message(5, FLAGS_REQUEST, 40, 1);
	msg.payload.table.n_regions = 2;
	assert_why(&msg, 0, "payload size disagrees with the number of regions");
	msg.payload.table.n_regions = 1;
	msg.n_fds = 2;
	assert_why(&msg, 0, "number of fds disagrees with the number of regions");
	msg = message(5, FLAGS_REQUEST, 8, 0);
	msg.payload.table.n_regions = 0;
	assert_why(&msg, 0, "memory table is empty");
}

static bool
expected_ack(const struct spec_row *row, uint64_t features)
{
	/* Only a log in shared memory is answered with a body. */
	bool body = row->answer == BODY && (row->id != 6 || negotiated(features, 1));

	return row->answer == ASKED || (!body && negotiated(features, 3));
}

/* C10, C11 */
static void
acknowledgement_is_wanted_when_asked_and_negotiated(void **state)
{
	const uint64_t sets[] = {
		0, REPLY_ACK_BIT, 1 << 1, 1 << 1 | REPLY_ACK_BIT, ~REPLY_ACK_BIT, UINT64_MAX};
	struct dynvhost_msg msg;
	uint32_t i, k;

	for (k = 0; k < sizeof(sets) / sizeof(sets[0]); k++) {
		for (i = 0; i < N_SPEC; i++) {
			msg = message(spec[i].id, FLAGS_REQUEST, 0, 0);
			assert_false(dynvhost_msg_wants_ack(&msg, sets[k]));
			msg.header.flags = FLAGS_ASKING;
			assert_int_equal(dynvhost_msg_wants_ack(&msg, sets[k]),
				expected_ack(&spec[i], sets[k]));
		}
		for (i = 0; i < N_UNKNOWN; i++) {
			msg = message(unknown_ids[i], FLAGS_REQUEST, 0, 0);
			assert_false(dynvhost_msg_wants_ack(&msg, sets[k]));
			msg.header.flags = FLAGS_ASKING;
			assert_int_equal(
				dynvhost_msg_wants_ack(&msg, sets[k]), negotiated(sets[k], 3));
		}
	}
}

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static struct dynvhost_msg
message_with_real_fds(uint32_t n_fds)
{
	struct dynvhost_msg msg = message(5, FLAGS_REQUEST, 8, n_fds);
	uint32_t i;

	for (i = 0; i < n_fds; i++) {
		msg.fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(msg.fd[i] >= 0);
	}
	return msg;
}

static void
taken_fd_leaves_the_message(void **state)
{
	struct dynvhost_msg msg = message(5, FLAGS_REQUEST, 8, 3);

	assert_int_equal(dynvhost_msg_take_fd(&msg, 1), 1001);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 1), -1);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 3), -1);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 8), -1);
	assert_int_equal(dynvhost_msg_take_fd(&msg, UINT32_MAX), -1);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 0), 1000);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 2), 1002);
	assert_int_equal(msg.n_fds, 3);

	msg = message(5, FLAGS_REQUEST, 8, 8);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 8), -1);
	assert_int_equal(dynvhost_msg_take_fd(&msg, 7), 1007);
}

static void
closing_fds_spares_those_that_were_taken(void **state)
{
	struct dynvhost_msg msg = message_with_real_fds(8);
	int fd[8], taken, i;

	memcpy(fd, msg.fd, sizeof(fd));
	taken = dynvhost_msg_take_fd(&msg, 5);
	assert_int_equal(taken, fd[5]);
	dynvhost_msg_close_fds(&msg);
	assert_int_equal(msg.n_fds, 0);
	for (i = 0; i < 8; i++) {
		assert_int_equal(msg.fd[i], -1);
		assert_int_equal(is_open(fd[i]), i == 5);
	}
	dynvhost_msg_close_fds(&msg);
	assert_true(is_open(taken));
	close(taken);
}

/* C1 */
static void
reply_repeats_the_id_with_plain_flags_and_no_stale_bytes(void **state)
{
	struct dynvhost_msg request = message(11, FLAGS_ASKING, 8, 0);
	struct dynvhost_msg reply, expected;
	uint32_t i;

	memset(&expected, 0, sizeof(expected));
	expected.header.request = 11;
	expected.header.flags = FLAGS_REPLY;
	expected.header.size = 8;
	for (i = 0; i < VU_MAX_FDS; i++)
		expected.fd[i] = -1;

	memset(&reply, 0xa5, sizeof(reply));
	dynvhost_msg_init_reply(&reply, &request, 8);
	assert_memory_equal(&reply, &expected, sizeof(expected));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_holds_every_request_of_the_specification),
		cmocka_unit_test(unknown_ids_have_no_row_but_a_name),
		cmocka_unit_test(every_size_and_fd_count_of_every_request_is_judged),
		cmocka_unit_test(unknown_ids_are_refused_whatever_comes_with_them),
		cmocka_unit_test(every_other_flags_word_is_broken),
		cmocka_unit_test(header_size_is_bounded_by_the_largest_request),
		cmocka_unit_test(reason_names_what_is_wrong),
		cmocka_unit_test(acknowledgement_is_wanted_when_asked_and_negotiated),
		cmocka_unit_test(taken_fd_leaves_the_message),
		cmocka_unit_test(closing_fds_spares_those_that_were_taken),
		cmocka_unit_test(reply_repeats_the_id_with_plain_flags_and_no_stale_bytes),
	};

	return cmocka_run_group_tests_name("vhost_user/message", tests, NULL, NULL);
}
