/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Device arguments: what each key takes, what it refuses, and in which words. Every good list of
 * arguments is compared as the whole structure that comes of it, every bad one as all that is logged.
 */

#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_common.h>
#include <rte_log.h>

#include "dynvhost_devargs.h"

#define NAME "net_dynvhost7"

/** What iface=/s alone gives. */
static const struct dynvhost_devargs defaults = {
	.iface = "/s",
	.queues = 1,
	.client = false,
	.reconnect_ms = 1000,
	.sock_mode = 0600,
	.sock_group = (gid_t)-1,
	.mrg_rxbuf = true,
	.packed = true,
	.in_order = true,
	.event_idx = true,
	.indirect = true,
	.csum = true,
	.mtu = 0,
	.tx_retries = 0,
	.map_mode = DYNVHOST_MEM_MODE_AUTO,
	.map_granule = 0,
	.map_idle_ms = 1000,
	.map_max = 0,
	.map_require_seal = false,
	.map_dump = false,
};

/** Parse, and hand over all that was logged meanwhile. */
static int
parse(const char *params, struct dynvhost_devargs *args, char *log, size_t log_size)
{
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);
	int rc;

	assert_non_null(stream);
	rte_openlog_stream(stream);
	/* What is not written by the parser must not pass by chance. */
	memset(args, 0xa5, sizeof(*args));
	rc = dynvhost_devargs_parse(NAME, params, args);
	rte_openlog_stream(NULL);
	fclose(stream);
	assert_in_range(length, 0, log_size - 1);
	memcpy(log, text, length + 1);
	free(text);
	return rc;
}

static void
expect(const char *params, const struct dynvhost_devargs *want)
{
	struct dynvhost_devargs args;
	char log[1024];
	int rc = parse(params, &args, log, sizeof(log));

	if (rc != 0)
		fail_msg("\"%s\" is refused: %s", params, log);
	assert_string_equal(log, "");
	assert_string_equal(args.iface, want->iface);
	assert_int_equal(args.queues, want->queues);
	assert_int_equal(args.client, want->client);
	assert_int_equal(args.reconnect_ms, want->reconnect_ms);
	assert_int_equal(args.sock_mode, want->sock_mode);
	assert_int_equal(args.sock_group, want->sock_group);
	assert_int_equal(args.mrg_rxbuf, want->mrg_rxbuf);
	assert_int_equal(args.packed, want->packed);
	assert_int_equal(args.in_order, want->in_order);
	assert_int_equal(args.event_idx, want->event_idx);
	assert_int_equal(args.indirect, want->indirect);
	assert_int_equal(args.iommu_support, want->iommu_support);
	assert_int_equal(args.mtu, want->mtu);
	assert_int_equal(args.tx_retries, want->tx_retries);
	assert_int_equal(args.map_mode, want->map_mode);
	assert_int_equal(args.map_granule, want->map_granule);
	assert_int_equal(args.map_idle_ms, want->map_idle_ms);
	assert_int_equal(args.map_max, want->map_max);
	assert_int_equal(args.map_require_seal, want->map_require_seal);
	assert_int_equal(args.map_dump, want->map_dump);
}

/** @p line without the port's name in front and the newline behind. */
static void
expect_refused(const char *params, const char *line)
{
	struct dynvhost_devargs args;
	char log[1024], want[1024];
	int rc = parse(params, &args, log, sizeof(log));

	if (rc != -EINVAL)
		fail_msg("\"%s\" gives %d", params == NULL ? "NULL" : params, rc);
	snprintf(want, sizeof(want), NAME ": %s\n", line);
	assert_string_equal(log, want);
}

/** Every value must be refused in the words of @p key's range. */
static void
expect_values_refused(
	const char *key, const char *const *value, size_t n_values, const char *allowed)
{
	char params[512], line[512];
	size_t i;

	for (i = 0; i < n_values; i++) {
		snprintf(params, sizeof(params), "iface=/s,%s=%s", key, value[i]);
		snprintf(line, sizeof(line), "%s=%s is refused: it takes %s", key, value[i],
			allowed);
		expect_refused(params, line);
	}
}

#define EXPECT_VALUES_REFUSED(key, values, allowed) \
	expect_values_refused(key, values, RTE_DIM(values), allowed)

static void
test_defaults_hold_for_what_is_left_out(void **state)
{
	expect("iface=/s", &defaults);
}

static void
test_all_keys_are_read_together(void **state)
{
	const struct dynvhost_devargs want = {
		.iface = "/run/vm 1/net.sock",
		.queues = 128,
		.client = true,
		.reconnect_ms = 30000,
		.sock_mode = 0666,
		.sock_group = 0,
		.mrg_rxbuf = false,
		.packed = false,
		.in_order = false,
		.event_idx = false,
		.indirect = false,
		.csum = true,
		.tso = true,
		.linear_buffer = true,
		.ext_buffer = true,
		.legacy_ol_flags = true,
		.iommu_support = true,
		.mtu = 9000,
		.tx_retries = 32,
		.map_mode = DYNVHOST_MEM_MODE_EAGER,
		.map_granule = 2 << 20,
		.map_idle_ms = 250,
		.map_max = 3ull << 30,
		.map_require_seal = true,
		.map_dump = true,
	};

	expect("map-dump=1,map-require-seal=1,map-max=3G,map-idle-ms=250,map-granule=2M,map-mode="
	       "eager,reconnect-ms=30000,client=1,tx-retries=32,mtu=9000,indirect=0,event-idx=0,"
	       "legacy-ol-flags=1,ext-buffer=1,linear-buffer=1,tso=1,csum=1,"
	       "iommu-support=1,"
	       "in-order=0,packed=0,mrg-rxbuf=0,sock-group=root,sock-mode=0666,queues=128,iface=/"
	       "run/vm "
	       "1/net.sock",
		&want);
}

static void
test_iface_is_needed(void **state)
{
	static const char missing[] = "argument \"iface\" is missing: the path of the socket";

	expect_refused(NULL, missing);
	expect_refused("", missing);
	expect_refused("queues=2", missing);
}

static void
test_iface_takes_what_a_socket_address_holds(void **state)
{
	struct dynvhost_devargs want = defaults;
	char params[256], line[512];

	memset(want.iface, 'p', 107);
	want.iface[107] = '\0';
	snprintf(params, sizeof(params), "iface=%s", want.iface);
	expect(params, &want);

	snprintf(params, sizeof(params), "iface=%sp", want.iface);
	snprintf(line, sizeof(line),
		"iface=%sp is refused: it takes a socket path of 1 to 107 characters", want.iface);
	expect_refused(params, line);
	expect_refused(
		"iface=", "iface= is refused: it takes a socket path of 1 to 107 characters");
	expect_refused("iface", "iface= is refused: it takes a socket path of 1 to 107 characters");
}

static void
test_queues_takes_1_to_128(void **state)
{
	static const char *const bad[] = {"", "0", "129", "65536", "65537", "4294967297",
		"18446744073709551616", "18446744073709551617", "99999999999999999999999", "-1",
		"+1", " 1", "1 ", "\t1", "1\n", "0x1", "1x", "1.0", "1e1", "one"};
	struct dynvhost_devargs want = defaults;

	want.queues = 1;
	expect("iface=/s,queues=1", &want);
	expect("iface=/s,queues=001", &want);
	want.queues = 127;
	expect("iface=/s,queues=127", &want);
	want.queues = 128;
	expect("iface=/s,queues=128", &want);
	EXPECT_VALUES_REFUSED("queues", bad, "1 to 128 queue pairs");
}

static void
test_sock_mode_takes_octal_rights(void **state)
{
	static const char *const bad[] = {"", "8", "0689", "1000", "01777", "0o600", "0x1ff", "-1",
		"+600", " 600", "600 ", "rw-", "2000000000000000000000", "1777777777777777777777"};
	struct dynvhost_devargs want = defaults;

	want.sock_mode = 0;
	expect("iface=/s,sock-mode=0", &want);
	want.sock_mode = 0777;
	expect("iface=/s,sock-mode=777", &want);
	expect("iface=/s,sock-mode=0777", &want);
	want.sock_mode = 0660;
	expect("iface=/s,sock-mode=0660", &want);
	EXPECT_VALUES_REFUSED("sock-mode", bad, "octal file rights from 0 to 0777");
}

static void
test_sock_group_takes_a_name(void **state)
{
	static const char *const bad[] = {"", "0", "-1", "no-such-group", "root ", " root", "ROOT"};
	struct dynvhost_devargs want = defaults;
	struct group group, *tty = NULL;
	char room[4096];

	if (getgrnam_r("tty", &group, room, sizeof(room), &tty) == 0 && tty != NULL) {
		want.sock_group = tty->gr_gid;
		expect("iface=/s,sock-group=tty", &want);
	}
	want.sock_group = 0;
	expect("iface=/s,sock-group=root", &want);
	EXPECT_VALUES_REFUSED("sock-group", bad, "the name of a group");
}

static void
test_switches_take_0_and_1(void **state)
{
	static const struct {
		const char *key;
		size_t offset;
	} option[] = {
		{"mrg-rxbuf", offsetof(struct dynvhost_devargs, mrg_rxbuf)},
		{"packed", offsetof(struct dynvhost_devargs, packed)},
		{"in-order", offsetof(struct dynvhost_devargs, in_order)},
		{"event-idx", offsetof(struct dynvhost_devargs, event_idx)},
		{"indirect", offsetof(struct dynvhost_devargs, indirect)},
		{"csum", offsetof(struct dynvhost_devargs, csum)},
		{"tso", offsetof(struct dynvhost_devargs, tso)},
		{"linear-buffer", offsetof(struct dynvhost_devargs, linear_buffer)},
		{"ext-buffer", offsetof(struct dynvhost_devargs, ext_buffer)},
		{"legacy-ol-flags", offsetof(struct dynvhost_devargs, legacy_ol_flags)},
		{"iommu-support", offsetof(struct dynvhost_devargs, iommu_support)},
		{"map-require-seal", offsetof(struct dynvhost_devargs, map_require_seal)},
		{"map-dump", offsetof(struct dynvhost_devargs, map_dump)},
	};
	static const char *const bad[] = {
		"", "2", "-1", "+1", "00", "01", "10", " 1", "1 ", "y", "on", "true", "4294967296"};
	char params[128];
	size_t i;
	int on;

	for (i = 0; i < RTE_DIM(option); i++) {
		for (on = 0; on <= 1; on++) {
			struct dynvhost_devargs want = defaults;

			*(bool *)((char *)&want + option[i].offset) = on != 0;
			snprintf(params, sizeof(params), "iface=/s,%s=%d", option[i].key, on);
			expect(params, &want);
		}
		EXPECT_VALUES_REFUSED(option[i].key, bad, "0 or 1");
	}
}

static void
test_segments_need_partial_checksums(void **state)
{
	static const char refused[] =
		"tso=1 is refused with csum=0: segments come without complete checksums";

	expect_refused("iface=/s,tso=1,csum=0", refused);
	expect_refused("csum=0,tso=1,iface=/s", refused);
}

static void
test_map_mode_takes_names(void **state)
{
	static const struct {
		const char *name;
		enum dynvhost_mem_mode mode;
	} good[] = {
		{"auto", DYNVHOST_MEM_MODE_AUTO},
		{"uffd", DYNVHOST_MEM_MODE_UFFD},
		{"mmap", DYNVHOST_MEM_MODE_MMAP},
		{"eager", DYNVHOST_MEM_MODE_EAGER},
	};
	static const char *const bad[] = {"", "0", "Auto", "uffd ", " mmap", "lazy", "eagerly"};
	char params[128];
	size_t i;

	for (i = 0; i < RTE_DIM(good); i++) {
		struct dynvhost_devargs want = defaults;

		want.map_mode = good[i].mode;
		snprintf(params, sizeof(params), "iface=/s,map-mode=%s", good[i].name);
		expect(params, &want);
	}
	EXPECT_VALUES_REFUSED("map-mode", bad, "auto, uffd, mmap or eager");
}

static void
test_map_granule_takes_powers_of_two_with_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"auto", 0},
		{"4K", 4 << 10},
		{"4k", 4 << 10},
		{"004K", 4 << 10},
		{"64K", 64 << 10},
		{"1024K", 1 << 20},
		{"1M", 1 << 20},
		{"2m", 2 << 20},
		{"512M", 512 << 20},
		{"1024M", 1 << 30},
		{"1048576K", 1 << 30},
		{"4096", 4 << 10},
		{"1073741824", 1 << 30},
		{"1G", 1 << 30},
		{"1g", 1 << 30},
	};
	static const char *const bad[] = {"", "0", "4", "K", "0K", "1K", "2K", "3K", "5K", "4095",
		"2147483648", "48K", "3M", "2G", "2048M", "2097152K", "1T", "4KB", "4KiB", "4 K",
		" 4K", "4K ", "+4K", "-4K", "0x4K", "4.0K", "AUTO", "auto ", "1048577K",
		"18014398509481988K", "99999999999999999999K"};
	char params[128];
	size_t i;

	for (i = 0; i < RTE_DIM(good); i++) {
		struct dynvhost_devargs want = defaults;

		want.map_granule = good[i].bytes;
		snprintf(params, sizeof(params), "iface=/s,map-granule=%s", good[i].text);
		expect(params, &want);
	}
	EXPECT_VALUES_REFUSED("map-granule", bad, "auto or a power of two from 4K to 1G");
}

static void
test_retries_take_0_to_32(void **state)
{
	static const char *const bad[] = {"", "33", "-1", "0x10", "1 ", "256", "4294967296"};
	struct dynvhost_devargs want = defaults;

	expect("iface=/s,tx-retries=0", &want);
	want.tx_retries = 32;
	expect("iface=/s,tx-retries=32", &want);
	EXPECT_VALUES_REFUSED("tx-retries", bad, "0 to 32");
}

static void
test_mtu_takes_68_to_65535(void **state)
{
	static const char *const bad[] = {"", "0", "67", "65536", "131072", "-1", "1500x", "0x600"};
	struct dynvhost_devargs want = defaults;

	want.mtu = 68;
	expect("iface=/s,mtu=68", &want);
	want.mtu = 65535;
	expect("iface=/s,mtu=65535", &want);
	EXPECT_VALUES_REFUSED("mtu", bad, "68 to 65535 bytes");
}

static void
test_reconnect_ms_takes_up_to_an_hour(void **state)
{
	static const char *const bad[] = {"", "-1", "3600001", "1s", "auto"};
	struct dynvhost_devargs want = defaults;

	want.reconnect_ms = 0;
	expect("iface=/s,reconnect-ms=0", &want);
	want.reconnect_ms = 3600000;
	expect("iface=/s,reconnect-ms=3600000", &want);
	EXPECT_VALUES_REFUSED("reconnect-ms", bad, "0 (one attempt) to 3600000 milliseconds");
}

static void
test_map_idle_ms_takes_up_to_an_hour(void **state)
{
	static const char *const bad[] = {"", "3600001", "-1", "+1", " 1", "1 ", "1s", "1.5",
		"4294967296", "4294967297", "18446744073709551616", "never"};
	struct dynvhost_devargs want = defaults;

	want.map_idle_ms = 0;
	expect("iface=/s,map-idle-ms=0", &want);
	want.map_idle_ms = 1;
	expect("iface=/s,map-idle-ms=1", &want);
	want.map_idle_ms = 3600000;
	expect("iface=/s,map-idle-ms=3600000", &want);
	EXPECT_VALUES_REFUSED("map-idle-ms", bad, "0 (never) to 3600000 milliseconds");
}

static void
test_map_max_takes_bytes_with_and_without_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"0G", 0},
		{"1", 1},
		{"1k", 1 << 10},
		{"3M", 3 << 20},
		{"100G", 100ull << 30},
		{"18446744073709551615", UINT64_MAX},
		{"17179869183G", UINT64_MAX >> 30 << 30},
	};
	static const char *const bad[] = {"", "G", "-1", "+1", " 1G", "1G ", "1 G", "1GB", "1GG",
		"1T", "0x10", "1.5G", "18446744073709551616", "17179869184G", "18014398509481984K",
		"99999999999999999999999999999G"};
	char params[128];
	size_t i;

	for (i = 0; i < RTE_DIM(good); i++) {
		struct dynvhost_devargs want = defaults;

		want.map_max = good[i].bytes;
		snprintf(params, sizeof(params), "iface=/s,map-max=%s", good[i].text);
		expect(params, &want);
	}
	EXPECT_VALUES_REFUSED("map-max", bad, "a number of bytes, with K, M or G, or 0 for no cap");
}

static void
test_unknown_key_is_named(void **state)
{
	static const char *const key[] = {"queue", "Queues", "queues ", "iface2", "map", "x"};
	char params[128], line[768];
	size_t i;

	for (i = 0; i < RTE_DIM(key); i++) {
		snprintf(params, sizeof(params), "iface=/s,%s=1", key[i]);
		snprintf(line, sizeof(line), "unknown argument \"%s\"; known are: %s", key[i],
			DYNVHOST_PARAM_STRING);
		expect_refused(params, line);
	}
}

static void
test_repeated_key_is_named(void **state)
{
	expect_refused("iface=/s,iface=/t", "argument \"iface\" is given more than once");
	expect_refused("iface=/s,queues=2,queues=2", "argument \"queues\" is given more than once");
	expect_refused("iface=/s,mrg-rxbuf=1,mrg-rxbuf=0",
		"argument \"mrg-rxbuf\" is given more than once");
}

static void
test_first_mistake_is_the_one_told(void **state)
{
	expect_refused(
		"queues=0,mrg-rxbuf=2", "queues=0 is refused: it takes 1 to 128 queue pairs");
	expect_refused("mrg-rxbuf=2,queues=0", "mrg-rxbuf=2 is refused: it takes 0 or 1");
}

static void
test_value_may_hold_equals_signs(void **state)
{
	struct dynvhost_devargs want = defaults;

	strcpy(want.iface, "/run/vm=1/port=2=.sock=");
	expect("iface=/run/vm=1/port=2=.sock=", &want);
	want.queues = 2;
	expect("iface=/run/vm=1/port=2=.sock=,queues=2", &want);
	expect_refused(
		"iface=/s,queues=2=3", "queues=2=3 is refused: it takes 1 to 128 queue pairs");
	expect_refused("iface=/s,=", "unknown argument \"\"; known are: " DYNVHOST_PARAM_STRING);
}

static void
test_list_may_be_long_and_have_empty_places(void **state)
{
	struct dynvhost_devargs want = defaults;
	char params[512] = ",,iface=/s";
	size_t i;

	for (i = 0; i < 100; i++)
		strcat(params, ",");
	expect(params, &want);
}

/** How much room the entry of any group takes; 0: as it really is. */
static size_t group_bytes;

int __real_getgrnam_r(
	const char *name, struct group *group, char *room, size_t size, struct group **found);
int __wrap_getgrnam_r(
	const char *name, struct group *group, char *room, size_t size, struct group **found);

int
__wrap_getgrnam_r(
	const char *name, struct group *group, char *room, size_t size, struct group **found)
{
	if (group_bytes == 0)
		return __real_getgrnam_r(name, group, room, size, found);
	*found = NULL;
	if (size < group_bytes)
		return ERANGE;
	group->gr_gid = 777;
	*found = group;
	return 0;
}

static void
test_sock_group_may_have_many_members(void **state)
{
	struct dynvhost_devargs want = defaults;

	want.sock_group = 777;
	group_bytes = 1 << 20;
	expect("iface=/s,sock-group=crowd", &want);
	group_bytes = (size_t)1 << 30;
	expect_refused("iface=/s,sock-group=crowd",
		"sock-group=crowd is refused: it takes the name of a group");
	group_bytes = 0;
}

/** What people read about the arguments names each of them. */
static void
test_parameter_string_names_every_key(void **state)
{
	static const char *const key[] = {"iface", "queues", "sock-mode", "sock-group", "mrg-rxbuf",
		"packed", "in-order", "event-idx", "indirect", "iommu-support", "csum", "tso",
		"linear-buffer", "ext-buffer", "legacy-ol-flags", "mtu", "tx-retries", "map-mode",
		"map-granule", "map-idle-ms", "map-max", "map-require-seal", "map-dump"};
	char word[64];
	size_t i;

	for (i = 0; i < RTE_DIM(key); i++) {
		snprintf(word, sizeof(word), "%s=<", key[i]);
		assert_non_null(strstr(DYNVHOST_PARAM_STRING, word));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_hold_for_what_is_left_out),
		cmocka_unit_test(test_all_keys_are_read_together),
		cmocka_unit_test(test_iface_is_needed),
		cmocka_unit_test(test_iface_takes_what_a_socket_address_holds),
		cmocka_unit_test(test_queues_takes_1_to_128),
		cmocka_unit_test(test_sock_mode_takes_octal_rights),
		cmocka_unit_test(test_sock_group_takes_a_name),
		cmocka_unit_test(test_switches_take_0_and_1),
		cmocka_unit_test(test_segments_need_partial_checksums),
		cmocka_unit_test(test_map_mode_takes_names),
		cmocka_unit_test(test_map_granule_takes_powers_of_two_with_unit),
		cmocka_unit_test(test_reconnect_ms_takes_up_to_an_hour),
		cmocka_unit_test(test_mtu_takes_68_to_65535),
		cmocka_unit_test(test_retries_take_0_to_32),
		cmocka_unit_test(test_map_idle_ms_takes_up_to_an_hour),
		cmocka_unit_test(test_map_max_takes_bytes_with_and_without_unit),
		cmocka_unit_test(test_unknown_key_is_named),
		cmocka_unit_test(test_repeated_key_is_named),
		cmocka_unit_test(test_first_mistake_is_the_one_told),
		cmocka_unit_test(test_value_may_hold_equals_signs),
		cmocka_unit_test(test_list_may_be_long_and_have_empty_places),
		cmocka_unit_test(test_sock_group_may_have_many_members),
		cmocka_unit_test(test_parameter_string_names_every_key),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("unit_drv_devargs", tests, NULL, NULL);
}
