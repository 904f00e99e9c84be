/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Prints how much of each guest this process could reach by mistake: the smallest application that
 * uses rte_eth_dynvhost.h. Build and run, with the driver installed:
 *
 *	cc main.c -o exposure $(pkg-config --cflags --libs libdpdk dynvhost)
 *	./exposure --no-pci --vdev=net_dynvhost0,iface=/run/vm1.sock
 */

#include <inttypes.h>
#include <stdio.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_eth_dynvhost.h>

static void
print_port(uint16_t port_id)
{
	struct rte_eth_dynvhost_exposure exposure;
	char name[RTE_ETH_NAME_MAX_LEN] = "?";

	if (rte_eth_dynvhost_get_exposure(port_id, &exposure) != 0)
		return;
	rte_eth_dev_get_name_by_port(port_id, name);
	printf("%s: %" PRIu64 " bytes of %" PRIu64 " loadable, %" PRIu64
	       " storable; at peak %" PRIu64 " and %" PRIu64 "\n",
		name, exposure.loadable_bytes, exposure.guest_bytes, exposure.storable_bytes,
		exposure.loadable_peak, exposure.storable_peak);
}

int
main(int argc, char **argv)
{
	uint16_t port_id;

	if (rte_eal_init(argc, argv) < 0)
		return 1;
	RTE_ETH_FOREACH_DEV (port_id)
		print_port(port_id);
	return rte_eal_cleanup() < 0;
}
