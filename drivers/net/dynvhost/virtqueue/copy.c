/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Packets that do not fit an mbuf, for applications that want them in one piece.
 *
 * Security model: only the length is the guest's; it has been judged. The data lies behind the
 * guest's reach in memory of this process.
 */

#include <errno.h>

#include <rte_common.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#include "copy.h"

static void
copy_free_external(__rte_unused void *addr, void *opaque)
{
	rte_free(opaque);
}

/** Give an mbuf a buffer for @p len bytes from the heap. @return 0 or -errno. */
static int
copy_attach_external(struct rte_mbuf *pkt, uint32_t len)
{
	struct rte_mbuf_ext_shared_info *shared;
	uint32_t size = RTE_PKTMBUF_HEADROOM + len;
	uint16_t buf_len;
	void *buf;

	/* The count of users lies aligned behind the data. */
	size = RTE_ALIGN_CEIL(size + sizeof(*shared) + sizeof(uintptr_t), sizeof(uintptr_t));
	if (size > UINT16_MAX)
		return -EMSGSIZE;
	buf_len = (uint16_t)size;
	buf = rte_malloc("dynvhost_ext", size, RTE_CACHE_LINE_SIZE);
	if (buf == NULL)
		return -ENOMEM;
	shared = rte_pktmbuf_ext_shinfo_init_helper(buf, &buf_len, copy_free_external, buf);
	if (shared == NULL) {
		rte_free(buf);
		return -ENOMEM;
	}
	rte_pktmbuf_attach_extbuf(pkt, buf, rte_malloc_virt2iova(buf), buf_len, shared);
	rte_pktmbuf_reset_headroom(pkt);
	return 0;
}

int
copy_make_room(const struct dynvhost_vq *vq, struct rte_mbuf *pkt, uint32_t len)
{
	if (vq->app.ext_buffer && copy_attach_external(pkt, len) == 0)
		return 0;
	return vq->app.linear_buffer ? -EMSGSIZE : 0;
}
