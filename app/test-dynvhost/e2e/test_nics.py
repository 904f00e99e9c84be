# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Linux guests whose network devices are set up in other ways than by default."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import eal
from harness.errors import check
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair, iperf, ping
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of

PORTS = (0, 1)
QUEUES = 4
# So many that Linux will not put all of them on one queue.
STREAMS = 8
JUMBO_MTU = 9000
VLAN_ID = 7
# testpmd's name for the offload is a bit of its mask.
MULTI_SEGMENTS = '--tx-offloads=0x8000'

# Bits of virtio features (virtio 1.2 §5.1.3, §6).
CSUM, GUEST_CSUM, MTU, GUEST_TSO4, HOST_TSO4, MQ = 0, 1, 3, 7, 11, 22
IOMMU_PLATFORM, RING_PACKED = 33, 34


@dataclass(frozen=True)
class Shape:
    """How the ports and the guests' devices are set up, and which features must come of it."""
    devargs: str = ''
    testpmd: Sequence[str] = ()
    guest: dict[str, Any] = field(default_factory=dict)
    wants: Sequence[int] = ()


def _start(lab: Lab, shape: Shape, second: str | None = None) -> tuple[Testpmd, Pair]:
    """Two ports and their guests; `second` are devargs of the second port, where they differ."""
    devargs = [shape.devargs, shape.devargs if second is None else second]
    vdevs = [eal.vdev(lab.settings, port, socket_of(lab, port), devargs[port]) for port in PORTS]
    switch = Testpmd(lab, 'switch', vdevs, options=shape.testpmd)
    switch.start()
    pair = Pair(lab, [socket_of(lab, port) for port in PORTS], both=shape.guest)
    for guest in (pair.a, pair.b):
        missing = [bit for bit in shape.wants if _features(guest)[bit] != '1']
        check(not missing, f'guest {guest.name} has not negotiated features {missing}')
    return switch, pair


def _features(guest: Guest) -> str:
    """A digit for each feature of the guest's first network device, from bit 0 on."""
    return guest.ok('cat /sys/class/net/eth0/device/features').strip()


def _talk(lab: Lab, pair: Pair) -> list[float]:
    pair.ping(lab.settings.count(50, 1000))
    pair.ping(50, size=1472)
    megabytes = lab.settings.count(16, 1024)
    rates = [iperf(pair.a, pair.b, megabytes), iperf(pair.b, pair.a, megabytes)]
    pair.exchange_files(lab.settings.count(4, 40))
    return rates


PACKED = Shape(guest={'nic': ',packed=on'}, wants=[RING_PACKED])
MULTIQUEUE = Shape(f',queues={QUEUES}', [f'--rxq={QUEUES}', f'--txq={QUEUES}'],
                   {'queues': QUEUES, 'cpus': 2}, [MQ])


@case('nics: two guests with packed rings talk, also after a reboot')
def packed_rings(lab: Lab) -> None:
    _, pair = _start(lab, PACKED)
    rates = _talk(lab, pair)
    for _ in range(lab.settings.count(1, 20)):
        pair.a.reboot()
        pair.ping()
    pair.exchange_files(2)
    note(f'iperf3: {rates[0]:.0f} and {rates[1]:.0f} Mbit/s')


def _packets_of_queues(switch: Testpmd, port: int, way: str) -> list[int]:
    told = switch.telemetry(f'/ethdev/xstats,{port}')
    check(isinstance(told, dict), f'/ethdev/xstats,{port} answers {told!r}')
    return [told[f'{way}_q{queue}_packets'] for queue in range(QUEUES)]


@case('nics: guests of four queues use all of them at a time, or fewer', ours_only=True)
def four_queues(lab: Lab) -> None:
    switch, pair = _start(lab, MULTIQUEUE)
    for queues in (1, QUEUES, 2):
        for guest in (pair.a, pair.b):
            guest.ok(f'ethtool -L eth0 combined {queues} 2>&1 || '
                     f'[ "$(ethtool -l eth0 | sed -n "s/^Combined:[^0-9]*//p" | tail -1)" '
                     f'= {queues} ]')
        before = _packets_of_queues(switch, 0, 'rx')
        rate = iperf(pair.a, pair.b, lab.settings.count(16, 1024), streams=STREAMS)
        moved = [now - then for now, then in zip(_packets_of_queues(switch, 0, 'rx'), before)]
        check(sum(count > 0 for count in moved) <= queues, f'{queues} queues, but {moved} packets')
        check(queues < QUEUES or sum(count > 0 for count in moved) > 1,
              f'{queues} queues, but all on one: {moved} packets')
        ping(pair.b, pair.a.address, 50, 56, 30.0)
        note(f'{queues} queues: {rate:.0f} Mbit/s, {moved} packets')
    pair.exchange_files(2)


JUMBO = Shape(f',mtu={JUMBO_MTU}', [f'--max-pkt-len={JUMBO_MTU + 18}', MULTI_SEGMENTS],
              {'nic': f',host_mtu={JUMBO_MTU}'}, [MTU])


@case('nics: guests with an MTU of 9000 talk in frames of that size', ours_only=True)
def jumbo_frames(lab: Lab) -> None:
    switch, pair = _start(lab, JUMBO)
    for guest in (pair.a, pair.b):
        mtu = guest.ok('cat /sys/class/net/eth0/mtu').strip()
        check(mtu == str(JUMBO_MTU), f'guest {guest.name} has an MTU of {mtu}')
    for port in PORTS:
        check(f'MTU: {JUMBO_MTU}\n' in switch.command(f'show port info {port}'),
              f'port {port} has another MTU')
    pair.ping(50, size=JUMBO_MTU - 28)
    before = switch.stats(0)
    rates = _talk(lab, pair)
    after = switch.stats(0)
    size = (after.rx_bytes - before.rx_bytes) / (after.rx_packets - before.rx_packets)
    note(f'iperf3: {rates[0]:.0f} and {rates[1]:.0f} Mbit/s, {size:.0f} bytes a packet from a')


@case('nics: tagged frames pass as they are')
def vlan_tags(lab: Lab) -> None:
    _, pair = _start(lab, Shape(guest={'modules': ['8021q']}))
    for number, guest in enumerate((pair.a, pair.b), 1):
        guest.ok(f'ip link add link eth0 name eth0.{VLAN_ID} type vlan id {VLAN_ID} && '
                 f'ip addr add 10.0.{VLAN_ID}.{number}/24 dev eth0.{VLAN_ID} && '
                 f'ip link set eth0.{VLAN_ID} up')
    count = lab.settings.count(50, 1000)
    for size in (56, 1472):
        ping(pair.a, f'10.0.{VLAN_ID}.2', count, size, 60.0)
    tagged = int(pair.b.ok(f'cat /sys/class/net/eth0.{VLAN_ID}/statistics/rx_packets'))
    check(tagged >= 2 * count, f'only {tagged} frames of {2 * count} came with a tag')
    pair.ping()


def _wrong_checksums(guest: Guest) -> int:
    return int(guest.ok("grep '^Tcp:' /proc/net/snmp | tail -n 1").split()[-1])


@case('nics: checksums come right with offloads on and off at either side', ours_only=True)
def checksums(lab: Lab) -> None:
    # What the first guest leaves undone is passed on by flags; the second takes nothing undone.
    _, pair = _start(lab, Shape(',legacy-ol-flags=1'), ',legacy-ol-flags=1,csum=0')
    has = [[_features(guest)[bit] for bit in (CSUM, GUEST_CSUM)] for guest in (pair.a, pair.b)]
    check(has == [['1', '1'], ['0', '0']], f'the guests have negotiated {has}')
    for state in ('on', 'off', 'on'):
        pair.a.ok(f'ethtool -K eth0 tx {state}')
        rates = _talk(lab, pair)
        note(f'first guest {state}: {rates[0]:.0f} and {rates[1]:.0f} Mbit/s')
    wrong = [_wrong_checksums(guest) for guest in (pair.a, pair.b)]
    check(wrong == [0, 0], f'{wrong} segments came with a wrong checksum')


# Transmit flags on received packets are what testpmd passes on without looking at them.
SEGMENTATION = Shape(',tso=1,legacy-ol-flags=1', [MULTI_SEGMENTS], {},
                     [CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4])


@case('nics: guests send each other packets of up to 64 KiB to be segmented by nobody',
      ours_only=True)
def segmentation(lab: Lab) -> None:
    switch, pair = _start(lab, SEGMENTATION)
    before = switch.stats(0)
    rates = _talk(lab, pair)
    after = switch.stats(0)
    size = (after.rx_bytes - before.rx_bytes) / (after.rx_packets - before.rx_packets)
    check(size > 2 * 1514, f'{size:.0f} bytes a packet: hardly any was large')
    wrong = _wrong_checksums(pair.b)
    check(wrong == 0, f'{wrong} segments came with a wrong checksum')
    note(f'iperf3: {rates[0]:.0f} and {rates[1]:.0f} Mbit/s, {size:.0f} bytes a packet from a')
