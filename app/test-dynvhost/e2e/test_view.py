# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""tools/view.py beside a real switch and DPDK's own virtio driver: it shows what telemetry tells
and the statistics count, and follows a guest that leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import eal, hugepages
from harness.errors import check
from harness.lab import Lab
from harness.settings import PEER_CPU
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

VIEW = Path(__file__).resolve().parents[3] / 'tools' / 'view.py'
GUEST_MB = 128
PORT = 0
# Those that stay as they are while nothing moves.
FIGURES = ('guest_bytes', 'loadable_peak', 'storable_peak', 'opens')


def _look(switch: Testpmd) -> dict[str, Any]:
    """What the view says of the port, in a run of its own."""
    done = subprocess.run(
        [sys.executable, VIEW, '--json', '--interval', '0.3', '--file-prefix', switch.eal.prefix],
        env={**os.environ, **switch.eal.environment}, capture_output=True, text=True, check=False,
        timeout=30.0)
    check(done.returncode == 0, f'view.py ended with {done.returncode}: {done.stderr}')
    seen = json.loads(done.stdout)
    check((seen['pid'], seen['program'], len(seen['ports'])) == (switch.pid, 'dpdk-testpmd', 1),
          f'the view looks at something else: {seen}')
    return seen['ports'][0]


@case('view: shows the figures of a switch under traffic, and that its guest has left',
      ours_only=True)
def _(lab: Lab) -> None:
    hugepages.reserve(lab, GUEST_MB)
    switch = Testpmd(lab, 'switch', [eal.vdev(lab.settings, PORT, socket_of(lab, PORT))])
    guest = Testpmd(lab, 'guest', [
        f'net_virtio_user0,path={socket_of(lab, PORT)},queue_size=256'],
        cpu=PEER_CPU, huge=True, memory_mb=GUEST_MB, mbufs=4096)
    switch.wait_link(PORT)
    switch.start()
    guest.command('start tx_first')
    until(lambda: _look(switch)['from_guest_rate'] > 0, 30.0, 'packets from the guest to be seen')
    switch.stop_forwarding()
    seen, told = _look(switch), switch.telemetry(f'/dynvhost/mem,{PORT}')
    stats = switch.stats(PORT)
    check(seen['link'] == 'up' and (seen['rings_started'], seen['rings']) == (2, 2),
          f'link and rings are shown as {seen}')
    for name in FIGURES:
        check(seen[name] == told[name], f'{name}: {seen[name]} is shown, {told[name]} is told')
    check(0 < seen['loadable_bytes'] <= seen['loadable_peak'] <= seen['guest_bytes'],
          f'what is reachable is shown as {seen}')
    check((seen['packets_from_guest'], seen['packets_to_guest'])
          == (stats.rx_packets, stats.tx_packets), f'{seen} is shown, {stats} is counted')
    note(f'{stats.rx_packets} packets, {seen["loadable_bytes"]} bytes loadable')
    guest.quit()
    switch.wait_link(PORT, up=False)
    left = _look(switch)
    check((left['link'], left['guest_bytes'], left['loadable_bytes'], left['last_event'])
          == ('down', 0, 0, 'waiting for a front-end to connect'), f'afterwards: {left}')
    switch.quit()
