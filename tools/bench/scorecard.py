#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Run bench_burst over the scorecard's cells, judge what it measured, and write it down.

Prints one line for each cell. Writes scorecard.csv, and a picture of the cells of one core and of
two. The status says only whether things could be measured: a machine at work may miss any limit.
"""

import argparse
import csv
import dataclasses
import pathlib
import statistics
import subprocess
import sys
import tempfile

import plot
from cells import CELLS, FAR_NS, Cell


@dataclasses.dataclass
class Result:
    """What the runs of one cell came to."""

    cell: Cell
    baseline: float | None = None
    value: float | None = None
    ratio: float | None = None
    round_trip: float | None = None
    verdict: str = "not measured"


def run_bench(args: argparse.Namespace, cells: list[Cell]) -> dict[str, list[dict[str, str]]]:
    """Run the program once over some cells; returns its lines by cell, the baseline's first."""
    two = cells[0].two
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.csv"
        command = [args.bench, "--csv", out, "--samples", str(args.samples),
                   "--port", args.baseline, "--port", args.port]
        command += ["--two"] if two else []
        command += ["--simd", str(args.simd)] if args.simd else []
        for cell in cells:
            command += ["--shape", f"name={cell.name},{cell.shape}"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
                       timeout=1800)
        lines: dict[str, list[dict[str, str]]] = {}
        with out.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file, delimiter=";"):
                lines.setdefault(line["shape"], []).append(line)
    return lines


def is_placed(cell: Cell, round_trip: float) -> bool:
    """Whether the two CPUs were as the cell wants them."""
    if not cell.two or cell.regime == "any":
        return True
    return (round_trip > FAR_NS) == (cell.regime == "far")


def judge(cell: Cell, runs: list[list[dict[str, str]]]) -> Result:
    """The median of the runs of a cell, and what it is worth."""
    result = Result(cell)
    if runs and cell.two:
        result.round_trip = statistics.median(float(run[1]["round_trip_ns"]) for run in runs)
    good = [run for run in runs
            if is_placed(cell, float(run[1]["round_trip_ns"])) and float(run[1]["ratio"]) > 0]
    if not good:
        return result
    result.baseline = statistics.median(float(run[0]["value"]) for run in good)
    result.value = statistics.median(float(run[1]["value"]) for run in good)
    result.ratio = statistics.median(float(run[1]["ratio"]) for run in good)
    result.verdict = ("stretch" if cell.holds(result.ratio, cell.stretch) else
                      "bar" if cell.holds(result.ratio, cell.bar) else "below")
    return result


def show(result: Result) -> str:
    """The line of a cell."""
    cell = result.cell
    sign = ">=" if cell.two else "<="
    limits = f"bar {sign} {cell.bar:<5} stretch {sign} {cell.stretch:<5}"
    line = f"{cell.name:4} {cell.what:30} "
    if result.ratio is None:
        line += f"{'':33}{limits} {result.verdict}"
    else:
        unit = "Mpps" if cell.two else "cyc "
        line += (f"{result.baseline:7.1f} {result.value:7.1f} {unit} ratio {result.ratio:5.3f} "
                 f"{limits} {result.verdict}")
    if result.round_trip is not None:
        line += f" ({result.round_trip:.0f} ns, wanted {cell.regime})"
    return line


def write_csv(path: pathlib.Path, results: list[Result]) -> None:
    """All results as a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "what", "unit", "baseline", "value", "ratio", "bar", "stretch",
                         "round_trip_ns", "verdict"])
        for result in results:
            cell = result.cell
            writer.writerow([cell.name, cell.what, "Mpps" if cell.two else "cycles",
                             result.baseline, result.value, result.ratio, cell.bar, cell.stretch,
                             result.round_trip, result.verdict])


def write_plots(folder: pathlib.Path, results: list[Result], baseline: str) -> None:
    """One picture for each kind of cell."""
    for two, title in ((False, "Cycles per packet, one core"), (True, "Packets, two cores")):
        rows = [(f"{result.cell.name} {result.cell.what}", result.ratio, result.cell.bar,
                 result.cell.stretch, result.verdict)
                for result in results if result.cell.two == two]
        if rows:
            plot.write(folder / f"scorecard-{'two' if two else 'one'}.svg",
                       f"{title}: ratio to {baseline}; marks: bar and stretch", rows)


def measure(args: argparse.Namespace) -> list[Result]:
    """Run everything that is asked for."""
    cells = [cell for cell in CELLS if (not args.cells or cell.name in args.cells.split(","))
             and not (args.quick and cell.two)]
    runs: dict[str, list[list[dict[str, str]]]] = {cell.name: [] for cell in cells}
    for _ in range(args.runs):
        for two in (False, True):
            part = [cell for cell in cells if cell.two == two]
            for name, lines in (run_bench(args, part) if part else {}).items():
                runs[name].append(lines)
    return [judge(cell, runs[cell.name]) for cell in cells]


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True, type=pathlib.Path, help="the program")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="one short run, cells of one core")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=11)
    parser.add_argument("--simd", type=int, default=0, help="widest registers; 0: EAL's default")
    parser.add_argument("--cells", default="", help="only these, as S1,S2,T4")
    parser.add_argument("--baseline", default="net_vhost")
    parser.add_argument("--port", default="net_dynvhost")
    args = parser.parse_args()
    if args.quick:
        args.runs, args.samples = 1, 5
    results = measure(args)
    for result in results:
        print(show(result))
    verdicts = [result.verdict for result in results]
    print(f"{len(results)} cells: {verdicts.count('stretch')} at stretch, "
          f"{verdicts.count('bar')} at their bar, {verdicts.count('below')} below, "
          f"{verdicts.count('not measured')} not measured")
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "scorecard.csv", results)
    write_plots(args.out, results, args.baseline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
