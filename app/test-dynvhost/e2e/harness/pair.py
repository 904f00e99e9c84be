# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Two guests on two ports of one switch, and what they can do to each other."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import Timeout, check
from .guest import Guest
from .lab import Lab
from .wait import until

IPERF_PORT = 5201
WEB_PORT = 8000
# What may be on its way in one stream.
WINDOW_BYTES = 4 << 20
PATIENCE_SECONDS = 5.0
# The slowest rate at which emulated guests on a busy machine still count as alive.
SLOWEST_MB_PER_SECOND = 2


class Pair:
    """Guests `a` and `b`, booted together and ready to be talked to; `both` is what Guest is to be
    told about them besides, `only_a` what about `a` alone."""

    def __init__(self, lab: Lab, sockets: Sequence[Path], hugetlb: bool = False,
                 memory_mb: int = 256, names: tuple[str, str] = ('a', 'b'),
                 only_a: Mapping[str, Any] | None = None,
                 both: Mapping[str, Any] | None = None) -> None:
        both = {'hugetlb': hugetlb, 'memory_mb': memory_mb, **(both or {})}
        self.a = Guest(lab, names[0], sockets[:1], ['10.0.0.1/24'], **{**both, **(only_a or {})})
        self.b = Guest(lab, names[1], sockets[1:], ['10.0.0.2/24'], **both)
        self.a.wait_ready()
        self.b.wait_ready()

    def ping(self, count: int = 50, size: int = 56, seconds: float = 60.0) -> None:
        """`a` pings `b`; every echo must come back."""
        ping(self.a, self.b.address, count, size, seconds)

    def iperf(self, megabytes: int) -> float:
        """Send so much from `a` to `b` over TCP; returns Mbit/s."""
        return iperf(self.a, self.b, megabytes)

    def exchange_files(self, megabytes: int) -> None:
        """A file of random bytes each way; what arrives must have the sender's checksum."""
        fetch(self.a, self.b, megabytes)
        fetch(self.b, self.a, megabytes)


def _icmp(guest: Guest) -> dict[str, int]:
    """ICMP messages that the guest's kernel has counted since it booted."""
    names, values = guest.ok("grep '^Icmp:' /proc/net/snmp").split('\n')[:2]
    return dict(zip(names.split()[1:], map(int, values.split()[1:])))


def ping(guest: Guest, address: str, count: int, size: int, seconds: float) -> None:
    """Every echo must come back. The kernel counts, as ping gives up after two round trips of the
    pace so far, and one stall of a busy machine is longer."""
    before = _icmp(guest)['InEchoReps']
    _, output = guest.run(f'ping -q -c {count} -i 0.02 -s {size} {address}', seconds)
    check(f'{count} packets transmitted' in output, f'{guest.name} could not ping: {output}')
    until(lambda: _icmp(guest)['InEchoReps'] - before >= count, PATIENCE_SECONDS,
          f'{count} echoes of {address} at {guest.name}: {output.strip()}', every=0.1)


class Chatter:
    """Echo requests that one guest sends another in the background, until `stop`."""

    def __init__(self, guest: Guest, address: str) -> None:
        self._guest = guest
        self._before = _icmp(guest)
        guest.ok(f'ping -i 0.02 {address} >/dev/null 2>&1 &')

    def _counted(self, name: str) -> int:
        return _icmp(self._guest)[name] - self._before[name]

    def stop(self) -> tuple[int, int]:
        """Returns how many requests were sent, and how many of them were never answered."""
        self._guest.ok('killall ping; while pidof ping >/dev/null; do sleep 0.1; done')
        sent = self._counted('OutEchos')
        try:
            until(lambda: self._counted('InEchoReps') >= sent, PATIENCE_SECONDS, 'the last echoes',
                  every=0.1)
        except Timeout:
            pass
        return sent, sent - self._counted('InEchoReps')


def wait_listening(guest: Guest, port: int) -> None:
    until(lambda: guest.run(f'netstat -ltn | grep -q ":{port} "')[0] == 0, 10.0,
          f'a listener at port {port} of {guest.name}', every=0.1)


def let_sockets_grow(guest: Guest, megabytes: int) -> None:
    """Have the guest take in so much, and some more, that nobody reads: in one TCP socket, and in all
    of them. The kernel's limits are bytes for the one and pages for the other."""
    for name, limit in (('tcp_rmem', 4 * megabytes << 20), ('tcp_mem', 4 * megabytes << 8)):
        guest.ok(f'echo "{limit} {limit} {limit}" >/proc/sys/net/ipv4/{name}')


def unread_pages(guest: Guest) -> int:
    """Pages that lie in the TCP sockets of a guest."""
    return int(guest.ok("sed -n 's/^TCP:.* mem //p' /proc/net/sockstat"))


def iperf(source: Guest, target: Guest, megabytes: int,
          look: Callable[[], object] = lambda: None, streams: int = 1) -> float:
    """Send so much over TCP, in so many streams, and `look` again and again meanwhile; returns
    Mbit/s."""
    target.ok('pidof iperf3 >/dev/null || iperf3 -s -D')
    wait_listening(target, IPERF_PORT)
    limit = 10 + megabytes / SLOWEST_MB_PER_SECOND
    command = f'iperf3 -J -c {target.address} -n {megabytes}M -P {streams}'
    report = json.loads(source.watch(command, look, limit))
    check('error' not in report, f'iperf3 of {source.name} says: {report.get("error")}')
    report = report['end']
    sent, received = report['sum_sent']['bytes'], report['sum_received']['bytes']
    # iperf3 stops its clock, and its count, when the sender is done: the last windows are not in.
    windows = 0.1 * sent + streams * WINDOW_BYTES
    check(sent >= megabytes << 20 and received >= sent - windows,
          f'iperf3 sent {sent} bytes, {received} arrived')
    return report['sum_received']['bits_per_second'] / 1e6


def fetch(source: Guest, target: Guest, megabytes: int) -> None:
    source.ok(f'dd if=/dev/urandom of=/tmp/source bs=1M count={megabytes} 2>/dev/null')
    source.ok(f'pidof httpd >/dev/null || httpd -p {WEB_PORT} -h /tmp')
    limit = 20 + megabytes / SLOWEST_MB_PER_SECOND
    target.ok(f'wget -q -O /tmp/copy http://{source.address}:{WEB_PORT}/source', limit)
    want = source.ok('sha256sum </tmp/source', limit)
    got = target.ok('sha256sum </tmp/copy; rm /tmp/copy', limit)
    check(want == got, f'{megabytes} MiB from {source.name} to {target.name} came out different')
