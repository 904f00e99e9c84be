# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Polling with a deadline: the only way anything here waits."""

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import Timeout

T = TypeVar('T')

POLL_SECONDS = 0.02


def until(probe: Callable[[], T], timeout: float, what: str, every: float = POLL_SECONDS) -> T:
    """Call `probe` until it returns something true and return that; Timeout names `what`."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise Timeout(f'waited {timeout:g} s for {what}')
        time.sleep(every)
