/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/* Telemetry: what the commands say of a port in each state of its guest, and what they refuse. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "drv_test.h"
#include "telemetry_text.h"

static void
expect_info(const struct test_port *port, const char *rest)
{
	char want[1024];

	tel_ask_of_port("/dynvhost/info", port->id);
	snprintf(want, sizeof(want), "name=%s\niface=%s\nrole=server\n%s", port->name, port->path,
		rest);
	assert_string_equal(tel_answer, want);
}

static void
test_list_names_the_ports_there_are(void **state)
{
	struct port_config config = {0};
	struct test_port one, two;
	char want[32];

	assert_int_equal(tel_ask("/dynvhost/list", NULL), 0);
	assert_string_equal(tel_answer, "");
	assert_int_equal(port_try_open(&one, &config), 0);
	assert_int_equal(port_try_open(&two, &config), 0);
	assert_int_equal(tel_ask("/dynvhost/list", ""), 0);
	snprintf(want, sizeof(want), "%u\n%u\n", one.id, two.id);
	assert_string_equal(tel_answer, want);
	port_close(&one);
	assert_int_equal(tel_ask("/dynvhost/list", NULL), 0);
	snprintf(want, sizeof(want), "%u\n", two.id);
	assert_string_equal(tel_answer, want);
	port_close(&two);
}

static void
test_port_that_is_none_of_ours_is_refused(void **state)
{
	static const char *const bad[] = {"", "x", "1x", "-1", "31", "32", "99999999999999999999"};
	static const char *const cmd[] = {"/dynvhost/info", "/dynvhost/mem", "/dynvhost/pages",
		"/dynvhost/rings", "/dynvhost/events"};
	struct port_config config = {0};
	struct test_port port;
	size_t i, k;

	assert_int_equal(port_try_open(&port, &config), 0);
	for (k = 0; k < RTE_DIM(cmd); k++) {
		assert_int_equal(tel_ask(cmd[k], NULL), -EINVAL);
		for (i = 0; i < RTE_DIM(bad); i++)
			assert_int_equal(tel_ask(cmd[k], bad[i]), -EINVAL);
	}
	port_close(&port);
}

static void
test_info_says_what_a_port_waits_for(void **state)
{
	struct rig *rig = rig_main();
	char rest[512];

	rig_prepare(rig, NULL);
	fe_barrier(&rig->fe);
	expect_info(&rig->port,
		"link=down\nwaiting_for=SET_FEATURES\nrefused=\nconnected=1\nmtu=1500\nqueue_pairs="
		"1\n"
		"rings_started=0\nrings_enabled=0\nfeatures=0\nprotocol_features=0\n");
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	tel_ask_of_port("/dynvhost/info", rig->port.id);
	assert_string_equal(tel_value_of("waiting_for"), "SET_MEM_TABLE");
	nic_send_memory(&rig->nic);
	tel_ask_of_port("/dynvhost/info", rig->port.id);
	assert_string_equal(tel_value_of("waiting_for"), "ring 0: SET_VRING_NUM");
	nic_set_up_ring(&rig->nic, 0);
	tel_ask_of_port("/dynvhost/info", rig->port.id);
	assert_string_equal(tel_value_of("waiting_for"), "ring 1: SET_VRING_NUM");
	nic_set_up_ring(&rig->nic, 1);
	port_wait_link(&rig->port, true);

	snprintf(rest, sizeof(rest),
		"link=up\nwaiting_for=\nrefused=\nconnected=1\nmtu=1500\nqueue_pairs=1\nrings_"
		"started=2\n"
		"rings_enabled=2\nfeatures=%" PRIu64 "\nprotocol_features=%" PRIu64 "\n",
		rig->nic.features, rig->nic.protocol_features);
	expect_info(&rig->port, rest);
	fe_set_vring_enable(&rig->fe, 1, 0, FE_OK);
	tel_ask_of_port("/dynvhost/info", rig->port.id);
	assert_string_equal(tel_value_of("waiting_for"), "ring 1: SET_VRING_ENABLE");
	assert_string_equal(tel_value_of("link"), "down");
	fe_close(&rig->fe);
	drv_wait(
		(tel_ask_of_port("/dynvhost/info", rig->port.id), tel_number_of("connected")) == 0);
	expect_info(&rig->port,
		"link=down\nwaiting_for=a front-end to connect\nrefused=\nconnected=0\n"
		"mtu=1500\nqueue_pairs=1\nrings_started=0\nrings_enabled=0\n"
		"features=0\nprotocol_features=0\n");
}

static void
test_info_names_both_numbers_when_queues_disagree(void **state)
{
	const struct rig_config config = {.port = {.n_queues = 1}};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	fe_set_vring_enable(&rig->fe, 255, 1, FE_REFUSED);
	tel_ask_of_port("/dynvhost/info", rig->port.id);
	assert_string_equal(tel_value_of("refused"),
		"front-end uses 128 or more queue pairs, port has queues=1: ring 255 is left "
		"unused, give both the same number");
	assert_string_equal(tel_value_of("link"), "up");
}

static void
test_mem_says_what_is_open(void **state)
{
	struct rig *rig = rig_main();
	uint64_t loadable, storable;

	rig_prepare(rig, NULL);
	tel_ask_of_port("/dynvhost/mem", rig->port.id);
	assert_int_equal(tel_number_of("guest_bytes"), 0);
	assert_int_equal(tel_number_of("regions"), 0);
	assert_int_equal(tel_number_of("loadable_bytes"), 0);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 16);
	tel_ask_of_port("/dynvhost/mem", rig->port.id);
	loadable = tel_number_of("loadable_bytes");
	storable = tel_number_of("storable_bytes");
	assert_true(strlen(tel_value_of("engine")) > 0);
	assert_int_equal(tel_number_of("regions"), 1);
	assert_int_equal(tel_number_of("guest_bytes"), RIG_RAM_SIZE);
	assert_in_range(storable, 4096, loadable);
	assert_in_range(loadable, storable, RIG_RAM_SIZE);
	assert_true(tel_number_of("loadable_peak") >= loadable);
	assert_true(tel_number_of("opens") > 0);
	assert_true(tel_number_of("last_open_ns") > 0);
	rig_hang_up(rig);
	drv_wait((tel_ask_of_port("/dynvhost/mem", rig->port.id), tel_number_of("guest_bytes")) ==
		 0);
	assert_int_equal(tel_number_of("loadable_bytes"), 0);
	assert_int_equal(tel_number_of("storable_bytes"), 0);
	assert_int_equal(tel_number_of("pinned_bytes"), 0);
	assert_true(tel_number_of("loadable_peak") >= loadable);
}

/** Pages of a plain guest, each followed by one that stays closed, behind rings and buffers. */
#define SCATTER_GPA   (RIG_RAM_SIZE / 2)
#define SCATTER_PAGES 320
#define SCATTER_STEP  8192

/** What /dynvhost/pages says in all. */
struct listing {
	uint8_t open[DYNVHOST_MEM_WINDOWS][RIG_RAM_SIZE / GUEST_RAM_PAGE];
	uint64_t bytes[DYNVHOST_MEM_WINDOWS];
	uint64_t ring_bytes;
	unsigned int runs;
	unsigned int replies;
};

/** Take in a line of the answer: "0xGPA+0xBYTES r|rw [used] [ring]". */
static void
note_run(struct listing *listing, const char *line)
{
	enum dynvhost_mem_right right;
	uint64_t gpa, bytes, page;
	char rights[3];

	assert_int_equal(sscanf(line, "0x%" SCNx64 "+0x%" SCNx64 " %2s", &gpa, &bytes, rights), 3);
	assert_true(strcmp(rights, "r") == 0 || strcmp(rights, "rw") == 0);
	right = rights[1] == 'w' ? DYNVHOST_MEM_WRITE : DYNVHOST_MEM_READ;
	assert_true(bytes > 0 && gpa < RIG_RAM_SIZE && bytes <= RIG_RAM_SIZE - gpa);
	assert_int_equal((gpa | bytes) % GUEST_RAM_PAGE, 0);
	for (page = gpa / GUEST_RAM_PAGE; page < (gpa + bytes) / GUEST_RAM_PAGE; page++) {
		if (listing->open[right][page]++ != 0)
			fail_msg("listed twice: page %" PRIu64 " of %s", page, rights);
	}
	listing->bytes[right] += bytes;
	listing->ring_bytes += strstr(line, " ring") != NULL ? bytes : 0;
	listing->runs++;
}

/** Ask for page after page until one is empty. */
static void
list_pages(uint16_t port, struct listing *listing)
{
	char params[32];
	char *line, *rest;

	memset(listing, 0, sizeof(*listing));
	while (true) {
		snprintf(params, sizeof(params), "%u,%u", port, listing->replies);
		assert_int_equal(tel_ask("/dynvhost/pages", params), 0);
		if (tel_answer[0] == '\0')
			return;
		listing->replies++;
		for (line = strtok_r(tel_answer, "\n", &rest); line != NULL;
			line = strtok_r(NULL, "\n", &rest))
			note_run(listing, line);
	}
}

/** Have the guest send from, and receive into, pages that lie apart. */
static void
scatter_packets(struct rig *rig)
{
	for (unsigned int i = 0; i < SCATTER_PAGES; i++) {
		const struct ring_piece sent = {SCATTER_GPA + i * SCATTER_STEP, 100};
		const struct ring_piece room = {SCATTER_GPA + i * SCATTER_STEP, 2048};
		const struct rig_chain out = {.piece = &sent, .n = 1};
		const struct rig_chain in = {.piece = &room, .n = 1};

		rig_chain_to_host(rig, 0, &out);
		rig_chain_to_guest(rig, 0, &in, 100);
	}
}

static void
test_pages_lists_what_the_page_tables_show(void **state)
{
	static const char *const options[] = {
		"map-idle-ms=0,map-mode=auto", "map-idle-ms=0,map-mode=mmap"};
	static struct listing listing;
	struct rig *rig = rig_main();
	struct exposure exposure;

	for (unsigned int i = 0; i < RTE_DIM(options); i++) {
		const struct rig_config config = {
			.port = {.devargs = options[i]}, .no_rx_buffers = true};

		rig_open(rig, &config);
		scatter_packets(rig);
		list_pages(rig->port.id, &listing);
		exposure_read(&rig->ram, &exposure);
		assert_int_equal(listing.bytes[DYNVHOST_MEM_WRITE], exposure.storable);
		assert_int_equal(
			listing.bytes[DYNVHOST_MEM_READ] + listing.bytes[DYNVHOST_MEM_WRITE],
			exposure.loadable);
		for (unsigned int k = 0; k < 2 * SCATTER_PAGES; k++) {
			uint64_t page = SCATTER_GPA / GUEST_RAM_PAGE + k;

			assert_int_equal(listing.open[DYNVHOST_MEM_READ][page], k % 2 == 0);
			assert_int_equal(listing.open[DYNVHOST_MEM_WRITE][page], k % 2 == 0);
		}
		assert_true(listing.runs > 512 && listing.replies > 1);
		tel_ask_of_port("/dynvhost/mem", rig->port.id);
		assert_int_equal(listing.ring_bytes, tel_number_of("pinned_bytes"));
		rig_close(rig);
	}
}

static void
test_pages_of_a_port_without_a_guest_are_none(void **state)
{
	static const char *const bad[] = {",", ",x", ",1x", ",-1", ",1,1", " "};
	struct port_config config = {0};
	struct test_port port;
	char params[32];

	assert_int_equal(port_try_open(&port, &config), 0);
	tel_ask_of_port("/dynvhost/pages", port.id);
	assert_string_equal(tel_answer, "");
	snprintf(params, sizeof(params), "%u,99999999999999999999", port.id);
	assert_int_equal(tel_ask("/dynvhost/pages", params), 0);
	assert_string_equal(tel_answer, "");
	for (unsigned int i = 0; i < RTE_DIM(bad); i++) {
		snprintf(params, sizeof(params), "%u%s", port.id, bad[i]);
		assert_int_equal(tel_ask("/dynvhost/pages", params), -EINVAL);
	}
	port_close(&port);
}

static void
test_rings_say_what_they_wait_for(void **state)
{
	const struct rig_config config = {.port = {.n_queues = 1}, .no_rx_buffers = true};
	struct rig *rig = rig_main();

	rig_open(rig, &config);
	rig_to_host(rig, 0, 100);
	fe_get_vring_base(&rig->fe, 0);
	tel_ask_of_port("/dynvhost/rings", rig->port.id);
	assert_string_equal(tel_answer,
		"ring=0\nguest=receives\nsize=256\nformat=split\nstarted=0\nenabled=1\n"
		"waiting_for=SET_VRING_ADDR\nkick_fd=0\ncall_fd=0\nerr_fd=0\npackets=0\n\n"
		"ring=1\nguest=sends\nsize=256\nformat=split\nstarted=1\nenabled=1\n"
		"waiting_for=\nkick_fd=1\ncall_fd=1\nerr_fd=0\npackets=1\n\n");
}

static void
test_rings_come_in_pages(void **state)
{
	struct port_config config = {.n_queues = 40};
	struct test_port port;
	char params[32];
	unsigned int page, first, n;

	assert_int_equal(port_try_open(&port, &config), 0);
	for (page = 0, first = 0; page < 6; page++, first += n) {
		char start[16];
		const char *at = tel_answer;

		snprintf(params, sizeof(params), "%u,%u", port.id, page);
		assert_int_equal(tel_ask("/dynvhost/rings", params), 0);
		for (n = 0; (at = strstr(at, "ring=")) != NULL; n++)
			at++;
		assert_int_equal(n, page == 0 ? 64 : page == 1 ? 16 : 0);
		snprintf(start, sizeof(start), "ring=%u\n", first);
		if (n != 0)
			assert_memory_equal(tel_answer, start, strlen(start));
		assert_true(strlen(tel_answer) < 12000);
	}
	snprintf(params, sizeof(params), "%u,99999999999", port.id);
	assert_int_equal(tel_ask("/dynvhost/rings", params), 0);
	assert_string_equal(tel_answer, "");
	port_close(&port);
}

/** The @p n-th event from the end, without its time. */
static const char *
event_from_end(unsigned int n)
{
	static char text[TEL_MAX_STRING];
	size_t end = strlen(tel_answer);
	size_t start = end;

	do {
		end = start > 0 ? start - 1 : 0;
		for (start = end; start > 0 && tel_answer[start - 1] != '\n'; start--)
			;
	} while (n-- > 0);
	snprintf(text, sizeof(text), "%.*s", (int)(end - start), tel_answer + start);
	return text[0] == '2' && strlen(text) > 24 ? memmove(text, text + 24, strlen(text) - 23)
						   : text;
}

static void
test_events_tell_why_a_link_is_down(void **state)
{
	struct rig *rig = rig_main();

	rig_prepare(rig, NULL);
	fe_barrier(&rig->fe);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_string_equal(event_from_end(0), "waiting for SET_FEATURES");
	assert_string_equal(event_from_end(2), "connected");
	nic_negotiate(&rig->nic);
	fe_set_features(&rig->fe, rig->nic.features, FE_OK);
	fe_set_vring_num(&rig->fe, 1, 77, FE_REFUSED);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_string_equal(event_from_end(0), "waiting for SET_MEM_TABLE");
	assert_string_equal(event_from_end(1),
		"SET_VRING_NUM ring 1, 77: refused: split ring size 77 is not a power of two");
	fe_set_vring_enable(&rig->fe, 2, 1, FE_REFUSED);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_memory_equal(event_from_end(1),
		"SET_VRING_ENABLE ring 2, 1: refused: front-end uses 2 or more queue pairs, port",
		79);
	nic_send_memory(&rig->nic);
	nic_set_up_ring(&rig->nic, 0);
	nic_set_up_ring(&rig->nic, 1);
	port_wait_link(&rig->port, true);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_string_equal(event_from_end(0), "SET_VRING_CALL ring 1: ok");
	assert_string_equal(event_from_end(1), "link up");
	assert_string_equal(event_from_end(2), "SET_VRING_KICK ring 1: ok");
	rig_hang_up(rig);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_string_equal(event_from_end(0), "waiting for a front-end to connect");
	assert_string_equal(event_from_end(1), "link down");
	assert_string_equal(event_from_end(2), "disconnected: it closed the socket");
}

static void
test_events_that_repeat_are_one_and_old_ones_go(void **state)
{
	struct rig *rig = rig_main();
	unsigned int i, lines = 0;

	rig_open(rig, NULL);
	for (i = 0; i < 100; i++)
		fe_set_owner(&rig->fe, FE_OK);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_string_equal(event_from_end(0), "(100 times) SET_OWNER: ok");
	for (i = 0; i < 100; i++)
		fe_set_mtu(&rig->fe, 1000 + i, FE_OK);
	tel_ask_of_port("/dynvhost/events", rig->port.id);
	assert_string_equal(event_from_end(0), "NET_SET_MTU 1099: ok");
	assert_string_equal(event_from_end(63), "NET_SET_MTU 1036: ok");
	for (i = 0; tel_answer[i] != '\0'; i++)
		lines += tel_answer[i] == '\n';
	assert_int_equal(lines, 64);
}

static bool asking_stops;

/** EAL's telemetry thread asks at any moment, also of a port that is about to go. */
static void *
ask_all_the_time(void *arg)
{
	unsigned int i = 0;
	char params[8];

	(void)arg;
	while (!__atomic_load_n(&asking_stops, __ATOMIC_RELAXED)) {
		snprintf(params, sizeof(params), "%u", i++ % 3);
		(void)tel_ask("/dynvhost/list", NULL);
		(void)tel_ask("/dynvhost/info", params);
		(void)tel_ask("/dynvhost/mem", params);
		(void)tel_ask("/dynvhost/pages", params);
		(void)tel_ask("/dynvhost/rings", params);
		(void)tel_ask("/dynvhost/events", params);
	}
	return NULL;
}

static void
test_ports_come_and_go_while_they_are_asked_about(void **state)
{
	struct port_config config = {.n_queues = 2};
	struct test_port port[2];
	pthread_t thread;
	int i;

	asking_stops = false;
	assert_int_equal(pthread_create(&thread, NULL, ask_all_the_time, NULL), 0);
	for (i = 0; i < 20; i++) {
		assert_int_equal(port_try_open(&port[0], &config), 0);
		assert_int_equal(port_try_open(&port[1], &config), 0);
		port_close(&port[0]);
		port_close(&port[1]);
	}
	__atomic_store_n(&asking_stops, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_list_names_the_ports_there_are),
		RIG_TEST(test_port_that_is_none_of_ours_is_refused),
		RIG_TEST(test_info_says_what_a_port_waits_for),
		RIG_TEST(test_info_names_both_numbers_when_queues_disagree),
		RIG_TEST(test_mem_says_what_is_open),
		RIG_TEST(test_pages_lists_what_the_page_tables_show),
		RIG_TEST(test_pages_of_a_port_without_a_guest_are_none),
		RIG_TEST(test_rings_say_what_they_wait_for),
		RIG_TEST(test_rings_come_in_pages),
		RIG_TEST(test_events_tell_why_a_link_is_down),
		RIG_TEST(test_events_that_repeat_are_one_and_old_ones_go),
		RIG_TEST(test_ports_come_and_go_while_they_are_asked_about),
	};

	rig_program("unit_drv_telemetry", 60);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name(
		"unit_drv_telemetry", tests, rig_group_setup, rig_group_teardown);
}
