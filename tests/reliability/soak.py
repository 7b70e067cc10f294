#!/usr/bin/env python3
"""Soak: trains a small model for a given time while it is stopped and continued at
random moments, and checks that memory stays flat and that steps do not get slower.

Run by scripts/reliability.sh soak; writes below the current folder. Step times come
from metrics.jsonl, one line per 10 steps (tokens_per_second counts time in steps
alone, pauses included if one hits a step, which is why medians are compared).
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time

CONFIG = {
    "model": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 2, "max_position_embeddings": 32},
    "data": {"train": "text.txt"},
    "training": {"device": "cpu", "seq_len": 32, "batch_size": 4, "max_steps": 1000000000,
                 "warmup_steps": 10, "lr_scheduler": "constant", "learning_rate": 1e-3,
                 "log_interval": 10, "eval_interval": 200, "eval_batches": 8,
                 "save_interval": 100, "save_total_limit": 3, "threads": 1},
    "output_dir": "run",
}


def write_text(path):
    rng = random.Random(1)
    words = "light water stone river mountain and the over under calls".split()
    with open(path, "w", encoding="ascii") as out:
        out.write(" ".join(rng.choice(words) for _ in range(40000)) + "\n")


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def watch(child, minutes, rng):
    """Pauses the process at random; returns [(seconds, RSS in KiB)] and the pauses."""
    start = time.monotonic()
    samples, pauses = [], 0
    while time.monotonic() - start < 60 * minutes:
        time.sleep(rng.uniform(0.5, 5.0))
        if child.poll() is not None:
            sys.exit(f"soak: bitnet-train ended by itself with {child.returncode}")
        samples.append((time.monotonic() - start, resident_kib(child.pid)))
        if rng.random() < 0.3:
            child.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.1, 3.0))
            child.send_signal(signal.SIGCONT)
            pauses += 1
    return samples, pauses


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def step_times(path):
    """Milliseconds per step of every metrics line, and how many lines evaluated."""
    tokens = CONFIG["training"]["batch_size"] * CONFIG["training"]["seq_len"]
    with open(path, encoding="ascii") as lines:
        records = [json.loads(line) for line in lines]
    return ([1000 * tokens / r["tokens_per_second"] for r in records], records[-1]["step"],
            sum(r["val_loss"] is not None for r in records))


def judge(samples, times):
    """The tail against the time after the start; what is wrong, as lines."""
    wrong = []
    rss = [kib for _, kib in samples]
    settled = rss[len(rss) // 10:]
    growth = max(settled[len(settled) // 2:]) - max(settled[:len(settled) // 2])
    if growth > 1024:
        wrong.append(f"memory grew by {growth} KiB in the second half")
    first, last = times[:len(times) // 4], times[-(len(times) // 4):]
    drift = percentile(last, 0.1) / percentile(first, 0.1)
    if drift > 1.15:
        wrong.append(f"the fastest tenth of steps became {drift:.2f} times as slow")
    return growth, drift, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    write_text("text.txt")
    with open("config.json", "w", encoding="ascii") as out:
        json.dump(CONFIG, out)
    program = os.path.join(os.environ["BITNET_BIN_DIR"], "bitnet-train")
    with open("train.log", "w", encoding="ascii") as log:
        child = subprocess.Popen([program, "config.json", "--overwrite", "--quiet"], stdout=log,
                                 stderr=log)
        samples, pauses = watch(child, args.minutes, random.Random(args.seed))
        child.send_signal(signal.SIGTERM)
        code = child.wait()
    times, steps, evaluations = step_times("run/metrics.jsonl")
    growth, drift, wrong = judge(samples, times)
    rss = [kib for _, kib in samples]
    print(f"{args.minutes:g} minutes, {steps} steps, {steps // 100} checkpoints, {evaluations} "
          f"evaluations, {pauses} pauses, exit code {code}")
    print("RSS in KiB at 0, 10, ... 100 % of the time: "
          + " ".join(str(rss[min(len(rss) - 1, len(rss) * i // 10)]) for i in range(11)))
    print(f"growth of the second half's maximum over the first's: {growth} KiB")
    print("ms per step, quarter by quarter (10th percentile, median, 90th):")
    for i in range(4):
        part = times[len(times) * i // 4:len(times) * (i + 1) // 4]
        print(f"  {percentile(part, 0.1):.3f} {statistics.median(part):.3f} "
              f"{percentile(part, 0.9):.3f}")
    print(f"drift of the 10th percentile, last quarter over first: {drift:.3f}")
    if code != 75:
        wrong.append(f"exit code {code}, expected 75")
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
