# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""The bench of one test: a folder, the processes started in it, and the order to take it down."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from .errors import Failure, Skip
from .process import Process
from .settings import Settings


class Lab:
    """Use as a context manager; leaving it stops every process and removes the folder."""

    def __init__(self, settings: Settings, keep: bool = False) -> None:
        self.settings = settings
        self.dir = Path(tempfile.mkdtemp(prefix='dynvhost-'))
        self.processes: list[Process] = []
        self._keep = keep
        self._stack = ExitStack()

    def __enter__(self) -> 'Lab':
        return self

    def __exit__(self, *_: object) -> None:
        self.take_down()
        if not self._keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def take_down(self) -> None:
        """Stop everything and undo what was deferred; logs stay until the lab is left. A second
        Ctrl-C does not stop that half-way."""
        before = {number: signal.signal(number, signal.SIG_IGN)
                  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            self._stack.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def defer(self, action: Callable[..., object], *args: object) -> None:
        """Run `action` when the lab is taken down, last registered first."""
        self._stack.callback(action, *args)

    def path(self, name: str) -> Path:
        return self.dir / name

    def test_program(self, name: str) -> Path:
        """One of the end-to-end tests' own applications; Skip where they were not built."""
        build = self.settings.build
        program = build / 'app/test-dynvhost/e2e' / name if build else None
        if program is None or not program.exists():
            raise Skip('DYNVHOST_BUILD does not say where the test programs are')
        return program

    def spawn(self, name: str, argv: Sequence[str | Path],
              env: Mapping[str, str] | None = None) -> Process:
        """Start a program that the lab will stop; `name` is also the name of its log."""
        process = Process(name, argv, self.path(f'{name}.log'), env)
        self.processes.append(process)
        self.defer(process.stop)
        return process

    def check_survivors(self) -> None:
        """Fail when a program ended that no one asked to end."""
        for process in self.processes:
            if not process.end_expected and not process.alive():
                raise Failure(f'{process.name} {process.how_it_ended()}, and no one asked it to')

    def check_ends(self) -> None:
        """Fail when a program crashed, or would not end when asked to."""
        for process in self.processes:
            if process.ended_badly():
                raise Failure(f'{process.name} {process.how_it_ended()}')

    def tails(self) -> str:
        """The last lines of every log, for a report."""
        return '\n'.join(f'--- {p.name} ({p.how_it_ended()})\n{p.tail()}' for p in self.processes)
