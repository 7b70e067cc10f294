#!/bin/bash
# Runs every command of the README's sh blocks that starts with build/bin, in
# their order, in a scratch folder where the main job is cut to a few steps.
set -euo pipefail
rm -rf scratch
mkdir -p scratch/build
cd scratch
ln -s "$BITNET_BIN_DIR" build/bin
cp -r "$BITNET_SOURCE_DIR/configs" configs
sed -i 's/"max_steps": [0-9]*/"max_steps": 3/; s/"eval_batches": [0-9]*/"eval_batches": 1/' \
    configs/small.json configs/tiny.json
mkdir data
for word in {1..4000}; do echo "In the beginning was line $word, and it was good."; done >data/kjv.txt
cp data/kjv.txt my.txt
head -c 3000 data/kjv.txt >other.txt

sed -n '/^```sh$/,/^```$/p' "$BITNET_SOURCE_DIR/README.md" | grep '^build/bin/' >commands.txt
count=0
while IFS= read -r command; do
    echo "\$ $command"
    if ! bash -c "$command" >out.txt 2>err.txt; then
        echo "failed: $command" >&2
        cat err.txt >&2
        exit 1
    fi
    count=$((count + 1))
done <commands.txt
[ "$count" -ge 8 ] || { echo "only $count commands found in README.md" >&2; exit 1; }
for file in mine.h5 mine.h5.report.json runs/mine/summary.json; do
    [ -s "$file" ] || { echo "$file was not written" >&2; exit 1; }
done
echo "$count commands ran"
