# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Four queue pairs and DPDK's own virtio driver, in a second testpmd: every queue carries packets,
and packets sent on queues that the guest does not have reach it on those that it has."""

import re

from harness import eal, hugepages
from harness.errors import check
from harness.lab import Lab
from harness.settings import PEER_CPU, SWITCH_CPU
from harness.tap import case, note
from harness.testpmd import Testpmd, socket_of
from harness.wait import until

GUEST_MB = 256
QUEUES = 4
ENOUGH = 5000
PORT = 0


def _testpmd(lab: Lab, guest: bool, vdev: str, queues: int, mode: str) -> Testpmd:
    pmd = Testpmd(lab, 'guest' if guest else 'switch', [vdev], huge=guest, memory_mb=GUEST_MB,
                  cpu=PEER_CPU if guest else SWITCH_CPU,
                  options=[f'--rxq={queues}', f'--txq={queues}', '--no-flush-rx'])
    pmd.command(f'set fwd {mode}')
    return pmd


def _pair(lab: Lab, guest_queues: int, options: str, guest_sends: bool) -> tuple[Testpmd, Testpmd]:
    """The sending and the receiving side, the latter running."""
    hugepages.reserve(lab, GUEST_MB)
    socket = socket_of(lab, PORT)
    switch = _testpmd(lab, False, eal.vdev(lab.settings, PORT, socket, f',queues={QUEUES}'), QUEUES,
                      'rxonly' if guest_sends else 'txonly')
    guest = _testpmd(lab, True, f'net_virtio_user0,path={socket},queues={guest_queues}{options}',
                     guest_queues, 'txonly' if guest_sends else 'rxonly')
    switch.wait_link(PORT)
    sender, receiver = (guest, switch) if guest_sends else (switch, guest)
    receiver.start()
    return sender, receiver


def _xstats(pmd: Testpmd) -> dict[str, int]:
    text = pmd.command(f'show port xstats {PORT}')
    return {name: int(value) for name, value in re.findall(r'^(\w+): (\d+)', text, re.MULTILINE)}


def _all_above(pmd: Testpmd, names: list[str]) -> None:
    until(lambda: all(_xstats(pmd)[name] >= ENOUGH for name in names), 30.0,
          f'{ENOUGH} packets at each of {names}', every=0.2)


def _compare(sender: Testpmd, receiver: Testpmd) -> None:
    """Every packet that one side says it has sent has come to the other."""
    sender.stop_forwarding()
    sent = sender.stats(PORT).tx_packets
    until(lambda: receiver.stats(PORT).rx_packets >= sent, 10.0, f'{sent} packets', every=0.1)
    came = receiver.stats(PORT).rx_packets
    check(came == sent, f'{sent} packets were sent, {came} came')
    note(f'{sent} packets')


def _register(ring: str, options: str) -> None:
    @case(f'queues: four pairs of virtio_user carry packets, {ring}, guest to switch')
    def guest_to_switch(lab: Lab) -> None:
        sender, receiver = _pair(lab, QUEUES, options, True)
        sender.start()
        _all_above(receiver, [f'rx_q{q}_good_packets' for q in range(QUEUES)])
        _compare(sender, receiver)

    @case(f'queues: four pairs of virtio_user carry packets, {ring}, switch to guest')
    def switch_to_guest(lab: Lab) -> None:
        sender, receiver = _pair(lab, QUEUES, options, False)
        sender.start()
        _all_above(receiver, [f'rx_q{q}_good_packets' for q in range(QUEUES)])
        _compare(sender, receiver)

    @case(f'queues: what is sent on four queues reaches a guest of one pair, {ring}')
    def four_to_one(lab: Lab) -> None:
        sender, receiver = _pair(lab, 1, options, False)
        _xstats(sender)
        sender.start()
        # Counted by queue of the application, not by ring of the guest.
        _all_above(sender, [f'tx_q{q}_size_64_packets' for q in range(QUEUES)])
        _compare(sender, receiver)


_register('split ring', '')
_register('packed ring', ',packed_vq=1')
