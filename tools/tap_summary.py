#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Sum up a run of tools/test.sh: each skip with its reason, each failure, then the closing line.

Reads the file of results that tools/lib/run_suite.py writes. The status is 0 when something passed
and nothing failed.
"""

import argparse
import json
import pathlib
import sys


def read_results(path: pathlib.Path) -> list[dict]:
    """Read one result per line; no file means that nothing ran."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    """Print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path)
    suites = read_results(parser.parse_args().results)
    skipped = [(s["name"], case, why) for s in suites for case, why in s["skipped"]]
    failed = [(s["name"], case) for s in suites for case in s["failed"]]
    passed = sum(s["passed"] for s in suites)
    print()
    for suite, case, why in skipped:
        print(f"skipped: {suite}: {case}: {why}")
    for suite, case in failed:
        print(f"failed: {suite}: {case}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
