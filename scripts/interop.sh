#!/bin/bash
# interop.sh [REPORT.md] - compares the programs in build/bin with transformers,
# PEFT and mlx-lm, in build/interop-venv, which is made or completed first.
# docs/interop.md as REPORT.md gets its tables anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

venv=build/interop-venv
step "Python environment ($venv)"
scripts/interop_venv.sh numpy torch transformers accelerate safetensors peft \
    'mlx[cpu]' mlx-lm
step "transformers against bitnet-export and bitnet-import"
"$venv/bin/python" -B tests/interop/check_transformers.py build/bin build/interop \
    data/kjv.txt "$@"
step "mlx-lm on a packed export"
"$venv/bin/python" -B tests/interop/check_mlx.py build/bin build/interop
step "PEFT on adapters"
"$venv/bin/python" -B tests/interop/check_peft.py build/bin build/interop-peft
