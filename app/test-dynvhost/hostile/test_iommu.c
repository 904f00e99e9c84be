/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile guests and front-ends behind an IOMMU: translations that come, go, overlap and lie as fast
 * as the socket takes them, while packets use them. What the table itself makes of it is tested in
 * unit_mem_iotlb. Nothing of it is in the catalogue but H32: it is as hostile as H48 is for memory
 * tables.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile.h"

#define PAGE     4096ull
#define IOMMU    BIT(VIRTIO_F_ACCESS_PLATFORM)
#define IOMMU_RW 3

/* All of guest memory: by its guest addresses for packets, by the front-end's for rings. */
static void
iommu_map_all(struct rig *rig)
{
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, GUEST_RAM_UVA_BASE,
		IOMMU_RW, FE_OK);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, 0, RIG_RAM_SIZE, GUEST_RAM_UVA_BASE, IOMMU_RW, FE_OK);
}

/* The front-end's end of the socket for questions is returned. */
static int
iommu_connect(struct rig *rig)
{
	const struct rig_config config = {
		.port = {.devargs = "iommu-support=1"},
		.nic = {.features = NIC_FEATURES | IOMMU},
	};
	int pair[2];

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	mock_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	fe_request(&rig->fe, VU_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1, FE_OK);
	close(pair[1]);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	iommu_map_all(rig);
	port_wait_link(&rig->port, true);
	return pair[0];
}

static void
iommu_open(struct rig *rig)
{
	/* Nobody reads what is asked. */
	close(iommu_connect(rig));
}

static void
test_iommu_translations_that_come_and_go_all_the_time_hurt_nobody(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	rig->may_lose = 16 * rig_repeats(500, 20000);
	rig_echo_start(rig);
	for (i = 0; i < rig_repeats(500, 20000); i++) {
		rig_send(rig, 0, 16);
		/* Everything, rings as well, or only packets. */
		fe_iotlb(&rig->fe, VU_IOTLB_INVALIDATE, 0, i % 16 == 0 ? 0 : RIG_RAM_SIZE, 0, 0,
			FE_OK);
		iommu_map_all(rig);
	}
	rig_echo_stop(rig);
	port_wait_link(&rig->port, true);
	/* What was on its way comes, or was lost without its translation. */
	rig_collect(rig, 0, 2000);
	rig_forget(rig, 0);
	rig->may_lose = 0;
	rig_exchange(rig, 0, 50);
}

static void
test_iommu_random_messages_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	rig->may_lose = rig_repeats(3000, 200000);
	rig_echo_start(rig);
	srand(5);
	for (i = 0; i < rig_repeats(3000, 200000); i++) {
		uint64_t iova = (uint64_t)rand() % (2 * RIG_RAM_SIZE);
		uint64_t size = (uint64_t)rand() % (64 * PAGE);

		if (rand() % 8 == 0)
			iova |= UINT64_MAX << (rand() % 64);
		if (rand() % 8 == 0)
			size = UINT64_MAX >> (rand() % 64);
		fe_iotlb(&rig->fe, (uint8_t)(rand() % 6), iova, size,
			GUEST_RAM_UVA_BASE + (uint64_t)rand() % (2 * RIG_RAM_SIZE),
			(uint8_t)(rand() % 5), FE_ANSWERED);
		if (i % 16 == 0)
			rig_send(rig, 0, 1);
	}
	rig_echo_stop(rig);
	/* A new connection finds nothing of it. */
	fe_close(&rig->fe);
	port_wait_link(&rig->port, false);
	rig_forget(rig, 0);
}

static void
test_iommu_guest_that_names_what_is_not_mapped_waits_alone(void **state)
{
	struct rig *rig = rig_main();
	struct ring_piece piece = {.len = 100};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	unsigned int i;

	iommu_open(rig);
	for (i = 0; i < 8; i++) {
		piece.gpa = BIT(40) + i * PAGE;
		rig_offer_chain(rig, NIC_TX(0), &chain, false);
	}
	/* Each is given back in time, and good ones behind them are served. */
	assert_int_equal(rig_send(rig, 0, 4), 4);
	assert_true(rig_collect(rig, 0, 15000));
	/* An end of the address space. */
	piece.gpa = UINT64_MAX - 50;
	rig_offer_chain(rig, NIC_TX(0), &chain, false);
	rig_poll(rig);
	port_wait_link(&rig->port, false);
}

/** What a front-end may send instead of a reply. */
struct iommu_reply {
	const char *what;
	struct vu_header header;
	uint32_t len;   /**< of what is sent behind the header */
	uint32_t n_fds; /**< that come along */
	uint32_t more;  /**< times that it is sent again */
};

#define IOMMU_REPLY (VU_VERSION | VU_FLAG_REPLY)

static const struct iommu_reply iommu_bad_replies[] = {
	{"no reply flag", {VU_BACKEND_IOTLB_MSG, VU_VERSION, 8}, 8, 0, 0},
	{"a version there is not", {VU_BACKEND_IOTLB_MSG, VU_FLAG_REPLY | 2, 8}, 8, 0, 0},
	{"another request", {VU_BACKEND_IOTLB_MSG + 1, IOMMU_REPLY, 8}, 8, 0, 0},
	{"too short", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 4}, 4, 0, 0},
	{"empty", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 0}, 0, 0, 0},
	{"too long", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 32}, 32, 0, 0},
	{"enormous", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, UINT32_MAX}, 64, 0, 0},
	{"with an fd", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 8}, 8, 1, 0},
	{"with too many fds", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 8}, 8, 100, 0},
	{"half of one", {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 8}, 4, 0, 0},
};

/* Send it as often as the socket takes it. */
static void
iommu_send_reply(int sock, const struct iommu_reply *reply)
{
	struct front_end fe = {.sock = sock};
	uint8_t bytes[sizeof(reply->header) + 64] = {0};
	int fd[100];
	uint32_t i;

	memcpy(bytes, &reply->header, sizeof(reply->header));
	for (i = 0; i < reply->n_fds; i++)
		fd[i] = sock;
	for (i = 0; i <= reply->more; i++)
		if (fe_try_send_bytes(
			    &fe, bytes, sizeof(reply->header) + reply->len, fd, reply->n_fds) < 0)
			break;
}

/* Have a question under way. */
static void
iommu_provoke(struct rig *rig, int sock)
{
	struct pollfd pollfd = {.fd = sock, .events = POLLIN};

	fe_iotlb(&rig->fe, VU_IOTLB_INVALIDATE, 0, RIG_RAM_SIZE, 0, 0, FE_OK);
	rig_send(rig, 0, 1);
	rig_poll(rig);
	assert_int_equal(poll(&pollfd, 1, MOCK_DEADLINE_MS), 1);
}

/* All memory is translated again: packets move, though iommu_provoke()'s may have got lost. */
static void
iommu_expect_traffic(struct rig *rig)
{
	iommu_map_all(rig);
	rig->may_lose = 1;
	if (!rig_collect(rig, 0, 2000))
		rig_forget(rig, 0);
	rig->may_lose = 0;
	rig_exchange(rig, 0, 20);
}

static void
test_iommu_replies_that_are_none_end_their_socket_alone(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	for (i = 0; i < RTE_DIM(iommu_bad_replies); i++) {
		const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
		int sock = iommu_connect(rig);
		char bytes[256];
		ssize_t n;

		print_message("# %s\n", iommu_bad_replies[i].what);
		iommu_provoke(rig, sock);
		iommu_send_reply(sock, &iommu_bad_replies[i]);
		/* It is closed, whatever was asked before. */
		do {
			rig_poll(rig);
			n = recv(sock, bytes, sizeof(bytes), MSG_DONTWAIT);
			assert_true(mock_now_ms() < deadline);
		} while (n > 0 || (n < 0 && errno == EAGAIN));
		close(sock);
		/* All else goes on, and translations that come unasked still do. */
		iommu_expect_traffic(rig);
		rig_close(rig);
	}
}

static void
test_iommu_replies_to_what_was_not_asked_do_no_harm(void **state)
{
	static const struct iommu_reply reply = {
		.header = {VU_BACKEND_IOTLB_MSG, IOMMU_REPLY, 8}, .len = 8, .more = 5000};
	struct rig *rig = rig_main();
	int sock = iommu_connect(rig);
	unsigned int i;

	for (i = 0; i < 5; i++) {
		/* Before, and after. */
		iommu_send_reply(sock, &reply);
		iommu_provoke(rig, sock);
		iommu_send_reply(sock, &reply);
		iommu_expect_traffic(rig);
	}
	close(sock);
}

static void
test_iommu_front_end_that_never_replies_is_asked_all_the_same(void **state)
{
	struct ring_piece piece = {.gpa = BIT(40), .len = 100};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	const uint64_t deadline = mock_now_ms() + 60000;
	struct rig *rig = rig_main();
	unsigned int asked = 0, offered = 0;
	struct vu_header header = {.flags = VU_FLAG_NEED_REPLY};
	uint8_t bytes[44];
	int sock = iommu_connect(rig);

	/* Many more questions than can wait for replies; in the end none is wanted any more. */
	while ((header.flags & VU_FLAG_NEED_REPLY) != 0) {
		for (; offered < 8; offered++, piece.gpa += PAGE)
			rig_offer_chain(rig, NIC_TX(0), &chain, false);
		rig_poll(rig);
		offered -= nic_reap_tx(&rig->nic, 0);
		if (recv(sock, bytes, sizeof(bytes), MSG_DONTWAIT) == (ssize_t)sizeof(bytes)) {
			memcpy(&header, bytes, sizeof(header));
			asked++;
		}
		assert_true(mock_now_ms() < deadline);
	}
	assert_true(asked > 64);
	for (; offered > 0; offered -= nic_reap_tx(&rig->nic, 0))
		rig_poll(rig);
	rig_exchange(rig, 0, 20);
	close(sock);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_iommu_translations_that_come_and_go_all_the_time_hurt_nobody),
		HOSTILE_TEST(test_iommu_random_messages_under_traffic),
		HOSTILE_TEST(test_iommu_guest_that_names_what_is_not_mapped_waits_alone),
		HOSTILE_TEST(test_iommu_replies_that_are_none_end_their_socket_alone),
		HOSTILE_TEST(test_iommu_replies_to_what_was_not_asked_do_no_harm),
		HOSTILE_TEST(test_iommu_front_end_that_never_replies_is_asked_all_the_same),
	};

	hostile_program("test_hostile_iommu", 150);
	return cmocka_run_group_tests_name(
		"hostile iommu", tests, rig_group_setup, rig_group_teardown);
}
