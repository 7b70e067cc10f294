#!/bin/sh
# Models of several shapes, trained, exported as C headers, compiled, and run on
# every row of a classification set, on this machine and on others: the bits of
# the framework's logits.
# usage: test_c_header.sh BIN_DIR SOURCE_DIR LOGITS_PROGRAM [CROSS_COMPILER EMULATOR]...
# (in a scratch folder)
set -eu

bin=$1
source=$2
here=$source/tests/cli/c_header
logits=$3
shift 3
others=$*
unset OPENBLAS_CORETYPE

fail() {
    echo "FAILED: $*"
    exit 1
}

# expect STATUS TEXT COMMAND...
expect() {
    want=$1 text=$2
    shift 2
    got=0
    "$@" >o 2>e || got=$?
    [ "$got" -eq "$want" ] || fail "exit $got, expected $want: $*: $(cat e)"
    grep -qF -- "$text" e || fail "no \"$text\" in: $(cat e)"
}

rm -rf run-* ./*.h ./*.h5 ./*.json ./*.unverified text
# Four classes, bent and noisy, in eleven numbers; one row of zeros.
awk 'BEGIN { srand(3)
    for (i = 0; i < 700; i++) {
        c = int(rand() * 4); r = rand() * 6 + 0.2
        for (k = 0; k < 11; k++)
            printf "%.5f,", r * cos(0.3 * r + c * 1.57 + k) + rand() - 0.5
        print c
    }
    print "0,0,0,0,0,0,0,0,0,0,0,1" }' >data.csv
cat >config.json <<'JSON'
{ "model": { "kind": "mlp", "input_size": 11, "num_labels": 4, "hidden_size": 40,
             "num_hidden_layers": 2 },
  "quantization": { "group_size": 32 },
  "data": { "train": "data.csv", "validation_fraction": 0.2 },
  "training": { "batch_size": 32, "max_steps": 150, "learning_rate": 0.01, "warmup_steps": 10,
                "eval_interval": 150, "log_interval": 150 } }
JSON

# train NAME SETTINGS...: the model in run-NAME
train() {
    name=$1
    shift
    sets=
    for set in "$@"; do
        sets="$sets --set $set"
    done
    # shellcheck disable=SC2086 # words
    "$bin/bitnet-train" config.json -q -o "run-$name" $sets >"$name.json"
}

# compare NAME RUN COMPILER...: the header of out-NAME compiled, started by RUN
compare() {
    name=$1 run=$2
    shift 2
    "$@" -Wall -Wextra -pedantic -Werror "-DHEADER=\"out-$name/model.h\"" -I . "$here/harness.c" \
        -o "$name.program" -lm || fail "$* on out-$name/model.h"
    $run "./$name.program" <data.csv >"$name.header"
    cmp "$name.framework" "$name.header" || fail "$name: logits differ ($*)"
}

# check NAME FROM: exports FROM, compiles it every way, compares every logit
check() {
    mkdir -p "out-$1"
    header=out-$1/model.h
    "$bin/bitnet-export" "$2" --format c-header -q -o "$header"
    "$logits" "$2" data.csv >"$1.framework"
    [ "$(wc -l <"$1.framework")" -eq 701 ] || fail "$1: rows are missing"
    compare "$1" "" gcc -std=c99 -O2
    compare "$1" "" gcc -std=c11 -O0 -fsanitize=undefined,address
    compare "$1" "" clang -std=c99 -O3 -Wconversion -Wshadow
    model=$1
    # shellcheck disable=SC2086 # words
    set -- $others
    while [ $# -gt 0 ]; do # these have fused multiply-add
        compare "$model" "$2" "$1" -static -std=c99 -O2
        compare "$model" "$2" "$1" -static -O3 -ffp-contract=off
        shift 2
    done
    clang++ -fsyntax-only -x c++ -Wall -Wextra -Werror "-DHEADER=\"$header\"" -I . \
        "$here/harness.c" || fail "clang++ on $header"
}

train group
train tensor quantization.weight_scale=tensor model.hidden_act=silu model.hidden_size=33
train row quantization.weight_scale=row model.num_hidden_layers=1 model.hidden_size=7
train wide quantization.group_size=50 model.hidden_size=130 model.num_hidden_layers=3
for name in group tensor row wide; do
    check $name run-$name
done
"$bin/bitnet-export" run-group -q -o packed.h5
check packed packed.h5
# Names apart (they come from the file's), a packed file gives the same header.
cmp out-group/model.h out-packed/model.h || fail "the packed file gives another header"

# Two models in one program.
cp out-row/model.h row.h
"$bin/bitnet-export" run-tensor --format c-header -q -o "2nd model.h"
"$bin/bitnet-export" run-row --format c-header -q -o first.h
cat >two.c <<'C'
#define FIRST_IMPLEMENTATION
#include "first.h"
#define M2ND_MODEL_IMPLEMENTATION
#include "2nd model.h"
int main(void)
{
    static first_work a;
    static m2nd_model_work b;
    const float x[11] = {1};
    float logits[4];
    return first_classify(&a, x, logits) + m2nd_model_classify(&b, x, logits) < 0;
}
C
gcc -std=c99 -Wall -Wextra -Werror two.c -o two -lm && ./two || fail "two headers in one program"

grep -q '"val_accuracy"' group.json || fail "no accuracy in the summary"
awk -F'[:,]' '/"val_accuracy"/ { exit !($2 > 0.9) }' group.json || fail "not learnt: $(cat group.json)"
grep -q '"ram_bytes": "200"' out-group/model.h.report.json || fail "$(cat out-group/model.h.report.json)"

# ---- what cannot be ----
"$bin/bitnet-train" config.json -q -o run-float --set quantization.weight_bits=none \
    --max-steps 2 >/dev/null
expect 2 'layers.0.linear has float weights' \
    "$bin/bitnet-export" run-float --format c-header -o float.h
[ ! -e float.h ] && [ ! -e float.h.unverified ] || fail "something was left behind"
train acts quantization.activation_bits=none training.max_steps=2
expect 2 'layers.0.linear has float activations' \
    "$bin/bitnet-export" run-acts --format c-header -o float.h
train pertensor quantization.activation_scale=tensor training.max_steps=2
expect 2 'all examples of a batch' "$bin/bitnet-export" run-pertensor --format c-header -o float.h
expect 2 'does not hold models of kind mlp' \
    "$bin/bitnet-export" run-group --format safetensors -o folder
expect 2 'does not hold models of kind mlp' "$bin/bitnet-export" run-group --format gguf -o x.gguf
expect 65 'model.kind is mlp, expected transformer' "$bin/bitnet-generate" run-group
expect 65 'other.csv: line 1: expected 11 features' sh -c \
    "echo 1,2,0 >other.csv; $bin/bitnet-eval run-group --data other.csv"
awk 'BEGIN { for (i = 0; i < 200; i++) print "the river runs over stones" }' >text
"$bin/bitnet-train" "$source/configs/tiny.json" -q -o run-text --set data.train=text --max-steps 2 >/dev/null
expect 2 'does not hold models of kind transformer' \
    "$bin/bitnet-export" run-text --format c-header -o text.h
# One that was there stays when another cannot be made.
cp out-row/model.h keep.h
expect 2 'float' "$bin/bitnet-export" run-float --format c-header -o keep.h
cmp keep.h out-row/model.h || fail "the old header is gone"
"$bin/bitnet-eval" run-group --data data.csv --json >eval.json 2>/dev/null
right=$(grep -c '1$' group.framework)
grep -q "\"correct\": $right," eval.json || fail "bitnet-eval: $(cat eval.json), headers: $right right"
echo "5 models: all logits of 701 rows bit for bit, here and by ${others:-no other compiler}; $right right"
