#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Makes a Debian machine (12 or 13) able to build, test and demonstrate dynvhost.
#
# Usage: tools/setup.sh [--quiet] [build] [test] [demo]
#
#   build    compiler, meson, DPDK, and the driver SDK headers libdpdk-dev lacks
#   demo     build, and QEMU and the test guest
#   test     demo, and cmocka, clang, Open vSwitch and DPDK's l2fwd example
#
# Without a component it does all of them. Missing packages are installed with apt-get, which needs
# root; no service is started by that. Everything else goes into .deps/ of the checkout, or into
# the folder that DYNVHOST_DEPS names. Run again it does only what is missing.

set -euo pipefail

readonly LIB=${BASH_SOURCE[0]%/*}/lib
# shellcheck source=tools/lib/common.sh
. "$LIB/common.sh"
# shellcheck source=tools/lib/packages.sh
. "$LIB/packages.sh"
# shellcheck source=tools/lib/source_package.sh
. "$LIB/source_package.sh"
# shellcheck source=tools/lib/dpdk_source.sh
. "$LIB/dpdk_source.sh"
# shellcheck source=tools/lib/guest.sh
. "$LIB/guest.sh"

COMPONENTS=

parse_arguments()
{
	local argument

	for argument in "$@"; do
		case $argument in
		-h | --help)
			usage_from "$0"
			exit 0
			;;
		-q | --quiet) DYNVHOST_QUIET=1 ;;
		build | test | demo) COMPONENTS+=" $argument" ;;
		*) die "unknown argument $argument (--help shows the known ones)" ;;
		esac
	done
	COMPONENTS=${COMPONENTS:- build test demo}
}

asked_for()
{
	local name

	for name in "$@"; do
		case "$COMPONENTS " in
		*" $name "*) return 0 ;;
		esac
	done
	return 1
}

check_machine()
{
	have apt-get || die "this machine has no apt: only Debian is supported"
	[ "$(dpkg --print-architecture)" = amd64 ] || die "only amd64 is supported"
}

# Two runs at a time would fetch everything twice: the second waits for the first.
take_lock()
{
	mkdir -p "$DYNVHOST_DEPS"
	exec 9>"$DYNVHOST_DEPS/.lock"
	flock -w 1800 9 || die "another setup.sh has held $DYNVHOST_DEPS/.lock for half an hour"
}

setup_packages()
{
	local packages=("${PACKAGES_BUILD[@]}")

	! asked_for demo || packages=("${PACKAGES_DEMO[@]}")
	! asked_for test || packages=("${PACKAGES_TEST[@]}")
	if dpdk_has_driver_sdk; then
		mapfile -t packages < <(printf '%s\n' "${packages[@]}" | grep -vx libdpdk-dev)
	fi
	install_packages "${packages[@]}"
}

main()
{
	parse_arguments "$@"
	check_machine
	take_lock
	setup_packages
	setup_driver_sdk
	! asked_for demo test || setup_guest
	! asked_for test || setup_l2fwd
	say "ready:$COMPONENTS"
}

main "$@"
