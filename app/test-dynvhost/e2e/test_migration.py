# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A guest migrates from one port of a switch to another one, while a third one sends to it.

What the switch writes into the guest after QEMU has copied the page must be copied again, and only
the dirty log tells QEMU so. A guest that reads what it received writes it once more by itself,
which QEMU sees. Therefore the guest here leaves in a socket what comes after all memory was copied
once, where it lies in the very buffers that the switch filled, and reads it when it has migrated.
"""

from typing import Any

from harness import eal
from harness.errors import check
from harness.guest import Guest
from harness.lab import Lab
from harness.ovs import OpenVSwitch
from harness.pair import Chatter, fetch, wait_listening
from harness.tap import case, note
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
# Otherwise Linux itself writes to every page that it takes for a buffer.
KERNEL = 'init_on_alloc=0'
MIGRATE_SECONDS = 60.0
READ_SECONDS = 20.0
SOCKET_LIMITS = ' '.join(f'"{name}={3 * f"{limit} "}"' for name, limit in (
    ('tcp_rmem', 4 * KEPT_MB << 20), ('tcp_mem', 4 * KEPT_MB << 8)))


def _guest(lab: Lab, name: str, address: str, **options: Any) -> Guest:
    return Guest(lab, name, [lab.path(f'{name}.sock')], [address], memory_mb=GUEST_MB,
                 kernel=KERNEL, **options)


def _keep_unread(guest: Guest) -> None:
    """Have a guest take in what is sent to it, and read it only when told to."""
    guest.ok(f'for limit in {SOCKET_LIMITS}; do echo "${{limit#*=}}" '
             '>/proc/sys/net/ipv4/${limit%%=*}; done')
    guest.ok(f'nc -l -p {KEEP_PORT} -e sh -c '
             "'until [ -e /tmp/read ]; do sleep 0.1; done; cat >/tmp/kept' >/dev/null 2>&1 &")
    wait_listening(guest, KEEP_PORT)


def _send(sender: Guest, guest: Guest) -> None:
    sender.ok(f'dd if=/dev/urandom of=/tmp/sent bs=1M count={KEPT_MB} 2>/dev/null')
    sender.ok(f'nc {guest.address} {KEEP_PORT} </tmp/sent >/dev/null 2>&1 &')


def _unread_pages(guest: Guest) -> int:
    return int(guest.ok("sed -n 's/^TCP:.* mem //p' /proc/net/sockstat"))


def _read_kept(sender: Guest, guest: Guest) -> None:
    guest.ok(': >/tmp/read')
    want = sender.ok('sha256sum </tmp/sent')
    until(lambda: guest.ok('sha256sum </tmp/kept') == want, READ_SECONDS,
          f'the {KEPT_MB} MiB that were sent before', every=0.2)


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


def _copy_all_once(source: Guest, target: Guest) -> None:
    """Begin to migrate, and have QEMU copy over and over what the guest writes."""
    source.ok(f'({RESTLESS}) >/dev/null 2>&1 & echo $! >/tmp/restless')
    _pace(source, FAST)
    source.start_migration(target)
    until(lambda: _copied(source)['normal'] > 0 and _copied(source)['remaining'] < REST,
          MIGRATE_SECONDS, 'most of the memory to be copied')
    _pace(source, SLOW)
    until(lambda: _copied(source)['dirty-sync-count'] > 3, MIGRATE_SECONDS,
          'all memory to be copied once')


def _migrate_once(lab: Lab, source: Guest, sender: Guest, turn: int) -> Guest:
    """Returns the guest where it is now: on the port that was free."""
    target = _guest(lab, TARGET if source.name == SOURCE else SOURCE, '10.0.0.1/24',
                    incoming=lab.path(f'migrate{turn}'), station=SOURCE)
    _keep_unread(source)
    chatter = Chatter(sender, source.address)
    _copy_all_once(source, target)
    _send(sender, source)
    until(lambda: _unread_pages(source) >= KEPT_MB << 8, MIGRATE_SECONDS, 'all that was sent',
          every=0.2)
    source.ok('kill $(cat /tmp/restless)')
    _pace(source, FAST, SOON_MS)
    told = source.wait_migrated(MIGRATE_SECONDS)
    source.quit()
    _wait_for_answer(sender, target)
    echoes, lost = chatter.stop()
    _read_kept(sender, target)
    fetch(sender, target, 2)
    target.ok('killall nc; rm /tmp/kept /tmp/read; true')
    note(f'{told["ram"]["transferred"] >> 20} MiB in {told["total-time"]} ms, '
         f'{told["ram"]["dirty-sync-count"]} looks at the log, {told["downtime"]} ms down, '
         f'{lost} of {echoes} echoes lost')
    return target


@case('migration: a guest that moves to another port while it receives has every byte',
      ours_only=True)
def moves_with_every_byte(lab: Lab) -> None:
    bridge = OpenVSwitch(lab)
    for index, name in enumerate((SOURCE, SENDER, TARGET)):
        bridge.add_port(name, eal.vdev(lab.settings, index, lab.path(f'{name}.sock')))
    guest = _guest(lab, SOURCE, '10.0.0.1/24')
    sender = _guest(lab, SENDER, '10.0.0.2/24')
    guest.wait_ready()
    sender.wait_ready()
    fetch(sender, guest, 2)
    for turn in range(lab.settings.count(1, 20)):
        guest = _migrate_once(lab, guest, sender, turn)
    check(guest.process.alive(), 'the guest is gone')
    bridge.quit()
