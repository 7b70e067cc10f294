#!/bin/sh
# Devices on the command line: the list, the choice, no device at all, a short
# training with its summary, evaluation and generation on the device, a device
# that is lost in the middle.
# usage: test_opencl_cli.sh BIN_DIR LOST_DEVICE_SO (in a scratch folder)
set -u

bin=$1 lost=$2
failures=0
rm -rf out lost
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
expect 0 o cpu opencl:0 driver units local bit
name=$(sed -n 's/^opencl:0\t\([^,]*\),.*/\1/p' o)
run bitnet-train ok.json --device "opencl:$name" --dry-run
expect 0 o parameters
run bitnet-train ok.json --device opencl:99999 --dry-run
expect 69 e "no usable OpenCL device '99999'" "0: $name"
run bitnet-train ok.json --device "opencl:no such one" --dry-run
expect 69 e "no usable OpenCL device 'no such one'" "0: $name"
run bitnet-train ok.json --device opencl: --dry-run
expect 78 e "training.device"

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

run bitnet-train ok.json --device opencl --profile
expect 0 e "opencl:0 (" "  device " "bn_adamw" "per step: 256 bytes of batches"
# less than 64 KiB beyond the batches, both ways together
moved=$(sed -n 's/^per step: .* the device, \([0-9]*\) further ones, \([0-9]*\) back$/\1 + \2/p' e)
[ -n "$moved" ] && [ $(($moved)) -lt 65536 ] || fail "'$moved' bytes per step"
grep -q '"device_peak_bytes": *[1-9]' out/metrics.jsonl || fail "no device memory in the metrics"
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
run bitnet-train ok.json --device cpu --output-dir out2 --profile
expect 2 e "device 'cpu'"

# ---- a device that is lost for good, whatever the driver calls that ----
lose() { # lose CODE NAME ARGS...: after 400 kernels, some way behind the save of step 6
    code=$1 text=$2
    shift 2
    rm -rf lost
    command="lost with $text"
    LOST_AFTER=400 LOST_CODE=$code LD_PRELOAD=$lost "$bin/bitnet-train" ok.json --device opencl \
        --output-dir lost --set training.save_interval=1 "$@" >o 2>e
    status=$?
}
for code in "-2 CL_DEVICE_NOT_AVAILABLE" "-5 CL_OUT_OF_RESOURCES" "-36 CL_INVALID_COMMAND_QUEUE"; do
    # shellcheck disable=SC2086
    set -- $code
    lose "$1" "$2" --quiet
    expect 69 e "$2" "last good checkpoint: lost/checkpoint-0000000" "on any device"
    [ "$(wc -l <e)" -eq 1 ] || fail "more than one line"
done
run bitnet-train ok.json --device cpu --output-dir lost --resume auto
expect 0 e "going on from lost/checkpoint-0000000"
lose -2 CL_DEVICE_NOT_AVAILABLE --quiet --set training.device_fallback=true
expect 0 e "warning: DEVICE LOST" CL_DEVICE_NOT_AVAILABLE "going on on cpu (" "of lost/checkpoint-"
expect 0 o '"lost_device": "opencl:0' '"device": "cpu (' '"steps": 12'
[ $failures -eq 0 ] || exit 1
echo "opencl command line: ok"
