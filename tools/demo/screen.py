# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Where the demo writes: lines that stay, and below them, on a terminal, one block that is redrawn.

Without a terminal, or on a dumb one, the block becomes plain lines from time to time.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence

PLAIN_SECONDS = 5.0
HIDE_CURSOR, SHOW_CURSOR = '\x1b[?25l', '\x1b[?25h'
CLEAR_BELOW = '\x1b[J'
BOLD, DIM, NORMAL = '\x1b[1m', '\x1b[2m', '\x1b[0m'


class Screen:
    """Use as a context manager: leaving it gives the terminal back as it was."""

    def __init__(self, plain: bool = False) -> None:
        self.live = (not plain and sys.stdout.isatty()
                     and os.environ.get('TERM', 'dumb') != 'dumb')
        self._styled = self.live and 'NO_COLOR' not in os.environ
        self._drawn = 0
        self._began = time.monotonic()
        self._next_plain = 0.0

    def __enter__(self) -> 'Screen':
        if self.live:
            self._write(HIDE_CURSOR)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._erase()
            self._write(SHOW_CURSOR)

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def clock(self) -> str:
        seconds = int(self.seconds())
        return f'{seconds // 60}:{seconds % 60:02d}'

    def bold(self, text: str) -> str:
        return f'{BOLD}{text}{NORMAL}' if self._styled else text

    def dim(self, text: str) -> str:
        return f'{DIM}{text}{NORMAL}' if self._styled else text

    def say(self, line: str = '') -> None:
        """Write a line that stays."""
        self._erase()
        self._write(line + '\n')

    def block(self, lines: Sequence[str], plain: Sequence[str]) -> None:
        """Show the current state: the block on a terminal, else `plain` when it is time again."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self._erase()
            self._write(''.join(f'{_cut(line, width)}\n' for line in lines))
            self._drawn = len(lines)
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_SECONDS
            self._write(''.join(f'{line}\n' for line in plain))

    def _erase(self) -> None:
        if self._drawn:
            self._write(f'\x1b[{self._drawn}A\r{CLEAR_BELOW}')
            self._drawn = 0

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _cut(line: str, width: int) -> str:
    """Shorten a line that would wrap; style codes take no room and are dropped with the rest."""
    visible = line.replace(BOLD, '').replace(DIM, '').replace(NORMAL, '')
    return line if len(visible) <= width else visible[:width]
