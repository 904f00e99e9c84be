# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""One front-end vanishes or misbehaves; the other ports of the same switch must not notice."""

import socket
import struct
from dataclasses import dataclass

from harness import eal
from harness.errors import check
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair
from harness.tap import case
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

VICTIM_PORT, HOSTILE_PORT, CANARY_PORTS = 0, 1, (2, 3)
GUEST_MB = 192
NOWHERE, NOWHERE_MAC = '10.0.0.99', '02:aa:00:00:00:99'

# A vhost-user header: request GET_FEATURES, version 1, and eight bytes that never come.
HALF_MESSAGE = struct.pack('<III', 1, 1, 8)
# The longest a half message may hold a connection.
HALF_MESSAGE_SECONDS = 30.0


def _connect(path: str) -> socket.socket:
    """A raw connection to a port; a full backlog is waited for."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(10.0)

    def attempt() -> bool:
        try:
            peer.connect(path)
        except BlockingIOError:
            return False
        return True

    until(attempt, 10.0, f'a connection to {path}')
    return peer


@dataclass
class Bench:
    switch: Testpmd
    canary: Pair

    def check_canary(self, lab: Lab) -> None:
        self.canary.ping(lab.settings.count(50, 500))
        self.canary.exchange_files(2)


def _bench(lab: Lab) -> Bench:
    """Ports 0 and 1 forward between each other, and so do 2 and 3, where two guests sit."""
    ports = (VICTIM_PORT, HOSTILE_PORT, *CANARY_PORTS)
    switch = Testpmd(lab, 'switch', [
        eal.vdev(lab.settings, port, socket_of(lab, port)) for port in ports])
    switch.start()
    pair = Pair(lab, [socket_of(lab, port) for port in CANARY_PORTS], memory_mb=GUEST_MB)
    return Bench(switch, pair)


def _flooding_guest(lab: Lab, port: int) -> Guest:
    """A guest that sends to nobody as fast as it can."""
    guest = Guest(lab, f'flood{port}', [socket_of(lab, port)], ['10.0.0.9/24'],
                  memory_mb=GUEST_MB)
    guest.wait_ready()
    _flood(guest)
    return guest


def _flood(guest: Guest) -> None:
    guest.ok(f'arp -s {NOWHERE} {NOWHERE_MAC}')
    for _ in range(3):
        guest.ok(f'ping -q -i 0.001 -s 1400 {NOWHERE} >/dev/null 2>&1 &')


@case('hostile: killing a QEMU in mid-transfer leaves the other ports forwarding')
def killed_mid_transfer(lab: Lab) -> None:
    bench = _bench(lab)
    guest = _flooding_guest(lab, VICTIM_PORT)
    for _ in range(lab.settings.count(1, 20)):
        before = bench.switch.stats(VICTIM_PORT).rx_packets
        guest.run('sleep 0.3')
        check(bench.switch.stats(VICTIM_PORT).rx_packets > before, 'no transfer to be killed in')
        guest.kill()
        bench.check_canary(lab)
        bench.switch.wait_link(VICTIM_PORT, up=False)
        guest.start()
        guest.wait_ready()
        _flood(guest)
    bench.check_canary(lab)


@case('hostile: half a message holds up no other port, and not its own for ever')
def half_message(lab: Lab) -> None:
    bench = _bench(lab)
    with _connect(str(socket_of(lab, HOSTILE_PORT))) as hostile:
        hostile.sendall(HALF_MESSAGE)
        bench.check_canary(lab)
        if lab.settings.ours:
            hostile.settimeout(HALF_MESSAGE_SECONDS)
            check(hostile.recv(1) == b'', 'half a message was answered')
    guest = Guest(lab, 'late', [socket_of(lab, HOSTILE_PORT)], memory_mb=GUEST_MB)
    guest.wait_ready()
    bench.check_canary(lab)


@case('hostile: a front-end that comes and goes leaves the other ports forwarding')
def comes_and_goes(lab: Lab) -> None:
    bench = _bench(lab)
    path = str(socket_of(lab, HOSTILE_PORT))
    before = bench.switch.open_files()
    for length in range(lab.settings.count(60, 2000)):
        with _connect(path) as hostile:
            hostile.sendall(HALF_MESSAGE[:length % (len(HALF_MESSAGE) + 1)])
    bench.check_canary(lab)
    bench.switch.wait_open_files(before)
