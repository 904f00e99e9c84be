# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Ports as lines: for a person at a terminal of any width, and for scripts."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from amounts import rate, share, size
from ports import Application, Port
from screen import GREEN, RED, YELLOW, Screen

BAR_CELLS = 10
BAR_SCALE = '0.001-100%'
BAR_LEAST = 1e-5
ROUNDING = 1e-9
NOTABLE, LARGE = 0.01, 0.1


class Column(NamedTuple):
    """One column; those with the highest rank go first where there is no room."""
    heading: str
    width: int
    rank: int
    cell: Callable[[Port], str]


def bar(part: int, whole: int, full: str = '█', empty: str = '·') -> str:
    """The share on a scale of tenfolds: empty below 0.001 %, full at 100 %, two cells to each."""
    portion = part / whole if whole else 0.0
    cells = 0
    if portion >= BAR_LEAST:
        along = 1 - math.log(min(portion, 1)) / math.log(BAR_LEAST)
        cells = max(1, math.ceil(BAR_CELLS * along - ROUNDING))
    return full * cells + empty * (BAR_CELLS - cells)


COLUMNS = (
    Column('PORT', 4, 0, lambda p: str(p.port)),
    Column('LINK', 4, 0, lambda p: p.link),
    Column('GUEST', 8, 3, lambda p: size(p.guest_bytes) if p.guest_bytes else '-'),
    Column('LOADABLE', 8, 0, lambda p: size(p.loadable_bytes)),
    Column('SHARE', 7, 1, lambda p: share(p.loadable_bytes, p.guest_bytes)),
    Column(BAR_SCALE, BAR_CELLS, 5, lambda p: bar(p.loadable_bytes, p.guest_bytes)),
    Column('STORABLE', 8, 2, lambda p: size(p.storable_bytes)),
    Column('PEAK', 8, 8, lambda p: size(p.loadable_peak)),
    Column('OPEN/s', 6, 6, lambda p: rate(p.opens_rate)),
    Column('CLOSE/s', 7, 7, lambda p: rate(p.closes_rate)),
    Column('FROM/s', 6, 4, lambda p: rate(p.from_guest_rate)),
    Column('TO/s', 5, 4, lambda p: rate(p.to_guest_rate)),
    Column('RINGS', 7, 10, lambda p: f'{p.rings_started}/{p.rings}'),
)


def columns_for(width: int) -> list[Column]:
    """The columns that fit, the least important left out."""
    chosen = list(COLUMNS)
    while len(chosen) > 1 and sum(c.width + 1 for c in chosen) - 1 > width:
        chosen.remove(max(chosen, key=lambda column: column.rank))
    return chosen


def _style(screen: Screen, column: Column, port: Port, text: str) -> str:
    if column.heading == 'LINK' and port.link != 'up':
        return screen.styled(YELLOW, text)
    if column.heading == BAR_SCALE:
        portion = port.loadable_bytes / port.guest_bytes if port.guest_bytes else 0
        return screen.styled(GREEN if portion < NOTABLE else YELLOW if portion < LARGE else RED,
                             text)
    return text


def _row(screen: Screen, columns: Sequence[Column], port: Port) -> str:
    return ' '.join(_style(screen, column, port, column.cell(port).rjust(column.width))
                    for column in columns)


def summary(ports: Sequence[Port]) -> str:
    """All ports in one line."""
    guest = sum(port.guest_bytes for port in ports)
    loadable = sum(port.loadable_bytes for port in ports)
    storable = sum(port.storable_bytes for port in ports)
    links = sum(port.link == 'up' for port in ports)
    counted = f'{len(ports)} port{"" if len(ports) == 1 else "s"}, {links} up'
    if not guest:
        return counted
    return (f'{counted}: of {size(guest)}, {size(loadable)} loadable '
            f'({share(loadable, guest)}), {size(storable)} storable')


def title(application: Application | None, prefix: str, where: object) -> str:
    """Who is looked at."""
    if application is None:
        return f'no application answers at {where}'
    program = application.program or 'an application'
    return f'{program}, pid {application.pid}, {application.version}, prefix {prefix}'


def lines(screen: Screen, application: Application, head: str, columns: int, rows: int,
          skip: int) -> list[str]:
    """A screenful: the ports from number `skip` of the list on, with their events if all fit."""
    ports = application.ports
    wanted = columns_for(columns - 1)
    room = max(rows - 5, 1)
    with_events = 2 * len(ports) <= room
    skip = max(0, min(skip, len(ports) - room))
    shown = ports if with_events else ports[skip:skip + room]
    result = [screen.bold(head), summary(ports), '',
              screen.dim(' '.join(column.heading.rjust(column.width) for column in wanted))]
    for port in shown:
        result.append(_row(screen, wanted, port))
        if with_events:
            rings = f'{port.rings_started} of {port.rings} rings'
            result.append(screen.dim(f'     {port.name}, {rings}  {port.last_event}'))
    if len(shown) < len(ports):
        result.append(screen.dim(f'{skip + 1} to {skip + len(shown)} of {len(ports)}: j and k '
                                 'for others'))
    return result


SCRIPT_COLUMNS: tuple[tuple[str, Callable[[Port], object]], ...] = (
    ('port', lambda p: p.port),
    ('name', lambda p: p.name),
    ('link', lambda p: p.link),
    ('guest_bytes', lambda p: p.guest_bytes),
    ('loadable', lambda p: p.loadable_bytes),
    ('loadable_peak', lambda p: p.loadable_peak),
    ('storable', lambda p: p.storable_bytes),
    ('storable_peak', lambda p: p.storable_peak),
    ('opens/s', lambda p: rate(p.opens_rate)),
    ('closes/s', lambda p: rate(p.closes_rate)),
    ('from_guest/s', lambda p: rate(p.from_guest_rate)),
    ('to_guest/s', lambda p: rate(p.to_guest_rate)),
    ('rings', lambda p: f'{p.rings_started}/{p.rings}'),
    ('last_event', lambda p: p.last_event or '-'),
)


def plain(ports: Sequence[Port]) -> list[str]:
    """One line to a port, in bytes; fields have no blanks in them, but the last."""
    table = [[name for name, _ in SCRIPT_COLUMNS]]
    table += [[str(cell(port)) for _, cell in SCRIPT_COLUMNS] for port in ports]
    widths = [max(len(row[i]) for row in table) for i in range(len(SCRIPT_COLUMNS) - 1)]
    return [' '.join([*(cell.rjust(width) for cell, width in zip(row, widths)), row[-1]])
            for row in table]
