# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""One started program: its output in a file, its end by its own process id.

Output goes from the program straight into the log, so nothing here has to read in time. A program
started here dies with the program that started it, even when that one is killed.
"""

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import Failure, Timeout, check
from .wait import until

PR_SET_PDEATHSIG = 1
STOP_STEPS = ((signal.SIGINT, 8.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE,
           signal.SIGTRAP}
TAIL_LINES = 30
LAST_WORDS = 4

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A running program. `stop` is safe to call at any time and more than once."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path,
                 env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self.argv = [str(word) for word in argv]
        self.end_expected = False
        self.crash_expected = False
        self.had_to_be_killed = False
        with open(log, 'ab') as out:
            out.write(('$ ' + ' '.join(self.argv) + '\n').encode())
            out.flush()
            self._child = subprocess.Popen(
                self.argv, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})}, start_new_session=True, cwd=log.parent,
                preexec_fn=_die_with_parent)

    @property
    def pid(self) -> int:
        return self._child.pid

    def alive(self) -> bool:
        return self._child.poll() is None

    def position(self) -> int:
        """Where the log ends now; give it to `expect` to look only at what comes after."""
        return self.log.stat().st_size

    def output(self, since: int = 0) -> str:
        with open(self.log, 'rb') as log:
            log.seek(since)
            return log.read().decode(errors='replace').replace('\r', '')

    def tail(self) -> str:
        return '\n'.join(self.output().splitlines()[-TAIL_LINES:])

    def how_it_ended(self) -> str:
        status = self._child.poll()
        if status is None:
            return 'is running'
        if status < 0:
            return f'was ended by {signal.Signals(-status).name}'
        return f'exited with status {status}'

    def expect(self, pattern: str, timeout: float, since: int = 0) -> re.Match[str]:
        """Wait until `pattern` (multi-line) shows in the output after `since`."""
        compiled = re.compile(pattern, re.MULTILINE)

        def seen() -> re.Match[str] | None:
            running = self.alive()
            match = compiled.search(self.output(since))
            if match is None and not running:
                last = '; '.join(self.output(since).split('\n')[-LAST_WORDS:])
                raise Failure(f'{self.name} {self.how_it_ended()} before it printed {pattern!r}, '
                              f'with these last words: {last}')
            return match

        return until(seen, timeout, f'{pattern!r} from {self.name}')

    def send(self, line: str) -> None:
        """Type a line; Failure when nobody is there any more to read it."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line.encode() + b'\n')
            self._child.stdin.flush()
        except BrokenPipeError:
            raise Failure(f'{self.name} {self.how_it_ended()} before it could be told '
                          f'{line!r}') from None

    def signal(self, number: signal.Signals) -> None:
        if self.alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it the hard way, as a crash would, and wait until it is gone."""
        self.end_expected = True
        self.signal(signal.SIGKILL)
        self.wait(5.0)

    def abort(self, timeout: float) -> None:
        """Make it crash as abort(3) does, and wait until it is gone and any core is written."""
        self.end_expected = self.crash_expected = True
        self.signal(signal.SIGABRT)
        self.wait(timeout)

    def wait(self, timeout: float) -> int:
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Timeout(f'{self.name} did not end within {timeout:g} s') from None

    def expect_success(self, timeout: float) -> None:
        """Wait for the end this program was asked for; it must be status 0."""
        self.end_expected = True
        self.wait(timeout)
        check(self._child.returncode == 0, f'{self.name} {self.how_it_ended()}')

    def ended_badly(self) -> bool:
        """Whether it crashed unasked, or had to be killed because it would not end."""
        status = self._child.poll()
        crashed = status is not None and -status in CRASHES
        return self.had_to_be_killed or (crashed and not self.crash_expected)

    def stop(self) -> None:
        """Ask, then insist: SIGINT, SIGTERM, SIGKILL."""
        self.end_expected = True
        for number, patience in STOP_STEPS:
            if not self.alive():
                break
            self.had_to_be_killed = number == signal.SIGKILL
            self.signal(number)
            try:
                self._child.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        if self._child.stdin is not None:
            try:
                self._child.stdin.close()
            except BrokenPipeError:
                pass


def run(argv: Sequence[str | Path], timeout: float, env: Mapping[str, str] | None = None) -> str:
    """Run a short command to its end and return its output; failure or a hang raises."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
                              env={**os.environ, **(env or {})})
    except subprocess.TimeoutExpired:
        raise Timeout(f'{words[0]} took longer than {timeout:g} s') from None
    if done.returncode != 0:
        raise Failure(f'{" ".join(words)}: status {done.returncode}: {done.stdout.strip()}')
    return done.stdout
