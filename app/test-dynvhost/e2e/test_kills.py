# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The switch and QEMU are killed, and come back, whichever of the two it is that listens. Whoever
lives on has nothing more in the end than after the first time."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness import eal, exposure
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.usage import check_no_more, usage
from harness.wait import until

PORTS = (0, 1)
BACK_SECONDS = 30.0
RECONNECT = ',client=1,reconnect-ms=200'
# QEMU keeps the code that it has translated.
STRAY_KB = {'switch': 512, 'QEMU': 8192}
# One ping gives up when the queue that it sends to stands still.
FLOOD = 'while :; do ping -q -i 0.002 -s 1400 {}; done'


def _flood(source: Guest, target: Guest) -> None:
    source.ok(f'({FLOOD.format(target.address)}) >/dev/null 2>&1 & echo $! >/tmp/flood')


def _stop_flood(guest: Guest) -> None:
    guest.ok('kill $(cat /tmp/flood); killall ping; true')


@dataclass
class Bench:
    """A switch that can be started again, with two guests on it."""
    lab: Lab
    client: bool
    packed: bool
    _numbers: itertools.count = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.start_switch()
        nic = ',packed=on' if self.packed else ''
        self.pair = Pair(self.lab, [socket_of(self.lab, port) for port in PORTS],
                         both={'listens': self.client, 'nic': nic})

    def start_switch(self) -> None:
        role = RECONNECT if self.client else ''
        vdevs = [eal.vdev(self.lab.settings, port, socket_of(self.lab, port), role)
                 for port in PORTS]
        self.switch = Testpmd(self.lab, f'switch{next(self._numbers)}', vdevs)
        self.switch.start()

    def wait_back(self) -> float:
        """Wait until the guests reach each other; from then on, nothing may be lost. Returns how
        many seconds that took."""
        began = time.monotonic()
        for port in PORTS:
            self.switch.wait_link(port)
        until(lambda: self.pair.a.run(f'ping -c 1 -W 1 {self.pair.b.address}')[0] == 0,
              BACK_SECONDS, 'the guests to reach each other again')
        took = time.monotonic() - began
        self.pair.ping()
        self.pair.exchange_files(1)
        return took

    def _wait_traffic(self, port: int) -> None:
        before = self.switch.stats(port).rx_packets
        until(lambda: self.switch.stats(port).rx_packets > before, 5.0, 'traffic to be killed in')

    def kill_switch(self) -> float:
        """In the middle of a flood."""
        _flood(self.pair.a, self.pair.b)
        _flood(self.pair.b, self.pair.a)
        for port in PORTS:
            self._wait_traffic(port)
        self.switch.process.kill()
        self.start_switch()
        took = self.wait_back()
        for guest in (self.pair.a, self.pair.b):
            _stop_flood(guest)
        return took

    def _held_of(self, memory: set[exposure.FileId]) -> list[object]:
        """What the switch still holds of a guest: its memory's files, mappings of them."""
        return [*(exposure.memory_files(self.switch.pid) & memory),
                *exposure.mappings(self.switch.pid, memory)]

    def kill_guest(self) -> float:
        """In the middle of what the other one sends it."""
        memory = exposure.memory_files(self.pair.a.pid)
        _flood(self.pair.b, self.pair.a)
        self._wait_traffic(1)
        self.pair.a.kill()
        self.switch.wait_link(0, up=False)
        until(lambda: not self._held_of(memory), 5.0,
              f'the end of what the dead left: {self._held_of(memory)}')
        self.pair.a.start()
        self.pair.a.wait_ready()
        took = self.wait_back()
        _stop_flood(self.pair.b)
        return took


def _repeat(kill: Callable[[], float], what: str, times: int,
            survivors: Mapping[str, Callable[[], int]]) -> None:
    """Kill so many times; who survives it must not have more in the end than in the beginning."""
    took = [kill()]
    before = {name: usage(pid()) for name, pid in survivors.items()}
    took += [kill() for _ in range(times - 1)]
    for name, pid in survivors.items():
        after = usage(pid())
        check_no_more(name, before[name], after, STRAY_KB[name.split()[0]])
        note(f'{name}: {before[name]}, {after} in the end')
    note(f'{what} was killed {times} times, the guests were back within '
         f'{statistics.median(took):.2f} s (median), {max(took):.2f} s (longest)')


def _kill_both(lab: Lab, client: bool, packed: bool) -> None:
    bench = Bench(lab, client, packed)
    bench.wait_back()
    times = lab.settings.count(2, 20)
    _repeat(bench.kill_switch, 'the switch', times,
            {'QEMU a': lambda: bench.pair.a.pid, 'QEMU b': lambda: bench.pair.b.pid})
    _repeat(bench.kill_guest, 'QEMU', times,
            {'switch': lambda: bench.switch.pid, 'QEMU b': lambda: bench.pair.b.pid})


def _register(client: bool, packed: bool) -> None:
    who = 'QEMU' if client else 'the switch'
    rings = 'packed' if packed else 'split'
    case(f'kills: guests with {rings} rings talk again after kill -9 of switch and QEMU, with '
         f'{who} listening', ours_only=client or packed, long_only=packed or not client)(
             lambda lab: _kill_both(lab, client, packed))


for _client in (False, True):
    for _packed in (False, True):
        _register(_client, _packed)
