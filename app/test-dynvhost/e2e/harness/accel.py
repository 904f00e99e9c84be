# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Whether KVM really runs a guest here: found by booting one, once."""

from functools import cache

from .errors import Failure
from .settings import Settings

# A guest is up in one second under KVM; where nesting only pretends, it never is.
BOOT_SECONDS = 5.0


@cache
def accelerator(settings: Settings) -> str:
    """`kvm` when a guest boots under it in time, else `tcg`; the settings can decide it instead."""
    from .guest import Guest
    from .lab import Lab
    if settings.accel != 'auto':
        return settings.accel
    try:
        with open('/dev/kvm', 'r+b'):
            pass
    except OSError:
        return 'tcg'
    with Lab(settings) as lab:
        try:
            guest = Guest(lab, 'probe', [], accel='kvm')
            guest.wait_ready(BOOT_SECONDS)
        except (Failure, OSError):
            return 'tcg'
    return 'kvm'
