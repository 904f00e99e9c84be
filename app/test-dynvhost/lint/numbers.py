#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Checks that every numbered rule has a test that exists and runs. Prints TAP.

The tables are in the suites' headers, two lines for each number:

    C7   words
         conform/test_wire.c                 (a test of that file is named ..._c07_...)
         unit/mem/test_mem_table.c: name     (that test answers it)
         later: what it waits for
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.cases import report

TESTS = Path(__file__).resolve().parents[1]
# Letter, header with the table, numbers that must be there; tests of other kinds answer the rest.
TABLES = [('C', 'conform/conform.h', [*range(1, 81)]),
          ('H', 'hostile/hostile.h',
           [*range(1, 56), 88, 89, 91, 92, 93, 95, 97, *range(99, 104), 105])]

ROW = re.compile(r'^ \*\t([CH])(\d+) +\S.*\n \*\t +(\S.*)$', re.MULTILINE)
RUNS = re.compile(r'\b(?:[A-Z]+_TEST|cmocka_unit_test\w*)\((\w+)')


class Row(NamedTuple):
    number: int
    where: str


def read_table(header: str, letter: str) -> list[Row]:
    text = (TESTS / header).read_text()
    return [Row(int(number), where) for found, number, where in ROW.findall(text)
            if found == letter]


def tests_of(path: Path) -> list[str]:
    """The tests that a program runs, whether or not it defines others."""
    return RUNS.findall(path.read_text()) if path.is_file() else []


def answers(test: str, letter: str, number: int) -> bool:
    return re.search(rf'_{letter.lower()}0*{number}(?:_|$)', test) is not None


def fault_of(row: Row, letter: str) -> str | None:
    file, _, name = row.where.partition(': ')
    tests = tests_of(TESTS / file)
    if name:
        return None if name in tests else f'{file} runs no {name}'
    if any(answers(test, letter, row.number) for test in tests):
        return None
    return f'{file} runs no test of {letter}{row.number}'


def check_table(letter: str, header: str, numbers: list[int]) -> tuple[list[str], list[str]]:
    """Faults, and rows that wait for something."""
    rows = read_table(header, letter)
    seen = [row.number for row in rows]
    faults = [f'{letter}{n} is in {header} {seen.count(n)} times'
              for n in numbers if seen.count(n) != 1]
    later = [row for row in rows if row.where.startswith('later: ')]
    found = [fault_of(row, letter) for row in rows if row not in later]
    return (faults + [fault for fault in found if fault],
            [f'{letter}{row.number} {row.where}' for row in later])


def results() -> Iterator[tuple[str, list[str]]]:
    for letter, header, numbers in TABLES:
        faults, later = check_table(letter, header, numbers)
        for line in later:
            print(f'# {line}')
        yield f'every {letter}-number has its test', faults


if __name__ == '__main__':
    sys.exit(report(results()))
