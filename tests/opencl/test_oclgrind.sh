#!/bin/sh
# test_oclgrind.sh OCLGRIND PROGRAM: the small cases of opencl_grind under
# Oclgrind, which sees data races and accesses outside a buffer, with the line of
# the kernel. It always exits with 0, so its log decides; two kernels that are
# broken on purpose show that it would find something. In a scratch folder.
set -u
oclgrind=$1 program=$2
failures=0

fail() {
    failures=$((failures + 1))
    echo "FAILED: $1"
    head -n 40 log
}

grind() { # grind ARGS...: what was found in log, the program's output in o
    rm -f log
    timeout 240 "$oclgrind" --data-races --log log "$program" "$@" >o 2>&1
    touch log
}

grind race
grep -q "data race" log || fail "a kernel with a data race passed"
grind outside
grep -q "Invalid write" log || fail "a kernel that writes behind its buffer passed"
grind
grep -q "PASSED  \] 1 test" o || { cat o; fail "the cases did not pass"; }
[ -s log ] && fail "something was found"
[ $failures -eq 0 ] || exit 1
echo "oclgrind: no data race, no access outside a buffer"
