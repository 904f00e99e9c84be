#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Two Linux guests talk through dpdk-testpmd with two net_dynvhost ports, and you watch how little
# of their memory it can reach. Ends by itself in about a minute.
#
# Usage: tools/demo.sh [--keep] [--driver net_vhost] [--guest-mb N] [--seconds N] [--plain]
#
#   --keep             stay up at the end and say how to log into the guests
#   --driver net_vhost the same with DPDK's own driver, for comparison
#   --guest-mb N       RAM of each guest (512)
#   --seconds N        length of each of the two transfers (12)
#   --plain            plain lines; also without a terminal
#
# Sets up the machine first (tools/setup.sh demo), which needs root if packages are missing, and
# builds the driver into build-demo/.

set -euo pipefail

readonly LIB=${BASH_SOURCE[0]%/*}/lib
# shellcheck source=tools/lib/common.sh
. "$LIB/common.sh"
# shellcheck source=tools/lib/build.sh
. "$LIB/build.sh"
# shellcheck source=tools/lib/plugin.sh
. "$LIB/plugin.sh"

readonly BUILD=$DYNVHOST_ROOT/build-demo
readonly BUILD_LOG=$DYNVHOST_DEPS/log/demo-build.log

build_driver()
{
	local reason

	mkdir -p "${BUILD_LOG%/*}"
	if ! build_dir "$BUILD" -Dtests=false >"$BUILD_LOG" 2>&1; then
		reason=$(grep -m 1 'error:\|ERROR:' "$BUILD_LOG") || reason=$(tail -n 1 "$BUILD_LOG")
		die "the driver does not build: $reason; see $BUILD_LOG"
	fi
	stage_plugin "$BUILD"
}

# The demo runs beside this shell, so that a signal reaches both: Ctrl-C by way of the terminal, any
# other by way of end_demo. Either way this waits until it has taken down what it started.
DEMO_PID=

end_demo()
{
	[ -z "$DEMO_PID" ] || kill -TERM "$DEMO_PID" 2>/dev/null || return 0
	[ -z "$DEMO_PID" ] || wait "$DEMO_PID"
}

run_demo()
{
	local status=0

	on_exit end_demo
	trap : INT
	PYTHONDONTWRITEBYTECODE=1 python3 "${LIB%/*}/demo/demo.py" "$@" &
	DEMO_PID=$!
	while kill -0 "$DEMO_PID" 2>/dev/null; do
		status=0
		wait "$DEMO_PID" || status=$?
	done
	DEMO_PID=
	return "$status"
}

main()
{
	case " $* " in
	*' -h '* | *' --help '*)
		usage_from "$0"
		exit 0
		;;
	esac
	"${LIB%/*}/setup.sh" demo
	build_driver
	run_demo "$@"
}

main "$@"
