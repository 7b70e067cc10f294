#!/usr/bin/env python3
"""Trains tokenizers with the PyPI packages "tokenizers" and "sentencepiece" in
many styles and compares their tokens, and what they decode them to, with ours
on multilingual and hostile texts.

usage: compare_tokenizers.py FAMILY     FAMILY: huggingface, sentencepiece, or
                                        training (the vocabulary of
                                        bitnet-tokenize train)

Runs the programs of $BITNET_BIN_DIR in the current folder.
"""
import glob
import json
import os
import random
import re
import subprocess
import sys
import unicodedata

SOURCE = os.environ["BITNET_SOURCE_DIR"]
sys.path.insert(0, os.path.join(SOURCE, "tests", "golden"))
from make_tokenizer_golden import (LLAMA3, MULTILINGUAL, byte_level, decode,  # noqa: E402
                                   sentencepiece as llama2_style, texts as golden_texts,
                                   write_vectors)

FULL = ("gpt2.json", "llama3.json", "llama2.json", "NFC.json", "llama2.model",
        "bpe_nfkc.model", "unigram_bytes.model")
SPECIAL = ["<|endoftext|>", "<mask>", "[INST]", "word"]


def known(text):
    """Without characters that are younger than Unicode 12 and have a normal form
    or a small letter, or younger than Unicode 14: the libraries differ there."""
    return "".join(c for c in text if unicodedata.category(c) != "Cn" and
                   not ("\U00010780" <= c <= "\U000107ba" or "\U0001fbf0" <= c <= "\U0001fbf9"))


def corpus_text():
    parts = []
    for pattern in ("*.md", "docs/*.md", "src/base/*.c"):
        for path in sorted(glob.glob(os.path.join(SOURCE, pattern))):
            with open(path, encoding="utf8") as f:
                parts.append(f.read())
    return "\n".join(parts) + "\n" + MULTILINGUAL * 20


def texts(full):
    """`full`: with a megabyte of what was random bytes, and all characters."""
    rng = random.Random(3)
    out = golden_texts(None, False) if full else golden_texts(None, False)[:270]
    out += ["a <mask> b", "a   <mask>", "<mask>   b", " <mask> <mask> ", "x<mask>y", "[INST] a [/INST]",
            "a[INST]", "word", "words sword word, word-word (word)", "\u0301word\u0301", "word1 word_",
            "  lead", "trail  ", "   ", " ", "\t a \n", "a  b   c", "\u3000a\u3000", "▁", " ▁ ▁a",
            "ＡＢＣ ﬁ ﷺ ① ㎏ ½ ｶﾞ Å K Ω ; ` ≯ >\u0338", "e\u0301\u0327 q\u0307\u0323 \u1e9b\u0323",
            "각 \u1100\u1161\u11a8 가", "İI ıi ΑΣ ß ẞ ǅ ꭰ", "123 4५६ ²³ Ⅷ 12.5e10", "don't DON'T 'S ' s",
            "\x00a\x00", "a\u200db\u200c c\u2060d", "x" * 3000, " " * 3000, "\u0301" * 300,
            "日本語テキスト。" * 60, "aaab" * 500]
    raw = random.Random(5).randbytes(1 << 20 if full else 20000)
    out += [raw.decode("utf8", "replace"), raw[:len(raw) // 4].decode("latin1")]
    pool = "  \n\t'▁.,;:<>[]|09²½éÉßſﬁİıΣς\u0301\u0323\u0338日本가ｶﾞ각\U0001f600\U0001f1e9\u200d" + MULTILINGUAL
    for _ in range(250 if full else 100):
        out.append("".join(rng.choice([rng.choice(pool), rng.choice(SPECIAL), " the", "and"])
                           for _ in range(rng.randrange(1, 80))))
    points = [c for c in range(1, 0x30000) if not 0xd800 <= c < 0xe000]
    rng.shuffle(points)
    out.append("a ".join(map(chr, points[:30000 if full else 5000])))
    return [known(text) for text in out]


def check(source, encode, decode):
    """`encode(text)` gives the ids that the file `source` has to give, and
    `decode(ids)` the text that comes back."""
    vectors = source + ".bin"
    write_vectors(vectors, texts(os.path.basename(source) in FULL), encode, decode)
    program = os.path.join(os.environ["BITNET_BIN_DIR"], "tests", "test_tokenizer_golden")
    return subprocess.run([program, source, vectors], check=False).returncode == 0


# ---- Hugging Face ----

def huggingface(corpus):
    from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                            pre_tokenizers, trainers)

    def with_pre(pre, normalizer=None, size=600, **model):
        d = byte_level(corpus, pre, size)
        d["normalizer"] = normalizer and json.loads(normalizer.__getstate__())
        d["model"].update(model)
        return d

    def split(pattern, behavior, invert=False, prefix=False):
        return pre_tokenizers.Sequence([
            pre_tokenizers.Split(pattern, behavior, invert),
            pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)])

    def marked(normalizer, pre, **model):
        d = llama2_style(corpus, 700)
        d["normalizer"] = normalizer and json.loads(normalizer.__getstate__())
        d["pre_tokenizer"] = pre and json.loads(pre.__getstate__())
        d["model"].update(model)
        return spaced(d)

    def spaced(d):
        """With a decoder that drops the space in front if there is one to drop."""
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        parts = json.dumps([d["normalizer"], d["pre_tokenizer"]])
        if any(p in parts for p in ("Prepend", '"always"', '"first"')):
            steps.append(decoders.Strip(" ", 1, 0))
        d["decoder"] = json.loads(decoders.Sequence(steps).__getstate__())
        return d

    def unigram(normalizer, pre, **model):
        t = Tokenizer(models.Unigram())
        t.normalizer = normalizer
        t.pre_tokenizer = pre
        t.train([corpus], trainers.UnigramTrainer(
            vocab_size=700, show_progress=False, unk_token="<unk>",
            special_tokens=["<unk>", "<s>", "</s>"]))
        d = json.loads(t.to_str())
        d["model"].update(model)
        return spaced(d)

    def added(d, *tokens):
        t = Tokenizer.from_str(json.dumps(d))
        t.add_tokens(list(tokens))
        return json.loads(t.to_str())

    byte = pre_tokenizers.ByteLevel
    metaspace = pre_tokenizers.Metaspace
    replace = normalizers.Replace(" ", "▁")
    gpt2 = with_pre(byte(add_prefix_space=False))
    out = {
        "gpt2": gpt2,
        "gpt2_prefix": with_pre(byte(add_prefix_space=True)),
        "llama3": with_pre(split(Regex(LLAMA3), "isolated"), ignore_merges=True),
        "digits": with_pre(pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), byte(add_prefix_space=False)])),
        "digit_runs": with_pre(pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=False), byte(add_prefix_space=False)])),
        "llama2": marked(normalizers.Sequence([normalizers.Prepend("▁"), replace]), None),
        "gemma": marked(replace, pre_tokenizers.Split(" ", "merged_with_previous")),
        "unknown": marked(normalizers.Sequence([normalizers.Prepend("▁"), replace]), None,
                                byte_fallback=False),
        "unknowns": marked(replace, None, byte_fallback=False, fuse_unk=False),
    }
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            out[f"{behavior}_{invert}"] = with_pre(
                split(Regex(r"\s+|\d|[aeo]"), behavior, invert))
    for form in (normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD):
        out[form.__name__ + ""] = with_pre(split(Regex(LLAMA3), "isolated"), form())
    out["steps"] = with_pre(byte(add_prefix_space=False), normalizers.Sequence([
        normalizers.Strip(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        normalizers.Replace(Regex(r" {2,}|e."), "--"), normalizers.Prepend("x")]))
    for scheme in ("always", "first", "never"):
        for parts in (False, True):
            out[f"metaspace_{scheme}_{parts}"] = marked(
                None, metaspace(prepend_scheme=scheme, split=parts))
    out["metaspace_digits"] = marked(normalizers.NFKC(), pre_tokenizers.Sequence([
        metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=True)]))
    out["unigram"] = unigram(normalizers.NFKC(), metaspace())
    out["unigram_whole"] = unigram(
        normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(" +"), " "), replace]),
        None, fuse_unk=False)
    tokens = [AddedToken("<mask>", lstrip=True), AddedToken("[INST]", rstrip=True),
              AddedToken("word", single_word=True), AddedToken("[/INST]", lstrip=True, rstrip=True)]
    out["added_bytes"] = added(gpt2, *tokens)
    out["added"] = added(out["llama2"], *tokens)
    plain = [AddedToken(t.content, normalized=True, lstrip=t.lstrip, rstrip=t.rstrip,
                        single_word=t.single_word) for t in tokens]
    out["added_normalized"] = added(out["NFKC"], *plain, AddedToken("ﬁ", normalized=True))
    good = True
    for name, data in out.items():
        path = name + ".json"
        with open(path, "w", encoding="utf8") as f:
            json.dump(data, f, ensure_ascii=False)
        reference = Tokenizer.from_file(path)
        good &= check(path, lambda text: reference.encode(text, add_special_tokens=False).ids,
                      lambda ids: decode(reference, ids))
    return good


# ---- SentencePiece ----

def sentencepiece(corpus):
    import sentencepiece as spm

    symbols = ["[INST]", "word", "<mask>"]
    styles = {
        "llama2": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                       remove_extra_whitespaces=False),
        "bpe_nfkc": dict(model_type="bpe"),
        "bpe_symbols": dict(model_type="bpe", user_defined_symbols=symbols, byte_fallback=True),
        "bpe_bare": dict(model_type="bpe", add_dummy_prefix=False, split_digits=True,
                         normalization_rule_name="nfkc_cf", character_coverage=0.98),
        "unigram": dict(model_type="unigram"),
        "unigram_bytes": dict(model_type="unigram", byte_fallback=True,
                              normalization_rule_name="identity", remove_extra_whitespaces=False),
        "unigram_symbols": dict(model_type="unigram", user_defined_symbols=symbols,
                                normalization_rule_name="nmt_nfkc_cf"),
        "unigram_free": dict(model_type="unigram", split_by_whitespace=False,
                             add_dummy_prefix=False),
    }
    good = True
    for name, options in styles.items():
        spm.SentencePieceTrainer.train(
            input=corpus, model_prefix=name, vocab_size=700, hard_vocab_limit=False,
            minloglevel=2, num_threads=1,
            unk_surface="<unk>",  # what ours writes, whatever the model says
            **options)
        path = name + ".model"
        reference = spm.SentencePieceProcessor(model_file=path)
        good &= check(path, reference.encode, reference.decode)
    return good


# ---- training ----

def training(_):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    corpus = os.path.join(SOURCE, "data", "kjv.txt")
    program = os.path.join(os.environ["BITNET_BIN_DIR"], "bitnet-tokenize")
    subprocess.run([program, "train", corpus, "-o", "ours.json", "--vocab-size", "8192",
                    "--special", "<|endoftext|>"], check=True)
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.train([corpus], trainers.BpeTrainer(
        vocab_size=8192, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    with open("ours.json", encoding="utf8") as f:
        ours = json.load(f)["model"]
    theirs = json.loads(reference.to_str())["model"]
    good = len(ours["vocab"]) == 8192
    for part in ("vocab", "merges"):
        equal = ours[part] == theirs[part]
        print(f"{part}: {len(ours[part])}, {'equal' if equal else 'not equal'}")
        good &= equal
    with open(corpus, encoding="ascii") as f:
        text = f.read(400000)
    return good and Tokenizer.from_file("ours.json").encode(text).ids == reference.encode(text).ids


def main():
    families = {"huggingface": huggingface, "sentencepiece": sentencepiece, "training": training}
    with open("corpus.txt", "w", encoding="utf8") as f:
        f.write(re.sub("\x00", "", corpus_text()))
    return 0 if families[sys.argv[1]]("corpus.txt") else 1


if __name__ == "__main__":
    sys.exit(main())
