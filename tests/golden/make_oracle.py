#!/usr/bin/env python3
"""Converts the PyTorch oracle (safetensors) into tests/golden/oracle.bin.

usage: make_oracle.py ORACLE_DIR OUT

The oracle is a two-layer model (vocabulary 65, hidden 64, 4 heads, 2 key/value
heads, FFN 128, context 32, batch 4) written in PyTorch from the formulas of
docs/numerics.md and run in double precision: init.*, three batches, and for
float, ternary per tensor and ternary in groups of 64 the first logits, every
first gradient, and the parameters after three AdamW steps. Its RoPE table was
made by PyTorch in float32, whose cosines differ in the last bit from a C
library's; it is kept as rope (32 rows of 8 cosines, then 8 sines).

OUT: lines "name dtype dim0,dim1,.. offset" (offset from the end of the
header), one blank line, zero padding to a multiple of 8, then the data, little-endian.
dtype: f8, f4 or i4. Parameters after three steps are kept as f4.
"""
import json
import struct
import sys

import numpy as np
import torch


def load(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    kinds = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
    for name, info in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        lo, hi = info["data_offsets"]
        a = np.frombuffer(raw[8 + n + lo:8 + n + hi], kinds[info["dtype"]])
        yield name, a.reshape(info["shape"])


def main():
    folder, out = sys.argv[1:]
    arrays = []
    frequency = 1.0 / (10000.0 ** (torch.arange(0, 16, 2).float() / 16))
    angle = torch.outer(torch.arange(32).float(), frequency)
    arrays.append(("rope", torch.cat([angle.cos(), angle.sin()], -1).numpy()))
    for name, a in load(f"{folder}/init_and_batches.safetensors"):
        arrays.append((name, a.astype("<i4") if a.dtype.kind == "i" else a))
    for variant in ("float", "ternary-tensor", "ternary-group64"):
        for name, a in load(f"{folder}/{variant}.safetensors"):
            arrays.append((f"{variant}.{name}", a.astype("<f4") if name.startswith("final") else a))
    header, data = "", b""
    for name, a in arrays:
        header += f"{name} {a.dtype.str[1:]} {','.join(map(str, a.shape))} {len(data)}\n"
        data += a.tobytes()
        data += b"\0" * (-len(data) % 8)
    header += "\n"
    header += "\0" * (-len(header) % 8)
    open(out, "wb").write(header.encode() + data)


main()
