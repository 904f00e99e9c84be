# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The same switch on each page-table engine of the driver."""

import itertools
from collections.abc import Sequence
from typing import Any

from .eal import vdev
from .errors import Failure, Skip, check
from .exposure import PAGE
from .lab import Lab
from .testpmd import Testpmd, socket_of

ENGINES = ('mmap', 'uffd')
BACKINGS = {'4 KiB pages': False, '2 MiB pages': True}
REFUSAL = 'does not work here'


def start_switch(lab: Lab, engine: str, options: Sequence[str] = ('', ''), *,
                 patient: bool = False) -> Testpmd:
    """A forwarding testpmd whose ports use this engine, one for each of `options` (which start with
    a comma); Skip where the driver finds that the machine cannot do it. A patient one waits for a
    guest that is short of buffers instead of dropping what it has for it."""
    vdevs = [vdev(lab.settings, port, socket_of(lab, port), f',map-mode={engine}{more}')
             for port, more in enumerate(options)]
    try:
        switch = Testpmd(lab, 'switch', vdevs)
    except Failure as failure:
        if REFUSAL in str(failure):
            raise Skip(str(failure)) from None
        raise
    for port in range(len(vdevs)):
        used = memory_of(switch, port)['engine']
        check(used == engine, f'port {port} uses engine {used}, not {engine}')
    if patient:
        switch.command('set fwd io retry')
        switch.command('set burst tx delay 20 retry 50000')
    switch.start()
    return switch


def memory_of(switch: Testpmd, port: int = 0) -> dict[str, Any]:
    """What the driver says about a port's guest memory."""
    told = switch.telemetry(f'/dynvhost/mem,{port}')
    check(isinstance(told, dict), f'/dynvhost/mem,{port} answers {told!r}')
    return told


def pages_of(switch: Testpmd, port: int = 0) -> set[tuple[int, bool]]:
    """The 4 KiB pages that the driver says are open: (guest address, writable)."""
    found: set[tuple[int, bool]] = set()
    for reply in itertools.count():
        runs = switch.telemetry(f'/dynvhost/pages,{port},{reply}')
        check(isinstance(runs, list), f'/dynvhost/pages,{port},{reply} answers {runs!r}')
        if not runs:
            return found
        for run in runs:
            place, right = run.split()[:2]
            gpa, size = (int(number, 16) for number in place.split('+'))
            found |= {(page, right == 'rw') for page in range(gpa, gpa + size, PAGE)}
