#!/bin/sh
# bitnet-tokenize, and a tokenizer's way through training, resume, export and
# generation.
# usage: test_tokenize_cli.sh BIN_DIR TESTS_DIR [LIMIT] (in a scratch
# folder); LIMIT: KiB of data that are enough for any file; without: not tested
set -u

bin=$1
golden=$2/golden/tokenizer/gpt2.json
limit=${3:-}
. "$2/cli/cli.sh"

rm -rf out moved ./*.json ./*.bnt ./*.h5 ./*.txt
make_text 400 >text.txt
printf 'caf\303\251 \377\376 <|endoftext|> \000 end' >bytes.txt

# ---- usage ----
run tokenize --help
expect 0
run tokenize fly text.txt
expect 2 'unknown command "fly"'
run tokenize train text.txt
expect 2 "train: -o FILE is missing"
run tokenize encode text.txt -o a.bnt
expect 2 "encode: -t FILE is missing"
run tokenize train text.txt -o small.json --vocab-size 100
expect 2 "a vocabulary of 100 tokens"
run tokenize train missing.txt -o small.json
expect 66 missing.txt
run tokenize encode text.txt -t missing.json -o a.bnt
expect 66 missing.json
run tokenize encode text.txt -t words -o a.bnt
expect 78 'unknown tokenizer "words"'
printf '{"model":{}}' >bad.json
run tokenize encode text.txt -t bad.json -o a.bnt
expect 65 bad.json
run tokenize encode text.txt -t "$golden" -o a.bnt --end two
expect 2 '--end "two" is'
[ ! -e a.bnt ] || fail "a failed run left a shard"

# ---- train, encode, decode ----
run tokenize train text.txt -o small.json --vocab-size 320 --special '<|endoftext|>'
expect 0
grep -q '"vocab_size": 320' o || fail "stdout lacks the size"
run tokenize encode text.txt -t small.json -o text.bnt
expect 0
grep -q '"bytes": ' o || fail "stdout lacks the bytes"
run tokenize decode text.bnt -t small.json
expect 0
cmp -s o text.txt || fail "the decoded text differs"
run tokenize encode text.txt -t small.json -o one.bnt --threads 1
cmp -s one.bnt text.bnt || fail "the shard depends on the number of threads"
run tokenize encode bytes.txt bytes.txt -t "$golden" -o bytes.bnt --end '<|endoftext|>'
expect 0
run tokenize decode bytes.bnt -t "$golden" -o back.txt
expect 0
{
    cat bytes.txt
    printf '<|endoftext|>'
    cat bytes.txt
    printf '<|endoftext|>'
} >twice.txt
cmp -s back.txt twice.txt || fail "the decoded bytes differ"
run tokenize decode text.bnt -t "$golden"
expect 65 text.bnt

# ---- --end finds a token by its name ----
cat >named.json <<'JSON'
{"added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "</s>", "special": true}],
 "normalizer": {"type": "SentencePiece", "add_dummy_prefix": true, "remove_extra_whitespaces": false,
                "precompiled_charsmap": "", "user_defined_symbols": []},
 "model": {"type": "BPE", "sentencepiece": true, "unk_token": "<unk>", "fuse_unk": true,
           "vocab": {"<unk>": 0, "</s>": 1, "▁": 2, "a": 3, "s": 4, "<": 5, "/": 6, ">": 7}, "merges": []}}
JSON
printf 'a</s>' >named.txt # in a text it is five characters
run tokenize encode named.txt -t named.json -o named.bnt --end '</s>'
expect 0
[ "$(tail -c +65 named.bnt | od -An -tu1 | tr -s ' ')" = " 2 3 5 6 4 7 1" ] || fail "other tokens"

# ---- a file larger than the memory that is allowed ----
i=0
copies=${limit:+16} # enough to be more than the limit
while [ $i -lt "${copies:-1}" ]; do
    cat "$2/../data/kjv.txt"
    i=$((i + 1))
done >large.txt
run tokenize encode large.txt -t "$golden" -o large.bnt --threads 2
expect 0
if [ -n "$limit" ]; then
    command="encode below ulimit -d $limit"
    (ulimit -d "$limit" && exec timeout -s KILL 120 "$bin/bitnet-tokenize" encode large.txt \
        -t "$golden" -o less.bnt --threads 2) >o 2>e
    status=$?
    expect 0
    cmp -s less.bnt large.bnt || fail "other tokens with less memory"
    for little in 2000 20000 36000; do # too little ends, and at once
        command="encode below ulimit -d $little"
        (ulimit -d $little && exec timeout -s KILL 60 "$bin/bitnet-tokenize" encode large.txt \
            -t "$golden" -o little.bnt --threads 2) >o 2>e
        status=$?
        [ $status -eq 1 ] || [ $status -eq 127 ] || fail "exit status $status"
        [ ! -e little.bnt ] && [ ! -e little.bnt.tmp ] || fail "a file is left"
    done
    python3 - "$bin/bitnet-tokenize" "$golden" <<'PY' || fail "the file was in memory"
import resource, subprocess, sys
subprocess.run([sys.argv[1], "encode", "large.txt", "-t", sys.argv[2], "-o", "less.bnt",
                "--threads", "2"], check=True, stdout=subprocess.DEVNULL)
sys.exit(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 40 << 10)
PY
fi

# ---- interrupted ----
command="encode, interrupted"
for signal in INT TERM; do
    python3 - "$signal" "$bin/bitnet-tokenize" encode large.txt large.txt -t "$golden" \
        -o stopped.bnt >o 2>e <<'PY'
import os, signal, subprocess, sys, time
p = subprocess.Popen(sys.argv[2:])
while not os.path.exists("stopped.bnt.tmp") and p.poll() is None:
    time.sleep(0.01)
p.send_signal(getattr(signal, "SIG" + sys.argv[1]))
sys.exit(p.wait())
PY
    status=$?
    expect 75 "interrupted: no shard was written"
    [ ! -e stopped.bnt ] && [ ! -e stopped.bnt.tmp ] || fail "a file is left"
done

# ---- progress on a terminal alone ----
command="encode, progress"
"$bin/bitnet-tokenize" encode large.txt -t "$golden" -o large.bnt >o 2>e
[ ! -s e ] || fail "progress without a terminal"
for quiet in "" --quiet; do
    python3 - "$bin/bitnet-tokenize" encode large.txt -t "$golden" -o large.bnt $quiet >e <<'PY'
import os, subprocess, sys
ours, theirs = os.openpty()
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=theirs)
os.close(theirs)
try:
    while data := os.read(ours, 4096):
        os.write(1, data)
except OSError:
    pass # the terminal's end
sys.exit(p.wait())
PY
    status=$?
    if [ -z "$quiet" ]; then
        expect 0 'MB/s'
    else
        expect 0
        [ ! -s e ] || fail "progress in spite of --quiet"
    fi
done
rm -f large.* less.bnt

# ---- through a model's life ----
run tokenize encode text.txt -t "$golden" -o text.bnt
cp "$golden" tok.json
cat >config.json <<'JSON'
{ "model": { "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 16 },
  "quantization": { "group_size": 32 },
  "data": { "train": "text.bnt", "tokenizer": "tok.json" },
  "training": { "seq_len": 16, "batch_size": 2, "max_steps": 6, "warmup_steps": 2,
                "log_interval": 2, "eval_interval": 6, "device": "cpu" },
  "output_dir": "out" }
JSON
run train config.json --quiet --stop-after 3
expect 75
mkdir moved
mv tok.json moved/tok.json
# another one: the last two merges exchanged, everything else the same
sed -E 's/,("[^"]*"),("[^"]*")\]\}\}$/,\2,\1]}}/' "$golden" >other.json
cmp -s other.json "$golden" && fail "other.json is no other tokenizer"
run tokenize encode text.txt -t other.json -o other.bnt
run train config.json --quiet --resume auto --set data.tokenizer=other.json \
    --set data.train=other.bnt
expect 78 "the checkpoint was trained with another tokenizer"
run train config.json --quiet --resume auto --set data.tokenizer=moved/tok.json
expect 0
rm -r moved
run export out -o model.h5
expect 0
run generate model.h5 -p "the river" -n 8 --greedy --device cpu
expect 0
grep -q "^the river" o || fail "stdout lacks the prompt"
run eval out --data text.bnt --device cpu
expect 0
grep -q "bits per byte" o || fail "stdout lacks bits per byte"
run train config.json --quiet --output-dir out2 --set data.tokenizer=words
expect 78 'data.tokenizer: expected "byte" or the path'

finish
