#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""How the cycles of a packet grow with ports, regions, rings, guests, and with small pages.

One core, split ring, 64 bytes, cycles per packet, beside net_vhost where it goes along: it takes eight
regions, and an application built with room for 32 ports can have as many of one driver at most.
"""

import argparse
import dataclasses
import sys

import program
import report
from program import BASELINE, PORT, Line, Program

DIRS = {"RX": "dir=rx", "TX": "dir=tx"}


@dataclasses.dataclass(frozen=True)
class Series:
    """Values of one property; which of them net_vhost takes, and which only a process of its own."""

    name: str
    what: str
    shapes: dict[str, str]
    empty: bool = False
    beside: int = 1000
    alone: tuple[str, ...] = ()


SERIES = [
    Series("ports", "ports polled by one core, each with its guest, 4 KiB pages",
           {str(n): f"ports={n},page=4K" for n in (1, 8, 16, 32)}, empty=True, alone=("32",)),
    Series("regions", "memory regions, 1018 buffers all over them, 4 KiB pages",
           {str(n): f"regions={n},buffers=1018,page=4K" for n in (1, 8, 64, 509)}, beside=2),
    Series("ring", "descriptors of a ring", {
        str(n): f"ring={n}" for n in (64, 256, 1024, 4096, 32768)}),
    Series("guest", "a guest's memory, 256 buffers of each ring all over it, 4 KiB pages",
           {"1 GiB": "memory=1G,page=4K", "32 GiB": "memory=32G,page=4K",
            "1 TiB": "memory=1T,page=4K"}),
]
LAZY = {"hot, 2 MiB": "page=2M", "hot, 4 KiB": "page=4K",
        "cold, 2 MiB": "page=2M,buffers=20000", "cold, 4 KiB": "page=4K,buffers=20000"}
# While the others go through their buffers, a port rests for longer than the default lets it.
REST = "map-idle-ms=30000"
LAZY_PORTS = [BASELINE, f"{PORT},map-mode=eager", f"{PORT},{REST}"]

Found = dict[str, list[Line]]


def run_series(bench: Program, series: Series, way: str, dirs: str, runs: int) -> Found:
    """Baseline, where there is one, and port of each value; the port last."""
    shapes = {name: f"{dirs},{words}" for name, words in series.shapes.items()}
    names = list(shapes)
    beside = {name: shapes[name] for name in names[:series.beside] if name not in series.alone}
    own = {name: shapes[name] for name in names[series.beside:]}
    alone = {name: shapes[name] for name in series.alone}
    found = program.repeat(lambda: bench.run(beside), runs)
    if own:
        found |= program.repeat(lambda: bench.run(own, [PORT]), runs)
    if alone:
        parts = [program.repeat(lambda p=port: bench.run(alone, [p]), runs)
                 for port in (BASELINE, PORT)]
        found |= {name: [part[name][0] for part in parts] for name in alone
                  if all(name in part for part in parts)}
    print(f"{series.name}, {way}: {len(found)} of {len(shapes)} measured", file=sys.stderr)
    return found


def series_rows(series: Series, found: dict[str, Found]) -> list[list[str]]:
    """One row for each value, all directions."""
    rows = []
    for value in series.shapes:
        row = [value]
        for lines in (found[way].get(value) for way in found):
            if lines is None:
                row += ["–"] * 3
                continue
            own, other = lines[-1].value, lines[0].value if len(lines) == 2 else None
            row += [f"{other:.1f}" if other else "–", f"{own:.1f}",
                    f"{own / other:.2f}" if other else "–"]
        rows.append(row)
    return rows


def write_series(args: argparse.Namespace, bench: Program, series: Series) -> None:
    """Measure a property and leave its table."""
    ways = DIRS | ({"empty poll": "dir=empty"} if series.empty else {})
    found = {way: run_series(bench, series, way, dirs, args.runs) for way, dirs in ways.items()}
    header = [series.what]
    for way in ways:
        header += [f"{way} {BASELINE}", PORT, "ratio"]
    report.write(args.out, f"scaling-{series.name}", header, series_rows(series, found))


def write_lazy(args: argparse.Namespace, bench: Program) -> None:
    """The price of opening on demand, by page size and with buffers in cache or not."""
    rows = []
    for way, dirs in DIRS.items():
        shapes = {f"{name}, {way}": f"{dirs},{words}" for name, words in LAZY.items()}
        found = program.repeat(lambda s=shapes: bench.run(s, LAZY_PORTS), args.runs)
        for name, lines in found.items():
            eager = lines[1].value
            rows.append([name, *(f"{line.value:.1f}" for line in lines),
                         f"{lines[2].value / eager:.2f}", f"{lines[2].ratio:.2f}"])
    report.write(args.out, "scaling-lazy", [
        "buffers, pages", BASELINE, "eager", "on demand", "to eager", f"to {BASELINE}"], rows)


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser, samples=7)
    parser.add_argument("--only", default="", help="one of these: ports, regions, ring, guest, lazy")
    args = program.parse(parser)
    bench = program.from_arguments(args)
    for series in SERIES:
        if args.only in ("", series.name):
            write_series(args, bench, series)
    if args.only in ("", "lazy"):
        write_lazy(args, bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
