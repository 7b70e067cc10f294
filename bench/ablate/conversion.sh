#!/bin/sh
# conversion.sh - a float model made ternary, step by step: nearest codes, best
# scales, GPTQ, then fine-tuned for a tenth of the float model's steps with and
# without the float model as a teacher; beside them ternary training from scratch.
# usage: bench/ablate/conversion.sh BIN_DIR CONFIG OUT_DIR STEPS SEED [bitnet-train OPTION...]
#   TUNE_RATE     learning rate of the fine-tuning (half the config's)
#   EVAL_BATCHES  batches of the held-out text that a loss is measured on (0: all)
# What is finished in OUT_DIR is not made again, a training goes on where it was
# stopped. The table is printed on stdout and kept as OUT_DIR/table.md.
set -eu

if [ $# -lt 5 ]; then
    sed -n 's/^# usage: /usage: /p' "$0" >&2
    exit 2
fi
bin=$1 config=$2 out=$3 steps=$4 seed=$5
shift 5
tune=$((steps / 10))
[ "$tune" -gt 0 ] || tune=1
mkdir -p "$out"

value() { # value KEY FILE: of a JSON with one key a line
    sed -n "s/^ *\"$1\": \([-0-9.e+]*\),*\$/\1/p" "$2" | head -1
}

train() { # train NAME STEPS OPTION...: a finished run, in $out/NAME
    name=$1 count=$2
    shift 2
    if [ ! -e "$out/$name/summary.json" ]; then
        echo "$name: $count steps" >&2
        "$bin/bitnet-train" "$config" --output-dir "$out/$name" --resume auto --seed "$seed" \
            --max-steps "$count" --quiet "$@" >/dev/null
    fi
}

quantize() { # quantize METHOD: $out/METHOD.h5
    if [ ! -e "$out/$1.json" ]; then
        echo "$1" >&2
        "$bin/bitnet-quantize" "$out/float" -o "$out/$1.h5" --method "$1" --quiet --json \
            --max-batches "${EVAL_BATCHES:-0}" >"$out/$1.json.part"
        mv "$out/$1.json.part" "$out/$1.json"
    fi
}

row() { # row TEXT STEPS MODEL: measured, one line of the table
    if [ ! -e "$3.loss" ]; then
        "$bin/bitnet-eval" "$3" --validation-split --json --max-batches "${EVAL_BATCHES:-0}" \
            >"$out/eval.json" 2>/dev/null
        value loss "$out/eval.json" >"$3.loss"
    fi
    echo "$1 $2 $(cat "$3.loss") $(cat "$out/float.loss")" |
        awk '{ n = NF; text = $1; for (i = 2; i < n - 2; i++) text = text " " $i
               printf "| %s | %s | %.4f | %+.4f |\n", text, $(n - 2), $(n - 1), $(n - 1) - $n }'
}

"$bin/bitnet-train" "$config" --dry-run "$@" >/dev/null 2>&1 # the options are right
if [ -z "${TUNE_RATE:-}" ]; then
    TUNE_RATE=$(sed -n 's/.*"learning_rate": *\([0-9.e-]*\).*/\1/p' "$config" | head -1 |
        awk '{ print $1 / 2 }')
fi

train float "$steps" "$@" --set quantization.weight_bits=none
train scratch "$steps" "$@"
for method in rtn calibrated gptq; do
    quantize $method
done
tuning() { # tuning NAME START OPTION...
    name=$1 start=$2
    shift 2
    train "$name" "$tune" --init-from "$start" "$@" --set training.learning_rate="$TUNE_RATE" \
        --set training.warmup_steps=$((tune / 10))
}
tuning tuned-rtn "$out/rtn.h5" "$@"
tuning tuned "$out/gptq.h5" "$@"
tuning distilled "$out/gptq.h5" "$@" --set distillation.teacher="$out/float"

{
    echo "| model | steps | held-out loss | above the float model |"
    echo "|---|---|---|---|"
    row "float" "$steps" "$out/float"
    row "ternary, nearest codes" 0 "$out/rtn.h5"
    row "ternary, best scales" 0 "$out/calibrated.h5"
    row "ternary, GPTQ" 0 "$out/gptq.h5"
    row "nearest codes, fine-tuned" "$tune" "$out/tuned-rtn"
    row "GPTQ, fine-tuned" "$tune" "$out/tuned"
    row "GPTQ, fine-tuned with the float teacher" "$tune" "$out/distilled"
    row "ternary from scratch" "$steps" "$out/scratch"
} >"$out/table.md.part"
mv "$out/table.md.part" "$out/table.md"
cat "$out/table.md"
