#!/bin/bash
# tsan.sh [CTEST-ARGUMENT...] - the suite under the thread sanitizer (the presets "tsan",
# build-tsan/). They leave out OpenCL (drivers and their compilers are not built with the
# sanitizer and report by themselves), what is labelled slow, and test_h5_child, whose
# child may have less memory than the sanitizer's own tables take.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset tsan >/dev/null
cmake --build --preset tsan --parallel 2 >/dev/null
# The sanitizer needs addresses that randomization may have given away.
exec setarch -R ctest --preset tsan "$@"
