# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Inputs of the targets split and packed, as fuzz_ring.c reads them."""

from struct import pack

# Features and direction.
V1, MRG, EVENT, INDIRECT, IN_ORDER, HOST_OFFLOADS, GUEST_OFFLOADS, SEND = (1 << n for n in range(8))
# Of the second byte, which also chooses the ring's size.
LOG, CALLS = 0x40, 0x80
# Descriptor flags; the last two are bits of packed descriptors.
NEXT, WRITE, TABLE, AVAIL, USED = (1 << n for n in range(5))
# Of the third byte: kinds of CPU.
SSE, AVX2, AVX512 = 0x20, 0x40, 0x60
DIRECT_SHAPE, TABLE_SHAPE, MIXED_SHAPE = range(3)
SMALL_POOL = 0x80
# Where the regions of guest memory meet, and where there is no more of it.
BORDER, SECOND_BORDER, END = 0x4000, 0x8000, 0x10000


def head(features: int, size: int = 3, how: int = 0, app: int = 0, start: int = 0) -> bytes:
    """The bed: features, which of its ring sizes, log and call fd, options of the application."""
    byte = next(byte for byte in range(256) if byte % 6 == size and byte & (LOG | CALLS) == how)
    return pack("<BBBH", features, byte, app, start)


def piece(gpa: int, length: int) -> bytes:
    """A place and a length, which from 32 KiB on goes in steps of four."""
    return pack("<HH", gpa, length if length < 0x8000 else 0x8000 | length // 4)


def dequeue(n: int = 32, pool: int = 0) -> bytes:
    """Receive up to n packets."""
    return pack("<BB", 0, (n - 1) | pool)


def packet(length: int, segments: int = 0x3f, tag: bool = False) -> bytes:
    """A packet; odd: in segments of eight times as many bytes, even: of so many, up to 64."""
    return pack("<HB", length, segments | (0x40 if tag else 0))


def enqueue(*packets: bytes) -> bytes:
    """Send packets, up to four."""
    return pack("<BB", 0, len(packets) - 1) + b"".join(packets)


def add(*pieces: bytes, shape: int = DIRECT_SHAPE, table: int = 0x9000) -> bytes:
    """A buffer as a good driver makes it."""
    where = b"" if shape == DIRECT_SHAPE else pack("<H", table)
    return pack("<BB", 1, shape + 3 * (len(pieces) - 1)) + where + b"".join(pieces)


def desc(i: int, gpa: int, length: int, flags: int = 0, follows: int = 0, number: int = 0) -> bytes:
    """A descriptor of the ring; number is its id, or an entry of the available ring."""
    return pack("<BBB", 2, i, number) + piece(gpa, length) + pack("<BB", flags, follows)


def entry(at: int, gpa: int, length: int, flags: int = 0, follows: int = 0) -> bytes:
    """An entry of a table."""
    return pack("<BH", 3, at) + piece(gpa, length) + pack("<BB", flags, follows)


def available(n: int) -> bytes:
    """The next n chains are available."""
    return pack("<BB", 4, n)


def write(gpa: int, data: bytes) -> bytes:
    """Bytes in guest memory."""
    return pack("<BHB", 5, gpa, len(data)) + data


def field(which: int, value: int) -> bytes:
    """A field of the ring that is no descriptor."""
    return pack("<BBH", 6, which, value)


def wild(i: int, gpa: int, length: int, flags: int = 0, follows: int = 0, number: int = 0) -> bytes:
    """A descriptor of the ring with any numbers."""
    return pack("<BBBQIHH", 7, i, number, gpa, length, flags, follows)


def control(what: int, off: bool = False) -> bytes:
    """0: enable, 1: ask for kicks, 2: announce, 3: share (with off), 4: look for work."""
    return pack("<BB", 8, what + (130 if off else 0))


def restart(base: int | None = None, mtu: int | None = None, disabled: bool = False,
            unmark: bool = False) -> bytes:
    """Stop and start, where it was or at a base."""
    how = (base is not None) | (mtu is not None) << 1 | disabled << 2 | unmark << 3
    return (pack("<BB", 9, how) + (b"" if base is None else pack("<I", base)) +
            (b"" if mtu is None else pack("<H", mtu)))


def elsewhere(size: int | None = None, desc_gpa: int | None = None, avail_gpa: int | None = None,
              used_gpa: int | None = None) -> bytes:
    """Set the ring up with another size, or in other places."""
    values = (size, desc_gpa, avail_gpa, used_gpa)
    how = sum((value is not None) << n for n, value in enumerate(values))
    return pack("<BB", 10, how) + b"".join(pack("<H", v) for v in values if v is not None)


def reset(start: int = 0) -> bytes:
    """A new ring in the first place."""
    return pack("<BH", 11, start)


def hinder(page: int, writing: bool = False) -> bytes:
    """A page cannot be opened, or can be again."""
    return pack("<BB", 12, page | (0x40 if writing else 0))


def wait() -> bytes:
    """Time passes for a chain whose memory does not open."""
    return pack("<BB", 12, 0x80)



def fill(gpa: int, length: int, flags: int, stride: int = 0) -> bytes:
    """All descriptors of the ring, each so many bytes behind the last one."""
    return pack("<BB", 13, stride) + piece(gpa, length) + pack("<BB", flags, 0)


def table(at: int, eights: int, gpa: int, length: int, flags: int, stride: int = 0) -> bytes:
    """Eight times as many entries of a table."""
    return pack("<BHBB", 14, at, eights, stride) + piece(gpa, length) + pack("<BB", flags, 0)


# A frame to TCP port 80 whose checksum is to be completed, behind a virtio header that says so.
HEADER_CSUM = pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0)
HEADER_TSO = pack("<BBHHHHH", 1, 1, 54, 100, 34, 16, 0)
TCP_FRAME = (bytes.fromhex("020000000002" "020000000001" "0800") +
             bytes.fromhex("45000100" "00004000" "4006" "0000" "0a000001" "0a000002") +
             bytes.fromhex("3039" "0050" "00000001" "00000002" "5010" "2000" "0000" "0000"))

RECEIVING = {
    "frame": head(V1) + add(piece(0x5000, 72)) + dequeue(),
    "frames_in_a_row": head(V1) + b"".join(
        add(piece(0x5000 + 128 * n, 80 + n)) for n in range(12)) + dequeue(),
    "frames_in_a_row_sse": head(V1, app=SSE) + b"".join(
        add(piece(0x5000 + 128 * n, 80 + n)) for n in range(12)) + dequeue(),
    "frames_in_a_row_avx512": head(V1, app=AVX512) + b"".join(
        add(piece(0x5000 + 512 * n, 80 + 30 * n)) for n in range(12)) + dequeue(),
    "frame_of_no_bytes": head(V1) + add(piece(0x5000, 0)) + dequeue(),
    "frame_too_short": head(V1) + add(piece(0x5000, 20)) + dequeue(),
    "frame_too_long": head(V1) + add(piece(0, 0xffff), piece(0, 0xffff)) + dequeue(),
    "frame_in_pieces": head(V1) + add(*(piece(0x5000 + 64 * n, 20) for n in range(9))) + dequeue(),
    "frame_over_a_border": head(V1) + add(piece(BORDER - 40, 100)) +
    add(piece(SECOND_BORDER - 1, 64)) + dequeue(),
    "frame_at_the_end": head(V1) + add(piece(END - 100, 100)) + dequeue(),
    "frame_beyond_the_end": head(V1) + add(piece(END - 100, 101)) + dequeue(),
    "frame_of_many_mbufs": head(V1) + add(piece(0x5000, 3000)) + dequeue(pool=SMALL_POOL),
    "mbufs_run_out": head(V1, size=4) + b"".join(
        add(piece(0x2000, 0xc000)) for n in range(8)) + dequeue(pool=SMALL_POOL),
    "linear_buffer": head(V1, app=2) + add(piece(0x5000, 9000)) + dequeue(),
    "external_buffer": head(V1, app=6) + add(piece(0x5000, 9000)) + dequeue(),
    "table": head(V1 | INDIRECT) + add(
        piece(0x5000, 12), piece(0x5100, 60), shape=TABLE_SHAPE) + dequeue(),
    "table_over_a_border": head(V1 | INDIRECT) + add(
        piece(0x5000, 12), piece(0x5100, 60), shape=TABLE_SHAPE, table=SECOND_BORDER - 8) +
    dequeue(),
    "table_behind_a_descriptor": head(V1 | INDIRECT) + add(
        piece(0x5000, 12), piece(0x5100, 60), piece(0x5200, 9), shape=MIXED_SHAPE) + dequeue(),
    "table_over_the_ring": head(V1 | INDIRECT) + add(piece(0x5000, 500)) +
    desc(1, 0, 16, TABLE | AVAIL, number=1) + available(1) + dequeue(),
    "table_not_negotiated": head(V1) + add(
        piece(0x5000, 12), piece(0x5100, 60), shape=TABLE_SHAPE) + dequeue(),
    "table_in_a_table": head(V1 | INDIRECT) + entry(0x9000, 0x9100, 32, TABLE) +
    desc(0, 0x9000, 16, TABLE | AVAIL) + available(1) + dequeue(),
    "table_of_no_length": head(V1 | INDIRECT) + desc(0, 0x9000, 0, TABLE | AVAIL) +
    available(1) + dequeue(),
    "table_of_odd_length": head(V1 | INDIRECT) + desc(0, 0x9000, 17, TABLE | AVAIL) +
    available(1) + dequeue(),
    "table_that_loops": head(V1 | INDIRECT) + entry(0x9000, 0x5000, 8, NEXT, 0) +
    entry(0x9010, 0x5000, 8, NEXT, 0) + desc(0, 0x9000, 32, TABLE | AVAIL) + available(1) +
    dequeue(),
    "table_of_a_thousand": head(V1 | INDIRECT) + table(0x8000, 127, 0x5000, 8, NEXT) +
    desc(0, 0x8000, 16 * 1016, TABLE | AVAIL) + available(1) + dequeue(),
    "table_of_too_many": head(V1 | INDIRECT) + table(0x8000, 130, 0x5000, 8, NEXT) +
    desc(0, 0x8000, 16 * 1040, TABLE | AVAIL) + available(1) + dequeue(),
    "chain_of_too_many": head(V1 | INDIRECT, size=5) + table(0x8000, 128, 0x5000, 8, NEXT) +
    entry(0x8000 + 1023 * 16, 0x5000, 8) + fill(0x5000, 8, NEXT | AVAIL, 1) +
    desc(9, 0x8000, 16 * 1024, TABLE | AVAIL) + available(10) + dequeue(),
    "chain_of_too_many_hops": head(V1 | INDIRECT, size=5) + table(0x8000, 128, 0x5000, 8, NEXT) +
    entry(0x8000 + 1023 * 16, 0x5000, 8) + fill(0x5000, 0, NEXT | AVAIL, 1) +
    desc(9, 0x8000, 16 * 1024, TABLE | AVAIL) + available(10) + dequeue(),
    "chain_of_pieces_over_borders": head(V1 | INDIRECT) +
    table(0x9000, 127, BORDER - 4, 8, NEXT) + entry(0x9000 + 1015 * 16, BORDER - 4, 8) +
    desc(0, 0x9000, 16 * 1016, TABLE | AVAIL) + available(1) + dequeue(),
    "chain_through_all_of_the_ring": head(V1) + fill(0x5000, 8, NEXT | AVAIL, 8) +
    desc(15, 0x5000, 8, AVAIL) + available(16) + dequeue(1),
    "table_that_leads_out_of_itself": head(V1 | INDIRECT) + entry(0x9000, 0x5000, 32, NEXT, 9) +
    entry(0x9090, 0x5100, 32) + desc(0, 0x9000, 16 * 4, TABLE | AVAIL) + available(1) + dequeue(),
    "chain_that_loops": head(V1, size=1) + desc(0, 0x5000, 8, NEXT | AVAIL, 1) +
    desc(1, 0x5000, 8, NEXT | AVAIL, 0) + available(2) + dequeue(),
    "chain_to_a_descriptor_out_of_the_ring": head(V1) + desc(0, 0x5000, 8, NEXT | AVAIL, 200) +
    available(1) + dequeue(),
    "chain_that_turns_writable": head(V1) + desc(0, 0x5000, 60, NEXT, 1) +
    desc(1, 0x5100, 60, WRITE) + available(2) + dequeue(),
    "head_out_of_the_ring": head(V1) + desc(0, 0x5000, 60, number=200) + available(1) + dequeue(),
    "index_runs_ahead": head(V1) + add(piece(0x5000, 72)) + available(17) + dequeue() +
    field(4, 30000) + dequeue(),
    "index_goes_back": head(V1, start=5) + add(piece(0x5000, 72)) + dequeue() + field(4, 3) +
    dequeue(),
    "indices_wrap": head(V1, start=65534) + b"".join(
        add(piece(0x5000 + 128 * n, 80)) for n in range(6)) + dequeue(4) + dequeue(),
    "wild_address": head(V1) + wild(0, 0xfffffffffffffff0, 64, 0x80) + available(1) + dequeue() +
    restart(unmark=True) + wild(0, 1 << 40, 0xffffffff, 0x80) + available(1) + dequeue(),
    "wild_length": head(V1) + wild(0, 0x5000, 0xffffffff, 0x80) + available(1) + dequeue(),
    "device_is_to_write_what_it_reads": head(V1) + desc(0, 0x5000, 60, WRITE | AVAIL) +
    available(1) + dequeue() + restart(),
    "checksum_is_asked_for": head(V1 | HOST_OFFLOADS) + write(0x5000, HEADER_CSUM + TCP_FRAME) +
    add(piece(0x5000, 12 + 256)) + dequeue(),
    "segments_are_asked_for": head(V1 | HOST_OFFLOADS, app=1) +
    write(0x5000, HEADER_TSO + TCP_FRAME) + add(piece(0x5000, 12 + 2000)) + dequeue(),
    "checksum_beyond_the_frame": head(V1 | HOST_OFFLOADS) +
    write(0x5000, pack("<BBHHHHH", 1, 0, 0, 0, 60, 16, 0)) + add(piece(0x5000, 80)) + dequeue(),
    "memory_does_not_open": head(V1) + add(piece(0x5000, 72)) + hinder(5) + dequeue() + wait() +
    dequeue() + hinder(5) + add(piece(0x5000, 72)) + dequeue(),
    "disabled_ring": head(V1, how=LOG) + control(0, off=True) + add(piece(0x5000, 72)) +
    dequeue() + control(0) + add(piece(0x5000, 72)) + dequeue(),
    "announced_guest": head(V1) + control(2) + control(2) + dequeue(1) + dequeue(),
    "kicks": head(V1 | EVENT, how=LOG) + control(1) + control(4) + add(piece(0x5000, 72)) +
    control(4) + dequeue() + control(1, off=True),
    "calls": head(V1, how=CALLS) + add(piece(0x5000, 72)) + dequeue() + field(0, 1) +
    field(1, 1) + add(piece(0x5000, 72)) + dequeue() + add(piece(0x5000, 72)) + dequeue(),
    "calls_by_event": head(V1 | EVENT, how=CALLS) + field(8, 1) + field(1, 2) +
    field(2, 0x8001) + b"".join(add(piece(0x5000, 72)) + dequeue() for n in range(3)),
    "position_after_a_crash": head(V1) + b"".join(
        add(piece(0x5000, 72)) + dequeue() for n in range(3)) + add(piece(0x5000, 72)) +
    restart(base=0x80008000) + dequeue(),
    "position_out_of_the_ring": head(V1) + restart(base=0x7fff7fff, unmark=True) + dequeue(),
    "position_is_rubbish": head(V1) + restart() + write(0, bytes(range(256))[:255]) +
    restart(base=0x80018001) + dequeue(),
    "ring_elsewhere": head(V1) + elsewhere(8, 0x5000, 0x6000, 0x7000) + dequeue() + reset(9) +
    add(piece(0x5000, 72)) + dequeue(),
    "ring_over_a_border": head(V1) + elsewhere(16, BORDER - 64) + dequeue(),
    "ring_of_no_size": head(V1) + elsewhere(0) + elsewhere(32768) + elsewhere(3),
    "ring_misaligned": head(V1) + elsewhere(desc_gpa=0x5001) + elsewhere(used_gpa=0x5001),
    "areas_overlap": head(V1) + elsewhere(16, 0x5000, 0x5000, 0x5000) + available(8) + dequeue(),
}

SENDING = {
    "send": head(V1 | SEND) + add(piece(0x5000, 2000)) + enqueue(packet(60)),
    "send_in_a_row": head(V1 | MRG | SEND, how=CALLS) + b"".join(
        add(piece(0x5000 + 2048 * n, 1526)) for n in range(8)) +
    enqueue(*[packet(60 + n) for n in range(4)]) + enqueue(*[packet(1500) for n in range(4)]),
    "send_in_a_row_sse": head(V1 | MRG | SEND, app=SSE) + b"".join(
        add(piece(0x5000 + 2048 * n, 1526)) for n in range(8)) +
    enqueue(*[packet(60 + n) for n in range(4)]) + enqueue(*[packet(1500) for n in range(4)]),
    "send_in_a_row_avx512": head(V1 | SEND, app=AVX512) + b"".join(
        add(piece(0x5000 + 2048 * n, 1526)) for n in range(8)) +
    enqueue(*[packet(60 + n) for n in range(4)]) + enqueue(*[packet(1500) for n in range(4)]),
    "send_merged": head(V1 | MRG | SEND, how=LOG) + b"".join(
        add(piece(0x5000 + 512 * n, 500)) for n in range(8)) + enqueue(packet(3000)),
    "send_merged_waits": head(V1 | MRG | SEND) + add(piece(0x5000, 500)) +
    enqueue(packet(3000)) + add(piece(0x6000, 4000)) + enqueue(packet(3000)),
    "send_into_pieces": head(SEND | INDIRECT) + add(
        *(piece(0x5000 + 100 * n, 90) for n in range(8)), shape=TABLE_SHAPE) +
    add(*(piece(0x7000 + 100 * n, 90) for n in range(8))) + enqueue(packet(500), packet(600)),
    "send_over_a_border": head(V1 | SEND, how=LOG) + add(piece(SECOND_BORDER - 30, 200)) +
    enqueue(packet(150)),
    "send_to_the_last_byte": head(V1 | SEND) + add(piece(END - 112, 112)) + enqueue(packet(100)),
    "send_beyond_memory": head(V1 | SEND) + add(piece(END - 112, 113)) + enqueue(packet(101)),
    "send_without_room": head(V1 | SEND) + add(piece(0x5000, 100)) + enqueue(packet(100)) +
    add(piece(0x5000, 8)) + enqueue(packet(100)),
    "send_logged": head(V1 | SEND | EVENT, how=LOG | CALLS) + b"".join(
        add(piece(0x5000 + 128 * n, 120)) for n in range(4)) + enqueue(packet(60), packet(61)),
    "send_with_a_tag": head(V1 | SEND | GUEST_OFFLOADS) + add(piece(0x5000, 200)) +
    enqueue(packet(100, 0x3e, tag=True)),
    "send_into_what_it_reads": head(V1 | SEND) + desc(0, 0x5000, 200, AVAIL) + available(1) +
    enqueue(packet(60)),
    "send_into_the_ring_itself": head(V1 | SEND) + add(piece(0, 256)) + add(piece(0, 256)) +
    enqueue(packet(200), packet(200)),
    "send_into_the_used_ring": head(V1 | SEND) + add(piece(0x2000, 64)) + add(piece(0x2000, 64)) +
    enqueue(packet(20), packet(20)),
    "send_into_a_table": head(V1 | SEND | INDIRECT) + add(
        piece(0x9000, 60), piece(0x9010, 60), shape=TABLE_SHAPE) + enqueue(packet(100)),
    "send_with_an_mtu": head(V1 | SEND) + restart(mtu=1500) + add(piece(0x5000, 2000)) +
    enqueue(packet(1700), packet(1500)),
    "send_shared": head(V1 | MRG | SEND) + control(3, off=True) + add(piece(0x5000, 900)) +
    enqueue(packet(60)) + control(3),
    "send_memory_does_not_open": head(V1 | SEND) + add(piece(0x5000, 900)) +
    hinder(5, writing=True) + enqueue(packet(60)) + wait() + enqueue(packet(60)) +
    hinder(5, writing=True),
    "send_longest_frame": head(V1 | MRG | SEND, size=4) + b"".join(
        add(piece(0x4000, 0x4000)) for n in range(6)) + enqueue(packet(65535)),
    "send_table_of_many": head(V1 | MRG | SEND | INDIRECT) + b"".join(
        entry(0x9000 + 16 * n, 0x5000 + 8 * n, 8, WRITE | NEXT, n + 1) for n in range(20)) +
    desc(0, 0x9000, 16 * 20, TABLE | AVAIL) + available(1) + enqueue(packet(60)),
}

INPUTS = RECEIVING | SENDING | {"nothing": b""}
