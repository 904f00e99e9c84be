# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The demo's figures as a person wants to read them."""

from collections.abc import Sequence

from amounts import share, size
from meter import Reading
from screen import Screen

HEADINGS = ('', 'RAM', 'mapped now', 'peak', 'writable now', 'packets')
WIDTHS = (12, 8, 19, 12, 19, 12)


def _row(cells: Sequence[str]) -> str:
    return cells[0].ljust(WIDTHS[0]) + ''.join(
        cell.rjust(width) for cell, width in zip(cells[1:], WIDTHS[1:]))


def _part(count: int, whole: int) -> str:
    return f'{size(count)} {share(count, whole):>8}'


def _guest_row(name: str, reading: Reading) -> str:
    whole = reading.guest_bytes
    return _row((f'guest {name}', size(whole), _part(reading.loadable, whole),
                 size(reading.loadable_peak), _part(reading.storable, whole),
                 f'{reading.packets:,}'))


def table(screen: Screen, doing: str, rate: float, readings: dict[str, Reading]) -> list[str]:
    """The live block: what happens, one row per guest, and what mapping everything would be."""
    whole = next(iter(readings.values())).guest_bytes
    speed = f'{rate:,.0f} Mbit/s' if rate >= 1 else ''
    left, right = f'{screen.clock()}  {doing}', sum(WIDTHS)
    return [
        '', screen.bold(left + speed.rjust(right - len(left))), '',
        screen.dim(_row(HEADINGS)),
        *(_guest_row(name, reading) for name, reading in readings.items()),
        screen.dim(_row(('all mapped', size(whole), _part(whole, whole), size(whole),
                         _part(whole, whole), ''))),
    ]


def plain(screen: Screen, doing: str, rate: float, readings: dict[str, Reading]) -> list[str]:
    """The same for a log, without the columns."""
    return [f'{screen.clock()}  {doing}, {rate:,.0f} Mbit/s', *(
        f'      guest {name}: mapped {size(reading.loadable)} of {size(reading.guest_bytes)} '
        f'({share(reading.loadable, reading.guest_bytes)}), peak {size(reading.loadable_peak)}, '
        f'writable {size(reading.storable)}, {reading.packets:,} packets'
        for name, reading in readings.items())]


def event(screen: Screen, what: str, readings: dict[str, Reading]) -> str:
    """A line that stays: what happened, and how much is mapped now that it has."""
    now = ', '.join(f'{name} {size(reading.loadable)}' for name, reading in readings.items())
    return f'{screen.clock()}  {what:<48}mapped: {now}'


def summary(readings: dict[str, Reading]) -> list[str]:
    """What to remember, in the first line, and what to compare it with."""
    whole = sum(reading.guest_bytes for reading in readings.values())
    loadable = sum(reading.loadable_peak for reading in readings.values())
    storable = sum(reading.storable_peak for reading in readings.values())
    packets = max(reading.packets for reading in readings.values())
    moved = max(reading.bytes for reading in readings.values())
    return [f'Of {size(whole)} of guest memory at most {size(loadable)} was mapped '
            f'({share(loadable, whole)}), {size(storable)} writable,',
            f'while {packets:,} packets, {size(moved)}, went through.',
            f'Mapping everything is {size(whole)}, all writable, all of the time.']
