/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * The test doubles against each other: a ring is read by a device that knows the specification's
 * offsets and nothing of split_ring.h or packed_ring.h, and the front-end talks to a socket whose
 * other end is looked at byte by byte.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "exposure.h"
#include "front_end.h"
#include "guest_ram.h"
#include "mock.h"
#include "packed_ring.h"
#include "packet.h"
#include "split_ring.h"

#define RING_SIZE 8

static uint16_t
read_u16(const struct guest_ram *ram, uint64_t gpa)
{
	uint16_t value;

	guest_ram_read(ram, gpa, &value, sizeof(value));
	return value;
}

static uint32_t
read_u32(const struct guest_ram *ram, uint64_t gpa)
{
	uint32_t value;

	guest_ram_read(ram, gpa, &value, sizeof(value));
	return value;
}

static uint64_t
read_u64(const struct guest_ram *ram, uint64_t gpa)
{
	uint64_t value;

	guest_ram_read(ram, gpa, &value, sizeof(value));
	return value;
}

/* What a device does to return head @p id: virtio 1.2 §2.7.8, by offsets. */
static void
device_return(struct guest_ram *ram, uint64_t used_gpa, uint32_t id, uint32_t len)
{
	uint16_t idx = read_u16(ram, used_gpa + 2);
	uint64_t element = used_gpa + 4 + 8ull * (idx % RING_SIZE);

	guest_ram_write(ram, element, &id, 4);
	guest_ram_write(ram, element + 4, &len, 4);
	idx++;
	guest_ram_write(ram, used_gpa + 2, &idx, 2);
}

static void
test_region_border_is_crossed_by_copies(void **state)
{
	struct guest_ram ram;
	uint8_t data[64];
	uint8_t back[64];

	guest_ram_init(&ram);
	guest_ram_add_file(&ram, 0x10000, GUEST_RAM_PAGE);
	guest_ram_add_file(&ram, 0x10000, GUEST_RAM_PAGE);
	guest_ram_add_region(&ram, 0, 0x3000, 0x1000, 0x1000, 0);
	guest_ram_add_region(&ram, 1, 0x5000, 0x2000, 0x1000, 0);
	packet_fill(data, sizeof(data), 7);

	guest_ram_write(&ram, 0x2000 - 30, data, sizeof(data));
	guest_ram_read(&ram, 0x2000 - 30, back, sizeof(back));
	assert_memory_equal(back, data, sizeof(data));
	assert_memory_equal(ram.file[0].base + 0x4000 - 30, data, 30);
	assert_memory_equal(ram.file[1].base + 0x5000, data + 30, 34);
	assert_null(guest_ram_find(&ram, 0x1fff, 2));
	assert_null(guest_ram_find(&ram, 0x3000, 1));
	assert_int_equal(guest_ram_uva(&ram, 0x2004), GUEST_RAM_UVA_BASE + 0x2004);
	guest_ram_fini(&ram);
}

static void
test_ring_is_laid_out_as_specified(void **state)
{
	const struct ring_piece piece[2] = {{0x8000, 100, false}, {0x9000, 200, true}};
	struct guest_ram ram;
	struct split_ring ring;
	struct ring_used used;
	uint16_t head;
	uint16_t next;

	guest_ram_init_plain(&ram, 0x10000);
	split_ring_init(&ring, &ram, RING_SIZE, 0x1000, 0x2000, 0x3000, 65535);
	head = (uint16_t)split_ring_add(&ring, piece, 2);
	assert_int_equal(read_u16(&ram, 0x2002), 65535);
	split_ring_publish(&ring);

	/* avail.idx has wrapped; the slot is 65535 % 8. */
	assert_int_equal(read_u16(&ram, 0x2002), 0);
	assert_int_equal(read_u16(&ram, 0x2004 + 2 * 7), head);
	assert_int_equal(read_u64(&ram, 0x1000 + 16 * head), 0x8000);
	assert_int_equal(read_u32(&ram, 0x1008 + 16 * head), 100);
	assert_int_equal(read_u16(&ram, 0x100c + 16 * head), 1);
	next = read_u16(&ram, 0x100e + 16 * head);
	assert_int_equal(read_u64(&ram, 0x1000 + 16 * next), 0x9000);
	assert_int_equal(read_u32(&ram, 0x1008 + 16 * next), 200);
	assert_int_equal(read_u16(&ram, 0x100c + 16 * next), 2);

	assert_false(split_ring_collect(&ring, &used));
	device_return(&ram, 0x3000, head, 200);
	assert_true(split_ring_collect(&ring, &used));
	assert_int_equal(used.id, head);
	assert_int_equal(used.len, 200);
	assert_int_equal(ring.n_free, RING_SIZE);
	assert_false(split_ring_collect(&ring, &used));

	split_ring_set_used_event(&ring, 0xbeef);
	assert_int_equal(read_u16(&ram, 0x2004 + 2 * RING_SIZE), 0xbeef);
	split_ring_fini(&ring);
	guest_ram_fini(&ram);
}

static void
test_ring_takes_all_descriptors_and_no_more(void **state)
{
	const struct ring_piece piece[3] = {
		{0x8000, 1, false}, {0x9000, 2, false}, {0xa000, 3, false}};
	struct guest_ram ram;
	struct split_ring ring;
	struct ring_used used;
	int first;
	int second;

	guest_ram_init_plain(&ram, 0x10000);
	split_ring_init_alloc(&ring, &ram, 0, RING_SIZE, 10);
	first = split_ring_add(&ring, piece, 3);
	second = split_ring_add(&ring, piece, 3);
	assert_true(first >= 0 && second >= 0);
	assert_int_equal(split_ring_add(&ring, piece, 3), -1);
	assert_true(split_ring_add(&ring, piece, 2) >= 0);
	assert_int_equal(ring.n_free, 0);
	assert_int_equal(split_ring_peek(&ring, 0), UINT16_MAX);

	device_return(&ram, ring.used_gpa, (uint32_t)second, 0);
	assert_true(split_ring_collect(&ring, &used));
	assert_int_equal(ring.n_free, 3);
	assert_int_equal(split_ring_peek(&ring, 0), second);
	split_ring_fini(&ring);
	guest_ram_fini(&ram);
}

static void
test_ring_mixes_direct_and_indirect(void **state)
{
	const struct ring_piece piece[3] = {
		{0x8000, 10, false}, {0x9000, 20, false}, {0xa000, 30, true}};
	struct guest_ram ram;
	struct split_ring ring;
	uint16_t head;
	uint16_t next;

	guest_ram_init_plain(&ram, 0x10000);
	split_ring_init(&ring, &ram, RING_SIZE, 0x1000, 0x2000, 0x3000, 0);
	head = (uint16_t)split_ring_add_mixed(&ring, piece, 1, 3, 0x4000);
	assert_int_equal(read_u16(&ram, 0x100c + 16 * head), 1);
	next = read_u16(&ram, 0x100e + 16 * head);
	assert_int_equal(read_u64(&ram, 0x1000 + 16 * next), 0x4000);
	assert_int_equal(read_u32(&ram, 0x1008 + 16 * next), 32);
	assert_int_equal(read_u16(&ram, 0x100c + 16 * next), 4);
	assert_int_equal(read_u64(&ram, 0x4000), 0x9000);
	assert_int_equal(read_u16(&ram, 0x400c), 1);
	assert_int_equal(read_u16(&ram, 0x400e), 1);
	assert_int_equal(read_u64(&ram, 0x4010), 0xa000);
	assert_int_equal(read_u16(&ram, 0x401c), 2);
	split_ring_fini(&ring);
	guest_ram_fini(&ram);
}

/* What a device does to return a buffer by slot @p slot: virtio 1.2 §2.8.6, by offsets. */
static void
packed_device_return(struct guest_ram *ram, uint16_t slot, uint16_t id, uint32_t len, bool wrap)
{
	uint16_t flags = wrap ? 0x8080 : 0;

	if (len > 0)
		flags |= 2;
	guest_ram_write(ram, 0x1008 + 16 * slot, &len, 4);
	guest_ram_write(ram, 0x100c + 16 * slot, &id, 2);
	guest_ram_write(ram, 0x100e + 16 * slot, &flags, 2);
}

static void
test_packed_ring_is_laid_out_as_specified(void **state)
{
	const struct ring_piece piece[2] = {{0x8000, 100, false}, {0x9000, 200, true}};
	struct guest_ram ram;
	struct packed_ring ring;
	struct ring_used used;
	uint16_t id[2];

	guest_ram_init_plain(&ram, 0x10000);
	packed_ring_init(&ring, &ram, 3, 0x1000, 0x2000, 0x3000, 0x8001);
	id[0] = (uint16_t)packed_ring_add(&ring, piece, 2);
	id[1] = (uint16_t)packed_ring_add(&ring, piece + 1, 1);
	assert_int_equal(packed_ring_add(&ring, piece, 1), -1);

	/* The head of the first one is not available yet; the others lie as they will. */
	assert_int_equal(read_u16(&ram, 0x101e), 0);
	packed_ring_publish(&ring);
	assert_int_equal(read_u64(&ram, 0x1010), 0x8000);
	assert_int_equal(read_u32(&ram, 0x1018), 100);
	assert_int_equal(read_u16(&ram, 0x101e), 0x0081);
	assert_int_equal(read_u64(&ram, 0x1020), 0x9000);
	assert_int_equal(read_u32(&ram, 0x1028), 200);
	assert_int_equal(read_u16(&ram, 0x102c), id[0]);
	assert_int_equal(read_u16(&ram, 0x102e), 0x0082);
	/* The ring has wrapped. */
	assert_int_equal(read_u16(&ram, 0x100c), id[1]);
	assert_int_equal(read_u16(&ram, 0x100e), 0x8002);

	assert_false(packed_ring_collect(&ring, &used));
	packed_device_return(&ram, 1, id[0], 0, true);
	assert_true(packed_ring_collect(&ring, &used));
	assert_int_equal(used.id, id[0]);
	assert_int_equal(used.len, 0);
	assert_int_equal(ring.n_free, 2);
	assert_false(packed_ring_collect(&ring, &used));
	packed_device_return(&ram, 0, id[1], 200, false);
	assert_true(packed_ring_collect(&ring, &used));
	assert_int_equal(used.id, id[1]);
	assert_int_equal(used.len, 200);
	assert_int_equal(ring.used_pos, 0x0001);
	assert_int_equal(ring.used_pos, ring.avail_pos);
	assert_int_equal(ring.n_free, 3);

	packed_ring_set_used_event(&ring, 0x8002);
	assert_int_equal(read_u32(&ram, 0x2000), 0x00028002);
	packed_ring_suppress_calls(&ring, true);
	assert_int_equal(read_u16(&ram, 0x2002), 1);
	packed_ring_fini(&ring);
	guest_ram_fini(&ram);
}

static void
test_packed_ring_takes_batches_in_order(void **state)
{
	const struct ring_piece piece[2] = {{0x8000, 100, false}, {0x9000, 200, true}};
	struct guest_ram ram;
	struct packed_ring ring;
	struct ring_used used;
	uint16_t id[4];
	unsigned int i;

	guest_ram_init_plain(&ram, 0x10000);
	packed_ring_init(&ring, &ram, 6, 0x1000, 0x2000, 0x3000, 0x8002);
	ring.in_order = true;
	for (i = 0; i < 4; i++)
		id[i] = (uint16_t)packed_ring_add(&ring, piece, i == 1 ? 2 : 1);
	packed_ring_publish(&ring);

	/* At the first slot, the id of the third buffer; what lies between is as it was. */
	packed_device_return(&ram, 2, id[2], 70, true);
	assert_int_equal(packed_ring_device_pos(&ring), 0x0000);
	for (i = 0; i < 3; i++) {
		assert_true(packed_ring_has_used(&ring));
		assert_true(packed_ring_collect(&ring, &used));
		assert_int_equal(used.id, id[i]);
		assert_int_equal(used.len, i == 2 ? 70 : 0);
		assert_int_equal(packed_ring_device_pos(&ring), 0x0000);
	}
	assert_false(packed_ring_has_used(&ring));
	assert_false(packed_ring_collect(&ring, &used));
	assert_int_equal(ring.used_pos, 0x0000);
	assert_int_equal(ring.n_free, 5);
	packed_device_return(&ram, 0, id[3], 0, false);
	assert_int_equal(packed_ring_device_pos(&ring), 0x0001);
	assert_true(packed_ring_collect(&ring, &used));
	assert_int_equal(used.id, id[3]);
	assert_int_equal(ring.n_free, 6);
	packed_ring_fini(&ring);
	guest_ram_fini(&ram);
}

static void
test_packed_ring_writes_tables(void **state)
{
	const struct ring_piece piece[3] = {
		{0x8000, 10, false}, {0x9000, 20, false}, {0xa000, 30, true}};
	struct guest_ram ram;
	struct packed_ring ring;

	guest_ram_init_plain(&ram, 0x10000);
	packed_ring_init(&ring, &ram, RING_SIZE, 0x1000, 0x2000, 0x3000, PACKED_RING_START);
	packed_ring_add_indirect(&ring, piece, 3, 0x4000);
	packed_ring_publish(&ring);
	assert_int_equal(read_u64(&ram, 0x1000), 0x4000);
	assert_int_equal(read_u32(&ram, 0x1008), 48);
	assert_int_equal(read_u16(&ram, 0x100e), 0x0084);
	assert_int_equal(read_u64(&ram, 0x4010), 0x9000);
	assert_int_equal(read_u32(&ram, 0x4018), 20);
	assert_int_equal(read_u32(&ram, 0x401c), 0);
	assert_int_equal(read_u16(&ram, 0x402e), 2);
	packed_ring_fini(&ring);
	guest_ram_fini(&ram);
}

static void
test_packed_ring_steps_over_its_end(void **state)
{
	assert_int_equal(packed_ring_step(3, 0x8000, 2), 0x8002);
	assert_int_equal(packed_ring_step(3, 0x8002, 1), 0x0000);
	assert_int_equal(packed_ring_step(3, 0x0001, 2), 0x8000);
	assert_int_equal(packed_ring_step(3, 0x8001, 3 * 7 + 1), 0x0002);
	assert_int_equal(packed_ring_step(1, 0x8000, 1), 0x0000);
	assert_int_equal(packed_ring_step(32768, 0xffff, 1), 0x0000);
}

static void
test_front_end_sends_header_payload_and_fds(void **state)
{
	struct front_end fe;
	char control[CMSG_SPACE(sizeof(int))];
	uint8_t bytes[64];
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	const uint32_t wire[5] = {12, 1, 8, 3, 0};
	int pair[2];
	int fd;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fe_attach(&fe, pair[0]);
	fe_set_vring_kick(&fe, 3, pair[0], FE_SEND);
	assert_int_equal(recvmsg(pair[1], &msg, 0), sizeof(wire));
	assert_memory_equal(bytes, wire, sizeof(wire));
	assert_non_null(CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	close(fd);

	fe_set_vring_kick(&fe, 3, -1, FE_SEND_NR);
	assert_int_equal(recv(pair[1], bytes, sizeof(bytes), 0), sizeof(wire));
	assert_memory_equal(bytes, ((const uint32_t[]){12, 9, 8, 0x103, 0}), sizeof(wire));
	fe_close(&fe);
	close(pair[1]);
}

static void
test_front_end_judges_answers(void **state)
{
	const uint32_t answer[5] = {1, 5, 8, 0x40000000, 1};
	struct front_end fe;
	struct fe_reply reply;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fe_attach(&fe, pair[0]);
	assert_int_equal(write(pair[1], answer, sizeof(answer)), sizeof(answer));
	assert_int_equal(fe_get_features(&fe), 0x140000000ull);
	fe_expect_silence(&fe, 5);
	assert_int_equal(fe_try_recv(&fe, &reply, 5), -ETIMEDOUT);
	close(pair[1]);
	fe_expect_closed(&fe);
	assert_int_equal(fe.sock, -1);
}

static void
test_exposure_counts_what_others_map(void **state)
{
	struct guest_ram ram;
	struct exposure exposure;
	void *map;

	guest_ram_init_plain(&ram, 0x10000);
	exposure_read(&ram, &exposure);
	assert_int_equal(exposure.mapped, 0);
	map = mmap(NULL, 0x3000, PROT_READ, MAP_SHARED, ram.file[0].fd, 0);
	assert_true(map != MAP_FAILED);
	exposure_read(&ram, &exposure);
	assert_int_equal(exposure.mapped, 0x3000);
	assert_int_equal(exposure.loadable, 0x3000);
	assert_int_equal(exposure.storable, 0);
	assert_int_equal(mprotect(map, 0x1000, PROT_READ | PROT_WRITE), 0);
	exposure_read(&ram, &exposure);
	assert_int_equal(exposure.loadable, 0x3000);
	assert_int_equal(exposure.storable, 0x1000);
	munmap(map, 0x3000);
	guest_ram_fini(&ram);
}

static void
test_packets_differ_by_one_byte(void **state)
{
	uint8_t data[200];

	packet_fill(data, sizeof(data), 5);
	assert_true(packet_matches(data, sizeof(data), 5));
	assert_false(packet_matches(data, sizeof(data), 6));
	assert_false(packet_matches(data, sizeof(data) - 1, 5));
	data[199] ^= 1;
	assert_false(packet_matches(data, sizeof(data), 5));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_region_border_is_crossed_by_copies),
		cmocka_unit_test(test_ring_is_laid_out_as_specified),
		cmocka_unit_test(test_ring_takes_all_descriptors_and_no_more),
		cmocka_unit_test(test_ring_mixes_direct_and_indirect),
		cmocka_unit_test(test_packed_ring_is_laid_out_as_specified),
		cmocka_unit_test(test_packed_ring_takes_batches_in_order),
		cmocka_unit_test(test_packed_ring_writes_tables),
		cmocka_unit_test(test_packed_ring_steps_over_its_end),
		cmocka_unit_test(test_front_end_sends_header_payload_and_fds),
		cmocka_unit_test(test_front_end_judges_answers),
		cmocka_unit_test(test_exposure_counts_what_others_map),
		cmocka_unit_test(test_packets_differ_by_one_byte),
	};

	return cmocka_run_group_tests_name("test doubles", tests, NULL, NULL);
}
