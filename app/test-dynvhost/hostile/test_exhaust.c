/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Guests and front-ends that use things up: mappings of the process, its memory and fds, the log,
 * the time of others.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_ethdev.h>

#include "hostile.h"

#define EXHAUST_PAGE GUEST_RAM_PAGE

/** A guest with more pages than the process may have mappings. */
#define EXHAUST_RAM_SIZE (256 * MIB)

/** Where a guest's buffers of one packet each begin: behind rings and ordinary buffers. */
#define EXHAUST_BUFFERS_GPA (16 * MIB)

/** How long a guest may go on opening pages. */
#define EXHAUST_MS 1500

/** Mappings that come and go in a process without our doing: allocations, thread stacks. */
#define EXHAUST_SLACK 64

static bool
exhaust_engine_is_mmap(void)
{
	return rig_devargs != NULL && strstr(rig_devargs, "mmap") != NULL;
}

/* Mappings of this process. */
static unsigned int
exhaust_count_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	static char text[1 << 16];
	unsigned int lines = 0;
	size_t n;

	mock_check(maps != NULL);
	while ((n = fread(text, 1, sizeof(text), maps)) > 0) {
		const char *at = text;

		while ((at = memchr(at, '\n', (size_t)(text + n - at))) != NULL) {
			lines++;
			at++;
		}
	}
	fclose(maps);
	return lines;
}

static unsigned long
exhaust_read_number(const char *path, unsigned int field)
{
	FILE *file = fopen(path, "re");
	unsigned long number = 0;
	unsigned int i;

	mock_check(file != NULL);
	for (i = 0; i <= field; i++)
		mock_check(fscanf(file, "%lu", &number) == 1);
	fclose(file);
	return number;
}

static unsigned int
exhaust_max_maps(void)
{
	return (unsigned int)exhaust_read_number("/proc/sys/vm/max_map_count", 0);
}

/* Pages of address space, or of memory in use. */
static unsigned long
exhaust_statm(unsigned int field)
{
	return exhaust_read_number("/proc/self/statm", field);
}

/* Offer a packet in a page of its own wherever a descriptor is free. @return the next page. */
static uint64_t
exhaust_offer_pages(struct rig *rig, uint64_t page, uint64_t n_pages, uint64_t stride)
{
	struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;

	while (ring->n_free > 0) {
		struct ring_piece piece = {.len = 112};

		piece.gpa = EXHAUST_BUFFERS_GPA + page * stride % n_pages * EXHAUST_PAGE;
		split_ring_add(ring, &piece, 1);
		page++;
	}
	split_ring_publish(ring);
	return page;
}

/* What the host does meanwhile: it drops all. */
static void
exhaust_drop_all(struct rig *rig)
{
	struct rte_mbuf *pkts[PORT_BURST];
	uint16_t n;

	do {
		n = port_rx(&rig->port, 0, pkts, PORT_BURST);
		rte_pktmbuf_free_bulk(pkts, n);
	} while (n > 0);
	nic_reap_tx(&rig->nic, 0);
}

/* Every packet in a new page, every other page of all memory. @return pages that went through. */
static uint64_t
exhaust_use_all_pages(struct rig *rig, unsigned int ms)
{
	uint64_t n_pages = (EXHAUST_RAM_SIZE - EXHAUST_BUFFERS_GPA) / EXHAUST_PAGE;
	uint64_t deadline = mock_now_ms() + ms;
	unsigned int looks = 0;
	uint64_t page = 0;

	while (page < n_pages / 2 && mock_now_ms() < deadline) {
		page = exhaust_offer_pages(rig, page, n_pages, 2);
		exhaust_drop_all(rig);
		mock_relax(&looks);
	}
	return page;
}

/* A process that can still live. */
static void
exhaust_expect_allocations(void)
{
	const size_t len = 64 * MIB;
	uint8_t *memory = malloc(len);
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool mapped = map != MAP_FAILED;
	bool allocated = memory != NULL;

	if (allocated)
		memory[len - 1] = 1;
	free(memory);
	if (mapped)
		munmap(map, len);
	assert_true(allocated);
	assert_true(mapped);
}

/* All chains that were offered must have come back, and good packets go through. */
static void
exhaust_expect_recovery(struct rig *rig)
{
	struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;
	uint64_t deadline = mock_now_ms() + 10ull * MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (ring->n_free < ring->num) {
		if (mock_now_ms() > deadline)
			mock_fail("%u chains have not come back", ring->num - ring->n_free);
		exhaust_drop_all(rig);
		mock_relax(&looks);
	}
	rig_exchange(rig, 0, 64);
}

static void
test_h99_h100_every_packet_in_a_new_page(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = rig_devargs_and("map-idle-ms=200")},
		.ram_size = EXHAUST_RAM_SIZE,
	};
	unsigned int limit = exhaust_engine_is_mmap() ? exhaust_max_maps() / 2 : 0;
	struct rig *rig = rig_main();
	unsigned int before, during;
	uint64_t pages;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	before = exhaust_count_maps();
	pages = exhaust_use_all_pages(rig, EXHAUST_MS);
	during = exhaust_count_maps();
	print_message("# %llu pages used: %u mappings before, %u then; %llu opens refused\n",
		(unsigned long long)pages, before, during,
		(unsigned long long)port_xstat(&rig->port, "map_refused_errors"));
	exhaust_expect_allocations();
	assert_true(pages > 1000);
	assert_true(during <= before + limit + EXHAUST_SLACK);
	canary_check();
	exhaust_expect_recovery(rig);
	rig_close(rig);
	assert_true(exhaust_count_maps() <= before + EXHAUST_SLACK);
}

/* Every buffer to receive into in a new page. @return pages that went through. */
static uint64_t
exhaust_fill_all_pages(struct rig *rig, unsigned int ms)
{
	struct split_ring *ring = &rig->nic.ring[NIC_RX(0)].ring;
	uint64_t n_pages = (EXHAUST_RAM_SIZE - EXHAUST_BUFFERS_GPA) / EXHAUST_PAGE;
	uint64_t deadline = mock_now_ms() + ms;
	uint64_t page = 0;

	while (page < n_pages / 2 && mock_now_ms() < deadline) {
		struct rte_mbuf *pkts[PORT_BURST];
		struct ring_used used;
		unsigned int i;

		for (; ring->n_free > 0; page++) {
			struct ring_piece piece = {.len = 1526, .writable = true};

			piece.gpa = EXHAUST_BUFFERS_GPA + page * 2 % n_pages * EXHAUST_PAGE;
			split_ring_add(ring, &piece, 1);
		}
		split_ring_publish(ring);
		for (i = 0; i < PORT_BURST; i++)
			pkts[i] = port_packet(&rig->port, 100, i, 0);
		(void)port_tx(&rig->port, 0, pkts, PORT_BURST);
		while (split_ring_collect(ring, &used))
			;
	}
	return page;
}

static void
test_h99_every_buffer_to_fill_in_a_new_page(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = rig_devargs_and("map-idle-ms=200")},
		.ram_size = EXHAUST_RAM_SIZE,
		.no_rx_buffers = true,
	};
	unsigned int limit = exhaust_engine_is_mmap() ? exhaust_max_maps() / 2 : 0;
	struct rig *rig = rig_main();
	unsigned int before, during;
	uint64_t pages;

	rig_open(rig, &config);
	before = exhaust_count_maps();
	pages = exhaust_fill_all_pages(rig, EXHAUST_MS);
	during = exhaust_count_maps();
	print_message("# %llu pages filled: %u mappings before, %u then\n",
		(unsigned long long)pages, before, during);
	exhaust_expect_allocations();
	assert_true(pages > 1000);
	assert_true(during <= before + limit + EXHAUST_SLACK);
	canary_check();
	rig->config.no_rx_buffers = false;
	rig_revive(rig, NIC_RX(0));
	rig_exchange(rig, 0, 64);
}

static void
test_h99_budget_of_mappings_is_used_up_and_given_back(void **state)
{
	const struct rig_config config = {
		.port = {.devargs = rig_devargs_and("map-idle-ms=3600000")},
		.ram_size = EXHAUST_RAM_SIZE,
	};
	struct rig *rig = rig_main();
	unsigned int before, during;

	if (!exhaust_engine_is_mmap()) {
		print_message("# skipped: userfaultfd opens pages without mappings\n");
		skip();
	}
	rig_open(rig, &config);
	before = exhaust_count_maps();
	(void)exhaust_use_all_pages(rig, EXHAUST_MS);
	during = exhaust_count_maps();
	print_message("# %u mappings before, %u at the end\n", before, during);
	assert_true(port_xstat(&rig->port, "map_refused_errors") > 0);
	assert_true(during <= before + exhaust_max_maps() / 2 + EXHAUST_SLACK);
	exhaust_expect_allocations();
	canary_check();
	rig_close(rig);
	assert_true(exhaust_count_maps() <= before + EXHAUST_SLACK);
	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
}

/* Mappings of the application itself, none like its neighbours. */
struct exhaust_hoard {
	uint8_t *base;
	size_t len;
};

/* Leave @p rest mappings to the process. */
static void
exhaust_hoard_maps(struct exhaust_hoard *hoard, unsigned int rest)
{
	unsigned int max = exhaust_max_maps();
	unsigned int now = exhaust_count_maps();
	size_t i;

	mock_check(now + rest + 2 < max);
	hoard->len = (size_t)(max - now - rest) * EXHAUST_PAGE;
	hoard->base = mmap(
		NULL, hoard->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mock_check(hoard->base != MAP_FAILED);
	for (i = 0; i < hoard->len; i += 2 * EXHAUST_PAGE) {
		if (mprotect(hoard->base + i, EXHAUST_PAGE, PROT_READ) != 0)
			break;
	}
}

static void
exhaust_hoard_drop(struct exhaust_hoard *hoard)
{
	munmap(hoard->base, hoard->len);
}

/* The program leaves @p rest mappings to everybody; a guest then wants more than that. */
static void
exhaust_with_few_maps(unsigned int rest, bool expect_allocations)
{
	const struct rig_config config = {
		.port = {.devargs = rig_devargs_and("map-idle-ms=3600000")},
		.ram_size = EXHAUST_RAM_SIZE,
	};
	struct rig *rig = rig_main();
	struct exhaust_hoard hoard;
	unsigned int before;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	exhaust_hoard_maps(&hoard, rest);
	before = exhaust_count_maps();
	if (expect_allocations)
		exhaust_expect_allocations();
	(void)exhaust_use_all_pages(rig, 500);
	print_message("# of %u mappings %u were used before, %u then; %llu opens refused\n",
		exhaust_max_maps(), before, exhaust_count_maps(),
		(unsigned long long)port_xstat(&rig->port, "map_refused_errors"));
	if (expect_allocations)
		exhaust_expect_allocations();
	canary_check();
	assert_true(port_link_up(&rig->port));
	assert_int_equal(port_xstat(&rig->port, "map_lost_errors"), 0);
	exhaust_hoard_drop(&hoard);
	exhaust_expect_recovery(rig);
}

static void
test_h101_mappings_all_but_used_up_by_the_application(void **state)
{
	exhaust_with_few_maps(2000, true);
}

static void
test_h101_last_mappings_of_the_process(void **state)
{
	exhaust_with_few_maps(20, false);
}

/* What a process can lose bit by bit. */
struct exhaust_use {
	unsigned int fds;
	unsigned int maps;
	unsigned long space;
	unsigned long resident;
};

static struct exhaust_use
exhaust_look(void)
{
	return (struct exhaust_use){
		.fds = mock_count_fds(),
		.maps = exhaust_count_maps(),
		.space = exhaust_statm(0),
		.resident = exhaust_statm(1),
	};
}

static void
exhaust_add_and_remove(struct rig *rig, unsigned int n)
{
	const struct vu_mem_region region = {GIB, MIB, GIB, 0};
	unsigned int i;

	for (i = 0; i < n; i++) {
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
		if (i % 64 == 0)
			rig_exchange(rig, 0, 8);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
	}
}

static void
test_h50_region_added_and_removed_again_and_again(void **state)
{
	struct rig *rig = rig_main();
	struct exhaust_use before, after;

	rig_open(rig, NULL);
	exhaust_add_and_remove(rig, 100);
	before = exhaust_look();
	exhaust_add_and_remove(rig, rig_repeats(1000, 100000));
	after = exhaust_look();
	assert_int_equal(after.fds, before.fds);
	assert_true(after.maps <= before.maps + EXHAUST_SLACK);
	assert_true(after.space <= before.space + 64 * MIB / EXHAUST_PAGE);
	assert_true(after.resident <= before.resident + 4 * MIB / EXHAUST_PAGE);
	rig_exchange(rig, 0, 64);
}

static void
test_h103_packets_that_are_no_good_are_counted_not_logged(void **state)
{
	struct ring_piece piece = {.gpa = 8 * MIB, .len = 13};
	struct rig *rig = rig_main();
	struct split_ring *ring;
	unsigned int n = rig_repeats(100000, 1000000);
	unsigned int i = 0;
	uint64_t errors;

	rig_open(rig, NULL);
	ring = &rig->nic.ring[NIC_TX(0)].ring;
	errors = port_errors(&rig->port);
	port_log_capture();
	while (i < n) {
		for (; ring->n_free > 0 && i < n; i++)
			split_ring_add(ring, &piece, 1);
		split_ring_publish(ring);
		exhaust_drop_all(rig);
	}
	exhaust_expect_recovery(rig);
	assert_true(port_errors(&rig->port) >= errors + n);
	assert_true(port_log_lines("") <= 2);
}

static void
test_h103_queues_that_stop_and_start_do_not_flood_the_log(void **state)
{
	struct ring_piece piece = {.gpa = 64 * GIB, .len = 200};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	struct rig *rig = rig_main();
	unsigned int n = rig_repeats(500, 20000);
	uint64_t start;
	unsigned int i;

	rig_open(rig, NULL);
	port_log_capture();
	start = mock_now_ms();
	for (i = 0; i < n; i++) {
		uint64_t errors = port_errors(&rig->port);

		rig_offer_chain(rig, NIC_TX(0), &chain, false);
		exhaust_drop_all(rig);
		assert_true(port_errors(&rig->port) > errors);
		rig_revive(rig, NIC_TX(0));
	}
	rig_exchange(rig, 0, 32);
	/* A score at once, and one from time to time. */
	print_message("# %u lines\n", port_log_lines(""));
	assert_true(port_log_lines("") <= 50 + (mock_now_ms() - start) / 1000);
}

static void
test_h103_front_ends_that_come_and_go_do_not_flood_the_log(void **state)
{
	const struct vu_header rubbish = {0xdead, 0xbeef, 0xffffffff};
	unsigned int n = rig_repeats(300, 20000);
	struct rig *rig = rig_main();
	uint64_t start;
	unsigned int i;

	rig_open(rig, NULL);
	rig_hang_up(rig);
	port_log_capture();
	start = mock_now_ms();
	for (i = 0; i < n; i++) {
		struct front_end fe = {.sock = -1};

		fe_connect(&fe, rig->port.path);
		(void)fe_try_send_bytes(&fe, &rubbish, sizeof(rubbish), NULL, 0);
		fe_drain_until_closed(&fe, MOCK_DEADLINE_MS);
		fe_close(&fe);
	}
	print_message("# %u lines\n", port_log_lines(""));
	assert_true(port_log_lines("") <= 50 + (mock_now_ms() - start) / 1000);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 32);
}

static void
test_h105_kicks_without_need_and_no_suppression(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	rig_exchange(rig, 0, 8);
	(void)nic_calls(&rig->nic, NIC_RX(0));
	(void)nic_calls(&rig->nic, NIC_TX(0));
	for (i = 0; i < 100000; i++) {
		nic_kick(&rig->nic, NIC_RX(0));
		nic_kick(&rig->nic, NIC_TX(0));
	}
	rig_poll(rig);
	assert_int_equal(nic_calls(&rig->nic, NIC_RX(0)) + nic_calls(&rig->nic, NIC_TX(0)), 0);
	/* One burst each way: a guest that never suppresses is signalled once, not per packet. */
	assert_int_equal(rig_send(rig, 0, PORT_BURST), PORT_BURST);
	rig_poll(rig);
	assert_int_equal(nic_calls(&rig->nic, NIC_TX(0)), 1);
	assert_int_equal(nic_calls(&rig->nic, NIC_RX(0)), 1);
	assert_true(rig_collect(rig, 0, MOCK_DEADLINE_MS));
	rig_exchange(rig, 0, 64);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h99_h100_every_packet_in_a_new_page),
		HOSTILE_TEST(test_h99_every_buffer_to_fill_in_a_new_page),
		HOSTILE_TEST(test_h99_budget_of_mappings_is_used_up_and_given_back),
		HOSTILE_TEST(test_h101_mappings_all_but_used_up_by_the_application),
		HOSTILE_TEST(test_h101_last_mappings_of_the_process),
		HOSTILE_TEST(test_h50_region_added_and_removed_again_and_again),
		HOSTILE_TEST(test_h103_packets_that_are_no_good_are_counted_not_logged),
		HOSTILE_TEST(test_h103_queues_that_stop_and_start_do_not_flood_the_log),
		HOSTILE_TEST(test_h103_front_ends_that_come_and_go_do_not_flood_the_log),
		HOSTILE_TEST(test_h105_kicks_without_need_and_no_suppression),
	};

	hostile_program("test_hostile_exhaust", 90);
	rig_devargs = HOSTILE_DEVARGS;
	return cmocka_run_group_tests_name(
		"hostile exhaustion", tests, rig_group_setup, rig_group_teardown);
}
