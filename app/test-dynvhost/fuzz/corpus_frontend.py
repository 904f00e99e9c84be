# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Inputs of the target frontend, as fuzz_frontend.c reads them."""

from struct import pack

# How page tables are changed: the first byte.
UFFD, MMAP, COARSE = (bytes([n]) for n in range(3))
# How a start is made.
PACKED, IOMMU, LOG, SLOTS, EVENT, OLD, NO_MRG, ACKS = (1 << n for n in range(8))
# Kinds of fds, as in front.h.
(FD_EVENT, FD_MEMORY, FD_OTHER, FD_LOG, FD_SMALL, FD_READ_ONLY, FD_SOCKET, FD_PIPE, FD_FOLDER,
 FD_ZERO) = range(10)
NO_FD = 0x80
# NEED_REPLY, where a byte chooses a request: ring() and others take it as `ack`.
ACK = 0x80
# Requests about a ring, in the order of frontend_ring().
NUM, BASE, GET_BASE, ENABLE, KICK, CALL, ERR, ADDR = range(8)
# Requests of a number, in the order of frontend_number().
FEATURES, PROTOCOL_FEATURES, STATUS, MTU, RARP = range(5)
MISS, UPDATE, INVALIDATE, FAIL = range(4)


def choose(what: int, modulus: int, ack: bool = False) -> int:
    """A byte that leaves `what`, with the highest bit as asked for."""
    return next(byte for byte in range(256)
                if byte % modulus == what and bool(byte & ACK) == ack)


def message(request: int, payload: bytes = b"", fds: bytes = b"", flags: int | None = None,
            size: int | None = None, ack: bool = False) -> bytes:
    """Any message; flags and size as they should be, if they are not given."""
    how = len(fds) | (8 if ack else 0) | (0x20 if len(payload) > 255 else 0)
    how |= (0x80 if flags is not None else 0) | (0x40 if size is not None else 0)
    return (pack("<BBBB", 0, 0, request, how) + (b"" if flags is None else pack("<I", flags)) +
            fds + pack("<B", len(payload) % 256) +
            (b"" if size is None else pack("<I", size)) + payload)


def raw(data: bytes, fds: bytes = b"", served: bool = True) -> bytes:
    """Bytes."""
    how = next(byte for byte in range(256)
               if byte % 4 == len(fds) and bool(byte & 0x80) == served)
    return pack("<BBB", 0, 1, how) + fds + pack("<B", len(data)) + data


def region(number: int, field: int | None = None, value: int | None = None,
           move: int | None = None, fd: int | None = None) -> bytes:
    """A region of the guest; a field (gpa, size, uva, offset) moved by 256 bytes, or another."""
    how = number | (field or 0) << 3
    how |= (4 if move is not None else 0) | (0x20 if value is not None else 0)
    how |= 0x40 if fd is not None else 0
    return (pack("<B", how) + (b"" if move is None else pack("<h", move)) +
            (b"" if value is None else pack("<Q", value)) + (b"" if fd is None else bytes([fd])))


def table(*regions: bytes, ack: bool = False, short: bool = False) -> bytes:
    """SET_MEM_TABLE, perhaps one fd short."""
    how = next(byte for byte in range(256) if byte % 9 == len(regions) and
               bool(byte & ACK) == ack and bool(byte & 0x40) == short)
    return pack("<BBB", 0, 2, how) + b"".join(regions)


def add_region(of: bytes, ack: bool = False) -> bytes:
    """ADD_MEM_REG."""
    return pack("<BBB", 0, 3, ACK if ack else 0) + of


def remove_region(of: bytes, ack: bool = False) -> bytes:
    """REM_MEM_REG."""
    return pack("<BBB", 0, 3, 1 | (ACK if ack else 0)) + of


def number(request: int, value: int, ack: bool = False) -> bytes:
    """A request of a number."""
    return pack("<BBBQ", 0, 4, choose(request, 5, ack), value)


def ask(request: int) -> bytes:
    """A request without payload, in the order of frontend_ask()."""
    return pack("<BBB", 0, 5, request)


def ring(request: int, index: int, value: int = 0, ack: bool = False) -> bytes:
    """A request about a ring: a number, or a kind of fd."""
    last = pack("<B", value) if request in (KICK, CALL, ERR) else pack("<I", value)
    return pack("<BBBB", 0, 6, choose(request, 8, ack), index) + last


def address(index: int, ack: bool = False, log: int | None = None, **moved: int) -> bytes:
    """SET_VRING_ADDR, with areas moved by so many bytes."""
    which = [(name, moved[name]) for name in ("desc", "avail", "used") if name in moved]
    how = sum(1 << ("desc", "avail", "used").index(name) for name, _ in which)
    how |= 0x18 if log is not None else 0
    return (pack("<BBBBB", 0, 6, choose(ADDR, 8, ack), index, how) +
            b"".join(pack("<I", by & 0xffffffff) for _, by in which) +
            (b"" if log is None else pack("<Q", log)))


def log(size: int | None = None, offset: int | None = None, fd: int | None = None) -> bytes:
    """SET_LOG_BASE."""
    how = (size is not None) | (offset is not None) << 1 | (fd is not None) << 2
    return (pack("<BBB", 0, 7, how) + b"".join(
        pack("<Q", value) for value in (size, offset) if value is not None) +
            (b"" if fd is None else bytes([fd])))


def translate(kind: int, page: int, pages: int, right: int = 3, to: int | None = None,
              ack: bool = False) -> bytes:
    """IOTLB_MSG."""
    how = kind | right << 2 | (0x10 if to is not None else 0) | (ACK if ack else 0)
    return pack("<BBBBB", 0, 8, how, page, pages) + (b"" if to is None else bytes([to]))


def start(how: int = 0) -> bytes:
    """A whole start."""
    return pack("<BB", 1, how)


def guest_writes(gpa: int, data: bytes) -> bytes:
    """The guest writes to its memory."""
    return pack("<BHBB", 2, gpa, 0, len(data)) + data


def burst(index: int, length: int | None = None) -> bytes:
    """A burst of a ring, after the guest has offered a buffer in steps of 40 bytes."""
    return pack("<BB", 3, index | (0 if length is None else 0x80 | length // 40 << 2))


def wait(power: int) -> bytes:
    """Time passes: a power of two in microseconds."""
    return pack("<BB", 4, power)


def read() -> bytes:
    """The front-end reads what there is."""
    return b"\x05"


def connect() -> bytes:
    """It hangs up and comes again."""
    return b"\x06"


def punch(page: int) -> bytes:
    """The guest gives a page back: even ones in its first file."""
    return pack("<BB", 7, page)


def reply(data: bytes = b"") -> bytes:
    """It looks at questions, and answers something."""
    return pack("<BB", 8, len(data)) + data


TRAFFIC = burst(1, 120) + burst(0, 1000) + burst(3, 40) + burst(2, 200)
REGIONS = [region(n) for n in range(4)]
V1_PROTOCOL = 1 << 32 | 1 << 30
DESC_LOOP = pack("<QIHH", 0x10000, 60, 1, 0)

INPUTS = {
    "nothing": UFFD,
    "start": UFFD + start() + read() + TRAFFIC,
    "start_acknowledged": UFFD + start(ACKS) + read() + TRAFFIC,
    "start_packed": MMAP + start(PACKED | EVENT | SLOTS) + TRAFFIC + TRAFFIC,
    "start_as_of_old": UFFD + start(OLD | NO_MRG) + TRAFFIC,
    "start_with_large_granules": COARSE + start(SLOTS) + TRAFFIC + wait(22) + TRAFFIC,
    "start_twice": UFFD + start() + TRAFFIC + start(PACKED) + TRAFFIC,
    "start_again": MMAP + start() + TRAFFIC + connect() + start(PACKED) + TRAFFIC,
    "start_logged": UFFD + start(LOG) + TRAFFIC + log() + TRAFFIC + number(
        FEATURES, V1_PROTOCOL | 1 << 28 | 1 << 15) + TRAFFIC,
    "log_too_small": UFFD + start(LOG) + log(size=8) + TRAFFIC + log(offset=4096) + read(),
    "log_of_rings_elsewhere": UFFD + start(LOG) + address(0, log=1 << 60) + TRAFFIC,
    "log_in_no_memory": UFFD + start(LOG) + log(fd=FD_PIPE) + read(),
    "start_behind_an_iommu": UFFD + start(IOMMU) + TRAFFIC + reply(),
    "iommu_asks": UFFD + start(IOMMU) + translate(INVALIDATE, 0x10, 0x10) + TRAFFIC + wait(16) +
    reply() + translate(UPDATE, 0x10, 0x10) + TRAFFIC + reply(bytes(20)),
    "iommu_refuses": UFFD + start(IOMMU | PACKED) + translate(INVALIDATE, 0x10, 0x10) + TRAFFIC +
    wait(10) + reply() + translate(FAIL, 0x10, 0x10) + TRAFFIC,
    "iommu_takes_rings_away": MMAP + start(IOMMU) + TRAFFIC + translate(INVALIDATE, 0, 0x20) +
    TRAFFIC + wait(12) + translate(UPDATE, 0, 0x20) + TRAFFIC,
    "iommu_moves_memory": UFFD + start(IOMMU | LOG) + TRAFFIC + translate(
        UPDATE, 0x10, 4, to=0x20, ack=True) + TRAFFIC + translate(UPDATE, 0x10, 4, right=1) +
    TRAFFIC,
    "iommu_translates_elsewhere": UFFD + start(IOMMU) + translate(UPDATE, 5, 200, ack=True) +
    translate(UPDATE, 5, 0) + read(),
    "iommu_answers_rubbish": UFFD + start(IOMMU) + translate(INVALIDATE, 0x10, 0x10) + TRAFFIC +
    wait(4) + reply(b"\xff" * 32) + wait(4) + TRAFFIC,
    "translation_without_an_iommu": UFFD + start() + translate(UPDATE, 0, 1, ack=True) + read(),
    "message_of_wrong_version": UFFD + message(1, flags=2),
    "message_is_a_reply": UFFD + message(1, flags=5),
    "message_of_enormous_size": UFFD + message(2, size=0xffffffff),
    "message_that_fills_the_next_fields": UFFD + message(1, b"\xff" * 500),
    "message_larger_than_any": UFFD + message(9, b"\x01" * 400, flags=1),
    "message_too_short": UFFD + message(2, bytes(4)),
    "message_too_long": UFFD + message(1, bytes(8)),
    "message_unknown": UFFD + message(99, ack=True) + read(),
    "message_with_fds_it_must_not_have": UFFD + message(2, bytes(8), bytes([FD_EVENT, FD_ZERO])),
    "messages_in_one_piece": UFFD + raw(pack("<III", 1, 1, 0) * 20) + read(),
    "half_a_header": UFFD + raw(pack("<II", 1, 1)) + wait(19) + raw(pack("<I", 0)) + read(),
    "half_a_message_by_pieces": UFFD + raw(b"\x01") + wait(20) + raw(bytes(3)) + wait(21),
    "half_a_payload": UFFD + raw(pack("<IIII", 2, 1, 8, 0)) + wait(22),
    "fds_with_the_payload": UFFD + raw(pack("<III", 2, 1, 8), served=False) +
    raw(bytes(8), bytes([FD_EVENT])),
    "questions": UFFD + b"".join(ask(n) for n in range(8)) + read(),
    "questions_unread": UFFD + start(ACKS) + start(ACKS) + b"".join(ask(n) for n in range(8)),
    "replies_read_late": UFFD + start(ACKS) * 14 + read() + TRAFFIC,
    "replies_never_read": UFFD + start(ACKS) * 40 + read(),
    "table_replaced": UFFD + start() + TRAFFIC + table(*REGIONS, ack=True) + TRAFFIC +
    table(*REGIONS[:3], ack=True) + TRAFFIC,
    "table_without_the_rings": UFFD + start() + TRAFFIC + table(REGIONS[2], ack=True) + TRAFFIC +
    table(*REGIONS) + TRAFFIC,
    "table_with_an_fd_missing": UFFD + start() + table(*REGIONS, short=True),
    "table_with_an_fd_missing_acknowledged": UFFD + start(ACKS) + table(
        *REGIONS, ack=True, short=True) + read(),
    "table_of_more_regions_than_it_has": UFFD + start(ACKS) + message(
        5, pack("<II", 8, 0) + bytes(32), bytes([FD_MEMORY]), ack=True) + read(),
    "table_of_no_regions": UFFD + start(ACKS) + table() + read(),
    "table_that_overlaps": UFFD + start(ACKS) + table(
        region(0), region(0, field=0, move=16), ack=True) + read(),
    "table_of_odd_sizes": UFFD + start(ACKS) + table(region(0, field=1, move=-1), ack=True) +
    table(region(0, field=3, move=3), ack=True) + read(),
    "table_that_wraps": UFFD + start(ACKS) + table(
        region(0, field=0, value=0xffffffffffff0000), ack=True) + table(
            region(0, field=1, value=0xfffffffffffff000), ack=True) + table(
                region(0, field=3, value=0xfffffffffffff000), ack=True) + read(),
    "table_of_no_memory": UFFD + start(ACKS) + b"".join(
        table(region(0, fd=fd), ack=True) for fd in range(10)) + read(),
    "regions_come_and_go": MMAP + start(SLOTS) + TRAFFIC + remove_region(region(1)) + TRAFFIC +
    add_region(region(1)) + TRAFFIC + remove_region(region(0)) + TRAFFIC + add_region(region(0)),
    "region_twice": UFFD + start(SLOTS | ACKS) + add_region(region(1), ack=True) +
    remove_region(region(1), ack=True) + TRAFFIC + read(),
    "region_unknown": UFFD + start(ACKS) + remove_region(region(1, field=0, move=1), ack=True),
    "region_of_less_than_its_file": UFFD + start(ACKS) + table(
        region(0), region(1, field=1, move=-16), ack=True) + TRAFFIC,
    "ring_sizes": UFFD + start(ACKS) + ring(GET_BASE, 0) + b"".join(
        ring(NUM, 0, size, ack=True) for size in (0, 3, 8, 32768, 65536)) +
    ring(KICK, 0, FD_EVENT, ack=True) + TRAFFIC + read(),
    "ring_does_not_exist": UFFD + start(ACKS) + b"".join(
        ring(request, 77, ack=True) for request in range(7)) + address(4, ack=True) + read(),
    "ring_misaligned": UFFD + start(ACKS) + ring(GET_BASE, 0) + address(0, desc=8, ack=True) +
    ring(KICK, 0, FD_EVENT, ack=True) + TRAFFIC,
    "ring_out_of_memory": UFFD + start(ACKS) + ring(GET_BASE, 1) + address(
        1, used=0x7ffffff0, ack=True) + ring(KICK, 1, FD_EVENT) + TRAFFIC,
    "ring_moves_while_it_runs": UFFD + start(ACKS) + TRAFFIC + address(
        0, desc=0x1000, avail=0x1000, ack=True) + TRAFFIC,
    "ring_stops_and_goes_on": UFFD + start() + TRAFFIC + ring(GET_BASE, 1) + ring(
        BASE, 1, 1) + ring(KICK, 1, FD_EVENT) + TRAFFIC,
    "ring_without_kicks": UFFD + start() + ring(GET_BASE, 1) + ring(KICK, 1, NO_FD) + TRAFFIC,
    "ring_is_disabled": MMAP + start() + ring(ENABLE, 1) + TRAFFIC + ring(ENABLE, 0) + TRAFFIC +
    ring(ENABLE, 1, 1) + TRAFFIC,
    "fds_of_every_kind": UFFD + start(ACKS) + b"".join(
        ring(request, 1, fd, ack=True) + burst(1, 120)
        for request in (CALL, ERR, KICK) for fd in range(10)) + read(),
    "guest_breaks_its_ring": UFFD + start() + guest_writes(0x3000, DESC_LOOP) +
    guest_writes(0x4000, pack("<HHH", 0, 1, 0)) + burst(1) + wait(10) + TRAFFIC,
    "guest_breaks_its_packed_ring": UFFD + start(PACKED) + guest_writes(
        0x3000, pack("<QIHH", 1 << 62, 60, 0, 0x80)) + burst(1) + wait(10) + TRAFFIC,
    "idle_memory": UFFD + start() + TRAFFIC + b"".join(wait(16) + burst(1, 80) for n in range(8)),
    "idle_memory_mapped": MMAP + start() + TRAFFIC + b"".join(wait(17) for n in range(6)) + TRAFFIC,
    "memory_given_back": UFFD + start() + TRAFFIC + b"".join(
        punch(n) for n in (0, 1, 16, 17, 18, 32, 33)) + TRAFFIC,
    "reset": UFFD + start() + TRAFFIC + ask(5) + TRAFFIC + number(STATUS, 0) + TRAFFIC,
    "features_not_offered": UFFD + start(ACKS) + number(FEATURES, 1 << 63, ack=True) + number(
        PROTOCOL_FEATURES, 1 << 63, ack=True) + read(),
    "features_change_while_it_runs": UFFD + start(ACKS) + number(FEATURES, V1_PROTOCOL, ack=True) +
    TRAFFIC + read(),
    "mtu_and_announcements": UFFD + start(ACKS) + number(MTU, 1500, ack=True) + number(
        MTU, 60000, ack=True) + number(RARP, 0x020000000002) * 20 + TRAFFIC + read(),
    "second_front_end_after_rubbish": UFFD + raw(b"\xff" * 40) + connect() + start() + TRAFFIC,
}
