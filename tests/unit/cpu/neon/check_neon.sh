#!/bin/bash
# check_neon.sh SOURCE_DIR CC RUN...: builds check_neon.c with the aarch64
# compiler CC and runs it with RUN (an emulator, or nothing on such a CPU). The
# files that choose kernels are compiled too, so that they cannot rot elsewhere.
set -eu
source=$1 cc=$2
shift 2
flags=(-std=gnu11 -O2 -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Werror
    -ffp-contract=off "-I$source/src")
"$cc" "${flags[@]}" -DBN_ISA=neon -c -o neon.o "$source/src/cpu/neon/ternary_neon.c"
"$cc" "${flags[@]}" -DBN_ISA=neondot -march=armv8.2-a+dotprod -c -o neondot.o \
    "$source/src/cpu/neon/ternary_neon.c"
"$cc" "${flags[@]}" -fsyntax-only "$source/src/cpu/fast/fast.c" "$source/src/cpu/cpu_backend.c"
"$cc" "${flags[@]}" -DBN_ISA=generic -DBN_VW=4 -fsyntax-only "$source/src/cpu/fast/row_trit.c"
"$cc" "${flags[@]}" -static -o check_neon "$source/tests/unit/cpu/neon/check_neon.c" neon.o \
    neondot.o "$source/src/quant/quantize_f32.c" "$source/src/quant/estimator.c" \
    "$source/src/tensor/scheme.c" "$source/src/quant/pack.c" \
    "$source/src/base/rng.c" -lm
exec "$@" ./check_neon
