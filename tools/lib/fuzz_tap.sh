#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Lets libFuzzer look for inputs that a target does not survive, for so many seconds; prints TAP with
# one case, and on stderr what libFuzzer says.
#
# Usage: fuzz_tap.sh PROGRAM CORPUS SECONDS FOUND
#
# It begins with CORPUS and with what it has found worth keeping before, which is beside the program.
# An input that is not survived becomes a file in the folder FOUND.

set -euo pipefail

# shellcheck source=tools/lib/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

[ $# -eq 4 ] || die "usage: fuzz_tap.sh PROGRAM CORPUS SECONDS FOUND"
readonly PROGRAM=$1 CORPUS=$2 SECONDS_EACH=$3 FOUND=$4
readonly NAME=${PROGRAM##*/libfuzzer_}
readonly KEPT=$PROGRAM.kept

mkdir -p "$KEPT" "$FOUND"
echo 1..1
if nice "$PROGRAM" "$KEPT" "$CORPUS" -max_total_time="$SECONDS_EACH" -max_len=4096 -timeout=20 \
	-rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$FOUND/$NAME-" >&2; then
	echo "ok 1 - $NAME: nothing found in $SECONDS_EACH s"
else
	echo "# the input is in $FOUND, to be played by test_fuzz_$NAME FILE"
	echo "not ok 1 - $NAME"
	exit 1
fi
