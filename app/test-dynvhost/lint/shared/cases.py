# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""How the checks of the source tree say what they have found: TAP on standard output."""

from collections.abc import Callable, Iterable

# By its name, what a case observes and what that should be.
Cases = dict[str, tuple[Callable[[], object], object]]


def report(results: Iterable[tuple[str, list[str]]]) -> int:
    """Print the cases as they come, each with its faults; one passes that has none. The plan follows
    them, so that a check which breaks off has none. Returns the status to exit with."""
    count = bad = 0
    for count, (name, faults) in enumerate(results, start=1):
        for fault in faults:
            print(f'# {fault}')
        print(f'{"not ok" if faults else "ok"} {count} - {name}')
        bad |= bool(faults)
    print(f'1..{count}')
    return int(bad)


def compare(cases: Cases) -> int:
    """Observe and compare, case by case; what report() returns."""
    def faults(observe: Callable[[], object], expected: object) -> list[str]:
        observed = observe()
        if observed == expected:
            return []
        return [f'expected {expected!r}', f'observed {observed!r}']

    return report((name, faults(*case)) for name, case in cases.items())
