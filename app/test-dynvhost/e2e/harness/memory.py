# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The memory of two QEMU processes, compared byte by byte through the files that it lies in."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import check
from .exposure import PAGE, memory_of_guest

CHUNK = 2 << 20


@dataclass(frozen=True)
class Difference:
    """A page that differs, and from where to where in it."""
    gpa: int
    first: int
    last: int

    def __str__(self) -> str:
        return f'{self.gpa:#x} (bytes {self.first} to {self.last})'


def _memory_of(pid: int) -> Path:
    found = memory_of_guest(pid)
    check(len(found) == 1, f'process {pid} has {len(found)} memory files')
    return found[0][0]


def _compare(offset: int, one: bytes, other: bytes) -> Iterator[Difference]:
    for start in range(0, len(one), PAGE):
        left, right = one[start:start + PAGE], other[start:start + PAGE]
        if left != right:
            unlike = [at for at, (a, b) in enumerate(zip(left, right)) if a != b]
            yield Difference(offset + start, unlike[0], unlike[-1])


def differences(one: int, other: int) -> list[Difference]:
    """The pages in which the guests of two QEMU processes differ. Both guests must be stopped, and
    have so little memory that all of it lies below the hole for devices: file offset and guest
    address are the same then."""
    found: list[Difference] = []
    with open(_memory_of(one), 'rb') as left, open(_memory_of(other), 'rb') as right:
        size = os.fstat(left.fileno()).st_size
        check(size == os.fstat(right.fileno()).st_size, 'the two guests differ in size')
        for offset in range(0, size, CHUNK):
            here, there = left.read(CHUNK), right.read(CHUNK)
            if here != there:
                found += _compare(offset, here, there)
    return found
