#!/usr/bin/env bash
# Trains every row of scratch.txt with three seeds and prints one table of
# validation losses. Runs that are done are kept, so it can be stopped and
# started again; two runs at a time use two cores better than one of two threads.
#
# usage: bench/ablate/scratch.sh BIN_DIR OUT_DIR [PATTERN]
# PATTERN: only rows that match this regular expression. JOBS: runs at a time (2).
set -euo pipefail

[ $# -ge 2 ] || { sed -n '6,7s/^# //p' "$0" >&2; exit 2; }
here=$(dirname "$0")
bin=$1
out=$2
pattern=${3:-.}

train() { # train FOLDER SEED SETTINGS...
    local folder=$1 seed=$2 settings=() s
    shift 2
    for s in "$@"; do settings+=(--set "$s"); done
    [ -e "$folder/summary.json" ] ||
        "$bin/bitnet-train" "$config" --quiet --overwrite --output-dir "$folder" --seed "$seed" \
            "${settings[@]}" >/dev/null
}
export -f train
export bin config="$here/../../configs/ablation.json"

mkdir -p "$out"
python3 "$here/scratch_table.py" --runs "$here/scratch.txt" "$out" | grep -E -- "$pattern" |
    xargs -P "${JOBS:-2}" -L 1 bash -c 'train "$@"' train
python3 "$here/scratch_table.py" "$here/scratch.txt" "$out"
