# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""What of a guest gets out of the switch by other ways than packets: core dumps, forks, execs.

The core dump is searched for words that were never sent. They are written into the guests' memory
from outside, while the guests stand still: into the very pages that hold packets and are open at
that moment, and into others. The switch crashes before anything moves again, so whatever the core
holds of them it holds because of a mapping.
"""

import mmap
import os
import resource
import secrets
import signal
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness import eal, hugepages
from harness.engines import BACKINGS, ENGINES, REFUSAL, start_switch
from harness.errors import Skip, check
from harness.exposure import PAGE, Mapping, mappings, memory_files, memory_of_guest, reach
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair
from harness.process import Process
from harness.rings import HUGE_PAGE
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of

PORTS = (0, 1)
GUEST_MB = 256
NEVER_CLOSE = ',map-idle-ms=0'
DUMPED = ',map-dump=1'

WORD_BYTES = 32
CLOSED_SAMPLES = 64
CORE_PATTERN = Path('/proc/sys/kernel/core_pattern')
DUMP_ALL = '0x7f'
DUMP_SECONDS = 120.0

# VmFlags of /proc/PID/smaps: not copied by fork(2), not part of core dumps.
DONTFORK, DONTDUMP = 'dc', 'dd'


@dataclass
class Secret:
    """Words in a guest's memory that no packet has carried: one in each page that the switch has
    open, rings excepted, and the other in some that it has not."""
    guest: Guest
    rings: set[int]
    in_open: bytes = field(default_factory=lambda: secrets.token_bytes(WORD_BYTES))
    in_closed: bytes = field(default_factory=lambda: secrets.token_bytes(WORD_BYTES))
    open_pages: int = 0

    @property
    def _page(self) -> int:
        return HUGE_PAGE if self.guest.hugetlb else PAGE

    def write(self, switch: Testpmd) -> None:
        """The guest must stand still, and stay so until the switch is gone."""
        size = GUEST_MB << 20
        opened = _open_pages(switch, self.guest, self._page)
        closed = [page for page in range(0, size, self._page) if page not in opened]
        (path, _), *_ = memory_of_guest(self.guest.pid)
        with (open(path, 'r+b') as file,
              mmap.mmap(file.fileno(), size) as memory):
            _write_word(memory, self.in_open, opened - self.rings, self._page)
            _write_word(memory, self.in_closed, closed[::len(closed) // CLOSED_SAMPLES], self._page)
        self.open_pages = len(opened - self.rings)
        check(self.open_pages > 0, 'no page but rings is open')
        check(_open_pages(switch, self.guest, self._page) == opened, 'other pages are open by now')


def _write_word(memory: mmap.mmap, word: bytes, pages: Iterable[int], page_size: int) -> None:
    """At the end of each page: buffers begin at the front of what they are cut from."""
    for page in pages:
        end = page + page_size
        memory[end - len(word):end] = word


def _open_pages(switch: Testpmd, guest: Guest, page_size: int) -> set[int]:
    """File offsets of the pages of a guest that the switch can reach."""
    places = reach(switch.pid, memory_files(guest.pid)).places
    return {offset // page_size * page_size for _, offset, _ in places}


def _freeze(lab: Lab, guest: Guest) -> None:
    guest.process.signal(signal.SIGSTOP)
    lab.defer(guest.process.signal, signal.SIGCONT)


def _let_dump(process: Process) -> None:
    """Let this process leave a core of everything the kernel is ready to dump; Skip where cores do
    not end in the folder of the process."""
    pattern = CORE_PATTERN.read_text().strip()
    if not pattern or pattern.startswith('|') or '/' in pattern:
        raise Skip(f'cores do not stay in the folder of the process: core_pattern is {pattern!r}')
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    try:
        resource.prlimit(process.pid, resource.RLIMIT_CORE, unlimited)
    except PermissionError:
        raise Skip('the limit for cores is too low and cannot be raised') from None
    Path(f'/proc/{process.pid}/coredump_filter').write_text(DUMP_ALL)


def _dump(lab: Lab, process: Process) -> Path:
    """Make it crash; returns the core it leaves."""
    known = set(lab.dir.iterdir())
    process.abort(DUMP_SECONDS)
    left = [path for path in set(lab.dir.iterdir()) - known if path.is_file()]
    check(len(left) == 1, f'{process.name} {process.how_it_ended()} and left {left}, not one core')
    return left[0]


def _count(core: Path, words: Collection[bytes]) -> list[int]:
    """How often each of these words is in a file."""
    with open(core, 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as text:
        return [_occurrences(text, word) for word in words]


def _occurrences(text: mmap.mmap, word: bytes) -> int:
    found, at = 0, text.find(word)
    while at >= 0:
        found, at = found + 1, text.find(word, at + 1)
    return found


def _start(lab: Lab, engine: str, hugetlb: bool) -> tuple[Testpmd, list[Secret]]:
    """Two guests that have talked to each other: cores may hold what is open of the second one."""
    if hugetlb:
        hugepages.reserve(lab, 2 * GUEST_MB)
    switch = start_switch(lab, engine, [NEVER_CLOSE, NEVER_CLOSE + DUMPED])
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS], hugetlb, GUEST_MB)
    page = HUGE_PAGE if hugetlb else PAGE
    kept = [Secret(guest, _open_pages(switch, guest, page)) for guest in (pair.a, pair.b)]
    pair.exchange_files(2)
    return switch, kept


def _bare_mappings(switch: Testpmd, guest: Guest, needed: set[str]) -> list[Mapping]:
    """Mappings of a guest's memory that lack one of these flags."""
    found = mappings(switch.pid, memory_files(guest.pid))
    check(found != [], f'guest {guest.name} is not mapped at all')
    return [mapping for mapping in found if not needed <= mapping.flags]


def _no_way_out(lab: Lab, engine: str, hugetlb: bool) -> None:
    switch, (kept, shown) = _start(lab, engine, hugetlb)
    _let_dump(switch.process)
    bare = [*_bare_mappings(switch, kept.guest, {DONTFORK, DONTDUMP}),
            *_bare_mappings(switch, shown.guest, {DONTFORK})]
    for secret in (kept, shown):
        _freeze(lab, secret.guest)
    for secret in (kept, shown):
        secret.write(switch)
    core = _dump(lab, switch.process)
    found = _count(core, (kept.in_open, kept.in_closed, shown.in_open, shown.in_closed))
    note(f'{core.stat().st_blocks >> 11} MiB of core hold {found[0]} of {kept.open_pages} pages '
         f'that were open; with map-dump=1 {shown.open_pages} pages, at {found[2]} places')
    check(found[2] >= shown.open_pages, 'the test would not see what a core holds of a guest')
    check(found[0] == 0, f'the core holds {found[0]} of {kept.open_pages} open pages; mappings '
          f'that let it: {bare}')
    check(found[1] == 0 and found[3] == 0,
          f'the core holds pages that were not open: {found[1]}, with map-dump=1 {found[3]}')
    check(not bare, f'a child or a core gets mappings of a guest: {bare}')


def _files(pid: int) -> dict[int, str]:
    """The open files of a process: number and name."""
    found = {}
    for entry in Path(f'/proc/{pid}/fd').iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except FileNotFoundError:
            continue  # closed while we looked
    return found


def _is_inherited(pid: int, number: int) -> bool:
    lines = Path(f'/proc/{pid}/fdinfo/{number}').read_text().splitlines()
    flags = next(line.split()[1] for line in lines if line.startswith('flags:'))
    return not int(flags, 8) & os.O_CLOEXEC


def _inheritable_files(lab: Lab, engine: str) -> None:
    """What is open after a port came and a guest connected, and was not before, is the driver's."""
    switch = Testpmd(lab, 'switch', [])
    before = _files(switch.pid)
    devargs = eal.vdev(lab.settings, 0, socket_of(lab, 0), f',map-mode={engine}')
    answer = switch.command(f'port attach {devargs}')
    if REFUSAL in answer:
        raise Skip(answer)
    switch.start_ports()
    guest = Guest(lab, 'a', [socket_of(lab, 0)], ['10.0.0.1/24'])
    guest.wait_ready()
    switch.wait_link(0)
    ours = {number: name for number, name in _files(switch.pid).items()
            if before.get(number) != name}
    kinds = {name.split(':')[0].split('[')[0] for name in ours.values()}
    note(f'{len(ours)} files: {", ".join(sorted(ours.values()))}')
    check(any(name.startswith('/memfd:memory-backend') for name in ours.values())
          and {'socket', 'anon_inode'} <= kinds, f'the driver must have more than {ours}')
    bare = {number: name for number, name in ours.items() if _is_inherited(switch.pid, number)}
    check(not bare, f'an exec would hand on {bare}')


def _register(engine: str) -> None:
    for name, hugetlb in BACKINGS.items():
        case(f'secrets: {engine}, {name}: neither a core dump nor a child gets anything of a guest',
             ours_only=True, long_only=hugetlb or engine != 'uffd')(
                 lambda lab, hugetlb=hugetlb: _no_way_out(lab, engine, hugetlb))
    case(f'secrets: {engine}: no file of the driver survives an exec', ours_only=True,
         long_only=engine != 'uffd')(lambda lab: _inheritable_files(lab, engine))


for _engine in ENGINES:
    _register(_engine)
