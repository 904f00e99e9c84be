#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""What each map-granule exposes of a guest and what it does to speed, as a table for doc/.

Exposure: the peak of one Linux guest of a pair, after iperf3 in both directions. Speed: packets
that circle between testpmd on the port and testpmd on virtio_user, measured in turns; the best turn
of each, as a ratio to the best of the first row. Settings come from the environment, as for run.py.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness import eal, hugepages, settings
from harness.engines import memory_of, start_switch
from harness.lab import Lab
from harness.pair import Pair, iperf
from harness.settings import PEER_CPU, Settings
from harness.testpmd import Testpmd, socket_of

GUEST_MB = 256
CIRCLE_MB = 128
MEGABYTES = 64
WARM_UP_SECONDS = 0.5
MEASURE_SECONDS = 2.0
SMALL = ('4K', '16K', '64K', '256K', '1M', '2M')
HUGE = ('2M', '4M', '16M')


@dataclass
class Row:
    hugetlb: bool
    granule: str
    peak: dict[str, int] = field(default_factory=dict)
    rates: tuple[float, float] = (0, 0)
    packets_per_second: float = 0

    @property
    def devargs(self) -> str:
        return f',map-granule={self.granule},csum=0'

    def print(self, first: 'Row') -> None:
        loadable, storable = self.peak['loadable_peak'], self.peak['storable_peak']
        cells = ('2 MiB' if self.hugetlb else '4 KiB', self.granule, self.peak['opens'],
                 loadable >> 10, storable >> 10, f'{100 * loadable / (GUEST_MB << 20):.2f} %',
                 f'{self.rates[0]:.0f} / {self.rates[1]:.0f}',
                 f'{self.packets_per_second / first.packets_per_second:.2f}')
        print('| ' + ' | '.join(map(str, cells)) + ' |', flush=True)


def measure_exposure(config: Settings, row: Row) -> None:
    with Lab(config) as lab:
        if row.hugetlb:
            hugepages.reserve(lab, 2 * GUEST_MB)
        switch = start_switch(lab, 'uffd', [row.devargs] * 2)
        pair = Pair(lab, [socket_of(lab, port) for port in (0, 1)], row.hugetlb, GUEST_MB)
        row.rates = (iperf(pair.a, pair.b, MEGABYTES), iperf(pair.b, pair.a, MEGABYTES))
        row.peak = memory_of(switch)


def measure_circle(config: Settings, row: Row) -> float:
    """Packets a second through the port, once round for each."""
    with Lab(config) as lab:
        hugepages.reserve(lab, CIRCLE_MB)
        loop = ['--port-topology=loop', '--no-flush-rx']
        switch = Testpmd(lab, 'switch', [eal.vdev(lab.settings, 0, socket_of(lab, 0), row.devargs)],
                         options=loop)
        guest = Testpmd(lab, 'guest', [
            f'net_virtio_user0,path={socket_of(lab, 0)},queue_size=256'], cpu=PEER_CPU,
            memory_mb=CIRCLE_MB, huge=row.hugetlb, options=loop)
        switch.wait_link(0)
        switch.start()
        guest.command('start tx_first 4')
        time.sleep(WARM_UP_SECONDS)
        began, before = time.monotonic(), switch.stats(0).rx_packets
        time.sleep(MEASURE_SECONDS)
        after, ended = switch.stats(0).rx_packets, time.monotonic()
        return (after - before) / (ended - began)


def measure_turns(config: Settings, rows: Sequence[Row], turns: int) -> None:
    for _ in range(turns):
        speeds = [measure_circle(config, row) for row in rows]
        for row, speed in zip(rows, speeds):
            row.packets_per_second = max(row.packets_per_second, speed)
        print('  '.join(f'{speed / 1e6:.2f}' for speed in speeds), file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--turns', type=int, default=5, help='of the speed measurement')
    turns = parser.parse_args().turns
    # An asked-for end takes the same way out as any other: through the labs' clean-up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    config = settings.from_environment()
    print('| pages | granule | pages opened | peak loadable KiB | storable KiB | share of '
          f'{GUEST_MB} MiB | iperf3 out / in Mbit/s | packet rate |')
    print('|---|---|---|---|---|---|---|---|')
    for hugetlb, granules in ((False, SMALL), (True, HUGE)):
        rows = [Row(hugetlb, granule) for granule in granules]
        measure_turns(config, rows, turns)
        for row in rows:
            measure_exposure(config, row)
            row.print(rows[0])
        best = rows[0].packets_per_second
        print(f'(packet rate 1.00 is up to {best / 1e6:.2f} million a second)', file=sys.stderr)


if __name__ == '__main__':
    main()
