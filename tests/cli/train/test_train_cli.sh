#!/bin/sh
# The command line of bitnet-train: exit codes, messages, what goes to stdout
# and what to stderr. usage: test_train_cli.sh BIN_DIR SOURCE_DIR (in a scratch folder)
set -u

train=$1/bitnet-train
source=$2
failures=0
unset OPENBLAS_CORETYPE

rm -rf out out2 overfit dirty plain ./*.json text.txt
# No OpenCL device here; tests/opencl has one.
OCL_ICD_VENDORS=/nonexistent
export OCL_ICD_VENDORS

# 9 kB of text, and a configuration that trains on it in well under a second.
i=0
while [ $i -lt 150 ]; do
    echo "line $i: the river runs over stones and under the mountain"
    i=$((i + 1))
done >text.txt
cat >ok.json <<'JSON'
{ "model": { "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 16 },
  "quantization": { "group_size": 32 },
  "data": { "train": "text.txt" },
  "training": { "seq_len": 16, "batch_size": 2, "max_steps": 12, "warmup_steps": 2,
                "log_interval": 4, "eval_interval": 6 },
  "output_dir": "out" }
JSON

run() { # run ARGS...: $status; stdout in o, stderr in e
    "$train" "$@" >o 2>e
    status=$?
    command="bitnet-train $*"
}

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s: %s\n--- stdout:\n%s\n--- stderr:\n%s\n' "$command" "$1" "$(cat o)" "$(cat e)"
}

expect() { # expect STATUS TEXT...: exit status, and each text in stderr, one line of message
    want=$1
    shift
    [ "$status" -eq "$want" ] || fail "exit status $status, expected $want"
    for text in "$@"; do
        grep -qF -- "$text" e || fail "stderr lacks: $text"
    done
}

stdout_has() {
    for text in "$@"; do
        grep -qF -- "$text" o || fail "stdout lacks: $text"
    done
}

# ---- help, version, texts ----
run --help
expect 0
stdout_has --resume --dry-run --overfit-batch 'Exit codes'
run --version
expect 0
stdout_has 'bitnet-train ' 'cpu kernels: ' 'threads: ' 'OpenBLAS core: '
OPENBLAS_CORETYPE=Prescott
export OPENBLAS_CORETYPE
run --version
grep -q "kernels: avx" o && expect 0 "OPENBLAS_CORETYPE=Prescott"
unset OPENBLAS_CORETYPE
run --config-reference
expect 0
stdout_has hidden_size learning_rate
run --config-schema
expect 0
stdout_has '"$schema"' hidden_size
run --list-devices
expect 0
stdout_has cpu
run --selftest
expect 0 'self-test passed'
stdout_has 'ok  packing'

# ---- usage: 2 ----
run
expect 2 'CONFIG'
run --no-such-option ok.json
expect 2 '--no-such-option'
run ok.json --threads many
expect 2 '--threads' 'many'
run ok.json extra.json
expect 2 'extra.json'
run ok.json --resume auto --overwrite
expect 2 '--resume' '--overwrite'

# ---- configuration: 78, missing: 66 ----
run missing.json
expect 66 'missing.json'
echo '{ "model": { "hidden_sise": 32 } }' >typo.json
run typo.json
expect 78 'typo.json' 'hidden_sise' 'hidden_size'
echo '{ "model": { ' >broken.json
run broken.json
expect 78 'broken.json'
run ok.json --set training.max_stepz=3
expect 78 'max_stepz' 'max_steps'
run ok.json --set training.learning_rate=fast
expect 78 'training.learning_rate' 'fast'
run ok.json --max-steps 0
expect 78 'training.max_steps'
run ok.json --set training.seq_len=64
expect 78 'training.seq_len' 'max_position_embeddings'
run ok.json --device gpu
expect 78 'training.device' 'gpu'
run ok.json --set model.kind=mlp
expect 78 'ok.json' 'model.kind' 'mlp'

# ---- devices: 69; data: 66 and 65 ----
run ok.json --device opencl
expect 69 'OpenCL'
run ok.json --set data.train=nothing.txt
expect 66 'nothing.txt'
run ok.json --set data.train=null
expect 78 'data.train' 'null'
echo hi >short.txt
run ok.json --set data.train=short.txt
expect 65 'short.txt'
[ -e out ] && fail 'a failed start made the output folder'

# ---- dry run: JSON on stdout, table on stderr, nothing written ----
run ok.json --dry-run
expect 0 'parameters' 'saved: int8 activation codes' 'ETA unknown'
stdout_has '"memory_bytes"' '"saved_packed"' '"tokens_per_step": 32' '"eta_s": null'
[ -e out ] && fail 'a dry run made the output folder'
for name in bitnet-b1.58-700m bitnet-b1.58-2b4t; do
    run "$source/configs/$name.json" --dry-run
    expect 0 'quantized'
done
run ok.json --check-grad
expect 0 'gradient check passed'
stdout_has '"numeric_error"'

# ---- a run: plain lines on stderr, the summary on stdout, files ----
run ok.json
expect 0 'device: ' 'step 1/12' 'step 6/12' 'val_loss' 'step 12/12'
stdout_has '"steps": 12' '"val_loss"' '"bits_per_byte"' '"peak_rss_bytes"' \
    '"checkpoint": "out/checkpoint-000000'
grep -q "$(printf '\033')" e && fail 'escape codes outside a terminal'
cmp -s o out/summary.json || fail 'stdout is not summary.json'
for file in config.json metrics.jsonl summary.json latest best checkpoint-00000012.h5; do
    [ -s out/$file ] || fail "out/$file is missing or empty"
done
run ok.json --dry-run
expect 0 'as the last run in this folder'
run ok.json
expect 2 'out' 'not empty' '--resume' '--overwrite'
run ok.json --overwrite --quiet
expect 0
[ -s e ] && fail '--quiet wrote to stderr'

# ---- memory: what was foretold is what it took ----
number() { # number KEY FILE
    sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$2" | tail -n 1
}
run ok.json --dry-run
cp o foretold.json
foretold=$(number total foretold.json)
measured=$(number peak_device_bytes out/summary.json)
awk "BEGIN { d = $measured - $foretold; exit !(d * d <= (0.15 * $foretold) ^ 2) }" ||
    fail "foretold $foretold bytes, measured $measured"

# ---- on a terminal: one line rewritten, colours unless NO_COLOR ----
escape=$(printf '\033')
on_terminal() { # on_terminal: out of stdout and stderr in o
    command="bitnet-train on a terminal (NO_COLOR=${NO_COLOR-})"
    TERM=xterm script -qec "$train ok.json --overwrite" /dev/null >o 2>e </dev/null
    status=$?
    expect 0
    stdout_has "$(printf '\r')" '12/12' 'eta '
}
unset NO_COLOR
on_terminal
stdout_has "$escape[32m"
NO_COLOR=1
export NO_COLOR
on_terminal
grep -qF "$escape[32m" o && fail 'colour in spite of NO_COLOR'
unset NO_COLOR

# ---- stop, change, resume ----
run ok.json -o out2 --stop-after 5
expect 75 'step 5' '--resume auto'
run ok.json -o out2 --resume auto --set model.hidden_size=64
expect 78 'model.hidden_size'
run ok.json -o out2 --resume auto --set training.learning_rate=0.002
expect 0 'going on from out2/checkpoint-00000005.h5' 'training.learning_rate: 0.0015 -> 0.002'
[ "$(wc -l <out2/metrics.jsonl)" -eq 5 ] || fail 'metrics lines after resume'
run ok.json -o out2 --resume no-such-file.h5
expect 66 'no-such-file.h5'
for file in out2/checkpoint-*.h5; do
    printf broken >"$file"
done
run ok.json -o out2 --resume auto
expect 65 'out2'

# ---- overfit, disk errors ----
run ok.json -o overfit --overfit-batch --max-steps 150 --set training.learning_rate=0.02 \
    --set training.weight_decay=0
expect 0
loss=$(sed -n 's/.*"train_loss": \([0-9.]*\).*/\1/p' o)
awk "BEGIN { exit !($loss < 1.0) }" || fail "train_loss $loss on one batch after 150 steps"
stdout_has '"val_loss": null'
: >plain
run ok.json -o plain/out
expect 74 'plain'

if [ $failures -gt 0 ]; then
    echo "$failures failed"
    exit 1
fi
echo "all passed"
