/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: what becomes of guest memory while rings run: tables that change under traffic, what
 * is mapped and when it goes.
 */

#include <stdio.h>
#include <string.h>

#include "conform.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/** Pages of rings of 256 entries, three areas each: of one pair. */
#define MAPPING_RING_PAGES 6
/** Of these, the used rings. */
#define MAPPING_USED_PAGES 2

/** Rings in region 0, buffers in region 1, each a file of its own, with a hole between. */
static void
mapping_lay_out(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, 4 * MIB, GUEST_RAM_PAGE);
	guest_ram_add_file(ram, 4 * MIB, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 0, 4 * MIB, 0);
	guest_ram_add_region(ram, 1, 0, 16 * MIB, 4 * MIB, 0);
}

static const struct rig_config mapping_config = {
	.lay_out = mapping_lay_out,
	.nic = {.buffer_region = 1, CONFORM_WHOLE_TABLES},
};

static const struct rig_config mapping_slot_config = {
	.lay_out = mapping_lay_out,
	.nic = {.buffer_region = 1},
};

/* A guest whose only file is file @p file of @p ram: for exposure_read(). */
static struct guest_ram *
mapping_of_file(const struct guest_ram *ram, unsigned int file)
{
	static struct guest_ram only;

	only.n_files = 1;
	only.file[0] = ram->file[file];
	return &only;
}

static void
test_c27_table_changes_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &mapping_config);
	guest_ram_add_file(&rig->ram, 4 * MIB, GUEST_RAM_PAGE);
	rig_echo_start(rig);
	for (i = 0; i < rig_repeats(40, 2000); i++) {
		if (i % 2 == 0)
			guest_ram_add_region(&rig->ram, 2, 0, 64 * MIB, 4 * MIB, 0);
		else
			guest_ram_drop_region(&rig->ram);
		assert_int_equal(rig_send(rig, 0, 32), 32);
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
		assert_int_equal(rig_send(rig, 0, 32), 32);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
	nic_stop(&rig->nic);
}

static void
test_c27_regions_come_and_go_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region = {GIB, 4 * MIB, GIB, 0};
	unsigned int file;
	unsigned int i;

	rig_open(rig, &mapping_slot_config);
	file = guest_ram_add_file(&rig->ram, 4 * MIB, GUEST_RAM_PAGE);
	rig_echo_start(rig);
	for (i = 0; i < 40; i++) {
		assert_int_equal(rig_send(rig, 0, 32), 32);
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[file].fd, 1, FE_OK);
		assert_int_equal(rig_send(rig, 0, 32), 32);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
	nic_stop(&rig->nic);
}

static void
test_c28_identical_table_disturbs_nothing(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, &mapping_config);
	fds = mock_count_fds();
	rig_echo_start(rig);
	for (i = 0; i < 40; i++) {
		assert_int_equal(rig_send(rig, 0, 32), 32);
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
		assert_int_equal(mock_count_fds(), fds);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
	assert_true(port_link_up(&rig->port));
}

static void
test_c29_failed_table_leaves_traffic_running(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, &mapping_config);
	fds = mock_count_fds();
	rig_echo_start(rig);
	for (i = 0; i < 40; i++) {
		assert_int_equal(rig_send(rig, 0, 32), 32);
		/* The second region twice. */
		guest_ram_add_region(&rig->ram, 1, 0, 16 * MIB, 4 * MIB, 0);
		fe_set_mem_table(&rig->fe, &rig->ram, FE_REFUSED);
		guest_ram_drop_region(&rig->ram);
		assert_int_equal(mock_count_fds(), fds);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
}

static void
test_c30_ring_without_memory_halts_and_recovers(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region buffers;
	struct exposure exposure;
	unsigned int i;

	rig_open(rig, &mapping_config);
	buffers = fe_region(&rig->ram.region[1]);
	for (i = 0; i < 3; i++) {
		uint16_t rx_idx = split_ring_device_idx(&rig->nic.ring[NIC_RX(0)].ring);
		uint16_t tx_idx = split_ring_device_idx(&rig->nic.ring[NIC_TX(0)].ring);

		rig_exchange(rig, 0, 32);
		rx_idx = (uint16_t)(rx_idx + 32);
		tx_idx = (uint16_t)(tx_idx + 32);
		fe_set_mem_table_raw(&rig->fe, 1, &buffers, 1, &rig->ram.file[1].fd, 1, FE_OK);
		exposure_read(mapping_of_file(&rig->ram, 0), &exposure);
		assert_int_equal(exposure.mapped, 0);
		assert_int_equal(rig_send(rig, 0, 8), 8);
		rig_expect_nothing_received(rig, 0);
		assert_int_equal(split_ring_device_idx(&rig->nic.ring[NIC_RX(0)].ring), rx_idx);
		assert_int_equal(split_ring_device_idx(&rig->nic.ring[NIC_TX(0)].ring), tx_idx);

		/* A table that covers the rings again: they go on where they were. */
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
	nic_stop(&rig->nic);
}

static void
test_c33_removed_region_is_unmapped_before_the_ack(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region buffers;
	struct exposure exposure;

	rig_open(rig, &mapping_slot_config);
	rig_exchange(rig, 0, 64);
	buffers = fe_region(&rig->ram.region[1]);
	exposure_read(mapping_of_file(&rig->ram, 1), &exposure);
	assert_true(exposure.loadable > 0);
	fe_rem_mem_reg(&rig->fe, &buffers, NULL, 0, FE_OK);
	exposure_read(mapping_of_file(&rig->ram, 1), &exposure);
	assert_int_equal(exposure.mapped, 0);
}

static void
test_c33_replaced_table_is_unmapped_before_the_ack(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region rings;
	struct exposure exposure;

	rig_open(rig, &mapping_config);
	rig_exchange(rig, 0, 64);
	rings = fe_region(&rig->ram.region[0]);
	fe_set_mem_table_raw(&rig->fe, 1, &rings, 1, &rig->ram.file[0].fd, 1, FE_OK);
	exposure_read(mapping_of_file(&rig->ram, 1), &exposure);
	assert_int_equal(exposure.mapped, 0);
}

static void
mapping_expect_at_most(const struct rig *rig, uint64_t loadable_pages, uint64_t storable_pages)
{
	struct exposure exposure;

	exposure_read(&rig->ram, &exposure);
	if (exposure.loadable > loadable_pages * 4096 || exposure.storable > storable_pages * 4096)
		mock_fail("reachable: %llu bytes, storable %llu; should be %llu and %llu at most",
			(unsigned long long)exposure.loadable,
			(unsigned long long)exposure.storable,
			(unsigned long long)loadable_pages * 4096,
			(unsigned long long)storable_pages * 4096);
	if (loadable_pages > 0)
		assert_true(exposure.loadable > 0);
}

static void
test_c36_only_what_is_touched_is_mapped(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_prepare(rig, &mapping_config);
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	nic_send_memory(&rig->nic);
	mapping_expect_at_most(rig, 0, 0);

	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	port_wait_link(&rig->port, true);
	mapping_expect_at_most(rig, MAPPING_RING_PAGES, MAPPING_USED_PAGES);

	/* The guest sends from one buffer again and again; it receives into one after the other. */
	for (i = 0; i < 10; i++) {
		uint64_t received = (i + 1) * rig->nic.config.buf_len / 4096 + 1;

		rig_to_host(rig, 0, 60);
		rig_to_guest(rig, 0, 60, 0);
		mapping_expect_at_most(
			rig, MAPPING_RING_PAGES + 1 + received, MAPPING_USED_PAGES + received);
	}
}

static void
test_c36_exposure_does_not_grow_with_the_guest(void **state)
{
	const struct rig_config config = {.ram_size = 64 * GIB, .nic = {.ring_size = 64}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_to_host(rig, 0, 60);
	rig_to_guest(rig, 0, 60, 0);
	mapping_expect_at_most(rig, MAPPING_RING_PAGES + 2, MAPPING_USED_PAGES + 1);
}

/** Places where a guest of mapping_lay_out() has no memory, or not enough. */
static const struct ring_piece mapping_nowhere[] = {
	{.gpa = 4 * MIB, .len = 100},
	{.gpa = 10 * MIB, .len = 100},
	{.gpa = 4 * MIB - 50, .len = 100},
	{.gpa = 16 * MIB - 50, .len = 100},
	{.gpa = 20 * MIB - 99, .len = 100},
	{.gpa = UINT64_MAX, .len = 100},
	{.gpa = UINT64_MAX - 99, .len = 100},
	{.gpa = 0x8000000000000000, .len = 100},
	{.gpa = 16 * MIB, .len = UINT32_MAX},
};

static void
test_c37_buffer_outside_memory_stops_its_queue_alone(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &mapping_config);
	for (i = 0; i < sizeof(mapping_nowhere) / sizeof(mapping_nowhere[0]); i++) {
		const struct rig_chain chain = {.piece = &mapping_nowhere[i], .n = 1};

		rig_offer_chain(rig, NIC_TX(0), &chain, false);
		rig_expect_nothing_received(rig, 0);
		rig_to_guest(rig, 0, 100, 0);
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 8);
	}
}

static void
test_c38_disconnect_gives_everything_back(void **state)
{
	const struct rig_config config = {
		.lay_out = mapping_lay_out, .nic = {.buffer_region = 1, .n_pairs = 4}};
	struct rig *rig = rig_main();
	struct exposure exposure;
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, &config);
	idle = rig_idle_fds(rig);
	for (i = 0; i < 3; i++) {
		rig_bring_up(rig);
		fe_set_vring_err(&rig->fe, i, rig->nic.masked_fd, FE_OK);
		rig_exchange(rig, i, 64);
		rig_hang_up(rig);
		rig_wait_fds(idle);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(exposure.mapped, 0);
		rig_reset_rings(rig);
		fe_connect(&rig->fe, rig->port.path);
	}
}

static void
test_c38_disconnect_under_traffic_gives_everything_back(void **state)
{
	struct rig *rig = rig_main();
	struct exposure exposure;
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, &mapping_config);
	idle = rig_idle_fds(rig);
	rig_echo_start(rig);
	for (i = 0; i < 10; i++) {
		rig_bring_up(rig);
		assert_true(rig_send(rig, 0, 100) > 0);
		rig_hang_up(rig);
		rig_wait_fds(idle);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(exposure.mapped, 0);
		rig_reset_rings(rig);
		fe_connect(&rig->fe, rig->port.path);
	}
}

/* What the default rings and a largest packet for each need: see DYNVHOST_VQ_FRAME_PIECES. */
#define MAPPING_CHAIN_PAGES 54
#define MAPPING_CAP_BYTES   ((MAPPING_RING_PAGES + 2 * MAPPING_CHAIN_PAGES) * 4096)

/* Set a guest up below a cap of open memory. */
static void
mapping_try_cap(struct rig *rig, unsigned long bytes)
{
	static char devargs[128];
	const struct rig_config config = {
		.lay_out = mapping_lay_out,
		.nic = {.buffer_region = 1},
		.port = {.devargs = devargs},
	};

	snprintf(devargs, sizeof(devargs), "%s%smap-max=%lu",
		rig_devargs != NULL ? rig_devargs : "", rig_devargs != NULL ? "," : "", bytes);
	rig_prepare(rig, &config);
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	nic_start(&rig->nic);
	fe_barrier(&rig->fe);
}

static void
test_a_cap_too_small_for_the_rings_is_refused_by_its_right_size(void **state)
{
	struct rig *rig = rig_main();
	char line[256];

	port_log_capture();
	mapping_try_cap(rig, MAPPING_CAP_BYTES - 1);
	assert_false(port_link_up(&rig->port));
	/* The first ring does fit, with its own packet. */
	snprintf(line, sizeof(line),
		"map-max=%uK is too small: ring 1 does not start, rings and a largest packet each "
		"need map-max=%uK for 2 rings",
		(MAPPING_CAP_BYTES - 1) / 1024, MAPPING_CAP_BYTES / 1024);
	assert_int_equal(port_log_lines(line), 1);
	assert_int_equal(port_log_lines("does not start"), 1);
	rig_close(rig);
	mapping_try_cap(rig, MAPPING_CAP_BYTES);
	port_wait_link(&rig->port, true);
	assert_int_equal(port_log_lines("does not start"), 1);
	port_log_release();
	rig_exchange(rig, 0, 64);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c27_table_changes_under_traffic),
		RIG_TEST(test_c27_regions_come_and_go_under_traffic),
		RIG_TEST(test_c28_identical_table_disturbs_nothing),
		RIG_TEST(test_c29_failed_table_leaves_traffic_running),
		RIG_TEST(test_c30_ring_without_memory_halts_and_recovers),
		RIG_TEST(test_c33_removed_region_is_unmapped_before_the_ack),
		RIG_TEST(test_c33_replaced_table_is_unmapped_before_the_ack),
		RIG_TEST(test_c36_only_what_is_touched_is_mapped),
		RIG_TEST(test_c36_exposure_does_not_grow_with_the_guest),
		RIG_TEST(test_a_cap_too_small_for_the_rings_is_refused_by_its_right_size),
		RIG_TEST(test_c37_buffer_outside_memory_stops_its_queue_alone),
		RIG_TEST(test_c38_disconnect_gives_everything_back),
		RIG_TEST(test_c38_disconnect_under_traffic_gives_everything_back),
	};

	rig_program("test_conform_mapping", 60);
	rig_devargs = CONFORM_DEVARGS;
	return cmocka_run_group_tests_name(
		"conform mapping", tests, rig_group_setup, rig_group_teardown);
}
