#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Writes the corpus of the fuzz targets: a folder for each, a file for each behaviour.

An input is bytes that a target reads as things to do; how, its source says, and this one says it
once more in words. An input that has found a bug comes in here under the name of what it did.

Usage: corpus.py DIR STAMP
"""

import argparse
import pathlib

import corpus_devargs
import corpus_frontend
import corpus_net_hdr
import corpus_ring

CORPORA = {
    "devargs": corpus_devargs.INPUTS,
    "frontend": corpus_frontend.INPUTS,
    "net_hdr": corpus_net_hdr.INPUTS,
    "packed": corpus_ring.INPUTS,
    "split": corpus_ring.INPUTS,
}


def main() -> int:
    """Write all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("stamp", type=pathlib.Path, help="a file that says when this was done")
    arguments = parser.parse_args()
    for target, inputs in CORPORA.items():
        folder = arguments.dir / target
        folder.mkdir(parents=True, exist_ok=True)
        for stale in {path.name for path in folder.iterdir()} - set(inputs):
            (folder / stale).unlink()
        for name, data in inputs.items():
            (folder / name).write_bytes(data)
    arguments.stamp.touch()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
