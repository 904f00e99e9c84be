# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""dpdk-testpmd, driven through its prompt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .eal import Eal
from .errors import check
from .lab import Lab
from .settings import PEER_CPU, SWITCH_CPU
from .telemetry import query
from .wait import until

# What drivers and events print may follow the prompt at once.
PROMPT = 'testpmd> '
BINARY = 'dpdk-testpmd'


@dataclass(frozen=True)
class PortStats:
    """Packets and bytes as testpmd's `show port stats` names them."""
    rx_packets: int
    rx_missed: int
    rx_bytes: int
    rx_errors: int
    tx_packets: int
    tx_errors: int
    tx_bytes: int


class Testpmd:
    """One instance. The forwarding lcore has `cpu` to itself; the prompt runs on the other CPU."""

    def __init__(self, lab: Lab, name: str, vdevs: Sequence[str], *, cpu: int = SWITCH_CPU,
                 memory_mb: int = 256, huge: bool = False, mbufs: int = 16384,
                 options: Sequence[str] = (), eal: Sequence[str] = (),
                 huge_dir: Path | None = None) -> None:
        prompt_cpu = PEER_CPU if cpu == SWITCH_CPU else SWITCH_CPU
        self.eal = Eal(lab, vdevs, f'0@{prompt_cpu},1@{cpu}', memory_mb, huge, eal,
                       huge_dir)
        # Lines must reach the log when they are printed, not when a buffer is full.
        argv = ['stdbuf', '-oL', BINARY, *self.eal.argv(), '--', '--interactive',
                f'--total-num-mbufs={mbufs}', *options]
        self.process = lab.spawn(name, argv, self.eal.environment)
        self.process.expect(PROMPT, 30.0)
        self._check_probed()

    def _check_probed(self) -> None:
        """testpmd goes on without the devices that EAL could not probe."""
        said = self.process.output()
        check('probe failed' not in said,
              'testpmd runs without a device: ' + '; '.join(
                  line for line in said.splitlines() if 'fail' in line or 'rror' in line))

    @property
    def pid(self) -> int:
        return self.process.pid

    def command(self, line: str, timeout: float = 10.0) -> str:
        """Type one command; returns what it printed, without the next prompt."""
        start = self.process.position()
        self.process.send(line)
        self.process.expect(PROMPT, timeout, start)
        return self.process.output(start).split(PROMPT)[0]

    def start_ports(self) -> None:
        answer = self.command('port start all', 20.0)
        check('Fail' not in answer, f'testpmd did not start its ports: {answer}')

    def start(self) -> str:
        """Start forwarding; returns what testpmd says about its ports."""
        answer = self.command('start')
        check('packet forwarding' in answer, f'testpmd did not start forwarding: {answer}')
        return answer

    def stop_forwarding(self) -> None:
        """Stop forwarding and wait until every lcore has left its last burst."""
        answer = self.command('stop', 20.0)
        check('Done' in answer, f'testpmd did not stop forwarding: {answer}')

    def stats(self, port: int) -> PortStats:
        text = self.command(f'show port stats {port}')
        names = ('RX-packets', 'RX-missed', 'RX-bytes', 'RX-errors', 'TX-packets', 'TX-errors',
                 'TX-bytes')
        values = []
        for name in names:
            found = re.search(rf'{name}:\s*(\d+)', text)
            check(found is not None, f'no {name} in {text}')
            values.append(int(found[1]))
        return PortStats(*values)

    def link_up(self, port: int) -> bool:
        return 'Link status: up' in self.command(f'show port info {port}')

    def wait_link(self, port: int, up: bool = True, timeout: float = 20.0) -> None:
        until(lambda: self.link_up(port) == up, timeout,
              f'link {"up" if up else "down"} of port {port}', every=0.1)

    def open_files(self) -> int:
        return len(list(Path(f'/proc/{self.pid}/fd').iterdir()))

    def wait_open_files(self, limit: int) -> None:
        """Wait until the process holds no more files than it did, else it leaks them."""
        until(lambda: self.open_files() <= limit, 10.0,
              f'{limit} open files; {self.open_files()} when it began', every=0.1)

    def telemetry(self, command: str) -> object:
        return query(self.eal.telemetry, command)

    def quit(self) -> None:
        """Leave in the orderly way, as an operator would."""
        self.process.send('quit')
        self.process.expect_success(20.0)


def socket_of(lab: Lab, port: int) -> Path:
    """Where the switch of this lab listens for the front-end of `port`."""
    return lab.path(f'port{port}.sock')
