#!/bin/bash
# ./quickstart.sh from a copy of the sources, with real programs and a short
# training; the text is prepared already (./test.sh does it) or made here.
set -euo pipefail
rm -rf copy
mkdir copy
for part in CMakeLists.txt cmake src train tools bench tests scripts configs quickstart.sh; do
    cp -r "$BITNET_SOURCE_DIR/$part" copy/
done
cd copy
BITNET_QUICKSTART_ARGS="--max-steps 6 --set training.eval_batches=2 --set training.warmup_steps=2" \
    ./quickstart.sh >out.txt 2>err.txt || { tail -n 30 out.txt err.txt >&2; exit 1; }
for file in runs/small/summary.json runs/small/model.h5 runs/small/model.h5.report.json; do
    [ -s "$file" ] || { echo "$file was not written" >&2; exit 1; }
done
grep -q '^==> done' out.txt
python3 - runs/small/model.h5.report.json <<'PY'
import json
import sys
report = json.load(open(sys.argv[1]))
ratios = [tensor["ratio"] for tensor in report["tensors"] if tensor["ternary"]]
assert len(ratios) == 42, len(ratios)
assert min(ratios) >= 14, min(ratios)
print("packed layers:", len(ratios), "smallest ratio", min(ratios))
PY
