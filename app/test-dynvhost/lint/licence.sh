#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Checks that every source file opens with its licence and copyright lines; prints TAP.

set -euo pipefail

cd "${BASH_SOURCE[0]%/*}/../../.."
# shellcheck source=tools/lib/common.sh
. tools/lib/common.sh
# shellcheck source=tools/lib/lint.sh
. tools/lib/lint.sh

readonly LICENCE='SPDX-License-Identifier: BSD-3-Clause'
readonly COPYRIGHT='Copyright (c) 2026 The dynvhost authors'

says_its_licence()
{
	[[ $(head -n 3 "$1") == *"$LICENCE"*"$COPYRIGHT"* ]] ||
		die "the first lines lack the licence or the copyright"
}

project_files -name '*.[ch]' -o -name '*.sh' -o -name '*.py' -o -name 'meson*' -o -executable |
	check_each says_its_licence
