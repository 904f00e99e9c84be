#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# How fast packets move beside DPDK's own net_vhost, in the same process and at the same time. Builds
# into build-bench/ and leaves tables and pictures there.
#
# Usage: tools/bench.sh [--REPORT] [OPTION...]
#
#   (none)      the scorecard, cell by cell with the limits of each:
#               [--quick] [--runs N] [--turns N] [--samples N] [--cells S1,S2] [--simd BITS]
#                 --quick     one short run of the cells of one core, less than three minutes
#                 --runs N    runs of all cells; the median counts (3)
#                 --turns N   runs of each driver where testpmd is measured (5)
#                 --samples N samples of each port and cell in a run (11)
#                 --cells     only these
#   --matrix    every shape, one core; with --two those of two cores:
#               [--two] [--samples N] [--simd BITS]
#
#   --latency   one packet at a time, median and 99th percentile:
#               [--runs N] [--samples N] [--simd BITS]
#   --invariants  what opening on demand and idle closing cost:
#               [--runs N] [--samples N]
#   --scaling   with ports, regions, rings, guests and pages: [--only NAME] [--runs N] [--samples N]
#   --pairs     testpmd beside virtio_user, all sizes: [--runs N]
#
#   --simd BITS widest registers that drivers may use (EAL allows 256 unless told otherwise)
#   --out DIR   folder of the results (build-bench/results)
#
# Wants a machine at rest, huge pages, and for what takes two cores two CPUs of its own.

set -euo pipefail

readonly LIB=${BASH_SOURCE[0]%/*}/lib
# shellcheck source=tools/lib/common.sh
. "$LIB/common.sh"
# shellcheck source=tools/lib/build.sh
. "$LIB/build.sh"
# shellcheck source=tools/lib/plugin.sh
. "$LIB/plugin.sh"

readonly BUILD=$DYNVHOST_ROOT/build-bench
readonly BENCH=$BUILD/app/test-dynvhost/bench/bench_burst

build_bench()
{
	local log=$BUILD/test-logs/build.log

	mkdir -p "${log%/*}"
	configure_dir "$BUILD" >"$log" 2>&1 || die "cannot configure; see $log"
	ninja -C "$BUILD" "${BENCH#"$BUILD"/}" "$PLUGIN_FILE" >>"$log" 2>&1 </dev/null ||
		die "does not build; see $log"
	stage_plugin "$BUILD"
}

REPORT=scorecard
case ${1:-} in
-h | --help)
	usage_from "$0"
	exit 0
	;;
--matrix | --pairs | --latency | --invariants | --scaling)
	REPORT=${1#--}
	shift
	;;
esac
build_bench
say "$(uname -r), DPDK $(pkg-config --modversion libdpdk), $(date -u +%F)," \
	"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
PYTHONDONTWRITEBYTECODE=1 python3 "${LIB%/*}/bench/$REPORT.py" --bench "$BENCH" \
	--out "$BUILD/results" "$@"
