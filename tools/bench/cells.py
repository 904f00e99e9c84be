# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""The cells of the scorecard: what each measures, and what it must reach.

Ratios are to net_vhost in the same run. In cells of one core they are of cycles, the lower the
better; in cells of two cores and of two processes of packets per second, the higher the better. A
cell that is bound to a placement of the two CPUs, near or far, counts only when they were placed so.
"""

import dataclasses

# Round trips of a cache line below and above this are of CPUs that are near and far.
FAR_NS = 220.0


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell; one core, two cores, or a pair of processes. Of a pair the shape is empty."""

    name: str
    what: str
    shape: str
    bar: float
    stretch: float
    kind: str = "one"
    regime: str = "any"

    @property
    def unit(self) -> str:
        """Of what is measured."""
        return "cycles" if self.kind == "one" else "Mpps"

    def holds(self, ratio: float, limit: float) -> bool:
        """Whether a ratio reaches a limit."""
        return ratio <= limit if self.kind == "one" else ratio >= limit

    def verdict(self, ratio: float) -> str:
        """What a ratio is worth."""
        return ("stretch" if self.holds(ratio, self.stretch) else
                "bar" if self.holds(ratio, self.bar) else "below")


CELLS = [
    Cell("S1", "split RX 64", "dir=rx", 0.65, 0.45),
    Cell("S2", "split TX 64", "dir=tx", 0.50, 0.33),
    Cell("S3", "split RX 1518", "dir=rx,size=1518", 0.90, 0.75),
    Cell("S4", "split TX 1518", "dir=tx,size=1518", 0.85, 0.68),
    Cell("S5", "split mrg csum RX IMIX", "dir=rx,mrg=1,csum=1,size=imix", 0.65, 0.48),
    Cell("S6", "split mrg csum TX IMIX", "dir=tx,mrg=1,csum=1,size=imix", 0.60, 0.45),
    Cell("S7", "packed RX 64", "dir=rx,format=packed", 0.80, 0.60),
    Cell("S8", "packed TX 64", "dir=tx,format=packed", 0.75, 0.58),
    Cell("S9", "packed RX 1518", "dir=rx,format=packed,size=1518", 0.92, 0.82),
    Cell("S10", "packed TX 1518", "dir=tx,format=packed,size=1518", 0.92, 0.82),
    Cell("S11", "packed in-order RX 256", "dir=rx,format=packed,inorder=1,size=256", 0.75, 0.55),
    Cell("S12", "split TX 512", "dir=tx,size=512", 0.55, 0.40),
    Cell("S13", "burst 1, split RX 64", "dir=rx,burst=1", 0.60, 0.45),
    Cell("S14", "empty poll", "dir=empty", 0.60, 0.30),
    Cell("S15", "8 regions, split RX 64", "dir=rx,regions=8", 0.65, 0.45),
    Cell("S16", "cold 1518 split TX", "dir=tx,size=1518,buffers=20000", 0.80, 0.55),
    Cell("S17", "Linux layout 512, mrg csum RX", "dir=rx,size=512,at=12,mrg=1,csum=1", 0.80, 0.60),
    Cell("T1", "split RX 64 near", "dir=rx,touch=all", 1.4, 2.0, "two", "near"),
    Cell("T2", "split TX 64 near", "dir=tx,touch=all", 1.7, 2.5, "two", "near"),
    Cell("T3", "packed TX 64 near", "dir=tx,format=packed,touch=all", 1.25, 1.6, "two", "near"),
    Cell("T4", "split TX 1518", "dir=tx,size=1518,touch=all", 1.15, 1.3, "two"),
    Cell("T5", "packed RX 64 far", "dir=rx,format=packed,touch=all", 0.98, 1.1, "two", "far"),
    Cell("P1", "testpmd, split TX 64", "", 1.15, 1.4, "pair"),
    Cell("P2", "testpmd, split RX 1518", "", 1.05, 1.15, "pair"),
]
