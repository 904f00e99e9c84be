#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""The scorecard's cells, measured beside net_vhost and judged.

Prints one line for each cell, and leaves them as a table and as pictures, one for each kind of cell.
The status says only whether things could be measured: a machine at work may miss any limit.
"""

import argparse
import dataclasses
import statistics
import sys

import pairs
import plot
import program
import report
from cells import CELLS, FAR_NS, Cell
from program import BASELINE, PORT, Line, Program

QUICK_SAMPLES = 5
TITLES = {"one": "Cycles per packet, one core", "two": "Packets, two cores",
          "pair": "Packets, two testpmd"}
HEADER = ["cell", BASELINE, PORT, "unit", "ratio", "bar", "stretch", "verdict"]


@dataclasses.dataclass
class Result:
    """What the runs of one cell came to."""

    cell: Cell
    baseline: float | None = None
    value: float | None = None
    ratio: float | None = None
    remark: str = ""
    verdict: str = "not measured"

    @property
    def row(self) -> list[str]:
        """As a line of the table."""
        cell = self.cell
        numbers = ["–"] * 3 if self.ratio is None else [
            f"{self.baseline:.1f}", f"{self.value:.1f}", f"{self.ratio:.3f}"]
        return [f"{cell.name} {cell.what}", *numbers[:2], cell.unit, numbers[2], f"{cell.bar}",
                f"{cell.stretch}", self.verdict + (f" ({self.remark})" if self.remark else "")]


def is_placed(cell: Cell, round_trip: float) -> bool:
    """Whether the two CPUs were as the cell wants them."""
    if cell.kind == "one" or cell.regime == "any":
        return True
    return (round_trip > FAR_NS) == (cell.regime == "far")


def judge(cell: Cell, runs: list[list[Line]]) -> Result:
    """The median of the runs of a cell, and what it is worth."""
    result = Result(cell)
    good = [run for run in runs if is_placed(cell, run[1].round_trip) and run[1].ratio > 0]
    if runs and cell.kind == "two":
        trips = [own.round_trip for _, own in good or runs]
        result.remark = f"{statistics.median(trips):.0f} ns"
    if good:
        result.baseline = statistics.median(other.value for other, _ in good)
        result.value = statistics.median(own.value for _, own in good)
        result.ratio = statistics.median(own.ratio for _, own in good)
        result.verdict = cell.verdict(result.ratio)
    elif cell.regime != "any":
        result.remark = f"{result.remark}, wanted {cell.regime}".lstrip(", ")
    return result


def judge_pair(cell: Cell, flows: list[pairs.Result]) -> Result:
    """The flow that a cell is named after; the others of its direction only have to hold."""
    same = [flow for flow in flows if flow.flow.to_guest == (cell.name == "P1")]
    last = same[-1]
    if not all(flow.kept for flow in same):
        return Result(cell)
    result = Result(cell, last.baseline, last.value, last.ratio, verdict=cell.verdict(last.ratio))
    remarks = [f"{flow.flow.size}: {flow.ratio:.2f}" for flow in same[:-1]]
    if last.round_trip > 0:
        remarks.append(f"{last.round_trip:.0f} ns")
    result.remark = "; ".join(remarks)
    if any(flow.verdict == "below" for flow in same):
        result.verdict = "below"
    return result


def measure_bursts(bench: Program, cells: list[Cell], runs: int) -> list[Result]:
    """Cells of one core and of two."""
    found: dict[str, list[list[Line]]] = {cell.name: [] for cell in cells}
    for _ in range(runs):
        for kind in ("one", "two"):
            part = {cell.name: cell.shape for cell in cells if cell.kind == kind}
            lines = bench.run(part, two=kind == "two") if part else {}
            for name, of_cell in lines.items():
                found[name].append(of_cell)
    return [judge(cell, found[cell.name]) for cell in cells]


def measure_pairs(bench: Program, cells: list[Cell], turns: int) -> list[Result]:
    """Cells of two processes; all that they need is measured in the same runs."""
    if not cells:
        return []
    wanted = {cell.name == "P1" for cell in cells}
    flows = pairs.measure([flow for flow in pairs.FLOWS if flow.to_guest in wanted], turns, bench)
    return [judge_pair(cell, flows) for cell in cells]


def summary(results: list[Result]) -> str:
    """How many cells came to what."""
    verdicts = [result.verdict for result in results]
    return (f"{len(results)} cells: {verdicts.count('stretch')} at stretch, "
            f"{verdicts.count('bar')} at their bar, {verdicts.count('below')} below, "
            f"{verdicts.count('not measured')} not measured.")


def write_plots(args: argparse.Namespace, results: list[Result]) -> None:
    """One picture for each kind of cell."""
    for kind, title in TITLES.items():
        rows = [(f"{result.cell.name} {result.cell.what}", result.ratio, result.cell.bar,
                 result.cell.stretch, result.verdict)
                for result in results if result.cell.kind == kind]
        if rows:
            plot.write_bars(args.out / f"{args.name}-{kind}.svg",
                            f"{title}: ratio to {BASELINE}; marks: bar (dark), stretch (grey)", rows)


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="one short run, cells of one core")
    parser.add_argument("--turns", type=int, default=5, help="runs of each driver in P cells")
    parser.add_argument("--cells", default="", help="only these, as S1,S2,T4")
    parser.add_argument("--name", default="scorecard", help="of the files that are left")
    args = program.parse(parser)
    if args.quick:
        args.runs, args.samples = 1, min(args.samples, QUICK_SAMPLES)
    cells = [cell for cell in CELLS if (not args.cells or cell.name in args.cells.split(","))
             and (cell.kind == "one" or not args.quick)]
    bench = program.from_arguments(args)
    results = measure_bursts(bench, [cell for cell in cells if cell.kind != "pair"], args.runs)
    results += measure_pairs(bench, [cell for cell in cells if cell.kind == "pair"], args.turns)
    report.write(args.out, args.name, HEADER, [result.row for result in results],
                 summary(results))
    write_plots(args, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
