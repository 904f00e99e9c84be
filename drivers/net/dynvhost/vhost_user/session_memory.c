/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The memory table of a session. A new view is built beside the one in force, while traffic runs;
 * it is swapped in while the queues are outside, and the old one is unmapped before the reply.
 *
 * Security model: as session.c; the fields of regions and the files behind them are judged by the
 * guest memory library, whole, before the table in force is touched.
 */

#include <errno.h>
#include <inttypes.h>

#include "../dynvhost_log.h"
#include "session_priv.h"

static void
memory_fill_slot(struct dynvhost_mem_slot *slot, const struct vu_mem_region *region, int fd)
{
	slot->gpa = region->gpa;
	slot->size = region->size;
	slot->uva = region->uva;
	slot->file_offset = region->mmap_offset;
	slot->fd = fd;
}

static int
memory_refuse(struct dynvhost_session *session, int rc)
{
	return session_refuse(session, rc, "%s", dynvhost_mem_why(session->config.mem));
}

static int
check_set_mem_table(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	const struct vu_mem_table *table = &msg->payload.table;
	struct dynvhost_mem_slot slot[VU_MAX_TABLE_REGIONS];
	int rc;

	for (uint32_t i = 0; i < table->n_regions; i++)
		memory_fill_slot(&slot[i], &table->region[i], msg->fd[i]);
	rc = dynvhost_mem_view_build(
		session->config.mem, session->view, slot, table->n_regions, &session->next_view);
	if (rc < 0)
		return memory_refuse(session, rc);
	for (uint32_t i = 0; i < table->n_regions; i++)
		dynvhost_msg_take_fd(msg, i);
	return 0;
}

static int
check_add_mem_reg(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	struct dynvhost_mem_slot slot;
	int rc;

	memory_fill_slot(&slot, &msg->payload.single.region, msg->fd[0]);
	rc = dynvhost_mem_view_add(session->config.mem, session->view, &slot, &session->next_view);
	if (rc < 0)
		return memory_refuse(session, rc);
	dynvhost_msg_take_fd(msg, 0);
	return 0;
}

static int
check_rem_mem_reg(struct dynvhost_session *session, struct dynvhost_msg *msg)
{
	struct dynvhost_mem_slot slot;
	int rc;

	if (session->view == NULL)
		return session_refuse(session, -ENOENT, "there is no guest memory to remove from");
	memory_fill_slot(&slot, &msg->payload.single.region, -1);
	rc = dynvhost_mem_view_remove(
		session->config.mem, session->view, &slot, &session->next_view);
	return rc < 0 ? memory_refuse(session, rc) : 0;
}

/** Put the view that the check has built into force. */
static int
apply_next_view(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	uint64_t bytes = 0;

	session->old_view = session->view;
	session->view = session->next_view;
	session->next_view = NULL;
	for (uint32_t i = 0; i < session->view->n_regions; i++)
		bytes += session->view->region[i]->size;
	DYNVHOST_LOG(mem, DEBUG, session->config.name,
		"guest memory: %u regions, %" PRIu64 " MiB, opened on demand (%s)",
		session->view->n_regions, bytes >> 20,
		dynvhost_mem_engine_name(session->config.mem));
	session_set_iommu_memory(session);
	session_move_rings(session);
	session_start_rings(session);
	return 0;
}

static int
apply_get_max_mem_slots(
	struct dynvhost_session *session, struct dynvhost_msg *msg, struct dynvhost_msg *reply)
{
	session_reply_u64(reply, msg, DYNVHOST_MEM_MAX_REGIONS);
	return 0;
}

const struct session_handler session_memory_handlers[VU_REQUEST_MAX] = {
	[VU_SET_MEM_TABLE] = {check_set_mem_table, apply_next_view, .hold = true},
	[VU_GET_MAX_MEM_SLOTS] = {.apply = apply_get_max_mem_slots},
	[VU_ADD_MEM_REG] = {check_add_mem_reg, apply_next_view, .hold = true},
	[VU_REM_MEM_REG] = {check_rem_mem_reg, apply_next_view, .hold = true},
};
