# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Where things are and how much to do: one immutable object, filled once from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
OUR_DRIVER = 'net_dynvhost'
PEER_DRIVER = 'net_vhost'

# One busy poller each: the switch on one CPU, whatever drives it on the other.
SWITCH_CPU = 0
PEER_CPU = min(1, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True)
class Settings:
    """`plugin` is the shared object for EAL's -d, or None when EAL finds the driver by itself."""
    driver: str = OUR_DRIVER
    plugin: Path | None = None
    build: Path | None = None
    deps: Path = ROOT / '.deps'
    accel: str = 'auto'
    long: bool = False

    @property
    def ours(self) -> bool:
        """Whether the driver under test is this project's and not the peer."""
        return self.driver == OUR_DRIVER

    def count(self, short: int, long: int) -> int:
        """The repeat count of the form that runs."""
        return long if self.long else short


def from_environment(driver: str = OUR_DRIVER) -> Settings:
    """DYNVHOST_PLUGIN: driver for -d. DYNVHOST_BUILD: build folder. DYNVHOST_DEPS: what setup.sh
    made. DYNVHOST_ACCEL: kvm, tcg or auto. DYNVHOST_TEST_LONG=1: full counts."""
    plugin = os.environ.get('DYNVHOST_PLUGIN')
    build = os.environ.get('DYNVHOST_BUILD')
    return Settings(
        driver=driver,
        plugin=Path(plugin).resolve() if plugin and driver == OUR_DRIVER else None,
        build=Path(build).resolve() if build else None,
        deps=Path(os.environ.get('DYNVHOST_DEPS') or ROOT / '.deps').resolve(),
        accel=os.environ.get('DYNVHOST_ACCEL', 'auto'),
        long=os.environ.get('DYNVHOST_TEST_LONG') == '1')
