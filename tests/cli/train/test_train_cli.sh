#!/bin/sh
# The command line of bitnet-train: exit codes, messages, what goes to stdout
# and what to stderr. usage: test_train_cli.sh BIN_DIR SOURCE_DIR (in a scratch folder)
set -u

bin=$1
source=$2
. "$source/tests/cli/cli.sh"
train=$bin/bitnet-train

rm -rf out out2 out3 overfit dirty plain ./*.json text.txt
# No OpenCL device here; tests/opencl has one.
OCL_ICD_VENDORS=/nonexistent
export OCL_ICD_VENDORS

make_training ok.json

# ---- help, version, texts ----
run train --help
expect 0
stdout_has --resume --dry-run --overfit-batch 'Exit codes'
run train --version
expect 0
stdout_has 'bitnet-train ' 'cpu kernels: ' 'threads: ' 'OpenBLAS core: '
OPENBLAS_CORETYPE=Prescott
export OPENBLAS_CORETYPE
run train --version
grep -q "kernels: avx" o && expect 0 "OPENBLAS_CORETYPE=Prescott"
unset OPENBLAS_CORETYPE
run train --config-reference
expect 0
stdout_has hidden_size learning_rate
run train --config-schema
expect 0
stdout_has '"$schema"' hidden_size
run train --list-devices
expect 0
stdout_has cpu
run train --selftest
expect 0 'self-test passed'
stdout_has 'ok  packing'

# ---- usage: 2 ----
run train
expect 2 'CONFIG'
run train --no-such-option ok.json
expect 2 '--no-such-option'
run train ok.json --threads many
expect 2 '--threads' 'many'
run train ok.json extra.json
expect 2 'extra.json'
run train ok.json --resume auto --overwrite
expect 2 '--resume' '--overwrite'

# ---- configuration: 78, missing: 66 ----
run train missing.json
expect 66 'missing.json'
echo '{ "model": { "hidden_sise": 32 } }' >typo.json
run train typo.json
expect 78 'typo.json' 'hidden_sise' 'hidden_size'
echo '{ "model": { ' >broken.json
run train broken.json
expect 78 'broken.json'
run train ok.json --set training.max_stepz=3
expect 78 'max_stepz' 'max_steps'
run train ok.json --set training.learning_rate=fast
expect 78 'training.learning_rate' 'fast'
run train ok.json --max-steps 0
expect 78 'training.max_steps'
run train ok.json --set 'quantization.rules=[{"match":"oproj","weight_bits":"none"}]' --dry-run
expect 78 'quantization.rules[0].match' '"oproj" matches none of the' 'q_proj'
run train ok.json --set training.seq_len=64
expect 78 'training.seq_len' 'max_position_embeddings'
run train ok.json --device gpu
expect 78 'training.device' 'gpu'
run train ok.json --set model.kind=mlp
expect 78 'ok.json' 'model.kind' 'mlp'

# ---- devices: 69; data: 66 and 65 ----
run train ok.json --device opencl
expect 69 'OpenCL'
run train ok.json --set data.train=nothing.txt
expect 66 'nothing.txt'
run train ok.json --set data.train=null
expect 78 'data.train' 'null'
echo hi >short.txt
run train ok.json --set data.train=short.txt
expect 65 'short.txt'
[ -e out ] && fail 'a failed start made the output folder'

# ---- dry run: JSON on stdout, table on stderr, nothing written ----
run train ok.json --dry-run
expect 0 'parameters' 'saved: int8 activation codes' 'ETA unknown'
stdout_has '"memory_bytes"' '"saved_packed"' '"tokens_per_step": 32' '"eta_s": null' \
    '"bytes_per_parameter": 16' '"bytes_per_layer_token"'
[ -e out ] && fail 'a dry run made the output folder'
for name in bitnet-b1.58-700m bitnet-b1.58-2b4t; do
    run train "$source/configs/$name.json" --dry-run
    expect 0 'quantized'
done
run train ok.json --check-grad
expect 0 'gradient check passed'
stdout_has '"numeric_error"'

# ---- a run: plain lines on stderr, the summary on stdout, files ----
run train ok.json
expect 0 'device: ' 'step 1/12' 'step 6/12' 'val_loss' 'step 12/12'
stdout_has '"steps": 12' '"val_loss"' '"bits_per_byte"' '"peak_rss_bytes"' \
    '"checkpoint": "out/checkpoint-000000'
grep -q "$(printf '\033')" e && fail 'escape codes outside a terminal'
cmp -s o out/summary.json || fail 'stdout is not summary.json'
for file in config.json metrics.jsonl summary.json latest best checkpoint-00000012.h5; do
    [ -s out/$file ] || fail "out/$file is missing or empty"
done
run train ok.json --dry-run
expect 0 'as the last run in this folder'
run train ok.json
expect 2 'out' 'not empty' '--resume' '--overwrite'
run train ok.json --overwrite --quiet
expect 0
[ -s e ] && fail '--quiet wrote to stderr'

# ---- memory: what was foretold is what it took ----
bytes_of() { # bytes_of KEY FILE: the last there is
    sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$2" | tail -n 1
}
run train ok.json --dry-run
cp o foretold.json
foretold=$(bytes_of total foretold.json)
measured=$(bytes_of peak_device_bytes out/summary.json)
awk "BEGIN { d = $measured - $foretold; exit !(d * d <= (0.15 * $foretold) ^ 2) }" ||
    fail "foretold $foretold bytes, measured $measured"

run train ok.json -o out3 --max-memory 100K
expect 1 'memory limit of 100.0 KiB' 'the run needs' 'lower '
[ -e out3/config.json ] && fail 'a run that does not fit wrote into its folder'
run train ok.json -o out3 --max-memory 64M --quiet
expect 0
run train ok.json -o out3 --max-memory plenty
expect 2 '--max-memory: expected a size'

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
run train ok.json -o out2 --stop-after -5
expect 2 '--stop-after -5'
run train ok.json -o out2 --stop-after 5
expect 75 'step 5' '--resume auto'
run train ok.json -o out2 --resume auto --set model.hidden_size=64
expect 78 'model.hidden_size'
run train ok.json -o out2 --resume auto --set training.learning_rate=0.002
expect 0 'going on from out2/checkpoint-00000005.h5' 'training.learning_rate: 0.0015 -> 0.002'
[ "$(wc -l <out2/metrics.jsonl)" -eq 5 ] || fail 'metrics lines after resume'
run train ok.json -o out2 --resume no-such-file.h5
expect 66 'no-such-file.h5'
for file in out2/checkpoint-*.h5; do
    printf broken >"$file"
done
run train ok.json -o out2 --resume auto
expect 65 'out2'

# ---- overfit, disk errors ----
run train ok.json -o overfit --overfit-batch --max-steps 150 --set training.learning_rate=0.02 \
    --set training.weight_decay=0
expect 0
loss=$(sed -n 's/.*"train_loss": \([0-9.]*\).*/\1/p' o)
awk "BEGIN { exit !($loss < 1.0) }" || fail "train_loss $loss on one batch after 150 steps"
stdout_has '"val_loss": null'
: >plain
run train ok.json -o plain/out
expect 74 'plain'

finish
