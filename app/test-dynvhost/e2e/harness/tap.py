# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The list of test cases, and running them with TAP on stdout and everything else on stderr."""

import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .errors import Failure, Skip
from .lab import Lab
from .settings import Settings

Body = Callable[[Lab], None]


@dataclass(frozen=True)
class Case:
    name: str
    body: Body
    ours_only: bool
    long_only: bool


CASES: list[Case] = []


def case(name: str, ours_only: bool = False, long_only: bool = False) -> Callable[[Body], Body]:
    """Register a test under a name that states the behaviour it demands."""
    def register(body: Body) -> Body:
        CASES.append(Case(name, body, ours_only, long_only))
        return body
    return register


def selected(pattern: str) -> list[Case]:
    return [entry for entry in CASES if re.search(pattern, entry.name)]


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f'# {line}', file=sys.stderr, flush=True)


def note(text: str) -> None:
    """A figure worth reading beside the verdict."""
    _say(f'  {text}')


def _attempt(entry: Case, settings: Settings, keep: bool) -> None:
    if entry.ours_only and not settings.ours:
        raise Skip(f'{settings.driver} is not the driver this is about')
    if entry.long_only and not settings.long:
        raise Skip('part of the long form: set DYNVHOST_TEST_LONG=1')
    with Lab(settings, keep) as lab:
        try:
            entry.body(lab)
            lab.check_survivors()
            lab.take_down()
            lab.check_ends()
        except Exception as error:
            if not isinstance(error, Skip):
                _say(lab.tails())
                if keep:
                    _say(f'logs: {lab.dir}')
            raise


def _run_one(number: int, entry: Case, settings: Settings, keep: bool) -> bool:
    began = time.monotonic()
    verdict, good = f'ok {number} - {entry.name}', True
    try:
        _attempt(entry, settings, keep)
    except Skip as reason:
        verdict += f' # SKIP {reason}'
    except Failure as failure:
        _say(f'{entry.name}: {failure}')
        verdict, good = f'not {verdict}', False
    except Exception:
        _say(traceback.format_exc())
        verdict, good = f'not {verdict}', False
    print(verdict, flush=True)
    _say(f'{entry.name}: {time.monotonic() - began:.1f} s')
    return good


def run_cases(entries: Sequence[Case], settings: Settings, keep: bool = False) -> bool:
    """Run the cases in order; returns whether none failed."""
    print(f'1..{len(entries)}', flush=True)
    outcomes = [_run_one(number, entry, settings, keep)
                for number, entry in enumerate(entries, 1)]
    return all(outcomes)
