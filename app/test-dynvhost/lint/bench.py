#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Checks how tools/bench.sh judges what it measures; prints TAP.

Nothing is measured here: a report that takes slower for faster would make every figure worthless.
"""

import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from shared.cases import Cases, compare  # noqa: E402

# In place of this folder, whose numbers.py would be taken for Python's own.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[3] / "tools" / "bench")

import breakdown  # noqa: E402
import document  # noqa: E402
import lines  # noqa: E402
import matrix  # noqa: E402
import pairs  # noqa: E402
import program  # noqa: E402
import report  # noqa: E402
import scorecard  # noqa: E402
from cells import CELLS, Cell  # noqa: E402

ONE = Cell("S", "", "", 0.65, 0.45)
TWO = Cell("T", "", "", 1.4, 2.0, "two", "near")


def line(ratio: float, unit: str = "cycles", round_trip: float = 0, value: float = 1
         ) -> program.Line:
    """What a run says of a port."""
    return program.Line("net_x", unit, value, ratio, 0, 0, 0, round_trip, 0, 0)


def judged(cell: Cell, *runs: tuple[float, float]) -> tuple[float | None, str, str]:
    """Ratio, verdict and remark of runs with these ratios and round trips."""
    result = scorecard.judge(cell, [[line(1), line(ratio, round_trip=trip)]
                                    for ratio, trip in runs])
    return result.ratio, result.verdict, result.remark


def judged_pair(name: str, ratios: dict[int, float]) -> tuple[float | None, str]:
    """Ratio and verdict of a cell of two processes, by the ratios of its sizes."""
    cell = next(cell for cell in CELLS if cell.name == name)
    flows = [pairs.Result(pairs.Flow(name == "P1", size),
                          [(pairs.Sample(10.0), pairs.Sample(10.0 * ratio))])
             for size, ratio in ratios.items()]
    result = scorecard.judge_pair(cell, flows)
    return result.ratio, result.verdict


def judged_turns(*turns: tuple[float, float, float]) -> tuple[float | None, str, str]:
    """Ratio, verdict and remark of P1 by its turns: ratio, and round trips before and after ours;
    those of net_vhost are as before."""
    cell = next(cell for cell in CELLS if cell.name == "P1")
    flow = pairs.Result(pairs.Flow(True, 64), [
        (pairs.Sample(10.0, (before, before)), pairs.Sample(10.0 * ratio, (before, after)))
        for ratio, before, after in turns])
    result = scorecard.judge_pair(cell, [flow])
    return result.ratio, result.verdict, result.remark


def is_enough(turn: int, *turns: tuple[float, float]) -> bool:
    """Whether turns with these round trips will do, after as many and where 3 were asked for."""
    flow = pairs.Result(pairs.Flow(True, 64), [
        (pairs.Sample(1.0, trips), pairs.Sample(1.0, trips)) for trips in turns])
    return pairs.is_enough([flow], turn, 3)


class Runs:
    """A bench of one shape, whose runs find these ratios and round trips."""
    # pylint: disable=too-few-public-methods

    def __init__(self, *runs: tuple[float, float]) -> None:
        self.left = list(runs)

    def run(self, shapes: dict[str, str], two: bool) -> dict[str, list[program.Line]]:
        """The next one."""
        ratio, trip = self.left.pop(0)
        return {name: [line(1, "Mpps", trip), line(ratio, "Mpps", trip)]
                for name in shapes if two}


def in_matrix(runs: int, *found: tuple[float, float]) -> tuple[dict[bool, float], int]:
    """Ratios near and far of the one shape of a matrix, and how many runs were not needed."""
    bench = Runs(*found)
    shape = matrix.Shape("RX", "64", "dir=rx")
    measured = matrix.measure(bench, [shape], True, runs)  # type: ignore[arg-type]
    return ({far: of[shape.name][1].ratio for far, of in measured.items() if of},
            len(bench.left))


def filled(text: str, **tables: str) -> str:
    """A document with these tables put in."""
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            (pathlib.Path(folder) / f"{name}.md").write_text(table, encoding="utf-8")
        return document.fill(text, pathlib.Path(folder))


CASES: Cases = {
    "fewer cycles are better": (
        lambda: [ONE.verdict(ratio) for ratio in (0.45, 0.46, 0.65, 0.66)],
        ["stretch", "bar", "bar", "below"]),
    "more packets are better": (
        lambda: [TWO.verdict(ratio) for ratio in (2.0, 1.9, 1.4, 1.3)],
        ["stretch", "bar", "bar", "below"]),
    "the median of the runs counts": (
        lambda: judged(ONE, (0.9, 0), (0.4, 0), (0.5, 0)), (0.5, "bar", "")),
    "runs with the CPUs elsewhere do not count": (
        lambda: judged(TWO, (2.5, 130), (1.0, 400), (2.5, 150)), (2.5, "stretch", "140 ns")),
    "turns in which the CPUs moved do not count": (
        lambda: judged_turns((1.5, 60, 60), (9.0, 60, 340), (1.5, 62, 64)),
        (1.5, "stretch", "61 ns")),
    "near and far are not mixed: what most turns had counts": (
        lambda: judged_turns((9.0, 60, 60), (1.2, 330, 340), (1.2, 330, 340)),
        (1.2, "bar", "335 ns")),
    "where no turn counts, nothing is measured": (
        lambda: judged_turns((1.5, 60, 340), (1.5, 340, 60)), (None, "not measured", "")),
    "as many turns as asked for, if they count": (
        lambda: [is_enough(2, (60, 60), (60, 60)), is_enough(3, *[(60, 60)] * 3)], [False, True]),
    "more turns while too few count, but not for ever": (
        lambda: [is_enough(3, (60, 60), (60, 340), (60, 60)), is_enough(9, *[(60, 340)] * 9)],
        [False, True]),
    "a cell whose placement did not occur is not measured": (
        lambda: judged(TWO, (2.5, 300)), (None, "not measured", "300 ns, wanted near")),
    "a pair is judged by its last size": (
        lambda: judged_pair("P2", {64: 1.0, 1518: 1.2}), (1.2, "stretch")),
    "a pair is below if any size is": (
        lambda: judged_pair("P2", {64: 0.9, 1518: 1.2}), (1.2, "below")),
    "speed is the inverse of cycles": (
        lambda: [matrix.speed(line(0.5)), matrix.speed(line(0.5, "Mpps"))], [2.0, 0.5]),
    "slower than the limit is found in either unit": (
        lambda: [matrix.is_slower(line(*of)) for of in
                 ((1.01,), (1.03,), (0.99, "Mpps"), (0.97, "Mpps"))],
        [False, True, False, True]),
    "the matrix keeps near and far apart": (
        lambda: in_matrix(3, (1.5, 60), (1.1, 330), (1.7, 62)), ({False: 1.6, True: 1.1}, 0)),
    "what is slower in either is measured twice more": (
        lambda: in_matrix(2, (1.5, 60), (0.9, 330), (1.0, 330), (1.1, 340), (9, 60)),
        ({False: 1.5, True: 1.0}, 1)),
    "no two shapes of the matrix have one name": (
        lambda: [len(shapes) - len({shape.name for shape in shapes})
                 for shapes in (matrix.by_size(False), matrix.by_size(True), matrix.by_other())],
        [0, 0, 0]),
    "runs are joined by medians, and what one misses comes from the others": (
        lambda: {name: of[0].value for name, of in program.repeat(iter([
            {"a": [line(1, value=1)]}, {"a": [line(1, value=7)], "b": [line(1, value=5)]},
            {"a": [line(1, value=3)]}]).__next__, 3).items()}, {"a": 3, "b": 5}),
    "the innermost known function decides on the step": (
        lambda: [breakdown.step_of(functions) for functions in (
            ["__rte_mempool_get", "split_fast_dequeue"], ["unknown", "split_fast_push"],
            ["burst_now", "one_rx"], ["unknown"])],
        ["mbufs from and to the pool", "used descriptors", None, "else"]),
    "a way of bench_lines that was not measured has no figure": (
        lambda: lines.table("64;near;a;1.25\n64;near;b;3\n64;far;b;2.06\n"),
        (["bytes, CPUs", "a", "b"], [["64, near", "1.2", "3.0"], ["64, far", "–", "2.1"]])),
    "tables are tables of Markdown": (
        lambda: report.markdown(["a", "b"], [["1", "2"]]), "| a | b |\n|---|---|\n| 1 | 2 |"),
    "documents take the tables that there are, and keep the others": (
        lambda: filled("x\n<!-- bench t -->\nold\n<!-- end -->\n<!-- bench u -->\no\n<!-- end -->",
                       t="new\n"),
        "x\n<!-- bench t -->\nnew\n<!-- end -->\n<!-- bench u -->\no\n<!-- end -->"),
}

if __name__ == "__main__":
    sys.exit(compare(CASES))
