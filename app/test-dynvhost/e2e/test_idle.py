# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Pages that fall idle are let go, on both engines and both page sizes, and nothing is lost by it.

What is reachable is read from outside the switch (harness/exposure.py) and compared with what the
driver says of itself.
"""

import time
from dataclasses import dataclass

from harness import hugepages
from harness.engines import BACKINGS, ENGINES, memory_of, start_switch
from harness.errors import check
from harness.exposure import PAGE
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair, iperf, ping
from harness.rings import HUGE_PAGE, check_rings_only, rings_of
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

PORTS = (0, 1)
GUEST_MB = 256
# A page closes at most map-idle-ms after its last use, if the machine has the time for it.
PATIENCE_SECONDS = 10.0

SHORT_IDLE = ',map-idle-ms=200'

LINUX_MB = 1024
PEER_MB = 256
# The share of its RAM that a Linux guest of this size may have open at once.
PEAK_PERCENT = {PAGE: 1, HUGE_PAGE: 4}


@dataclass
class Silence:
    """The pages that one port keeps open when nothing is sent: those of its rings."""
    switch: Testpmd
    port: int
    guest: Guest

    def __post_init__(self) -> None:
        """To be made before the guest's first packet."""
        counted = self.switch.stats(self.port)
        check(counted.rx_packets == counted.tx_packets == 0, f'there was traffic: {counted}')
        seen = self.guest.exposed_to(self.switch.pid)
        check_rings_only(seen, rings_of(self.guest))
        self.loadable, self.storable, self._places = seen.loadable, seen.storable, seen.places

    def wait(self) -> float:
        """Wait until the rings, and every page of them, are all that is reachable; returns how
        long that took."""
        began = time.monotonic()
        until(lambda: self.guest.exposed_to(self.switch.pid).places == self._places,
              PATIENCE_SECONDS, f'only the rings of port {self.port} to be reachable', every=0.02)
        took = time.monotonic() - began
        told = memory_of(self.switch, self.port)
        check(told['loadable_bytes'] == told['pinned_bytes'] == self.loadable,
              f'{self.loadable} bytes of rings are reachable, but telemetry says {told}')
        return took


def _traffic_through_closing(lab: Lab, engine: str, hugetlb: bool) -> None:
    """Transfers with silence between them, then steady pings, so far apart that their pages close
    from one to the next round of the rings."""
    if hugetlb:
        hugepages.reserve(lab, 2 * GUEST_MB)
    switch = start_switch(lab, engine, [SHORT_IDLE] * len(PORTS))
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS], hugetlb, GUEST_MB)
    silences = [Silence(switch, port, guest) for port, guest in enumerate((pair.a, pair.b))]
    waits = []
    for _ in range(lab.settings.count(2, 20)):
        pair.exchange_files(2)
        waits += [silence.wait() for silence in silences]
        pair.ping(5)
    count = lab.settings.count(150, 5000)
    before = memory_of(switch)
    for source, target in ((pair.a, pair.b), (pair.b, pair.a)):
        ping(source, target.address, count, 1400, 20 + count / 10)
    after = memory_of(switch)
    pair.exchange_files(2)
    closes, denials = (after[name] - before[name] for name in ('closes', 'denials'))
    note(f'only rings open {max(waits):.1f} s after transfers at the latest; {closes} pages closed '
         f'under {2 * count} pings, {denials} denials')
    check(before['closes'] > 0, 'no transfer opened anything that closed')
    check(hugetlb or closes > 0, 'nothing closed under the pings')


@dataclass
class Sampler:
    """Looks at a port's exposure, from outside and by telemetry."""
    switch: Testpmd
    guest: Guest
    page: int
    samples: int = 0
    loadable: int = 0
    storable: int = 0

    def look(self) -> None:
        """A page that closes while the page tables are read and one that opens meanwhile may both
        be seen, so that as many more pages than the peak may show as were opened meanwhile. A page
        is open a moment before the peak counts it."""
        opens = memory_of(self.switch)['opens']
        seen = self.guest.exposed_to(self.switch.pid)
        told = memory_of(self.switch)
        slack = (told['opens'] - opens) * self.page
        for kind, size in (('loadable', seen.loadable), ('storable', seen.storable)):
            most = max(told[f'{kind}_peak'], told[f'{kind}_bytes'])
            check(size <= most + slack,
                  f'{size} bytes are {kind}, more than the peak in {told}')
        self.samples += 1
        self.loadable = max(self.loadable, seen.loadable)
        self.storable = max(self.storable, seen.storable)


def _linux_peak(lab: Lab, engine: str, hugetlb: bool) -> None:
    page = HUGE_PAGE if hugetlb else PAGE
    if hugetlb:
        hugepages.reserve(lab, LINUX_MB)
    switch = start_switch(lab, engine)
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS], memory_mb=PEER_MB,
                only_a={'memory_mb': LINUX_MB, 'hugetlb': hugetlb})
    silence = Silence(switch, 0, pair.a)
    sampler = Sampler(switch, pair.a, page)
    megabytes = lab.settings.count(64, 1024)
    rates = [iperf(source, target, megabytes, sampler.look)
             for source, target in ((pair.a, pair.b), (pair.b, pair.a))]
    silence.wait()
    pair.exchange_files(2)
    _judge_peak(memory_of(switch), sampler, silence, page)
    note(f'iperf3: {rates[0]:.0f} Mbit/s out of the guest, {rates[1]:.0f} into it')


def _judge_peak(told: dict[str, int], sampler: Sampler, silence: Silence, page: int) -> None:
    ram = LINUX_MB << 20
    peak, storable = told['loadable_peak'], told['storable_peak']
    note(f'peak {peak >> 10} KiB loadable ({100 * peak / ram:.2f} % of {LINUX_MB} MiB), of these '
         f'{storable >> 10} KiB storable ({100 * storable / peak:.0f} %); idle '
         f'{silence.loadable >> 10} KiB, of these {silence.storable >> 10} KiB storable '
         f'({100 * silence.storable / silence.loadable:.0f} %)')
    note(f'highest of {sampler.samples} samples from outside: {sampler.loadable >> 10} KiB '
         f'loadable, {sampler.storable >> 10} KiB storable')
    check(told['guest_bytes'] == ram, f'guest_bytes is {told["guest_bytes"]}')
    check(sampler.loadable > silence.loadable and sampler.storable > silence.storable,
          'no sample saw more than the rings')
    check(peak <= ram * PEAK_PERCENT[page] / 100,
          f'{peak} bytes were reachable, more than {PEAK_PERCENT[page]} % of {ram}')


def _register(engine: str, name: str, hugetlb: bool) -> None:
    percent = PEAK_PERCENT[HUGE_PAGE if hugetlb else PAGE]
    case(f'idle: {engine}, {name}: what is not used closes, down to the rings, and not a packet is '
         'lost by it', ours_only=True, long_only=hugetlb)(
             lambda lab: _traffic_through_closing(lab, engine, hugetlb))
    case(f'idle: {engine}, {name}: a 1 GiB Linux guest under iperf3 has at most {percent} % open, '
         'and only rings afterwards', ours_only=True, long_only=engine != 'uffd')(
             lambda lab: _linux_peak(lab, engine, hugetlb))


for _engine in ENGINES:
    for _name, _hugetlb in BACKINGS.items():
        _register(_engine, _name, _hugetlb)
