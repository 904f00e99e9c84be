# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Debian packages: which ones a component needs, which of them are missing, installing them
# without letting any of them start a service. Needs common.sh.
# shellcheck shell=bash

readonly PACKAGES_BUILD=(
	build-essential pkg-config meson ninja-build python3 libdpdk-dev libnuma-dev dpkg-dev
)
readonly PACKAGES_DEMO=(
	"${PACKAGES_BUILD[@]}"
	dpdk dpdk-dev qemu-system-x86 iproute2 procps
	busybox-static iperf3 ethtool cpio kmod xz-utils
)
readonly PACKAGES_TEST=(
	"${PACKAGES_DEMO[@]}"
	libcmocka-dev openvswitch-switch-dpdk python3-pyelftools
	clang clang-tidy clang-format libclang-rt-dev
)

readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_MARK='dynvhost setup: nothing is started'

# missing_packages NAME...: print the names that are not installed, one to a line.
missing_packages()
{
	local -A installed=()
	local state name

	while read -r state name; do
		[ "$state" = ii ] && installed[$name]=1
	done < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null)
	for name in "$@"; do
		[ -n "${installed[$name]:-}" ] || echo "$name"
	done
}

# Packages ask policy-rc.d before they start a service; ours says no. One that is there already and
# says no for a service it cannot know stays; any other is put back at exit.
forbid_services()
{
	if [ -x "$POLICY" ] && ! grep -q "$POLICY_MARK" "$POLICY"; then
		local answer=0
		"$POLICY" dynvhost-no-such-service start >/dev/null 2>&1 || answer=$?
		[ "$answer" -ne 101 ] || return 0
		mv "$POLICY" "$POLICY.dynvhost-saved"
	fi
	on_exit allow_services
	printf '#!/bin/sh\n# %s\nexit 101\n' "$POLICY_MARK" >"$POLICY"
	chmod 755 "$POLICY"
}

allow_services()
{
	rm -f "$POLICY"
	[ ! -e "$POLICY.dynvhost-saved" ] || mv "$POLICY.dynvhost-saved" "$POLICY"
}

# apt_reason LOG...: the first line in which apt says what is wrong.
apt_reason()
{
	grep -hm1 '^Err:\|^E: ' "$@" 2>/dev/null | head -n 1
}

# apt_refresh: bring the machine's package lists up to date, at most once per run. Another apt that
# holds the lists (a fresh machine's daily timer) is waited for. One broken archive among the
# machine's is no reason to stop: what cannot be had is found out when it is asked for.
readonly APT_UPDATE_LOG=$DYNVHOST_DEPS/log/apt-update.log
APT_REFRESHED=0

apt_refresh()
{
	local deadline=$((SECONDS + 120))

	[ "$APT_REFRESHED" = 0 ] || return 0
	APT_REFRESHED=1
	mkdir -p "$DYNVHOST_DEPS/log"
	until apt-get update </dev/null >"$APT_UPDATE_LOG" 2>&1; do
		grep -q 'Could not get lock' "$APT_UPDATE_LOG" || break
		[ "$SECONDS" -lt "$deadline" ] || break
		sleep 2
	done
}

# install_packages NAME...: install what is missing of them; says which when it cannot.
install_packages()
{
	local log=$DYNVHOST_DEPS/log/apt-install.log missing

	mapfile -t missing < <(missing_packages "$@")
	[ "${#missing[@]}" -gt 0 ] || return 0
	am_root || die "not root, and these packages are missing: ${missing[*]}"
	say "installing ${missing[*]}"
	apt_refresh
	forbid_services
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 "${missing[@]}" </dev/null >"$log" 2>&1 ||
		die "cannot install ${missing[*]}: $(apt_reason "$APT_UPDATE_LOG" "$log"); see $log"
}
