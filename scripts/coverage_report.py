#!/usr/bin/env python3
"""Reads gcov's counts of a build tree (scripts/coverage.sh) and prints two
Markdown tables: lines per folder, and branches of packers and readers with the
lines that have one not taken.

usage: coverage_report.py BUILD_TREE
"""
import collections
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ("src/", "train/", "tools/")
# What decides whether bytes from outside are taken.
GUARDS = ("src/quant/pack.c", "src/quant/pack_bits.c", "src/checkpoint/h5_attr.c",
          "src/checkpoint/h5_read.c",
          "src/checkpoint/packed_read.c", "src/checkpoint/checkpoint.c",
          "src/interop/safetensors_read.c", "src/interop/safetensors_index.c",
          "src/interop/gguf_read.c", "src/data/token_shard.c", "src/data/tokenizer_json.c",
          "src/data/sentencepiece_model.c", "src/data/table.c", "src/base/json_syntax.c")


def counts_of(tree):
    """{file: ({line: count}, {line: [count per branch]})}, summed over the objects."""
    found = [os.path.join(where, name) for where, _, names in os.walk(tree)
             for name in names if name.endswith(".gcda")]
    files = collections.defaultdict(lambda: (collections.Counter(), {}))
    for name in found:
        done = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities",
                               os.path.abspath(name)], capture_output=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            print(f"left out: {name}: {done.stderr.decode().strip()}", file=sys.stderr)
            continue
        for line in done.stdout.decode().splitlines():
            if line.startswith("{"):
                add(json.loads(line), files)
    return files


def add(data, files):
    for entry in data["files"]:
        path = os.path.relpath(os.path.join(data["current_working_directory"], entry["file"]), ROOT)
        if not path.startswith(FOLDERS):
            continue
        lines, branches = files[path]
        for line in entry["lines"]:
            number = line["line_number"]
            lines[number] += line["count"]
            taken = [b["count"] for b in line["branches"]]
            old = branches.get(number, [0] * len(taken))
            # Built several times, a line may have other branches: the fuller list counts.
            if len(old) == len(taken):
                branches[number] = [a + b for a, b in zip(old, taken)]
            elif len(taken) > len(old):
                branches[number] = taken


def without_loops_of_cjson(path, branches):
    """The macro cJSON_ArrayForEach asks whether its list is NULL, which none here can be:
    that branch of its lines is left out."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as source:
        lines = source.read().splitlines()
    out = {}
    for number, counts in branches.items():
        if "cJSON_ArrayForEach" in lines[number - 1] and 0 in counts:
            counts = counts[:counts.index(0)] + counts[counts.index(0) + 1:]
        out[number] = counts
    return out


def share(hit, total):
    return f"{hit} of {total} ({100 * hit / total if total else 100:.1f} %)"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = counts_of(sys.argv[1])
    folders = collections.defaultdict(lambda: [0, 0])
    for path, (lines, _) in files.items():
        for name in (os.path.dirname(path), "all"):
            folders[name][0] += sum(count > 0 for count in lines.values())
            folders[name][1] += len(lines)
    print("| folder | lines run |\n|---|---|")
    for name in sorted(folders, key=lambda n: (n == "all", n)):
        print(f"| {name} | {share(*folders[name])} |")
    print("\n| packers and readers | branches taken | lines with one not taken |\n|---|---|---|")
    total = [0, 0]
    for path in GUARDS:
        branches = without_loops_of_cjson(path, files[path][1])
        taken = sum(count > 0 for counts in branches.values() for count in counts)
        every = sum(map(len, branches.values()))
        missing = [str(n) for n in sorted(branches) if 0 in branches[n]]
        total = [total[0] + taken, total[1] + every]
        print(f"| {path} | {share(taken, every)} | {' '.join(missing)} |")
    print(f"| all | {share(*total)} | |")


if __name__ == "__main__":
    main()
