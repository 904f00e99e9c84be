# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Questions to a DPDK process over its telemetry socket."""

import json
import socket
from pathlib import Path
from typing import Any

REPLY_BYTES = 32 * 1024


class Telemetry:
    """A connection. Use it as a context manager, or close it; every method may raise OSError, also
    when the process has gone."""

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._peer.settimeout(timeout)
        try:
            self._peer.connect(str(path))
            # Its version, its pid and how long its replies can be.
            self.greeting: dict[str, Any] = self._receive()
        except BaseException:
            self._peer.close()
            raise

    def __enter__(self) -> 'Telemetry':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, command: str) -> Any:
        """The value under the command's name; None when DPDK knows no such command."""
        self._peer.send(command.encode())
        return self._receive().get(command.split(',')[0])

    def close(self) -> None:
        self._peer.close()

    def _receive(self) -> dict[str, Any]:
        data = self._peer.recv(REPLY_BYTES)
        if not data:
            raise ConnectionResetError('the process has closed its telemetry socket')
        return json.loads(data)


def query(path: Path, command: str, timeout: float = 5.0) -> Any:
    """Ask one command over a connection of its own."""
    with Telemetry(path, timeout) as process:
        return process.ask(command)
