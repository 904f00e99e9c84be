# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
#
# Which test suites there are, and how one is run. Needs common.sh.
#
# A suite is a program without arguments that prints TAP on standard output:
#   lint     app/test-dynvhost/lint/*.sh and *.py
#   C tests  test_KIND_NAME, anywhere below app/test-dynvhost of a build folder
#   e2e      app/test-dynvhost/e2e/run.py
# and, through fuzz_tap.sh, for as long as it is given:
#   libfuzzer_NAME, in app/test-dynvhost/fuzz of a build folder
# shellcheck shell=bash disable=SC2034 # the constants are for whoever sources this

readonly BUILD=$DYNVHOST_ROOT/build
readonly BUILD_SAN=$DYNVHOST_ROOT/build-san
readonly BUILD_FUZZ=$DYNVHOST_ROOT/build-fuzz
readonly SANITIZER_OPTIONS=(-Db_sanitize=address,undefined -Db_lundef=false)
readonly FUZZER_OPTIONS=(-Dlibfuzzer=true "${SANITIZER_OPTIONS[@]}")
readonly RESULTS=$BUILD/test-logs/results
readonly TESTS=$DYNVHOST_ROOT/app/test-dynvhost

# Kinds of C tests: those known come in this order, others after them. The first ones also run with
# sanitizers.
readonly C_KINDS=(unit conform hostile diff stress fuzz)
readonly SANITIZED_KINDS=(unit conform hostile fuzz)

# c_programs BUILD KIND: print the test programs of a kind; all of them if it is "*".
c_programs()
{
	[ -d "$1/app/test-dynvhost" ] || return 0
	find "$1/app/test-dynvhost" -type f -executable -name "test_$2_*" | sort
}

# c_kinds BUILD: print the kinds of C tests in the order they run.
c_kinds()
{
	{
		printf '%s\n' "${C_KINDS[@]}"
		c_programs "$1" '*' | sed 's#.*/test_\([^_]*\)_.*#\1#' | sort
	} | awk '!seen[$0]++'
}

# fuzzers BUILD: print the libFuzzer programs.
fuzzers()
{
	[ -d "$1/app/test-dynvhost/fuzz" ] || return 0
	find "$1/app/test-dynvhost/fuzz" -type f -executable -name 'libfuzzer_*' | sort
}

# fuzz_seconds: print how long libFuzzer has for each target.
fuzz_seconds()
{
	if [ "${DYNVHOST_TEST_LONG:-0}" = 1 ]; then
		echo 900
	else
		echo 60
	fi
}

# suite_of PROGRAM: print the name of a C test program's suite, as in unit_mem_table.
suite_of()
{
	echo "${1##*/test_}"
}

# time_limit KIND: print how many seconds a suite of this kind may take.
time_limit()
{
	local seconds=180

	if [ "$1" = libfuzzer ]; then
		echo $(($(fuzz_seconds) + 120))
		return 0
	fi
	case $1 in
	build | lint) seconds=1200 ;;
	diff) seconds=360 ;;
	e2e) seconds=2700 ;;
	esac
	[ "${DYNVHOST_TEST_LONG:-0}" != 1 ] || seconds=$((seconds * 10))
	echo "$seconds"
}

# run_suite KIND NAME COMMAND...: run one suite, show and record how it went; 1 when it failed.
run_suite()
{
	local kind=$1 name=$2

	shift 2
	run_beside python3 "$DYNVHOST_ROOT/tools/lib/run_suite.py" --name "$name" \
		--timeout "$(time_limit "$kind")" --results "$RESULTS" \
		--log "$BUILD/test-logs/${name//\//-}.log" -- "$@"
}

# report_speed BUILD: the quick form of tools/bench.sh, for people: what it finds is told and kept,
# and neither passes nor fails.
report_speed()
{
	local log=$BUILD/test-logs/bench.log status=0

	run_beside timeout -k 5 170 python3 "$DYNVHOST_ROOT/tools/bench/scorecard.py" --quick \
		--samples 3 --bench "$1/app/test-dynvhost/bench/bench_burst" \
		--out "$BUILD/test-logs/bench" >"$log" 2>&1 || status=$?
	if [ "$status" = 0 ]; then
		echo "report: beside net_vhost, $(tail -n 1 "$log") Table: $log"
		grep -w below "$log" | sed '$d; s/^/report:   /' || true
	else
		echo "report: the speed was not measured (status $status), see $log"
	fi
}
