#!/usr/bin/env python3
"""Plots the shares of negative, zero and positive codes (of -1, 0, +1 in a ternary
layer) in every quantized layer of a packed model.

usage: plot_codes.py MODEL.h5 OUT.svg

A script to read and change, like a notebook: load, compute, draw. It writes
the SVG by hand, so h5py and numpy are all it needs.
"""
import sys
from xml.sax.saxutils import escape

import numpy as np

import load_packed

# ---- load: every quantized layer of the model ----
if len(sys.argv) != 3:
    sys.exit(__doc__)
model = load_packed.load(sys.argv[1])
layers = {name: tensor for name, tensor in model.tensors.items() if tensor.codes is not None}
if not layers:
    sys.exit(f"{sys.argv[1]}: no quantized layers")

# ---- compute: what share of the codes has which sign; its bits of entropy ----
shares = {name: [float(np.mean(np.sign(layer.codes) == sign)) for sign in (-1, 0, 1)]
          for name, layer in layers.items()}
for name, share in shares.items():
    entropy = -sum(p * np.log2(p) for p in share if p > 0)
    print(f"{name:48} - {share[0]:.4f}  0 {share[1]:.4f}  + {share[2]:.4f}  {entropy:.3f} bits")

# ---- draw: one bar per layer ----
LEFT, WIDTH, BAR, GAP = 330, 420, 18, 6
COLOURS = ("#c0504d", "#d9d9d9", "#4f81bd")
height = 40 + len(shares) * (BAR + GAP)
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{height}" '
       'font-family="sans-serif" font-size="12">']
for k, (label, colour) in enumerate(zip(("-", "0", "+"), COLOURS)):
    svg.append(f'<rect x="{LEFT + 60 * k}" y="8" width="12" height="12" fill="{colour}"/>'
               f'<text x="{LEFT + 60 * k + 16}" y="18">{label}</text>')
for row, (name, share) in enumerate(shares.items()):
    y, x = 32 + row * (BAR + GAP), float(LEFT)
    svg.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
    for part, colour in zip(share, COLOURS):
        svg.append(f'<rect x="{x:.2f}" y="{y}" width="{part * WIDTH:.2f}" height="{BAR}" '
                   f'fill="{colour}"/>')
        x += part * WIDTH
svg.append("</svg>\n")
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write("\n".join(svg))
