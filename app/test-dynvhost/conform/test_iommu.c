/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance, a guest with an IOMMU: iommu-support=1 offers ACCESS_PLATFORM and the socket for
 * questions, and what §2.1 and §4.5 of the protocol's survey say of IOTLB_MSG holds. Nothing has a
 * number in the checklist.
 *
 * The guest's driver uses guest addresses as I/O virtual addresses of buffers, and front-end
 * addresses as those of rings: two ranges that the test's front-end translates, or does not.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conform.h"

/** Set by the build where rings are packed. */
#ifndef IOMMU_RINGS
#define IOMMU_RINGS 0
#endif

#define PAGE     4096ull
#define IOMMU    BIT(VIRTIO_F_ACCESS_PLATFORM)
#define IOMMU_RW 3

/** The front-end's end of the socket for questions; -1: none. */
static int iommu_sock = -1;
/** REPLY_ACK is in force: questions want replies. */
static bool iommu_acks;

static void
iommu_map(struct rig *rig, uint64_t iova, uint64_t size, uint8_t perm)
{
	uint64_t uva = iova < RIG_RAM_SIZE ? guest_ram_uva(&rig->ram, iova) : iova;

	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, iova, size, uva, perm, FE_OK);
}

static void
iommu_unmap(struct rig *rig, uint64_t iova, uint64_t size)
{
	fe_iotlb(&rig->fe, VU_IOTLB_INVALIDATE, iova, size, 0, 0, FE_OK);
}

/* Reply to the next question: 0 says that it has been answered. */
static void
iommu_reply(uint64_t value)
{
	const struct {
		struct vu_header header;
		uint64_t value;
	} __attribute__((packed)) msg = {
		.header = {VU_BACKEND_IOTLB_MSG, VU_VERSION | VU_FLAG_REPLY, sizeof(value)},
		.value = value,
	};

	mock_check(send(iommu_sock, &msg, sizeof(msg), MSG_NOSIGNAL) == (ssize_t)sizeof(msg));
}

/* A question if there is one. */
static bool
iommu_question(struct vu_iotlb *question)
{
	struct {
		struct vu_header header;
		struct vu_iotlb iotlb;
	} __attribute__((packed)) msg;

	if (recv(iommu_sock, &msg, sizeof(msg), MSG_DONTWAIT) != (ssize_t)sizeof(msg))
		return false;
	assert_int_equal(msg.header.request, VU_BACKEND_IOTLB_MSG);
	assert_int_equal(msg.header.flags, VU_VERSION | (iommu_acks ? VU_FLAG_NEED_REPLY : 0));
	assert_int_equal(msg.header.size, sizeof(msg.iotlb));
	assert_int_equal(msg.iotlb.type, VU_IOTLB_MISS);
	assert_in_range(msg.iotlb.perm, 1, IOMMU_RW);
	assert_int_equal(msg.iotlb.iova % PAGE, 0);
	*question = msg.iotlb;
	return true;
}

/* Answer all questions, page by page: a page may hold what goes either way. @return how many. */
static unsigned int
iommu_answer(struct rig *rig)
{
	struct vu_iotlb question;
	unsigned int n = 0;

	for (; iommu_question(&question); n++) {
		iommu_map(rig, question.iova, PAGE, IOMMU_RW);
		if (iommu_acks)
			iommu_reply(0);
	}
	return n;
}

/* Poll until a packet asks for these rights; questions before that are left without translation. */
static struct vu_iotlb
iommu_await(struct rig *rig, uint8_t perm)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	struct vu_iotlb question;

	for (;;) {
		while (!iommu_question(&question)) {
			assert_true(mock_now_ms() < deadline);
			rig_poll(rig);
		}
		if (question.perm == perm)
			return question;
		if (iommu_acks)
			iommu_reply(0);
	}
}

/* Let questions lapse; all the same each has its reply. */
static void
iommu_let_lapse(void)
{
	struct vu_iotlb question;

	while (iommu_question(&question))
		if (iommu_acks)
			iommu_reply(0);
}

/* The socket for questions, and a guest that starts. */
static void
iommu_start(struct rig *rig)
{
	int pair[2];

	nic_negotiate(&rig->nic);
	assert_true((rig->nic.features & IOMMU) != 0);
	iommu_acks = (rig->nic.protocol_features & BIT(VU_PF_REPLY_ACK)) != 0;
	mock_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	fe_request(&rig->fe, VU_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1, FE_OK);
	close(pair[1]);
	iommu_sock = pair[0];
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	fe_barrier(&rig->fe);
}

static const struct rig_config iommu_config = {
	.port = {.devargs = "iommu-support=1"},
	.nic = {.features = NIC_FEATURES | IOMMU | IOMMU_RINGS},
};

/* A guest whose front-end has translated all of its memory, unasked. */
static void
iommu_open_as(struct rig *rig, const struct rig_config *config)
{
	rig_prepare(rig, config);
	iommu_start(rig);
	assert_false(port_link_up(&rig->port));
	iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	port_wait_link(&rig->port, true);
	/* Rings have been asked for. */
	iommu_let_lapse();
}

static void
iommu_open(struct rig *rig)
{
	iommu_open_as(rig, &iommu_config);
}

static uint64_t
iommu_loadable(const struct rig *rig)
{
	struct exposure exposure;

	exposure_read(&rig->ram, &exposure);
	return exposure.loadable;
}

static void
test_iommu_is_offered_only_if_asked_for(void **state)
{
	struct rig *rig = rig_main();
	const struct vu_iotlb msg = {.size = PAGE, .perm = 1, .type = VU_IOTLB_UPDATE};

	rig_open(rig, NULL);
	assert_int_equal(fe_get_features(&rig->fe) & IOMMU, 0);
	assert_int_equal(fe_get_protocol_features(&rig->fe) & BIT(VU_PF_BACKEND_REQ), 0);
	fe_request(&rig->fe, VU_IOTLB_MSG, &msg, sizeof(msg), NULL, 0, FE_REFUSED);
	rig_close(rig);

	rig_open(rig, &(struct rig_config){.port = {.devargs = "iommu-support=1"}});
	assert_int_equal(fe_get_features(&rig->fe) & IOMMU, IOMMU);
	assert_true((fe_get_protocol_features(&rig->fe) & BIT(VU_PF_BACKEND_REQ)) != 0);
	/* A guest that does not want it has guest addresses. */
	fe_request(&rig->fe, VU_IOTLB_MSG, &msg, sizeof(msg), NULL, 0, FE_REFUSED);
	rig_exchange(rig, 0, 50);
}

static void
test_iommu_translations_sent_unasked_bring_traffic(void **state)
{
	struct rig *rig = rig_main();

	iommu_open(rig);
	rig_exchange(rig, 0, 300);
}

/*
 * One packet there and back, questions being answered meanwhile. On a busy machine that may take
 * longer than a chain or the echo waits, and then it is lost: another one is sent. @return questions.
 */
static unsigned int
iommu_exchange_one(struct rig *rig)
{
	const uint64_t deadline = mock_now_ms() + 3 * MOCK_DEADLINE_MS;
	unsigned int asked = 0, looks;

	for (;;) {
		rig_send(rig, 0, 1);
		for (looks = 0; looks < 600; looks++) {
			if (rig_collect(rig, 0, 2))
				return asked;
			asked += iommu_answer(rig);
		}
		rig_forget(rig, 0);
		assert_true(mock_now_ms() < deadline);
	}
}

static void
test_iommu_rings_and_packets_are_asked_for_page_by_page(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i, asked = 0;

	rig_prepare(rig, &iommu_config);
	iommu_start(rig);
	for (i = 0; i < 2000 && !port_link_up(&rig->port); i++) {
		asked += iommu_answer(rig);
		usleep(1000);
	}
	assert_true(port_link_up(&rig->port));
	/* Three areas of two rings; who answers late is asked again. */
	assert_true(asked >= 4);
	rig->may_lose = 1000;
	rig_echo_start(rig);
	for (i = 0; i < 40; i++)
		asked += iommu_exchange_one(rig);
	rig_echo_stop(rig);
	assert_true(asked > 20);
}

static void
test_iommu_address_that_is_not_translated_is_refused_in_time(void **state)
{
	struct rig *rig = rig_main();

	iommu_open(rig);
	rig_exchange(rig, 0, 20);
	iommu_unmap(rig, 0, RIG_RAM_SIZE);
	/* Nobody answers: the packet is lost, the queue is not. */
	rig_send(rig, 0, 1);
	assert_false(rig_collect(rig, 0, 2000));
	iommu_await(rig, 1);
	rig_forget(rig, 0);
	iommu_let_lapse();
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	rig_exchange(rig, 0, 50);
}

static void
test_iommu_answer_that_says_no_stops_the_queue(void **state)
{
	struct rig *rig = rig_main();
	struct vu_iotlb question;

	iommu_open(rig);
	rig_exchange(rig, 0, 20);
	iommu_unmap(rig, 0, RIG_RAM_SIZE);
	rig_send(rig, 0, 1);
	question = iommu_await(rig, 1);
	fe_iotlb(&rig->fe, VU_IOTLB_FAIL, question.iova, PAGE, 0, 1, FE_OK);
	rig_poll(rig);
	port_wait_link(&rig->port, false);
	assert_true(port_errors(&rig->port) > 0);
	rig_forget(rig, 0);
}

static void
test_iommu_refusal_stops_the_queue_at_once(void **state)
{
	struct rig *rig = rig_main();
	uint64_t sent_ms;

	iommu_open(rig);
	rig_exchange(rig, 0, 20);
	iommu_unmap(rig, 0, RIG_RAM_SIZE);
	rig_send(rig, 0, 1);
	iommu_await(rig, 1);
	iommu_reply(1);
	sent_ms = mock_now_ms();
	while (port_errors(&rig->port) == 0) {
		assert_true(mock_now_ms() - sent_ms < MOCK_DEADLINE_MS);
		rig_poll(rig);
	}
	port_wait_link(&rig->port, false);
	/* It is not given back, as a chain is that has waited in vain. */
	assert_false(nic_ring_has_used(&rig->nic, &rig->nic.ring[NIC_TX(0)]));
	rig_forget(rig, 0);
}

static void
test_iommu_refusal_of_what_no_packet_waits_for_is_no_harm(void **state)
{
	struct rig *rig = rig_main();
	struct vu_iotlb question;
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int n = 0;

	iommu_open(rig);
	rig_exchange(rig, 0, 20);
	/* Buffers to receive into are asked for though nobody sends. */
	iommu_unmap(rig, 0, RIG_RAM_SIZE);
	while (n < 2) {
		assert_true(mock_now_ms() < deadline);
		if (!iommu_question(&question))
			continue;
		assert_int_equal(question.perm, 2);
		iommu_reply(1);
		n++;
	}
	iommu_let_lapse();
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	rig_exchange(rig, 0, 50);
	assert_int_equal(port_errors(&rig->port), 0);
}

static void
test_iommu_replies_are_asked_for_only_if_negotiated(void **state)
{
	struct rig_config config = iommu_config;
	struct rig *rig = rig_main();

	config.nic.without_protocol = BIT(VU_PF_REPLY_ACK);
	rig_prepare(rig, &config);
	iommu_start(rig);
	assert_false(iommu_acks);
	/* iommu_question() judges the flags. */
	while (!port_link_up(&rig->port)) {
		iommu_answer(rig);
		usleep(1000);
	}
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	rig_exchange(rig, 0, 50);
}

static void
test_iommu_rings_are_asked_for_in_one_go(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = "iommu-support=1"},
		.nic = {.features = NIC_FEATURES | IOMMU | IOMMU_RINGS, .ring_size = 1024},
	};
	struct vu_iotlb question;
	struct rig *rig = rig_main();
	/* Four pages of descriptors each, and where the other areas lie. */
	const unsigned int least = IOMMU_RINGS == 0 ? 2 * (4 + 1 + 2) : 2 * (4 + 1);
	unsigned int n = 0;

	rig_prepare(rig, &config);
	iommu_start(rig);
	/* Nobody answers, so what is not asked now never is. */
	for (;; n++) {
		const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;

		while (!iommu_question(&question)) {
			if (n >= least)
				return;
			assert_true(mock_now_ms() < deadline);
			usleep(1000);
		}
	}
}

static void
test_iommu_link_stays_up_while_rings_are_translated_anew(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	for (i = 0; i < 50; i++) {
		rig_exchange(rig, 0, 10);
		iommu_unmap(rig, 0, 0);
		assert_true(port_link_up(&rig->port));
		iommu_let_lapse();
		iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
		iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
		assert_true(port_link_up(&rig->port));
	}
	iommu_let_lapse();
	/* Not for ever, though. */
	iommu_unmap(rig, 0, 0);
	port_wait_link(&rig->port, false);
}

static void
test_iommu_broken_ring_is_not_revived_by_translations(void **state)
{
	const struct ring_piece piece = {.gpa = RIG_RAM_SIZE - 10, .len = 100};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	struct rig *rig = rig_main();
	uint64_t errors;
	unsigned int i;

	iommu_open(rig);
	rig_exchange(rig, 0, 20);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, RIG_RAM_SIZE, PAGE, GUEST_RAM_UVA_BASE, 2, FE_OK);
	rig_offer_chain(rig, NIC_TX(0), &chain, false);
	iommu_await(rig, 1);
	iommu_reply(1);
	while (port_errors(&rig->port) == 0)
		rig_poll(rig);
	port_wait_link(&rig->port, false);
	errors = port_errors(&rig->port);
	for (i = 0; i < 3; i++) {
		iommu_unmap(rig, 0, 0);
		iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
		iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
		rig_poll(rig);
		assert_int_equal(port_errors(&rig->port), errors);
		assert_false(port_link_up(&rig->port));
	}
	rig_revive(rig, NIC_TX(0));
	iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
	port_wait_link(&rig->port, true);
	iommu_let_lapse();
	rig_exchange(rig, 0, 50);
}

static void
test_iommu_cap_that_is_too_small_is_refused_at_the_start(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = "iommu-support=1,map-max=64K"},
		.nic = {.features = NIC_FEATURES | IOMMU | IOMMU_RINGS},
	};
	struct rig *rig = rig_main();

	port_log_capture();
	rig_prepare(rig, &config);
	iommu_start(rig);
	iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
	fe_barrier(&rig->fe);
	assert_false(port_link_up(&rig->port));
	assert_int_equal(port_log_lines("map-max=64K is too small"), 1);
	port_log_release();
}

static void
test_iommu_invalidate_closes_what_was_open_before_its_answer(void **state)
{
	struct rig *rig = rig_main();
	uint64_t rings;

	iommu_open(rig);
	rings = iommu_loadable(rig);
	rig_exchange(rig, 0, 200);
	assert_true(iommu_loadable(rig) > rings);
	iommu_unmap(rig, 0, RIG_RAM_SIZE);
	assert_int_equal(iommu_loadable(rig), rings);
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	rig_exchange(rig, 0, 20);
}

static void
test_iommu_invalidate_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	rig->may_lose = 8 * rig_repeats(100, 2000);
	rig_echo_start(rig);
	for (i = 0; i < rig_repeats(100, 2000); i++) {
		rig_send(rig, 0, 8);
		iommu_unmap(rig, i * 7 % 4096 * PAGE, (1 + i % 64) * PAGE);
		iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
		if (!rig_collect(rig, 0, 5000))
			rig_forget(rig, 0);
	}
	rig_echo_stop(rig);
	rig->may_lose = 0;
	rig_exchange(rig, 0, 50);
}

static void
test_iommu_ring_halts_without_translation_and_goes_on_with_it(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	for (i = 0; i < 5; i++) {
		rig_exchange(rig, 0, 100);
		/* One page of a ring, or all of them. */
		if (i % 2 == 0)
			iommu_unmap(rig, nic_fe_ring(&rig->nic, NIC_TX(0)).used_uva & ~(PAGE - 1),
				PAGE);
		else
			iommu_unmap(rig, 0, 0);
		port_wait_link(&rig->port, false);
		iommu_let_lapse();
		iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
		iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
		port_wait_link(&rig->port, true);
	}
	rig_exchange(rig, 0, 100);
}

static void
test_iommu_rights_are_kept(void **state)
{
	struct rig *rig = rig_main();
	struct rte_mbuf *pkt;

	iommu_open(rig);
	rig_exchange(rig, 0, 20);
	/* What the guest offers to receive into may only be read. */
	iommu_map(rig, 0, RIG_RAM_SIZE, 1);
	pkt = port_packet(&rig->port, 60, 1, 0);
	assert_int_equal(port_tx(&rig->port, 0, &pkt, 1), 0);
	iommu_await(rig, 2);
}

static void
test_iommu_messages_that_make_no_sense_are_refused(void **state)
{
	struct rig *rig = rig_main();
	const uint64_t uva = GUEST_RAM_UVA_BASE;
	int pipes[2];

	iommu_open(rig);
	fe_iotlb(&rig->fe, VU_IOTLB_MISS, 0, PAGE, uva, 1, FE_REFUSED);
	fe_iotlb(&rig->fe, 5, 0, PAGE, uva, 1, FE_REFUSED);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, 0, 0, uva, 1, FE_REFUSED);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, 0, PAGE, uva, 0, FE_REFUSED);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, 0, PAGE, uva, 4, FE_REFUSED);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, 0, PAGE, 1, 1, FE_REFUSED);
	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, UINT64_MAX, PAGE, uva, 1, FE_REFUSED);
	fe_iotlb(&rig->fe, VU_IOTLB_INVALIDATE, PAGE, UINT64_MAX, 0, 0, FE_REFUSED);
	mock_check(pipe(pipes) == 0);
	fe_request(&rig->fe, VU_SET_BACKEND_REQ_FD, NULL, 0, &pipes[0], 1, FE_REFUSED);
	close(pipes[0]);
	close(pipes[1]);
	/* All that was said before is in force. */
	rig_exchange(rig, 0, 100);
}

static void
test_iommu_flood_of_updates_stays_bounded(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	for (i = 0; i < rig_repeats(5000, 100000); i++)
		fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, BIT(50) + i * 2 * PAGE, PAGE,
			GUEST_RAM_UVA_BASE, IOMMU_RW, FE_OK);
	/* The oldest may have had to go, and can be asked for again. */
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	iommu_map(rig, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, IOMMU_RW);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 100);
}

static void
test_iommu_front_end_that_reads_no_questions_is_no_harm(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	iommu_open(rig);
	iommu_unmap(rig, 0, RIG_RAM_SIZE);
	for (i = 0; i < 2; i++) {
		rig_send(rig, 0, 1);
		rig_collect(rig, 0, 2000);
		rig_forget(rig, 0);
		fe_barrier(&rig->fe);
	}
	close(iommu_sock);
	iommu_sock = -1;
	rig_send(rig, 0, 1);
	rig_collect(rig, 0, 2000);
	rig_forget(rig, 0);
	iommu_map(rig, 0, RIG_RAM_SIZE, IOMMU_RW);
	rig_exchange(rig, 0, 50);
}

static int
iommu_teardown(void **state)
{
	if (iommu_sock >= 0)
		close(iommu_sock);
	iommu_sock = -1;
	return rig_teardown(state);
}

#define IOMMU_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, iommu_teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		IOMMU_TEST(test_iommu_is_offered_only_if_asked_for),
		IOMMU_TEST(test_iommu_translations_sent_unasked_bring_traffic),
		IOMMU_TEST(test_iommu_rings_and_packets_are_asked_for_page_by_page),
		IOMMU_TEST(test_iommu_address_that_is_not_translated_is_refused_in_time),
		IOMMU_TEST(test_iommu_answer_that_says_no_stops_the_queue),
		IOMMU_TEST(test_iommu_refusal_stops_the_queue_at_once),
		IOMMU_TEST(test_iommu_refusal_of_what_no_packet_waits_for_is_no_harm),
		IOMMU_TEST(test_iommu_replies_are_asked_for_only_if_negotiated),
		IOMMU_TEST(test_iommu_rings_are_asked_for_in_one_go),
		IOMMU_TEST(test_iommu_link_stays_up_while_rings_are_translated_anew),
		IOMMU_TEST(test_iommu_broken_ring_is_not_revived_by_translations),
		IOMMU_TEST(test_iommu_cap_that_is_too_small_is_refused_at_the_start),
		IOMMU_TEST(test_iommu_invalidate_closes_what_was_open_before_its_answer),
		IOMMU_TEST(test_iommu_invalidate_under_traffic),
		IOMMU_TEST(test_iommu_ring_halts_without_translation_and_goes_on_with_it),
		IOMMU_TEST(test_iommu_rights_are_kept),
		IOMMU_TEST(test_iommu_messages_that_make_no_sense_are_refused),
		IOMMU_TEST(test_iommu_flood_of_updates_stays_bounded),
		IOMMU_TEST(test_iommu_front_end_that_reads_no_questions_is_no_harm),
	};

	rig_program("test_conform_iommu", 90);
	return cmocka_run_group_tests_name(
		"conform iommu", tests, rig_group_setup, rig_group_teardown);
}
