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

# tidy_all: clang-tidy is slow, so all processors work at it; what it says of a file is kept.
tidy_all()
{
	# shellcheck disable=SC2016 # expanded by the shell that xargs starts
	checked_files | xargs -P "$(nproc)" -I{} sh -c '
		said=$1/$(echo "$3" | tr / %)
		clang-tidy-14 -p "$2" --quiet "$3" >"$said" 2>/dev/null || echo "exit status $?" >>"$said"
	' tidy "$SAID" "$BUILD" {}
}

is_tidy()
{
	! grep . "$SAID/${1//\//%}"
}

configure_dir "$BUILD" >"$SAID/meson" || die "meson: $(tail -n 3 "$SAID/meson")"
tidy_all
checked_files | check_each is_tidy
