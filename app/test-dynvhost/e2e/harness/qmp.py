# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A word to QEMU's monitor."""

import json
import socket
from pathlib import Path
from typing import Any


class Qmp:
    """One QMP connection, ready for commands once constructed."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile('r', encoding='utf-8')
        self._lines.readline()  # the greeting
        self.execute('qmp_capabilities')

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its answer; events that come in between are dropped."""
        request = {'execute': command, 'arguments': arguments}
        self._socket.sendall(json.dumps(request).encode() + b'\n')
        while True:
            line = self._lines.readline()
            if not line:
                raise ConnectionError(f'QEMU hung up on {command}')
            answer = json.loads(line)
            if 'error' in answer:
                raise RuntimeError(f'{command}: {answer["error"]["desc"]}')
            if 'return' in answer:
                return answer['return']

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
