#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Checks what tools/view.py shows of an application, and how it leaves a terminal; prints TAP.

The application is a thread here that answers like DPDK's telemetry.
"""

import json
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[3]
VIEW = ROOT / "tools" / "view.py"
# In place of this folder, whose numbers.py would be taken for Python's own.
sys.path[:1] = [str(ROOT / "tools" / "view"), str(ROOT / "tools" / "lib"),
                str(ROOT / "app" / "test-dynvhost" / "e2e")]

# pylint: disable=wrong-import-position
import amounts  # noqa: E402
import ports  # noqa: E402
import screen  # noqa: E402
import table  # noqa: E402

MIB = 1 << 20
DEADLINE = 20.0
STYLES = (screen.BOLD, screen.DIM, screen.GREEN, screen.YELLOW, screen.RED)


def answers(n_ports: int = 1, packets: int = 7, event: str = "link up") -> dict[str, object]:
    """What an application with some ports says, by command."""
    said: dict[str, object] = {"/dynvhost/list": list(range(n_ports))}
    for port in range(n_ports):
        said |= {
            f"/dynvhost/info,{port}": {
                "name": f"net_dynvhost{port}", "iface": "/run/a.sock", "link": "up",
                "queue_pairs": 1, "rings_started": 2, "rings_enabled": 2},
            f"/dynvhost/mem,{port}": {
                "guest_bytes": 1024 * MIB, "loadable_bytes": 3 * MIB, "loadable_peak": 5 * MIB,
                "storable_bytes": MIB, "storable_peak": 2 * MIB, "opens": 40, "closes": 30},
            f"/dynvhost/events,{port}": ["first", event],
            f"/ethdev/stats,{port}": {"ipackets": packets, "opackets": 2 * packets}}
    return said


def serve(listener: socket.socket, peers: list[socket.socket], said: dict[str, object]) -> None:
    """Answer one connection after the other, until the listener is shut down."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        peers.append(peer)
        with peer:
            peer.send(json.dumps({"version": "DPDK 1", "pid": 1 << 30}).encode())
            while command := peer.recv(1024).decode():
                peer.send(json.dumps({command.split(",")[0]: said.get(command)}).encode())


@contextmanager
def application(path: pathlib.Path, said: dict[str, object]) -> Iterator[None]:
    """An application that answers at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        peers: list[socket.socket] = []
        thread = threading.Thread(target=serve, args=(listener, peers, said), daemon=True)
        thread.start()
        try:
            yield
        finally:
            path.unlink()
            for end in (listener, *peers):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)


@contextmanager
def folder() -> Iterator[tuple[pathlib.Path, dict[str, str]]]:
    """A run-time folder: the default application's socket, and the environment that leads there."""
    with tempfile.TemporaryDirectory() as name:
        environment = {**os.environ, "RUNTIME_DIRECTORY": name, "TERM": "xterm",
                       "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("NO_COLOR", None)
        yield pathlib.Path(name) / "dpdk" / "rte" / ports.SOCKET, environment


def printed(*options: str, said: dict[str, object] | None) -> tuple[int, str]:
    """Status and output of one run; without answers there is no application."""
    with folder() as (path, environment):
        command = [VIEW, "--interval", "0.05", *options]

        def run() -> tuple[int, str]:
            done = subprocess.run(command, env=environment, capture_output=True, text=True,
                                  check=False, timeout=DEADLINE, stdin=subprocess.DEVNULL)
            return done.returncode, (done.stdout + done.stderr).replace(str(path), "PATH")

        if said is None:
            return run()
        with application(path, said):
            return run()


def rates(before: dict[str, object], after: dict[str, object]) -> list[object]:
    """What a second look makes of two states of an application: from the guest, to it, opened."""
    with folder() as (path, _):
        said = dict(before)
        with application(path, said):
            watch = ports.Watch(path)
            watch.look()
            said.update(after)
            seen = watch.look().ports[0]
            watch.close()
    return [rate if rate is None else rate > 0
            for rate in (seen.from_guest_rate, seen.to_guest_rate, seen.opens_rate)]


def across_a_restart() -> list[str | None]:
    """The version seen before, between and after two lives of an application."""
    seen = []
    with folder() as (path, _):
        watch = ports.Watch(path)
        for _ in range(2):
            with application(path, answers()):
                seen.append(watch.look())
            seen.append(watch.look())
    return [found and found.version for found in seen]


def read_until(terminal: int, wanted: str, so_far: str = "") -> str:
    """What a program writes to a terminal, until it has written this."""
    deadline = time.monotonic() + DEADLINE
    while wanted not in so_far and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            so_far += os.read(terminal, 65536).decode(errors="replace")
    return so_far


def on_a_terminal(leave: Callable[[int, subprocess.Popen], object], **extra: str
                  ) -> tuple[int, bool, bool, bool]:
    """Run it on a terminal and leave: the status, whether the terminal is as it was, on the first
    screen with a cursor, and whether there were styles."""
    with folder() as (path, environment), application(path, answers()):
        outer, inner = pty.openpty()
        before = termios.tcgetattr(inner)
        with subprocess.Popen([VIEW], env={**environment, **extra}, stdin=inner, stdout=inner,
                              stderr=inner, start_new_session=True) as program:
            try:
                text = read_until(outer, "net_dynvhost0")
                leave(outer, program)
                text = read_until(outer, screen.FIRST_SCREEN, text)
                status = program.wait(DEADLINE)
            finally:
                program.kill()
        same = termios.tcgetattr(inner) == before
        os.close(outer)
        os.close(inner)
    return (status, same, text.endswith(screen.SHOW_CURSOR + screen.FIRST_SCREEN),
            any(style in text for style in STYLES))


def widest(n_ports: int) -> list[tuple[int, bool]]:
    """Whether headings and figures fit, and all lines, by the terminal's width."""
    seen = ports.Application(1, "p", "v", tuple(
        ports.port_of(n, {c: answers(n_ports)[f"/dynvhost/{c},{n}"] for c in
                          ("info", "mem", "events")} | {"stats": {"ipackets": 1, "opackets": 1}})
        for n in range(n_ports)))
    result = []
    for width in (40, 60, 80, 100, 140):
        shown = table.lines(screen.Screen(plain=True), seen, "head", width, 24, 0)
        result.append((width, len(shown) <= 24
                       and all(len(line) < width for line in shown[3:5])))
    return result


PLAIN = (
    "port          name link guest_bytes loadable loadable_peak storable storable_peak opens/s "
    "closes/s from_guest/s to_guest/s rings last_event\n"
    "   0 net_dynvhost0   up  1073741824  3145728       5242880  1048576       2097152       0 "
    "       0            0          0   2/2 link up\n")

FITS = [(40, True), (60, True), (80, True), (100, True), (140, True)]

CASES: dict[str, tuple[Callable[[], object], object]] = {
    "the bar has two cells for each tenfold": (
        lambda: [table.bar(part, 10**6, "#", ".").count("#")
                 for part in (0, 9, 10, 100, 1000, 10**4, 10**5, 10**6)],
        [0, 0, 1, 2, 4, 6, 8, 10]),
    "the bar is rounded up": (lambda: table.bar(15, 10**4, "#", "."), "#####....."),
    "a guest without memory has an empty bar": (lambda: table.bar(0, 0, "#", "."), "." * 10),
    "rates keep to five characters": (
        lambda: [amounts.rate(r) for r in (None, 0, 0.4, 9.96, 998, 999.6, 99951, 14.9e6)],
        ["-", "0", "0.4", "10", "998", "1.0k", "100k", "14.9M"]),
    "a cut line keeps its styles and loses what is too wide": (
        lambda: screen.cut(f"{screen.BOLD}abc{screen.NORMAL}def", 4),
        f"{screen.BOLD}abc{screen.NORMAL}d"),
    "two ports fit any terminal": (lambda: widest(2), FITS),
    "forty ports fit any terminal": (lambda: widest(40), FITS),
    "what front-ends had written down cannot steer the terminal": (
        lambda: ports.readable("a\x1b[2Jb\nc"), "a?[2Jb?c"),
    "rates come with the second look": (
        lambda: rates(answers(packets=7), answers(packets=9)), [True, True, False]),
    "counters that began anew have no rate": (
        lambda: rates(answers(packets=7), answers(packets=6)), [None, None, False]),
    "a port that goes while it is asked about is left out": (
        lambda: printed("--once", said={**answers(2), "/dynvhost/mem,1": None}), (0, PLAIN)),
    "an application that ends is waited for, and its next life is seen": (
        across_a_restart, ["DPDK 1", None, "DPDK 1", None]),
    "--once prints one table": (lambda: printed("--once", said=answers()), (0, PLAIN)),
    "--json prints figures as they are": (
        lambda: json.loads(printed("--json", said=answers())[1])["ports"][0]["loadable_peak"],
        5 * MIB),
    "without an application --once says where it looked": (
        lambda: printed("--once", said=None),
        (1, "view.py: no application answers at PATH\n")),
    "q leaves the terminal as it was": (
        lambda: on_a_terminal(lambda terminal, _: os.write(terminal, b"q")),
        (0, True, True, True)),
    "Ctrl-C leaves the terminal as it was": (
        lambda: on_a_terminal(lambda _, program: program.send_signal(signal.SIGINT)),
        (0, True, True, True)),
    "a signal leaves the terminal as it was": (
        lambda: on_a_terminal(lambda _, program: program.terminate()), (0, True, True, True)),
    "NO_COLOR has no styles": (
        lambda: on_a_terminal(lambda terminal, _: os.write(terminal, b"q"), NO_COLOR="1"),
        (0, True, True, False)),
}


def main() -> int:
    """Run the cases in order."""
    bad = 0
    # Whoever runs this in the background may have it ignored, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"1..{len(CASES)}")
    for number, (name, (observe, expected)) in enumerate(CASES.items(), 1):
        observed = observe()
        if observed == expected:
            print(f"ok {number} - {name}")
        else:
            print(f"not ok {number} - {name}\n# expected {expected!r}\n# observed {observed!r}")
            bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
