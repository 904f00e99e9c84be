# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""What an application tells of its net_dynvhost ports over telemetry, and how it changes."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.telemetry import Telemetry

PATIENCE_SECONDS = 2.0
SOCKET = 'dpdk_telemetry.v2'


@dataclass(frozen=True)
class Port:
    """One port: bytes of guest memory, counts since it was made, and counts per second, which are
    None as long as there is nothing to compare with."""
    port: int
    name: str
    iface: str
    link: str
    guest_bytes: int
    loadable_bytes: int
    loadable_peak: int
    storable_bytes: int
    storable_peak: int
    opens: int
    closes: int
    packets_from_guest: int
    packets_to_guest: int
    rings: int
    rings_started: int
    rings_enabled: int
    last_event: str
    opens_rate: float | None = None
    closes_rate: float | None = None
    from_guest_rate: float | None = None
    to_guest_rate: float | None = None


@dataclass(frozen=True)
class Application:
    """An application that answers, and its ports in the order of their numbers."""
    pid: int
    program: str
    version: str
    ports: tuple[Port, ...]


RATES = {'opens_rate': 'opens', 'closes_rate': 'closes', 'from_guest_rate': 'packets_from_guest',
         'to_guest_rate': 'packets_to_guest'}


def runtime_folder() -> Path:
    """Where DPDK applications of this user have their sockets, by EAL's own rule."""
    folder = os.environ.get('RUNTIME_DIRECTORY')
    if not folder:
        folder = '/var/run' if os.getuid() == 0 else os.environ.get('XDG_RUNTIME_DIR') or '/tmp'
    return Path(folder) / 'dpdk'


def socket_path(prefix: str, instance: int = 0) -> Path:
    """The socket of an application; one that shares its prefix with others has a number."""
    return runtime_folder() / prefix / (f'{SOCKET}:{instance}' if instance else SOCKET)


def readable(text: object) -> str:
    """Text for a terminal: parts of it come from front-ends."""
    return ''.join(c if c.isprintable() else '?' for c in str(text))


def port_of(number: int, ask: Mapping[str, Any]) -> Port:
    """A port from the answers about it, by the command's last word."""
    info, mem, stats = ask['info'], ask['mem'], ask['stats']
    return Port(
        port=number, name=readable(info['name']), iface=readable(info['iface']),
        link=readable(info['link']),
        **{key: mem[key] for key in ('guest_bytes', 'loadable_bytes', 'loadable_peak',
                                     'storable_bytes', 'storable_peak', 'opens', 'closes')},
        packets_from_guest=stats['ipackets'], packets_to_guest=stats['opackets'],
        rings=2 * info['queue_pairs'], rings_started=info['rings_started'],
        rings_enabled=info['rings_enabled'],
        last_event=readable(ask['events'][-1]) if ask['events'] else '')


def with_rates(port: Port, before: Port | None, seconds: float) -> Port:
    """The port with what has changed per second; nothing of a port that began anew."""
    if before is None or seconds <= 0:
        return port
    rates = {}
    for rate, count in RATES.items():
        change = getattr(port, count) - getattr(before, count)
        rates[rate] = change / seconds if change >= 0 else None
    return Port(**{**vars(port), **rates})


class Watch:
    """Looks at one application again and again, over one connection as long as it lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: Telemetry | None = None
        self._before: dict[int, Port] = {}
        self._looked = 0.0

    def look(self) -> Application | None:
        """The application as it is now; None while there is none that answers."""
        try:
            if self._process is None:
                self._process = Telemetry(self.path, PATIENCE_SECONDS)
            return self._read(self._process)
        except (OSError, ValueError):
            self.close()
            return None

    def close(self) -> None:
        """End the connection, and forget what rates are compared with."""
        if self._process is not None:
            self._process.close()
        self._process = None
        self._before = {}

    def _read(self, process: Telemetry) -> Application:
        now = time.monotonic()
        found = {number: self._read_port(process, number)
                 for number in process.ask('/dynvhost/list') or ()}
        ports = {number: with_rates(port, self._before.get(number), now - self._looked)
                 for number, port in found.items() if port is not None}
        self._before, self._looked = ports, now
        pid = int(process.greeting['pid'])
        return Application(pid, program_of(pid), readable(process.greeting['version']),
                           tuple(ports[number] for number in sorted(ports)))

    @staticmethod
    def _read_port(process: Telemetry, number: int) -> Port | None:
        """None when the port goes while it is asked about."""
        ask = {command.rpartition('/')[2]: process.ask(f'{command},{number}')
               for command in ('/dynvhost/info', '/dynvhost/mem', '/dynvhost/events',
                               '/ethdev/stats')}
        return port_of(number, ask) if all(answer is not None for answer in ask.values()) else None


def program_of(pid: int) -> str:
    """The name of a process; empty when it is not of this machine's view."""
    try:
        return readable(Path(f'/proc/{pid}/comm').read_text(encoding='utf-8').strip())
    except OSError:
        return ''


def answering(limit: int = 5) -> list[str]:
    """Prefixes of applications that answer; not those that have left their folder behind."""
    found = []
    for path in sorted(runtime_folder().glob(f'*/{SOCKET}')):
        try:
            Telemetry(path, PATIENCE_SECONDS).close()
        except (OSError, ValueError):
            continue
        found.append(path.parent.name)
        if len(found) == limit:
            break
    return found
