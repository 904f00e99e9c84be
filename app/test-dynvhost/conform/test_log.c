/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Conformance, live migration: C73–C76, and of C51 what it says about the log. A front-end begins to
 * log with the messages of QEMU: SET_LOG_BASE, SET_FEATURES, SET_VRING_ADDR of each ring.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conform.h"

#define PAGE     4096ull
#define LOG_SIZE (RIG_RAM_SIZE / PAGE / 8)

/** A log as its front-end has it. */
struct log {
	int fd;
	uint8_t *file;
	uint64_t file_size;
	uint64_t offset;
};

static struct log log_main;

/* The byte before the log and all behind it must stay as they are. */
static void
log_make(struct log *log, uint64_t offset)
{
	log->fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	log->offset = offset;
	log->file_size = offset + LOG_SIZE + PAGE;
	mock_check(log->fd >= 0 && ftruncate(log->fd, (off_t)log->file_size) == 0);
	log->file = mmap(NULL, log->file_size, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
	mock_check(log->file != MAP_FAILED);
}

static void
log_free(struct log *log)
{
	if (log->file == NULL)
		return;
	munmap(log->file, log->file_size);
	close(log->fd);
	*log = (struct log){.file = NULL};
}

static bool
log_has(const struct log *log, uint64_t gpa)
{
	uint64_t page = gpa / PAGE;

	return (log->file[log->offset + page / 8] >> (page % 8) & 1) != 0;
}

/* Bits that are set in the whole file. */
static unsigned int
log_count(const struct log *log)
{
	unsigned int n = 0;
	uint64_t i;

	for (i = 0; i < log->file_size; i++)
		n += (unsigned int)__builtin_popcount(log->file[i]);
	return n;
}

static unsigned int
log_count_range(const struct log *log, uint64_t gpa, uint64_t len)
{
	unsigned int n = 0;
	uint64_t page;

	for (page = gpa / PAGE; page <= (gpa + len - 1) / PAGE; page++)
		n += log_has(log, page * PAGE);
	return n;
}

/* What the front-end calls the used area, and asks to have logged. */
static uint64_t
log_used_gpa(const struct rig *rig, unsigned int index)
{
	const struct nic_ring *ring = &rig->nic.ring[index];

	return nic_is_packed(&rig->nic) ? ring->packed.device_gpa : ring->ring.used_gpa;
}

static uint64_t
log_used_len(const struct rig *rig, unsigned int index)
{
	return nic_is_packed(&rig->nic) ? PACKED_RING_EVENT_BYTES
					: split_ring_used_bytes(rig->nic.ring[index].ring.num);
}

static void
log_set_addr(struct rig *rig, unsigned int index, bool log)
{
	const struct fe_ring ring = nic_fe_ring(&rig->nic, index);
	const struct vu_vring_addr addr = {
		.index = index,
		.flags = log ? VU_VRING_ADDR_LOG : 0,
		.desc_uva = ring.desc_uva,
		.avail_uva = ring.avail_uva,
		.used_uva = ring.used_uva,
		.log_gpa = log_used_gpa(rig, index),
	};

	fe_set_vring_addr_raw(&rig->fe, &addr, FE_OK);
}

static void
log_set_features(struct rig *rig, bool log)
{
	fe_set_features(&rig->fe, rig->nic.features | (log ? BIT(VU_F_LOG_ALL) : 0), FE_OK);
}

static void
log_begin(struct rig *rig, const struct log *log)
{
	fe_set_log_base(&rig->fe, LOG_SIZE, log->offset, log->fd, FE_OK);
	log_set_features(rig, true);
	log_set_addr(rig, NIC_RX(0), true);
	log_set_addr(rig, NIC_TX(0), true);
}

static void
log_end(struct rig *rig)
{
	log_set_features(rig, false);
	log_set_addr(rig, NIC_RX(0), false);
	log_set_addr(rig, NIC_TX(0), false);
}

static bool
log_touches(uint64_t page, uint64_t gpa, uint64_t len)
{
	return page + PAGE > gpa && page < gpa + len;
}

/* Whether the device may write to a page: receive buffers, used rings, descriptors of packed ones. */
static bool
log_is_devices(const struct rig *rig, uint64_t page)
{
	const uint16_t size = rig->nic.config.ring_size;
	unsigned int i;

	if (log_touches(page, rig->nic.ring[NIC_RX(0)].buf_gpa,
		    (uint64_t)size * rig->nic.config.buf_len))
		return true;
	for (i = NIC_RX(0); i <= NIC_TX(0); i++) {
		if (log_touches(page, log_used_gpa(rig, i), log_used_len(rig, i)))
			return true;
		if (nic_is_packed(&rig->nic) && log_touches(page, rig->nic.ring[i].packed.desc_gpa,
							packed_ring_desc_bytes(size)))
			return true;
	}
	return false;
}

/*
 * Every page that the device may write to and that has changed is logged; no other page of the guest's
 * is. @return how many have changed.
 */
static unsigned int
log_expect_complete(const struct rig *rig, const struct log *log, const uint8_t *before)
{
	unsigned int changed = 0;
	uint64_t page;

	for (page = 0; page < RIG_RAM_SIZE; page += PAGE) {
		const uint8_t *now = guest_ram_at(&rig->ram, page, PAGE);

		if (!log_is_devices(rig, page)) {
			assert_false(log_has(log, page));
		} else if (memcmp(now, before + page, PAGE) != 0) {
			changed++;
			assert_true(log_has(log, page));
		}
	}
	return changed;
}

static uint8_t *
log_copy_ram(const struct rig *rig)
{
	uint8_t *copy = malloc(RIG_RAM_SIZE);

	mock_check(copy != NULL);
	guest_ram_read(&rig->ram, 0, copy, RIG_RAM_SIZE);
	return copy;
}

static void
test_c73_description_is_the_answer_also_again_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i, maps;

	rig_open(rig, NULL);
	log_make(&log_main, 0);
	log_begin(rig, &log_main);
	rig_exchange(rig, 0, 20);
	maps = mock_count_fds();
	for (i = 0; i < 50; i++) {
		rig_send(rig, 0, 8);
		fe_set_log_base(&rig->fe, LOG_SIZE, 0, log_main.fd, FE_OK);
		assert_true(rig_collect(rig, 0, 2000));
	}
	assert_int_equal(mock_count_fds(), maps);
	/* In force before it is answered. */
	assert_true(log_count(&log_main) > 0);
	log_free(&log_main);
	log_make(&log_main, 0);
	fe_set_log_base(&rig->fe, LOG_SIZE, 0, log_main.fd, FE_OK);
	rig_exchange(rig, 0, 20);
	assert_true(log_count(&log_main) > 0);
}

static void
test_c73_offset_is_honoured(void **state)
{
	static const uint64_t offsets[] = {8, PAGE, 3 * PAGE + 100};
	struct rig *rig = rig_main();
	unsigned int i;

	for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		uint8_t *before;

		rig_open(rig, NULL);
		before = log_copy_ram(rig);
		log_make(&log_main, offsets[i]);
		log_begin(rig, &log_main);
		rig_exchange(rig, 0, 200);
		nic_stop(&rig->nic);
		assert_true(log_expect_complete(rig, &log_main, before) > 20);
		/* Nothing before and behind it. */
		assert_int_equal(log_count(&log_main), log_count_range(&log_main, 0, RIG_RAM_SIZE));
		free(before);
		log_free(&log_main);
		rig_close(rig);
	}
}

static void
test_c73_ranges_that_are_none_close_the_connection(void **state)
{
	static const struct {
		uint64_t size, offset;
	} cases[] = {
		{0, 0},
		{LOG_SIZE, 64 * PAGE},
		{64 * PAGE, 0},
		{UINT64_MAX, 1},
		{UINT64_MAX - PAGE + 1, PAGE},
		{PAGE, UINT64_MAX - PAGE + 1},
		{8, UINT64_MAX},
		{1ull << 40, 0},
	};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	log_make(&log_main, 0);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fe_set_log_base(&rig->fe, cases[i].size, cases[i].offset, log_main.fd, FE_BROKEN);
		conform_renegotiate(rig);
	}
	fe_set_log_base(&rig->fe, LOG_SIZE, 0, -1, FE_BROKEN);
	assert_int_equal(log_count(&log_main), 0);
}

static void
test_c73_log_fd_is_taken_and_closed(void **state)
{
	struct rig *rig = rig_main();
	unsigned int fds;

	rig_open(rig, NULL);
	fds = mock_count_fds();
	log_make(&log_main, 0);
	fe_request(&rig->fe, VU_SET_LOG_FD, NULL, 0, &log_main.fd, 1, FE_OK);
	assert_int_equal(mock_count_fds(), fds + 1);
	rig_exchange(rig, 0, 20);
}

static void
log_every_page(const struct rig_config *config)
{
	struct rig *rig = rig_main();
	uint8_t *before;

	rig_open(rig, config);
	log_make(&log_main, 0);
	log_begin(rig, &log_main);
	before = log_copy_ram(rig);
	rig_exchange(rig, 0, 1000);
	nic_stop(&rig->nic);
	assert_true(log_expect_complete(rig, &log_main, before) > 20);
	free(before);
}

static void
test_c74_every_page_that_the_device_writes_is_logged(void **state)
{
	log_every_page(NULL);
}

static void
test_c74_every_page_that_the_device_writes_is_logged_with_packed_rings(void **state)
{
	const struct rig_config config = {.nic.features = NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED)};

	log_every_page(&config);
}

static void
test_c74_a_ring_that_starts_during_a_migration_is_logged(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	nic_stop(&rig->nic);
	log_make(&log_main, 0);
	rig->nic.features |= BIT(VU_F_LOG_ALL);
	fe_set_log_base(&rig->fe, LOG_SIZE, 0, log_main.fd, FE_OK);
	log_set_features(rig, true);
	nic_start(&rig->nic);
	for (i = NIC_RX(0); i <= NIC_TX(0); i++)
		log_set_addr(rig, i, true);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 20);
	assert_true(log_has(&log_main, rig->nic.ring[NIC_RX(0)].ring.used_gpa));
	assert_true(log_has(&log_main, rig->nic.ring[NIC_TX(0)].ring.used_gpa));
}

static void
test_c75_ring_is_logged_by_its_flag_alone(void **state)
{
	struct rig *rig = rig_main();
	const struct nic_ring *rx, *tx;

	rig_open(rig, NULL);
	rx = &rig->nic.ring[NIC_RX(0)];
	tx = &rig->nic.ring[NIC_TX(0)];
	log_make(&log_main, 0);
	fe_set_log_base(&rig->fe, LOG_SIZE, 0, log_main.fd, FE_OK);
	log_set_features(rig, true);
	rig_exchange(rig, 0, 100);
	assert_true(log_count_range(&log_main, rx->buf_gpa, 100 * 2048) > 0);
	assert_false(log_has(&log_main, rx->ring.used_gpa));
	assert_false(log_has(&log_main, tx->ring.used_gpa));

	log_set_addr(rig, NIC_TX(0), true);
	rig_exchange(rig, 0, 20);
	assert_false(log_has(&log_main, rx->ring.used_gpa));
	assert_true(log_has(&log_main, tx->ring.used_gpa));

	log_set_addr(rig, NIC_RX(0), true);
	rig_exchange(rig, 0, 20);
	assert_true(log_has(&log_main, rx->ring.used_gpa));
}

static void
test_c75_nothing_is_logged_after_a_cancelled_migration(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	log_make(&log_main, 0);
	for (i = 0; i < 3; i++) {
		log_begin(rig, &log_main);
		rig_exchange(rig, 0, 50);
		assert_true(log_count(&log_main) > 0);
		log_end(rig);
		memset(log_main.file, 0, log_main.file_size);
		rig_exchange(rig, 0, 50);
		assert_int_equal(log_count(&log_main), 0);
	}
}

static void
test_c76_log_shorter_than_memory_is_never_left(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	log_make(&log_main, PAGE + 1);
	/* Bits for the first eight pages. */
	fe_set_log_base(&rig->fe, 1, PAGE + 1, log_main.fd, FE_OK);
	log_set_features(rig, true);
	log_set_addr(rig, NIC_RX(0), true);
	rig_exchange(rig, 0, 200);
	assert_true(log_used_gpa(rig, NIC_RX(0)) < 8 * PAGE);
	assert_true(log_has(&log_main, log_used_gpa(rig, NIC_RX(0))));
	assert_int_equal(log_count(&log_main), log_count_range(&log_main, 0, 8 * PAGE));
}

static void
test_c51_log_is_complete_and_left_alone_when_rings_have_stopped(void **state)
{
	struct rig *rig = rig_main();
	struct rte_mbuf *pkt;
	uint8_t *ram, *stopped;
	unsigned int before;

	rig_open(rig, NULL);
	log_make(&log_main, 0);
	log_begin(rig, &log_main);
	ram = log_copy_ram(rig);
	rig_echo_start(rig);
	rig_exchange(rig, 0, 8);
	rig_send(rig, 0, 64);
	nic_stop(&rig->nic);
	before = log_count(&log_main);
	stopped = log_copy_ram(rig);
	rig_echo_stop(rig);
	pkt = port_packet(&rig->port, 60, 1, 0);
	assert_int_equal(port_tx(&rig->port, 0, &pkt, 1), 0);
	fe_barrier(&rig->fe);
	assert_int_equal(log_count(&log_main), before);
	/* Nor is memory touched any more, and all that was is logged. */
	assert_memory_equal(guest_ram_at(&rig->ram, 0, RIG_RAM_SIZE), stopped, RIG_RAM_SIZE);
	assert_true(log_expect_complete(rig, &log_main, ram) > 4);
	free(stopped);
	free(ram);
	rig_forget(rig, 0);
}

static void
test_c75_logging_is_toggled_under_traffic(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, NULL);
	log_make(&log_main, 0);
	rig_echo_start(rig);
	for (i = 0; i < rig_repeats(50, 1000); i++) {
		uint8_t *before;

		memset(log_main.file, 0, log_main.file_size);
		rig_send(rig, 0, 16);
		log_begin(rig, &log_main);
		/* What is written from here on, packets on their way among it, is logged. */
		before = log_copy_ram(rig);
		rig_send(rig, 0, 16);
		assert_true(rig_collect(rig, 0, 2000));
		assert_true(log_expect_complete(rig, &log_main, before) > 4);
		free(before);
		rig_send(rig, 0, 16);
		log_end(rig);
		assert_true(rig_collect(rig, 0, 2000));
	}
	rig_echo_stop(rig);
	assert_true(log_count(&log_main) > 0);
}

static int
log_teardown(void **state)
{
	/* The back-end's mapping stays until the connection goes. */
	log_free(&log_main);
	return rig_teardown(state);
}

#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, log_teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		LOG_TEST(test_c73_description_is_the_answer_also_again_under_traffic),
		LOG_TEST(test_c73_offset_is_honoured),
		LOG_TEST(test_c73_ranges_that_are_none_close_the_connection),
		LOG_TEST(test_c73_log_fd_is_taken_and_closed),
		LOG_TEST(test_c74_every_page_that_the_device_writes_is_logged),
		LOG_TEST(test_c74_every_page_that_the_device_writes_is_logged_with_packed_rings),
		LOG_TEST(test_c74_a_ring_that_starts_during_a_migration_is_logged),
		LOG_TEST(test_c75_ring_is_logged_by_its_flag_alone),
		LOG_TEST(test_c75_nothing_is_logged_after_a_cancelled_migration),
		LOG_TEST(test_c76_log_shorter_than_memory_is_never_left),
		LOG_TEST(test_c51_log_is_complete_and_left_alone_when_rings_have_stopped),
		LOG_TEST(test_c75_logging_is_toggled_under_traffic),
	};

	rig_program("test_conform_log", 60);
	return cmocka_run_group_tests_name(
		"conform log", tests, rig_group_setup, rig_group_teardown);
}
