#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Turn a machine's apt sources into source-package entries.

Reads /etc/apt/sources.list and /etc/apt/sources.list.d/ (or the folder given with --etc) and
writes the same archives, with every option they carry (Signed-By, Trusted ...), as deb-src
entries into the folder given with --out. Nothing is written anywhere else.

--only URI (repeatable) keeps the archives at the URIs given; without it every archive is kept.
Those that need a medium in a drive (cdrom:) are always left out.
"""

import argparse
import pathlib
import re
import sys

ONE_LINE = re.compile(r"^\s*deb(?:-src)?\s+(?P<options>\[[^]]*\]\s+)?(?P<uri>\S+)\s+(?P<rest>.+)$")
FIELD = re.compile(r"^(?P<name>[A-Za-z0-9-]+):(?P<value>.*)$")


def wanted(uri: str, only: list[str]) -> bool:
    """Tell whether an archive is to be asked for source packages."""
    if uri.startswith("cdrom:"):
        return False
    return not only or uri.rstrip("/") in (known.rstrip("/") for known in only)


def convert_one_line(text: str, only: list[str]) -> list[str]:
    """Convert the entries of a one-line-style file; comments and disabled lines vanish."""
    entries = []
    for line in text.splitlines():
        match = ONE_LINE.match(line.split("#", 1)[0])
        if match is None or not wanted(match["uri"], only):
            continue
        options = (match["options"] or "").strip()
        words = ["deb-src", options, match["uri"], match["rest"].strip()]
        entries.append(" ".join(word for word in words if word))
    return entries


def split_stanzas(text: str) -> list[list[list[str]]]:
    """Split a deb822 file into stanzas of fields; a field is its first and following lines."""
    stanzas: list[list[list[str]]] = []
    for block in re.split(r"\n\s*\n", text):
        fields: list[list[str]] = []
        for line in block.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t" and fields:
                fields[-1].append(line)
            else:
                fields.append([line])
        if fields:
            stanzas.append(fields)
    return stanzas


def field_value(fields: list[list[str]], wanted_name: str) -> str:
    """Return a field's value with its continuation lines joined, "" if it is absent."""
    for lines in fields:
        match = FIELD.match(lines[0])
        if match and match["name"].lower() == wanted_name:
            return " ".join([match["value"], *lines[1:]]).strip()
    return ""


def convert_deb822(text: str, only: list[str]) -> list[str]:
    """Convert the stanzas of a deb822 file; disabled stanzas vanish."""
    stanzas = []
    for fields in split_stanzas(text):
        uris = [uri for uri in field_value(fields, "uris").split() if wanted(uri, only)]
        if not uris or field_value(fields, "enabled").lower() in ("no", "false", "0", "off"):
            continue
        kept = [f for f in fields if f[0].split(":", 1)[0].lower() not in ("types", "uris")]
        lines = ["Types: deb-src", "URIs: " + " ".join(uris)]
        lines += [line for field in kept for line in field]
        stanzas.append("\n".join(lines) + "\n")
    return stanzas


def convert_tree(etc: pathlib.Path, out: pathlib.Path, only: list[str]) -> int:
    """Convert every source file apt would read below etc; return the number of entries written."""
    parts = etc / "sources.list.d"
    files = [etc / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    count = 0
    for path in files:
        if not path.is_file():
            continue
        convert = convert_deb822 if path.suffix == ".sources" else convert_one_line
        entries = convert(path.read_text(encoding="utf-8"), only)
        if entries:
            (out / path.name).write_text("\n".join(entries) + "\n", encoding="utf-8")
            count += len(entries)
    return count


def main() -> int:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--etc", type=pathlib.Path, default=pathlib.Path("/etc/apt"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", action="append", default=[], metavar="URI")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return 0 if convert_tree(args.etc, args.out, args.only) else 1


if __name__ == "__main__":
    sys.exit(main())
