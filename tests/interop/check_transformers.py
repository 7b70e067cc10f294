#!/usr/bin/env python3
"""transformers' BitNetForCausalLM against this project, in both directions.

usage: check_transformers.py BIN_DIR WORK_DIR CORPUS [REPORT.md]

Exports of a random and a trained model are loaded by transformers; models that
transformers saved are imported. Everything is float32, on 4096 tokens, for two
shapes, a process each. Compared are

  free    both as they are: the share of positions within 1e-4 in every logit,
          and the difference of the mean loss;
  same    transformers with the activation codes of this project put in where
          its own differ (activation_codes.py);
  layers  every part of every layer alone, on the same inputs.

Without quantized activations "free" must give 95 % and 1e-5. With them it is
reported, beside transformers compared with itself, for two right float32
computations flip codes; every difference must then come from such codes:
"same" must give all positions within 1e-4 and 1e-5, "layers" 1e-5, at most
0.1 % of the codes may have to be put in, each the neighbour of theirs with the
value next to the border between both, and no position may differ before the
first of them in its row.

Exit 1 if a bound is missed. REPORT.md gets the tables, between the lines
"<!-- results -->" and "<!-- end of results -->" if it has them.
"""
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitNetConfig, BitNetForCausalLM
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import bitnet

from activation_codes import Quantizers, codes_of, compare_layers, in_float64, read_trace

TOKENS = 4096
NEAR, SHARE, LOSS = 1e-4, 0.95, 1e-5
FLIPS, TIE, PART = 1e-3, 1e-3, 1e-5

torch.set_num_threads(1)  # one order of every sum
torch._dynamo.config.disable = True  # compiled helpers: slow to start, the same function
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Shape:
    """A model's shape and the length of the rows it is compared on."""

    def __init__(self, name, time, layers, hidden, intermediate, schemes, forms):
        self.name, self.time, self.rows = name, time, TOKENS // time
        self.layers, self.hidden, self.intermediate = layers, hidden, intermediate
        self.schemes, self.forms = schemes, forms  # of the models that are exported

    def settings(self):
        return [f"model.num_hidden_layers={self.layers}", f"model.hidden_size={self.hidden}",
                f"model.intermediate_size={self.intermediate}", f"training.seq_len={self.time}",
                f"model.max_position_embeddings={self.time}"]

    def hf_config(self, **changes):
        return BitNetConfig(vocab_size=256, hidden_size=self.hidden,
                            intermediate_size=self.intermediate, num_hidden_layers=self.layers,
                            num_attention_heads=4, num_key_value_heads=2,
                            max_position_embeddings=self.time, bos_token_id=None, eos_token_id=None,
                            rope_theta=10000.0, **changes)

    def __str__(self):
        return (f"{self.layers} layers of {self.hidden}, feed-forward {self.intermediate}, 4 heads,"
                f" 2 key/value heads, {self.rows} rows of {self.time} tokens")


SCHEMES = {"tensor": ["quantization.weight_scale=tensor"],
           "tensor, untied, silu": ["quantization.weight_scale=tensor", "model.hidden_act=silu",
                                    "model.tie_word_embeddings=false"],
           "row": ["quantization.weight_scale=row"],
           "group 64": ["quantization.weight_scale=group", "quantization.group_size=64"],
           "float": ["quantization.weight_bits=none"],
           "float activations": ["quantization.activation_bits=none"]}
FORMS = ["float32", "packed", "shadow", "bf16"]
SHAPES = [Shape("small", 32, 2, 64, 128, list(SCHEMES), FORMS),
          Shape("large", 128, 3, 128, 384, ["tensor", "row", "group 64", "float"],
                ["float32", "packed", "bf16"])]


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


class Result:
    """One model, compared."""

    def __init__(self, what, ours, theirs, loss):
        self.what, self.problems = what, []
        self.share, self.largest, self.loss = self.measure(ours, theirs, loss)
        self.over = np.abs(ours.astype(np.float64) - theirs).max(-1) > NEAR
        self.given = None

    @staticmethod
    def measure(ours, theirs, loss):
        worst = np.abs(ours.astype(np.float64) - theirs).max(-1)
        return (worst <= NEAR).mean(), worst.max(), abs(loss(ours) - loss(theirs))

    def need(self, good, text):
        if not good:
            self.problems.append(text)

    def with_codes(self, quantizers, ours, theirs, loss):
        """The comparison with the same codes, and what had to be put in."""
        self.given = self.measure(ours, theirs, loss)
        self.flips, self.codes = quantizers.count()
        self.tie = quantizers.tie
        flips = quantizers.positions()  # [rows, time]
        after = np.maximum.accumulate(flips, axis=1)
        self.own, self.inherited = (self.over & flips).sum(), (self.over & after & ~flips).sum()
        early = (self.over & ~after).sum()
        self.need(self.given[0] == 1, "positions differ with the same codes")
        self.need(self.given[2] <= LOSS, "the loss differs with the same codes")
        self.need(self.flips <= FLIPS * self.codes, "too many codes differ")
        self.need(quantizers.jump <= 1 and self.tie <= TIE, "a code differs that is not at a border")
        self.need(early == 0, f"{early} positions differ before any code does")

    def without_codes(self):
        share, loss = self.aims()
        self.need(share, "fewer positions agree than 95 %")
        self.need(loss, "the loss differs by more than 1e-5")

    def aims(self):
        return self.share >= SHARE, self.loss <= LOSS

    def __str__(self):
        text = "%-44s %6.2f %%, loss %.1e" % (self.what, 100 * self.share, self.loss)
        if self.given:
            text += "; %d of %d codes, then %6.2f %%, largest %.1e, loss %.1e" % (
                self.flips, self.codes, 100 * self.given[0], self.given[1], self.given[2])
        return text + "".join(f"\n  FAILED: {p}" for p in self.problems)


class Bench:
    """One shape: its models and what came of comparing them."""

    def __init__(self, bin_dir, work, corpus, shape):
        self.bin, self.work, self.corpus, self.shape = bin_dir, work, corpus, shape
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        with open(corpus, "rb") as f:
            text = f.read()[-TOKENS - 1:]
        self.ids = np.frombuffer(text[:-1], np.uint8).astype(np.int32).reshape(-1, shape.time)
        self.labels = np.frombuffer(text[1:], np.uint8).astype(np.int64).reshape(-1, shape.time)
        self.ids.tofile(self.path("ids"))
        self.results, self.itself, self.exact = [], [], []
        self.parts = {}  # by part of a layer, the largest difference on the same inputs

    def say(self, text):
        print(f"{self.shape.name}: {text}", flush=True)

    def path(self, name):
        return os.path.join(self.work, name)

    def tool(self, name, *arguments):
        return call(os.path.join(self.bin, name), *arguments)

    def train(self, name, steps, *settings):
        arguments = [x for s in self.shape.settings() + list(settings) for x in ("--set", s)]
        self.tool("bitnet-train", os.path.join(os.path.dirname(__file__), "interop.json"),
                  "--set", f"data.train={self.corpus}", *arguments, "--max-steps", steps,
                  "--device", "cpu", "--quiet", "--output-dir", self.path(name))
        return self.path(name)

    def ours(self, model):
        """Logits, and the results of all kernels."""
        call(os.path.join(self.bin, "tests", "dump_logits"), model, self.path("ids"),
             self.shape.time, self.path("logits"), self.path("trace"))
        logits = np.fromfile(self.path("logits"), np.float32)
        return (logits.reshape(self.shape.rows, self.shape.time, -1),
                read_trace(self.path("trace"), self.shape.rows, self.shape.time))

    def theirs(self, model, given=None):
        """Logits, and the quantizers that made them."""
        watch = Quantizers(model, self.shape.rows, given)
        ids, logits = torch.from_numpy(self.ids.astype(np.int64)), []
        with torch.no_grad(), watch.attached():
            for row in range(0, self.shape.rows, 16):
                watch.part = slice(row, row + 16)
                logits.append(model(ids[watch.part]).logits)
        watch.part = slice(0, self.shape.rows)
        return torch.cat(logits).numpy(), watch

    def loss(self, logits):
        log_p = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
        return -np.take_along_axis(log_p, self.labels[..., None], -1).mean()

    def compare(self, what, ours, model):
        """`ours` as from self.ours(); returns transformers' logits and codes."""
        logits, nodes = ours
        free, watch = self.theirs(model)
        result = Result(what, logits, free, self.loss)
        given = codes_of(nodes)
        if given:
            forced, quantizers = self.theirs(model, given)
            result.with_codes(quantizers, logits, forced, self.loss)
            for part, worst in compare_layers(model, nodes, quantizers).items():
                self.parts[part] = max(self.parts.get(part, 0), worst)
                result.need(worst <= PART, f"{part} differ by {worst:.1e} on the same inputs")
        else:
            result.without_codes()
        self.results.append(result)
        self.say(result)
        return free, watch.codes

    def compare_itself(self, what, logits, model):
        self.itself.append(Result(what, logits, self.theirs(model)[0], self.loss))
        self.say(f"  transformers with itself: {self.itself[-1]}")

    def compare_exact(self, what, model, codes):
        """First flips of each side against float64 arithmetic. Changes `model`."""
        model = in_float64(model)
        flips = {side: self.theirs(model, given)[1].count()[0] for side, given in codes.items()}
        self.exact.append((what, flips))
        self.say(f"  first flips against float64: {flips}")

    def load(self, folder):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return torch.nn.Module.float(model).eval()  # weights of AutoBitLinear stay as stored

    def export(self, model, form):
        folder = self.path("export")
        shutil.rmtree(folder, ignore_errors=True)
        self.tool("bitnet-export", model, "--format", "safetensors", "--hf-weights", form, "-o",
                  folder, "--quiet")
        return self.load(folder)

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
    return b.load(folder)


def check_exports(b):
    for scheme in b.shape.schemes:
        per_tensor = scheme.startswith("tensor")
        for steps, kind in ((1, "random"), (150, "trained")):
            folder = b.train(f"{scheme} {kind}".replace(" ", "-").replace(",", ""), steps,
                             *SCHEMES[scheme])
            ours, name = b.ours(folder), f"{scheme}, {kind}"
            for form in b.shape.forms:
                if form in ("packed", "shadow") and not per_tensor:
                    continue
                model = b.export(folder, form)
                if form == "bf16":  # rounds: compared is what this project makes of the file
                    ours = b.ours(b.imported(b.path("export"))[0])
                logits, codes = b.compare(f"export {name}, {form}", ours, model)
                if form == "packed":
                    check_itself(b, name, model, logits)
                    b.compare_exact(name, model, {"here": codes_of(ours[1]), "transformers": codes})


def check_itself(b, name, model, logits):
    """The same packed weights by other ways that transformers has."""
    b.compare_itself(f"{name}, bitlinear for autobitlinear", logits, dividing(b))
    model.set_attn_implementation("eager")
    b.compare_itself(f"{name}, eager for sdpa attention", logits, model)
    model.set_attn_implementation("sdpa")


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
            config = b.shape.hf_config(tie_word_embeddings=tied)
            model = randomize(BitNetForCausalLM(config))
            if divide is None:
                state = {k: v.contiguous() for k, v in model.state_dict().items()
                         if k != "lm_head.weight" or not tied}
            else:
                state = quantize_offline(model, divide)
            folder = save_with(b, state, config, quantization)
            out, report = b.imported(folder)
            assert report["kind"] == ("checkpoint" if divide is None else "packed"), report
            b.compare(f"import {what}{', tied' if tied else ''}", b.ours(out), b.load(folder))


def check_sharded(b):
    """A sharded bfloat16 model imports like the same model in one file."""
    config = b.shape.hf_config(tie_word_embeddings=False)
    model = randomize(BitNetForCausalLM(config)).to(torch.bfloat16)
    folder = b.path("sharded")
    model.save_pretrained(folder, max_shard_size="100KB")
    assert os.path.exists(os.path.join(folder, "model.safetensors.index.json"))
    out, _ = b.imported(folder)
    b.compare("import float, bfloat16, sharded", b.ours(out), b.load(folder))


def check_llama(b):
    """Llama has no sub-norms: those that are added show in the report."""
    config = LlamaConfig(vocab_size=256, hidden_size=128, intermediate_size=384,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=128)
    folder = b.path("llama")
    randomize(LlamaForCausalLM(config)).save_pretrained(folder)
    _, report = b.imported(folder, "--set", "quantization.weight_scale=group")
    assert report["kind"] == "checkpoint" and len(report["added"]) == 4, report


def check_tokenizer(b):
    """The tokenizer of an exported model of bytes, by transformers' own loader."""
    b.export(b.path("tensor-random"), "packed")
    tokenizer = AutoTokenizer.from_pretrained(b.path("export"))
    text = "In the beginning: \u00e9 \u6f22\u5b57 \U0001f600\n\t  "
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode()) and tokenizer.decode(ids) == text, ids


def report_shape(b):
    lines = ["", f"{b.shape}:", "",
             "| model | positions within 1e-4 | difference of the loss | 95 % / 1e-5 | first flips | positions over"
             " 1e-4: with a first flip / after one | same codes: within 1e-4 | largest | loss |",
             "|---|---|---|---|---|---|---|---|---|"]
    for r in b.results:
        met = " / ".join("yes" if x else "no" for x in r.aims())
        line = f"| {r.what} | {100 * r.share:.2f} % | {r.loss:.1e} | {met} |"
        if r.given:
            line += (f" {r.flips} of {r.codes} ({100 * r.flips / r.codes:.4f} %) |"
                     f" {r.own} / {r.inherited} | {100 * r.given[0]:.2f} % | {r.given[1]:.1e} |"
                     f" {r.given[2]:.1e} |")
        else:
            line += " no codes | | | | |"
        lines.append(line)
    lines += ["", "| transformers with itself | positions within 1e-4 | difference of the loss |",
              "|---|---|---|"]
    lines += [f"| {r.what} | {100 * r.share:.2f} % | {r.loss:.1e} |" for r in b.itself]
    lines += ["", "| first flips against float64 arithmetic | here | transformers, packed |",
              "|---|---|---|"]
    lines += [f"| {what} | {flips['here']} | {flips['transformers']} |"
              for what, flips in b.exact]
    lines += ["", "Largest difference of a part on the same inputs, relative to its row: " +
              ", ".join(f"{part} {worst:.1e}" for part, worst in b.parts.items()) + ".",
              "A flipped value was at most %.1e of a code from the border."
              % max((r.tie for r in b.results if r.given), default=0)]
    return lines


def write_report(benches, path):
    begin, end = "<!-- results -->\n", "<!-- end of results -->\n"
    text = f"transformers {transformers.__version__}, torch {torch.__version__}, 1 CPU thread.\n"
    text += "\n".join(sum((report_shape(b) for b in benches), [])) + "\n"
    if os.path.exists(path):
        with open(path) as f:
            old = f.read()
        if begin in old and end in old:
            text = old[:old.index(begin)] + begin + text + old[old.index(end):]
    with open(path, "w") as f:
        f.write(text)


def check(bin_dir, work, corpus, shape):
    b = Bench(bin_dir, os.path.join(work, shape.name), corpus, shape)
    check_exports(b)
    check_imports(b)
    check_sharded(b)
    check_llama(b)
    check_tokenizer(b)
    return b


def main():
    with ProcessPoolExecutor(len(SHAPES)) as pool:
        runs = [pool.submit(check, *sys.argv[1:4], shape) for shape in SHAPES]
        benches = [run.result() for run in runs]
    if len(sys.argv) > 4:
        write_report(benches, sys.argv[4])
    failed = sum(bool(r.problems) for b in benches for r in b.results)
    print(f"{sum(len(b.results) for b in benches)} models, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
