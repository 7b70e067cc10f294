#!/bin/sh
# Devices on the command line: the list, the choice, no device at all, a short
# training with its summary, evaluation and generation on the device, a device
# that is lost in the middle.
# usage: test_opencl_cli.sh BIN_DIR LOST_DEVICE_SO (in a scratch folder)
set -u

bin=$1 lost=$2
. "$(dirname "$0")/../cli/cli.sh"
rm -rf out lost
make_training ok.json

run train --list-devices
expect 0
stdout_has cpu opencl:0 driver units local bit
name=$(sed -n 's/^opencl:0\t\([^,]*\),.*/\1/p' o)
run train ok.json --device "opencl:$name" --dry-run
expect 0
stdout_has parameters
run train ok.json --device opencl:99999 --dry-run
expect 69 "no usable OpenCL device '99999'" "0: $name"
run train ok.json --device "opencl:no such one" --dry-run
expect 69 "no usable OpenCL device 'no such one'" "0: $name"
run train ok.json --device opencl: --dry-run
expect 78 "training.device"

OCL_ICD_VENDORS=/nonexistent
export OCL_ICD_VENDORS
run train --list-devices
expect 0
stdout_has cpu
grep -q opencl o && fail "an OpenCL device without a platform"
run train ok.json --device opencl
expect 69 "no OpenCL device at all"
[ -e out ] && fail "an output folder was made"
run train ok.json --device auto --max-steps 1
expect 0 "auto: cpu" "no usable GPU among 0 OpenCL devices"
unset OCL_ICD_VENDORS
rm -rf out

run train ok.json --device opencl --profile
expect 0 "opencl:0 (" "  memory " "bn_adamw" "per step: 256 bytes of batches"
# less than 64 KiB beyond the batches, both ways together
moved=$(sed -n 's/^per step: .* the device, \([0-9]*\) further ones, \([0-9]*\) back$/\1 + \2/p' e)
[ -n "$moved" ] && [ $(($moved)) -lt 65536 ] || fail "'$moved' bytes per step"
grep -q '"device_peak_bytes": *[1-9]' out/metrics.jsonl || fail "no device memory in the metrics"
grep -q '"device": *"opencl:0' out/summary.json || fail "the summary does not name the device"
run eval out --data text.txt --device opencl --json
expect 0
stdout_has bits_per_byte
run generate out -p "line 7" -n 5 --temp 0 --device opencl
expect 0
cp o on-device
run generate out -p "line 7" -n 5 --temp 0 --device cpu
expect 0
cmp -s o on-device || fail "other tokens than on the device"
run generate out -p "line 7" -n 5 --cache-type int8 --device opencl
refused 2 'a KV cache of 8 bits does not run on opencl:0'
run train ok.json --device opencl --selftest
expect 0
run train ok.json --device opencl --output-dir out2 --set training.optimizer=sgd
expect 0
rm -rf out2
run train ok.json --device opencl --output-dir out2 --set training.optimizer=adamw8bit
expect 78 'training.optimizer: "adamw8bit" does not run on opencl:0'
rm -rf out2
run train ok.json --device cpu --output-dir out2 --profile
expect 2 "device 'cpu'"

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
    expect 69 "$2" "last good checkpoint: lost/checkpoint-0000000" "on any device"
    [ "$(wc -l <e)" -eq 1 ] || fail "more than one line"
done
run train ok.json --device cpu --output-dir lost --resume auto
expect 0 "going on from lost/checkpoint-0000000"
lose -2 CL_DEVICE_NOT_AVAILABLE --quiet --set training.device_fallback=true
expect 0 "warning: DEVICE LOST" CL_DEVICE_NOT_AVAILABLE "going on on cpu (" "of lost/checkpoint-"
expect 0
stdout_has '"lost_device": "opencl:0' '"device": "cpu (' '"steps": 12'
finish
