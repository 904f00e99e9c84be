# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Huge pages for as long as a script runs. Needs common.sh.
# shellcheck shell=bash

readonly HUGEPAGE_POOL=/sys/kernel/mm/hugepages/hugepages-2048kB

hugepages_free()
{
	local free reserved

	free=$(<"$HUGEPAGE_POOL/free_hugepages")
	reserved=$(<"$HUGEPAGE_POOL/resv_hugepages")
	echo $((free - reserved))
}

# hugepages_change DELTA: make the pool larger or smaller; says nothing when it may not.
hugepages_change()
{
	local now

	now=$(<"$HUGEPAGE_POOL/nr_hugepages")
	{ echo $((now + $1 > 0 ? now + $1 : 0)) >"$HUGEPAGE_POOL/nr_hugepages"; } 2>/dev/null
}

# hugepages_reserve N: see to it that N pages of 2 MiB are free, and give back at exit what had to
# be added. Returns 1 when they cannot be had; then nothing is changed. Says what it did.
hugepages_reserve()
{
	local wanted=$1 before added

	if [ ! -d "$HUGEPAGE_POOL" ]; then
		say "no huge pages: this kernel has none of 2 MiB"
		return 1
	fi
	if [ "$(hugepages_free)" -ge "$wanted" ]; then
		say "huge pages: $(hugepages_free) of 2 MiB are free, $wanted are wanted"
		return 0
	fi
	before=$(<"$HUGEPAGE_POOL/nr_hugepages")
	if ! hugepages_change $((wanted - $(hugepages_free))); then
		say "no huge pages: not allowed to reserve them"
		return 1
	fi
	added=$(($(<"$HUGEPAGE_POOL/nr_hugepages") - before))
	if [ "$(hugepages_free)" -lt "$wanted" ]; then
		say "no huge pages: only $(hugepages_free) of $wanted can be had"
		hugepages_change "-$added" || true
		return 1
	fi
	on_exit hugepages_change "-$added"
	say "huge pages: reserved $added of 2 MiB until the end"
}
