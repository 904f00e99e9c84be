#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""How much of their guests the net_dynvhost ports of a running DPDK application can reach.

Shows each port, once a second: its link, the guest's RAM, how much of it can be loaded and stored
now and at peak, pages opened and closed, packets from and to the guest, rings, and what happened
last. The bar has a scale of tenfolds, from 0.001 % of the guest to all of it. An application that
ends is waited for. Keys: q quits, j and k show other ports where there are many.
"""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / 'view'), str(HERE / 'lib'),
                str(HERE.parent / 'app' / 'test-dynvhost' / 'e2e')]

import table  # noqa: E402
from keyboard import Keyboard, on_stop  # noqa: E402
from ports import Application, Watch, answering, socket_path  # noqa: E402
from screen import Screen  # noqa: E402

DOWN, UP = ('j', '\x1b[B', '\x1bOB'), ('k', '\x1b[A', '\x1bOA')
QUIT = ('q', 'Q', '\x04')


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='view.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-f', '--file-prefix', default='rte', metavar='NAME',
                        help="the application's --file-prefix (rte)")
    parser.add_argument('-i', '--instance', type=int, default=0, metavar='N',
                        help='which of several applications with that prefix (0)')
    parser.add_argument('--interval', type=float, default=1.0, metavar='SECONDS',
                        help='between two looks (1)')
    parser.add_argument('--once', action='store_true',
                        help='print one table, in bytes, and leave; rates are of one interval')
    parser.add_argument('--json', action='store_true', help='the same as JSON')
    arguments = parser.parse_args()
    if not 0.05 <= arguments.interval <= 3600:
        parser.error('--interval is 0.05 to 3600 seconds')
    return arguments


def complain(watch: Watch) -> int:
    """Nobody answers: say where, and who would."""
    others = ', '.join(answering())
    print(f'view.py: no application answers at {watch.path}'
          + (f'; --file-prefix of those that do: {others}' if others else ''), file=sys.stderr)
    return 1


def print_once(watch: Watch, interval: float, as_json: bool) -> int:
    """One table, or one JSON document."""
    if watch.look() is None:
        return complain(watch)
    time.sleep(interval)
    application = watch.look()
    if application is None:
        return complain(watch)
    if as_json:
        print(json.dumps({**vars(application), 'ports': [vars(p) for p in application.ports]}))
    else:
        print('\n'.join(table.plain(application.ports)))
    return 0


class View:
    """The live view: what is shown now, and how it follows keys and time."""

    def __init__(self, watch: Watch, arguments: argparse.Namespace, screen: Screen) -> None:
        self._watch = watch
        self._arguments = arguments
        self._screen = screen
        self._skip = 0
        self._application: Application | None = None

    def run(self, keyboard: Keyboard) -> None:
        """Until q."""
        while True:
            self._application = self._watch.look()
            self.draw()
            due = time.monotonic() + self._arguments.interval
            while (left := due - time.monotonic()) > 0:
                key = keyboard.wait(left)
                if key in QUIT:
                    return
                if key in DOWN + UP:
                    self._scroll(1 if key in DOWN else -1)

    def _scroll(self, by: int) -> None:
        ports = len(self._application.ports) if self._application else 0
        self._skip = max(0, min(self._skip + by, ports - 1))
        self.draw()

    def draw(self) -> None:
        """Show what was seen last."""
        columns, rows = shutil.get_terminal_size()
        head = table.title(self._application, self._arguments.file_prefix, self._watch.path)
        if self._application is None:
            self._screen.block([self._screen.bold(head), 'It is waited for; q quits.'], [head])
        else:
            self._screen.block(table.lines(self._screen, self._application, head, columns, rows,
                                           self._skip),
                               table.plain(self._application.ports))


def watch_live(watch: Watch, arguments: argparse.Namespace) -> int:
    """The view, on the whole terminal; without one, a table now and then."""
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(Screen(whole=True, plain_seconds=0.0))
        keyboard = stack.enter_context(Keyboard())
        view = View(watch, arguments, screen)

        def leave() -> None:
            keyboard.__exit__()
            screen.__exit__()

        def come_back() -> None:
            screen.__enter__()
            keyboard.__enter__()
            view.draw()

        if screen.live:
            on_stop(leave, come_back)
        view.run(keyboard)
    return 0


def main() -> int:
    """Look once or until told to leave."""
    arguments = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    sys.stdout.reconfigure(errors='replace')
    watch = Watch(socket_path(arguments.file_prefix, arguments.instance))
    try:
        if arguments.once or arguments.json:
            return print_once(watch, arguments.interval, arguments.json)
        return watch_live(watch, arguments)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read has gone; what is left in the buffer is for nobody.
        sys.stdout = None
        return 0
    finally:
        watch.close()


if __name__ == '__main__':
    sys.exit(main())
