#!/bin/sh
# build_dev.sh COMPILER FOLDER - builds everything with the dev preset, where a
# warning is an error. Runs in the root of the project.
set -eu
cmake --preset dev -B "$2" -DCMAKE_C_COMPILER="$1"
cmake --build "$2" --parallel 2
