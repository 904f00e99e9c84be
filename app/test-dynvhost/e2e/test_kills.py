# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The switch and QEMU are killed, and come back, whichever of the two it is that listens."""

import itertools
from dataclasses import dataclass, field

from harness import eal
from harness.lab import Lab
from harness.pair import Pair
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

PORTS = (0, 1)
BACK_SECONDS = 30.0
RECONNECT = ',client=1,reconnect-ms=200'


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

    def wait_back(self) -> None:
        """Wait until the guests reach each other; from then on, nothing may be lost."""
        for port in PORTS:
            self.switch.wait_link(port)
        until(lambda: self.pair.a.run(f'ping -c 1 -W 1 {self.pair.b.address}')[0] == 0,
              BACK_SECONDS, 'the guests to reach each other again')
        self.pair.ping()
        self.pair.exchange_files(1)

    def kill_switch(self) -> None:
        """In the middle of a flood."""
        for source, target in ((self.pair.a, self.pair.b), (self.pair.b, self.pair.a)):
            source.ok(f'ping -q -i 0.002 -s 1400 {target.address} >/dev/null 2>&1 &')
        self.pair.a.run('sleep 0.3')
        self.switch.process.kill()
        self.start_switch()
        self.wait_back()
        for guest in (self.pair.a, self.pair.b):
            guest.ok('killall ping')

    def kill_guest(self) -> None:
        self.pair.b.ok(f'ping -q -i 0.002 -s 1400 {self.pair.a.address} >/dev/null 2>&1 &')
        self.pair.a.kill()
        self.switch.wait_link(0, up=False)
        self.pair.a.start()
        self.pair.a.wait_ready()
        self.wait_back()
        self.pair.b.ok('killall ping')


def _kill_both(lab: Lab, client: bool, packed: bool) -> None:
    bench = Bench(lab, client, packed)
    bench.wait_back()
    times = lab.settings.count(1, 20)
    for _ in range(times):
        bench.kill_switch()
        bench.kill_guest()
    note(f'switch and QEMU were killed {times} times each')


def _register(client: bool, packed: bool) -> None:
    who = 'QEMU' if client else 'the switch'
    rings = 'packed' if packed else 'split'
    case(f'kills: guests with {rings} rings talk again after kill -9 of switch and QEMU, with '
         f'{who} listening', ours_only=client or packed, long_only=packed or not client)(
             lambda lab: _kill_both(lab, client, packed))


for _client in (False, True):
    for _packed in (False, True):
        _register(_client, _packed)
