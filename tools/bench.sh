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
#                 --quick     one short run of the cells of one core, a quarter of a minute
#                 --runs N    runs of all cells; the median counts (3)
#                 --turns N   runs of each driver where testpmd is measured (5)
#                 --samples N samples of each port and cell in a run (11)
#                 --cells     only these
#   --matrix    every shape, one core; with --two those of two cores:
#               [--two] [--runs N] [--samples N] [--simd BITS]
#   --latency   one packet at a time, median and 99th percentile:
#               [--runs N] [--samples N] [--simd BITS]
#   --invariants  what opening on demand and idle closing cost:
#               [--runs N] [--samples N]
#   --scaling   with ports, regions, rings, guests and pages: [--only NAME] [--runs N] [--samples N]
#   --breakdown where the cycles of a packet go: [--runs N] [--samples N] [--simd BITS]
#   --lines     what a guest can write into lines that a host has read, by how that lets them go
#   --pairs     testpmd beside virtio_user, all sizes: [--runs N]
#   --all       all of these, twenty minutes; then the tables go into doc/*.md
#   --document  only puts the tables that were left into doc/*.md
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
readonly RESULTS=$BUILD/results
readonly WIDE_CELLS=S1,S2,S3,S4,S5,S6,S9,S10,S11,S12,S16,S17
readonly BENCH=$BUILD/app/test-dynvhost/bench/bench_burst
readonly LINES_BENCH=$BUILD/app/test-dynvhost/bench/bench_lines

build_bench()
{
	local log=$BUILD/test-logs/build.log

	mkdir -p "${log%/*}"
	configure_dir "$BUILD" >"$log" 2>&1 || die "cannot configure; see $log"
	ninja -C "$BUILD" "${BENCH#"$BUILD"/}" "${LINES_BENCH#"$BUILD"/}" "$PLUGIN_FILE" \
		>>"$log" 2>&1 </dev/null || die "does not build; see $log"
	stage_plugin "$BUILD"
}

# report NAME OPTION...: run one.
report()
{
	local name=$1

	shift
	PYTHONDONTWRITEBYTECODE=1 run_beside python3 "${LIB%/*}/bench/$name.py" --bench "$BENCH" \
		--out "$RESULTS" "$@"
}

document()
{
	PYTHONDONTWRITEBYTECODE=1 python3 "${LIB%/*}/bench/document.py" --out "$RESULTS" "$@" \
		"$DYNVHOST_ROOT"/doc/*.md
}

report_all()
{
	report scorecard "$@"
	report scorecard --name scorecard-512 --simd 512 --cells "$WIDE_CELLS" "$@"
	report matrix "$@"
	report matrix --two --runs 3 --samples 3 "$@"
	report latency "$@"
	report invariants "$@"
	report scaling "$@"
	report breakdown "$@"
	report lines
	document
}

REPORT=${1:-}
case $REPORT in
-h | --help)
	usage_from "$0"
	exit 0
	;;
--matrix | --pairs | --latency | --invariants | --scaling | --breakdown | --lines | --all | \
	--document)
	shift
	;;
*)
	REPORT=--scorecard
	;;
esac
if [ "$REPORT" = --document ]; then
	document "$@"
	exit 0
fi
build_bench
say "$(uname -r), DPDK $(pkg-config --modversion libdpdk), $(date -u +%F)," \
	"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
if [ "$REPORT" = --all ]; then
	report_all "$@"
else
	report "${REPORT#--}" "$@"
fi
