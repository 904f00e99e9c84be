#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Where the cycles of a packet go: a burst's steps, small and large packets, both formats and ways.

bench_burst samples the instructions of the burst calls by a timer. Each is looked up with all
functions that are inlined around it, and counts for the step that the innermost known one belongs to.
A step's cycles are its share of the samples, times what a packet costs when nobody samples.
"""

import argparse
import collections
import csv
import pathlib
import re
import subprocess
import sys
import tempfile

import program
import report
from program import PORT, Program

SHAPES = {f"{ring} {way} {size}": f"{dirs},size={size}{more}"
          for ring, more in (("split", ""), ("packed", ",format=packed"))
          for way, dirs in (("RX", "dir=rx"), ("TX", "dir=tx")) for size in (64, 1518)}
PACKETS = 400000
OTHER = "else"
# A step, and the functions it consists of; the first that matches counts.
STEPS = [
    ("copying bytes", r"fast_moves_copy|fast_moves_fetch|fast_copy|memcpy|memmove|copy_(to|from)_|"
                      r"copy_gather|copy_scatter|_mm\d*_(stream|store|loadu)"),
    ("packet headers", r"fast_moves_header|fast_plain_headers|net_hdr"),
    ("mbuf fields", r"fast_moves_((de|en)queue|take)|fast_mbufs"),
    ("mbufs from and to the pool", r"mempool|pktmbuf|rte_mbuf|rte_ring|common_ring|fast_free|"
                                   r"fast_is_ordinary|mbuf"),
    ("used descriptors", r"fast_push|push_used|push_bufs"),
    ("descriptors, translation", r"fast_decode|fast_load|fast_find|fast_place|fast_prefetch|"
                                 r"fast_ring_of|fast_limit|mem_lookup|chain_|_walk|_peek"),
    ("gate", r"gate_(enter|leave)"),
    ("notification", r"wants?_call|defer_|event"),
    ("burst, statistics", r"rxtx|dynvhost_[rt]x_burst|_burst|_fast_|fast_bytes|rest_|give_back|"
                          r"dequeue|enqueue|rte_eth_[rt]x"),
]
# Taking the time around the call is the bench's own.
OUTSIDE = re.compile(r"burst_now|rdtsc|^one_")

# Samples by object and offset
Samples = dict[tuple[str, int], int]


def step_of(functions: list[str]) -> str | None:
    """The step of an instruction, by its functions, the innermost first; None: not of a burst."""
    for function in functions:
        for name, pattern in STEPS:
            if re.search(pattern, function):
                return name
        if OUTSIDE.search(function):
            return None
    return OTHER


def functions_of(path: str, offsets: list[int]) -> dict[int, list[str]]:
    """The functions around each instruction of an object, the innermost first."""
    if not pathlib.Path(path).is_file():
        return {}
    said = subprocess.run(["addr2line", "-e", path, "-a", "-i", "-f"], text=True, check=True,
                          input="\n".join(map(hex, offsets)), stdout=subprocess.PIPE).stdout
    found: dict[int, list[str]] = {}
    lines = iter(said.splitlines())
    current: list[str] = []
    for line in lines:
        if line.startswith("0x"):
            current = found.setdefault(int(line, 16), [])
        else:
            current.append(line)
            next(lines)
    return found


def shares(samples: Samples) -> dict[str, float]:
    """Each step's share of the samples."""
    count: collections.Counter[str] = collections.Counter()
    for path in {path for path, _ in samples}:
        offsets = [offset for of, offset in samples if of == path]
        known = functions_of(path, offsets)
        for offset in offsets:
            step = ("mbufs from and to the pool" if "mempool" in path else
                    step_of(known.get(offset, [])))
            if step is not None:
                count[step] += samples[path, offset]
    total = sum(count.values())
    return {step: n / total for step, n in count.items()} if total else {}


def sample(bench: Program, runs: int) -> tuple[dict[str, float], dict[str, Samples]]:
    """What a packet costs, and the samples, of each shape."""
    samples: dict[str, Samples] = {name: collections.Counter() for name in SHAPES}
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "profile"

        def run() -> dict[str, list[program.Line]]:
            lines = bench.run(SHAPES, [PORT], options=["--profile", str(out), "--packets",
                                                       str(PACKETS)])
            names = list(SHAPES)
            with out.open(encoding="utf-8", newline="") as file:
                for number, _, path, offset, n in csv.reader(file, delimiter=";"):
                    samples[names[int(number)]][path, int(offset, 16)] += int(n)
            return lines

        found = program.repeat(run, runs)
    return {name: lines[0].value for name, lines in found.items()}, samples


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser, samples=21)
    args = program.parse(parser)
    cycles, samples = sample(program.from_arguments(args), args.runs)
    of_step = {name: shares(samples[name]) for name in cycles}
    rows = [[step, *(f"{of_step[name].get(step, 0) * cycles[name]:.1f}" for name in cycles)]
            for step in [name for name, _ in STEPS] + [OTHER]]
    rows.append(["all", *(f"{cycles[name]:.1f}" for name in cycles)])
    counts = [sum(of.values()) for of in samples.values()]
    report.write(args.out, "breakdown", ["cycles per packet", *cycles], rows,
                 f"{min(counts)} to {max(counts)} samples of each.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
