# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Secondary processes: they see the ports of the primary and what those count, and move nothing."""

import re

from harness import eal, hugepages
from harness.errors import check
from harness.exposure import mappings, memory_files
from harness.lab import Lab
from harness.pair import Chatter, Pair
from harness.process import Process, run
from harness.settings import PEER_CPU
from harness.tap import case, note
from harness.testpmd import PortStats, Testpmd, socket_of

PORTS = (0, 1)
SWITCH_MB = 128
RUN_SECONDS = 60.0
POOL = 'mb_pool_0'
PROC_INFO = 'dpdk-proc-info'


def _start(lab: Lab) -> tuple[Testpmd, Pair]:
    hugepages.reserve(lab, 2 * SWITCH_MB)
    switch = Testpmd(lab, 'switch', [
        eal.vdev(lab.settings, port, socket_of(lab, port)) for port in PORTS],
        memory_mb=SWITCH_MB, huge_dir=hugepages.mount(lab))
    switch.start()
    return switch, Pair(lab, [socket_of(lab, port) for port in PORTS])


def _numbers(output: str) -> dict[str, int]:
    """The "name value" lines among what EAL says."""
    return {found[1]: int(found[2])
            for found in re.finditer(r'^([\w:]+) (\d+)$', output, re.MULTILINE)}


def _join(lab: Lab, switch: Testpmd, name: str) -> Process:
    """A secondary process that has tried everything and stays."""
    argv = [lab.test_program('secondary'), *switch.eal.secondary_argv(PEER_CPU), '--', POOL]
    process = lab.spawn(name, argv, switch.eal.environment)
    process.expect('^ready$', RUN_SECONDS)
    return process


def _check_between(name: str, before: int, value: int, after: int) -> None:
    check(before <= value <= after, f'{name} is {value} there, {before} before and {after} after')


def _check_numbers(seen: dict[str, int], before: PortStats, after: PortStats) -> None:
    check(seen['received'] == 0 and seen['transmitted'] == 0, f'it moved packets: {seen}')
    check(seen['link'] == 1, 'it sees the link down')
    for name in ('rx_packets', 'tx_packets'):
        _check_between(name, getattr(before, name), seen[name], getattr(after, name))
        per_queue = seen[f'xstat:{name[:2]}_good_packets']
        _check_between(f'xstat of {name}', seen[name], per_queue, getattr(after, name))


def _check_no_guest_memory(process: Process, switch: Testpmd, pair: Pair) -> None:
    files = memory_files(pair.a.pid) | memory_files(pair.b.pid)
    check(mappings(switch.pid, files) != [], 'not even the switch maps a guest')
    found = [*mappings(process.pid, files), *(memory_files(process.pid) & files)]
    check(not found, f'the secondary process has something of the guests: {found}')


def _show_with_proc_info(switch: Testpmd) -> None:
    argv = [PROC_INFO, *switch.eal.joining_argv(), '--', '-p', '0x1', '--xstats']
    output = run(argv, RUN_SECONDS, switch.eal.environment)
    check('map_management_guest_bytes' in output and 'rx_q0_bad_chain_errors' in output,
          f'{PROC_INFO} says: {output}')


@case('secondary: a second process sees a port and its statistics, moves no packet and reaches no '
      'guest', ours_only=True)
def sees_and_moves_nothing(lab: Lab) -> None:
    switch, pair = _start(lab)
    pair.ping()
    chatter = Chatter(pair.a, pair.b.address)
    for turn in range(lab.settings.count(2, 20)):
        before = switch.stats(0)
        process = _join(lab, switch, f'secondary{turn}')
        seen = _numbers(process.output())
        _check_numbers(seen, before, switch.stats(0))
        _check_no_guest_memory(process, switch, pair)
        if turn % 2 == 0:
            process.send('')
            process.expect_success(RUN_SECONDS)
        else:
            process.kill()
    _show_with_proc_info(switch)
    sent, lost = chatter.stop()
    check(sent > 0 and lost == 0, f'{lost} of {sent} echoes were lost')
    pair.exchange_files(2)
    note(f'{len(seen)} numbers seen; {sent} echoes, none lost')
