# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The part of the command line that every DPDK application shares."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .lab import Lab
from .settings import Settings

_instances = 0


def vdev(settings: Settings, index: int, socket: Path, options: str = '') -> str:
    """The devargs of port `index` of the driver under test; `options` start with a comma."""
    return f'{settings.driver}{index},iface={socket}{options}'


@dataclass
class Eal:
    """Own file prefix and own run-time folder, so that no two instances and no user's meet. With a
    `huge_dir`, a hugetlbfs, secondary processes can join."""
    lab: Lab
    vdevs: Sequence[str]
    lcores: str
    memory_mb: int = 256
    huge: bool = False
    extra: Sequence[str] = field(default_factory=tuple)
    huge_dir: Path | None = None

    def __post_init__(self) -> None:
        global _instances
        _instances += 1
        self.prefix = f'dynvhost{_instances}'

    @property
    def environment(self) -> dict[str, str]:
        return {'RUNTIME_DIRECTORY': str(self.lab.dir)}

    @property
    def telemetry(self) -> Path:
        return self.lab.path('dpdk') / self.prefix / 'dpdk_telemetry.v2'

    def _memory_argv(self) -> list[str]:
        if self.huge_dir is not None:
            return ['--huge-dir', str(self.huge_dir)]
        return ['--in-memory', '--single-file-segments'] if self.huge else ['--no-huge']

    def _plugin_argv(self) -> list[str]:
        plugin = self.lab.settings.plugin
        return ['-d', str(plugin)] if plugin else []

    def argv(self) -> list[str]:
        return [
            '--lcores', self.lcores, '--no-pci', '--file-prefix', self.prefix,
            *self._memory_argv(), '-m', str(self.memory_mb), '--iova-mode=va',
            *self._plugin_argv(),
            *self.extra,
            *(f'--vdev={spec}' for spec in self.vdevs),
        ]

    def joining_argv(self) -> list[str]:
        """For a process that joins this one and itself knows that it is a secondary one."""
        return ['--no-pci', '--file-prefix', self.prefix, '--iova-mode=va', *self._plugin_argv()]

    def secondary_argv(self, cpu: int) -> list[str]:
        """For any other process that joins this one."""
        return ['--proc-type=secondary', '--lcores', f'0@{cpu}', *self.joining_argv()]
