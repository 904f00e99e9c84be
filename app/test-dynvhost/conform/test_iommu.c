/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance, a guest with an IOMMU: iommu-support=1 offers ACCESS_PLATFORM and the socket for
 * questions, and what §2.1 and §4.5 of the protocol's survey say of IOTLB_MSG holds. Nothing has a
 * number in the checklist. Questions: test_iommu_ask.c.
 */

#include <sys/socket.h>
#include <unistd.h>

#include "iommu.h"

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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		IOMMU_TEST(test_iommu_is_offered_only_if_asked_for),
		IOMMU_TEST(test_iommu_translations_sent_unasked_bring_traffic),
		IOMMU_TEST(test_iommu_link_stays_up_while_rings_are_translated_anew),
		IOMMU_TEST(test_iommu_broken_ring_is_not_revived_by_translations),
		IOMMU_TEST(test_iommu_cap_that_is_too_small_is_refused_at_the_start),
		IOMMU_TEST(test_iommu_invalidate_closes_what_was_open_before_its_answer),
		IOMMU_TEST(test_iommu_invalidate_under_traffic),
		IOMMU_TEST(test_iommu_ring_halts_without_translation_and_goes_on_with_it),
		IOMMU_TEST(test_iommu_rights_are_kept),
		IOMMU_TEST(test_iommu_messages_that_make_no_sense_are_refused),
		IOMMU_TEST(test_iommu_flood_of_updates_stays_bounded),
	};

	rig_program("test_conform_iommu", 90);
	return cmocka_run_group_tests_name(
		"conform iommu", tests, rig_group_setup, rig_group_teardown);
}
