# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""How long a guest is away while it migrates, beside DPDK's own driver.

One bridge has two ports of each driver, and on each pair a guest that migrates from one to the
other and back, the two in turn. While it does it sends a frame every other millisecond to an
address that nobody has, so the bridge sends these everywhere, and one port writes down when. What
is compared is the time from the guest's stop at the source, which QEMU tells, to the first frame
that comes after it goes on at the target. So it has in it all that the switch has part in (rings
that stop and say where, the log's last look, the memory table and the rings of the new port, and
a thread that polls them) and QEMU's own share, the last pages and the device's state, which is
the same with both drivers. Longer pauses before and after, when the machine has too much to do,
are not in it; nor is how soon somebody else finds the guest again, which is up to the bridge.
"""

import dataclasses
import statistics
import time
from pathlib import Path

from harness import eal, frames
from harness.errors import check
from harness.guest import Guest
from harness.lab import Lab
from harness.ovs import OpenVSwitch
from harness.settings import OUR_DRIVER, PEER_DRIVER
from harness.tap import case, note
from harness.wait import until

NOWHERE, NOWHERE_MAC = '10.0.0.99', '02:aa:00:00:00:99'
# One ping gives up when the queue that it sends to stands still.
STREAM = f'while :; do ping -q -i 0.002 {NOWHERE}; done'
GUEST_MB = 192
BANDWIDTH = 256 << 20
DOWNTIME_MS = 50
MIGRATE_SECONDS = 60.0
AWAY_SECONDS = 5.0
WORST_RATIO = 1.2


@dataclasses.dataclass
class Traveller:
    """A guest on one of two ports of a driver."""
    lab: Lab
    driver: str
    capture: frames.Capture
    trips: int = 0
    pauses: list[float] = dataclasses.field(default_factory=list)

    def add_ports(self, bridge: OpenVSwitch) -> None:
        settings = dataclasses.replace(self.lab.settings, driver=self.driver)
        for port in (0, 1):
            bridge.add_port(self._name(port), eal.vdev(settings, port, self._socket(port)))

    def board(self) -> None:
        self.guest = self._guest(0, None)

    def _name(self, port: int) -> str:
        return f'{self.driver}-{port}'

    def _socket(self, port: int) -> Path:
        return self.lab.path(f'{self._name(port)}.sock')

    def _guest(self, port: int, incoming: Path | None) -> Guest:
        return Guest(self.lab, self._name(port), [self._socket(port)], ['10.0.0.1/24'],
                     memory_mb=GUEST_MB, station=self.driver, incoming=incoming)

    def _sent(self) -> list[float]:
        """When frames of the guest came, since the last look."""
        source = bytes.fromhex(self.guest.mac().replace(':', ''))
        return [when for when, frame in self.capture.more() if frame[6:12] == source]

    def _wait_sending(self, since: float) -> float:
        """Wait for the first frame since then; returns when it came."""
        first = until(lambda: [when for when in self._sent() if when >= since], 30.0,
                      f'a frame of {self.guest.name}', every=0.1)
        return first[0]

    def travel(self) -> None:
        """Migrate to the other port, and note the pause."""
        self.trips += 1
        target = self._guest(self.trips % 2, self.lab.path(f'{self.driver}-trip{self.trips}'))
        source, self.guest = self.guest, target
        source.ok(f'arp -s {NOWHERE} {NOWHERE_MAC}; ({STREAM}) >/dev/null 2>&1 & '
                  'echo $! >/tmp/stream')
        source.qmp('migrate-set-parameters', **{'max-bandwidth': BANDWIDTH,
                                                'downtime-limit': DOWNTIME_MS})
        self._wait_sending(time.time())
        stopped, resumed = source.migrate(target, MIGRATE_SECONDS)
        self.pauses.append(self._wait_sending(resumed) - stopped)
        note(f'{self.driver}: away for {1000 * self.pauses[-1]:.1f} ms, of which its CPU stood '
             f'still {1000 * (resumed - stopped):.1f} ms')
        source.wait_migrated(MIGRATE_SECONDS)
        source.quit()
        target.ok('kill $(cat /tmp/stream); killall ping; true')


@case(f'switch-over: a migrating guest is away no longer than {WORST_RATIO} times as long as with '
      'net_vhost', ours_only=True)
def away_no_longer(lab: Lab) -> None:
    bridge = OpenVSwitch(lab)
    capture = lab.path('capture.pcap')
    bridge.add_port('capture', f'net_pcap0,tx_pcap={capture}')
    travellers = [Traveller(lab, driver, frames.Capture(capture))
                  for driver in (OUR_DRIVER, PEER_DRIVER)]
    for traveller in travellers:
        traveller.add_ports(bridge)
        traveller.board()
    for traveller in travellers:
        traveller.guest.wait_ready()
    for _ in range(lab.settings.count(1, 5)):
        for traveller in travellers:
            traveller.travel()
        travellers.reverse()
    bridge.quit()
    pause = {traveller.driver: statistics.median(traveller.pauses) for traveller in travellers}
    note(f'median pause: {1000 * pause[OUR_DRIVER]:.1f} ms, of the peer '
         f'{1000 * pause[PEER_DRIVER]:.1f} ms')
    check(pause[OUR_DRIVER] < AWAY_SECONDS, f'the guest was away for {pause[OUR_DRIVER]:.1f} s')
    # One migration each says little of a busy machine.
    if lab.settings.long:
        check(pause[OUR_DRIVER] <= WORST_RATIO * pause[PEER_DRIVER],
              f'away for {pause[OUR_DRIVER]:.4f} s, with the peer {pause[PEER_DRIVER]:.4f} s')
