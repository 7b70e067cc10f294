#!/usr/bin/env python3
"""The training step of bench-train in PyTorch: same maths, same shapes.

usage: torch_step.py [--shape A|B] [--threads N] [--bf16] [--compile] [--float] [--steps N]

pip install torch numpy. Prints one JSON object: tokens per second (best and
median step), resident memory, loss. Formulas: docs/numerics.md, with the
quantizers simulated in float and straight-through gradients by detach().
"""
import argparse
import contextlib
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {  # hidden, FFN, layers, heads, context, batch: as in bench/workload.c
    "A": (128, 384, 4, 4, 128, 16),
    "B": (384, 1024, 6, 6, 256, 8),
}
VOCAB = 65
QUANTIZED = True


class BitLinear(nn.Linear):
    def __init__(self, fan_in, fan_out):
        super().__init__(fan_in, fan_out, bias=False)
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x):
        if not QUANTIZED:
            return F.linear(x, self.weight)
        s = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
        xq = x + ((x * s).round().clamp(-128, 127) / s - x).detach()
        w = self.weight
        g = w.abs().mean().clamp(min=1e-5)
        wq = w + ((w / g).round().clamp(-1, 1) * g - w).detach()
        return F.linear(xq, wq)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


class Block(nn.Module):
    def __init__(self, hidden, ffn, heads):
        super().__init__()
        self.heads, self.size = heads, hidden // heads
        self.n1, self.n2, self.n3, self.n4 = Norm(hidden), Norm(hidden), Norm(hidden), Norm(ffn)
        self.q, self.k, self.v, self.o = (BitLinear(hidden, hidden) for _ in range(4))
        self.gate, self.up, self.down = BitLinear(hidden, ffn), BitLinear(hidden, ffn), BitLinear(ffn, hidden)

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape

        def heads(y):
            return y.view(batch, length, self.heads, self.size).transpose(1, 2)

        def rotate(y):
            a, b = y.chunk(2, -1)
            return (y * cos + torch.cat([-b, a], -1) * sin).to(y.dtype)

        h = self.n1(x)
        q, k, v = rotate(heads(self.q(h))), rotate(heads(self.k(h))), heads(self.v(h))
        a = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.o(self.n2(a.transpose(1, 2).reshape(batch, length, hidden)))
        h = self.n3(x)
        return x + self.down(self.n4(F.relu(self.gate(h)).square() * self.up(h)))


class Model(nn.Module):
    def __init__(self, hidden, ffn, layers, heads, context):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, hidden)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(hidden, ffn, heads) for _ in range(layers))
        self.norm = Norm(hidden)
        size = hidden // heads
        angle = torch.outer(torch.arange(context).float(), 10000.0 ** (-torch.arange(0, size, 2).float() / size))
        angle = torch.cat([angle, angle], -1)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, ids, labels):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.float().view(-1, VOCAB), labels.view(-1))


def main():
    global QUANTIZED
    p = argparse.ArgumentParser()
    p.add_argument("--shape", default="A", choices=SHAPES)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=20)
    for flag in ("--bf16", "--compile", "--float"):
        p.add_argument(flag, action="store_true")
    a = p.parse_args()
    QUANTIZED = not a.float
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    *dims, context, batch = SHAPES[a.shape]
    model = Model(*dims, context)
    run = torch.compile(model) if a.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    ids, labels = torch.randint(VOCAB, (2, batch, context))
    times = []
    for i in range(a.steps + 4):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16) if a.bf16 else contextlib.nullcontext():
            loss = run(ids, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if i >= 4:
            times.append(time.perf_counter() - start)
    tokens = batch * context
    print(json.dumps(dict(
        torch=torch.__version__, shape=a.shape, threads=a.threads, bf16=a.bf16, compile=a.compile,
        quantized=QUANTIZED, tokens_per_second_best=round(tokens / min(times)),
        tokens_per_second_median=round(tokens / statistics.median(times)),
        max_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, loss=round(loss.item(), 4))))


main()
