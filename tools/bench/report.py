# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Tables: for the screen, as CSV, and as the fragments of Markdown that the documents hold."""

import csv
import datetime
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence

Row = Sequence[str]


def plain(header: Row, rows: Sequence[Row]) -> str:
    """In columns, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in [header, *rows])


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """As a table of Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Some rows that all have the same keys."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def machine() -> str:
    """What was measured on, and when."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text("utf-8"),
                    re.MULTILINE)
    dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], stdout=subprocess.PIPE,
                          text=True, check=False).stdout.strip()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return (f"{today}, {os.cpu_count()} CPUs {cpu[1] if cpu else '?'}, {platform.system()} "
            f"{platform.release().split('-')[0]}, DPDK {dpdk}")


def write(folder: pathlib.Path, name: str, header: Row, rows: Sequence[Row],
          note: str = "") -> None:
    """Show a table and leave it in `folder` as name.csv and name.md, a note below it."""
    print(plain(header, rows) + (f"\n{note}" if note else ""), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    text = f"{markdown(header, rows)}\n\n" + (f"{note} " if note else "") + f"({machine()}.)\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
