# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A word to QEMU's monitor."""

import json
import socket
from pathlib import Path
from typing import Any

from .errors import Failure


class Qmp:
    """One QMP connection, ready for commands once constructed."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._lines = self._socket.makefile('r', encoding='utf-8')
        self._events: list[dict[str, Any]] = []
        try:
            self._socket.connect(str(path))
            self._hear('its greeting')
            self.execute('qmp_capabilities')
        except BaseException:
            self.close()
            raise

    def _hear(self, after: str) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise Failure(f'QEMU hung up on {after}')
        return json.loads(line)

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its answer; events that come in between are kept."""
        request = {'execute': command, 'arguments': arguments}
        self._socket.sendall(json.dumps(request).encode() + b'\n')
        while True:
            answer = self._hear(command)
            if 'error' in answer:
                raise Failure(f'QEMU refuses {command}: {answer["error"]["desc"]}')
            if 'return' in answer:
                return answer['return']
            self._events.append(answer)

    def wait_event(self, name: str) -> float:
        """Wait for an event, or for none if it has come; returns when it happened, in seconds of
        the host's clock."""
        while True:
            for event in self._events:
                if event['event'] == name:
                    stamp = event['timestamp']
                    return stamp['seconds'] + stamp['microseconds'] / 1e6
            self._events.append(self._hear(name))

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
