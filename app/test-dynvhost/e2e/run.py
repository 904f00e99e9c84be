#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""End-to-end tests: real guests and real DPDK applications on ports of the driver under test.

Prints TAP. DYNVHOST_PLUGIN names the driver's shared object (without it, EAL must find the driver
by itself), DYNVHOST_BUILD the build folder it came from, DYNVHOST_TEST_LONG=1 asks for full counts.
"""

import argparse
import importlib
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import settings, tap  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--filter', default='', metavar='RE',
                        help='run the cases whose name matches')
    parser.add_argument('--list', action='store_true', help='print the names and stop')
    parser.add_argument('--keep', action='store_true',
                        help='leave the folders with the logs behind')
    parser.add_argument('--driver', default=settings.OUR_DRIVER,
                        choices=(settings.OUR_DRIVER, settings.PEER_DRIVER),
                        help="run the same cases against DPDK's own driver")
    return parser.parse_args()


def load_cases() -> None:
    for path in sorted(HERE.glob('test_*.py')):
        importlib.import_module(path.stem)


def main() -> int:
    arguments = parse_arguments()
    # An asked-for end takes the same way out as any other: through the labs' clean-up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    load_cases()
    entries = tap.selected(arguments.filter)
    if arguments.list:
        print('\n'.join(entry.name for entry in entries))
        return 0
    try:
        good = tap.run_cases(entries, settings.from_environment(arguments.driver), arguments.keep)
    except KeyboardInterrupt:
        print('Bail out! interrupted', flush=True)
        return 130
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
