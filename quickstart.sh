#!/bin/bash
# quickstart.sh - from a clone to a trained, exported, talking model: installs
# what is missing (Debian packages), builds into build/, prepares the text,
# trains configs/small.json, exports and verifies, generates a sample. Running
# it again repeats the training only.
#
# BITNET_QUICKSTART_ARGS: further arguments of bitnet-train, for example
#   BITNET_QUICKSTART_ARGS='--set data.train=my.txt --max-steps 500' ./quickstart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/setup.sh

read -r -a train_args <<<"${BITNET_QUICKSTART_ARGS:-}"
config=configs/small.json
run=runs/small

step "1/6 packages"
require_packages -- "${BITNET_BUILD_PACKAGES[@]}"

step "2/6 build (build/)"
configure=(-S . -B build -DCMAKE_BUILD_TYPE=Release)
if [ ! -e build/CMakeCache.txt ]; then # a developer's tree keeps its choices
    configure+=(-DBITNET_TESTS=OFF -DBITNET_BENCHES=OFF)
fi
cmake "${configure[@]}"
cmake --build build --parallel "$(nproc)"

step "3/6 training text"
case ${BITNET_QUICKSTART_ARGS:-} in
*data.train=*) echo "data.train is given, data/kjv.txt is not needed" ;;
*) scripts/prepare_corpus.sh ;;
esac

step "4/6 training ($config -> $run/)"
build/bin/bitnet-train "$config" --output-dir "$run" --overwrite "${train_args[@]}"

step "5/6 export and verification ($run/model.h5)"
build/bin/bitnet-export "$run" -o "$run/model.h5"

step "6/6 a sample"
build/bin/bitnet-generate "$run/model.h5" -p "And God said" -n 300

cat <<TEXT

==> done
  trained model    $run/            (checkpoints, config.json, metrics.jsonl, summary.json)
  packed model     $run/model.h5    (verified: $run/model.h5.report.json)
  programs         build/bin/

Try next:
  build/bin/bitnet-generate $run/model.h5 -p "In the city" -n 300 --temp 0.8 --seed 2
  build/bin/bitnet-inspect $run/model.h5
  build/bin/bitnet-train $config --set data.train=FILE --output-dir runs/mine
  build/bin/bitnet-train $config --set quantization.weight_bits=none --output-dir runs/float
  build/bin/bitnet-train --help
TEXT
