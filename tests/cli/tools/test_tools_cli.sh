#!/bin/sh
# The command lines of bitnet-export, -generate, -eval and -inspect: exit codes,
# messages, what goes to stdout and what to stderr.
# usage: test_tools_cli.sh BIN_DIR TESTS_DIR PYTHON (in a scratch folder; the
# interpreter has h5py)
set -u

bin=$1
tests=$2
python=$3
. "$tests/cli/cli.sh"

rm -rf out adapted floats empty broken ./*.h5 ./*.gguf ./*.json ./*.unverified text.txt short.txt
make_training config.json
"$bin/bitnet-train" config.json --quiet >/dev/null || exit 1
"$bin/bitnet-train" config.json --quiet --output-dir floats --max-steps 2 \
    --set quantization.weight_bits=none >/dev/null || exit 1

json() { # json PYTHON-EXPRESSION over d, the object on stdout
    "$python" -c "
import json, sys
d = json.load(open('o'))
sys.exit(0 if ($1) else 1)" || fail "not true of the JSON: $1"
}

# ---- every program ----
for name in export generate eval inspect; do
    run $name --help
    expect 0
    stdout_has "Usage: bitnet-$name" --version 'Exit codes'
    run $name --version
    expect 0
    stdout_has "bitnet-$name " 'cpu kernels: ' 'OpenBLAS core: '
    run $name
    refused 2 --help
    run $name --bogus out
    refused 2 bogus
done
for name in generate inspect; do
    run $name nowhere.h5
    refused 66 nowhere.h5
    run $name text.txt
    refused 65 text.txt
    mkdir -p empty
    run $name empty
    refused 66 empty
done
run generate out --device cuda
refused 2 cuda
run generate out --threads -1
refused 2 threads
run eval out --data text.txt --threads 5000
refused 2 threads

# ---- export ----
run export out
refused 2 '-o FILE'
run export out -o
refused 2 output
run export out -o model.h5 --format onnx
refused 2 onnx hdf5 gguf
run export out -o model.gguf --format gguf --gguf-type q4_0
refused 2 SiLU --force
run export out -o model.gguf --format gguf --gguf-type q8_0
refused 2 q8_0 tq2_0
run export out -o model.h5 --float-dtype q8_0
refused 2 q8_0 bfloat16
run export out -o model.h5 --encoding ternary3
refused 2 ternary3 base3x5 ternary2
run export out -o model.h5 --float-dtype int8
refused 2 int8 float16 bfloat16
run export out -o model.h5 --verify --no-verify
refused 2 --no-verify
run export nowhere.h5 -o model.h5
refused 66 nowhere.h5
run export text.txt -o model.h5
refused 65 text.txt
run export out -o empty
refused 2 empty
run export out -o missing/model.h5
refused 74 missing/model.h5
run export out -o model.h5 --data nowhere.txt
refused 66 nowhere.txt
[ ! -e model.h5 ] && [ ! -e model.h5.unverified ] && [ ! -e model.gguf ] || fail 'something was left behind'

run export out -o model.h5
expect 0 'ternary layers' 'times smaller' verified 'bit for bit' text.txt model.h5.report.json
[ ! -s o ] || fail 'stdout is not empty'
[ -s model.h5 ] && [ -s model.h5.report.json ] || fail 'file and report are not there'
run export out -o model.h5
expect 0
independent() { # independent PACKED: agrees with the checkpoint it was made from
    "$python" "$tests/cli/tools/check_export.py" "$tests/oracle" out/checkpoint-00000012.h5 "$1" \
        >o 2>e || fail "the oracle does not find the checkpoint in $1"
}
independent model.h5
run export model.h5 -o model.h5
refused 2 'the model itself'
run export out -o small.h5 --encoding ternary2 --float-dtype bfloat16 --compress --quiet --json
expect 0
[ ! -s e ] || fail 'stderr is not empty'
json "d['encoding'] == 'ternary2' and d['float_dtype'] == 'bfloat16' and d['compression'] == 'deflate'"
json "d['verification']['products_bit_equal'] == 7 and d['quantized']['layers'] == 7"
cmp -s o small.h5.report.json || fail 'report and stdout differ'
run export out -o plain.h5 --no-verify --json
expect 0 'not verified'
json "d['verification'] is None and len(d['sha256']) == 64"
[ "$(sha256sum <plain.h5 | cut -d' ' -f1)" = "$("$python" -c "
import json; print(json.load(open('plain.h5.report.json'))['sha256'])")" ] || fail 'wrong SHA-256'
run export small.h5 -o again.h5 --encoding base3x5
expect 0 verified
run export model.h5 -o two.h5 --encoding ternary2 --compress
expect 0 verified
independent two.h5
run export out -o model.gguf --format gguf --gguf-type q4_0 --float-dtype q8_0 --force --json
expect 0 SiLU verified '4.500 bits per weight' model.gguf.report.json
json "d['weights'] == 'Q4_0' and 'SiLU' in d['computed_differently'] and d['quantized']['layers'] == 7"
run export floats -o floats.h5
expect 0 'no quantized layers' verified
mv text.txt away.txt
run export out -o random.h5
expect 0 'random tokens (seed 1)'
mv away.txt text.txt

# ---- eval ----
run eval out
refused 2 --data
run eval out --data nowhere.txt
refused 66 nowhere.txt
run eval out --data text.txt --max-batches -1
refused 2 --max-batches
run eval out --data text.txt --batch-size -1
refused 2 --batch-size
printf x >short.txt
run eval out --data short.txt
refused 65 short.txt
run eval out --data text.txt
expect 0 tokens/s
stdout_has loss perplexity 'bits per byte'
run eval out --data text.txt --json
expect 0
json "d['tokens'] == d['bytes'] == $(wc -c <text.txt) - 1 and not d['packed'] and d['step'] == 12"
json "0 < d['loss'] < 6 and abs(d['bits_per_byte'] - d['loss'] / 0.6931471805599453) < 1e-9"
cp o checkpoint.json
run eval model.h5 --data text.txt --json
json "d['packed'] and d['loss'] == json.load(open('checkpoint.json'))['loss']"
run eval model.h5 --data text.txt --json --batch-size 7 --threads 1
json "abs(d['loss'] - json.load(open('checkpoint.json'))['loss']) < 1e-6"
run eval out --data text.txt --json --cache-type int8
json "0 < abs(d['loss'] - json.load(open('checkpoint.json'))['loss']) < 0.01"
run eval out --data text.txt --json --cache-type int4
json "0 < abs(d['loss'] - json.load(open('checkpoint.json'))['loss']) < 0.1"
run eval missing --data text.txt --cache-type int7
refused 2 '--cache-type int7: expected float32, int8 or int4'
run eval out --data text.txt --json --max-batches 3
json "d['batches'] == 3 and d['tokens'] == 96"
run eval out --validation-split --json
json "abs(d['loss'] - json.load(open('out/summary.json'))['val_loss']) < 1e-9"
run eval out --validation-split --data text.txt --json
json "abs(d['loss'] - json.load(open('out/summary.json'))['val_loss']) < 1e-9"

# ---- generate ----
run generate out -n 0
refused 2 '-n 0'
run generate out -n many
refused 2 many
run generate out --temp -1
refused 2 --temp
run generate out --top-k -1
refused 2 --top-k
run generate out --top-p 0
refused 2 --top-p
run generate out --top-p 1.5
refused 2 --top-p
run generate out --stop ''
refused 2 --stop
run generate out -p a --prompt-file text.txt
refused 2 --prompt-file
run generate out --prompt-file nowhere.txt
refused 66 nowhere.txt

size() { # size BYTES: of stdout
    [ "$(wc -c <o)" -eq "$1" ] || fail "stdout has $(wc -c <o) bytes, expected $1"
}
run generate out -p 'the river' -n 5 --temp 0
expect 0 'prompt 9 tokens' 'generated 5 tokens' tokens/s 'KV cache 256 bytes per token'
size 14
[ "$(head -c 9 o)" = 'the river' ] || fail 'the prompt is not first'
cp o greedy
run generate out -p 'the river' -n 5 --greedy --cache-type int8 # 2 * (2 * 4 + 32)
expect 0 'KV cache 80 bytes per token'
run generate out -p 'the river' -n 5 --greedy --cache-type int4 # 2 * 2 * (4 + 8)
expect 0 'KV cache 48 bytes per token'
run generate out --cache-type half
refused 2 '--cache-type half'
run generate model.h5 -p 'the river' -n 5 --greedy --quiet
expect 0
[ ! -s e ] || fail 'stderr is not empty'
cmp -s o greedy || fail 'the packed model says something else'
run generate out -p 'the river' -n 5 --greedy --no-echo
size 5
[ "$(tail -c 5 greedy)" = "$(cat o)" ] || fail 'the echo is not all that differs'
printf 'the river' >prompt.txt
run generate out --prompt-file prompt.txt -n 5 --greedy
cmp -s o greedy || fail '--prompt-file says something else'
"$bin/bitnet-generate" out -p - -n 5 --greedy <prompt.txt >o 2>e
cmp -s o greedy || fail '-p - says something else'
run generate out -p '' -n 3
expect 0 'prompt 1 tokens'
size 4
[ "$(head -c 1 o | od -An -c | tr -d ' ')" = '\n' ] || fail 'the empty prompt is no line break'

run generate out -p a -n 60 --greedy --int8-head
expect 0 'prompt 1 tokens'
size 61

# Several prompts at once: each continuation is the one it gets alone, also where
# the context slides.
printf 'the river\n\nstones and under' >prompts.txt
for p in 'the river' '' 'stones and under'; do
    run generate out -p "$p" -n 30 --seed 5 --int8-head
    cat o
    printf '\n---\n'
done >apart
run generate out --prompts prompts.txt -n 30 --seed 5 --int8-head
expect 0 'prompt 26 tokens' 'generated 90 tokens'
cmp -s o apart || fail '--prompts says something else'
run generate out -p 'the river' -p '' -p 'stones and under' -n 30 --seed 5 --int8-head
cmp -s o apart || fail 'several -p say something else'
run generate out -p a -p -
refused 2 'standard input is one prompt'
run generate out -p a --prompts prompts.txt
refused 2 --prompts
: >empty.txt
run generate out --prompts empty.txt
refused 65 'empty.txt: expected a prompt on every line, found none'

# The same seed gives the same text, another one does not; threads change nothing.
run generate out -p a -n 60 --seed 5
cp o seed5
run generate out -p a -n 60 --seed 5 --threads 1
cmp -s o seed5 || fail 'the same seed gives another text'
run generate out -p a -n 60 --seed 6
! cmp -s o seed5 || fail 'another seed gives the same text'

# Far beyond the 16 positions of the model, and a prompt that is longer.
run generate out -p a -n 200 --seed 1
expect 0
size 201
run generate out --prompt-file text.txt -n 20 --no-echo
expect 0 'the last 16 are read'
size 20

# After a full context the last 8 of 16 tokens go on as a prompt would.
printf 'stones and under' >prompt.txt
run generate out --prompt-file prompt.txt -n 10 --greedy
cp o slid
head -c 17 slid | tail -c 8 >prompt.txt
run generate out --prompt-file prompt.txt -n 9 --greedy --no-echo
[ "$(tail -c 9 slid | od -An -tx1)" = "$(od -An -tx1 <o)" ] || fail 'the context slides wrongly'

# Output ends before the stop text, even where it is cut by tokens.
run generate out -p a -n 60 --seed 5 --no-echo
stop=$(tail -c +21 o | head -c 3)
before=$("$python" -c "
import sys
text, stop = open('o', 'rb').read(), open('o', 'rb').read()[20:23]
print(text.index(stop))")
"$python" - "$bin" "$before" <<'PY' || { command='bitnet-generate --stop'; fail 'wrong end of output'; }
import subprocess, sys
text = open('o', 'rb').read()
out = subprocess.run([sys.argv[1] + '/bitnet-generate', 'out', '-p', 'a', '-n', '60', '--seed', '5',
                      '--no-echo', '--stop', text[20:23]], capture_output=True)
sys.exit(0 if out.returncode == 0 and out.stdout == text[:int(sys.argv[2])] else 1)
PY
[ -n "$stop" ] || fail 'no stop text'
if [ -w /dev/full ]; then
    command='bitnet-generate to a full disk'
    "$bin/bitnet-generate" out -n 5 >/dev/full 2>e
    status=$?
    : >o
    expect 74 'standard output'
fi

# ---- a scheme for each layer ----
rules='quantization.rules=[{"match":"q_proj","weight_bits":"none"},{"match":"mlp","weight_scale":"row"}]'
"$bin/bitnet-train" config.json --quiet --overwrite --output-dir mixed --max-steps 2 --set "$rules" >/dev/null ||
    fail 'training with rules'
run export mixed -o mixed.h5 --json
expect 0
json "d['verification']['products_bit_equal'] == 6 and d['quantized']['layers'] == 6"
run inspect mixed.h5 --json
expect 0
json "{t['name'].split('.')[-2]: t['group_size'] for t in d['tensors'] if t['ternary']} == {'k_proj': 32,
    'v_proj': 32, 'o_proj': 32, 'gate_proj': -1, 'up_proj': -1, 'down_proj': -1}"
json "[r['match'] for r in d['config']['quantization']['rules']] == ['q_proj', 'mlp']"
run generate mixed.h5 -p line -n 4
expect 0
run export mixed -o mixed.hf --format safetensors
refused 2 quantization.rules

# ---- inspect ----
run inspect out
expect 0
stdout_has checkpoint 'step 12' q_proj SQNR cosine 'times smaller'
run inspect model.h5
expect 0
stdout_has 'packed model' q_proj entropy
run inspect out --json
json "d['kind'] == 'checkpoint' and d['step'] == 12 and d['quantized_tensors'] == 7"
json "d['config']['model']['hidden_size'] == 32 and d['tokenizer'] == 'byte'"
json "all(t['sqnr_db'] > 3 for t in d['tensors'] if t['quantized'])"
json "all(abs(t['share_minus'] + t['share_zero'] + t['share_plus'] - 1) < 1e-12 for t in d['tensors'] if t['quantized'])"
run inspect model.h5 --json
json "d['kind'] == 'packed' and d['quantized_tensors'] == 7"
json "all('mse' not in t for t in d['tensors'])"
run inspect model.gguf
expect 0
stdout_has 'GGUF 3' general.architecture blk.0.attn_q.weight token_embd.weight Q8_0
run inspect model.gguf --json
json "all(t['encoding'] == 'Q4_0' for t in d['tensors'] if t['quantized'])"
json "d['kind'] == 'gguf' and d['metadata']['bitnet.block_count'] == 1 and d['quantized_tensors'] == 7"
head -c 300 model.gguf >cut.gguf
run inspect cut.gguf
refused 65 cut.gguf
run inspect floats --json
json "d['quantized_tensors'] == 0"
run inspect out --activations
refused 2 --data
run inspect model.h5 --activations --data text.txt --json
expect 0
json "[a['layers'] for a in d['activations']] == [3, 1, 2, 1] and d['activations'][0]['largest'] == 127"
json "all(0 < a['absmax_min'] <= a['absmax_median'] <= a['absmax_max'] for a in d['activations'])"
run inspect out --activations --data text.txt
expect 0
stdout_has median self_attn.o_proj
run inspect floats --activations --data text.txt
refused 2 'integer activations'
run inspect out --sensitivity
refused 2 --data
run inspect out --budget 3
refused 2 --sensitivity
run inspect out --sensitivity --data text.txt --budget -1
refused 2 --budget
run inspect model.h5 --sensitivity --data text.txt
refused 2 'shadow weights'
run inspect out --sensitivity --data text.txt --max-batches 1
expect 0
stdout_has 'alone float' q_proj 'bits per weight'
run inspect floats --sensitivity --data text.txt --max-batches 1 --budget 9 --json
expect 0
json "len(d['layers']) == 7 and d['switched_to'] == 'ternary' and d['bits_per_weight'] == 32"
json "0 < d['proposal']['bits_per_weight'] <= 9"
json "all(r['weight_bits'] == 'ternary' for r in d['proposal']['config']['quantization']['rules'])"

# ---- damage ----
mkdir -p broken
cp out/*.h5 broken/
newest=$(ls broken/*.h5 | tail -1)
printf '\377\377\377\377' | dd of="$newest" bs=1 seek=20000 conv=notrunc 2>/dev/null
run inspect "$newest"
refused 65 "$newest"
run inspect broken
[ "$status" -eq 0 ] && { expect 0 'passed over' "$(basename "$newest")"; } || refused 66 broken
head -c 5000 model.h5 >cut.h5
for name in generate inspect; do
    run $name cut.h5
    refused 65 cut.h5
done
run eval cut.h5 --data text.txt
refused 65 cut.h5

# ---- interrupted ----
# A signal as soon as the program looks for it, in a text of a million bytes.
cat >interrupt.py <<'PY'
import re, signal, subprocess, sys, time
number = getattr(signal, "SIG" + sys.argv[1])
p = subprocess.Popen(sys.argv[2:])
def watched():
    with open(f"/proc/{p.pid}/status") as f:
        return int(re.search(r"SigCgt:\s*(\w+)", f.read())[1], 16) >> (number - 1) & 1
while p.poll() is None and not watched():
    time.sleep(0.002)
p.send_signal(number)
sys.exit(p.wait())
PY
make_text 20000 >large.txt
run train config.json --base out --output-dir adapted --max-steps 1 --quiet
interrupted() { # interrupted SIGNAL PROGRAM ARGS...
    program=bitnet-$2
    command="$*"
    "$python" interrupt.py "$1" "$bin/$program" $3 >o 2>e
    status=$?
    refused 75 'interrupted'
}
for signal in INT TERM; do
    interrupted $signal eval "model.h5 --data large.txt --threads 1"
    interrupted $signal adapter "adapted --base out -o stopped --format merged --data large.txt"
    [ -z "$(find . -maxdepth 1 -name 'stopped*')" ] || fail "something is left"
    for format in hdf5 gguf 'safetensors --hf-weights bf16'; do
        interrupted $signal export "out -o stopped --format $format --data large.txt --force"
        [ -z "$(find . -maxdepth 1 -name 'stopped*')" ] || fail "something is left"
    done
done

finish
