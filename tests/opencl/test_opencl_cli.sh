#!/bin/sh
# Devices on the command line: the list, the choice, no device at all, a short
# training with its summary, evaluation and generation on the device.
# usage: test_opencl_cli.sh BIN_DIR (in a scratch folder)
set -u

bin=$1
failures=0
rm -rf out
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

run() { # run PROGRAM ARGS...: $status; stdout in o, stderr in e
    program=$1
    shift
    "$bin/$program" "$@" >o 2>e
    status=$?
    command="$program $*"
}

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s: %s\n--- stdout:\n%s\n--- stderr:\n%s\n' "$command" "$1" "$(cat o)" "$(cat e)"
}

expect() { # expect STATUS FILE TEXT...
    [ "$status" = "$1" ] || fail "exit status $status, expected $1"
    file=$2
    shift 2
    for text in "$@"; do
        grep -qF -e "$text" "$file" || fail "no '$text' in $file"
    done
}

run bitnet-train --list-devices
expect 0 o cpu opencl:0
run bitnet-train ok.json --device opencl:99 --dry-run
expect 69 e "no usable OpenCL device '99'" "0: "

OCL_ICD_VENDORS=/nonexistent
export OCL_ICD_VENDORS
run bitnet-train --list-devices
expect 0 o cpu
grep -q opencl o && fail "an OpenCL device without a platform"
run bitnet-train ok.json --device opencl
expect 69 e "no OpenCL device at all"
[ -e out ] && fail "an output folder was made"
run bitnet-train ok.json --device auto --max-steps 1
expect 0 e "auto: cpu" "no usable GPU among 0 OpenCL devices"
unset OCL_ICD_VENDORS
rm -rf out

run bitnet-train ok.json --device opencl
expect 0 e "opencl:0 ("
grep -q '"device": *"opencl:0' out/summary.json || fail "the summary does not name the device"
run bitnet-eval out --data text.txt --device opencl --json
expect 0 o bits_per_byte
run bitnet-generate out -p "line 7" -n 5 --temp 0 --device opencl
expect 0 o ""
cp o on-device
run bitnet-generate out -p "line 7" -n 5 --temp 0 --device cpu
expect 0 o ""
cmp -s o on-device || fail "other tokens than on the device"
run bitnet-train ok.json --device opencl --selftest
expect 0 e ""
[ $failures -eq 0 ] || exit 1
echo "opencl command line: ok"
