/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Rings whose memory cannot be opened when they have all they need: they start as soon as it can,
 * without another word of the front-end.
 */

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "drv_test.h"
#include "mem_priv.h"

/** Opens that were refused, and the error they get; 0: none. */
static unsigned int late_refused;
static int late_error;

static int
late_ioctl(int fd, unsigned long request, void *arg)
{
	int error = __atomic_load_n(&late_error, __ATOMIC_RELAXED);

	if (request != UFFDIO_CONTINUE || error == 0)
		return dynvhost_mem_sys_real.ioctl(fd, request, arg);
	__atomic_fetch_add(&late_refused, 1, __ATOMIC_RELAXED);
	errno = error;
	return -1;
}

static void
late_refuse(int error)
{
	__atomic_store_n(&late_refused, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&late_error, error, __ATOMIC_RELAXED);
}

static void
late_wait_refused(unsigned int n)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;

	while (__atomic_load_n(&late_refused, __ATOMIC_RELAXED) < n) {
		if (mock_now_ms() > deadline)
			mock_fail("rings are not tried again");
		mock_relax(&looks);
	}
}

static void
late_expect(int error)
{
	static struct mem_sys_ops ops;
	struct rig *rig = rig_main();
	unsigned int told;

	ops = dynvhost_mem_sys_real;
	ops.ioctl = late_ioctl;
	rig_prepare(rig, NULL);
	nic_negotiate(&rig->nic);
	rig_offer_buffers(rig);
	dynvhost_mem_sys = &ops;
	late_refuse(error);
	port_log_capture();
	nic_start(&rig->nic);
	fe_barrier(&rig->fe);
	/* Tried again and again, and said once. */
	late_wait_refused(10);
	told = port_log_lines("its memory cannot be opened now");
	port_log_release();
	assert_int_equal(told, 1);
	assert_false(port_link_up(&rig->port));
	late_refuse(0);
	port_wait_link(&rig->port, true);
	rig_exchange(rig, 0, 64);
	rig_close(rig);
	dynvhost_mem_sys = &dynvhost_mem_sys_real;
}

static void
test_rings_start_when_the_kernel_has_memory_again(void **state)
{
	late_expect(ENOMEM);
}

static void
test_rings_start_when_the_kernel_puts_us_off_no_more(void **state)
{
	late_expect(EAGAIN);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_rings_start_when_the_kernel_has_memory_again),
		RIG_TEST(test_rings_start_when_the_kernel_puts_us_off_no_more),
	};

	rig_program("unit_drv_late", 60);
	rig_devargs = "map-mode=uffd";
	return cmocka_run_group_tests_name(
		"unit_drv_late", tests, rig_group_setup, rig_group_teardown);
}
