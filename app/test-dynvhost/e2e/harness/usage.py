# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""What a process holds: open files, mappings, and memory of its own."""

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import check

# Mappings that come and go with a thread's arena.
STRAY_MAPPINGS = 8


@dataclass(frozen=True)
class Usage:
    """`own_kb` is anonymous memory that is present; what is shared with guests is not in it."""
    files: int
    mappings: int
    own_kb: int


def usage(pid: int) -> Usage:
    """What the process `pid` holds now."""
    folder = Path(f'/proc/{pid}')
    own = re.search(r'^RssAnon:\s*(\d+) kB', (folder / 'status').read_text(), re.MULTILINE)
    assert own is not None
    return Usage(files=len(list((folder / 'fd').iterdir())),
                 mappings=len((folder / 'maps').read_text().splitlines()), own_kb=int(own[1]))


def check_no_more(name: str, before: Usage, after: Usage, stray_kb: int) -> None:
    """Nothing has been leaked between the two, but for so much memory."""
    check(after.files <= before.files,
          f'{name} has {after.files} open files, {before.files} when it began')
    check(after.mappings <= before.mappings + STRAY_MAPPINGS,
          f'{name} has {after.mappings} mappings, {before.mappings} when it began')
    check(after.own_kb <= before.own_kb + stray_kb,
          f'{name} has {after.own_kb} KiB of its own, {before.own_kb} when it began')
