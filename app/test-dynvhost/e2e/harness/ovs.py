# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Open vSwitch with DPDK, run by hand in a folder and a network namespace of its own."""

import shutil
from pathlib import Path

from .eal import Eal
from .errors import Failure, Skip
from .lab import Lab
from .process import Process, run
from .settings import SWITCH_CPU
from .wait import until

VSWITCHD = Path('/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk')
SCHEMA = Path('/usr/share/openvswitch/vswitch.ovsschema')
BRIDGE = 'br0'
TALK_SECONDS = 20
START_SECONDS = 40.0


class OpenVSwitch:
    """A userspace bridge without ports; `add_port` gives it one per vdev."""

    def __init__(self, lab: Lab, memory_mb: int = 1024) -> None:
        for needed in (VSWITCHD, SCHEMA):
            if not needed.exists():
                raise Skip(f'no {needed}: install openvswitch-switch-dpdk')
        self.lab = lab
        self.eal = Eal(lab, [], '0', memory_mb)
        for stale in lab.dir.glob('ovs*'):
            stale.unlink()
        self.dbserver = self._start_database()
        self._configure()
        self.process = self._start_switch()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def _environment(self) -> dict[str, str]:
        folder = str(self.lab.dir)
        return {**self.eal.environment,
                **{f'OVS_{kind}': folder for kind in ('RUNDIR', 'LOGDIR', 'DBDIR', 'SYSCONFDIR')}}

    def _daemon_options(self, name: str) -> list[str]:
        return ['--no-chdir', f'--pidfile={self.lab.path(name)}.pid',
                f'--unixctl={self.lab.path(name)}.ctl']

    def _start_database(self) -> Process:
        database, socket = self.lab.path('ovs.db'), self.lab.path('ovs-db.sock')
        run(['ovsdb-tool', 'create', database, SCHEMA], TALK_SECONDS)
        server = self.lab.spawn('ovsdb-server', [
            'ovsdb-server', database, f'--remote=punix:{socket}',
            *self._daemon_options('ovsdb-server')], self._environment)
        until(socket.exists, START_SECONDS, 'the socket of ovsdb-server')
        return server

    def _configure(self) -> None:
        plugin = self.lab.settings.plugin
        words = ['--no-pci', '--no-huge', '--legacy-mem', '-m', str(self.eal.memory_mb),
                 '--file-prefix', self.eal.prefix, *(['-d', str(plugin)] if plugin else [])]
        self.vsctl('--no-wait', 'init')
        self.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                   'other_config:dpdk-init=true', 'other_config:per-port-memory=true',
                   f'other_config:pmd-cpu-mask={hex(1 << SWITCH_CPU)}',
                   f'other_config:dpdk-extra="{" ".join(words)}"')

    def _start_switch(self) -> Process:
        # The bridge's own interfaces are tap devices: keep them off the machine's network.
        switch = self.lab.spawn('ovs-vswitchd', [
            shutil.which('unshare') or 'unshare', '--net', VSWITCHD,
            f'unix:{self.lab.path("ovs-db.sock")}', '-vconsole:info',
            *self._daemon_options('ovs-vswitchd')], self._environment)
        until(self.lab.path('ovs-vswitchd.ctl').exists, START_SECONDS, 'ovs-vswitchd')
        self.vsctl('add-br', BRIDGE, '--', 'set', 'bridge', BRIDGE, 'datapath_type=netdev')
        return switch

    def vsctl(self, *words: str) -> str:
        return run(['ovs-vsctl', f'--timeout={TALK_SECONDS}',
                    f'--db=unix:{self.lab.path("ovs-db.sock")}', *words], TALK_SECONDS + 5)

    def appctl(self, *words: str) -> str:
        return run(['ovs-appctl', f'--timeout={TALK_SECONDS}', '-t',
                    str(self.lab.path('ovs-vswitchd.ctl')), *words], TALK_SECONDS + 5)

    def add_port(self, name: str, devargs: str) -> None:
        """Attach a vdev; fails when Open vSwitch reports an error for the interface."""
        self.vsctl('add-port', BRIDGE, name, '--', 'set', 'Interface', name, 'type=dpdk',
                   f'options:dpdk-devargs="{devargs}"')
        error = self.vsctl('get', 'Interface', name, 'error').strip()
        if error not in ('[]', '""'):
            raise Failure(f'Open vSwitch refuses {devargs}: {error}')

    def remove_port(self, name: str) -> None:
        """Take a port off the bridge and wait until Open vSwitch has let go of its vdev."""
        self.vsctl('del-port', BRIDGE, name)
        until(lambda: f'"{name}"' not in self.appctl('dpif/show'), TALK_SECONDS, f'end of {name}')

    def quit(self) -> None:
        """Leave in the orderly way: ports closed, status 0."""
        self.appctl('exit', '--cleanup')
        self.process.expect_success(TALK_SECONDS)
