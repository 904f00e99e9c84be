#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""What a guest can write into lines that a host has read, by how the host maps them and lets them go.

Packets per second, two threads that do nothing else, apart for CPUs near to each other and far.
"""

import argparse
import subprocess
import sys

import program
import report

UNIT = "Mpps"


def table(text: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what bench_lines prints; a way that was not measured has no figure."""
    rates: dict[tuple[str, str], dict[str, str]] = {}
    ways: dict[str, None] = {}
    for line in text.splitlines():
        size, place, way, rate = line.split(";")
        rates.setdefault((size, place), {})[way] = f"{float(rate):.1f}"
        ways.setdefault(way)
    return (["bytes, CPUs", *ways],
            [[f"{size}, {place}", *(of.get(way, "–") for way in ways)]
             for (size, place), of in rates.items()])


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser)
    args = program.parse(parser)
    done = subprocess.run([args.bench.with_name("bench_lines")], stdout=subprocess.PIPE, text=True,
                          check=True, timeout=program.TIMEOUT)
    report.write(args.out, "lines", *table(done.stdout), f"{UNIT}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
