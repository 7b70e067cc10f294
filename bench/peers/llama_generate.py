#!/usr/bin/env python3
"""Prefill and decode of llama.cpp on random ternary weights (TQ2_0, the head and
the embedding Q6_K) in the shapes of bench-generate.

usage: llama_generate.py [--shape 0.7B|2B-4T] [--threads N] [--file MODEL.gguf]

pip install xllamacpp gguf numpy (scripts/interop_venv.sh). The model is written
where it is missing. Prints one JSON object: tokens per second, the best and the
median of the repetitions, after 512 and while making 64 tokens.
"""
import argparse
import json
import os
import statistics
import urllib.request

import gguf
import numpy as np
import xllamacpp

PROMPT, MAKE = 512, 64
SHAPES = {  # hidden, FFN, layers, heads, key/value heads, vocabulary: as in bench/workload.c
    "0.7B": (1536, 4096, 24, 16, 16, 32002),
    "2B-4T": (2560, 6912, 30, 20, 5, 128256),
}
BLOCK = 256  # weights of a block of both types


def ternary(rng, out, fan_in):
    """Rows of TQ2_0 blocks: 64 bytes of four codes 0..2, a scale."""
    blocks = out * fan_in // BLOCK
    four = np.array([a | b << 2 | c << 4 | d << 6 for a in range(3) for b in range(3)
                     for c in range(3) for d in range(3)], np.uint8)
    data = np.empty((blocks, 66), np.uint8)
    data[:, :64] = four[rng.integers(0, 81, (blocks, 64), np.uint8)]
    data[:, 64:] = np.frombuffer(np.float16(0.02).tobytes(), np.uint8)
    return data.reshape(out, -1)


def six_bits(rng, out, fan_in):
    """Rows of Q6_K blocks: 192 bytes of codes, 16 scales, a scale of scales."""
    blocks = out * fan_in // BLOCK
    data = rng.integers(0, 256, (blocks, 210), np.uint8)
    data[:, 192:208] = 8
    data[:, 208:] = np.frombuffer(np.float16(1e-4).tobytes(), np.uint8)
    return data.reshape(out, -1)


def write(path, shape):
    hidden, ffn, layers, heads, kv_heads, vocab = SHAPES[shape]
    narrow = hidden // heads * kv_heads
    rng = np.random.default_rng(5)
    w = gguf.GGUFWriter(path + ".part", "llama")
    w.add_block_count(layers)
    w.add_context_length(1024)
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(hidden // heads)
    w.add_vocab_size(vocab)
    w.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens += [f"t{i}" for i in range(len(tokens), vocab)]
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * vocab)
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (vocab - 259))
    six, two = gguf.GGMLQuantizationType.Q6_K, gguf.GGMLQuantizationType.TQ2_0
    w.add_tensor("token_embd.weight", six_bits(rng, vocab, hidden), raw_dtype=six)
    w.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    for i in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            w.add_tensor(f"blk.{i}.{name}.weight", np.ones(hidden, np.float32))
        for name, out, fan_in in (("attn_q", hidden, hidden), ("attn_k", narrow, hidden),
                                  ("attn_v", narrow, hidden), ("attn_output", hidden, hidden),
                                  ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden),
                                  ("ffn_down", hidden, ffn)):
            w.add_tensor(f"blk.{i}.{name}.weight", ternary(rng, out, fan_in), raw_dtype=two)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(path + ".part", path)


def serve(path, threads):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def ask(server, prompt, count):
    request = {"prompt": prompt, "n_predict": count, "temperature": 0, "cache_prompt": False,
               "ignore_eos": True}
    request = urllib.request.Request(server.listening_address + "/completion",
                                     json.dumps(request).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["timings"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="0.7B", choices=SHAPES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--file")
    a = parser.parse_args()
    path = a.file or f"random-{a.shape}.gguf"
    if not os.path.exists(path):
        write(path, a.shape)
    server = serve(path, a.threads)
    rng = np.random.default_rng(3)
    prompt = rng.integers(259, SHAPES[a.shape][5], PROMPT).tolist()
    ask(server, prompt[:16], 1)
    runs = [ask(server, prompt, MAKE) for _ in range(a.repeat)]
    result = {"shape": a.shape, "threads": a.threads}
    for name, key in (("prefill", "prompt_per_second"), ("decode", "predicted_per_second")):
        rates = [r[key] for r in runs]
        result[name] = {"best": round(max(rates), 1), "median": round(statistics.median(rates), 1)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
