#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Checks that every C file is written as .clang-format says; prints TAP.

set -euo pipefail

cd "${BASH_SOURCE[0]%/*}/../../.."
# shellcheck source=tools/lib/common.sh
. tools/lib/common.sh
# shellcheck source=tools/lib/lint.sh
. tools/lib/lint.sh

is_formatted()
{
	clang-format-14 --dry-run -Werror --style=file "$1"
}

project_files -name '*.[ch]' | check_each is_formatted
