"""Reads a packed model file (docs/packed-format.md) with h5py and numpy alone.

    import load_packed
    model = load_packed.load("model.h5")
    model.config["model"]["hidden_size"]
    layer = model.tensors["layers.0.linear.weight"]
    layer.codes                  # int8 [out, in], of -1, 0, 1 if ternary; None if not quantized
    layer.scale                  # float32, spread by layer.scales() to [out, in]
    layer.weight()               # float32 [out, in], what the network computes with

HDF5 checks its own checksums on reading. This page trusts the file otherwise:
the strict readers are src/checkpoint/packed_read.c and, in Python,
tests/oracle/packed_decoder.py.
"""
import json
from dataclasses import dataclass
from types import SimpleNamespace

import h5py
import numpy as np


@dataclass
class Tensor:
    encoding: str
    shape: tuple
    values: np.ndarray = None  # float32, of a tensor that is not quantized
    codes: np.ndarray = None  # int8 [out, in]
    scale: np.ndarray = None  # float32 [1], or [out, groups]
    group_size: int = 0  # 0 per tensor, -1 per row, else columns per scale

    def scales(self):
        """The scale of every weight, [out, in]."""
        out, cols = self.shape
        if self.group_size == 0:
            return np.broadcast_to(self.scale, (out, cols))
        length = cols if self.group_size == -1 else self.group_size
        return np.repeat(self.scale, length, axis=1)[:, :cols]

    def weight(self):
        return self.values if self.codes is None else self.codes * self.scales()


# Bits of a field, distance of two codes, largest code.
FIELDS = {"binary1": (1, 2, 1), "int2": (2, 2, 3), "int3": (3, 1, 3), "int4": (4, 1, 7),
          "int8": (8, 1, 127)}


def unpack(packed, encoding, cols):
    """Digits of a byte, lowest first: base 4, four of them, or base 3, five; or
    fields of a row's stream of bits."""
    if encoding in FIELDS:
        bits, distance, largest = FIELDS[encoding]
        stream = np.unpackbits(packed, axis=1, bitorder="little")[:, :cols * bits]
        fields = stream.reshape(len(packed), cols, bits) @ (1 << np.arange(bits))
        return (distance * fields - largest).astype(np.int8)
    base, count = (4, 4) if encoding == "ternary2" else (3, 5)
    digits = packed[:, :, None] // base ** np.arange(count, dtype=np.uint8) % base
    return (digits.reshape(len(packed), -1).astype(np.int8) - 1)[:, :cols]


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def read_tensor(file, name):
    data, attrs = file[name][...], file[name].attrs
    encoding, shape = text(attrs["encoding"]), tuple(int(n) for n in attrs["shape"])
    if encoding in ("ternary2", "base3x5", *FIELDS):
        return Tensor(encoding, shape, codes=unpack(data, encoding, shape[1]),
                      scale=file[name + "_scale"][...], group_size=int(attrs["group_size"]))
    if encoding == "bfloat16":
        data = (data.astype(np.uint32) << 16).view(np.float32)
    return Tensor(encoding, shape, values=data.astype(np.float32))


def load(path):
    """config (a dict), tokenizer ("byte", or JSON text) and tensors by name."""
    with h5py.File(path, "r") as file:
        if text(file.attrs.get("format", "")) != "bitnet-packed":
            raise ValueError(f"{path}: not a packed model")
        tokenizer = file.attrs.get("tokenizer", file.attrs.get("tokenizer_json"))
        names = [name for name in file if "encoding" in file[name].attrs]
        return SimpleNamespace(config=json.loads(text(file.attrs["config_json"])),
                               tokenizer=text(tokenizer),
                               tensors={name: read_tensor(file, name) for name in names})
