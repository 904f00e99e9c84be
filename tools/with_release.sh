#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Runs a command of this checkout under another Debian release, with that release's DPDK: to see that
# the driver builds with it and passes its tests, or how fast it is beside that DPDK's net_vhost.
#
# Usage: tools/with_release.sh [--fresh] [--dir DIR] [--mirror URI] RELEASE [COMMAND...]
#
#   RELEASE       trixie, sid ...: what debootstrap knows
#   COMMAND       from the root of the checkout (tools/test.sh --suite unit,conform,hostile)
#   --fresh       make the release's folder anew
#   --dir DIR     where the releases' folders are (.deps/release)
#   --mirror URI  Debian archive to install from (http://deb.debian.org/debian)
#
# Needs root and some 4 GB. The first time, the release is installed into DIR/RELEASE; it stays there,
# with what the commands left in /dynvhost, the copy of the checkout that they see. What is mounted
# for a command is seen by that command alone, and gone with its last process, however it ends.

set -euo pipefail

readonly LIB=${BASH_SOURCE[0]%/*}/lib
# shellcheck source=tools/lib/common.sh
. "$LIB/common.sh"
# shellcheck source=tools/lib/packages.sh
. "$LIB/packages.sh"

RELEASES=$DYNVHOST_DEPS/release
MIRROR=http://deb.debian.org/debian
RELEASE=
FRESH=0
COMMAND=()

parse_arguments()
{
	while [ $# -gt 0 ] && [ -z "$RELEASE" ]; do
		case $1 in
		-h | --help)
			usage_from "$0"
			exit 0
			;;
		--fresh) FRESH=1 ;;
		--dir | --mirror)
			[ $# -ge 2 ] || die "$1 needs a value"
			[ "$1" = --mirror ] && MIRROR=$2 || RELEASES=$2
			shift
			;;
		[a-z]*) RELEASE=$1 ;;
		*) die "unknown argument $1 (--help shows the known ones)" ;;
		esac
		shift
	done
	[ -n "$RELEASE" ] || die "which Debian release? (--help)"
	[ $# -gt 0 ] || set -- tools/test.sh --suite unit,conform,hostile
	COMMAND=("$@")
}

# One command at a time in a release; what a command left running keeps the lock.
take_lock()
{
	mkdir -p "$RELEASES"
	RELEASES=$(realpath -e "$RELEASES")
	exec 8>"$RELEASES/.$RELEASE.lock"
	flock -n 8 || die "a command is still running in $RELEASES/$RELEASE"
}

# What is mounted meanwhile, nobody else sees.
install_release()
{
	local root=$1 new log=$RELEASES/$RELEASE.log

	[ "$FRESH" = 0 ] || rm -rf --one-file-system "$root"
	[ ! -d "$root" ] || return 0
	install_packages debootstrap
	new=$(mktemp -d "$root.XXXXXX")
	on_exit rm -rf --one-file-system "$new"
	chmod 755 "$new"
	say "installing Debian $RELEASE into $root"
	unshare --mount -- debootstrap --variant=minbase --include=ca-certificates "$RELEASE" "$new" \
		"$MIRROR" >"$log" 2>&1 </dev/null || die "cannot install Debian $RELEASE; see $log"
	mv "$new" "$root"
}

# copy_checkout ROOT: the checkout as it is now, committed or not; what has been built there stays.
copy_checkout()
{
	local copy=$1/dynvhost

	mkdir -p "$copy"
	find "$copy" -mindepth 1 -maxdepth 1 ! -name .deps ! -name 'build*' -exec rm -rf {} +
	tar -C "$DYNVHOST_ROOT" --exclude=./.git --exclude=./.deps --exclude='./build*' \
		--exclude=__pycache__ -cf - . | tar -C "$copy" --no-same-owner -xf -
}

main()
{
	parse_arguments "$@"
	am_root || die "not root: nothing can be installed or mounted"
	take_lock
	# What it has to undo is done when the command takes this shell's place.
	(install_release "$RELEASES/$RELEASE")
	copy_checkout "$RELEASES/$RELEASE"
	exec unshare --mount -- "$LIB/in_release.sh" "$RELEASES/$RELEASE" "${COMMAND[@]}"
}

main "$@"
