# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A Linux guest behind an emulated IOMMU, and an ordinary guest beside it.

Linux maps every buffer for as long as the device has it, so the driver has to ask for most packets,
and takes all translations back every few milliseconds, those of rings as well. A plain switch throws
away what it cannot send at once; the one here waits, as the guest's answers are to be judged.
"""

import re
from typing import Any

from harness import eal
from harness.engines import memory_of
from harness.errors import check
from harness.guest import Guest
from harness.lab import Lab
from harness.pair import Pair
from harness.rings import check_rings_only, rings_of
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

IOMMU_PLATFORM, RING_PACKED = 33, 34
# Translations are asked of the device only if it can keep them, which takes a PCI Express port.
DEVICES = ['intel-iommu,intremap=off,device-iotlb=on', 'pcie-root-port,id=express,chassis=1']
NIC = ',bus=express,iommu_platform=on,ats=on,disable-legacy=on'
# Emulated, on a busy machine: some packets take several round trips through two processes.
PATIENCE_SECONDS = 120.0
WARM_UP_SECONDS = 30.0
# A burst's packets, and what is looked at ahead of them: far from all of the guest.
MOST_OPEN = 1 << 20


def _behind(nic: str = '') -> dict[str, Any]:
    return {'devices': DEVICES, 'kernel': 'intel_iommu=on', 'nic': NIC + nic}


def _start(lab: Lab, nic: str = '') -> tuple[Testpmd, Pair]:
    switch = Testpmd(lab, 'switch', [
        eal.vdev(lab.settings, 0, socket_of(lab, 0), ',iommu-support=1'),
        eal.vdev(lab.settings, 1, socket_of(lab, 1))])
    switch.command('set fwd io retry')
    switch.command('set burst tx delay 20 retry 50000')
    switch.start()
    return switch, Pair(lab, [socket_of(lab, port) for port in (0, 1)], only_a=_behind(nic))


def _check_features(pair: Pair, wanted: tuple[int, ...]) -> None:
    features = pair.a.ok('cat /sys/class/net/eth0/device/features').strip()
    missing = [bit for bit in wanted if features[bit] != '1']
    check(not missing, f'the guest has not negotiated features {missing}')
    groups = pair.a.ok('ls /sys/kernel/iommu_groups').split()
    check(bool(groups), 'the guest has no IOMMU')


def _ping(source: Guest, address: str, count: int, size: int = 56) -> None:
    """Echoes must come back but for a few: a packet whose translation takes a second is given up."""
    _, output = source.run(f'ping -q -c {count} -i 0.02 -s {size} {address}', PATIENCE_SECONDS)
    found = re.search(r'(\d+) packets received', output)
    check(found is not None and int(found[1]) >= 0.9 * count,
          f'{source.name} has too few of {count} echoes: {output.strip()}')


def _talk(pair: Pair, pings: int) -> None:
    # The first packets have to be asked for one after the other, right after a reboot in vain.
    until(lambda: pair.a.run(f'ping -q -c 5 -i 0.1 {pair.b.address}')[0] == 0, WARM_UP_SECONDS,
          f'a first echo of {pair.b.name}', every=0.1)
    _ping(pair.a, pair.b.address, pings)
    _ping(pair.a, pair.b.address, pings, 1472)
    _ping(pair.b, pair.a.address, pings)
    _exchange(pair)


def _exchange(pair: Pair) -> None:
    """A file of random bytes each way."""
    for source, target in ((pair.a, pair.b), (pair.b, pair.a)):
        source.ok('dd if=/dev/urandom of=/tmp/source bs=64k count=8 2>/dev/null')
        source.ok('pidof httpd >/dev/null || httpd -p 8000 -h /tmp')
        target.ok(f'wget -q -O /tmp/copy http://{source.address}:8000/source', PATIENCE_SECONDS)
        want = source.ok('sha256sum </tmp/source')
        got = target.ok('sha256sum </tmp/copy; rm /tmp/copy')
        check(want == got, f'a file from {source.name} to {target.name} came out different')


def _check_calm(lab: Lab, switch: Testpmd) -> None:
    """Rings without translation for a moment are nobody's business."""
    said = lab.path('a.log').read_text(errors='replace')
    check('vring error' not in said, 'the front-end heard of ring errors')
    downs = switch.process.output().count('net_dynvhost0: link down')
    check(downs <= 1, f'the link went down {downs} times')


def _traffic(lab: Lab, nic: str, wanted: tuple[int, ...]) -> None:
    switch, pair = _start(lab, nic)
    _check_features(pair, wanted)
    _talk(pair, lab.settings.count(50, 1000))
    told = memory_of(switch)
    note(f'loadable at most {told["loadable_peak"] >> 10} KiB, storable '
         f'{told["storable_peak"] >> 10} KiB, {told["opens"]} pages opened')
    check(told['loadable_peak'] <= MOST_OPEN, f'{told["loadable_peak"]} bytes were loadable')
    # A question that was answered too late is asked in vain, and the guest hears of it.
    note('faults seen by the guest: ' + pair.a.run('dmesg | grep -c "DMAR:.*fault addr"')[1].strip())
    # Linux switches its IOMMU off before the device: what is asked in between is refused.
    for _ in range(lab.settings.count(1, 5)):
        pair.a.reboot()
        _talk(pair, 20)


@case('iommu: a guest behind an IOMMU talks to an ordinary one', ours_only=True)
def split_rings(lab: Lab) -> None:
    _traffic(lab, '', (IOMMU_PLATFORM,))


@case('iommu: a guest behind an IOMMU talks on packed rings', ours_only=True)
def packed_rings(lab: Lab) -> None:
    _traffic(lab, ',packed=on', (IOMMU_PLATFORM, RING_PACKED))


@case('iommu: when nothing moves only rings are reachable, and the link stays up', ours_only=True)
def exposure_at_rest(lab: Lab) -> None:
    switch, pair = _start(lab)
    _talk(pair, lab.settings.count(20, 200))
    rings = rings_of(pair.a)

    def at_rest() -> bool:
        seen = pair.a.exposed_to(switch.pid)
        bound = 2 * 2 * (rings.read + rings.written) * rings.page
        return 0 < seen.loadable <= bound

    until(at_rest, 20.0, 'everything but rings to close', every=0.2)
    check_rings_only(pair.a.exposed_to(switch.pid), rings)
    _check_calm(lab, switch)


@case('iommu: rings of several pages serve, or the port says why not', ours_only=True)
def long_rings(lab: Lab) -> None:
    switch, pair = _start(lab, ',rx_queue_size=1024')
    told = switch.telemetry('/dynvhost/info,0')
    if told['link'] == 'up':
        note('rings lie in one piece')
        _talk(pair, lab.settings.count(20, 200))
        return
    note(f'link down: it waits for {told["waiting_for"]}')
    check('in one piece' in told['waiting_for'], f'it waits for {told["waiting_for"]!r}')
    check('follow each other' in switch.process.output(), 'no line says so')
