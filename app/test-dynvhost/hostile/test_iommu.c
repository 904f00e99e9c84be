/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Hostile guests and front-ends behind an IOMMU: translations that come, go, overlap and lie as fast
 * as the socket takes them, while packets use them. What the table itself makes of it is tested in
 * unit_mem_iotlb. Nothing of it is in the catalogue but H32: it is as hostile as H48 is for memory
 * tables.
 */

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile.h"

#define PAGE     4096ull
#define IOMMU    BIT(VIRTIO_F_ACCESS_PLATFORM)
#define IOMMU_RW 3

static void
iommu_send(struct rig *rig, uint8_t type, uint64_t iova, uint64_t size, uint64_t uva, uint8_t perm,
	enum fe_want want)
{
	const struct vu_iotlb msg = {
		.iova = iova, .size = size, .uva = uva, .perm = perm, .type = type};

	fe_request(&rig->fe, VU_IOTLB_MSG, &msg, sizeof(msg), NULL, 0, want);
}

/* All of guest memory: by its guest addresses for packets, by the front-end's for rings. */
static void
iommu_map_all(struct rig *rig)
{
	iommu_send(rig, VU_IOTLB_UPDATE, GUEST_RAM_UVA_BASE, RIG_RAM_SIZE, GUEST_RAM_UVA_BASE,
		IOMMU_RW, FE_OK);
	iommu_send(rig, VU_IOTLB_UPDATE, 0, RIG_RAM_SIZE, GUEST_RAM_UVA_BASE, IOMMU_RW, FE_OK);
}

static void
iommu_open(struct rig *rig)
{
	const struct rig_config config = {
		.port = {.devargs = "iommu-support=1"},
		.nic = {.features = NIC_FEATURES | IOMMU},
	};
	int pair[2];

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	/* Nobody reads what is asked. */
	mock_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	fe_request(&rig->fe, VU_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1, FE_OK);
	close(pair[1]);
	close(pair[0]);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	iommu_map_all(rig);
	port_wait_link(&rig->port, true);
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
		iommu_send(
			rig, VU_IOTLB_INVALIDATE, 0, i % 16 == 0 ? 0 : RIG_RAM_SIZE, 0, 0, FE_OK);
		iommu_map_all(rig);
	}
	rig_echo_stop(rig);
	port_wait_link(&rig->port, true);
	/* What was on its way comes, or was lost without its translation. */
	rig_collect(rig, 0, 1000);
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
		iommu_send(rig, (uint8_t)(rand() % 6), iova, size,
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
	assert_true(rig_collect(rig, 0, 5000));
	/* An end of the address space. */
	piece.gpa = UINT64_MAX - 50;
	rig_offer_chain(rig, NIC_TX(0), &chain, false);
	rig_poll(rig);
	port_wait_link(&rig->port, false);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_iommu_translations_that_come_and_go_all_the_time_hurt_nobody),
		HOSTILE_TEST(test_iommu_random_messages_under_traffic),
		HOSTILE_TEST(test_iommu_guest_that_names_what_is_not_mapped_waits_alone),
	};

	hostile_program("test_hostile_iommu", 90);
	return cmocka_run_group_tests_name(
		"hostile iommu", tests, rig_group_setup, rig_group_teardown);
}
