#!/bin/bash
# No program opens a network socket, and none writes outside the folder or file
# that it was told to write (SECURITY.md): their system calls say so.
# usage: test_quiet.sh BIN_DIR (in a scratch folder)
set -u
bin=$1
here=$(pwd -P)
failures=0

rm -rf run made folder trace.*
mkdir made
for i in $(seq 150); do
    echo "line $i: the river runs over stones and under the mountain"
done >text.txt
cat >config.json <<'JSON'
{ "model": { "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 16 },
  "quantization": { "weight_scale": "tensor" },
  "data": { "train": "text.txt" },
  "training": { "seq_len": 16, "batch_size": 2, "max_steps": 4, "warmup_steps": 2,
                "log_interval": 2, "eval_interval": 2 } }
JSON

# watch OUTPUT PROGRAM ARGUMENTS...: OUTPUT is where it may write.
watch() {
    local output=$here/$1 program=$2
    shift 2
    if ! strace -f -y -o trace.txt -e trace=%network,%file,ftruncate,write,pwrite64 \
        "$bin/$program" "$@" >out.txt 2>err.txt </dev/null; then
        echo "FAILED: $program $*: $(tail -n 3 err.txt)"
        failures=$((failures + 1))
        return
    fi
    # A pair of sockets between a process and its child is not a network.
    {
        grep -E '(socket|connect|bind|listen|accept4?)\(' trace.txt | grep -v 'socketpair('
        grep -E '(openat|open|creat)\(' trace.txt | grep -E 'O_WRONLY|O_RDWR|O_CREAT|creat\(' |
            grep -v ' = -1 ' | grep -vE '"/dev/(null|tty)"'
        grep -E ' (mkdir|mkdirat|rename|renameat2?|unlink|unlinkat|link|symlink|truncate|chmod)\(' \
            trace.txt | grep -v ' = -1 '
    } | sed "s|\"\([^/\"]\)|\"$here/\1|g" | grep -vF "\"$output" >found.txt
    if [ -s found.txt ]; then
        echo "FAILED: $program $*"
        head -n 20 found.txt
        failures=$((failures + 1))
    fi
}

watch run bitnet-train config.json --device cpu --output-dir run
watch run bitnet-train config.json --device cpu --output-dir run --resume auto --max-steps 6
watch made/m.h5 bitnet-export run -o made/m.h5 --device cpu
watch folder bitnet-export run -o folder --format safetensors --device cpu
watch made/i.h5 bitnet-import folder -o made/i.h5 --tokenizer byte
watch made/t bitnet-tokenize train text.txt -o made/t.json --vocab-size 300
watch nowhere bitnet-generate made/m.h5 -p a -n 5 --device cpu
watch nowhere bitnet-generate made/m.h5 -p a -n 5 --device cpu --untrusted
watch nowhere bitnet-eval made/m.h5 --data text.txt --device cpu
watch nowhere bitnet-inspect run
[ $failures -eq 0 ] || exit 1
echo "no network, nothing written elsewhere"
