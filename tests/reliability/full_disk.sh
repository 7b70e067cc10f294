#!/bin/sh
# bitnet-train on a real disk that is full: run by scripts/reliability.sh full in a
# mount namespace of its own.
set -eu
bin=$BITNET_BIN_DIR
mkdir -p disk
mount -t tmpfs -o size=2m none disk
python3 -c 'print("the light and the water over the stone river " * 200)' >text.txt
cat >config.json <<'END'
{"model": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
           "num_attention_heads": 2, "max_position_embeddings": 16},
 "quantization": {"group_size": 32}, "data": {"train": "text.txt"},
 "training": {"device": "cpu", "seq_len": 16, "batch_size": 2, "max_steps": 1000,
              "warmup_steps": 4, "eval_interval": 0, "save_interval": 100,
              "save_total_limit": 3, "threads": 1}}
END
failed=0
check() { # what is expected of the last run
    if [ "$code" != "$1" ] || ! grep -q "$2" log; then
        failed=1
        echo "NOT OK: exit code $code, expected $1 and \"$2\" in:"
        cat log
    else
        echo "ok: $3"
    fi
}
train() {
    code=0
    "$bin/bitnet-train" config.json --quiet "$@" >out 2>log || code=$?
}
fill() { # all but $1 KiB
    rm -f disk/ballast
    free=$(df -k --output=avail disk | tail -1)
    head -c "$(((free - $1) * 1024))" /dev/zero >disk/ballast
}
whole() { # every checkpoint of a folder, and no temporary file
    for file in "$1"/checkpoint-*.h5; do
        "$bin/bitnet-inspect" "$file" >/dev/null
    done
    [ -z "$(find "$1" -name '*.tmp')" ]
}

fill 100
train -o disk/run
check 74 "100.0 KiB free" "does not start where not even one checkpoint fits"

fill 1000
train -o disk/run --stop-after 150
check 75 "lower training.save_total_limit" "warns where not all checkpoints fit"
whole disk/run

fill 100
train -o disk/run --resume auto -s training.save_interval=0
check 74 "a checkpoint of this run takes" "does not go on where not even one checkpoint fits"

fill 900 # room at the start, gone while it trains, there again in the end
"$bin/bitnet-train" config.json --resume auto -o disk/run -s training.max_steps=3000 >out 2>log &
pid=$!
until grep -q "step 200" log; do
    sleep 0.01
done
fill 10
until grep -q "IS NOT SAVED" log; do
    sleep 0.01
done
rm disk/ballast
code=0
wait $pid || code=$?
check 0 "is saved, after" "goes on while the disk is full, and saves when it is not"
whole disk/run
umount disk
exit $failed
