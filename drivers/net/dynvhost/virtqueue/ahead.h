/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef DYNVHOST_AHEAD_H
#define DYNVHOST_AHEAD_H

/**
 * @file
 * Translations of the chains that come next, wanted before a burst needs them: behind an IOMMU every
 * buffer may be in a page of its own, and asking for one after the other takes as many round trips.
 */

#include <stdint.h>

#include "virtqueue.h"

/**
 * Note as wanted (dynvhost_mem_iotlb_want()) what a started virtqueue behind an IOMMU lacks of its
 * next @p n chains. Looks at each descriptor as at a hint: whether it is good is judged when its turn
 * comes. The queue must be outside. Control.
 */
void dynvhost_vq_look_ahead(struct dynvhost_vq *vq, uint16_t n);

#endif /* DYNVHOST_AHEAD_H */
