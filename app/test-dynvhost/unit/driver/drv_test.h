/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DRV_TEST_H
#define DRV_TEST_H

/**
 * @file
 * What the tests of the driver's outside share: what of the process a port takes up, and the inside
 * of a port, where a test must stand in for a burst.
 */

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>

#include "dynvhost_ethdev.h"
#include "rig.h"

/** What a port may take up in its process, and must give back. */
struct footprint {
	unsigned int fds;
	unsigned int threads;
	unsigned int maps;
	unsigned int ports;
};

static inline unsigned int
footprint_count_entries(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned int n = 0;

	mock_check(dir != NULL);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - 2;
}

/**
 * Mappings that come with a port: shared ones, which are guest memory, and rings of asynchronous I/O.
 * Private ones come and go with heap and threads as the C library likes.
 */
static inline unsigned int
footprint_count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	char line[512], rights[8];
	unsigned int n = 0;

	mock_check(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL)
		n += (sscanf(line, "%*s %7s", rights) == 1 && rights[3] == 's') ||
		     strstr(line, "[aio]") != NULL;
	fclose(file);
	return n;
}

static inline struct footprint
footprint_read(void)
{
	return (struct footprint){
		.fds = mock_count_fds(),
		.threads = footprint_count_entries("/proc/self/task"),
		.maps = footprint_count_maps(),
		.ports = rte_eth_dev_count_avail(),
	};
}

/** A thread that has been joined or has ended leaves the lists of the kernel a moment later. */
static inline void
footprint_expect(const struct footprint *before)
{
	uint64_t deadline = mock_now_ms() + MOCK_DEADLINE_MS;
	unsigned int looks = 0;
	struct footprint now = footprint_read();

	while (memcmp(&now, before, sizeof(now)) != 0) {
		if (mock_now_ms() > deadline)
			mock_fail("fds %u -> %u, threads %u -> %u, maps %u -> %u, ports %u -> %u",
				before->fds, now.fds, before->threads, now.threads, before->maps,
				now.maps, before->ports, now.ports);
		mock_relax(&looks);
		now = footprint_read();
	}
}

static inline struct dynvhost_dev *
drv_dev(const struct test_port *port)
{
	return rte_eth_devices[port->id].data->dev_private;
}

/** The gate of a receive queue: who enters it stands in for a burst. */
static inline struct dynvhost_gate *
drv_rx_gate(const struct test_port *port, uint16_t queue)
{
	struct dynvhost_queue *rxq = rte_eth_devices[port->id].data->rx_queues[queue];

	return &rxq->gate;
}

/** Wait until @p condition holds. */
#define drv_wait(condition)                                            \
	do {                                                           \
		uint64_t deadline_ = mock_now_ms() + MOCK_DEADLINE_MS; \
		unsigned int looks_ = 0;                               \
                                                                       \
		while (!(condition)) {                                 \
			if (mock_now_ms() > deadline_)                 \
				mock_fail("never: %s", #condition);    \
			mock_relax(&looks_);                           \
		}                                                      \
	} while (0)

#endif /* DRV_TEST_H */
