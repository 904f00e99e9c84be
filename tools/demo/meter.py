# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The figures the demo shows: what the switch can reach of one guest, and what passed through.

The driver's telemetry is asked first, then the page tables of the switch are read from outside; a
driver without such telemetry is judged by its page tables alone.
"""

import time
from collections import deque
from dataclasses import dataclass

from harness.errors import Failure
from harness.exposure import Exposure
from harness.guest import Guest
from harness.testpmd import Testpmd

RATE_SECONDS = 2.0


@dataclass
class Reading:
    """Bytes of one guest's memory, and packets from and to it."""
    guest_bytes: int
    loadable: int
    storable: int
    loadable_peak: int
    storable_peak: int
    packets: int
    bytes: int
    told: dict | None
    seen: Exposure

    @property
    def agrees(self) -> bool:
        """Whether the driver tells what the page tables show; both move while packets do."""
        return self.told is None or (self.told['loadable_bytes'], self.told['storable_bytes']) == (
            self.seen.loadable, self.seen.storable)


class Meter:
    """Reads one port of the switch and the guest behind it."""

    def __init__(self, switch: Testpmd, port: int, guest: Guest) -> None:
        self._switch = switch
        self._port = port
        self.guest = guest
        self._peaks = (0, 0)
        self._passed: deque[tuple[float, int]] = deque()

    def read(self) -> Reading:
        told = self._switch.telemetry(f'/dynvhost/mem,{self._port}')
        told = told if isinstance(told, dict) and 'loadable_bytes' in told else None
        seen = self.guest.exposed_to(self._switch.pid)
        stats = self._switch.telemetry(f'/ethdev/stats,{self._port}')
        if not isinstance(stats, dict):
            raise Failure(f'the switch gives no statistics of port {self._port}')
        loadable, storable = seen.loadable, seen.storable
        peaks = [(loadable, storable), self._peaks]
        if told:
            loadable, storable = told['loadable_bytes'], told['storable_bytes']
            peaks.append((told['loadable_peak'], told['storable_peak']))
        self._peaks = (max(peak[0] for peak in peaks), max(peak[1] for peak in peaks))
        reading = Reading(
            guest_bytes=self.guest.memory_mb << 20, loadable=loadable, storable=storable,
            loadable_peak=self._peaks[0], storable_peak=self._peaks[1],
            packets=stats['ipackets'] + stats['opackets'],
            bytes=stats['ibytes'] + stats['obytes'], told=told, seen=seen)
        self._passed.append((time.monotonic(), reading.bytes))
        return reading

    def rate(self) -> float:
        """Mbit/s through this port over the last moments, both ways together."""
        now = time.monotonic()
        while len(self._passed) > 2 and self._passed[0][0] < now - RATE_SECONDS:
            self._passed.popleft()
        if len(self._passed) < 2:
            return 0.0
        (began, first), (ended, last) = self._passed[0], self._passed[-1]
        return (last - first) * 8 / (ended - began) / 1e6
