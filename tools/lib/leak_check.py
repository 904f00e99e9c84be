#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Tell whether a test run left anything behind on the machine; prints TAP.

leak_check.py snapshot FILE       before the run: note mounts and huge pages
leak_check.py compare FILE DIR    after it: DIR is the run's folder for temporary files

A process belongs to the run when DYNVHOST_TEST_RUN in its environment is the same as here; such
processes are ended after they were reported.
"""

import json
import os
import pathlib
import signal
import stat
import sys
import time

RUN_VARIABLE = "DYNVHOST_TEST_RUN"
POOLS = pathlib.Path("/sys/kernel/mm/hugepages")
SETTLE_SECONDS = 3.0


def mounts() -> list[str]:
    """Every mount as "POINT (TYPE)"."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return sorted(f"{line.split()[4]} ({line.split(' - ')[1].split()[0]})" for line in lines)


def huge_pages() -> dict[str, int]:
    """Pages in each pool, and those of them in use."""
    state = {}
    for pool in sorted(POOLS.glob("hugepages-*")):
        total = int((pool / "nr_hugepages").read_text())
        free = int((pool / "free_hugepages").read_text())
        state[f"{pool.name} total"], state[f"{pool.name} in use"] = total, total - free
    return state


def run_processes(run: str) -> dict[int, str]:
    """Processes of the run other than this one and its parents, by id."""
    parents = {os.getpid()}
    pid = os.getppid()
    while pid > 1:
        parents.add(pid)
        pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{RUN_VARIABLE}={run}".encode() in environment and int(entry.name) not in parents:
            found[int(entry.name)] = command.strip()[:120]
    return found


def left_processes() -> list[str]:
    """What is still running of the run, once it had a moment to end; then ended by force."""
    run = os.environ[RUN_VARIABLE]
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := run_processes(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return [f"{pid}: {command}" for pid, command in left.items()]


def left_sockets(folder: pathlib.Path) -> list[str]:
    """Sockets below the run's folder: as files, and as names the kernel still knows."""
    found = {str(path) for path in folder.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)}
    for line in pathlib.Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[7].startswith(f"{folder}/"):
            found.add(words[7])
    return sorted(found)


def changed_huge_pages(before: dict[str, int]) -> list[str]:
    """Pools that are not as they were, once the kernel had a moment to take pages back."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (after := huge_pages()) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"{name}: {before.get(name)} before, {count} now"
            for name, count in after.items() if count != before.get(name)]


def compare(before: dict, folder: pathlib.Path) -> int:
    """Print one result for each kind of thing that can stay behind."""
    findings = {
        "no process of the run is left": left_processes(),
        "no socket of the run is left": left_sockets(folder),
        "no mount was added": [m for m in mounts() if m not in before["mounts"]],
        "huge pages are as they were": changed_huge_pages(before["huge_pages"]),
    }
    print(f"1..{len(findings)}")
    for number, (name, left) in enumerate(findings.items(), 1):
        print(f"{'not ok' if left else 'ok'} {number} - {name}")
        for item in left:
            print(f"# {item}")
    return 1 if any(findings.values()) else 0


def main() -> int:
    """Do what the first argument says."""
    if len(sys.argv) == 3 and sys.argv[1] == "snapshot":
        state = {"mounts": mounts(), "huge_pages": huge_pages()}
        pathlib.Path(sys.argv[2]).write_text(json.dumps(state), encoding="utf-8")
        return 0
    if len(sys.argv) == 4 and sys.argv[1] == "compare":
        before = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
        return compare(before, pathlib.Path(sys.argv[3]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
