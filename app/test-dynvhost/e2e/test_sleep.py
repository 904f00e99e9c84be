# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""An application that sleeps on the receive interrupt, as l3fwd-power does, with DPDK's own virtio
driver as the guest: a kick wakes it, also that of the next front-end, and it uses no CPU between."""

import os
import time
from pathlib import Path

from harness import eal, hugepages
from harness.errors import check
from harness.lab import Lab
from harness.process import Process
from harness.settings import PEER_CPU, SWITCH_CPU
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

GUEST_MB = 256
PORT = 0
BURST = 32
WAKE_SECONDS = 10.0
QUIET_SECONDS = 1.0
QUIET_CPU_SECONDS = 0.1


def _sleeper(lab: Lab, options: str) -> Process:
    """The application, asleep for the first time."""
    side = eal.Eal(lab, [eal.vdev(lab.settings, PORT, socket_of(lab, PORT), options)],
                   f'0@{SWITCH_CPU}')
    process = lab.spawn('sleeper', [lab.test_program('sleeper'), *side.argv()], side.environment)
    process.expect('^sleeping 0$', 30.0)
    return process


def _guest(lab: Lab, number: int, options: str) -> Testpmd:
    guest = Testpmd(lab, f'guest{number}', [
        f'net_virtio_user0,path={socket_of(lab, PORT)},queue_size=256{options}'],
        cpu=PEER_CPU, huge=True, memory_mb=GUEST_MB, options=['--no-flush-rx'])
    guest.wait_link(PORT)
    guest.command('set fwd rxonly')
    return guest


def _cpu_seconds(process: Process) -> float:
    fields = Path(f'/proc/{process.pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _check_quiet(process: Process) -> None:
    """It sleeps: at some time a second passes in which it hardly uses the CPU."""
    since, used = time.monotonic(), _cpu_seconds(process)

    def rested() -> bool:
        nonlocal since, used
        now, cpu = time.monotonic(), _cpu_seconds(process)
        if cpu - used < QUIET_CPU_SECONDS:
            return now - since > QUIET_SECONDS
        since, used = now, cpu
        return False

    until(rested, WAKE_SECONDS, 'a second without work', every=0.1)


def _check_wakes(process: Process, guest: Testpmd, received: int) -> int:
    """A burst of the guest's comes through, and the application sleeps again."""
    _check_quiet(process)
    guest.command('start tx_first')
    guest.stop_forwarding()
    process.expect(f'^sleeping {received + BURST}$', WAKE_SECONDS)
    return received + BURST


def _register(ring: str, options: str) -> None:
    @case(f'sleep: a kick wakes an application that sleeps on its interrupt, also after a '
          f'reconnect, {ring}', ours_only=True)
    def wakes(lab: Lab) -> None:
        hugepages.reserve(lab, GUEST_MB)
        process = _sleeper(lab, '')
        received = 0
        for number in range(lab.settings.count(2, 10)):
            guest = _guest(lab, number, options)
            for _ in range(3):
                received = _check_wakes(process, guest, received)
            guest.quit()
        _check_quiet(process)
        check(process.alive(), 'the application has gone')
        process.send('')
        process.expect_success(WAKE_SECONDS)
        note(f'{received} packets, each burst of which woke it')


_register('split ring', '')
_register('packed ring', ',packed_vq=1')
