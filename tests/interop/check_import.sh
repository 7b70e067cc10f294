#!/bin/bash
# check_import.sh BUILD [CONFIG] - imports a packed checkpoint of the shape of
# configs/bitnet-b1.58-2b4t.json (1.2 GB, made here of random codes) and prints
# time and memory. Fails above 30 seconds of CPU (waiting for a busy disk is not
# counted, but shown) or twice the checkpoint's size.
set -euo pipefail
build=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
config=${2:-$root/configs/bitnet-b1.58-2b4t.json}
work=$build/tests-tmp/interop-import

rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
python3 -B - "$build/bin/bitnet-import" "$config" "$work" <<'PYTHON'
import json
import math
import os
import random
import resource
import struct
import subprocess
import sys
import time

LIMIT_S, LIMIT_SIZES = 30, 2

program, config, work = sys.argv[1:]
with open(config) as f:
    model = json.load(f)["model"]
hidden, ffn = model["hidden_size"], model["intermediate_size"]
kv = hidden // model["num_attention_heads"] * model["num_key_value_heads"]

tensors = [("model.embed_tokens.weight", "BF16", [model["vocab_size"], hidden]),
           ("model.norm.weight", "BF16", [hidden])]
for layer in range(model["num_hidden_layers"]):
    prefix = f"model.layers.{layer}."
    for name, rows, columns in (("self_attn.q_proj", hidden, hidden), ("self_attn.k_proj", kv, hidden),
                                ("self_attn.v_proj", kv, hidden), ("self_attn.o_proj", hidden, hidden),
                                ("mlp.gate_proj", ffn, hidden), ("mlp.up_proj", ffn, hidden),
                                ("mlp.down_proj", hidden, ffn)):
        tensors += [(f"{prefix}{name}.weight", "U8", [rows // 4, columns]),
                    (f"{prefix}{name}.weight_scale", "BF16", [1])]
    tensors += [(f"{prefix}{name}.weight", "BF16", [ffn if "ffn" in name else hidden])
                for name in ("input_layernorm", "post_attention_layernorm",
                             "self_attn.attn_sub_norm", "mlp.ffn_sub_norm")]

random.seed(1)
fields = bytes(a | b << 2 | c << 4 | d << 6 for a in range(3) for b in range(3)
               for c in range(3) for d in range(3))  # no code is 3
pool = {"U8": bytes(random.choices(fields, k=1 << 20)),
        "BF16": b"".join(struct.pack("<f", random.gauss(0, 0.02))[2:] for _ in range(1 << 18))}
pool = {dtype: some * 64 for dtype, some in pool.items()}


def write(f, dtype, size):
    while size > 0:
        size -= f.write(pool[dtype][:size])


header, at = {}, 0
for name, dtype, shape in tensors:
    size = math.prod(shape) * (1 if dtype == "U8" else 2)
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
with open(f"{work}/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for name, dtype, shape in tensors:
        if shape == [1]:
            f.write(b"\x00\x3d")  # 1/32
        else:
            begin, end = header[name]["data_offsets"]
            write(f, dtype, end - begin)
keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
        "tie_word_embeddings")
with open(f"{work}/config.json", "w") as f:
    json.dump({"model_type": "bitnet", "architectures": ["BitNetForCausalLM"],
               **{key: model[key] for key in keys},
               "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                       "quantization_mode": "offline"}}, f)

start = time.monotonic()
subprocess.run([program, work, "-o", f"{work}/model.h5", "--tokenizer", "byte", "--quiet"],
               check=True)
seconds = time.monotonic() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
size, peak = os.path.getsize(f"{work}/model.safetensors"), usage.ru_maxrss * 1024
print(f"import of {size / 1e9:.2f} GB: {seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of"
      f" CPU), at most {peak / 1e9:.2f} GB in memory ({peak / size:.2f} of its size),"
      f" {os.path.getsize(work + '/model.h5') / 1e9:.2f} GB written")
if usage.ru_utime + usage.ru_stime > LIMIT_S or peak > LIMIT_SIZES * size:
    sys.exit(f"error: expected at most {LIMIT_S} s of CPU and {LIMIT_SIZES} times the size")
PYTHON
