#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors

"""Sit at a guest's serial console: login.py SOCKET. "exit" or Ctrl-] leaves; the guest runs on."""

import os
import select
import socket
import sys
import termios
import tty

LEAVE = b'\x1d'
ENTER_SHELL = b'shell\n'
LEAVE_SHELL = b'\x03\nexit\n'
LEAVE_SECONDS = 2.0
SHELL_ENDED = b'dynvhost-guest exit '


def relay(console: socket.socket, keyboard: int) -> None:
    """Carry bytes both ways until the person leaves, the shell ends or the guest hangs up."""
    heard = b''
    while SHELL_ENDED not in heard:
        ready, _, _ = select.select([console, keyboard], [], [])
        if console in ready:
            data = console.recv(4096)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
            heard = (heard + data)[-len(SHELL_ENDED) - len(data):]
        if keyboard in ready:
            data = os.read(keyboard, 4096)
            if not data or LEAVE in data:
                leave_shell(console)
                return
            console.sendall(data)


def leave_shell(console: socket.socket) -> None:
    """End the shell, so that the next one to come finds the console as it should be."""
    console.sendall(LEAVE_SHELL)
    console.settimeout(LEAVE_SECONDS)
    heard = b''
    try:
        while SHELL_ENDED not in heard:
            data = console.recv(4096)
            if not data:
                return
            heard += data
    except TimeoutError:
        pass


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
        print(__doc__)
        return 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        try:
            console.connect(sys.argv[1])
        except OSError as error:
            print(f'login.py: {sys.argv[1]}: {error.strerror}', file=sys.stderr)
            return 1
        console.sendall(ENTER_SHELL)
        print('"exit" or Ctrl-] leaves.')
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        try:
            tty.setraw(keyboard)
            relay(console, keyboard)
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
    print()
    return 0


if __name__ == '__main__':
    sys.exit(main())
