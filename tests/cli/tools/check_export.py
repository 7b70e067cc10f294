#!/usr/bin/env python3
"""Compares a packed file with the checkpoint it was exported from, by the
formulas of docs/numerics.md and without any of the project's C code.

usage: check_export.py ORACLE_FOLDER CHECKPOINT PACKED_FILE
"""
import sys

import h5py
import numpy as np


def check_ternary(name, weight, tensor):
    """codes = clamp(rne(w * (1/gamma)), -1, 1), gamma = max(mean|w|, 1e-5)."""
    codes, scale = tensor["codes"], np.asarray(tensor["scale"], dtype=np.float32)
    out, width = weight.shape
    per_row = scale.size // out
    group = -(-width // per_row)
    for g in range(per_row):
        part = weight[:, g * group:(g + 1) * group]
        gamma = scale.reshape(out, per_row)[:, g]
        mean = np.maximum(np.abs(part.astype(np.float64)).mean(axis=1), 1e-5)
        assert np.allclose(gamma, mean, rtol=1e-6, atol=0), f"{name}: scales of group {g}"
        inverse = np.float32(1) / gamma
        expected = np.clip(np.rint(part * inverse[:, None]), -1, 1)
        found = codes[:, g * group:(g + 1) * group]
        assert np.array_equal(expected, found), f"{name}: codes of group {g}"


def main(oracle, checkpoint, packed):
    sys.path.insert(0, oracle)
    from packed_decoder import decode

    tensors = decode(packed)[2]
    ternary = 0
    with h5py.File(checkpoint, "r") as file:
        params = file["params"]
        assert set(params) == set(tensors), set(params) ^ set(tensors)
        for name in params:
            weight = np.asarray(params[name], dtype=np.float32)
            if "codes" in tensors[name]:
                ternary += 1
                check_ternary(name, weight, tensors[name])
            else:
                assert np.array_equal(weight, tensors[name]["value"]), name
    assert ternary > 0
    print(f"{ternary} ternary tensors and {len(tensors) - ternary} others agree")


if __name__ == "__main__":
    main(*sys.argv[1:])
