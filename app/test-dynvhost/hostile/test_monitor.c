/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A thread loads the address that a power monitor was given, all the time and without knowing of
 * anything, while the front-end does what it can to the memory behind it.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_power_intrinsics.h>

#include "hostile.h"

#define PACKED_FEATURES (NIC_FEATURES | BIT(VIRTIO_F_RING_PACKED))

static struct {
	struct rte_power_monitor_cond cond;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint_fast64_t loads;
	bool runs;
} watcher;

/* As the CPU does that watches the line: nothing orders it with anything. */
static __rte_noinline __attribute__((no_sanitize("thread"))) uint16_t
watcher_load(void)
{
	return *(const volatile uint16_t *)watcher.cond.addr;
}

static void *
watcher_run(void *arg)
{
	while (!atomic_load(&watcher.stop)) {
		(void)watcher.cond.fn(watcher_load(), watcher.cond.opaque);
		atomic_fetch_add(&watcher.loads, 1);
	}
	return arg;
}

static void
watcher_start(struct rig *rig)
{
	assert_int_equal(rte_eth_get_monitor_addr(rig->port.id, 0, &watcher.cond), 0);
	atomic_store(&watcher.stop, false);
	atomic_store(&watcher.loads, 0);
	mock_check(pthread_create(&watcher.thread, NULL, watcher_run, NULL) == 0);
	watcher.runs = true;
}

/* It must have come round since. */
static void
watcher_check(void)
{
	const uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	const uint64_t before = atomic_load(&watcher.loads);
	unsigned int looks = 0;

	while (atomic_load(&watcher.loads) < before + 2) {
		if (mock_now_ms() > deadline)
			mock_fail("the watcher has stopped");
		mock_relax(&looks);
	}
}

/* Several passes over idle pages take place meanwhile. */
static void
watcher_go_on(unsigned int ms)
{
	const uint64_t end = mock_now_ms() + ms;

	while (mock_now_ms() < end)
		watcher_check();
}

static void
watcher_stop(void)
{
	watcher_check();
	atomic_store(&watcher.stop, true);
	pthread_join(watcher.thread, NULL);
	watcher.runs = false;
}

static int
monitor_teardown(void **state)
{
	if (watcher.runs) {
		atomic_store(&watcher.stop, true);
		pthread_join(watcher.thread, NULL);
		watcher.runs = false;
	}
	return hostile_teardown(state);
}

static void
monitor_open(uint64_t features, void (*lay_out)(struct guest_ram *ram))
{
	const struct rig_config config = {.nic = {.features = features}, .lay_out = lay_out};

	rig_open(rig_main(), &config);
	watcher_start(rig_main());
}

/* The new ring is shown where the old one was. */
static void
monitor_ask_again(const struct rig *rig)
{
	struct rte_power_monitor_cond cond;

	assert_int_equal(rte_eth_get_monitor_addr(rig->port.id, 0, &cond), 0);
	assert_int_equal((uintptr_t)cond.addr / 4096, (uintptr_t)watcher.cond.addr / 4096);
}

static void
monitor_front_ends_come_and_go(uint64_t features)
{
	struct rig *rig = rig_main();
	struct exposure exposure;
	unsigned int i;

	monitor_open(features, NULL);
	for (i = 0; i < rig_repeats(20, 1000); i++) {
		rig_exchange(rig, 0, 8);
		rig_hang_up(rig);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(exposure.mapped, 0);
		watcher_check();
		rig_reconnect(rig);
		monitor_ask_again(rig);
	}
	watcher_stop();
}

static void
test_h49_monitored_ring_whose_front_end_goes(void **state)
{
	monitor_front_ends_come_and_go(NIC_FEATURES);
}

static void
test_h49_monitored_packed_ring_whose_front_end_goes(void **state)
{
	monitor_front_ends_come_and_go(PACKED_FEATURES);
}

static void
test_h49_monitored_ring_whose_region_goes(void **state)
{
	struct rig *rig = rig_main();
	struct vu_mem_region region;
	struct exposure exposure;
	unsigned int i;

	monitor_open(NIC_FEATURES, NULL);
	region = fe_region(&rig->ram.region[0]);
	for (i = 0; i < rig_repeats(20, 1000); i++) {
		rig_exchange(rig, 0, 8);
		fe_rem_mem_reg(&rig->fe, &region, NULL, 0, FE_OK);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(exposure.mapped, 0);
		watcher_check();
		fe_add_mem_reg(&rig->fe, &region, &rig->ram.file[0].fd, 1, FE_OK);
		rig_revive(rig, NIC_RX(0));
		rig_revive(rig, NIC_TX(0));
	}
	watcher_stop();
}

static void
test_h48_monitored_ring_that_moves_to_new_tables(void **state)
{
	const struct rig_config config = {
		.nic = {.without_protocol = BIT(VU_PF_CONFIGURE_MEM_SLOTS)}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	watcher_start(rig);
	for (i = 0; i < rig_repeats(50, 1000); i++) {
		fe_set_mem_table(&rig->fe, &rig->ram, FE_OK);
		rig_exchange(rig, 0, 4);
	}
	watcher_stop();
}

/* Guest memory without seals. */
static void
monitor_lay_out_unsealable(struct guest_ram *ram)
{
	char path[] = "/dev/shm/dynvhost-test-XXXXXX";
	struct guest_ram_file *file;
	struct stat status;
	int fd;

	guest_ram_init_plain(ram, RIG_RAM_SIZE);
	file = &ram->file[0];
	fd = mkstemp(path);
	mock_check(fd >= 0 && unlink(path) == 0 && ftruncate(fd, RIG_RAM_SIZE) == 0);
	mock_check(dup3(fd, file->fd, O_CLOEXEC) == file->fd && fstat(fd, &status) == 0);
	close(fd);
	file->dev = status.st_dev;
	file->ino = status.st_ino;
	mock_check(mmap(file->base, RIG_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			   file->fd, 0) == file->base);
}

static void
monitor_cut(uint64_t features)
{
	struct rig *rig = rig_main();
	unsigned int i;

	monitor_open(features, monitor_lay_out_unsealable);
	for (i = 0; i < rig_repeats(5, 200); i++) {
		rig_exchange(rig, 0, 8);
		assert_int_equal(ftruncate(rig->ram.file[0].fd, 0), 0);
		watcher_check();
		/* The next burst sees it too. */
		rig_echo_start(rig);
		fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
		port_wait_link(&rig->port, false);
		rig_echo_stop(rig);
		fe_close(&rig->fe);
		watcher_check();
		assert_int_equal(ftruncate(rig->ram.file[0].fd, RIG_RAM_SIZE), 0);
		rig_reconnect(rig);
		monitor_ask_again(rig);
	}
	watcher_stop();
}

static void
test_h51_monitored_ring_whose_file_is_cut(void **state)
{
	monitor_cut(NIC_FEATURES);
}

static void
test_h51_monitored_packed_ring_whose_file_is_cut(void **state)
{
	monitor_cut(PACKED_FEATURES);
}

/* The ring rests, so that nothing but the pin keeps its page from being closed as idle. */
static void
test_h91_monitored_ring_among_pages_that_close(void **state)
{
	const struct rig_config config = {.port = {.devargs = "map-idle-ms=2"}};
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	watcher_start(rig);
	for (i = 0; i < rig_repeats(20, 500); i++) {
		(void)fe_get_vring_base(&rig->fe, NIC_TX(0));
		watcher_go_on(10);
		rig_revive(rig, NIC_TX(0));
		rig_exchange(rig, 0, 4);
	}
	watcher_stop();
}

#define MONITOR_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, monitor_teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		MONITOR_TEST(test_h49_monitored_ring_whose_front_end_goes),
		MONITOR_TEST(test_h49_monitored_packed_ring_whose_front_end_goes),
		MONITOR_TEST(test_h49_monitored_ring_whose_region_goes),
		MONITOR_TEST(test_h48_monitored_ring_that_moves_to_new_tables),
		MONITOR_TEST(test_h51_monitored_ring_whose_file_is_cut),
		MONITOR_TEST(test_h51_monitored_packed_ring_whose_file_is_cut),
		MONITOR_TEST(test_h91_monitored_ring_among_pages_that_close),
	};

	hostile_program("test_hostile_monitor", 90);
	rig_devargs = HOSTILE_DEVARGS;
	return cmocka_run_group_tests_name(
		"hostile monitor", tests, rig_group_setup, rig_group_teardown);
}
