#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Builds dynvhost and runs its tests; the last line says "N passed, N failed, N skipped".
#
# Usage: tools/test.sh [--long] [--suite NAME[,NAME...]] [--fail-fast] [--list]
#
#   --long        full repeat counts
#   --suite NAME  only these: lint, e2e, a kind of C tests (unit, conform, hostile, ...) or one of
#                 them (unit_mem_table); "san" for all C tests with sanitizers, san/NAME for some;
#                 "libfuzzer" for all fuzz targets with libFuzzer, libfuzzer/NAME for some
#   --fail-fast   stop at the first suite that fails; otherwise (--keep-going) all of them run
#   --list        print the names of the suites; C tests are listed once they are built
#
# Sets up the machine first (tools/setup.sh test), which needs root if packages are missing. Builds
# into build/ and, with address and undefined-behaviour sanitizers, into build-san/. The suites'
# logs are in build/test-logs/. libFuzzer, built into build-fuzz/, has a minute for each target and in
# the long form a quarter of an hour; the short form of everything leaves it out. A run of everything
# ends with a report, the quick form of tools/bench.sh, that neither passes nor fails. The exit status
# is 0 if something passed and nothing failed.

set -euo pipefail

readonly LIB=${BASH_SOURCE[0]%/*}/lib
# shellcheck source=tools/lib/common.sh
. "$LIB/common.sh"
# shellcheck source=tools/lib/plugin.sh
. "$LIB/plugin.sh"
# shellcheck source=tools/lib/suites.sh
. "$LIB/suites.sh"

ACTION=run
FAIL_FAST=0
BUILT=0
RAN=0
WANTED=()
declare -A MATCHED=()

parse_arguments()
{
	local names

	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) ACTION=help ;;
		--list) ACTION=list ;;
		--long) export DYNVHOST_TEST_LONG=1 ;;
		--fail-fast) FAIL_FAST=1 ;;
		--keep-going) FAIL_FAST=0 ;;
		--suite)
			[ $# -ge 2 ] || die "--suite needs a name (--list shows them)"
			IFS=, read -r -a names <<<"$2"
			WANTED+=("${names[@]}")
			shift
			;;
		*) die "unknown argument $1 (--help shows the known ones)" ;;
		esac
		shift
	done
}

# wanted NAME...: is a suite that goes by these names to be run?
wanted()
{
	local asked name found=1

	[ "${#WANTED[@]}" -gt 0 ] || return 0
	for asked in "${WANTED[@]}"; do
		for name in "$@"; do
			if [ "$asked" = "$name" ]; then
				MATCHED[$asked]=1
				found=0
			fi
		done
	done
	return "$found"
}

# Which builds the wanted suites need.
need_plain_build()
{
	[ "${#WANTED[@]}" -gt 0 ] || return 0
	printf '%s\n' "${WANTED[@]}" |
		grep -qvx 'lint\|lint/.*\|san\|san/.*\|libfuzzer\|libfuzzer/.*'
}

need_sanitized_build()
{
	[ "${#WANTED[@]}" -gt 0 ] || return 0
	printf '%s\n' "${WANTED[@]}" | grep -qx 'san\|san/.*'
}

need_fuzzer_build()
{
	if [ "${#WANTED[@]}" -gt 0 ]; then
		printf '%s\n' "${WANTED[@]}" | grep -qx 'libfuzzer\|libfuzzer/.*'
	else
		[ "${DYNVHOST_TEST_LONG:-0}" = 1 ]
	fi
}

# run KIND NAME COMMAND...: run a suite that is wanted; a failure ends the run only if asked for.
run()
{
	[ "$1" = build ] || RAN=$((RAN + 1))
	run_suite "$@" && return 0
	if [ "$FAIL_FAST" = 1 ]; then
		WANTED=()
		finish
	fi
	return 1
}

run_lint()
{
	local script name language

	for script in "$TESTS"/lint/*.sh "$TESTS"/lint/*.py; do
		[ -f "$script" ] || continue
		name=lint/$(basename "${script%.*}")
		[ "$script" = "${script%.py}" ] && language=bash || language=python3
		! wanted lint "$name" || run lint "$name" "$language" "$script" || true
	done
}

# run_c_tests BUILD PREFIX KIND...: run the wanted C tests of these kinds.
run_c_tests()
{
	local build=$1 prefix=$2 kind program name

	shift 2
	for kind in "$@"; do
		for program in $(c_programs "$build" "$kind"); do
			name=$(suite_of "$program")
			! wanted ${prefix:+san} "$prefix$kind" "$prefix$name" ||
				run "$kind" "$prefix$name" "$program" || true
		done
	done
}

run_plain()
{
	run build build "$LIB/build_tap.sh" "$BUILD" || return 0
	BUILT=1
	# shellcheck disable=SC2046 # kinds are single words
	run_c_tests "$BUILD" "" $(c_kinds "$BUILD")
}

run_sanitized()
{
	run build san/build "$LIB/build_tap.sh" "$BUILD_SAN" "${SANITIZER_OPTIONS[@]}" || return 0
	ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
	UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
		run_c_tests "$BUILD_SAN" san/ "${SANITIZED_KINDS[@]}"
}

run_libfuzzer()
{
	local program name

	CC=clang-14 BUILD_TARGET=libfuzzer run build libfuzzer/build \
		"$LIB/build_tap.sh" "$BUILD_FUZZ" "${FUZZER_OPTIONS[@]}" || return 0
	for program in $(fuzzers "$BUILD_FUZZ"); do
		name=${program##*/libfuzzer_}
		! wanted libfuzzer "libfuzzer/$name" ||
			run libfuzzer "libfuzzer/$name" "$LIB/fuzz_tap.sh" "$program" \
				"${program%/*}/corpus/$name" "$(fuzz_seconds)" "$BUILD/test-logs/found" || true
	done
}

run_e2e()
{
	[ "$BUILT" = 1 ] && wanted e2e && [ -f "$TESTS/e2e/run.py" ] || return 0
	[ ! -f "$BUILD/$PLUGIN_FILE" ] || stage_plugin "$BUILD"
	DYNVHOST_BUILD=$BUILD run e2e e2e python3 "$TESTS/e2e/run.py" || true
}

# Whatever the suites start inherits this environment: a folder of their own for all they create,
# and a mark to find them by.
prepare()
{
	rm -rf "$BUILD/test-logs"
	mkdir -p "$BUILD/test-logs"
	TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/dynvhost-test.XXXXXX")
	on_exit rm -rf "$TMPDIR"
	export TMPDIR DYNVHOST_TEST_RUN=$TMPDIR PYTHONDONTWRITEBYTECODE=1
	export RUNTIME_DIRECTORY=$TMPDIR CMOCKA_MESSAGE_OUTPUT=TAP
	python3 "$LIB/leak_check.py" snapshot "$BUILD/test-logs/machine-before"
}

# complain TEXT: a failure of the run itself, counted like any other.
complain()
{
	run_suite complaint run printf '1..1\nnot ok 1 - %s\n' "$1" || true
}

# finish: look for what was left behind, print the summary, and leave with its verdict.
finish()
{
	local status=0 name

	run_suite leaks leaks python3 "$LIB/leak_check.py" compare \
		"$BUILD/test-logs/machine-before" "$TMPDIR" || true
	for name in "${WANTED[@]}"; do
		[ -n "${MATCHED[$name]:-}" ] || complain "no suite $name was found (see --list)"
	done
	[ "$RAN" -gt 0 ] || complain "nothing ran"
	python3 "${LIB%/*}/tap_summary.py" "$RESULTS" || status=1
	exit "$status"
}

list_suites()
{
	local kind program

	echo lint
	for kind in $(c_kinds "$BUILD"); do
		for program in $(c_programs "$BUILD" "$kind"); do
			suite_of "$program"
		done
	done
	for program in $(fuzzers "$BUILD_FUZZ"); do
		echo "libfuzzer/${program##*/libfuzzer_}"
	done
	echo e2e
}

main()
{
	parse_arguments "$@"
	case $ACTION in
	help) usage_from "$0" ;;
	list) list_suites ;;
	run)
		"${LIB%/*}/setup.sh" test
		prepare
		run_lint
		! need_plain_build || run_plain
		! need_sanitized_build || run_sanitized
		! need_fuzzer_build || run_libfuzzer
		run_e2e
		[ "$BUILT" = 0 ] || [ "${#WANTED[@]}" -gt 0 ] || report_speed "$BUILD"
		finish
		;;
	esac
}

main "$@"
