#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""What opening on demand and idle closing cost a port at work: less than 2 % of its cycles.

Laziness: packets right after the first pass over all buffers of the rings, which opens them, beside
map-mode=eager, where all is open from the beginning. Idle closing: a port that is never idle, beside
one that never closes; means, since passes come now and then. Ten times as many passes, which show where
two a second hardly do, may cost ten times as much.
"""

import argparse
import sys

import program
import report

LIMIT = 1.02
SHAPES = {f"{what}, {pages} pages": f"{shape},page={page}"
          for pages, page in (("2 MiB", "2M"), ("4 KiB", "4K"))
          for what, shape in (("S1 split RX 64", "dir=rx"), ("S2 split TX 64", "dir=tx"))}
EAGER = ["net_dynvhost,map-mode=eager", "net_dynvhost", "net_dynvhost,map-mode=mmap"]
IDLE = ["net_dynvhost,map-idle-ms=0", "net_dynvhost", "net_dynvhost,map-idle-ms=100"]
# No port may rest for 50 ms, half of map-idle-ms, while the others are measured.
IDLE_OPTIONS = ["--mean", "--packets", "200000"]
OFTEN = IDLE[2]
HEADER = ["cell", "beside", "options", "ratio", "at most", "verdict"]


def limit_of(port: str) -> float:
    """What the ratio of a port may be."""
    return 1 + 10 * (LIMIT - 1) if port == OFTEN else LIMIT


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    program.add_arguments(parser, samples=101)
    args = program.parse(parser)
    bench = program.from_arguments(args)
    rows = []
    for ports, options in ((EAGER, []), (IDLE, IDLE_OPTIONS)):
        found = program.repeat(lambda: bench.run(SHAPES, ports, options=options), args.runs)
        for name, (first, *others) in found.items():
            rows += [[name, first.port.partition(",")[2], line.port.partition(",")[2] or "defaults",
                      f"{line.ratio:.3f}", f"{limit_of(line.port):.2f}",
                      "holds" if line.ratio <= limit_of(line.port) else "missed"]
                     for line in others]
    report.write(args.out, "invariants", HEADER, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
