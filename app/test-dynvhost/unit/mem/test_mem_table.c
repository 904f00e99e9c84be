/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file Regions and views: which numbers are accepted, what a new table does to the one before (H38
 * to H43, H47, H50).
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "table_refused.h"

static void
numbers_that_wrap_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot;

	slot = mt_slot(MT_GPA, 0, 0, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(UINT64_MAX - MT_PAGE + 1, SIZE, 0, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, UINT64_MAX, 0, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, SIZE, 0, fd);
	slot.uva = UINT64_MAX - SIZE + 2;
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, SIZE, UINT64_MAX - MT_PAGE + 1, fd);
	table_slot_refused(slot, -EINVAL);
	slot = mt_slot(MT_GPA, SIZE, (UINT64_C(1) << 63) - MT_PAGE, fd);
	table_slot_refused(slot, -EINVAL);
	close(fd);
}

static void
gpa_and_offset_in_different_phase_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);

	table_slot_refused(mt_slot(MT_GPA + 8, MT_PAGE, 0, fd), -EINVAL);
	table_slot_refused(mt_slot(MT_GPA, MT_PAGE, 2048, fd), -EINVAL);
	close(fd);
}

static void
overlaps_are_refused(void **state)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot[3];
	int by_uva, i;

	for (by_uva = 0; by_uva < 2; by_uva++) {
		slot[0] = mt_slot(MT_GPA, 2 * MT_PAGE, 0, fd);
		slot[1] = mt_slot(MT_GPA + SIZE, MT_PAGE, 0, fd);
		slot[2] = mt_slot(MT_GPA + MT_PAGE, MT_PAGE, 0, fd);
		for (i = 0; by_uva && i < 3; i++)
			slot[i].gpa = MT_GPA + (uint64_t)i * SIZE;
		table_refused(NULL, slot, 3, -EEXIST);
	}
	slot[0] = mt_slot(MT_GPA, MT_PAGE, 0, fd);
	slot[1] = mt_slot(MT_GPA, MT_PAGE, 0, fd);
	table_refused(NULL, slot, 2, -EEXIST);
	close(fd);
}

static void
a_bad_slot_undoes_the_good_ones(void **state)
{
	int good = mt_memfd(SIZE), other = mt_memfd(SIZE), bad = mt_memfd(MT_PAGE);
	struct dynvhost_mem_slot slot[4] = {
		mt_slot(MT_GPA, SIZE, 0, good),
		mt_slot(MT_GPA + SIZE, SIZE, 0, other),
		mt_slot(MT_GPA + 2 * SIZE, SIZE, 0, good),
		mt_slot(MT_GPA + 3 * SIZE, SIZE, 0, bad),
	};

	table_refused(NULL, slot, 4, -EINVAL);
	close(good);
	close(other);
	close(bad);
}

static void
more_regions_than_fit_are_refused(void **state)
{
	static struct dynvhost_mem_slot slot[DYNVHOST_MEM_MAX_REGIONS + 1];
	struct dynvhost_mem_view *view, *more = NULL;
	struct dynvhost_mem *mem = mt_create(NULL);
	struct mt_holdings before;
	int fd = mt_memfd(SIZE);
	uint32_t i;

	before = mt_holdings();
	for (i = 0; i <= DYNVHOST_MEM_MAX_REGIONS; i++)
		slot[i] = mt_slot(MT_GPA + i * MT_PAGE, MT_PAGE, (i % 64) * MT_PAGE, fd);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, i, &view), -ENOSPC);
	assert_int_equal(dynvhost_mem_view_build(mem, NULL, slot, i - 1, &view), 0);
	assert_int_equal(view->n_regions, DYNVHOST_MEM_MAX_REGIONS);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &slot[i - 1], &more), -ENOSPC);
	close(slot[i - 1].fd);
	/* One fd for the one file, and one userfaultfd for all windows. */
	assert_int_equal(mt_count_fds(), before.fds + (mt_kind == &mt_uffd ? 2 : 1));
	dynvhost_mem_view_release(view);
	mt_expect_holdings(before);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
the_same_table_keeps_open_pages(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view, *next;
	int fd = mt_memfd(2 * SIZE);
	struct dynvhost_mem_slot slot = mt_slot(MT_GPA, SIZE, 0, fd);
	struct dynvhost_mem_slot moved = mt_slot(MT_GPA, SIZE, MT_PAGE, fd);
	struct dynvhost_mem_stats stats;

	view = mt_view(mem, fd, SIZE);
	mt_hva(view, MT_GPA, 1, DYNVHOST_MEM_READ);
	assert_int_equal(dynvhost_mem_view_build(mem, view, &slot, 1, &next), 0);
	assert_ptr_equal(next->region[0], view->region[0]);
	dynvhost_mem_view_release(view);
	assert_int_equal(mt_stats(mem).loadable_bytes, MT_PAGE);
	/* Another offset is another region, though gpa and file are the same. */
	moved.uva = slot.uva;
	assert_int_equal(dynvhost_mem_view_build(mem, next, &moved, 1, &view), 0);
	assert_ptr_not_equal(next->region[0], view->region[0]);
	assert_int_equal(mt_stats(mem).guest_bytes, 2 * SIZE);
	dynvhost_mem_view_release(next);
	stats = mt_stats(mem);
	assert_int_equal(stats.loadable_bytes, 0);
	assert_int_equal(stats.closes, 1);
	assert_int_equal(stats.guest_bytes, SIZE);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
regions_come_and_go_one_by_one(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	const struct mt_holdings before = mt_holdings();
	struct dynvhost_mem_view *view = NULL, *next;
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_slot slot, unknown;
	int i;

	for (i = 0; i < 4; i++) {
		slot = mt_slot(MT_GPA + (uint64_t)(3 - i) * SIZE, SIZE, 0, fd);
		assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
		assert_int_equal(view->n_regions, i + 1);
		mt_hva(view, slot.gpa, SIZE, DYNVHOST_MEM_WRITE);
	}
	for (i = 0; i < 4; i++)
		assert_int_equal(view->region[i]->gpa, MT_GPA + (uint64_t)i * SIZE);
	slot = mt_slot(MT_GPA + SIZE / 2, MT_PAGE, 0, fd);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), -EEXIST);
	close(slot.fd);
	for (i = 0; i < 4; i++) {
		unknown = (struct dynvhost_mem_slot){
			.gpa = MT_GPA + (uint64_t)i * SIZE, .size = SIZE, .uva = MT_UVA, .fd = -1};
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &unknown, &next), -ENOENT);
		unknown.uva = MT_UVA + unknown.gpa;
		unknown.file_offset = 12345;
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &unknown, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
		assert_int_equal(mt_reach(fd).storable, (uint64_t)(3 - i) * SIZE);
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &unknown, &next), -ENOENT);
	}
	assert_int_equal(view->n_regions, 0);
	dynvhost_mem_view_release(view);
	close(fd);
	mt_expect_holdings(before);
	dynvhost_mem_destroy(mem);
}

/* As QEMU before 8.0 does for each pair of queues, on the same connection. */
static void
region_added_again_goes_with_its_last_removal(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	const struct mt_holdings before = mt_holdings();
	struct dynvhost_mem_view *view = NULL, *next;
	struct dynvhost_mem_slot slot, other;
	int fd = mt_memfd(SIZE);
	unsigned int fds = 0;
	int i;

	for (i = 0; i < 128; i++) {
		slot = mt_slot(MT_GPA, SIZE, 0, fd);
		assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
		assert_int_equal(view->n_regions, 1);
		mt_hva(view, MT_GPA, SIZE, DYNVHOST_MEM_WRITE);
		fds = i == 0 ? mt_count_fds() : fds;
		assert_int_equal(mt_count_fds(), fds);
	}
	slot = mt_slot(MT_GPA, SIZE, 0, fd);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), -EEXIST);
	close(slot.fd);
	/* The same place, but not the same memory. */
	other = slot;
	other.fd = mt_memfd(SIZE);
	assert_int_equal(dynvhost_mem_view_add(mem, view, &other, &next), -EEXIST);
	close(other.fd);
	slot.fd = -1;
	for (i = 0; i < 128; i++) {
		assert_int_equal(mt_reach(fd).storable, SIZE);
		assert_int_equal(dynvhost_mem_view_remove(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		view = next;
	}
	assert_int_equal(view->n_regions, 0);
	assert_int_equal(dynvhost_mem_view_remove(mem, view, &slot, &next), -ENOENT);
	dynvhost_mem_view_release(view);
	close(fd);
	mt_expect_holdings(before);
	dynvhost_mem_destroy(mem);
}

static void
adding_and_removing_for_ever_leaks_nothing(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	struct dynvhost_mem_view *view, *next;
	int fd = mt_memfd(2 * SIZE);
	struct mt_holdings before;
	struct dynvhost_mem_slot slot;
	int i;

	view = mt_view(mem, fd, SIZE);
	before = mt_holdings();
	for (i = 0; i < 2000; i++) {
		slot = mt_slot(MT_GPA + 4 * SIZE, SIZE, SIZE, fd);
		assert_int_equal(dynvhost_mem_view_add(mem, view, &slot, &next), 0);
		dynvhost_mem_view_release(view);
		mt_hva(next, slot.gpa, 3, DYNVHOST_MEM_WRITE);
		assert_int_equal(dynvhost_mem_view_remove(mem, next, &slot, &view), 0);
		dynvhost_mem_view_release(next);
	}
	mt_expect_holdings(before);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
front_end_addresses_lead_to_guest_addresses(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	const uint64_t uva = view->region[0]->uva;
	uint64_t gpa = 0;

	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva + 5, SIZE - 5, &gpa), 0);
	assert_int_equal(gpa, MT_GPA + 5);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva + 5, SIZE - 4, &gpa), -EFAULT);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva - 1, 1, &gpa), -EFAULT);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva + SIZE, 1, &gpa), -EFAULT);
	assert_int_equal(dynvhost_mem_uva_to_gpa(view, uva, UINT64_MAX, &gpa), -EFAULT);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
bad_configurations_are_refused(void **state)
{
	struct dynvhost_mem_config granule = {.granule = 12288};
	struct dynvhost_mem_config mode = {.mode = (enum dynvhost_mem_mode)7};
	struct dynvhost_mem_config capped = {.mode = DYNVHOST_MEM_MODE_EAGER, .max_bytes = MT_2M};
	struct dynvhost_mem *mem = NULL;

	assert_int_equal(dynvhost_mem_create(&granule, &mem), -EINVAL);
	assert_string_equal(dynvhost_mem_why(NULL), "the granule is no power of two");
	assert_int_equal(dynvhost_mem_create(&mode, &mem), -EINVAL);
	assert_string_equal(dynvhost_mem_why(NULL), "no such engine");
	assert_int_equal(dynvhost_mem_create(&capped, &mem), -EINVAL);
	assert_non_null(strstr(dynvhost_mem_why(NULL), "no cap can hold"));
	assert_null(mem);
	dynvhost_mem_destroy(mem);
	dynvhost_mem_view_release(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_that_wrap_are_refused),
		cmocka_unit_test(gpa_and_offset_in_different_phase_are_refused),
		cmocka_unit_test(overlaps_are_refused),
		cmocka_unit_test(a_bad_slot_undoes_the_good_ones),
		cmocka_unit_test(more_regions_than_fit_are_refused),
		cmocka_unit_test(the_same_table_keeps_open_pages),
		cmocka_unit_test(regions_come_and_go_one_by_one),
		cmocka_unit_test(region_added_again_goes_with_its_last_removal),
		cmocka_unit_test(adding_and_removing_for_ever_leaks_nothing),
		cmocka_unit_test(front_end_addresses_lead_to_guest_addresses),
		cmocka_unit_test(bad_configurations_are_refused),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_SMALL);
}
