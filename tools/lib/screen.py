# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Where programs for people write: lines that stay, and below them, on a terminal, one block that
is redrawn; or, on the whole of a terminal, that block alone.

Without a terminal, or on a dumb one, the block becomes plain lines from time to time.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence

PLAIN_SECONDS = 5.0
HIDE_CURSOR, SHOW_CURSOR = '\x1b[?25l', '\x1b[?25h'
OTHER_SCREEN, FIRST_SCREEN = '\x1b[?1049h', '\x1b[?1049l'
TOP, CLEAR_BELOW, CLEAR_RIGHT = '\x1b[H', '\x1b[J', '\x1b[K'
BOLD, DIM, NORMAL = '\x1b[1m', '\x1b[2m', '\x1b[0m'
RED, GREEN, YELLOW = '\x1b[31m', '\x1b[32m', '\x1b[33m'
STYLE = re.compile(r'(\x1b\[\d+m)')


class Screen:
    """Use as a context manager: leaving it gives the terminal back as it was."""

    def __init__(self, plain: bool = False, whole: bool = False,
                 plain_seconds: float = PLAIN_SECONDS) -> None:
        self.live = (not plain and sys.stdout.isatty()
                     and os.environ.get('TERM', 'dumb') != 'dumb')
        self._whole = whole and self.live
        self._styled = self.live and 'NO_COLOR' not in os.environ
        self._drawn = 0
        self._began = time.monotonic()
        self._plain_seconds = plain_seconds
        self._next_plain = 0.0

    def __enter__(self) -> 'Screen':
        if self.live:
            self._write((OTHER_SCREEN if self._whole else '') + HIDE_CURSOR)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._erase()
            self._write(SHOW_CURSOR + (FIRST_SCREEN if self._whole else ''))

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def clock(self) -> str:
        seconds = int(self.seconds())
        return f'{seconds // 60}:{seconds % 60:02d}'

    def styled(self, style: str, text: str) -> str:
        return f'{style}{text}{NORMAL}' if self._styled else text

    def bold(self, text: str) -> str:
        return self.styled(BOLD, text)

    def dim(self, text: str) -> str:
        return self.styled(DIM, text)

    def say(self, line: str = '') -> None:
        """Write a line that stays."""
        self._erase()
        self._write(line + '\n')

    def block(self, lines: Sequence[str], plain: Sequence[str]) -> None:
        """Show the current state: the block on a terminal, else `plain` when it is time again."""
        if self._whole:
            self._fill(lines)
        elif self.live:
            width = shutil.get_terminal_size().columns - 1
            self._erase()
            self._write(''.join(f'{cut(line, width)}\n' for line in lines))
            self._drawn = len(lines)
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + self._plain_seconds
            self._write(''.join(f'{line}\n' for line in plain))

    def _fill(self, lines: Sequence[str]) -> None:
        """All of the terminal, line over line, so that nothing flickers."""
        columns, rows = shutil.get_terminal_size()
        shown = [cut(line, columns - 1) + CLEAR_RIGHT for line in lines[:rows]]
        self._write(TOP + '\r\n'.join(shown) + CLEAR_BELOW)

    def _erase(self) -> None:
        if self._drawn:
            self._write(f'\x1b[{self._drawn}A\r{CLEAR_BELOW}')
            self._drawn = 0

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def cut(line: str, width: int) -> str:
    """Shorten a line that would wrap; style codes take no room and stay."""
    kept = []
    for part in STYLE.split(line):
        if not STYLE.fullmatch(part):
            part = part[:max(width, 0)]
            width -= len(part)
        kept.append(part)
    return ''.join(kept)
