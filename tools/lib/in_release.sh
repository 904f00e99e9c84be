#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Becomes a command in the copy of the checkout below ROOT, an installed Debian release. Mounts what
# programs there need: run it in a mount namespace of its own, as tools/with_release.sh does.
#
# Usage: in_release.sh ROOT COMMAND...

set -euo pipefail

# What is one release's alone (/run, shared memory) is not the machine's.
mount_system()
{
	local root=$1 kind

	for kind in proc sys dev; do
		mount --rbind "/$kind" "$root/$kind"
	done
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mkdir -p "$root/run/lock"
}

# The machine's way to reach the archive.
copy_resolver()
{
	local file

	for file in /etc/resolv.conf /etc/hosts; do
		[ ! -f "$file" ] || cp --remove-destination -L "$file" "$1$file"
	done
}

root=$1
shift
mount_system "$root"
copy_resolver "$root"
# shellcheck disable=SC2016 # the inner shell expands them
exec env -u DYNVHOST_ROOT -u DYNVHOST_DEPS -u DYNVHOST_QUIET -u TMPDIR -u XDG_RUNTIME_DIR \
	-u RUNTIME_DIRECTORY HOME=/root LC_ALL=C.UTF-8 \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	chroot "$root" /bin/sh -c 'cd /dynvhost && exec "$@"' sh "$@"
