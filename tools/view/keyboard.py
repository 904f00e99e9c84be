# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Keys as they are pressed, and the way out of a program that has the whole terminal."""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable


class Keyboard:
    """Use as a context manager: leaving it gives the terminal back as it was. Without a terminal
    there are no keys."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        self._before: list = []

    def __enter__(self) -> 'Keyboard':
        if self._fd >= 0:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """The next key, or what it sends; empty when none is pressed in time."""
        if self._fd < 0:
            time.sleep(max(0.0, seconds))
            return ''
        ready, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if not ready:
            return ''
        # The terminal has gone: there is nobody to show anything.
        return os.read(self._fd, 16).decode(errors='replace') or 'q'


def on_stop(leave: Callable[[], None], come_back: Callable[[], None]) -> None:
    """Ctrl-Z: give the terminal back, stop, and take it again when the shell says so."""
    def stop(number: int, _: object) -> None:
        leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, stop)
        come_back()

    signal.signal(signal.SIGTSTP, stop)
