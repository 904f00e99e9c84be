/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef RTE_ETH_DYNVHOST_H
#define RTE_ETH_DYNVHOST_H

/**
 * @file
 * What an application can ask a net_dynvhost port beyond ethdev: which queues the guest has just
 * enabled or disabled, and how much of the guest's memory the application can reach.
 *
 * Link with `pkg-config --libs dynvhost`. EAL may load the driver as a plugin in the same process:
 * both are one file, so there is one driver.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A queue that the guest has enabled or disabled. */
struct rte_eth_dynvhost_queue_event {
	uint16_t queue_id;
	bool rx;     /**< a receive queue of the port; else a transmit queue */
	bool enable; /**< it serves from now on; else it does not */
};

/**
 * Fetch one queue event. RTE_ETH_EVENT_QUEUE_STATE says that there are some: call until it returns
 * -ENOENT. A queue that went back and forth since the last call is reported as it is now, or not at
 * all.
 *
 * Any thread; one at a time gets a given event.
 *
 * @return 0; -ENOENT: nothing has changed; -ENODEV: not a port of this driver in this process;
 *         -EINVAL: @p event is NULL.
 */
int rte_eth_dynvhost_get_queue_event(uint16_t port_id, struct rte_eth_dynvhost_queue_event *event);

/**
 * How much of a guest's memory a stray pointer of this process reaches. Bytes are counted as
 * addresses through which guest memory answers; storable ones are among the loadable ones.
 */
struct rte_eth_dynvhost_exposure {
	uint64_t guest_bytes;    /**< memory the guest has shared */
	uint64_t loadable_bytes; /**< open now */
	uint64_t loadable_peak;
	uint64_t storable_bytes; /**< open now and writable */
	uint64_t storable_peak;
	uint64_t pinned_bytes; /**< part of loadable_bytes that holds rings */
	uint64_t opens;        /**< pages opened since the port was created */
	uint64_t closes;       /**< pages closed */
	uint64_t repairs;      /**< open pages the kernel had taken away, put back on access */
	uint64_t denials;      /**< opens refused: budget, rate, cap or kernel */
	uint64_t lost;         /**< pages whose memory went for good while open */
};

/**
 * Read a port's exposure. Any thread.
 *
 * @return 0; -ENODEV: not a port of this driver in this process; -EINVAL: @p exposure is NULL.
 */
int rte_eth_dynvhost_get_exposure(uint16_t port_id, struct rte_eth_dynvhost_exposure *exposure);

#ifdef __cplusplus
}
#endif

#endif /* RTE_ETH_DYNVHOST_H */
