#!/bin/bash
# check_tokenizers.sh BUILD - compares with a live installation of the PyPI
# package "tokenizers", in a virtual environment below BUILD: tokens of long
# multilingual and hostile texts for every tokenizer of tests/golden/tokenizer,
# and the vocabulary that bitnet-tokenize trains. Needs PyPI the first time.
set -euo pipefail
build=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$build/venv-tokenizers
work=$build/tests-tmp/interop-tokenizers

if ! "$venv/bin/python" -c 'import tokenizers' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'tokenizers==0.23.3'
fi
rm -rf "$work"
mkdir -p "$work"

"$venv/bin/python" -B "$root/tests/golden/make_tokenizer_golden.py" --check \
    "$build/bin/tests/test_tokenizer_golden" "$root/tests/golden/tokenizer"

"$build/bin/bitnet-tokenize" train "$root/data/kjv.txt" -o "$work/ours.json" \
    --vocab-size 8192 --min-frequency 2 --special '<|endoftext|>' >"$work/train.json"
"$venv/bin/python" -B - "$root/data/kjv.txt" "$work/ours.json" <<'PYTHON'
import json
import sys

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

corpus, ours = sys.argv[1:]
reference = Tokenizer(models.BPE())
reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
reference.train([corpus], trainers.BpeTrainer(
    vocab_size=8192, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
with open(ours, encoding="utf8") as f:
    a = json.load(f)["model"]
b = json.loads(reference.to_str())["model"]
assert a["vocab"] == b["vocab"], "the trained vocabularies differ"
assert [list(m) for m in a["merges"]] == [list(m) for m in b["merges"]], "the merges differ"
with open(corpus, encoding="ascii") as f:
    text = f.read()
loaded = Tokenizer.from_file(ours)
assert loaded.encode(text).ids == reference.encode(text).ids
print(f"tokenizers {tokenizers.__version__}: {len(a['vocab'])} tokens and "
      f"{len(a['merges'])} merges trained, all equal")
PYTHON
