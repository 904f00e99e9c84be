# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Two Linux guests talk through dpdk-testpmd, and you watch what it can reach of their memory.

tools/demo.sh builds the driver and starts this. It ends by itself in about a minute.
"""

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'lib'),
                str(HERE.parents[1] / 'app' / 'test-dynvhost' / 'e2e')]

import report  # noqa: E402
from amounts import size  # noqa: E402
from harness import eal, settings  # noqa: E402
from harness.accel import accelerator  # noqa: E402
from harness.errors import Failure, Skip  # noqa: E402
from harness.guest import Guest  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.pair import IPERF_PORT, wait_listening  # noqa: E402
from harness.testpmd import Testpmd, socket_of  # noqa: E402
from harness.wait import until  # noqa: E402
from meter import Meter, Reading  # noqa: E402
from screen import Screen  # noqa: E402

PORTS = {'a': 0, 'b': 1}
DRAW_SECONDS = 0.5
AGREE_SECONDS = 5.0


class Demo:
    """The switch, the guests and the figures; one method per act."""

    def __init__(self, lab: Lab, screen: Screen, guest_mb: int, act_seconds: int) -> None:
        self.lab = lab
        self.screen = screen
        self.guest_mb = guest_mb
        self.act_seconds = act_seconds
        self.meters: dict[str, Meter] = {}

    def start(self) -> None:
        self.screen.say('Looking whether KVM works here.')
        kvm = accelerator(self.lab.settings) == 'kvm'
        self.screen.say('It does.' if kvm else
                        'It does not: the guests are emulated, which costs speed and nothing else.')
        self.screen.say(f'Starting dpdk-testpmd with two {self.lab.settings.driver} ports, and two '
                        f'Linux guests of {self.guest_mb} MiB.')
        began = time.monotonic()
        self.switch = Testpmd(self.lab, 'switch', [
            eal.vdev(self.lab.settings, port, socket_of(self.lab, port))
            for port in PORTS.values()])
        self.switch.start()
        self.guests = {
            name: Guest(self.lab, name, [socket_of(self.lab, port)], [f'10.0.0.{port + 1}/24'],
                        memory_mb=self.guest_mb)
            for name, port in PORTS.items()}
        for name, guest in self.guests.items():
            guest.wait_ready()
            self.meters[name] = Meter(self.switch, PORTS[name], guest)
        self.screen.say(f'Both guests are up after {time.monotonic() - began:.0f} s.')
        self.screen.say()

    def readings(self) -> dict[str, Reading]:
        return {name: meter.read() for name, meter in self.meters.items()}

    def show(self, doing: str) -> None:
        readings = self.readings()
        rate = max(meter.rate() for meter in self.meters.values())
        self.screen.block(report.table(self.screen, doing, rate, readings),
                          report.plain(self.screen, doing, rate, readings))

    def watch(self, doing: str, over: Callable[[float], bool]) -> None:
        """Keep the figures moving until `over`, which waits for that as long as it is told."""
        self.show(doing)
        while not over(DRAW_SECONDS):
            self.show(doing)

    def act(self, doing: str, source: str, command: str) -> str:
        """Run a command in a guest and show the figures meanwhile; returns what it printed."""
        guest = self.guests[source]
        guest.console.send(command)
        self.watch(doing, guest.console.finished)
        status, output = guest.console.result(5.0)
        if status != 0:
            raise Failure(f'in guest {source}, {command!r} ended with {status}: {output.strip()}')
        return output

    def rest(self, doing: str, seconds: float) -> None:
        end = time.monotonic() + seconds

        def over(patience: float) -> bool:
            time.sleep(patience)
            return time.monotonic() >= end

        self.watch(doing, over)

    def tell(self, what: str) -> None:
        """One line that stays: what happened, and what is reachable after it."""
        self.screen.say(report.event(self.screen, what, self.readings()))

    def play(self) -> None:
        self.rest('before the first packet', 2.0)
        self.tell('before the first packet')
        self.ping()
        self.transfer('a', 'b')
        self.transfer('b', 'a')
        self.rest('the guests are silent', 4.0)
        self.tell('after 4 s of silence')

    def ping(self) -> None:
        address = self.guests['b'].address
        output = self.act('guest a pings guest b', 'a', f'ping -q -c 100 -i 0.03 {address}')
        answered = output.split(' packets received')[0].split()[-1]
        self.tell(f'ping: {answered} of 100 answered')

    def transfer(self, source: str, target: str) -> None:
        self.guests[target].ok('pidof iperf3 >/dev/null || iperf3 -s -D')
        wait_listening(self.guests[target], IPERF_PORT)
        output = self.act(f'iperf3 from guest {source} to guest {target}', source,
                          f'iperf3 -J -c {self.guests[target].address} -t {self.act_seconds}')
        received = json.loads(output)['end']['sum_received']
        self.tell(f'iperf3 {source} to {target}: {size(received["bytes"])} at '
                  f'{received["bits_per_second"] / 1e6:,.0f} Mbit/s')

    def verdict(self) -> str:
        """Whether driver and page tables tell the same, once nothing moves any more."""
        def settled() -> bool:
            return all(reading.agrees for reading in self.readings().values())

        if any(reading.told is None for reading in self.readings().values()):
            return 'These figures were read from the page tables of the switch (/proc/PID/smaps).'
        until(settled, AGREE_SECONDS, 'the driver to tell what the page tables show')
        return 'The driver tells the same as the page tables of the switch (/proc/PID/smaps).'

    def stay(self) -> None:
        """Leave everything running and say how to get in."""
        login = Path(sys.argv[0]).resolve().parent / 'login.py'
        for name, guest in self.guests.items():
            guest.console.close()
            self.screen.say(f'To log into guest {name}:  {login} {guest.console_path}')
        self.screen.say(f'Logs and sockets are in {self.lab.dir}; Ctrl-C ends it all.')
        self.rest('running until Ctrl-C', math.inf)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='tools/demo.sh', description=__doc__.splitlines()[0])
    parser.add_argument('--keep', action='store_true',
                        help='stay up at the end and tell how to log into the guests')
    parser.add_argument('--driver', default=settings.OUR_DRIVER,
                        choices=(settings.OUR_DRIVER, settings.PEER_DRIVER),
                        help='net_vhost shows the same with the driver DPDK has, for comparison')
    parser.add_argument('--guest-mb', type=int, default=512, metavar='N', help='RAM of each guest')
    parser.add_argument('--seconds', type=int, default=12, metavar='N',
                        help='length of each of the two transfers')
    parser.add_argument('--plain', action='store_true', help='plain lines, no redrawn block')
    return parser.parse_args()


def perform(arguments: argparse.Namespace, screen: Screen, lab: Lab) -> None:
    demo = Demo(lab, screen, arguments.guest_mb, arguments.seconds)
    demo.start()
    demo.play()
    verdict = demo.verdict()
    screen.say(f'\n{verdict}\n')
    headline, *others = report.summary(demo.readings())
    screen.say(screen.bold(headline))
    for line in others:
        screen.say(line)
    if arguments.keep:
        screen.say()
        demo.stay()


def main() -> int:
    arguments = parse_arguments()
    # A shell that starts a program beside itself has it ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    chosen = replace(settings.from_environment(arguments.driver), long=False)
    with Lab(chosen) as lab, Screen(arguments.plain) as screen:
        try:
            perform(arguments, screen, lab)
        except KeyboardInterrupt:
            screen.say('Ended by you.')
            return 0 if arguments.keep else 130
        except (Failure, Skip, OSError) as problem:
            screen.say(lab.tails())
            screen.say(f'demo: {problem}')
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
