/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_memory.h>

#include "bed.h"
#include "mock.h"
#include "packet.h"

static struct bed bed_main;
static struct rte_mempool *bed_pools[2];

static void
bed_fail(const char *file, int line, const char *text)
{
	print_error("%s\n", text);
	_fail(file, line);
}

int
bed_group_setup(void **state)
{
	static char words[][20] = {"test", "--no-huge", "-m", "64", "--no-pci", "--no-shconf",
		"--no-telemetry", "--log-level=error"};
	char *argv[RTE_DIM(words) + 1] = {NULL};
	unsigned int i;

	mock_fail_hook = bed_fail;
	for (i = 0; i < RTE_DIM(words); i++)
		argv[i] = words[i];
	if (rte_eal_init(RTE_DIM(words), argv) < 0)
		return -1;
	bed_pools[0] = rte_pktmbuf_pool_create(
		"pool", 4095, 32, 0, RTE_PKTMBUF_HEADROOM + BED_ROOM, SOCKET_ID_ANY);
	bed_pools[1] = rte_pktmbuf_pool_create(
		"small", 4095, 32, 0, RTE_PKTMBUF_HEADROOM + BED_SMALL_ROOM, SOCKET_ID_ANY);
	if (bed_pools[0] == NULL || bed_pools[1] == NULL) {
		print_error("no mempools: %s\n", rte_strerror(rte_errno));
		return -1;
	}
	return 0;
}

int
bed_group_teardown(void **state)
{
	return rte_eal_cleanup();
}

struct rte_mempool *
bed_pool(void)
{
	return bed_pools[0];
}

struct rte_mempool *
bed_small_pool(void)
{
	return bed_pools[1];
}

struct dynvhost_mem_view *
bed_build_view(struct bed *bed)
{
	static struct dynvhost_mem_slot slot[GUEST_RAM_MAX_REGIONS];
	struct dynvhost_mem_view *view = NULL;
	unsigned int i;

	for (i = 0; i < bed->ram.n_regions; i++) {
		const struct guest_ram_region *region = &bed->ram.region[i];

		slot[i] = (struct dynvhost_mem_slot){
			.gpa = region->gpa,
			.size = region->size,
			.uva = region->uva,
			.file_offset = region->file_offset,
			.fd = dup(bed->ram.file[region->file].fd),
		};
		assert_true(slot[i].fd >= 0);
	}
	assert_int_equal(
		dynvhost_mem_view_build(bed->mem, bed->view, slot, bed->ram.n_regions, &view), 0);
	return view;
}

void
bed_lay_out_neighbours(struct guest_ram *ram)
{
	guest_ram_init_neighbours(ram, 1 << 20, 1 << 20);
}

static void
bed_open_memory(struct bed *bed)
{
	struct dynvhost_mem_config config = bed->config.mem;

	if (config.name == NULL)
		config.name = "bed";
	if (bed->config.lay_out != NULL) {
		guest_ram_init(&bed->ram);
		bed->config.lay_out(&bed->ram);
	} else {
		guest_ram_init_plain(&bed->ram, BED_RAM);
	}
	assert_int_equal(dynvhost_mem_create(&config, &bed->mem), 0);
	bed->view = bed_build_view(bed);
}

struct bed *
bed_open(const struct bed_config *config)
{
	struct bed *bed = &bed_main;
	unsigned int i;

	assert_null(bed->mem);
	memset(bed, 0, sizeof(*bed));
	bed->config = *config;
	if (config->size == 0)
		bed->config.size = 256;
	for (i = 0; i < RTE_DIM(bed_pools); i++)
		bed->pools_full[i] = rte_mempool_avail_count(bed_pools[i]);
	bed_open_memory(bed);
	bed->buffer = calloc(bed->config.size, sizeof(*bed->buffer));
	assert_non_null(bed->buffer);

	bed->next_gpa = config->buffers_from;

	assert_int_equal(dynvhost_vq_init(&bed->vq, config->index, SOCKET_ID_ANY), 0);
	bed->vq.port_id = BED_PORT_ID;
	bed->setup = (struct dynvhost_vq_setup){
		.view = bed->view,
		.features = config->features | bed_format.features,
		.size = bed->config.size,
		.call_fd = config->calls ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1,
		.enabled = true,
	};
	bed_ring_init(bed);
	bed->log.fd = -1;
	if (config->log)
		bed_start_log(bed, true);
	if (!config->stopped)
		assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	return bed;
}

static void
bed_close(struct bed *bed)
{
	unsigned int i;

	bed_thaw(bed);
	dynvhost_vq_stop(&bed->vq);
	dynvhost_vq_fini(&bed->vq);
	bed_stop_log(bed);
	dynvhost_mem_view_release(bed->view);
	dynvhost_mem_destroy(bed->mem);
	bed->mem = NULL;
	if (bed->setup.call_fd >= 0)
		close(bed->setup.call_fd);
	for (i = 0; i < bed->config.size; i++)
		free(bed->buffer[i].piece);
	free(bed->buffer);
	bed_ring_fini(bed);
	guest_ram_fini(&bed->ram);
}

int
bed_teardown(void **state)
{
	struct bed *bed = &bed_main;
	bool matches;
	unsigned int i;

	if (bed->mem == NULL)
		return 0;
	matches = bed_memory_matches(bed);
	bed_close(bed);
	assert_true(matches);
	for (i = 0; i < RTE_DIM(bed_pools); i++)
		assert_int_equal(rte_mempool_avail_count(bed_pools[i]), bed->pools_full[i]);
	return 0;
}

uint32_t
bed_restart(struct bed *bed)
{
	const uint32_t position = dynvhost_vq_stop(&bed->vq);

	if (bed_format.packed)
		bed->setup.base = position;
	assert_int_equal(dynvhost_vq_start(&bed->vq, &bed->setup), 0);
	assert_int_equal(bed->vq.fault, DYNVHOST_VQ_OK);
	return position;
}

uint16_t
bed_dequeue(struct bed *bed, struct rte_mempool *pool, uint16_t n)
{
	uint16_t got;

	assert_true(n <= BED_MAX_BURST);
	memset(bed->pkts, 0, sizeof(bed->pkts));
	/* Takes what is there: waiting for more has tests of its own. */
	bed->vq.packed.ripe.expected = 0;
	got = bed->vq.dequeue(&bed->vq, pool, bed->pkts, n);
	assert_true(got <= n);
	return got;
}

void
bed_pass(struct bed *bed, uint16_t n)
{
	struct ring_used used;
	uint16_t i;

	for (i = 0; i < n; i++)
		bed_send_plain(bed, 60, i);
	assert_int_equal(bed_dequeue(bed, bed_pool(), n), n);
	for (i = 0; i < n; i++) {
		bed_expect_packet(bed->pkts[i], 60, i, BED_ROOM);
		assert_true(bed_collect(bed, &used));
	}
}

struct rte_mbuf *
bed_packet(struct rte_mempool *pool, uint32_t len, uint32_t seg_len, uint32_t seed)
{
	static uint8_t bytes[PACKET_MAX];
	struct rte_mbuf *pkt = NULL;
	struct rte_mbuf *last = NULL;
	uint32_t done = 0;

	assert_true(len <= sizeof(bytes));
	packet_fill(bytes, len, seed);
	do {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		uint32_t part = RTE_MIN(seg_len == 0 ? len : seg_len, len - done);

		assert_non_null(m);
		assert_true(part <= rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod(m, void *), bytes + done, part);
		m->data_len = (uint16_t)part;
		m->pkt_len = part;
		done += part;
		if (pkt == NULL) {
			pkt = m;
		} else {
			last->next = m;
			pkt->nb_segs++;
			pkt->pkt_len += part;
		}
		last = m;
	} while (done < len);
	return pkt;
}

uint16_t
bed_enqueue(struct bed *bed, struct rte_mbuf *pkt)
{
	uint16_t sent = bed->vq.enqueue(&bed->vq, &pkt, 1);

	if (sent == 0)
		rte_pktmbuf_free(pkt);
	return sent;
}

/* Apply xor to the states of the pages that hold [gpa, gpa + len). */
static void
bed_flip_state(
	struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right, uint8_t bits)
{
	const struct dynvhost_mem_region *region = NULL;
	uint64_t page, last;
	uint32_t i;

	for (i = 0; i < bed->view->n_regions; i++) {
		if (gpa - bed->view->region[i]->gpa < bed->view->region[i]->size)
			region = bed->view->region[i];
	}
	assert_non_null(region);
	page = (gpa - region->gpa + region->phase) >> region->page_shift;
	last = (gpa - region->gpa + region->phase + len - 1) >> region->page_shift;
	for (; page <= last; page++)
		atomic_fetch_xor(&region->window[right].state[page], bits);
}

void
bed_block(struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right)
{
	bed_flip_state(bed, gpa, len, right, DYNVHOST_MEM_BUSY);
}

void
bed_unblock(struct bed *bed, uint64_t gpa, uint64_t len, enum dynvhost_mem_right right)
{
	bed_flip_state(bed, gpa, len, right, DYNVHOST_MEM_BUSY);
}

void
bed_age_stall(struct bed *bed)
{
	assert_int_not_equal(bed->vq.stall_since, 0);
	bed->vq.stall_since -= rte_get_tsc_hz() / 1000 * (DYNVHOST_VQ_STALL_MS + 1);
}

struct dynvhost_mem_stats
bed_mem_stats(const struct bed *bed)
{
	struct dynvhost_mem_stats stats;

	dynvhost_mem_stats_get(bed->mem, &stats);
	return stats;
}

uint64_t
bed_calls(struct bed *bed)
{
	uint64_t calls = 0;

	if (read(bed->setup.call_fd, &calls, sizeof(calls)) != sizeof(calls))
		return 0;
	return calls;
}
