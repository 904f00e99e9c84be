# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""How much of a guest's memory another process can reach, read from the outside.

Reachable is what a stray pointer of that process would reach. An ordinary mapping of the guest's
file is reachable in every byte its protection lets through: the kernel faults pages in for anyone
who asks. A mapping registered with userfaultfd (smaps shows `um` or `ui`) gives only the pages that
have an entry in the page table now (bit 63 of their pagemap word): the others fault.
"""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
PAGEMAP_WORD = 8
# Of a little-endian pagemap word the last byte, whose highest bit says that the page is present.
PRESENT = bytes(value >> 7 for value in range(256))
USERFAULT_FLAGS = {'um', 'ui'}


@dataclass(frozen=True)
class FileId:
    """A file as /proc/PID/smaps names it: device and inode number."""
    device: str
    inode: int


@dataclass(frozen=True)
class Extent:
    """Bytes of a guest's file from `offset`, reachable at `address`."""
    address: int
    offset: int
    size: int
    writable: bool


@dataclass(frozen=True)
class Exposure:
    """What can be reached; a byte that can be reached at two places counts twice."""
    extents: tuple[Extent, ...]

    @property
    def loadable(self) -> int:
        return sum(extent.size for extent in self.extents)

    @property
    def storable(self) -> int:
        return sum(extent.size for extent in self.extents if extent.writable)

    @property
    def places(self) -> set[tuple[int, int, bool]]:
        """Every reachable 4 KiB page as (address, file offset, writable)."""
        return {(extent.address + step, extent.offset + step, extent.writable)
                for extent in self.extents for step in range(0, extent.size, PAGE)}


@dataclass
class Mapping:
    """One entry of /proc/PID/smaps."""
    start: int
    end: int
    rights: str
    offset: int
    file: FileId
    flags: frozenset[str] = frozenset()

    @property
    def accessible(self) -> bool:
        return 'r' in self.rights or 'w' in self.rights

    @property
    def userfault(self) -> bool:
        return bool(self.flags & USERFAULT_FLAGS)


def memory_of_guest(pid: int) -> list[tuple[Path, os.stat_result]]:
    """The memory files a QEMU process holds, its guest's RAM, and where each can be opened again."""
    found = []
    for entry in Path(f'/proc/{pid}/fd').iterdir():
        try:
            name, status = os.readlink(entry), entry.stat()
        except FileNotFoundError:
            continue  # closed while we looked
        if name.startswith('/memfd:memory-backend'):
            found.append((entry, status))
    return found


def memory_files(pid: int) -> set[FileId]:
    """The same as smaps names them; of any process that may hold them."""
    return {FileId(f'{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}', status.st_ino)
            for _, status in memory_of_guest(pid)}


def mappings(pid: int, files: Collection[FileId]) -> list[Mapping]:
    """The mappings a process has of these files."""
    found: list[Mapping] = []
    current: Mapping | None = None
    for line in Path(f'/proc/{pid}/smaps').read_text().splitlines():
        words = line.split()
        if '-' in words[0] and not words[0].endswith(':'):
            start, end = (int(word, 16) for word in words[0].split('-'))
            file = FileId(words[3], int(words[4]))
            current = Mapping(start, end, words[1], int(words[2], 16), file)
            if file in files:
                found.append(current)
        elif words[0] == 'VmFlags:' and current is not None:
            current.flags = frozenset(words[1:])
    return found


def _present_runs(pid: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """(start, end) of every run of pages that are in the page table now."""
    count = (mapping.end - mapping.start) // PAGE
    with open(f'/proc/{pid}/pagemap', 'rb') as pagemap:
        pagemap.seek(mapping.start // PAGE * PAGEMAP_WORD)
        words = pagemap.read(count * PAGEMAP_WORD)
    present = words[PAGEMAP_WORD - 1::PAGEMAP_WORD].translate(PRESENT) + b'\0'
    first = present.find(b'\1')
    while first >= 0:
        end = present.find(b'\0', first)
        yield mapping.start + first * PAGE, mapping.start + end * PAGE
        first = present.find(b'\1', end)


def reach(pid: int, files: Collection[FileId]) -> Exposure:
    """What the process `pid` can reach of these files at this moment."""
    extents = []
    for mapping in mappings(pid, files):
        if not mapping.accessible:
            continue
        runs = (_present_runs(pid, mapping) if mapping.userfault
                else [(mapping.start, mapping.end)])
        for start, end in runs:
            extents.append(Extent(start, mapping.offset + start - mapping.start, end - start,
                                  'w' in mapping.rights))
    return Exposure(tuple(extents))


def connections(pid: int, path: Path) -> set[int]:
    """Inode numbers of the connected sockets that were accepted on the UNIX socket `path`; a peer
    that went away and came back has another number. The kernel shows the name that a socket was
    bound to, which the driver's has had before it appeared at its path: "PATH.PID-NUMBER"."""
    connected = '03'
    bound = re.compile(re.escape(str(path)) + r'(\.\d+-\d+)?')
    table = Path(f'/proc/{pid}/net/unix').read_text().splitlines()[1:]
    rows = (line.split() for line in table)
    return {int(row[6]) for row in rows
            if len(row) > 7 and bound.fullmatch(row[7]) and row[5] == connected}
