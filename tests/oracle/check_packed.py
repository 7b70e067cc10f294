#!/usr/bin/env python3
"""Compares packed_decoder.py with what the C side wrote and dumped.

Usage: check_packed.py DIR. Every DIR/NAME.h5 has a DIR/NAME.dump folder with
TENSOR.codes (int8), TENSOR.scale (float32), TENSOR.value (float32), raw. Files
DIR/bad-*.h5 must be refused.
"""
import glob
import os
import sys

try:
    import h5py  # noqa: F401
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: the packed-format oracle needs h5py and numpy "
             f"(Debian: apt-get install python3-h5py), run by {sys.executable}")

import packed_decoder

KINDS = {"codes": np.int8, "scale": np.float32, "value": np.float32}


def check(path):
    config, tokenizer, tensors = packed_decoder.decode(path)
    assert config["model"]["hidden_size"] == 64 and tokenizer == "byte"
    dump = path[:-3] + ".dump"
    compared = 0
    for name, tensor in tensors.items():
        for kind, dtype in KINDS.items():
            if kind not in tensor:
                continue
            want = np.fromfile(os.path.join(dump, f"{name}.{kind}"), dtype=dtype)
            got = np.ascontiguousarray(tensor[kind], dtype=dtype).ravel()
            assert got.tobytes() == want.tobytes(), f"{path}: {name}: {kind} differ"
            compared += 1
    assert compared == len(os.listdir(dump)) > 0, f"{path}: {compared} parts of {dump} compared"
    return compared


def main():
    folder = sys.argv[1]
    bad = sorted(glob.glob(os.path.join(folder, "bad-*.h5")))
    good = sorted(set(glob.glob(os.path.join(folder, "*.h5"))) - set(bad))
    assert good and bad, f"{folder}: nothing to compare"
    parts = sum(check(path) for path in good)
    for path in bad:
        try:
            packed_decoder.decode(path)
        except ValueError as error:
            print(f"{os.path.basename(path)}: {error}")
            continue
        sys.exit(f"{path}: expected to be refused")
    print(f"{len(good)} files, {parts} arrays equal, {len(bad)} bad files refused")


if __name__ == "__main__":
    main()
