#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Measures what guest memory opened on demand costs and exposes: the figures of doc/performance.md.
#
# Usage: tools/measure_map.sh [--turns N]
#
#   --turns N  how often each packet rate is measured (default 5)
#
# Sets up the machine first (tools/setup.sh test), builds into build/, and takes about ten minutes.
# Wants an otherwise idle machine with two CPUs and 512 MiB of free 2 MiB pages.

set -euo pipefail

readonly LIB=${BASH_SOURCE[0]%/*}/lib
# shellcheck source=tools/lib/common.sh
. "$LIB/common.sh"
# shellcheck source=tools/lib/build.sh
. "$LIB/build.sh"
# shellcheck source=tools/lib/plugin.sh
. "$LIB/plugin.sh"
# shellcheck source=tools/lib/hugepages.sh
. "$LIB/hugepages.sh"

readonly BUILD=$DYNVHOST_ROOT/build
readonly HUGE_PAGES=256

describe_machine()
{
	echo "$(date -u +%F), $(uname -sr), $(nproc) CPUs:" \
		"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
	echo "DPDK $(pkg-config --modversion libdpdk), $(qemu-system-x86_64 --version | head -n 1)"
}

main()
{
	case ${1:-} in
	-h | --help)
		usage_from "$0"
		exit 0
		;;
	esac
	"${LIB%/*}/setup.sh" test
	build_dir "$BUILD" >&2
	stage_plugin "$BUILD"
	hugepages_reserve "$HUGE_PAGES" || true
	describe_machine
	run_beside "$BUILD/app/test-dynvhost/bench/bench_map"
	DYNVHOST_BUILD=$BUILD PYTHONDONTWRITEBYTECODE=1 run_beside \
		python3 "$DYNVHOST_ROOT/app/test-dynvhost/e2e/measure_granules.py" "$@"
}

main "$@"
