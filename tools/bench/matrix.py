#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Every shape that bench_burst knows, beside net_vhost: none may be slower than 0.98 of it.

Prints the ratios to net_vhost, one core in cycles, the lower the better, or with --two of two cores
in packets per second, the higher the better. What misses the limit is measured twice more, and the
median counts. The status says only whether things could be measured.
"""

import argparse
import dataclasses
import sys

import program
from program import Line, Program

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


def is_slower(line: Line) -> bool:
    """Whether a ratio misses the limit."""
    return line.ratio < LIMIT if line.unit == "Mpps" else line.ratio > 1 / LIMIT


def measure(bench: Program, shapes: list[Shape], two: bool) -> dict[str, list[Line]]:
    """Baseline and port of each shape that could be measured."""
    found: dict[str, list[Line]] = {}
    for start in range(0, len(shapes), CHUNK):
        chunk = {shape.name: shape.words for shape in shapes[start:start + CHUNK]}
        found |= bench.run(chunk, two=two)
    again = {shape.name: shape.words for shape in shapes
             if shape.name in found and is_slower(found[shape.name][1])}
    runs = [bench.run(again, two=two) for _ in range(RUNS_AGAIN)] if again else []
    for name in again:
        all_runs = [found[name]] + [run[name] for run in runs if name in run]
        found[name] = [program.middle([lines[i] for lines in all_runs]) for i in (0, 1)]
    return found


def print_table(shapes: list[Shape], found: dict[str, list[Line]]) -> None:
    """Ratios, those that miss the limit marked."""
    rows = list(dict.fromkeys(shape.row for shape in shapes))
    columns = list(dict.fromkeys(shape.column for shape in shapes))
    print(f"{'':20}" + "".join(f"{column:>12}" for column in columns))
    for row in rows:
        cells = []
        for column in columns:
            lines = found.get(f"{row}: {column}")
            cells.append("-" if lines is None else
                         f"{lines[1].ratio:.2f}{'!' if is_slower(lines[1]) else ' '}")
        print(f"{row:20}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser, samples=7)
    parser.add_argument("--two", action="store_true", help="two cores")
    args = parser.parse_args()
    bench = program.from_arguments(args)
    tables = [by_size(args.two)] + ([] if args.two else [by_other()])
    slower, measured, total = 0, 0, 0
    for shapes in tables:
        found = measure(bench, shapes, args.two)
        print_table(shapes, found)
        slower += sum(is_slower(lines[1]) for lines in found.values())
        measured += len(found)
        total += len(shapes)
    print(f"{total} shapes: {slower} slower than {LIMIT} of net_vhost, "
          f"{total - measured} not measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
