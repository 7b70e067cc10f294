#!/usr/bin/env python3
"""Decodes a packed model file with h5py and numpy alone.

Written from docs/packed-format.md, independently of the C code: what this and
the C reader agree on is the format. `decode(path)` returns the config, the
tokenizer and per tensor its codes, scales and float32 values, and raises
ValueError for a file that breaks the format. As a program it lists a file.
"""
import json
import sys

import h5py
import numpy as np

FILTERS = {"gzip", "shuffle", "fletcher32"}
# Bits of a field, distance of two codes, largest code.
FIELDS = {"binary1": (1, 2, 1), "int2": (2, 2, 3), "int3": (3, 1, 3), "int4": (4, 1, 7), "int8": (8, 1, 127)}
FLOATS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


def need(ok, what):
    if not ok:
        raise ValueError(what)


def crc32c(data, table=[]):
    if not table:
        for byte in range(256):
            for _ in range(8):
                byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
            table.append(byte)
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def text(attrs, name):
    return attrs[name].decode() if isinstance(attrs[name], bytes) else str(attrs[name])


def check_root(attrs):
    data = b""
    for name in sorted(n for n in attrs if n != "attributes_crc32c"):
        value = attrs[name]
        data += name.encode() + b"\0" + (bytes(value) if isinstance(value, bytes) else value.tobytes())
    need(int(attrs["attributes_crc32c"]) == crc32c(data), "root attributes: checksum differs")
    need(text(attrs, "format") == "bitnet-packed", "not a packed model")
    need(int(attrs["format_version"]) == 1, "unknown version")
    need(("tokenizer" in attrs) != ("tokenizer_json" in attrs), "one tokenizer")


def load(file, name, dtype, shape):
    need(name in file, f"{name}: missing")
    d = file[name]
    need(d.dtype == dtype, f"{name}: {d.dtype}, expected {dtype}")
    need(d.shape == tuple(shape) == d.maxshape, f"{name}: {d.shape}, expected {tuple(shape)}")
    need(not d.is_virtual and not d.external and set(d._filters) <= FILTERS, f"{name}: storage")
    data = d[...]
    need(int(d.attrs["crc32c"]) == crc32c(data.tobytes()), f"{name}: checksum differs")
    return data


def unpack(packed, encoding, cols):
    """Codes -1, 0, +1 [out, cols] of packed rows; padding must be code 0."""
    base, per = (4, 4) if encoding == "ternary2" else (3, 5)
    need(base == 4 or packed.max() <= 242, "a byte above 242")
    digits = packed[:, :, None] // base ** np.arange(per, dtype=np.uint8) % base
    codes = digits.reshape(len(packed), -1).astype(np.int8) - 1
    need(codes.max() <= 1, "code 3")
    need(not codes[:, cols:].any(), "padding is not code 0")
    return codes[:, :cols]


def unpack_fields(packed, encoding, cols):
    """Codes [out, cols] of rows of bit fields; unused bits must be 0."""
    bits, step, largest = FIELDS[encoding]
    stream = np.unpackbits(packed, axis=1, bitorder="little")
    need(not stream[:, cols * bits:].any(), "an unused bit is 1")
    fields = stream[:, :cols * bits].reshape(len(packed), cols, bits).astype(int) @ (1 << np.arange(bits))
    codes = step * fields - largest
    need(codes.max() <= largest, "a field above that of the largest code")
    return codes.astype(np.int8)


def decode_codes(file, name, encoding, shape, group):
    need(len(shape) == 2, f"{name}: shape {shape}")
    out, cols = shape
    need(group in (0, -1) or min(32, cols) <= group <= cols, f"{name}: group_size {group}")
    length = group if group > 0 else cols
    if encoding in FIELDS:
        codes = load(file, name, np.uint8, (out, -(-cols * FIELDS[encoding][0] // 8)))
        codes = unpack_fields(codes, encoding, cols)
    else:
        per_byte = 4 if encoding == "ternary2" else 5
        codes = unpack(load(file, name, np.uint8, (out, -(-cols // per_byte))), encoding, cols)
    scale = load(file, name + "_scale", np.float32, (1,) if group == 0 else (out, -(-cols // length)))
    need(np.isfinite(scale).all() and (scale > 0).all(), f"{name}_scale: not finite and positive")
    spread = np.broadcast_to(scale.reshape(1, 1), (out, 1)) if group == 0 else scale
    weight = codes * np.repeat(spread, length, axis=1)[:, :cols]
    return {"codes": codes, "scale": scale, "value": weight.astype(np.float32)}


def decode_float(file, name, encoding, shape):
    data = load(file, name, FLOATS[encoding], shape)
    if encoding == "bfloat16":
        data = (data.astype(np.uint32) << 16).view(np.float32)
    need(np.isfinite(data).all(), f"{name}: not finite")
    return {"value": data.astype(np.float32)}


def decode(path):
    with h5py.File(path, "r") as file:
        check_root(file.attrs)
        tensors, scales = {}, set()
        for name in file:
            need(isinstance(file.get(name, getlink=True), h5py.HardLink), f"{name}: a link")
            need(isinstance(file[name], h5py.Dataset), f"{name}: not a dataset")
            attrs = file[name].attrs
            if "encoding" not in attrs:
                scales.add(name)
                continue
            encoding, shape = text(attrs, "encoding"), [int(n) for n in attrs["shape"]]
            if encoding in FIELDS or encoding in ("ternary2", "base3x5"):
                tensors[name] = decode_codes(file, name, encoding, shape, int(attrs["group_size"]))
            else:
                need(encoding in FLOATS, f"{name}: encoding {encoding}")
                tensors[name] = decode_float(file, name, encoding, shape)
            tensors[name]["encoding"] = encoding
        need(scales == {n + "_scale" for n, t in tensors.items() if "codes" in t}, "stray scales")
        key = "tokenizer" if "tokenizer" in file.attrs else "tokenizer_json"
        return json.loads(text(file.attrs, "config_json")), text(file.attrs, key), tensors


if __name__ == "__main__":
    for tensor_name, tensor in decode(sys.argv[1])[2].items():
        print(tensor_name, tensor["encoding"], list(tensor["value"].shape))
