#!/usr/bin/env python3
"""The scripts of examples/ on packed files of every encoding: the loader agrees
with the strict decoder, the plot shows the shares that are there.

usage: check_examples.py EXAMPLES ORACLE DIR (DIR/NAME.h5, without bad-*.h5)
"""
import glob
import os
import subprocess
import sys
import xml.etree.ElementTree as xml

EXAMPLES, ORACLE, FOLDER = sys.argv[1:4]
sys.path[:0] = [EXAMPLES, ORACLE]

import numpy as np  # noqa: E402

import load_packed  # noqa: E402
import packed_decoder  # noqa: E402


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check_loader(path):
    config, tokenizer, tensors = packed_decoder.decode(path)
    model = load_packed.load(path)
    assert model.config == config and model.tokenizer == tokenizer, path
    assert set(model.tensors) == set(tensors), path
    for name, tensor in model.tensors.items():
        strict = tensors[name]
        assert tensor.encoding == strict["encoding"], (path, name)
        assert same(tensor.weight().reshape(strict["value"].shape), strict["value"]), (path, name)
        if "codes" in strict:
            assert same(tensor.codes, strict["codes"]), (path, name)
            assert same(tensor.scale, strict["scale"]), (path, name)
    return model


def check_plot(path, model):
    svg = os.path.basename(path) + ".svg"
    out = subprocess.run([sys.executable, os.path.join(EXAMPLES, "plot_codes.py"), path, svg],
                         check=True, capture_output=True, text=True).stdout
    layers = {n: t for n, t in model.tensors.items() if t.codes is not None}
    space = "{http://www.w3.org/2000/svg}"
    rows = {}
    for rect in xml.parse(svg).getroot().iter(space + "rect"):
        rows.setdefault(rect.get("y"), []).append(float(rect.get("width")))
    bars = [widths for y, widths in rows.items() if y != "8"]  # the legend's row
    assert len(bars) == len(layers) == out.count("bits"), path
    for widths, layer in zip(bars, layers.values()):
        shares = [np.mean(np.sign(layer.codes) == sign) for sign in (-1, 0, 1)]
        assert np.allclose(np.array(widths) / 420, shares, atol=1e-4), (path, widths)


def main():
    files = sorted(set(glob.glob(os.path.join(FOLDER, "*.h5")))
                   - set(glob.glob(os.path.join(FOLDER, "bad-*.h5"))))
    assert files, f"{FOLDER}: no files"
    plots = 0
    for path in files:
        model = check_loader(path)
        if any(tensor.codes is not None for tensor in model.tensors.values()):
            check_plot(path, model)
            plots += 1
    assert plots, "no ternary file"
    refused = subprocess.run([sys.executable, os.path.join(EXAMPLES, "plot_codes.py")],
                             capture_output=True, text=True)
    assert refused.returncode == 1 and "usage" in refused.stderr
    print(f"{len(files)} files loaded alike, {plots} plotted")


main()
