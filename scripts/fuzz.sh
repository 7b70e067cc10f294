#!/bin/bash
# fuzz.sh TARGET SECONDS [FOLDER] - fuzzes one target of tests/fuzz with libFuzzer in the
# tree build-fuzz/ (or FOLDER), which it builds with clang. The corpus grows in
# FOLDER/corpus/TARGET, from the target's seeds and tests/fuzz/corpus/TARGET.
# An input that goes wrong is left in FOLDER/crashes/TARGET: fix the cause and
# add the file to tests/fuzz/corpus/TARGET. Without arguments: lists the targets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets=$(sed -n 's/^bitnet_fuzz(\([a-z0-9_]*\).*/\1/p' tests/fuzz/CMakeLists.txt)
if [ $# -lt 2 ] || ! grep -qx -- "$1" <<<"$targets"; then
    printf 'usage: scripts/fuzz.sh TARGET SECONDS [FOLDER]; targets:\n%s\n' "$targets" >&2
    exit 2
fi
target=$1
seconds=$2
tree=${3:-build-fuzz}

cmake --preset fuzz -B "$tree" >/dev/null
cmake --build "$tree" --parallel 2 --target "fuzz_$target" "test_fuzz_$target" >/dev/null
tree=$(cd "$tree" && pwd)
committed=$PWD/tests/fuzz/corpus/$target
mkdir -p "$tree/corpus/$target" "$tree/crashes/$target" "$tree/tests-tmp/fuzz_$target"
cd "$tree/tests-tmp/fuzz_$target"
"$tree/bin/fuzz/test_fuzz_$target" "$committed" 2>replay.log || {
    cat replay.log >&2
    exit 1
}
folders=("$tree/corpus/$target" seeds)
[ ! -d "$committed" ] || folders+=("$committed")

# A second and 256 MiB per input, with room for what the sanitizers add to both.
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1
exec "$tree/bin/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=768 \
    -malloc_limit_mb=256 -max_len=16384 -print_final_stats=1 -report_slow_units=2 \
    -artifact_prefix="$tree/crashes/$target/" "${folders[@]}"
