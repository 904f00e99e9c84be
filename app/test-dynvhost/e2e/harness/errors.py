# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""How a test ends early."""


class Skip(Exception):
    """The machine cannot run this test; the text says what is missing."""


class Failure(AssertionError):
    """Something observed differs from what must hold; the text says both."""


class Timeout(Failure):
    """A deadline passed before the awaited thing was seen."""


def check(condition: bool, message: str) -> None:
    """Fail with `message` unless `condition` holds; unlike assert, it survives python -O."""
    if not condition:
        raise Failure(message)
