#!/usr/bin/env python3
"""An exported packed folder in mlx-lm, on a CPU.

usage: check_mlx.py BIN_DIR WORK_DIR, after check_transformers.py there

mlx-lm has one way to multiply by packed weights, a Metal kernel, which a CPU does
not run; what it says then is printed. The sum that the kernel states is put in
its place, in mlx's own operations; names, scales, packing, and all the rest of
the model are mlx-lm's. It does not quantize activations, so it is compared with
the same weights here, imported as float. Exit 1 if a logit differs by more than
1e-4 of the largest of its position.
"""
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

import mlx.core as mx
import numpy as np
from mlx_lm import load
from mlx_lm.models import bitlinear_layers
from safetensors.numpy import load_file, save_file

TIME = 32  # of check_transformers.py's small shape
bin_dir, work = sys.argv[1:]
mx.set_default_device(mx.cpu)


def path(name):
    return os.path.join(work, name)


def tool(name, *arguments):
    subprocess.run([os.path.join(bin_dir, name), *arguments], check=True)


def product(layer, x, packed):
    """The kernel's sum: field j of packed row r is row r + j rows / 4."""
    weight = mx.concatenate([(packed >> 2 * j & 3).astype(x.dtype) - 1 for j in range(4)])
    scale = layer.weight_scale[0]
    return x @ weight.T * (1 / scale if layer.invert_weight_scales else scale)


def without_quantizers(folder):
    """Makes a folder with codes as numbers one with codes times scales as floats."""
    file, config = os.path.join(folder, "model.safetensors"), os.path.join(folder, "config.json")
    state = load_file(file)
    for name in [n for n in state if n.endswith("_scale")]:
        state[name[:-len("_scale")]] *= state.pop(name)
    save_file(state, file, {"format": "pt"})
    with open(config) as f:
        keys = json.load(f)
    del keys["quantization_config"]
    with open(config, "w") as f:
        json.dump(keys, f)


def main():
    small, failed = path("small"), 0
    for kind in ("random", "trained"):
        for name, form in (("mlx", "packed"), ("mlx-float", "float32")):
            shutil.rmtree(path(name), ignore_errors=True)
            tool("bitnet-export", f"{small}/tensor-{kind}", "--format", "safetensors",
                 "--hf-weights", form, "-o", path(name), "--quiet")
        without_quantizers(path("mlx-float"))
        tool("bitnet-import", path("mlx-float"), "-o", path("mlx.h5"), "--tokenizer", "byte",
             "--quiet")
        tool("tests/dump_logits", path("mlx.h5"), f"{small}/ids", str(TIME), path("mlx.logits"),
             path("mlx.trace"))
        ids = np.fromfile(f"{small}/ids", np.int32).reshape(-1, TIME)
        ours = np.fromfile(path("mlx.logits"), np.float32).reshape(*ids.shape, -1)

        model, _ = load(path("mlx"))
        kernel = bitlinear_layers.BitLinear.execute_matmul_kernel
        try:
            mx.eval(model(mx.array(ids)))
            said = "runs"
        except RuntimeError as error:
            said = f"says {error!s:.60}"
            bitlinear_layers.BitLinear.execute_matmul_kernel = product
        theirs = np.array(model(mx.array(ids)))
        bitlinear_layers.BitLinear.execute_matmul_kernel = kernel
        worst = (np.abs(ours - theirs) / np.abs(ours).max(-1, keepdims=True)).max()
        print(f"mlx-lm {version('mlx-lm')}, mlx {version('mlx')}, {kind}: loads; its kernel {said};"
              f" logits differ by at most {worst:.1e} of their position's largest", flush=True)
        failed |= not worst <= 1e-4
    return failed


if __name__ == "__main__":
    sys.exit(main())
