/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Hostile front-ends: memory that is not what it is said to be. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile.h"

static const struct vu_mem_region memory_region = {GIB, MIB, GIB, 0};

/* A front-end that sends whole tables. */
static const struct rig_config memory_whole_tables = {
	.nic = {.without_protocol = BIT(VU_PF_CONFIGURE_MEM_SLOTS)}};

static void
test_h38_tables_of_impossible_length(void **state)
{
	static const struct {
		uint32_t said;
		unsigned int sent, fds;
	} tables[] = {{0, 0, 0}, {0, 0, 1}, {9, 8, 8}, {UINT32_MAX, 8, 8}, {UINT32_MAX, 0, 0},
		{2, 2, 1}, {1, 1, 2}, {2, 1, 2}, {1, 2, 1}, {1, 1, 0}};
	struct vu_mem_region region[8];
	struct rig *rig = rig_main();
	unsigned int fds, i;
	int fd[8];

	rig_open(rig, &memory_whole_tables);
	fds = mock_count_fds();
	for (i = 0; i < 8; i++) {
		region[i] = (struct vu_mem_region){(i + 1) * GIB, MIB, (i + 1) * GIB, 0};
		fd[i] = rig->ram.file[0].fd;
	}
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		print_message("# %u regions said, %u sent with %u fds\n", tables[i].said,
			tables[i].sent, tables[i].fds);
		fe_set_mem_table_raw(&rig->fe, tables[i].said, region, tables[i].sent, fd,
			tables[i].fds, FE_FAILED);
		fe_close(&rig->fe);
		port_wait_link(&rig->port, false);
		rig_reconnect(rig);
		rig_exchange(rig, 0, 8);
		rig_wait_fds(fds);
	}
}

/* Regions none of which may be added to a guest of 16 MiB at 0. */
static void
memory_expect_refused(const struct vu_mem_region *region, unsigned int n)
{
	struct rig *rig = rig_main();
	unsigned int fds, i;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	for (i = 0; i < n; i++) {
		print_message("# gpa 0x%llx, %llu bytes, user address 0x%llx, offset 0x%llx\n",
			(unsigned long long)region[i].gpa, (unsigned long long)region[i].size,
			(unsigned long long)region[i].uva,
			(unsigned long long)region[i].mmap_offset);
		fe_add_mem_reg(&rig->fe, &region[i], &rig->ram.file[0].fd, 1, FE_REFUSED);
		assert_int_equal(mock_count_fds(), fds);
		rig_exchange(rig, 0, 8);
	}
}

static void
test_h40_numbers_that_wrap(void **state)
{
	static const struct vu_mem_region regions[] = {
		{0 - MIB, 2 * MIB, GIB, 0},
		{GIB, 2 * MIB, 0 - MIB, 0},
		{GIB, 2 * MIB, GIB, 0 - MIB},
		{GIB, UINT64_MAX, GIB, 0},
		{GIB, UINT64_MAX - 4095, GIB, 4096},
		{GIB, MIB, GIB, 1ull << 63},
		{GIB, MIB, GIB, (1ull << 63) - MIB},
		{GIB, 0, GIB, 0},
	};

	memory_expect_refused(regions, sizeof(regions) / sizeof(regions[0]));
}

static void
test_h41_regions_that_overlap(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region[2];
	int fd[2];
	unsigned int i;

	rig_open(rig, &memory_whole_tables);
	region[0] = fe_region(&rig->ram.region[0]);
	fd[0] = fd[1] = rig->ram.file[0].fd;
	for (i = 0; i < 5; i++) {
		region[1] = (struct vu_mem_region){GIB, MIB, region[0].uva + 64 * GIB, 0};
		switch (i) {
		case 0: /* the same once more */
			region[1] = region[0];
			break;
		case 1: /* in guest addresses alone: inside, and over the end */
			region[1].gpa = 8 * MIB;
			break;
		case 2:
			region[1].gpa = 16 * MIB - 4096;
			break;
		case 3: /* in user addresses alone */
			region[1].uva = region[0].uva + 8 * MIB;
			break;
		default:
			region[1].uva = region[0].uva - MIB + 1;
		}
		fe_set_mem_table_raw(&rig->fe, 2, region, 2, fd, 2, FE_REFUSED);
		rig_exchange(rig, 0, 8);
	}
}

static void
test_h41_added_regions_that_overlap(void **state)
{
	static const struct vu_mem_region regions[] = {
		{0, 16 * MIB, 64 * GIB, 0},
		{8 * MIB, MIB, 64 * GIB, 0},
		{16 * MIB - 4096, MIB, 64 * GIB, 0},
	};

	memory_expect_refused(regions, sizeof(regions) / sizeof(regions[0]));
}

static void
test_h44_files_too_short(void **state)
{
	static const struct vu_mem_region regions[] = {
		{GIB, 16 * MIB + 1, 64 * GIB, 0},
		{GIB, 16 * MIB, 64 * GIB, 4096},
		{GIB, 4096, 64 * GIB, 16 * MIB},
		{GIB, 32 * MIB, 64 * GIB, 0},
	};

	memory_expect_refused(regions, sizeof(regions) / sizeof(regions[0]));
}

/* A memfd of 1 MiB opened again with @p flags. */
static int
memory_reopen(int flags)
{
	int fd = memfd_create("again", MFD_CLOEXEC);
	char path[64];
	int again;

	mock_check(fd >= 0 && ftruncate(fd, (off_t)MIB) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	mock_check(again >= 0);
	close(fd);
	return again;
}

/* A memfd of 1 MiB with a seal. */
static int
memory_sealed(int seal)
{
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	mock_check(fd >= 0 && ftruncate(fd, (off_t)MIB) == 0);
	mock_check(fcntl(fd, F_ADD_SEALS, seal) == 0);
	return fd;
}

static void
test_h45_fds_that_are_no_guest_memory_are_refused(void **state)
{
	struct rig *rig = rig_main();
	int fd[16];
	unsigned int n = 0;
	unsigned int fds;
	unsigned int i;

	rig_open(rig, NULL);
	fd[n++] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd[n++] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fd[n++] = open("/dev/null", O_RDWR | O_CLOEXEC);
	fd[n++] = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	fd[n++] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fd[n++] = eventfd(0, EFD_CLOEXEC);
	fd[n++] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd[n++] = memory_reopen(O_RDONLY);
	fd[n++] = memory_reopen(O_WRONLY);
	fd[n++] = memory_reopen(O_PATH);
	fd[n++] = memory_sealed(F_SEAL_WRITE);
	fd[n++] = memory_sealed(F_SEAL_FUTURE_WRITE);
	fds = mock_count_fds();
	for (i = 0; i < n; i++) {
		assert_true(fd[i] >= 0);
		print_message("# fd kind %u\n", i);
		fe_add_mem_reg(&rig->fe, &memory_region, &fd[i], 1, FE_REFUSED);
		assert_int_equal(mock_count_fds(), fds);
		rig_exchange(rig, 0, 8);
		close(fd[i]);
		fds--;
	}
}

static void
test_h39_odd_sizes_are_used_to_the_last_byte(void **state)
{
	static const uint64_t sizes[] = {1, 100, 4095, 4097, MIB - 1};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vu_mem_region region = {GIB, sizes[i], GIB, 8 * MIB};
		struct ring_piece piece = {.gpa = GIB + sizes[i] - 112, .len = 112};
		const struct rig_chain chain = {.piece = &piece, .n = 1};

		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
		guest_ram_add_region(&rig->ram, 0, 8 * MIB, GIB, sizes[i], GIB);
		if (sizes[i] >= piece.len)
			rig_chain_to_host(rig, 0, &chain);
		guest_ram_drop_region(&rig->ram);
		piece.gpa++;
		/* Beyond the last byte there is nothing, though the file goes on. */
		rig_offer_chain(rig, NIC_TX(0), &chain, false);
		rig_expect_nothing_received(rig, 0);
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 8);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
	}
}

static void
test_h42_one_file_in_many_regions(void **state)
{
	struct rig *rig = rig_main();
	struct ring_piece piece = {.gpa = 3 * GIB + 0x5000, .len = 1526};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	struct vu_mem_region region = {GIB, 16 * MIB, GIB, 0};
	unsigned int i;

	rig_open(rig, NULL);
	/* The same memory under three more addresses. */
	for (i = 1; i <= 3; i++) {
		region.gpa = i * GIB;
		region.uva = i * GIB;
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
	}
	guest_ram_add_region(&rig->ram, 0, 0, 3 * GIB, 16 * MIB, 3 * GIB);
	piece.gpa += 8 * MIB;
	rig_chain_to_host(rig, 0, &chain);
	rig_exchange(rig, 0, 64);
}

static void
test_h43_phases_that_do_not_fit_are_refused_or_right(void **state)
{
	static const struct vu_mem_region regions[] = {
		{GIB + 0x100, 0x10000, GIB + 0x100, 0},
		{GIB, 0x10000, GIB, 0x100},
		{GIB + 0x100, 0x10000, GIB + 0x100, 0x200},
		{GIB + 0x100, 0x10000, GIB + 0x100, 0x100},
	};
	struct rig *rig = rig_main();
	unsigned int file;
	unsigned int i;

	rig_open(rig, NULL);
	file = guest_ram_add_file(&rig->ram, MIB, GUEST_RAM_PAGE);
	for (i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
		const struct vu_mem_region *region = &regions[i];
		struct ring_piece piece = {.gpa = region->gpa + 0x1f00, .len = 1526};
		const struct rig_chain chain = {.piece = &piece, .n = 1};
		struct vu_single_region single = {.region = *region};
		struct fe_message message = fe_make(
			VU_ADD_MEM_REG, VU_VERSION | VU_FLAG_NEED_REPLY, &single, sizeof(single));

		message.fd = &rig->ram.file[file].fd;
		message.n_fds = 1;
		fe_send(&rig->fe, &message);
		if (fe_expect_u64(&rig->fe, VU_ADD_MEM_REG) == 0) {
			guest_ram_add_region(&rig->ram, file, region->mmap_offset, region->gpa,
				region->size, region->uva);
			rig_chain_to_host(rig, 0, &chain);
			guest_ram_drop_region(&rig->ram);
			fe_rem_mem_reg(&rig->fe, region, NULL, 0, FE_OK);
		}
		rig_exchange(rig, 0, 8);
	}
}

/* KiB that this process has, page tables among them. */
static unsigned long
memory_taken(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long taken = 0, kib;
	char line[128];

	mock_check(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "VmRSS: %lu", &kib) == 1 || sscanf(line, "VmPTE: %lu", &kib) == 1)
			taken += kib;
	}
	fclose(file);
	return taken;
}

static void
test_h46_h47_enormous_regions_cost_nothing(void **state)
{
	static const uint64_t sizes[] = {1ull << 40, 16ull << 40, 1ull << 46, 1ull << 62};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = memfd_create("enormous", MFD_CLOEXEC);
		unsigned long before = memory_taken();
		uint64_t start = mock_now_ms();
		unsigned int k;

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, (off_t)sizes[i]), 0);
		for (k = 0; k < 8; k++) {
			const struct vu_mem_region region = {
				(k + 1) * sizes[i], sizes[i], (k + 1) * sizes[i], 0};

			fe_add_mem_reg(&rig->fe, &region, &fd, 1, FE_ANSWERED);
		}
		assert_true(mock_now_ms() - start < 1000);
		rig_exchange(rig, 0, 8);
		/* A byte for each page of the smallest of them would be 256 MiB. */
		print_message("# %lu KiB\n", memory_taken() - before);
		assert_true(memory_taken() < before + 4096);
		close(fd);
		rig_hang_up(rig);
		rig_reconnect(rig);
	}
	rig_exchange(rig, 0, 8);
}

static void
test_h49_removed_region_of_a_running_ring(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region;
	struct exposure exposure;
	unsigned int i;

	rig_open(rig, NULL);
	region = fe_region(&rig->ram.region[0]);
	for (i = 0; i < 5; i++) {
		rig_exchange(rig, 0, 32);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(exposure.mapped, 0);
		(void)rig_send(rig, 0, 4);
		rig_expect_nothing_received(rig, 0);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_REFUSED);
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
		rig_revive(rig, NIC_RX(0));
		rig_revive(rig, NIC_TX(0));
	}
	rig_exchange(rig, 0, 32);
}

static void
test_h49_removed_region_of_buffers_in_flight(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region = {GIB, 16 * MIB, GIB, 0};
	struct ring_piece piece = {.gpa = GIB + 8 * MIB, .len = 1526};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	unsigned int i;

	rig_open(rig, NULL);
	guest_ram_add_region(&rig->ram, 0, 0, GIB, 16 * MIB, GIB);
	for (i = 0; i < 5; i++) {
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
		rig_chain_to_host(rig, 0, &chain);
		rig_offer_chain(rig, NIC_TX(0), &chain, false);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
		rig_expect_nothing_received(rig, 0);
		rig_to_guest(rig, 0, 100, 0);
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 8);
	}
}

static void
test_h48_table_replaced_again_and_again_under_traffic(void **state)
{
	const struct rig_config config = {
		.nic = {.without_protocol = BIT(VU_PF_CONFIGURE_MEM_SLOTS)}};
	struct rig *rig = rig_main();
	unsigned int fds;
	unsigned int i;

	rig_open(rig, &config);
	guest_ram_add_file(&rig->ram, 4 * MIB, GUEST_RAM_PAGE);
	fds = mock_count_fds();
	rig_echo_start(rig);
	for (i = 0; i < rig_repeats(200, 1000); i++) {
		guest_ram_add_region(&rig->ram, 1, (i % 4) * 0x1000ull, GIB + (i % 3) * GIB,
			MIB + (i % 5) * 0x1000ull, GIB + (i % 3) * GIB);
		(void)rig_send(rig, 0, 4);
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
		guest_ram_drop_region(&rig->ram);
		assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	}
	fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
	rig_echo_stop(rig);
	assert_int_equal(mock_count_fds(), fds);
	rig_exchange(rig, 0, 32);
}

static void
test_h52_hole_punched_under_rings_and_buffers(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	for (i = 0; i < 5; i++) {
		rig_exchange(rig, 0, 32);
		assert_int_equal(
			fallocate(rig->ram.file[0].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				0, (off_t)RIG_RAM_SIZE),
			0);
		rig_poll(rig);
		rig_reset_rings(rig);
		rig_revive(rig, NIC_RX(0));
		rig_revive(rig, NIC_TX(0));
	}
	rig_exchange(rig, 0, 32);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h38_tables_of_impossible_length),
		HOSTILE_TEST(test_h40_numbers_that_wrap),
		HOSTILE_TEST(test_h41_regions_that_overlap),
		HOSTILE_TEST(test_h41_added_regions_that_overlap),
		HOSTILE_TEST(test_h44_files_too_short),
		HOSTILE_TEST(test_h45_fds_that_are_no_guest_memory_are_refused),
		HOSTILE_TEST(test_h39_odd_sizes_are_used_to_the_last_byte),
		HOSTILE_TEST(test_h42_one_file_in_many_regions),
		HOSTILE_TEST(test_h43_phases_that_do_not_fit_are_refused_or_right),
		HOSTILE_TEST(test_h46_h47_enormous_regions_cost_nothing),
		HOSTILE_TEST(test_h49_removed_region_of_a_running_ring),
		HOSTILE_TEST(test_h49_removed_region_of_buffers_in_flight),
		HOSTILE_TEST(test_h48_table_replaced_again_and_again_under_traffic),
		HOSTILE_TEST(test_h52_hole_punched_under_rings_and_buffers),
	};

	hostile_program("test_hostile_memory", 90);
	rig_devargs = HOSTILE_DEVARGS;
	return cmocka_run_group_tests_name(
		"hostile memory", tests, rig_group_setup, rig_group_teardown);
}
