#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Run one test program that speaks TAP and add what it said to a file of results.

The program counts as failed when a case fails, when it prints fewer or more results than its plan,
when it ends with another status than 0 or by a signal, when it takes too long, and when a
sanitizer reports something. All it writes goes into a log; a failed program's log is shown.
"""

import argparse
import json
import os
import pathlib
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from typing import BinaryIO

from tap import Outcome, Reader

SANITIZER = re.compile(r"runtime error: |ERROR: \w*Sanitizer|WARNING: ThreadSanitizer")
SHOWN_LINES = 200
PATIENCE = 15.0
DRAIN_SECONDS = 2.0


class Output:
    """A program's two streams: both into the log by whole lines, standard output to a reader."""

    def __init__(self, process: subprocess.Popen, log: BinaryIO, reader: Reader) -> None:
        self._log = log
        self._reader = reader
        self._rest = {}
        self.report = ""
        self._selector = selectors.DefaultSelector()
        for stream in (process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
            self._rest[stream] = b""
        self._stdout = process.stdout

    def open(self) -> bool:
        """Whether anybody can still write."""
        return bool(self._selector.get_map())

    def pump(self, seconds: float) -> None:
        """Take what is there, waiting at most so long for something."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            stream = key.fileobj
            data = stream.read()
            if data is None:
                continue
            if data:
                *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
            else:
                self._selector.unregister(stream)
                lines = [self._rest.pop(stream)]
            for line in lines:
                self._take(line, stream is self._stdout, end=not data)

    def _take(self, line: bytes, from_stdout: bool, end: bool) -> None:
        if end and not line:
            return
        self._log.write(line + b"\n")
        text = line.decode(errors="replace").rstrip("\r")
        if from_stdout:
            self._reader.feed(text)
        if not self.report and SANITIZER.search(text):
            self.report = text.strip()


def end_group(process: subprocess.Popen, output: Output) -> None:
    """End a program and what it started in its session: ask, and insist if that does not help."""
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < deadline:
            output.pump(0.1)
            if not output.open():
                time.sleep(0.05)


def follow(process: subprocess.Popen, output: Output, timeout: float) -> str | None:
    """Wait for a program's end; returns what was wrong with it, if anything."""
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if time.monotonic() >= deadline:
            end_group(process, output)
            return f"took longer than {timeout:g} s"
        output.pump(0.1)
        if not output.open():
            time.sleep(0.02)
    drain_until = time.monotonic() + DRAIN_SECONDS
    while output.open() and time.monotonic() < drain_until:
        output.pump(0.1)
    if process.returncode < 0:
        return f"ended by {signal.Signals(-process.returncode).name}"
    return f"ended with status {process.returncode}" if process.returncode else None


def run(command: list[str], log_path: pathlib.Path, timeout: float) -> Outcome:
    """Run a program to its end, or to its time limit."""
    reader = Reader()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "wb") as log:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True)
        except OSError as error:
            return reader.finish(f"cannot be started ({error.strerror})")
        output = Output(process, log, reader)
        try:
            ended = follow(process, output, timeout)
        except BaseException:
            end_group(process, output)
            raise
    return reader.finish(output.report or ended)


def show(name: str, outcome: Outcome, seconds: float, log_path: pathlib.Path) -> None:
    """Say how it went in one line; show the log of what failed."""
    counts = f"{outcome.passed} passed"
    counts += f", {len(outcome.failed)} failed" if outcome.failed else ""
    counts += f", {len(outcome.skipped)} skipped" if outcome.skipped else ""
    print(f"{'FAIL' if outcome.failed else 'ok  '}  {name}: {counts} ({seconds:.1f} s)", flush=True)
    if not outcome.failed:
        return
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    print(f"--- last {min(len(lines), SHOWN_LINES)} of {len(lines)} lines of {log_path}")
    print("\n".join(f"    {line}" for line in lines[-SHOWN_LINES:]))
    print("".join(f"    => {case}\n" for case in outcome.failed), end="", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="what to call the suite")
    parser.add_argument("--timeout", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--log", type=pathlib.Path, required=True)
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def main() -> int:
    """Run, show, record; the status tells whether all of it passed."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    began = time.monotonic()
    try:
        outcome = run(arguments.command, arguments.log, arguments.timeout)
    except KeyboardInterrupt:
        return 130
    show(arguments.name, outcome, time.monotonic() - began, arguments.log)
    with open(arguments.results, "a", encoding="utf-8") as results:
        results.write(json.dumps({"name": arguments.name, **asdict(outcome)}) + "\n")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
