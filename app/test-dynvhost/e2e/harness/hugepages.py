# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""2 MiB pages for as long as one test needs them."""

from pathlib import Path

from .errors import Failure, Skip
from .lab import Lab
from .process import run

POOL = Path('/sys/kernel/mm/hugepages/hugepages-2048kB')
PAGE_MB = 2
MOUNT_SECONDS = 10.0


def _read(name: str) -> int:
    return int((POOL / name).read_text())


def _resize(change: int) -> None:
    (POOL / 'nr_hugepages').write_text(str(max(0, _read('nr_hugepages') + change)))


def reserve(lab: Lab, megabytes: int) -> None:
    """See to it that so much is free, until the lab is taken down; Skip when it cannot be had."""
    if not POOL.exists():
        raise Skip('this kernel has no 2 MiB pages')
    wanted = (megabytes + PAGE_MB - 1) // PAGE_MB
    missing = wanted - (_read('free_hugepages') - _read('resv_hugepages'))
    if missing <= 0:
        return
    before = _read('nr_hugepages')
    try:
        _resize(missing)
    except OSError as error:
        raise Skip(f'no 2 MiB pages free and none can be reserved: {error.strerror}') from None
    lab.defer(_resize, before - _read('nr_hugepages'))
    short = missing - (_read('nr_hugepages') - before)
    if short > 0:
        raise Skip(f'only {wanted - short} of {wanted} 2 MiB pages can be had')


def mount(lab: Lab) -> Path:
    """A hugetlbfs for files that processes share, until the lab is taken down."""
    folder = lab.path('huge')
    folder.mkdir()
    try:
        run(['mount', '-t', 'hugetlbfs', '-o', 'pagesize=2M', 'none', folder], MOUNT_SECONDS)
    except Failure as failure:
        raise Skip(f'no hugetlbfs can be mounted: {failure}') from None
    lab.defer(run, ['umount', folder], MOUNT_SECONDS)
    return folder
