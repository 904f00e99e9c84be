# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Questions to a DPDK process over its telemetry socket."""

import json
import socket
from pathlib import Path
from typing import Any

REPLY_BYTES = 32 * 1024


def query(path: Path, command: str, timeout: float = 5.0) -> Any:
    """Ask one command; returns the value under its name (None when DPDK knows no such command)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(timeout)
        peer.connect(str(path))
        peer.recv(REPLY_BYTES)  # the greeting: version, pid, longest reply
        peer.send(command.encode())
        reply = json.loads(peer.recv(REPLY_BYTES))
    return reply.get(command.split(',')[0])
