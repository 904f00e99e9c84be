# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Frames with contents worth comparing, and pcap files to carry them in and out of testpmd."""

import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import Failure

# Locally administered addresses and the EtherType set aside for local experiments.
DESTINATION = bytes.fromhex('02aa00000001')
SOURCE = bytes.fromhex('02bb00000001')
ETHERTYPE = bytes.fromhex('88b5')
HEADER = struct.Struct('!6s6s2sI')

PCAP_FILE = struct.Struct('<IHHiIII')
PCAP_RECORD = struct.Struct('<IIII')
PCAP_MAGIC = 0xa1b2c3d4
PCAP_UNITS = {PCAP_MAGIC: 1e-6, 0xa1b23c4d: 1e-9}  # of a second
LINKTYPE_ETHERNET = 1
SNAP_LENGTH = 65535


def make(sizes: Iterable[int], seed: int = 1) -> list[bytes]:
    """One frame per size: header, a running number, random bytes. Same seed, same frames."""
    source = random.Random(seed)
    return [HEADER.pack(DESTINATION, SOURCE, ETHERTYPE, number)
            + source.randbytes(size - HEADER.size) for number, size in enumerate(sizes)]


def write(path: Path, frames: Sequence[bytes]) -> None:
    with open(path, 'wb') as out:
        out.write(PCAP_FILE.pack(PCAP_MAGIC, 2, 4, 0, 0, SNAP_LENGTH, LINKTYPE_ETHERNET))
        for number, frame in enumerate(frames):
            out.write(PCAP_RECORD.pack(number, 0, len(frame), len(frame)) + frame)


def file_size(frames: Sequence[bytes]) -> int:
    """Size of a capture file that holds these frames."""
    return PCAP_FILE.size + sum(PCAP_RECORD.size + len(frame) for frame in frames)


class Capture:
    """A capture that may still be growing, read on from where it was left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = PCAP_FILE.size
        self._unit = 0.0

    def _read_head(self) -> None:
        with open(self._path, 'rb') as capture:
            head = capture.read(PCAP_FILE.size)
        magic = PCAP_FILE.unpack(head)[0] if len(head) == PCAP_FILE.size else None
        if magic is not None and magic not in PCAP_UNITS:
            raise Failure(f'{self._path.name} is no little-endian pcap file')
        self._unit = PCAP_UNITS.get(magic, 0.0)

    def more(self) -> list[tuple[float, bytes]]:
        """When (in seconds) and what, of the frames that are complete since the last time."""
        if not self._unit and self._path.exists():
            self._read_head()
        if not self._unit:
            return []
        with open(self._path, 'rb') as capture:
            capture.seek(self._offset)
            data = capture.read()
        found, at = [], 0
        while at + PCAP_RECORD.size <= len(data):
            seconds, units, captured, _ = PCAP_RECORD.unpack_from(data, at)
            start = at + PCAP_RECORD.size
            if start + captured > len(data):
                break
            at = start + captured
            found.append((seconds + units * self._unit, data[start:at]))
        self._offset += at
        return found


def read(path: Path) -> list[bytes]:
    """All complete frames in a capture that may still be growing."""
    return [frame for _, frame in Capture(path).more()]


def compare(sent: Sequence[bytes], received: Sequence[bytes]) -> None:
    """Same frames, same order, same bytes; otherwise fail with the first difference."""
    for index, (want, got) in enumerate(zip(sent, received)):
        if want == got:
            continue
        if len(want) != len(got):
            raise Failure(f'frame {index} of {len(sent)}: {len(want)} bytes sent, {len(got)} '
                          f'received ({_identify(got)})')
        at = next(i for i, (a, b) in enumerate(zip(want, got)) if a != b)
        raise Failure(f'frame {index} of {len(want)} bytes differs from byte {at}: sent '
                      f'{want[at:at + 8].hex()}, received {got[at:at + 8].hex()}')
    if len(sent) != len(received):
        raise Failure(f'{len(sent)} frames sent, {len(received)} received')


def _identify(frame: bytes) -> str:
    if len(frame) < HEADER.size:
        return 'too short to be one of ours'
    destination, _, ethertype, number = HEADER.unpack_from(frame)
    if (destination, ethertype) != (DESTINATION, ETHERTYPE):
        return 'not one of ours'
    return f'it is number {number}'
