# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Configuring and building with meson and ninja. Needs common.sh.
# shellcheck shell=bash

# build_key OPTION...: what a build folder has been configured for.
build_key()
{
	echo "$(meson --version) $(pkg-config --modversion libdpdk) $DYNVHOST_DEPS $*"
}

# configure_dir DIR OPTION...: have meson set up DIR, unless it already is for just this. All that
# was built there goes, the logs of tests stay.
configure_dir()
{
	local dir=$1 key sdk=$DYNVHOST_DEPS/driver-sdk

	shift
	key=$(build_key "$@")
	[ ! -f "$dir/build.ninja" ] || [ "$(cat "$dir/.dynvhost-key" 2>/dev/null)" != "$key" ] ||
		return 0
	mkdir -p "$dir"
	find "$dir" -mindepth 1 -maxdepth 1 ! -name test-logs -exec rm -rf {} +
	[ ! -d "$sdk" ] || set -- "$@" -Ddriver_sdk="$sdk"
	meson setup "$dir" "$DYNVHOST_ROOT" "$@" </dev/null || return 1
	echo "$key" >"$dir/.dynvhost-key"
}

# build_dir DIR OPTION...: configure DIR if need be and build all of it, or what BUILD_TARGET names;
# says what meson and ninja say. Returns 1 when something does not build.
build_dir()
{
	configure_dir "$@" && ninja -C "$1" ${BUILD_TARGET:+"$BUILD_TARGET"} </dev/null
}
