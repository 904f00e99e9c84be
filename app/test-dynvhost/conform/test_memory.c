/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance: what the messages about memory say and refuse (vhost-user.rst, "Memory regions
 * description", "Configure memory slots").
 */

#include <string.h>
#include <unistd.h>

#include "conform.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/** What net_dynvhost answers to GET_MAX_MEM_SLOTS: as many as front-ends ever use. */
#define MEMORY_SLOTS 509

static const struct rig_config memory_whole_tables = {.nic = {CONFORM_WHOLE_TABLES}};

/** A second file that no region shows yet, for regions to be refused or added. */
static int
memory_spare_fd(struct rig *rig, uint64_t size)
{
	return rig->ram.file[guest_ram_add_file(&rig->ram, size, GUEST_RAM_PAGE)].fd;
}

static void
test_c22_region_count_out_of_range_fails(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region[16];
	int fd[16];
	unsigned int idle;
	unsigned int i;

	rig_prepare(rig, &memory_whole_tables);
	idle = rig_idle_fds(rig);
	for (i = 0; i < 16; i++) {
		region[i] = (struct vu_mem_region){.gpa = i * MIB, .size = MIB, .uva = i * MIB};
		fd[i] = rig->ram.file[0].fd;
	}
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 0, region, 0, fd, 0, FE_FAILED);
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 0, region, 0, fd, 0, FE_CLOSED);
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 9, region, 9, fd, 8, FE_BROKEN);
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, UINT32_MAX, region, 1, fd, 1, FE_BROKEN);
	rig_wait_fds(idle);
}

static void
test_c22_fds_that_do_not_match_regions_close(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region[2];
	int fd[2];
	unsigned int idle;

	rig_prepare(rig, &memory_whole_tables);
	idle = rig_idle_fds(rig);
	region[0] = (struct vu_mem_region){.gpa = 0, .size = MIB, .uva = MIB};
	region[1] = (struct vu_mem_region){.gpa = MIB, .size = MIB, .uva = 2 * MIB};
	fd[0] = fd[1] = rig->ram.file[0].fd;

	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 2, region, 2, fd, 1, FE_BROKEN);
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 1, region, 1, fd, 2, FE_BROKEN);
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 1, region, 1, fd, 0, FE_BROKEN);
	/* A count that the payload does not hold. */
	conform_renegotiate(rig);
	fe_set_mem_table_raw(&rig->fe, 2, region, 1, fd, 2, FE_BROKEN);
	rig_wait_fds(idle);
}

/** Regions that are no good beside one of 16 MiB at gpa 0, uva GUEST_RAM_UVA_BASE. */
static const struct {
	const char *what;
	struct vu_mem_region region;
} memory_bad[] = {
	{"no size", {GIB, 0, GIB, 0}},
	{"gpa wraps", {0xfffffffffffff000, 0x2000, GIB, 0}},
	{"uva wraps", {GIB, 0x2000, 0xfffffffffffff000, 0}},
	{"offset wraps", {GIB, 0x2000, GIB, 0xfffffffffffff000}},
	{"offset is no file position", {GIB, 0x1000, GIB, 0x8000000000000000}},
	{"size is everything", {GIB, UINT64_MAX, GIB, 0}},
	{"gpa is taken", {0, MIB, GIB, 0}},
	{"last page of gpa is taken", {16 * MIB - 0x1000, MIB, GIB, 0}},
	{"uva is taken", {GIB, MIB, GUEST_RAM_UVA_BASE, 0}},
	{"first page of uva is taken", {GIB, MIB, GUEST_RAM_UVA_BASE - MIB + 0x1000, 0}},
	{"file is too short", {GIB, 2 * MIB, GIB, 0}},
	{"file is too short behind the offset", {GIB, MIB, GIB, 0x1000}},
	{"offset is the end of the file", {GIB, 0x1000, GIB, MIB}},
};
#define MEMORY_N_BAD (sizeof(memory_bad) / sizeof(memory_bad[0]))

static void
test_c23_c24_bad_region_in_a_table_is_refused(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;
	int fd[2];

	rig_open(rig, &memory_whole_tables);
	fd[0] = rig->ram.file[0].fd;
	fd[1] = memory_spare_fd(rig, MIB);
	fds = mock_count_fds();
	for (i = 0; i < MEMORY_N_BAD; i++) {
		struct vu_mem_region region[2] = {
			fe_region(&rig->ram.region[0]), memory_bad[i].region};

		print_message("# %s\n", memory_bad[i].what);
		fe_set_mem_table_raw(&rig->fe, 2, region, 2, fd, 2, FE_REFUSED);
		assert_int_equal(mock_count_fds(), fds);
		/* The table before that is in force. */
		rig_exchange(rig, 0, 8);
	}
}

static void
test_c23_c24_bad_region_to_add_is_refused(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;
	int fd;

	rig_open(rig, NULL);
	fd = memory_spare_fd(rig, MIB);
	fds = mock_count_fds();
	for (i = 0; i < MEMORY_N_BAD; i++) {
		print_message("# %s\n", memory_bad[i].what);
		fe_add_mem_reg(&rig->fe, &memory_bad[i].region, &fd, 1, FE_REFUSED);
		assert_int_equal(mock_count_fds(), fds);
		rig_exchange(rig, 0, 8);
	}
}

static void
test_c23_bad_region_closes_when_not_asked(void **state)
{
	struct rig *rig = rig_main();
	unsigned int idle;
	int fd;

	rig_prepare(rig, NULL);
	fd = memory_spare_fd(rig, MIB);
	idle = rig_idle_fds(rig);
	conform_renegotiate(rig);
	fe_add_mem_reg(&rig->fe, &memory_bad[0].region, &fd, 1, FE_CLOSED);
	rig_wait_fds(idle);
}

static void
test_c24_fd_that_is_no_file_is_refused(void **state)
{
	const struct vu_mem_region region = {GIB, 0x1000, GIB, 0};
	struct rig *rig = rig_main();
	int pipe_fd[2];

	rig_open(rig, NULL);
	assert_int_equal(pipe(pipe_fd), 0);
	fe_add_mem_reg(&rig->fe, &region, &pipe_fd[1], 1, FE_REFUSED);
	fe_add_mem_reg(&rig->fe, &region, &rig->nic.masked_fd, 1, FE_REFUSED);
	fe_add_mem_reg(&rig->fe, &region, &rig->fe.sock, 1, FE_REFUSED);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	rig_exchange(rig, 0, 8);
}

static void
memory_lay_out_at_offset(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, 24 * MIB, GUEST_RAM_PAGE);
	/* A page of normal size, but no huge page, begins here. */
	guest_ram_add_region(ram, 0, 3 * MIB + 0x3000, 0x101000, 16 * MIB, 0);
}

static void
memory_lay_out_hugepages(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, 24 * MIB, GUEST_RAM_HUGEPAGE);
	/* As around the VGA hole of a PC: neither address nor offset on a huge page. */
	guest_ram_add_region(ram, 0, 0xc0000, 0xc0000, 20 * MIB, 0);
}

static void
test_c25_offset_in_the_file_is_honoured(void **state)
{
	const struct rig_config config = {.lay_out = memory_lay_out_at_offset};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	rig_to_host(rig, 0, 9000);
	rig_to_guest(rig, 0, 9000, 0);
}

static void
test_c25_offset_inside_a_huge_page_is_honoured(void **state)
{
	const struct rig_config config = {.lay_out = memory_lay_out_hugepages};
	struct rig *rig = rig_main();

	if (!guest_ram_has_hugepages(24 * MIB)) {
		print_message("# no free huge pages on this machine\n");
		skip();
	}
	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	rig_to_host(rig, 0, 9000);
	rig_to_guest(rig, 0, 9000, 0);
}

static void
memory_lay_out_swapped(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, 16 * MIB, GUEST_RAM_PAGE);
	/* Neighbours in gpa; in the file the second comes first. */
	guest_ram_add_region(ram, 0, 8 * MIB, 0, 8 * MIB, 0);
	guest_ram_add_region(ram, 0, 0, 8 * MIB, 8 * MIB, GUEST_RAM_UVA_BASE + GIB);
}

static void
memory_lay_out_two_files(struct guest_ram *ram)
{
	guest_ram_init_neighbours(ram, 8 * MIB, 8 * MIB);
}

/* Buffers over the border at 8 MiB, in both directions, also with the border in the header. */
static void
memory_cross_the_border(void (*lay_out)(struct guest_ram *))
{
	const struct rig_config config = {.lay_out = lay_out, .no_rx_buffers = true};
	static const uint64_t before[] = {1, 5, 12, 13, 100, 1513};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		struct ring_piece piece = {.gpa = 8 * MIB - before[i], .len = 1526};
		struct rig_chain chain = {.piece = &piece, .n = 1};

		rig_chain_to_host(rig, 0, &chain);
		rig_chain_to_guest(rig, 0, &chain, 1514);
	}
}

static void
test_c26_buffer_over_the_border_of_regions_of_one_file(void **state)
{
	memory_cross_the_border(memory_lay_out_swapped);
}

static void
test_c26_buffer_over_the_border_of_regions_of_two_files(void **state)
{
	memory_cross_the_border(memory_lay_out_two_files);
}

static void
test_c31_wrong_fd_count_closes(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region = {GIB, MIB, GIB, 0};
	unsigned int idle;
	int fd[2];

	rig_prepare(rig, NULL);
	fd[0] = fd[1] = memory_spare_fd(rig, MIB);
	idle = rig_idle_fds(rig);
	conform_renegotiate(rig);
	fe_add_mem_reg(&rig->fe, &region, fd, 0, FE_BROKEN);
	conform_renegotiate(rig);
	fe_add_mem_reg(&rig->fe, &region, fd, 2, FE_BROKEN);
	rig_wait_fds(idle);
}

static void
test_c31_c34_slots_can_all_be_used_and_no_more(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region;
	unsigned int i;
	int fd;

	rig_open(rig, NULL);
	assert_int_equal(fe_get_max_mem_slots(&rig->fe), MEMORY_SLOTS);
	fd = memory_spare_fd(rig, 600 * 0x1000);
	for (i = 1; i <= MEMORY_SLOTS; i++) {
		region = (struct vu_mem_region){
			GIB + i * 0x10000ull, 0x1000, GIB + i * 0x10000ull, i * 0x1000ull};
		fe_add_mem_reg(&rig->fe, &region, &fd, 1, i < MEMORY_SLOTS ? FE_OK : FE_REFUSED);
	}
	rig_exchange(rig, 0, 32);
	assert_int_equal(fe_get_max_mem_slots(&rig->fe), MEMORY_SLOTS);
	region = (struct vu_mem_region){GIB + 0x10000, 0x1000, GIB + 0x10000, 0};
	fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
	fe_add_mem_reg(&rig->fe, &region, &fd, 1, FE_OK);
	rig_exchange(rig, 0, 32);
}

static void
test_c32_region_is_removed_by_addresses_and_size(void **state)
{
	struct rig *rig = rig_main();
	const struct vu_mem_region region = {GIB, MIB, 2 * GIB, 0x1000};
	struct vu_mem_region other;
	unsigned int fds;
	int fd;

	rig_open(rig, NULL);
	fd = memory_spare_fd(rig, 2 * MIB);
	fds = mock_count_fds();
	fe_add_mem_reg(&rig->fe, &region, &fd, 1, FE_OK);

	other = region;
	other.gpa += 0x1000;
	fe_rem_mem_reg(&rig->fe, &other, NULL, 0, FE_REFUSED);
	other = region;
	other.uva += 0x1000;
	fe_rem_mem_reg(&rig->fe, &other, NULL, 0, FE_REFUSED);
	other = region;
	other.size -= 0x1000;
	fe_rem_mem_reg(&rig->fe, &other, NULL, 0, FE_REFUSED);
	rig_exchange(rig, 0, 8);

	/* The offset is not looked at; a stray fd is closed. */
	other = region;
	other.mmap_offset = 0x77000;
	fe_rem_mem_reg(&rig->fe, &other, &fd, 1, FE_OK);
	assert_int_equal(mock_count_fds(), fds);
	fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_REFUSED);
	rig_exchange(rig, 0, 8);
}

static void
test_c34_slot_number_is_constant(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	assert_int_equal(fe_get_max_mem_slots(&rig->fe), MEMORY_SLOTS);
	rig_hang_up(rig);
	rig_reconnect(rig);
	assert_int_equal(fe_get_max_mem_slots(&rig->fe), MEMORY_SLOTS);
	rig_exchange(rig, 0, 8);
}

static void
test_c35_table_of_added_regions_outlives_a_stop(void **state)
{
	const struct rig_config config = {
		.lay_out = memory_lay_out_two_files, .nic = {.buffer_region = 1}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	assert_true(rig->nic.regions_sent);
	for (i = 0; i < 5; i++) {
		rig_exchange(rig, 0, 64);
		nic_stop(&rig->nic);
		nic_start(&rig->nic);
	}
	rig_exchange(rig, 0, 64);
}

/* The front-end's own addresses are those of the guest. */
static void
memory_lay_out_gpa_addresses(struct guest_ram *ram)
{
	guest_ram_init(ram);
	guest_ram_add_file(ram, RIG_RAM_SIZE, GUEST_RAM_PAGE);
	guest_ram_add_region(ram, 0, 0, 1ull << 32, RIG_RAM_SIZE, 1ull << 32);
}

static void
test_gpa_addresses_bring_rings_up(void **state)
{
	const struct rig_config config = {
		.lay_out = memory_lay_out_gpa_addresses, .nic = {.order = NIC_ORDER_QEMU_10}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	if (port_is_dynvhost())
		assert_true(rig->nic.protocol_features & BIT(VU_PF_GPA_ADDRESSES));
	rig_exchange(rig, 0, 64);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_c22_region_count_out_of_range_fails),
		RIG_TEST(test_c22_fds_that_do_not_match_regions_close),
		RIG_TEST(test_c23_c24_bad_region_in_a_table_is_refused),
		RIG_TEST(test_c23_c24_bad_region_to_add_is_refused),
		RIG_TEST(test_c23_bad_region_closes_when_not_asked),
		RIG_TEST(test_c24_fd_that_is_no_file_is_refused),
		RIG_TEST(test_c25_offset_in_the_file_is_honoured),
		RIG_TEST(test_c25_offset_inside_a_huge_page_is_honoured),
		RIG_TEST(test_c26_buffer_over_the_border_of_regions_of_one_file),
		RIG_TEST(test_c26_buffer_over_the_border_of_regions_of_two_files),
		RIG_TEST(test_c31_wrong_fd_count_closes),
		RIG_TEST(test_c31_c34_slots_can_all_be_used_and_no_more),
		RIG_TEST(test_c32_region_is_removed_by_addresses_and_size),
		RIG_TEST(test_c34_slot_number_is_constant),
		RIG_TEST(test_gpa_addresses_bring_rings_up),
		RIG_TEST(test_c35_table_of_added_regions_outlives_a_stop),
	};

	rig_program("test_conform_memory", 60);
	rig_devargs = CONFORM_DEVARGS;
	return cmocka_run_group_tests_name(
		"conform memory", tests, rig_group_setup, rig_group_teardown);
}
