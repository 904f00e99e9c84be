/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_COMPAT_H
#define DYNVHOST_COMPAT_H

/**
 * @file
 * All differences between the DPDK versions this driver builds with.
 */

#include <pthread.h>

#include <rte_lcore.h>
#include <rte_telemetry.h>
#include <rte_thread.h>
#include <rte_version.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or newer is needed"
#endif

/** What the function of a thread returns, always 0: nobody asks for it. */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define DYNVHOST_THREAD_RESULT uint32_t
#else
#define DYNVHOST_THREAD_RESULT void *
#endif

/** Create a thread that stays off the lcores. @return 0 or a negative errno value. */
static inline int
dynvhost_control_thread_create(
	pthread_t *thread, const char *name, DYNVHOST_THREAD_RESULT (*run)(void *), void *arg)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
	rte_thread_t id;
	int rc = rte_thread_create_control(&id, name, run, arg);

	if (rc == 0)
		*thread = (pthread_t)id.opaque_id;
	return rc;
#else
	return rte_ctrl_thread_create(thread, name, NULL, run, arg);
#endif
}

/** Add an unsigned number to a telemetry dictionary. */
static inline int
dynvhost_tel_add_uint(struct rte_tel_data *data, const char *name, uint64_t value)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
	return rte_tel_data_add_dict_uint(data, name, value);
#else
	return rte_tel_data_add_dict_u64(data, name, value);
#endif
}

/** The operation that lists packet types: newer releases are told how many, older look for the end. */
#if RTE_VERSION >= RTE_VERSION_NUM(24, 3, 0, 0)
#define DYNVHOST_PTYPES_PARAMS struct rte_eth_dev *eth_dev, size_t *n_ptypes
#define DYNVHOST_PTYPES_SAY(n) (*n_ptypes = (n))
#else
#define DYNVHOST_PTYPES_PARAMS struct rte_eth_dev *eth_dev
#define DYNVHOST_PTYPES_SAY(n) RTE_SET_USED(n)
#endif

#endif /* DYNVHOST_COMPAT_H */
