#!/bin/bash
# interop_venv.sh [PACKAGE...] - the Python environment of the tests that compare
# with other people's libraries: build/interop-venv, made when missing, with the
# wheels listed here and the PACKAGEs from PyPI. What is there already is not
# looked for again. ctest runs it in front of such tests (bitnet_interop_test).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheels=(
    tokenizers==0.23.3
    sentencepiece==0.2.3
    numpy
    gguf==0.19.0
    xllamacpp==2026.10.11549
)

venv=build/interop-venv
mkdir -p build
exec 9>"$venv.lock"
flock 9 # two build trees may be tested at once

missing=()
for wheel in "${wheels[@]}" "$@"; do
    grep -qsxF "$wheel" "$venv/installed" || missing+=("$wheel")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ ! -e "$venv/installed" ]; then
    if [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
        echo "error: $venv was not made by this script: move it away" >&2
        exit 1
    fi
    mkdir -p "$venv"
    : >"$venv/installed" # first: what follows may be interrupted, and goes on then
fi
"$venv/bin/pip" --version >/dev/null 2>&1 || python3 -m venv "$venv"
echo "installing into $venv: ${missing[*]}"
"$venv/bin/pip" install --quiet --disable-pip-version-check "${missing[@]}"
printf '%s\n' "${missing[@]}" >>"$venv/installed"
