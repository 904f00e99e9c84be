# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Debian's source packages, fetched through an apt state of our own: the machine's source list may
# name no sources and stays as it is. Needs common.sh and packages.sh.
# shellcheck shell=bash

# package_origins NAME VERSION: print the URIs of the archives that offer this binary version.
package_origins()
{
	apt-cache policy "$1" | awk -v version="$2" '
		/^ (\*\*\*|   ) [^ ]/ { here = ($1 == "***" ? $2 : $1) == version; next }
		here && $2 ~ /^[a-z+]+:\// { print $2 }' | sort -u
}

# private_apt DIR PROGRAM ARGUMENT...: apt with lists, cache and sources below DIR.
private_apt()
{
	local dir=$1 program=$2

	shift 2
	"$program" -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$dir/sources" \
		-o Dir::State="$dir/state" -o Dir::State::status=/var/lib/dpkg/status \
		-o Dir::Cache="$dir/cache" "$@" </dev/null
}

# private_apt_dir: print a fresh folder that apt's own unprivileged user can work in.
private_apt_dir()
{
	local dir

	dir=$(mktemp -d "${TMPDIR:-/var/tmp}/dynvhost-apt.XXXXXX")
	chmod 755 "$dir"
	mkdir -p "$dir"/{sources,download,state/lists/partial,cache/archives/partial}
	if am_root && id -u _apt >/dev/null 2>&1; then
		chown _apt "$dir/download"
	fi
	echo "$dir"
}

# write_source_list DIR NAME VERSION: the machine's archives as sources; those that offer the binary
# package when its lists say which.
write_source_list()
{
	local dir=$1 uri only=()

	while read -r uri; do
		only+=(--only "$uri")
	done < <(package_origins "$2" "$3")
	python3 "$DYNVHOST_ROOT/tools/lib/apt_sources.py" --out "$dir/sources" "${only[@]}" ||
		die "this machine's apt has no source that could hold the source of $2 $3"
}

# fetch_source_package BINARY TARGET: unpack, with Debian's patches, the source that an installed
# binary package was built from into TARGET. apt checks signatures and hashes.
fetch_source_package()
{
	local binary=$1 target=$2 log=$DYNVHOST_DEPS/log/source-$1.log dir version source

	version=$(dpkg-query -W -f '${Version}' "$binary")
	source=$(dpkg-query -W -f '${source:Package}=${source:Version}' "$binary")
	mkdir -p "$DYNVHOST_DEPS/log"
	dir=$(private_apt_dir)
	on_exit rm -rf "$dir"
	write_source_list "$dir" "$binary" "$version"
	say "fetching the source package $source"
	private_apt "$dir" apt-get update >"$log" 2>&1 || true
	(
		cd "$dir/download"
		private_apt "$dir" apt-get source --only-source --download-only "$source"
	) >>"$log" 2>&1 || die "cannot get the source of $source: $(apt_reason "$log"); see $log"
	dpkg-source --no-check --no-copy -x "$dir"/download/*.dsc "$target" >>"$log" 2>&1 ||
		die "cannot unpack the source package $source; see $log"
	rm -rf "$dir"
}
