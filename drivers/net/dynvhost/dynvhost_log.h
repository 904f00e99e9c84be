/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_LOG_H
#define DYNVHOST_LOG_H

/**
 * @file
 * Log lines of the driver: "net_dynvhost0: text". INFO and above are one line per event of a port's
 * life; what a front-end or guest can cause is one line per kind and connection, then counters.
 */

#include <rte_log.h>

extern int dynvhost_logtype_driver; /**< pmd.net.dynvhost */
extern int dynvhost_logtype_proto;  /**< pmd.net.dynvhost.proto */
extern int dynvhost_logtype_mem;    /**< pmd.net.dynvhost.mem */
extern int dynvhost_logtype_data;   /**< pmd.net.dynvhost.data */

#define DYNVHOST_LOG(type, level, port, fmt, ...) \
	rte_log(RTE_LOG_##level, dynvhost_logtype_##type, "%s: " fmt "\n", (port), ##__VA_ARGS__)

#endif /* DYNVHOST_LOG_H */
