"""Activation codes of a model, here and in transformers.

A value that lies next to the border between two int8 codes falls to either side
of it when its last bit differs. The helpers of this file find these places and
take them out of a comparison: transformers' own modules run with the codes of
this project put in wherever theirs differ. A code that differs then, although
every code before it is the same, is a first flip.
"""
import contextlib

import numpy as np
import torch
from transformers.integrations import bitnet
from transformers.models.bitnet.modeling_bitnet import BitNetRMSNorm, apply_rotary_pos_emb

# The modules of a layer by the quantized input that they share, in the order of the graph.
SITES = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"],
         ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]


def read_trace(path, rows, time):
    """What dump_logits wrote: a list of (op, array [rows, time, columns])."""
    data, at, nodes = np.memmap(path, np.uint8, "r"), 0, []
    while at < len(data):
        op, count, size = bytes(data[at:at + 32]).split()
        end = at + 32 + int(count) * int(size)
        nodes.append((op.decode(), data[at + 32:end].view(np.int8 if size == b"1" else np.float32)))
        at = end
    each = len(nodes) // rows
    return [(nodes[i][0], np.stack([nodes[r * each + i][1].reshape(time, -1) for r in range(rows)]))
            for i in range(each)]


def codes_of(nodes):
    """Codes by the name of the first module that reads them; {} of a float model."""
    codes = [array for op, array in nodes if op == "act_quant"]
    return {f"model.layers.{i // len(SITES)}.{SITES[i % len(SITES)][0]}": array
            for i, array in enumerate(codes)}


class Quantizers:
    """The activation quantizers of a transformers model, watched, and where `given`
    codes differ from theirs, overruled."""

    def __init__(self, model, rows, given=None):
        self.model, self.rows, self.given = model, rows, given
        self.part = slice(0, rows)  # of the rows, that a call sees
        self.codes, self.flipped = {}, {}
        self.tie = 0.0  # how far from a border a flipped code was, in codes
        self.jump = 0  # how many codes it moved
        self.site = {}  # by module: the one that stands for its input
        for layer in range(model.config.num_hidden_layers):
            for group in SITES:
                for name in group:
                    self.site[f"model.layers.{layer}.{name}"] = f"model.layers.{layer}.{group[0]}"

    def settle(self, name, x, codes, scale):
        """The codes to go on with."""
        site = self.site[name]
        if self.given is not None:
            given = torch.from_numpy(self.given[site][self.part]).to(codes.dtype)
            flipped = given != codes
            value = (x * scale)[flipped].double()
            if len(value):
                self.tie = max(self.tie, float((value - value.floor() - 0.5).abs().max()))
                self.jump = max(self.jump, int((given - codes)[flipped].abs().max()))
            self.note(self.flipped, site, flipped)
            codes = given
        self.note(self.codes, site, codes.to(torch.int8))
        return codes

    def note(self, store, site, values):
        if site not in store:
            store[site] = np.zeros((self.rows,) + tuple(values.shape[1:]), values.numpy().dtype)
        store[site][self.part] = values.numpy()

    @contextlib.contextmanager
    def attached(self):
        """Their quantizers report here while this lasts."""
        hooks, current, fake = [], [None], bitnet.ActQuant

        class Reporting:
            """In place of ActQuant, whose result is codes / scale."""

            @staticmethod
            def apply(x):
                scale = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
                if x.dtype == torch.float64:  # it would round to float32
                    return self.settle(current[0], x, (x * scale).round().clamp(-128, 127),
                                       scale) / scale
                theirs = fake.apply(x)
                codes = (theirs * scale).round()
                settled = self.settle(current[0], x, codes, scale)
                return torch.where(settled == codes, theirs, settled / scale)

        def packed(name, quantize):
            def run(x):
                codes, scale = quantize(x)
                return self.settle(name, x, codes, scale), scale
            return run

        for name, module in self.model.named_modules():
            if isinstance(module, bitnet.AutoBitLinear):
                hooks.append(module.register_forward_pre_hook(
                    lambda module, inputs, name=name: current.__setitem__(0, name)))
            elif isinstance(module, bitnet.BitLinear):
                module.activation_quant = packed(name, module.activation_quant)
        bitnet.ActQuant = Reporting
        try:
            yield self
        finally:
            bitnet.ActQuant = fake
            for hook in hooks:
                hook.remove()
            for module in self.model.modules():
                if isinstance(module, bitnet.BitLinear):
                    del module.activation_quant

    def count(self):
        """(flipped codes, codes)"""
        return (sum(int(x.sum()) for x in self.flipped.values()),
                sum(x.size for x in self.flipped.values()))

    def positions(self):
        """Where there is a flipped code: bool [rows, time]."""
        return np.any([x.any(-1) for x in self.flipped.values()], axis=0)


def in_float64(model):
    """The model, its weights what they are and its arithmetic double. Changes `model`."""
    model = model.double()
    for module in model.modules():
        if isinstance(module, BitNetRMSNorm):
            module.forward = lambda x, m=module: m.weight * (
                x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon))
    return model


def compare_layers(model, nodes, quantizers):
    """Every part of every layer of `model`, on the inputs that it had here: by part,
    the largest difference relative to the largest element of its row."""
    worst, steps = {}, iter(nodes)

    def take(op):
        found, array = next(steps)
        assert found == op, f"{op} expected in the trace, found {found}"
        return torch.from_numpy(np.ascontiguousarray(array))

    def same(part, ours, theirs):
        size = ours.abs().amax(-1, keepdim=True).clamp(min=1e-30)
        worst[part] = max(worst.get(part, 0), float(((ours - theirs).abs() / size).max()))

    def product(x, *modules):
        take("act_quant")
        results = []
        for module in modules:
            results.append(take("bitlinear"))
            same("products", results[-1], module(x))
        return results

    def heads(x, dim):
        return x.view(x.shape[0], x.shape[1], -1, dim).transpose(1, 2)

    def flat(x):
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)

    def norm(x, module):
        y = take("rmsnorm")
        same("norms", y, module(x))
        return y

    def add(x, y):
        z = take("add")
        same("sums", z, x + y)
        return z

    def attention(q, k, v, module):
        dim = module.head_dim
        position = torch.arange(q.shape[1])[None]
        turned = [flat(x) for x in apply_rotary_pos_emb(heads(q, dim), heads(k, dim),
                                                        *model.model.rotary_emb(q, position))]
        q, k = take("rope"), take("rope")
        same("rotary embedding", q, turned[0])
        same("rotary embedding", k, turned[1])
        y = take("attention")
        same("attention", y, flat(torch.nn.functional.scaled_dot_product_attention(
            heads(q, dim), heads(k, dim), heads(v, dim), is_causal=True, scale=module.scaling,
            enable_gqa=True)))
        return y

    with torch.no_grad(), quantizers.attached():
        x = take("embedding")
        for layer in model.model.layers:
            h = norm(x, layer.input_layernorm)
            q, k, v = product(h, *(getattr(layer.self_attn, n) for n in ("q_proj", "k_proj",
                                                                         "v_proj")))
            h = norm(attention(q, k, v, layer.self_attn), layer.self_attn.attn_sub_norm)
            x = add(x, product(h, layer.self_attn.o_proj)[0])
            h = norm(x, layer.post_attention_layernorm)
            gate, up = product(h, layer.mlp.gate_proj, layer.mlp.up_proj)
            h = take("glu")
            same("gates", h, layer.mlp.act_fn(gate) * up)
            x = add(x, product(norm(h, layer.mlp.ffn_sub_norm), layer.mlp.down_proj)[0])
        h = norm(x, model.model.norm)
        same("logits", take("linear"), model.lm_head(h))
    return worst
