#!/usr/bin/env python3
"""Soak: trains a small model for a given time while it is stopped and continued at
random moments, and checks that memory stays flat and that steps do not get slower.

Run by scripts/reliability.sh soak; writes below the current folder. What steps take is
judged by processor time, which other work on the machine changes little; the wall clock
of steps, from metrics.jsonl, is shown beside it.
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


def processor_ms(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def steps_done(path):
    """Step of the last whole line; 0 before the first."""
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as lines:
        lines.seek(max(0, os.path.getsize(path) - 65536))
        whole = lines.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    return json.loads(whole)["step"] if whole.startswith(b"{") else 0


def watch(child, minutes, rng):
    """Pauses the process at random; returns [(seconds, RSS, processor time, steps)] and
    the number of pauses."""
    start = time.monotonic()
    samples, pauses = [], 0
    while time.monotonic() - start < 60 * minutes:
        time.sleep(rng.uniform(0.5, 5.0))
        if child.poll() is not None:
            sys.exit(f"soak: bitnet-train ended by itself with {child.returncode}")
        samples.append((time.monotonic() - start, resident_kib(child.pid),
                        processor_ms(child.pid), steps_done("run/metrics.jsonl")))
        if rng.random() < 0.3:
            child.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.1, 3.0))
            child.send_signal(signal.SIGCONT)
            pauses += 1
    return samples, pauses


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def step_times(path):
    """Milliseconds of wall clock per step of every metrics line, and how many evaluated."""
    tokens = CONFIG["training"]["batch_size"] * CONFIG["training"]["seq_len"]
    with open(path, encoding="ascii") as lines:
        records = [json.loads(line) for line in lines]
    return ([1000 * tokens / r["tokens_per_second"] for r in records], records[-1]["step"],
            sum(r["val_loss"] is not None for r in records))


def processor_per_step(samples):
    """Of each quarter of the samples; evaluations and checkpoints included."""
    marks = [samples[min(len(samples) - 1, len(samples) * i // 4)] for i in range(5)]
    return [(b[2] - a[2]) / max(1, b[3] - a[3]) for a, b in zip(marks, marks[1:])]


def judge(samples):
    """The second half's memory against the first's, the last quarter's processor time
    per step against the first's; what is wrong, as lines."""
    wrong = []
    rss = [sample[1] for sample in samples][len(samples) // 10:]
    growth = max(rss[len(rss) // 2:]) - max(rss[:len(rss) // 2])
    if growth > 1024:
        wrong.append(f"memory grew by {growth} KiB in the second half")
    quarters = processor_per_step(samples)
    drift = quarters[-1] / quarters[0]
    if drift > 1.25:
        wrong.append(f"a step takes {drift:.2f} times the processor time it took at first")
    return growth, quarters, drift, wrong


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
    growth, quarters, drift, wrong = judge(samples)
    rss = [sample[1] for sample in samples]
    print(f"{args.minutes:g} minutes, {steps} steps, {steps // 100} checkpoints, {evaluations} "
          f"evaluations, {pauses} pauses, exit code {code}")
    print("RSS in KiB at 0, 10, ... 100 % of the time: "
          + " ".join(str(rss[min(len(rss) - 1, len(rss) * i // 10)]) for i in range(11)))
    print(f"growth of the second half's maximum over the first's: {growth} KiB")
    print("quarter by quarter: ms of processor time per step; of wall clock, 10th percentile, "
          "median, 90th")
    for i in range(4):
        part = times[len(times) * i // 4:len(times) * (i + 1) // 4]
        print(f"  {quarters[i]:.3f}; {percentile(part, 0.1):.3f} {statistics.median(part):.3f} "
              f"{percentile(part, 0.9):.3f}")
    print(f"drift of processor time per step, last quarter over first: {drift:.3f}")
    if code != 75:
        wrong.append(f"exit code {code}, expected 75")
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
