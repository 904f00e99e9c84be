#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Checks what clang-tidy says about the library and the driver, as .clang-tidy asks; prints TAP.

set -euo pipefail

cd "${BASH_SOURCE[0]%/*}/../../.."
# shellcheck source=tools/lib/common.sh
. tools/lib/common.sh
# shellcheck source=tools/lib/suites.sh
. tools/lib/suites.sh
# shellcheck source=tools/lib/build.sh
. tools/lib/build.sh
# shellcheck source=tools/lib/lint.sh
. tools/lib/lint.sh

SAID=$(mktemp -d)
readonly SAID
on_exit rm -rf "$SAID"

# What is checked: sources that the build compiles.
checked_files()
{
	project_files -name '*.c' \( -path '*/lib/dynvhost_mem/*' -o -path '*/drivers/*' \)
}

# commands_once DIR: write DIR/compile_commands.json, where each file is compiled once. Some tests
# compile sources of the driver again, in other ways; clang-tidy would go through each of them, and
# what it remembers from one way it takes for errors in the next.
commands_once()
{
	python3 - "$BUILD/compile_commands.json" "$1/compile_commands.json" <<-'EOF'
		import json
		import os
		import sys

		commands = json.load(open(sys.argv[1]))
		first = {}
		for command in commands:
		    path = os.path.join(command['directory'], command['file'])
		    first.setdefault(os.path.realpath(path), command)
		json.dump(list(first.values()), open(sys.argv[2], 'w'))
	EOF
}

# tidy_all: clang-tidy is slow, so all processors work at it; what it says of a file is kept.
tidy_all()
{
	# shellcheck disable=SC2016 # expanded by the shell that xargs starts
	checked_files | xargs -P "$(nproc)" -I{} sh -c '
		said=$1/$(echo "$3" | tr / %)
		clang-tidy-14 -p "$2" --quiet "$3" >"$said" 2>/dev/null || echo "exit status $?" >>"$said"
	' tidy "$SAID" "$SAID/commands" {}
}

is_tidy()
{
	! grep . "$SAID/${1//\//%}"
}

configure_dir "$BUILD" >"$SAID/meson" || die "meson: $(tail -n 3 "$SAID/meson")"
mkdir "$SAID/commands"
commands_once "$SAID/commands"
tidy_all
checked_files | check_each is_tidy
