# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A guest migrates from one port of a switch to another one, while a third one sends to it.

What the switch writes into the guest after QEMU has copied the page must be copied again, and only
the dirty log tells QEMU so. When all has come over, before the guest runs at its new place, both
QEMUs hold its memory and nobody writes to it, and what the switch has written is the same in both,
to the byte. The ports never close a page that they opened (map-idle-ms=0), so these are pages that
the switch has open for writing now. Of the others none can have been written by it; and yet one of
them differs at times, a few words that Linux writes thousands of times a second: QEMU's emulated
CPU can still be about to store when the migration thread has taken the page's dirty bit and copies
it.

What the guest writes by itself QEMU sees by itself, page by page, and the used area of a ring it
counts as written when the ring stops; so most of what the switch writes would come over without the
log. Two things would not. The guest leaves in a socket what comes after all memory was copied once,
where it lies in the very buffers that the switch filled. And in every other migration the traffic
ends in echoes so rare that QEMU copies the rings in between, so that the log alone tells what the
switch writes last to the descriptors of a packed ring.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import eal, hugepages, memory
from harness.errors import check
from harness.guest import Guest
from harness.lab import Lab
from harness.ovs import OpenVSwitch
from harness.pair import (
    Chatter, fetch, let_sockets_grow, ping, unread_pages, wait_listening,
)
from harness.tap import case, note
from harness.usage import check_no_more, usage
from harness.wait import until

SOURCE, SENDER, TARGET = 'source', 'sender', 'target'
GUEST_MB = 192
KEPT_MB = 8
KEEP_PORT = 9
# QEMU takes the last step when what is left takes less than this many milliseconds: a page, at
# first, and the guest writes more than that all the time.
NEVER_MS, SOON_MS = 1, 2000
RESTLESS = 'while :; do dd if=/dev/zero of=/tmp/dirt bs=64k count=16 conv=notrunc; done'
# In bytes a second: most of the memory, and what is left of it and comes anew.
FAST, SLOW = 64 << 20, 4 << 20
REST = 8 << 20
# Looks at the log until memory that is left alone has been copied as it is, and echoes so rare.
SETTLED_LOOKS = 2
RARE_ECHOES = 3
# Otherwise Linux itself writes to every page that it takes for a buffer.
KERNEL = 'init_on_alloc=0'
MIGRATE_SECONDS = 60.0
READ_SECONDS = 20.0
NEVER_CLOSE = ',map-idle-ms=0'
# Pages that the emulated CPU may have written unnoticed.
TORN_PAGES = 4
# What Open vSwitch keeps of what it learns.
STRAY_KB = 2048


def _keep_unread(guest: Guest) -> None:
    """Have a guest take in what is sent to it, and read it only when told to."""
    let_sockets_grow(guest, KEPT_MB)
    guest.ok(f'nc -l -p {KEEP_PORT} -e sh -c '
             "'until [ -e /tmp/read ]; do sleep 0.1; done; cat >/tmp/kept' >/dev/null 2>&1 &")
    wait_listening(guest, KEEP_PORT)


def _send(sender: Guest, guest: Guest) -> None:
    """Send a guest what it is to keep, and wait until it has all of it."""
    sender.ok(f'dd if=/dev/urandom of=/tmp/sent bs=1M count={KEPT_MB} 2>/dev/null')
    sender.ok(f'nc {guest.address} {KEEP_PORT} </tmp/sent >/dev/null 2>&1 &')
    until(lambda: unread_pages(guest) >= KEPT_MB << 8, MIGRATE_SECONDS, 'all that was sent',
          every=0.2)


def _read_kept(sender: Guest, guest: Guest) -> None:
    guest.ok(': >/tmp/read')
    want = sender.ok('sha256sum </tmp/sent')
    until(lambda: guest.ok('sha256sum </tmp/kept') == want, READ_SECONDS,
          f'the {KEPT_MB} MiB that were sent before', every=0.2)
    guest.ok('killall nc; rm /tmp/kept /tmp/read; true')


def _wait_for_answer(sender: Guest, guest: Guest) -> None:
    until(lambda: sender.run(f'ping -c 1 -W 1 {guest.address}')[0] == 0, 30.0,
          'the migrated guest to answer')


def _pace(guest: Guest, bandwidth: int, downtime_ms: int = NEVER_MS) -> None:
    guest.qmp('migrate-set-parameters', **{'max-bandwidth': bandwidth,
                                           'downtime-limit': downtime_ms})


def _copied(guest: Guest) -> dict[str, int]:
    """What QEMU says of a migration that goes on."""
    told = guest.qmp('query-migrate')
    check(told['status'] in ('setup', 'active'), f'the migration does not go on: {told}')
    return {'normal': 0, 'remaining': 0, 'dirty-sync-count': 0, **told.get('ram', {})}


def _wait_looks(guest: Guest, more: int) -> None:
    """Wait until QEMU has looked at the log so many times more."""
    goal = _copied(guest)['dirty-sync-count'] + more
    until(lambda: _copied(guest)['dirty-sync-count'] >= goal, MIGRATE_SECONDS,
          f'look {goal} at the log')


def _copy_all_once(source: Guest, target: Guest) -> None:
    """Begin to migrate, and have QEMU copy over and over what the guest writes."""
    source.ok(f'({RESTLESS}) >/dev/null 2>&1 & echo $! >/tmp/restless')
    _pace(source, FAST)
    source.start_migration(target)
    until(lambda: _copied(source)['normal'] > 0 and _copied(source)['remaining'] < REST,
          MIGRATE_SECONDS, 'most of the memory to be copied')
    _pace(source, SLOW)
    _wait_looks(source, SETTLED_LOOKS)


def _check_memory(source: Guest, target: Guest, switch: int) -> int:
    """What the switch has written must have come over. Returns how many pages it can write to."""
    writable = {offset for _, offset, storable in source.exposed_to(switch).places if storable}
    unlike = memory.differences(source.pid, target.pid)
    lost = [str(page) for page in unlike if page.gpa in writable]
    torn = [str(page) for page in unlike if page.gpa not in writable]
    check(not lost, f'{len(lost)} of {len(writable)} pages that the switch writes to did not come '
          f'over: {", ".join(lost)}')
    check(len(torn) <= TORN_PAGES, f'{len(torn)} pages that only the guest writes to did not come '
          f'over: {", ".join(torn)}')
    if torn:
        note(f'torn by the emulator, never open in the switch: {", ".join(torn)}')
    return len(writable)


def _note_figures(told: dict[str, Any], more: str) -> None:
    note(f'{told["ram"]["transferred"] >> 20} MiB in {told["total-time"]} ms, '
         f'{told["ram"]["dirty-sync-count"]} looks at the log, {told["downtime"]} ms down; '
         f'{told["pages"]} pages written to by the switch; {more}')


@dataclass
class Bench:
    """A bridge with a guest, the port to which it will migrate, and a third one that sends."""
    lab: Lab
    nic: str
    hugetlb: bool
    turns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.bridge = OpenVSwitch(self.lab)
        for index, name in enumerate((SOURCE, SENDER, TARGET)):
            self.bridge.add_port(
                name, eal.vdev(self.lab.settings, index, self._socket(name), NEVER_CLOSE))
        self.guest = self._moving(SOURCE)
        self.sender = self._start(SENDER, '10.0.0.2/24')
        self.guest.wait_ready()
        self.sender.wait_ready()
        fetch(self.sender, self.guest, 2)

    def _socket(self, name: str) -> Path:
        return self.lab.path(f'{name}.sock')

    def _start(self, name: str, address: str, **options: Any) -> Guest:
        return Guest(self.lab, name, [self._socket(name)], [address], memory_mb=GUEST_MB,
                     kernel=KERNEL, nic=self.nic, **options)

    def _moving(self, name: str, **options: Any) -> Guest:
        return self._start(name, '10.0.0.1/24', hugetlb=self.hugetlb, station=SOURCE, **options)

    def _next(self) -> Guest:
        """Where the guest will be: on the port that is free."""
        self.turns += 1
        return self._moving(TARGET if self.guest.name == SOURCE else SOURCE,
                            incoming=self.lab.path(f'migrate{self.turns}'), paused=True)

    def _arrive(self, target: Guest, least: int) -> dict[str, Any]:
        """Have QEMU take the last step, and compare; the switch must have been able to write to so
        many pages at least. Returns what QEMU has counted."""
        source, self.guest = self.guest, target
        source.ok('kill $(cat /tmp/restless)')
        _pace(source, FAST, SOON_MS)
        told = source.wait_migrated(MIGRATE_SECONDS)
        target.wait_arrived()
        pages = _check_memory(source, target, self.bridge.pid)
        check(pages > least, f'the switch can write to {pages} pages only')
        source.quit()
        target.resume()
        _wait_for_answer(self.sender, target)
        return {**told, 'pages': pages}

    def migrate_under_traffic(self) -> None:
        target = self._next()
        _keep_unread(self.guest)
        chatter = Chatter(self.sender, self.guest.address)
        _copy_all_once(self.guest, target)
        _send(self.sender, self.guest)
        told = self._arrive(target, KEPT_MB << 8)
        echoes, lost = chatter.stop()
        _read_kept(self.sender, target)
        fetch(self.sender, target, 2)
        _note_figures(told, f'{lost} of {echoes} echoes lost')

    def migrate_with_rare_echoes(self) -> None:
        target = self._next()
        _copy_all_once(self.guest, target)
        for _ in range(RARE_ECHOES):
            _wait_looks(self.guest, SETTLED_LOOKS)
            ping(self.sender, self.guest.address, 1, 1000, 10.0)
        told = self._arrive(target, 0)
        fetch(self.sender, target, 2)
        _note_figures(told, f'{RARE_ECHOES} rare echoes')


def _migrate(lab: Lab, nic: str, hugetlb: bool) -> None:
    if hugetlb:
        hugepages.reserve(lab, 2 * GUEST_MB)
    bench = Bench(lab, nic, hugetlb)
    before = None
    for _ in range(lab.settings.count(1, 5)):
        bench.migrate_under_traffic()
        bench.migrate_with_rare_echoes()
        before = before or usage(bench.bridge.pid)
    check_no_more('Open vSwitch', before, usage(bench.bridge.pid), STRAY_KB)
    check(bench.guest.process.alive(), 'the guest is gone')
    bench.bridge.quit()


for _rings, _nic in {'split': '', 'packed': ',packed=on'}.items():
    for _pages, _hugetlb in {'4 KiB': False, '2 MiB': True}.items():
        case(f'migration: a guest with {_rings} rings on {_pages} pages that moves to another port '
             'while it receives has every byte', ours_only=True, long_only=_hugetlb)(
                 lambda lab, nic=_nic, hugetlb=_hugetlb: _migrate(lab, nic, hugetlb))
