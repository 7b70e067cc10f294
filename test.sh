#!/bin/bash
# test.sh [--fast | --interop] - installs what the tests need, builds, runs every test:
# first the Release build, then the suite under the address and undefined
# behaviour sanitizers (without the tests labelled "slow"). --fast stops after
# the Release build. --interop builds Release and compares it with Hugging Face's
# libraries from PyPI instead. The last line is "N passed, N failed"; TESTING.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/setup.sh

fast=
interop=
usage="usage: ./test.sh [--fast | --interop]"
case ${1:-} in
'') ;;
--fast) fast=1 ;;
--interop) interop=1 fast=1 ;;
*) fail 2 "unknown argument '$1'" "$usage" ;;
esac
[ $# -le 1 ] || fail 2 "one argument at most" "$usage"

passed=0
failed=0

attribute() { # attribute NAME FILE: of a JUnit file's <testsuite>
    sed -n "s/^[[:space:]]*$1=\"\([0-9]*\)\".*/\1/p" "$2" | head -n 1
}

# build FOLDER CMAKE-ARGUMENTS...: a build that fails is one failure.
build() {
    local tree=$1
    shift
    if cmake -B "$tree" "$@" && cmake --build "$tree" --parallel "$(nproc)"; then
        return 0
    fi
    failed=$((failed + 1))
    echo "error: the build in $tree/ failed" >&2
    return 1
}

# run_suite FOLDER CTEST-ARGUMENTS...: whatever did not pass has failed, a test
# that could not be started or was skipped included.
run_suite() {
    local tree=$1 junit=$1/junit.xml status=0 total bad=0 name
    shift
    rm -f "$junit"
    ctest --test-dir "$tree" --output-on-failure --no-tests=error --output-junit junit.xml \
        -j "$(nproc)" "$@" || status=$?
    if [ ! -s "$junit" ]; then
        failed=$((failed + 1))
        return
    fi
    total=$(attribute tests "$junit")
    for name in failures disabled skipped; do
        bad=$((bad + $(attribute "$name" "$junit")))
    done
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + total - bad))
    failed=$((failed + bad))
}

step "packages"
require_packages cmocka -- "${BITNET_BUILD_PACKAGES[@]}" "${BITNET_TEST_PACKAGES[@]}"

step "training text"
scripts/prepare_corpus.sh

step "Release build (build/)"
if build build -S . -DCMAKE_BUILD_TYPE=Release -DBITNET_TESTS=ON -DBITNET_BENCHES=ON; then
    if [ -n "$interop" ]; then
        if scripts/interop.sh build/interop.md; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    else
        step "tests, Release"
        run_suite build
    fi
fi

if [ -z "$fast" ]; then
    step "sanitizer build (build-asan-ubsan/)"
    if build build-asan-ubsan --preset asan-ubsan; then
        step "tests, address and undefined behaviour sanitizers"
        export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
        export UBSAN_OPTIONS=print_stacktrace=1
        run_suite build-asan-ubsan --label-exclude slow
    fi
fi

if [ -n "$interop" ]; then
    for check in tests/interop/*.sh; do
        step "$check"
        if "$check" "$PWD/build"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "error: $check failed" >&2
        fi
    done
fi

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
