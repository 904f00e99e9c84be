# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""A Linux guest in QEMU, with one vhost-user network device per socket it is given."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .accel import accelerator
from .console import Console
from .errors import Failure, Skip, Timeout, check
from .exposure import Exposure, memory_files, reach
from .lab import Lab
from .qmp import Qmp
from .wait import until

QEMU = 'qemu-system-x86_64'
START_SECONDS = 10.0
BOOT_SECONDS = 60.0
MEMORY_SLOTS = 4
GLANCE_SECONDS = 0.02
QUIT_SECONDS = 10.0
KERNEL_COMMAND_LINE = 'console=ttyS0 quiet no_timer_check panic=-1'


class Guest:
    """One virtual machine. `addresses[i]` ("ADDR/LEN" or "-") goes to the i-th device.

    `hugetlb` puts its RAM on 2 MiB pages instead of 4 KiB ones; either way it is a memfd that the
    front-end hands to the switch. More RAM can be plugged in up to `max_memory_mb`. `devices` are
    further QEMU devices, `modules` the guest's drivers for them. `nic` are options of the network
    devices (which start with a comma), each with so many pairs of `queues`; a front-end that
    `listens` has the switch connect to it. `kernel` are options of the guest's kernel, `machine`
    those of QEMU's. One with an `incoming` socket waits for another one to migrate there, whose
    name it has as its `station`; there it goes on at once, a `paused` one not before `resume`.
    Started at once; `wait_ready` tells when it can be talked to.
    """

    def __init__(self, lab: Lab, name: str, sockets: Sequence[Path],
                 addresses: Sequence[str] = (), *, memory_mb: int = 256, hugetlb: bool = False,
                 max_memory_mb: int = 0, devices: Sequence[str] = (),
                 modules: Sequence[str] = (), nic: str = '', queues: int = 1,
                 listens: bool = False, kernel: str = '', machine: str = '',
                 incoming: Path | None = None, paused: bool = False, station: str = '',
                 cpus: int = 1, accel: str | None = None) -> None:
        self.lab = lab
        self.name = name
        self.sockets = list(sockets)
        self.addresses = list(addresses)
        self.memory_mb = memory_mb
        self.hugetlb = hugetlb
        self.max_memory_mb = max_memory_mb
        self.devices = list(devices)
        self.modules = list(modules)
        self.nic = nic
        self.queues = queues
        self.listens = listens
        self.kernel = kernel
        self.machine = machine
        self.incoming = incoming
        self.paused = paused
        self.station = station or name
        self.cpus = cpus
        self._accel = accel or accelerator(lab.settings)
        self.console: Console | None = None
        self.start()

    @property
    def address(self) -> str:
        return self.addresses[0].split('/')[0]

    @property
    def pid(self) -> int:
        return self.process.pid

    def _boot_argv(self) -> list[str]:
        image = self.lab.settings.deps / 'guest'
        kernel, initrd = image / 'vmlinuz', image / 'initrd.img'
        if not kernel.exists() or not initrd.exists():
            raise Skip(f'no guest image in {image}: run tools/setup.sh')
        options = [KERNEL_COMMAND_LINE, f'dynvhost.name={self.station}']
        if self.addresses:
            options.append('dynvhost.ip=' + ','.join(self.addresses))
        if self.kernel:
            options.append(self.kernel)
        if self.modules:
            options.append('dynvhost.modules=' + ','.join(self.modules))
        return ['-kernel', str(kernel), '-initrd', str(initrd), '-append', ' '.join(options)]

    def _memory_argv(self) -> list[str]:
        pages = ',hugetlb=on,hugetlbsize=2M,prealloc=on' if self.hugetlb else ''
        size = f'{self.memory_mb}M'
        more = f',slots={MEMORY_SLOTS},maxmem={self.max_memory_mb}M' if self.max_memory_mb else ''
        return ['-m', size + more, '-numa', 'node,memdev=ram',
                '-object', f'memory-backend-memfd,id=ram,size={size},share=on{pages}']

    def mac(self, index: int = 0) -> str:
        """The address of the i-th device."""
        return f'52:54:00:{_number(self.station):02x}:00:{index:02x}'

    def _network_argv(self) -> list[str]:
        # QEMU 7.2 crashes with MSI-X and vhost-user unless KVM does the interrupts.
        vectors = '' if self._accel == 'kvm' else ',vectors=0'
        role = ',server=on,wait=off' if self.listens else ',reconnect=1'
        queues = f',queues={self.queues}' if self.queues > 1 else ''
        multiqueue = ',mq=on' if self.queues > 1 else ''
        argv = []
        for index, socket in enumerate(self.sockets):
            mac = self.mac(index)
            argv += ['-chardev', f'socket,id=vu{index},path={socket}{role}',
                     '-netdev', f'vhost-user,id=net{index},chardev=vu{index}{queues}',
                     '-device', f'virtio-net-pci,netdev=net{index},mac={mac},romfile={multiqueue}'
                     f'{vectors}{self.nic}']
        return argv

    def _incoming_argv(self) -> list[str]:
        if self.incoming is None:
            return []
        return ['-incoming', f'unix:{self.incoming}', *(['-S'] if self.paused else [])]

    def start(self) -> None:
        """Start QEMU, also again after `kill` or `stop`."""
        base = self.lab.path(self.name)
        self.console_path = base.with_suffix('.console')
        self._qmp_path = base.with_suffix('.qmp')
        for stale in (self.console_path, self._qmp_path):
            stale.unlink(missing_ok=True)
        argv = [QEMU, '-name', self.name, '-nodefaults', '-no-user-config', '-display', 'none',
                '-machine', 'q35' + self.machine, '-accel', self._accel,
                '-smp', str(self.cpus), '-cpu', 'max',
                '-chardev', f'socket,id=con,path={self.console_path},server=on,wait=off,'
                f'logfile={base.with_suffix(".serial.log")},logappend=on',
                '-serial', 'chardev:con', '-qmp', f'unix:{self._qmp_path},server=on,wait=off',
                *self._memory_argv(), *self._boot_argv(),
                *(word for device in self.devices for word in ('-device', device)),
                *self._network_argv(), *self._incoming_argv()]
        self.process = self.lab.spawn(self.name, argv)
        self._connect_console()

    def _connect_console(self) -> None:
        def attempt() -> Console | None:
            if not self.process.alive():
                raise Failure(f'QEMU {self.process.how_it_ended()}: {self.process.tail()}')
            try:
                return Console(self.console_path, self.process.alive)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        if self.console is not None:
            self.console.close()
        self.console = until(attempt, START_SECONDS, f'the console of {self.name}')
        self.lab.defer(self.console.close)

    def wait_ready(self, timeout: float = BOOT_SECONDS) -> None:
        self.console.wait_ready(timeout)

    def run(self, command: str, timeout: float = 30.0) -> tuple[int, str]:
        """Run a shell command in the guest; returns its status and its output."""
        self.console.send(command)
        return self.console.result(timeout)

    def ok(self, command: str, timeout: float = 30.0) -> str:
        """Run a shell command that must succeed; returns its output."""
        return self._good(command, *self.run(command, timeout))

    def _good(self, command: str, status: int, output: str) -> str:
        if status != 0:
            raise Failure(f'{self.name}: {command!r} ended with {status}: {output.strip()}')
        return output

    def watch(self, command: str, look: Callable[[], object], timeout: float = 30.0) -> str:
        """Run a shell command that must succeed, and `look` again and again while it runs."""
        deadline = time.monotonic() + timeout
        self.console.send(command)
        while not self.console.finished(GLANCE_SECONDS):
            if time.monotonic() >= deadline:
                raise Timeout(f'{self.name}: {command!r} ran for more than {timeout:g} s')
            look()
        return self._good(command, *self.console.result(timeout))

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU's monitor for something; returns its answer."""
        with closing(Qmp(self._qmp_path)) as monitor:
            return monitor.execute(command, **arguments)

    def reboot(self) -> None:
        """Reboot from inside and wait until the guest is back."""
        self.console.send('reboot -f')
        self.wait_ready()

    def reset(self) -> None:
        """Press the reset button, unseen by the guest, and wait until it is back."""
        self.qmp('system_reset')
        self.wait_ready()

    def kill(self) -> None:
        self.process.kill()

    def start_migration(self, target: 'Guest') -> None:
        """Begin to move the running guest to `target`, which waits for it."""
        assert target.incoming is not None
        until(target.incoming.exists, START_SECONDS, f'{target.name} to wait for {self.name}')
        self.qmp('migrate', uri=f'unix:{target.incoming}')

    def migrate(self, target: 'Guest', patience: float) -> tuple[float, float]:
        """Move the running guest to `target`. Returns when it stopped here, and when it went on
        there, in seconds of the host's clock."""
        assert target.incoming is not None
        until(target.incoming.exists, START_SECONDS, f'{target.name} to wait for {self.name}')
        with closing(Qmp(self._qmp_path, patience)) as here, \
                closing(Qmp(target._qmp_path, patience)) as there:
            here.execute('migrate', uri=f'unix:{target.incoming}')
            return here.wait_event('STOP'), there.wait_event('RESUME')

    def wait_migrated(self, timeout: float) -> dict[str, Any]:
        """Wait until the guest has moved; it is to be talked to at its new place from then on.
        Returns what QEMU has counted."""
        return until(self._migrated, timeout, f'{self.name} to migrate', every=0.1)

    def _migrated(self) -> dict[str, Any] | None:
        told = self.qmp('query-migrate')
        status = told.get('status', 'none')
        check(status not in ('failed', 'cancelled'), f'{self.name} does not migrate: {told}')
        # QEMU adds up a moment after the end.
        return told if status == 'completed' and told['total-time'] > 0 else None

    def wait_arrived(self) -> None:
        """Wait until a guest that migrates here is here as a whole."""
        until(lambda: self.qmp('query-status')['status'] == 'paused', START_SECONDS,
              f'{self.name} to be complete')

    def resume(self) -> None:
        self.qmp('cont')

    def quit(self) -> None:
        """End QEMU in the orderly way, whatever the guest does."""
        self.process.end_expected = True
        self.qmp('quit')
        self.process.wait(QUIT_SECONDS)

    def exposed_to(self, pid: int) -> Exposure:
        """How much of this guest's memory the process `pid` can reach now."""
        return reach(pid, memory_files(self.pid))


def _number(name: str) -> int:
    """A byte for the MAC address: the guests of a lab must have names that make it differ."""
    return sum(name.encode()) % 256
