#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Checks that every room includes only what it may know. Prints TAP.

A room is a folder, or some files of one. What it may include is said by patterns below; a header of
its own folder may always be named. A room that needs something new is a decision: change the table.
"""

import re
import sys
from pathlib import Path

from shared.cases import report

TOP = Path(__file__).resolve().parents[3]
DRIVER = 'drivers/net/dynvhost'

# Headers of the C library, as far as this project needs them, and of the kernel's UAPI.
LIBC = [r'assert\.h', r'ctype\.h', r'dirent\.h', r'endian\.h', r'errno\.h', r'fcntl\.h', r'grp\.h',
        r'inttypes\.h', r'limits\.h', r'poll\.h', r'pthread\.h', r'sched\.h', r'signal\.h',
        r'stdarg\.h', r'stdatomic\.h', r'stdbool\.h', r'stddef\.h', r'stdint\.h', r'stdio\.h',
        r'stdlib\.h', r'string\.h', r'time\.h', r'ucontext\.h', r'unistd\.h', r'sys/.*\.h']
UAPI = [r'linux/.*\.h']
EAL = [r'rte_(atomic|branch_prediction|byteorder|common|compat|cycles|debug|eal|errno|io|lcore|log|'
       r'malloc|memcpy|memory|pause|prefetch|spinlock|string_fns|vect|version)\.h']
MBUF = [r'rte_(mbuf|mbuf_core|mbuf_ptype|mempool|net|ether|ip|tcp|udp|sctp|icmp|arp)\.h']
MEM = [r'dynvhost_mem(_(iotlb|log|mirror))?\.h']
VIRTQUEUE = [r'(ahead|defer|gate|virtqueue)\.h']
WIRE = [r'(wire|message|socket)\.h']
LOG_AND_COMPAT = [r'\.\./dynvhost_(log|compat)\.h']


def own_headers(folder: str) -> list[str]:
    """The headers that lie in a folder which is a room as a whole."""
    return [re.escape(path.name) for path in TOP.glob(f'{folder}/*.h')]


# name, files, patterns of what they may include
ROOMS = [
    ('guest memory knows libc and libnuma',
     ['lib/dynvhost_mem/*.[ch]'],
     LIBC + UAPI + MEM + [r'numa\.h', r'numaif\.h', r'mem_[a-z_]+\.h']),
    ('wire, messages and sockets know libc and the kernel',
     [f'{DRIVER}/vhost_user/{name}.[ch]'
      for name in ('wire', 'message', 'socket', 'listen', 'notify', 'closer')],
     LIBC + UAPI + WIRE + [r'(notify|closer)\.h']),
    ('virtqueues know mbufs, EAL and guest memory',
     [f'{DRIVER}/virtqueue/*.[ch]'],
     LIBC + UAPI + [r'cpuid\.h'] + EAL + MBUF + MEM + VIRTQUEUE + own_headers(f'{DRIVER}/virtqueue')),
    ('sessions and the control thread know rings and memory, and no mbufs or ethdev',
     [f'{DRIVER}/vhost_user/session*.[ch]', f'{DRIVER}/vhost_user/control.[ch]',
      f'{DRIVER}/vhost_user/backend*.[ch]'],
     LIBC + UAPI + EAL + MEM + VIRTQUEUE + WIRE + LOG_AND_COMPAT +
     [r'(notify|closer|session|session_priv|backend|control)\.h']),
]
# Files of these folders that belong to no room would escape the check.
COVERED = ['lib/dynvhost_mem/*.[ch]', f'{DRIVER}/vhost_user/*.[ch]', f'{DRIVER}/virtqueue/*.[ch]']

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def expand(patterns: list[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in TOP.glob(pattern)})


def strangers(path: Path, allowed: list[str]) -> list[str]:
    """The headers that a file includes and its room may not."""
    known = re.compile('|'.join(f'(?:{pattern})' for pattern in allowed))
    return [name for name in INCLUDE.findall(path.read_text()) if not known.fullmatch(name)]


def check_room(files: list[Path], allowed: list[str]) -> list[str]:
    return [f'{path.relative_to(TOP)} includes {name}'
            for path in files for name in strangers(path, allowed)]


def results() -> list[tuple[str, list[str]]]:
    found = []
    housed: set[Path] = set()
    for name, patterns, allowed in ROOMS:
        files = expand(patterns)
        housed.update(files)
        found.append((name, check_room(files, allowed) if files else ['the room is empty']))
    homeless = [f'{path.relative_to(TOP)}' for path in expand(COVERED) if path not in housed]
    found.append(('every file belongs to a room', homeless))
    return found


if __name__ == '__main__':
    sys.exit(report((f'rooms: {name}', faults) for name, faults in results()))
