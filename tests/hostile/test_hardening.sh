#!/bin/sh
# Every program is built as SECURITY.md says: position independent, relocations
# read-only, stack not executable and guarded, libc calls checked (Release).
# usage: test_hardening.sh BIN_DIR BUILD_TYPE
set -u
bin=$1
type=$2
failures=0

fail() {
    failures=$((failures + 1))
    echo "FAILED: $program: $1"
}

has() { # has TEXT-IN-READELF WHAT READELF-OPTION
    readelf -W "$3" "$program" | grep -q -- "$1" || fail "$2"
}

for program in "$bin"/bitnet-*; do
    has 'Type: *DYN' "not position independent" -h
    has 'FLAGS_1.*PIE' "not position independent" -d
    has 'FLAGS_1.*NOW' "symbols are bound late: relocations stay writable" -d
    has 'GNU_RELRO' "relocations stay writable" -l
    has 'GNU_STACK.* RW ' "the stack is executable" -l
    has '__stack_chk_fail' "no stack guard" -s
    if [ "$type" = Release ]; then
        has '__[a-z]*_chk@' "libc calls are not checked" -s
    fi
    if readelf -h "$program" | grep -q X86-64; then
        objdump -d --no-show-raw-insn "$program" | grep -q endbr64 || fail "no branch targets"
    fi
done
[ $failures -eq 0 ] || exit 1
echo "all programs are hardened"
