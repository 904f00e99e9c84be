#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Checks that README and the guide name every device argument, and no other; prints TAP."""

import re
import sys
from pathlib import Path

from shared.cases import report

TOP = Path(__file__).resolve().parents[3]
HEADER = TOP / 'drivers/net/dynvhost/dynvhost_devargs.h'


def known() -> set[str]:
    return set(re.findall(r'#define DYNVHOST_ARG_\w+\s+"([a-z-]+)"', HEADER.read_text()))


def named_in_table() -> set[str]:
    """The keys of README's table: in its first column, as `key=...`."""
    section = (TOP / 'README.md').read_text().split('## Device arguments')[1].split('\n## ')[0]
    rows = [line.split('|')[1] for line in section.splitlines() if line.startswith('| `')]
    return {key for row in rows for key in re.findall(r'`([a-z-]+)=', row)}


def named_in_guide() -> set[str]:
    """The terms of the guide's list of arguments."""
    section = (TOP / 'doc/nics/dynvhost.rst').read_text().split('\nArguments\n')[1]
    section = section.split('\nFeatures\n')[0]
    terms = [line for line in section.splitlines() if line.startswith('``')]
    return {key for term in terms for key in re.findall(r'``([a-z-]+)', term)}


def faults(named: set[str]) -> list[str]:
    return ([f'missing: {key}' for key in sorted(known() - named)] +
            [f'unknown: {key}' for key in sorted(named - known())])


if __name__ == '__main__':
    sys.exit(report([('devargs: README names them all', faults(named_in_table())),
                     ('devargs: the guide names them all', faults(named_in_guide()))]))
