#!/usr/bin/env bash
# Ternary against float on scikit-learn's 8x8 digits: three learning rates, three
# seeds each, accuracy on the held-out rows after the last step, as Markdown.
#
# usage: bench/ablate/digits.sh BIN_DIR DIGITS.csv
# DIGITS.csv comes from scripts/digits_table.py.
set -euo pipefail

[ $# -eq 2 ] || { sed -n '5,6s/^# //p' "$0" >&2; exit 2; }
bin=$1
table=$2
config=$(dirname "$0")/../../configs/digits.json
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

accuracy() { # accuracy SEED SETTINGS...
    local seed=$1
    shift
    "$bin/bitnet-train" "$config" --quiet --overwrite --output-dir "$out/run" --seed "$seed" \
        --set "data.train=$table" --set training.eval_interval=0 "$@" |
        awk -F'[:,]' '/"val_accuracy"/ { print $2 }'
}

row() { # row NAME LEARNING-RATE SETTINGS...
    local name=$1 rate=$2 seed results=()
    shift 2
    for seed in 1 2 3; do
        results+=("$(accuracy "$seed" --set "training.learning_rate=$rate" "$@")")
    done
    printf '%s\n' "${results[@]}" | awk -v name="$name" -v rate="$rate" '
        { sum += $1; text = text sprintf(" %.4f", $1) }
        END { printf "| %s | %s |%s | %.4f |\n", name, rate, text, sum / NR }'
}

echo "| weights | learning rate | accuracy, seeds 1 2 3 | mean |"
echo "|---|---|---|---|"
for rate in 0.001 0.003 0.01; do
    row float "$rate" --set quantization.weight_bits=none
done
for rate in 0.001 0.003 0.01; do
    row ternary "$rate"
done
