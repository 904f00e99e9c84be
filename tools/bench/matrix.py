#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Every shape that bench_burst knows, beside net_vhost: none may be slower than 0.98 of it.

Tells how many times as fast a port is, in cycles per packet on one core, or with --two in packets per
second of two cores, apart for those that are near and far from each other. What misses the limit is
measured twice more, and the median counts. The status says only whether things could be measured.
"""

import argparse
import dataclasses
import sys

import plot
import program
import report
from cells import FAR_NS
from program import BASELINE, Line, Program

LIMIT = 0.98
SIZES = ("64", "128", "256", "512", "1024", "1518", "imix")
FORMATS = {"split": "", "split mrg csum": ",mrg=1,csum=1", "packed": ",format=packed",
           "packed in-order": ",format=packed,inorder=1"}
DIRS = {"RX": "dir=rx", "TX": "dir=tx"}
CHUNK = 28
RUNS_AGAIN = 2


@dataclasses.dataclass(frozen=True)
class Shape:
    """One cell: a row and a column of a table."""

    row: str
    column: str
    words: str

    @property
    def name(self) -> str:
        """As bench_burst calls it."""
        return f"{self.row}: {self.column}"


def by_size(two: bool) -> list[Shape]:
    """Ring formats by frame sizes; with two cores the guest touches every line."""
    touch = ",touch=all" if two else ""
    return [Shape(f"{ring} {way}", size, f"{DIRS[way]}{FORMATS[ring]},size={size}{touch}")
            for ring in FORMATS for way in DIRS for size in SIZES]


def by_other() -> list[Shape]:
    """What else a shape may be: lengths of bursts, layouts, caches, pages."""
    special = {
        "burst 1": "burst=1", "burst 4": "burst=4", "burst 8": "burst=8", "burst 64": "burst=64",
        "burst 128": "burst=128", "8 regions": "regions=8", "4 KiB pages": "page=4K",
        "event index": "event=1",
        "Linux 64": "at=12,mrg=1,csum=1", "Linux 512": "at=12,mrg=1,csum=1,size=512",
        "Linux 1518": "at=12,mrg=1,csum=1,size=1518", "cold 64": "buffers=20000",
        "cold 512": "buffers=20000,size=512", "cold 1518": "buffers=20000,size=1518"}
    return [Shape(what, f"{ring} {way}", f"{DIRS[way]}{FORMATS[ring]},{words}")
            for what, words in special.items() for ring in ("split", "packed") for way in DIRS]


def speed(line: Line) -> float:
    """How many times as fast as net_vhost."""
    return line.ratio if line.unit == "Mpps" else 1 / line.ratio


def is_slower(line: Line) -> bool:
    """Whether a shape misses the limit."""
    return speed(line) < LIMIT


Found = dict[str, list[Line]]


def is_far(lines: list[Line]) -> bool:
    """Where the two cores were while a shape was measured; one core is near to itself."""
    return lines[-1].round_trip > FAR_NS


def middle(runs: list[list[Line]]) -> list[Line]:
    """The medians of several runs of a shape."""
    return [program.middle(of_port) for of_port in zip(*runs)]


def measure(bench: Program, shapes: list[Shape], two: bool, runs: int) -> dict[bool, Found]:
    """Baseline and port of each shape that could be measured, of cores that are near and far."""
    found: dict[bool, dict[str, list[list[Line]]]] = {False: {}, True: {}}

    def run(chunk: list[Shape]) -> None:
        words = {shape.name: shape.words for shape in chunk}
        for name, lines in (bench.run(words, two=two) if words else {}).items():
            found[is_far(lines)].setdefault(name, []).append(lines)

    for _ in range(runs):
        for start in range(0, len(shapes), CHUNK):
            run(shapes[start:start + CHUNK])
    again = [shape for shape in shapes
             if any(is_slower(middle(of[shape.name])[-1])
                    for of in found.values() if shape.name in of)]
    for _ in range(RUNS_AGAIN):
        run(again)
    return {far: {name: middle(of_shape) for name, of_shape in of.items()}
            for far, of in found.items()}


def write(args: argparse.Namespace, name: str, title: str, shapes: list[Shape],
          found: Found) -> None:
    """The table and the picture of some shapes, and all that was measured of them."""
    rows = list(dict.fromkeys(shape.row for shape in shapes))
    columns = list(dict.fromkeys(shape.column for shape in shapes))
    speeds = {(shape.row, shape.column): speed(found[shape.name][1])
              for shape in shapes if shape.name in found}
    cells = [[row] + [text(speeds.get((row, column))) for column in columns] for row in rows]
    report.write(args.out, name, ["", *columns], cells, verdict(shapes, found))
    plot.write_heat(args.out / f"{name}.svg", f"{title}: how many times as fast as {BASELINE}",
                    rows, columns, speeds, LIMIT)
    report.write_csv(args.out / f"{name}-all.csv",
                     [{"shape": key} | dataclasses.asdict(line)
                      for key, lines in found.items() for line in lines])


def text(value: float | None) -> str:
    """Of one cell, those that miss the limit marked."""
    return "–" if value is None else f"{value:.2f}" if value >= LIMIT else f"**{value:.2f}**"


def verdict(shapes: list[Shape], found: Found) -> str:
    """One line for all."""
    slower = [f"{name} ({speed(lines[1]):.2f})" for name, lines in found.items()
              if is_slower(lines[1])]
    trips = [lines[1].round_trip for lines in found.values() if lines[1].round_trip > 0]
    return (f"{len(shapes)} shapes, {len(shapes) - len(found)} of them not measured, {len(slower)} "
            f"below {LIMIT} of {BASELINE}: " + ("missed by " + ", ".join(slower) if slower else
                                                "holds") +
            (f". Round trip of a cache line {min(trips):.0f} to {max(trips):.0f} ns." if trips
             else "."))


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser, samples=7, runs=1)
    parser.add_argument("--two", action="store_true", help="two cores")
    args = program.parse(parser)
    bench = program.from_arguments(args)
    if args.two:
        found = measure(bench, by_size(True), True, args.runs)
        for far, name in ((False, "near"), (True, "far")):
            write(args, f"matrix-{name}", f"Packets per second, two {name} cores", by_size(True),
                  found[far])
        return 0
    for name, title, shapes in (
            ("matrix-one", "Cycles per packet, one core", by_size(False)),
            ("matrix-other", "Cycles per packet, one core, 64 bytes or as said", by_other())):
        write(args, name, title, shapes, measure(bench, shapes, False, args.runs)[False])
    return 0


if __name__ == "__main__":
    sys.exit(main())
