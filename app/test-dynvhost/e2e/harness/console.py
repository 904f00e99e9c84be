# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The guest's serial console, as the contract at the head of guest/init describes it."""

import re
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from .errors import Failure, Timeout

READY = re.compile(rb'^dynvhost-guest ready (\S+)\n', re.MULTILINE)
EXIT = re.compile(rb'\ndynvhost-guest exit (\d+)\n')
INTERRUPT = b'\x03'
SLICE_SECONDS = 0.2


class Console:
    """One connection to the console. `alive` tells whether the machine behind it still runs."""

    def __init__(self, path: Path, alive: Callable[[], bool]) -> None:
        self._alive = alive
        self._unread = b''
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))

    def _await(self, pattern: re.Pattern[bytes], timeout: float) -> re.Match[bytes]:
        deadline = time.monotonic() + timeout
        while True:
            match = pattern.search(self._unread)
            if match is not None:
                self._unread = self._unread[match.end():]
                return match
            if time.monotonic() >= deadline:
                raise Timeout(f'waited {timeout:g} s for the guest to say {pattern.pattern!r}; '
                              f'it said {self._unread[-400:]!r}')
            self._receive(SLICE_SECONDS)

    def _receive(self, patience: float) -> None:
        if not select.select([self._socket], [], [], patience)[0]:
            if not self._alive():
                raise Failure('the machine behind the console is gone')
            return
        data = self._socket.recv(65536)
        if not data:
            raise Failure('the console hung up')
        self._unread += data.replace(b'\r', b'')

    def wait_ready(self, timeout: float) -> str:
        """Wait for the line the guest says once per boot; returns its name."""
        return self._await(READY, timeout)[1].decode()

    def send(self, line: str) -> None:
        self._socket.sendall(line.encode() + b'\n')

    def interrupt(self) -> None:
        self._socket.sendall(INTERRUPT)

    def finished(self, patience: float) -> bool:
        """Whether the command that was sent ends within `patience`. Call it again and again until
        it does: a console nobody reads from holds the guest up."""
        deadline = time.monotonic() + patience
        while EXIT.search(self._unread) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._receive(left)
        return True

    def result(self, timeout: float) -> tuple[int, str]:
        """Wait for the end of the command that was sent; returns its status and output."""
        match = self._await(EXIT, timeout)
        return int(match[1]), match.string[:match.start()].decode(errors='replace')

    def close(self) -> None:
        self._socket.close()
