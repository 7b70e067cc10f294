#!/usr/bin/env python3
"""Table of the runs of scratch.sh, as Markdown.

usage: scratch_table.py [--runs] ROWS.txt OUT_DIR
--runs: instead, one line per run: folder, seed and settings.
"""
import json
import os
import re
import statistics
import sys

SEEDS = (0, 1, 2)


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                section, name, settings = (part.strip() for part in line.split("|"))
                yield section, name, settings


def folder(out, section, name, seed):
    return os.path.join(out, re.sub(r"[^\w.]+", "-", f"{section} {name}") + f"-{seed}")


def loss(path):
    try:
        with open(os.path.join(path, "summary.json"), encoding="utf-8") as file:
            return json.load(file)["val_loss"]
    except FileNotFoundError:
        return None


def table(rows, out):
    print("| | setting | seeds 0, 1, 2 | mean | spread |\n|---|---|---|---|---|")
    before = None
    for section, name, _ in rows:
        losses = [loss(folder(out, section, name, seed)) for seed in SEEDS]
        if None in losses:
            print(f"{section}, {name}: not all runs are done", file=sys.stderr)
            continue
        each = ", ".join(f"{x:.3f}" for x in losses)
        print(
            f"| {section if section != before else ''} | {name} | {each} "
            f"| {statistics.mean(losses):.3f} | {statistics.stdev(losses):.3f} |"
        )
        before = section


def main():
    arguments = sys.argv[1:]
    runs = arguments[:1] == ["--runs"]
    if len(arguments) != 2 + runs:
        sys.exit(__doc__)
    path, out = arguments[runs:]
    rows = list(read_rows(path))
    if not runs:
        return table(rows, out)
    for seed in SEEDS:
        for section, name, settings in rows:
            print(f"{folder(out, section, name, seed)} {seed} {settings}".rstrip())  # for xargs -L


if __name__ == "__main__":
    main()
