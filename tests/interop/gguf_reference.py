"""llama.cpp's architecture "bitnet" in numpy, straight from a GGUF file that the
gguf package reads. How activations are rounded is the caller's choice, because
that is where runtimes differ:

    per_token    one int8 scale for a whole row, as models here are trained
    blocks_256   one per 256 numbers (ggml's Q8_K, beside TQ1_0 and TQ2_0)
    blocks_32    one per 32, a float16 (ggml's Q8_0, beside Q4_0)
"""
import gguf
import numpy as np
from gguf import quants


def per_token(x):
    most = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
    return np.clip(np.rint(x * (127 / most)), -128, 127) * (most / 127)


def blocks_256(x):
    blocks = x.reshape(*x.shape[:-1], -1, 256)
    most = np.abs(blocks).max(-1, keepdims=True)
    most = np.where(most == 0, 1, most)
    return (np.rint(blocks * (127 / most)) * (most / 127)).reshape(x.shape)


def blocks_32(x):
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    step = np.abs(blocks).max(-1, keepdims=True) / 127
    codes = np.rint(np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0))
    return (codes * step.astype(np.float16).astype(np.float64)).reshape(x.shape)


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = {k: f.contents() for k, f in reader.fields.items()}
        self.types = {t.name: t.tensor_type.name for t in reader.tensors}
        self.bytes = {t.name: t.data for t in reader.tensors}
        self.tensors = {t.name: quants.dequantize(t.data, t.tensor_type).astype(np.float64)
                        for t in reader.tensors}
        self.heads = self.fields["bitnet.attention.head_count"]
        self.kv_heads = self.fields["bitnet.attention.head_count_kv"]
        self.eps = self.fields["bitnet.attention.layer_norm_rms_epsilon"]
        self.theta = self.fields["bitnet.rope.freq_base"]
        self.blocks = self.fields["bitnet.block_count"]

    def weight(self, name):
        scale = self.tensors.get(name + ".scale", np.ones(1))
        return self.tensors[name + ".weight"] * scale

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weight(name)

    def rotate(self, x):
        """Halves of a head, as Hugging Face's models do."""
        half = x.shape[-1] // 2
        angle = np.outer(np.arange(len(x)), self.theta ** (-np.arange(half) / half))[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                               b * np.cos(angle) + a * np.sin(angle)], -1)

    def attention(self, x, block, rounded):
        n = len(x)
        size = x.shape[-1] // self.heads
        q, k, v = (rounded(x) @ self.weight(f"{block}attn_{part}").T for part in "qkv")
        q = self.rotate(q.reshape(n, self.heads, size))
        k = self.rotate(k.reshape(n, self.kv_heads, size))
        share = self.heads // self.kv_heads
        k, v = (np.repeat(t.reshape(n, self.kv_heads, size), share, 1) for t in (k, v))
        score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        score = np.where(np.tril(np.ones((n, n), bool)), score, -np.inf)
        share = np.exp(score - score.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", share, v).reshape(n, -1)
        return rounded(self.norm(mixed, block + "attn_sub_norm")) @ \
            self.weight(block + "attn_output").T

    def feed_forward(self, x, block, rounded):
        gate = rounded(x) @ self.weight(block + "ffn_gate").T
        up = rounded(x) @ self.weight(block + "ffn_up").T
        inner = self.norm(gate / (1 + np.exp(-gate)) * up, block + "ffn_sub_norm")
        return rounded(inner) @ self.weight(block + "ffn_down").T

    def log_probabilities(self, ids, rounded):
        x = self.weight("token_embd")[ids]
        for i in range(self.blocks):
            block = f"blk.{i}."
            x = x + self.attention(self.norm(x, block + "attn_norm"), block, rounded)
            x = x + self.feed_forward(self.norm(x, block + "ffn_norm"), block, rounded)
        return log_softmax(self.norm(x, "output_norm") @ self.weight("token_embd").T)


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
