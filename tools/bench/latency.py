#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""One packet at a time from the guest to the host and back, beside net_vhost.

Nanoseconds from making a buffer available to finding another one used, median and 99th percentile.
On two cores the host polls all the time, and the guest rests a while before each packet or does not.
"""

import argparse
import sys

import program
import report
from program import BASELINE, PORT, Line

LIMIT = 1.05
FORMATS = {"split": "", "packed": ",format=packed"}
SIZES = (64, 1518)
TWO = {"two cores": ",gap=0", "two cores, rest 1 µs": ",gap=1000",
       "two cores, rest 20 µs": ",gap=20000"}
HEADER = ["packet", f"{BASELINE}, median ns", f"{PORT}, median ns", "ratio",
          f"{BASELINE}, p99", f"{PORT}, p99", "ratio", f"at most {LIMIT}"]


def shapes(cores: str, more: str) -> dict[str, str]:
    """The shapes of one way to do it, by name."""
    return {f"{ring} {size} B, {cores}": f"dir=loop,size={size}{FORMATS[ring]}{more}"
            for ring in FORMATS for size in SIZES}


def row(name: str, lines: list[Line]) -> list[str]:
    """What is told of a shape."""
    other, own = lines
    holds = own.ratio <= LIMIT and own.tail_ratio <= LIMIT
    return [name, f"{other.value:.0f}", f"{own.value:.0f}", f"{own.ratio:.2f}",
            f"{other.tail:.0f}", f"{own.tail:.0f}", f"{own.tail_ratio:.2f}",
            "holds" if holds else "missed"]


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser)
    args = program.parse(parser)
    bench = program.from_arguments(args)
    one = shapes("one core", "")
    two = {name: shape for cores, more in TWO.items()
           for name, shape in shapes(cores, more).items()}
    found = program.repeat(lambda: bench.run(one) | bench.run(two, two=True), args.runs)
    trips = [lines[1].round_trip for name, lines in found.items() if name in two]
    note = (f"The round trip of a cache line between the two cores: {min(trips):.0f} to "
            f"{max(trips):.0f} ns." if trips else "")
    report.write(args.out, "latency", HEADER,
                 [row(name, lines) for name, lines in found.items()], note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
