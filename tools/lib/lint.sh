# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# What the checks of the source tree share. Needs common.sh.
# shellcheck shell=bash

# project_files FIND-TEST...: print the project's files that pass, by their names from its root.
project_files()
{
	find "$DYNVHOST_ROOT" -path '*/.git' -prune -o -path '*/.deps' -prune -o \
		-path "$DYNVHOST_ROOT/build*" -prune -o -name __pycache__ -prune -o \
		-type f \( "$@" \) -printf '%P\n' | LC_ALL=C sort
}

# check_each COMMAND: run COMMAND FILE for every file named on standard input, and print TAP: a case
# passes when the command does; what it prints otherwise becomes a comment. Returns 1 if one failed.
check_each()
{
	local command=$1 files complaints i bad=0

	mapfile -t files
	echo "1..${#files[@]}"
	for i in "${!files[@]}"; do
		if complaints=$("$command" "${files[i]}" 2>&1); then
			echo "ok $((i + 1)) - ${files[i]}"
		else
			echo "not ok $((i + 1)) - ${files[i]}"
			echo "# ${complaints//$'\n'/$'\n# '}"
			bad=1
		fi
	done
	return "$bad"
}
