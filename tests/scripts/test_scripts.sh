#!/bin/bash
# Runs the shell scripts of the root in a copy of it, with stand-ins for the
# programs they call: what is called in which order, what a second run leaves
# out, what each failure says. usage: test_scripts.sh ROOT (in an empty folder)
set -euo pipefail

root=$1
here=$PWD
rm -rf "$here/tree" "$here/fake"
mkdir -p "$here/tree" "$here/fake"
cp -r "$root/quickstart.sh" "$root/test.sh" "$root/scripts" "$root/CMakePresets.json" "$here/tree/"
cd "$here/tree"
log=$here/log
failures=0

fake() { # fake NAME SCRIPT: a program that notes its call
    printf '#!/bin/bash\necho "%s $*" >>"%s"\n%s\n' "$1" "$log" "$2" >"$here/fake/$1"
    chmod +x "$here/fake/$1"
}

run() { # run NAME=VALUE... COMMAND: $status, $output; calls in $log
    : >"$log"
    status=0
    output=$(env PATH="$here/fake:$PATH" "$@" 2>&1) || status=$?
}

check() { # check WHAT CONDITION...
    local what=$1
    shift
    if ! "$@"; then
        failures=$((failures + 1))
        printf 'FAILED: %s\n--- status %s, output:\n%s\n--- calls:\n%s\n' "$what" "$status" \
            "$output" "$(cat "$log")"
    fi
}

says() { # the output has this in it
    [[ $output == *"$1"* ]]
}

last_line() {
    [ "$(tail -n 1 <<<"$output")" = "$1" ]
}

called() { # called TIMES PATTERN
    [ "$(grep -cE -- "$2" "$log" || true)" -eq "$1" ]
}

bible_text() { # what the command bible prints, with `$1` as first verse
    fake bible "echo \"Ge1:1 $1\"; for i in {2..60000}; do
echo \"1Sm3:\$i And the LORD said to number \$i, Speak; for thy servant heareth.\"; done"
}

# --- installing -------------------------------------------------------------
fake dpkg-query 'echo installed'
fake apt-get 'exit 100'
fake sudo 'exit 1'
fake nproc 'echo 2'

# --- prepare_corpus.sh ------------------------------------------------------
bible_text 'In the beginning God created the heaven and the earth.'
run scripts/prepare_corpus.sh
check "corpus is made" test "$status" -eq 0
check "reference stripped, also of numbered books" test "$(sed -n 2p data/kjv.txt)" = \
    "And the LORD said to number 2, Speak; for thy servant heareth."
check "corpus lines" test "$(wc -l <data/kjv.txt)" -eq 60000
run scripts/prepare_corpus.sh
check "corpus is made once" called 0 '^bible'
check "second run is fine" test "$status" -eq 0

rm data/kjv.txt
bible_text 'In the beginning was the Word.'
run scripts/prepare_corpus.sh
check "another text is refused" test "$status" -eq 66
check "another text: message" says "first line 'In the beginning was the Word.'"
check "another text: way out" says "--set data.train=FILE"
check "nothing left behind" test -z "$(ls -A data)"

fake bible "echo 'Ge1:1 In the beginning God created the heaven and the earth.'"
run scripts/prepare_corpus.sh
check "short output is refused" test "$status" -eq 66
check "short output: message" says "not over 4000000"
fake bible 'exit 3'
run scripts/prepare_corpus.sh
check "failure of bible" test "$status" -eq 66
check "nothing left behind after failures" test -z "$(ls -A data)"

# --- quickstart.sh ----------------------------------------------------------
bible_text 'In the beginning God created the heaven and the earth.'
# shellcheck disable=SC2016 # expanded when it runs
fake cmake 'mkdir -p build/bin; touch build/CMakeCache.txt
for p in train export generate; do cp "'"$here"'/fake/program-$p" build/bin/bitnet-$p; done'
for p in train export generate; do
    fake "program-$p" ''
done
run ./quickstart.sh
check "quickstart ends well" test "$status" -eq 0
check "order of the calls" test "$(sed -E 's/^(\S+).*/\1/' "$log" | grep -vE 'dpkg|nproc' | tr '\n' ' ')" = \
    "cmake cmake bible program-train program-export program-generate "
check "training" called 1 '^program-train configs/small.json .*--overwrite *$'
check "export" called 1 '^program-export runs/small -o runs/small/model.h5$'
check "sample" called 1 '^program-generate runs/small/model.h5 -p And God said -n 300$'
check "no tests in a newcomer's build" called 1 'BITNET_TESTS=OFF'
check "says what is next" says "Try next:"

run BITNET_QUICKSTART_ARGS='--max-steps 20' ./quickstart.sh
check "second run ends well" test "$status" -eq 0
check "second run: no corpus" called 0 '^bible'
check "second run keeps the tree's choices" called 0 'BITNET_TESTS'
check "arguments reach the training" called 1 '^program-train .*--overwrite --max-steps 20$'
check "installed packages need no apt" called 0 '^(apt-get|sudo)'

rm -r data
run BITNET_QUICKSTART_ARGS='--set data.train=my.txt' ./quickstart.sh
check "own text: no corpus" called 0 '^bible'
check "own text ends well" test "$status" -eq 0

fake program-train 'exit 78'
run ./quickstart.sh
check "a failed training stops it" test "$status" -eq 78
check "no export after a failed training" called 0 '^program-export'

fake dpkg-query 'exit 1'
run ./quickstart.sh
check "packages cannot be installed" test "$status" -eq 69
check "names the packages" says "libopenblas-dev liblapacke-dev libhdf5-dev libcjson-dev libpcre2-dev libutf8proc-dev ocl-icd-opencl-dev"
fake dpkg-query 'echo installed'

# --- test.sh ----------------------------------------------------------------
fake cmake 'mkdir -p build build-asan-ubsan'
suite() { # suite STATUS TESTS FAILURES DISABLED SKIPPED: what the next ctest says
    fake ctest "while [ \$1 != --test-dir ]; do shift; done
printf '<testsuite name=\"x\"\n\ttests=\"$2\"\n\tfailures=\"$3\"\n\tdisabled=\"$4\"\n\tskipped=\"$5\"\n>' \
>\$2/junit.xml; exit $1"
}
suite 0 12 0 0 0
run ./test.sh
check "all passed" test "$status" -eq 0
check "both suites are summed" last_line "24 passed, 0 failed"
check "slow ones not under sanitizers" called 1 '^ctest --test-dir build-asan-ubsan .*--label-exclude slow$'
run ./test.sh --fast
check "fast: one suite" last_line "12 passed, 0 failed"
check "fast: no sanitizers" called 0 'asan'
suite 8 12 1 1 1
run ./test.sh
check "failed, disabled and skipped tests fail" last_line "18 passed, 6 failed"
check "failures show in the status" test "$status" -ne 0
suite 1 12 0 0 0
run ./test.sh
check "a failure of ctest itself" last_line "22 passed, 2 failed"
suite 0 0 0 0 0
run ./test.sh
check "no tests at all is no success" test "$status" -ne 0
fake ctest 'exit 9'
run ./test.sh
check "ctest without a report" last_line "0 passed, 2 failed"
check "ctest without a report: status" test "$status" -ne 0
fake cmake 'exit 1'
suite 0 12 0 0 0
run ./test.sh
check "failed builds" last_line "0 passed, 2 failed"
check "failed builds: status" test "$status" -ne 0
run ./test.sh --slow
check "unknown argument" test "$status" -eq 2

[ "$failures" -eq 0 ] || exit 1
echo "scripts: all checks passed"
