/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#include "dynvhost_log.h"

RTE_LOG_REGISTER(dynvhost_logtype_driver, pmd.net.dynvhost, INFO);
RTE_LOG_REGISTER(dynvhost_logtype_proto, pmd.net.dynvhost.proto, INFO);
RTE_LOG_REGISTER(dynvhost_logtype_mem, pmd.net.dynvhost.mem, INFO);
RTE_LOG_REGISTER(dynvhost_logtype_data, pmd.net.dynvhost.data, INFO);
