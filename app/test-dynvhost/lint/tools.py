#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Checks the programs behind tools/test.sh and tools/setup.sh themselves; prints TAP.

A runner of tests that takes a crash for success would make every other test worthless.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from shared.cases import Cases, compare

LIB = pathlib.Path(__file__).resolve().parents[3] / "tools" / "lib"
SUMMARY = LIB.parent / "tap_summary.py"

Verdict = tuple[int, list[str], list[list[str]]]


def run_suite(script: str, timeout: float = 20) -> Verdict:
    """Run a shell script as a suite; returns what was recorded: passed, failed, skipped."""
    with tempfile.TemporaryDirectory() as folder:
        results = pathlib.Path(folder) / "results"
        subprocess.run(
            [LIB / "run_suite.py", "--name", "s", "--timeout", str(timeout), "--results", results,
             "--log", pathlib.Path(folder) / "log", "--", "sh", "-c", script],
            stdout=subprocess.DEVNULL, check=False, timeout=60)
        record = json.loads(results.read_text(encoding="utf-8"))
    return record["passed"], record["failed"], record["skipped"]


def says(*lines: str) -> str:
    """A script that prints these lines."""
    return "\n".join(f"echo '{line}'" for line in lines)


def summary(*records: dict) -> tuple[int, str]:
    """Sum up records; returns the status and the last line."""
    with tempfile.TemporaryDirectory() as folder:
        results = pathlib.Path(folder) / "results"
        results.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        done = subprocess.run([SUMMARY, results], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()[-1]


def sources(name: str, text: str, *only: str) -> str:
    """Convert one file of apt sources; returns what comes out of it, "" if nothing does."""
    with tempfile.TemporaryDirectory() as folder:
        etc, out = pathlib.Path(folder) / "etc", pathlib.Path(folder) / "out"
        path = etc / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        options = [word for uri in only for word in ("--only", uri)]
        subprocess.run([LIB / "apt_sources.py", "--etc", etc, "--out", out, *options], check=False)
        made = out / path.name
        return made.read_text(encoding="utf-8") if made.exists() else ""


# Archives: their addresses mean nothing to who sorts them.
A, B, C = "copy:/a/d", "copy:/b/d", "copy:/c/d"

DEB822 = f"""# a comment
Types: deb deb-src
URIs: {A} {B}
Suites: bookworm
 bookworm-updates
Components: main
# another
Signed-By: /usr/share/keyrings/k.gpg

Types: deb
URIs: {C}
Suites: x
Enabled: no
"""

CASES: Cases = {
    "results are counted": (
        lambda: run_suite(says("1..3", "ok 1 - a", "not ok 2 - b", "ok 3 - c # SKIP why")),
        (1, ["b"], [["c", "why"]])),
    "cmocka's skip takes its reason from the line before": (
        lambda: run_suite(says("1..2", "ok 1 - a", "# skip: no root", "not ok 2 # SKIP b")),
        (1, [], [["b", "no root"]])),
    "a skip without a reason fails": (
        lambda: run_suite(says("1..1", "not ok 1 # SKIP b")),
        (0, ["b: skipped without a reason"], [])),
    "plans of several groups add up": (
        lambda: run_suite(says("1..1", "ok 1 - a", "1..1", "ok 1 - b")), (2, [], [])),
    "silence fails": (
        lambda: run_suite("true"), (0, ["ended, without a plan"], [])),
    "fewer results than planned fail": (
        lambda: run_suite(says("1..2", "ok 1 - a")), (1, ["ended, with 1 of 2 results"], [])),
    "another status than 0 fails": (
        lambda: run_suite(says("1..1", "ok 1 - a") + "\nexit 3"), (1, ["ended with status 3"], [])),
    "a crash fails": (
        lambda: run_suite(says("1..1", "ok 1 - a") + "\nkill -SEGV $$"),
        (1, ["ended by SIGSEGV"], [])),
    "a suite that hangs is ended and fails": (
        lambda: run_suite(says("1..2", "ok 1 - a") + "\nsleep 60", timeout=0.5),
        (1, ["took longer than 0.5 s, with 1 of 2 results"], [])),
    "a sanitizer's report fails": (
        lambda: run_suite(says("1..1", "ok 1 - a") + "\necho 'x.c:1: runtime error: bad' >&2"),
        (1, ["x.c:1: runtime error: bad"], [])),
    "the closing line adds up, and failures show in the status": (
        lambda: summary({"name": "a", "passed": 2, "failed": ["x"], "skipped": []},
                        {"name": "b", "passed": 3, "failed": [], "skipped": [["y", "why"]]}),
        (1, "5 passed, 1 failed, 1 skipped")),
    "a run in which nothing passed is no success": (
        lambda: summary({"name": "a", "passed": 0, "failed": [], "skipped": [["y", "why"]]}),
        (1, "0 passed, 0 failed, 1 skipped")),
    "deb822 sources become source entries, disabled ones vanish": (
        lambda: sources("sources.list.d/d.sources", DEB822, f"{B}/", C),
        f"Types: deb-src\nURIs: {B}\nSuites: bookworm\n bookworm-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/k.gpg\n\n"),
    "one-line sources keep their options; comments and media vanish": (
        lambda: sources("sources.list", f"deb [signed-by=/k] {A} x main # c\n"
                        f"#deb {B} x main\ndeb cdrom:[n] x main\n"),
        f"deb-src [signed-by=/k] {A} x main\n"),
}

if __name__ == "__main__":
    sys.exit(compare(CASES))
