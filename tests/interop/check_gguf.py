#!/usr/bin/env python3
"""Exports a model that it trains to GGUF and lets others read it: the gguf
package, and llama.cpp through xllamacpp.

usage: check_gguf.py BIN_FOLDER WORK_FOLDER TEXT [MODEL]

MODEL is taken in place of training one. Prints a table for docs/gguf.md.
"""
import json
import os
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import sentencepiece as spm
import tokenizers
import xllamacpp
from gguf import GGMLQuantizationType, quants

import compare_tokenizers as styles
import gguf_reference as reference

PROMPT = b"And God said unto "
GREEDY, SAME = 64, 32      # tokens to make, tokens that have to agree
WINDOWS, WINDOW = 8, 64    # of the perplexity
SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
         "max_position_embeddings": 128}
ROUNDING = {"TQ2_0": reference.blocks_256, "TQ1_0": reference.blocks_256,
            "Q4_0": reference.blocks_32}


def check(condition, message):
    if not condition:
        raise SystemExit(f"check_gguf: {message}")


def run(*command, status=0):
    done = subprocess.run(command, capture_output=True, check=False)
    check(done.returncode == status, f"{command[0]} exited {done.returncode}, expected {status}:\n"
          + done.stderr.decode(errors="replace"))
    return done


class Programs:
    def __init__(self, folder, text):
        self.folder, self.text = folder, text

    def path(self, name):
        return os.path.join(self.folder, name)

    def train(self, name, steps, scale, more=(), **model):
        config = {"model": {**SHAPE, **model}, "quantization": scale,
                  "data": {"train": self.text},
                  "training": {"seq_len": WINDOW, "batch_size": 8, "max_steps": steps,
                               "learning_rate": 3e-3, "warmup_steps": min(20, steps // 2),
                               "eval_interval": steps, "eval_batches": 2,
                               "save_interval": steps},
                  "output_dir": name}
        with open(name + ".json", "w", encoding="ascii") as f:
            json.dump(config, f)
        run(self.path("bitnet-train"), name + ".json", "--overwrite", "--quiet", *more)
        return name

    def export(self, model, output, *options, status=0):
        return run(self.path("bitnet-export"), model, "-o", output, "--quiet", *options,
                   status=status)

    def gguf(self, model, output, kind, *options, status=0):
        return self.export(model, output, "--format", "gguf", "--gguf-type", kind, *options,
                           status=status)

    def greedy(self, model):
        return run(self.path("bitnet-generate"), model, "--greedy", "--quiet", "--no-echo", "-n",
                   str(GREEDY), "-p", PROMPT.decode()).stdout

    def log_probabilities(self, model, rows, vocab):
        np.asarray(rows, np.int32).tofile("ids")
        run(self.path("tests/dump_logits"), model, "ids", str(len(rows[0])), "logits")
        logits = np.fromfile("logits", np.float32).astype(np.float64)
        return reference.log_softmax(logits.reshape(len(rows), -1, vocab))


class Llama:
    """llama.cpp's server with float32 cache and plain attention, so that only
    the products differ from the numpy model."""

    def __init__(self, path):
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx = 256
        params.cpuparams.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def ask(self, what, request):
        address = f"{self.server.listening_address}/{what}"
        data = json.dumps(request).encode()
        with urllib.request.urlopen(urllib.request.Request(address, data)) as answer:
            return json.load(answer)

    def greedy(self, ids, count):
        answer = self.ask("completion", {"prompt": ids, "n_predict": count, "temperature": 0,
                                         "top_k": 1, "return_tokens": True})
        return answer["tokens"]

    def tokenize(self, text, parse_special=True):
        return self.ask("tokenize", {"content": text, "parse_special": parse_special})["tokens"]

    def log_probabilities(self, ids, vocab):
        """Of the token behind every prefix."""
        rows = []
        for n in range(1, len(ids) + 1):
            answer = self.ask("completion", {"prompt": ids[:n], "n_predict": 1, "temperature": 0,
                                             "n_probs": vocab, "cache_prompt": True})
            top = answer["completion_probabilities"][0]["top_logprobs"]
            rows.append([p for _, p in sorted((t["id"], t["logprob"]) for t in top)])
        return np.array(rows)


def perplexity(log_probabilities, windows):
    taken = [lp[np.arange(WINDOW - 1), w[1:]]
             for lp, w in zip(log_probabilities[:, :-1], windows)]
    return float(np.exp(-np.mean(taken)))


def common_prefix(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def check_package(model, kind):
    """What the gguf package makes of the file."""
    ternary = [name for name, found in model.types.items() if found == kind]
    check(len(ternary) == 7 * model.blocks, f"{kind}: {len(ternary)} tensors of this type")
    for name in ternary:
        codes = model.tensors[name]
        check(np.isin(codes, (-1, 0, 1)).all(), f"{kind}: {name} has other values than codes")
        check(name.replace(".weight", ".scale") in model.tensors, f"{kind}: {name} has no scale")
        if kind != "Q4_0":  # which other encoders spread over all 16 codes
            again = quants.quantize(codes.astype(np.float32), GGMLQuantizationType[kind])
            check(np.array_equal(again, model.bytes[name]), f"{kind}: {name} has other bytes than "
                  "the gguf package writes")


def check_kind(programs, kind, windows, ours):
    path = f"{kind}.gguf"
    programs.gguf(ours["model"], path, kind.lower())
    model = reference.Model(path)
    check_package(model, kind)
    vocab = len(model.tensors["token_embd.weight"])

    llama = Llama(path)
    tokens = llama.greedy(list(PROMPT), GREEDY)
    same = common_prefix(tokens, ours["greedy"])
    theirs = np.stack([llama.log_probabilities(w.tolist(), vocab) for w in windows])
    trained = np.stack([model.log_probabilities(w, reference.per_token) for w in windows])
    blocks = np.stack([model.log_probabilities(w, ROUNDING[kind]) for w in windows])
    row = {"kind": kind, "same": same, "ours": perplexity(ours["lp"], windows),
           "llama": perplexity(theirs, windows),
           "ours_numpy": float(np.median(np.abs(trained - ours["lp"]).max(-1))),
           "llama_ours": float(np.median(np.abs(theirs - ours["lp"]).max(-1))),
           "llama_numpy": float(np.median(np.abs(theirs - blocks).max(-1)))}
    print("| {kind} | {same} | {ours:.4f} | {llama:.4f} | {ours_numpy:.1e} | {llama_ours:.1e} | "
          "{llama_numpy:.1e} |".format(**row), flush=True)
    check(same >= SAME, f"{kind}: {same} equal tokens, expected {SAME} of {tokens} and "
          f"{ours['greedy']}")
    check(abs(row["llama"] / row["ours"] - 1) < 0.01, f"{kind}: perplexity {row['llama']}, ours "
          f"{row['ours']}")
    check(row["ours_numpy"] < 1e-4, f"{kind}: the file does not hold what the model computes")
    check(row["llama_numpy"] < 1e-3 and row["llama_numpy"] < row["llama_ours"] / 10,
          f"{kind}: blocks of activations do not explain llama.cpp's difference")


def check_trained(programs, text, model):
    model = model or programs.train("trained", 150, {"weight_scale": "tensor"})
    programs.export(model, "trained.h5")
    with open(text, "rb") as f:
        data = np.frombuffer(f.read(), np.uint8).astype(np.int64)
    held_out = data[len(data) - len(data) // 20:]
    windows = [held_out[i * 1000:i * 1000 + WINDOW] for i in range(WINDOWS)]
    ours = {"model": model, "greedy": list(programs.greedy("trained.h5")),
            "lp": programs.log_probabilities("trained.h5", windows, 256)}
    print("| type | equal greedy tokens of %d | perplexity | llama.cpp's | numpy with a scale per "
          "token - ours | llama.cpp - ours | llama.cpp - numpy with its blocks |\n"
          "|---|---|---|---|---|---|---|" % GREEDY)
    for kind in ROUNDING:
        check_kind(programs, kind, windows, ours)


def check_groups(programs):
    """Scales in the blocks."""
    group = programs.train("group", 3, {"weight_scale": "group", "group_size": 256})
    row = programs.train("row", 3, {"weight_scale": "row"})
    small = programs.train("small", 3, {"weight_scale": "group", "group_size": 64})
    for model, kind in (group, "TQ2_0"), (group, "TQ1_0"), (row, "TQ2_0"), (small, "Q4_0"):
        programs.gguf(model, "group.gguf", kind.lower(), "--float-dtype", "q8_0")
        found = reference.Model("group.gguf")
        check(found.types["token_embd.weight"] == "Q8_0", "the embedding is not Q8_0")
        ids = list(PROMPT)
        theirs = Llama("group.gguf").log_probabilities(ids, 256)
        # q8_0 rounds the input of the head too
        worst = np.abs(theirs - found.log_probabilities(ids, ROUNDING[kind])).max()
        check(worst < 0.1, f"{model} as {kind}: llama.cpp differs by {worst}")
        print(f"scales per {model} as {kind}: largest difference {worst:.1e}")
    said = programs.gguf(small, "no.gguf", "tq2_0", status=2).stderr.decode()
    check("q4_0 holds it" in said, f"groups of 64 as TQ2_0: {said}")


def check_relu2(programs):
    """What llama.cpp makes of relu2 is another function: only on request."""
    model = programs.train("relu2", 3, {"weight_scale": "tensor"}, hidden_act="relu2")
    said = programs.gguf(model, "no.gguf", "tq2_0", status=2).stderr.decode()
    check("SiLU" in said and not os.path.exists("no.gguf"), f"relu2: {said}")
    programs.gguf(model, "relu2.gguf", "tq2_0", "--force")
    check(reference.Model("relu2.gguf").fields["bitnet.hidden_activation"] == "relu2", "no key")
    with open("relu2.gguf.report.json", encoding="utf8") as f:
        check("SiLU" in json.load(f)["computed_differently"], "the report is silent on relu2")


def check_tokens(programs, text):
    """Bytes and subwords as llama.cpp cuts them."""
    samples = ["And God said, Let there be light: and there was light.",
               "  two spaces, tabs\t\tand\n\nlines\r\n", "It's 1234567 o'clock!!!",
               "Grüße, Ελληνικά, 漢字仮名, עברית \U0001f600\u200d\U0001f525", "a" * 100, ""]
    llama = Llama("TQ2_0.gguf")
    for sample in samples:
        check(llama.tokenize(sample) == list(sample.encode()), f"bytes of {sample!r}")
    run(programs.path("bitnet-tokenize"), "train", text, "-o", "tokenizer.json", "--vocab-size",
        "600", "--special", "<|endoftext|>")
    run(programs.path("bitnet-tokenize"), "encode", text, "--tokenizer", "tokenizer.json", "-o",
        "text.tokens")
    model = programs.train("words", 3, {"weight_scale": "tensor"},
                           ("--set", "data.tokenizer=tokenizer.json", "--set",
                            "data.train=text.tokens"))
    programs.gguf(model, "words.gguf", "tq2_0")
    ours, llama = tokenizers.Tokenizer.from_file("tokenizer.json"), Llama("words.gguf")
    for sample in samples:
        check(llama.tokenize(sample) == ours.encode(sample).ids, f"subwords of {sample!r}")
    fields = reference.Model("words.gguf").fields
    check(fields["tokenizer.ggml.tokens"][fields["tokenizer.ggml.eos_token_id"]] ==
          "<|endoftext|>", "the end token is not named")
    print(f"{len(samples)} texts cut as bytes and as subwords, all equal")


def sentencepiece_styles(corpus):
    """name: (file, encode, whether special tokens are found in a text)"""
    for name, normalizers, pre in (
            ("llama2.json", ["Prepend", "Replace"], None), ("gemma.json", ["Replace"], None),
            ("metaspace.json", [], {"type": "Metaspace", "replacement": "▁",
                                    "prepend_scheme": "never", "split": True})):
        data = styles.llama2_style(corpus, 700)
        steps = [s for s in data["normalizer"]["normalizers"] if s["type"] in normalizers]
        data.update(normalizer={"type": "Sequence", "normalizers": steps} if steps else None,
                    pre_tokenizer=pre)
        with open(name, "w", encoding="utf8") as f:
            json.dump(data, f)
        yield name, tokenizers.Tokenizer.from_file(name), True
    for name, options in (("llama2", {}), ("bare", {"add_dummy_prefix": False}),
                          ("symbols", {"add_dummy_prefix": False,
                                       "user_defined_symbols": ["[INST]", "word", "<mask>"]})):
        spm.SentencePieceTrainer.train(
            input=corpus, model_prefix=name, vocab_size=700, minloglevel=2, num_threads=1,
            model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
            remove_extra_whitespaces=False, **options)
        yield name + ".model", spm.SentencePieceProcessor(model_file=name + ".model"), False


def check_sentencepiece(programs):
    """SentencePiece-style vocabularies, which llama.cpp merges by scores."""
    with open("corpus.txt", "w", encoding="utf8") as f:
        f.write(styles.corpus_text())
    texts = [t.encode("utf8", "replace").decode() for t in styles.texts(False)]
    for name, library, special in sentencepiece_styles("corpus.txt"):
        run(programs.path("bitnet-tokenize"), "encode", "corpus.txt", "--tokenizer", name, "-o",
            "marks.tokens")
        model = programs.train("marks", 2, {"weight_scale": "tensor"},
                               ("--set", f"data.tokenizer={name}", "--set",
                                "data.train=marks.tokens"))
        programs.gguf(model, "marks.gguf", "tq2_0")
        llama = Llama("marks.gguf")
        for text in texts:
            ours = (library.encode(text, add_special_tokens=False).ids if special
                    else library.encode(text))
            theirs = llama.tokenize(text, special)
            at = common_prefix(ours, theirs)
            check(theirs == ours, f"{name}: {text[:80]!r}: token {at}: {theirs[at:at + 9]}, "
                  f"expected {ours[at:at + 9]}")
        print(f"{name}: {len(texts)} texts, all equal")


def main(folder, work, text, model=None):
    text, folder = os.path.abspath(text), os.path.abspath(folder)
    model = model and os.path.abspath(model)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    os.chdir(work)
    log = os.open("llama.log", os.O_WRONLY | os.O_CREAT, 0o644)  # llama.cpp is talkative
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(log, 2)
    programs = Programs(folder, text)
    check_trained(programs, text, model)
    check_groups(programs)
    check_relu2(programs)
    check_tokens(programs, text)
    check_sentencepiece(programs)


if __name__ == "__main__":
    main(*sys.argv[1:])
