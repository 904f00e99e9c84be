# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# What every script under tools/ shares: where things are, how to speak, what to undo at exit.
# Source it first; it sets DYNVHOST_ROOT (the checkout) and DYNVHOST_DEPS (what setup.sh made).
# shellcheck shell=bash

DYNVHOST_ROOT=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd -P)
DYNVHOST_DEPS=$(realpath -ms "${DYNVHOST_DEPS:-$DYNVHOST_ROOT/.deps}")
export DYNVHOST_ROOT DYNVHOST_DEPS

DYNVHOST_QUIET=${DYNVHOST_QUIET:-0}

# say TEXT: tell the person what happens, unless --quiet was asked for.
say()
{
	[ "$DYNVHOST_QUIET" = 1 ] || echo "${0##*/}: $*"
}

# die TEXT: one line on stderr that tells what to do, then exit with 1.
die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

am_root()
{
	[ "$(id -u)" -eq 0 ]
}

have()
{
	command -v "$1" >/dev/null 2>&1
}

# usage_from SCRIPT: print the head comment of a script after its licence lines, as its help.
usage_from()
{
	sed -n '2,/^[^#]/{/^#/!d; /SPDX-License\|Copyright (c)/d; s/^# \{0,1\}//; p}' "$1" |
		sed '1{/^$/d}'
}

# on_exit COMMAND...: run it when the script ends, however it ends; the last one given runs first.
EXIT_COMMANDS=()
EXIT_OWNER=

on_exit()
{
	if [ "$EXIT_OWNER" != "$BASHPID" ]; then
		EXIT_COMMANDS=()
		EXIT_OWNER=$BASHPID
		trap run_exit_commands EXIT
		trap 'exit 129' HUP
		trap 'exit 130' INT
		trap 'exit 143' TERM
	fi
	EXIT_COMMANDS+=("$(printf '%q ' "$@")")
}

run_exit_commands()
{
	local status=$? i

	trap '' HUP INT TERM
	for ((i = ${#EXIT_COMMANDS[@]} - 1; i >= 0; i--)); do
		eval "${EXIT_COMMANDS[i]}" || true
	done
	exit "$status"
}

# run_beside COMMAND...: run it beside this shell, so that a signal that ends the one ends the other;
# returns its status. Its standard input is /dev/null.
BESIDE_PID=
BESIDE_ENDS=

run_beside()
{
	local status=0

	if [ -z "$BESIDE_ENDS" ]; then
		BESIDE_ENDS=1
		on_exit end_beside
	fi
	"$@" </dev/null &
	BESIDE_PID=$!
	wait "$BESIDE_PID" || status=$?
	BESIDE_PID=
	return "$status"
}

end_beside()
{
	[ -z "$BESIDE_PID" ] || kill -TERM "$BESIDE_PID" 2>/dev/null || return 0
	[ -z "$BESIDE_PID" ] || wait "$BESIDE_PID"
}

# Stamps. What setup.sh made is valid while the stamp of that name holds the same key; it is taken
# away before work begins and written, in one step, when all of it is in place.
stamp_is()
{
	local key=$2 file=$DYNVHOST_DEPS/.stamps/$1

	[ -f "$file" ] && [ "$(<"$file")" = "$key" ]
}

stamp_drop()
{
	rm -f "$DYNVHOST_DEPS/.stamps/$1"
}

stamp_set()
{
	local name=$1 key=$2 dir=$DYNVHOST_DEPS/.stamps

	mkdir -p "$dir"
	printf '%s\n' "$key" >"$dir/$name.new"
	mv "$dir/$name.new" "$dir/$name"
}

# replace_dir NEW OLD: put folder NEW where OLD is; both on one file system.
replace_dir()
{
	local new=$1 old=$2

	mkdir -p "${old%/*}"
	rm -rf "$old"
	mv "$new" "$old"
}
