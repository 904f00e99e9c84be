# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Two Linux guests with the kernel's own virtio-net driver, and testpmd between them."""

from harness import eal, exposure, hugepages
from harness.engines import BACKINGS
from harness.errors import check
from harness.lab import Lab
from harness.pair import Pair
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

GUEST_MB = 256


def _bench(lab: Lab, hugetlb: bool) -> tuple[Testpmd, Pair]:
    if hugetlb:
        hugepages.reserve(lab, 2 * GUEST_MB)
    sockets = [socket_of(lab, port) for port in (0, 1)]
    switch = Testpmd(lab, 'switch', [
        eal.vdev(lab.settings, port, socket) for port, socket in enumerate(sockets)])
    switch.start()
    return switch, Pair(lab, sockets, hugetlb, GUEST_MB)


def _connections(lab: Lab, switch: Testpmd, port: int) -> set[int]:
    found = exposure.connections(switch.pid, socket_of(lab, port))
    check(len(found) == 1, f'port {port} has {len(found)} connections')
    return found


def _held(lab: Lab, switch: Testpmd, memory: set[exposure.FileId]) -> list[object]:
    """What the switch still holds of a front-end on port 0: files, mappings, connection."""
    return [*(exposure.memory_files(switch.pid) & memory), *exposure.mappings(switch.pid, memory),
            *exposure.connections(switch.pid, socket_of(lab, 0))]


def _traffic(lab: Lab, hugetlb: bool) -> None:
    _, pair = _bench(lab, hugetlb)
    pair.ping(lab.settings.count(100, 1000))
    pair.ping(50, size=1472)
    rate = pair.iperf(lab.settings.count(128, 1024))
    pair.exchange_files(lab.settings.count(16, 40))
    note(f'iperf3: {rate:.0f} Mbit/s')


def _reboot(lab: Lab, hugetlb: bool) -> None:
    switch, pair = _bench(lab, hugetlb)
    before = _connections(lab, switch, 0)
    for _ in range(lab.settings.count(1, 20)):
        pair.ping()
        pair.a.reboot()
        pair.ping()
        pair.a.reset()
    pair.ping()
    pair.exchange_files(4)
    check(_connections(lab, switch, 0) == before, 'the connection was made anew')


def _restart(lab: Lab, hugetlb: bool) -> None:
    switch, pair = _bench(lab, hugetlb)
    for _ in range(lab.settings.count(2, 20)):
        before = _connections(lab, switch, 0)
        pair.ping()
        memory = exposure.memory_files(pair.a.pid)
        pair.a.kill()
        switch.wait_link(0, up=False)
        until(lambda: not _held(lab, switch, memory), 5.0,
              f'the end of what the dead left: {_held(lab, switch, memory)}')
        pair.a.start()
        pair.a.wait_ready()
        pair.ping()
        check(_connections(lab, switch, 0) != before, 'a dead connection came back to life')
    pair.exchange_files(4)


for _name, _hugetlb in BACKINGS.items():
    case(f'guests: ping, iperf3 and verified files pass between two guests on {_name}')(
        lambda lab, hugetlb=_hugetlb: _traffic(lab, hugetlb))
    case(f'guests: a rebooted or reset guest on {_name} talks again on the same connection')(
        lambda lab, hugetlb=_hugetlb: _reboot(lab, hugetlb))
    case(f'guests: a killed and restarted QEMU on {_name} talks again')(
        lambda lab, hugetlb=_hugetlb: _restart(lab, hugetlb))
