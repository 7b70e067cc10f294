#!/bin/bash
# test_nvptx.sh SOURCE_DIR CLANG [PTXAS]: the NVIDIA variants need no GPU to be
# wrong at compile time. Every program of kernels.def is compiled for nvptx64 in
# the GPU shape and, where there is an assembler, assembled for sm_90; no kernel
# may spill registers, and the instructions that the variants are for must be
# there. Runs in the test's own folder.
set -eu
source=$1 clang=$2 ptxas=${3:-}
kernels=$source/src/opencl/kernels
failed=0 programs=0

fail()
{
    echo "FAIL: $*"
    failed=1
}

expect() # instructions that the program at hand must contain
{
    for instruction in "$@"; do
        grep -qF "$instruction" program.ptx || fail "$name $options: no $instruction"
    done
}

while read -r name options; do
    programs=$((programs + 1))
    cat "$source/tests/opencl/nvptx_builtins.cl" "$kernels/prelude.cl" "$kernels/$name.cl" > program.cl
    # shellcheck disable=SC2086
    if ! "$clang" -target nvptx64-nvidia-nvcl -x cl -cl-std=CL1.2 -O3 \
        -Xclang -finclude-default-header -Xclang -target-cpu -Xclang sm_80 \
        -Xclang -target-feature -Xclang +ptx70 -Werror -DBN_CPU=0 -DBN_FP64=1 -DBN_NVIDIA=1 \
        -DBN_MMA=1 -DBN_GROUP=128 -DBN_FLAT=1024 $options -S -o program.ptx program.cl; then
        fail "$name $options does not compile"
        continue
    fi
    case "$name $options" in
    ternary*BN_DOT=1*) expect dp4a ;;
    mma_forward*) expect mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 cp.async prmt ;;
    mma_backward*) expect mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 cvt.rn.bf16x2 ;;
    esac
    [ -n "$ptxas" ] || continue
    if ! "$ptxas" -arch=sm_90 -v -o program.cubin program.ptx > assembler.log 2>&1; then
        cat assembler.log
        fail "$name $options is not accepted by ptxas"
    elif grep -E '[1-9][0-9]* bytes spill' assembler.log; then
        fail "$name $options spills registers"
    fi
done < <(sed -nE 's/^BN_OCL_PROGRAM\([A-Z0-9_]+, "([a-z0-9_]+)", "(.*)"\)$/\1 \2/p' \
    "$source/src/opencl/kernels.def")

[ "$programs" -gt 5 ] || fail "only $programs programs found in kernels.def"
[ "$failed" -eq 0 ] && echo "$programs programs compile for nvptx64${ptxas:+ and assemble for sm_90}"
exit "$failed"
