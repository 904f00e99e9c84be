#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Runs the conformance suite against another driver and reports how the two differ.

    compare.py [--build DIR] [--driver NAME] [TEXT ...]

Every test whose name contains one of the texts (all, without any) runs in a process of its own, so
that one that crashes or hangs spoils no other. This is a report, never a failure: a test asks for what
our driver promises, and another driver may have reasons of its own.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[3]
TEST_SECONDS = 40
# Lines on standard error that drivers and libraries log.
LOG_LINE = re.compile(r'[A-Z_]+: |net_\w+: |[\w-]+\(\): |\s')
RUNS = re.compile(r'\b[A-Z]+_TEST\((test_\w+)\)')


class Result(NamedTuple):
    test: str
    passed: bool
    reason: str


def programs(build: Path) -> list[tuple[Path, list[str]]]:
    """Programs with their tests; those of other variants of the same source are left out."""
    folder = Path(__file__).resolve().parent
    found = []
    for source in sorted(folder.glob('test_*.c')):
        program = build / 'app/test-dynvhost/conform' / f'test_conform_{source.stem[5:]}'
        if program.is_file():
            found.append((program, RUNS.findall(source.read_text())))
    return found


def reason_of(output: str, errors: str, code: int) -> str:
    """What the test said last before it gave up: in words, else what it compared."""
    words = [line for line in errors.splitlines() if line and not LOG_LINE.match(line)]
    if words:
        return words[-1]
    said = [line[2:].strip() for line in output.splitlines() if line.startswith('# ')]
    said = [line for line in said if not line.startswith(('ok', 'not ok'))]
    if said:
        return said[0]
    if 'Bail out' in output:
        return 'ran out of time'
    return f'signal {-code}' if code < 0 else f'exit status {code}'


def run(program: Path, test: str, driver: str) -> Result:
    env = dict(os.environ, DYNVHOST_TEST_DRIVER=driver, DYNVHOST_TEST_ONLY=test,
               CMOCKA_MESSAGE_OUTPUT='TAP')
    try:
        done = subprocess.run([program], env=env, capture_output=True, text=True,
                              errors='replace', timeout=TEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Result(test, False, f'no end after {TEST_SECONDS} s')
    if done.returncode == 0 and f'- {test}' in done.stdout:
        return Result(test, True, '')
    return Result(test, False, reason_of(done.stdout, done.stderr, done.returncode))


def report(results: list[Result], driver: str) -> None:
    width = max((len(result.test) for result in results), default=0)
    for result in results:
        print(f'{result.test:{width}}  {"as we" if result.passed else result.reason}')
    same = sum(result.passed for result in results)
    print(f'{driver}: {same} of {len(results)} as we, {len(results) - same} otherwise')


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', type=Path, default=TOP / 'build')
    parser.add_argument('--driver', default='net_vhost')
    parser.add_argument('text', nargs='*')
    return parser.parse_args()


def main() -> int:
    args = arguments()
    results = [run(program, test, args.driver)
               for program, tests in programs(args.build) for test in tests
               if not args.text or any(text in test for text in args.text)]
    report(results, args.driver)
    return 0


if __name__ == '__main__':
    sys.exit(main())
