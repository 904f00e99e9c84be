#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Checks that every shell and Python script parses; prints TAP.

set -euo pipefail

cd "${BASH_SOURCE[0]%/*}/../../.."
# shellcheck source=tools/lib/common.sh
. tools/lib/common.sh
# shellcheck source=tools/lib/lint.sh
. tools/lib/lint.sh

readonly COMPILE='import sys; compile(sys.stdin.read(), sys.argv[1], "exec")'

# language FILE: print what a file is written in, by its name or its first line.
language()
{
	local first=

	IFS= read -r -n 64 first <"$1" || true
	case $1:$first in
	*.py:* | *'#!'*python3) echo python ;;
	*'#!/bin/sh') echo sh ;;
	*.sh:* | *'#!'*bash) echo bash ;;
	esac
}

parses()
{
	case $(language "$1") in
	python) python3 -c "$COMPILE" "$1" <"$1" ;;
	sh) /bin/busybox sh -n "$1" ;;
	bash) bash -n "$1" ;;
	esac
}

project_files -name '*.sh' -o -name '*.py' -o -executable | check_each parses
