/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Conformance: virtio and protocol features, queue number (vhost-user.rst, "Protocol features"). */

#include <string.h>

#include "conform.h"

#define FEATURES_PAIRS 8

/** Offered by every version of the driver. */
#define FEATURES_REQUIRED                                                                     \
	(BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                     \
		BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) |                      \
		BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ) | \
		BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |                \
		BIT(VU_F_PROTOCOL_FEATURES))

/** The front-end's own business, or nothing that a back-end of this kind can do. */
#define FEATURES_NEVER                                                                  \
	(BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |                             \
		BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_F_ACCESS_PLATFORM) | \
		CONFORM_NO_FEATURE)

#define PROTOCOL_REQUIRED \
	(BIT(VU_PF_MQ) | BIT(VU_PF_REPLY_ACK) | BIT(VU_PF_CONFIGURE_MEM_SLOTS) | BIT(VU_PF_STATUS))

#define PROTOCOL_NEVER                                                                           \
	(BIT(VU_PF_CROSS_ENDIAN) | BIT(VU_PF_CRYPTO_SESSION) | BIT(VU_PF_PAGEFAULT) |            \
		BIT(VU_PF_CONFIG) | BIT(VU_PF_HOST_NOTIFIER) | BIT(VU_PF_INBAND_NOTIFICATIONS) | \
		BIT(VU_PF_XEN_MMAP) | BIT(VU_PF_SHARED_OBJECT) | BIT(VU_PF_DEVICE_STATE))

static void
test_c13_features_are_constant(void **state)
{
	struct rig *rig = rig_main();
	uint64_t features;
	uint64_t protocol;

	rig_prepare(rig, NULL);
	features = fe_get_features(&rig->fe);
	protocol = fe_get_protocol_features(&rig->fe);
	assert_int_equal(fe_get_features(&rig->fe), features);

	rig_bring_up(rig);
	assert_int_equal(fe_get_features(&rig->fe), features);
	assert_int_equal(fe_get_protocol_features(&rig->fe), protocol);
	nic_stop(&rig->nic);
	assert_int_equal(fe_get_features(&rig->fe), features);

	rig_hang_up(rig);
	rig_reconnect(rig);
	assert_int_equal(fe_get_features(&rig->fe), features);
	assert_int_equal(fe_get_protocol_features(&rig->fe), protocol);
}

static void
test_c13_features_are_those_that_work(void **state)
{
	struct rig *rig = rig_main();
	uint64_t features;
	uint64_t protocol;

	rig_prepare(rig, NULL);
	features = fe_get_features(&rig->fe);
	protocol = fe_get_protocol_features(&rig->fe);
	assert_int_equal(features & FEATURES_REQUIRED, FEATURES_REQUIRED);
	assert_int_equal(features & FEATURES_NEVER, 0);
	assert_int_equal((features >> VIRTIO_NET_F_MTU) & 1, (protocol >> VU_PF_NET_MTU) & 1);
	assert_int_equal((features >> VU_F_LOG_ALL) & 1, (protocol >> VU_PF_LOG_SHMFD) & 1);
}

static void
test_c14_protocol_features_work_before_set_features(void **state)
{
	struct rig *rig = rig_main();
	uint64_t protocol;

	rig_prepare(rig, NULL);
	protocol = fe_get_protocol_features(&rig->fe);
	fe_set_protocol_features(&rig->fe, BIT(VU_PF_REPLY_ACK) | BIT(VU_PF_MQ), FE_OK);
	fe_set_owner(&rig->fe, FE_OK);
	assert_true(fe_get_queue_num(&rig->fe) > 0);
	assert_int_equal(fe_get_protocol_features(&rig->fe), protocol);
}

static void
test_c15_feature_that_was_not_offered_is_refused(void **state)
{
	const struct rig_config config = {.nic = {.features = BIT(VU_F_PROTOCOL_FEATURES)}};
	struct rig *rig = rig_main();

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	assert_int_equal(rig->nic.hdr_len, 10);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	fe_set_features(&rig->fe, rig->nic.features | BIT(VIRTIO_F_VERSION_1) | CONFORM_NO_FEATURE,
		FE_REFUSED);
	fe_set_features(&rig->fe, UINT64_MAX, FE_REFUSED);

	/* The features before that stay in force without being sent again: a header of 10 bytes. */
	nic_send_memory(&rig->nic);
	rig_offer_buffers(rig);
	nic_set_up_ring(&rig->nic, NIC_RX(0));
	nic_set_up_ring(&rig->nic, NIC_TX(0));
	fe_set_status(&rig->fe, 15, FE_OK);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
}

static void
test_c15_feature_that_was_not_offered_closes_when_not_asked(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	fe_set_features(&rig->fe, CONFORM_NO_FEATURE, FE_CLOSED);
	fe_connect(&rig->fe, rig->port.path);
	fe_barrier(&rig->fe);
}

static void
test_c16_features_do_not_change_while_running(void **state)
{
	struct rig *rig = rig_main();
	uint64_t features;

	rig_open(rig, NULL);
	features = rig->nic.features;
	rig_exchange(rig, 0, 32);
	fe_set_features(&rig->fe, features, FE_OK);
	rig_exchange(rig, 0, 32);
	fe_set_features(&rig->fe, features & ~BIT(VIRTIO_NET_F_MRG_RXBUF), FE_REFUSED);
	fe_set_features(&rig->fe, features | BIT(VIRTIO_RING_F_EVENT_IDX), FE_REFUSED);
	fe_set_features(&rig->fe, 0, FE_REFUSED);
	rig_exchange(rig, 0, 32);
	assert_int_equal(fe_get_features(&rig->fe) & features, features);
}

static void
test_c16_log_all_toggles_while_running_where_offered(void **state)
{
	struct rig *rig = rig_main();
	enum fe_want want;

	rig_open(rig, NULL);
	want = (fe_get_features(&rig->fe) & BIT(VU_F_LOG_ALL)) != 0 ? FE_OK : FE_REFUSED;
	fe_set_features(&rig->fe, rig->nic.features | BIT(VU_F_LOG_ALL), want);
	rig_exchange(rig, 0, 32);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	rig_exchange(rig, 0, 32);
}

static void
test_c17_rings_are_enabled_without_protocol_features(void **state)
{
	const struct rig_config config = {
		.nic = {.features = NIC_FEATURES & ~BIT(VU_F_PROTOCOL_FEATURES)}};
	struct rig *rig = rig_main();

	rig_prepare(rig, &config);
	rig->nic.features = fe_get_features(&rig->fe) & config.nic.features;
	rig->nic.hdr_len = 12;
	fe_set_owner(&rig->fe, FE_SEND);
	fe_set_features(&rig->fe, rig->nic.features, FE_SEND);
	fe_set_mem_table(&rig->fe, &rig->ram, FE_SEND);
	rig_offer_buffers(rig);
	nic_set_up_ring(&rig->nic, NIC_RX(0));
	nic_set_up_ring(&rig->nic, NIC_TX(0));
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 64);
}

static void
test_c18_protocol_feature_that_was_not_offered_is_refused(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	fe_set_protocol_features(&rig->fe, BIT(VU_PF_MQ) | CONFORM_NO_PROTOCOL_FEATURE, FE_REFUSED);
	fe_set_protocol_features(&rig->fe, UINT64_MAX, FE_REFUSED);
	/* Acknowledgements go on: what was negotiated before is in force. */
	fe_set_owner(&rig->fe, FE_OK);
	fe_set_protocol_features(&rig->fe, CONFORM_NO_PROTOCOL_FEATURE, FE_CLOSED);
}

static void
test_c18_inband_notifications_alone_close(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	fe_set_protocol_features(&rig->fe, BIT(VU_PF_INBAND_NOTIFICATIONS), FE_CLOSED);
	fe_connect(&rig->fe, rig->port.path);
	fe_barrier(&rig->fe);
}

static void
test_c19_negotiation_may_be_repeated(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, NULL);
	for (i = 0; i < 4; i++)
		nic_negotiate(&rig->nic);
	for (i = 0; i < 4; i++)
		fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 32);
	/* As the second and later queue pairs do while the first one runs. */
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	fe_set_protocol_features(&rig->fe, rig->nic.protocol_features, FE_OK);
	fe_set_owner(&rig->fe, FE_OK);
	rig_exchange(rig, 0, 32);
}

static void
test_c20_queue_number_suits_all_front_ends(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = FEATURES_PAIRS, .ring_size = 64}};
	struct rig *rig = rig_main();
	unsigned int pair;

	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	/* Some compare with queue pairs, some with ring indices: 128 suits both. */
	assert_int_equal(fe_get_queue_num(&rig->fe), 128);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	for (pair = 0; pair < FEATURES_PAIRS; pair++)
		rig_exchange(rig, pair, 32);
}

/** Requests that mean nothing unless their protocol feature is negotiated. */
static const struct {
	uint32_t request;
	uint32_t size;
	uint32_t n_fds;
	unsigned int feature;
	bool has_body; /**< the answer would have a body: no acknowledgement exists for it */
} c21_requests[] = {
	{VU_GET_CONFIG, 20, 0, VU_PF_CONFIG, true},
	{VU_SET_CONFIG, 20, 0, VU_PF_CONFIG, false},
	{VU_POSTCOPY_ADVISE, 0, 0, VU_PF_PAGEFAULT, true},
	{VU_POSTCOPY_LISTEN, 0, 0, VU_PF_PAGEFAULT, false},
	{VU_POSTCOPY_END, 0, 0, VU_PF_PAGEFAULT, true},
	{VU_VRING_KICK, 8, 0, VU_PF_INBAND_NOTIFICATIONS, false},
	{VU_GET_INFLIGHT_FD, 24, 0, VU_PF_INFLIGHT_SHMFD, true},
	{VU_SET_INFLIGHT_FD, 24, 1, VU_PF_INFLIGHT_SHMFD, false},
	{VU_SET_VRING_ENDIAN, 8, 0, VU_PF_CROSS_ENDIAN, false},
	{VU_GET_SHARED_OBJECT, 16, 0, VU_PF_SHARED_OBJECT, true},
	{VU_SET_DEVICE_STATE_FD, 8, 1, VU_PF_DEVICE_STATE, true},
	{VU_CHECK_DEVICE_STATE, 0, 0, VU_PF_DEVICE_STATE, true},
	{VU_SET_LOG_BASE, 16, 1, VU_PF_LOG_SHMFD, true},
	{VU_SEND_RARP, 8, 0, VU_PF_RARP, false},
	{VU_NET_SET_MTU, 8, 0, VU_PF_NET_MTU, false},
	{VU_SET_BACKEND_REQ_FD, 0, 1, VU_PF_BACKEND_REQ, false},
	{VU_IOTLB_MSG, 32, 0, VU_PF_BACKEND_REQ, false},
	{VU_GPU_SET_SOCKET, 0, 1, 63, false},
};

static void
test_c21_requests_of_features_not_offered_fail(void **state)
{
	struct rig *rig = rig_main();
	/* Of a configuration space message: 8 bytes. Zero suits all others. */
	const uint32_t payload[8] = {0, 8};
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, NULL);
	assert_int_equal(fe_get_protocol_features(&rig->fe) & PROTOCOL_NEVER, 0);
	assert_int_equal(fe_get_protocol_features(&rig->fe) & PROTOCOL_REQUIRED, PROTOCOL_REQUIRED);
	idle = rig_idle_fds(rig);
	for (i = 0; i < sizeof(c21_requests) / sizeof(c21_requests[0]); i++) {
		bool has_body = c21_requests[i].has_body;

		conform_renegotiate(rig);
		if ((rig->nic.protocol_features & BIT(c21_requests[i].feature)) != 0)
			continue;
		fe_request(&rig->fe, c21_requests[i].request, payload, c21_requests[i].size,
			&rig->ram.file[0].fd, c21_requests[i].n_fds,
			has_body ? FE_FAILED : FE_REFUSED);
		conform_renegotiate(rig);
		fe_request(&rig->fe, c21_requests[i].request, payload, c21_requests[i].size,
			&rig->ram.file[0].fd, c21_requests[i].n_fds, FE_CLOSED);
		rig_wait_fds(idle);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c13_features_are_constant),
		RIG_TEST(test_c13_features_are_those_that_work),
		RIG_TEST(test_c14_protocol_features_work_before_set_features),
		RIG_TEST(test_c15_feature_that_was_not_offered_is_refused),
		RIG_TEST(test_c15_feature_that_was_not_offered_closes_when_not_asked),
		RIG_TEST(test_c16_features_do_not_change_while_running),
		RIG_TEST(test_c16_log_all_toggles_while_running_where_offered),
		RIG_TEST(test_c17_rings_are_enabled_without_protocol_features),
		RIG_TEST(test_c18_protocol_feature_that_was_not_offered_is_refused),
		RIG_TEST(test_c18_inband_notifications_alone_close),
		RIG_TEST(test_c19_negotiation_may_be_repeated),
		RIG_TEST(test_c20_queue_number_suits_all_front_ends),
		RIG_TEST(test_c21_requests_of_features_not_offered_fail),
	};

	rig_program("test_conform_features", 60);
	return cmocka_run_group_tests_name(
		"conform features", tests, rig_group_setup, rig_group_teardown);
}
