#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Two dpdk-testpmd, one with a port of each driver in turn, the other with virtio_user as its guest.

Each polls on a CPU of its own, which it has to itself for the length of a measurement if we may see to
that. Runs of the drivers alternate, and a ratio is the median of the ratios of neighbouring runs. The
driver is taken from DYNVHOST_PLUGIN, as by the end-to-end tests.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator

import report
from program import BASELINE, PORT, parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "app/test-dynvhost/e2e"))

# pylint: disable=wrong-import-position
from harness import eal, hugepages, settings  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.settings import PEER_CPU  # noqa: E402
from harness.testpmd import Testpmd, socket_of  # noqa: E402

MEMORY_MB = 128
WARM_UP_SECONDS = 0.1
WINDOW_SECONDS = 0.5
SIZES = (64, 128, 256, 512, 1024, 1518)
HEADER = ["flow", f"{BASELINE}, Mpps", f"{PORT}, Mpps", "ratio", "single runs", "bar", "stretch",
          "verdict"]
GUEST = "net_virtio_user0,path={},queue_size=256,mrg_rxbuf=1,packed_vq=0"


@dataclasses.dataclass(frozen=True)
class Flow:
    """Packets of one size in one direction."""

    to_guest: bool
    size: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{'host to guest' if self.to_guest else 'guest to host'}, {self.size}"


FLOWS = [Flow(True, 64)] + [Flow(False, size) for size in SIZES]
# Of packets per second to net_vhost: the bar and what is excellent.
LIMITS = {flow: (0.98, 1.0) for flow in FLOWS} | {
    Flow(True, 64): (1.15, 1.4), Flow(False, 1518): (1.05, 1.15)}


@dataclasses.dataclass
class Result:
    """Packets per second of one flow, run by run."""

    flow: Flow
    baseline: list[float] = dataclasses.field(default_factory=list)
    value: list[float] = dataclasses.field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median over neighbouring runs."""
        return statistics.median(own / other for own, other in zip(self.value, self.baseline))

    @property
    def verdict(self) -> str:
        """What the ratio is worth."""
        bar, stretch = LIMITS[self.flow]
        return "stretch" if self.ratio >= stretch else "bar" if self.ratio >= bar else "below"


def hurry(instance: Testpmd, on: bool) -> None:
    """Let nobody run in front of the threads of a testpmd; those that poll come last of them."""
    for task in pathlib.Path(f"/proc/{instance.pid}/task").iterdir():
        polls = "-worker" in (task / "comm").read_text(encoding="utf-8")
        policy = os.SCHED_FIFO if on else os.SCHED_OTHER
        os.sched_setscheduler(int(task.name), policy, os.sched_param((1 if polls else 2) if on
                                                                     else 0))


@contextlib.contextmanager
def hurried(*instances: Testpmd) -> Iterator[None]:
    """For the length of a measurement, if we may."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(3))
    except PermissionError:
        yield
        return
    try:
        for instance in instances:
            hurry(instance, True)
        yield
    finally:
        for instance in instances:
            hurry(instance, False)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def rate(switch: Testpmd, guest: Testpmd, flow: Flow) -> float:
    """Packets per second that arrive."""
    sender, receiver = (switch, guest) if flow.to_guest else (guest, switch)
    sender.command("set fwd txonly")
    sender.command(f"set txpkts {flow.size}")
    receiver.command("set fwd rxonly")
    receiver.start()
    sender.start()
    with hurried(switch, guest):
        time.sleep(WARM_UP_SECONDS)
        began, before = time.monotonic(), receiver.stats(0).rx_packets
        time.sleep(WINDOW_SECONDS)
        ended, after = time.monotonic(), receiver.stats(0).rx_packets
    sender.stop_forwarding()
    receiver.stop_forwarding()
    return (after - before) / (ended - began)


def run_pair(driver: str, flows: list[Flow]) -> list[float]:
    """One run: the rate of each flow."""
    config = settings.from_environment(driver)
    with Lab(config) as lab:
        hugepages.reserve(lab, 2 * MEMORY_MB)
        options = ["--no-flush-rx", "--rxd=256", "--txd=256"]
        switch = Testpmd(lab, "switch", [eal.vdev(config, 0, socket_of(lab, 0))],
                         memory_mb=MEMORY_MB, huge=True, options=options)
        guest = Testpmd(lab, "guest", [GUEST.format(socket_of(lab, 0))], cpu=PEER_CPU,
                        memory_mb=MEMORY_MB, huge=True, options=options)
        switch.wait_link(0)
        rates = [rate(switch, guest, flow) for flow in flows]
        guest.quit()
        switch.quit()
        return rates


def measure(flows: list[Flow], turns: int) -> list[Result]:
    """The flows in alternating runs of both drivers; each turn is told on stderr."""
    results = [Result(flow) for flow in flows]
    for turn in range(turns):
        order = (BASELINE, PORT) if turn % 2 == 0 else (PORT, BASELINE)
        for driver in order:
            for result, value in zip(results, run_pair(driver, flows)):
                (result.value if driver == PORT else result.baseline).append(value / 1e6)
        print(f"turn {turn + 1}: " + "  ".join(
            f"{result.value[-1]:.1f}/{result.baseline[-1]:.1f}" for result in results),
            file=sys.stderr, flush=True)
    return results


def rows(results: list[Result]) -> list[list[str]]:
    """What is told of each flow."""
    table = []
    for result in results:
        bar, stretch = LIMITS[result.flow]
        ratios = [own / other for own, other in zip(result.value, result.baseline)]
        table.append([result.flow.name, f"{statistics.median(result.baseline):.1f}",
                      f"{statistics.median(result.value):.1f}", f"{result.ratio:.2f}",
                      f"{min(ratios):.2f} to {max(ratios):.2f}", f"{bar}", f"{stretch}",
                      result.verdict])
    return table


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", help="not needed here")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the results")
    parser.add_argument("--runs", type=int, default=5, help="of each driver")
    args = parse(parser)
    report.write(args.out, "pairs", HEADER, rows(measure(FLOWS, args.runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
