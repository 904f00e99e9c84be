/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance, a guest with an IOMMU: what the port asks its front-end for, once and in time, and what
 * each answer does.
 */

#include <sys/socket.h>
#include <unistd.h>

#include "iommu.h"

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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		IOMMU_TEST(test_iommu_rings_and_packets_are_asked_for_page_by_page),
		IOMMU_TEST(test_iommu_address_that_is_not_translated_is_refused_in_time),
		IOMMU_TEST(test_iommu_answer_that_says_no_stops_the_queue),
		IOMMU_TEST(test_iommu_refusal_stops_the_queue_at_once),
		IOMMU_TEST(test_iommu_refusal_of_what_no_packet_waits_for_is_no_harm),
		IOMMU_TEST(test_iommu_replies_are_asked_for_only_if_negotiated),
		IOMMU_TEST(test_iommu_rings_are_asked_for_in_one_go),
		IOMMU_TEST(test_iommu_front_end_that_reads_no_questions_is_no_harm),
	};

	rig_program("test_conform_iommu_ask", 90);
	return cmocka_run_group_tests_name(
		"conform iommu, questions", tests, rig_group_setup, rig_group_teardown);
}
