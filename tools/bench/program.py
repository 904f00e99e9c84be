# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""bench_burst run over some shapes, and what it measured."""

import argparse
import csv
import dataclasses
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

TIMEOUT = 1800
BASELINE, PORT = "net_vhost", "net_dynvhost"


@dataclasses.dataclass(frozen=True)
class Line:
    """What a run says of one port and shape. Cycles per packet, packets per second or nanoseconds;
    the ratio is to the first port of the run."""

    port: str
    unit: str
    value: float
    ratio: float
    cycles: float
    empty: float
    stalls: float
    round_trip: float
    tail: float
    tail_ratio: float

    @staticmethod
    def of(row: Mapping[str, str]) -> "Line":
        """From a line of the table."""
        numbers = {key: float(row[key]) for key in
                   ("value", "ratio", "cycles", "empty", "stalls", "tail", "tail_ratio")}
        return Line(row["port"], row["unit"], round_trip=float(row["round_trip_ns"]), **numbers)


@dataclasses.dataclass(frozen=True)
class Program:
    """How to run it."""

    path: pathlib.Path
    samples: int
    simd: int = 0

    def run(self, shapes: Mapping[str, str], ports: Sequence[str] = (BASELINE, PORT),
            two: bool = False, options: Sequence[str] = ()) -> dict[str, list[Line]]:
        """One run over shapes by name; the lines of each, in the order of ports. A shape that could
        not be measured is missing."""
        names = list(shapes)
        lines: dict[str, list[Line]] = {}
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out.csv"
            command = [self.path, "--csv", out, "--samples", str(self.samples)]
            command += ["--two"] if two else []
            command += ["--simd", str(self.simd)] if self.simd else []
            command += options
            command += [word for port in ports for word in ("--port", port)]
            for number, shape in enumerate(shapes.values()):
                command += ["--shape", f"name={number},{shape}"]
            # What it makes for itself lies in the folder, so that it goes even if it is killed.
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  env={**os.environ, "TMPDIR": folder}, text=True, check=False,
                                  timeout=TIMEOUT)
            if done.stderr or done.returncode != 0:
                print(f"bench_burst: status {done.returncode}: {done.stderr.strip()[-300:]}",
                      file=sys.stderr)
            if out.exists():
                with out.open(encoding="utf-8", newline="") as file:
                    for row in csv.DictReader(file, delimiter=";"):
                        lines.setdefault(names[int(row["shape"])], []).append(Line.of(row))
        return {name: found for name, found in lines.items() if len(found) == len(ports)}


def repeat(run: Callable[[], dict[str, list[Line]]], runs: int) -> dict[str, list[Line]]:
    """The medians of several runs over the same shapes and ports."""
    all_runs = [run() for _ in range(runs)]
    names = dict.fromkeys(name for lines in all_runs for name in lines)
    return {name: [middle(of_port)
                   for of_port in zip(*(lines[name] for lines in all_runs if name in lines))]
            for name in names}


def middle(lines: Sequence[Line]) -> Line:
    """The medians of several runs of one port and shape."""
    fields = {field.name: statistics.median(getattr(line, field.name) for line in lines)
              for field in dataclasses.fields(Line) if field.type is float}
    return dataclasses.replace(lines[0], **fields)


def add_arguments(parser: argparse.ArgumentParser, samples: int = 11, runs: int = 3) -> None:
    """The options that all reports share."""
    parser.add_argument("--bench", required=True, type=pathlib.Path, help="the program")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the results")
    parser.add_argument("--samples", type=int, default=samples, help="of each port and shape")
    parser.add_argument("--runs", type=int, default=runs, help="the median counts")
    parser.add_argument("--simd", type=int, default=0, help="widest registers; 0: EAL's default")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line. From here on a signal to end is an exception, so that what was started ends,
    too, and folders go."""
    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    return args


def from_arguments(args: argparse.Namespace) -> Program:
    """The program as the command line wants it run."""
    return Program(args.bench, args.samples, args.simd)
