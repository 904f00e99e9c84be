/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What a session looks like from above: link and ring states, and words for what is missing.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "session_priv.h"

/** A ring that waits for its translation no longer than this serves all the same. */
#define LINK_UNTRANSLATED_US 1000000

static bool
link_ring_is_serving(const struct dynvhost_session *session, uint16_t index)
{
	const struct session_ring *ring = &session->ring[index];
	const struct dynvhost_vq *vq = &session->config.vq[index];

	if (ring->untranslated_us != 0)
		return ring->enabled &&
		       session->now_us - ring->untranslated_us < LINK_UNTRANSLATED_US;
	return dynvhost_vq_is_started(vq) && ring->enabled &&
	       atomic_load_explicit(&vq->fault, memory_order_relaxed) == DYNVHOST_VQ_OK;
}

/** The link is up while some queue pair can both send and receive. */
static bool
link_is_up(const struct dynvhost_session *session)
{
	for (uint16_t i = 0; i + 1 < session->config.n_rings; i += 2) {
		if (link_ring_is_serving(session, i) && link_ring_is_serving(session, i + 1))
			return true;
	}
	return false;
}

static void
link_add_ring_news(struct dynvhost_session *session, uint16_t index, bool enabled)
{
	struct dynvhost_session_news *news = &session->news;

	for (uint16_t i = 0; i < news->n_rings; i++) {
		if (news->ring[i].ring == index) {
			news->ring[i].enabled = enabled;
			return;
		}
	}
	news->ring[news->n_rings].ring = index;
	news->ring[news->n_rings].enabled = enabled;
	news->n_rings++;
}

void
session_update_link(struct dynvhost_session *session)
{
	bool up = link_is_up(session);

	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		bool serving = link_ring_is_serving(session, i);

		if (serving != session->ring[i].reported_enabled) {
			session->ring[i].reported_enabled = serving;
			link_add_ring_news(session, i, serving);
		}
	}
	if (up != session->link_up) {
		session->link_up = up;
		dynvhost_session_note(session, "link %s", up ? "up" : "down");
		session->news.link_changed = true;
		session->news.link_up = up;
	}
}

bool
dynvhost_session_take_news(struct dynvhost_session *session, struct dynvhost_session_news *news)
{
	if (!session->news.link_changed && !session->news.mtu_changed && session->news.n_rings == 0)
		return false;
	*news = session->news;
	session->news.link_changed = false;
	session->news.mtu_changed = false;
	session->news.n_rings = 0;
	return true;
}

static const char *
link_ring_waits_for(const struct dynvhost_session *session, uint16_t index)
{
	const struct session_ring *ring = &session->ring[index];
	enum dynvhost_vq_fault fault;

	fault = atomic_load_explicit(&session->config.vq[index].fault, memory_order_relaxed);
	if (ring->size == 0)
		return "SET_VRING_NUM";
	if (!ring->has_addr)
		return "SET_VRING_ADDR";
	if (!ring->kicked)
		return "SET_VRING_KICK";
	if (!dynvhost_vq_is_started(&session->config.vq[index]))
		return ring->broken ? "a reset of the guest's device, the ring was broken"
				    : session_start_error_text(session, ring->start_error);
	if (fault != DYNVHOST_VQ_OK)
		return dynvhost_vq_fault_text(fault);
	if (!ring->enabled)
		return "SET_VRING_ENABLE";
	return NULL;
}

static void
link_fill_waiting_for(const struct dynvhost_session *session, char *text, size_t size)
{
	text[0] = '\0';
	if (session->link_up)
		return;
	if (!session->connected) {
		snprintf(text, size, "a front-end to connect");
		return;
	}
	if (!session->features_set) {
		snprintf(text, size, "SET_FEATURES");
		return;
	}
	if (session->view == NULL) {
		snprintf(text, size, "SET_MEM_TABLE");
		return;
	}
	for (uint16_t i = 0; i < 2 && i < session->config.n_rings; i++) {
		const char *what = link_ring_waits_for(session, i);

		if (what != NULL) {
			snprintf(text, size, "ring %u: %s", i, what);
			return;
		}
	}
}

void
dynvhost_session_info(const struct dynvhost_session *session, struct dynvhost_session_info *info)
{
	memset(info, 0, sizeof(*info));
	info->connected = session->connected;
	info->link_up = session->link_up;
	info->features = session->features;
	info->protocol_features = session->protocol_features;
	for (uint16_t i = 0; i < session->config.n_rings; i++) {
		info->rings_started += dynvhost_vq_is_started(&session->config.vq[i]);
		info->rings_enabled += link_ring_is_serving(session, i);
	}
	if (session->view != NULL) {
		info->n_regions = session->view->n_regions;
		for (uint32_t i = 0; i < session->view->n_regions; i++)
			info->guest_bytes += session->view->region[i]->size;
	}
	link_fill_waiting_for(session, info->waiting_for, sizeof(info->waiting_for));
	memcpy(info->refused, session->refused, sizeof(info->refused));
}

uint16_t
dynvhost_session_rings(const struct dynvhost_session *session, uint16_t first,
	struct dynvhost_session_ring_info *out, uint16_t max)
{
	uint16_t n = 0;

	for (uint16_t i = first; i < session->config.n_rings && n < max; i++) {
		const struct session_ring *ring = &session->ring[i];
		const struct dynvhost_vq *vq = &session->config.vq[i];
		const char *what = link_ring_waits_for(session, i);

		out[n] = (struct dynvhost_session_ring_info){
			.index = i,
			.size = ring->size,
			.started = dynvhost_vq_is_started(vq),
			.enabled = ring->enabled,
			.packed = (session->features >> VIRTIO_F_RING_PACKED & 1) != 0,
			.has_kick_fd = ring->kick_fd >= 0,
			.has_call_fd = ring->call_fd >= 0,
			.has_err_fd = ring->err_fd >= 0,
		};
		snprintf(out[n].waiting_for, sizeof(out[n].waiting_for), "%s",
			what == NULL ? "" : what);
		n++;
	}
	return n;
}
