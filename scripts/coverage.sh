#!/bin/bash
# coverage.sh [FOLDER] [CTEST-ARGUMENT...] - line coverage of src/, train/ and tools/, and branch
# coverage of what decides about bytes from outside: packers and the validation of
# readers. Builds the preset "cov" in build-cov/ (or FOLDER), runs the tests (all, or
# those that the ctest arguments choose), reads gcov's counts. BITNET_COV_OPTIONS adds
# to cmake's arguments, -DBITNET_OPENCL=OFF, say.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tree=${1:-build-cov}
shift || true

# shellcheck disable=SC2086 # several options
cmake --preset cov -B "$tree" ${BITNET_COV_OPTIONS:-} >/dev/null
cmake --build "$tree" --parallel 2 >/dev/null
find "$tree" -name '*.gcda' -delete
# A test that fails is reported, and what it covered counts nevertheless.
ctest --test-dir "$tree" --output-on-failure "$@" | tail -n 15 || true
python3 -B scripts/coverage_report.py "$tree"
