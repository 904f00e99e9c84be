/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Front-ends that take memory away from under the back-end: cut files, punched holes, a pool of
 * huge pages that is empty.
 *
 * Rings lie in one file, buffers in another. The guest of this test shares the process with the
 * back-end, so it touches nothing that it has cut: it prepares, cuts, and leaves the rest to the
 * back-end. The files refuse further seals, as those of a front-end can: the back-end cannot
 * protect itself.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_ethdev.h>

#include "hostile.h"

#define TRUNCATE_FILE_SIZE (8 * MIB)

/** Files and regions alike. */
#define TRUNCATE_RINGS   0
#define TRUNCATE_BUFFERS 1

/** Guest address of the buffers' region. */
#define TRUNCATE_BUFFERS_GPA (16 * MIB)

static const char truncate_closed_line[] = "its memory was cut off while in use";

static void
truncate_add(struct guest_ram *ram, uint64_t gpa, uint64_t page_size)
{
	unsigned int file = guest_ram_add_file(ram, TRUNCATE_FILE_SIZE, page_size);

	guest_ram_add_region(ram, file, 0, gpa, TRUNCATE_FILE_SIZE, 0);
	mock_check(fcntl(ram->file[file].fd, F_ADD_SEALS, F_SEAL_SEAL) == 0);
}

static void
truncate_lay_out(struct guest_ram *ram)
{
	guest_ram_init(ram);
	truncate_add(ram, 0, GUEST_RAM_PAGE);
	truncate_add(ram, TRUNCATE_BUFFERS_GPA, GUEST_RAM_PAGE);
}

static void
truncate_lay_out_huge(struct guest_ram *ram)
{
	guest_ram_init(ram);
	truncate_add(ram, 0, GUEST_RAM_HUGEPAGE);
	truncate_add(ram, TRUNCATE_BUFFERS_GPA, GUEST_RAM_HUGEPAGE);
}

/* Put another file in the place of one of the guest's, and @p fd away. */
static void
truncate_replace(struct guest_ram *ram, unsigned int number, int fd)
{
	struct guest_ram_file *file = &ram->file[number];
	struct stat status;

	mock_check(dup3(fd, file->fd, O_CLOEXEC) == file->fd);
	close(fd);
	mock_check(fstat(file->fd, &status) == 0);
	file->dev = status.st_dev;
	file->ino = status.st_ino;
}

/* Files of a file system that knows no seals. */
static void
truncate_lay_out_shm(struct guest_ram *ram)
{
	unsigned int i;

	truncate_lay_out(ram);
	for (i = 0; i < ram->n_files; i++) {
		char path[] = "/dev/shm/dynvhost-test-XXXXXX";
		int fd = mkstemp(path);

		mock_check(fd >= 0 && unlink(path) == 0);
		mock_check(ftruncate(fd, (off_t)TRUNCATE_FILE_SIZE) == 0);
		truncate_replace(ram, i, fd);
		mock_check(
			mmap(ram->file[i].base, TRUNCATE_FILE_SIZE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_FIXED, ram->file[i].fd, 0) == ram->file[i].base);
	}
}

static struct rig_config
truncate_config(void (*lay_out)(struct guest_ram *ram))
{
	return (struct rig_config){
		.nic = {.ring_region = TRUNCATE_RINGS, .buffer_region = TRUNCATE_BUFFERS},
		.lay_out = lay_out,
	};
}

static void
truncate_to(struct rig *rig, unsigned int file, uint64_t size)
{
	assert_int_equal(ftruncate(rig->ram.file[file].fd, (off_t)size), 0);
}

static void
truncate_wait_line(const char *line)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (port_log_lines(line) == 0) {
		if (mock_now_ms() > deadline)
			mock_fail("no line of the log says \"%s\"", line);
		mock_relax(&looks);
	}
}

/* A queue inside a burst holds its memory a little longer than the link. */
static void
truncate_wait_unmapped(const struct rig *rig)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	struct exposure exposure;
	unsigned int looks = 0;

	exposure_read(&rig->ram, &exposure);
	while (exposure.mapped != 0) {
		if (mock_now_ms() > deadline)
			mock_fail("%llu bytes stay mapped", (unsigned long long)exposure.mapped);
		mock_relax(&looks);
		exposure_read(&rig->ram, &exposure);
	}
}

/* The back-end must give up the connection and let go of everything. */
static void
truncate_expect_closed(struct rig *rig, uint64_t lost_before)
{
	if (!rig->echo_runs)
		rig_echo_start(rig);
	fe_drain_until_closed(&rig->fe, MOCK_DEADLINE_MS);
	port_wait_link(&rig->port, false);
	assert_true(port_xstat(&rig->port, "map_lost_errors") > lost_before);
	truncate_wait_unmapped(rig);
	/* What the host still holds must not reach the next guest. */
	rig_echo_stop(rig);
	fe_close(&rig->fe);
}

/* As truncate_expect_closed(), and it must say why. */
static void
truncate_expect_lost(struct rig *rig)
{
	truncate_expect_closed(rig, 0);
	truncate_wait_line(truncate_closed_line);
	assert_int_equal(port_log_lines(truncate_closed_line), 1);
	canary_check();
}

/* Files as they were, a new front-end: as if nothing had happened. */
static void
truncate_expect_recovery(struct rig *rig)
{
	unsigned int i;

	for (i = 0; i < rig->ram.n_files; i++)
		truncate_to(rig, i, TRUNCATE_FILE_SIZE);
	rig_reconnect(rig);
	rig_exchange(rig, 0, 300);
}

static void
test_h51_memory_that_takes_a_seal_cannot_be_cut(void **state)
{
	struct rig *rig = rig_main();

	rig_open(rig, NULL);
	assert_int_equal(ftruncate(rig->ram.file[0].fd, 0), -1);
	assert_int_equal(errno, EPERM);
	rig_exchange(rig, 0, 32);
}

static void
test_h51_cut_where_nothing_is_open(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct ring_piece piece = {
		.gpa = TRUNCATE_BUFFERS_GPA + 6 * MIB, .len = 200, .writable = false};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	struct rig *rig = rig_main();
	uint64_t errors;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	truncate_to(rig, TRUNCATE_BUFFERS, 4 * MIB);
	rig_exchange(rig, 0, 300);
	errors = port_errors(&rig->port);
	rig_offer_chain(rig, NIC_TX(0), &chain, false);
	rig_to_host(rig, 0, 100);
	assert_true(port_errors(&rig->port) > errors);
	assert_int_equal(port_xstat(&rig->port, "map_lost_errors"), 0);
	rig_exchange(rig, 0, 300);
	assert_true(port_link_up(&rig->port));
}

static void
truncate_rings_of(void (*lay_out)(struct guest_ram *ram))
{
	const struct rig_config config = truncate_config(lay_out);
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	port_log_capture();
	rig_echo_start(rig);
	truncate_to(rig, TRUNCATE_RINGS, 0);
	truncate_expect_lost(rig);
	truncate_expect_recovery(rig);
}

static void
test_h51_cut_under_polled_rings(void **state)
{
	truncate_rings_of(truncate_lay_out);
}

static void
test_h51_cut_under_polled_rings_on_a_file_without_seals(void **state)
{
	truncate_rings_of(truncate_lay_out_shm);
}

static void
test_h51_cut_under_polled_rings_on_huge_pages(void **state)
{
	if (!guest_ram_has_hugepages(2 * TRUNCATE_FILE_SIZE)) {
		print_message("# skipped: 8 free huge pages of 2 MiB are needed\n");
		skip();
	}
	truncate_rings_of(truncate_lay_out_huge);
}

static void
test_h51_cut_under_packets_to_send(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	port_log_capture();
	assert_int_equal(rig_send(rig, 0, 32), 32);
	truncate_to(rig, TRUNCATE_BUFFERS, 0);
	truncate_expect_lost(rig);
	truncate_expect_recovery(rig);
}

static void
test_h51_cut_under_buffers_to_fill(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();
	struct rte_mbuf *pkts[8];
	unsigned int i;

	rig_open(rig, &config);
	rig_exchange(rig, 0, 300);
	port_log_capture();
	for (i = 0; i < 8; i++)
		pkts[i] = port_packet(&rig->port, 1000, i, 0);
	truncate_to(rig, TRUNCATE_BUFFERS, 0);
	(void)port_tx(&rig->port, 0, pkts, 8);
	truncate_expect_lost(rig);
	truncate_expect_recovery(rig);
}

/* The header in a page that goes, the data in one that stays. */
static const struct ring_piece truncate_header_piece[] = {
	{.gpa = TRUNCATE_BUFFERS_GPA + 6 * MIB, .len = 12},
	{.gpa = TRUNCATE_BUFFERS_GPA + 4 * MIB, .len = 300},
};
static const struct rig_chain truncate_header_chain = {.piece = truncate_header_piece, .n = 2};

/* Poll until a packet arrives or the guest is gone. */
static void
truncate_poll_to_an_end(struct rig *rig)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	struct rte_mbuf *pkt = NULL;
	unsigned int looks = 0;

	while (port_rx(&rig->port, 0, &pkt, 1) == 0 && port_link_up(&rig->port)) {
		if (mock_now_ms() > deadline)
			mock_fail("neither a packet nor a closed connection");
		mock_relax(&looks);
	}
	rte_pktmbuf_free(pkt);
}

static void
test_h51_cut_under_the_header_of_a_packet_to_send(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_chain_to_host(rig, 0, &truncate_header_chain);
	rig_offer_chain(rig, NIC_TX(0), &truncate_header_chain, false);
	truncate_to(rig, TRUNCATE_BUFFERS, 5 * MIB);
	/* A back-end that has no use for the header may not notice. */
	truncate_poll_to_an_end(rig);
	canary_check();
	if (port_link_up(&rig->port))
		rig_hang_up(rig);
	fe_close(&rig->fe);
	truncate_expect_recovery(rig);
}

static void
test_h51_cut_under_the_header_of_a_buffer_to_fill(void **state)
{
	struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();
	struct rte_mbuf *pkt;

	config.no_rx_buffers = true;
	rig_open(rig, &config);
	rig_chain_to_guest(rig, 0, &truncate_header_chain, 200);
	port_log_capture();
	rig_offer_chain(rig, NIC_RX(0), &truncate_header_chain, true);
	truncate_to(rig, TRUNCATE_BUFFERS, 5 * MIB);
	pkt = port_packet(&rig->port, 200, 1, 0);
	(void)port_tx(&rig->port, 0, &pkt, 1);
	truncate_expect_lost(rig);
	rig->config.no_rx_buffers = false;
	truncate_expect_recovery(rig);
}

static void
truncate_spin(unsigned int n)
{
	while (n-- > 0)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void
test_h51_cut_at_any_moment_of_a_burst(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < rig_repeats(30, 2000); i++) {
		uint64_t lost = port_xstat(&rig->port, "map_lost_errors");

		rig_echo_start(rig);
		(void)rig_send(rig, 0, 200);
		truncate_spin(i % 30 * 2000);
		truncate_to(rig, TRUNCATE_BUFFERS, 0);
		/* Should all packets have been through by then: rings are polled for ever. */
		truncate_to(rig, TRUNCATE_RINGS, 0);
		truncate_expect_closed(rig, lost);
		truncate_expect_recovery(rig);
	}
}

/* Cut the file and give it back its size until killed. */
static pid_t
truncate_fork_cutter(int fd)
{
	pid_t pid = fork();
	unsigned int i;

	if (pid == 0) {
		alarm(60);
		for (i = 0;; i++) {
			(void)!ftruncate(fd, (off_t)(i % 4 * MIB));
			truncate_spin(i % 7 * 1000);
			(void)!ftruncate(fd, (off_t)TRUNCATE_FILE_SIZE);
			truncate_spin(i % 11 * 1000);
		}
	}
	mock_check(pid > 0);
	return pid;
}

/* Offer packets whose bytes nobody has written, from all over the file, for a while. */
static void
truncate_offer_unseen(struct rig *rig, unsigned int ms)
{
	struct split_ring *ring = &rig->nic.ring[NIC_TX(0)].ring;
	uint64_t deadline = mock_now_ms() + ms;
	unsigned int looks = 0;
	unsigned int i = 0;

	while (mock_now_ms() < deadline) {
		struct ring_piece piece = {.len = 1526};

		nic_reap_tx(&rig->nic, 0);
		while (ring->n_free > 0) {
			piece.gpa = TRUNCATE_BUFFERS_GPA + i++ * 0x1000ull % (4 * MIB);
			split_ring_add(ring, &piece, 1);
		}
		split_ring_publish(ring);
		mock_relax(&looks);
	}
}

static void
test_h54_second_process_cuts_and_grows_the_file(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < rig_repeats(10, 1000); i++) {
		pid_t pid = truncate_fork_cutter(rig->ram.file[TRUNCATE_BUFFERS].fd);
		int status;

		rig_echo_start(rig);
		truncate_offer_unseen(rig, 40);
		mock_check(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
		mock_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		rig_hang_up(rig);
		rig_echo_stop(rig);
		truncate_expect_recovery(rig);
		canary_check();
	}
	print_message("# %llu pages were lost on the way\n",
		(unsigned long long)port_xstat(&rig->port, "map_lost_errors"));
}

static bool
truncate_is_zero(const struct rte_mbuf *pkt, uint32_t len)
{
	const uint8_t *data = rte_pktmbuf_mtod(pkt, const uint8_t *);
	uint32_t i;

	if (pkt->pkt_len != len || pkt->data_len != len)
		return false;
	for (i = 0; i < len; i++) {
		if (data[i] != 0)
			return false;
	}
	return true;
}

static void
test_h52_hole_under_a_packet_reads_as_zeroes(void **state)
{
	const struct rig_config config = truncate_config(truncate_lay_out);
	struct rig *rig = rig_main();
	uint8_t data[600];
	unsigned int i;

	rig_open(rig, &config);
	for (i = 0; i < 8; i++) {
		struct rte_mbuf *pkt = NULL;
		bool zero;

		rig_exchange(rig, 0, 300);
		packet_fill(data, sizeof(data), i);
		mock_check(nic_send(&rig->nic, 0, data, sizeof(data)));
		mock_check(fallocate(rig->ram.file[TRUNCATE_BUFFERS].fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   (off_t)TRUNCATE_FILE_SIZE) == 0);
		assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
		zero = truncate_is_zero(pkt, sizeof(data));
		rte_pktmbuf_free(pkt);
		assert_true(zero);
		assert_int_equal(nic_reap_tx(&rig->nic, 0), 1);
	}
	rig_exchange(rig, 0, 300);
	assert_int_equal(port_xstat(&rig->port, "map_lost_errors"), 0);
}

/* A file of huge pages on a file system that holds @p room bytes. @return -1: not to be had. */
static int
truncate_open_quota(uint64_t room)
{
	char folder[] = "/tmp/dynvhost-huge-XXXXXX";
	char path[64];
	char options[64];
	int fd = -1;

	mock_check(mkdtemp(folder) != NULL);
	snprintf(options, sizeof(options), "pagesize=2M,size=%llu", (unsigned long long)room);
	if (mount("none", folder, "hugetlbfs", 0, options) == 0) {
		snprintf(path, sizeof(path), "%s/ram", folder);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd >= 0 && ftruncate(fd, (off_t)TRUNCATE_FILE_SIZE) != 0)
			mock_fail("a file of huge pages takes no size");
		umount2(folder, MNT_DETACH);
	}
	rmdir(folder);
	return fd;
}

static void
test_h53_pool_of_huge_pages_runs_empty(void **state)
{
	struct ring_piece piece = {.len = 200};
	const struct rig_chain chain = {.piece = &piece, .n = 1};
	struct rig *rig = rig_main();
	struct vu_mem_region region = {GIB, TRUNCATE_FILE_SIZE, GIB, 0};
	uint64_t errors;
	unsigned int i;
	int fd = -1;

	if (guest_ram_has_hugepages(2 * GUEST_RAM_HUGEPAGE))
		fd = truncate_open_quota(2 * GUEST_RAM_HUGEPAGE);
	if (fd < 0) {
		print_message("# skipped: needs two free huge pages and the right to mount\n");
		skip();
	}
	rig_open(rig, NULL);
	fe_add_mem_reg(&rig->fe, &region, &fd, 1, FE_OK);
	close(fd);
	errors = port_errors(&rig->port);
	for (i = 0; i < TRUNCATE_FILE_SIZE / GUEST_RAM_HUGEPAGE; i++) {
		struct rte_mbuf *pkt = NULL;

		piece.gpa = GIB + i * GUEST_RAM_HUGEPAGE;
		rig_offer_chain(rig, NIC_TX(0), &chain, false);
		if (i < 2) {
			assert_int_equal(port_rx_wait(&rig->port, 0, &pkt, 1), 1);
			rte_pktmbuf_free(pkt);
			assert_int_equal(port_errors(&rig->port), errors);
		}
	}
	/* What found no memory is given back, and what comes behind it goes on. */
	rig_to_host(rig, 0, 100);
	assert_true(port_errors(&rig->port) >= errors + 2);
	rig_exchange(rig, 0, 64);
}

static void
test_h55_region_that_is_never_used_has_no_open_page(void **state)
{
	struct rig *rig = rig_main();
	struct exposure exposure;
	struct rig_config config = truncate_config(truncate_lay_out);
	struct guest_ram unused;

	config.nic.buffer_region = TRUNCATE_RINGS;
	rig_open(rig, &config);
	rig_exchange(rig, 0, 600);
	guest_ram_init(&unused);
	unused.n_files = 1;
	unused.file[0] = rig->ram.file[TRUNCATE_BUFFERS];
	exposure_read(&unused, &exposure);
	assert_int_equal(exposure.loadable, 0);
	assert_int_equal(exposure.storable, 0);
	unused.file[0] = rig->ram.file[TRUNCATE_RINGS];
	exposure_read(&unused, &exposure);
	assert_true(exposure.loadable > 0 && exposure.loadable < TRUNCATE_FILE_SIZE);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		HOSTILE_TEST(test_h51_memory_that_takes_a_seal_cannot_be_cut),
		HOSTILE_TEST(test_h51_cut_where_nothing_is_open),
		HOSTILE_TEST(test_h51_cut_under_polled_rings),
		HOSTILE_TEST(test_h51_cut_under_polled_rings_on_a_file_without_seals),
		HOSTILE_TEST(test_h51_cut_under_polled_rings_on_huge_pages),
		HOSTILE_TEST(test_h51_cut_under_packets_to_send),
		HOSTILE_TEST(test_h51_cut_under_buffers_to_fill),
		HOSTILE_TEST(test_h51_cut_under_the_header_of_a_packet_to_send),
		HOSTILE_TEST(test_h51_cut_under_the_header_of_a_buffer_to_fill),
		HOSTILE_TEST(test_h51_cut_at_any_moment_of_a_burst),
		HOSTILE_TEST(test_h54_second_process_cuts_and_grows_the_file),
		HOSTILE_TEST(test_h52_hole_under_a_packet_reads_as_zeroes),
		HOSTILE_TEST(test_h53_pool_of_huge_pages_runs_empty),
		HOSTILE_TEST(test_h55_region_that_is_never_used_has_no_open_page),
	};

	hostile_program("test_hostile_truncate", 90);
	rig_devargs = HOSTILE_DEVARGS;
	return cmocka_run_group_tests_name(
		"hostile truncation", tests, rig_group_setup, rig_group_teardown);
}
