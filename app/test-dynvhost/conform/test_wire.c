/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Conformance: messages as such (vhost-user.rst, "Message Specification" and "REPLY_ACK"). */

#include <string.h>
#include <unistd.h>

#include "conform.h"

/** What a whole request looks like. */
struct wire_shape {
	uint32_t request;
	uint32_t size;
	uint32_t n_fds;
	uint64_t first; /**< value of the first 8 bytes */
};

/** Every request that needs no feature beyond those negotiated here. */
static const struct wire_shape wire_shapes[] = {
	{VU_GET_FEATURES, 0, 0, 0},
	{VU_SET_FEATURES, 8, 0, 0},
	{VU_SET_OWNER, 0, 0, 0},
	{VU_RESET_OWNER, 0, 0, 0},
	{VU_SET_MEM_TABLE, 40, 1, 1},
	{VU_SET_VRING_NUM, 8, 0, 256ull << 32},
	{VU_SET_VRING_ADDR, 40, 0, 0},
	{VU_SET_VRING_BASE, 8, 0, 0},
	{VU_GET_VRING_BASE, 8, 0, 0},
	{VU_SET_VRING_KICK, 8, 1, 0},
	{VU_SET_VRING_CALL, 8, 1, 0},
	{VU_SET_VRING_ERR, 8, 1, 0},
	{VU_GET_PROTOCOL_FEATURES, 0, 0, 0},
	{VU_SET_PROTOCOL_FEATURES, 8, 0, BIT(VU_PF_REPLY_ACK)},
	{VU_GET_QUEUE_NUM, 0, 0, 0},
	{VU_SET_VRING_ENABLE, 8, 0, 0},
	{VU_GET_MAX_MEM_SLOTS, 0, 0, 0},
	{VU_ADD_MEM_REG, 40, 1, 0},
	{VU_REM_MEM_REG, 40, 0, 0},
	{VU_SET_STATUS, 8, 0, 0},
	{VU_GET_STATUS, 0, 0, 0},
	{VU_RESET_DEVICE, 0, 0, 0},
	{VU_SEND_RARP, 8, 0, 0},
	{VU_NET_SET_MTU, 8, 0, 1500},
	{VU_SET_LOG_BASE, 16, 1, 4096},
};
#define WIRE_N_SHAPES (sizeof(wire_shapes) / sizeof(wire_shapes[0]))

/* Requests that are always answered, by a body of their own. */
static const struct {
	uint32_t request;
	uint32_t size;
} wire_answered[] = {
	{VU_GET_FEATURES, 0},
	{VU_GET_PROTOCOL_FEATURES, 0},
	{VU_GET_QUEUE_NUM, 0},
	{VU_GET_MAX_MEM_SLOTS, 0},
	{VU_GET_STATUS, 0},
	{VU_GET_VRING_BASE, 8},
};

/* A connection on which everything is negotiated and no guest runs. */
static struct rig *
wire_open(void)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	return rig;
}

static void
wire_send_shape(struct rig *rig, const struct wire_shape *shape, uint32_t size, uint32_t flags,
	unsigned int n_fds)
{
	int fd[2] = {rig->ram.file[0].fd, rig->ram.file[0].fd};
	uint8_t payload[512] = {0};
	struct fe_message message = fe_make(shape->request, flags, payload, size);

	memcpy(payload, &shape->first, sizeof(shape->first));
	message.fd = fd;
	message.n_fds = n_fds;
	fe_send(&rig->fe, &message);
}

static void
test_c01_reply_flags_word_is_5(void **state)
{
	struct rig *rig = wire_open();
	unsigned int i;

	for (i = 0; i < 2 * sizeof(wire_answered) / sizeof(wire_answered[0]); i++) {
		const uint8_t payload[8] = {0};
		uint32_t request = wire_answered[i / 2].request;
		uint32_t flags = i % 2 == 0 ? VU_VERSION : VU_VERSION | VU_FLAG_NEED_REPLY;
		struct fe_message message = fe_make(
			request, flags, payload, wire_answered[i / 2].size);
		struct fe_reply reply;

		fe_send(&rig->fe, &message);
		assert_int_equal(fe_try_recv(&rig->fe, &reply, MOCK_DEADLINE_MS), 0);
		assert_int_equal(reply.header.request, request);
		assert_int_equal(reply.header.flags, 5);
		assert_int_equal(reply.header.size, 8);
	}
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
}

static void
test_c01_acknowledgement_is_laid_out_as_specified(void **state)
{
	const uint32_t request[5] = {VU_SET_STATUS, 9, 8, 3, 0};
	const uint32_t answer[5] = {VU_SET_STATUS, 5, 8, 0, 0};
	struct rig *rig = wire_open();
	uint8_t bytes[sizeof(answer)];
	unsigned int i;

	assert_int_equal(fe_try_send_bytes(&rig->fe, request, sizeof(request), NULL, 0), 0);
	for (i = 0; i < sizeof(bytes); i++)
		assert_int_equal(read(rig->fe.sock, bytes + i, 1), 1);
	assert_memory_equal(bytes, answer, sizeof(answer));
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
}

static void
test_c02_message_in_pieces_is_one_message(void **state)
{
	static const size_t pieces[] = {1, 5, 12, 13, 19};
	struct rig *rig = wire_open();
	struct vu_single_region single = {.region = fe_region(&rig->ram.region[0])};
	struct fe_message add = fe_make(
		VU_ADD_MEM_REG, VU_VERSION | VU_FLAG_NEED_REPLY, &single, sizeof(single));
	struct fe_message get = fe_make(VU_GET_FEATURES, VU_VERSION, NULL, 0);
	uint64_t features = fe_get_features(&rig->fe);
	unsigned int i;

	add.fd = &rig->ram.file[0].fd;
	add.n_fds = 1;
	for (i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		fe_send_pieces(&rig->fe, &get, pieces[i]);
		assert_int_equal(fe_expect_u64(&rig->fe, VU_GET_FEATURES), features);
		fe_send_pieces(&rig->fe, &add, pieces[i]);
		assert_int_equal(fe_expect_u64(&rig->fe, VU_ADD_MEM_REG), 0);
		fe_rem_mem_reg(&rig->fe, &single.region, NULL, 0, FE_OK);
	}
}

static void
test_c02_messages_in_one_write_are_all_handled(void **state)
{
	const uint64_t status = 1;
	struct rig *rig = wire_open();
	const struct fe_message message[3] = {
		fe_make(VU_SET_STATUS, VU_VERSION | VU_FLAG_NEED_REPLY, &status, sizeof(status)),
		fe_make(VU_GET_STATUS, VU_VERSION, NULL, 0),
		fe_make(VU_GET_QUEUE_NUM, VU_VERSION, NULL, 0),
	};
	uint64_t queues = fe_get_queue_num(&rig->fe);
	uint8_t bytes[256];
	size_t len = 0;
	unsigned int i;

	for (i = 0; i < 3; i++)
		len += fe_encode(&message[i], bytes + len, sizeof(bytes) - len);
	assert_int_equal(fe_try_send_bytes(&rig->fe, bytes, len, NULL, 0), 0);
	assert_int_equal(fe_expect_u64(&rig->fe, VU_SET_STATUS), 0);
	assert_int_equal(fe_expect_u64(&rig->fe, VU_GET_STATUS), status);
	assert_int_equal(fe_expect_u64(&rig->fe, VU_GET_QUEUE_NUM), queues);
}

static void
test_c03_oversized_message_closes_at_its_header(void **state)
{
	static const uint32_t sizes[] = {4096, 65536, 0x7fffffff, 0x80000000, 0xffffffff};
	static const uint32_t requests[] = {VU_GET_FEATURES, VU_SET_MEM_TABLE, VU_SET_CONFIG};
	struct rig *rig = wire_open();
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fe_message message = fe_make(requests[i % 3], 9, NULL, 0);
		uint64_t start;

		message.header.size = sizes[i];
		start = mock_now_ms();
		fe_send(&rig->fe, &message);
		fe_expect_closed(&rig->fe);
		/* Not by the deadline of a half message. */
		assert_true(mock_now_ms() - start < 1500);
		conform_renegotiate(rig);
	}
}

static void
test_c04_wrong_version_or_reply_bit_closes(void **state)
{
	static const uint32_t flags[] = {0, 2, 3, 8, VU_VERSION | VU_FLAG_REPLY,
		VU_VERSION | VU_FLAG_REPLY | VU_FLAG_NEED_REPLY};
	struct rig *rig = wire_open();
	unsigned int i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct fe_message message = fe_make(VU_GET_FEATURES, flags[i], NULL, 0);

		fe_send(&rig->fe, &message);
		fe_expect_closed(&rig->fe);
		conform_renegotiate(rig);
	}
}

static void
test_c05_too_many_fds_close_and_do_not_leak(void **state)
{
	static const unsigned int counts[] = {9, 16, 100, FE_MAX_FDS};
	struct rig *rig = rig_main();
	int fds[FE_MAX_FDS];
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < FE_MAX_FDS; i++)
		fds[i] = rig->ram.file[0].fd;
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		const struct wire_shape *shape = &wire_shapes[4];
		uint8_t payload[40] = {1};
		struct fe_message message = fe_make(shape->request, 9, payload, sizeof(payload));

		message.fd = fds;
		message.n_fds = counts[i];
		fe_send(&rig->fe, &message);
		fe_expect_closed(&rig->fe);
		rig_wait_fds(idle);
		fe_connect(&rig->fe, rig->port.path);
	}
	fe_barrier(&rig->fe);
}

static void
test_c05_a_ninth_fd_spoils_a_table_of_eight(void **state)
{
	struct vu_mem_region region[8];
	struct rig *rig = rig_main();
	unsigned int idle;
	int fd[9];
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < 8; i++)
		region[i] = (struct vu_mem_region){i << 20, 1 << 20, i << 20, i << 20};
	for (i = 0; i < 9; i++)
		fd[i] = rig->ram.file[0].fd;
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 8, region, 8, fd, 8, FE_OK);
	/* The kernel hands on eight of nine: what arrives looks as it should. */
	fe_set_mem_table_raw(&rig->fe, 8, region, 8, fd, 9, FE_BROKEN);
	rig_wait_fds(idle);
}

static void
test_c06_fds_on_a_message_that_takes_none_close(void **state)
{
	struct rig *rig = rig_main();
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < WIRE_N_SHAPES; i++) {
		const struct wire_shape *shape = &wire_shapes[i];

		/* One stray fd on REM_MEM_REG is tolerated (C32). */
		if (shape->n_fds != 0 || shape->request == VU_REM_MEM_REG)
			continue;
		conform_renegotiate(rig);
		wire_send_shape(rig, shape, shape->size, 9, 1);
		fe_expect_closed(&rig->fe);
		rig_wait_fds(idle);
	}
}

static void
test_c06_missing_or_second_fd_closes(void **state)
{
	struct rig *rig = rig_main();
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < WIRE_N_SHAPES; i++) {
		const struct wire_shape *shape = &wire_shapes[i];

		if (shape->n_fds == 0)
			continue;
		conform_renegotiate(rig);
		wire_send_shape(rig, shape, shape->size, 9, 2);
		fe_expect_closed(&rig->fe);
		rig_wait_fds(idle);
		conform_renegotiate(rig);
		wire_send_shape(rig, shape, shape->size, 9, 0);
		fe_expect_closed(&rig->fe);
		rig_wait_fds(idle);
	}
}

static void
test_c07_wrong_payload_size_closes(void **state)
{
	struct rig *rig = rig_main();
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	for (i = 0; i < WIRE_N_SHAPES; i++) {
		const struct wire_shape *shape = &wire_shapes[i];
		const uint32_t sizes[] = {
			0, shape->size / 2, shape->size - 1, shape->size + 1, shape->size + 8};
		unsigned int k;

		for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			if (sizes[k] == shape->size || sizes[k] > 256)
				continue;
			conform_renegotiate(rig);
			wire_send_shape(rig, shape, sizes[k], 9, shape->n_fds);
			fe_expect_closed(&rig->fe);
		}
	}
	rig_wait_fds(idle);
}

static void
test_c08_unknown_request_is_refused_when_asked(void **state)
{
	static const uint32_t ids[] = {0, VU_REQUEST_MAX, 100, 255, 0x80000000, 0xffffffff};
	const uint64_t payload = 0;
	struct rig *rig = wire_open();
	unsigned int i;

	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		fe_request(&rig->fe, ids[i], NULL, 0, NULL, 0, FE_REFUSED);
		fe_request(&rig->fe, ids[i], &payload, sizeof(payload), NULL, 0, FE_REFUSED);
	}
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
	fe_request(&rig->fe, VU_REQUEST_MAX, NULL, 0, NULL, 0, FE_REFUSED);
	rig_exchange(rig, 0, 32);
}

static void
test_c09_unknown_request_closes_when_not_asked(void **state)
{
	static const uint32_t ids[] = {0, VU_REQUEST_MAX, 0xffffffff};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		rig_exchange(rig, 0, 8);
		fe_request(&rig->fe, ids[i], NULL, 0, NULL, 0, FE_CLOSED);
		port_wait_link(&rig->port, false);
		rig_reconnect(rig);
	}
	rig_exchange(rig, 0, 8);
}

static void
test_c10_success_is_acknowledged_exactly_once(void **state)
{
	struct rig *rig = wire_open();
	unsigned int i;

	for (i = 0; i < 2; i++) {
		fe_set_owner(&rig->fe, FE_OK);
		fe_set_features(&rig->fe, rig->nic.features, FE_OK);
		fe_set_vring_num(&rig->fe, i, 128, FE_OK);
		fe_set_vring_base(&rig->fe, i, 0, FE_OK);
		fe_set_vring_enable(&rig->fe, i, 1, FE_OK);
		fe_set_vring_call(&rig->fe, i, rig->nic.masked_fd, FE_OK);
		fe_set_vring_err(&rig->fe, i, rig->nic.masked_fd, FE_OK);
		fe_set_status(&rig->fe, 1, FE_OK);
	}
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
}

static void
test_c11_nothing_is_acknowledged_without_reply_ack(void **state)
{
	const struct rig_config config = {
		.nic = {.without_protocol = BIT(VU_PF_REPLY_ACK) | BIT(VU_PF_CONFIGURE_MEM_SLOTS)}};
	struct rig *rig = rig_main();

	rig_prepare(rig, &config);
	fe_set_owner(&rig->fe, FE_SEND_NR);
	fe_set_features(&rig->fe, BIT(VU_F_PROTOCOL_FEATURES), FE_SEND_NR);
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_SEND_NR);
	fe_set_mem_table(&rig->fe, &rig->ram, FE_SEND_NR);
	fe_set_vring_num(&rig->fe, 0, 128, FE_SEND_NR);
	fe_set_vring_base(&rig->fe, 0, 0, FE_SEND_NR);
	fe_set_vring_enable(&rig->fe, 0, 1, FE_SEND_NR);
	fe_set_vring_call(&rig->fe, 0, rig->nic.masked_fd, FE_SEND_NR);
	fe_expect_silence(&rig->fe, MOCK_SILENCE_MS);
	fe_barrier(&rig->fe);
}

static void
test_c12_peer_that_closes_mid_message_leaves_nothing(void **state)
{
	struct rig *rig = rig_main();
	struct vu_single_region single;
	struct fe_message message;
	unsigned int idle;
	uint8_t bytes[64];
	size_t len;
	size_t cut;

	rig_prepare(rig, NULL);
	idle = rig_idle_fds(rig);
	single = (struct vu_single_region){.region = fe_region(&rig->ram.region[0])};
	message = fe_make(VU_ADD_MEM_REG, 9, &single, sizeof(single));
	len = fe_encode(&message, bytes, sizeof(bytes));
	for (cut = 1; cut < len; cut++) {
		conform_renegotiate(rig);
		assert_int_equal(
			fe_try_send_bytes(&rig->fe, bytes, cut, &rig->ram.file[0].fd, 1), 0);
		fe_close(&rig->fe);
	}
	rig_wait_fds(idle);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c01_reply_flags_word_is_5),
		RIG_TEST(test_c01_acknowledgement_is_laid_out_as_specified),
		RIG_TEST(test_c02_message_in_pieces_is_one_message),
		RIG_TEST(test_c02_messages_in_one_write_are_all_handled),
		RIG_TEST(test_c03_oversized_message_closes_at_its_header),
		RIG_TEST(test_c04_wrong_version_or_reply_bit_closes),
		RIG_TEST(test_c05_too_many_fds_close_and_do_not_leak),
		RIG_TEST(test_c05_a_ninth_fd_spoils_a_table_of_eight),
		RIG_TEST(test_c06_fds_on_a_message_that_takes_none_close),
		RIG_TEST(test_c06_missing_or_second_fd_closes),
		RIG_TEST(test_c07_wrong_payload_size_closes),
		RIG_TEST(test_c08_unknown_request_is_refused_when_asked),
		RIG_TEST(test_c09_unknown_request_closes_when_not_asked),
		RIG_TEST(test_c10_success_is_acknowledged_exactly_once),
		RIG_TEST(test_c11_nothing_is_acknowledged_without_reply_ack),
		RIG_TEST(test_c12_peer_that_closes_mid_message_leaves_nothing),
	};

	rig_program("test_conform_wire", 60);
	return cmocka_run_group_tests_name(
		"conform wire", tests, rig_group_setup, rig_group_teardown);
}
