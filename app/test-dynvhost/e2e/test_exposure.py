# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""What the switch can reach of a guest's memory, read from outside the switch.

The bounds come from the page tables' own arithmetic: the rings lie in so many pages, a short packet
lies in at most two. Any more than that is memory the switch had no business with.
"""

from harness import eal, hugepages
from harness.engines import pages_of
from harness.errors import check
from harness.exposure import PAGE
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair, ping
from harness.rings import QUEUES, check_rings_only, rings_of
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

GUEST_MB = 256
NEVER_CLOSE = ',map-idle-ms=0'
NOWHERE = '10.0.0.99'
NOWHERE_MAC = '02:aa:00:00:00:99'


def _switch(lab: Lab, ports: int, options: str = '') -> Testpmd:
    return Testpmd(lab, 'switch', [
        eal.vdev(lab.settings, port, socket_of(lab, port), options) for port in range(ports)])


def _before_traffic(lab: Lab, hugetlb: bool) -> None:
    if hugetlb:
        hugepages.reserve(lab, GUEST_MB)
    switch = _switch(lab, 1)
    switch.start()
    guest = Guest(lab, 'a', [socket_of(lab, 0)], ['10.0.0.1/24'], hugetlb=hugetlb,
                  memory_mb=GUEST_MB)
    guest.wait_ready()
    switch.wait_link(0)
    counted = switch.stats(0)
    check(counted.rx_packets == counted.tx_packets == 0, f'there was traffic: {counted}')
    seen = guest.exposed_to(switch.pid)
    note(f'loadable {seen.loadable >> 10} KiB, storable {seen.storable >> 10} KiB')
    check_rings_only(seen, rings_of(guest))


@case('exposure: before traffic only rings are reachable, 4 KiB pages', ours_only=True)
def rings_only(lab: Lab) -> None:
    _before_traffic(lab, hugetlb=False)


@case('exposure: before traffic only rings are reachable, 2 MiB pages', ours_only=True)
def rings_only_hugetlb(lab: Lab) -> None:
    _before_traffic(lab, hugetlb=True)


@case('exposure: after N packets no more pages are reachable than they lie in', ours_only=True)
def packets_and_rings(lab: Lab) -> None:
    switch = _switch(lab, 2, NEVER_CLOSE)
    switch.start()
    pair = Pair(lab, [socket_of(lab, port) for port in (0, 1)])
    rings = rings_of(pair.a)
    for count in (1, 10, lab.settings.count(200, 5000)):
        pair.ping(count)
        counted = switch.stats(0)
        check(counted.rx_packets >= count and counted.tx_packets >= count,
              f'fewer packets than pings: {counted}')
        seen = pair.a.exposed_to(switch.pid)
        storable = (QUEUES * rings.written + 2 * counted.tx_packets) * PAGE
        loadable = storable + (QUEUES * rings.read + 2 * counted.rx_packets) * PAGE
        note(f'{counted.rx_packets} + {counted.tx_packets} packets: loadable '
             f'{seen.loadable >> 10} KiB of at most {loadable >> 10}, '
             f'storable {seen.storable >> 10} KiB of at most {storable >> 10}')
        check(seen.loadable <= loadable, f'{seen.loadable} bytes loadable, bound {loadable}')
        check(seen.storable <= storable, f'{seen.storable} bytes storable, bound {storable}')


@case('exposure: what a guest only sends never becomes storable', ours_only=True)
def sent_data_is_read_only(lab: Lab) -> None:
    switch = _switch(lab, 1, NEVER_CLOSE)
    switch.command('set fwd rxonly')
    switch.start()
    guest = Guest(lab, 'a', [socket_of(lab, 0)], ['10.0.0.1/24'])
    guest.wait_ready()
    switch.wait_link(0)
    guest.ok(f'arp -s {NOWHERE} {NOWHERE_MAC}')
    count = lab.settings.count(500, 20000)
    for size in (56, 1400):
        guest.run(f'ping -q -c {count} -i 0.002 -W 1 -s {size} {NOWHERE}', 120.0)
    until(lambda: switch.stats(0).rx_packets >= 2 * count, 10.0, f'{2 * count} packets', every=0.2)
    rings = rings_of(guest)
    seen = guest.exposed_to(switch.pid)
    used = QUEUES * rings.written * PAGE
    note(f'{2 * count} packets sent: loadable {seen.loadable >> 10} KiB, '
         f'storable {seen.storable >> 10} KiB')
    check(seen.loadable > used + QUEUES * rings.read * PAGE,
          'nothing but rings is loadable, yet packets came')
    check(0 < seen.storable <= used, f'{seen.storable} bytes storable, used rings are {used}')


@case('exposure: telemetry reports what the page tables show', ours_only=True)
def telemetry_is_honest(lab: Lab) -> None:
    switch = _switch(lab, 2)
    switch.start()
    pair = Pair(lab, [socket_of(lab, port) for port in (0, 1)])
    pair.ping(100, size=1400)
    ping(pair.b, pair.a.address, 100, 56, 30.0)

    def agree() -> bool:
        """Asked before and after, so that closing in between cannot make a difference."""
        told = switch.telemetry('/dynvhost/mem,0')
        check(isinstance(told, dict), f'/dynvhost/mem,0 answers {told!r}')
        seen = pair.a.exposed_to(switch.pid)
        listed = pages_of(switch)
        if told != switch.telemetry('/dynvhost/mem,0'):
            return False
        # Below 2 GiB, a byte of the file lies at its offset in the guest.
        pages = {(offset, writable) for _, offset, writable in seen.places}
        sizes = (told['loadable_bytes'], told['storable_bytes'])
        return sizes == (seen.loadable, seen.storable) and listed == pages

    until(agree, 10.0, 'telemetry and /proc to agree', every=0.2)
    told = switch.telemetry('/dynvhost/mem,0')
    check(told['guest_bytes'] == GUEST_MB << 20, f'guest_bytes is {told["guest_bytes"]}')
    check(told['loadable_peak'] >= told['loadable_bytes'] > 0, f'loadable: {told}')
    check(told['storable_peak'] >= told['storable_bytes'] > 0, f'storable: {told}')
