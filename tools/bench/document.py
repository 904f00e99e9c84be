#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Put the tables that the reports have left into documents, where these have a place for them.

The place of the table NAME lies between the lines <!-- bench NAME --> and <!-- end -->. What no report
has left stays as it is.
"""

import argparse
import pathlib
import re
import sys

PLACE = re.compile(r"(<!-- bench ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, folder: pathlib.Path) -> str:
    """A document with the tables of `folder` in it."""
    def table(place: re.Match[str]) -> str:
        file = folder / f"{place[2]}.md"
        return (f"{place[1]}{file.read_text(encoding='utf-8')}{place[3]}" if file.exists() else
                place[0])

    return PLACE.sub(table, text)


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the results")
    parser.add_argument("document", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    for path in args.document:
        text = path.read_text(encoding="utf-8")
        filled = fill(text, args.out)
        if filled != text:
            path.write_text(filled, encoding="utf-8")
            print(f"{path}: changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
