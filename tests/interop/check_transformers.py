#!/usr/bin/env python3
"""transformers' BitNetForCausalLM against this project, in both directions.

usage: check_transformers.py BIN_DIR WORK_DIR CORPUS [REPORT.md]

Exports of a random and a trained model are loaded by transformers; models that
transformers saved are imported. In float32, on 4096 tokens, it reports
  the share of positions within 1e-4 in every logit, and whether it is 95 %,
  the difference of the mean loss, and whether it is at most 1e-5.
The other positions come from single activation codes that a last-bit
difference flips. How many positions that must cost shows a comparison of
transformers with itself, its two linear classes on the same packed weights,
and a count of the codes that differ between its float32 and float64 runs.

Exit 1 if any model misses one of the two bounds.
"""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitNetConfig, BitNetForCausalLM
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import bitnet

ROWS, TIME = 32, 128
SHARE, LOSS = 0.95, 1e-5

torch.set_num_threads(2)
torch._dynamo.config.disable = True  # compiled helpers: slow to start, the same function
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, bin_dir, work, corpus):
        self.bin, self.work, self.corpus = bin_dir, work, corpus
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        with open(corpus, "rb") as f:
            text = f.read()[-ROWS * TIME - 1:]
        self.ids = np.frombuffer(text[:-1], np.uint8).astype(np.int32).reshape(ROWS, TIME)
        self.labels = np.frombuffer(text[1:], np.uint8).astype(np.int64).reshape(ROWS, TIME)
        self.ids.tofile(self.path("ids"))
        self.results, self.failed = [], False

    def path(self, name):
        return os.path.join(self.work, name)

    def tool(self, name, *arguments):
        return call(os.path.join(self.bin, name), *arguments)

    def train(self, name, steps, *settings):
        arguments = [x for s in settings for x in ("--set", s)]
        self.tool("bitnet-train", os.path.join(os.path.dirname(__file__), "interop.json"),
                  "--set", f"data.train={self.corpus}", *arguments, "--max-steps", steps,
                  "--device", "cpu", "--quiet", "--output-dir", self.path(name))
        return self.path(name)

    def our_logits(self, model):
        out = self.path("logits")
        call(os.path.join(self.bin, "tests", "dump_logits"), model, self.path("ids"), TIME, out)
        return np.fromfile(out, np.float32).reshape(ROWS, TIME, -1)

    def their_logits(self, model):
        with torch.no_grad():
            ids = torch.from_numpy(self.ids.astype(np.int64))
            return torch.cat([model(row).logits for row in ids.split(16)]).float().numpy()

    def loss(self, logits):
        log_p = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
        return -np.take_along_axis(log_p, self.labels[..., None], -1).mean()

    def compare(self, what, ours, theirs):
        worst = np.abs(ours.astype(np.float64) - theirs).max(-1)
        share, median = (worst <= 1e-4).mean(), float(np.median(worst))
        delta = abs(self.loss(ours) - self.loss(theirs))
        bounds = bool(share >= SHARE), bool(delta <= LOSS)
        same = all(bounds)
        self.failed |= not same
        self.results.append((what, share, median, worst.max(), delta, bounds, same))
        print("%-48s %6.2f %% within 1e-4, median %.1e, largest %.1e, loss %.1e%s"
              % (what, 100 * share, median, worst.max(), delta, "" if same else "  FAILED"),
              flush=True)

    def export(self, model, form):
        folder = self.path("export")
        shutil.rmtree(folder, ignore_errors=True)
        self.tool("bitnet-export", model, "--format", "safetensors", "--hf-weights", form, "-o",
                  folder, "--quiet")
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def imported(self, folder, *arguments):
        out = self.path("imported.h5")
        report = json.loads(self.tool("bitnet-import", folder, "-o", out, "--json", "--quiet",
                                      "--tokenizer", "byte", *arguments))
        return out, report


def dividing(b):
    """The packed export with transformers' other linear class."""
    folder = b.path("export")
    state = load_file(os.path.join(folder, "model.safetensors"))
    for name in state:
        if name.endswith("_scale"):
            state[name] = 1 / state[name]
    save_file(state, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    config["quantization_config"]["linear_class"] = "bitlinear"
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def check_exports(b):
    settings = {"tensor": ["quantization.weight_scale=tensor"],
                "tensor, untied, silu": ["quantization.weight_scale=tensor", "model.hidden_act=silu",
                                         "model.tie_word_embeddings=false"],
                "row": ["quantization.weight_scale=row"],
                "group 64": ["quantization.weight_scale=group", "quantization.group_size=64"],
                "float": ["quantization.weight_bits=none"],
                "float activations": ["quantization.activation_bits=none"]}
    for scheme, keys in settings.items():
        quantized = not scheme.startswith("float")
        for steps, kind in ((1, "random"), (150, "trained")):
            folder = b.train(f"{scheme} {kind}".replace(" ", "-").replace(",", ""), steps, *keys)
            ours = b.our_logits(folder)
            forms = ["float32"]
            if quantized and scheme.startswith("tensor"):
                forms += ["packed", "shadow"]
            for form in forms:
                theirs = b.their_logits(b.export(folder, form))
                b.compare(f"export {scheme}, {kind}, {form}", ours, theirs)
                if form == "packed":
                    b.compare(f"transformers with itself, {scheme}, {kind}", theirs,
                              b.their_logits(dividing(b)))


def quantize_offline(model, divide):
    """The state that Hugging Face's offline checkpoints have: packed weights and
    their scales."""
    state = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("proj.weight"):
            scale = tensor.float().abs().mean().clamp(min=1e-5)
            codes = (tensor.float() / scale).round().clamp(-1, 1)
            state[name] = bitnet.pack_weights(codes)
            state[name + "_scale"] = (1 / scale if divide else scale).reshape(1)
        elif name != "lm_head.weight" or not model.config.tie_word_embeddings:
            state[name] = tensor.contiguous()
    return state


def hf_config(**changes):
    shape = dict(vocab_size=256, hidden_size=128, intermediate_size=384, num_hidden_layers=3,
                 num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                 bos_token_id=None, eos_token_id=None, rope_theta=10000.0)
    shape.update(changes)
    return BitNetConfig(**shape)


def randomize(model):
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            torch.nn.init.normal_(parameter, 0, 0.05)
    return model


def save_with(b, state, config, quantization):
    folder = b.path("theirs")
    shutil.rmtree(folder, ignore_errors=True)
    config.save_pretrained(folder)
    with open(os.path.join(folder, "config.json")) as f:
        text = json.load(f)
    text["architectures"] = ["BitNetForCausalLM"]
    if quantization:
        text["quantization_config"] = dict(quantization, quant_method="bitnet")
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(text, f)
    save_file(state, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    return folder


def check_imports(b):
    auto = {"linear_class": "autobitlinear"}
    cases = {
        "float": (None, None),
        "online, shadow weights": (dict(auto, quantization_mode="online"), None),
        "offline, packed, scale multiplies": (dict(auto, quantization_mode="offline"), False),
        "offline, packed, scale divides": ({"linear_class": "bitlinear"}, True),
    }
    for tied in (True, False):
        for what, (quantization, divide) in cases.items():
            config = hf_config(tie_word_embeddings=tied)
            model = randomize(BitNetForCausalLM(config))
            if divide is None:
                state = {k: v.contiguous() for k, v in model.state_dict().items()
                         if k != "lm_head.weight" or not tied}
            else:
                state = quantize_offline(model, divide)
            folder = save_with(b, state, config, quantization)
            theirs = b.their_logits(AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32).eval())
            out, report = b.imported(folder)
            assert report["kind"] == ("checkpoint" if divide is None else "packed"), report
            b.compare(f"import {what}{', tied' if tied else ''}", b.our_logits(out), theirs)


def check_sharded(b):
    """A sharded bfloat16 model imports like the same model in one file."""
    config = hf_config(tie_word_embeddings=False)
    model = randomize(BitNetForCausalLM(config)).to(torch.bfloat16)
    folder = b.path("sharded")
    model.save_pretrained(folder, max_shard_size="300KB")
    assert os.path.exists(os.path.join(folder, "model.safetensors.index.json"))
    theirs = b.their_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    out, _ = b.imported(folder)
    b.compare("import float, bfloat16, sharded", b.our_logits(out), theirs)


def check_llama(b):
    """Llama has no sub-norms: those that are added show in the report."""
    config = LlamaConfig(vocab_size=256, hidden_size=128, intermediate_size=384,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=128)
    folder = b.path("llama")
    randomize(LlamaForCausalLM(config)).save_pretrained(folder)
    _, report = b.imported(folder, "--set", "quantization.weight_scale=group")
    assert report["kind"] == "checkpoint" and len(report["added"]) == 4, report


def count_flips(b):
    """Share of activation codes that differ between float32 and float64 runs of
    the same model: what a last-bit difference can flip."""
    config = hf_config(tie_word_embeddings=True)
    model = randomize(BitNetForCausalLM(config))
    codes = {}

    def watch(key):
        def hook(module, inputs):
            x = inputs[0]
            scale = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
            codes.setdefault(key, []).append((x * scale).round().clamp(-128, 127).to(torch.int8))
        return hook

    from transformers.integrations.bitnet import replace_with_bitnet_linear
    from transformers import BitNetQuantConfig
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    for dtype in (torch.float32, torch.float64):
        copy = BitNetForCausalLM(config)
        replace_with_bitnet_linear(copy, ["lm_head"], BitNetQuantConfig(
            linear_class="autobitlinear", quantization_mode="online"))
        copy = copy.to_empty(device="cpu")
        copy.load_state_dict(weights)
        copy.model.rotary_emb = BitNetForCausalLM(config).model.rotary_emb
        copy = copy.to(dtype).eval()
        for module in copy.modules():
            if isinstance(module, bitnet.AutoBitLinear):
                module.register_forward_pre_hook(watch(dtype))
        b.their_logits(copy)
    flipped = sum(int((x != y).sum()) for x, y in zip(codes[torch.float32], codes[torch.float64]))
    return flipped, sum(x.numel() for x in codes[torch.float32])


def write_report(b, path, flips):
    lines = ["| model | positions within 1e-4 | median of the largest difference | largest |"
             " difference of the loss | 95 % / 1e-5 met |", "|---|---|---|---|---|---|"]
    for what, share, median, worst, delta, bounds, _ in b.results:
        met = " / ".join("yes" if x else "no" for x in bounds)
        lines.append(f"| {what} | {100 * share:.2f} % | {median:.1e} | {worst:.1e} | {delta:.1e} |"
                     f" {met} |")
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    with open(path, "w") as f:
        f.write(f"{versions}; {ROWS} rows of {TIME} tokens each.\n\n" + "\n".join(lines) + "\n")
        f.write(f"\n{flips[0]} of {flips[1]} activation codes ({100 * flips[0] / flips[1]:.4f} %) "
                "differ between a float32 and a float64 run of one model.\n")


def main():
    b = Bench(*sys.argv[1:4])
    check_exports(b)
    check_imports(b)
    check_sharded(b)
    check_llama(b)
    flips = count_flips(b)
    print("%d of %d activation codes differ between float32 and float64" % flips)
    if len(sys.argv) > 4:
        write_report(b, sys.argv[4], flips)
    return 1 if b.failed else 0


if __name__ == "__main__":
    sys.exit(main())
