#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Builds a folder as a test with one case; prints TAP, and on stderr what meson and ninja say.
#
# Usage: build_tap.sh DIR [MESON-OPTION...]

set -euo pipefail

# shellcheck source=tools/lib/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"
# shellcheck source=tools/lib/build.sh
. "${BASH_SOURCE[0]%/*}/build.sh"

echo 1..1
if build_dir "$@" >&2; then
	echo "ok 1 - builds without a warning"
else
	echo "not ok 1 - builds without a warning"
	exit 1
fi
