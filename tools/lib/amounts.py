# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Figures as a person wants to read them."""

UNITS = ('KiB', 'MiB', 'GiB', 'TiB')


def size(count: float) -> str:
    """Bytes with three digits that matter: 24 KiB, 1.53 MiB, 512 MiB."""
    unit = 'bytes'
    for larger in UNITS:
        if count < 1024:
            break
        count /= 1024
        unit = larger
    digits = 0 if count >= 100 or count == int(count) else 1 if count >= 10 else 2
    return f'{count:.{digits}f} {unit}'


def share(part: int, whole: int) -> str:
    """A percentage that does not call a small part nothing, nor all but a little everything."""
    percent = 100 * part / whole if whole else 0.0
    if percent in (0, 100):
        return f'{percent:.0f} %'
    return f'{percent:.2f} %' if percent >= 0.01 else '<0.01 %'


def rate(per_second: float | None) -> str:
    """A count per second in at most five characters: 0, 0.4, 12, 998, 1.2k, 14.9M; - if unknown."""
    if per_second is None:
        return '-'
    if 0 < per_second < 9.95:
        return f'{per_second:.1f}'.removesuffix('.0')
    unit = ''
    for larger in 'kMG':
        if per_second < 999.5:
            break
        per_second /= 1000
        unit = larger
    digits = 1 if unit and per_second < 99.95 else 0
    return f'{per_second:.{digits}f}{unit}'
