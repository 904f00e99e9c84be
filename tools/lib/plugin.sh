# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Where EAL is willing to load the driver from: it refuses a plugin below any folder that everybody
# may write to. Needs common.sh.
# shellcheck shell=bash

readonly PLUGIN_FILE=drivers/net/dynvhost/librte_net_dynvhost.so.1

# safe_for_plugins DIR: may nobody but the owner and group write to DIR and the folders above it?
safe_for_plugins()
{
	local dir

	dir=$(realpath -e "$1") || return 1
	while [ -z "$(find "$dir" -maxdepth 0 -perm -o+w)" ]; do
		[ "$dir" != / ] || return 0
		dir=$(dirname "$dir")
	done
	return 1
}

# private_plugin_dir: print a new private folder EAL loads from; 1 if this user can have none.
private_plugin_dir()
{
	local base dir

	for base in "${XDG_STATE_HOME:-}" /var/lib "${HOME:-}"; do
		if [ -w "$base" ] && safe_for_plugins "$base" &&
			dir=$(mktemp -d "$base/dynvhost-plugin.XXXXXX"); then
			echo "$dir"
			return 0
		fi
	done
	return 1
}

# stage_plugin BUILD: export DYNVHOST_PLUGIN, the path to give to EAL's -d for the driver built in
# BUILD. A copy, when one is needed, goes away at exit.
stage_plugin()
{
	local built dir

	built=$(realpath -e "$1/$PLUGIN_FILE" 2>/dev/null) || die "$1 holds no ${PLUGIN_FILE##*/}"
	DYNVHOST_PLUGIN=$built
	if ! safe_for_plugins "${built%/*}"; then
		dir=$(private_plugin_dir) ||
			die "${built%/*} is world-writable, and no place was found that EAL loads from"
		on_exit rm -rf "$dir"
		cp "$built" "$dir/"
		DYNVHOST_PLUGIN=$dir/${built##*/}
	fi
	export DYNVHOST_PLUGIN
}
