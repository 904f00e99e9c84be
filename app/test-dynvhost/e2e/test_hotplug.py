# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A guest's memory grows and shrinks under traffic: DIMMs that come and go, and a balloon.

Linux takes a DIMM out only if it can move away what lies there. Network buffers it cannot move, so
there are two ways here: a DIMM for movable pages, which goes while the guest runs on, and one whose
pages were buffers, which goes after a reboot has given them back.
"""

import os

from harness import hugepages
from harness.engines import BACKINGS, ENGINES, memory_of, start_switch
from harness.errors import Skip, check
from harness.exposure import FileId, mappings, memory_files, reach
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Chatter, Pair, let_sockets_grow, unread_pages, wait_listening
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

PORTS = (0, 1)
NEVER_CLOSE = ',map-idle-ms=0'

BASE_MB = 512
MAX_MB = 2048
DIMM_MB = 256
BLOCKS = '/sys/devices/system/memory/memory*'
PLUG_SECONDS = 10.0

BALLOONED_MB = 256
# What waits in a socket of the guest until it is thrown away; what a balloon leaves free after
# that: less, so that it takes pages that were open; and what it gives back at first, which are
# those that it took last.
BACKLOG_MB = 32
LEFT_MB = 16
RETURNED_MB = 40
BALLOON_SECONDS = 60.0
# Linux reports free blocks every two seconds.
REPORT_SECONDS = 20.0
KEEP_OPEN = {'mmap': '', 'uffd': NEVER_CLOSE}
BACKLOG_SECONDS = 60.0
DISCARD_PORT = 9


class Dimm:
    """Memory that is plugged into a running guest."""

    def __init__(self, guest: Guest, name: str) -> None:
        self.guest, self._name = guest, name
        known = memory_files(guest.pid)
        guest.qmp('object-add', **{'qom-type': 'memory-backend-memfd', 'id': f'{name}-ram',
                                   'size': DIMM_MB << 20, 'share': True})
        guest.qmp('device_add', driver='pc-dimm', id=name, memdev=f'{name}-ram')
        self.files = memory_files(guest.pid) - known

    def bring_online(self, how: str) -> None:
        """Give it to the guest's kernel, `online_movable` or `online_kernel`."""
        before = _total_kib(self.guest)
        until(lambda: self.guest.run(f'grep -q offline {BLOCKS.replace("*", "*/state")}')[0] == 0,
              PLUG_SECONDS, 'the guest to notice new memory', every=0.1)
        self.guest.ok(f'for block in {BLOCKS}; do if grep -q offline $block/state; then '
                      f'echo {how} >$block/state || exit 1; fi; done')
        check(_total_kib(self.guest) - before == DIMM_MB << 10, 'the guest has not grown')

    def take_offline(self) -> None:
        """Have the guest's kernel move everything away; Skip when it cannot."""
        status, words = self.guest.run(
            f'for block in {BLOCKS}; do if grep -q Movable $block/valid_zones; then '
            'echo offline >$block/state || exit 1; fi; done')
        if status != 0:
            raise Skip(f'the guest does not let go of its memory: {words.strip()}')

    def unplug(self) -> None:
        self.guest.qmp('device_del', id=self._name)
        until(lambda: not self.guest.qmp('query-memory-devices'), PLUG_SECONDS,
              f'{self._name} to be unplugged', every=0.1)
        self.guest.qmp('object-del', id=f'{self._name}-ram')

    def held_by(self, switch: Testpmd) -> list[object]:
        """What a switch has of it: mappings, files."""
        return [*mappings(switch.pid, self.files), *(memory_files(switch.pid) & self.files)]


def _total_kib(guest: Guest) -> int:
    return int(guest.ok("sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"))


def _used_bytes(guest: Guest, files: set[FileId]) -> int:
    """How much of its memory files a guest has touched and not given back."""
    statuses = (os.stat(f'/proc/{guest.pid}/fd/{fd}') for fd in os.listdir(f'/proc/{guest.pid}/fd'))
    inodes = {file.inode for file in files}
    return sum({status.st_ino: 512 * status.st_blocks for status in statuses
                if status.st_ino in inodes}.values())


def _plug(switch: Testpmd, guest: Guest, name: str) -> Dimm:
    before = memory_of(switch)
    dimm = Dimm(guest, name)
    after = until(lambda: _told_after(switch, before['regions']), PLUG_SECONDS, 'one more region')
    check(after['regions'] == before['regions'] + 1
          and after['guest_bytes'] == before['guest_bytes'] + (DIMM_MB << 20),
          f'{DIMM_MB} MiB were added to {before}, which makes {after}')
    check(dimm.held_by(switch) != [], 'the switch has nothing of the new memory')
    check(reach(switch.pid, dimm.files).loadable == 0, 'new memory can be reached already')
    return dimm


def _unplug(switch: Testpmd, dimm: Dimm) -> None:
    before = memory_of(switch)
    dimm.unplug()
    after = until(lambda: _told_after(switch, before['regions']), PLUG_SECONDS, 'one region less')
    check(after['regions'] == before['regions'] - 1
          and after['guest_bytes'] == before['guest_bytes'] - (DIMM_MB << 20),
          f'{DIMM_MB} MiB were removed from {before}, which makes {after}')
    left = dimm.held_by(switch)
    check(not left, f'of the removed memory the switch still has {left}')


def _told_after(switch: Testpmd, regions: int) -> dict[str, int] | None:
    """What telemetry tells once the number of regions is another one."""
    told = memory_of(switch)
    return told if told['regions'] != regions else None


def _check_chatter(chatter: Chatter) -> int:
    """Returns the number of echoes, of which none may have been lost."""
    sent, lost = chatter.stop()
    check(sent > 0 and lost == 0, f'{lost} of {sent} echoes were lost')
    return sent


def _pass_movable_dimm(switch: Testpmd, pair: Pair, name: str) -> None:
    chatter = Chatter(pair.a, pair.b.address)
    dimm = _plug(switch, pair.a, name)
    dimm.bring_online('online_movable')
    pair.exchange_files(8)
    pair.a.ok('cp /tmp/source /tmp/kept')
    used = _used_bytes(pair.a, dimm.files)
    check(used >= 8 << 20, f'the guest uses only {used} bytes of its new memory')
    dimm.take_offline()
    _unplug(switch, dimm)
    pair.a.ok('cmp /tmp/source /tmp/kept; rm /tmp/kept')
    echoes = _check_chatter(chatter)
    note(f'movable pages: {used >> 20} of {DIMM_MB} MiB used for a while; {echoes} echoes, none '
         'lost')


def _pass_buffer_dimm(switch: Testpmd, pair: Pair, name: str) -> None:
    chatter = Chatter(pair.a, pair.b.address)
    dimm = _plug(switch, pair.a, name)
    dimm.bring_online('online_kernel')
    pair.exchange_files(8)
    opened = reach(switch.pid, dimm.files)
    check(opened.loadable > opened.storable > 0, 'no traffic went through the new memory')
    echoes = _check_chatter(chatter)
    pair.a.reboot()
    pair.ping()
    still = reach(switch.pid, dimm.files).loadable
    check(still > 0, 'nothing of it was open when it was removed')
    chatter = Chatter(pair.a, pair.b.address)
    _unplug(switch, dimm)
    pair.exchange_files(2)
    echoes += _check_chatter(chatter)
    note(f'buffers: {opened.loadable >> 10} KiB of {DIMM_MB} MiB reachable, '
         f'{opened.storable >> 10} KiB of these storable, {still >> 10} KiB still open when it was '
         f'removed; {echoes} echoes, none lost')


def _dimms(lab: Lab, engine: str) -> None:
    """Pages stay open for ever here, so that removal finds them open."""
    switch = start_switch(lab, engine, [NEVER_CLOSE] * len(PORTS), patient=True)
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS],
                only_a={'memory_mb': BASE_MB, 'max_memory_mb': MAX_MB})
    pair.ping()
    for number in range(lab.settings.count(1, 4)):
        _pass_movable_dimm(switch, pair, f'movable{number}')
        _pass_buffer_dimm(switch, pair, f'buffers{number}')


def _inflate(guest: Guest, megabytes: int) -> None:
    """Have a balloon of this size in the guest, and wait until it is there."""
    size = BALLOONED_MB - megabytes << 20
    guest.qmp('balloon', value=size)
    until(lambda: guest.qmp('query-balloon')['actual'] == size, BALLOON_SECONDS,
          f'a balloon of {megabytes} MiB', every=0.2)


def _free_mib(guest: Guest) -> int:
    return int(guest.ok("sed -n 's/^MemFree: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")) >> 10


def _open_many(switch: Testpmd, pair: Pair) -> int:
    """Have `a` take in a lot that nobody there reads, and throw it away; returns how many bytes the
    switch has open by then. Linux puts buffers and what user space writes to into different
    blocks of memory, and a balloon takes the others' first."""
    pair.a.ok(f'nc -l -p {DISCARD_PORT} -e sleep 1000 >/dev/null 2>&1 &')
    wait_listening(pair.a, DISCARD_PORT)
    pair.b.ok(f'(dd if=/dev/zero bs=1M count={BACKLOG_MB} | nc {pair.a.address} {DISCARD_PORT}) '
              '>/dev/null 2>&1 &')
    until(lambda: unread_pages(pair.a) >= BACKLOG_MB << 8, BACKLOG_SECONDS, 'a long backlog',
          every=0.2)
    for guest, programs in ((pair.a, 'sleep'), (pair.b, 'nc')):
        guest.ok(f'killall {programs}; true')
    return pair.a.exposed_to(switch.pid).loadable


def _swell_and_shrink(switch: Testpmd, pair: Pair) -> None:
    """A balloon takes pages that were open, and what it gives back is used again."""
    before = _open_many(switch, pair)
    size = _free_mib(pair.a) - LEFT_MB
    _inflate(pair.a, size)
    taken = before - pair.a.exposed_to(switch.pid).loadable
    pair.exchange_files(1)
    _inflate(pair.a, size - RETURNED_MB)
    _open_many(switch, pair)
    _inflate(pair.a, 0)
    pair.exchange_files(4)
    note(f'balloon of {size} MiB, took {taken >> 10} of {before >> 10} KiB that were open')


def _report_and_reuse(switch: Testpmd, pair: Pair) -> None:
    """The guest reports free blocks that were open. They are used again, for a balloon leaves
    little else: Linux uses reported blocks last."""
    before = _open_many(switch, pair)
    until(lambda: pair.a.exposed_to(switch.pid).loadable < before, REPORT_SECONDS,
          'open pages to be reported free', every=0.1)
    taken = before - pair.a.exposed_to(switch.pid).loadable
    pair.exchange_files(1)
    _inflate(pair.a, _free_mib(pair.a) - 2 * BACKLOG_MB)
    _open_many(switch, pair)
    _inflate(pair.a, 0)
    pair.exchange_files(4)
    note(f'free-page reports took {taken >> 10} of {before >> 10} KiB that were open')


def _balloon(lab: Lab, engine: str, hugetlb: bool) -> None:
    """The guest is to give away pages that are open, and take them back. So they stay open for
    ever, except as mappings, of which there are fewer than the pages that are opened here.

    QEMU frees whole pages of the file, and of 2 MiB ones a balloon never has one whole: there, it
    is by reports of free blocks that pages go."""
    if hugetlb:
        hugepages.reserve(lab, BALLOONED_MB)
    switch = start_switch(lab, engine, [KEEP_OPEN[engine]] * len(PORTS), patient=True)
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS], only_a={
        'memory_mb': BALLOONED_MB, 'hugetlb': hugetlb, 'modules': ['virtio_balloon'],
        'devices': ['virtio-balloon-pci,free-page-reporting=on']})
    let_sockets_grow(pair.a, BACKLOG_MB)
    chatter = Chatter(pair.a, pair.b.address)
    for _ in range(lab.settings.count(1, 2)):
        if not hugetlb:
            _swell_and_shrink(switch, pair)
        if hugetlb or lab.settings.long:
            _report_and_reuse(switch, pair)
    told = memory_of(switch)
    note(f'{_check_chatter(chatter)} echoes, none lost; {told["repairs"]} pages repaired, '
         f'{told["allocations"]} allocated')
    check(told['lost'] == 0, f'{told["lost"]} pages were lost')
    check(engine != 'uffd' or told['repairs'] > 0, 'no open page was taken away and missed')


def _register(engine: str) -> None:
    case(f'hotplug: {engine}: DIMMs come, are used and go again under traffic', ours_only=True,
         long_only=engine != 'uffd')(lambda lab: _dimms(lab, engine))
    for name, hugetlb in BACKINGS.items():
        case(f'hotplug: {engine}, {name}: a balloon that swells and shrinks under traffic loses '
             'nothing', ours_only=True, long_only=hugetlb or engine != 'uffd')(
                 lambda lab, hugetlb=hugetlb: _balloon(lab, engine, hugetlb))


for _engine in ENGINES:
    _register(_engine)
