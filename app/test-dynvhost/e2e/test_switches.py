# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The same two guests through each application that operators and developers start with."""

from harness import eal
from harness.errors import check
from harness.lab import Lab
from harness.l2fwd import L2fwd
from harness.ovs import OpenVSwitch
from harness.pair import Pair
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of

PORTS = (0, 1)


def _devargs(lab: Lab) -> list[str]:
    return [eal.vdev(lab.settings, port, socket_of(lab, port)) for port in PORTS]


def _boot(lab: Lab) -> Pair:
    return Pair(lab, [socket_of(lab, port) for port in PORTS])


def _traffic(pair: Pair) -> None:
    settings = pair.a.lab.settings
    pair.ping(settings.count(100, 1000))
    rate = pair.iperf(settings.count(64, 1024))
    pair.exchange_files(settings.count(8, 40))
    note(f'iperf3: {rate:.0f} Mbit/s')


def _check_sockets_gone(lab: Lab) -> None:
    left = [port for port in PORTS if socket_of(lab, port).exists()]
    check(not left, f'ports {left} left their sockets behind')


@case('switches: two guests ping and transfer through dpdk-testpmd')
def through_testpmd(lab: Lab) -> None:
    switch = Testpmd(lab, 'switch', _devargs(lab))
    switch.start()
    _traffic(_boot(lab))
    switch.quit()
    _check_sockets_gone(lab)


@case("switches: two guests ping and transfer through Open vSwitch's userspace bridge")
def through_ovs(lab: Lab) -> None:
    bridge = OpenVSwitch(lab)
    for port, devargs in enumerate(_devargs(lab)):
        bridge.add_port(f'port{port}', devargs)
    _traffic(_boot(lab))
    bridge.remove_port('port0')
    check(not socket_of(lab, 0).exists(), 'the removed port left its socket behind')
    bridge.quit()
    _check_sockets_gone(lab)


@case("switches: two guests ping and transfer through DPDK's l2fwd")
def through_l2fwd(lab: Lab) -> None:
    switch = L2fwd(lab, _devargs(lab))
    pair = _boot(lab)
    switch.wait_running()
    _traffic(pair)
    switch.quit()
    _check_sockets_gone(lab)
