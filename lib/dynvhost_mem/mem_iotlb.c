/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * Translations of a guest's IOMMU.
 *
 * Security model: ranges come from the front-end and may be anything: overlapping, as many as it
 * likes, up to the ends of the address space. They are kept sorted and apart from each other, with
 * inclusive ends so that no end wraps; their number is bounded. Where one leads in guest memory is
 * looked up once, when it is entered, and anew when the memory table changes. Addresses to be
 * translated come from the guest.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dynvhost_mem_iotlb.h"
#include "mem_priv.h"

/** The state of a miss is in the bits below its page: what has become of it, and its rights. */
#define IOTLB_PAGE_MASK  (~UINT64_C(0xfff))
#define IOTLB_STATE      UINT64_C(3)
#define IOTLB_POSTED     UINT64_C(1)
#define IOTLB_SENT       UINT64_C(2)
#define IOTLB_DENIED     UINT64_C(3)
#define IOTLB_PERM_SHIFT 2

/** Ranges while one is being replaced: cutting makes two of one. */
#define IOTLB_ROOM (DYNVHOST_MEM_IOTLB_MAX + 2)

struct iotlb_range {
	uint64_t first;
	uint64_t last; /**< inclusive */
	uint64_t uva;
	uint64_t gpa;
	uint8_t perm;
};

/** Guest memory that a range led to which is gone. */
struct iotlb_gone {
	uint64_t gpa;
	uint64_t len;
};

struct dynvhost_mem_iotlb {
	struct dynvhost_mem_view *view; /**< without regions: every translation comes here */
	const struct dynvhost_mem_view *memory;
	int wake_fd;
	uint32_t n;
	uint32_t hand; /**< which range goes next when there is no room */
	uint32_t n_gone;
	uint32_t n_wants;
	struct dynvhost_mem_miss want[DYNVHOST_MEM_IOTLB_WANTS];
	struct iotlb_range range[IOTLB_ROOM];
	struct iotlb_gone gone[2 * IOTLB_ROOM];
};

struct dynvhost_mem_iotlb *
dynvhost_mem_iotlb_create(struct dynvhost_mem *mem, int wake_fd)
{
	struct dynvhost_mem_iotlb *iotlb = dynvhost_mem_sys->calloc(1, sizeof(*iotlb));

	if (iotlb == NULL)
		return NULL;
	iotlb->view = dynvhost_mem_sys->calloc(1, sizeof(*iotlb->view));
	if (iotlb->view == NULL) {
		free(iotlb);
		return NULL;
	}
	iotlb->view->mem = mem;
	iotlb->view->iotlb = iotlb;
	iotlb->wake_fd = wake_fd;
	return iotlb;
}

void
dynvhost_mem_iotlb_destroy(struct dynvhost_mem_iotlb *iotlb)
{
	if (iotlb == NULL)
		return;
	free(iotlb->view);
	free(iotlb);
}

const struct dynvhost_mem_view *
dynvhost_mem_iotlb_view(const struct dynvhost_mem_iotlb *iotlb)
{
	return iotlb->view;
}

const struct dynvhost_mem_view *
mem_iotlb_memory(const struct dynvhost_mem_iotlb *iotlb)
{
	return iotlb->memory;
}

uint32_t
dynvhost_mem_iotlb_count(const struct dynvhost_mem_iotlb *iotlb)
{
	return iotlb->n;
}

/** Index of the first range that ends at or behind @p iova, or n. */
static uint32_t
iotlb_lower(const struct dynvhost_mem_iotlb *iotlb, uint64_t iova)
{
	uint32_t low = 0, high = iotlb->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (iotlb->range[middle].last < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/**
 * Guest memory behind @p len > 0 bytes at @p iova, as far as it goes on without a gap.
 * @return bytes covered; 0: @p iova may not be used like this.
 */
static uint64_t
iotlb_find(const struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t len, uint8_t perm,
	uint64_t *gpa)
{
	const struct iotlb_range *range = &iotlb->range[iotlb_lower(iotlb, iova)];
	const struct iotlb_range *end = &iotlb->range[iotlb->n];
	uint64_t covered;

	if (range == end || range->first > iova || (range->perm & perm) != perm)
		return 0;
	*gpa = range->gpa + (iova - range->first);
	covered = range->last - iova; /* less one, so that it does not wrap */
	while (covered < len - 1) {
		const struct iotlb_range *next = range + 1;

		if (next == end || next->first != range->last + 1 ||
			next->gpa != range->gpa + (next->first - range->first) ||
			(next->perm & perm) != perm)
			break;
		covered += next->last - next->first + 1;
		range = next;
	}
	return covered < len - 1 ? covered + 1 : len;
}

/** Wake whoever asks the front-end. */
static void
iotlb_wake(const struct dynvhost_mem_iotlb *iotlb)
{
	const uint64_t one = 1;

	/* One that takes no more has been written to already. */
	if (iotlb->wake_fd >= 0 && write(iotlb->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/** Post a miss, unless one is under way. @return -EAGAIN; -EFAULT: it has been denied. */
static int
iotlb_post(const struct dynvhost_mem_iotlb *iotlb, struct dynvhost_mem_cursor *cursor,
	uint64_t iova, uint8_t perm)
{
	const uint64_t want = (iova & IOTLB_PAGE_MASK) | (uint64_t)perm << IOTLB_PERM_SHIFT;
	uint64_t miss = atomic_load(&cursor->miss);
	uint64_t state = miss & IOTLB_STATE;

	if (state == IOTLB_DENIED && (miss & ~IOTLB_STATE) == want)
		return -EFAULT;
	if ((state == 0 || state == IOTLB_DENIED) &&
		atomic_compare_exchange_strong(&cursor->miss, &miss, want | IOTLB_POSTED))
		iotlb_wake(iotlb);
	return -EAGAIN;
}

int
mem_iotlb_translate(const struct dynvhost_mem_iotlb *iotlb, struct dynvhost_mem_cursor *cursor,
	uint64_t iova, uint64_t len, enum dynvhost_mem_right right, struct dynvhost_mem_span *span)
{
	const uint8_t perm = right == DYNVHOST_MEM_WRITE ? DYNVHOST_MEM_IOTLB_WRITE
							 : DYNVHOST_MEM_IOTLB_READ;
	uint64_t gpa;

	if (len == 0)
		return -EFAULT;
	len = iotlb_find(iotlb, iova, len, perm, &gpa);
	if (len == 0)
		return iotlb_post(iotlb, cursor, iova, perm);
	return dynvhost_mem_translate(iotlb->memory, cursor, gpa, len, right, span);
}

/** Note the page of @p iova as wanted. @return false: there is no room for another. */
static bool
iotlb_add_want(struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint8_t perm)
{
	const struct dynvhost_mem_miss want = {.iova = iova & IOTLB_PAGE_MASK, .perm = perm};
	uint32_t i;

	for (i = 0; i < iotlb->n_wants; i++)
		if (iotlb->want[i].iova == want.iova && iotlb->want[i].perm == want.perm)
			return true;
	if (iotlb->n_wants == DYNVHOST_MEM_IOTLB_WANTS)
		return false;
	iotlb->want[iotlb->n_wants++] = want;
	return true;
}

bool
dynvhost_mem_iotlb_want(struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t len, uint8_t perm)
{
	bool all = true;
	uint64_t gpa, part;

	if (len != 0 && len - 1 > UINT64_MAX - iova)
		return false;
	for (; len > 0; iova += part, len -= part) {
		part = iotlb_find(iotlb, iova, len, perm, &gpa);
		if (part != 0)
			continue;
		all = false;
		if (!iotlb_add_want(iotlb, iova, perm))
			break;
		part = (iova | ~IOTLB_PAGE_MASK) - iova + 1;
		part = part < len ? part : len;
	}
	return all;
}

bool
dynvhost_mem_iotlb_take_want(struct dynvhost_mem_iotlb *iotlb, struct dynvhost_mem_miss *miss)
{
	uint64_t gpa;

	while (iotlb->n_wants > 0) {
		*miss = iotlb->want[0];
		iotlb->n_wants--;
		memmove(&iotlb->want[0], &iotlb->want[1], iotlb->n_wants * sizeof(iotlb->want[0]));
		/* What has come meanwhile is not wanted any more. */
		if (iotlb_find(iotlb, miss->iova, 1, miss->perm, &gpa) == 0)
			return true;
	}
	return false;
}

int
mem_iotlb_pin(struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t len,
	enum dynvhost_mem_right right, struct dynvhost_mem_pin *pin)
{
	struct dynvhost_mem *mem = iotlb->view->mem;
	/* What is written is looked at as well. */
	const uint8_t perm = right == DYNVHOST_MEM_WRITE
				     ? DYNVHOST_MEM_IOTLB_READ | DYNVHOST_MEM_IOTLB_WRITE
				     : DYNVHOST_MEM_IOTLB_READ;
	uint64_t gpa, covered;

	pin->region = NULL;
	if (len == 0 || len - 1 > UINT64_MAX - iova)
		return mem_fail(mem, -EFAULT, "iova 0x%jx: no range", (uintmax_t)iova);
	covered = iotlb_find(iotlb, iova, len, perm, &gpa);
	if (covered == len)
		return dynvhost_mem_pin(iotlb->memory, gpa, len, right, pin);
	if (!dynvhost_mem_iotlb_want(iotlb, iova, len, perm))
		return mem_fail(mem, -EAGAIN, "iova 0x%jx: not translated yet", (uintmax_t)iova);
	return mem_fail(mem, -EXDEV,
		"iova 0x%jx: its pages do not follow each other in guest memory", (uintmax_t)iova);
}

static void
iotlb_delete(struct dynvhost_mem_iotlb *iotlb, uint32_t i)
{
	iotlb->n--;
	memmove(&iotlb->range[i], &iotlb->range[i + 1], (iotlb->n - i) * sizeof(iotlb->range[0]));
}

static void
iotlb_insert(struct dynvhost_mem_iotlb *iotlb, uint32_t i, const struct iotlb_range *range)
{
	memmove(&iotlb->range[i + 1], &iotlb->range[i], (iotlb->n - i) * sizeof(iotlb->range[0]));
	iotlb->range[i] = *range;
	iotlb->n++;
}

/** Note that the part [first, last] of a range goes. */
static void
iotlb_note_gone(struct dynvhost_mem_iotlb *iotlb, const struct iotlb_range *range, uint64_t first,
	uint64_t last)
{
	struct iotlb_gone *gone;

	/* Each change is settled before the next: so many can not come together. */
	if (iotlb->n_gone == sizeof(iotlb->gone) / sizeof(iotlb->gone[0]))
		return;
	gone = &iotlb->gone[iotlb->n_gone++];
	gone->gpa = range->gpa + (first - range->first);
	gone->len = last - first + 1;
}

/** Let a range begin at @p first, which lies in it. */
static void
iotlb_cut_front(struct iotlb_range *range, uint64_t first)
{
	range->gpa += first - range->first;
	range->uva += first - range->first;
	range->first = first;
}

/** Take [first, last] out. */
static void
iotlb_remove(struct dynvhost_mem_iotlb *iotlb, uint64_t first, uint64_t last)
{
	uint32_t i = iotlb_lower(iotlb, first);

	while (i < iotlb->n && iotlb->range[i].first <= last) {
		struct iotlb_range *range = &iotlb->range[i];
		const struct iotlb_range whole = *range;
		const bool left = whole.first < first;
		/* Where there is no room for another range, the rest goes too: it can be asked for. */
		const bool right = whole.last > last &&
				   !(left && iotlb->n > DYNVHOST_MEM_IOTLB_MAX);

		iotlb_note_gone(
			iotlb, range, left ? first : whole.first, right ? last : whole.last);
		if (right)
			iotlb_cut_front(range, last + 1);
		else
			iotlb_delete(iotlb, i);
		if (left) {
			iotlb_insert(iotlb, i, &whole);
			iotlb->range[i].last = first - 1;
			i++;
		}
		if (right)
			return;
	}
}

/** Give a range of front-end addresses its place in guest memory. @return bytes of it; 0: none. */
static uint64_t
iotlb_resolve(const struct dynvhost_mem_view *memory, uint64_t uva, uint64_t size, uint64_t *gpa)
{
	uint32_t i;

	for (i = 0; memory != NULL && i < memory->n_regions; i++) {
		const struct dynvhost_mem_region *region = memory->region[i];
		uint64_t offset = uva - region->uva;

		if (offset >= region->size)
			continue;
		*gpa = region->gpa + offset;
		return size < region->size - offset ? size : region->size - offset;
	}
	return 0;
}

void
dynvhost_mem_iotlb_set_memory(
	struct dynvhost_mem_iotlb *iotlb, const struct dynvhost_mem_view *memory)
{
	uint32_t i = 0;

	iotlb->memory = memory;
	iotlb->n_gone = 0;
	while (i < iotlb->n) {
		struct iotlb_range *range = &iotlb->range[i];
		const uint64_t size = range->last - range->first + 1;

		if (iotlb_resolve(memory, range->uva, size, &range->gpa) == size)
			i++;
		else
			iotlb_delete(iotlb, i);
	}
	iotlb->n_wants = 0;
}

/** Whether the table says just this already. */
static bool
iotlb_knows(const struct dynvhost_mem_iotlb *iotlb, const struct iotlb_range *want)
{
	const struct iotlb_range *range = &iotlb->range[iotlb_lower(iotlb, want->first)];

	return range != &iotlb->range[iotlb->n] && range->first <= want->first &&
	       range->last >= want->last && range->perm == want->perm &&
	       range->gpa + (want->first - range->first) == want->gpa;
}

int
dynvhost_mem_iotlb_update(
	struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t size, uint64_t uva, uint8_t perm)
{
	struct iotlb_range range = {.first = iova, .uva = uva, .perm = perm};

	if (size == 0 || size - 1 > UINT64_MAX - iova || size - 1 > UINT64_MAX - uva || perm == 0 ||
		(perm & ~(DYNVHOST_MEM_IOTLB_READ | DYNVHOST_MEM_IOTLB_WRITE)) != 0)
		return -EINVAL;
	size = iotlb_resolve(iotlb->memory, uva, size, &range.gpa);
	if (size == 0)
		return -EFAULT;
	range.last = iova + (size - 1);
	if (iotlb_knows(iotlb, &range))
		return 0;
	iotlb_remove(iotlb, range.first, range.last);
	while (iotlb->n >= DYNVHOST_MEM_IOTLB_MAX) {
		const struct iotlb_range *victim = &iotlb->range[iotlb->hand++ % iotlb->n];

		iotlb_remove(iotlb, victim->first, victim->last);
	}
	iotlb_insert(iotlb, iotlb_lower(iotlb, iova), &range);
	return 0;
}

int
dynvhost_mem_iotlb_invalidate(struct dynvhost_mem_iotlb *iotlb, uint64_t iova, uint64_t size)
{
	const uint64_t last = iova + (size - 1);

	if (last < iova)
		return -EINVAL;
	iotlb_remove(iotlb, iova, last);
	return 0;
}

/** Close what is open of [gpa, gpa + len), which lies in one region. @return whether all of it is. */
static bool
iotlb_close(const struct dynvhost_mem_view *memory, const struct iotlb_gone *gone)
{
	uint32_t i;
	int right;

	for (i = 0; memory != NULL && i < memory->n_regions; i++) {
		const struct dynvhost_mem_region *region = memory->region[i];
		uint64_t offset = gone->gpa - region->gpa;
		uint64_t first, end;

		if (offset >= region->size)
			continue;
		first = (offset + region->phase) >> region->page_shift;
		end = ((offset + region->phase + gone->len - 1) >> region->page_shift) + 1;
		for (right = 0; right < DYNVHOST_MEM_WINDOWS; right++)
			if (!mem_idle_close_range(mem_region_of(region),
				    (enum dynvhost_mem_right)right, first, end))
				return false;
	}
	return true;
}

bool
dynvhost_mem_iotlb_settle(struct dynvhost_mem_iotlb *iotlb)
{
	/* Memory that is lost is closed as a whole. */
	if (dynvhost_mem_is_lost(iotlb->view->mem))
		iotlb->n_gone = 0;
	while (iotlb->n_gone > 0) {
		if (!iotlb_close(iotlb->memory, &iotlb->gone[iotlb->n_gone - 1]))
			return false;
		iotlb->n_gone--;
	}
	return true;
}

bool
dynvhost_mem_iotlb_overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a <= b + (b_size - 1) && b <= a + (a_size - 1);
}

bool
dynvhost_mem_miss_take(struct dynvhost_mem_cursor *cursor, struct dynvhost_mem_miss *miss)
{
	uint64_t seen = atomic_load(&cursor->miss);

	if ((seen & IOTLB_STATE) != IOTLB_POSTED)
		return false;
	/* Who has posted it does not touch it again. */
	atomic_store(&cursor->miss, (seen & ~IOTLB_STATE) | IOTLB_SENT);
	miss->iova = seen & IOTLB_PAGE_MASK;
	miss->perm = (uint8_t)(seen >> IOTLB_PERM_SHIFT & 3);
	return true;
}

void
dynvhost_mem_miss_repost(struct dynvhost_mem_cursor *cursor)
{
	uint64_t seen = atomic_load(&cursor->miss);

	if ((seen & IOTLB_STATE) == IOTLB_SENT)
		atomic_store(&cursor->miss, (seen & ~IOTLB_STATE) | IOTLB_POSTED);
}

void
dynvhost_mem_miss_forget(struct dynvhost_mem_cursor *cursor)
{
	if ((atomic_load(&cursor->miss) & IOTLB_STATE) == IOTLB_SENT)
		atomic_store(&cursor->miss, 0);
}

void
dynvhost_mem_miss_answer(
	struct dynvhost_mem_cursor *cursor, uint64_t iova, uint64_t size, bool granted)
{
	uint64_t seen = atomic_load(&cursor->miss);

	if ((seen & IOTLB_STATE) != IOTLB_SENT || size == 0 ||
		!dynvhost_mem_iotlb_overlaps(
			seen & IOTLB_PAGE_MASK, ~IOTLB_PAGE_MASK + 1, iova, size))
		return;
	atomic_store(&cursor->miss, granted ? 0 : (seen & ~IOTLB_STATE) | IOTLB_DENIED);
}

void
dynvhost_mem_miss_refuse(struct dynvhost_mem_cursor *cursor, const struct dynvhost_mem_miss *miss)
{
	uint64_t asked = miss->iova | (uint64_t)miss->perm << IOTLB_PERM_SHIFT | IOTLB_SENT;

	/* Who has posted it does not touch it before it is answered. */
	atomic_compare_exchange_strong(
		&cursor->miss, &asked, (asked & ~IOTLB_STATE) | IOTLB_DENIED);
}

void
dynvhost_mem_iotlb_log(struct dynvhost_mem_log *log, const struct dynvhost_mem_view *view,
	uint64_t addr, uint64_t len)
{
	uint64_t gpa, part;

	if (view->iotlb == NULL) {
		dynvhost_mem_log_mark(log, addr, len);
		return;
	}
	while (len > 0) {
		/* What was written a moment ago is in the table. */
		part = iotlb_find(view->iotlb, addr, len, DYNVHOST_MEM_IOTLB_WRITE, &gpa);
		if (part == 0)
			return;
		dynvhost_mem_log_mark(log, gpa, part);
		addr += part;
		len -= part;
	}
}
