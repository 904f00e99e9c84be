# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The application stops, reconfigures and starts its ports while guests talk through them."""

from harness import eal, exposure
from harness.errors import check
from harness.lab import Lab
from harness.ovs import OpenVSwitch
from harness.pair import Pair
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of

PORTS = (0, 1)
CYCLES = 100
RING_SIZES = (512, 256)


def _connections(lab: Lab, pid: int) -> list[set[int]]:
    return [exposure.connections(pid, socket_of(lab, port)) for port in PORTS]


def _start_chatter(pair: Pair) -> None:
    """Both guests keep sending, whatever becomes of the echoes."""
    for guest, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        guest.ok(f'ping -i 0.01 {peer.address} >/tmp/chatter 2>&1 &')


def _stop_chatter(pair: Pair) -> None:
    for guest in (pair.a, pair.b):
        guest.ok('killall ping')


def _devargs(lab: Lab) -> list[str]:
    # Pages that never close let "open pages stay" be asked exactly.
    options = ',map-idle-ms=0' if lab.settings.ours else ''
    return [eal.vdev(lab.settings, port, socket_of(lab, port), options) for port in PORTS]


@case('restart: the application restarts its ports 100 times under traffic')
def testpmd_restarts_ports(lab: Lab) -> None:
    switch = Testpmd(lab, 'switch', _devargs(lab), options=['--no-flush-rx'])
    switch.start()
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS])
    pair.ping()
    connections = _connections(lab, switch.pid)
    places = pair.a.exposed_to(switch.pid).places
    _start_chatter(pair)
    for cycle in range(CYCLES):
        switch.stop_forwarding()
        switch.command('port stop all')
        size = RING_SIZES[cycle % 2]
        switch.command(f'port config all rxd {size}')
        switch.start_ports()
        check(f'RX desc={size} ' in switch.start(), f'the ports were not reconfigured to {size}')
    _stop_chatter(pair)
    check(_connections(lab, switch.pid) == connections, 'a connection was made anew')
    lost = places - pair.a.exposed_to(switch.pid).places
    check(not lost, f'{len(lost)} of {len(places)} open pages are gone')
    pair.ping()
    pair.exchange_files(4)
    note(f'{CYCLES} restarts, {len(places)} pages still open')


@case('restart: Open vSwitch reconfigures its ports 100 times under traffic', long_only=True)
def ovs_reconfigures_ports(lab: Lab) -> None:
    bridge = OpenVSwitch(lab)
    for port, devargs in enumerate(_devargs(lab)):
        bridge.add_port(f'port{port}', devargs)
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS])
    pair.ping()
    connections = _connections(lab, bridge.pid)
    _start_chatter(pair)
    for cycle in range(CYCLES):
        for port in PORTS:
            bridge.vsctl('set', 'Interface', f'port{port}',
                         f'options:n_rxq_desc={RING_SIZES[cycle % 2]}')
    _stop_chatter(pair)
    check(_connections(lab, bridge.pid) == connections, 'a connection was made anew')
    pair.ping()
    pair.exchange_files(4)
    bridge.quit()
