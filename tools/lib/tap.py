# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Reading TAP, the way a test program says what passed.

Accepted are TAP 12/13 as Python suites print it and the dialect of cmocka: one plan per group with
numbers that start over, and "not ok N # SKIP name" for a skipped case. The reason of a skip is what
follows SKIP, or, from cmocka, the line printed just before it ("# skip: REASON", or plain).
"""

import re
from dataclasses import dataclass, field

PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*skip\S*\s*(.*))?$", re.IGNORECASE)
RESULT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*)$")
SKIP = re.compile(r"#\s*skip\S*\s*(.*)$", re.IGNORECASE)
REASON_MARK = re.compile(r"^#?\s*(skip(ped)?:)?\s*", re.IGNORECASE)
BAIL_OUT = re.compile(r"^Bail out!\s*(.*)$")


@dataclass
class Outcome:
    """What a suite said: names of cases, and of the skipped ones the reasons too."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    planned: int | None = None

    @property
    def seen(self) -> int:
        """How many results were printed."""
        return self.passed + len(self.failed) + len(self.skipped)


class Reader:
    """Takes a suite's standard output line by line."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._line_before = ""
        self._bailed_out = ""

    def feed(self, line: str) -> None:
        """Take one line, without its end."""
        if match := PLAN.match(line):
            self._take_plan(int(match[1]), match[2])
        elif match := RESULT.match(line):
            self._take_result(bool(match[1]), match[2] or "?", match[3].strip())
        elif match := BAIL_OUT.match(line):
            self._bailed_out = match[1] or "no reason given"
        elif line.strip():
            self._line_before = line.strip()

    def _take_plan(self, count: int, reason: str | None) -> None:
        self.outcome.planned = (self.outcome.planned or 0) + count
        if count == 0:
            self._skip("all of it", reason or "")
            self.outcome.planned += 1

    def _take_result(self, bad: bool, number: str, text: str) -> None:
        if match := SKIP.search(text):
            name, rest = text[: match.start()].strip(), match[1].strip()
            self._skip(name, rest) if name else self._skip(rest or number, "")
        elif bad:
            self.outcome.failed.append(text or number)
        else:
            self.outcome.passed += 1
        self._line_before = ""

    def _skip(self, name: str, reason: str) -> None:
        reason = reason or REASON_MARK.sub("", self._line_before)
        if reason:
            self.outcome.skipped.append((name, reason))
        else:
            self.outcome.failed.append(f"{name}: skipped without a reason")

    def finish(self, ended: str | None) -> Outcome:
        """Close the book; `ended` says what was wrong with the way the program ended."""
        outcome = self.outcome
        if self._bailed_out:
            outcome.failed.append(f"bailed out: {self._bailed_out}")
        elif outcome.planned is None:
            outcome.failed.append(f"{ended or 'ended'}, without a plan")
        elif outcome.seen != outcome.planned:
            outcome.failed.append(
                f"{ended or 'ended'}, with {outcome.seen} of {outcome.planned} results")
        elif ended is not None and not outcome.failed:
            outcome.failed.append(ended)
        return outcome
