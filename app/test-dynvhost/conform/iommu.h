/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_CONFORM_IOMMU_H
#define DYNVHOST_CONFORM_IOMMU_H

/**
 * @file
 * A guest with an IOMMU. Its driver uses guest addresses as I/O virtual addresses of buffers, and
 * front-end addresses as those of rings: two ranges that the test's front-end translates, or does not.
 */

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

static inline void
iommu_map(struct rig *rig, uint64_t iova, uint64_t size, uint8_t perm)
{
	uint64_t uva = iova < RIG_RAM_SIZE ? guest_ram_uva(&rig->ram, iova) : iova;

	fe_iotlb(&rig->fe, VU_IOTLB_UPDATE, iova, size, uva, perm, FE_OK);
}

static inline void
iommu_unmap(struct rig *rig, uint64_t iova, uint64_t size)
{
	fe_iotlb(&rig->fe, VU_IOTLB_INVALIDATE, iova, size, 0, 0, FE_OK);
}

/* Reply to the next question: 0 says that it has been answered. */
static inline void
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
static inline bool
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
static inline unsigned int
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
static inline struct vu_iotlb
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
static inline void
iommu_let_lapse(void)
{
	struct vu_iotlb question;

	while (iommu_question(&question))
		if (iommu_acks)
			iommu_reply(0);
}

/* The socket for questions, and a guest that starts. */
static inline void
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
static inline void
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

static inline void
iommu_open(struct rig *rig)
{
	iommu_open_as(rig, &iommu_config);
}

static inline uint64_t
iommu_loadable(const struct rig *rig)
{
	struct exposure exposure;

	exposure_read(&rig->ram, &exposure);
	return exposure.loadable;
}

static inline int
iommu_teardown(void **state)
{
	if (iommu_sock >= 0)
		close(iommu_sock);
	iommu_sock = -1;
	return rig_teardown(state);
}

#define IOMMU_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, iommu_teardown)

#endif /* DYNVHOST_CONFORM_IOMMU_H */
