#!/usr/bin/env python3
"""Makes the tokenizers and the expected tokens of tests/golden/tokenizer/ with
the PyPI package "tokenizers".

usage: make_tokenizer_golden.py CORPUS FOLDER

FOLDER/NAME.json are tokenizers, FOLDER/NAME.bin what they make of the texts:
little-endian uint32 bytes, text, uint32 count, count ids of uint16, uint32 bytes,
what the package decodes the ids to; repeated.
"""
import json
import os
import random
import struct
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MULTILINGUAL = (
    "Hello, world! Привет мир. 你好，世界。こんにちは 안녕하세요 שלום مرحبا नमस्ते ไทย ελληνικά "
    "\U0001f600\U0001f44d\U0001f3fd\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea "
    "e\u0301 a\u0308\u0323 \ufb01 \u017f's 'S 'LL it's IT'S don't \u00bd \u00b2 \u0663 \u2167 12345 "
    "3.14 \u00a0\u1680\u180e\u2003\u2028\u2029\u3000\ufeff x\u200dy\t\t\r\n\r\n\n  \n   a  b    c \n")


def byte_level(corpus, pre, size):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train([corpus], trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>", "<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(t.to_str())


def sentencepiece(corpus, size):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    t.train([corpus], trainers.BpeTrainer(
        vocab_size=size, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    d = json.loads(t.to_str())
    d["pre_tokenizer"] = None
    d["added_tokens"] = d["added_tokens"][:3]
    d["decoder"] = json.loads(decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)]).__getstate__())
    return d


def make_tokenizers(corpus):
    gpt2 = byte_level(corpus, pre_tokenizers.ByteLevel(add_prefix_space=False), 4096)
    gpt2["model"]["merges"] = [" ".join(m) for m in gpt2["model"]["merges"]]  # the older form
    llama3 = byte_level(corpus, pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), 1024)
    llama3["model"]["ignore_merges"] = True
    llama2 = sentencepiece(corpus, 1024)
    metaspace = json.loads(json.dumps(llama2))
    metaspace["normalizer"] = None
    metaspace["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁",
                                  "prepend_scheme": "first", "split": False}
    return {"gpt2": gpt2, "llama3": llama3, "llama2": llama2, "metaspace": metaspace}


def texts(corpus, full):
    rng = random.Random(7)
    out = ["".join(map(chr, range(256))), MULTILINGUAL, "a" * 700, "ab" * 300, "the" * 200,
           "<|endoftext|>", "a<|endoftext|>b <|end|><|end|", "<s>x</s> y <unk><s> z", "<0x41>",
           "<|endoftext|" * 3, "▁▁ ▁a▁b"]
    out += [chr(b) for b in range(256)]
    for n in (1, 2, 3, 63, 64, 65, 500):
        out += [" " * n, "a" + " " * n + "b", "\n" * n, "\t \n" * n]
    raw = random.Random(9).randbytes(100000 if full else 3000)
    out += [raw.decode("utf8", "replace"), raw.decode("latin1")]
    for _ in range(400 if full else 40):
        limit = rng.choice([0x80, 0x250, 0x3000, 0x11000])
        text = "".join(rng.choice([" ", "\n", "'", " the", "s", chr(rng.randrange(1, limit)),
                                   chr(rng.randrange(0x20, 0x7f))])
                       for _ in range(rng.randrange(1, 150)))
        out.append("".join(c for c in text if not 0xd800 <= ord(c) < 0xe000))
    if full:
        points = [c for c in range(1, 0x30000) if not 0xd800 <= c < 0xe000]
        out.append("".join(map(chr, points)))
        rng.shuffle(points)
        out.append("a ".join(map(chr, points[:40000])))
    if corpus:
        with open(corpus, encoding="ascii") as f:
            out.append(f.read(400000 if full else 2000))
    return out


def decode(tokenizer, ids):
    """What the package makes of ids, but without any space that a prefix put into
    the text: the package drops none, or the one at the start and not those behind
    added tokens."""
    state = json.loads(tokenizer.to_str())
    added = {t["id"]: t["content"] for t in state["added_tokens"] if not t["normalized"]}
    pre = state["pre_tokenizer"] or {}
    each = "Prepend" in json.dumps(state["normalizer"]) or pre.get("prepend_scheme") == "always"
    kept = pre.get("add_prefix_space", False)
    if not each and not kept:
        return tokenizer.decode(ids, skip_special_tokens=False)
    out, start = "", 0
    for i, token in enumerate(ids + [None]):
        if token is None or token in added:
            part = tokenizer.decode(ids[start:i], skip_special_tokens=False)
            out += part[kept and part[:1] == " ":] + added.get(token, "")
            start = i + 1
    return out


def write_vectors(path, texts, encode, decode):
    """`encode(text)` gives ids, `decode(ids)` a text."""
    with open(path, "wb") as f:
        for text in texts:
            data, ids = text.encode(), encode(text)
            back = decode(ids).encode()
            f.write(struct.pack("<I", len(data)) + data + struct.pack("<I", len(ids)) +
                    struct.pack(f"<{len(ids)}H", *ids) + struct.pack("<I", len(back)) + back)


def main():
    corpus, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    for name, data in make_tokenizers(corpus).items():
        path = os.path.join(folder, name)
        with open(path + ".json", "w", encoding="utf8") as f:
            json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
        tokenizer = Tokenizer.from_file(path + ".json")
        write_vectors(path + ".bin", texts(corpus, False),
                      lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                      lambda ids: decode(tokenizer, ids))


if __name__ == "__main__":
    main()
