/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * A random life of one port, against a model that is plain arrays: after every step the counters,
 * the kernel's list of mappings and the model agree; now and then every page is looked at.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_test.h"

#define SLOTS     6
#define MAX_PAGES 96
#define PAGES     (MT_PAGE == MT_4K ? MAX_PAGES : 30)
#define PINS      12

/** What is believed of one region. */
struct model_region {
	bool live;
	uint64_t first_file_page;
	uint64_t n_pages;
	bool open[DYNVHOST_MEM_WINDOWS][MAX_PAGES];
	uint32_t pins[DYNVHOST_MEM_WINDOWS][MAX_PAGES];
};

struct model {
	struct dynvhost_mem *mem;
	struct dynvhost_mem_view *view;
	int fd;
	unsigned int seed;
	struct model_region region[SLOTS];
	struct dynvhost_mem_pin pin[PINS];
	int pinned_slot[PINS];
	uint64_t opens, closes;
};

static uint64_t
model_random(struct model *m, uint64_t below)
{
	return (uint64_t)rand_r(&m->seed) % below;
}

static uint64_t
model_gpa(int slot)
{
	return MT_GPA + (uint64_t)slot * 2 * PAGES * MT_PAGE;
}

static struct mem_region *
model_real(const struct model *m, int slot)
{
	uint32_t i;

	for (i = 0; i < m->view->n_regions; i++)
		if (m->view->region[i]->gpa == model_gpa(slot))
			return mem_region_of(m->view->region[i]);
	return NULL;
}

static void
model_publish(struct model *m, struct dynvhost_mem_view *next)
{
	dynvhost_mem_view_release(m->view);
	m->view = next;
}

static void
model_add(struct model *m, int slot)
{
	struct model_region *r = &m->region[slot];
	struct dynvhost_mem_view *next;
	struct dynvhost_mem_slot add;

	memset(r, 0, sizeof(*r));
	r->first_file_page = model_random(m, PAGES);
	r->n_pages = 1 + model_random(m, PAGES);
	add = mt_slot(model_gpa(slot), r->n_pages * MT_PAGE, r->first_file_page * MT_PAGE, m->fd);
	assert_int_equal(dynvhost_mem_view_add(m->mem, m->view, &add, &next), 0);
	r->live = true;
	model_publish(m, next);
}

static void
model_unpin(struct model *m, int i)
{
	struct dynvhost_mem_pin *pin = &m->pin[i];
	uint64_t page;

	if (pin->region == NULL)
		return;
	for (page = 0; page < pin->n_pages; page++)
		m->region[m->pinned_slot[i]].pins[pin->right][pin->first_page + page]--;
	dynvhost_mem_unpin(pin);
	assert_null(pin->region);
}

static void
model_remove(struct model *m, int slot)
{
	struct model_region *r = &m->region[slot];
	struct dynvhost_mem_slot gone = {.gpa = model_gpa(slot),
		.size = r->n_pages * MT_PAGE,
		.uva = MT_UVA + model_gpa(slot)};
	struct dynvhost_mem_view *next;
	uint64_t page;
	int i;

	for (i = 0; i < PINS; i++)
		if (m->pinned_slot[i] == slot)
			model_unpin(m, i);
	for (page = 0; page < PAGES; page++)
		m->closes += r->open[0][page] + r->open[1][page];
	assert_int_equal(dynvhost_mem_view_remove(m->mem, m->view, &gone, &next), 0);
	model_publish(m, next);
	memset(r, 0, sizeof(*r));
}

/** Build the whole table anew from what is live: nothing may change. */
static void
model_rebuild(struct model *m)
{
	struct dynvhost_mem_slot slots[SLOTS];
	struct dynvhost_mem_view *next;
	uint32_t n = 0;
	int slot;

	for (slot = SLOTS - 1; slot >= 0; slot--)
		if (m->region[slot].live)
			slots[n++] = mt_slot(model_gpa(slot), m->region[slot].n_pages * MT_PAGE,
				m->region[slot].first_file_page * MT_PAGE, m->fd);
	assert_int_equal(dynvhost_mem_view_build(m->mem, m->view, slots, n, &next), 0);
	model_publish(m, next);
}

static void
model_opened(struct model *m, int slot, enum dynvhost_mem_right right, uint64_t first, uint64_t n)
{
	for (; n > 0; n--, first++) {
		m->opens += !m->region[slot].open[right][first];
		m->region[slot].open[right][first] = true;
	}
}

/** Translate or pin a random range of a live region. */
static void
model_use(struct model *m, int slot)
{
	enum dynvhost_mem_right right = model_random(m, 2) ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ;
	uint64_t bytes = m->region[slot].n_pages * MT_PAGE;
	uint64_t offset = model_random(m, bytes);
	uint64_t len = 1 +
		       model_random(m, bytes - offset < 5 * MT_PAGE ? bytes - offset : 5 * MT_PAGE);
	uint64_t first = offset / MT_PAGE;
	uint64_t n = (offset + len - 1) / MT_PAGE - first + 1;
	int i = (int)model_random(m, 4 * PINS);
	uint64_t page;

	if (i < PINS && m->pin[i].region == NULL) {
		assert_int_equal(
			dynvhost_mem_pin(m->view, model_gpa(slot) + offset, len, right, &m->pin[i]),
			0);
		m->pinned_slot[i] = slot;
		for (page = first; page < first + n; page++)
			m->region[slot].pins[right][page]++;
	} else {
		mt_hva(m->view, model_gpa(slot) + offset, len, right);
	}
	model_opened(m, slot, right, first, n);
}

/** Let some pages look idle, and close. */
static void
model_close(struct model *m, int slot)
{
	enum dynvhost_mem_right right = model_random(m, 2) ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ;
	struct model_region *r = &m->region[slot];
	struct mem_region *real = model_real(m, slot);
	uint64_t page, closed = 0;

	for (page = 0; page < r->n_pages; page++) {
		if (!r->open[right][page] || model_random(m, 3) == 0)
			continue;
		atomic_fetch_and(&real->pub.window[right].state[page], (uint8_t)~DYNVHOST_MEM_REF);
		if (r->pins[right][page] != 0)
			continue;
		r->open[right][page] = false;
		closed++;
	}
	assert_int_equal(mt_close(real, right, 0, r->n_pages), closed);
	m->closes += closed;
	/* What was left is used again, so that it can be told from idle pages next time. */
	for (page = 0; page < r->n_pages; page++)
		if (r->open[right][page])
			mt_hva(m->view, model_gpa(slot) + page * MT_PAGE, 1, right);
}

static void
model_check_counters(const struct model *m)
{
	struct dynvhost_mem_stats stats = mt_stats(m->mem);
	struct mt_reach reach = mt_reach(m->fd);
	uint64_t open[DYNVHOST_MEM_WINDOWS] = {0}, pinned = 0, guest = 0;
	int slot, right;
	uint64_t page;

	for (slot = 0; slot < SLOTS; slot++) {
		guest += m->region[slot].n_pages * MT_PAGE;
		for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++)
			for (page = 0; page < PAGES; page++) {
				open[right] += m->region[slot].open[right][page] * MT_PAGE;
				pinned += (m->region[slot].pins[right][page] != 0) * MT_PAGE;
			}
	}
	assert_int_equal(stats.guest_bytes, guest);
	assert_int_equal(stats.loadable_bytes, open[0] + open[1]);
	assert_int_equal(stats.storable_bytes, open[DYNVHOST_MEM_WRITE]);
	assert_int_equal(stats.pinned_bytes, pinned);
	assert_int_equal(reach.loadable, open[0] + open[1]);
	assert_int_equal(reach.storable, open[DYNVHOST_MEM_WRITE]);
	assert_true(stats.loadable_peak >= stats.loadable_bytes);
	assert_int_equal(stats.opens, m->opens);
	assert_int_equal(stats.closes, m->closes);
	assert_int_equal(stats.denials, 0);
}

static void
model_check_pages(const struct model *m)
{
	int slot, right;
	uint64_t page;

	for (slot = 0; slot < SLOTS; slot++) {
		struct mem_region *real = model_real(m, slot);

		if (!m->region[slot].live) {
			assert_null(real);
			continue;
		}
		for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++)
			for (page = 0; page < m->region[slot].n_pages; page++)
				assert_int_equal(mt_is_present(real->pub.window[right].base +
							       page * MT_PAGE),
					m->region[slot].open[right][page]);
	}
}

static void
model_step(struct model *m)
{
	int slot = (int)model_random(m, SLOTS);
	uint64_t dice = model_random(m, 100);

	if (!m->region[slot].live)
		model_add(m, slot);
	else if (dice < 4)
		model_remove(m, slot);
	else if (dice < 7)
		model_rebuild(m);
	else if (dice < 20)
		model_close(m, slot);
	else if (dice < 30)
		model_unpin(m, (int)model_random(m, PINS));
	else
		model_use(m, slot);
}

static void
a_random_life_matches_the_model(void **state)
{
	struct model m = {.seed = 2026};
	unsigned int fds = mt_count_fds(), maps, step;
	int slot;

	m.fd = mt_memfd(2 * PAGES * MT_PAGE);
	m.mem = mt_create(NULL);
	assert_int_equal(dynvhost_mem_view_build(m.mem, NULL, NULL, 0, &m.view), 0);
	maps = mt_count_maps();
	for (step = 0; step < 4000; step++) {
		model_step(&m);
		model_check_counters(&m);
		if (step % 200 == 0)
			model_check_pages(&m);
	}
	for (slot = 0; slot < SLOTS; slot++)
		if (m.region[slot].live)
			model_remove(&m, slot);
	model_check_counters(&m);
	assert_int_equal(mt_count_maps(), maps);
	dynvhost_mem_view_release(m.view);
	dynvhost_mem_destroy(m.mem);
	close(m.fd);
	assert_int_equal(mt_count_fds(), fds);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_random_life_matches_the_model),
	};

	return mt_run(tests, 1, MT_ALL);
}
