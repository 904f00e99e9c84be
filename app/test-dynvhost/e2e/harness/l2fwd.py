# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""DPDK's l2fwd example: pairs of ports, frame in one, frame out the other."""

import signal
from collections.abc import Sequence

from .eal import Eal
from .errors import Skip
from .lab import Lab
from .settings import SWITCH_CPU

START_SECONDS = 30.0


class L2fwd:
    """One instance serving an even number of ports on one lcore; once constructed, its sockets
    listen."""

    def __init__(self, lab: Lab, vdevs: Sequence[str]) -> None:
        binary = lab.settings.deps / 'bin' / 'dpdk-l2fwd'
        if not binary.exists():
            raise Skip(f'no {binary}: run tools/setup.sh')
        self.eal = Eal(lab, vdevs, f'0@{SWITCH_CPU}', memory_mb=512)
        mask = hex((1 << len(vdevs)) - 1)
        # Without --no-mac-updating the example rewrites both addresses, and guests drop the frame.
        argv = ['stdbuf', '-oL', binary, *self.eal.argv(), '--', '-p', mask,
                '-q', str(len(vdevs)), '-T', '0', '--no-mac-updating']
        self.process = lab.spawn('l2fwd', argv, self.eal.environment)
        self.process.expect(r'Checking link status', START_SECONDS)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_running(self) -> None:
        """Forwarding begins when every link is up, or after nine seconds."""
        self.process.expect(r'entering main loop', START_SECONDS)

    def quit(self) -> None:
        """Leave in the orderly way, as an operator would."""
        self.process.signal(signal.SIGINT)
        self.process.expect_success(20.0)
