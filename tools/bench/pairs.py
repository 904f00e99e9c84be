#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Two dpdk-testpmd, one with a port of each driver in turn, the other with virtio_user as its guest.

Each polls on a CPU of its own, which it has to itself for the length of a measurement if we may see to
that. Runs of the drivers alternate, and a ratio is the median of the ratios of neighbouring runs. Virtual
CPUs move, near to each other or far, and rates with them: the round trip of a cache line is taken before
and after each flow, neighbours count if all four say the same, and of these the more frequent kind. The
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
from collections import Counter
from collections.abc import Callable, Iterator

import program
import report
from cells import FAR_NS
from program import BASELINE, PORT, Program, parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "app/test-dynvhost/e2e"))

# pylint: disable=wrong-import-position
from harness import eal, hugepages, settings  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.settings import PEER_CPU  # noqa: E402
from harness.testpmd import Testpmd, socket_of  # noqa: E402

MEMORY_MB = 128
WARM_UP_SECONDS = 0.1
WINDOW_SECONDS = 0.5
MORE_TURNS = 2  # times as many, while too few count
LEAST_TURNS = 3
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


@dataclasses.dataclass(frozen=True)
class Sample:
    """Packets per second of one flow in one run, and the round trips before and after, nanoseconds;
    0: not known."""

    rate: float
    round_trips: tuple[float, float] = (0.0, 0.0)

    @property
    def places(self) -> set[bool]:
        """Whether the CPUs were far from each other, each time."""
        return {round_trip > FAR_NS for round_trip in self.round_trips}


@dataclasses.dataclass
class Result:
    """One flow: neighbouring runs of net_vhost and of ours."""

    flow: Flow
    turns: list[tuple[Sample, Sample]] = dataclasses.field(default_factory=list)

    @property
    def kept(self) -> list[tuple[Sample, Sample]]:
        """The turns that count."""
        still = [(other, own) for other, own in self.turns
                 if len(other.places | own.places) == 1]
        kinds = Counter(min(own.places) for _, own in still)
        return [(other, own) for other, own in still
                if min(own.places) == kinds.most_common(1)[0][0]]

    @property
    def ratios(self) -> list[float]:
        """Of each turn that counts."""
        return [own.rate / other.rate for other, own in self.kept]

    @property
    def baseline(self) -> float:
        """Median of net_vhost."""
        return statistics.median(other.rate for other, _ in self.kept)

    @property
    def value(self) -> float:
        """Median of ours."""
        return statistics.median(own.rate for _, own in self.kept)

    @property
    def ratio(self) -> float:
        """Median over neighbouring runs."""
        return statistics.median(self.ratios)

    @property
    def round_trip(self) -> float:
        """Median, nanoseconds."""
        return statistics.median(trip for _, own in self.kept for trip in own.round_trips)

    @property
    def verdict(self) -> str:
        """What the ratio is worth."""
        if not self.kept:
            return "not measured"
        bar, stretch = LIMITS[self.flow]
        return "stretch" if self.ratio >= stretch else "bar" if self.ratio >= bar else "below"


def line_of(bench: Program | None) -> Callable[[], float]:
    """What takes the round trip of a cache line between the CPUs; nothing to run: it is not known."""
    def ask() -> float:
        if bench is None:
            return 0.0
        quick = dataclasses.replace(bench, samples=1)
        found = quick.run({"line": "dir=rx,page=4K"}, ports=(PORT,), two=True,
                          options=("--ms", "1"))
        return found["line"][0].round_trip if "line" in found else 0.0
    return ask


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


def run_pair(driver: str, flows: list[Flow], line: Callable[[], float]) -> list[Sample]:
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
        samples, before = [], line()
        for flow in flows:
            value = rate(switch, guest, flow) / 1e6
            samples.append(Sample(value, (before, before := line())))
        guest.quit()
        switch.quit()
        return samples


def is_enough(results: list[Result], turn: int, turns: int) -> bool:
    """Whether so many turns will do, of which @turns were asked for."""
    few = any(len(result.kept) < min(LEAST_TURNS, turns) for result in results)
    return turn >= turns * (1 + MORE_TURNS if few else 1)


def measure(flows: list[Flow], turns: int, bench: Program | None = None) -> list[Result]:
    """The flows in alternating runs of both drivers; each turn is told on stderr."""
    results = [Result(flow) for flow in flows]
    line, turn = line_of(bench), 0
    while not is_enough(results, turn, turns):
        order = (BASELINE, PORT) if turn % 2 == 0 else (PORT, BASELINE)
        runs = {driver: run_pair(driver, flows, line) for driver in order}
        for result, other, own in zip(results, runs[BASELINE], runs[PORT]):
            result.turns.append((other, own))
        turn += 1
        print(f"turn {turn}: " + "  ".join(told(*result.turns[-1]) for result in results),
              file=sys.stderr, flush=True)
    return results


def told(other: Sample, own: Sample) -> str:
    """A turn of one flow, for people."""
    places = other.places | own.places
    where = "" if places == {False} else " far" if places == {True} else " moved"
    return f"{own.rate:.1f}/{other.rate:.1f}{where}"


def rows(results: list[Result]) -> list[list[str]]:
    """What is told of each flow."""
    table = []
    for result in results:
        bar, stretch = LIMITS[result.flow]
        numbers = ["–"] * 4
        if result.kept:
            numbers = [f"{result.baseline:.1f}", f"{result.value:.1f}", f"{result.ratio:.2f}",
                       f"{min(result.ratios):.2f} to {max(result.ratios):.2f}"]
        table.append([result.flow.name, *numbers, f"{bar}", f"{stretch}", result.verdict])
    return table


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser, runs=5)
    args = parse(parser)
    results = measure(FLOWS, args.runs, program.from_arguments(args))
    report.write(args.out, "pairs", HEADER, rows(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
